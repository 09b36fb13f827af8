//! Load without a pause on all GPUs at once, every result compared: what finds a GPU that computes wrongly once in an hour.

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use sconce_cuda::blas::{Blas, Precision};
use sconce_cuda::kernels::{self, Grid};
use sconce_cuda::{Buffer, Context, Device, Refusal, Stream};

use super::clock::Clock;
use super::products::{Done, Matrices, WORKSPACE, check_bf16, square};
use super::{Bench, Fault, Order, figure, memory};
use crate::answer::{Figure, Line, Moment};

const NAME: &str = "burn";
/// Seconds after which the GPU is asked what it found: as long as one waits for the end of a round.
const ROUND: f64 = 1.0;
/// How often it is said how it goes on.
const EVERY: Duration = Duration::from_secs(10);

/// What a GPU's thread says.
enum Said {
    Rate(f64),
    Over(Box<Result<Figure, Fault>>),
}

pub(super) fn measure(bench: &mut Bench) {
    if !bench.order.wants(NAME) {
        return;
    }
    let (order, begun) = (bench.order, Instant::now());
    let (send, heard) = mpsc::channel();
    thread::scope(|scope| {
        for (device, context) in bench.gpus.clone() {
            let (gpu, send) = (Bench::number(&device), send.clone());
            scope.spawn(move || {
                // The other end is read until all have ended.
                let mut say = |rate| drop(send.send((gpu, Said::Rate(rate))));
                let over = one(&device, &context, order, &mut say);
                drop(send.send((gpu, Said::Over(Box::new(over)))));
            });
        }
        drop(send);
        listen(bench, begun, &heard);
    });
}

fn listen(bench: &mut Bench, begun: Instant, heard: &mpsc::Receiver<(u32, Said)>) {
    let whole = bench.order.burn;
    let every = EVERY.max(whole / 1000);
    let mut rates: Vec<(u32, f64)> = Vec::new();
    let mut told = begun;
    for (gpu, said) in heard {
        rates.retain(|(known, _)| *known != gpu);
        match said {
            Said::Rate(rate) => rates.push((gpu, rate)),
            Said::Over(found) => bench.answer(NAME, &[gpu], begun, *found),
        }
        if told.elapsed() >= every && !rates.is_empty() {
            told = Instant::now();
            rates.sort_by_key(|(gpu, _)| *gpu);
            (bench.say)(Line::Moment(Moment {
                figure: NAME.to_owned(),
                seconds: begun.elapsed().as_secs_f64(),
                of: whole.as_secs_f64(),
                values: rates.clone(),
            }));
        }
    }
}

fn one(
    device: &Device,
    context: &Context,
    order: &Order,
    say: &mut dyn FnMut(f64),
) -> Result<Figure, Fault> {
    let module = memory::module(order, device, context)?;
    let differ = module.kernel(c"differ")?;
    let blas = Blas::open(order.places, context, WORKSPACE)?;
    let shape = square(context)?;
    let matrices = Matrices::new(Precision::Bf16, &[shape], context, order.seed)?;
    let clock = Clock::new(context)?;
    let product = blas.product(Precision::Bf16, shape)?;
    let algorithm = product.algorithms(1)?.into_iter().next().ok_or(Refusal::Absurd {
        call: "cublasLtMatmulAlgoGetHeuristic",
        answer: format!("no algorithm for bf16 on {}", device.name),
    })?;
    // The first result is held to the host; all others to it.
    let done = Done { product: &product, shape, algorithm: &algorithm };
    let error = check_bf16(&done, &matrices, &clock, order.seed)?;
    let (places, found) = (places(context, matrices.d.bytes())?, Buffer::new(context, 8)?);
    found.fill(&clock.stream, 0)?;
    let grid = Grid { blocks: 8 * device.sm_count, threads: 256 };
    let mut next = places.iter().cycle();
    let (a, b) = &matrices.there;
    let mut work = |stream: &Stream| {
        let Some(d) = next.next() else { return Ok(()) };
        product.run(&algorithm, (a, b, d), stream)?;
        kernels::differ(&differ, stream, grid, (d, &matrices.d), &found)
    };
    let once = clock.time(3, &mut work)?.max(1e-6);
    let count = ((ROUND / once) as u32).clamp(1, 100_000);
    let (begun, mut values, mut products) = (Instant::now(), Vec::new(), 0u64);
    while begun.elapsed() < order.burn {
        clock.begin(count, &mut work)?;
        let rate = f64::from(count) * shape.operations() / clock.taken()? / 1e12;
        products += u64::from(count);
        values.push(rate);
        say(rate);
        let bytes = found.read::<u8>()?;
        let different = bytes.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        if different > 0 {
            let times = if different == 1 { "once" } else { &format!("{different} times") };
            return Err(Fault::Wrong(format!(
                "after {:.0} s, 16 bytes differed from the first result {times}, in the last {count} of {products} products of {shape}",
                begun.elapsed().as_secs_f64(),
            )));
        }
    }
    let method = format!(
        "{products} products of {shape} in BF16 into {} places of {} MiB, {:.0} s, all the same",
        places.len(),
        matrices.d.bytes() >> 20,
        begun.elapsed().as_secs_f64()
    );
    let mut figure = figure(NAME, &values, true, method);
    figure.error = Some(error);
    Ok(figure)
}

/// Nine tenths of the free memory, in pieces of one result.
fn places(context: &Context, bytes: usize) -> Result<Vec<Buffer>, Refusal> {
    let (free, _) = context.memory()?;
    let wanted = (free / 10 * 9 / bytes.max(1) as u64).max(1);
    let mut places = vec![Buffer::new(context, bytes)?];
    for _ in 1..wanted {
        // What others took meanwhile is theirs.
        let Ok(place) = Buffer::new(context, bytes) else { break };
        places.push(place);
    }
    Ok(places)
}
