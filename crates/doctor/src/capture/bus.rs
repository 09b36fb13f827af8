//! The PCI bus: who holds a GPU, its windows and its link; what sends traffic between GPUs on a detour.

use std::path::Path;

use sconce_gpu::Machine;

use crate::snapshot::{Link, Pci};

/// What sysfs says about a GPU (the kernel's Documentation/ABI/testing/sysfs-bus-pci).
pub(super) fn device(machine: &Machine, bus_id: &str, device: &str) -> Pci {
    let folder = format!("/sys/bus/pci/devices/{bus_id}");
    let driver = machine.link(Path::new(&format!("{folder}/driver")));
    let driver = driver.and_then(|path| Some(path.file_name()?.to_str()?.to_owned()));
    Pci {
        bus_id: bus_id.to_owned(),
        device: device.to_owned(),
        driver,
        bars: machine.text(&format!("{folder}/resource")).map(|text| windows(&text)),
        link: link(|name| machine.text(&format!("{folder}/{name}"))),
        excluded: false,
    }
}

/// The six windows of `resource`, one a line: first byte, last byte, flags. One without an address has size 0.
fn windows(text: &str) -> Vec<u64> {
    /// `IORESOURCE_MEM` and `IORESOURCE_UNSET` (include/linux/ioport.h).
    const MEMORY: u64 = 0x200;
    const UNSET: u64 = 0x2000_0000;
    let rows = text.lines().take(6).filter_map(|line| {
        let mut numbers = line
            .split_whitespace()
            .map(|word| u64::from_str_radix(word.trim_start_matches("0x"), 16).ok());
        Some((numbers.next()??, numbers.next()??, numbers.next()??))
    });
    let memory = rows.filter(|(_, _, flags)| flags & MEMORY != 0);
    let size = |(first, last, flags): (u64, u64, u64)| match first == 0 || flags & UNSET != 0 {
        true => 0,
        false => last.saturating_sub(first).saturating_add(1),
    };
    memory.map(size).collect()
}

/// Width and generation. A device that has fallen off the bus says 0 or 63 lanes: that is not a width.
fn link(read: impl Fn(&str) -> Option<String>) -> Option<Link> {
    let width = |name| read(name)?.parse::<u32>().ok().filter(|lanes| (1..=32).contains(lanes));
    let generation = |name| {
        /// Gigatransfers per second of each generation (PCI Express Base Specification).
        const SPEEDS: [(&str, u32); 6] =
            [("2.5", 1), ("5.0", 2), ("8.0", 3), ("16.0", 4), ("32.0", 5), ("64.0", 6)];
        let text = read(name)?;
        let speed = text.split(' ').next()?;
        SPEEDS.iter().find(|(known, _)| *known == speed).map(|(_, generation)| *generation)
    };
    Some(Link {
        width: width("current_link_width")?,
        width_max: width("max_link_width")?,
        generation: generation("current_link_speed")?,
        generation_max: generation("max_link_speed")?,
    })
}

/// Bridges whose ACS control redirects peer traffic to the root complex (PCI Express Base
/// Specification, "ACS Extended Capability": id 0x000d, control at +6, bit 2 request redirect, bit 3
/// completion redirect). Beyond byte 256 only root can read.
pub(super) fn acs_bridges(machine: &Machine) -> Option<Vec<String>> {
    let folder = Path::new("/sys/bus/pci/devices");
    let mut bridges = Vec::new();
    let mut readable = false;
    for name in machine.names(folder) {
        let class = machine.text(&format!("/sys/bus/pci/devices/{name}/class"));
        if !class.is_some_and(|class| class.starts_with("0x0604")) {
            continue;
        }
        let Ok(Some(config)) = machine.read(&folder.join(&name).join("config")) else { continue };
        readable |= config.len() > 256;
        if acs_control(&config).is_some_and(|control| control & 0b1100 != 0) {
            bridges.push(name);
        }
    }
    readable.then_some(bridges)
}

/// The ACS control register, found along the list of extended capabilities.
fn acs_control(config: &[u8]) -> Option<u16> {
    let mut at = 0x100;
    // Each capability has at least 4 of the 4096 bytes.
    for _ in 0..960 {
        let word = config.get(at..at + 4)?;
        let word = u32::from_le_bytes(word.try_into().ok()?);
        if word & 0xffff == 0x000d {
            let control = config.get(at + 6..at + 8)?;
            return Some(u16::from_le_bytes(control.try_into().ok()?));
        }
        at = (word >> 20) as usize & 0xffc;
        if at < 0x100 {
            return None;
        }
    }
    None
}

/// Whether devices' addresses are translated: groups exist and no one asked for pass-through.
pub(super) fn iommu(machine: &Machine) -> bool {
    let line = machine.text("/proc/cmdline").unwrap_or_default();
    let through = line.split_whitespace().any(|word| {
        matches!(
            word,
            "iommu=pt" | "iommu.passthrough=1" | "intel_iommu=off" | "amd_iommu=off" | "iommu=off"
        )
    });
    let types = machine.names(Path::new("/sys/kernel/iommu_groups"));
    let translated = types.iter().any(|group| {
        let kind = machine.text(&format!("/sys/kernel/iommu_groups/{group}/type"));
        kind.is_none_or(|kind| kind.starts_with("DMA"))
    });
    !through && translated
}

#[cfg(test)]
mod tests {
    use super::{acs_control, link, windows};

    #[test]
    fn acs_is_found_along_the_list_and_loops_end() {
        let mut config = vec![0u8; 4096];
        config[0x100..0x104].copy_from_slice(&0x1401_0001u32.to_le_bytes());
        config[0x140..0x144].copy_from_slice(&0x0001_000du32.to_le_bytes());
        config[0x146] = 0x1d;
        assert_eq!(acs_control(&config), Some(0x1d));
        config[0x140..0x144].copy_from_slice(&0x1001_0002u32.to_le_bytes());
        assert_eq!(acs_control(&config), None);
        assert_eq!(acs_control(&config[..256]), None);
        assert_eq!(acs_control(&[]), None);
    }

    #[test]
    fn windows_and_links() {
        let text = "0x00000000c0000000 0x00000000c0ffffff 0x0000000000040200\n\
                    0x0000000000000000 0x0000000fffffffff 0x000000002014220c\n\
                    0x0000000000000000 0x0000000000000000 0x0000000000000000\n";
        assert_eq!(windows(text), [16 << 20, 0]);
        let says = |width: &'static str| {
            move |name: &str| {
                Some(if name.ends_with("width") { width } else { "16.0 GT/s PCIe" }.to_owned())
            }
        };
        let whole = link(says("16")).unwrap();
        assert_eq!((whole.width, whole.generation_max), (16, 4));
        assert!(link(says("63")).is_none() && link(says("0")).is_none());
    }
}
