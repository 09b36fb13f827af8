//! Nodes that lead elsewhere.

use super::{Rule, mig_empty};
use crate::fix;
use crate::place::CONTROL_MINOR;
use crate::{Finding, Node, Severity, Snapshot, Step, Subject};

/// The rule.
pub const RULE: Rule = Rule {
    id: "node-stale",
    title: "A device node does not lead to the driver",
    why: "/dev/nvidia<N> is 195:<N> and /dev/nvidiactl 195:255. The kernel gives nvidia-uvm and nvidia-caps new major numbers at each boot or load of the module; a node left from before, or one that a container brought along, opens another device or none, and cuInit fails with `CUDA unknown error` (999)",
    fix: "remove the node and have it made anew (`nvidia-modprobe -c <minor>`; for nvidia-uvm `nvidia-modprobe -u -c 0`; for nvidia-caps `nvidia-modprobe -f /proc/driver/nvidia/capabilities/mig/config`, or the file of its instance there); in a container: start it again",
    references: &[],
    check,
};

fn check(snapshot: &Snapshot, _: Option<&Subject>) -> Vec<Finding> {
    let stale = snapshot.nodes.iter().filter_map(|node| Some((node, node.astray()?)));
    let findings = stale.map(|(node, (has, would))| {
        let path = node.path.display();
        let summary = format!("{path} is not the driver's: {has}");
        let finding = Finding::new(&RULE, severity(snapshot, node), summary).seen(would);
        let step = match snapshot.container {
            true => fix::restart(snapshot, "start the container again"),
            false => {
                let mut commands = vec![format!("rm {path}")];
                commands.extend(make(node));
                let commands: Vec<&str> = commands.iter().map(String::as_str).collect();
                Step::host("remove it and have it made anew", &commands)
            }
        };
        finding.fix(vec![step])
    });
    findings.collect()
}

/// The others of several GPUs still do; nothing that CUDA needs goes through nvidia-modeset.
fn severity(snapshot: &Snapshot, node: &Node) -> Severity {
    if node.path.ends_with("nvidia-modeset") {
        return Severity::Warns;
    }
    if node.of_gpu().is_some() { snapshot.loss() } else { Severity::Stops }
}

/// The command that makes a node: each of nvidia-modprobe's options makes nodes of one kind (nvidia-modprobe(1); for
/// capabilities NVIDIA's MIG User Guide, "Device Nodes and Capabilities").
fn make(node: &Node) -> Option<String> {
    let name = node.path.file_name()?.to_str()?;
    if let Some(minor) = node.of_gpu() {
        return Some(format!("nvidia-modprobe -c {minor}"));
    }
    match name {
        "nvidiactl" => return Some(format!("nvidia-modprobe -c {CONTROL_MINOR}")),
        "nvidia-modeset" => return Some("nvidia-modprobe -m".to_owned()),
        "nvidia-uvm" | "nvidia-uvm-tools" => return Some("nvidia-modprobe -u -c 0".to_owned()),
        _ => {}
    }
    let file = mig_empty::access(&node.path);
    file.map(|file| format!("nvidia-modprobe -f {file}"))
}
