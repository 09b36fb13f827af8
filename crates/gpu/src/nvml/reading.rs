//! What a GPU says of itself while it works: a reading, in NVML's own units. What it does not support is absent.

use std::ffi::{CStr, c_int, c_uint, c_ulonglong, c_ushort};

use super::call::call;
use super::session::Session;
use super::{Device, Fabric, Nvml};

/// `NVML_FI_DEV_MEMORY_TEMP`, `NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_TX` and `_RX`.
const FIELD_MEMORY_TEMPERATURE: c_uint = 82;
const FIELD_NVLINK_TX: c_uint = 138;
const FIELD_NVLINK_RX: c_uint = 139;
/// `NVML_CLOCK_SM`, `NVML_CLOCK_MEM`.
const CLOCK_SM: c_uint = 1;
const CLOCK_MEMORY: c_uint = 2;
/// `NVML_NVLINK_MAX_LINKS`.
const MOST_LINKS: c_uint = 36;
/// What a counter holds that has no value: `NVML_VALUE_NOT_AVAILABLE` in all widths.
const NO_VALUE: [u64; 2] = [u64::MAX, u32::MAX as u64];

/// What changes all the time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Reading {
    /// Clock of the multiprocessors.
    pub sm_mhz: Option<u32>,
    /// Power.
    pub power_mw: Option<u32>,
    /// Temperature of the chip.
    pub temperature_c: Option<u32>,
    /// Why the clocks are what they are: bits of `nvmlClocksEventReasons`.
    pub reasons: Option<u64>,
    /// Its memory.
    pub memory: Option<MemoryUse>,
}

/// A GPU's memory, bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct MemoryUse {
    /// All of it.
    pub total: u64,
    /// What driver and firmware keep; counted among the used before driver 510.
    pub reserved: Option<u64>,
    /// Not allocated.
    pub free: u64,
    /// Allocated.
    pub used: u64,
}

/// What changes slowly.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Slow {
    /// Clock of the memory.
    pub memory_mhz: Option<u32>,
    /// PCIe generation and lanes now.
    pub pcie: Option<(u32, u32)>,
    /// Temperature of the memory.
    pub memory_temperature_c: Option<u32>,
    /// How far the chip is from slowing down, degrees.
    pub margin_c: Option<i32>,
    /// Bytes sent over all NVLinks, in KiB.
    pub nvlink_tx_kib: Option<u64>,
    /// Bytes received.
    pub nvlink_rx_kib: Option<u64>,
}

/// What takes longest to ask: energy alone 4.5 ms on an H100.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Dear {
    /// Energy since the driver was loaded.
    pub energy_mj: Option<u64>,
    /// Percent of the encoder.
    pub encoder: Option<u32>,
    /// Percent of the decoder.
    pub decoder: Option<u32>,
    /// The power limit in force.
    pub power_limit_mw: Option<u32>,
}

/// What changes when something breaks, or never.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct State {
    /// The power limit that the GPU comes with.
    pub power_default_mw: Option<u32>,
    /// The highest clock of the multiprocessors.
    pub sm_max_mhz: Option<u32>,
    /// The best PCIe generation and number of lanes of board and slot.
    pub pcie_best: Option<(u32, u32)>,
    /// PCIe packets sent again.
    pub pcie_replays: Option<u32>,
    /// Memory errors since the driver was loaded: corrected, uncorrected.
    pub ecc: (Option<u64>, Option<u64>),
    /// Memory errors in the board's life: corrected, uncorrected.
    pub ecc_of_life: (Option<u64>, Option<u64>),
    /// Rows replaced for correctable errors, for uncorrectable ones, whether one waits, whether one failed.
    pub remapped: Option<(u32, u32, bool, bool)>,
    /// NVLinks: how many are active, of how many.
    pub nvlinks: Option<(u32, u32)>,
    /// Errors of all links: packets sent again, recoveries, checksums.
    pub nvlink_errors: [Option<u64>; 3],
    /// How far fabric manager has brought it.
    pub fabric: Option<Fabric>,
    /// Temperature at which the hardware slows down.
    pub slowdown_c: Option<u32>,
}

/// What a GPU is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// `GPU-…`.
    pub uuid: Option<String>,
    /// `NVIDIA H100 80GB HBM3`.
    pub name: Option<String>,
    /// The number in `/dev/nvidia<minor>`.
    pub minor: Option<u32>,
    /// `0000:04:00.0`.
    pub bus_id: Option<String>,
    /// Whether it is split into MIG instances.
    pub mig: Option<bool>,
}

/// An instance of MIG.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Instance {
    /// `MIG-…`.
    pub uuid: Option<String>,
    /// `1g.10gb`.
    pub profile: Option<String>,
    /// GPU instance.
    pub gpu_instance: u32,
    /// Compute instance within it.
    pub compute_instance: u32,
    /// This session's number for it.
    pub(super) device: usize,
}

/// `nvmlUtilization_t`.
#[repr(C)]
#[derive(Default)]
struct Utilization {
    gpu: c_uint,
    memory: c_uint,
}

/// `nvmlMemory_v2_t`.
#[repr(C)]
#[derive(Default)]
struct MemoryV2 {
    version: c_uint,
    total: u64,
    reserved: u64,
    free: u64,
    used: u64,
}
/// `nvmlMemory_v2`: the structure's size, and 2 in the highest byte.
const MEMORY_V2: c_uint = 0x0200_0028;
const _: () = assert!(size_of::<MemoryV2>() == (MEMORY_V2 & 0xff_ffff) as usize);

/// `nvmlMarginTemperature_v1_t`.
#[repr(C)]
#[derive(Default)]
struct Margin {
    version: c_uint,
    degrees: c_int,
}
const MARGIN_V1: c_uint = 0x0100_0008;
const _: () = assert!(size_of::<Margin>() == (MARGIN_V1 & 0xff_ffff) as usize);

/// `nvmlFieldValue_t`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct FieldValue {
    field: c_uint,
    scope: c_uint,
    timestamp: i64,
    latency: i64,
    kind: c_uint,
    code: c_int,
    value: u64,
}
const _: () = assert!(size_of::<FieldValue>() == 40);

impl FieldValue {
    /// Its value as a whole number (`nvmlValueType_t`).
    fn number(&self) -> Option<u64> {
        let value = match self.kind {
            // A double.
            0 => {
                let value = f64::from_bits(self.value);
                (value.is_finite() && value >= 0.0).then_some(value as u64)?
            }
            1 => u64::from(self.value as c_uint),
            2 | 3 => self.value,
            4 => u64::try_from(self.value as i64).ok()?,
            5 => u64::try_from(self.value as c_int).ok()?,
            6 => u64::from(self.value as c_ushort),
            _ => return None,
        };
        (self.code == 0 && !NO_VALUE.contains(&value)).then_some(value)
    }
}

impl Session {
    /// How many GPUs there are.
    ///
    /// # Errors
    /// The `nvmlReturn_t`; `FUNCTION_NOT_FOUND` (13) where the library has no such function.
    pub fn count(&self) -> Result<u32, i32> {
        type Count = unsafe extern "C" fn(*mut c_uint) -> c_int;
        let count = self.nvml.symbol::<Count>(c"nvmlDeviceGetCount_v2").ok_or(13)?;
        let mut number: c_uint = 0;
        // SAFETY: the signature is nvml.h's; `number` outlives the call.
        match call(c"nvmlDeviceGetCount_v2", || unsafe { count(&mut number) }) {
            0 => Ok(number.min(super::MOST)),
            code => Err(code),
        }
    }

    /// This session's number for the GPU at that place in NVML's order.
    ///
    /// # Errors
    /// The `nvmlReturn_t`.
    pub fn by_index(&self, index: u32) -> Result<usize, i32> {
        type ByIndex = unsafe extern "C" fn(c_uint, *mut Device) -> c_int;
        let by_index = self.nvml.symbol::<ByIndex>(c"nvmlDeviceGetHandleByIndex_v2").ok_or(13)?;
        let mut device: Device = std::ptr::null_mut();
        // SAFETY: the signature is nvml.h's; `device` outlives the call.
        let find = || unsafe { by_index(index, &mut device) };
        match call(c"nvmlDeviceGetHandleByIndex_v2", find) {
            0 => Ok(self.keep(device)),
            code => Err(code),
        }
    }

    /// What it is.
    pub fn identity(&self, gpu: usize) -> Identity {
        let Some(device) = self.device(gpu) else { return Identity::default() };
        Identity {
            uuid: self.nvml.text(c"nvmlDeviceGetUUID", device),
            name: self.nvml.text(c"nvmlDeviceGetName", device),
            minor: self.nvml.get::<c_uint>(c"nvmlDeviceGetMinorNumber", device, 0),
            bus_id: self.nvml.bus_id(device),
            mig: self.nvml.mig_mode(device),
        }
    }

    /// Whether it still answers: the `nvmlReturn_t` where it is lost, or needs a reset.
    ///
    /// # Errors
    /// GPU_IS_LOST (15), RESET_REQUIRED (16), DRIVER_NOT_LOADED (9), UNINITIALIZED (1), UNKNOWN (999).
    pub fn presence(&self, gpu: usize) -> Result<(), i32> {
        type OfKind = unsafe extern "C" fn(Device, c_uint, *mut c_uint) -> c_int;
        let Some(device) = self.device(gpu) else { return Err(2) };
        let Some(ask) = self.nvml.symbol::<OfKind>(c"nvmlDeviceGetTemperature") else {
            return Ok(());
        };
        let mut value: c_uint = 0;
        // SAFETY: the signature is nvml.h's; `value` outlives the call.
        match call(c"nvmlDeviceGetTemperature", || unsafe { ask(device, 0, &mut value) }) {
            code @ (1 | 9 | 15 | 16 | 999) => Err(code),
            _ => Ok(()),
        }
    }

    /// What changes all the time, but for the utilization.
    pub fn reading(&self, gpu: usize) -> Reading {
        let Some(device) = self.device(gpu) else { return Reading::default() };
        Reading {
            sm_mhz: self.of_kind(c"nvmlDeviceGetClockInfo", device, CLOCK_SM),
            power_mw: self.nvml.get(c"nvmlDeviceGetPowerUsage", device, 0),
            temperature_c: self.of_kind(c"nvmlDeviceGetTemperature", device, 0),
            reasons: self.reasons(device),
            memory: self.nvml.memory_use(device),
        }
    }

    /// Percent of the time in which a kernel ran, and in which memory was read or written. Takes 2 ms on an H100.
    pub fn utilization(&self, gpu: usize) -> Option<(u32, u32)> {
        let name = c"nvmlDeviceGetUtilizationRates";
        let both = self.nvml.get(name, self.device(gpu)?, Utilization::default())?;
        (both.gpu <= 100 && both.memory <= 100).then_some((both.gpu, both.memory))
    }

    /// Whether it is split into instances.
    pub fn mig(&self, gpu: usize) -> bool {
        self.device(gpu).and_then(|device| self.nvml.mig_mode(device)) == Some(true)
    }

    /// What takes longest to ask.
    pub fn dear(&self, gpu: usize) -> Dear {
        let Some(device) = self.device(gpu) else { return Dear::default() };
        let energy = c"nvmlDeviceGetTotalEnergyConsumption";
        Dear {
            energy_mj: self.nvml.get::<c_ulonglong>(energy, device, 0),
            encoder: self.nvml.percent(c"nvmlDeviceGetEncoderUtilization", device),
            decoder: self.nvml.percent(c"nvmlDeviceGetDecoderUtilization", device),
            power_limit_mw: self.nvml.get(c"nvmlDeviceGetEnforcedPowerLimit", device, 0),
        }
    }

    /// What changes slowly.
    pub fn slow(&self, gpu: usize) -> Slow {
        let Some(device) = self.device(gpu) else { return Slow::default() };
        let [hot, tx, rx] = self.nvml.fields(
            device,
            [
                (FIELD_MEMORY_TEMPERATURE, 0),
                (FIELD_NVLINK_TX, c_uint::MAX),
                (FIELD_NVLINK_RX, c_uint::MAX),
            ],
        );
        let margin = Margin { version: MARGIN_V1, degrees: 0 };
        let margin = self.nvml.get(c"nvmlDeviceGetMarginTemperature", device, margin);
        let number = |name: &CStr| self.nvml.get::<c_uint>(name, device, 0);
        Slow {
            memory_mhz: self.of_kind(c"nvmlDeviceGetClockInfo", device, CLOCK_MEMORY),
            pcie: number(c"nvmlDeviceGetCurrPcieLinkGeneration")
                .zip(number(c"nvmlDeviceGetCurrPcieLinkWidth")),
            // A GPU without such a sensor answers 0.
            memory_temperature_c: hot.filter(|hot| *hot > 0).and_then(|hot| hot.try_into().ok()),
            margin_c: margin.map(|margin| margin.degrees),
            nvlink_tx_kib: tx,
            nvlink_rx_kib: rx,
        }
    }

    /// What changes when something breaks.
    pub fn state(&self, gpu: usize) -> State {
        let Some(device) = self.device(gpu) else { return State::default() };
        let number = |name: &CStr| self.nvml.get::<c_uint>(name, device, 0);
        let errors = |counter| self.nvml.ecc(device, counter);
        let links = self.nvml.links(device);
        State {
            power_default_mw: number(c"nvmlDeviceGetPowerManagementDefaultLimit"),
            sm_max_mhz: self.of_kind(c"nvmlDeviceGetMaxClockInfo", device, CLOCK_SM),
            pcie_best: number(c"nvmlDeviceGetMaxPcieLinkGeneration")
                .zip(number(c"nvmlDeviceGetMaxPcieLinkWidth")),
            pcie_replays: self.nvml.get(c"nvmlDeviceGetPcieReplayCounter", device, 0),
            ecc: errors(0),
            ecc_of_life: errors(1),
            remapped: self.nvml.remapped_rows(device),
            nvlinks: links,
            nvlink_errors: [0, 1, 2]
                .map(|counter| self.nvml.link_errors(device, links?.1, counter)),
            fabric: self.nvml.fabric(device),
            slowdown_c: self.of_kind(c"nvmlDeviceGetTemperatureThreshold", device, 1),
        }
    }

    /// Bytes a second over PCIe, sent and received. Each takes NVML 20 ms.
    pub fn pcie_bytes(&self, gpu: usize) -> (Option<u64>, Option<u64>) {
        let Some(device) = self.device(gpu) else { return (None, None) };
        let one = |counter| {
            let rate = self.of_kind(c"nvmlDeviceGetPcieThroughput", device, counter)?;
            // KB are thousands here (nvml.h).
            Some(u64::from(rate) * 1000)
        };
        (one(0), one(1))
    }

    /// The instances of MIG that a GPU is split into.
    pub fn instances(&self, gpu: usize) -> Vec<Instance> {
        let Some(device) = self.device(gpu) else { return Vec::new() };
        let most = self.nvml.get::<c_uint>(c"nvmlDeviceGetMaxMigDeviceCount", device, 0);
        let found = (0..most.unwrap_or(0).min(super::MOST)).filter_map(|index| {
            let mig = self.nvml.instance(device, index)?;
            let name = self.nvml.text(c"nvmlDeviceGetName", mig);
            Some(Instance {
                uuid: self.nvml.text(c"nvmlDeviceGetUUID", mig),
                profile: name.and_then(|name| Some(name.rsplit_once("MIG ")?.1.trim().to_owned())),
                gpu_instance: self.nvml.get::<c_uint>(c"nvmlDeviceGetGpuInstanceId", mig, 0)?,
                compute_instance: self
                    .nvml
                    .get::<c_uint>(c"nvmlDeviceGetComputeInstanceId", mig, 0)
                    .unwrap_or(0),
                device: self.keep(mig),
            })
        });
        found.collect()
    }

    /// The memory of an instance.
    pub fn instance_memory(&self, instance: &Instance) -> Option<MemoryUse> {
        self.nvml.memory_use(self.device(instance.device)?)
    }
}

impl Nvml {
    pub(super) fn memory_use(&self, device: Device) -> Option<MemoryUse> {
        let asked = MemoryV2 { version: MEMORY_V2, ..MemoryV2::default() };
        if let Some(all) = self.get(c"nvmlDeviceGetMemoryInfo_v2", device, asked) {
            let MemoryV2 { total, reserved, free, used, .. } = all;
            return plausible(MemoryUse { total, reserved: Some(reserved), free, used });
        }
        let all = self.get(c"nvmlDeviceGetMemoryInfo", device, super::Memory::default())?;
        let super::Memory { total, free, used } = all;
        plausible(MemoryUse { total, reserved: None, free, used })
    }

    /// `nvmlReturn_t name(nvmlDevice_t, unsigned int *percent, unsigned int *period)`.
    fn percent(&self, name: &CStr, device: Device) -> Option<u32> {
        type Pair = unsafe extern "C" fn(Device, *mut c_uint, *mut c_uint) -> c_int;
        let function = self.symbol::<Pair>(name)?;
        let (mut percent, mut period): (c_uint, c_uint) = (0, 0);
        // SAFETY: the signature is nvml.h's for the names above; both numbers outlive the call.
        let code = call(name, || unsafe { function(device, &mut percent, &mut period) });
        (code == 0 && percent <= 100).then_some(percent)
    }

    /// `nvmlDeviceGetFieldValues`; each field has a code of its own.
    fn fields<const N: usize>(
        &self,
        device: Device,
        asked: [(c_uint, c_uint); N],
    ) -> [Option<u64>; N] {
        type Fields = unsafe extern "C" fn(Device, c_int, *mut FieldValue) -> c_int;
        let Some(function) = self.symbol::<Fields>(c"nvmlDeviceGetFieldValues") else {
            return [None; N];
        };
        let mut values =
            asked.map(|(field, scope)| FieldValue { field, scope, ..FieldValue::default() });
        // SAFETY: the signature is nvml.h's; as many values follow as are said.
        let code = call(c"nvmlDeviceGetFieldValues", || unsafe {
            function(device, N as c_int, values.as_mut_ptr())
        });
        values.map(|value| if code == 0 { value.number() } else { None })
    }

    /// Memory errors, corrected and uncorrected, of a counter: 0 since the driver was loaded, 1 of all time.
    fn ecc(&self, device: Device, counter: c_uint) -> (Option<u64>, Option<u64>) {
        type Errors = unsafe extern "C" fn(Device, c_uint, c_uint, *mut c_ulonglong) -> c_int;
        let function = self.symbol::<Errors>(c"nvmlDeviceGetTotalEccErrors");
        let one = |kind: c_uint| {
            let mut count: c_ulonglong = 0;
            // SAFETY: the signature is nvml.h's; `count` outlives the call.
            let function = function?;
            let code = call(c"nvmlDeviceGetTotalEccErrors", || unsafe {
                function(device, kind, counter, &mut count)
            });
            (code == 0 && !NO_VALUE.contains(&count)).then_some(count)
        };
        (one(0), one(1))
    }

    /// How many links are active, and how many there are. Those of a board without NVLink answer nothing.
    fn links(&self, device: Device) -> Option<(u32, u32)> {
        type Link = unsafe extern "C" fn(Device, c_uint, *mut c_uint) -> c_int;
        let function = self.symbol::<Link>(c"nvmlDeviceGetNvLinkState")?;
        let states = (0..MOST_LINKS).filter_map(|link| {
            let mut active: c_uint = 0;
            // SAFETY: the signature is nvml.h's; `active` outlives the call.
            let code = call(c"nvmlDeviceGetNvLinkState", || unsafe {
                function(device, link, &mut active)
            });
            (code == 0).then_some(active == 1)
        });
        let (mut up, mut all) = (0, 0);
        for active in states {
            all += 1;
            up += u32::from(active);
        }
        (all > 0).then_some((up, all))
    }

    /// An error counter summed over all links (`nvmlNvLinkErrorCounter_t`: 0 replays, 1 recoveries, 2 checksums).
    fn link_errors(&self, device: Device, links: c_uint, counter: c_uint) -> Option<u64> {
        type Link = unsafe extern "C" fn(Device, c_uint, c_uint, *mut c_ulonglong) -> c_int;
        let function = self.symbol::<Link>(c"nvmlDeviceGetNvLinkErrorCounter")?;
        let counts = (0..links).filter_map(|link| {
            let mut count: c_ulonglong = 0;
            // SAFETY: the signature is nvml.h's; `count` outlives the call.
            let code = call(c"nvmlDeviceGetNvLinkErrorCounter", || unsafe {
                function(device, link, counter, &mut count)
            });
            (code == 0 && !NO_VALUE.contains(&count)).then_some(count)
        });
        counts.fold(None, |sum, count| Some(sum.unwrap_or(0u64).saturating_add(count)))
    }
}

/// Numbers that can be one memory.
fn plausible(memory: MemoryUse) -> Option<MemoryUse> {
    let MemoryUse { total, free, used, .. } = memory;
    (total > 0 && free <= total && used <= total).then_some(memory)
}
