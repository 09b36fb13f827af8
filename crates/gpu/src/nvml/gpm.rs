//! GPM: how busy the parts of a GPU were between two samples (Hopper and later).

use std::ffi::{c_char, c_double, c_int, c_uint, c_void};
use std::ptr;
use std::sync::Arc;

use super::Device;
use super::call::call;
use super::session::Session;
use super::turn::Turn;

/// As many metrics as a structure of any driver's header has room for (`NVML_GPM_METRIC_MAX`: 98 to 333).
const ROOM: usize = 512;

/// The metrics that are asked for (`nvmlGpmMetricId_t`), in the order of [`Activity`]'s fields.
const ASKED: [c_uint; 12] = [1, 2, 3, 4, 5, 10, 11, 12, 13, 20, 21, 60];
const NVLINK_TX: c_uint = 61;

/// Percent of the time, or of the peak; MiB a second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Activity {
    /// Anything ran.
    pub graphics: Option<f64>,
    /// Multiprocessors with work.
    pub sm: Option<f64>,
    /// Warps of all that fit.
    pub occupancy: Option<f64>,
    /// Integer operations.
    pub integer: Option<f64>,
    /// Tensor cores.
    pub tensor: Option<f64>,
    /// Memory bandwidth.
    pub dram: Option<f64>,
    /// FP64 outside of tensor cores.
    pub fp64: Option<f64>,
    /// FP32.
    pub fp32: Option<f64>,
    /// FP16.
    pub fp16: Option<f64>,
    /// Sent over PCIe.
    pub pcie_tx: Option<f64>,
    /// Received over PCIe.
    pub pcie_rx: Option<f64>,
    /// Received over all NVLinks.
    pub nvlink_rx: Option<f64>,
    /// Sent over all NVLinks.
    pub nvlink_tx: Option<f64>,
}

/// `nvmlGpmMetric_t`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Metric {
    id: c_uint,
    code: c_int,
    value: c_double,
    names: [*mut c_char; 3],
}
const _: () = assert!(size_of::<Metric>() == 40);

/// `nvmlGpmMetricsGet_t`.
#[repr(C)]
struct MetricsGet {
    version: c_uint,
    count: c_uint,
    samples: [*mut c_void; 2],
    metrics: [Metric; ROOM],
}
const _: () = assert!(std::mem::offset_of!(MetricsGet, metrics) == 24);

/// `nvmlGpmSupport_t`.
#[repr(C)]
#[derive(Default)]
struct Support {
    version: c_uint,
    supported: c_uint,
}

type Sample = *mut c_void;
type Alloc = unsafe extern "C" fn(*mut Sample) -> c_int;
type Free = unsafe extern "C" fn(Sample) -> c_int;
type Take = unsafe extern "C" fn(Device, Sample) -> c_int;
type TakeMig = unsafe extern "C" fn(Device, c_uint, Sample) -> c_int;
type Metrics = unsafe extern "C" fn(*mut MetricsGet) -> c_int;

/// What was sampled of a GPU, or of one of its GPU instances, and what is to be sampled next.
pub struct Gpm {
    session: Arc<Session>,
    gpu: usize,
    instance: Option<u32>,
    samples: [Sample; 2],
    /// Whether the first sample holds something.
    begun: bool,
    metrics: Metrics,
    free: Free,
}

// SAFETY: NVML's functions may be called from any thread; the samples are owned by this value alone.
unsafe impl Send for Gpm {}

impl Gpm {
    /// Where the GPU has GPM; for an instance of MIG its number.
    pub fn open(session: &Arc<Session>, gpu: usize, instance: Option<u32>) -> Option<Self> {
        let device = session.device(gpu)?;
        let turn = Turn::wait()?;
        let support = Support { version: 1, supported: 0 };
        let support = session.nvml.get(c"nvmlGpmQueryDeviceSupport", device, support)?;
        if support.supported == 0 {
            return None;
        }
        let alloc = session.nvml.symbol::<Alloc>(c"nvmlGpmSampleAlloc")?;
        let mut opened = Self {
            session: Arc::clone(session),
            gpu,
            instance,
            samples: [ptr::null_mut(); 2],
            begun: false,
            metrics: session.nvml.symbol(c"nvmlGpmMetricsGet")?,
            free: session.nvml.symbol(c"nvmlGpmSampleFree")?,
        };
        let make = |sample: &mut Sample| {
            // SAFETY: the signature is nvml.h's; the place outlives the call.
            call(c"nvmlGpmSampleAlloc", || unsafe { alloc(sample) })
        };
        let allocated = opened.samples.iter_mut().all(|sample| make(sample) == 0);
        // What is dropped takes a turn of its own.
        drop(turn);
        allocated.then_some(opened)
    }

    fn take(&self, _turn: &Turn, into: Sample) -> Option<()> {
        let device = self.session.device(self.gpu)?;
        let code = match self.instance {
            None => {
                let take = self.session.nvml.symbol::<Take>(c"nvmlGpmSampleGet")?;
                // SAFETY: the signature is nvml.h's; the sample was allocated by it and not freed.
                call(c"nvmlGpmSampleGet", || unsafe { take(device, into) })
            }
            Some(instance) => {
                let take = self.session.nvml.symbol::<TakeMig>(c"nvmlGpmMigSampleGet")?;
                // SAFETY: as above.
                call(c"nvmlGpmMigSampleGet", || unsafe { take(device, instance, into) })
            }
        };
        (code == 0).then_some(())
    }

    /// What went on since the last call; nothing at the first, and while a call about another GPU does not come back.
    pub fn activity(&mut self) -> Option<Activity> {
        let turn = Turn::wait()?;
        let [before, now] = self.samples;
        if !self.begun {
            self.begun = self.take(&turn, before).is_some();
            return None;
        }
        if self.take(&turn, now).is_none() {
            self.begun = false;
            return None;
        }
        let none = Metric { id: 0, code: 0, value: 0.0, names: [ptr::null_mut(); 3] };
        let mut asked = Box::new(MetricsGet {
            version: 1,
            count: ASKED.len() as c_uint + 1,
            samples: [before, now],
            metrics: [none; ROOM],
        });
        for (metric, id) in asked.metrics.iter_mut().zip(ASKED.into_iter().chain([NVLINK_TX])) {
            metric.id = id;
        }
        // SAFETY: the signature is nvml.h's; the structure has room for more metrics than are said, and both samples are
        // allocated.
        let code = call(c"nvmlGpmMetricsGet", || unsafe { (self.metrics)(&mut *asked) });
        drop(turn);
        self.samples.swap(0, 1);
        if code != 0 {
            return None;
        }
        let value = |at: usize| {
            let metric = asked.metrics.get(at)?;
            let plausible = metric.value.is_finite() && metric.value >= 0.0;
            (metric.code == 0 && plausible).then_some(metric.value)
        };
        let percent = |at: usize| value(at).filter(|value| *value <= 100.5);
        Some(Activity {
            graphics: percent(0),
            sm: percent(1),
            occupancy: percent(2),
            integer: percent(3),
            tensor: percent(4),
            dram: percent(5),
            fp64: percent(6),
            fp32: percent(7),
            fp16: percent(8),
            pcie_tx: value(9),
            pcie_rx: value(10),
            nvlink_rx: value(11),
            nvlink_tx: value(12),
        })
    }
}

impl Drop for Gpm {
    fn drop(&mut self) {
        // Without a turn they stay: a few kilobytes, once.
        let Some(_turn) = Turn::wait() else { return };
        for sample in self.samples.into_iter().filter(|sample| !sample.is_null()) {
            // SAFETY: allocated by NVML, freed once.
            let _ = call(c"nvmlGpmSampleFree", || unsafe { (self.free)(sample) });
        }
    }
}
