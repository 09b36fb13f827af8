//! The figures, a row each.

/// Which program measures a figure: each group is a process of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Group {
    /// Products of matrices.
    Products,
    /// Products with a matrix that is sparse, two of every four numbers zero.
    Sparse,
    /// Memory of the device.
    Memory,
    /// Between host and device.
    Host,
    /// Between devices.
    Peers,
    /// NCCL.
    Collectives,
    /// How long starting something takes.
    Latency,
}

/// All groups, in the order in which they are measured.
pub const GROUPS: &[(Group, &str)] = &[
    (Group::Latency, "latency"),
    (Group::Host, "host"),
    (Group::Memory, "memory"),
    (Group::Products, "products"),
    (Group::Sparse, "sparse"),
    (Group::Peers, "peers"),
    (Group::Collectives, "collectives"),
];

impl Group {
    /// Its name.
    pub fn name(self) -> &'static str {
        GROUPS.iter().find(|(group, _)| *group == self).map_or("", |(_, name)| name)
    }
}

/// A figure.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// As `--only` and the documents have it.
    pub name: &'static str,
    /// Who measures it.
    pub group: Group,
    /// Its unit.
    pub unit: &'static str,
    /// More is better; else less.
    pub more: bool,
    /// It is among those of `--quick`.
    pub quick: bool,
    /// What it says.
    pub says: &'static str,
    /// How it is measured.
    pub method: &'static str,
}

const PRODUCT: &str = "cublasLtMatmul on random numbers between -1 and 1; the best of the shapes and of the algorithms that the heuristics offer, then the median of bursts of 10 ms with pauses between them, before a power limit acts; checked against float64 on the host";

const fn product(name: &'static str, unit: &'static str, quick: bool, says: &'static str) -> Row {
    Row { name, group: Group::Products, unit, more: true, quick, says, method: PRODUCT }
}

const fn memory(name: &'static str, quick: bool, says: &'static str, method: &'static str) -> Row {
    Row { name, group: Group::Memory, unit: "GB/s", more: true, quick, says, method }
}

const fn transfer(name: &'static str, group: Group, quick: bool, says: &'static str) -> Row {
    let method = "copies of 256 MiB one after another, taken by events; the contents are compared";
    Row { name, group, unit: "GB/s", more: true, quick, says, method }
}

const fn collective(name: &'static str, says: &'static str) -> Row {
    let method = "one process for all GPUs, float32, sizes from 8 KiB to 1 GiB; busbw as nccl-tests defines it, of the largest size; the rest is the curve";
    Row { name, group: Group::Collectives, unit: "GB/s", more: true, quick: false, says, method }
}

const fn latency(name: &'static str, quick: bool, says: &'static str, method: &'static str) -> Row {
    Row { name, group: Group::Latency, unit: "us", more: false, quick, says, method }
}

/// All figures.
pub const FIGURES: &[Row] = &[
    latency(
        "launch",
        true,
        "what one kernel launch costs the processor",
        "an empty kernel, 500 launches in a row without waiting, by the host's clock",
    ),
    latency(
        "launch-wait",
        false,
        "from a launch to knowing that it is done",
        "an empty kernel and cuStreamSynchronize, by the host's clock",
    ),
    latency(
        "graph-kernel",
        true,
        "what one kernel of a CUDA graph costs: beside `launch`, the gain of graphs",
        "a graph of 500 empty kernels in a row, launched and waited for, by the host's clock",
    ),
    latency(
        "allocate",
        false,
        "cuMemAlloc and cuMemFree of 256 MiB",
        "one after another, by the host's clock",
    ),
    transfer("host-to-device", Group::Host, true, "from pinned memory to the GPU"),
    transfer("device-to-host", Group::Host, true, "from the GPU to pinned memory"),
    transfer("host-both-ways", Group::Host, false, "both at once, added up"),
    transfer("host-to-device-pageable", Group::Host, false, "from ordinary memory to the GPU"),
    memory(
        "memory-read",
        true,
        "reading device memory",
        "a kernel that adds up 1 GiB of 32-bit numbers, 16 bytes a load; the sum is compared",
    ),
    memory(
        "memory-write",
        false,
        "writing device memory",
        "a kernel that writes 1 GiB, 16 bytes a store; the contents are compared",
    ),
    memory(
        "memory-copy",
        true,
        "copying within device memory, bytes read and written added up",
        "the faster of a kernel and of cuMemcpyDtoD, 1 GiB; the contents are compared",
    ),
    memory(
        "memory-triad",
        false,
        "a = b + s * c, bytes read and written added up (STREAM)",
        "a kernel over three arrays of float32; the contents are compared",
    ),
    memory(
        "l2-read",
        false,
        "reading what the second-level cache holds",
        "a kernel that reads a quarter of the cache's size again and again",
    ),
    product(
        "fp64",
        "TFLOP/s",
        false,
        "64-bit floating point (with tensor cores where the GPU has them for it)",
    ),
    product("fp32", "TFLOP/s", false, "32-bit floating point without tensor cores"),
    product("tf32", "TFLOP/s", true, "32-bit numbers through tensor cores"),
    product("fp16", "TFLOP/s", false, "16-bit floating point, added up in 32"),
    product("bf16", "TFLOP/s", true, "BF16, added up in 32"),
    product("fp8", "TFLOP/s", true, "8-bit floating point (e4m3), fast accumulation, to BF16"),
    product(
        "fp8-e5m2",
        "TFLOP/s",
        false,
        "8-bit floating point, e5m2 by e4m3 as for gradients, to BF16",
    ),
    product("int8", "TOP/s", false, "8-bit whole numbers to 32-bit ones"),
    Row {
        name: "bf16-sustained",
        group: Group::Products,
        unit: "TFLOP/s",
        more: true,
        quick: false,
        says: "BF16 without a pause: what power and cooling allow",
        method: "the best shape and algorithm of `bf16`, without a pause; the median of the second half",
    },
    Row {
        name: "bf16-sparse",
        group: Group::Sparse,
        unit: "TFLOP/s",
        more: true,
        quick: false,
        says: "BF16 with 2:4 sparsity, counted as if it were dense",
        method: "cusparseLtMatmul, the first matrix pruned by the library, algorithm by its own search; bursts as for dense products; checked against float64 on the host",
    },
    transfer("peer", Group::Peers, true, "from one GPU to another"),
    transfer("peer-both-ways", Group::Peers, false, "both at once, added up"),
    collective("all-reduce", "everyone gets the sum of all"),
    collective("all-gather", "everyone gets what each has"),
    collective("reduce-scatter", "everyone gets its part of the sum"),
    collective("all-to-all", "everyone sends a part to each"),
    collective("broadcast", "everyone gets what the first has"),
    collective("send-receive", "everyone sends all to the next"),
    Row {
        name: "all-reduce-latency",
        group: Group::Collectives,
        unit: "us",
        more: false,
        quick: false,
        says: "an all-reduce of 8 bytes",
        method: "one after another, taken by events on the first GPU",
    },
];

/// The figure of that name.
pub fn figure(name: &str) -> Option<&'static Row> {
    FIGURES.iter().find(|row| row.name == name)
}
