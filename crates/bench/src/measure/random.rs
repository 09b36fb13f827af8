//! Fresh random numbers in each precision, and what they are worth.
//!
//! Matrices hold numbers between -1 and 1, evenly spread: a GPU draws less power on zeros, and shows more than it has.

use sconce_cuda::blas::Precision;

use super::every::Matrix;

/// Numbers as bytes, as a matrix of that precision holds them.
pub struct Pool {
    kind: Kind,
    bytes: Vec<u8>,
}

/// How a number is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `f64`.
    F64,
    /// `f32`.
    F32,
    /// IEEE's 16 bits.
    F16,
    /// The upper half of an `f32`.
    Bf16,
    /// 4 bits of exponent, 3 of fraction.
    E4m3,
    /// 5 bits of exponent, 2 of fraction.
    E5m2,
    /// A whole number.
    I8,
    /// A whole number of 32 bits, as sums of the others are.
    I32,
}

impl Kind {
    /// Of the first matrix.
    pub fn of_a(precision: Precision) -> Self {
        match precision {
            Precision::Fp64 => Self::F64,
            Precision::Fp32 | Precision::Tf32 => Self::F32,
            Precision::Fp16 => Self::F16,
            Precision::Bf16 => Self::Bf16,
            Precision::Fp8E4m3 => Self::E4m3,
            Precision::Fp8E5m2 => Self::E5m2,
            Precision::Int8 => Self::I8,
        }
    }

    /// Of the second.
    pub fn of_b(precision: Precision) -> Self {
        match precision {
            Precision::Fp8E5m2 => Self::E4m3,
            other => Self::of_a(other),
        }
    }

    /// Bytes of a number.
    pub fn size(self) -> usize {
        match self {
            Self::F64 => 8,
            Self::F32 | Self::I32 => 4,
            Self::F16 | Self::Bf16 => 2,
            Self::E4m3 | Self::E5m2 | Self::I8 => 1,
        }
    }

    /// What its bytes are worth; 0 for too few of them.
    pub fn value(self, bytes: &[u8]) -> f64 {
        let half = || bytes.first_chunk().map_or(0, |two| u16::from_le_bytes(*two));
        let byte = bytes.first().copied().unwrap_or_default();
        match self {
            Self::F64 => bytes.first_chunk().map_or(0.0, |eight| f64::from_le_bytes(*eight)),
            Self::F32 => bytes.first_chunk().map_or(0.0, |four| f32::from_le_bytes(*four).into()),
            Self::F16 => small(half(), 5, 10),
            Self::Bf16 => f32::from_bits(u32::from(half()) << 16).into(),
            // Without infinities: only all ones are no number (OCP 8-bit floating point specification).
            Self::E4m3 if byte & 0x7f == 0x7f => f64::NAN,
            Self::E4m3 => finite(byte.into(), 4, 3),
            Self::E5m2 => small(byte.into(), 5, 2),
            Self::I8 => f64::from(byte as i8),
            Self::I32 => bytes.first_chunk().map_or(0.0, |four| i32::from_le_bytes(*four).into()),
        }
    }
}

/// Many numbers at once.
pub struct Reading {
    kind: Kind,
    /// What each pattern is worth, of those that have 16 bits or fewer.
    table: Vec<f64>,
}

impl Reading {
    /// Of numbers that are written like this.
    pub fn of(kind: Kind) -> Self {
        let patterns: u32 = match kind.size() {
            1 => 1 << 8,
            2 => 1 << 16,
            _ => 0,
        };
        let table = (0..patterns).map(|bits| kind.value(&bits.to_le_bytes())).collect();
        Self { kind, table }
    }

    /// The numbers from `first` on, as many as there is room for; what is not there is no number.
    pub fn read(&self, bytes: &[u8], first: usize, to: &mut [f64]) {
        let size = self.kind.size();
        let bytes = bytes.get(first * size..(first + to.len()) * size).unwrap_or_default();
        if bytes.is_empty() {
            to.fill(f64::NAN);
        }
        match size {
            1 => {
                to.iter_mut().zip(bytes).for_each(|(to, byte)| *to = self.table[usize::from(*byte)])
            }
            2 => to.iter_mut().zip(bytes.chunks_exact(2)).for_each(|(to, two)| {
                *to = self.table[usize::from(u16::from_le_bytes([two[0], two[1]]))];
            }),
            _ => to
                .iter_mut()
                .zip(bytes.chunks_exact(size))
                .for_each(|(to, bytes)| *to = self.kind.value(bytes)),
        }
    }
}

/// A small floating-point number with infinities and what is no number, as IEEE has them.
fn small(bits: u16, exponent_bits: u32, fraction_bits: u32) -> f64 {
    let exponent = (bits >> fraction_bits) & ((1 << exponent_bits) - 1);
    let fraction = bits & ((1 << fraction_bits) - 1);
    match (exponent == (1 << exponent_bits) - 1, fraction) {
        (false, _) => finite(bits, exponent_bits, fraction_bits),
        (true, 0) if bits >> (exponent_bits + fraction_bits) == 0 => f64::INFINITY,
        (true, 0) => f64::NEG_INFINITY,
        (true, _) => f64::NAN,
    }
}

fn finite(bits: u16, exponent_bits: u32, fraction_bits: u32) -> f64 {
    let sign = if bits >> (exponent_bits + fraction_bits) & 1 == 1 { -1.0 } else { 1.0 };
    let exponent = i32::from((bits >> fraction_bits) & ((1 << exponent_bits) - 1));
    let fraction = f64::from(bits & ((1 << fraction_bits) - 1)) / f64::from(1u32 << fraction_bits);
    let bias = (1 << (exponent_bits - 1)) - 1;
    match exponent {
        0 => sign * fraction * 2f64.powi(1 - bias),
        _ => sign * (1.0 + fraction) * 2f64.powi(exponent - bias),
    }
}

/// Numbers by chance (xorshift64*, Vigna 2016).
#[derive(Clone, Debug)]
pub struct Chance(u64);

impl Chance {
    /// The same numbers for the same seed.
    pub fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.bits() % end.max(1)
    }
}

impl Pool {
    /// So many numbers.
    pub fn new(kind: Kind, count: usize, chance: &mut Chance) -> Self {
        let mut bytes = vec![0; count * kind.size()];
        match kind {
            Kind::F64 => {
                for place in bytes.chunks_exact_mut(8) {
                    let number = (chance.bits() >> 11) as f64 / (1u64 << 52) as f64 - 1.0;
                    place.copy_from_slice(&number.to_le_bytes());
                }
            }
            Kind::F32 => {
                for place in bytes.chunks_exact_mut(4) {
                    let number = (chance.bits() >> 40) as f32 / (1u32 << 23) as f32 - 1.0;
                    place.copy_from_slice(&number.to_le_bytes());
                }
            }
            Kind::I32 => {
                for place in bytes.chunks_exact_mut(4) {
                    place.copy_from_slice(&((chance.bits() >> 32) as u32).to_le_bytes());
                }
            }
            Kind::F16 | Kind::Bf16 => {
                let table = table_of_halves(kind);
                for places in bytes.chunks_mut(8) {
                    let bits = chance.bits().to_le_bytes();
                    for (place, two) in places.chunks_exact_mut(2).zip(bits.chunks_exact(2)) {
                        let index = usize::from(u16::from_le_bytes([two[0], two[1]]) >> 5);
                        place.copy_from_slice(&table[index].to_le_bytes());
                    }
                }
            }
            Kind::E4m3 | Kind::E5m2 | Kind::I8 => {
                let table = table_of_bytes(kind);
                for places in bytes.chunks_mut(8) {
                    let bits = chance.bits().to_le_bytes();
                    for (place, byte) in places.iter_mut().zip(bits) {
                        *place = table[usize::from(byte)];
                    }
                }
            }
        }
        Self { kind, bytes }
    }

    /// Numbers that a GPU gave back.
    pub fn read(kind: Kind, bytes: Vec<u8>) -> Self {
        Self { kind, bytes }
    }

    /// All of them.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// As a matrix.
    pub(super) fn matrix(&self) -> Matrix<'_> {
        Matrix { kind: self.kind, bytes: &self.bytes }
    }

    /// The numbers from `first` on, as many as `count`.
    pub fn values(&self, first: usize, count: usize) -> impl Iterator<Item = f64> + '_ {
        let size = self.kind.size();
        let bytes = self.bytes.get(first * size..(first + count) * size).unwrap_or_default();
        bytes.chunks_exact(size).map(|bytes| self.kind.value(bytes))
    }
}

/// The sum of products of two rows, as it should be.
pub struct Sum {
    /// In float64.
    pub value: f64,
    /// The root of the summed squares of the products: rounding adds up to a part of it by chance.
    scale: f64,
}

impl Sum {
    /// Of these two rows.
    pub fn of(a: impl Iterator<Item = f64>, b: impl Iterator<Item = f64>) -> Self {
        let (value, squares) = a
            .zip(b)
            .fold((0.0, 0.0), |(sum, squares), (a, b)| (sum + a * b, squares + a * b * a * b));
        Self { value, scale: squares.sqrt().max(1e-300) }
    }

    /// How far `got` is off, in units of the scale. What is no number is off without end.
    pub fn distance(&self, got: f64) -> f64 {
        let distance = (got - self.value).abs() / self.scale;
        if distance.is_nan() { f64::INFINITY } else { distance }
    }

    /// How far `got` is off, in units of the scale, after the rounding of what is written: `rounding`, a share of it. What is
    /// no number is off without end.
    pub fn off(&self, got: f64, rounding: f64) -> f64 {
        let off = ((got - self.value).abs() - rounding * self.value.abs()) / self.scale;
        if off.is_nan() { f64::INFINITY } else { off.max(0.0) }
    }
}

/// 2,048 numbers evenly between -1 and 1, in 16 bits.
fn table_of_halves(kind: Kind) -> Vec<u16> {
    (0..2048u16)
        .map(|index| {
            let bits = ((f32::from(index) - 1024.0) / 1024.0).to_bits();
            match (kind, bits << 1) {
                (_, 0) => 0,
                (Kind::F16, _) => {
                    // Exact: 11 bits of fraction are enough for all of them, and none is subnormal.
                    let exponent = (bits >> 23 & 0xff) + 15 - 127;
                    (bits >> 31 << 15 | exponent << 10 | (bits >> 13 & 0x3ff)) as u16
                }
                _ => (bits.wrapping_add(0x8000) >> 16) as u16,
            }
        })
        .collect()
}

/// 256 numbers evenly between -1 and 1, each the nearest that 8 bits have; whole numbers as they are.
fn table_of_bytes(kind: Kind) -> Vec<u8> {
    (0..=255u8)
        .map(|index| {
            if kind == Kind::I8 {
                return index;
            }
            let wanted = (f64::from(index) - 127.5) / 128.0;
            let distance = |code: &u8| {
                let value = kind.value(&[*code]);
                if value.is_finite() { (value - wanted).abs() } else { f64::MAX }
            };
            (0..=255u8).min_by(|a, b| distance(a).total_cmp(&distance(b))).unwrap_or_default()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_what_the_formats_say() {
        let half = |bits: u16| Kind::F16.value(&bits.to_le_bytes());
        for (bits, value) in [(0x3c00, 1.0), (0xc000, -2.0), (0x7bff, 65504.0), (1, 2f64.powi(-24))]
        {
            assert_eq!(half(bits), value);
        }
        assert!(half(0x7e00).is_nan() && half(0xffff).is_nan() && half(0x7c00).is_infinite());
        let e4m3 = |bits: u8| Kind::E4m3.value(&[bits]);
        for (bits, value) in [(0x38, 1.0), (0x7e, 448.0), (0xfe, -448.0), (1, 2f64.powi(-9))] {
            assert_eq!(e4m3(bits), value);
        }
        assert!(e4m3(0x7f).is_nan() && e4m3(0xff).is_nan());
        let e5m2 = |bits: u8| Kind::E5m2.value(&[bits]);
        for (bits, value) in [(0x3c, 1.0), (0x7b, 57344.0), (1, 2f64.powi(-16))] {
            assert_eq!(e5m2(bits), value);
        }
        assert!(e5m2(0x7f).is_nan() && e5m2(0x7c).is_infinite());
        assert_eq!(Kind::Bf16.value(&0xbf80u16.to_le_bytes()), -1.0);
        assert_eq!(Kind::I8.value(&[0xff]), -1.0);
    }

    #[test]
    fn a_wrong_sum_is_far_off() {
        let row = || (0..1000).map(|i| f64::from(i % 7) - 3.0);
        let sum = Sum::of(row(), row());
        assert_eq!(sum.value, (0..1000).map(|i| (f64::from(i % 7) - 3.0).powi(2)).sum::<f64>());
        assert_eq!(sum.off(sum.value, 0.0), 0.0);
        assert_eq!(sum.off(sum.value * 1.001, 0.002), 0.0);
        assert!(sum.off(sum.value + 100.0, 1e-3) > 0.1);
        assert_eq!(sum.off(f64::NAN, 1.0), f64::INFINITY);
    }

    #[test]
    fn pools_are_even_and_finite() {
        let kinds = [Kind::F64, Kind::F32, Kind::F16, Kind::Bf16, Kind::E4m3, Kind::E5m2, Kind::I8];
        for kind in kinds {
            let pool = Pool::new(kind, 100_001, &mut Chance::new(7));
            let scale = if kind == Kind::I8 { 128.0 } else { 1.0 };
            let values: Vec<f64> = pool.values(0, 100_001).map(|value| value / scale).collect();
            assert_eq!(values.len(), 100_001, "{kind:?}");
            assert!(values.iter().all(|value| value.abs() <= 1.0), "{kind:?}");
            let mean = values.iter().sum::<f64>() / 1e5;
            let square = values.iter().map(|value| value * value).sum::<f64>() / 1e5;
            assert!(
                mean.abs() < 0.02 && (square - 1.0 / 3.0).abs() < 0.02,
                "{kind:?} {mean} {square}"
            );
            let again = Pool::new(kind, 100_001, &mut Chance::new(7));
            assert!(again.bytes() == pool.bytes(), "{kind:?}");
        }
    }
}
