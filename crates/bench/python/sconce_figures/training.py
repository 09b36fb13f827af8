"""A transformer block, forward and backward, in the ways that people train: what AMP, FP8, torch.compile and CUDA graphs give."""

import math

import torch
import torch.nn as nn
import torch.nn.functional as F

from . import Unavailable, Wrong
from .clock import Clock, figure

WIDTH, HEADS, TOKENS, SEQUENCES = 4096, 32, 2048, 4

# Gradients of weights against those of float32, as the share by which their norm may be off.
ALLOWED = {"fp32": 1e-3, "tf32": 1e-2, "bf16": 5e-2, "fp8": 0.25}


class Block(nn.Module):
    """Attention and two linear layers, each with its norm before it; biases left out, as large models have it."""

    def __init__(self, width, heads, linear=nn.Linear):
        super().__init__()
        self.heads = heads
        self.norms = nn.ModuleList([nn.LayerNorm(width), nn.LayerNorm(width)])
        self.qkv = linear(width, 3 * width, bias=False)
        self.out = linear(width, width, bias=False)
        self.up = linear(width, 4 * width, bias=False)
        self.down = linear(4 * width, width, bias=False)

    def forward(self, x):
        batch, tokens, width = x.shape
        qkv = self.qkv(self.norms[0](x)).view(batch, tokens, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).reshape(batch, tokens, width))
        return x + self.down(F.gelu(self.up(self.norms[1](x)), approximate="tanh"))


class Scaled(torch.autograd.Function):
    """A linear layer whose three products have 8 bits: e4m3 forward, e5m2 for gradients, one scale for each tensor."""

    @staticmethod
    def forward(ctx, x, weight):
        ctx.save_for_backward(x, weight)
        return product(x, weight, torch.float8_e4m3fn)

    @staticmethod
    def backward(ctx, grad):
        x, weight = ctx.saved_tensors
        left = product(grad, weight.t(), torch.float8_e5m2)
        return left, product(grad.t(), x.t(), torch.float8_e5m2)


def cast(tensor, kind):
    scale = tensor.abs().amax().float().clamp(min=1e-12) / torch.finfo(kind).max
    return (tensor / scale).to(kind), scale


def product(a, b, kind):
    """a @ b.t()"""
    (a, a_scale), (b, b_scale) = cast(a.contiguous(), kind), cast(b.contiguous(), torch.float8_e4m3fn)
    return torch._scaled_mm(
        a, b.t(), scale_a=a_scale, scale_b=b_scale, out_dtype=torch.bfloat16, use_fast_accum=True
    )


class Linear8(nn.Linear):
    def forward(self, x):
        flat = x.to(torch.bfloat16).reshape(-1, x.shape[-1])
        return Scaled.apply(flat, self.weight.to(torch.bfloat16)).view(*x.shape[:-1], -1)


def operations(width, tokens, sequences):
    """Of a block forward and backward: twice as much backward; attention counts the pairs that are seen."""
    linear = 2 * 12 * width * width * tokens * sequences
    attention = 4 * tokens * tokens * width * sequences / 2
    return 3 * (linear + attention)


class Training:
    def __init__(self, args):
        self.seed = args.seed % (1 << 63)
        self.seconds = 6.0 if args.effort == "full" else 2.0
        self.clock = Clock()
        self.exact = None

    def measure(self, name):
        torch.cuda.empty_cache()
        _, kind, *way = name.split("-")
        step, block = self.step(kind, way)
        times = self.clock.steady(step, self.seconds, 10, lambda: without_gradients(block))
        error = self.error(kind, gradients(block))
        rate = operations(WIDTH, TOKENS, SEQUENCES) / 1e12
        method = "a block of %d wide, %d heads, %d sequences of %d tokens, forward and backward%s, torch %s" % (
            (WIDTH, HEADS, SEQUENCES, TOKENS, "".join(", " + HOW[one] for one in way), torch.__version__)
        )
        return figure(name, [rate / seconds for seconds in times], method, (error, ALLOWED[kind]))

    def error(self, kind, got):
        if self.exact is None:
            step, block = self.step("fp32", [])
            step()
            self.exact = gradients(block)
            del step, block
        pairs = zip(got, self.exact)
        off = max(((one - exact).norm() / exact.norm()).item() for one, exact in pairs)
        if not off <= ALLOWED[kind]:
            raise Wrong("the gradient is off by %.1e where %.0e is allowed" % (off, ALLOWED[kind]))
        return off

    def step(self, kind, way):
        """A step to be called again and again, and the block whose gradients it makes."""
        torch.manual_seed(self.seed)
        torch.backends.cuda.matmul.allow_tf32 = kind != "fp32"
        if kind == "fp8" and torch.cuda.get_device_capability() < (8, 9):
            raise Unavailable("this GPU has no 8-bit floating point")
        block = Block(WIDTH, HEADS, Linear8 if kind == "fp8" else nn.Linear).cuda()
        x = torch.randn(SEQUENCES, TOKENS, WIDTH, device="cuda", requires_grad=True)
        grad = torch.randn_like(x)
        half = kind in ("bf16", "fp8")
        run = compiled(block) if "compiled" in way else block

        def step():
            for one in [x, *block.parameters()]:
                one.grad = None
            with torch.autocast("cuda", torch.bfloat16, enabled=half):
                y = run(x)
            y.backward(grad.to(y.dtype))

        return (replayed(step) if "graph" in way else step), block


def without_gradients(block):
    """Fills the places of the gradients with NaN."""
    for one in block.parameters():
        if one.grad is not None:
            one.grad.fill_(math.nan)


def gradients(block):
    """Of the first and the last weights, on the processor."""
    return [layer.weight.grad.cpu() for layer in (block.qkv, block.down)]


HOW = {"compiled": "torch.compile", "graph": "as one CUDA graph"}


def compiled(block):
    """Compiles anew: a compiler that is missing is said before anything is measured."""
    import shutil

    if not any(shutil.which(name) for name in ("gcc", "cc", "clang")):
        raise Unavailable("torch.compile needs a C compiler, and there is none (a devel image has one)")
    return torch.compile(block)


# Steps that are done before one is captured; the capture itself computes nothing.
WARMING = 3


def replayed(step):
    """The step as a CUDA graph; the gradients keep their places."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(WARMING):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay
