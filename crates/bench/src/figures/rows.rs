//! The rows, group by group.

use super::{Group, Row};

/// In English and in Chinese.
type Says = (&'static str, &'static str);

const PRODUCT: &str = "cublasLtMatmul on random numbers between -1 and 1; the best of the shapes and of the algorithms that the heuristics offer, then the median of bursts of 10 ms with pauses between them, before a power limit acts; checked against float64 on the host";

const fn product(
    name: &'static str,
    unit: &'static str,
    quick: bool,
    (says, says_zh): Says,
) -> Row {
    Row { name, group: Group::Products, unit, more: true, quick, says, says_zh, method: PRODUCT }
}

const fn memory(
    name: &'static str,
    quick: bool,
    (says, says_zh): Says,
    method: &'static str,
) -> Row {
    Row { name, group: Group::Memory, unit: "GB/s", more: true, quick, says, says_zh, method }
}

const fn transfer(name: &'static str, group: Group, quick: bool, (says, says_zh): Says) -> Row {
    let method = "copies of 256 MiB one after another, timed by events; the contents are compared; where the host has several NUMA nodes, the best one counts and the curve has them all";
    Row { name, group, unit: "GB/s", more: true, quick, says, says_zh, method }
}

const fn collective(name: &'static str, (says, says_zh): Says) -> Row {
    let method = "one process, a thread for each GPU, float32, out of place, sizes from 8 KiB to 1 GiB; busbw as nccl-tests defines it, of the largest size; the rest is the curve";
    Row {
        name,
        group: Group::Collectives,
        unit: "GB/s",
        more: true,
        quick: false,
        says,
        says_zh,
        method,
    }
}

const fn latency(
    name: &'static str,
    quick: bool,
    (says, says_zh): Says,
    method: &'static str,
) -> Row {
    Row { name, group: Group::Latency, unit: "us", more: false, quick, says, says_zh, method }
}

const TORCH_PRODUCT: &str = "torch.mm, torch._scaled_mm; the best of the shapes, in bursts with pauses as the native ones; checked against float64 on the host";
const ATTENTION: &str = "scaled_dot_product_attention, 4 sequences of 4096 tokens, 32 heads of 128; operations as FlashAttention counts them; checked against float64 on the host";
const BLOCK: &str = "4096 wide, 32 heads, 4 sequences of 2048 tokens, forward and backward without a pause; the gradient is held to that of float32";
const SMALL: &str = "6 blocks of 256 wide, 8 sequences of 64 tokens, BF16, AdamW: a whole step; the loss is held to that of plain training";

const fn through_torch(
    name: &'static str,
    group: Group,
    unit: &'static str,
    (says, says_zh): Says,
    method: &'static str,
) -> Row {
    Row { name, group, unit, more: true, quick: false, says, says_zh, method }
}

/// All figures.
pub const FIGURES: &[Row] = &[
    latency(
        "launch",
        true,
        ("processor time of one kernel launch", "启动一个内核要占用处理器多久"),
        "an empty kernel, 500 launches in a row without waiting, by the host's clock",
    ),
    latency(
        "launch-wait",
        false,
        ("from a launch to knowing that it is done", "从启动到得知它已完成"),
        "an empty kernel and cuStreamSynchronize, by the host's clock",
    ),
    latency(
        "graph-kernel",
        true,
        (
            "what one kernel of a CUDA graph costs: beside `launch`, the gain of graphs",
            "CUDA 图里每个内核的开销：与 `launch` 相比就是图的收益",
        ),
        "a graph of 500 empty kernels in a row, launched and waited for, by the host's clock",
    ),
    latency(
        "allocate",
        false,
        ("cuMemAlloc and cuMemFree of 256 MiB", "cuMemAlloc 与 cuMemFree 256 MiB"),
        "one after another, by the host's clock",
    ),
    transfer(
        "host-to-device",
        Group::Host,
        true,
        ("from pinned memory to the GPU", "从锁页内存到 GPU"),
    ),
    transfer(
        "device-to-host",
        Group::Host,
        true,
        ("from the GPU to pinned memory", "从 GPU 到锁页内存"),
    ),
    transfer(
        "host-both-ways",
        Group::Host,
        false,
        ("both at once, added up", "两个方向同时进行，合计"),
    ),
    transfer(
        "host-to-device-pageable",
        Group::Host,
        false,
        ("from ordinary memory to the GPU", "从普通内存到 GPU"),
    ),
    memory(
        "memory-read",
        true,
        ("reading device memory", "读显存"),
        "a kernel that adds up 1 GiB of 32-bit numbers, 16 bytes a load; the sum is compared",
    ),
    memory(
        "memory-write",
        false,
        ("writing device memory", "写显存"),
        "a kernel that writes 1 GiB, 16 bytes a store; the contents are compared",
    ),
    memory(
        "memory-copy",
        true,
        ("copying within device memory, bytes read and written added up", "显存内复制，读写合计"),
        "the faster of a kernel and of cuMemcpyDtoD, 1 GiB; the contents are compared",
    ),
    memory(
        "memory-triad",
        false,
        (
            "a = b + s * c, bytes read and written added up (STREAM)",
            "a = b + s * c，读写合计（STREAM）",
        ),
        "a kernel over three arrays of float32; the contents are compared",
    ),
    memory(
        "l2-read",
        false,
        ("reading what the second-level cache holds", "读二级缓存中的数据"),
        "a kernel that reads a quarter of the cache's size again and again; the sum is compared",
    ),
    product(
        "fp64",
        "TFLOP/s",
        false,
        (
            "64-bit floating point (with tensor cores where the GPU has them for it)",
            "64 位浮点（GPU 有相应张量核时使用张量核）",
        ),
    ),
    product(
        "fp32",
        "TFLOP/s",
        false,
        ("32-bit floating point without tensor cores", "32 位浮点，不用张量核"),
    ),
    product(
        "tf32",
        "TFLOP/s",
        true,
        ("32-bit numbers through tensor cores", "32 位数经张量核计算"),
    ),
    product(
        "fp16",
        "TFLOP/s",
        false,
        ("16-bit floating point, added up in 32", "16 位浮点，以 32 位累加"),
    ),
    product("bf16", "TFLOP/s", true, ("BF16, added up in 32", "BF16，以 32 位累加")),
    product(
        "fp8",
        "TFLOP/s",
        true,
        (
            "8-bit floating point (e4m3), fast accumulation, to BF16",
            "8 位浮点（e4m3），快速累加，输出 BF16",
        ),
    ),
    product(
        "fp8-e5m2",
        "TFLOP/s",
        false,
        (
            "8-bit floating point, e5m2 by e4m3 as for gradients, to BF16",
            "8 位浮点，e5m2 乘 e4m3（梯度所用），输出 BF16",
        ),
    ),
    product(
        "int8",
        "TOP/s",
        false,
        ("8-bit whole numbers to 32-bit ones", "8 位整数，输出 32 位整数"),
    ),
    Row {
        name: "bf16-sustained",
        group: Group::Products,
        unit: "TFLOP/s",
        more: true,
        quick: false,
        says: "BF16 without a pause: what power and cooling allow",
        says_zh: "BF16 不停顿：供电与散热所允许的水平",
        method: "the best shape and algorithm of `bf16`, without a pause; the median of the second half",
    },
    Row {
        name: "bf16-sparse",
        group: Group::Sparse,
        unit: "TFLOP/s",
        more: true,
        quick: false,
        says: "BF16 with 2:4 sparsity, counted as if it were dense",
        says_zh: "BF16 2:4 稀疏，按稠密计数",
        method: "cusparseLtMatmul, the first matrix pruned by the library, algorithm by its own search; bursts as for dense products; checked against float64 on the host",
    },
    Row {
        name: "bf16-convolution",
        group: Group::Convolution,
        unit: "TFLOP/s",
        more: true,
        quick: false,
        says: "a convolution forward in BF16, channels last",
        says_zh: "BF16 前向卷积，通道在最后（channels last）",
        method: "cudnnConvolutionForward, three layers of a ResNet's kind; the best of them and of the algorithms that the heuristics offer; bursts as for products; checked against float64 on the host",
    },
    transfer("peer", Group::Peers, true, ("from one GPU to another", "从一块 GPU 到另一块")),
    transfer(
        "peer-both-ways",
        Group::Peers,
        false,
        ("both at once, added up", "两个方向同时进行，合计"),
    ),
    collective("all-reduce", ("everyone gets the sum of all", "每块 GPU 得到全体之和")),
    collective("all-gather", ("everyone gets what each has", "每块 GPU 得到全体的数据")),
    collective("reduce-scatter", ("everyone gets its part of the sum", "每块 GPU 得到和的一部分")),
    collective("all-to-all", ("everyone sends a part to each", "每块 GPU 向其余各发一部分")),
    collective("broadcast", ("everyone gets what the first has", "每块 GPU 得到第一块的数据")),
    collective("send-receive", ("everyone sends all to the next", "每块 GPU 把全部数据发给下一块")),
    Row {
        name: "all-reduce-latency",
        group: Group::Collectives,
        unit: "us",
        more: false,
        quick: false,
        says: "an all-reduce of 8 bytes",
        says_zh: "8 字节的 all-reduce",
        method: "one after another, taken by events on the first GPU",
    },
    through_torch(
        "torch-tf32",
        Group::Torch,
        "TFLOP/s",
        ("TF32 products through torch", "经 torch 的 TF32 矩阵乘"),
        TORCH_PRODUCT,
    ),
    through_torch(
        "torch-bf16",
        Group::Torch,
        "TFLOP/s",
        ("BF16 products through torch", "经 torch 的 BF16 矩阵乘"),
        TORCH_PRODUCT,
    ),
    through_torch(
        "torch-fp8",
        Group::Torch,
        "TFLOP/s",
        ("FP8 products through torch", "经 torch 的 FP8 矩阵乘"),
        TORCH_PRODUCT,
    ),
    through_torch(
        "torch-attention",
        Group::Torch,
        "TFLOP/s",
        ("causal attention, BF16, forward", "因果注意力，BF16，前向"),
        ATTENTION,
    ),
    through_torch(
        "torch-attention-training",
        Group::Torch,
        "TFLOP/s",
        ("the same, forward and backward", "同上，前向加反向"),
        ATTENTION,
    ),
    through_torch(
        "torch-convolution",
        Group::Torch,
        "TFLOP/s",
        ("a 3x3 convolution by cuDNN, BF16, channels last", "cuDNN 的 3x3 卷积，BF16，通道在后"),
        "bursts with pauses, as products; checked against float64 on the host",
    ),
    through_torch(
        "train-fp32",
        Group::Training,
        "TFLOP/s",
        (
            "a transformer block in float32 without tensor cores",
            "Transformer 层，float32，不用张量核",
        ),
        BLOCK,
    ),
    through_torch(
        "train-tf32",
        Group::Training,
        "TFLOP/s",
        ("the same with TF32", "同上，TF32"),
        BLOCK,
    ),
    through_torch(
        "train-bf16",
        Group::Training,
        "TFLOP/s",
        ("the same with AMP (autocast to BF16)", "同上，AMP（autocast 到 BF16）"),
        BLOCK,
    ),
    through_torch(
        "train-fp8",
        Group::Training,
        "TFLOP/s",
        (
            "the same, linear layers in FP8 with one scale a tensor",
            "同上，线性层用 FP8，每个张量一个缩放系数",
        ),
        BLOCK,
    ),
    through_torch(
        "train-bf16-compiled",
        Group::Training,
        "TFLOP/s",
        ("AMP and torch.compile", "AMP 加 torch.compile"),
        BLOCK,
    ),
    through_torch(
        "train-bf16-graph",
        Group::Training,
        "TFLOP/s",
        ("AMP, the step as a CUDA graph", "AMP，整步作为一个 CUDA 图"),
        BLOCK,
    ),
    through_torch(
        "small-eager",
        Group::Small,
        "steps/s",
        ("a small model in plain training", "小模型，普通训练"),
        SMALL,
    ),
    through_torch(
        "small-compiled",
        Group::Small,
        "steps/s",
        ("the same with torch.compile", "同上，torch.compile"),
        SMALL,
    ),
    through_torch(
        "small-graph",
        Group::Small,
        "steps/s",
        ("the same, the whole step as a CUDA graph", "同上，整步作为一个 CUDA 图"),
        SMALL,
    ),
    through_torch(
        "loader",
        Group::Loader,
        "samples/s",
        (
            "images that a DataLoader inflates, crops, resizes and normalises",
            "DataLoader 解压、裁剪、缩放、归一化的图像",
        ),
        "batches of 64 images of 500x375 from memory, deflated as in PNG, to 224x224; the best number of workers, all of them are the curve",
    ),
    through_torch(
        "loader-passing",
        Group::Loader,
        "GB/s",
        ("what passes from workers through /dev/shm", "工作进程经 /dev/shm 传来的数据"),
        "batches of 64 MiB that cost nothing but their writing, four workers",
    ),
    Row {
        name: "burn",
        group: Group::Burn,
        unit: "TFLOP/s",
        more: true,
        quick: false,
        says: "BF16 on all GPUs at once for as long as `--burn` says, every result compared",
        says_zh: "所有 GPU 同时做 BF16 矩阵乘，时长由 `--burn` 决定，每个结果都比对",
        method: "two products of 8192x8192x8192 by turns into one place after another of nine tenths of the free memory, each compared with the first of its kind bit by bit on the GPU; comparing is part of the time",
    },
];
