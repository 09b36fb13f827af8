//! A place without cgroups, for libcontainer.

use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::fs::StatVfsMountFlags;
use rustix::mount::{MountFlags, UnmountFlags};

use crate::error::{Doing, Error};
use crate::shim::notice;
use crate::spec;
use crate::volumes::Staged;

/// Shows libcontainer a place without cgroups. It insists on putting the container into
/// one, and in every tree there is; limits are set already ([`crate::cgroup::Groups`]), and making
/// and removing a group in each of a dozen v1 trees takes longer than all the rest.
///
/// As root the trees are unmounted here and an empty tmpfs stands for a machine without
/// controllers. Inherited mounts cannot be unmounted in a user namespace, so there it sees
/// cgroup v2, read-only: it takes the refusal to make [`spec::NO_CGROUP`] for an answer.
/// That group must not exist, ever: when libcontainer gives up on a container it kills every
/// process of the container's group.
pub(crate) fn hide(in_user_namespace: bool) -> Result<(), Error> {
    let top = "/sys/fs/cgroup";
    if in_user_namespace {
        let flags =
            MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        // Where v2 is all there is, the kernel refuses to mount it on itself: something between.
        rustix::mount::mount("tmpfs", top, "tmpfs", flags, Some(c"size=4k"))
            .doing_to("hiding", top)?;
        rustix::mount::mount("cgroup2", top, "cgroup2", flags, None)
            .doing("mounting this process's cgroup")?;
        let seen = rustix::fs::statvfs(top).doing("looking at this process's cgroup")?;
        let group = format!("{top}{}", spec::NO_CGROUP);
        if !seen.f_flag.contains(StatVfsMountFlags::RDONLY) || Path::new(&group).exists() {
            return Err(Error::Container(format!("{group} could be made or is there already")));
        }
        return Ok(());
    }
    let trees = cgroup_mounts(|kind| kind.starts_with("cgroup"))?;
    // What carries the trees goes with all of them, where it is a mount; the rest one by one, the last
    // mounted first.
    let mut carrier_gone = false;
    while rustix::mount::unmount(top, UnmountFlags::DETACH).is_ok() {
        carrier_gone = true;
    }
    for point in trees.iter().filter(|point| !(carrier_gone && point.starts_with(top))) {
        rustix::mount::unmount(point, UnmountFlags::DETACH).doing_to("hiding", point)?;
    }
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    rustix::mount::mount("tmpfs", top, "tmpfs", flags, Some(c"size=4k")).doing_to("hiding", top)
}

/// Takes trees of cgroup v1 out of staged volumes: libcontainer looks for those wherever they are
/// mounted, and for v2 at its usual place. In a user namespace it looks at that place only.
pub(crate) fn leave_out(stage: &Path, staged: &[Staged]) -> Result<(), Error> {
    if staged.is_empty() {
        return Ok(());
    }
    let mut all = Vec::new();
    let trees = cgroup_mounts(|kind| kind == "cgroup")?;
    for point in trees.into_iter().filter(|point| point.starts_with(stage)) {
        rustix::mount::unmount(&point, UnmountFlags::DETACH).doing_to("leaving out", &point)?;
        let below =
            |volume: &Staged| Some(volume.target.join(point.strip_prefix(&volume.source).ok()?));
        all.extend(staged.iter().find_map(below));
    }
    if let Some(first) = all.last() {
        let more = match all.len() {
            1 => String::new(),
            count => format!(" and {} more folders", count - 1),
        };
        notice(format!("{}{more} are empty: trees of cgroup v1 are not shown", first.display()));
    }
    Ok(())
}

/// Where file systems of these types are mounted, the last mounted first.
fn cgroup_mounts(types: impl Fn(&str) -> bool) -> Result<Vec<PathBuf>, Error> {
    let mounts =
        fs::read_to_string("/proc/self/mountinfo").doing("reading /proc/self/mountinfo")?;
    let points = mounts
        .lines()
        .filter(|line| {
            let kind = line.split_once(" - ").and_then(|(_, rest)| rest.split(' ').next());
            kind.is_some_and(&types)
        })
        .filter_map(|line| line.split(' ').nth(4));
    Ok(points.rev().map(unescaped).collect())
}

/// A path as mountinfo has it: blanks and the like as `\040` (proc_pid_mountinfo(5)).
fn unescaped(path: &str) -> PathBuf {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let [first, after @ ..] = rest {
        let octal = after.get(..3).and_then(|digits| str::from_utf8(digits).ok());
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) if *first == b'\\' => {
                bytes.push(byte);
                rest = &after[3..];
            }
            _ => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    PathBuf::from(std::ffi::OsString::from_vec(bytes))
}
