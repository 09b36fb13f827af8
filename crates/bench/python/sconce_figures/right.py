"""Whether attention and a convolution are right: some results in float64 on the processor, and then every one."""

import math

import torch
import torch.nn.functional as F

from . import Wrong

# The z of what is allowed where errors are added up with random signs, as crates/bench/src/measure/every.rs has it.
TIMES = 10.0
# Images at a time, on the processor.
PART = 8


def convolution_error(got, image, weight, allowed=1e-2):
    """Two channels of the last image in float64, and every pixel by Freivalds' check: its channels, added up with random signs,
    are what a filter of one channel gives, whose weights are added up with the same signs."""
    padding = weight.shape[-1] // 2
    weight = weight.cpu().double()
    x = image[-1:].cpu().double()
    exact = F.conv2d(x, weight[-2:], padding=padding)
    scale = F.conv2d(x.square(), weight[-2:].square(), padding=padding)
    off = got[-1:, -2:].cpu().double() - exact
    worst = (off.norm() / exact.norm()).item()
    if not worst <= allowed:
        raise Wrong("the convolution is off by %.1e where %.0e is allowed" % (worst, allowed))
    # In units of the root of the summed squares of a number's products.
    usual = max((off.square() / scale).mean().sqrt().item(), allowed / 100)
    # From the system, when the result is there already.
    chance = torch.Generator()
    chance.seed()
    signs = torch.randint(2, (weight.shape[0], 1, 1, 1), generator=chance).double() * 2 - 1
    signed, squared = (weight * signs).sum(0, keepdim=True), weight.square().sum(0, keepdim=True)
    for first in range(0, len(image), PART):
        x, y = (one[first : first + PART].cpu().double() for one in (image, got))
        by = ((y * signs.view(1, -1, 1, 1)).sum(1) - F.conv2d(x, signed, padding=padding)[:, 0]).abs()
        most = TIMES * usual * F.conv2d(x.square(), squared, padding=padding)[:, 0].clamp(min=0).sqrt()
        wrong = (~(by <= most)).nonzero()
        if len(wrong):
            number, row, column = wrong[0].tolist()
            raise Wrong(
                "image %d, row %d, column %d: its channels, added up with random signs, are off by %.1e where %.1e is allowed"
                % (first + number, row, column, by[number, row, column], most[number, row, column])
            )
    return worst, allowed


def written_out(q, k, v):
    """Causal attention of one head, by its definition."""
    scores = q @ k.t() / math.sqrt(q.shape[1])
    unseen = torch.ones_like(scores, dtype=torch.bool).triu(1)
    return scores.masked_fill(unseen, -math.inf).softmax(1) @ v


class Plain:
    """Products in float32 as they are."""

    def __enter__(self):
        self.was = torch.backends.cuda.matmul.allow_tf32
        torch.backends.cuda.matmul.allow_tf32 = False

    def __exit__(self, *_):
        torch.backends.cuda.matmul.allow_tf32 = self.was


def all_heads(q):
    return [(batch, head) for batch in range(q.shape[0]) for head in range(q.shape[1])]


def attention_error(got, q, k, v, allowed=2e-2):
    """Some rows of two heads in float64 on the processor; and every row against what float32 gives here, without a fused kernel."""
    worst, tokens = 0.0, q.shape[2]
    for batch, head in (all_heads(q)[0], all_heads(q)[-1]):
        query, key, value = (one[batch, head].detach().cpu().double() for one in (q, k, v))
        for row in (0, 1, tokens // 5, tokens - 1):
            weights = (query[row] @ key[: row + 1].t() / math.sqrt(q.shape[3])).softmax(0)
            exact = weights @ value[: row + 1]
            off = (got[batch, head, row].cpu().double() - exact).norm() / exact.norm()
            worst = max(worst, off.item()) if off.item() <= allowed else math.inf
    if not worst <= allowed:
        raise Wrong("attention is off in a row of float64 where %.0e is allowed" % allowed)
    with Plain(), torch.no_grad():
        for batch, head in all_heads(q):
            exact = written_out(*(one[batch, head].detach().float() for one in (q, k, v)))
            off = (got[batch, head].float() - exact).norm(dim=1) / exact.norm(dim=1)
            most = off.max().item()
            if not (off <= allowed).all():
                raise Wrong(
                    "attention of sequence %d, head %d is off by %.1e where %.0e is allowed" % (batch, head, most, allowed)
                )
            worst = max(worst, most)
    return worst, allowed


def gradient_error(q, k, v, grad, allowed=3e-2):
    """The gradients of the last head in float64 on the processor; and those of every head against what float32 gives here."""
    worst = 0.0
    heads = [(all_heads(q)[-1], lambda one: one.detach().cpu().double())]
    heads += [(head, lambda one: one.detach().float()) for head in all_heads(q)]
    with Plain():
        for at, taken in heads:
            exact = [taken(one[at]).requires_grad_() for one in (q, k, v)]
            written_out(*exact).backward(taken(grad[at]))
            for got, right in zip((q, k, v), exact):
                off = taken(got.grad[at]) - right.grad
                share = (off.norm() / right.grad.norm()).item()
                # A row may be off by a tenth of what rows usually are, and of itself: some are next to nothing. With weights rounded to
                # BF16, as fused kernels have them, the worst of 3072 was off by an eighth of that.
                rows, usual = right.grad.norm(dim=1), right.grad.norm() / math.sqrt(len(off))
                if not share <= allowed or not (off.norm(dim=1) <= 0.1 * usual + 0.1 * rows).all():
                    raise Wrong(
                        "a gradient of attention of sequence %d, head %d is off by %.1e where %.0e is allowed, or a row of it by more"
                        % (*at, share, allowed)
                    )
                worst = max(worst, share)
    return worst, allowed
