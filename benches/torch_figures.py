#!/usr/bin/env python3
"""What PyTorch reaches of the figures of `sconce bench`, measured in the same way: to be read beside it, from the same
machine in the same run.

    benches/torch_figures.py > torch.json

Products by torch.mm and torch._scaled_mm over the shapes of `sconce bench`, in bursts of 10 ms with pauses of 100 ms and, for
BF16, without a pause; a copy within device memory; with several GPUs an all-reduce of 1 GiB, timed as nccl-tests does.
The best shape counts, as there.
"""

import json
import os
import statistics
import sys
import time

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

SHAPES = [
    (8192, 8192, 8192),
    (4096, 4096, 4096),
    (2048, 2048, 13312),
    (1024, 9216, 14336),
    (4096, 8192, 16384),
    (16384, 8192, 8192),
    (16384, 16384, 4096),
    (8192, 16384, 14336),
]


class Clock:
    def __init__(self):
        self.begin, self.end = (torch.cuda.Event(enable_timing=True) for _ in range(2))

    def time(self, count, work):
        self.begin.record()
        for _ in range(count):
            work()
        self.end.record()
        self.end.synchronize()
        return self.begin.elapsed_time(self.end) / 1e3 / count

    def bursts(self, work):
        work()
        torch.cuda.synchronize()
        time.sleep(0.1)
        count = max(1, round(0.01 / self.time(1, work)))
        times = []
        for _ in range(15):
            time.sleep(0.1)
            times.append(self.time(count, work))
        return statistics.median(times)


def product(kind, m, n, k):
    a, b = (torch.rand(rows, k, device="cuda") * 2 - 1 for rows in (m, n))
    torch.backends.cuda.matmul.allow_tf32 = kind == "tf32"
    if kind == "fp8":
        a, b = a.to(torch.float8_e4m3fn), b.to(torch.float8_e4m3fn).t()
        one = torch.ones((), device="cuda")
        return lambda: torch._scaled_mm(
            a, b, scale_a=one, scale_b=one, out_dtype=torch.bfloat16, use_fast_accum=True
        )
    kinds = {"fp64": torch.float64, "fp16": torch.float16, "bf16": torch.bfloat16}
    a, b = (matrix.to(kinds.get(kind, torch.float32)) for matrix in (a, b))
    b = b.t()
    return lambda: a @ b


def products(clock):
    for kind in ("fp64", "fp32", "tf32", "fp16", "bf16", "fp8"):
        best = (0.0, None)
        for shape in SHAPES[: 2 if kind in ("fp64", "fp32") else None]:
            m, n, k = shape
            seconds = clock.bursts(product(kind, m, n, k))
            best = max(best, (2 * m * n * k / seconds / 1e12, shape))
        yield {"figure": kind, "value": best[0], "shape": best[1], "unit": "TFLOP/s"}
    work, times, begun = product("bf16", *SHAPES[0]), [], time.monotonic()
    while time.monotonic() - begun < 10:
        seconds = clock.time(60, work)
        if time.monotonic() - begun > 5:
            times.append(seconds)
    value = 2 * 8192**3 / statistics.median(times) / 1e12
    yield {"figure": "bf16-sustained", "value": value, "shape": SHAPES[0], "unit": "TFLOP/s"}


def copy(clock):
    source = torch.empty(1 << 28, device="cuda")
    target = torch.empty_like(source)
    rate = 2 * source.nbytes / clock.bursts(lambda: target.copy_(source)) / 1e9
    return {"figure": "memory-copy", "value": rate, "unit": "GB/s"}


def all_reduce(rank, world, answer):
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT="29555")
    torch.cuda.set_device(rank)
    dist.init_process_group("nccl", rank=rank, world_size=world)
    tensor = torch.ones(1 << 28, device="cuda")
    times = []
    for _ in range(15):
        torch.cuda.synchronize()
        dist.barrier()
        begun = time.perf_counter()
        for _ in range(5):
            dist.all_reduce(tensor)
        torch.cuda.synchronize()
        times.append((time.perf_counter() - begun) / 5)
    if rank == 0:
        answer.put(tensor.nbytes / statistics.median(times) / 1e9 * 2 * (world - 1) / world)
    dist.destroy_process_group()


def main():
    clock = Clock()
    found = [*products(clock), copy(clock)]
    world = torch.cuda.device_count()
    if world > 1:
        answer = mp.get_context("spawn").Queue()
        mp.spawn(all_reduce, args=(world, answer), nprocs=world)
        found.append({"figure": "all-reduce", "value": answer.get(), "unit": "GB/s"})
    about = {"torch": torch.__version__, "gpu": torch.cuda.get_device_name(), "figures": found}
    json.dump(about, sys.stdout, indent=2)
    print()


if __name__ == "__main__":
    main()
