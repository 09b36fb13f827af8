//! Whether a product is right: held to the host, what was timed before all else.

use sconce_cuda::blas::{Algorithm, Precision, Product, Shape};

use super::{BF16, Matrices, Row};
use crate::measure::Fault;
use crate::measure::clock::Clock;
use crate::measure::every::{Computed, Every, Matrix};
use crate::measure::random::{Chance, Kind, Sum};

/// Sums that are computed again on the host.
const SAMPLES: u64 = 512;

/// What a timed group wrote: its last launch, and those before it, one over the other.
pub(super) struct Timed {
    pub(super) last: Vec<u8>,
    pub(super) before: Vec<u8>,
}

/// A product by one of its algorithms.
pub(in crate::measure) struct Done<'a> {
    pub(in crate::measure) product: &'a Product<'a>,
    pub(in crate::measure) shape: Shape,
    pub(in crate::measure) algorithm: &'a Algorithm,
}

/// As [`check`], of BF16.
pub(in crate::measure) fn check_bf16(
    done: &Done,
    matrices: &Matrices,
    clock: &Clock,
    seed: u64,
) -> Result<(f64, f64), Fault> {
    Ok((check(&BF16, done, matrices, clock, seed)?, BF16.error))
}

/// Computes it once more over poisoned memory, and holds it to the host: the worst error.
fn check(
    row: &Row,
    done: &Done,
    matrices: &Matrices,
    clock: &Clock,
    seed: u64,
) -> Result<f64, Fault> {
    matrices.d.fill(&clock.stream, 0xff)?;
    matrices.run(done.product, done.algorithm, &clock.stream)?;
    clock.stream.wait()?;
    held(row, done.shape, matrices, &matrices.d.read::<u8>()?, seed)
}

/// Holds what was timed to the host: the last launch, and what those before it left, which has the same bits where the library
/// keeps its promise, and is looked at number by number where it has not.
pub(super) fn check_timed(
    row: &Row,
    shape: Shape,
    matrices: &Matrices,
    timed: &Timed,
    seed: u64,
) -> Result<f64, Fault> {
    let worst =
        held(row, shape, matrices, &timed.last, seed).map_err(|fault| in_the(fault, "the last"))?;
    let bytes = (shape.m * shape.n) as usize * row.precision.output_bytes();
    let written = timed.before.get(..bytes);
    // A group of one launch has none before it.
    let none = written.is_some_and(|bytes| bytes.iter().all(|byte| *byte == 0xff));
    if none || written == timed.last.get(..bytes) {
        return Ok(worst);
    }
    let other = held(row, shape, matrices, &timed.before, seed)
        .map_err(|fault| in_the(fault, "one before the last"))?;
    Ok(worst.max(other))
}

/// Says of which timed launch something is wrong.
fn in_the(fault: Fault, which: &str) -> Fault {
    match fault {
        Fault::Wrong(what) => Fault::Wrong(format!("{what} (in {which} of the timed launches)")),
        other => other,
    }
}

fn held(row: &Row, shape: Shape, matrices: &Matrices, d: &[u8], seed: u64) -> Result<f64, Fault> {
    let kind = match row.precision {
        Precision::Fp8E4m3 | Precision::Fp8E5m2 => Kind::Bf16,
        Precision::Int8 => Kind::I32,
        other => Kind::of_a(other),
    };
    let computed = Computed {
        shape,
        a: matrices.a.matrix(),
        b: matrices.b.matrix(),
        c: Matrix { kind, bytes: d },
    };
    right(row.figure, &computed, (row.error, row.rounding), SAMPLES, seed)
}

/// Holds a product to the host: `samples` of its sums one by one, and every number by Freivalds' check. The worst error of the
/// sums, of which the first of `allowed` is allowed, beside the second as a share of the result.
pub(in crate::measure) fn right(
    name: &str,
    computed: &Computed,
    (error, rounding): (f64, f64),
    samples: u64,
    seed: u64,
) -> Result<f64, Fault> {
    let Computed { shape, a, b, c } = computed;
    let Shape { m, n, k } = *shape;
    let every = Every::of(*computed);
    if every.none > 0 {
        return Err(Fault::Wrong(format!(
            "{} of {} numbers of the result were not written or are none ({shape})",
            every.none,
            m * n,
        )));
    }
    let mut chance = Chance::new(!seed);
    let (mut worst, mut squares): (f64, f64) = (0.0, 0.0);
    for _ in 0..samples {
        let (i, j) = (chance.below(m), chance.below(n));
        let sum = Sum::of(a.values(i * k, k), b.values(j * k, k));
        let got = c.values(i + j * m, 1).next().unwrap_or(f64::NAN);
        let off = sum.off(got, rounding);
        if off > error {
            return Err(Fault::Wrong(format!(
                "{name} of {shape} is {got}, and {} on the host: off by {off:.1e} where {error:.0e} is allowed",
                sum.value
            )));
        }
        worst = worst.max(off);
        squares += sum.distance(got).powi(2);
    }
    // Sums that happen to be exact say nothing of the others: a hundredth of what is allowed is not too small.
    let usual = (squares / samples.max(1) as f64).sqrt().max(error / 100.0);
    match every.check(usual) {
        Ok(()) => Ok(worst),
        Err(off) => Err(Fault::Wrong(format!("{name} of {shape}: {off}"))),
    }
}
