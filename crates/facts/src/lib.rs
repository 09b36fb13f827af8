//! Sourced knowledge as rows: GPUs, driver floors, toolkits, torch releases, architectures.
//!
//! The rows live in `data/*.toml`, embedded in the binary. A row carries its source and the date it was looked
//! up, its own or its table's; a test refuses one without. Nothing here reads a file or the network.

mod arch;
mod base;
mod believed;
mod companions;
mod conda;
mod cuda;
mod figures;
mod generation;
mod gpu;
mod imports;
mod licences;
mod machine;
mod ngc;
mod overlays;
mod packages;
mod pythons;
mod sources;
mod suggest;
mod table;
mod tag;
mod torch;
mod undeclared;
mod uv;
mod ways;
mod xid;

pub use arch::{Capability, CapabilityRow, Sm, SmKind, capabilities, capability};
pub use base::{Base, base, bases};
pub use believed::{Said, is_believed};
pub use companions::{
    Agree, Builds, Local, Opens, PerTorch, builds, built_for, companion, companion_major,
    cxx11_abi_from, opens, per_torch, torch_for, torch_home, torch_homes,
};
pub use conda::{Conda, conda};
pub use cuda::{
    CudaVersion, DriverVersion, Floor, Forward, Toolkit, cuda_of_branch, floor, floors,
    forward_compatible, toolkit_driver, toolkits,
};
pub use figures::{
    Bound, By, Compared, Known, beyond, bound, floor_figure, host_link, least, pcie, public_figure,
    rate,
};
pub use generation::{Generation, generation_by_pci};
pub use gpu::{Basis, Gpu, Listed, gpu, gpu_by_pci, gpus, links_are_wired};
pub use imports::{Pair, import_pair, import_wants};
pub use licences::{licence, licence_of_classifier};
pub use machine::{Machine, OLDEST_KERNEL, kernel_version};
pub use ngc::{NgcRelease, ngc_releases};
pub use overlays::{Overlay, overlays};
pub use packages::{Distribution, Install, driver_branch, install};
pub use pythons::{PythonBuild, base_with, python_releases, pythons, standalone_bases};
pub use sources::{
    Unbuildable, placeholder, source_failure, source_requirements, source_variables, unbuildable,
    wheels_elsewhere,
};
pub use suggest::{UnknownName, nearest};
pub use table::TABLES;
pub use tag::{TagFlavour, TagRepository, tag_flavours, tag_repositories};
pub use torch::{
    Build, Caveat, Devel, Release, Variant, caveats, devel, newest_release, release, releases,
};
pub use undeclared::{Undeclared, falls_back, undeclared};
pub use uv::{UvRow, uv};
pub use ways::{Way, way};
pub use xid::{Action, Catalogue, NvLink, SXid, Xid, nvlink, sxid, xid, xid_action, xid_catalogue};

/// A text that is not a version, capability or architecture.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a {what}; {example}")]
pub struct ParseError {
    /// What was given, cut to 80 characters.
    pub text: String,
    /// What it should have been, e.g. "driver version".
    pub what: &'static str,
    /// How it looks when right.
    pub example: &'static str,
}

impl ParseError {
    fn new(text: &str, what: &'static str, example: &'static str) -> Self {
        Self { text: text.chars().take(80).collect(), what, example }
    }
}
