//! How long starting something takes, by the host's clock.

use std::time::Instant;

use sconce_cuda::{Buffer, Context, Device, Refusal, Stream, kernels};

use super::{Bench, Fault, Order, figure, memory};
use crate::answer::Figure;

/// Launches in a row: fewer than a stream holds without making the host wait.
const ROW: u32 = 500;

pub(super) fn measure(bench: &mut Bench) {
    for (device, context) in bench.gpus.clone() {
        let gpu = [Bench::number(&device)];
        for name in ["launch", "launch-wait", "graph-kernel", "allocate"] {
            if bench.order.wants(name) {
                let begun = Instant::now();
                let found = one(name, &device, &context, bench.order);
                bench.answer(name, &gpu, begun, found.map_err(Fault::from));
            }
        }
    }
}

/// Seconds of some work, again and again after once for nothing.
fn times(count: u32, work: &mut dyn FnMut() -> Result<f64, Refusal>) -> Result<Vec<f64>, Refusal> {
    work()?;
    (0..count).map(|_| work()).collect()
}

fn one(name: &str, device: &Device, context: &Context, order: &Order) -> Result<Figure, Refusal> {
    let microseconds = |seconds: f64, count: u32| seconds * 1e6 / f64::from(count);
    let repeats = order.repeats() * 4;
    if name == "allocate" {
        let found = times(order.repeats(), &mut || {
            let begun = Instant::now();
            drop(Buffer::new(context, 256 << 20)?);
            Ok(microseconds(begun.elapsed().as_secs_f64(), 1))
        })?;
        return Ok(figure(name, &found, false, "256 MiB".to_owned()));
    }
    let module = memory::module(order, device, context)?;
    let kernel = module.kernel(c"nothing")?;
    let stream = Stream::new(context)?;
    let launch = || kernels::nothing(&kernel, &stream);
    let (found, method) = match name {
        "launch" => {
            let found = times(repeats, &mut || {
                let begun = Instant::now();
                (0..ROW).try_for_each(|_| launch())?;
                let seconds = begun.elapsed().as_secs_f64();
                stream.wait()?;
                Ok(microseconds(seconds, ROW))
            })?;
            (found, format!("{ROW} launches in a row"))
        }
        "launch-wait" => {
            let found = times(repeats * 10, &mut || {
                let begun = Instant::now();
                launch()?;
                stream.wait()?;
                Ok(microseconds(begun.elapsed().as_secs_f64(), 1))
            })?;
            (found, "one launch, one wait".to_owned())
        }
        _ => {
            let graph = stream.record(|| (0..ROW).try_for_each(|_| launch()))?;
            let found = times(repeats, &mut || {
                let begun = Instant::now();
                graph.launch(&stream)?;
                stream.wait()?;
                Ok(microseconds(begun.elapsed().as_secs_f64(), ROW))
            })?;
            (found, format!("a graph of {ROW} kernels in a row"))
        }
    };
    Ok(figure(name, &found, false, method))
}
