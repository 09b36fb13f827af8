//! Memory of a device, by kernels of our own.

use std::time::Instant;

use sconce_cuda::kernels::{self, Grid};
use sconce_cuda::{Buffer, Context, Device, Kernel, Module, Nvrtc, Refusal, Stream};

use super::clock::{Clock, Times, Turn};
use super::random::Chance;
use super::{Bench, Effort, Fault, Order, timed};
use crate::answer::Figure;

const NAMES: &[&str] = &["memory-read", "memory-write", "memory-copy", "memory-triad", "l2-read"];
/// Bytes of an array, if there is room: many times what any cache holds.
const ARRAY: usize = 1 << 30;
/// The value that is written, and the one of the last launch: only that one leaves it.
const MARK: u32 = 0x5ca1_ab1e;
const LAST: u32 = 0x1a57_0b13;
/// What the triad multiplies by, and the last one.
const SCALE: f32 = 3.0;
const LAST_SCALE: f32 = 5.0;

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
        work: &mut dyn FnMut(&Stream, Grid, Turn) -> Result<(), Refusal>,
    ) -> Result<(Grid, Times), Refusal> {
        let (order, device, clock) = (self.order, self.device, &self.clock);
        let per_sm: &[u32] = if order.effort == Effort::Quick { &[8] } else { &[2, 4, 8, 16, 32] };
        let mut best: Option<(Grid, f64)> = None;
        for threads in [256, 512, 1024] {
            for blocks in per_sm {
                let grid = Grid { blocks: blocks * device.sm_count, threads };
                let mut on = |stream: &Stream| work(stream, grid, Turn::One);
                clock.time(1, &mut on)?;
                let time = clock.time(5, &mut on)?;
                if best.is_none_or(|(_, least)| time < least) {
                    best = Some((grid, time));
                }
            }
        }
        let grid = best.map_or(Grid { blocks: device.sm_count, threads: 256 }, |(grid, _)| grid);
        let mut on = |stream: &Stream, turn| work(stream, grid, turn);
        let times = clock.repeat(order.seconds(), order.repeats(), &mut on)?;
        Ok((grid, times))
    }

    fn read(&self) -> Result<Figure, Fault> {
        let Self { module, bytes, .. } = self;
        let kernel = module.kernel(c"read_all")?;
        let (grid, times) = self.added_up(
            *bytes,
            |stream, grid, x, out| kernels::read_all(&kernel, stream, grid, x, out),
            |_, once| once,
        )?;
        Ok(timed("memory-read", &times, method(*bytes, grid), rate(*bytes as f64)))
    }

    /// The times of a kernel that adds up `bytes` of numbers, and adds its sum to that of the launches before it: of the last group all
    /// are compared. `adds` is what one launch adds, by the sum of the numbers.
    fn added_up(
        &self,
        bytes: usize,
        launch: impl Fn(&Stream, Grid, &Buffer, &Buffer) -> Result<(), Refusal>,
        adds: impl Fn(Grid, u32) -> u32,
    ) -> Result<(Grid, Times), Fault> {
        let host = words(&mut Chance::new(self.order.seed), bytes);
        let (x, out) = (Buffer::of(self.context, &host)?, Buffer::new(self.context, 4)?);
        let mut launches = 0u32;
        let (grid, times) = self.fastest(&mut |stream, grid, turn| {
            if turn == Turn::Before {
                launches = 0;
                return out.fill(stream, 0);
            }
            launches = launches.wrapping_add(1);
            launch(stream, grid, &x, &out)
        })?;
        self.clock.stream.wait()?;
        let got = out.read::<i32>()?.first().map_or(0, |sum| *sum as u32);
        let wanted = adds(grid, sum(&host)).wrapping_mul(launches);
        if got == wanted {
            return Ok((grid, times));
        }
        Err(Fault::Wrong(format!(
            "the sum of what {launches} timed launches read is {got}, and is {wanted}"
        )))
    }

    fn write(&self) -> Result<Figure, Fault> {
        let Self { module, context, clock, bytes, .. } = self;
        let bytes = *bytes;
        let kernel = module.kernel(c"write_all")?;
        let y = Buffer::new(context, bytes)?;
        let (grid, times) = self.fastest(&mut |stream, grid, turn| match turn {
            Turn::Before => y.fill(stream, 0xff),
            Turn::One => kernels::write_all(&kernel, stream, grid, &y, MARK),
            Turn::Last => kernels::write_all(&kernel, stream, grid, &y, LAST),
        })?;
        clock.stream.wait()?;
        let wrong = y.read::<i32>()?.iter().filter(|value| **value as u32 != LAST).count();
        if wrong > 0 {
            return Err(Fault::Wrong(format!(
                "{wrong} numbers were not written by the last timed launch"
            )));
        }
        Ok(timed("memory-write", &times, method(bytes, grid), rate(bytes as f64)))
    }

    fn copy(&self) -> Result<Figure, Fault> {
        let Self { module, context, order, clock, bytes, .. } = self;
        let bytes = *bytes;
        let kernel = module.kernel(c"copy_all")?;
        let host = words(&mut Chance::new(order.seed), bytes);
        let (x, y) = (Buffer::of(context, &host)?, Buffer::new(context, bytes)?);
        let last = Buffer::new(context, bytes)?;
        let (grid, ours) = self.fastest(&mut |stream, grid, turn| match turn {
            Turn::Before => last.fill(stream, 0xff),
            Turn::One => kernels::copy_all(&kernel, stream, grid, &x, &y),
            Turn::Last => kernels::copy_all(&kernel, stream, grid, &x, &last),
        })?;
        clock.stream.wait()?;
        same(&host, &last, "the last timed launch of the kernel")?;
        let driver =
            clock.repeat(order.seconds(), order.repeats(), &mut |stream, turn| match turn {
                Turn::Before => last.fill(stream, 0xff),
                Turn::One => y.copy_from(&x, stream).map(drop),
                Turn::Last => last.copy_from(&x, stream).map(drop),
            })?;
        clock.stream.wait()?;
        same(&host, &last, "the last timed cuMemcpyDtoD")?;
        // Read and written.
        let moved = 2.0 * bytes as f64;
        Ok(match ours.median() < driver.median() {
            true => timed("memory-copy", &ours, method(bytes, grid), rate(moved)),
            false => {
                let method = format!("{} MiB, cuMemcpyDtoD", bytes >> 20);
                timed("memory-copy", &driver, method, rate(moved))
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
        let (grid, times) = self.fastest(&mut |stream, grid, turn| {
            let scale = match turn {
                Turn::Before => return a.fill(stream, 0xff),
                Turn::One => SCALE,
                Turn::Last => LAST_SCALE,
            };
            kernels::triad(&kernel, stream, grid, (&a, &there_b, &there_c), scale)
        })?;
        clock.stream.wait()?;
        let got = a.read::<f32>()?;
        let right = |(got, (b, c)): (&f32, (&f32, &f32))| *got == b + LAST_SCALE * c;
        let wrong = got.iter().zip(b.iter().zip(&c)).filter(|one| !right(*one)).count();
        if wrong > 0 {
            return Err(Fault::Wrong(format!("{wrong} numbers of the last timed triad are wrong")));
        }
        Ok(timed("memory-triad", &times, method(bytes, grid), rate(3.0 * bytes as f64)))
    }

    fn cache(&self) -> Result<Figure, Fault> {
        let Self { module, device, .. } = self;
        /// Rounds in one launch: its own cost must not count.
        const ROUNDS: u64 = 200;
        let kernel: Kernel = module.kernel(c"read_again")?;
        let bytes = (device.l2_bytes as usize / 4).clamp(1 << 20, 64 << 20) & !0xfff;
        let (grid, times) = self.added_up(
            bytes,
            |stream, grid, x, out| kernels::read_again(&kernel, stream, grid, (x, ROUNDS), out),
            |grid, once| kernels::read_again_adds(grid, ROUNDS, once),
        )?;
        let read = bytes as f64 * ROUNDS as f64;
        Ok(timed("l2-read", &times, method(bytes, grid), rate(read)))
    }
}

fn rate(bytes: f64) -> impl Fn(f64) -> f64 {
    move |seconds| bytes / seconds / 1e9
}

/// The sum of 32-bit numbers, as the kernels add them up.
fn sum(host: &[u8]) -> u32 {
    let words = host.chunks_exact(4).filter_map(|four| four.first_chunk());
    words.fold(0, |sum: u32, four| sum.wrapping_add(u32::from_le_bytes(*four)))
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
