//! Packages beside torch, whose code for GPUs nobody has looked at.

use super::Rule;
use crate::{Finding, Others, Severity, Snapshot, Step, Subject};

/// The rule.
pub const RULE: Rule = Rule {
    id: "not-judged",
    title: "Not all that is to run was judged",
    why: "A lock and an image's labels say what its torch needs. Other packages have code for GPUs of their own, for other architectures perhaps, which only their bytes tell",
    fix: "`sconce inspect` reads the bytes: `sconce inspect --for GPU TARGET`, of a project once `sconce build` has made its image",
    references: &["docs/inspect.md"],
    check,
};

fn check(snapshot: &Snapshot, subject: Option<&Subject>) -> Vec<Finding> {
    let Some(subject) = subject.filter(|subject| subject.undecided.is_none()) else {
        return Vec::new();
    };
    let name = &subject.name;
    let what = match (subject.others, subject.without_torch) {
        (Others::None, _) => return Vec::new(),
        (Others::Packages(1), true) => "its package with compiled code runs".to_owned(),
        (Others::Packages(1), false) => "its other package with compiled code runs".to_owned(),
        (Others::Packages(count), true) => format!("its {count} packages with compiled code run"),
        (Others::Packages(count), false) => {
            format!("its {count} other packages with compiled code run")
        }
        (Others::Unknown, true) => "what it holds runs".to_owned(),
        (Others::Unknown, false) => "what else it holds runs".to_owned(),
    };
    // Without torch nothing of it is known.
    let (severity, of) = match subject.without_torch {
        true => (Severity::Unknown, format!("{name} has no torch")),
        false => (Severity::Notes, format!("of {name} only torch was judged")),
    };
    let summary = format!("{of}; whether {what} on this GPU is not known");
    let finding = Finding::new(&RULE, severity, summary);
    // The GPU of this machine, as `inspect` takes it.
    let devices = snapshot.devices();
    let gpu = devices.iter().find_map(|device| {
        let alias = device.facts().and_then(|facts| facts.aliases.first().cloned());
        alias.or_else(|| device.gpu?.capability.map(|own| own.to_string()))
    });
    let Some(gpu) = gpu else { return vec![finding] };
    let what = "read the bytes (TARGET is what was named here; of a project once `sconce build` has made its image)";
    let command = format!("sconce inspect --for {gpu} TARGET");
    vec![finding.fix(vec![Step::container(what, &[&command])])]
}
