//! What a machine says of a GPU that its product can't be: what a bound would rest on is then not known.

use sconce_facts::{By, Gpu as Product, Said, bound, is_believed};

use crate::answer::{Figure, Gpu};
use crate::bound::{beyond_its_clock, beyond_its_link, product, product_named};
use crate::sentence::Sentence;

/// What is said of a GPU of this figure that contradicts its product, where the figure's bound depends on it.
pub(crate) fn contradiction(gpus: &[Gpu], one: &Figure) -> Option<Sentence> {
    let by = bound(&one.figure).map(|row| row.by);
    let its = gpus.iter().filter(|gpu| one.gpus.contains(&gpu.gpu));
    let mut its = its.map(|gpu| (gpu, product(gpu)));
    its.find_map(|(gpu, product)| {
        let other = || match by {
            Some(By::Rate) => {
                product.and_then(|it| clock(gpu, it)).or_else(|| beyond_its_clock(gpu, one))
            }
            Some(By::HostLink | By::PeerLink) => {
                product.and_then(|it| link(gpu, it)).or_else(|| beyond_its_link(gpus, one))
            }
            _ => None,
        };
        identity(gpus, gpu).or_else(|| shape(gpu, product?)).or_else(other)
    })
}

/// An instance of MIG. Instances of one board are one GPU for NVML.
fn is_instance(gpu: &Gpu) -> bool {
    gpu.mig == Some(true) || gpu.name.contains(" MIG ")
}

/// NVML calls a GPU of this figure something else than CUDA does.
pub(crate) fn is_misnamed(gpus: &[Gpu], one: &Figure) -> bool {
    let mut its = gpus.iter().filter(|gpu| one.gpus.contains(&gpu.gpu));
    its.any(|gpu| gpu.nvml_name.as_deref().is_some_and(|nvml| !is(nvml, &gpu.name)))
}

/// It is another GPU than CUDA says, whatever its product has.
fn identity(gpus: &[Gpu], gpu: &Gpu) -> Option<Sentence> {
    let (number, cuda) = (gpu.gpu, &gpu.name);
    let instance = is_instance(gpu);
    if let Some(nvml) = gpu.nvml_name.as_deref().filter(|nvml| !is(nvml, cuda)) {
        return Some(Sentence::new(
            format!("CUDA says that GPU {number} is {cuda}, and NVML says that it is {nvml}"),
            format!("CUDA 说 GPU {number} 是 {cuda}，而 NVML 说它是 {nvml}"),
        ));
    }
    if let Some(other) = gpu.twin.filter(|_| !instance) {
        return Some(Sentence::new(
            format!("GPU {number} and GPU {other} have one UUID, as if they were one"),
            format!("GPU {number} 与 GPU {other} 的 UUID 相同，如同一块"),
        ));
    }
    // An instance has a UUID of its own.
    if let Some((cuda, nvml)) = gpu.uuid.as_deref().zip(gpu.nvml_uuid.as_deref())
        && !instance
        && !cuda.eq_ignore_ascii_case(nvml)
    {
        return Some(Sentence::new(
            format!(
                "CUDA's UUID of GPU {number} is {cuda}, and NVML's of the GPU at its place on the bus is {nvml}"
            ),
            format!(
                "CUDA 说 GPU {number} 的 UUID 是 {cuda}，而 NVML 说总线同一位置的 GPU 是 {nvml}"
            ),
        ));
    }
    let there = |other: &&Gpu| other.gpu != number && other.bus_id == gpu.bus_id;
    if let Some(other) = gpus.iter().find(there)
        && let Some(bus) = gpu.bus_id.as_deref().filter(|_| !instance)
    {
        let other = other.gpu;
        return Some(Sentence::new(
            format!("GPU {number} and GPU {other} are at one place on the bus, {bus}"),
            format!("GPU {number} 与 GPU {other} 在总线的同一位置 {bus}"),
        ));
    }
    None
}

/// It has what its product can't have.
fn shape(gpu: &Gpu, product: &Product) -> Option<Sentence> {
    let (name, instance) = (&product.name, is_instance(gpu));
    let (major, minor) = gpu.capability;
    if (major, minor) != (product.capability.major.into(), product.capability.minor.into()) {
        let has = product.capability;
        return Some(Sentence::new(
            format!("CUDA says that its capability is {major}.{minor}, and {name} has {has}"),
            format!("CUDA 说它的计算能力是 {major}.{minor}，而 {name} 是 {has}"),
        ));
    }
    if let Some(whole) = product.sm_count.filter(|whole| gpu.sm_count > *whole) {
        let count = gpu.sm_count;
        return Some(Sentence::new(
            format!("CUDA says that it has {count} multiprocessors, and {name} has {whole}"),
            format!("CUDA 说它有 {count} 个多处理器，而 {name} 有 {whole} 个"),
        ));
    }
    let (has, gb) = (product.memory_gb?, gpu.memory_bytes as f64 / 1e9);
    // An instance has a part of it.
    let fits = is_believed(Said::Memory, gb, Some(product)) || instance && gb < has;
    (!fits).then(|| {
        let gib = gpu.memory_bytes >> 30;
        Sentence::new(
            format!("CUDA says that it has {gib} GiB of memory, and {name} has {has} GB"),
            format!("CUDA 说它有 {gib} GiB 显存，而 {name} 有 {has} GB"),
        )
    })
}

/// Two names are of one product; an instance's has its profile behind it. Of one that nobody knows they are the same, but for the
/// vendor's name, which older drivers leave out.
fn is(nvml: &str, cuda: &str) -> bool {
    let plain = |name: &str| {
        let board = name.split(" MIG ").next().unwrap_or_default().to_lowercase();
        board.trim().trim_start_matches("nvidia ").to_owned()
    };
    match (product_named(nvml), product_named(cuda)) {
        (Some(nvml), Some(cuda)) => nvml.name == cuda.name,
        (None, None) => plain(nvml) == plain(cuda),
        _ => false,
    }
}

fn clock(gpu: &Gpu, product: &Product) -> Option<Sentence> {
    let (said, has) = (gpu.board?.sm_max_mhz?, product.sm_max_mhz?);
    let name = &product.name;
    (!is_believed(Said::HighestSmClock, said.into(), Some(product))).then(|| {
        Sentence::new(
            format!("NVML says that its highest clock is {said} MHz, and {name} has {has} MHz"),
            format!("NVML 说它的最高时钟是 {said} MHz，而 {name} 是 {has} MHz"),
        )
    })
}

fn link(gpu: &Gpu, product: &Product) -> Option<Sentence> {
    let board = gpu.board?;
    let name = &product.name;
    let lanes = board.pcie_lanes.map(|(now, most)| now.max(most)).zip(product.pcie_lanes);
    if let Some((said, has)) = lanes.filter(|(said, has)| said > has) {
        return Some(Sentence::new(
            format!("NVML says that its PCIe link has {said} lanes, and {name} has {has}"),
            format!("NVML 说它的 PCIe 链路有 {said} 条通道，而 {name} 有 {has} 条"),
        ));
    }
    let best = board.pcie_generation.map(|(now, best)| now.max(best));
    let (said, has) = best.zip(product.pcie_generation).filter(|(said, has)| said > has)?;
    Some(Sentence::new(
        format!("NVML says that its PCIe link is of generation {said}, and {name} has {has}"),
        format!("NVML 说它的 PCIe 链路是第 {said} 代，而 {name} 是第 {has} 代"),
    ))
}
