//! Whether every number of a product is right, without computing it again: Freivalds' check (R. Freivalds, Probabilistic
//! machines can use less running time, IFIP Congress 1977).
//!
//! C·r is held to A·(B·r) in float64, for a vector r of random signs that is drawn when C is there already. The columns are
//! taken in blocks, each a vector of its own: what one wrong number adds is weighed against the rounding of a block, and not of
//! a whole row.
//!
//! What is allowed: of the numbers c in a row of a block each has an error e that was there before r was drawn. Their sum with
//! random signs is beyond z times the root of their summed squares with a probability below 2 exp(-z² / 2), whatever the errors
//! are (W. Hoeffding, Probability inequalities for sums of bounded random variables, 1963). How large the errors usually are,
//! the sums that were computed again have shown, in units of the root of the summed squares of a number's products, which is
//! known of each row exactly. So the rounding of the output, of the accumulator and of the inputs is in it as the GPU has it.

pub(super) mod images;

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::ops::Range;
use std::thread;

use sconce_cuda::blas::Shape;

use super::random::{Chance, Kind, Reading};

/// Columns of a block: one wrong number must stand out from the rounding of so many.
const BLOCK: usize = 1024;
/// The z of what is allowed: a row whose errors are half as large again as usual is over it once in 10^9.
const TIMES: f64 = 10.0;
/// Threads at most.
const THREADS: usize = 32;

/// Numbers as a matrix holds them.
#[derive(Clone, Copy)]
pub(super) struct Matrix<'a> {
    pub(super) kind: Kind,
    pub(super) bytes: &'a [u8],
}

impl<'a> Matrix<'a> {
    /// The numbers from `first` on, as many as `count`.
    pub(super) fn values(self, first: u64, count: u64) -> impl Iterator<Item = f64> + 'a {
        let size = self.kind.size() as u64;
        let range = (first * size) as usize..((first + count) * size) as usize;
        let bytes = self.bytes.get(range).unwrap_or_default();
        bytes.chunks_exact(self.kind.size()).map(move |bytes| self.kind.value(bytes))
    }
}

/// A product that was computed: A and B by rows of k, C by columns of m.
#[derive(Clone, Copy)]
pub(super) struct Computed<'a> {
    pub(super) shape: Shape,
    pub(super) a: Matrix<'a>,
    pub(super) b: Matrix<'a>,
    pub(super) c: Matrix<'a>,
}

/// The numbers of C, added up with random signs.
pub(super) struct Every<'a> {
    of: Computed<'a>,
    signs: Vec<f64>,
    /// Of each block a sum for each row.
    sums: Vec<Vec<f64>>,
    /// How many are no numbers.
    pub(super) none: u64,
}

/// Sums that are off.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Off {
    row: usize,
    columns: Range<usize>,
    by: f64,
    allowed: f64,
    sums: usize,
    of: usize,
}

impl std::fmt::Display for Off {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { row, columns, by, allowed, sums, of } = self;
        let (first, last) = (columns.start, columns.end.saturating_sub(1));
        write!(
            f,
            "row {row}, columns {first} to {last}, added up with random signs, is off by {by:.1e} where {allowed:.1e} is allowed ({sums} of {of} such sums are off)"
        )
    }
}

impl<'a> Every<'a> {
    /// Draws the signs, which nobody could know when C was computed, and adds up.
    pub(super) fn of(of: Computed<'a>) -> Self {
        let Shape { m, n, .. } = of.shape;
        let (m, n) = (m as usize, n as usize);
        // From the keys that the system gave this process, and not from the seed that can be repeated.
        let mut chance = Chance::new(RandomState::new().build_hasher().finish());
        let signs: Vec<f64> =
            (0..n).map(|_| if chance.bits() >> 63 == 0 { 1.0 } else { -1.0 }).collect();
        let reading = Reading::of(of.c.kind);
        let sums = each(blocks(n), |columns| {
            let (mut sums, mut column, mut none) = (vec![0.0; m], vec![0.0; m], 0u64);
            for j in columns {
                reading.read(of.c.bytes, j * m, &mut column);
                for (sum, number) in sums.iter_mut().zip(&column) {
                    *sum += signs[j] * number;
                    none += u64::from(number.is_nan());
                }
            }
            (sums, none)
        });
        let none = sums.iter().map(|(_, none)| none).sum();
        let sums = sums.into_iter().map(|(sums, _)| sums).collect();
        Self { of, signs, sums, none }
    }

    /// Holds the sums to those of A and B. `usual` is how far a number is off, root mean square, in units of the root of the
    /// summed squares of its products.
    pub(super) fn check(&self, usual: f64) -> Result<(), Off> {
        let Shape { m, n, k } = self.of.shape;
        let (m, n, k) = (m as usize, n as usize, k as usize);
        let reading = Reading::of(self.of.b.kind);
        // B·r of each block, and the squares that a column of B's numbers adds up to.
        let vectors = each(blocks(n), |columns| {
            let (mut vector, mut squares, mut row) = (vec![0.0; k], vec![0.0; k], vec![0.0; k]);
            for j in columns {
                reading.read(self.of.b.bytes, j * k, &mut row);
                for ((sum, square), number) in vector.iter_mut().zip(&mut squares).zip(&row) {
                    *sum += self.signs[j] * number;
                    *square += number * number;
                }
            }
            (vector, squares)
        });
        let reading = Reading::of(self.of.a.kind);
        let columns = blocks(n);
        let parts: Vec<Range<usize>> =
            (0..m).step_by(64).map(|first| first..(first + 64).min(m)).collect();
        let squares = vectors.iter().fold(vec![0.0; k], |mut all, (_, squares)| {
            all.iter_mut().zip(squares).for_each(|(all, square)| *all += square);
            all
        });
        let off = each(parts, |rows| {
            let (mut numbers, mut squared) = (vec![0.0; k], vec![0.0; k]);
            let mut off = Vec::new();
            for row in rows {
                reading.read(self.of.a.bytes, row * k, &mut numbers);
                squared.iter_mut().zip(&numbers).for_each(|(to, number)| *to = number * number);
                let scale = dot(&squared, &squares);
                for ((columns, (vector, _)), sums) in columns.iter().zip(&vectors).zip(&self.sums) {
                    let share = columns.len() as f64 / n as f64;
                    let allowed = TIMES * usual * (scale * share).sqrt();
                    let by = (sums[row] - dot(&numbers, vector)).abs();
                    // What is no number is off as well.
                    if by.is_nan() || by > allowed {
                        off.push((row, columns.clone(), by, allowed));
                    }
                }
            }
            off
        });
        let off: Vec<_> = off.into_iter().flatten().collect();
        match off.first().cloned() {
            None => Ok(()),
            Some((row, columns, by, allowed)) => {
                let of = m * self.sums.len();
                Err(Off { row, columns, by, allowed, sums: off.len(), of })
            }
        }
    }
}

/// The columns in blocks.
fn blocks(n: usize) -> Vec<Range<usize>> {
    (0..n).step_by(BLOCK).map(|first| first..(first + BLOCK).min(n)).collect()
}

/// The sum of products, in as many sums side by side as a processor adds at a time.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let mut sums = [0.0; 8];
    let (mut left, mut right) = (a.chunks_exact(8), b.chunks_exact(8));
    for (a, b) in left.by_ref().zip(right.by_ref()) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum += a * b;
        }
    }
    let rest: f64 = left.remainder().iter().zip(right.remainder()).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f64>() + rest
}

/// What comes of each, in their order, on all processors.
fn each<O: Send>(all: Vec<Range<usize>>, one: impl Fn(Range<usize>) -> O + Sync) -> Vec<O> {
    let threads = thread::available_parallelism().map_or(1, |count| count.get()).min(THREADS);
    let each = all.len().div_ceil(threads).max(1);
    thread::scope(|scope| {
        let one = &one;
        let parts: Vec<_> = all
            .chunks(each)
            .map(|part| scope.spawn(move || part.iter().cloned().map(one).collect::<Vec<O>>()))
            .collect();
        let joined = parts.into_iter().map(|part| match part.join() {
            Ok(found) => found,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        joined.flatten().collect()
    })
}

#[cfg(test)]
mod tests {
    use super::super::products::right;
    use super::*;
    use crate::measure::random::Pool;

    const SHAPE: Shape = Shape { m: 16, n: 1500, k: 256 };

    /// A GPU's product: each sum in a float that keeps `bits` of its fraction, and rounded to what is written.
    fn product(a: &Pool, b: &Pool, to: Kind, bits: u32) -> Vec<u8> {
        let Shape { m, n, k } = SHAPE;
        let rows = |pool: &Pool, count: u64| -> Vec<Vec<f64>> {
            (0..count).map(|row| pool.values((row * k) as usize, k as usize).collect()).collect()
        };
        let (a, b) = (rows(a, m), rows(b, n));
        // Towards zero, as accumulators of tensor cores do.
        let cut = |value: f64| f64::from_bits(value.to_bits() & (u64::MAX << (52 - bits)));
        let mut bytes = Vec::new();
        for b in &b {
            for a in &a {
                let sum = a.chunks(16).zip(b.chunks(16)).fold(0.0, |sum, (a, b)| {
                    cut(sum + a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>())
                });
                match to {
                    Kind::F64 => bytes.extend(sum.to_le_bytes()),
                    Kind::F32 => bytes.extend((sum as f32).to_le_bytes()),
                    Kind::I32 => bytes.extend((sum as i32).to_le_bytes()),
                    Kind::Bf16 => {
                        let word = (sum as f32).to_bits();
                        let half = (word + 0x7fff + (word >> 16 & 1)) >> 16;
                        bytes.extend((half as u16).to_le_bytes());
                    }
                    // Rounded to nearest, in steps of the fraction.
                    _ => {
                        let step = 2f64.powi((sum.abs().log2().floor() as i32).max(-14) - 10);
                        let round = (sum / step).round() * step;
                        let bits = ((round as f32).to_bits() >> 13) as i32;
                        let half = (bits & 0x3ffff) - (112 << 10);
                        let sign = if sum < 0.0 { 0x8000 } else { 0 };
                        bytes.extend((half.max(0) as u16 | sign).to_le_bytes());
                    }
                }
            }
        }
        bytes
    }

    fn pools(a: Kind, b: Kind) -> (Pool, Pool) {
        let Shape { m, n, k } = SHAPE;
        let mut chance = Chance::new(7);
        let a = Pool::new(a, (m * k) as usize, &mut chance);
        (a, Pool::new(b, (n * k) as usize, &mut chance))
    }

    /// What is said of a product of these.
    fn said(a: &Pool, b: &Pool, c: (Kind, &[u8]), allowed: (f64, f64)) -> Result<f64, String> {
        let c = Matrix { kind: c.0, bytes: c.1 };
        let computed = Computed { shape: SHAPE, a: a.matrix(), b: b.matrix(), c };
        right("it", &computed, allowed, 512, 7).map_err(|fault| match fault {
            crate::measure::Fault::Wrong(reason) | crate::measure::Fault::Without(reason) => reason,
            crate::measure::Fault::Refused(refusal) => refusal.to_string(),
        })
    }

    /// Each format as tensor cores have it: sums in float32, of FP8 in 14 bits; and one number of 24,000 that is wrong.
    #[test]
    fn one_wrong_number_is_found_in_each_format_and_what_is_right_passes() {
        for (kinds, to, bits, allowed) in [
            ((Kind::F64, Kind::F64), Kind::F64, 52, (1e-12, 1e-14)),
            ((Kind::F32, Kind::F32), Kind::F32, 23, (1e-4, 1e-6)),
            ((Kind::F16, Kind::F16), Kind::F16, 23, (1e-3, 1e-3)),
            ((Kind::Bf16, Kind::Bf16), Kind::Bf16, 23, (1e-3, 8e-3)),
            ((Kind::E4m3, Kind::E4m3), Kind::Bf16, 13, (5e-2, 8e-3)),
            ((Kind::E5m2, Kind::E4m3), Kind::Bf16, 13, (5e-2, 8e-3)),
            ((Kind::I8, Kind::I8), Kind::I32, 52, (0.0, 0.0)),
        ] {
            let (a, b) = pools(kinds.0, kinds.1);
            let mut c = product(&a, &b, to, bits);
            let found = said(&a, &b, (to, &c), allowed);
            assert!(found.is_ok(), "{kinds:?}: {found:?}");
            // The highest bit that makes it no infinity: of whole numbers the lowest is enough.
            let size = to.size();
            let (at, mask) = match to {
                Kind::I32 => (0, 1),
                Kind::F16 | Kind::Bf16 => (1, 0x80),
                _ => (size - 1, 0x80),
            };
            // The largest of a row: its sign is what differs.
            let m = SHAPE.m as usize;
            let value = |j: usize| to.value(&c[(5 + j * m) * size..]).abs();
            let j = (0..1500).max_by(|x, y| value(*x).total_cmp(&value(*y))).unwrap();
            c[(5 + j * m) * size + at] ^= mask;
            let found = said(&a, &b, (to, &c), allowed).unwrap_err();
            assert!(found.contains("row 5, columns ") || found.contains(" on the host"), "{found}");
        }
    }

    /// Numbers that were not written, and those of another row, are found as well.
    #[test]
    fn what_is_not_there_is_found() {
        let (a, b) = pools(Kind::Bf16, Kind::Bf16);
        let c = product(&a, &b, Kind::Bf16, 23);
        let mut none = c.clone();
        none[40_000..40_002].fill(0xff);
        let found = said(&a, &b, (Kind::Bf16, &none), (1e-3, 8e-3)).unwrap_err();
        assert!(found.contains("1 of 24000 numbers of the result were not written"), "{found}");
        let mut zeros = c.clone();
        for column in 64..128 {
            zeros[column * 32..column * 32 + 2].fill(0);
        }
        let found = said(&a, &b, (Kind::Bf16, &zeros), (1e-3, 8e-3)).unwrap_err();
        assert!(found.contains("row 0, columns 0 to 1023") || found.contains(" on the host"));
        assert!(said(&a, &b, (Kind::Bf16, &c[..c.len() - 32]), (1e-3, 8e-3)).is_err());
    }

    /// How long it takes: `cargo test --release --workspace how_long -- --ignored --nocapture`.
    #[test]
    #[ignore = "a measurement"]
    fn how_long_it_takes() {
        let shape = Shape { m: 8192, n: 8192, k: 8192 };
        let mut chance = Chance::new(7);
        let pool = Pool::new(Kind::Bf16, 8192 * 8192, &mut chance);
        let matrix = pool.matrix();
        let begun = std::time::Instant::now();
        let every = Every::of(Computed { shape, a: matrix, b: matrix, c: matrix });
        let added = begun.elapsed();
        assert!(every.check(1e-3).is_err());
        println!("{shape}: {added:?} to add up, {:?} in all", begun.elapsed());
    }
}
