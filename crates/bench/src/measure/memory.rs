//! Memory of a device, by kernels of our own.

use std::time::Instant;

use sconce_cuda::kernels::{self, Grid};
use sconce_cuda::{Buffer, Context, Device, Kernel, Module, Nvrtc, Refusal, Stream};

use super::clock::{Clock, Times};
use super::random::Chance;
use super::{Bench, Effort, Fault, Order, figure};
use crate::answer::Figure;

const NAMES: &[&str] = &["memory-read", "memory-write", "memory-copy", "memory-triad", "l2-read"];
/// Bytes of an array, if there is room: many times what any cache holds.
const ARRAY: usize = 1 << 30;
/// The value that is written.
const MARK: u32 = 0x5ca1_ab1e;

pub(super) fn measure(bench: &mut Bench) {
    for (device, context) in bench.gpus.clone() {
        let gpu = [Bench::number(&device)];
        let wanted: Vec<&str> =
            NAMES.iter().copied().filter(|name| bench.order.wants(name)).collect();
        let module = module(bench.order, &device, &context);
        for name in wanted {
            let begun = Instant::now();
            let found = module.as_ref().map_err(|refusal| Fault::Refused(refusal.clone()));
            let found = found.and_then(|module| one(name, module, &device, &context, bench.order));
            bench.answer(name, &gpu, begun, found);
        }
    }
}

/// The kernels, compiled for a device.
pub(super) fn module(order: &Order, device: &Device, context: &Context) -> Result<Module, Refusal> {
    let nvrtc = Nvrtc::find(order.places)?.ok_or(Refusal::Missing { name: "libnvrtc" })?;
    Module::load(context, &nvrtc.compile(kernels::SOURCE, device.capability)?)
}

fn one(
    name: &str,
    module: &Module,
    device: &Device,
    context: &Context,
    order: &Order,
) -> Result<Figure, Fault> {
    let (free, _) = context.memory()?;
    let bytes = ARRAY.min(free as usize / 5) & !0xfff;
    // What the cache holds is no measure of the memory.
    let least = 4 * device.l2_bytes;
    if (bytes as u64) < least && name != "l2-read" {
        let answer =
            format!("{free} bytes free, and an array must have {least} not to fit the cache");
        return Err(Fault::Refused(Refusal::Absurd { call: "cuMemGetInfo_v2", answer }));
    }
    let place = Place { module, device, context, order, clock: Clock::new(context)?, bytes };
    match name {
        "memory-read" => place.read(),
        "memory-write" => place.write(),
        "memory-copy" => place.copy(),
        "memory-triad" => place.triad(),
        _ => place.cache(),
    }
}

/// Where a figure is measured.
struct Place<'a> {
    module: &'a Module,
    device: &'a Device,
    context: &'a Context,
    order: &'a Order<'a>,
    clock: Clock,
    /// Of each array.
    bytes: usize,
}

impl Place<'_> {
    /// The fastest of some grids, and its repeated times.
    fn fastest(
        &self,
        work: &mut dyn FnMut(&Stream, Grid) -> Result<(), Refusal>,
    ) -> Result<(Grid, Times), Refusal> {
        let (order, device, clock) = (self.order, self.device, &self.clock);
        let per_sm: &[u32] = if order.effort == Effort::Quick { &[8] } else { &[2, 4, 8, 16, 32] };
        let mut best: Option<(Grid, f64)> = None;
        for threads in [256, 512, 1024] {
            for blocks in per_sm {
                let grid = Grid { blocks: blocks * device.sm_count, threads };
                let mut on = |stream: &Stream| work(stream, grid);
                clock.time(1, &mut on)?;
                let time = clock.time(5, &mut on)?;
                if best.is_none_or(|(_, least)| time < least) {
                    best = Some((grid, time));
                }
            }
        }
        let grid = best.map_or(Grid { blocks: device.sm_count, threads: 256 }, |(grid, _)| grid);
        let times =
            clock.repeat(order.seconds(), order.repeats(), &mut |stream| work(stream, grid))?;
        Ok((grid, times))
    }

    fn read(&self) -> Result<Figure, Fault> {
        let Self { module, context, order, clock, bytes, .. } = self;
        let bytes = *bytes;
        let kernel = module.kernel(c"read_all")?;
        let host = words(&mut Chance::new(order.seed), bytes);
        let (x, out) = (Buffer::of(context, &host)?, Buffer::new(context, 4)?);
        out.fill(&clock.stream, 0)?;
        let (grid, times) =
            self.fastest(&mut |stream, grid| kernels::read_all(&kernel, stream, grid, &x, &out))?;
        out.fill(&clock.stream, 0)?;
        kernels::read_all(&kernel, &clock.stream, grid, &x, &out)?;
        clock.stream.wait()?;
        let wanted = host
            .chunks_exact(4)
            .filter_map(|four| four.first_chunk())
            .fold(0u32, |sum, four| sum.wrapping_add(u32::from_le_bytes(*four)));
        let got = out.read::<i32>()?.first().map_or(0, |sum| *sum as u32);
        if got != wanted {
            return Err(Fault::Wrong(format!(
                "the sum of what was read is {got}, and is {wanted}"
            )));
        }
        let method = method(bytes, grid);
        Ok(figure("memory-read", &rates(bytes as f64, &times), true, method))
    }

    fn write(&self) -> Result<Figure, Fault> {
        let Self { module, context, clock, bytes, .. } = self;
        let bytes = *bytes;
        let kernel = module.kernel(c"write_all")?;
        let y = Buffer::new(context, bytes)?;
        y.fill(&clock.stream, 0xff)?;
        let (grid, times) =
            self.fastest(&mut |stream, grid| kernels::write_all(&kernel, stream, grid, &y, MARK))?;
        clock.stream.wait()?;
        let wrong = y.read::<i32>()?.iter().filter(|value| **value as u32 != MARK).count();
        if wrong > 0 {
            return Err(Fault::Wrong(format!("{wrong} numbers were not written")));
        }
        Ok(figure("memory-write", &rates(bytes as f64, &times), true, method(bytes, grid)))
    }

    fn copy(&self) -> Result<Figure, Fault> {
        let Self { module, context, order, clock, bytes, .. } = self;
        let bytes = *bytes;
        let kernel = module.kernel(c"copy_all")?;
        let host = words(&mut Chance::new(order.seed), bytes);
        let (x, y) = (Buffer::of(context, &host)?, Buffer::new(context, bytes)?);
        y.fill(&clock.stream, 0xff)?;
        let (grid, ours) =
            self.fastest(&mut |stream, grid| kernels::copy_all(&kernel, stream, grid, &x, &y))?;
        same(&host, &y, "the kernel")?;
        y.fill(&clock.stream, 0xff)?;
        let driver = clock.repeat(order.seconds(), order.repeats(), &mut |stream| {
            y.copy_from(&x, stream).map(drop)
        })?;
        clock.stream.wait()?;
        same(&host, &y, "cuMemcpyDtoD")?;
        // Read and written.
        let moved = 2.0 * bytes as f64;
        Ok(match ours.median() < driver.median() {
            true => figure("memory-copy", &rates(moved, &ours), true, method(bytes, grid)),
            false => {
                let method = format!("{} MiB, cuMemcpyDtoD", bytes >> 20);
                figure("memory-copy", &rates(moved, &driver), true, method)
            }
        })
    }

    fn triad(&self) -> Result<Figure, Fault> {
        let Self { module, context, order, clock, bytes, .. } = self;
        let bytes = *bytes;
        let kernel = module.kernel(c"triad")?;
        let mut chance = Chance::new(order.seed);
        // Small whole numbers: every result is exact.
        let mut numbers =
            || -> Vec<f32> { (0..bytes / 4).map(|_| (chance.bits() >> 54) as f32).collect() };
        let (b, c) = (numbers(), numbers());
        let (there_b, there_c) = (Buffer::of(context, &b)?, Buffer::of(context, &c)?);
        let a = Buffer::new(context, bytes)?;
        a.fill(&clock.stream, 0xff)?;
        let (grid, times) = self.fastest(&mut |stream, grid| {
            kernels::triad(&kernel, stream, grid, (&a, &there_b, &there_c), 3.0)
        })?;
        clock.stream.wait()?;
        let got = a.read::<f32>()?;
        let right = |(got, (b, c)): (&f32, (&f32, &f32))| *got == b + 3.0 * c;
        let wrong = got.iter().zip(b.iter().zip(&c)).filter(|one| !right(*one)).count();
        if wrong > 0 {
            return Err(Fault::Wrong(format!("{wrong} numbers of the triad are wrong")));
        }
        Ok(figure("memory-triad", &rates(3.0 * bytes as f64, &times), true, method(bytes, grid)))
    }

    fn cache(&self) -> Result<Figure, Fault> {
        let Self { module, device, context, order, .. } = self;
        /// Rounds in one launch: its own cost must not count.
        const ROUNDS: u64 = 200;
        let kernel: Kernel = module.kernel(c"read_again")?;
        let bytes = (device.l2_bytes as usize / 4).clamp(1 << 20, 64 << 20) & !0xfff;
        let host = words(&mut Chance::new(order.seed), bytes);
        let (x, out) = (Buffer::of(context, &host)?, Buffer::new(context, 4)?);
        let (grid, times) = self.fastest(&mut |stream, grid| {
            kernels::read_again(&kernel, stream, grid, (&x, ROUNDS), &out)
        })?;
        let read = bytes as f64 * ROUNDS as f64;
        Ok(figure("l2-read", &rates(read, &times), true, method(bytes, grid)))
    }
}

fn rates(bytes: f64, times: &Times) -> Vec<f64> {
    times.0.iter().map(|seconds| bytes / seconds / 1e9).collect()
}

fn words(chance: &mut Chance, bytes: usize) -> Vec<u8> {
    let mut words = vec![0; bytes];
    for place in words.chunks_exact_mut(8) {
        place.copy_from_slice(&chance.bits().to_le_bytes());
    }
    words
}

fn method(bytes: usize, grid: Grid) -> String {
    let Grid { blocks, threads } = grid;
    format!("{} MiB, {blocks} blocks of {threads} threads", bytes >> 20)
}

fn same(host: &[u8], there: &Buffer, who: &str) -> Result<(), Fault> {
    let wrong = there.read::<u8>()?.iter().zip(host).filter(|(got, wanted)| got != wanted).count();
    match wrong {
        0 => Ok(()),
        wrong => Err(Fault::Wrong(format!("{wrong} bytes that {who} copied are wrong"))),
    }
}
