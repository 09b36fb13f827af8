"""Single operators: products, attention, a convolution."""

import math

import torch
import torch.nn.functional as F

from . import Unavailable, Wrong
from .clock import Clock, figure
from .right import attention_error, convolution_error, gradient_error

SHAPES = [(8192, 8192, 8192), (4096, 8192, 16384), (16384, 16384, 4096), (2048, 2048, 13312)]
# Results that are computed again in float64 on the processor.
SAMPLES = 32
# Of attention: sequences, heads, tokens, numbers of a head.
ATTENTION = (4, 32, 4096, 128)
# Of the convolution: images, channels, pixels of an edge; 3 x 3 weights.
CONVOLUTION = (64, 256, 56)


def poisoned(work):
    """Fills the places of two results with NaN, which torch's allocator gives to the next ones."""
    for last in [work(), work()]:
        last.fill_(math.nan)


def without_gradients(heads):
    """Fills the places of gradients with NaN."""
    for one in heads:
        one.grad.fill_(math.nan)


class Operators:
    def __init__(self, args):
        torch.manual_seed(args.seed % (1 << 63))
        self.clock = Clock()
        self.shapes = SHAPES if args.effort == "full" else SHAPES[:2]
        self.repeats = 15

    def measure(self, name):
        kind = name.split("-", 1)[1]
        torch.cuda.empty_cache()
        return getattr(self, kind.replace("-", "_"))(name)

    def tf32(self, name):
        torch.backends.cuda.matmul.allow_tf32 = True
        return self.products(name, self.mm(torch.float32), 2e-3)

    def bf16(self, name):
        return self.products(name, self.mm(torch.bfloat16), 1e-3)

    def fp8(self, name):
        if torch.cuda.get_device_capability() < (8, 9):
            raise Unavailable("this GPU has no 8-bit floating point")
        return self.products(name, self.scaled_mm, 5e-2)

    def bursts(self, work):
        """The times; the last result is the clock's."""
        return self.clock.bursts(work, self.repeats, lambda: poisoned(work))

    def mm(self, kind):
        def product(m, n, k):
            a, b = (torch.rand(rows, k, device="cuda").mul_(2).sub_(1).to(kind) for rows in (m, n))
            d = torch.full((m, n), math.nan, device="cuda", dtype=kind)
            return a, b, lambda: torch.mm(a, b.t(), out=d)

        return product

    def scaled_mm(self, m, n, k):
        a, b = (
            torch.rand(rows, k, device="cuda").mul_(2).sub_(1).to(torch.float8_e4m3fn) for rows in (m, n)
        )
        one = torch.ones((), device="cuda")
        return a, b, lambda: torch._scaled_mm(
            a, b.t(), scale_a=one, scale_b=one, out_dtype=torch.bfloat16, use_fast_accum=True
        )

    def products(self, name, product, allowed):
        best, values, worst = None, [], 0.0
        for m, n, k in self.shapes:
            a, b, work = product(m, n, k)
            times = self.bursts(work)
            rates = [2 * m * n * k / seconds / 1e12 for seconds in times]
            worst = max(worst, self.product_error(self.clock.last, a, b, allowed))
            if best is None or sorted(rates)[len(rates) // 2] > sorted(values)[len(values) // 2]:
                best, values = (m, n, k), rates
        how = "torch._scaled_mm" if name == "torch-fp8" else "torch.mm"
        method = "%s of torch %s, %dx%dx%d" % ((how, torch.__version__) + best)
        return figure(name, values, method, (worst, allowed))

    def product_error(self, d, a, b, allowed):
        if not torch.isfinite(d).all():
            raise Wrong("the product has numbers that were not written or are none")
        m, n = d.shape
        rows, columns = (torch.randint(size, (SAMPLES,), device="cuda") for size in (m, n))
        left, right = a[rows].cpu().double(), b[columns].cpu().double()
        exact = (left * right).sum(1)
        scale = (left * right).square().sum(1).sqrt()
        got = d[rows, columns].cpu().double()
        # What is written is rounded to the kind of the result.
        off = ((got - exact).abs() - exact.abs() * torch.finfo(d.dtype).eps).clamp(min=0) / scale
        worst = off.max().item()
        if not worst <= allowed:
            raise Wrong("a sum is off by %.1e where %.0e is allowed" % (worst, allowed))
        return worst

    def heads(self):
        return [
            torch.randn(ATTENTION, device="cuda", dtype=torch.bfloat16, requires_grad=True) for _ in range(3)
        ]

    def attention(self, name):
        q, k, v = self.heads()
        batch, heads, tokens, size = ATTENTION
        operations = 4 * batch * heads * tokens * tokens * size / 2  # causal: half of the pairs

        def work():
            with torch.no_grad():
                return F.scaled_dot_product_attention(q, k, v, is_causal=True)

        times = self.bursts(work)
        error = attention_error(self.clock.last, q, k, v)
        return self.of_attention(name, operations, times, error)

    def attention_training(self, name):
        q, k, v = self.heads()
        batch, heads, tokens, size = ATTENTION
        grad = torch.randn_like(q)
        operations = 3.5 * 4 * batch * heads * tokens * tokens * size / 2  # as FlashAttention counts them

        def work():
            q.grad = k.grad = v.grad = None
            F.scaled_dot_product_attention(q, k, v, is_causal=True).backward(grad)

        times = self.clock.bursts(work, self.repeats, lambda: without_gradients((q, k, v)))
        return self.of_attention(name, operations, times, gradient_error(q, k, v, grad))

    def of_attention(self, name, operations, times, error):
        shape = "%d sequences, %d heads, %d tokens, heads of %d, causal, BF16" % ATTENTION
        method = "scaled_dot_product_attention of torch %s: %s" % (torch.__version__, shape)
        return figure(name, [operations / seconds / 1e12 for seconds in times], method, error)

    def convolution(self, name):
        images, channels, edge = CONVOLUTION
        torch.backends.cudnn.benchmark = True
        image = torch.randn(images, channels, edge, edge, device="cuda", dtype=torch.bfloat16)
        image = image.to(memory_format=torch.channels_last)
        weight = torch.randn(channels, channels, 3, 3, device="cuda", dtype=torch.bfloat16) / 48
        weight = weight.to(memory_format=torch.channels_last)
        operations = 2 * images * channels * channels * 9 * edge * edge

        def work():
            return F.conv2d(image, weight, padding=1)

        times = self.bursts(work)
        error = convolution_error(self.clock.last, image, weight)
        version = torch.backends.cudnn.version()
        method = "conv2d of torch %s (cuDNN %s), %d images of %d channels, %dx%d, 3x3, BF16, channels last" % (
            (torch.__version__, version, images, channels, edge, edge)
        )
        return figure(name, [operations / seconds / 1e12 for seconds in times], method, error)
