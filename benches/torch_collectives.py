#!/usr/bin/env python3
"""What PyTorch reaches of the collectives of `sconce bench`, timed as nccl-tests does (busbw), beside a result of that one
from the same machine in the same run.

    benches/torch_collectives.py bench.json
"""

import json
import os
import statistics
import sys
import time

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

SIZES = [8 << 10 << (2 * step) for step in range(9)]


def collectives(world, bytes_):
    """Name, what to call, and the share of the bytes that crosses a link (nccl-tests, doc/PERFORMANCE.md)."""
    count = bytes_ // 4 // world * world
    whole, other = (torch.ones(count, device="cuda") for _ in range(2))
    part = torch.ones(count // world, device="cuda")
    spread = (world - 1) / world
    yield "all-reduce", lambda: dist.all_reduce(whole), 2 * spread
    yield "all-gather", lambda: dist.all_gather_into_tensor(whole, part), spread
    yield "reduce-scatter", lambda: dist.reduce_scatter_tensor(part, whole), spread
    yield "all-to-all", lambda: dist.all_to_all_single(other, whole), spread
    yield "broadcast", lambda: dist.broadcast(whole, 0), 1.0


def rank(rank, world, answer):
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT="29556")
    torch.cuda.set_device(rank)
    dist.init_process_group("nccl", rank=rank, world_size=world)
    found = {}
    for size in SIZES:
        count = 50 if size < 16 << 20 else 20 if size < 256 << 20 else 5
        for name, work, share in collectives(world, size):
            times = []
            for turn in range(8):
                torch.cuda.synchronize()
                dist.barrier()
                begun = time.perf_counter()
                for _ in range(count):
                    work()
                torch.cuda.synchronize()
                times.append((time.perf_counter() - begun) / count)
            found.setdefault(name, []).append((size, size / statistics.median(times[1:]) / 1e9 * share))
    if rank == 0:
        answer.put(found)
    dist.destroy_process_group()


def main():
    ours = {one["figure"]: one for one in json.load(open(sys.argv[1]))["figures"]}
    world = torch.cuda.device_count()
    answer = mp.get_context("spawn").Queue()
    mp.spawn(rank, args=(world, answer), nprocs=world)
    found = answer.get()
    print(f"busbw over {world} {torch.cuda.get_device_name()}, GB/s: sconce bench, torch {torch.__version__}, ratio")
    for name, curve in found.items():
        mine = {int(size): rate for size, rate in ours.get(name, {}).get("curve", [])}
        for size, rate in curve:
            if size in mine:
                print(f"{name:<15} {size:>11} {mine[size]:8.2f} {rate:8.2f} {mine[size] / rate:6.3f}")


if __name__ == "__main__":
    main()
