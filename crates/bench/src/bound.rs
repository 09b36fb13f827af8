//! What a figure can't pass here: its row in the facts ([`sconce_facts::bound`]), worked out for this GPU. Of a product that is
//! known, nothing that the machine says of itself raises a bound.

use sconce_facts::{
    Bound, By, Capability, Gpu as Product, Said, bound, host_link, is_believed, pcie, rate,
};

use crate::answer::{Figure, Gpu};
use crate::contradiction::is_misnamed;
use crate::figures::figure;
use crate::sentence::Sentence;

/// What a figure can't pass.
pub(crate) struct Limit {
    /// In the figure's unit.
    value: f64,
    /// Whose limit it is: `its memory has`.
    whose: String,
}

/// Why a figure can't be what it says: its result is further off than is allowed, or it is beyond its bound.
pub fn impossible(gpus: &[Gpu], one: &Figure) -> Option<String> {
    if let Some((worst, allowed)) = one.error.filter(|(worst, allowed)| worst > allowed) {
        return Some(format!("its result is off by {worst:.1e}, and {allowed:.0e} is allowed"));
    }
    // Of a GPU that has two names nobody knows the bound.
    if is_misnamed(gpus, one) {
        return None;
    }
    let row = figure(&one.figure)?;
    let Limit { value: limit, whose } = limit(gpus, &at_its_best(gpus, one)).ok()?;
    // The curve of what has a bound is in the figure's own unit: of smaller copies, of other nodes.
    let curve = one.curve.iter().map(|(_, value)| *value);
    let numbers = [one.value, one.best].into_iter().chain(curve);
    let (than, found) = match row.more {
        true => ("more", numbers.reduce(f64::max)?),
        false => ("less", [one.value, one.best].into_iter().reduce(f64::min)?),
    };
    let beyond = if row.more { found > limit } else { found < limit };
    let (found, limit, unit) = (short(found), short(limit), row.unit);
    beyond.then(|| format!("{found} {unit} is {than} than {whose}: {limit}"))
}

/// The same figure over the best link that board, slot and product have: what NVML says of the link now makes no result wrong whose
/// contents were compared.
fn at_its_best(gpus: &[Gpu], one: &Figure) -> Figure {
    let mut one = one.clone();
    let gpu = one.gpus.first().and_then(|number| gpus.iter().find(|gpu| gpu.gpu == *number));
    let best = gpu.and_then(|gpu| gpu.board).and_then(|board| {
        Some((board.pcie_generation?.1, board.pcie_lanes.filter(|(now, most)| now <= most)?.1))
    });
    // Where the link is not known now, it is not known at all.
    if let (Some(gpu), Some(best)) = (gpu, best)
        && link(gpu, &one).is_some()
    {
        let seen = one.evidence.get_or_insert_default();
        (seen.pcie, seen.samples) = (Some(best), seen.samples.max(SAMPLES));
    }
    one
}

/// A figure that has passed more than the link that NVML says it had: one of the two is not true.
pub(crate) fn beyond_its_link(gpus: &[Gpu], one: &Figure) -> Option<Sentence> {
    let row = figure(&one.figure)?;
    let Limit { value, whose } = limit(gpus, one).ok()?;
    (row.more && one.value.max(one.best) > value).then(|| {
        let (found, value, unit) = (short(one.value), short(value), row.unit);
        Sentence::new(
            format!("{found} {unit} came with the right contents, and {whose} {value}, as NVML says its link is"),
            format!("测得 {found} {unit} 且内容正确，而 NVML 所说的链路最多 {value}"),
        )
    })
}

/// A number as people write it: whole ones from 100 up.
fn short(value: f64) -> String {
    match value {
        value if value >= 100.0 => format!("{value:.0}"),
        value if value >= 1.0 => format!("{value:.1}"),
        value => format!("{value:.3}"),
    }
}

/// The bound of a figure, or why there is none that is known.
pub(crate) fn limit(gpus: &[Gpu], one: &Figure) -> Result<Limit, Sentence> {
    let unknown = |en: &str, zh: &str| Sentence::new(en, zh);
    let row = bound(&one.figure).ok_or_else(|| {
        unknown("what it could be at most is not known", "不知道它最高可能是多少")
    })?;
    if row.by == By::Least {
        return Ok(Limit { value: row.times, whose: "anything of the kind takes".to_owned() });
    }
    let gpu = one.gpus.first().and_then(|number| gpus.iter().find(|gpu| gpu.gpu == *number));
    let gpu = gpu.ok_or_else(|| unknown("its GPU is not known", "不知道是哪块 GPU"))?;
    match row.by {
        By::Rate => by_rate(row, gpu, one),
        By::Memory => {
            let has = product(gpu).and_then(|product| product.memory_bandwidth_gb_s);
            let has = has.ok_or_else(|| {
                unknown("no data sheet of its memory is known", "没有已知的显存数据表")
            })?;
            Ok(Limit { value: has * row.times, whose: "its memory has".to_owned() })
        }
        By::HostLink => {
            let (has, link) = host(gpu, one)?;
            Ok(Limit { value: has * row.times, whose: format!("{link} carries") })
        }
        _ => by_peers(row, gpu, one),
    }
}

/// The product, if its name is known. An instance is `NVIDIA H100 80GB HBM3 MIG 1g.10gb`.
pub(crate) fn product(gpu: &Gpu) -> Option<&'static Product> {
    product_named(&gpu.name)
}

/// The same, by CUDA's name.
pub(crate) fn product_named(name: &str) -> Option<&'static Product> {
    sconce_facts::gpu(name.split(" MIG ").next().unwrap_or_default()).ok()
}

/// Operations, or bytes, of all multiprocessors in a second at a clock, in the unit of the figure that is named.
pub(crate) fn peak(gpu: &Gpu, name: &str, mhz: f64) -> Option<f64> {
    // What is known of a product stands above what the machine says of itself.
    let known = product(gpu);
    let capability = match known {
        Some(product) => product.capability,
        None => {
            let (major, minor) = gpu.capability;
            Capability { major: major.try_into().ok()?, minor: minor.try_into().ok()? }
        }
    };
    let each = f64::from(rate(capability, name)?);
    let count = gpu.sm_count.min(known.and_then(|product| product.sm_count).unwrap_or(u32::MAX));
    let a_second = each * f64::from(count) * mhz * 1e6;
    Some(a_second / if figure(name)?.unit == "GB/s" { 1e9 } else { 1e12 })
}

fn by_rate(row: &Bound, gpu: &Gpu, one: &Figure) -> Result<Limit, Sentence> {
    let product = product(gpu);
    let known = product.and_then(|product| product.sm_max_mhz);
    let clock = gpu.board.and_then(|board| board.sm_max_mhz);
    // One that can't be the product's raises no bound, and makes no result wrong.
    let clock = clock.map(|said| match known {
        Some(most) if !is_believed(Said::HighestSmClock, said.into(), product) => most,
        _ => said,
    });
    let clock = clock.map(f64::from).ok_or_else(|| {
        Sentence::new("NVML does not say its highest clock", "NVML 没有说明它的最高时钟")
    })?;
    at_clock(row, gpu, one, clock).ok_or_else(|| {
        Sentence::new(
            "what its multiprocessors can do in one clock is not known",
            "不知道它的多处理器每个时钟能做多少",
        )
    })
}

/// What the multiprocessors can do of a figure at a clock.
fn at_clock(row: &Bound, gpu: &Gpu, one: &Figure, clock: f64) -> Option<Limit> {
    let name = row.like.as_deref().unwrap_or(&one.figure);
    let peak = peak(gpu, name, clock)?;
    // Steps are counted, and their operations are in units of 10^12.
    let value = peak * row.times * row.operations.map_or(1.0, |operations| 1e12 / operations);
    Some(Limit { value, whose: format!("its multiprocessors can do at {clock:.0} MHz") })
}

/// A figure beyond what its multiprocessors can do at the highest clock that NVML saw while it was measured. NVML is asked
/// every 50 ms and a burst takes 10: one between two questions may have had a higher clock, by some steps of 15 MHz and never by
/// as much as is allowed here.
pub(crate) fn beyond_its_clock(gpu: &Gpu, one: &Figure) -> Option<Sentence> {
    const ALLOWED: f64 = 1.15;
    let row = bound(&one.figure).filter(|row| row.by == By::Rate)?;
    let seen = one.evidence.as_ref().filter(|seen| seen.samples >= SAMPLES)?;
    let (_, _, clock) = seen.sm_mhz?;
    let can = at_clock(row, gpu, one, clock)?.value;
    let unit = figure(&one.figure)?.unit;
    (one.value > can * ALLOWED).then(|| {
        let (value, can) = (short(one.value), short(can));
        Sentence::new(
            format!("{value} {unit} is beyond what its clock allows: NVML saw {clock:.0} MHz at most, at which it can do {can}"),
            format!("{value} {unit} 超出时钟所允许的：NVML 看到的时钟最高 {clock:.0} MHz，此时最多 {can}"),
        )
    })
}

/// What the link to the host carries one way, and its name.
fn host(gpu: &Gpu, one: &Figure) -> Result<(f64, String), Sentence> {
    let product = product(gpu);
    if let Some(has) = product.and_then(host_link) {
        return Ok((has, "NVLink to its host".to_owned()));
    }
    if product.is_some_and(|product| product.host.is_some()) {
        return Err(Sentence::new(
            "how it is connected with its host is not known",
            "不知道它与主机如何连接",
        ));
    }
    let unsaid = || Sentence::new("NVML does not say its PCIe link", "NVML 没有说明它的 PCIe 链路");
    let (generation, lanes) = link(gpu, one).ok_or_else(unsaid)?;
    let most = |of: fn(&Product) -> Option<u32>| product.and_then(of).unwrap_or(u32::MAX);
    let generation = generation.min(most(|product| product.pcie_generation));
    let lanes = lanes.min(most(|product| product.pcie_lanes));
    let has = pcie(generation, lanes).ok_or_else(|| {
        Sentence::new(
            format!("PCIe of generation {generation} is not known"),
            format!("不认识第 {generation} 代 PCIe"),
        )
    })?;
    Ok((has, format!("PCIe {generation} x{lanes}")))
}

/// Fewer samples may all have been taken before the GPU had work.
const SAMPLES: u32 = 3;

/// Generation and lanes of its PCIe link: while it was measured, if that was seen; else the best generation of board and
/// slot, as an idle GPU lowers it, and the lanes that there are.
pub(crate) fn link(gpu: &Gpu, one: &Figure) -> Option<(u32, u32)> {
    let board = gpu.board?;
    let (best, most) = (board.pcie_generation?.1, board.pcie_lanes?.1);
    let seen = one.evidence.as_ref().filter(|seen| seen.samples >= SAMPLES);
    let seen = seen.and_then(|seen| seen.pcie).or(Some((best, board.pcie_lanes?.0)));
    // What passes the best of board and slot, or is no width of PCIe, is no answer: a bound that rests on it would be none.
    seen.filter(|(generation, lanes)| {
        let width = is_believed(Said::PcieLanes, f64::from(*lanes), product(gpu));
        *generation <= best && *lanes <= most && width
    })
}

/// One way between two GPUs: NVLink, or PCIe if that is more.
fn by_peers(row: &Bound, gpu: &Gpu, one: &Figure) -> Result<Limit, Sentence> {
    let nvlink = product(gpu).and_then(|product| product.nvlink_gb_s).map(|both| both / 2.0);
    let pcie = host(gpu, one);
    let (has, link) = match (nvlink, pcie) {
        (Some(nvlink), Ok((has, link))) if has > nvlink => (has, link),
        (Some(nvlink), _) => (nvlink, "its NVLink".to_owned()),
        // No data sheet says that there is none.
        (None, _) => {
            return Err(Sentence::new(
                "whether it has NVLink is not known",
                "不知道它是否有 NVLink",
            ));
        }
    };
    let ranks = one.gpus.len().max(2) as f64;
    let grows = if row.ranks { (ranks - 1.0) / ranks } else { 1.0 };
    Ok(Limit { value: has * row.times * grows, whose: format!("{link} carries") })
}
