//! A GPU that another driver has.

use super::Rule;
use crate::causes::{Cause, findings};
use crate::fix;
use crate::{Finding, Snapshot, Step, Subject};

/// The rule.
pub const RULE: Rule = Rule {
    id: "gpu-held",
    title: "Another kernel driver holds a GPU",
    why: "A GPU that vfio-pci has is set aside for virtual machines; one that nouveau has is out of reach for NVIDIA's driver. Containers and CUDA never see it",
    fix: "for vfio-pci: nothing, if a virtual machine is to have it, else take it out of the configuration of vfio-pci and restart; for nouveau: put `blacklist nouveau` below /etc/modprobe.d, make the initial RAM disk anew and restart",
    references: &[],
    check,
};

fn check(snapshot: &Snapshot, _: Option<&Subject>) -> Vec<Finding> {
    let holders: Vec<&str> = snapshot
        .pci
        .iter()
        .filter_map(|pci| pci.driver.as_deref())
        .filter(|d| *d != "nvidia")
        .collect();
    let nouveau = holders.contains(&"nouveau") || snapshot.modules.iter().any(|m| m == "nouveau");
    let says = match holders.first() {
        Some(holder) => format!("is held by {holder}, not by NVIDIA's driver"),
        None => "is held by another kernel driver (vfio-pci, nouveau), not by NVIDIA's".to_owned(),
    };
    findings(&RULE, snapshot, Cause::Held, &says, |devices| {
        let mut steps = vec![Step::host("see which driver has it", &["lspci -nnk -d 10de:"])];
        if nouveau {
            steps.extend(fix::without_nouveau(snapshot));
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
        let give_back: Vec<String> = give_back.collect();
        let give_back: Vec<&str> = give_back.iter().map(String::as_str).collect();
        steps.push(Step::host(
            "leave it so if virtual machines are to have it; else give it to NVIDIA's driver",
            &give_back,
        ));
        steps
    })
}
