#!/usr/bin/env bash
# Loads this machine's GPUs in known ways while `sconce monitor --record` watches, and says which rule was told of for each load.
# Takes about five minutes; writes all to the folder $OUT (./gpu-monitor if not set). Changes no setting of any GPU.
#
#     scripts/gpu-monitor.sh SCONCE PYTHON [ranks]
#
# With `ranks` only those loads that all GPUs share.
# PYTHON is an interpreter of this machine that has torch. Exit code: 0 where each load was told for what it is, else 1.
set -uo pipefail
sconce=$(realpath "$1") python=$2
out=${OUT:-gpu-monitor}
here=$(dirname "$0")
mkdir -p "$out"
rm -f "$out"/recording.gz "$out"/loads
export LC_ALL=C NCCL_NVLS_ENABLE=0
"$sconce" monitor --once >"$out/metrics.prom" 2>"$out/once.err"
echo "once: exit code $?, $(grep -c '^DCGM_' "$out/metrics.prom") rows of DCGM's names, $(grep -c '^sconce_' "$out/metrics.prom") of ours"
"$sconce" top --once | tee "$out/top.txt"
# Many times: a crash that comes now and then is a crash.
crashed=0
for _ in $(seq 10); do
    "$sconce" top --once >/dev/null 2>>"$out/once.err" || crashed=$((crashed + 1))
    "$sconce" monitor --once >/dev/null 2>>"$out/once.err" || crashed=$((crashed + 1))
done
echo "20 looks: $crashed failed"
# `--hold 6s` has rules told of after seconds that else wait for minutes.
"$sconce" monitor --record "$out/recording.gz" --listen 127.0.0.1:9471 --hold 6s --times >"$out/monitor.out" 2>"$out/monitor.err" &
monitor=$!
trap 'kill "$monitor" 2>/dev/null' EXIT
sleep 2
timeout 300 "$python" "$here/gpu_loads.py" "$out/loads" "${@:3}"
echo "loads: exit code $?"
python3 - "$monitor" <<'PYTHON'
import os, sys, time, urllib.request
pid = sys.argv[1]
fields = open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()
ticks = os.sysconf("SC_CLK_TCK")
cpu = (int(fields[11]) + int(fields[12])) / ticks
lived = float(open("/proc/uptime").read().split()[0]) - int(fields[19]) / ticks
status = dict(line.split(":", 1) for line in open(f"/proc/{pid}/status") if ":" in line)
print(f"monitor: {cpu:.2f} s of processor time in {lived:.0f} s ({cpu / lived:.2%} of a core), resident {status['VmHWM'].strip()} at most")
times = []
for _ in range(300):
    begun = time.perf_counter()
    urllib.request.urlopen("http://127.0.0.1:9471/metrics", timeout=10).read()
    times.append(time.perf_counter() - begun)
times.sort()
print(f"300 scrapes: median {times[150] * 1e3:.2f} ms, 99% within {times[296] * 1e3:.2f} ms")
PYTHON
kill "$monitor"
wait "$monitor" 2>/dev/null
trap - EXIT
echo "recording: $(stat -c %s "$out/recording.gz") bytes"
"$sconce" monitor rules --replay "$out/recording.gz" --hold 6s --json >"$out/findings.json"
cat "$out/monitor.err"
python3 - "$out" <<'PYTHON'
import json, sys
out = sys.argv[1]
answer = json.load(open(f"{out}/findings.json"))
of_load = {"nccl-hang", "straggler", "fp32-without-tensor-cores", "launch-bound", "starved"}
wrong = 0
for line in open(f"{out}/loads"):
    name, gpu, expected, begun, ended = line.rstrip("\n").split("\t")
    told = [
        one for one in answer["findings"]
        if one["gpu"] == int(gpu) and one["since_ms"] < int(ended) - 2000 and (one["until_ms"] or 1e18) > int(begun) + 7000
    ]
    rules = sorted({one["rule"] for one in told})
    wanted = set(expected.split("+")) - {"-"}
    others = [rule for rule in rules if rule in of_load and rule not in wanted]
    good = wanted <= set(rules) and not others
    wrong += not good
    print(f"{'right' if good else 'WRONG'}: {name} on GPU {gpu}: {', '.join(rules) or 'nothing'} (expected {expected})")
    for one in told:
        print(f"       {one['rule']}: {one['evidence']}")
print(f"{answer['samples']} samples; torn: {answer['torn']}; {wrong} loads were told wrongly")
sys.exit(wrong > 0)
PYTHON
told=$?
[ "$told" = 0 ] && [ "$crashed" = 0 ]
