//! What brings up the fabric of NVSwitches.

use std::path::Path;

use sconce_gpu::{Machine, driver};

use super::host;
use crate::state::is_switched_board;

/// Whether there is a fabric to bring up: NVSwitches of the driver's own, or GPUs of a board that has them as
/// network adapters (HGX B200 and B300: no /dev/nvidia-nvswitch). Beside Grace the switches are elsewhere.
pub(super) fn switched(survey: &driver::Survey) -> bool {
    let blackwell = |(_, device): &(String, String)| {
        let row = sconce_facts::gpu_by_pci(device);
        row.is_some_and(|row| {
            row.capability.major == 10 && row.host != Some(sconce_facts::Machine::Aarch64)
        })
    };
    let board = || is_switched_board(survey.pci.iter().map(|(_, device)| device.as_str()));
    !survey.switches.is_empty()
        || board()
        || survey.pci.iter().filter(|one| blackwell(one)).count() > 1
}

/// Looked for only where there is something to manage.
pub(super) fn fabric_manager(machine: &Machine, survey: &driver::Survey) -> bool {
    if !switched(survey) {
        return false;
    }
    if machine.is_socket(Path::new("/run/nvidia-fabricmanager/socket")) {
        return true;
    }
    host::runs(machine, "nv-fabricmanager")
}

/// The version of fabric manager's package in dpkg's list (deb-control(5)): `550.127.05` of
/// `550.127.05-0ubuntu0.22.04.1`.
pub(super) fn fabric_manager_version(machine: &Machine, survey: &driver::Survey) -> Option<String> {
    if !switched(survey) {
        return None;
    }
    let list = machine.text("/var/lib/dpkg/status")?;
    let packages = list.split("\n\n").filter(|package| {
        package.trim_start().starts_with("Package: nvidia-fabricmanager")
            && package.contains("\nStatus: install ok installed")
    });
    let version = packages.filter_map(|package| {
        let line = package.lines().find_map(|line| line.strip_prefix("Version: "))?;
        let line = line.split_once(':').map_or(line, |(_, rest)| rest);
        line.split('-').next()
    });
    version
        .filter(|text| text.bytes().all(|b| b.is_ascii_digit() || b == b'.'))
        .map(str::to_owned)
        .last()
}
