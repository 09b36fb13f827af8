//! The machine around the driver: distribution, firmware, engines, what hands it out.

use std::path::Path;

use sconce_gpu::{Machine, driver};

use crate::snapshot::{Imex, Os, Rootless};

/// os-release(5).
pub(super) fn os(machine: &Machine) -> Option<Os> {
    let places = ["/etc/os-release", "/usr/lib/os-release"];
    let text = places.iter().find_map(|path| machine.text(path))?;
    let field = |name: &str| {
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='))?;
        Some(value.trim().trim_matches(['"', '\'']).to_owned())
    };
    let like = field("ID_LIKE").unwrap_or_default();
    Some(Os {
        id: field("ID")?,
        like: like.split_whitespace().map(str::to_owned).collect(),
        version: field("VERSION_ID"),
    })
}

/// The firmware's variable: four bytes of attributes, then 1 for on (UEFI Specification, "Globally Defined
/// Variables"; the kernel's efivarfs).
pub(super) fn secure_boot(machine: &Machine) -> Option<bool> {
    let path = "/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c";
    let bytes = machine.read(Path::new(path)).ok()??;
    Some(*bytes.get(4)? == 1)
}

/// `none [integrity] confidentiality` (kernel_lockdown(7)).
pub(super) fn lockdown(machine: &Machine) -> Option<String> {
    let text = machine.text("/sys/kernel/security/lockdown")?;
    let (_, rest) = text.split_once('[')?;
    Some(rest.split_once(']')?.0.to_owned())
}

/// Container engines, by their programs.
pub(super) fn engines(machine: &Machine) -> Vec<String> {
    let has = |name: &&str| {
        ["/usr/bin", "/usr/local/bin"]
            .iter()
            .any(|folder| machine.exists(&Path::new(folder).join(name)))
    };
    let names = ["docker", "podman", "containerd", "crio"];
    names.iter().filter(|name| has(name)).map(|name| (*name).to_owned()).collect()
}

/// What hands out this machine, by its variables and folders.
pub(super) fn cluster(machine: &Machine) -> Option<String> {
    let variable = |name: &str| match machine.given() {
        Some(given) => given.environment.contains_key(name),
        None => std::env::var_os(name).is_some(),
    };
    let folder = |path: &str| machine.is_dir(Path::new(path));
    let rows = [
        ("kubernetes", "KUBERNETES_SERVICE_HOST", "/var/lib/kubelet"),
        ("slurm", "SLURM_JOB_ID", "/var/spool/slurmd"),
    ];
    let found = rows.iter().find(|(_, name, path)| variable(name) || folder(path));
    found.map(|(name, ..)| (*name).to_owned())
}

/// Kernel releases whose folder below /lib/modules has the driver's module, by their modules.dep.
pub(super) fn built_for(machine: &Machine) -> Option<Vec<String>> {
    let folder = Path::new("/lib/modules");
    let kernels = machine.names(folder);
    if kernels.is_empty() {
        return None;
    }
    let has = |kernel: &String| {
        let list = machine.text(&format!("/lib/modules/{kernel}/modules.dep"));
        list.is_some_and(|list| list.contains("/nvidia.ko"))
    };
    Some(kernels.into_iter().filter(has).collect())
}

/// Where the driver is told to leave GPUs alone: on the kernel's command line, or in a file of modprobe.d(5).
pub(super) fn excluding(machine: &Machine) -> Vec<String> {
    /// Options of nvidia.ko (NVIDIA/open-gpu-kernel-modules kernel-open/nvidia/nv-reg.h).
    const OPTIONS: [&str; 3] = ["NVreg_ExcludedGpus", "NVreg_ExcludeAllGpus", "NVreg_GpuBlacklist"];
    /// In the order of modprobe.d(5).
    const FOLDERS: [&str; 5] = [
        "/etc/modprobe.d",
        "/run/modprobe.d",
        "/usr/local/lib/modprobe.d",
        "/usr/lib/modprobe.d",
        "/lib/modprobe.d",
    ];
    let names_one = |text: &str| OPTIONS.iter().any(|option| text.contains(option));
    let line = machine.text("/proc/cmdline").unwrap_or_default();
    let words = line.split_whitespace().filter(|word| names_one(word));
    let mut found: Vec<String> =
        words.map(|word| format!("the kernel's command line: {word}")).collect();
    let mut seen = Vec::new();
    for folder in FOLDERS {
        // /lib is a link to /usr/lib on most machines.
        let Some(real) = machine.resolve(Path::new(folder)) else { continue };
        if seen.contains(&real) {
            continue;
        }
        seen.push(real);
        for name in machine.names(Path::new(folder)).iter().filter(|name| name.ends_with(".conf")) {
            let path = format!("{folder}/{name}");
            let text = machine.text(&path).unwrap_or_default();
            let lines = text.lines().map(str::trim).filter(|line| !line.starts_with('#'));
            found.extend(lines.filter(|l| names_one(l)).map(|line| format!("{path}: {line}")));
        }
    }
    found.truncate(16);
    found
}

/// Seconds since the start, from proc_uptime(5).
pub(super) fn uptime(machine: &Machine) -> Option<u64> {
    machine.text("/proc/uptime")?.split('.').next()?.parse().ok()
}

/// What somebody who is not root finds for containers: settings of the kernel (user_namespaces(7); Debian's and Ubuntu's
/// own switches) and subuid(5).
pub(super) fn rootless(machine: &Machine, user: u32) -> Option<Rootless> {
    if user == 0 || machine.given().is_some_and(|given| given.root) {
        return None;
    }
    let is = |path: &str, value: &str| machine.text(path).is_some_and(|text| text.trim() == value);
    const FORBIDS: [(&str, &str); 2] = [
        ("/proc/sys/user/max_user_namespaces", "user.max_user_namespaces"),
        ("/proc/sys/kernel/unprivileged_userns_clone", "kernel.unprivileged_userns_clone"),
    ];
    let forbids = FORBIDS.iter().find(|(path, _)| is(path, "0"));
    let name = machine.text("/etc/passwd").and_then(|text| {
        let own = |line: &str| line.split(':').nth(2) == Some(user.to_string().as_str());
        Some(text.lines().find(|line| own(line))?.split(':').next()?.to_owned())
    });
    let listed = |path: &str| {
        let text = machine.text(path)?;
        let owner = |line: &str| line.split(':').next().map(str::to_owned);
        let own = |owner: String| Some(&owner) == name.as_ref() || owner == user.to_string();
        Some(text.lines().filter_map(owner).any(own))
    };
    Some(Rootless {
        forbidden_by: forbids.map(|(_, setting)| (*setting).to_owned()),
        apparmor: is("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1"),
        subordinate_ids: listed("/etc/subuid").zip(listed("/etc/subgid")).map(|(a, b)| a && b),
        cgroup2: machine
            .is_dir(Path::new("/sys/fs/cgroup"))
            .then(|| machine.exists(Path::new("/sys/fs/cgroup/cgroup.controllers"))),
    })
}

/// IMEX, where it has channels.
pub(super) fn imex(machine: &Machine, survey: &driver::Survey) -> Option<Imex> {
    let channels = survey
        .network
        .iter()
        .filter(|node| node.path.starts_with("/dev/nvidia-caps-imex-channels"));
    let channels = channels.count() as u32;
    (channels > 0).then(|| Imex { channels, service: runs(machine, "nvidia-imex") })
}

/// Whether a process of this name runs. The kernel cuts names at 15 bytes.
pub(super) fn runs(machine: &Machine, name: &str) -> bool {
    let numbers = machine.names(Path::new("/proc")).into_iter();
    let mut numbers = numbers.filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()));
    numbers.any(|pid| {
        let own = machine.text(&format!("/proc/{pid}/comm"));
        own.is_some_and(|own| own == name.get(..15).unwrap_or(name))
    })
}
