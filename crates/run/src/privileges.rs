//! From root of the container's namespaces to what its command may be.
//!
//! One path for a container's first process and for those that `exec` adds, so that neither has
//! more than the other.

use std::io;

use rustix::process::{Gid, setrlimit};
use rustix::thread::{CapabilitySet, CapabilitySets};

use crate::os;
use crate::rlimit::Limits;
use crate::seccomp::Filter;

/// What a process of the container is and may do.
#[derive(Debug, Clone)]
pub(crate) struct Privileges {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Supplementary groups. They replace the caller's in every case.
    pub(crate) groups: Vec<u32>,
    /// setgroups(2) is denied in this user namespace: groups stay as they are.
    pub(crate) groups_are_fixed: bool,
    /// The bounding set; root has all of it, others nothing.
    pub(crate) bounding: u64,
    pub(crate) no_new_privileges: bool,
    pub(crate) filter: Option<Filter>,
    /// The filter of the processes of ours that wait beside the command.
    pub(crate) waiting_filter: Option<Filter>,
    /// Soft and hard limits.
    pub(crate) limits: Limits,
}

impl Privileges {
    /// Those of a process that waits beside the command: as little as the command's, for a container
    /// with CAP_SYS_PTRACE can make it do anything.
    pub(crate) fn of_waiting(&self) -> Self {
        Self { filter: self.waiting_filter.clone(), ..self.clone() }
    }

    /// Gives up what taking them does not need, in the process that will fork the command's: root inside can stop that one
    /// before it has taken them, and with CAP_SYS_PTRACE make it do anything. What is left to take.
    ///
    /// The filter of the processes that wait is installed here, before CAP_SYS_ADMIN goes; one of the user's own may
    /// forbid waiting, and stays for the command's process, with that capability.
    pub(crate) fn lower(&self) -> io::Result<Self> {
        let mut left = self.clone();
        let mut needed = CapabilitySet::SETUID
            | CapabilitySet::SETGID
            | CapabilitySet::SETPCAP
            | CapabilitySet::SYS_RESOURCE
            | CapabilitySet::from_bits_retain(self.bounding);
        match self.filter == self.waiting_filter {
            true => {
                if self.no_new_privileges {
                    rustix::thread::set_no_new_privs(true)?;
                }
                self.filter.as_ref().map_or(Ok(()), Filter::install)?;
                (left.filter, left.waiting_filter) = (None, None);
            }
            false if !self.no_new_privileges => needed |= CapabilitySet::SYS_ADMIN,
            _ => {}
        }
        for number in 0..os::capabilities_known() {
            if needed.bits() & (1 << number) == 0 {
                os::drop_from_bounding_set(number)?;
            }
        }
        let permitted = rustix::thread::capabilities(None)?.permitted & needed;
        let inheritable = CapabilitySet::empty();
        let sets = CapabilitySets { effective: permitted, permitted, inheritable };
        rustix::thread::set_capabilities(None, sets)?;
        Ok(left)
    }

    /// Takes them on, for good. The caller is root of its user namespace and single-threaded.
    ///
    /// A filter needs `CAP_SYS_ADMIN` or no_new_privs (seccomp(2)): with the latter it comes last of
    /// all, otherwise before the capabilities go, and must then allow capset.
    pub(crate) fn take(&self) -> io::Result<()> {
        for (resource, limit) in &self.limits {
            setrlimit(*resource, *limit)?;
        }
        rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
        if !self.groups_are_fixed {
            let groups: Vec<Gid> = self.groups.iter().map(|gid| Gid::from_raw(*gid)).collect();
            rustix::thread::set_thread_groups(&groups)?;
        }
        rustix::thread::set_keep_capabilities(true)?;
        os::set_ids(self.uid, self.gid)?;
        rustix::thread::set_keep_capabilities(false)?;
        // A change of ids empties the effective set and leaves the permitted one.
        let now = rustix::thread::capabilities(None)?;
        let permitted = now.permitted;
        let none = CapabilitySet::empty();
        rustix::thread::set_capabilities(
            None,
            CapabilitySets { effective: permitted, permitted, inheritable: none },
        )?;
        rustix::thread::clear_ambient_capability_set()?;
        for number in 0..os::capabilities_known() {
            if self.bounding & (1 << number) == 0 {
                os::drop_from_bounding_set(number)?;
            }
        }
        if self.no_new_privileges {
            rustix::thread::set_no_new_privs(true)?;
        }
        let filter = || self.filter.as_ref().map_or(Ok(()), Filter::install);
        if !self.no_new_privileges {
            filter()?;
        }
        let left = match self.uid {
            0 => CapabilitySet::from_bits_retain(self.bounding) & permitted,
            _ => none,
        };
        rustix::thread::set_capabilities(
            None,
            CapabilitySets { effective: left, permitted: left, inheritable: none },
        )?;
        if self.no_new_privileges {
            filter()?;
        }
        Ok(())
    }
}
