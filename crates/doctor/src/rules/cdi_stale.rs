//! Documents of another driver.

use super::Rule;
use crate::{Finding, Severity, Snapshot, Step, Subject};

/// The rule.
pub const RULE: Rule = Rule {
    id: "cdi-stale",
    title: "A CDI document does not fit the machine",
    why: "Documents in /etc/cdi and /var/run/cdi name files and device numbers of the driver of the day they were written. After an upgrade containers of Docker, podman and containerd fail to start or load the wrong libraries. sconce passes such documents over",
    fix: "`nvidia-ctk cdi generate --output=/var/run/cdi/nvidia.yaml` writes it anew, at best at each boot",
    references: &["NVIDIA/nvidia-container-toolkit#856"],
    check,
};

fn check(snapshot: &Snapshot, _: Option<&Subject>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for cdi in &snapshot.cdi {
        let path = cdi.path.display();
        if let Some(problem) = &cdi.problem {
            let summary = format!("the CDI document {path} can't be read");
            findings.push(Finding::new(&RULE, Severity::Notes, summary).seen(problem.clone()));
        } else if !cdi.stale.is_empty() && snapshot.driver.module.is_some() {
            let finding =
                Finding::new(&RULE, Severity::Warns, format!("the CDI document {path} is stale"));
            let finding = cdi.stale.iter().cloned().fold(finding, Finding::seen);
            let write = format!("nvidia-ctk cdi generate --output={path}");
            let steps = vec![Step::host("write it anew, at best at each start", &[&write])];
            findings.push(finding.fix(steps));
        }
    }
    findings
}
