//! Containers without root.

use super::Rule;
use crate::{Finding, Severity, Snapshot, Step, Subject};

/// The rule.
pub const RULE: Rule = Rule {
    id: "rootless",
    title: "Something is in the way of containers without root",
    why: "Who is not root starts a container in a user namespace. The kernel's settings may forbid those (`unshare: Operation not permitted`), Ubuntu's AppArmor leaves them to programs with a profile, more than one user inside needs ranges in /etc/subuid and /etc/subgid, and limits of memory need control groups of version 2",
    fix: "allow user namespaces (`sysctl`), give the user ranges (`usermod --add-subuids`), or start containers as root or by an engine that runs as root",
    references: &[],
    check,
};

fn check(snapshot: &Snapshot, _: Option<&Subject>) -> Vec<Finding> {
    let Some(rootless) = snapshot.rootless.as_ref().filter(|_| !snapshot.container) else {
        return Vec::new();
    };
    let mut out = Vec::new();
    if let Some(setting) = &rootless.forbidden_by {
        let summary = format!(
            "the kernel lets only root make user namespaces ({setting} is 0): who looked starts no container without an engine that runs as root"
        );
        let value = if setting.starts_with("user.") { 15000 } else { 1 };
        // A snapshot is text from elsewhere, and this goes into a command.
        let known = ["user.max_user_namespaces", "kernel.unprivileged_userns_clone"];
        let command = format!("sysctl -w {setting}={value}");
        let commands: &[&str] = if known.contains(&setting.as_str()) { &[&command] } else { &[] };
        let step = Step::host("allow them, or start containers as root", commands);
        out.push(Finding::new(&RULE, Severity::Warns, summary).fix(vec![step]));
        return out;
    }
    if rootless.apparmor {
        let summary = "AppArmor lets only programs with a profile of their own make user namespaces: whether sconce has one is not seen";
        let step = Step::host(
            "give sconce a profile with `userns,`, or allow all programs",
            &["sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"],
        );
        out.push(Finding::new(&RULE, Severity::Warns, summary).fix(vec![step]));
    }
    if rootless.subordinate_ids == Some(false) {
        let summary = "this user has no ranges in /etc/subuid and /etc/subgid: a container has one user alone, and packages that are installed in it fail to change owners";
        let step = Step::host(
            "give the user ranges that nobody has",
            &["usermod --add-subuids 100000-165535 --add-subgids 100000-165535 <user>"],
        );
        out.push(Finding::new(&RULE, Severity::Notes, summary).fix(vec![step]));
    }
    if rootless.cgroup2 == Some(false) {
        let summary = "control groups are of version 1: limits of memory and processors do not hold for containers without root";
        let step = Step::host("start the kernel with `systemd.unified_cgroup_hierarchy=1`", &[]);
        out.push(Finding::new(&RULE, Severity::Notes, summary).fix(vec![step]));
    }
    out
}
