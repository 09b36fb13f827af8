"""torchrun's contract: processes with variables and redirected output, and its words about those that failed.

--local_addr is known.
"""
import argparse
import json
import os
import random
import signal
import subprocess
import sys
import time

parser = argparse.ArgumentParser()
for name in ("nnodes", "nproc_per_node", "rdzv_id", "node_rank", "rdzv_backend", "rdzv_endpoint", "rdzv_conf",
             "master_addr", "master_port", "max_restarts", "redirects", "log_dir", "local_addr"):
    parser.add_argument("--" + name, default="0")
parser.add_argument("--no_python", action="store_true")
parser.add_argument("program", nargs=argparse.REMAINDER)
args = parser.parse_args()
count, node = int(args.nproc_per_node), int(args.node_rank)
base = os.path.join(args.log_dir, f"{args.rdzv_id}_{random.randrange(1 << 30):08x}", "attempt_0")
workers = []
for local in range(count):
    folder = os.path.join(base, str(local))
    os.makedirs(folder)
    rank = node * count + local
    env = dict(os.environ, RANK=str(rank), LOCAL_RANK=str(local), WORLD_SIZE=str(int(args.nnodes) * count),
               LOCAL_WORLD_SIZE=str(count), TORCHELASTIC_RUN_ID=args.rdzv_id,
               MASTER_ADDR=args.master_addr, TORCHELASTIC_ERROR_FILE=os.path.join(folder, "error.json"))
    words = args.program if args.no_python else [sys.executable, "-u", *args.program]
    workers.append((rank, local, subprocess.Popen(
        words, env=env, start_new_session=True,
        stdout=open(os.path.join(folder, "stdout.log"), "w"), stderr=open(os.path.join(folder, "stderr.log"), "w"))))


def end(number, _):
    for _, _, worker in workers:
        if worker.poll() is None:
            os.killpg(worker.pid, number)
    for _, _, worker in workers:
        worker.wait()
    sys.exit(1)


signal.signal(signal.SIGTERM, end)
while any(worker.poll() is None for _, _, worker in workers):
    failed = [(rank, local, worker) for rank, local, worker in workers if worker.poll() not in (None, 0)]
    if failed:
        break
    time.sleep(0.02)
failed = [(rank, local, worker) for rank, local, worker in workers if worker.poll() not in (None, 0)]
if failed:
    rank, local, worker = failed[0]
    print(f"Root Cause (first observed failure):\n[0]:\n  time      : now\n  host      : x\n"
          f"  rank      : {rank} (local_rank: {local})\n  exitcode  : {worker.returncode} (pid: {worker.pid})\n")
    sys.stdout.flush()
    end(signal.SIGTERM, None)
