//! Callers that are not root, on machines with cgroup v1.
//!
//! libcgroups insists on a group in every tree of v1, where a user may make none; under v2 it takes the refusal for an
//! answer. So such a caller's processes are shown a place without v1, as those of `sconce run` are
//! ([`crate::no_cgroups`]), which takes a user namespace: one in which ids are what they are outside, for the
//! configuration's own mappings begin at those.

use std::fs::{self, File};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use rustix::mount::MountPropagationFlags;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::error::{Doing, Error};
use crate::{cgroup, ids, no_cgroups, os};

/// Whether this caller needs such a place.
fn needed() -> Result<bool, Error> {
    let mounts =
        fs::read_to_string("/proc/self/mountinfo").doing("reading /proc/self/mountinfo")?;
    let trees = !cgroup::unified() && mounts.contains(" - cgroup ");
    Ok(trees && (ids::power()? == ids::Power::User || ids::inside_namespace()?))
}

/// Enters it, for a new container; whether that was needed.
pub(super) fn enter() -> Result<bool, Error> {
    if !needed()? {
        return Ok(false);
    }
    if ids::power()? == ids::Power::User {
        let (user, group) =
            (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        os::unshare(libc::CLONE_NEWUSER).map_err(ids::refusal)?;
        let write = |name: &str, text: String| {
            fs::write(format!("/proc/self/{name}"), text)
                .doing(format!("writing /proc/self/{name}"))
        };
        write("setgroups", "deny".to_owned())?;
        write("uid_map", format!("{user} {user} 1"))?;
        write("gid_map", format!("{group} {group} 1"))?;
    }
    hide().map(|()| true)
}

/// Enters the one that the container of this process is in, to join it from there.
pub(super) fn enter_as(pid: i32) -> Result<(), Error> {
    if !needed()? {
        return Ok(());
    }
    if ids::power()? == ids::Power::User {
        let path = format!("/proc/{pid}/ns/user");
        let own = File::open(&path).doing(format!("opening {path}"))?;
        let parent = parent_of(&own).doing("finding the container's user namespace")?;
        let kind = Some(LinkNameSpaceType::User);
        move_into_link_name_space(parent.as_fd(), kind)
            .doing("entering the container's user namespace")?;
    }
    hide()
}

fn hide() -> Result<(), Error> {
    os::unshare(libc::CLONE_NEWNS | libc::CLONE_NEWCGROUP).doing("leaving the machine's mounts")?;
    let flags = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
    rustix::mount::mount_change("/", flags).doing("separating mounts")?;
    Ok(no_cgroups::hide(true)?)
}

/// The namespace that a user namespace was made in (ioctl_ns(2)).
#[allow(unsafe_code)]
fn parent_of(namespace: &File) -> std::io::Result<OwnedFd> {
    const NS_GET_PARENT: libc::Ioctl = 0xb702; // linux/nsfs.h
    // SAFETY: the request takes no argument and answers with a new descriptor, which is nobody's yet.
    unsafe {
        let parent = os::check(libc::ioctl(namespace.as_raw_fd(), NS_GET_PARENT))?;
        Ok(OwnedFd::from_raw_fd(parent))
    }
}
