//! The `sconce` command: takes a machine from a bare NVIDIA driver to a running, verified
//! PyTorch-CUDA container, and proves what it says.

fn main() {}
