//! One GPU's thread: only it waits where NVML blocks over this GPU.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use sconce_gpu::nvml::Fabric;
use sconce_gpu::nvml::gpm::{Activity, Gpm};
use sconce_gpu::nvml::processes::Process;
use sconce_gpu::nvml::reading::{self, Dear, MemoryUse, Reading, Slow, State};
use sconce_gpu::nvml::session::Session;

use crate::metric::{Metric, Values};
use crate::sample::Instance;

/// How often NVML's utilization is asked where GPM says the same and more: it takes 2 ms on an H100, GPM one.
const UTILIZATION: Duration = Duration::from_secs(2);
/// What changes slowly, and the list of processes.
const SLOW: Duration = Duration::from_secs(5);
/// What takes longest: energy 4.5 ms, PCIe rates (where there is no GPM) 20 ms each.
const DEAR: Duration = Duration::from_secs(10);
/// What changes when something breaks: a hundred calls of 2 ms for the links alone.
const STATE: Duration = Duration::from_secs(60);
/// A look is a little early now and then.
const EARLY: Duration = Duration::from_millis(100);
/// Threads need little.
const STACK: usize = 256 << 10;

/// What a worker found.
pub(crate) struct Found {
    /// The worker's place among them.
    pub worker: usize,
    /// Which session it belongs to.
    pub generation: u64,
    /// What was found; the `nvmlReturn_t` of a GPU that is lost.
    pub what: Result<Box<Look>, i32>,
}

/// A look at a GPU.
#[derive(Default)]
pub(crate) struct Look {
    pub values: Values,
    pub fabric: Option<Fabric>,
    pub mig: bool,
    pub instances: Vec<Instance>,
    pub processes: Option<Vec<Process>>,
}

/// A worker, as the sampler holds it. It ends when this goes.
pub(crate) struct Worker {
    ask: SyncSender<()>,
    thread: thread::JoinHandle<()>,
    pub busy: bool,
}

impl Worker {
    pub(crate) fn start(
        session: Arc<Session>,
        gpu: usize,
        worker: usize,
        generation: u64,
        answers: Sender<Found>,
    ) -> Option<Self> {
        let (ask, asked) = sync_channel(1);
        let builder = thread::Builder::new().name(format!("gpu {worker}")).stack_size(STACK);
        let run = move || {
            let mut eye = Eye::new(session, gpu);
            work(&mut eye, &asked, worker, generation, &answers);
        };
        builder.spawn(run).ok().map(|thread| Self { ask, thread, busy: false })
    }

    /// Ends it: it goes once it is done, and is out of NVML when the thread has ended.
    pub(crate) fn end(self) -> thread::JoinHandle<()> {
        self.thread
    }

    /// Asks for a look, if it is done with the last one.
    pub(crate) fn ask(&mut self) {
        if !self.busy {
            self.busy = self.ask.try_send(()).is_ok();
        }
    }
}

fn work(
    eye: &mut Eye,
    asked: &Receiver<()>,
    worker: usize,
    generation: u64,
    answers: &Sender<Found>,
) {
    while asked.recv().is_ok() {
        if answers.send(Found { worker, generation, what: eye.look() }).is_err() {
            return;
        }
    }
}

/// What asks about one GPU, and what it remembers between two looks.
struct Eye {
    session: Arc<Session>,
    gpu: usize,
    gpm: Option<Gpm>,
    utilization: Option<(Instant, Option<(u32, u32)>)>,
    slow: Option<(Instant, Slow)>,
    processes: Option<Vec<Process>>,
    dear: Option<(Instant, Dear)>,
    rates: (Option<u64>, Option<u64>),
    state: Option<(Instant, State)>,
    mig: bool,
    instances: Vec<(reading::Instance, Option<Gpm>)>,
}

impl Eye {
    fn new(session: Arc<Session>, gpu: usize) -> Self {
        let gpm = Gpm::open(&session, gpu, None);
        Self {
            session,
            gpu,
            gpm,
            utilization: None,
            slow: None,
            processes: None,
            dear: None,
            rates: (None, None),
            state: None,
            mig: false,
            instances: Vec::new(),
        }
    }

    fn look(&mut self) -> Result<Box<Look>, i32> {
        let (session, gpu) = (&self.session, self.gpu);
        session.presence(gpu)?;
        let mut look = Box::new(Look::default());
        put_reading(&mut look.values, &session.reading(gpu));
        let now = Instant::now();
        let due =
            |last: Option<Instant>, every| last.is_none_or(|last| now - last + EARLY >= every);
        let often = if self.gpm.is_some() { UTILIZATION } else { Duration::ZERO };
        if due(self.utilization.map(|(at, _)| at), often) {
            self.utilization = Some((now, session.utilization(gpu)));
        }
        let (busy, memory) = self.utilization.and_then(|(_, both)| both).unzip();
        look.values.set(Metric::Utilization, scaled(busy, 0.01));
        look.values.set(Metric::MemoryActive, scaled(memory, 0.01));
        if due(self.state.as_ref().map(|(at, _)| *at), STATE) {
            self.state = Some((now, session.state(gpu)));
        }
        if due(self.slow.as_ref().map(|(at, _)| *at), SLOW) {
            self.slow = Some((now, session.slow(gpu)));
            self.processes = session.processes(gpu);
            self.mig = session.mig(gpu);
            let found = if self.mig { session.instances(gpu) } else { Vec::new() };
            if !self.instances.iter().map(|(instance, _)| instance).eq(&found) {
                let with = |instance: reading::Instance| {
                    let gpm = Gpm::open(session, gpu, Some(instance.gpu_instance));
                    (instance, gpm)
                };
                self.instances = found.into_iter().map(with).collect();
            }
        }
        if due(self.dear.as_ref().map(|(at, _)| *at), DEAR) {
            self.dear = Some((now, session.dear(gpu)));
            // GPM has them too, without the wait.
            if self.gpm.is_none() {
                self.rates = session.pcie_bytes(gpu);
            }
        }
        if let Some((_, state)) = &self.state {
            put_state(&mut look.values, state);
            look.fabric = state.fabric;
        }
        if let Some((_, slow)) = &self.slow {
            put_slow(&mut look.values, slow);
        }
        if let Some((_, dear)) = &self.dear {
            put_dear(&mut look.values, dear);
        }
        look.processes.clone_from(&self.processes);
        look.values.set(Metric::PcieTx, self.rates.0.map(|rate| rate as f64));
        look.values.set(Metric::PcieRx, self.rates.1.map(|rate| rate as f64));
        // Of a GPU that is split, only its instances have activity.
        if let Some(activity) = self.gpm.as_mut().filter(|_| !self.mig).and_then(Gpm::activity) {
            put_activity(&mut look.values, &activity);
        }
        look.mig = self.mig;
        for (instance, gpm) in &mut self.instances {
            let mut values = Values::default();
            put_memory(&mut values, session.instance_memory(instance));
            if let Some(activity) = gpm.as_mut().and_then(Gpm::activity) {
                put_activity(&mut values, &activity);
            }
            look.instances.push(Instance {
                uuid: instance.uuid.clone().unwrap_or_default(),
                profile: instance.profile.clone().unwrap_or_default(),
                gpu_instance: instance.gpu_instance,
                compute_instance: instance.compute_instance,
                values,
                ..Instance::default()
            });
        }
        Ok(look)
    }
}

fn scaled(number: Option<impl Into<f64>>, by: f64) -> Option<f64> {
    number.map(|number| number.into() * by)
}

fn count(number: Option<u64>) -> Option<f64> {
    number.map(|number| number as f64)
}

fn put_reading(values: &mut Values, reading: &Reading) {
    values.set(Metric::SmClock, scaled(reading.sm_mhz, 1e6));
    values.set(Metric::Power, scaled(reading.power_mw, 1e-3));
    values.set(Metric::Temperature, scaled(reading.temperature_c, 1.0));
    values.set(Metric::ClockReasons, count(reading.reasons));
    put_memory(values, reading.memory);
}

fn put_memory(values: &mut Values, memory: Option<MemoryUse>) {
    values.set(Metric::MemoryTotal, count(memory.map(|memory| memory.total)));
    values.set(Metric::MemoryUsed, count(memory.map(|memory| memory.used)));
    values.set(Metric::MemoryFree, count(memory.map(|memory| memory.free)));
    values.set(Metric::MemoryReserved, count(memory.and_then(|memory| memory.reserved)));
}

fn put_slow(values: &mut Values, slow: &Slow) {
    values.set(Metric::MemoryClock, scaled(slow.memory_mhz, 1e6));
    let (generation, lanes) = slow.pcie.unzip();
    values.set(Metric::PcieGeneration, scaled(generation, 1.0));
    values.set(Metric::PcieLanes, scaled(lanes, 1.0));
    values.set(Metric::MemoryTemperature, scaled(slow.memory_temperature_c, 1.0));
    values.set(Metric::TemperatureMargin, scaled(slow.margin_c, 1.0));
    values.set(Metric::NvlinkTxBytes, slow.nvlink_tx_kib.map(|kib| kib as f64 * 1024.0));
    values.set(Metric::NvlinkRxBytes, slow.nvlink_rx_kib.map(|kib| kib as f64 * 1024.0));
}

fn put_dear(values: &mut Values, dear: &Dear) {
    values.set(Metric::Energy, dear.energy_mj.map(|energy| energy as f64 * 1e-3));
    values.set(Metric::Encoder, scaled(dear.encoder, 0.01));
    values.set(Metric::Decoder, scaled(dear.decoder, 0.01));
    values.set(Metric::PowerLimit, scaled(dear.power_limit_mw, 1e-3));
}

fn put_state(values: &mut Values, state: &State) {
    values.set(Metric::PowerDefault, scaled(state.power_default_mw, 1e-3));
    values.set(Metric::SmClockMax, scaled(state.sm_max_mhz, 1e6));
    let (generation, lanes) = state.pcie_best.unzip();
    values.set(Metric::PcieGenerationMax, scaled(generation, 1.0));
    values.set(Metric::PcieLanesMax, scaled(lanes, 1.0));
    values.set(Metric::PcieReplays, scaled(state.pcie_replays, 1.0));
    values.set(Metric::EccCorrected, count(state.ecc.0));
    values.set(Metric::EccUncorrected, count(state.ecc.1));
    values.set(Metric::EccLifeCorrected, count(state.ecc_of_life.0));
    values.set(Metric::EccLifeUncorrected, count(state.ecc_of_life.1));
    if let Some((correctable, uncorrectable, pending, failed)) = state.remapped {
        values.set(Metric::RemappedCorrectable, Some(f64::from(correctable)));
        values.set(Metric::RemappedUncorrectable, Some(f64::from(uncorrectable)));
        values.set(Metric::RemapPending, Some(f64::from(u8::from(pending))));
        values.set(Metric::RemapFailed, Some(f64::from(u8::from(failed))));
    }
    let (up, all) = state.nvlinks.unzip();
    values.set(Metric::NvlinksUp, scaled(up, 1.0));
    values.set(Metric::Nvlinks, scaled(all, 1.0));
    let [replays, recoveries, crc] = state.nvlink_errors.map(count);
    values.set(Metric::NvlinkReplays, replays);
    values.set(Metric::NvlinkRecoveries, recoveries);
    values.set(Metric::NvlinkCrc, crc);
    values.set(Metric::SlowdownTemperature, scaled(state.slowdown_c, 1.0));
}

fn put_activity(values: &mut Values, activity: &Activity) {
    const MIB: f64 = 1_048_576.0;
    for (metric, value, by) in [
        (Metric::Graphics, activity.graphics, 0.01),
        (Metric::SmActive, activity.sm, 0.01),
        (Metric::SmOccupancy, activity.occupancy, 0.01),
        (Metric::Integer, activity.integer, 0.01),
        (Metric::Tensor, activity.tensor, 0.01),
        (Metric::Dram, activity.dram, 0.01),
        (Metric::Fp64, activity.fp64, 0.01),
        (Metric::Fp32, activity.fp32, 0.01),
        (Metric::Fp16, activity.fp16, 0.01),
        (Metric::PcieTx, activity.pcie_tx, MIB),
        (Metric::PcieRx, activity.pcie_rx, MIB),
        (Metric::NvlinkTx, activity.nvlink_tx, MIB),
        (Metric::NvlinkRx, activity.nvlink_rx, MIB),
    ] {
        values.set(metric, scaled(value, by));
    }
}
