//! What of NVML's numbers is believed (`crates/facts/data/believed.toml`): what no GPU can have is no answer. It is not shown, and
//! nothing is judged by it.

use sconce_facts::{Gpu as Product, Said, is_believed};
use sconce_gpu::nvml::session::{Limits, Moment};

/// A moment without what can't be.
pub(super) fn moment(moment: Moment, product: Option<&Product>) -> Moment {
    let number = |what, value: Option<u32>| {
        value.filter(|value| is_believed(what, f64::from(*value), product))
    };
    Moment {
        sm_mhz: number(Said::SmClock, moment.sm_mhz),
        memory_mhz: number(Said::MemoryClock, moment.memory_mhz),
        power_mw: power(moment.power_mw, product),
        temperature_c: number(Said::Temperature, moment.temperature_c),
        ..moment
    }
}

/// Limits without what can't be. A highest clock that is not the product's is kept: it contradicts the product, and that is said.
pub(super) fn limits(limits: Limits, product: Option<&Product>) -> Limits {
    let known = product.is_some_and(|product| product.sm_max_mhz.is_some());
    let is_clock = |clock: &u32| match known {
        true => *clock > 0,
        false => is_believed(Said::HighestSmClock, f64::from(*clock), product),
    };
    Limits {
        power_limit_mw: power(limits.power_limit_mw, product),
        power_default_mw: power(limits.power_default_mw, product),
        sm_max_mhz: limits.sm_max_mhz.filter(is_clock),
        processes: limits
            .processes
            .filter(|count| is_believed(Said::Processes, f64::from(*count), product)),
        ..limits
    }
}

fn power(milliwatts: Option<u32>, product: Option<&Product>) -> Option<u32> {
    milliwatts.filter(|power| is_believed(Said::Power, f64::from(*power) / 1e3, product))
}
