//! What a process of a bundle is and may do (runtime-spec, config.md "Linux Process").
//!
//! libcontainer sets ids and leaves capabilities to this: a seccomp filter without no_new_privs takes CAP_SYS_ADMIN,
//! and libcontainer, built without libseccomp, installs none.

use std::io;

use libcontainer::oci_spec::runtime::{Capabilities, Process};
use rustix::process::Gid;
use rustix::thread::{CapabilitySet, CapabilitySets};

use crate::seccomp::Filter;
use crate::{capabilities, os};

const MKNOD: CapabilitySet = CapabilitySet::MKNOD;

/// Taken by the container's own process, before its command.
#[derive(Debug, Clone)]
pub(super) struct Privileges {
    pub(super) uid: u32,
    groups: Vec<u32>,
    bounding: CapabilitySet,
    effective: CapabilitySet,
    permitted: CapabilitySet,
    inheritable: CapabilitySet,
    ambient: CapabilitySet,
    no_new_privileges: bool,
    filter: Option<Filter>,
    /// No device file of the root is one.
    pub(super) no_devices: bool,
}

impl Privileges {
    /// Those that `process` asks for. Without `capabilities` it has none, as under runc and crun.
    pub(super) fn of(process: &Process, filter: Option<Filter>) -> Self {
        let given = process.capabilities().as_ref();
        let set = |one: Option<&Capabilities>| one.map_or(CapabilitySet::empty(), bits);
        Self {
            uid: process.user().uid(),
            groups: process.user().additional_gids().clone().unwrap_or_default(),
            bounding: set(given.and_then(|given| given.bounding().as_ref())),
            effective: set(given.and_then(|given| given.effective().as_ref())),
            permitted: set(given.and_then(|given| given.permitted().as_ref())),
            inheritable: set(given.and_then(|given| given.inheritable().as_ref())),
            ambient: set(given.and_then(|given| given.ambient().as_ref())),
            no_new_privileges: process.no_new_privileges().unwrap_or(false),
            filter,
            no_devices: false,
        }
    }

    /// Takes CAP_MKNOD out; whether it was there.
    pub(super) fn drop_mknod(&mut self) -> bool {
        let had = self.bounding.contains(MKNOD) || self.permitted.contains(MKNOD);
        for set in [
            &mut self.bounding,
            &mut self.effective,
            &mut self.permitted,
            &mut self.inheritable,
            &mut self.ambient,
        ] {
            set.remove(MKNOD);
        }
        had
    }

    /// A filter that must be installed with CAP_SYS_ADMIN.
    fn early_filter(&self) -> Option<&Filter> {
        self.filter.as_ref().filter(|_| !self.no_new_privileges)
    }

    /// Gives up all that is not needed for [`Self::take`]: what waits for `start`, and the hooks that come before it,
    /// have no more than the command, and what its filter needs.
    pub(super) fn lower(&self) -> io::Result<()> {
        let groups: Vec<Gid> = self.groups.iter().map(|gid| Gid::from_raw(*gid)).collect();
        match rustix::thread::set_thread_groups(&groups) {
            // A user namespace that fixes them: the caller's groups stay (user_namespaces(7)).
            Err(rustix::io::Errno::PERM) if groups.is_empty() => {}
            other => other?,
        }
        for number in 0..os::capabilities_known() {
            if self.bounding.bits() & (1 << number) == 0 {
                os::drop_from_bounding_set(number)?;
            }
        }
        let mut kept = self.permitted | self.effective | self.inheritable;
        if self.early_filter().is_some() {
            kept |= CapabilitySet::SYS_ADMIN;
        }
        let permitted = rustix::thread::capabilities(None)?.permitted & kept;
        let inheritable = self.inheritable & permitted;
        let sets = CapabilitySets { effective: permitted, permitted, inheritable };
        Ok(rustix::thread::set_capabilities(None, sets)?)
    }

    /// Takes the command's privileges, for good. What this machine's root has not got is not there either.
    pub(super) fn take(&self) -> io::Result<()> {
        if let Some(filter) = self.early_filter() {
            filter.install()?;
        }
        let now = rustix::thread::capabilities(None)?.permitted;
        let permitted = self.permitted & now;
        let effective = self.effective & permitted;
        let inheritable = self.inheritable & now;
        rustix::thread::set_capabilities(
            None,
            CapabilitySets { effective, permitted, inheritable },
        )?;
        rustix::thread::clear_ambient_capability_set()?;
        for one in (self.ambient & permitted & inheritable).iter() {
            rustix::thread::configure_capability_in_ambient_set(one, true)?;
        }
        if self.no_new_privileges {
            rustix::thread::set_no_new_privs(true)?;
            self.filter.as_ref().map_or(Ok(()), Filter::install)?;
        }
        Ok(())
    }
}

/// A set by its names, which the configuration's reader has checked.
fn bits(names: &Capabilities) -> CapabilitySet {
    let bit = |name: &str| capabilities::ALL.iter().position(|known| *known == name);
    let named = |one: &libcontainer::oci_spec::runtime::Capability| {
        let name = one.to_string();
        bit(name.strip_prefix("CAP_").unwrap_or(&name)).map_or(0, |number| 1u64 << number)
    };
    CapabilitySet::from_bits_retain(names.iter().map(named).fold(0, |all, one| all | one))
}

#[cfg(test)]
mod tests {
    use super::*;
    use libcontainer::oci_spec::runtime::Capability;

    #[test]
    fn names_are_the_kernels_bits() {
        let all: Capabilities =
            [Capability::Chown, Capability::SysAdmin, Capability::CheckpointRestore].into();
        assert_eq!(bits(&all).bits(), 1 | 1 << 21 | 1 << 40);
    }
}
