//! A convolution through cuDNN.

use std::time::Instant;

use sconce_cuda::convolution::{Algorithm, Convolution, Images};
use sconce_cuda::{Buffer, Context, Refusal, Stream};

use super::clock::{Clock, Turn};
use super::every::images::{Convolved, EveryPixel};
use super::random::{Chance, Kind, Pool, Sum};
use super::{Bench, Effort, Fault, Order, timed};
use crate::answer::Figure;

/// Layers of a ResNet's middle, with images enough to fill the GPU.
const IMAGES: &[Images] = &[
    Images { count: 128, pixels: 56, channels: (256, 256), filter: 3 },
    Images { count: 256, pixels: 28, channels: (512, 512), filter: 3 },
    Images { count: 256, pixels: 56, channels: (512, 512), filter: 1 },
];

/// Fewer images where others have taken the memory: half of them, until all fits twice.
fn fitting(images: Images, context: &Context) -> Result<Images, Refusal> {
    let (free, _) = context.memory()?;
    let size = Kind::Bf16.size() as u64;
    let bytes = |count: u32| numbers(Images { count, ..images }).iter().sum::<u64>() * size;
    let counts = std::iter::successors(Some(images.count), |count| Some(count / 2));
    let mut counts = counts.take_while(|count| *count > 0);
    let count = counts.find(|count| bytes(*count) * 2 < free).unwrap_or(1);
    Ok(Images { count, ..images })
}

/// How many numbers the images have, the filter, and the result.
fn numbers(images: Images) -> [u64; 3] {
    let Images { count, pixels, channels: (from, to), filter } = images;
    let product = |all: [u32; 4]| all.into_iter().map(u64::from).product();
    [[count, pixels, pixels, from], [to, filter, filter, from], [count, pixels, pixels, to]]
        .map(product)
}

/// Sums that are computed again on the host.
const SAMPLES: u64 = 256;
/// As in a product of BF16.
const ERROR: f64 = 1e-3;
const ROUNDING: f64 = 8e-3;

pub(super) fn measure(bench: &mut Bench) {
    const NAME: &str = "bf16-convolution";
    for (device, context) in bench.gpus.clone() {
        // BF16 came with Ampere.
        if device.capability < (8, 0) || !bench.order.wants(NAME) {
            continue;
        }
        let most = if bench.order.effort == Effort::Quick { 1 } else { IMAGES.len() };
        let mut best: Option<(Instant, Result<Figure, Fault>)> = None;
        for images in IMAGES.iter().take(most) {
            let begun = Instant::now();
            let found = one(*images, &context, bench.order);
            let better = match (best.as_ref().map(|(_, best)| best), &found) {
                (Some(Ok(best)), Ok(found)) => found.value > best.value,
                (Some(Ok(_)), Err(fault)) => matches!(fault, Fault::Wrong(_)),
                (Some(Err(Fault::Wrong(_))), _) => false,
                (Some(Err(_)) | None, _) => true,
            };
            if better {
                best = Some((begun, found));
            }
        }
        if let Some((begun, found)) = best {
            bench.answer(NAME, &[Bench::number(&device)], begun, found);
        }
    }
}

/// Images, filter and result on the GPU; the first two on the host as well.
struct Tensors {
    x: Pool,
    w: Pool,
    there: (Buffer, Buffer, Buffer),
    /// Where the last launch of what is timed writes.
    last: Buffer,
}

fn one(images: Images, context: &Context, order: &Order) -> Result<Figure, Fault> {
    let images = fitting(images, context)?;
    let mut chance = Chance::new(order.seed);
    let [x, w, y] = numbers(images).map(|count| count as usize);
    let x = Pool::new(Kind::Bf16, x, &mut chance);
    let w = Pool::new(Kind::Bf16, w, &mut chance);
    let result = || Buffer::new(context, y * Kind::Bf16.size());
    let there = (Buffer::of(context, x.bytes())?, Buffer::of(context, w.bytes())?, result()?);
    let tensors = Tensors { x, w, there, last: result()? };
    let clock = Clock::new(context)?;
    let convolution = Convolution::new(order.places, context, images)?;
    let offered = convolution.algorithms()?;
    let to = |y: &Buffer, algorithm: &Algorithm, workspace: &Buffer, stream: &Stream| {
        let (x, w, _) = &tensors.there;
        convolution.run(algorithm, (x, w, y), workspace, stream)
    };
    let y = &tensors.there.2;
    let run = |algorithm: &Algorithm, workspace: &Buffer, stream: &Stream| {
        to(y, algorithm, workspace, stream)
    };
    let (mut best, mut refused): (Option<(f64, usize)>, _) = (None, None);
    for (number, algorithm) in offered.iter().enumerate() {
        // One that is offered and then refused is not the last one.
        let tried = convolution.workspace(algorithm).and_then(|workspace| {
            clock.time(1, &mut |stream: &Stream| run(algorithm, &workspace, stream))?;
            Ok(workspace)
        });
        let workspace = match tried {
            Ok(workspace) => workspace,
            Err(refusal) => {
                refused = Some(refusal);
                continue;
            }
        };
        let mut work = |stream: &Stream| run(algorithm, &workspace, stream);
        let seconds = clock.time(4, &mut work)?;
        if best.is_none_or(|(least, _)| seconds < least) {
            best = Some((seconds, number));
        }
    }
    let Some((number, algorithm)) =
        best.and_then(|(_, number)| Some((number, offered.get(number)?)))
    else {
        let answer = format!("{} algorithms for {images}, and none ran", offered.len());
        let call = "cudnnGetConvolutionForwardAlgorithm_v7";
        let nothing = sconce_cuda::Refusal::Absurd { call, answer };
        return Err(Fault::Refused(refused.unwrap_or(nothing)));
    };
    let workspace = convolution.workspace(algorithm)?;
    let times = order.bursts(&clock, &mut |stream, turn| match turn {
        Turn::Before => {
            y.fill(stream, 0xff)?;
            tensors.last.fill(stream, 0xff)
        }
        Turn::One => run(algorithm, &workspace, stream),
        Turn::Last => to(&tensors.last, algorithm, &workspace, stream),
    })?;
    // What was timed: the last launch, and those before it, one over the other; there may have been none.
    let last = Pool::read(Kind::Bf16, tensors.last.read()?);
    let mut worst = check(images, &tensors, &last, &mut chance)?;
    let before = Pool::read(Kind::Bf16, y.read()?);
    let none = before.bytes().iter().all(|byte| *byte == 0xff);
    if !none && before.bytes() != last.bytes() {
        worst = worst.max(check(images, &tensors, &before, &mut chance)?);
    }

    let version =
        convolution.version().map_or(String::new(), |version| format!(" of cuDNN {version}"));
    let method =
        format!("{images}, algorithm {} of {} offered{version}", number + 1, offered.len());
    let rate = |seconds| images.operations() / seconds / 1e12;
    let mut figure = timed("bf16-convolution", &times, method, rate);
    figure.error = Some((worst, ERROR));
    Ok(figure)
}

/// Some of the sums again on the host, one by one, and every number by Freivalds' check: the worst error of the sums.
fn check(images: Images, tensors: &Tensors, y: &Pool, chance: &mut Chance) -> Result<f64, Fault> {
    let (x, w) = (tensors.x.matrix(), tensors.w.matrix());
    let every = EveryPixel::of(Convolved { images, x, w, y: y.matrix() });
    if every.none > 0 {
        let what = format!(
            "{} of {} numbers of the result were not written or are none ({images})",
            every.none,
            y.bytes().len() / Kind::Bf16.size()
        );
        return Err(Fault::Wrong(what));
    }
    let (worst, usual) = samples(images, tensors, y, chance)?;
    every.check(usual).map_err(|off| Fault::Wrong(format!("{images}: {off}")))?;
    Ok(worst)
}

/// The worst error of some sums, and how far they are off root mean square, in units of the root of the summed squares of a
/// number's products.
fn samples(
    images: Images,
    tensors: &Tensors,
    y: &Pool,
    chance: &mut Chance,
) -> Result<(f64, f64), Fault> {
    let Images { count, pixels, channels: (from, to), filter } = images;
    let (edge, length) = (i64::from(filter / 2), from as usize);
    let (mut worst, mut squares): (f64, f64) = (0.0, 0.0);
    for _ in 0..SAMPLES {
        let mut below = |end: u32| chance.below(end.into()) as usize;
        let (image, row, column, channel) = (below(count), below(pixels), below(pixels), below(to));
        let (mut x, mut w) = (Vec::new(), Vec::new());
        for (down, right) in
            (0..filter as usize).flat_map(|r| (0..filter as usize).map(move |s| (r, s)))
        {
            let inside = |at: usize, step: usize| {
                let at = at as i64 + step as i64 - edge;
                usize::try_from(at).ok().filter(|at| *at < pixels as usize)
            };
            let (Some(h), Some(v)) = (inside(row, down), inside(column, right)) else { continue };
            let pixel = (image * pixels as usize + h) * pixels as usize + v;
            let tap = (channel * filter as usize + down) * filter as usize + right;
            x.extend(tensors.x.values(pixel * length, length));
            w.extend(tensors.w.values(tap * length, length));
        }
        let sum = Sum::of(x.into_iter(), w.into_iter());
        let place =
            ((image * pixels as usize + row) * pixels as usize + column) * to as usize + channel;
        let got = y.values(place, 1).next().unwrap_or(f64::NAN);
        let off = sum.off(got, ROUNDING);
        if off > ERROR {
            let what = format!("a sum of {images} is {got}, and {} on the host", sum.value);
            return Err(Fault::Wrong(what));
        }
        worst = worst.max(off);
        squares += sum.distance(got).powi(2);
    }
    // Sums that happen to be exact say nothing of the others: a hundredth of what is allowed is not too small.
    Ok((worst, (squares / SAMPLES as f64).sqrt().max(ERROR / 100.0)))
}
