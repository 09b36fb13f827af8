"""Known loads, one after the other, for gpu-monitor.sh: writes name, GPU, the rules that are expected (`a+b`, or `-`), beginning
and end.

    gpu_loads.py FILE          those of one GPU, then those of all together
    gpu_loads.py FILE ranks    those of all together alone
"""

import os
import sys
import time

import torch
import torch.multiprocessing as processes

SECONDS = 15
# A straggler is judged over ten seconds, and must be one for some more.
STEPS = 24
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


def rank(rank, world, path):
    import torch.distributed as dist

    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT="29471", RANK=str(rank), WORLD_SIZE=str(world))
    torch.cuda.set_device(rank)
    dist.init_process_group("nccl")
    data = torch.ones(1 << 28, device="cuda")
    last = rank == world - 1
    dist.all_reduce(data)
    torch.cuda.synchronize()

    def together(name, seconds, expected, step):
        """All ranks take the same number of steps: time alone would have one begin another."""
        begun = now()
        go_on = torch.ones(1, device="cuda")
        while go_on.item():
            step()
            torch.cuda.synchronize()
            go_on.fill_(now() - begun < seconds * 1000)
            dist.all_reduce(go_on, op=dist.ReduceOp.MIN)
        note(path, name, rank, expected, begun)
        time.sleep(REST)

    together("all-reduce", SECONDS, "-", lambda: dist.all_reduce(data))

    a, b, c = (torch.randn(4096, 4096, device="cuda", dtype=torch.bfloat16) for _ in range(3))
    gradients = torch.ones(1 << 24, device="cuda")

    def training(products, pause):
        def step():
            for _ in range(products):
                torch.matmul(a, b, out=c)
            torch.cuda.synchronize()
            time.sleep(pause)
            dist.all_reduce(gradients)

        return step

    together("steps of one size", STEPS, "-", training(40, 0))
    together("one GPU has five times the work", STEPS, "straggler" if last else "-", training(200 if last else 40, 0))
    together("one rank's program is slow", STEPS, "straggler+starved" if last else "-", training(40, 0.05 if last else 0))

    begun = now()
    if last:
        time.sleep(SECONDS + 3)
        note(path, "hang, the rank that sleeps", rank, "held-idle", begun)
    else:
        dist.all_reduce(data)
        # Waits, as a program does that reads its loss; gives up with the process.
        end = time.time() + SECONDS + 3
        while time.time() < end:
            time.sleep(0.1)
        note(path, "hang, a rank that waits", rank, "nccl-hang", begun)
    os._exit(0)


if __name__ == "__main__":
    path = sys.argv[1]
    begun = now()
    time.sleep(10)
    world = torch.cuda.device_count()
    for gpu in range(world):
        note(path, "idle", gpu, "-", begun)
    context = processes.get_context("spawn")
    if "ranks" not in sys.argv[2:]:
        alone = context.Process(target=one_gpu, args=(path,))
        alone.start()
        alone.join()
    if world >= 2:
        ranks = [context.Process(target=rank, args=(number, world, path)) for number in range(world)]
        for one in ranks:
            one.start()
        for one in ranks:
            one.join(180)
            if one.is_alive():
                one.kill()
