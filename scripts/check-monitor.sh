#!/usr/bin/env bash
# `sconce monitor` beside the real Prometheus: promtool takes its alerts and its metrics, a Prometheus that scrapes a replay has
# data for each query of dcgm-exporter's public dashboard (12239) and of our own, by each of its names, and an alert comes that the recording is to raise.
#
#     scripts/check-monitor.sh SCONCE
#
# Needs prometheus and promtool; Debian's package is unpacked for this run where they are not installed. All on loopback; about a minute.
set -euo pipefail
sconce=$(realpath "$1") root=$(realpath "$(dirname "$0")/..")
work=$(mktemp -d)
pids=()
trap 'kill "${pids[@]}" 2>/dev/null || true; rm -rf "$work"' EXIT
if ! command -v prometheus >/dev/null; then
  (cd "$work" && apt-get download -q prometheus >/dev/null 2>&1 && dpkg-deb -x prometheus_*.deb debian)
  PATH=$PATH:$work/debian/usr/bin
fi
prometheus --version 2>&1 | head -n 1
free() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
recording=$root/crates/monitor/tests/recorded/two-h200-ranks.gz
exporter=127.0.0.1:$(free) server=127.0.0.1:$(free)

"$sconce" monitor rules --format prometheus >"$work/sconce.rules.yml"
promtool check rules "$work/sconce.rules.yml"
sed '/^ *\(annotations:$\|summary: \|description: \)/d' "$work/sconce.rules.yml" >"$work/alerts.rules.yml"
cp "$root/scripts/alerts.test.yml" "$work/"
promtool test rules "$work/alerts.test.yml"
# Shorter, so that a minute shows it.
sed 's/for: [0-9]*s$/for: 1s/' "$work/sconce.rules.yml" >"$work/trial.rules.yml"

"$sconce" monitor --listen "$exporter" --replay "$recording" --names both --hold 4s --no-history >"$work/said" 2>&1 &
pids+=($!)
cat >"$work/prometheus.yml" <<YAML
global: {scrape_interval: 1s, evaluation_interval: 1s}
rule_files: [trial.rules.yml]
scrape_configs: [{job_name: gpus, static_configs: [{targets: ["$exporter"]}]}]
YAML
promtool check config "$work/prometheus.yml" >/dev/null
prometheus --config.file="$work/prometheus.yml" --storage.tsdb.path="$work/data" --web.listen-address="$server" >"$work/prometheus.log" 2>&1 &
pids+=($!)

python3 - "$exporter" "$server" "$sconce" <<'PYTHON'
import json, subprocess, sys, time, urllib.parse, urllib.request

exporter, server, sconce = sys.argv[1:]


def get(url):
    return urllib.request.urlopen(url, timeout=10).read()


def ask(query):
    url = f"http://{server}/api/v1/query?" + urllib.parse.urlencode({"query": query})
    return json.loads(get(url))["data"]["result"]


def until(seconds, what, true):
    end = time.monotonic() + seconds
    while True:
        try:
            if true():
                return
        except (OSError, KeyError):
            pass
        if time.monotonic() > end:
            sys.exit(f"FAILED: {what}")
        time.sleep(0.5)


until(30, "no metrics", lambda: get(f"http://{exporter}/metrics"))
for accept in ("text/plain", "application/openmetrics-text"):
    asked = urllib.request.Request(f"http://{exporter}/metrics", headers={"Accept": accept})
    text = urllib.request.urlopen(asked, timeout=10).read()
    if accept == "text/plain":
        # Its advice on names is for us alone: DCGM's are as they are.
        lint = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True)
        wrong = [line for line in lint.stderr.decode().splitlines() if "DCGM_" not in line]
        if lint.returncode not in (0, 3) or wrong:
            sys.exit("FAILED: promtool check metrics: " + "\n".join(wrong or [lint.stderr.decode()]))
    elif not text.endswith(b"# EOF\n"):
        sys.exit("FAILED: OpenMetrics has no end")
until(30, "Prometheus scrapes nothing", lambda: ask('up{job="gpus"} == 1'))
# grafana/dcgm-exporter-dashboard.json of NVIDIA/dcgm-exporter, its variables at "all".
of = '{instance=~".*", gpu=~".*"}'
board = [
    "DCGM_FI_DEV_GPU_TEMP" + of,
    f"avg(DCGM_FI_DEV_GPU_TEMP{of})",
    "DCGM_FI_DEV_POWER_USAGE" + of,
    f"sum(DCGM_FI_DEV_POWER_USAGE{of})",
    f"DCGM_FI_DEV_SM_CLOCK{of} * 1000000",
    "DCGM_FI_DEV_GPU_UTIL" + of,
    "DCGM_FI_DEV_FB_USED" + of,
    "DCGM_FI_PROF_PIPE_TENSOR_ACTIVE" + of,
]
for query in board:
    until(20, f"no data for {query}", lambda: ask(query))
print(f"{len(board)} of {len(board)} queries of board 12239 have data")
# Our own, by each of the names that it asks for.
printed = subprocess.run([sconce, "monitor", "--print-dashboard"], capture_output=True, check=True).stdout
panels = json.loads(printed)["panels"]
alone, names = 0, 0
for panel in panels:
    query = panel["targets"][0]["expr"]
    for name, value in (("$instance", ".*"), ("$gpu", ".*"), ("$__rate_interval", "1m")):
        query = query.replace(name, value)
    # In this recording are no ports and no containers, nothing is wrong at first, and nothing holds the clocks.
    empty = panel["type"] == "table" or panel["title"].startswith("InfiniBand") or "clocks" in panel["title"]
    if empty:
        ask(query)
        alone += 1
        continue
    for one in query.split(" or "):
        if "DCGM" in one or "sconce_gpu" in one:
            until(40, f"no data for {panel['title']}: {one}", lambda: ask(one))
            names += 1
    until(40, f"no data for {panel['title']}", lambda: ask(query))
    if len(ask(query)) != 2:
        sys.exit(f"FAILED: {panel['title']} has not one series for each GPU: {ask(query)}")
print(f"{len(panels)} panels of our own board: {names} queries have data, {alone} have none in this recording")
joined = "sconce_gpu_power_watts * on (UUID) group_left (model) sconce_gpu_info"
until(20, f"no data for {joined}", lambda: len(ask(joined)) == 2)


def fires(name):
    alerts = json.loads(get(f"http://{server}/api/v1/alerts"))["data"]["alerts"]
    return any(one["labels"]["alertname"] == name and one["state"] == "firing" for one in alerts)


# The recording's fourth load, a hundred seconds in.
until(150, "no alert GpuStraggler", lambda: fires("GpuStraggler"))
print("GpuStraggler fires")
failed = [rule for group in json.loads(get(f"http://{server}/api/v1/rules"))["data"]["groups"] for rule in group["rules"] if rule["health"] == "err"]
if failed:
    sys.exit(f"FAILED: {failed}")
print("all rules are evaluated")
PYTHON
echo done
