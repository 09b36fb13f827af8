"""Matrix products in TF32, FP8 and 2:4 sparsity: how far off, and how fast."""

import importlib.util

import torch

from .outcome import Failed, NotApplicable, capability, milliseconds, relative_error, require, tflops

# Where TF32 is several times as fast as float32, by capability: NVIDIA's datasheets give 8x for A100
# (156 to 19.5 TFLOP/s), 7x for H100 SXM (494 to 67), more for B200. Elsewhere (GeForce: 1x; L40S, A10: 2x)
# boards of one capability differ, so the ratio is told and not judged.
TF32_AT_LEAST = {(8, 0): 2.0, (9, 0): 2.0, (10, 0): 2.0, (10, 3): 2.0}


def sides(size):
    """A pair of square matrices, and 256 rows of their product in float64."""
    torch.manual_seed(4)
    left, right = (torch.randn(size, size, device="cuda") for _ in range(2))
    return left, right, left[:256].double() @ right.double()


def room(size):
    """`size`, or half of it on a GPU with little free memory."""
    free, _ = torch.cuda.mem_get_info()
    return size if free > 6 << 30 else size // 4


def tf32(gpus):
    """TF32 off: the error is float32's. On: it grows to that of 10 bits, and the speed changes."""
    has = capability((8, 0), "TF32")
    size = room(8192)
    left, right, exact = sides(size)
    errors, times = {}, {}
    # The one setting that has meant the same from torch 1.12 to 2.15; `allow_tf32` is on its way out.
    for name, setting in (("float32", "highest"), ("tf32", "high")):
        torch.set_float32_matmul_precision(setting)
        errors[name] = relative_error((left @ right)[:256], exact)
        times[name] = milliseconds(lambda: left @ right, 5)
    ratio = times["float32"] / times["tf32"]
    speeds = {name: tflops(size, ms) for name, ms in times.items()}
    require(errors["float32"] < 1e-5, "with TF32 off the error is %.1e" % errors["float32"])
    require(errors["tf32"] < 5e-3, "with TF32 on the error is %.1e" % errors["tf32"])
    grows = errors["tf32"] > 10 * errors["float32"]
    require(grows, "TF32 on changes nothing: errors %.1e and %.1e" % (errors["float32"], errors["tf32"]))
    least = TF32_AT_LEAST.get(has, 0)
    text = "off %.1f TFLOP/s, error %.1e; on %.1f TFLOP/s (%.1fx), error %.1e"
    text %= (speeds["float32"], errors["float32"], speeds["tf32"], ratio, errors["tf32"])
    require(ratio >= least, "TF32 is not as fast as it must be here (%gx): %s" % (least, text))
    figures = {
        "tflops_off": speeds["float32"],
        "tflops_on": speeds["tf32"],
        "error_off": errors["float32"],
        "error_on": errors["tf32"],
        "size": size,
    }
    return text, figures


def quantize(matrix):
    """A matrix in FP8 E4M3 (largest value 448), and the factor that brings it back."""
    factor = (matrix.abs().max() / 448.0).float()
    return (matrix / factor).to(torch.float8_e4m3fn), factor


def scaled(left, right, left_factor, right_factor):
    """torch._scaled_mm; until torch 2.4 it returned the largest value as well."""
    out = torch._scaled_mm(left, right, scale_a=left_factor, scale_b=right_factor, out_dtype=torch.bfloat16)
    return out[0] if isinstance(out, tuple) else out


def fp8(gpus):
    """An FP8 product: exact but for rounding by its own inputs, and as far off the original as 3 bits must be."""
    capability((8, 9), "FP8")
    if not hasattr(torch, "_scaled_mm"):
        raise NotApplicable("torch %s has no _scaled_mm" % torch.__version__)
    size = room(8192)
    left, right, exact = sides(size)
    small_left, left_factor = quantize(left)
    # The right side must be column-major.
    small_right, right_factor = quantize(right.t().contiguous())
    small_right = small_right.t()
    del right
    result = scaled(small_left, small_right, left_factor, right_factor)
    own = (small_left[:256].double() * left_factor) @ (small_right.double() * right_factor)
    own_error, error = relative_error(result[:256], own), relative_error(result[:256], exact)
    wide_left, wide_right = left.bfloat16(), small_right.bfloat16()
    speed = tflops(size, milliseconds(lambda: scaled(small_left, small_right, left_factor, right_factor), 10))
    wide = tflops(size, milliseconds(lambda: wide_left @ wide_right, 10))
    # BF16 output rounds at 4e-3; Hopper's tensor cores add FP8 products with fewer bits than float32.
    require(own_error < 1e-2, "the product is %.1e off that of its own inputs" % own_error)
    # Rounding two factors to 3 bits of fraction gives 3e-2 to 4e-2; 0 would mean that nothing was in FP8.
    require(5e-3 < error < 8e-2, "FP8's error against float64 is %.1e; 5e-3 to 8e-2 is right" % error)
    text = "%.1f TFLOP/s (BF16 %.1f); %.1e off its own inputs, %.1e off float64"
    figures = {"tflops": speed, "tflops_bf16": wide, "error_own": own_error, "error": error, "size": size}
    return text % (speed, wide, own_error, error), figures


def transformer_engine(gpus):
    """A Transformer Engine layer in FP8 against the same layer in BF16."""
    if importlib.util.find_spec("transformer_engine") is None:
        raise NotApplicable("Transformer Engine is not in the image")
    capability((8, 9), "FP8")
    import transformer_engine
    import transformer_engine.pytorch as te
    from transformer_engine.common import recipe

    torch.manual_seed(5)
    layer = te.Linear(768, 1024, params_dtype=torch.bfloat16).cuda()
    inputs = torch.randn(256, 768, device="cuda", dtype=torch.bfloat16)
    plain = layer(inputs)
    # `autocast` replaced `fp8_autocast` in Transformer Engine 2.
    arguments = {"enabled": True}
    if hasattr(te, "autocast"):
        enter, arguments["recipe"] = te.autocast, recipe.DelayedScaling()
    else:
        enter, arguments["fp8_recipe"] = te.fp8_autocast, recipe.DelayedScaling()
    # Delayed scaling learns its factors in the first passes.
    for _ in range(3):
        with enter(**arguments):
            result = layer(inputs)
    result.sum().backward()
    error = relative_error(result.detach(), plain.detach())
    require(1e-4 < error < 0.1, "FP8 is %.1e off BF16; 1e-4 to 1e-1 is right" % error)
    version = getattr(transformer_engine, "__version__", "")
    return "Transformer Engine %s: FP8 linear %.1e off BF16" % (version, error), {"error": error}


def compress(pruned, other):
    """The matrix compressed, and its product: by torch's own choice of library, else by the other one."""
    from torch.sparse import SparseSemiStructuredTensor, to_sparse_semi_structured

    refusals = []
    for _ in range(2):
        try:
            packed = to_sparse_semi_structured(pruned)
            return packed, torch.nn.functional.linear(other, packed)
        except (AssertionError, AttributeError, NotImplementedError, RuntimeError, ValueError) as error:
            refusals.append(" ".join(str(error).split())[:200])
            SparseSemiStructuredTensor._FORCE_CUTLASS = not SparseSemiStructuredTensor._FORCE_CUTLASS
    # CUTLASS' kernels are for capability 8.x; cuSPARSELt came with torch 2.3, its H100 kernels later.
    if all("capability" in words or "upport" in words for words in refusals):
        raise NotApplicable("torch %s has no 2:4 kernel for this GPU: %s" % (torch.__version__, refusals[0]))
    raise Failed("; then ".join(refusals))


def sparsity(gpus):
    """A layer whose weights have two of each four values zero, compressed, against the same layer dense."""
    capability((8, 0), "2:4 sparsity")

    # Large enough that launching from Python takes less time than the product.
    size = room(8192)
    torch.manual_seed(6)
    keep = torch.rand(size, size // 4, 4, device="cuda").argsort(-1) < 2
    pruned = (torch.randn(size, size // 4, 4, device="cuda") * keep).view(size, size).half()
    other = torch.randn(size, size, device="cuda").half()
    packed, result = compress(pruned, other)
    error = relative_error(result[:256], other[:256].double() @ pruned.double().t())
    # FP16 output rounds at 5e-4.
    require(error < 2e-3, "the product is %.1e off that of the pruned matrix" % error)
    linear = torch.nn.functional.linear
    sparse = tflops(size, milliseconds(lambda: linear(other, packed), 10))
    dense = tflops(size, milliseconds(lambda: linear(other, pruned), 10))
    text = "%.1e off the dense product; %.1f TFLOP/s of the dense kind, dense %.1f" % (error, sparse, dense)
    return text, {"error": error, "tflops": sparse, "tflops_dense": dense, "size": size}
