//! What of NVML's numbers is believed: what no GPU can have is no answer. It is not shown, and nothing is judged by it.

use sconce_facts::Gpu as Product;
use sconce_gpu::nvml::session::{Limits, Moment};

/// No multiprocessor of NVIDIA's is clocked as high (a GeForce RTX 4090 may reach 3105 MHz).
const MOST_SM_MHZ: u32 = 4000;
/// Nor any memory: GDDR7 of 30 Gbit/s is 15,001 MHz to NVML.
const MOST_MEMORY_MHZ: u32 = 20_000;
/// No board draws more, whatever it is.
const MOST_MW: u32 = 5_000_000;
/// Nor more than so many times what it is sold for: NVML's power is an average, and passes the limit by little.
const MOST_OF_TDP: f64 = 2.0;
/// Chips end themselves before.
const MOST_C: u32 = 150;

/// A moment without what can't be.
pub(super) fn moment(moment: Moment, product: Option<&Product>) -> Moment {
    let most = product.and_then(|product| product.sm_max_mhz).unwrap_or(MOST_SM_MHZ);
    Moment {
        sm_mhz: within(moment.sm_mhz, most),
        memory_mhz: within(moment.memory_mhz, MOST_MEMORY_MHZ),
        power_mw: within(moment.power_mw, power(product)),
        temperature_c: within(moment.temperature_c, MOST_C),
        ..moment
    }
}

/// Limits without what can't be. A clock beyond the product's is kept: it contradicts the product, and that is said.
pub(super) fn limits(limits: Limits, product: Option<&Product>) -> Limits {
    Limits {
        power_limit_mw: within(limits.power_limit_mw, power(product)),
        power_default_mw: within(limits.power_default_mw, power(product)),
        sm_max_mhz: limits.sm_max_mhz.filter(|clock| *clock > 0),
        ..limits
    }
}

fn within(value: Option<u32>, most: u32) -> Option<u32> {
    value.filter(|value| (1..=most).contains(value))
}

fn power(product: Option<&Product>) -> u32 {
    let most = product.and_then(|product| product.tdp_w).map(|watts| watts * 1e3 * MOST_OF_TDP);
    most.map_or(MOST_MW, |most| most as u32)
}
