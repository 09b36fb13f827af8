//! `--cap-add`, `--cap-drop` and `--security-opt`.

use std::path::{Path, PathBuf};

use sconce_run::Seccomp;

use crate::error::Error;

/// Capabilities by name, without CAP_ (capabilities(7)).
const CAPABILITIES: [&str; 41] = [
    "AUDIT_CONTROL",
    "AUDIT_READ",
    "AUDIT_WRITE",
    "BLOCK_SUSPEND",
    "BPF",
    "CHECKPOINT_RESTORE",
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "IPC_LOCK",
    "IPC_OWNER",
    "KILL",
    "LEASE",
    "LINUX_IMMUTABLE",
    "MAC_ADMIN",
    "MAC_OVERRIDE",
    "MKNOD",
    "NET_ADMIN",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_RAW",
    "PERFMON",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYSLOG",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_CHROOT",
    "SYS_MODULE",
    "SYS_NICE",
    "SYS_PACCT",
    "SYS_PTRACE",
    "SYS_RAWIO",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "WAKE_ALARM",
];

/// The largest seccomp profile that is read, bytes; Docker's default one has 15 KB.
const PROFILE_LIMIT: u64 = 1 << 20;

/// What one `--security-opt` says.
#[derive(Debug, Clone, PartialEq)]
pub enum SecurityOption {
    /// `seccomp=…`.
    Seccomp(Seccomp),
    /// `seccomp=FILE`, which [`seccomp_profile`] reads.
    Profile(PathBuf),
    /// `apparmor=PROFILE`.
    AppArmor(String),
    /// `no-new-privileges[=true|false]`.
    NoNewPrivileges(bool),
    /// What is so anyway.
    Nothing,
}

/// The name of a capability as [`sconce_run::Capabilities`] has it.
///
/// # Errors
/// What is not a capability.
pub fn capability(option: &str, given: &str) -> Result<String, Error> {
    let upper = given.to_ascii_uppercase();
    let name = upper.strip_prefix("CAP_").unwrap_or(&upper);
    if name == "ALL" || CAPABILITIES.contains(&name) {
        return Ok(name.to_owned());
    }
    let why = match sconce_facts::nearest(name, CAPABILITIES) {
        Some(near) => format!("there is no such capability; did you mean {near}?"),
        None => "there is no such capability; capabilities(7) lists them".to_owned(),
    };
    Err(Error::option(option, given, why))
}

/// Reads `--security-opt`; `:` will do for `=`, as in Docker.
///
/// # Errors
/// An unknown option.
pub fn security_option(given: &str) -> Result<SecurityOption, Error> {
    let wrong = |why: &str| Error::option("--security-opt", given, why);
    let at = given.find(['=', ':']);
    let (key, value) = at.map_or((given, None), |at| (&given[..at], Some(&given[at + 1..])));
    match (key, value) {
        ("seccomp", Some("unconfined")) => Ok(SecurityOption::Seccomp(Seccomp::Unconfined)),
        ("seccomp", Some("builtin" | "default")) => Ok(SecurityOption::Seccomp(Seccomp::Default)),
        ("seccomp", Some(file)) if !file.is_empty() => Ok(SecurityOption::Profile(file.into())),
        ("apparmor", Some(name)) if !name.is_empty() && !name.contains(char::is_whitespace) => {
            Ok(SecurityOption::AppArmor(name.to_owned()))
        }
        ("no-new-privileges", None | Some("true")) => Ok(SecurityOption::NoNewPrivileges(true)),
        ("no-new-privileges", Some("false")) => Ok(SecurityOption::NoNewPrivileges(false)),
        ("label", Some("disable")) => Ok(SecurityOption::Nothing),
        ("label", _) => Err(wrong("SELinux labels are not set one by one; label=disable is taken")),
        ("systempaths", _) => Err(wrong("/proc stays masked; name what is missing with -v")),
        ("writable-cgroups", Some("false")) => Ok(SecurityOption::Nothing),
        _ => Err(wrong(
            "there are seccomp=unconfined or FILE, apparmor=PROFILE and no-new-privileges",
        )),
    }
}

/// The profile in a file, at the path that was resolved for it.
///
/// # Errors
/// It can't be read, or is no JSON object.
pub fn seccomp_profile(path: &Path) -> Result<Seccomp, Error> {
    let failed =
        |source| Error::File { what: "read the seccomp profile", path: path.to_owned(), source };
    let text = sconce_open::read_resolved(path, PROFILE_LIMIT).map_err(failed)?;
    let parsed: Result<serde_json::Map<String, serde_json::Value>, _> = serde_json::from_str(&text);
    parsed.map_err(|error| failed(std::io::Error::other(error)))?;
    Ok(Seccomp::Profile(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities() {
        let read = |given| capability("--cap-add", given);
        assert_eq!(read("SYS_PTRACE").unwrap(), "SYS_PTRACE");
        assert_eq!(read("cap_sys_nice").unwrap(), "SYS_NICE");
        assert_eq!(read("all").unwrap(), "ALL");
        assert!(read("SYS_PTRAC").unwrap_err().to_string().contains("SYS_PTRACE?"));
        assert!(read("").is_err());
    }

    #[test]
    fn options() {
        use SecurityOption as S;
        let read = |given| security_option(given);
        assert_eq!(read("seccomp=unconfined").unwrap(), S::Seccomp(Seccomp::Unconfined));
        assert_eq!(read("seccomp:unconfined").unwrap(), S::Seccomp(Seccomp::Unconfined));
        assert_eq!(read("apparmor=unconfined").unwrap(), S::AppArmor("unconfined".into()));
        assert_eq!(read("no-new-privileges").unwrap(), S::NoNewPrivileges(true));
        assert_eq!(read("no-new-privileges:true").unwrap(), S::NoNewPrivileges(true));
        assert_eq!(read("label=disable").unwrap(), S::Nothing);
        for bad in ["", "seccomp", "seccomp=", "label=type:x", "systempaths=unconfined", "x=y"] {
            assert!(read(bad).is_err(), "{bad}");
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("profile.json");
        std::fs::write(&path, "{\"defaultAction\": \"SCMP_ACT_ALLOW\"}").unwrap();
        let given = format!("seccomp={}", path.display());
        assert_eq!(read(&given).unwrap(), S::Profile(path.clone()));
        let real = path.canonicalize().unwrap();
        assert!(matches!(seccomp_profile(&real).unwrap(), Seccomp::Profile(_)));
        let link = folder.path().join("link.json");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(seccomp_profile(&link).is_err(), "a link that came since");
        std::fs::write(&path, "[]").unwrap();
        assert!(seccomp_profile(&real).is_err());
        assert!(seccomp_profile(Path::new("/nowhere.json")).is_err());
    }
}
