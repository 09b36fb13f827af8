//! Nodes that lead elsewhere.

use super::Rule;
use crate::fix;
use crate::{Finding, Severity, Snapshot, Step, Subject};

/// The rule.
pub const RULE: Rule = Rule {
    id: "node-stale",
    title: "A device node does not lead to the driver",
    why: "The kernel gives nvidia-uvm and nvidia-caps new major numbers at each boot or load of the module; a node left from before, or one that a container brought along, opens another device or none, and cuInit fails with `CUDA unknown error` (999)",
    fix: "remove the node and let `nvidia-modprobe -u -c 0` make it anew; in a container: start it again",
    references: &[],
    check,
};

fn check(snapshot: &Snapshot, _: Option<&Subject>) -> Vec<Finding> {
    let stale = snapshot.nodes.iter().filter_map(|node| Some((node, node.driver_major?)));
    let findings = stale.map(|(node, driver)| {
        let path = node.path.display();
        let summary = format!("{path} is not the driver's: its major number is {}", node.major);
        let finding = Finding::new(&RULE, Severity::Stops, summary)
            .seen(format!("/proc/devices says {driver} for the driver"));
        let step = match snapshot.container {
            true => fix::restart(snapshot, "start the container again"),
            false => {
                let remove = format!("rm {path}");
                Step::host("remove it and have it made anew", &[&remove, "nvidia-modprobe -u -c 0"])
            }
        };
        finding.fix(vec![step])
    });
    findings.collect()
}
