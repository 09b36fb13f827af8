//! What slows a GPU down or keeps it from work: clocks, power, persistence, a vGPU's licence.

use std::ffi::{CStr, c_int, c_uint, c_ulonglong};

use serde::{Deserialize, Serialize};

use super::{Device, Nvml};

/// What NVML says about a GPU's clocks, power and licence; each may be unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Health {
    /// Why its clocks are what they are: bits of `nvmlClocksEventReasons`.
    pub clock_reasons: Option<u64>,
    /// The power limit in force, in milliwatts.
    pub power_limit_mw: Option<u32>,
    /// The one that was set; the board may enforce a lower one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub power_set_mw: Option<u32>,
    /// The one it comes with.
    pub power_default_mw: Option<u32>,
    /// Whether it stays ready while nobody uses it.
    pub persistence: Option<bool>,
    /// For a virtual GPU of vGPU software: its licence.
    pub vgpu: Option<Vgpu>,
}

/// A virtual GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vgpu {
    /// Whether it holds a licence; absent when NVML does not say.
    #[serde(default)]
    pub licensed: Option<bool>,
}

/// `NVML_GPU_VIRTUALIZATION_MODE_VGPU`: the GPU of a guest of vGPU software.
const GUEST: c_uint = 2;

impl Nvml {
    pub(super) fn health(&self, device: Device) -> Health {
        let number = |name: &CStr| self.get::<c_uint>(name, device, 0);
        // The name since driver 535, and the one before.
        let reasons = [
            c"nvmlDeviceGetCurrentClocksEventReasons",
            c"nvmlDeviceGetCurrentClocksThrottleReasons",
        ];
        let mode = self.get::<c_int>(c"nvmlDeviceGetVirtualizationMode", device, 0);
        Health {
            clock_reasons: reasons.iter().find_map(|name| self.get::<c_ulonglong>(name, device, 0)),
            power_limit_mw: number(c"nvmlDeviceGetEnforcedPowerLimit"),
            power_set_mw: number(c"nvmlDeviceGetPowerManagementLimit"),
            power_default_mw: number(c"nvmlDeviceGetPowerManagementDefaultLimit"),
            persistence: number(c"nvmlDeviceGetPersistenceMode").map(|mode| mode == 1),
            vgpu: (mode == Some(GUEST as c_int)).then(|| Vgpu { licensed: self.licensed(device) }),
        }
    }

    /// Whether any licensable feature is licensed (`nvmlGridLicensableFeatures_t`: whether licences are
    /// supported, how many features, then up to three of 284 bytes, each beginning with its code and state).
    fn licensed(&self, device: Device) -> Option<bool> {
        // The structure has 860 bytes today; more room than any version of it needs.
        let all =
            self.get(c"nvmlDeviceGetGridLicensableFeatures_v4", device, [0 as c_uint; 1024])?;
        let count = (*all.get(1)?).min(3) as usize;
        let mut states = (0..count).filter_map(|feature| all.get(2 + feature * 284 / 4 + 1));
        (all.first() != Some(&0)).then(|| states.any(|state| *state != 0))
    }
}
