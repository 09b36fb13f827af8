//! What a card says of itself beside what cards of its name are.

use sconce_facts::{Capability, DriverVersion, Gpu};

use super::{module, shown};
use crate::rules;
use crate::snapshot::{Pci, Snapshot};
use crate::state::Device;

/// Names that stand for no product: of samples, and where the driver's list of names lacks the card.
const NAMELESS: &[&str] = &["graphicsdevice", "unknown", ""];

/// The driver takes its name from a list by PCI ids, so that it has the product's number in it. A virtual GPU has its
/// profile's.
pub(super) fn products(snapshot: &Snapshot) -> Vec<String> {
    let found = shown(snapshot).filter_map(|(device, gpu)| {
        let pci = device.pci.filter(|_| !device.is_virtual())?;
        let known = sconce_facts::gpu_by_pci(&pci.device)?;
        let plain =
            |text: &str| text.to_lowercase().replace(|c: char| !c.is_ascii_alphanumeric(), "");
        let model = plain(&gpu.model);
        let model = model.strip_prefix("nvidia").unwrap_or(&model);
        let named =
            known.name.split_whitespace().find(|word| word.contains(|c: char| c.is_ascii_digit()));
        let other = named.is_some_and(|named| !model.contains(&plain(named)));
        (other && !NAMELESS.contains(&model)).then(|| is_another(&device, pci, known))
    });
    found.collect()
}

fn is_another(device: &Device<'_>, pci: &Pci, known: &Gpu) -> String {
    let (name, id) = (device.name(), &pci.device);
    format!("{name} is called so, yet by its PCI id, {id}, it is a {}", known.name)
}

/// Forms of cards as names of the driver's list have them: `NVIDIA A100-SXM4-80GB`, `NVIDIA H100 PCIe`.
const FORMS: &[&str] = &["sxm", "pcie", "nvl"];

/// `80` of `NVIDIA H100 80GB HBM3`.
fn gigabytes(name: &str) -> Option<u32> {
    let mut words = name.split(|c: char| !c.is_ascii_alphanumeric());
    words.find_map(|word| word.strip_suffix("GB")?.parse().ok())
}

/// The list of names is by PCI id, which cards of another form or with another memory don't share.
pub(super) fn forms(snapshot: &Snapshot) -> Vec<String> {
    let found = shown(snapshot).filter_map(|(device, gpu)| {
        let pci = device.pci.filter(|_| !device.is_virtual())?;
        let known = sconce_facts::gpu_by_pci(&pci.device)?;
        let of = |text: &str| {
            let text = text.to_lowercase();
            FORMS.iter().find(|form| text.contains(**form)).copied()
        };
        let forms = of(&gpu.model).zip(of(&known.name));
        let sizes = gigabytes(&gpu.model).zip(gigabytes(&known.name));
        let other = forms.is_some_and(|(own, known)| own != known)
            || sizes.is_some_and(|(own, known)| own != known);
        other.then(|| is_another(&device, pci, known))
    });
    found.collect()
}

/// The first compute capability of which the facts say nothing, below those they know.
const OLDEST: Capability = Capability { major: 2, minor: 0 };

pub(super) fn capabilities(snapshot: &Snapshot) -> Vec<String> {
    let known = sconce_facts::capabilities();
    let (first, last) = (known.first().map(|row| row.cc), known.last().map(|row| row.cc));
    let branch = snapshot.branch();
    let newest = sconce_facts::toolkits().iter().filter_map(|row| row.driver.as_ref());
    let newest = newest.map(DriverVersion::branch).max();
    let found = shown(snapshot).filter_map(|(device, gpu)| {
        let own = gpu.capability?;
        let name = device.name();
        if let Some(facts) = device.facts() {
            let other = facts.capability;
            return (own != other)
                .then(|| format!("{name} has compute capability {other}, yet it says {own}"));
        }
        // Older than what is known, of a card that is: Fermi, Kepler. Or newer, with a driver that is newer as well.
        let old = device.generation().is_some()
            && own >= OLDEST
            && first.is_some_and(|first| own < first);
        let new = branch > newest && last.is_some_and(|last| own > last);
        let module = module(snapshot);
        (own.row().is_none() && !old && !new).then(|| {
            format!(
                "{name} says compute capability {own}, yet driver {module} knows no GPU of that"
            )
        })
    });
    found.collect()
}

/// Less than the smallest profile of a virtual GPU has (512 MB: NVIDIA's virtual GPU software user guide, M10-0B), by half.
const LEAST_MEMORY: u64 = 256 << 20;

/// What a card shows of the GB of its name, which are GiB, in percent: the driver keeps some (79.6 of an H100's 80, 140.4 of
/// an H200's 141: crates/doctor/tests/snapshots). How far cards go that were not seen is assumed.
const SHARES: [u64; 2] = [85, 110];

pub(super) fn memory(snapshot: &Snapshot) -> Vec<String> {
    let found = shown(snapshot).filter_map(|(device, gpu)| {
        let memory = gpu.memory_bytes?;
        let name = device.name();
        let named = device.facts().filter(|_| !device.is_virtual());
        let named = named.and_then(|facts| gigabytes(&facts.name));
        let mib = memory >> 20;
        let [least, most] =
            SHARES.map(|percent| named.map(|gb| u64::from(gb) * 1024 * percent / 100));
        let other = named.filter(|_| Some(mib) < least || Some(mib) > most);
        match gpu.used_bytes {
            _ if memory < LEAST_MEMORY => {
                Some(format!("NVML answers for {name}, yet it has {memory} bytes of memory"))
            }
            _ if other.is_some() => {
                let named = other.unwrap_or_default();
                Some(format!(
                    "{name} has {mib} MiB of memory, yet cards of its kind have {named} GB"
                ))
            }
            Some(used) if used > memory => {
                Some(format!("{name} has {memory} bytes of memory, yet {used} of them are in use"))
            }
            _ => None,
        }
    });
    found.collect()
}

/// The first GPUs with MIG (NVIDIA's MIG user guide, supported GPUs: A100 and A30, 8.0).
const FIRST_MIG: Capability = Capability { major: 8, minor: 0 };
/// The most that any GPU has (ibid., supported MIG profiles).
const MOST_INSTANCES: u32 = 7;

pub(super) fn mig(snapshot: &Snapshot) -> Vec<String> {
    let found = shown(snapshot).filter_map(|(device, gpu)| {
        let (name, count) = (device.name(), gpu.instances);
        if !gpu.mig_mode {
            let has = count > 0 || !gpu.mig.is_empty();
            return has.then(|| format!("{name} is not in MIG mode, yet it has MIG instances"));
        }
        let most = device.facts().and_then(|facts| facts.mig_instances);
        if most == Some(0) || gpu.capability.is_some_and(|own| own < FIRST_MIG) {
            return Some(format!("{name} is in MIG mode, yet GPUs of its kind have none"));
        }
        let most = most.unwrap_or(MOST_INSTANCES);
        if count > most {
            return Some(format!(
                "{name} has {count} MIG instances, yet its kind has {most} at most"
            ));
        }
        if snapshot.schema >= 2 && count as usize != gpu.mig.len() {
            let listed = gpu.mig.len();
            return Some(format!("{name} has {count} MIG instances, yet {listed} are listed"));
        }
        let nowhere = gpu.mig.iter().find(|one| !rules::is_mig_place(**one))?;
        let (instance, compute) = (nowhere.gpu_instance, nowhere.compute_instance);
        Some(format!("{name} has MIG instance {instance}/{compute}, yet no GPU has that place"))
    });
    found.collect()
}
