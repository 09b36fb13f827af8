"""A small model, whose steps cost the processor more than the GPU: what CUDA graphs and torch.compile give there."""

import math

import torch
import torch.nn as nn

from . import Wrong
from .clock import Clock, figure
from .training import WARMING, Block, compiled, replayed

WIDTH, HEADS, TOKENS, SEQUENCES, LAYERS = 256, 4, 64, 8, 6
# Steps after which the loss is compared with that of plain training.
STEPS = 20


class Small:
    def __init__(self, args):
        self.seed = args.seed % (1 << 63)
        self.seconds = 4.0 if args.effort == "full" else 1.5
        self.clock = Clock()
        self.exact = None

    def measure(self, name):
        way = name.split("-", 1)[1]
        step, loss = self.step(way)
        error = self.error(step, loss)
        times = self.clock.steady(step, self.seconds, 10, lambda: loss().fill_(math.nan))
        if not math.isfinite(loss().item()):
            raise Wrong("the last timed steps have left no loss")
        method = "%d blocks of %d wide, %d sequences of %d tokens, BF16 by autocast, AdamW (fused)%s, torch %s" % (
            (LAYERS, WIDTH, SEQUENCES, TOKENS, HOW[way], torch.__version__)
        )
        return figure(name, [1 / seconds for seconds in times], method, (error, 5e-2))

    def error(self, step, loss):
        """How far the loss is off that of plain training after the same steps."""
        got = self.loss_after(step, loss)
        if self.exact is None:
            self.exact = self.loss_after(*self.step("eager"))
        off = abs(got - self.exact) / abs(self.exact)
        if not off <= 5e-2:
            raise Wrong("the loss is %g after %d steps, and %g in plain training" % (got, STEPS, self.exact))
        return off

    def loss_after(self, step, loss):
        for _ in range(STEPS - self.done):
            step()
        return loss().item()

    def step(self, way):
        torch.manual_seed(self.seed)
        torch.backends.cuda.matmul.allow_tf32 = True
        model = nn.Sequential(*(Block(WIDTH, HEADS) for _ in range(LAYERS))).cuda()
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True, capturable=way == "graph")
        x = torch.randn(SEQUENCES, TOKENS, WIDTH, device="cuda")
        wanted = torch.randn_like(x)
        run = compiled(model) if way == "compiled" else model
        kept = torch.zeros((), device="cuda")
        self.done = 0

        def step():
            optimizer.zero_grad(set_to_none=True)
            with torch.autocast("cuda", torch.bfloat16):
                loss = (run(x).float() - wanted).square().mean()
            loss.backward()
            optimizer.step()
            kept.copy_(loss.detach())

        if way != "graph":
            return step, lambda: kept
        replay = replayed(step)
        self.done = WARMING
        return replay, lambda: kept


HOW = {"eager": "", "compiled": ", torch.compile", "graph": ", the whole step as one CUDA graph"}
