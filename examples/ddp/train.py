"""Distributed data parallel: one program for one process, many GPUs and many machines.

    python train.py                     one process
    sconce launch examples/ddp          a rank for each idle GPU
    sconce launch --ranks 4 examples/ddp    four on the CPU

Each rank trains on its share of the data, and gradients are averaged while they are computed. Every few steps rank 0
writes a checkpoint; whoever starts again goes on from there. With FSDP=1 in the environment, weights, gradients and
optimizer states are divided among the ranks instead of being copied to each.
"""

import os
import time
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

CHECKPOINTS = Path(os.environ.get("CHECKPOINTS", Path(__file__).resolve().parent / "checkpoints"))
EPOCHS, BATCH, EVERY = int(os.environ.get("EPOCHS", "5")), 64, 8


def begin() -> tuple[int, int, torch.device]:
    """Joins the other ranks, if there are any: rank, how many, and the device."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    local = int(os.environ.get("LOCAL_RANK", "0"))
    cuda = torch.cuda.is_available()
    device = torch.device("cuda", local) if cuda else torch.device("cpu")
    if cuda:
        # Before the first CUDA call of NCCL: else every rank makes a context on GPU 0 as well.
        torch.cuda.set_device(device)
    if "RANK" in os.environ:
        dist.init_process_group("nccl" if cuda else "gloo")
    return int(os.environ.get("RANK", "0")), world, device


def data() -> TensorDataset:
    """A line with noise, the same on every rank."""
    random = torch.Generator().manual_seed(0)
    x = torch.rand(2048, 8, generator=random)
    y = x @ torch.arange(1.0, 9.0).unsqueeze(1) + 0.01 * torch.randn(2048, 1, generator=random)
    return TensorDataset(x, y)


def save(path: Path, state: dict) -> None:
    """Whole or not at all: a rank that is killed while it writes leaves the checkpoint before."""
    part = path.with_suffix(".part")
    torch.save(state, part)
    part.rename(path)


def main() -> None:
    rank, world, device = begin()
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 1)).to(device)
    distributed = dist.is_available() and dist.is_initialized()
    if distributed and os.environ.get("FSDP") == "1":
        from torch.distributed.fsdp import fully_shard

        model = fully_shard(plain)
    elif distributed:
        model = DistributedDataParallel(plain, gradient_as_bucket_view=True)
    else:
        model = plain
    sharded = model is plain and distributed
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    dataset = data()
    sampler = DistributedSampler(dataset, num_replicas=world, rank=rank, seed=0)
    loader = DataLoader(dataset, batch_size=BATCH, sampler=sampler, drop_last=True)

    path, done = CHECKPOINTS / "last.pt", 0
    if path.exists() and not sharded:
        # All ranks read it, so that all are where it was written.
        state = torch.load(path, map_location=device)
        plain.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        done = state["step"]
        if rank == 0:
            print(f"goes on from step {done}", flush=True)
    CHECKPOINTS.mkdir(exist_ok=True)

    step, begun, loss = 0, time.time(), torch.zeros(())
    for epoch in range(EPOCHS):
        sampler.set_epoch(epoch)
        for x, y in loader:
            step += 1
            if step <= done:
                continue
            loss = nn.functional.mse_loss(model(x.to(device)), y.to(device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if step % EVERY == 0 and rank == 0 and not sharded:
                save(path, {"model": plain.state_dict(), "optimizer": optimizer.state_dict(), "step": step})
            if os.environ.get("DIE_AT") == f"{rank}:{step}" and os.environ.get("SCONCE_LAUNCH_ATTEMPT", "0") == "0":
                raise RuntimeError(f"rank {rank} was told to die at step {step}")
    if distributed:
        mean = loss.detach().clone()
        dist.all_reduce(mean)
        loss = mean / world
    if rank == 0:
        print(f"{world} ranks on {device.type}, step {step}: loss {loss.item():.4f}, {time.time() - begun:.1f} s", flush=True)
    if distributed:
        dist.destroy_process_group()


main()
