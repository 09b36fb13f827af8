//! The rules: one file each, pure functions of a snapshot and of what is to run.
//!
//! A rule's constant is its page in the manual (`docs/doctor.md` is generated from it). To add one,
//! write its file and name it below.

mod bar_space;
mod cdi_stale;
mod clocks;
mod compute_mode;
mod contradiction;
mod device_cgroup;
mod driver_dropped_gpu;
mod driver_libraries_missing;
mod driver_mismatch;
mod driver_missing;
mod driver_not_loaded;
mod driver_older_than_gpu;
mod driver_too_old;
mod fabric_manager;
mod forward_compat;
mod gpu_excluded;
mod gpu_held;
mod gpu_in_use;
mod gpu_lost;
mod gpu_memory;
mod gpu_not_covered;
mod gpudirect_rdma;
mod gsp_firmware;
mod hmm;
mod host_name;
mod image_without_cuda;
mod imex;
mod jetson;
mod kernel_too_old;
mod kernel_words;
mod library_path;
mod memlock;
mod mig_empty;
mod mig_several;
mod module_not_built;
mod needs_open_module;
mod needs_proprietary_module;
mod node_denied;
mod node_missing;
mod node_stale;
mod not_judged;
mod not_locked;
mod nvlsm;
mod nvml_silent;
mod other_processor;
mod pcie_link;
mod peer_to_peer;
mod persistence;
mod power_cable;
mod power_limit;
mod recovery_action;
mod rootless;
mod secure_boot;
mod small_shm;
mod sxid;
mod uvm_missing;
mod vgpu_host;
mod vgpu_license;
mod visible_devices;
mod wsl;
mod xid;

use crate::{Finding, Snapshot, Subject};

/// One rule.
#[derive(Debug)]
pub struct Rule {
    /// Its name in reports.
    pub id: &'static str,
    /// What it looks for.
    pub title: &'static str,
    /// Why that matters, with the messages that people meet; no full stop at the end.
    pub why: &'static str,
    /// What to do, where the finding has no steps for the machine; no full stop at the end.
    pub fix: &'static str,
    /// Issue threads in which it was met.
    pub references: &'static [&'static str],
    /// Judges a snapshot.
    pub check: fn(&Snapshot, Option<&Subject>) -> Vec<Finding>,
}

/// All rules, the causes that explain others first, those of least consequence last.
pub const RULES: &[&Rule] = &[
    &wsl::RULE,
    &jetson::RULE,
    &kernel_too_old::RULE,
    &driver_missing::RULE,
    &secure_boot::RULE,
    &module_not_built::RULE,
    &driver_not_loaded::RULE,
    &driver_libraries_missing::RULE,
    &driver_mismatch::RULE,
    &other_processor::RULE,
    &gpu_not_covered::RULE,
    &image_without_cuda::RULE,
    &gpu_held::RULE,
    &gpu_excluded::RULE,
    &vgpu_host::RULE,
    &needs_open_module::RULE,
    &needs_proprietary_module::RULE,
    &driver_older_than_gpu::RULE,
    &driver_dropped_gpu::RULE,
    &bar_space::RULE,
    &power_cable::RULE,
    &gsp_firmware::RULE,
    &node_stale::RULE,
    &gpu_lost::RULE,
    &recovery_action::RULE,
    &uvm_missing::RULE,
    &node_missing::RULE,
    &node_denied::RULE,
    &nvlsm::RULE,
    &fabric_manager::RULE,
    &mig_empty::RULE,
    &compute_mode::RULE,
    &nvml_silent::RULE,
    &contradiction::RULE,
    &gpu_memory::RULE,
    &sxid::RULE,
    &xid::RULE,
    &kernel_words::RULE,
    &forward_compat::RULE,
    &vgpu_license::RULE,
    &clocks::RULE,
    &pcie_link::RULE,
    &visible_devices::RULE,
    &small_shm::RULE,
    &memlock::RULE,
    &gpudirect_rdma::RULE,
    &peer_to_peer::RULE,
    &cdi_stale::RULE,
    &mig_several::RULE,
    &gpu_in_use::RULE,
    &library_path::RULE,
    &host_name::RULE,
    &hmm::RULE,
    &imex::RULE,
    &power_limit::RULE,
    &persistence::RULE,
    &device_cgroup::RULE,
    &rootless::RULE,
    &driver_too_old::RULE,
    &not_locked::RULE,
    &not_judged::RULE,
];

/// Those that hold where no GPU is served, as on a Jetson: what says of NVIDIA's driver is not asked.
pub(crate) const WITHOUT_GPU: &[&Rule] = &[
    &jetson::RULE,
    &kernel_too_old::RULE,
    &other_processor::RULE,
    &host_name::RULE,
    &rootless::RULE,
];

/// Whether it is a Jetson, whose GPU is not served.
pub(crate) fn is_jetson(snapshot: &Snapshot) -> bool {
    jetson::is_one(snapshot)
}

/// Whether other kernel drivers have every GPU.
pub(crate) fn held(snapshot: &Snapshot) -> bool {
    gpu_held::keep_the_module_out(snapshot)
}

/// Whether the kernel refuses the driver's module for its signature.
pub(crate) fn refused(snapshot: &Snapshot) -> bool {
    secure_boot::refused(snapshot).is_some()
}

/// Whether the driver's module was not built for this kernel.
pub(crate) fn not_built(snapshot: &Snapshot) -> bool {
    module_not_built::not_built(snapshot).is_some()
}

/// Whether a GPU can have a MIG instance at this place.
pub(crate) fn is_mig_place(instance: crate::MigInstance) -> bool {
    mig_empty::numbers(0, instance).is_some()
}

/// Those that a container of sconce's meets on this machine, whatever runs in it.
pub const OF_START: &[&Rule] = &[
    &uvm_missing::RULE,
    &node_missing::RULE,
    &node_stale::RULE,
    &node_denied::RULE,
    &fabric_manager::RULE,
    &mig_empty::RULE,
    &compute_mode::RULE,
    &vgpu_host::RULE,
    &needs_open_module::RULE,
    &needs_proprietary_module::RULE,
    &driver_older_than_gpu::RULE,
    &driver_dropped_gpu::RULE,
    &bar_space::RULE,
    &gpu_lost::RULE,
];

/// Those that judge machine and image together.
pub const OF_PAIR: &[&Rule] =
    &[&driver_too_old::RULE, &gpu_not_covered::RULE, &image_without_cuda::RULE];
