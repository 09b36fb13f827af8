//! The checks, one row each, in the order in which they are made.

use std::time::Duration;

/// Which program makes a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// sconce itself, mounted into the container.
    Probe,
    /// The Python program.
    Torch,
}

/// One check.
#[derive(Debug)]
pub struct Check {
    /// Its name: stable, part of the JSON.
    pub name: &'static str,
    /// Who makes it.
    pub by: By,
    /// Whether it asks something of a GPU. Without one it is not applicable.
    pub gpu: bool,
    /// How long it may take, in seconds; longer is a failure. Far above what it takes where all is well.
    pub limit: u64,
    /// What passing proves.
    pub proves: &'static str,
    /// What must hold, and why the bound is where it is.
    pub bound: &'static str,
}

impl Check {
    /// How long it may take.
    pub fn patience(&self) -> Duration {
        Duration::from_secs(self.limit)
    }

    /// The check with its limit, as the programs take it: `cudnn:60`.
    pub fn order(&self) -> String {
        format!("{}:{}", self.name, self.limit)
    }
}

/// The check of this name.
pub fn check(name: &str) -> Option<&'static Check> {
    CHECKS.iter().find(|check| check.name == name)
}

/// Shortens the rows.
const fn row(
    name: &'static str,
    by: By,
    gpu: bool,
    limit: u64,
    proves: &'static str,
    bound: &'static str,
) -> Check {
    Check { name, by, gpu, limit, proves, bound }
}

/// All checks.
#[rustfmt::skip]
pub const CHECKS: &[Check] = &[
    row("nvidia-smi", By::Probe, true, 30,
        "`nvidia-smi` is on the PATH and lists the boards that were given",
        "as many boards as `--gpus` gave; the MIG instances of one board are one"),
    row("nvml", By::Probe, true, 30,
        "NVML opens by its plain name and answers for each board",
        "as many boards as were given, each with a UUID"),
    row("cuda-driver", By::Probe, true, 30,
        "libcuda opens by its plain name, `cuInit` succeeds, and each device can be asked",
        "as many devices as were given; of several MIG instances CUDA takes one"),
    row("nvrtc", By::Probe, true, 60,
        "a kernel is compiled through NVRTC for the device, launched on each, and computes what it should",
        "equal, bit for bit: the numbers are whole and exact in float32. Not applicable without an NVRTC in the image"),
    row("torch-cuda", By::Torch, true, 90,
        "torch sees the GPUs; each computes a matrix product and copies both ways through pinned memory",
        "as many devices as were given; within 5e-3 of float64 on the processor, for an image may have TF32 on"),
    row("cudnn", By::Torch, true, 60,
        "cuDNN's own convolution, forward in float32 and float16, and a backward pass",
        "float32 within 5e-5 of float64 (Winograd transforms cost a digit; TF32 would be at 3e-4); float16 and the backward pass, where TF32 is on by default, within 5e-3"),
    row("amp-bf16", By::Torch, false, 60,
        "a classifier trained under BF16 autocast learns; its weights stay float32. On the processor where no GPU was given",
        "60 steps bring the loss below half of where it began; it ends near a hundredth. Capability 8.0"),
    row("amp-fp16", By::Torch, true, 60,
        "the same in FP16 with GradScaler, and a step whose gradients overflow is left out",
        "the loss as above; after the overflow the weights are bit for bit as before and the scale is half"),
    row("tf32", By::Torch, true, 60,
        "TF32 can be switched on and off: the error of a matrix product grows as it must, and the speed changes. Both speeds are told",
        "off: below 1e-5 of float64; on: below 5e-3 and ten times the error of off; twice as fast at least on capabilities 8.0, 9.0, 10.0 and 10.3, told and not judged elsewhere (GeForce boards have TF32 at float32's speed). Capability 8.0"),
    row("fp8", By::Torch, true, 60,
        "a scaled FP8 (E4M3) matrix product through `torch._scaled_mm`; its speed beside BF16's is told",
        "within 1e-2 of the float64 product of its own rounded inputs (BF16 output and the tensor cores' short sums); between 5e-3 and 8e-2 of the unrounded product: 3 bits of fraction give 3e-2 to 4e-2, and less would mean that nothing was in FP8. Capability 8.9"),
    row("transformer-engine", By::Torch, true, 90,
        "a Transformer Engine layer in FP8 gives what it gives in BF16, and its backward pass runs",
        "between 1e-4 and 1e-1 of BF16. Not applicable where it is not installed. Capability 8.9"),
    row("sparsity-2-4", By::Torch, true, 60,
        "`torch.sparse.to_sparse_semi_structured`: a layer with pruned and compressed weights",
        "within 2e-3 of the float64 product with the pruned weights: FP16 output rounds at 5e-4. Capability 8.0"),
    row("cuda-graph", By::Torch, true, 60,
        "a forward pass captured in a CUDA graph and replayed on new inputs gives the eager numbers",
        "within 5e-5 of the eager pass: cuBLAS may choose another workspace while capturing"),
    row("torch-compile", By::Torch, false, 240,
        "`torch.compile` makes one graph of a function, compiles it with nothing taken from a cache, and it computes the same. On the processor where no GPU was given",
        "within 1e-4 of the eager function: fused operations round differently. Not applicable where it can't compile because the image has no C compiler"),
    row("nccl", By::Torch, true, 90,
        "an all-reduce over NCCL among one process for each GPU given; with one GPU a world of one, and said so",
        "the sum is exact on every GPU, in every element. The bus bandwidth is told"),
    row("dataloader", By::Torch, false, 60,
        "a DataLoader's two workers hand over batches through /dev/shm, 96 MiB held at once: more than Docker's 64 MB",
        "each batch is what was sent"),
    row("tensorboard", By::Torch, false, 60,
        "torch's SummaryWriter writes a curve; the file of events is whole: lengths and masked CRC-32C of each record",
        "every value comes back. Not applicable where TensorBoard is not installed"),
];
