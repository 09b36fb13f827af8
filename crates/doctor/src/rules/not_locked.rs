//! A project that no lock decides.

use super::Rule;
use crate::{Finding, Severity, Snapshot, Subject};

/// The rule.
pub const RULE: Rule = Rule {
    id: "not-locked",
    title: "What the project gets is not decided yet",
    why: "Which torch a project gets, and which CUDA, its requirements decide when it is locked: one of them may want an older one, which has no code for this GPU, or a newer one, which this driver does not run. The same holds where sconce.toml was changed after it was locked",
    fix: "`sconce lock TARGET` decides it; then `sconce doctor TARGET` judges what it has",
    references: &["docs/format/lock.md"],
    check,
};

fn check(_: &Snapshot, subject: Option<&Subject>) -> Vec<Finding> {
    let Some((subject, why)) = subject.and_then(|one| Some((one, one.undecided.as_ref()?))) else {
        return Vec::new();
    };
    let summary = format!("{} {why}: which packages it gets is not known", subject.name);
    vec![Finding::new(&RULE, Severity::Unknown, summary)]
}
