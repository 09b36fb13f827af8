//! What to do about a finding: steps with the commands that do them, on this machine.

use serde::Serialize;

use crate::causes;
use crate::snapshot::{Gpu, Snapshot};
use crate::state::{Device, Trouble};

/// Where a step is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    /// On the machine itself, commands as root.
    Host,
    /// In the container that was looked at.
    Container,
    /// Where the cluster's own commands work.
    Cluster,
}

/// One step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Step {
    /// Where.
    pub place: Place,
    /// What is to be done.
    pub what: String,
    /// Commands that do it, in order; empty where there are none.
    pub commands: Vec<String>,
}

impl Step {
    /// A step on the machine itself.
    pub(crate) fn host(what: impl Into<String>, commands: &[&str]) -> Self {
        Self::new(Place::Host, what, commands)
    }

    /// A step in the container.
    pub(crate) fn container(what: impl Into<String>, commands: &[&str]) -> Self {
        Self::new(Place::Container, what, commands)
    }

    fn new(place: Place, what: impl Into<String>, commands: &[&str]) -> Self {
        let commands = commands.iter().map(|command| (*command).to_owned()).collect();
        Self { place, what: what.into(), commands }
    }

    /// As a line. Where is said only if it is not here: `inside` is whether a container was looked at.
    pub(crate) fn line(&self, inside: bool) -> String {
        let place = match self.place {
            Place::Host if inside => "on the host: ",
            Place::Container if inside => "in the container: ",
            Place::Cluster => "in the cluster: ",
            Place::Host | Place::Container => "",
        };
        let commands: Vec<String> =
            self.commands.iter().map(|command| format!("`{command}`")).collect();
        match commands.is_empty() {
            true => format!("{place}{}", self.what),
            false => format!("{place}{}: {}", self.what, commands.join(", ")),
        }
    }
}

/// Steps that end with a restart of the machine.
pub(crate) fn reboot(snapshot: &Snapshot) -> Vec<Step> {
    let mut steps = drain(snapshot);
    steps.push(Step::host("restart the machine", &["systemctl reboot"]));
    steps
}

/// Steps that reset GPUs: all of them and the switches on a board with NVSwitch, where the driver resets no single
/// one of them (Fabric Manager user guide, "GPU reset"); else the one.
pub(crate) fn reset(snapshot: &Snapshot, gpus: &[&Gpu]) -> Vec<Step> {
    // vGPU software: only its host resets the GPU. The guest's virtual one starts anew with it.
    let all: Vec<&Gpu> =
        if gpus.is_empty() { snapshot.gpus.iter().collect() } else { gpus.to_vec() };
    if !all.is_empty() && all.iter().all(|gpu| gpu.is_virtual()) {
        let mut steps = drain(snapshot);
        let what = "restart this virtual machine: a guest can't reset its virtual GPU; if it comes again, ask whoever runs its host";
        steps.push(Step::host(what, &["systemctl reboot"]));
        return steps;
    }
    let mut steps = drain(snapshot);
    if snapshot.switches() > 0 || gpus.is_empty() {
        let what = "stop what uses any GPU, then reset all of them, and the NVSwitches, together";
        steps.push(Step::host(what, &["nvidia-smi --gpu-reset"]));
        return steps;
    }
    let list: Vec<String> = gpus.iter().map(|gpu| gpu.index.to_string()).collect();
    let command = format!("nvidia-smi --gpu-reset -i {}", list.join(","));
    let what = format!("stop what uses GPU {}, then reset it", list.join(", "));
    steps.push(Step::host(what, &[&command]));
    steps
}

/// Looks again a little later, for what may only not be done yet.
pub(crate) fn wait(what: &str) -> Step {
    Step::host(what, &["sconce doctor --watch"])
}

/// Starts the container that was looked at again.
pub(crate) fn restart(snapshot: &Snapshot, what: &str) -> Step {
    match snapshot.cluster.as_deref() {
        Some("kubernetes") => {
            let what = format!("{what}: delete its pod, whose controller makes it anew");
            Step::new(Place::Cluster, what, &["kubectl delete pod <pod>"])
        }
        _ => Step::host(what, &["docker restart <container>"]),
    }
}

/// Starts the container that was looked at anew, with GPUs.
pub(crate) fn give_gpus(snapshot: &Snapshot, what: &str) -> Step {
    match snapshot.cluster.as_deref() {
        Some("kubernetes") => {
            let ask = "its pod asks for them with `nvidia.com/gpu: 1` below `resources: limits:`";
            Step::new(Place::Cluster, format!("{what}: {ask}"), &[])
        }
        _ => Step::host(what, &["docker run --gpus all <image>"]),
    }
}

/// Takes the machine out of its cluster before something that its other users would notice.
fn drain(snapshot: &Snapshot) -> Vec<Step> {
    /// Node names are mostly the host's; in a container they are not.
    const DRAINS: [(&str, &str); 2] = [
        ("kubernetes", "kubectl drain <node> --ignore-daemonsets --delete-emptydir-data"),
        ("slurm", "scontrol update nodename=<node> state=drain reason=gpu"),
    ];
    let found = DRAINS.iter().find(|(name, _)| snapshot.cluster.as_deref() == Some(name));
    let step = found.map(|(_, command)| Step::new(Place::Cluster, "drain the node", &[command]));
    step.into_iter().collect()
}

/// Loads the driver's modules again: nothing is removed unless all of it can be, and whatever was removed is loaded
/// again (modprobe(8): `-r` takes the modules in order and stops at the first that is in use).
pub(crate) fn reload(snapshot: &Snapshot) -> Step {
    // Those that hold the driver's module, of which a machine may have none.
    const HOLDERS: [&str; 4] = ["nvidia_fs", "gdrdrv", "nvidia_peermem", "nv_peer_mem"];
    let is_loaded = |name: &&str| snapshot.modules.iter().any(|module| module == name);
    let holders: String =
        HOLDERS.into_iter().filter(is_loaded).flat_map(|name| [name, " "]).collect();
    let command = format!(
        "sh -c 'modprobe -r {holders}nvidia_uvm nvidia_drm nvidia_modeset nvidia; modprobe -a {}'",
        format!("nvidia nvidia_uvm {holders}").trim_end()
    );
    Step::host(
        "stop what uses the GPUs (`fuser -v /dev/nvidia*` lists it), then load the modules again",
        &["systemctl stop nvidia-persistenced", &command],
    )
}

/// Installs a part of the driver (`driver-open`, `fabric-manager`, …; see the facts) of a branch or, without one, of
/// the one that is loaded. `words` says it where the distribution is not known.
pub(crate) fn install(snapshot: &Snapshot, what: &str, branch: Option<u32>, words: &str) -> Step {
    let branch = branch.or(snapshot.branch()).unwrap_or_else(sconce_facts::driver_branch);
    let found = distribution(snapshot).and_then(|of| sconce_facts::install(of, what, branch));
    // A snapshot is text from elsewhere, and this goes into a command.
    let plain = |text: &&str| {
        text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '+' | '~'))
    };
    let kernel = snapshot.kernel.as_deref().filter(plain).unwrap_or("$(uname -r)");
    let version = snapshot.driver_text().filter(plain).unwrap_or_default();
    let (branch, next) = (branch.to_string(), (branch + 1).to_string());
    let instead = found.and_then(|found| found.instead.as_deref());
    let mut words = instead.unwrap_or(words).replace("{branch}", &branch);
    if let Some(repository) = found.and_then(|found| found.repository.as_ref()) {
        words = format!("{words}, from {repository}");
    }
    if let Some(first) = found.and_then(|found| found.first.as_ref()) {
        let first = first.replace("{branch}", &branch).replace("{next}", &next);
        let then = if found.is_some_and(|found| found.run.is_empty()) { "" } else { ", then" };
        words = format!("{words}: {first}{then}");
    }
    let fill = |command: &String| {
        let command = command.replace("{branch}", &branch).replace("{kernel}", kernel);
        command.replace("{version}", version)
    };
    // Where the version is not known, no command can name it.
    let known = |found: &&sconce_facts::Install| {
        !version.is_empty() || !found.run.iter().any(|command| command.contains("{version}"))
    };
    let found = found.filter(known);
    let commands = found.map_or_else(Vec::new, |found| found.run.iter().map(fill).collect());
    Step { place: Place::Host, what: words, commands }
}

/// The distribution that commands are for; a container's is not its host's.
fn distribution(snapshot: &Snapshot) -> Option<sconce_facts::Distribution<'_>> {
    let os = snapshot.os.as_ref().filter(|_| !snapshot.container)?;
    let major = os.version.as_deref().and_then(|text| text.split('.').next()?.parse().ok());
    let kernel = snapshot.kernel.as_deref();
    Some(sconce_facts::Distribution { id: &os.id, like: &os.like, major, kernel })
}

/// A step as this machine's system has it: with its own init, and its own place for what is set.
pub(crate) fn fitted(snapshot: &Snapshot, step: Step) -> Step {
    let Some(of) = distribution(snapshot).filter(|_| step.place == Place::Host) else {
        return step;
    };
    let (mut firsts, mut commands): (Vec<String>, Vec<String>) = (Vec::new(), Vec::new());
    for command in &step.commands {
        let way = sconce_facts::way(of, snapshot.systemd, command);
        let (first, run) =
            way.map_or_else(|| (None, vec![command.clone()]), |way| (way.first, way.run));
        firsts.extend(first);
        // One switch of the configuration does all of them.
        commands.retain(|earlier| !run.contains(earlier));
        commands.extend(run);
    }
    let what = match (firsts.is_empty(), commands.is_empty()) {
        (true, _) => step.what,
        (false, true) => format!("{}: {}", step.what, firsts.join(" and ")),
        (false, false) => format!("{}: {}, then", step.what, firsts.join(" and ")),
    };
    Step { what, commands, ..step }
}

/// Says which GPUs a driver of `branch` with the open (`driver-open`) or proprietary kernel modules would leave alone,
/// before it is installed for the others: no driver serves a Pascal and a Blackwell in one machine.
pub(crate) fn price(snapshot: &Snapshot, what: &str, branch: Option<u32>) -> Option<Step> {
    let open = what == "driver-open";
    let lost = |device: &Device<'_>| {
        !matches!(device.trouble, Some(Trouble::Held | Trouble::Excluded))
            && (device.needs_open() == Some(!open)
                || branch.zip(device.last_branch()).is_some_and(|(branch, last)| branch > last)
                || branch
                    .zip(device.first_driver())
                    .is_some_and(|(branch, first)| branch < first.branch()))
    };
    let lost: Vec<Device<'_>> = snapshot.devices().into_iter().filter(lost).collect();
    (!lost.is_empty()).then(|| {
        let keep = match snapshot.driver_text() {
            Some(_) => "keep the present one for it, or ",
            None => "",
        };
        let words = format!(
            "choose first: no driver serves all GPUs of this machine, and the one below leaves {} without; {keep}take one kind out of the machine",
            causes::list(&lost)
        );
        Step::host(words, &[])
    })
}

/// Keeps these modules from taking the GPUs.
pub(crate) fn without(snapshot: &Snapshot, modules: &[&str]) -> Vec<Step> {
    let block = |name: &&str| {
        format!("sh -c 'echo blacklist {name} > /etc/modprobe.d/blacklist-{name}.conf'")
    };
    let block: Vec<String> = modules.iter().map(block).collect();
    let block: Vec<&str> = block.iter().map(String::as_str).collect();
    let what = format!("keep {} from loading", modules.join(" and "));
    let mut steps = vec![Step::host(what, &block)];
    steps.push(install(snapshot, "initramfs", None, "make the initial RAM disk anew"));
    steps.extend(reboot(snapshot));
    steps
}
