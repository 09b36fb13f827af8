//! Links that systemd needs.

use super::Rule;
use crate::{Finding, Severity, Snapshot, Step, Subject};

/// The rule.
pub const RULE: Rule = Rule {
    id: "device-cgroup",
    title: "Containers can lose their GPUs when systemd reloads",
    why: "systemd writes a container's device rules anew at each reload and finds devices through /dev/char/<major>:<minor>. The NVIDIA driver makes no such links, so the GPUs drop out (`Failed to initialize NVML: Unknown Error`). It hits Docker and containerd with the systemd cgroup driver",
    fix: "`nvidia-ctk system create-dev-char-symlinks --create-all`, or a udev rule that links each node below /dev/char",
    references: &["NVIDIA/nvidia-container-toolkit#48"],
    check,
};

fn check(snapshot: &Snapshot, _: Option<&Subject>) -> Vec<Finding> {
    let gpus = snapshot.nodes.iter().filter(|node| !node.path.starts_with("/dev/nvidia-caps"));
    let bare: Vec<String> = gpus
        .filter(|node| !node.char_link)
        .map(|node| format!("/dev/char/{}:{} ({})", node.major, node.minor, node.path.display()))
        .collect();
    if !snapshot.systemd || snapshot.container || bare.is_empty() {
        return Vec::new();
    }
    let summary =
        "GPU nodes have no /dev/char links: a reload of systemd takes GPUs from containers";
    let finding = Finding::new(&RULE, Severity::Notes, summary);
    let link = Step::host(
        "link them, if Docker or containerd run GPU containers here",
        &["nvidia-ctk system create-dev-char-symlinks --create-all"],
    );
    vec![finding.seen(format!("missing: {}", bare.join(", "))).fix(vec![link])]
}
