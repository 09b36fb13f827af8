//! Measuring, in a process of its own for each group: a driver in trouble can crash or hang who asks it.

mod believed;
mod burn;
pub mod clock;
mod collectives;
mod convolution;
mod every;
mod identity;
mod latency;
mod memory;
mod products;
pub mod random;
mod sparse;
mod transfers;
pub mod watch;

use std::path::Path;
use std::time::{Duration, Instant};

use sconce_cuda::{Context, Cuda, Device, Places, Refusal};

use crate::answer::{Figure, Gpu, Line, Unavailable};
use crate::figures::{FIGURES, Group, NVML};
use clock::Times;
use watch::Watch;

/// Where this is in the environment NVML is not asked: it took the process down that did.
pub const WITHOUT_NVML: &str = "SCONCE_MEASURE_WITHOUT_NVML";

/// Seconds of a burst, and the pause before it: the power limit of an H100 takes some tens of milliseconds to act.
const BURST: f64 = 0.01;
const PAUSE: Duration = Duration::from_millis(100);

/// How much time a measurement may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Effort {
    /// The figures of the first look, one shape each.
    Quick,
    /// Two minutes.
    #[default]
    Usual,
    /// All shapes, all algorithms, a minute of sustained load.
    Full,
}

/// Which figures, and how.
pub struct Order<'a> {
    /// How much time.
    pub effort: Effort,
    /// These figures; all of the effort's if empty.
    pub only: &'a [String],
    /// Where CUDA's libraries are beside the linker's folders.
    pub places: &'a Places,
    /// The seed of the random numbers.
    pub seed: u64,
    /// How long `burn` takes.
    pub burn: Duration,
    /// The GPUs as they were listed before, where they were: what is measured is one of these, or nobody knows which it is.
    pub listed: &'a [Gpu],
}

impl Order<'_> {
    /// This figure is wanted.
    fn wants(&self, name: &str) -> bool {
        match self.only {
            [] => {
                self.effort != Effort::Quick
                    || FIGURES.iter().any(|row| row.name == name && row.quick)
            }
            only => only.iter().any(|one| one == name),
        }
    }

    /// Repeats of a measurement.
    fn repeats(&self) -> u32 {
        if self.effort == Effort::Quick { 5 } else { 15 }
    }

    /// The times of work that power limits slow down, in bursts; it keeps what its last launch wrote.
    fn bursts(
        &self,
        clock: &clock::Clock,
        work: &mut clock::Work,
    ) -> Result<clock::Times, Refusal> {
        clock.bursts(BURST, PAUSE, self.repeats(), work)
    }

    /// Seconds of a measurement, all repeats together.
    fn seconds(&self) -> f64 {
        match self.effort {
            Effort::Quick => 0.25,
            Effort::Usual => 1.0,
            Effort::Full => 3.0,
        }
    }
}

/// Something that could not be measured.
enum Fault {
    /// CUDA did not do it.
    Refused(Refusal),
    /// It did something wrong.
    Wrong(String),
    /// It was not tried, in words.
    Without(String),
}

impl From<Refusal> for Fault {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// What measuring a group needs.
struct Bench<'a> {
    cuda: &'a Cuda,
    order: &'a Order<'a>,
    gpus: Vec<(Device, Context)>,
    watch: Watch,
    say: &'a mut dyn FnMut(Line),
}

impl Bench<'_> {
    fn number(device: &Device) -> u32 {
        u32::try_from(device.ordinal).unwrap_or_default()
    }

    /// Answers for one figure, with what NVML saw since `begun`.
    fn answer(&mut self, name: &str, gpus: &[u32], begun: Instant, found: Result<Figure, Fault>) {
        let unavailable =
            |reason| Unavailable { figure: name.to_owned(), gpus: gpus.to_vec(), reason };
        (self.say)(match found {
            Ok(mut figure) => {
                let first = gpus.first().copied().unwrap_or_default();
                figure.gpus = gpus.to_vec();
                figure.evidence = figure.evidence.or(self.watch.since(begun, first as usize));
                Line::Figure(figure)
            }
            Err(Fault::Refused(refusal)) => Line::Unavailable(unavailable(refusal.to_string())),
            Err(Fault::Without(reason)) => Line::Unavailable(unavailable(reason)),
            Err(Fault::Wrong(reason)) => Line::Wrong(unavailable(reason)),
        });
    }
}

/// A figure without its GPUs and evidence.
fn figure(name: &str, values: &[f64], more: bool, method: String) -> Figure {
    let best = values.iter().copied().reduce(if more { f64::max } else { f64::min });
    Figure {
        figure: name.to_owned(),
        gpus: Vec::new(),
        value: clock::median(values),
        best: best.unwrap_or_default(),
        spread: clock::spread(values),
        repeats: u32::try_from(values.len()).unwrap_or(u32::MAX),
        method,
        error: None,
        evidence: None,
        curve: Vec::new(),
        timer_within: None,
        timer_longer: false,
    }
}

/// The same of rates that CUDA's timer gives: `of` one such time.
fn timed(name: &str, times: &Times, method: String, of: impl Fn(f64) -> f64) -> Figure {
    let rates: Vec<f64> = times.seconds.iter().map(|seconds| of(*seconds)).collect();
    let (timer_within, timer_longer) = (Some(times.apart), times.longer);
    Figure { timer_within, timer_longer, ..figure(name, &rates, true, method) }
}

/// Measures a group on all devices that CUDA shows; `say` is told of each answer as it comes.
///
/// # Errors
/// CUDA can't be used at all.
pub fn run(group: Group, order: &Order, say: &mut dyn FnMut(Line)) -> Result<(), Refusal> {
    let cuda = Cuda::open(Path::new("libcuda.so.1"))?;
    let devices = cuda.devices()?;
    let answered_before = order.listed.iter().any(|gpu| gpu.board.is_some());
    let watch = Watch::start(&devices, answered_before);
    let (devices, others) = identity::as_listed(devices, order.listed);
    for (gpu, reason) in others {
        let figure = group.name().to_owned();
        say(Line::Unavailable(Unavailable { figure, gpus: vec![gpu], reason }));
    }
    let gpus = devices.into_iter().map(|device| Ok((device.clone(), cuda.context(&device)?)));
    let gpus = gpus.collect::<Result<Vec<_>, Refusal>>()?;
    let mut bench = Bench { cuda: &cuda, order, gpus, watch, say };
    match group {
        Group::Latency => latency::measure(&mut bench),
        Group::Host => transfers::host(&mut bench),
        Group::Memory => memory::measure(&mut bench),
        Group::Products => products::measure(&mut bench),
        Group::Sparse => sparse::measure(&mut bench),
        Group::Convolution => convolution::measure(&mut bench),
        Group::Peers => transfers::peers(&mut bench),
        Group::Collectives => collectives::measure(&mut bench),
        Group::Burn => burn::measure(&mut bench),
        // A program in Python measures these; whoever calls this starts it.
        Group::Torch | Group::Training | Group::Small | Group::Loader => {}
    }
    if let Some(line) = bench.watch.silence(group.name()) {
        (bench.say)(line);
    }
    if let Some(line) = bench.watch.lost(group.name()) {
        (bench.say)(line);
    }
    Ok(())
}

/// The devices as CUDA and NVML show them, a line each; and one that says so, where NVML does not answer.
///
/// # Errors
/// CUDA can't be used at all.
pub fn gpus() -> Result<Vec<Line>, Refusal> {
    let cuda = Cuda::open(Path::new("libcuda.so.1"))?;
    let version = cuda.version().ok();
    let devices = cuda.devices()?;
    let answered = watch::boards(&devices);
    let (answered, why) = match answered {
        Some((known, why)) => (known, why),
        None => {
            let (waited, what) = (watch::PATIENCE.as_secs(), watch::NOT_KNOWN);
            (Vec::new(), Some(format!("no answer after {waited} s: {what}")))
        }
    };
    let silent = why.map(|reason| {
        Line::Unavailable(Unavailable { figure: NVML.to_owned(), gpus: Vec::new(), reason })
    });
    let lost: Vec<Line> = devices
        .iter()
        .zip(&answered)
        .filter_map(|(device, known)| {
            let (what, gpu) = (known.lost.as_deref()?, Bench::number(device));
            let reason = format!(
                "before anything was measured, {what}; what is known of its clocks, power, limits and link is not whole"
            );
            let (figure, gpus) = (NVML.to_owned(), vec![gpu]);
            Some(Line::Unavailable(Unavailable { figure, gpus, reason }))
        })
        .collect();
    let boards = answered.into_iter().chain(std::iter::repeat_with(Default::default));
    let gpus = devices.iter().zip(boards).map(|(device, known)| {
        Line::Gpu(Gpu {
            gpu: Bench::number(device),
            name: device.name.clone(),
            capability: device.capability,
            sm_count: device.sm_count,
            memory_bytes: device.memory_bytes,
            l2_bytes: device.l2_bytes,
            driver: known.driver,
            cuda: version,
            board: known.board,
            others: known.others,
            mig: known.mig,
            nvml_name: known.name,
            twin: known.twin,
            uuid: device.uuid.map(|uuid| identity::text(&uuid)),
            nvml_uuid: known.uuid,
            bus_id: device.bus_id.clone(),
        })
    });
    Ok(gpus.chain(silent).chain(lost).collect())
}
