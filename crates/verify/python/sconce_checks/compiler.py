"""torch.compile: really compiled, and the same numbers."""

import os
import shutil
import tempfile

import torch

from .outcome import Failed, NotApplicable, relative_error, require


def compilers():
    """The C and C++ compilers that Triton and Inductor would find."""
    named = [os.environ.get("CC"), os.environ.get("CXX"), "gcc", "cc", "clang", "g++", "c++", "clang++"]
    return [name for name in named if name and shutil.which(name)]


def torch_compile(gpus):
    """A function through Dynamo and Inductor against the same function eagerly, on the GPU where there is one."""
    device = "cuda" if gpus else "cpu"
    # What was compiled before would prove nothing.
    os.environ["TORCHINDUCTOR_FORCE_DISABLE_CACHES"] = "1"
    folder = tempfile.mkdtemp(prefix="sconce-verify-")
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = folder
    os.environ["TRITON_CACHE_DIR"] = os.path.join(folder, "triton")
    try:
        return compiled(device)
    except Failed:
        raise
    except Exception as error:
        if "not supported on Python" in str(error):
            raise NotApplicable(" ".join(str(error).split())) from error
        if not compilers():
            reason = "there is no C compiler in the image (a devel image has one)"
            raise NotApplicable(reason) from error
        raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def compiled(device):
    import torch._dynamo
    from torch._dynamo.utils import counters

    def function(left, right):
        return torch.nn.functional.gelu(left @ right).softmax(-1) * 3 + left.sin()

    torch.manual_seed(7)
    left, right = (torch.randn(256, 256, device=device) for _ in range(2))
    counters.clear()
    result = torch.compile(function, fullgraph=True)(left, right)
    graphs = counters["stats"]["unique_graphs"]
    require(graphs == 1, "Dynamo compiled %d graphs; 1 is right" % graphs)
    error = relative_error(result, function(left, right))
    require(error < 1e-4, "the compiled function is %.1e off the eager one" % error)
    where = "GPU" if device == "cuda" else "processor (no GPU was given)"
    return "%s: %.1e off the eager function" % (where, error), {"error": error}
