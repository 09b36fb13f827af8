//! A GPU that another driver has.

use super::Rule;
use crate::causes::{Cause, findings, list};
use crate::fix;
use crate::state::Device;
use crate::{Finding, Severity, Snapshot, Step, Subject};

/// Drivers of the kernel's own for NVIDIA's GPUs, by their names on the PCI bus, and their modules (the kernel's
/// drivers/gpu/drm/nouveau, drivers/gpu/nova-core and drivers/gpu/drm/nova).
const OF_THE_KERNEL: [(&str, &[&str]); 3] = [
    ("nouveau", &["nouveau"]),
    ("NovaCore", &["nova_core", "nova_drm"]),
    ("nova_core", &["nova_core", "nova_drm"]),
];

/// The rule.
pub const RULE: Rule = Rule {
    id: "gpu-held",
    title: "Another kernel driver holds a GPU",
    why: "A GPU that vfio-pci has is set aside for virtual machines; one that nouveau or nova (from Linux 7.0 on) has is out of reach for NVIDIA's driver, which says `is already bound to` or `probe routine was not called`. Containers and CUDA never see it",
    fix: "for vfio-pci: nothing, if a virtual machine is to have it, else take it out of the configuration of vfio-pci and restart; for nouveau and nova: put `blacklist nouveau` (`nova_core`, `nova_drm`) below /etc/modprobe.d, make the initial RAM disk anew and restart",
    references: &["beclab/Olares#3963"],
    check,
};

fn check(snapshot: &Snapshot, _: Option<&Subject>) -> Vec<Finding> {
    let names: Vec<&str> = holders(snapshot).collect();
    let says = match names.first() {
        Some(holder) => format!("is held by {holder}, not by NVIDIA's driver"),
        None => "is held by another kernel driver (vfio-pci, nouveau), not by NVIDIA's".to_owned(),
    };
    if keep_the_module_out(snapshot) {
        let devices: Vec<Device<'_>> = snapshot.devices();
        let finding = Finding::new(&RULE, Severity::Stops, format!("{} {says}", list(&devices)));
        let finding = finding.seen("NVIDIA's module does not stay loaded without a GPU");
        return vec![finding.fix(steps(snapshot, &devices))];
    }
    findings(&RULE, snapshot, Cause::Held, &says, |devices| steps(snapshot, devices))
}

fn holders(snapshot: &Snapshot) -> impl Iterator<Item = &str> {
    let drivers = snapshot.pci.iter().filter_map(|pci| pci.driver.as_deref());
    drivers.filter(|driver| *driver != "nvidia")
}

/// Whether other drivers have every GPU, so that NVIDIA's module finds none and goes again. With nouveau that is told
/// with what else is to be done to install the driver.
pub(super) fn keep_the_module_out(snapshot: &Snapshot) -> bool {
    !snapshot.container
        && snapshot.driver.module.is_none()
        && !snapshot.pci.is_empty()
        && holders(snapshot).filter(|holder| *holder != "nouveau").count() == snapshot.pci.len()
}

fn steps(snapshot: &Snapshot, devices: &[Device<'_>]) -> Vec<Step> {
    let mut steps = vec![Step::host("see which driver has it", &["lspci -nnk -d 10de:"])];
    let known = |name: &str| OF_THE_KERNEL.iter().find(|(driver, _)| *driver == name);
    let loaded = snapshot.modules.iter().map(String::as_str);
    if let Some((_, modules)) = holders(snapshot).chain(loaded).find_map(known) {
        steps.extend(fix::without(snapshot, modules));
        return steps;
    }
    let give_back = devices.iter().flat_map(|device| {
        let bus_id = device.bus_id;
        [
            format!("sh -c 'echo {bus_id} > /sys/bus/pci/devices/{bus_id}/driver/unbind'"),
            format!("sh -c 'echo > /sys/bus/pci/devices/{bus_id}/driver_override'"),
            format!("sh -c 'echo {bus_id} > /sys/bus/pci/drivers/nvidia/bind'"),
        ]
    });
    let mut give_back: Vec<String> = give_back.collect();
    if snapshot.driver.module.is_none() {
        // Without the module there is nothing to bind to, and loading it binds what is free.
        give_back.retain(|command| !command.contains("drivers/nvidia/bind"));
        give_back.push("modprobe -a nvidia nvidia_uvm".to_owned());
    }
    let give_back: Vec<&str> = give_back.iter().map(String::as_str).collect();
    steps.push(Step::host(
        "leave it so if virtual machines are to have it; else give it to NVIDIA's driver",
        &give_back,
    ));
    steps
}
