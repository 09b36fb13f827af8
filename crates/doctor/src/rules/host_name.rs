//! Rendezvous that hangs.

use super::Rule;
use crate::{Finding, Severity, Snapshot, Subject};

/// The rule.
pub const RULE: Rule = Rule {
    id: "host-name",
    title: "The host's name has no address",
    why: "torch.distributed's rendezvous and Gloo look up the host's own name; without an address they hang for minutes",
    fix: "a line `127.0.1.1 <name>` in /etc/hosts; sconce writes one in its containers",
    references: &["pytorch/pytorch#150532"],
    check,
};

fn check(snapshot: &Snapshot, _: Option<&Subject>) -> Vec<Finding> {
    if snapshot.host_name_resolves != Some(false) {
        return Vec::new();
    }
    vec![Finding::new(&RULE, Severity::Notes, "the host's own name does not resolve")]
}
