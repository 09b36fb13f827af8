//! Collectives through NCCL.

use std::num::NonZero;
use std::thread;
use std::time::Instant;

use sconce_cuda::Refusal;
use sconce_cuda::nccl::{APART, Collective, Group};

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
    let group = Group::open(bench.order.places, &bench.gpus, most)
        .and_then(|group| fill(&group, most).map(|()| group));
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

/// Seconds of each of some groups of `count`, the last over poisoned memory, and what its last call left is right; taken by the
/// host's clock around all streams, as nccl-tests does.
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
    let (repeats, mut times) = (order.repeats(), Vec::new());
    for number in 1..=repeats {
        if number == repeats {
            group.poison()?;
        }
        times.push(group.repeat(what, bytes, count)?.as_secs_f64() / f64::from(count));
    }
    check(what, group, bytes)?;
    Ok(times)
}

/// What a rank sends at a place: 0 to 1023, so that every sum is exact; 1024 numbers further on it is another one (2^32 by the
/// golden ratio, as Knuth's multiplicative hashing has it).
fn value(rank: usize, index: usize) -> f32 {
    const GOLDEN: u32 = 2_654_435_761;
    let mixed =
        (index as u32).wrapping_mul(GOLDEN).wrapping_add((rank as u32).wrapping_mul(GOLDEN >> 3));
    (mixed >> 22) as f32
}

/// Gives each what it sends in all that is measured.
fn fill(group: &Group, bytes: usize) -> Result<(), Refusal> {
    (0..group.len()).try_for_each(|rank| {
        let values: Vec<f32> = (0..bytes / 4 + APART).map(|index| value(rank, index)).collect();
        group.set(rank, &values)
    })
}

/// Of what ranks a part of what one receives is the sum, and where it begins in what they send.
fn parts(what: Collective, rank: usize, ranks: usize, part: usize) -> Vec<(Vec<usize>, usize)> {
    let all = || (0..ranks).collect::<Vec<_>>();
    let each = |of: &dyn Fn(usize) -> (Vec<usize>, usize)| (0..ranks).map(of).collect();
    match what {
        Collective::AllReduce => each(&|number| (all(), number * part)),
        Collective::AllGather => each(&|number| (vec![number], 0)),
        Collective::ReduceScatter => vec![(all(), rank * part)],
        Collective::Broadcast => each(&|number| (vec![0], number * part)),
        Collective::AllToAll => each(&|number| (vec![number], rank * part)),
        Collective::SendReceive => {
            each(&|number| (vec![(rank + ranks - 1) % ranks], number * part))
        }
    }
}

/// Compares all that the last timed call has left, number by number: it sent other numbers than those before it.
fn check(what: Collective, group: &Group, bytes: usize) -> Result<(), Fault> {
    let ranks = group.len();
    let part = bytes / 4 / ranks;
    for rank in 0..ranks {
        let parts = parts(what, rank, ranks, part);
        let count = parts.len() * part;
        let got = group.received(rank, count)?;
        let wrong = count.saturating_sub(got.len()) + different(&got, &parts, part);
        if wrong > 0 {
            return Err(Fault::Wrong(format!(
                "{wrong} of {count} numbers that GPU {rank} got are wrong, in the last timed call of {bytes} bytes"
            )));
        }
    }
    Ok(())
}

/// How many of these numbers are not what they should be; by several threads, where there are many of them.
fn different(got: &[f32], parts: &[(Vec<usize>, usize)], part: usize) -> usize {
    const AT_ONCE: usize = 1 << 22;
    const MOST: usize = 16;
    let mut pieces = Vec::new();
    for (got, (of, begin)) in got.chunks(part.max(1)).zip(parts) {
        let begins = (begin + APART..).step_by(AT_ONCE);
        pieces.extend(got.chunks(AT_ONCE).zip(begins).map(|(piece, begin)| (piece, of, begin)));
    }
    let count = |(got, of, begin): &(&[f32], &Vec<usize>, usize)| {
        let wanted = |index: usize| of.iter().map(|rank| value(*rank, index)).sum::<f32>();
        got.iter().zip(*begin..).filter(|(got, index)| **got != wanted(*index)).count()
    };
    let threads = thread::available_parallelism().map_or(1, NonZero::get).min(MOST);
    if pieces.len() < 2 || threads < 2 {
        return pieces.iter().map(count).sum();
    }
    let (pieces, count) = (&pieces, &count);
    thread::scope(|scope| {
        let share = |first| {
            scope
                .spawn(move || pieces.iter().skip(first).step_by(threads).map(count).sum::<usize>())
        };
        let all: Vec<_> = (0..threads).map(share).collect();
        all.into_iter()
            .map(|one| one.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .sum()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is sent by the last call is nowhere what those before it sent, and nothing that one rank sends is another's.
    #[test]
    fn other_numbers_are_others_everywhere() {
        for rank in 0..8 {
            assert!((0..10_000).all(|at| value(rank, at) != value(rank, at + APART)), "{rank}");
            assert!((0..10_000).all(|at| value(rank, at) != value(rank + 1, at)), "{rank}");
        }
        assert!((0..10_000).all(|at| (0.0..1024.0).contains(&value(3, at))));
    }

    #[test]
    fn every_wrong_number_is_counted() {
        let parts = parts(Collective::AllReduce, 0, 2, 3 << 22);
        let mut got: Vec<f32> =
            (APART..(6 << 22) + APART).map(|at| value(0, at) + value(1, at)).collect();
        assert_eq!(different(&got, &parts, 3 << 22), 0);
        for at in [0, (3 << 22) - 1, 3 << 22, (6 << 22) - 1] {
            got[at] += 1.0;
        }
        assert_eq!(different(&got, &parts, 3 << 22), 4);
    }
}
