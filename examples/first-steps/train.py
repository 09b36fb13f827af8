"""First steps: see what this environment can do, then train a small model in it.

The model is a one-layer transformer that learns, byte by byte, to write the file you
are reading. It trains with automatic mixed precision (torch.amp), once eager and once
under torch.compile, and writes TensorBoard events to ./runs. It exits with 1, and says
why, if the loss does not go down.
"""

import ctypes
import os
import re
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.tensorboard import SummaryWriter

HERE = Path(__file__).resolve().parent
RUNS = HERE / "runs" / time.strftime("%Y%m%d-%H%M%S")
STEPS, BATCH, CONTEXT, WIDTH = 50, 8, 64, 128


# What is here


def describe_environment() -> torch.device:
    """Prints what torch is and what it can reach; returns the device to train on."""
    cudnn = torch.backends.cudnn.version() if torch.version.cuda else None
    nccl = torch.cuda.nccl.version() if torch.version.cuda else None
    print(f"torch   {torch.__version__}    Python {sys.version.split()[0]}")
    print(f"CUDA    {torch.version.cuda or 'none in this build'}")
    print(f"cuDNN   {dotted_cudnn(cudnn) if cudnn else 'none in this build'}")
    print(f"NCCL    {'.'.join(map(str, nccl)) if nccl else 'none in this build'}")
    if torch.cuda.is_available():
        gpu = torch.cuda.get_device_properties(0)
        print(f"GPU     {gpu.name}, sm_{gpu.major}{gpu.minor}, {gpu.total_memory / 2**30:.0f} GiB")
        return torch.device("cuda")
    print(f"GPU     not available: {why_no_cuda()}")
    simd = torch.backends.cpu.get_cpu_capability()
    print(f"CPU     training here instead: {torch.get_num_threads()} threads, {simd}")
    return torch.device("cpu")


def dotted_cudnn(number: int) -> str:
    """cuDNN counts 92600 for 9.26.0, and up to version 8 counted 8907 for 8.9.7."""
    major = 10_000 if number >= 90_000 else 1_000
    return f"{number // major}.{number % major // 100}.{number % 100}"


def why_no_cuda(root: Path = Path("/")) -> str:
    """One sentence, from what the kernel and the driver say: the first thing amiss, from
    the wheel outwards to the GPU and back."""
    wanted = torch.version.cuda
    if wanted is None:
        return f"this is a build of torch without CUDA ({torch.__version__})."
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None and not re.match(r"\d|GPU-|MIG-", visible.strip()):
        return f"CUDA_VISIBLE_DEVICES is set to {visible!r}, which hides every GPU."

    loaded = root / "proc/driver/nvidia/version"
    wsl = (root / "dev/dxg").exists()
    if not loaded.exists() and not wsl:
        if on_pci_bus(root):
            return "there is an NVIDIA GPU on the PCI bus, but no NVIDIA kernel driver is loaded."
        return "there is no NVIDIA GPU (none on the PCI bus, and no NVIDIA driver is loaded)."
    found = re.search(r"Kernel Module.*?\s(\d+\.[\d.]+)", loaded.read_text()) if loaded.exists() else None
    driver = f"driver {found[1]}" if found else "the NVIDIA driver"
    nodes = [n for n in (root / "dev").glob("nvidia*") if re.fullmatch(r"nvidia\d+", n.name)]
    if not wsl and not (nodes and (root / "dev/nvidiactl").exists()):
        return f"{driver} is loaded, but /dev/nvidiactl and /dev/nvidia0 are not here (a container gets them with --gpus all)."
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return f"{driver} is loaded, but its libcuda.so.1 is not here (a container gets it with --gpus all)."

    number = ctypes.c_int(0)
    cuda.cuDriverGetVersion(ctypes.byref(number))
    speaks = f"{number.value // 1000}.{number.value % 1000 // 10}"
    if 0 < number.value // 1000 < int(wanted.split(".")[0]):
        return f"{driver} is too old: it speaks CUDA {speaks}, and this torch is built for CUDA {wanted}."
    if code := cuda.cuInit(0):
        name = ctypes.c_char_p()
        cuda.cuGetErrorName(code, ctypes.byref(name))
        return f"{driver} does not start: cuInit says {(name.value or b'?').decode()} ({code})."
    return f"{driver} (CUDA {speaks}) starts, yet torch {torch.__version__} finds no GPU that it can use."


def on_pci_bus(root: Path) -> bool:
    """Is there a display or 3D controller (class 0x03) of NVIDIA's (vendor 0x10de)?"""
    for device in (root / "sys/bus/pci/devices").glob("*"):
        try:
            vendor, kind = ((device / name).read_text() for name in ("vendor", "class"))
        except OSError:
            continue
        if vendor.startswith("0x10de") and kind.startswith("0x03"):
            return True
    return False


# What it learns


class Block(nn.Module):
    """One transformer layer: causal attention over four heads, then a feed-forward."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.feed = nn.Sequential(nn.Linear(WIDTH, 4 * WIDTH), nn.GELU(), nn.Linear(4 * WIDTH, WIDTH))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        heads = (t.unflatten(-1, (4, -1)).transpose(1, 2) for t in self.qkv(self.norm1(x)).chunk(3, -1))
        attended = F.scaled_dot_product_attention(*heads, is_causal=True)
        x = x + self.out(attended.transpose(1, 2).flatten(2))
        return x + self.feed(self.norm2(x))


class ByteModel(nn.Module):
    """Bytes in, for each the logits of the byte that follows out: [B, T] to [B, T, 256]."""

    def __init__(self) -> None:
        super().__init__()
        self.byte, self.place = nn.Embedding(256, WIDTH), nn.Embedding(CONTEXT, WIDTH)
        self.block = Block()
        self.head = nn.Sequential(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 256))

    def forward(self, text: torch.Tensor) -> torch.Tensor:
        places = torch.arange(text.shape[1], device=text.device)
        return self.head(self.block(self.byte(text) + self.place(places)))


@dataclass
class Result:
    first: float  # mean loss of the first five steps, in nats a byte
    last: float  # mean loss of the last five
    warm_up: float  # seconds of the first step: compiling is in it
    step: float  # seconds of the best step after it: a busy machine disturbs it least


def train(device: torch.device, dtype: torch.dtype, compiled: bool) -> Result:
    """Trains a fresh model from the same seed on the same batches, whatever the mode."""
    torch.manual_seed(0)
    model = ByteModel().to(device)
    forward = torch.compile(model) if compiled else model
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    # FP16 has few exponent bits: small gradients vanish unless the loss is scaled up.
    scaler = torch.amp.GradScaler(device.type, enabled=dtype is torch.float16)
    text = torch.tensor(list(Path(__file__).read_bytes()), device=device)

    losses, seconds = [], []
    with SummaryWriter(RUNS / label(dtype, compiled)) as events:
        for step in range(STEPS):
            began = time.perf_counter()
            starts = torch.randint(len(text) - CONTEXT, (BATCH, 1)).to(device)
            window = text[starts + torch.arange(CONTEXT + 1, device=device)]
            with torch.amp.autocast(device.type, dtype=dtype):
                logits = forward(window[:, :-1])
                loss = F.cross_entropy(logits.flatten(0, 1), window[:, 1:].flatten())
            optimizer.zero_grad()
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
            losses.append(loss.item())
            seconds.append(time.perf_counter() - began)
            events.add_scalar("loss", losses[-1], step)
    return Result(mean(losses[:5]), mean(losses[-5:]), seconds[0], min(seconds[1:]))


def label(dtype: torch.dtype, compiled: bool) -> str:
    return f"{'bf16' if dtype is torch.bfloat16 else 'fp16'}-{'compiled' if compiled else 'eager'}"


def main() -> int:
    device = describe_environment()
    dtypes = [torch.bfloat16]
    if device.type == "cuda":
        dtypes = [torch.float16]
        if torch.cuda.is_bf16_supported(including_emulation=False):
            dtypes.insert(0, torch.bfloat16)

    print(f"\n{STEPS} steps of a small transformer on the {device.type.upper()}, learning to write {Path(__file__).name}:")
    print(f"{'':15}{'loss':>16}{'first step':>14}{'best step':>12}")
    results = {}
    for dtype in dtypes:
        for compiled in (False, True):
            name = label(dtype, compiled)
            r = results[name] = train(device, dtype, compiled)
            print(f"{name:15}{r.first:8.3f} -> {r.last:.3f}{r.warm_up:12.1f} s{r.step * 1e3:9.1f} ms", flush=True)

    for dtype in dtypes:
        eager, fast = results[label(dtype, False)], results[label(dtype, True)]
        saved, cost = eager.step - fast.step, fast.warm_up - eager.warm_up
        gain = f"pays for its {cost:.0f} s of compiling after {cost / saved:,.0f} steps" if saved > 0 else "is no gain for a model this small"
        print(f"torch.compile: {eager.step / fast.step:.2f}x the speed of eager in {label(dtype, True)[:4]}; it {gain}.")
    print("\nCurves: tensorboard --logdir runs   (in this folder, on either side of the container)")

    stuck = [name for name, r in results.items() if not r.last < 0.8 * r.first]
    if stuck:
        print(f"The loss did not go down in {', '.join(stuck)}: this environment computes wrongly.", file=sys.stderr)
        return 1
    first, last = (mean(getattr(r, end) for r in results.values()) for end in ("first", "last"))
    print(f"The loss went down in all {len(results)} runs, from {first:.2f} to {last:.2f} nats a byte.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
