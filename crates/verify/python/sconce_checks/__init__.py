"""The checks by name. A module is imported by the process that needs it, no sooner."""

import importlib

CHECKS = {
    "torch-cuda": "devices:torch_cuda",
    "cudnn": "devices:cudnn",
    "amp-bf16": "mixed:amp_bf16",
    "amp-fp16": "mixed:amp_fp16",
    "tf32": "matmul:tf32",
    "fp8": "matmul:fp8",
    "transformer-engine": "matmul:transformer_engine",
    "sparsity-2-4": "matmul:sparsity",
    "cuda-graph": "devices:cuda_graph",
    "torch-compile": "compiler:torch_compile",
    "nccl": "collective:nccl",
    "dataloader": "feeding:dataloader",
    "tensorboard": "events:tensorboard",
}


def load(name):
    """The function of a check: takes the number of GPUs given, returns (detail, figures)."""
    module, function = CHECKS[name].split(":")
    return getattr(importlib.import_module("sconce_checks." + module), function)
