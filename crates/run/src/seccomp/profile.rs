//! Profiles in Docker's format, read and checked.
//!
//! The format is the OCI runtime specification's `linux.seccomp` with moby's additions: `archMap`,
//! `name`, `comment`, `includes` and `excludes` (moby/profiles, `seccomp/seccomp.go`). Fields that
//! nobody knows are errors: a misspelt `args` would turn a narrow rule into a wide one.

use serde::Deserialize;

use super::SeccompError;
use super::rules::{Action, Condition, Operator, Rule, Scope};

const DOCKER_DEFAULT: &str = include_str!("../../data/seccomp.json");

/// What that profile allows with CAP_SYS_PTRACE and sconce does not: with a pidfd, which any Unix socket gives of the process
/// at its other end (SO_PEERPIDFD), it opens that process's descriptors, also where it is one of the host's. Debuggers do
/// without it.
const WITHHELD: &[&str] = &["pidfd_getfd"];

/// The errno of a refusal that names none (runc and Docker).
const EPERM: u16 = 1;
const ENOSYS: u16 = 38;
/// The largest number that the kernel takes for an errno (linux/err.h, `MAX_ERRNO`).
const MAX_ERRNO: u32 = 4095;
/// How many conditions one rule may have; a call has six arguments.
const MAX_CONDITIONS: usize = 64;

/// A seccomp profile, as `docker run --security-opt seccomp=FILE` takes it.
#[derive(Debug, Clone, PartialEq)]
pub struct Profile {
    pub(super) default: Action,
    pub(super) architectures: Architectures,
    pub(super) rules: Vec<Rule>,
    /// For seccomp(2).
    pub(super) flags: u32,
    /// What a reader should know about what was made of this profile.
    pub(super) notes: Vec<String>,
}

/// Which other ABIs of a machine are filtered by the rules too.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Architectures {
    /// `architectures`: these, where the machine has them.
    Listed(Vec<String>),
    /// `archMap`: for each architecture, those that its kernel runs as well.
    Mapped(Vec<(String, Vec<String>)>),
}

impl Profile {
    /// The largest file that is read as a profile: 1 MiB. Docker's own has 14 kB.
    pub const MAX_BYTES: usize = 1 << 20;

    /// Docker's default profile, from moby/profiles (`data/README.md` names the commit), without [`WITHHELD`].
    #[must_use]
    pub fn docker_default() -> Self {
        let mut profile =
            Self::parse(DOCKER_DEFAULT.as_bytes()).expect("the profile in data/ is tested");
        for rule in &mut profile.rules {
            rule.names.retain(|name| !WITHHELD.contains(&name.as_str()));
        }
        profile
    }

    /// Reads a profile.
    ///
    /// # Errors
    /// Anything that is not Docker's format, with the place; actions, operators, flags and
    /// fields that do not exist. Names of system calls that no Linux has are skipped and noted,
    /// as Docker skips them.
    pub fn parse(bytes: &[u8]) -> Result<Self, SeccompError> {
        if bytes.len() > Self::MAX_BYTES {
            return Err(SeccompError::TooLarge { bytes: bytes.len() });
        }
        let document: Document = serde_json::from_slice(bytes).map_err(SeccompError::Format)?;
        let mut notes = Vec::new();
        let default = action(
            "defaultAction",
            document.default_action,
            document.default_errno_ret,
            document.default_errno.as_deref(),
            &mut notes,
        )?;
        if document.listener_path.is_some() || document.listener_metadata.is_some() {
            return Err(SeccompError::Notify { place: "listenerPath".to_owned() });
        }
        let listed = document.architectures.unwrap_or_default();
        let mapped = document.arch_map.unwrap_or_default();
        if !listed.is_empty() && !mapped.is_empty() {
            return Err(invalid("architectures", "give either this or archMap, not both"));
        }
        let mapped: Vec<_> = mapped
            .into_iter()
            .map(|entry| (entry.architecture, entry.sub_architectures.unwrap_or_default()))
            .collect();
        for name in
            listed.iter().chain(mapped.iter().flat_map(|(name, sub)| sub.iter().chain([name])))
        {
            if !name.starts_with("SCMP_ARCH_") {
                let why =
                    format!("'{name}' is not an architecture, which are written SCMP_ARCH_X86_64");
                return Err(invalid("architectures", &why));
            }
        }
        let architectures = if mapped.is_empty() {
            Architectures::Listed(listed)
        } else {
            Architectures::Mapped(mapped)
        };
        let mut rules = Vec::new();
        for (index, group) in document.syscalls.unwrap_or_default().into_iter().enumerate() {
            rules.push(rule(&format!("syscalls[{index}]"), group, &mut notes)?);
        }
        Ok(Self { default, architectures, rules, flags: flags(document.flags, &mut notes), notes })
    }
}

fn invalid(place: &str, why: &str) -> SeccompError {
    SeccompError::Invalid { place: place.to_owned(), why: why.to_owned() }
}

fn rule(place: &str, group: Group, notes: &mut Vec<String>) -> Result<Rule, SeccompError> {
    let names = match (group.name.filter(|name| !name.is_empty()), group.names.unwrap_or_default())
    {
        (Some(_), names) if !names.is_empty() => {
            return Err(invalid(&format!("{place}.name"), "give either this or names, not both"));
        }
        (Some(name), _) => vec![name],
        (None, names) => names,
    };
    let action = action(
        &format!("{place}.action"),
        group.action,
        group.errno_ret,
        group.errno.as_deref(),
        notes,
    )?;
    let arguments = group.args.unwrap_or_default();
    if arguments.len() > MAX_CONDITIONS {
        let why = format!("more than {MAX_CONDITIONS} conditions in one rule");
        return Err(invalid(&format!("{place}.args"), &why));
    }
    let mut conditions = Vec::new();
    for (index, argument) in arguments.into_iter().enumerate() {
        if argument.index > 5 {
            let why = format!("a system call has arguments 0 to 5, not {}", argument.index);
            return Err(invalid(&format!("{place}.args[{index}].index"), &why));
        }
        conditions.push(Condition {
            argument: argument.index,
            operator: argument.op,
            value: argument.value,
            // libseccomp drops bits outside of the mask, which could never be equal.
            value_two: argument.value_two.unwrap_or_default() & argument.value,
        });
    }
    Ok(Rule {
        place: place.to_owned(),
        names,
        action,
        conditions,
        includes: scope(&format!("{place}.includes"), group.includes)?,
        excludes: scope(&format!("{place}.excludes"), group.excludes)?,
    })
}

/// What an action's name and errno come to.
fn action(
    place: &str,
    word: Word,
    errno: Option<u32>,
    errno_name: Option<&str>,
    notes: &mut Vec<String>,
) -> Result<Action, SeccompError> {
    let takes_errno = matches!(word, Word::Errno | Word::Trace);
    if errno.is_none() && errno_name.is_some_and(|name| !name.is_empty()) {
        return Err(invalid(place, "an errno needs its number as well (errnoRet)"));
    }
    if errno.is_some() && !takes_errno {
        return Err(invalid(place, "only SCMP_ACT_ERRNO takes an errno"));
    }
    let number = match errno {
        None => EPERM,
        Some(number) if number <= MAX_ERRNO => number as u16,
        Some(number) => {
            return Err(invalid(place, &format!("{number} is no errno, which end at {MAX_ERRNO}")));
        }
    };
    Ok(match word {
        Word::Allow => Action::Allow,
        Word::Log => Action::Log,
        Word::Errno => Action::Errno(number),
        Word::Trap => Action::Trap,
        Word::Kill | Word::KillThread => Action::KillThread,
        Word::KillProcess => Action::KillProcess,
        Word::Trace => {
            notes.push(format!(
                "{place}: SCMP_ACT_TRACE needs a tracer, and containers have none: the call answers ENOSYS"
            ));
            Action::Errno(ENOSYS)
        }
        Word::Notify => return Err(SeccompError::Notify { place: place.to_owned() }),
    })
}

fn scope(place: &str, given: Option<GivenScope>) -> Result<Scope, SeccompError> {
    let given = given.unwrap_or_default();
    let capabilities = given.caps.unwrap_or_default();
    if let Some(name) = capabilities.iter().find(|name| !name.starts_with("CAP_")) {
        let why = format!("'{name}' is not a capability, which are written CAP_SYS_ADMIN");
        return Err(invalid(&format!("{place}.caps"), &why));
    }
    let kernel = match given.min_kernel.as_deref() {
        None | Some("") => None,
        Some(text) => {
            let numbers = text.split_once('.');
            let numbers = numbers.and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
            Some(numbers.filter(|numbers| *numbers != (0, 0)).ok_or_else(|| {
                let why = format!("'{text}' is not a kernel version, which is written 4.8");
                invalid(&format!("{place}.minKernel"), &why)
            })?)
        }
    };
    Ok(Scope { capabilities, architectures: given.arches.unwrap_or_default(), kernel })
}

/// Flags for seccomp(2). A profile without the field gets `SPEC_ALLOW`, as from runc: without
/// it, older kernels slow every filtered process down by their defence against speculative
/// stores.
fn flags(given: Option<Vec<Flag>>, notes: &mut Vec<String>) -> u32 {
    let mut flags = 0;
    for flag in given.unwrap_or_else(|| vec![Flag::SpecAllow]) {
        flags |= match flag {
            // The filter is installed by a process of one thread; there is nothing to do.
            Flag::Tsync => 0,
            Flag::Log => 1 << 1,
            Flag::SpecAllow => 1 << 2,
            Flag::WaitKillableRecv => {
                notes.push("flags: WAIT_KILLABLE_RECV is for SCMP_ACT_NOTIFY; ignored".to_owned());
                0
            }
        };
    }
    flags
}

/// The file. `errno` and `defaultErrno` are podman's names beside the numbers.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Document {
    default_action: Word,
    default_errno_ret: Option<u32>,
    default_errno: Option<String>,
    architectures: Option<Vec<String>>,
    arch_map: Option<Vec<ArchMap>>,
    flags: Option<Vec<Flag>>,
    listener_path: Option<String>,
    listener_metadata: Option<String>,
    syscalls: Option<Vec<Group>>,
    #[serde(rename = "comment")]
    _comment: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct ArchMap {
    architecture: String,
    sub_architectures: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Group {
    name: Option<String>,
    names: Option<Vec<String>>,
    action: Word,
    errno_ret: Option<u32>,
    errno: Option<String>,
    args: Option<Vec<Argument>>,
    includes: Option<GivenScope>,
    excludes: Option<GivenScope>,
    #[serde(rename = "comment")]
    _comment: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Argument {
    index: u32,
    value: u64,
    value_two: Option<u64>,
    op: Operator,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct GivenScope {
    caps: Option<Vec<String>>,
    arches: Option<Vec<String>>,
    min_kernel: Option<String>,
}

#[derive(Deserialize, Clone, Copy)]
enum Word {
    #[serde(rename = "SCMP_ACT_ALLOW")]
    Allow,
    #[serde(rename = "SCMP_ACT_ERRNO")]
    Errno,
    #[serde(rename = "SCMP_ACT_KILL")]
    Kill,
    #[serde(rename = "SCMP_ACT_KILL_THREAD")]
    KillThread,
    #[serde(rename = "SCMP_ACT_KILL_PROCESS")]
    KillProcess,
    #[serde(rename = "SCMP_ACT_TRAP")]
    Trap,
    #[serde(rename = "SCMP_ACT_LOG")]
    Log,
    #[serde(rename = "SCMP_ACT_TRACE")]
    Trace,
    #[serde(rename = "SCMP_ACT_NOTIFY")]
    Notify,
}

#[derive(Deserialize, Clone, Copy)]
enum Flag {
    #[serde(rename = "SECCOMP_FILTER_FLAG_TSYNC")]
    Tsync,
    #[serde(rename = "SECCOMP_FILTER_FLAG_LOG")]
    Log,
    #[serde(rename = "SECCOMP_FILTER_FLAG_SPEC_ALLOW")]
    SpecAllow,
    #[serde(rename = "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV")]
    WaitKillableRecv,
}
