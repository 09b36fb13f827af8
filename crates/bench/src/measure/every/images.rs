//! Whether every number of a convolution is right. It is a product of matrices: a row for each pixel that comes out, with what the
//! filter sees there, and a column for each channel. So Freivalds' check holds for it: the channels of a pixel, added up with random
//! signs, are what a filter of one channel gives there, whose numbers are those of all channels added up with the same signs.
//! That one is computed in float64, and costs as many times less as there are channels.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::ops::Range;

use sconce_cuda::convolution::Images;

use super::{Matrix, TIMES, dot, each};
use crate::measure::random::{Chance, Reading};

/// A convolution that was computed: images and result by pixels of channels, the filter by its channels.
#[derive(Clone, Copy)]
pub(in crate::measure) struct Convolved<'a> {
    pub(in crate::measure) images: Images,
    pub(in crate::measure) x: Matrix<'a>,
    pub(in crate::measure) w: Matrix<'a>,
    pub(in crate::measure) y: Matrix<'a>,
}

/// The channels of each pixel, added up with random signs.
pub(in crate::measure) struct EveryPixel<'a> {
    of: Convolved<'a>,
    signs: Vec<f64>,
    /// Of each image a sum for each pixel.
    sums: Vec<Vec<f64>>,
    /// How many are no numbers.
    pub(in crate::measure) none: u64,
}

/// Pixels that are off.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::measure) struct Off {
    image: usize,
    row: usize,
    column: usize,
    by: f64,
    allowed: f64,
    pixels: usize,
    of: usize,
}

impl std::fmt::Display for Off {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { image, row, column, by, allowed, pixels, of } = self;
        write!(
            f,
            "image {image}, row {row}, column {column}: its channels, added up with random signs, are off by {by:.1e} where {allowed:.1e} is allowed ({pixels} of {of} pixels are off)"
        )
    }
}

/// The filter, added up.
struct Filter {
    /// Of each place of the filter, what all channels that come out add up to: with the signs, and squared.
    signed: Vec<Vec<f64>>,
    squared: Vec<Vec<f64>>,
}

impl<'a> EveryPixel<'a> {
    /// Draws the signs, which nobody could know when the result was computed, and adds up.
    pub(in crate::measure) fn of(of: Convolved<'a>) -> Self {
        let Images { count, pixels, channels: (_, to), .. } = of.images;
        let (area, to) = ((pixels * pixels) as usize, to as usize);
        // From the keys that the system gave this process, and not from the seed that can be repeated.
        let mut chance = Chance::new(RandomState::new().build_hasher().finish());
        let signs: Vec<f64> =
            (0..to).map(|_| if chance.bits() >> 63 == 0 { 1.0 } else { -1.0 }).collect();
        let reading = Reading::of(of.y.kind);
        let sums = each(one_by_one(count as usize), |images| {
            let (mut sums, mut numbers, mut none) = (vec![0.0; area], vec![0.0; to], 0u64);
            for (pixel, sum) in sums.iter_mut().enumerate() {
                reading.read(of.y.bytes, (images.start * area + pixel) * to, &mut numbers);
                *sum = dot(&numbers, &signs);
                none += numbers.iter().filter(|number| number.is_nan()).count() as u64;
            }
            (sums, none)
        });
        let none = sums.iter().map(|(_, none)| none).sum();
        let sums = sums.into_iter().map(|(sums, _)| sums).collect();
        Self { of, signs, sums, none }
    }

    fn filter(&self) -> Filter {
        let Images { channels: (from, to), filter, .. } = self.of.images;
        let (from, places) = (from as usize, (filter * filter) as usize);
        let reading = Reading::of(self.of.w.kind);
        let mut signed = vec![vec![0.0; from]; places];
        let mut squared = signed.clone();
        let mut numbers = vec![0.0; from];
        for channel in 0..to as usize {
            for place in 0..places {
                reading.read(self.of.w.bytes, (channel * places + place) * from, &mut numbers);
                let sums = signed[place].iter_mut().zip(&mut squared[place]);
                for ((sum, square), number) in sums.zip(&numbers) {
                    *sum += self.signs[channel] * number;
                    *square += number * number;
                }
            }
        }
        Filter { signed, squared }
    }

    /// Holds the sums to those of images and filter. `usual` is how far a number is off, root mean square, in units of the root
    /// of the summed squares of its products.
    pub(in crate::measure) fn check(&self, usual: f64) -> Result<(), Off> {
        let filter = self.filter();
        let images = one_by_one(self.sums.len());
        let off = each(images, |images| self.of_image(images.start, &filter, usual));
        let off: Vec<Off> = off.into_iter().flatten().collect();
        let of = self.sums.iter().map(Vec::len).sum();
        let pixels = off.len();
        match off.into_iter().next() {
            None => Ok(()),
            Some(first) => Err(Off { pixels, of, ..first }),
        }
    }

    fn of_image(&self, image: usize, filter: &Filter, usual: f64) -> Vec<Off> {
        let Images { pixels, channels: (from, _), filter: side, .. } = self.of.images;
        let (side, width) = (side as usize, pixels as usize);
        let places = side * side;
        let reading = Reading::of(self.of.x.kind);
        let mut numbers = vec![0.0; from as usize];
        // What each pixel gives to the sum of another, by where the filter has it, and to the squares.
        let mut given = vec![(0.0, 0.0); width * width * places];
        for (pixel, given) in given.chunks_exact_mut(places).enumerate() {
            let first = (image * width * width + pixel) * from as usize;
            reading.read(self.of.x.bytes, first, &mut numbers);
            for (to, signed) in given.iter_mut().zip(&filter.signed) {
                to.0 = dot(&numbers, signed);
            }
            numbers.iter_mut().for_each(|number| *number *= *number);
            for (to, squared) in given.iter_mut().zip(&filter.squared) {
                to.1 = dot(&numbers, squared);
            }
        }
        let mut off = Vec::new();
        for (pixel, sum) in self.sums[image].iter().enumerate() {
            let (row, column) = (pixel / width, pixel % width);
            let (mut wanted, mut scale) = (0.0, 0.0);
            for place in 0..places {
                // Beyond the edges there are zeros.
                let inside = |at: usize, step: usize| {
                    (at + step).checked_sub(side / 2).filter(|at| *at < width)
                };
                let at = inside(row, place / side).zip(inside(column, place % side));
                let Some((down, right)) = at else { continue };
                let (signed, squared) = given[(down * width + right) * places + place];
                wanted += signed;
                scale += squared;
            }
            let (by, allowed) = ((sum - wanted).abs(), TIMES * usual * f64::sqrt(scale));
            // What is no number is off as well.
            if by.is_nan() || by > allowed {
                off.push(Off { image, row, column, by, allowed, pixels: 0, of: 0 });
            }
        }
        off
    }
}

/// Ranges of one each.
fn one_by_one(count: usize) -> Vec<Range<usize>> {
    (0..count).map(|one| one..one + 1).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::random::{Kind, Pool};

    const IMAGES: Images = Images { count: 3, pixels: 9, channels: (32, 64), filter: 3 };

    /// A GPU's convolution, and how far a number is off root mean square: sums in float32, rounded to BF16.
    fn convolution(images: Images, x: &Pool, w: &Pool) -> (Vec<u8>, f64) {
        let Images { count, pixels, channels: (from, to), filter } = images;
        let (width, from, to, side) = (pixels as i64, from as usize, to as usize, filter as i64);
        let (mut bytes, mut squares) = (Vec::new(), 0.0);
        for pixel in 0..i64::from(count) * width * width {
            let (image, row, column) =
                (pixel / (width * width), pixel / width % width, pixel % width);
            for channel in 0..to {
                let (mut sum, mut scale) = (0.0f64, 0.0f64);
                for place in 0..side * side {
                    let (down, right) =
                        (row + place / side - side / 2, column + place % side - side / 2);
                    if !(0..width).contains(&down) || !(0..width).contains(&right) {
                        continue;
                    }
                    let at = ((image * width + down) * width + right) as usize * from;
                    let tap = (channel * (side * side) as usize + place as usize) * from;
                    for (a, b) in x.values(at, from).zip(w.values(tap, from)) {
                        sum += a * b;
                        scale += a * a * b * b;
                    }
                }
                let word = (sum as f32).to_bits();
                let half = ((word + 0x7fff + (word >> 16 & 1)) >> 16) as u16;
                let error = f64::from(f32::from_bits(u32::from(half) << 16)) - sum;
                squares += error * error / scale;
                bytes.extend(half.to_le_bytes());
            }
        }
        let numbers = bytes.len() / 2;
        (bytes, (squares / numbers as f64).sqrt())
    }

    fn pools(images: Images) -> (Pool, Pool) {
        let Images { count, pixels, channels: (from, to), filter } = images;
        let mut chance = Chance::new(7);
        let x = Pool::new(Kind::Bf16, (count * pixels * pixels * from) as usize, &mut chance);
        (x, Pool::new(Kind::Bf16, (to * filter * filter * from) as usize, &mut chance))
    }

    fn said(images: Images, (x, w): &(Pool, Pool), y: &[u8], usual: f64) -> Result<u64, String> {
        let y = Matrix { kind: Kind::Bf16, bytes: y };
        let every = EveryPixel::of(Convolved { images, x: x.matrix(), w: w.matrix(), y });
        every.check(usual).map(|()| every.none).map_err(|off| off.to_string())
    }

    #[test]
    fn what_is_right_passes_and_one_wrong_number_does_not() {
        for images in
            [IMAGES, Images { filter: 1, ..IMAGES }, Images { pixels: 5, filter: 5, ..IMAGES }]
        {
            let pools = pools(images);
            let (mut y, usual) = convolution(images, &pools.0, &pools.1);
            assert!((5e-4..5e-3).contains(&usual), "{usual}");
            assert_eq!(said(images, &pools, &y, usual), Ok(0), "{images}");
            // The sign of the largest of a pixel's channels, the first pixel being at a corner.
            for (image, row, column) in [(0, 0, 0), (2, 3, 4)] {
                let width = images.pixels as usize;
                let pixel = (image * width + row) * width + column;
                let value = |at: usize| Kind::Bf16.value(&y[at * 2..]).abs();
                let largest = (pixel * 64..pixel * 64 + 64)
                    .max_by(|a, b| value(*a).total_cmp(&value(*b)))
                    .unwrap();
                y[largest * 2 + 1] ^= 0x80;
                let found = said(images, &pools, &y, usual).unwrap_err();
                let place = format!("image {image}, row {row}, column {column}: ");
                assert!(found.starts_with(&place), "{found}");
                assert!(found.contains("(1 of "), "{found}");
                y[largest * 2 + 1] ^= 0x80;
            }
        }
    }

    /// What an algorithm that pads wrongly, leaves a tile out, or takes another image's pixels would give.
    #[test]
    fn what_is_not_there_or_somewhere_else_is_found() {
        let pools = pools(IMAGES);
        let (y, usual) = convolution(IMAGES, &pools.0, &pools.1);
        let mut none = y.clone();
        none[2000..2002].fill(0xff);
        let whole = Convolved {
            images: IMAGES,
            x: pools.0.matrix(),
            w: pools.1.matrix(),
            y: Matrix { kind: Kind::Bf16, bytes: &none },
        };
        assert_eq!(EveryPixel::of(whole).none, 1);
        // A pixel of other numbers may be right by chance, once in a hundred times: a row of them is not.
        let mut zeros = y.clone();
        zeros[9 * 64 * 2..18 * 64 * 2].fill(0);
        let found = said(IMAGES, &pools, &zeros, usual).unwrap_err();
        assert!(found.starts_with("image 0, row 1, column "), "{found}");
        let mut swapped = y.clone();
        swapped.rotate_left(64 * 2);
        assert!(said(IMAGES, &pools, &swapped, usual).is_err());
        assert!(said(IMAGES, &pools, &y[..y.len() - 128], usual).is_err());
    }

    /// How long it takes: `cargo test --release --workspace how_long -- --ignored --nocapture`.
    #[test]
    #[ignore = "a measurement"]
    fn how_long_it_takes() {
        let images = Images { count: 128, pixels: 56, channels: (256, 256), filter: 3 };
        let pools = pools(images);
        let begun = std::time::Instant::now();
        // Images as their own result: wrong, and as much to read.
        let y = Matrix { kind: Kind::Bf16, bytes: pools.0.bytes() };
        let every =
            EveryPixel::of(Convolved { images, x: pools.0.matrix(), w: pools.1.matrix(), y });
        let added = begun.elapsed();
        assert!(every.check(1e-3).is_err());
        println!("{images}: {added:?} to add up, {:?} in all", begun.elapsed());
    }
}
