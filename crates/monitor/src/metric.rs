//! What is known of a GPU at a moment, as rows: name, kind, what it means. All in base units: seconds, bytes, hertz,
//! watts, joules, degrees Celsius, shares from 0 to 1.

use std::fmt;

use serde::de::{MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// How a metric moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Up and down.
    Gauge,
    /// Only up, until the driver is loaded anew.
    Counter,
}

macro_rules! metrics {
    ($($name:ident $key:literal $kind:ident $help:literal;)+) => {
        /// One of the values of a GPU.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[allow(missing_docs)]
        pub enum Metric { $($name,)+ }

        /// All of them.
        pub const METRICS: &[Metric] = &[$(Metric::$name,)+];

        impl Metric {
            /// Its name: behind `sconce_gpu_` in the exporter, as it is in recordings.
            pub fn key(self) -> &'static str {
                match self { $(Self::$name => $key,)+ }
            }

            /// How it moves.
            pub fn kind(self) -> Kind {
                match self { $(Self::$name => Kind::$kind,)+ }
            }

            /// What it means.
            pub fn help(self) -> &'static str {
                match self { $(Self::$name => $help,)+ }
            }
        }
    };
}

metrics! {
    Utilization "utilization_ratio" Gauge "Share of the time in which any kernel or copy ran, by NVML; 1 in a hang too";
    MemoryActive "memory_copy_utilization_ratio" Gauge "Share of the time in which memory was read or written, by NVML";
    Encoder "encoder_utilization_ratio" Gauge "Share of the time in which the encoder worked";
    Decoder "decoder_utilization_ratio" Gauge "Share of the time in which the decoder worked";
    SmClock "sm_clock_hertz" Gauge "Clock of the multiprocessors";
    SmClockMax "sm_clock_max_hertz" Gauge "Highest clock of the multiprocessors";
    MemoryClock "memory_clock_hertz" Gauge "Clock of the memory";
    ClockReasons "clock_event_reasons" Gauge "Why the clocks are what they are: bits of nvmlClocksEventReasons";
    Power "power_watts" Gauge "Power drawn by the board";
    PowerLimit "power_limit_watts" Gauge "Power limit in force";
    PowerDefault "power_limit_default_watts" Gauge "Power limit that the board comes with";
    Energy "energy_joules_total" Counter "Energy since the driver was loaded";
    Temperature "temperature_celsius" Gauge "Temperature of the chip";
    MemoryTemperature "memory_temperature_celsius" Gauge "Temperature of the memory";
    TemperatureMargin "temperature_margin_celsius" Gauge "Degrees until the chip slows down";
    SlowdownTemperature "slowdown_temperature_celsius" Gauge "Temperature at which the hardware slows down";
    MemoryTotal "memory_total_bytes" Gauge "Memory of the GPU";
    MemoryUsed "memory_used_bytes" Gauge "Memory that is allocated";
    MemoryFree "memory_free_bytes" Gauge "Memory that is not allocated";
    MemoryReserved "memory_reserved_bytes" Gauge "Memory that driver and firmware keep";
    EccCorrected "ecc_corrected_errors_total" Counter "Memory errors that were corrected, since the driver was loaded";
    EccUncorrected "ecc_uncorrected_errors_total" Counter "Memory errors that could not be corrected, since the driver was loaded";
    EccLifeCorrected "ecc_lifetime_corrected_errors_total" Counter "Memory errors that were corrected in the board's life";
    EccLifeUncorrected "ecc_lifetime_uncorrected_errors_total" Counter "Memory errors that could not be corrected in the board's life";
    RemappedCorrectable "remapped_rows_correctable_total" Counter "Memory rows replaced for correctable errors";
    RemappedUncorrectable "remapped_rows_uncorrectable_total" Counter "Memory rows replaced for uncorrectable errors";
    RemapPending "row_remap_pending" Gauge "1 where a memory row is replaced at the next reset";
    RemapFailed "row_remap_failed" Gauge "1 where a memory row could not be replaced";
    PcieGeneration "pcie_generation" Gauge "PCIe generation now; lower at rest";
    PcieGenerationMax "pcie_generation_max" Gauge "Best PCIe generation of board and slot";
    PcieLanes "pcie_lanes" Gauge "PCIe lanes now";
    PcieLanesMax "pcie_lanes_max" Gauge "Most PCIe lanes of board and slot";
    PcieReplays "pcie_replays_total" Counter "PCIe packets that were sent again";
    PcieTx "pcie_transmit_bytes_per_second" Gauge "Sent over PCIe";
    PcieRx "pcie_receive_bytes_per_second" Gauge "Received over PCIe";
    NvlinksUp "nvlinks_up" Gauge "NVLinks that are active";
    Nvlinks "nvlinks" Gauge "NVLinks that there are";
    NvlinkTxBytes "nvlink_transmit_bytes_total" Counter "Sent over all NVLinks";
    NvlinkRxBytes "nvlink_receive_bytes_total" Counter "Received over all NVLinks";
    NvlinkTx "nvlink_transmit_bytes_per_second" Gauge "Sent over all NVLinks, by GPM";
    NvlinkRx "nvlink_receive_bytes_per_second" Gauge "Received over all NVLinks, by GPM";
    NvlinkReplays "nvlink_replays_total" Counter "NVLink packets that were sent again";
    NvlinkRecoveries "nvlink_recoveries_total" Counter "Times that an NVLink recovered";
    NvlinkCrc "nvlink_crc_errors_total" Counter "NVLink checksum errors";
    Graphics "graphics_active_ratio" Gauge "Share of the time in which any kernel ran, by GPM";
    SmActive "sm_active_ratio" Gauge "Share of the multiprocessors with work";
    SmOccupancy "sm_occupancy_ratio" Gauge "Warps, of all that fit";
    Integer "integer_active_ratio" Gauge "Share of the time in which the integer pipes worked";
    Tensor "tensor_active_ratio" Gauge "Share of the time in which the tensor cores worked";
    Dram "dram_active_ratio" Gauge "Memory bandwidth, of what there is";
    Fp64 "fp64_active_ratio" Gauge "Share of the time in which the FP64 pipes worked";
    Fp32 "fp32_active_ratio" Gauge "Share of the time in which the FP32 pipes worked";
    Fp16 "fp16_active_ratio" Gauge "Share of the time in which the FP16 pipes worked";
}

const COUNT: usize = METRICS.len();

/// The values of a GPU at a moment. What it does not support is absent.
#[derive(Clone, PartialEq)]
pub struct Values(Box<[f64; COUNT]>);

impl Default for Values {
    fn default() -> Self {
        Self(Box::new([f64::NAN; COUNT]))
    }
}

impl Values {
    /// A value, where it is known.
    pub fn get(&self, metric: Metric) -> Option<f64> {
        self.0.get(metric as usize).copied().filter(|value| !value.is_nan())
    }

    /// Sets one; what is not known or no number stays absent.
    pub fn set(&mut self, metric: Metric, value: Option<f64>) {
        let value = value.filter(|value| value.is_finite()).unwrap_or(f64::NAN);
        if let Some(place) = self.0.get_mut(metric as usize) {
            *place = value;
        }
    }

    /// All that are known.
    pub fn known(&self) -> impl Iterator<Item = (Metric, f64)> + '_ {
        METRICS.iter().filter_map(|metric| Some((*metric, self.get(*metric)?)))
    }
}

impl fmt::Debug for Values {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_map().entries(self.known().map(|(metric, value)| (metric.key(), value))).finish()
    }
}

impl Serialize for Values {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        let mut map = out.serialize_map(None)?;
        for (metric, value) in self.known() {
            // Whole numbers without `.0`, as most are.
            if value.fract() == 0.0 && value.abs() < 9e15 {
                map.serialize_entry(metric.key(), &(value as i64))?;
            } else {
                map.serialize_entry(metric.key(), &value)?;
            }
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Values {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Read;
        impl<'de> Visitor<'de> for Read {
            type Value = Values;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("values by the names of metrics")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Values, A::Error> {
                let mut values = Values::default();
                // A metric that a later version added is passed over.
                while let Some((key, value)) = map.next_entry::<String, f64>()? {
                    if let Some(metric) = METRICS.iter().find(|metric| metric.key() == key) {
                        values.set(*metric, Some(value));
                    }
                }
                Ok(values)
            }
        }
        from.deserialize_map(Read)
    }
}
