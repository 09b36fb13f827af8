//! Nodes that exist and refuse.

use std::path::Path;

use sconce_gpu::Opening;

use super::Rule;
use crate::fix;
use crate::{Finding, Node, Severity, Snapshot, Step, Subject};

/// The rule.
pub const RULE: Rule = Rule {
    id: "node-denied",
    title: "A device node is there and can not be opened",
    why: "CUDA sees no device although `ls /dev/nvidia*` shows it: permission bits, SELinux, or the device cgroup forbid it. After `systemctl daemon-reload` a running container can lose its GPU this way (`Failed to initialize NVML: Unknown Error`)",
    fix: "EACCES: the node mode is usually 0666 (`NVreg_DeviceFileMode`), or the user joins its group; SELinux: `setsebool -P container_use_devices 1`; EPERM: restart the container, and see the rule device-cgroup",
    references: &["containers/podman#9926", "NVIDIA/nvidia-container-toolkit#48"],
    check,
};

fn check(snapshot: &Snapshot, _: Option<&Subject>) -> Vec<Finding> {
    // A node that does not open because its GPU is dead is `gpu-lost`'s.
    let mut denied: Vec<(&Node, bool)> = Vec::new();
    // What is behind a node that leads elsewhere is not the driver's (`node-stale`).
    for node in snapshot.nodes.iter().filter(|node| node.astray().is_none()) {
        let gpu = snapshot
            .gpus
            .iter()
            .find(|gpu| node.path == Path::new(&format!("/dev/nvidia{}", gpu.minor)));
        let control = is_control(node);
        let refused = matches!(node.open, Opening::Forbidden | Opening::Denied);
        if refused || (node.open != Opening::Fine && gpu.is_none()) {
            denied.push((node, control || gpu.is_some()));
        }
    }
    let (needed, others): (Vec<_>, Vec<_>) = denied.into_iter().partition(|(_, needed)| *needed);
    let control = needed.iter().any(|(node, _)| is_control(node));
    let severity = match snapshot.left() {
        0 => Severity::Stops,
        _ if control => Severity::Stops,
        _ if needed.iter().any(|(node, _)| node.open == Opening::Denied) => Severity::Warns,
        // A job that was given some of the machine's GPUs can't open the others': that is as meant.
        _ => Severity::Notes,
    };
    let mut findings = Vec::new();
    for (nodes, severity) in [(needed, severity), (others, Severity::Notes)] {
        // What else does not open needs no word where it is known that nothing does.
        if nodes.is_empty() || (severity == Severity::Notes && !findings.is_empty()) {
            continue;
        }
        let nodes: Vec<&Node> = nodes.into_iter().map(|(node, _)| node).collect();
        findings.push(finding(snapshot, severity, &nodes));
    }
    findings
}

fn finding(snapshot: &Snapshot, severity: Severity, nodes: &[&Node]) -> Finding {
    let names: Vec<String> = nodes.iter().map(|node| node.path.display().to_string()).collect();
    let summary = format!("{} can't be opened", names.join(", "));
    let mut finding = Finding::new(&RULE, severity, summary);
    let mut reasons: Vec<Opening> = Vec::new();
    for node in nodes {
        if !reasons.contains(&node.open) {
            reasons.push(node.open);
            let reason = reason(snapshot, node.open);
            finding = finding.seen(format!(
                "{reason} ({} {}:{}, mode {:04o})",
                node.path.display(),
                node.major,
                node.minor,
                node.mode
            ));
        }
    }
    let mut steps = Vec::new();
    if reasons.contains(&Opening::Forbidden) && snapshot.container {
        let what = "its device rules were lost, mostly to a reload of systemd: start it again";
        steps.push(fix::restart(snapshot, what));
        steps.push(Step::host(
            "so that it does not come again: give GPUs by CDI, or link the nodes below /dev/char",
            &["nvidia-ctk system create-dev-char-symlinks --create-all"],
        ));
    } else if reasons.contains(&Opening::Forbidden) {
        steps.push(Step::host(
            "give the job its GPUs: the device cgroup of this session or service (`DeviceAllow=` of its unit, or the scheduler's) leaves them out",
            &[],
        ));
    }
    if reasons.contains(&Opening::Denied) {
        let denied = nodes.iter().filter(|node| node.open == Opening::Denied);
        let denied: Vec<String> = denied.map(|node| node.path.display().to_string()).collect();
        let open = format!("chmod 0666 {}", denied.join(" "));
        steps.push(match snapshot.selinux {
            true => Step::host("let containers use devices", &["setsebool -P container_use_devices 1"]),
            false => Step::host(
                "let the user open them: make the driver create them for all (`NVreg_DeviceFileMode=0666`), or join the group that they have",
                &[&open],
            ),
        });
    }
    if reasons.contains(&Opening::Hung) {
        steps.extend(fix::reboot(snapshot));
    } else if reasons.iter().any(|open| matches!(open, Opening::Dead | Opening::Failed)) {
        steps.push(fix::reload(snapshot));
    }
    finding.fix(steps)
}

fn reason(snapshot: &Snapshot, open: Opening) -> &'static str {
    match open {
        Opening::Forbidden => "EPERM: the device cgroup or a security module forbids it",
        Opening::Denied if snapshot.selinux => {
            "EACCES: its mode or SELinux, which enforces, forbids it"
        }
        Opening::Denied => "EACCES: its mode forbids it",
        Opening::Dead => "nothing answers behind it",
        Opening::Hung => "it does not come back",
        Opening::Failed | Opening::Fine => "it fails to open",
    }
}

/// Whether every CUDA program needs it, whatever its GPU.
fn is_control(node: &Node) -> bool {
    ["nvidiactl", "nvidia-uvm"].iter().any(|name| node.path.ends_with(name))
}
