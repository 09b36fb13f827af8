//! User namespaces: whether one can be made, and who is who inside.
//!
//! The caller is root inside. With a range in `/etc/subuid` and `/etc/subgid` and the setuid
//! tools of the `uidmap` package, ids from 1 up exist too; without, root is the only one
//! (user_namespaces(7), subuid(5), newuidmap(1)).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Pid;

use crate::error::{Doing, Error};

/// Settings that forbid user namespaces to users: the file, the value that forbids, the
/// command that allows.
const SWITCHES: &[(&str, &str, &str)] = &[
    // Debian's and Ubuntu's own patch.
    (
        "/proc/sys/kernel/unprivileged_userns_clone",
        "0",
        "sysctl kernel.unprivileged_userns_clone=1",
    ),
    // Ubuntu 23.10 and later: namespaces are made, but without their powers.
    (
        "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
        "1",
        "sysctl kernel.apparmor_restrict_unprivileged_userns=0",
    ),
    // user_namespaces(7), Linux 4.9.
    ("/proc/sys/user/max_user_namespaces", "0", "sysctl user.max_user_namespaces=15000"),
];

/// A range of ids that the administrator gave to the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Range {
    start: u32,
    count: u32,
}

/// Who a process is that wants to start a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Power {
    /// It may mount: no user namespace is needed.
    Root,
    /// It may not: a user namespace comes first.
    User,
}

/// What this process may do. Being uid 0 is not enough: inside an ordinary container it
/// lacks `CAP_SYS_ADMIN`.
pub(crate) fn power() -> Result<Power, Error> {
    const CAP_SYS_ADMIN: u32 = 21; // linux/capability.h
    let mounts = has(CAP_SYS_ADMIN)?;
    let root = rustix::process::geteuid().is_root();
    Ok(if mounts && root { Power::Root } else { Power::User })
}

/// This process can raise hard limits, which takes a capability outside all user namespaces.
pub(crate) fn raises_limits() -> Result<bool, Error> {
    const CAP_SYS_RESOURCE: u32 = 24; // linux/capability.h
    Ok(!inside_namespace()? && has(CAP_SYS_RESOURCE)?)
}

/// This process has a capability, by its number, in its effective set.
fn has(capability: u32) -> Result<bool, Error> {
    let status = fs::read_to_string("/proc/self/status").doing("reading /proc/self/status")?;
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|value| u64::from_str_radix(value.trim(), 16).ok())
        .unwrap_or(0);
    Ok(effective & (1 << capability) != 0)
}

/// This process is in a user namespace other than the machine's first.
pub(crate) fn inside_namespace() -> Result<bool, Error> {
    Ok(Maps::read()?.inside_namespace())
}

/// The ids of this process's user namespace (user_namespaces(7)).
pub(crate) struct Maps {
    users: String,
    groups: String,
}

impl Maps {
    /// Reads them. A process that has joined a container's mounts and none of its processes can't: it is not in
    /// that `/proc`.
    pub(crate) fn read() -> Result<Self, Error> {
        let read = |file: &str| fs::read_to_string(file).doing(format!("reading {file}"));
        Ok(Self { users: read("/proc/self/uid_map")?, groups: read("/proc/self/gid_map")? })
    }

    /// The user and the group exist.
    pub(crate) fn have(&self, uid: u32, gid: u32) -> bool {
        is_mapped(&self.users, uid) && self.have_group(gid)
    }

    /// The group exists.
    pub(crate) fn have_group(&self, gid: u32) -> bool {
        is_mapped(&self.groups, gid)
    }

    /// They are those of another user namespace than the machine's first.
    pub(crate) fn inside_namespace(&self) -> bool {
        let mut fields = self.users.split_whitespace();
        [Some("0"), Some("0"), Some("4294967295")] != [fields.next(), fields.next(), fields.next()]
    }
}

fn is_mapped(map: &str, id: u32) -> bool {
    map.lines().any(|line| {
        let mut fields = line.split_whitespace().map(str::parse::<u64>);
        match (fields.next(), fields.nth(1)) {
            (Some(Ok(start)), Some(Ok(count))) => {
                (start..start.saturating_add(count)).contains(&u64::from(id))
            }
            _ => false,
        }
    })
}

/// Supplementary groups cannot be set in this user namespace (user_namespaces(7)): those of
/// the caller stay, and with them what they open.
pub(crate) fn groups_are_fixed() -> bool {
    fs::read_to_string("/proc/self/setgroups").is_ok_and(|text| text.trim() == "deny")
}

/// Explains why a user namespace was refused.
pub(crate) fn refusal(source: std::io::Error) -> Error {
    for (file, forbids, allow) in SWITCHES {
        if fs::read_to_string(file).is_ok_and(|value| value.trim() == *forbids) {
            return Error::NoUserNamespace {
                why: format!("{file} is {forbids}"),
                hint: format!("run 'sudo {allow}', or run sconce as root"),
            };
        }
    }
    Error::NoUserNamespace {
        why: source.to_string(),
        hint: "run sconce as root; inside another container, start that one with --privileged"
            .to_owned(),
    }
}

/// Writes the maps of the user namespace that `child` is in. The answer is a notice for the
/// user where only one id could be mapped.
pub(crate) fn write_maps(child: Pid) -> Result<Option<String>, Error> {
    let uid = rustix::process::geteuid().as_raw();
    let gid = rustix::process::getegid().as_raw();
    let pid = child.as_raw_nonzero().get();
    let ranges = subordinate(uid);
    let missing = match &ranges {
        Ok((users, groups)) => {
            let map = |tool: &Path, id: u32, range: Range| {
                Command::new(tool)
                    .arg(pid.to_string())
                    .args(["0", &id.to_string(), "1"])
                    .args(["1", &range.start.to_string(), &range.count.to_string()])
                    .output()
            };
            let results = [map(&users.0, uid, users.1), map(&groups.0, gid, groups.1)];
            match results.into_iter().find_map(|result| match result {
                Ok(output) if output.status.success() => None,
                Ok(output) => Some(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
                Err(error) => Some(error.to_string()),
            }) {
                None => return Ok(None),
                Some(why) => why,
            }
        }
        Err(missing) => missing.clone(),
    };
    // A tool may have written one of the two before the other failed: each is written once.
    let write = |file: &str, text: String| {
        let path = PathBuf::from(format!("/proc/{pid}/{file}"));
        match fs::read_to_string(&path) {
            Ok(present) if file != "setgroups" && !present.trim().is_empty() => Ok(()),
            _ => fs::write(&path, text).doing_to("writing", path),
        }
    };
    write("uid_map", format!("0 {uid} 1\n"))?;
    write("setgroups", "deny".to_owned())?;
    write("gid_map", format!("0 {gid} 1\n"))?;
    Ok(Some(format!(
        "only root exists in this container ({missing}); --user and apt need more ids"
    )))
}

/// The tools and ranges for users and groups, or what is missing.
#[allow(clippy::type_complexity)]
fn subordinate(uid: u32) -> Result<((PathBuf, Range), (PathBuf, Range)), String> {
    let find = |name: &str| {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path)
            .map(|folder| folder.join(name))
            .find(|file| file.is_file())
            .ok_or_else(|| format!("{name} is not installed"))
    };
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = crate::user::find(&passwd, |entry| entry.uid == uid).map(|entry| entry.name);
    let range = |file: &str| {
        let text = fs::read_to_string(file).unwrap_or_default();
        first_range(&text, name.as_deref(), uid)
            .ok_or_else(|| format!("{file} has no range for you"))
    };
    Ok(((find("newuidmap")?, range("/etc/subuid")?), (find("newgidmap")?, range("/etc/subgid")?)))
}

/// The first range of a user in the text of a subuid(5) file.
fn first_range(text: &str, name: Option<&str>, uid: u32) -> Option<Range> {
    text.lines().find_map(|line| {
        let mut fields = line.split(':');
        let owner = fields.next()?;
        let mine = Some(owner) == name || owner.parse() == Ok(uid);
        let start = fields.next()?.trim().parse().ok()?;
        let count = fields.next()?.trim().parse().ok()?;
        (mine && count > 0).then_some(Range { start, count })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_found_by_name_or_number() {
        let text = "ann:100000:65536\n1001:200000:65536\nbob:broken\n";
        assert_eq!(
            first_range(text, Some("ann"), 1000),
            Some(Range { start: 100_000, count: 65536 })
        );
        assert_eq!(first_range(text, None, 1001), Some(Range { start: 200_000, count: 65536 }));
        assert_eq!(first_range(text, Some("bob"), 1002), None);
        assert_eq!(first_range(text, Some("eve"), 1003), None);
    }
}
