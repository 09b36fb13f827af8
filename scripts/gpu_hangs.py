"""One rank of a job that gets stuck in a known way, or does not: started by torchrun, one process a rank.

    gpu_hangs.py KIND BACKEND

KIND: healthy, asleep (the last rank sleeps between two steps), busy (one line of it works on without end), missing (it is in a barrier
where the others are in an all-reduce).
"""

import os
import sys
import time

import torch
import torch.distributed as dist

kind, backend = sys.argv[1:3]
if backend == "nccl":
    torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
dist.init_process_group(backend)
last = dist.get_rank() == dist.get_world_size() - 1
x = torch.ones(1 << 20, device="cuda" if backend == "nccl" else "cpu")


def synchronize():
    if backend == "nccl":
        torch.cuda.synchronize()


def fetch_batch():
    time.sleep(600)


def tokenize():
    # One line of C for as long as anybody looks.
    sum(range(1 << 60))


def train():
    for step in range(1 << 30):
        if step == 20:
            print("here", flush=True)
        if step == 20 and last and kind == "asleep":
            fetch_batch()
        if step == 20 and last and kind == "busy":
            tokenize()
        if step == 20 and last and kind == "missing":
            dist.barrier()
        dist.all_reduce(x)
        synchronize()
        if kind == "healthy":
            time.sleep(0.01)


train()
