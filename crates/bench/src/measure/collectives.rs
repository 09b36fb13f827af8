//! Collectives through NCCL.

use std::time::Instant;

use sconce_cuda::nccl::{Collective, Group};

use super::{Bench, Effort, Fault, Order, figure};
use crate::answer::Figure;

const ALL: &[(&str, Collective)] = &[
    ("all-reduce", Collective::AllReduce),
    ("all-gather", Collective::AllGather),
    ("reduce-scatter", Collective::ReduceScatter),
    ("all-to-all", Collective::AllToAll),
    ("broadcast", Collective::Broadcast),
    ("send-receive", Collective::SendReceive),
];
const LATENCY: &str = "all-reduce-latency";
/// The largest size.
const MOST: usize = 1 << 30;

/// What turns bytes each second into the load of the links (nccl-tests, doc/PERFORMANCE.md).
fn factor(what: Collective, ranks: f64) -> f64 {
    match what {
        Collective::AllReduce => 2.0 * (ranks - 1.0) / ranks,
        Collective::AllGather | Collective::ReduceScatter | Collective::AllToAll => {
            (ranks - 1.0) / ranks
        }
        Collective::Broadcast | Collective::SendReceive => 1.0,
    }
}

pub(super) fn measure(bench: &mut Bench) {
    let gpus: Vec<u32> = bench.gpus.iter().map(|(device, _)| Bench::number(device)).collect();
    let names = ALL.iter().map(|(name, _)| *name).chain([LATENCY]);
    let wanted: Vec<&str> = names.filter(|name| bench.order.wants(name)).collect();
    if gpus.len() < 2 || wanted.is_empty() {
        return;
    }
    let room = bench.gpus.iter().map(|(_, context)| context.memory().map_or(0, |(free, _)| free));
    let most = MOST.min(room.min().unwrap_or(0) as usize / 4);
    let group = Group::open(bench.order.places, &bench.gpus, most);
    for name in wanted {
        let begun = Instant::now();
        let found = group.as_ref().map_err(|refusal| Fault::Refused(refusal.clone()));
        let found = found.and_then(|group| one(name, group, most, bench.order));
        bench.answer(name, &gpus, begun, found);
    }
}

fn one(name: &str, group: &Group, most: usize, order: &Order) -> Result<Figure, Fault> {
    let version = group.version()?;
    if name == LATENCY {
        let times = time(group, Collective::AllReduce, 8 * group.len(), order, 100)?;
        let values: Vec<f64> = times.iter().map(|seconds| seconds * 1e6).collect();
        return Ok(figure(name, &values, false, format!("NCCL {version}, 8 bytes")));
    }
    let what =
        ALL.iter().find(|(known, _)| *known == name).map_or(Collective::AllReduce, |one| one.1);
    check(what, group)?;
    let ranks = group.len() as f64;
    let sizes: Vec<usize> = match order.effort {
        Effort::Quick => vec![most],
        _ => (0..)
            .map(|step| (8 << 10) << (2 * step))
            .take_while(|size| *size < most)
            .chain([most])
            .collect(),
    };
    let mut curve = Vec::new();
    let mut last = Vec::new();
    for size in sizes {
        let count = match size >> 20 {
            0..16 => 50,
            16..256 => 20,
            _ => 5,
        };
        let times = time(group, what, size, order, count)?;
        let rate = |seconds: &f64| size as f64 / seconds / 1e9 * factor(what, ranks);
        last = times.iter().map(rate).collect();
        curve.push((size as f64, super::clock::median(&last)));
    }
    let method = format!("NCCL {version}, {} MiB over {} GPUs, busbw", most >> 20, group.len());
    let mut figure = figure(name, &last, true, method);
    figure.curve = curve;
    Ok(figure)
}

/// Seconds of each of some groups of `count`; taken by the host's clock around all streams, as nccl-tests does.
fn time(
    group: &Group,
    what: Collective,
    bytes: usize,
    order: &Order,
    count: u32,
) -> Result<Vec<f64>, Fault> {
    for _ in 0..3 {
        group.run(what, bytes)?;
    }
    group.wait()?;
    let once = || Ok(group.repeat(what, bytes, count)?.as_secs_f64() / f64::from(count));
    (0..order.repeats()).map(|_| once()).collect()
}

/// Does it once with numbers of which each result is exact, and compares all of them.
fn check(what: Collective, group: &Group) -> Result<(), Fault> {
    const BYTES: usize = 4 << 20;
    let ranks = group.len();
    let part = BYTES / 4 / ranks;
    let value = |rank: usize, index: usize| ((index * 7 + rank * 13) % 1000) as f32;
    for rank in 0..ranks {
        let values: Vec<f32> = (0..part * ranks).map(|index| value(rank, index)).collect();
        group.set(rank, &values)?;
    }
    group.run(what, BYTES)?;
    group.wait()?;
    let sum = |index: usize| (0..ranks).map(|rank| value(rank, index)).sum::<f32>();
    for rank in 0..ranks {
        let got = group.received(rank)?;
        let (count, wanted): (usize, Box<dyn Fn(usize) -> f32>) = match what {
            Collective::AllReduce => (part * ranks, Box::new(sum)),
            Collective::AllGather => {
                (part * ranks, Box::new(|index| value(index / part, index % part)))
            }
            Collective::ReduceScatter => (part, Box::new(move |index| sum(rank * part + index))),
            Collective::Broadcast => (part * ranks, Box::new(|index| value(0, index))),
            Collective::AllToAll => (
                part * ranks,
                Box::new(move |index| value(index / part, rank * part + index % part)),
            ),
            Collective::SendReceive => {
                (part * ranks, Box::new(move |index| value((rank + ranks - 1) % ranks, index)))
            }
        };
        let wrong = (0..count).filter(|index| got.get(*index) != Some(&wanted(*index))).count();
        if wrong > 0 {
            return Err(Fault::Wrong(format!(
                "{wrong} of {count} numbers that GPU {rank} got are wrong"
            )));
        }
    }
    Ok(())
}
