//! Products with a sparse matrix through cuSPARSELt.

use std::time::Instant;

use sconce_cuda::blas::{Precision, Shape};
use sconce_cuda::sparse::SparseProduct;
use sconce_cuda::{Buffer, Context};

use super::clock::{Clock, Turn};
use super::every::Computed;
use super::products::right;
use super::random::{Chance, Kind, Pool};
use super::{Bench, Effort, Fault, Order, timed};
use crate::answer::Figure;

const SHAPES: &[Shape] = &[
    Shape { m: 8192, n: 8192, k: 8192 },
    Shape { m: 16384, n: 8192, k: 8192 },
    Shape { m: 8192, n: 8192, k: 16384 },
];

pub(super) fn measure(bench: &mut Bench) {
    const NAME: &str = "bf16-sparse";
    for (device, context) in bench.gpus.clone() {
        // 2:4 sparsity came with Ampere.
        if device.capability < (8, 0) || !bench.order.wants(NAME) {
            continue;
        }
        let mut begun = Instant::now();
        let mut best: Result<Figure, Fault> = Err(Fault::Wrong(String::new()));
        let most = if bench.order.effort == Effort::Quick { 1 } else { SHAPES.len() };
        for shape in SHAPES.iter().take(most) {
            let start = Instant::now();
            let found = one(*shape, &context, bench.order);
            let better = match (&best, &found) {
                (Ok(best), Ok(found)) => found.value > best.value,
                (Ok(_), Err(fault)) => matches!(fault, Fault::Wrong(_)),
                // What a call broke is said by that call, and not by the next one.
                (Err(Fault::Refused(_)), Err(Fault::Refused(_))) => false,
                (Err(_), _) => true,
            };
            if better {
                (best, begun) = (found, start);
            }
            if matches!(best, Err(Fault::Wrong(_))) {
                break;
            }
        }
        bench.answer(NAME, &[Bench::number(&device)], begun, best);
    }
}

fn one(shape: Shape, context: &Context, order: &Order) -> Result<Figure, Fault> {
    /// As in the dense product.
    const ERROR: f64 = 1e-3;
    const ROUNDING: f64 = 8e-3;
    let Shape { m, n, k } = shape;
    let mut chance = Chance::new(order.seed);
    let kind = Kind::of_a(Precision::Bf16);
    let a = Pool::new(kind, (m * k) as usize, &mut chance);
    let b = Pool::new(kind, (n * k) as usize, &mut chance);
    let (there_a, there_b) = (Buffer::of(context, a.bytes())?, Buffer::of(context, b.bytes())?);
    // The last launch of the last burst is of another matrix: what those before it wrote is then wrong.
    let first = Buffer::of(context, b.bytes())?;
    let b = Pool::new(kind, (n * k) as usize, &mut chance);
    let other = Buffer::of(context, b.bytes())?;
    let d = Buffer::new(context, (m * n) as usize * kind.size())?;
    let clock = Clock::new(context)?;
    let (places, stream) = (order.places, &clock.stream);
    let product = SparseProduct::new(places, context, shape, (&there_a, &there_b, &d), stream)?;
    // All launches read and write the same places: with others than those of the search, the library's kernels touched memory that
    // is none (cuSPARSELt of torch 2.11.0, one H200). So the other matrix comes to the place of the first, which costs the last burst
    // less than a hundredth.
    let mut last = false;
    let times = order.bursts(&clock, &mut |stream, turn| match turn {
        Turn::Before => {
            last = true;
            there_b.copy_from(&first, stream)?;
            d.fill(stream, 0xff)
        }
        Turn::One => product.run(&there_b, &d, stream),
        Turn::Last => {
            if last {
                there_b.copy_from(&other, stream)?;
            }
            product.run(&there_b, &d, stream)
        }
    })?;

    let pruned = Pool::read(kind, there_a.read()?);
    let zeros = pruned.values(0, (m * k) as usize).filter(|value| *value == 0.0).count() as u64;
    if zeros < m * k / 2 {
        let what = format!("the library pruned {zeros} of {} numbers, fewer than half", m * k);
        return Err(Fault::Wrong(what));
    }
    // What the last launch of the last timed burst wrote.
    let result = Pool::read(kind, d.read()?);
    let computed = Computed { shape, a: pruned.matrix(), b: b.matrix(), c: result.matrix() };
    let worst = right("bf16-sparse", &computed, (ERROR, ROUNDING), 256, order.seed)?;
    let version = product.version();
    let method = format!("{shape} (m x n x k), cuSPARSELt {version}");
    let rate = |seconds| shape.operations() / seconds / 1e12;
    let mut figure = timed("bf16-sparse", &times, method, rate);
    figure.error = Some((worst, ERROR));
    Ok(figure)
}
