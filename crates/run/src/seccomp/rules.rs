//! What a profile comes to on one machine: for each ABI, the action of each call.
//!
//! As runc and libseccomp have it:
//! - of rules without conditions the first one counts, and one that repeats the default action
//!   counts as none;
//! - all conditions of a rule must hold, unless two of them are about one argument: then each
//!   condition is a rule of its own.
//!
//! Where rules with conditions match as well, the most restrictive action wins, as it does between
//! two filters of the kernel. libseccomp drops such a rule beside one without conditions, and
//! leaves open which of two wins.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::numbers::{self, Abi};
use super::profile::{Architectures, Profile};
use super::{Arch, Context, Filter, SeccompError, widths};

/// What the kernel does with a call. The order is the kernel's own, the most restrictive first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Action {
    KillProcess,
    KillThread,
    Trap,
    Errno(u16),
    Log,
    Allow,
}

impl Action {
    /// What a filter returns for it (linux/seccomp.h, `SECCOMP_RET_*`).
    pub(super) fn value(self) -> u32 {
        match self {
            Self::KillProcess => 0x8000_0000,
            Self::KillThread => 0,
            Self::Trap => 0x0003_0000,
            Self::Errno(number) => 0x0005_0000 | u32::from(number),
            Self::Log => 0x7ffc_0000,
            Self::Allow => 0x7fff_0000,
        }
    }

    /// The call takes place.
    pub(super) fn lets_through(self) -> bool {
        matches!(self, Self::Log | Self::Allow)
    }
}

/// One entry of a profile's `syscalls`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Rule {
    /// Where it stands in the file.
    pub(super) place: String,
    pub(super) names: Vec<String>,
    pub(super) action: Action,
    pub(super) conditions: Vec<Condition>,
    pub(super) includes: Scope,
    pub(super) excludes: Scope,
}

/// When a rule is part of a profile.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Scope {
    pub(super) capabilities: Vec<String>,
    pub(super) architectures: Vec<String>,
    pub(super) kernel: Option<(u32, u32)>,
}

/// A condition on an argument of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Condition {
    /// 0 to 5.
    pub(super) argument: u32,
    pub(super) operator: Operator,
    /// What the argument is compared with; for [`Operator::Masked`], the mask.
    pub(super) value: u64,
    /// For [`Operator::Masked`], what the masked argument is compared with.
    pub(super) value_two: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(super) enum Operator {
    #[serde(rename = "SCMP_CMP_NE")]
    NotEqual,
    #[serde(rename = "SCMP_CMP_LT")]
    Less,
    #[serde(rename = "SCMP_CMP_LE")]
    LessOrEqual,
    #[serde(rename = "SCMP_CMP_EQ")]
    Equal,
    #[serde(rename = "SCMP_CMP_GE")]
    GreaterOrEqual,
    #[serde(rename = "SCMP_CMP_GT")]
    Greater,
    #[serde(rename = "SCMP_CMP_MASKED_EQ")]
    Masked,
}

/// The calls of one ABI by number; all others get the default action.
#[derive(Debug, Default)]
pub(super) struct Calls {
    pub(super) by_number: BTreeMap<u32, Call>,
    /// The highest number of an ordinary call that a rule names, whatever its action.
    pub(super) last: Option<u32>,
}

/// What the rules say of one call.
#[derive(Debug, Default, Clone, PartialEq)]
pub(super) struct Call {
    /// Of the first rule without conditions.
    pub(super) always: Option<Action>,
    /// Actions that come before it if all their tests hold, the most restrictive first.
    pub(super) before: Vec<(Action, Vec<Test>)>,
}

/// A condition on an argument of a certain call.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Test {
    pub(super) condition: Condition,
    /// The kernel reads the lower half of the argument only.
    pub(super) narrow: bool,
}

/// The ABIs that the profile's rules hold for, the machine's own first.
pub(super) fn abis(profile: &Profile, arch: Arch) -> Vec<Abi> {
    let (native, native_name, others): (_, _, &[Abi]) = match arch {
        Arch::X86_64 => (Abi::X86_64, "SCMP_ARCH_X86_64", &[Abi::X32, Abi::X86]),
        Arch::Aarch64 => (Abi::Aarch64, "SCMP_ARCH_AARCH64", &[Abi::Arm]),
    };
    let names: &[String] = match &profile.architectures {
        Architectures::Listed(names) => names,
        Architectures::Mapped(entries) => entries
            .iter()
            .find(|(name, _)| name == native_name)
            .map_or(&[], |(_, names)| names.as_slice()),
    };
    let mut abis = vec![native];
    abis.extend(
        others.iter().filter(|abi| names.iter().any(|name| Abi::named(name) == Some(**abi))),
    );
    abis
}

/// The rules of `profile` that hold in `context`, in order.
fn selected<'a>(profile: &'a Profile, context: &Context) -> impl Iterator<Item = &'a Rule> {
    let has = |name: &String| context.capabilities.contains(&name.as_str());
    let is_arch = |name: &String| name == context.arch.docker_name();
    profile.rules.iter().filter(move |rule| {
        let (wanted, unwanted) = (&rule.includes, &rule.excludes);
        wanted.capabilities.iter().all(has)
            && (wanted.architectures.is_empty() || wanted.architectures.iter().any(is_arch))
            && wanted.kernel.is_none_or(|kernel| context.kernel >= kernel)
            && !unwanted.capabilities.iter().any(has)
            && !unwanted.architectures.iter().any(is_arch)
            && unwanted.kernel.is_none_or(|kernel| context.kernel < kernel)
    })
}

/// What `profile` says in `context` of every call of `abi`.
pub(super) fn calls(profile: &Profile, context: &Context, abi: Abi) -> Result<Calls, SeccompError> {
    let mut calls = Calls::default();
    let mut tests = 0;
    let (first, last) = abi.bounds();
    for rule in selected(profile, context) {
        let adds_nothing = rule.conditions.is_empty() && rule.action == profile.default;
        for name in &rule.names {
            let number = abi.number(name);
            calls.last = calls.last.max(number.filter(|number| (first..=last).contains(number)));
            if adds_nothing {
                continue;
            }
            if let Some(number) = number {
                let narrow = |argument| abi.narrow() || widths::narrow(name, argument);
                calls.by_number.entry(number).or_default().add(rule, narrow);
                tests += rule.conditions.len();
            }
            if let Some((number, operation)) = multiplexed(abi, name)
                && (rule.conditions.is_empty() || !rule.action.lets_through())
            {
                let call = calls.by_number.entry(number).or_default();
                call.before.push((rule.action, vec![Test { condition: operation, narrow: true }]));
                tests += 1;
            }
            // Each takes an instruction at least: no need to hold more than the kernel takes.
            if tests > Filter::MAX_INSTRUCTIONS {
                return Err(SeccompError::TooLong);
            }
        }
    }
    for call in calls.by_number.values_mut() {
        let always = call.always.map(severity);
        call.before.retain(|(action, _)| always.is_none_or(|always| severity(*action) < always));
        // The sort is stable: of two errnos, the first one is kept.
        call.before.sort_by_key(|(action, _)| severity(*action));
    }
    Ok(calls)
}

impl Call {
    fn add(&mut self, rule: &Rule, narrow: impl Fn(u32) -> bool) {
        let test = |condition: &Condition| Test {
            condition: *condition,
            narrow: narrow(condition.argument),
        };
        if rule.conditions.is_empty() {
            self.always = self.always.or(Some(rule.action));
        } else if tests_an_argument_twice(&rule.conditions) {
            let rules =
                rule.conditions.iter().map(|condition| (rule.action, vec![test(condition)]));
            self.before.extend(rules);
        } else {
            self.before.push((rule.action, rule.conditions.iter().map(test).collect()));
        }
    }
}

/// The kernel's order of actions, in which all errnos are one.
fn severity(action: Action) -> Action {
    match action {
        Action::Errno(_) => Action::Errno(0),
        other => other,
    }
}

fn tests_an_argument_twice(conditions: &[Condition]) -> bool {
    let arguments: BTreeSet<u32> = conditions.iter().map(|condition| condition.argument).collect();
    arguments.len() < conditions.len()
}

/// i386 makes these calls through `socketcall` and `ipc` as well, where the first argument says
/// which one is meant and the call's own arguments are in memory, out of a filter's sight
/// (linux/net.h, `SYS_*`; linux/ipc.h; libseccomp's `src/syscalls.c`).
const MULTIPLEXED: &[(&str, &[(u64, &str)])] = &[
    (
        "socketcall",
        &[
            (1, "socket"),
            (2, "bind"),
            (3, "connect"),
            (4, "listen"),
            (5, "accept"),
            (6, "getsockname"),
            (7, "getpeername"),
            (8, "socketpair"),
            (9, "send"),
            (10, "recv"),
            (11, "sendto"),
            (12, "recvfrom"),
            (13, "shutdown"),
            (14, "setsockopt"),
            (15, "getsockopt"),
            (16, "sendmsg"),
            (17, "recvmsg"),
            (18, "accept4"),
            (19, "recvmmsg"),
            (20, "sendmmsg"),
        ],
    ),
    (
        "ipc",
        &[
            (1, "semop"),
            (2, "semget"),
            (3, "semctl"),
            (4, "semtimedop"),
            (11, "msgsnd"),
            (12, "msgrcv"),
            (13, "msgget"),
            (14, "msgctl"),
            (21, "shmat"),
            (22, "shmdt"),
            (23, "shmget"),
            (24, "shmctl"),
        ],
    ),
];

/// The call that stands for `name` as well, and the condition under which it does.
fn multiplexed(abi: Abi, name: &str) -> Option<(u32, Condition)> {
    if abi != Abi::X86 {
        return None;
    }
    MULTIPLEXED.iter().find_map(|(through, operations)| {
        let (value, _) = operations.iter().find(|(_, operation)| *operation == name)?;
        let condition =
            Condition { argument: 0, operator: Operator::Equal, value: *value, value_two: 0 };
        Some((abi.number(through)?, condition))
    })
}

/// What a reader of the profile may not expect: names that no Linux has, and rules that another
/// one makes useless.
pub(super) fn notes(profile: &Profile, context: &Context) -> Vec<String> {
    let mut notes = profile.notes.clone();
    let mut unknown = BTreeSet::new();
    let mut deciding: BTreeMap<&str, &Rule> = BTreeMap::new();
    for rule in selected(profile, context) {
        if rule.conditions.is_empty() && rule.action != profile.default {
            for name in &rule.names {
                deciding.entry(name).or_insert(rule);
            }
        }
    }
    for rule in selected(profile, context) {
        let mut idle = BTreeSet::new();
        for name in &rule.names {
            if !numbers::known(name) {
                unknown.insert(name.as_str());
            } else if let Some(other) = deciding.get(name.as_str())
                && other.action != rule.action
                && (rule.conditions.is_empty() || severity(rule.action) >= severity(other.action))
            {
                idle.insert(name.as_str());
            }
        }
        if !idle.is_empty() {
            let names = list(&idle);
            notes.push(format!("{}: other rules decide before it: {names}", rule.place));
        }
    }
    if !unknown.is_empty() {
        notes.push(format!("skipped calls that no Linux has: {}", list(&unknown)));
    }
    notes
}

/// Some of the names, for a line of text.
fn list(names: &BTreeSet<&str>) -> String {
    const SHOWN: usize = 8;
    let shown: Vec<&str> = names.iter().copied().take(SHOWN).collect();
    match names.len() - shown.len() {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}
