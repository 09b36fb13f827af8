//! The processors near a set of GPUs, as the kernel tells them per PCI device.
//!
//! `numa_node` and `local_cpulist` of `/sys/bus/pci/devices/<bus>` (Documentation/ABI/testing/
//! sysfs-bus-pci); `-1` is a device whose place the firmware does not tell, as in most virtual machines.

use std::path::Path;

use crate::machine::Machine;

/// The highest processor number believed, above what any kernel is built for (NR_CPUS 8192).
const MOST: usize = 8192;

/// Processors near GPUs of one NUMA node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Near {
    /// The node.
    pub node: u32,
    /// Its processors, in order: some of `online`, never all.
    pub processors: Vec<usize>,
    /// All processors that are switched on, in order.
    pub online: Vec<usize>,
}

/// The processors that are near all GPUs on these buses (`0000:04:00.0`). Nothing where that would be
/// no choice: the GPUs are in several nodes, the node is not told, or all processors are as near.
pub fn near(machine: &Machine, buses: &[&str]) -> Option<Near> {
    let read = |bus: &str, name: &str| {
        // A bus comes from the driver's file names; it must not lead elsewhere.
        let plain = bus.bytes().all(|byte| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.'));
        let path = Path::new("/sys/bus/pci/devices").join(bus).join(name);
        plain.then(|| machine.text(path.to_str()?)).flatten()
    };
    let node: u32 = read(buses.first()?, "numa_node")?.parse().ok()?;
    let mut processors = Vec::new();
    for bus in buses {
        if read(bus, "numa_node")?.parse() != Ok(node) {
            return None;
        }
        processors.extend(list(&read(bus, "local_cpulist")?)?);
    }
    processors.sort_unstable();
    processors.dedup();
    let online = list(&machine.text("/sys/devices/system/cpu/online")?)?;
    processors.retain(|processor| online.contains(processor));
    let choice = !processors.is_empty() && processors.len() < online.len();
    choice.then_some(Near { node, processors, online })
}

/// The NUMA nodes that have processors, each with those that are switched on: `/sys/devices/system/node`
/// (Documentation/ABI/stable/sysfs-devices-node).
pub fn nodes(machine: &Machine) -> Vec<(usize, Vec<usize>)> {
    let read = |path: &str| list(&machine.text(path)?);
    let online = read("/sys/devices/system/cpu/online").unwrap_or_default();
    let nodes = read("/sys/devices/system/node/online").unwrap_or_default();
    nodes
        .into_iter()
        .filter_map(|node| {
            let mut its = read(&format!("/sys/devices/system/node/node{node}/cpulist"))?;
            its.retain(|processor| online.contains(processor));
            (!its.is_empty()).then_some((node, its))
        })
        .collect()
}

/// `0-15,32-47`, the kernel's way to write a list of processors (cpuset(7), "List format").
fn list(text: &str) -> Option<Vec<usize>> {
    let mut all = Vec::new();
    for part in text.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (first.parse::<usize>().ok()?, last.parse::<usize>().ok()?);
        if first > last || last >= MOST {
            return None;
        }
        all.extend(first..=last);
    }
    all.sort_unstable();
    all.dedup();
    Some(all)
}

#[cfg(test)]
mod tests {
    use super::list;

    #[test]
    fn lists_of_processors() {
        assert_eq!(list("0-2,5\n").unwrap(), [0, 1, 2, 5]);
        assert_eq!(list("1,0-1").unwrap(), [0, 1]);
        for text in ["", "a", "3-1", "0-99999999999", "0-8192", "-1", "1,,2"] {
            assert_eq!(list(text), None, "{text}");
        }
    }
}
