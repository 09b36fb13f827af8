//! Capabilities by name, and which of them a container has.

use crate::Capabilities;
use crate::error::Error;

/// Every capability, in the order of its number (linux/capability.h, Linux 6.12).
pub(crate) const ALL: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// What root inside may do: podman's default set (containers/common, `pkg/config/default.go`).
/// It leaves out `MKNOD`, which Docker grants: without it and with no device files allowed on
/// the root (`nodev`), no device cgroup is needed, and a `systemctl daemon-reload` cannot take
/// the GPUs away (nvidia-container-toolkit#48).
const DEFAULT: &[&str] = &[
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

/// The bounding set of a container, as bits. The last word counts: what is added is there even
/// where `ALL` is dropped, and what is dropped by name is not there even where `ALL` is added.
pub(crate) fn bounding(changes: &Capabilities) -> Result<u64, Error> {
    let named = |option: &'static str, names: &[String]| -> Result<(bool, u64), Error> {
        let mut bits = 0;
        let mut all = false;
        for given in names {
            let upper = given.to_ascii_uppercase();
            let name = upper.strip_prefix("CAP_").unwrap_or(&upper);
            match bit(name) {
                _ if name == "ALL" => all = true,
                Some(found) => bits |= found,
                None => {
                    return Err(Error::Invalid {
                        option,
                        given: given.clone(),
                        why: "there is no such capability (capabilities(7))".to_owned(),
                    });
                }
            }
        }
        Ok((all, bits))
    };
    let (add_all, add) = named("--cap-add", &changes.add)?;
    let (drop_all, drop) = named("--cap-drop", &changes.drop)?;
    let every = (1u64 << ALL.len()) - 1;
    let start = match (add_all, drop_all) {
        (true, _) => every,
        (false, true) => 0,
        (false, false) => DEFAULT.iter().filter_map(|name| bit(name)).sum(),
    };
    Ok((start & !drop) | add)
}

/// The bit of a capability by its name without `CAP_`.
fn bit(name: &str) -> Option<u64> {
    ALL.iter().position(|known| *known == name).map(|number| 1 << number)
}

/// The names of the bits that are set, with `CAP_`.
pub(crate) fn names(bits: u64) -> Vec<String> {
    let set = ALL.iter().enumerate().filter(|(number, _)| bits & (1 << number) != 0);
    set.map(|(_, name)| format!("CAP_{name}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_follow_docker() {
        let set = |add: &[&str], drop: &[&str]| {
            let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
            let bits = bounding(&Capabilities { add: owned(add), drop: owned(drop) })?;
            Ok::<_, Error>(names(bits).join(" "))
        };
        assert!(!set(&[], &[]).expect("default").contains("MKNOD"));
        assert_eq!(set(&["SYS_PTRACE"], &["all"]).expect("one"), "CAP_SYS_PTRACE");
        assert_eq!(set(&["cap_chown"], &["ALL"]).expect("one"), "CAP_CHOWN");
        let most = set(&["ALL"], &["SYS_ADMIN"]).expect("all but one");
        assert_eq!(most.split(' ').count(), ALL.len() - 1);
        assert!(!set(&[], &["CHOWN"]).expect("fewer").contains("CAP_CHOWN"));
        let error = set(&["SYS_EVERYTHING"], &[]).expect_err("unknown").to_string();
        assert!(error.contains("--cap-add 'SYS_EVERYTHING'"), "{error}");
    }
}
