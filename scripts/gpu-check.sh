#!/usr/bin/env bash
# Everything about GPUs that only a machine with one can show, in one go. Writes what it saw to the
# folder $OUT (./gpu-check if not set); docs/gpu-check holds what it said on machines that were tried.
#
#     scripts/gpu-check.sh SCONCE IMAGE [PYTHON]
#
# PYTHON is an interpreter of this machine that has torch: it is compared with the same one inside a
# container. Needs nothing of NVIDIA's but the driver. Changes no setting of any GPU.
set -uo pipefail
sconce=$(realpath "$1") image=$2 python=${3:-/nowhere/bin/python3}
out=${OUT:-gpu-check}
mkdir -p "$out"
export LC_ALL=C
failures=0

part() { printf '\n## %s\n' "$*"; }
# Runs a command that must succeed.
must() { printf '$ %s\n' "$*"; timeout 300 "$@" || { echo "FAILED ($?)"; failures=$((failures + 1)); }; }
# Runs a command that must be refused.
refused() {
  printf '$ %s\n' "$*"
  if timeout 60 "$@"; then echo 'FAILED: this was to be refused'; failures=$((failures + 1)); else echo "(exit code $?)"; fi
}
# Runs a command some times, and prints its median time in milliseconds.
timed() {
  python3 - "$@" <<'PYTHON'
import statistics, subprocess, sys, time
name, count, command = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
samples = []
for _ in range(count + 1):
    start = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    samples.append((time.perf_counter() - start) * 1000)
samples = samples[1:]
print(f"{name}: {statistics.median(samples):.1f} ms ({count} runs, {min(samples):.0f}..{max(samples):.0f})")
PYTHON
}
# Runs two commands in turn, and prints the median time of each in milliseconds.
compare() {
  local name=$1 count=$2; shift 2
  python3 - "$name" "$count" "$@" <<'PYTHON'
import statistics, subprocess, sys, time
name, count, first, second = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]
times = {first: [], second: []}
for command in (first, second):
    subprocess.run(command, shell=True, stdout=subprocess.DEVNULL, check=True)
for _ in range(count):
    for command in times:
        start = time.perf_counter()
        subprocess.run(command, shell=True, stdout=subprocess.DEVNULL, check=True)
        times[command].append((time.perf_counter() - start) * 1000)
a, b = (statistics.median(times[c]) for c in (first, second))
spread = " ".join(f"{min(t):.0f}..{max(t):.0f}" for t in times.values())
print(f"{name}: outside {a:.1f} ms, inside {b:.1f} ms: {b - a:+.1f} ms, {b / a:.3f} times ({count} runs in turn, spread {spread})")
PYTHON
}

{
  part machine
  uname -rm
  nvidia-smi --query-gpu=index,name,driver_version,memory.total,clocks.max.sm,power.limit --format=csv
  must "$sconce" --version

  part doctor
  must "$sconce" doctor
  must "$sconce" doctor --save "$out/snapshot.json"
  must "$sconce" doctor --from "$out/snapshot.json"
  "$sconce" doctor --json >"$out/doctor.json"
  timed doctor 10 "$sconce" doctor

  must "$sconce" doctor torch:2.15.0
  must "$sconce" doctor pytorch:2.1.0-cuda12.1-cudnn8-runtime
  if [ "$(id -u)" = 0 ]; then
    echo 'with the node of nvidia-uvm hidden:'
    hidden='mount --bind /dev/null /dev/nvidia-uvm && exec "$@"'
    refused unshare --mount sh -c "$hidden" sh "$sconce" doctor
    refused unshare --mount sh -c "$hidden" sh "$sconce" run --gpus all "$image" true
    must unshare --mount sh -c "$hidden" sh "$sconce" run --gpus all --force "$image" true
  fi

  part CDI
  must "$sconce" cdi generate --output "$out/cdi.json"
  wc -c "$out/cdi.json"

  part selection
  uuid=$(nvidia-smi --query-gpu=uuid --format=csv,noheader | head -n 1)
  count=$(nvidia-smi --query-gpu=index --format=csv,noheader | wc -l)
  for which in all 1 device=0 "$uuid" device=nvidia.com/gpu=0; do
    must "$sconce" run --gpus "$which" "$image" sh -c 'nvidia-smi -L | wc -l'
  done
  must "$sconce" run --gpus none "$image" sh -c '! ls /dev/nvidia0 2>/dev/null'
  refused "$sconce" run --gpus "$((count + 1))" "$image" true
  refused "$sconce" run --gpus GPU-00000000-0000-0000-0000-000000000000 "$image" true
  echo 'two at once on all GPUs:'
  "$sconce" run --gpus "$count" "$image" sleep 4 &
  holder=$!
  sleep 1.5
  refused "$sconce" run --gpus 1 "$image" true
  wait "$holder"
  must "$sconce" run --gpus 1 "$image" true

  part 'inside'
  must "$sconce" run --gpus all "$image" nvidia-smi
  must "$sconce" run --gpus all "$image" sh -c 'ls -l /dev/nvidia* /dev/nvidia-caps 2>/dev/null; ldconfig -p 2>/dev/null | grep -E "libcuda.so|libnvidia-ml.so" ; env | grep -E "NVIDIA|CUDA|NCCL|OMP|TRITON|PYTORCH"; df -h /dev/shm | tail -n 1; ulimit -l; nproc; grep Cpus_allowed_list /proc/self/status'
  must "$sconce" run --gpus all --read-only --network none --user 1000:1000 "$image" nvidia-smi -L

  part 'time: nvidia-smi'
  compare nvidia-smi 15 nvidia-smi "$sconce run --gpus all $image nvidia-smi"

  # As another user, who can read the store and the program.
  if [ "$(id -u)" = 0 ]; then
    part 'without root'
    rootless=$(mktemp -d)
    cp -a "${SCONCE_HOME:-$HOME/.local/share/sconce}" "$rootless/home"
    install -m 755 "$sconce" "$rootless/sconce"
    chown -R 65534:65534 "$rootless"
    must setpriv --reuid 65534 --regid 65534 --clear-groups env HOME="$rootless" SCONCE_HOME="$rootless/home" \
      "$rootless/sconce" run --gpus all "$image" nvidia-smi -L
    rm -rf "$rootless"
  fi

  if [ -x "$python" ]; then
    # The interpreter, its standard library and its packages, where they are outside.
    mounts=$("$python" -c '
import os, sys, sysconfig
places = {sys.prefix, os.path.realpath(sys.executable), sysconfig.get_path("stdlib"),
          sysconfig.get_config_var("INCLUDEPY"),
          # Debian keeps what depends on the processor apart, pyconfig.h too.
          "/usr/include/%s/python%d.%d" % (sysconfig.get_config_var("MULTIARCH"), *sys.version_info[:2])}
print(" ".join("-v %s:%s:ro" % (p, p) for p in sorted(places) if os.path.exists(p)))')
    part 'time: import torch, one tensor on the GPU'
    # $mounts is words, on purpose.
    # shellcheck disable=SC2086
    one='import torch; torch.zeros(1).cuda(); print(torch.cuda.get_device_name())'
    must "$sconce" run --gpus all $mounts "$image" "$python" -c "$one"
    compare 'import torch; torch.zeros(1).cuda()' 15 "$python -c '$one'" "$sconce run --gpus all $mounts $image $python -c '$one'"

    part verify
    # shellcheck disable=SC2086
    must "$sconce" verify --gpus all $mounts --python "$python" "$image"
    # shellcheck disable=SC2086
    "$sconce" verify --gpus all $mounts --python "$python" --json "$image" | sed "s#${python%/bin/*}#VENV#g" >"$out/verify.json"

    part 'bench, quick'
    # shellcheck disable=SC2086
    must "$sconce" bench --quick --gpus all $mounts --python "$python" "$image"
  fi
  part "end: $failures failed"
# What is this machine's alone does not belong into a report.
} 2>&1 | sed -u -E "s#$out#OUT#g; s#${sconce%/*}/##g; s#${python%/bin/*}#VENV#g; s#GPU-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}#GPU-UUID#g" |
  tee "$out/gpu-check.txt"
grep -q '^## end: 0 failed' "$out/gpu-check.txt"
