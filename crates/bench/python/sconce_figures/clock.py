"""Taking times on the GPU, and making figures of them."""

import statistics
import time

import torch

from . import Unavailable

# A burst, and the pause before it, as the native figures have them: power limits take some tens of milliseconds to act.
BURST = 0.01
PAUSE = 0.1


def figure(name, values, method, error=None, curve=(), more=True, gpus=(0,)):
    """A figure as `bench` reads it; `values` are the repeats."""
    median = statistics.median(values)
    low, high = quartiles(values)
    made = {
        "figure": name,
        "gpus": list(gpus),
        "value": median,
        "best": max(values) if more else min(values),
        "spread": (high - low) / median if median else 0.0,
        "repeats": len(values),
        "method": method,
        "curve": [list(point) for point in curve],
    }
    if error is not None:
        made["error"] = list(error)
    return made


def quartiles(values):
    if len(values) < 2:
        return values[0], values[0]
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, high


class Clock:
    """The first GPU's time, where torch has one: what measures on it makes this first."""

    def __init__(self):
        if not torch.cuda.is_available():
            torch.cuda.init()  # raises the reason
            raise Unavailable("torch.cuda.is_available() says no, and not why")
        self.begin, self.end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        self.last = None  # what was timed last has made this

    def time(self, count, work):
        """Seconds of one of `count` times `work`."""
        self.begin.record()
        for _ in range(count):
            self.last = work()
        self.end.record()
        self.end.synchronize()
        return self.begin.elapsed_time(self.end) / 1e3 / count

    def before(self, poison, left):
        """Before the last of what is timed the places of its results are filled with NaN: what is not computed is found."""
        if left == 1:
            self.last = None
            poison()
            torch.cuda.synchronize()

    def bursts(self, work, repeats, poison):
        """The times of bursts with pauses between them."""
        work()
        torch.cuda.synchronize()
        time.sleep(PAUSE)
        count = max(1, round(BURST / max(self.time(1, work), 1e-7)))
        times = []
        for left in range(repeats, 0, -1):
            self.before(poison, left)
            time.sleep(PAUSE)
            times.append(self.time(count, work))
        return times

    def steady(self, work, seconds, repeats, poison):
        """The times of groups without a pause, `seconds` together, after a few to warm up."""
        for _ in range(3):
            work()
        once = max(self.time(2, work), 1e-7)
        count = max(1, round(seconds / repeats / once))
        times = []
        for left in range(repeats, 0, -1):
            self.before(poison, left)
            times.append(self.time(count, work))
        return times
