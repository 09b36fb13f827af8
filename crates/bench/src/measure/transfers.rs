//! Copies between host and device, and between devices.

use std::cell::Cell;
use std::thread;
use std::time::Instant;

use rustix::thread::{CpuSet, sched_setaffinity};
use sconce_cuda::{Buffer, Context, Event, Pinned, Refusal, Stream};
use sconce_gpu::{Machine, affinity};

use super::clock::{Clock, Turn};
use super::random::Chance;
use super::{Bench, Effort, Fault, Order, figure, timed};
use crate::answer::Figure;

/// Bytes of a copy.
const BYTES: usize = 256 << 20;

pub(super) fn host(bench: &mut Bench) {
    const NAMES: &[&str] =
        &["host-to-device", "device-to-host", "host-both-ways", "host-to-device-pageable"];
    for (device, context) in bench.gpus.clone() {
        let gpu = [Bench::number(&device)];
        for name in NAMES {
            if bench.order.wants(name) {
                let begun = Instant::now();
                let found = from_nodes(name, &context, bench.order);
                bench.answer(name, &gpu, begun, found);
            }
        }
    }
}

/// A figure with the host's memory of each NUMA node: the best one, the others are the curve. Pages of pinned memory are
/// those of the node whose processor asks for them (set_mempolicy(2), the default policy).
fn from_nodes(name: &str, context: &Context, order: &Order) -> Result<Figure, Fault> {
    let nodes = affinity::nodes(&Machine::host());
    if nodes.len() < 2 || order.effort == Effort::Quick {
        return with_host(name, context, order);
    }
    let (mut best, mut curve): (Option<Figure>, Vec<(f64, f64)>) = (None, Vec::new());
    for (node, processors) in nodes {
        let found = thread::scope(|scope| {
            let on_node = || {
                let mut set = CpuSet::new();
                processors
                    .iter()
                    .filter(|one| **one < CpuSet::MAX_CPU)
                    .for_each(|one| set.set(*one));
                // A container may not use all of them.
                sched_setaffinity(None, &set).ok().map(|()| with_host(name, context, order))
            };
            scope.spawn(on_node).join().ok().flatten()
        });
        let Some(found) = found.transpose()? else { continue };
        curve.push((node as f64, found.value));
        if best.as_ref().is_none_or(|best| best.value < found.value) {
            let method = format!("{}, memory of node {node}", found.method);
            best = Some(Figure { method, ..found });
        }
    }
    match best {
        Some(best) => Ok(Figure { curve, ..best }),
        None => with_host(name, context, order),
    }
}

fn contents(order: &Order) -> Vec<u8> {
    let mut chance = Chance::new(order.seed);
    (0..BYTES / 8).flat_map(|_| chance.bits().to_le_bytes()).collect()
}

fn rate(bytes: usize) -> impl Fn(f64) -> f64 {
    move |seconds| bytes as f64 / seconds / 1e9
}

fn with_host(name: &str, context: &Context, order: &Order) -> Result<Figure, Fault> {
    let clock = Clock::new(context)?;
    let contents = contents(order);
    // The last timed copy goes to a place of its own, which was poisoned before.
    let (there, last) = (Buffer::new(context, BYTES)?, Buffer::new(context, BYTES)?);
    let mut pinned = Pinned::new(context, BYTES)?;
    let method = format!("{} MiB a copy", BYTES >> 20);
    let (seconds, repeats) = (order.seconds(), order.repeats());
    let wrong = |what: &str| Err(Fault::Wrong(format!("{what}: the copy is not what was copied")));
    match name {
        "host-to-device" => {
            pinned.write(&contents);
            let times = clock.repeat(seconds, repeats, &mut |stream, turn| match turn {
                Turn::Before => last.fill(stream, 0xff),
                Turn::One => pinned.send(&there, stream).map(drop),
                Turn::Last => pinned.send(&last, stream).map(drop),
            })?;
            if last.read::<u8>()? != contents {
                return wrong(name);
            }
            Ok(timed(name, &times, method, rate(BYTES)))
        }
        "device-to-host" => {
            there.write(&contents)?;
            let here = Pinned::new(context, BYTES)?;
            let times = clock.repeat(seconds, repeats, &mut |stream, turn| match turn {
                Turn::Before => {
                    last.fill(stream, 0xff)?;
                    here.receive(&last, stream).map(drop)
                }
                Turn::One => pinned.receive(&there, stream).map(drop),
                Turn::Last => here.receive(&there, stream).map(drop),
            })?;
            if here.read() != contents.as_slice() {
                return wrong(name);
            }
            Ok(timed(name, &times, method, rate(BYTES)))
        }
        "host-both-ways" => {
            let (back, other) = (Pinned::new(context, BYTES)?, Stream::new(context)?);
            let (here, now) = (Pinned::new(context, BYTES)?, Cell::new(Turn::One));
            let from = Buffer::of(context, &contents)?;
            pinned.write(&contents);
            let mut work = |out: Way| match (out, now.get()) {
                (Way::First(stream), Turn::Last) => pinned.send(&last, stream).map(drop),
                (Way::First(stream), _) => pinned.send(&there, stream).map(drop),
                (Way::Second(stream), Turn::Last) => here.receive(&from, stream).map(drop),
                (Way::Second(stream), _) => back.receive(&from, stream).map(drop),
            };
            let mut there_and_back = both(context, &other, &mut work)?;
            let times = clock.repeat(seconds, repeats, &mut |stream, turn| {
                now.set(turn);
                match turn {
                    Turn::Before => {
                        last.fill(stream, 0xff)?;
                        here.receive(&last, stream).map(drop)
                    }
                    Turn::One | Turn::Last => there_and_back(stream),
                }
            })?;
            drop(there_and_back);
            if last.read::<u8>()? != contents || here.read() != contents.as_slice() {
                return wrong(name);
            }
            Ok(timed(name, &times, method, rate(2 * BYTES)))
        }
        _ => {
            // Such a copy is made by the host and is done when the call returns.
            let mut times = Vec::new();
            for number in 0..=repeats {
                if number == repeats {
                    there.fill(&clock.stream, 0xff)?;
                    clock.stream.wait()?;
                }
                let begun = Instant::now();
                there.write(&contents)?;
                times.push(begun.elapsed().as_secs_f64());
            }
            times.remove(0);
            if there.read::<u8>()? != contents {
                return wrong(name);
            }
            let rates: Vec<f64> = times.into_iter().map(rate(BYTES)).collect();
            Ok(figure(name, &rates, true, method))
        }
    }
}

/// One of two ways at once.
enum Way<'a> {
    First(&'a Stream),
    Second(&'a Stream),
}

/// Work on two streams at once, as if it were on the first.
fn both<'a>(
    context: &Context,
    other: &'a Stream,
    work: &'a mut dyn FnMut(Way) -> Result<(), Refusal>,
) -> Result<impl FnMut(&Stream) -> Result<(), Refusal> + use<'a>, Refusal> {
    let (begun, done) = (Event::new(context)?, Event::new(other.context())?);
    Ok(move |stream: &Stream| {
        begun.record(stream)?;
        other.after(&begun)?;
        work(Way::First(stream))?;
        work(Way::Second(other))?;
        done.record(other)?;
        stream.after(&done)
    })
}

pub(super) fn peers(bench: &mut Bench) {
    let gpus = bench.gpus.clone();
    for (number, (from, from_context)) in gpus.iter().enumerate() {
        for (other, (to, to_context)) in gpus.iter().enumerate() {
            let pair = [Bench::number(from), Bench::number(to)];
            for name in ["peer", "peer-both-ways"] {
                let each_once = number < other || (name == "peer" && number != other);
                if !(each_once && bench.order.wants(name)) {
                    continue;
                }
                let begun = Instant::now();
                let direct = bench.cuda.reaches(to, from).map_err(Fault::from);
                let found = direct.and_then(|direct| {
                    between(name, from_context, to_context, direct, bench.order)
                });
                bench.answer(name, &pair, begun, found);
            }
        }
    }
}

fn between(
    name: &str,
    from: &Context,
    to: &Context,
    direct: bool,
    order: &Order,
) -> Result<Figure, Fault> {
    if direct {
        to.reach(from)?;
        from.reach(to)?;
    }
    let contents = contents(order);
    let (source, target) = (Buffer::of(from, &contents)?, Buffer::new(to, BYTES)?);
    // As with the host.
    let (last, now) = (Buffer::new(to, BYTES)?, Cell::new(Turn::One));
    let clock = Clock::new(to)?;
    let (seconds, repeats) = (order.seconds(), order.repeats());
    let way = if direct { "direct" } else { "through the host" };
    let method = format!("{} MiB a copy, {way}", BYTES >> 20);
    let mut bytes = BYTES;
    let times = if name == "peer" {
        clock.repeat(seconds, repeats, &mut |stream, turn| match turn {
            Turn::Before => last.fill(stream, 0xff),
            Turn::One => target.copy_from_peer(&source, stream).map(drop),
            Turn::Last => last.copy_from_peer(&source, stream).map(drop),
        })?
    } else {
        bytes = 2 * BYTES;
        let (back, other) = (Buffer::new(from, BYTES)?, Stream::new(from)?);
        let forth = Buffer::of(to, &contents)?;
        let back_last = Buffer::new(from, BYTES)?;
        let mut work = |out: Way| match (out, now.get()) {
            (Way::First(stream), Turn::Last) => last.copy_from_peer(&source, stream).map(drop),
            (Way::First(stream), _) => target.copy_from_peer(&source, stream).map(drop),
            (Way::Second(stream), Turn::Last) => back_last.copy_from_peer(&forth, stream).map(drop),
            (Way::Second(stream), _) => back.copy_from_peer(&forth, stream).map(drop),
        };
        let mut there_and_back = both(to, &other, &mut work)?;
        let times = clock.repeat(seconds, repeats, &mut |stream, turn| {
            now.set(turn);
            match turn {
                Turn::Before => {
                    back_last.fill(&other, 0xff)?;
                    other.wait()?;
                    last.fill(stream, 0xff)
                }
                Turn::One | Turn::Last => there_and_back(stream),
            }
        })?;
        drop(there_and_back);
        if back_last.read::<u8>()? != contents {
            return Err(Fault::Wrong("the copy back is not what was copied".to_owned()));
        }
        times
    };
    if last.read::<u8>()? != contents {
        return Err(Fault::Wrong("the copy is not what was copied".to_owned()));
    }
    Ok(timed(name, &times, method, rate(bytes)))
}
