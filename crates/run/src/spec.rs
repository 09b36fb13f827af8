//! The request as an OCI runtime configuration
//! (github.com/opencontainers/runtime-spec, config.md and config-linux.md).

use std::path::Path;

use serde_json::{Value, json};

use crate::Container;
use crate::user::Identity;

/// What root inside may do: podman's default set (containers/common, `pkg/config/default.go`).
/// It leaves out `CAP_MKNOD`, which Docker grants: without it and with no device files
/// allowed on the root (`nodev`), no device cgroup is needed, and a `systemctl
/// daemon-reload` cannot take the GPUs away (nvidia-container-toolkit#48).
const CAPABILITIES: &[&str] = &[
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_NET_BIND_SERVICE",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
];

/// Docker's `maskedPaths` (moby, `oci/defaults.go`).
const MASKED: &[&str] = &[
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];

/// Docker's `readonlyPaths` (the same place).
const READ_ONLY: &[&str] =
    &["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// The cgroup that libcontainer is told to use. It does not exist: see
/// `keeper::hide_cgroups`.
pub(crate) const NO_CGROUP: &str = "/sconce-uses-no-cgroup-of-libcontainer";

/// What the keeper found out about the place the container will stand in.
pub(crate) struct Place<'a> {
    /// The mounted root.
    pub(crate) root: &'a Path,
    /// The files for `/etc`: name there, path here.
    pub(crate) etc: &'a [(&'static str, std::path::PathBuf)],
    pub(crate) identity: &'a Identity,
    /// The process is in a user namespace that is not the machine's first.
    pub(crate) in_user_namespace: bool,
    /// Group 5 (`tty`) exists in this user namespace.
    pub(crate) has_tty_group: bool,
    /// The keeper has a network namespace of its own.
    pub(crate) own_network: bool,
    /// The machine has only cgroup v2.
    pub(crate) unified_cgroups: bool,
    pub(crate) shm_bytes: u64,
    pub(crate) hostname: &'a str,
    pub(crate) workdir: &'a Path,
}

/// The configuration of `container` in `place`.
pub(crate) fn document(container: &Container, place: &Place<'_>) -> Value {
    let capabilities: &[&str] = if place.identity.uid == 0 { CAPABILITIES } else { &[] };
    let mut user = json!({ "uid": place.identity.uid, "gid": place.identity.gid });
    if !place.identity.groups.is_empty() {
        user["additionalGids"] = json!(place.identity.groups);
    }
    let namespaces: Vec<Value> =
        ["pid", "ipc", "uts", "mount"].iter().map(|kind| json!({ "type": kind })).collect();
    json!({
        "ociVersion": "1.0.2",
        "root": { "path": place.root, "readonly": container.read_only },
        "hostname": place.hostname,
        "process": {
            "terminal": false,
            "user": user,
            "args": container.command,
            "env": [],
            "cwd": place.workdir,
            "capabilities": {
                // Docker fills in the same three for root, and the bounding set for all.
                "bounding": CAPABILITIES,
                "effective": capabilities,
                "permitted": capabilities,
            },
            "noNewPrivileges": false,
        },
        "mounts": mounts(container, place),
        "linux": {
            "cgroupsPath": NO_CGROUP,
            "namespaces": namespaces,
            "maskedPaths": MASKED,
            "readonlyPaths": READ_ONLY,
        },
    })
}

fn mounts(container: &Container, place: &Place<'_>) -> Vec<Value> {
    let mount = |destination: &str, kind: &str, options: &[&str]| json!({ "destination": destination, "type": kind, "source": kind, "options": options });
    let bind = |source: &Path, destination: &Path, options: &[&str]| json!({ "destination": destination, "type": "bind", "source": source, "options": options });
    let shm = format!("size={}", place.shm_bytes);
    let mut pts = vec!["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"];
    if place.has_tty_group {
        pts.push("gid=5");
    }
    let mut mounts = vec![
        mount("/proc", "proc", &["nosuid", "noexec", "nodev"]),
        mount("/dev", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        mount("/dev/pts", "devpts", &pts),
        mount("/dev/shm", "tmpfs", &["nosuid", "nodev", "mode=1777", &shm]),
        mount("/dev/mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
    ];
    // A new sysfs shows a network namespace, and only its owner may mount that.
    if place.in_user_namespace && !place.own_network {
        let sys = Path::new("/sys");
        mounts.push(bind(sys, sys, &["rbind", "nosuid", "noexec", "nodev", "rro"]));
    } else {
        mounts.push(mount("/sys", "sysfs", &["nosuid", "noexec", "nodev", "ro"]));
        if place.unified_cgroups {
            let options = ["nosuid", "noexec", "nodev", "ro"];
            mounts.push(mount("/sys/fs/cgroup", "cgroup2", &options));
        }
    }
    for (name, file) in place.etc {
        mounts.push(bind(file, Path::new(name), &["bind", "nosuid", "nodev"]));
    }
    for volume in &container.volumes {
        let mut options = vec!["rbind", "nodev"];
        if volume.read_only {
            options.push("rro");
        }
        mounts.push(bind(&volume.source, &volume.target, &options));
    }
    mounts
}

/// The environment of the command: the request's, and what every program expects.
pub(crate) fn environment(container: &Container, place: &Place<'_>) -> Vec<(String, String)> {
    let mut environment = container.env.clone();
    let mut default = |key: &str, value: &str| {
        if !environment.iter().any(|(present, _)| present == key) {
            environment.push((key.to_owned(), value.to_owned()));
        }
    };
    default("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    default("HOME", &place.identity.home);
    default("HOSTNAME", place.hostname);
    if container.stdio == crate::Stdio::Terminal {
        default("TERM", "xterm");
    }
    environment
}
