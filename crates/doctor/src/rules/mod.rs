//! The rules: one file each, pure functions of a snapshot and of what is to run.
//!
//! A rule's constant is its page in the manual (`docs/doctor.md` is generated from it). To add one,
//! write its file and name it below.

mod cdi_stale;
mod compute_mode;
mod device_cgroup;
mod driver_dropped_gpu;
mod driver_libraries_missing;
mod driver_mismatch;
mod driver_missing;
mod driver_not_loaded;
mod driver_too_old;
mod fabric_manager;
mod forward_compat;
mod gpu_in_use;
mod gpu_lost;
mod gpu_memory;
mod gpu_not_covered;
mod gpudirect_rdma;
mod host_name;
mod image_without_cuda;
mod library_path;
mod memlock;
mod mig_empty;
mod mig_several;
mod node_denied;
mod node_missing;
mod node_stale;
mod nvml_silent;
mod peer_to_peer;
mod small_shm;
mod uvm_missing;
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
    /// What to do; no full stop at the end.
    pub fix: &'static str,
    /// Issue threads in which it was met.
    pub references: &'static [&'static str],
    /// Judges a snapshot.
    pub check: fn(&Snapshot, Option<&Subject>) -> Vec<Finding>,
}

/// All rules, the causes that explain others first.
pub const RULES: &[&Rule] = &[
    &wsl::RULE,
    &driver_missing::RULE,
    &driver_not_loaded::RULE,
    &driver_libraries_missing::RULE,
    &driver_mismatch::RULE,
    &driver_too_old::RULE,
    &gpu_not_covered::RULE,
    &image_without_cuda::RULE,
    &driver_dropped_gpu::RULE,
    &uvm_missing::RULE,
    &node_missing::RULE,
    &node_stale::RULE,
    &node_denied::RULE,
    &device_cgroup::RULE,
    &fabric_manager::RULE,
    &forward_compat::RULE,
    &small_shm::RULE,
    &memlock::RULE,
    &gpudirect_rdma::RULE,
    &mig_several::RULE,
    &mig_empty::RULE,
    &compute_mode::RULE,
    &gpu_lost::RULE,
    &gpu_memory::RULE,
    &xid::RULE,
    &cdi_stale::RULE,
    &nvml_silent::RULE,
    &gpu_in_use::RULE,
    &visible_devices::RULE,
    &library_path::RULE,
    &peer_to_peer::RULE,
    &host_name::RULE,
];

/// Those that a container of sconce's meets on this machine, whatever runs in it.
pub const OF_START: &[&Rule] = &[
    &uvm_missing::RULE,
    &node_missing::RULE,
    &node_stale::RULE,
    &node_denied::RULE,
    &fabric_manager::RULE,
    &mig_empty::RULE,
    &compute_mode::RULE,
    &gpu_lost::RULE,
];

/// Those that judge machine and image together.
pub const OF_PAIR: &[&Rule] =
    &[&driver_too_old::RULE, &gpu_not_covered::RULE, &image_without_cuda::RULE];
