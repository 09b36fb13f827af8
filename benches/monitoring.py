#!/usr/bin/env python3
"""What `sconce monitor` takes of the memory and of the disk with a long history of eight GPUs.

    cargo build --workspace && cargo build --workspace --example history
    benches/monitoring.py --machine NAME [--days 7]

Needs a C compiler (the GPUs are a fake NVML), no GPU, no network, 500 MB of disk at most and five minutes. The history is
written as the monitor would have written it, a sample each second. The monitor then samples ten times a second, so that the
samples which its rules look at are as many as there may be (1200) after two minutes, while the page's six times are asked,
metrics are scraped and pages listen. Memory is what the kernel says of the process at the end: VmHWM is its peak.
"""

import argparse
import http.client
import os
import pathlib
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
MINUTES = [15, 60, 360, 1440, 10080, 43200]
# The budget of the memory, and the limit of the history (docs/monitor.md), MiB.
MEMORY, DISK = 40, 64


def ask(port, path):
    begun = time.monotonic()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", path)
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    assert answer.status == 200, (path, answer.status)
    return len(body), (time.monotonic() - begun) * 1000


def memory(pid):
    rows = dict(line.split(":", 1) for line in open(f"/proc/{pid}/status"))
    return {key: int(rows[key].split()[0]) / 1024 for key in ("VmHWM", "VmRSS", "RssAnon", "RssFile")}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--machine", required=True)
    parser.add_argument("--days", type=int, default=7)
    parser.add_argument("--seconds", type=int, default=150)
    parser.add_argument("--profile", default="debug")
    args = parser.parse_args()
    built = ROOT / "target" / args.profile
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([built / "examples/history", folder, str(args.days)], check=True)
        history = pathlib.Path(folder, "history")
        size = lambda: sum(file.stat().st_size for file in history.iterdir()) / 2**20
        written, files = size(), len(list(history.iterdir()))
        environment = dict(
            os.environ,
            HOME=folder,
            SCONCE_HOME=f"{folder}/store",
            LD_LIBRARY_PATH=f"{folder}/nvml/lib",
            FAKE_NVML_WORLD=f"{folder}/nvml/nvml.world",
        )
        words = ["monitor", "--listen", "127.0.0.1:0", "--interval", "100ms", "--history", str(history)]
        child = subprocess.Popen([built / "sconce", *words], env=environment, stdout=subprocess.PIPE, text=True)
        try:
            port = int(child.stdout.readline().strip().removesuffix("/metrics").rsplit(":", 1)[1])
            time.sleep(2)
            first = memory(child.pid)
            pages = []
            for _ in range(4):
                page = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
                page.request("GET", "/api/live")
                pages.append(page.getresponse())
            asked = {}
            end = time.monotonic() + args.seconds
            while time.monotonic() < end:
                now = int(time.time() * 1000)
                for minutes in MINUTES:
                    path = f"/api/history?from={now - minutes * 60000}&to={now}&points=900"
                    asked.setdefault(minutes, []).append(ask(port, path))
                ask(port, "/metrics")
                for page in pages:
                    page.read1(1 << 20)
                time.sleep(5)
            last = memory(child.pid)
            grown = size()
        finally:
            child.kill()
            child.wait()
    out = [f"# {time.strftime('%Y-%m-%d', time.gmtime())}, {args.machine}, `sconce monitor` with {args.days} days of 8 GPUs\n"]
    out.append(f"`benches/monitoring.py --machine {args.machine} --days {args.days}`, profile {args.profile}; its head says how it is measured.\n")
    out.append(f"- The folder: {written:.1f} MiB in {files} files, {grown:.1f} MiB at the end; the limit is {DISK} MiB.")
    show = lambda rows: ", ".join(f"{key} {value:.1f}" for key, value in rows.items())
    out.append(f"- Memory two seconds after the start, MiB: {show(first)}.")
    out.append(f"- At the end, {args.seconds} s later: {show(last)}; the limit is {MEMORY} MiB.\n")
    out.append("| the page's time | answers | bytes | median, ms | longest, ms |\n|---|---|---|---|---|")
    for minutes, rows in asked.items():
        times = sorted(ms for _, ms in rows)
        out.append(f"| {minutes} min | {len(rows)} | {rows[-1][0]} | {times[len(times) // 2]:.1f} | {times[-1]:.1f} |")
    print("\n".join(out))
    return 0 if last["VmHWM"] <= MEMORY and grown <= DISK else 1


if __name__ == "__main__":
    sys.exit(main())
