//! Load without a pause on all GPUs at once, every result compared: what finds a GPU that computes wrongly once in an hour.

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use sconce_cuda::blas::{Blas, Precision};
use sconce_cuda::kernels::{self, Grid};
use sconce_cuda::{Buffer, Context, Device, Refusal, Stream};

use super::clock::{Clock, Times, Turn, ahead, contradict, disagreement};
use super::products::{Done, Matrices, WORKSPACE, check_bf16, square};
use super::{Bench, Fault, Order, memory, timed};
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
    let mut matrices = Matrices::new(Precision::Bf16, &[shape], context, order.seed)?;
    let clock = Clock::new(context)?;
    let product = blas.product(Precision::Bf16, shape)?;
    let algorithm = product.algorithms(1)?.into_iter().next().ok_or(Refusal::Absurd {
        call: "cublasLtMatmulAlgoGetHeuristic",
        answer: format!("no algorithm for bf16 on {}", device.name),
    })?;
    // The first result of each of two products is held to the host; all others to it.
    let done = Done { product: &product, shape, algorithm: &algorithm };
    let (error, allowed) = check_bf16(&done, &matrices, &clock, order.seed)?;
    matrices.last.copy_from(&matrices.d, &clock.stream)?;
    clock.stream.wait()?;
    let first = matrices.renew_b(Precision::Bf16, context, order.seed.wrapping_add(1))?;
    let (other, _) = check_bf16(&done, &matrices, &clock, order.seed)?;
    let (places, found) = (places(context, matrices.d.bytes())?, Buffer::new(context, 16)?);
    found.fill(&clock.stream, 0)?;
    // What an earlier process left may be the right result.
    places.iter().try_for_each(|place| place.fill(&clock.stream, 0xff))?;
    let grid = Grid { blocks: 8 * device.sm_count, threads: 256 };
    let (a, second) = &matrices.there;
    // By turns, each place over: what is in a place from the turn before is wrong.
    let turns = [(&first, &matrices.last), (second, &matrices.d)];
    let mut begun_products = 0usize;
    let mut work = |stream: &Stream, turn: Turn| {
        let turns = turns.get(begun_products / places.len().max(1) % 2);
        let place = places.get(begun_products % places.len().max(1));
        let (Some((b, right)), Some(d), false) = (turns, place, turn == Turn::Before) else {
            return Ok(());
        };
        begun_products += 1;
        product.run(&algorithm, (a, b, d), stream)?;
        kernels::differ(&differ, stream, grid, (d, right), &found)
    };
    let once = clock.once(3, &mut work)?.max(1e-6);
    let count = ((ROUND / once) as u32).clamp(1, 100_000);
    let (begun, mut groups, mut products) = (Instant::now(), Vec::new(), 0u64);
    // Rounds of which the host's clock says something else: a host that is kept from its work for seconds has some.
    let (mut denied, mut denial) = (0, None);
    let mut compared = 3 * kernels::compared(&matrices.d);
    while begun.elapsed() < order.burn {
        let (seconds, waited) = clock.both(count, &mut work)?;
        products += u64::from(count);
        compared += u64::from(count) * kernels::compared(&matrices.d);
        held(&found, compared, &|| {
            let seconds = begun.elapsed().as_secs_f64();
            format!("after {seconds:.0} s, in the last {count} of {products} products of {shape}")
        })?;
        if contradict(seconds, waited) {
            (denied, denial) = (denied + 1, Some(disagreement(seconds, waited)));
        } else {
            let once = seconds / f64::from(count);
            say(shape.operations() / once / 1e12);
            groups.push((once, ahead(seconds, waited)));
        }
    }
    if let Some(denial) = denial.filter(|_| denied > groups.len()) {
        return Err(denial.into());
    }
    let method = format!(
        "{products} products of {shape} in BF16, two by turns, into {} places of {} MiB, {:.0} s, all the same",
        places.len(),
        matrices.d.bytes() >> 20,
        begun.elapsed().as_secs_f64()
    );
    let rate = |seconds| shape.operations() / seconds / 1e12;
    let mut figure = timed(NAME, &Times::of(groups), method, rate);
    figure.error = Some((error.max(other), allowed));
    Ok(figure)
}

/// Nothing differed from the first results, and so much was compared; what compares nothing finds nothing different either.
fn held(found: &Buffer, compared: u64, when: &dyn Fn() -> String) -> Result<(), Fault> {
    let bytes = found.read::<u8>()?;
    let mut numbers = bytes.chunks_exact(8).filter_map(|eight| eight.first_chunk());
    let mut number = || numbers.next().map_or(0, |eight| u64::from_le_bytes(*eight));
    let (different, same) = (number(), number());
    if different > 0 {
        let times = if different == 1 { "once" } else { &format!("{different} times") };
        let what = format!("{}, 16 bytes differed from the first result {times}", when());
        return Err(Fault::Wrong(what));
    }
    if same != compared {
        return Err(Fault::Wrong(format!(
            "{}, the GPU has compared {same} times 16 bytes of the {compared} that it was given: it does not do what it is told",
            when()
        )));
    }
    Ok(())
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
