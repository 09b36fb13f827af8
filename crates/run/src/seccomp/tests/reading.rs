//! A profile read plainly: the JSON itself, rule by rule.

use std::collections::HashMap;

use serde_json::Value;

use crate::seccomp::numbers::Abi;
use crate::seccomp::{Arch, Context, widths};

/// A name of a rule: the name, the action, the conditions.
type Entry<'a> = (&'a str, u32, &'a [Value]);

/// A profile on one machine, seen from one ABI.
pub(super) struct Reading<'a> {
    abi: Abi,
    default: u32,
    /// The rules hold for this ABI.
    named: bool,
    /// For each number, the rules that name its call, in order.
    by_number: HashMap<u32, Vec<Entry<'a>>>,
    /// The rules for calls that i386's `socketcall` and `ipc` stand for.
    multiplexed: Vec<Entry<'a>>,
    newest: Option<u32>,
}

impl<'a> Reading<'a> {
    pub(super) fn new(profile: &'a Value, context: &Context, abi: Abi) -> Self {
        let (native, native_name) = match context.arch {
            Arch::X86_64 => (Abi::X86_64, "SCMP_ARCH_X86_64"),
            Arch::Aarch64 => (Abi::Aarch64, "SCMP_ARCH_AARCH64"),
        };
        let mut names = strings(&profile["architectures"]);
        for entry in list(&profile["archMap"]) {
            if entry["architecture"] == native_name {
                names.extend(strings(&entry["subArchitectures"]));
            }
        }
        let possible = match abi {
            Abi::X86_64 | Abi::X32 | Abi::X86 => context.arch == Arch::X86_64,
            Abi::Aarch64 | Abi::Arm => context.arch == Arch::Aarch64,
        };
        let listed = abi == native || names.iter().any(|name| Abi::named(name) == Some(abi));
        let mut by_number: HashMap<u32, Vec<Entry>> = HashMap::new();
        let mut multiplexed = Vec::new();
        for rule in list(&profile["syscalls"]).iter().filter(|rule| included(rule, context)) {
            let action = value(&rule["action"], &rule["errnoRet"]);
            for name in strings(&rule["names"]) {
                let entry = (name, action, list(&rule["args"]));
                if let Some(number) = abi.number(name) {
                    by_number.entry(number).or_default().push(entry);
                }
                if (0..32)
                    .any(|operation| through(name, 102, operation) || through(name, 117, operation))
                {
                    multiplexed.push(entry);
                }
            }
        }
        let ordinary = |number: &u32| abi != Abi::Arm || *number < 0xf0000;
        let newest = by_number.keys().copied().filter(ordinary).max();
        let default = value(&profile["defaultAction"], &profile["defaultErrnoRet"]);
        Self { abi, default, named: possible && listed, by_number, multiplexed, newest }
    }

    /// What a call gets, as `SECCOMP_RET_*`.
    pub(super) fn expected(&self, number: u32, arguments: &[u64; 6]) -> u32 {
        let Self { abi, default, .. } = *self;
        let lets_through = |action: u32| action == 0x7fff_0000 || action == 0x7ffc_0000;
        if !self.named {
            return if lets_through(default) { 0x8000_0000 } else { default };
        }
        let (mut always, mut best) = (None, None);
        for &(name, action, conditions) in self.by_number.get(&number).into_iter().flatten() {
            if conditions.is_empty() {
                if action != default {
                    always = always.or(Some(action));
                }
                continue;
            }
            let mut indexes: Vec<u64> =
                conditions.iter().map(|one| one["index"].as_u64().unwrap()).collect();
            indexes.sort_unstable();
            indexes.dedup();
            let mut answers = conditions.iter().map(|one| holds(one, abi, name, arguments));
            let one_each = indexes.len() == conditions.len();
            if if one_each { answers.all(|holds| holds) } else { answers.any(|holds| holds) } {
                best = stricter(best, action);
            }
        }
        if abi == Abi::X86 && (number == 102 || number == 117) {
            for &(name, action, conditions) in &self.multiplexed {
                if conditions.is_empty() && action == default {
                    continue;
                }
                let meant = through(name, number, arguments[0] as u32);
                if meant && (conditions.is_empty() || !lets_through(action)) {
                    best = stricter(best, action);
                }
            }
        }
        match (always, best) {
            (Some(always), Some(best)) if rank(best) < rank(always) => best,
            (Some(always), _) => always,
            (None, Some(best)) => best,
            (None, None) => match self.newest {
                Some(newest) if number > newest && !lets_through(default) => {
                    if abi == Abi::Arm && number >= 0xf0000 { default } else { 0x0005_0026 }
                }
                _ => default,
            },
        }
    }

    /// Arguments worth trying for a call: around everything that the rules compare its with.
    pub(super) fn edges(&self, number: u32) -> Vec<[u64; 6]> {
        let abi = self.abi;
        let multiplexed = abi == Abi::X86 && (number == 102 || number == 117);
        let entries = self.by_number.get(&number).into_iter().flatten();
        let entries = entries.chain(self.multiplexed.iter().filter(|_| multiplexed));
        let conditions: Vec<&Value> = entries.flat_map(|(.., conditions)| *conditions).collect();
        let mut calls = vec![[0; 6]];
        if multiplexed {
            calls.extend((0..26).map(|operation| [operation, 0, 0, 0, 0, 0]));
        }
        // What can be in a register depends on its width.
        let fit = |value: u64| if abi.narrow() { value & 0xffff_ffff } else { value };
        let mut tried = vec![0, 1, u64::MAX];
        for condition in &conditions {
            for edge in [&condition["value"], &condition["valueTwo"]] {
                let edge = edge.as_u64().unwrap_or(0);
                let near = [edge, edge.wrapping_sub(1), edge.wrapping_add(1), !edge];
                tried.extend(near);
                tried.extend([edge ^ 1 << 32, edge ^ 1 << 63, edge & 0xffff_ffff, edge << 32]);
            }
        }
        tried.sort_unstable();
        tried.dedup();
        tried.truncate(80);
        if conditions.is_empty() {
            return calls;
        }
        for (index, value) in
            (0..6).flat_map(|index| tried.iter().map(move |value| (index, *value)))
        {
            // Alone, and beside arguments that pass equalities.
            let mut alone = [0; 6];
            alone[index] = fit(value);
            let mut beside = [0; 6];
            for condition in &conditions {
                let at = condition["index"].as_u64().unwrap() as usize;
                beside[at] = fit(condition["value"].as_u64().unwrap());
            }
            beside[index] = fit(value);
            calls.extend([alone, beside]);
        }
        calls.sort_unstable();
        calls.dedup();
        calls
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn strings(value: &Value) -> Vec<&str> {
    list(value).iter().map(|name| name.as_str().unwrap()).collect()
}

fn value(action: &Value, errno: &Value) -> u32 {
    match action.as_str().unwrap() {
        "SCMP_ACT_ALLOW" => 0x7fff_0000,
        "SCMP_ACT_LOG" => 0x7ffc_0000,
        "SCMP_ACT_ERRNO" => 0x0005_0000 | errno.as_u64().unwrap_or(1) as u32,
        "SCMP_ACT_TRACE" => 0x0005_0026,
        "SCMP_ACT_TRAP" => 0x0003_0000,
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => 0,
        "SCMP_ACT_KILL_PROCESS" => 0x8000_0000,
        other => panic!("{other}"),
    }
}

/// The kernel's order, the strictest first (linux/seccomp.h: as signed numbers).
fn rank(action: u32) -> i32 {
    (action & 0xffff_0000) as i32
}

fn stricter(best: Option<u32>, action: u32) -> Option<u32> {
    match best {
        Some(best) if rank(best) <= rank(action) => Some(best),
        _ => Some(action),
    }
}

fn included(rule: &Value, context: &Context) -> bool {
    let arch = match context.arch {
        Arch::X86_64 => "amd64",
        Arch::Aarch64 => "arm64",
    };
    let new_enough = |version: &Value| {
        let numbers = version.as_str()?.split_once('.')?;
        Some(context.kernel >= (numbers.0.parse().unwrap(), numbers.1.parse().unwrap()))
    };
    let (with, without) = (&rule["includes"], &rule["excludes"]);
    strings(&with["caps"]).iter().all(|name| context.capabilities.contains(name))
        && (list(&with["arches"]).is_empty() || strings(&with["arches"]).contains(&arch))
        && new_enough(&with["minKernel"]) != Some(false)
        && !strings(&without["caps"]).iter().any(|name| context.capabilities.contains(name))
        && !strings(&without["arches"]).contains(&arch)
        && new_enough(&without["minKernel"]) != Some(true)
}

fn holds(condition: &Value, abi: Abi, name: &str, arguments: &[u64; 6]) -> bool {
    let number = |field: &str| condition[field].as_u64().unwrap_or(0);
    let index = number("index") as usize;
    let narrow = abi.narrow() || widths::narrow(name, index as u32);
    let cut = |value: u64| if narrow { value & 0xffff_ffff } else { value };
    let (is, value, second) = (cut(arguments[index]), number("value"), number("valueTwo"));
    match condition["op"].as_str().unwrap() {
        "SCMP_CMP_NE" => is != cut(value),
        "SCMP_CMP_EQ" => is == cut(value),
        "SCMP_CMP_MASKED_EQ" => is & value == cut(second & value),
        "SCMP_CMP_LT" => is < value,
        "SCMP_CMP_LE" => is <= value,
        "SCMP_CMP_GE" => is >= value,
        "SCMP_CMP_GT" => is > value,
        other => panic!("{other}"),
    }
}

/// The call is `socketcall` or `ipc`, and means `name` (ipc(2), socketcall(2)).
fn through(name: &str, number: u32, operation: u32) -> bool {
    let sockets = "socket bind connect listen accept getsockname getpeername socketpair send recv \
        sendto recvfrom shutdown setsockopt getsockopt sendmsg recvmsg accept4 recvmmsg sendmmsg";
    let mut sockets = sockets.split_whitespace().zip(1..);
    let ipc = [
        ("semop", 1),
        ("semget", 2),
        ("semctl", 3),
        ("semtimedop", 4),
        ("msgsnd", 11),
        ("msgrcv", 12),
        ("msgget", 13),
        ("msgctl", 14),
        ("shmat", 21),
        ("shmdt", 22),
        ("shmget", 23),
        ("shmctl", 24),
    ];
    match number {
        102 => sockets.any(|row| row == (name, operation)),
        117 => ipc.contains(&(name, operation)),
        _ => false,
    }
}

/// The plain reading itself, against words.
#[test]
fn the_plain_reading_reads_dockers_words() {
    let profile: Value = serde_json::from_str(
        r#"{ "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 5, "syscalls": [
            { "names": ["read"], "action": "SCMP_ACT_ALLOW" } ] }"#,
    )
    .unwrap();
    let context = Context { capabilities: &[], kernel: (6, 1), arch: Arch::X86_64 };
    let reading = Reading::new(&profile, &context, Abi::X86_64);
    assert_eq!(reading.expected(0, &[0; 6]), 0x7fff_0000);
    assert_eq!(reading.expected(1, &[0; 6]), 0x0005_0026, "newer than all that is named");
}
