"""What a check can say, and how numbers are compared."""


class Failed(Exception):
    """What was checked does not hold."""


class NotApplicable(Exception):
    """It can't be asked here, and that is no fault."""


def require(holds, reason):
    if not holds:
        raise Failed(reason)


def relative_error(got, wanted):
    """|got - wanted| / |wanted| in the Frobenius norm, in float64; NaN counts as infinite."""
    got, wanted = got.double(), wanted.double()
    error = ((got - wanted).norm() / wanted.norm()).item()
    return error if error == error else float("inf")


def capability(at_least, what):
    """The first GPU's capability; not applicable where it is below `at_least`."""
    import torch

    has = torch.cuda.get_device_capability(0)
    if has < at_least:
        needed = "%s needs capability %d.%d" % ((what,) + at_least)
        raise NotApplicable("%s; %s has %d.%d" % ((needed, torch.cuda.get_device_name(0)) + has))
    return has


def milliseconds(function, rounds, best_of=3):
    """Milliseconds of one call on the GPU by CUDA's own events: the best of some series."""
    import torch

    function()
    best = float("inf")
    for _ in range(best_of):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        for _ in range(rounds):
            function()
        end.record()
        end.synchronize()
        best = min(best, begin.elapsed_time(end) / rounds)
    return best


def tflops(size, ms):
    """TFLOP/s of a square matrix product of `size` in `ms` milliseconds."""
    return round(2 * size**3 / ms / 1e9, 1)
