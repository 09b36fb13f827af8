//! The request as an OCI runtime configuration
//! (github.com/opencontainers/runtime-spec, config.md and config-linux.md).

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::places::Mount;
use crate::user::Identity;
use crate::{Container, Tmpfs};

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

/// Also masked, for each processor: what it counts tells one guest what others do (moby,
/// `oci/defaults.go`, GHSA-6fw5-f8r9-fgfm).
const THROTTLE: &str = "/sys/devices/system/cpu";

fn masked() -> Vec<String> {
    let processors = std::fs::read_dir(THROTTLE).into_iter().flatten().flatten();
    let throttle = processors
        .map(|processor| processor.path().join("thermal_throttle"))
        .filter(|folder| folder.is_dir())
        .map(|folder| folder.to_string_lossy().into_owned());
    MASKED.iter().map(|path| (*path).to_owned()).chain(throttle).collect()
}

/// Docker's `readonlyPaths` (the same place).
const READ_ONLY: &[&str] =
    &["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// The cgroup that libcontainer is told to use. It does not exist: see
/// [`crate::no_cgroups::hide`].
pub(crate) const NO_CGROUP: &str = "/sconce-uses-no-cgroup-of-libcontainer";

/// What the shim found out about the place the container will stand in.
pub(crate) struct Place<'a> {
    /// The mounted root.
    pub(crate) root: &'a Path,
    /// The files for `/etc`: name there, path here.
    pub(crate) etc: &'a [(&'static str, std::path::PathBuf)],
    /// What is mounted for the user, in its order.
    pub(crate) mounts: &'a [Mount<'a>],
    /// Where they are mounted, without links.
    pub(crate) places: &'a [PathBuf],
    pub(crate) identity: &'a Identity,
    /// The process is in a user namespace that is not the machine's first.
    pub(crate) in_user_namespace: bool,
    /// Group 5 (`tty`) exists in this user namespace.
    pub(crate) has_tty_group: bool,
    /// The shim has a network namespace of its own.
    pub(crate) own_network: bool,
    /// The machine has only cgroup v2.
    pub(crate) unified_cgroups: bool,
    pub(crate) shm_bytes: u64,
    pub(crate) hostname: &'a str,
    pub(crate) workdir: &'a Path,
}

/// The configuration of `container` in `place`. It is that of root with everything: the first
/// process takes its command's privileges itself ([`crate::privileges`]), as those do that `exec`
/// adds.
pub(crate) fn document(container: &Container, place: &Place<'_>) -> Value {
    let mut namespaces = vec!["ipc", "uts", "mount"];
    if !container.host_pids {
        namespaces.push("pid");
    }
    let namespaces: Vec<Value> = namespaces.iter().map(|kind| json!({ "type": kind })).collect();
    json!({
        "ociVersion": "1.0.2",
        "root": { "path": place.root, "readonly": container.read_only },
        "hostname": place.hostname,
        "process": {
            "terminal": false,
            "user": { "uid": 0, "gid": 0 },
            "args": container.command,
            // Without HOME libcontainer asks the C library for it, which loads the image's NSS modules
            // into a process that has all privileges still. The command's environment is another.
            "env": ["HOME=/"],
            "cwd": place.workdir,
            "noNewPrivileges": false,
        },
        "mounts": mounts(place),
        "linux": {
            "cgroupsPath": NO_CGROUP,
            "namespaces": namespaces,
            "maskedPaths": masked(),
            "readonlyPaths": READ_ONLY,
        },
    })
}

fn mounts(place: &Place<'_>) -> Vec<Value> {
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
        mount("/dev/shm", "tmpfs", &["nosuid", "noexec", "nodev", "mode=1777", &shm]),
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
    mounts.extend(place.mounts.iter().zip(place.places).map(|(one, real)| match one {
        Mount::Volume(volume) => bind(&volume.source, real, &["rbind"]),
        Mount::Memory(tmpfs) => in_memory(tmpfs, real),
    }));
    mounts
}

/// What can be written to under a root that cannot, as podman has it (`--read-only-tmpfs`).
const WRITABLE: &[&str] = &["/tmp", "/var/tmp", "/run"];

/// The folders in memory that a container gets: those asked for, and under a root that cannot be
/// written to those that every program writes to.
pub(crate) fn folders_in_memory(container: &Container) -> Vec<Tmpfs> {
    let has = |target: &Path| {
        container.volumes.iter().any(|volume| volume.target == target)
            || container.tmpfs.iter().any(|tmpfs| tmpfs.target == target)
    };
    let more = WRITABLE.iter().map(|target| Tmpfs::new(*target));
    let more = more.filter(|tmpfs| container.read_only && !has(&tmpfs.target));
    container.tmpfs.iter().cloned().chain(more).collect()
}

fn in_memory(tmpfs: &Tmpfs, real: &Path) -> Value {
    let mut options = vec!["nosuid".to_owned(), "nodev".to_owned()];
    if !tmpfs.exec {
        options.push("noexec".to_owned());
    }
    if tmpfs.read_only {
        options.push("ro".to_owned());
    }
    options.push(format!("mode={:o}", tmpfs.mode.unwrap_or(0o1777)));
    options.extend(tmpfs.size.map(|size| format!("size={size}")));
    options.extend(tmpfs.uid.map(|uid| format!("uid={uid}")));
    options.extend(tmpfs.gid.map(|gid| format!("gid={gid}")));
    json!({ "destination": real, "type": "tmpfs", "source": "tmpfs", "options": options })
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
