"""Known loads, one after the other, for gpu-monitor.sh: writes name, GPU, the rule that is expected, beginning and end."""

import os
import sys
import time

import torch
import torch.multiprocessing as processes

SECONDS = 15
REST = 8


def now():
    return int(time.time() * 1000)


def note(path, name, gpu, expected, begun):
    with open(path, "a") as file:
        file.write(f"{name}\t{gpu}\t{expected}\t{begun}\t{now()}\n")


def during(path, name, expected, work):
    begun = now()
    end = time.time() + SECONDS
    while time.time() < end:
        work()
    torch.cuda.synchronize()
    note(path, name, 0, expected, begun)
    time.sleep(REST)


def one_gpu(path):
    product = {}
    for kind in (torch.bfloat16, torch.float32):
        product[kind] = [torch.randn(8192, 8192, device="cuda", dtype=kind) for _ in range(3)]
    small = torch.zeros(32, device="cuda")
    torch.backends.cuda.matmul.allow_tf32 = False

    def matmul(kind):
        a, b, c = product[kind]
        for _ in range(8):
            torch.matmul(a, b, out=c)
        torch.cuda.synchronize()

    def starved():
        begun = time.time()
        while time.time() - begun < 0.02:
            torch.matmul(product[torch.bfloat16][0], product[torch.bfloat16][1], out=product[torch.bfloat16][2])
            torch.cuda.synchronize()
        time.sleep(0.08)

    def launches():
        for _ in range(2000):
            small.add_(1)
        torch.cuda.synchronize()

    during(path, "bf16 matmul", "-", lambda: matmul(torch.bfloat16))
    during(path, "fp32 matmul", "fp32-without-tensor-cores", lambda: matmul(torch.float32))
    during(path, "starved", "starved", starved)
    during(path, "launch-bound", "launch-bound", launches)
    during(path, "memory held", "held-idle", lambda: time.sleep(0.1))


def rank(rank, path):
    import torch.distributed as dist

    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT="29471", RANK=str(rank), WORLD_SIZE="2")
    torch.cuda.set_device(rank)
    dist.init_process_group("nccl")
    data = torch.ones(1 << 28, device="cuda")
    dist.all_reduce(data)
    torch.cuda.synchronize()
    begun, count = now(), 0
    # The same number on both ranks: time alone would have one begin another.
    while count < 4000 and now() - begun < SECONDS * 1000:
        dist.all_reduce(data)
        torch.cuda.synchronize()
        count += 1
        go_on = torch.tensor([1 if now() - begun < (SECONDS - 1) * 1000 else 0], device="cuda")
        dist.all_reduce(go_on, op=dist.ReduceOp.MIN)
        if not go_on.item():
            break
    note(path, "all-reduce", rank, "-", begun)
    time.sleep(REST)
    begun = now()
    if rank == 0:
        dist.all_reduce(data)
        # Waits, as a program does that reads its loss; gives up with the process.
        end = time.time() + SECONDS + 3
        while time.time() < end:
            time.sleep(0.1)
        note(path, "hang, the rank that waits", 0, "nccl-hang", begun)
    else:
        time.sleep(SECONDS + 3)
        note(path, "hang, the rank that sleeps", 1, "held-idle", begun)
    os._exit(0)


if __name__ == "__main__":
    path = sys.argv[1]
    begun = now()
    time.sleep(10)
    for gpu in range(torch.cuda.device_count()):
        note(path, "idle", gpu, "-", begun)
    context = processes.get_context("spawn")
    alone = context.Process(target=one_gpu, args=(path,))
    alone.start()
    alone.join()
    if torch.cuda.device_count() >= 2:
        ranks = [context.Process(target=rank, args=(number, path)) for number in range(2)]
        for one in ranks:
            one.start()
        for one in ranks:
            one.join(60)
            if one.is_alive():
                one.kill()
