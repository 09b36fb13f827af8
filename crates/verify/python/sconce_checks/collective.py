"""NCCL: an all-reduce over all GPUs given, one process each."""

import datetime
import json
import os
import socket
import tempfile
import time
import traceback

import torch

from .outcome import Failed, require

# Elements of float32: 64 MiB, where the bandwidth is near its best.
ELEMENTS = 16 << 20
ROUNDS = 10


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def rank_of(rank, world, answer):
    """One rank: never returns. Rank 0 writes the seconds of an all-reduce."""
    status = 1
    try:
        import torch.distributed as dist

        os.environ.update(RANK=str(rank), WORLD_SIZE=str(world), LOCAL_RANK=str(rank))
        torch.cuda.set_device(rank)
        dist.init_process_group("nccl", init_method="env://", timeout=datetime.timedelta(seconds=40))
        values = torch.full((ELEMENTS,), float(rank + 1), device="cuda")
        dist.all_reduce(values)
        wanted = world * (world + 1) / 2
        low, high = values.min().item(), values.max().item()
        require(low == high == wanted, "rank %d: the sum is %g to %g; %g is right" % (rank, low, high, wanted))
        torch.cuda.synchronize()
        begun = time.monotonic()
        for _ in range(ROUNDS):
            dist.all_reduce(values)
        torch.cuda.synchronize()
        seconds = (time.monotonic() - begun) / ROUNDS
        dist.barrier()
        if rank == 0:
            version = torch.cuda.nccl.version()
            answer.write(json.dumps([seconds, ".".join(map(str, version))]).encode())
            answer.flush()
        dist.destroy_process_group()
        status = 0
    except BaseException:  # Its words are on standard error, which the parent reads.
        traceback.print_exc()
    finally:
        os._exit(status)


def nccl(gpus):
    """The sum over all ranks is right on every GPU; a world of one where one GPU was given."""
    require(torch.distributed.is_available(), "torch is built without torch.distributed")
    require(torch.distributed.is_nccl_available(), "torch is built without NCCL")
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(free_port()))
    with tempfile.TemporaryFile() as answer:
        children = {}
        for rank in range(gpus):
            pid = os.fork()
            if pid == 0:
                rank_of(rank, gpus, answer)
            children[pid] = rank
        while children:
            pid, status = os.wait()
            rank = children.pop(pid, None)
            if rank is not None and status:
                # The others would wait for it until their time is up.
                raise Failed(failure(rank, status))
        answer.seek(0)
        seconds, version = json.loads(answer.read().decode())
    if gpus == 1:
        return "NCCL %s: a world of one (one GPU was given)" % version, {"ranks": 1}
    # What NCCL's own tests call the bus bandwidth: each byte crosses 2(n-1)/n times.
    bandwidth = ELEMENTS * 4 / seconds * 2 * (gpus - 1) / gpus / 1e9
    text = "NCCL %s: %d GPUs, 64 MiB at %.1f GB/s on the bus" % (version, gpus, bandwidth)
    return text, {"ranks": gpus, "bus_gb_per_s": round(bandwidth, 1)}


def failure(rank, status):
    """Why a rank failed: the last line that says so, from the output that all ranks share."""
    if os.WIFSIGNALED(status):
        return "rank %d was killed by signal %d" % (rank, os.WTERMSIG(status))
    return "rank %d failed: %s" % (rank, last_error())


def last_error():
    """The last exception that was printed; standard error is a file of this check's own."""
    try:
        with open("/proc/self/fd/2", "rb") as output:
            lines = output.read()[-8000:].decode("utf-8", "replace").splitlines()
    except OSError:
        return "its words can't be read"
    words = [line.strip() for line in lines if "Error" in line or "error" in line]
    return words[-1] if words else "it said nothing"
