//! An image for another processor.

use super::Rule;
use crate::{Finding, Severity, Snapshot, Subject};

/// The rule.
pub const RULE: Rule = Rule {
    id: "other-processor",
    title: "The image is for another processor",
    why: "An image holds programs for one processor: those for another end with `exec format error`",
    fix: "take the image for this processor, or lock and build for it: `platform = \"x86_64\"` or `\"aarch64\"` in sconce.toml, or none, for the machine that locks",
    references: &["OCI image-spec, config.md, `architecture`"],
    check,
};

fn check(snapshot: &Snapshot, subject: Option<&Subject>) -> Vec<Finding> {
    let Some((subject, is_for)) = subject.and_then(|one| Some((one, one.processor.as_ref()?)))
    else {
        return Vec::new();
    };
    if *is_for == snapshot.arch || snapshot.arch.is_empty() {
        return Vec::new();
    }
    let summary =
        format!("{} is for {is_for}, and this machine is {}", subject.name, snapshot.arch);
    vec![Finding::new(&RULE, Severity::Stops, summary)]
}
