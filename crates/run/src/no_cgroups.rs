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
    // The last mounted first, and whatever carries the trees at the end.
    for point in cgroup_mounts()? {
        rustix::mount::unmount(&point, UnmountFlags::DETACH).doing_to("hiding", &point)?;
    }
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    rustix::mount::mount("tmpfs", top, "tmpfs", flags, Some(c"size=4k")).doing_to("hiding", top)
}

/// Takes cgroup trees out of staged volumes, where libcontainer would find them after all. In a user
/// namespace it looks at one place only.
pub(crate) fn leave_out(stage: &Path, staged: &[Staged]) -> Result<(), Error> {
    let mut all = Vec::new();
    for point in cgroup_mounts()?.into_iter().filter(|point| point.starts_with(stage)) {
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
        notice(format!("{}{more} are empty: cgroup trees are not shown", first.display()));
    }
    Ok(())
}

/// Where cgroup file systems are mounted, the last mounted first.
fn cgroup_mounts() -> Result<Vec<PathBuf>, Error> {
    let mounts =
        fs::read_to_string("/proc/self/mountinfo").doing("reading /proc/self/mountinfo")?;
    let points = mounts
        .lines()
        .filter(|line| line.split_once(" - ").is_some_and(|(_, kind)| kind.starts_with("cgroup")))
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
