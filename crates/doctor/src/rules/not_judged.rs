//! Packages beside torch, whose code for GPUs nobody has looked at.

use super::Rule;
use crate::{Finding, Others, Severity, Snapshot, Subject};

/// The rule.
pub const RULE: Rule = Rule {
    id: "not-judged",
    title: "Not all that is to run was judged",
    why: "A lock and an image's labels say what its torch needs. Other packages have code for GPUs of their own, for other architectures perhaps, which only their bytes tell",
    fix: "`sconce inspect` reads the bytes: `sconce inspect --for h100 TARGET`, of a project once `sconce build` has made its image",
    references: &["docs/inspect.md"],
    check,
};

fn check(_: &Snapshot, subject: Option<&Subject>) -> Vec<Finding> {
    let Some(subject) = subject else { return Vec::new() };
    let name = &subject.name;
    let (others, verb) = match subject.others {
        Others::None => return Vec::new(),
        Others::Packages(1) => ("one more package with compiled code".to_owned(), "is"),
        Others::Packages(count) => (format!("{count} more packages with compiled code"), "are"),
        Others::Unknown => ("what else it holds".to_owned(), "is"),
    };
    // Without torch nothing of it is known.
    let (severity, summary) = match subject.without_torch {
        true => (Severity::Unknown, format!("{name} has no torch, and {others} {verb} not judged")),
        false => (Severity::Notes, format!("of {name} its torch is judged; {others} {verb} not")),
    };
    vec![Finding::new(&RULE, severity, summary)]
}
