//! Nodes that exist and refuse.

use std::path::Path;

use sconce_gpu::Opening;

use super::Rule;
use crate::{Finding, Severity, Snapshot, Subject};

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
    let mut findings = Vec::new();
    for node in &snapshot.nodes {
        let reason = match node.open {
            Opening::Forbidden => "EPERM: the device cgroup or a security module forbids it",
            Opening::Denied if snapshot.selinux => {
                "EACCES: its mode or SELinux, which enforces, forbids it"
            }
            Opening::Denied => "EACCES: its mode forbids it",
            Opening::Dead => "nothing answers behind it",
            Opening::Failed => "it fails to open",
            Opening::Fine => continue,
        };
        // Only these are needed to compute.
        let needed = ["nvidiactl", "nvidia-uvm"].iter().any(|name| node.path.ends_with(name))
            || snapshot
                .gpus
                .iter()
                .any(|gpu| node.path == Path::new(&format!("/dev/nvidia{}", gpu.minor)));
        let severity = if needed { Severity::Stops } else { Severity::Notes };
        let summary = format!("{} can't be opened", node.path.display());
        findings.push(
            Finding::new(&RULE, severity, summary)
                .seen(format!("{reason} ({}:{}, mode {:04o})", node.major, node.minor, node.mode)),
        );
    }
    findings
}
