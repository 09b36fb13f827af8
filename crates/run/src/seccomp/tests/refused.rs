//! Files that are no profiles, and what is said of them.

use serde_json::{Value, json};

use super::machine;
use crate::seccomp::numbers::Abi;
use crate::seccomp::{Arch, Context, Profile, SeccompError};

fn refusal(text: &str) -> String {
    Profile::parse(text.as_bytes()).expect_err(text).to_string()
}

#[test]
fn each_mistake_is_named_with_its_place() {
    let with = |rule: &str| format!(r#"{{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{rule}]}}"#);
    for (text, words) in [
        (String::new(), "EOF"),
        ("[]".into(), "not a seccomp profile"),
        ("{}".into(), "missing field `defaultAction`"),
        (r#"{"defaultAction":""}"#.into(), "unknown variant ``"),
        (r#"{"defaultAction":"SCMP_ACT_ALOW"}"#.into(), "unknown variant `SCMP_ACT_ALOW`"),
        (r#"{"defaultAction":"SCMP_ACT_NOTIFY"}"#.into(), "defaultAction: SCMP_ACT_NOTIFY"),
        (r#"{"defaultAction":"SCMP_ACT_ALLOW","defaultErrnoRet":1}"#.into(), "only SCMP_ACT_ERRNO"),
        (r#"{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":4096}"#.into(), "4096 is no errno"),
        (r#"{"defaultAction":"SCMP_ACT_ERRNO","defaultErrno":"ENOSYS"}"#.into(), "errnoRet"),
        (r#"{"defaultAction":"SCMP_ACT_ERRNO","sycalls":[]}"#.into(), "unknown field `sycalls`"),
        (r#"{"defaultAction":"SCMP_ACT_ERRNO","listenerPath":"/a"}"#.into(), "listenerPath"),
        (
            r#"{"defaultAction":"SCMP_ACT_ERRNO","flags":["TSYNC"]}"#.into(),
            "unknown variant `TSYNC`",
        ),
        (
            r#"{"defaultAction":"SCMP_ACT_ERRNO","architectures":["SCMP_ARCH_X86"],
                "archMap":[{"architecture":"SCMP_ARCH_X86_64"}]}"#
                .into(),
            "not both",
        ),
        (
            r#"{"defaultAction":"SCMP_ACT_ERRNO","architectures":["x86"]}"#.into(),
            "'x86' is not an arch",
        ),
        (with(r#"{"names":["read"]}"#), "missing field `action`"),
        (with(r#"{"names":["read"],"action":"SCMP_ACT_NOTIFY"}"#), "syscalls[0].action"),
        (with(r#"{"name":"a","names":["b"],"action":"SCMP_ACT_ALLOW"}"#), "syscalls[0].name"),
        (with(r#"{"names":"read","action":"SCMP_ACT_ALLOW"}"#), "expected a sequence"),
        (with(r#"{"names":["a"],"action":"SCMP_ACT_ALLOW","errnoRet":1}"#), "only SCMP_ACT_ERRNO"),
        (with(r#"{"names":["a"],"action":"SCMP_ACT_ALLOW","arg":[]}"#), "unknown field `arg`"),
        (
            with(
                r#"{"names":["a"],"action":"SCMP_ACT_ALLOW","args":[{"index":6,"value":0,"op":"SCMP_CMP_EQ"}]}"#,
            ),
            "syscalls[0].args[0].index: a system call has arguments 0 to 5, not 6",
        ),
        (
            with(
                r#"{"names":["a"],"action":"SCMP_ACT_ALLOW","args":[{"index":0,"value":-1,"op":"SCMP_CMP_EQ"}]}"#,
            ),
            "invalid value: integer `-1`",
        ),
        (
            with(
                r#"{"names":["a"],"action":"SCMP_ACT_ALLOW","args":[{"index":0,"value":1,"op":"SCMP_CMP_IN"}]}"#,
            ),
            "unknown variant `SCMP_CMP_IN`",
        ),
        (
            with(
                r#"{"names":["a"],"action":"SCMP_ACT_ALLOW","args":[{"index":0,"op":"SCMP_CMP_EQ"}]}"#,
            ),
            "`value`",
        ),
        (
            with(r#"{"names":["a"],"action":"SCMP_ACT_ALLOW","includes":{"minKernel":"4"}}"#),
            "syscalls[0].includes.minKernel: '4'",
        ),
        (
            with(r#"{"names":["a"],"action":"SCMP_ACT_ALLOW","excludes":{"minKernel":"0.0"}}"#),
            "'0.0'",
        ),
        (
            with(r#"{"names":["a"],"action":"SCMP_ACT_ALLOW","excludes":{"caps":["SYS_ADMIN"]}}"#),
            "syscalls[0].excludes.caps: 'SYS_ADMIN'",
        ),
        (
            with(r#"{"names":["a"],"action":"SCMP_ACT_ALLOW","includes":{"cap":[]}}"#),
            "unknown field `cap`",
        ),
    ] {
        let message = refusal(&text);
        assert!(message.contains(words), "{text}\n{message}\nlacks: {words}");
    }
}

#[test]
fn a_file_without_end_is_not_parsed() {
    let error = Profile::parse(&vec![b' '; Profile::MAX_BYTES + 1]).unwrap_err();
    assert!(matches!(error, SeccompError::TooLarge { .. }));
    let deep = "[".repeat(100_000);
    assert!(matches!(Profile::parse(deep.as_bytes()).unwrap_err(), SeccompError::Format(_)));
}

fn context() -> Context<'static> {
    Context { capabilities: &[], kernel: (6, 1), arch: Arch::X86_64 }
}

fn parse(profile: &Value) -> Profile {
    Profile::parse(profile.to_string().as_bytes()).unwrap()
}

#[test]
fn more_rules_than_the_kernel_takes_are_refused_at_once() {
    let arg = |value: u64| json!({ "index": 0, "value": value, "op": "SCMP_CMP_EQ" });
    let args: Vec<Value> = (0..64).map(arg).collect();
    // 60,000 names with 64 conditions each would be nearly four million tests.
    let rule = json!({ "names": vec!["socket"; 60_000], "action": "SCMP_ACT_ALLOW", "args": args });
    let profile = json!({ "defaultAction": "SCMP_ACT_ERRNO", "syscalls": [rule] });
    let error = parse(&profile).compile(&context()).unwrap_err();
    assert!(matches!(error, SeccompError::TooLong), "{error}");

    let rules: Vec<Value> = (0..2500)
        .map(|value| json!({ "name": "ioctl", "action": "SCMP_ACT_ALLOW", "args": [arg(value)] }))
        .collect();
    let profile = json!({ "defaultAction": "SCMP_ACT_ERRNO", "syscalls": rules });
    let error = parse(&profile).compile(&context()).unwrap_err();
    assert!(matches!(error, SeccompError::TooLong), "{error}");
}

#[test]
fn conditional_jumps_reach_across_a_long_program() {
    let rules: Vec<Value> = (0..1500)
        .map(|value| {
            let arg = json!({ "index": 1, "value": value, "op": "SCMP_CMP_EQ" });
            json!({ "name": "ioctl", "action": "SCMP_ACT_ALLOW", "args": [arg] })
        })
        .chain([json!({ "names": ["read", "exit"], "action": "SCMP_ACT_ALLOW" })])
        .collect();
    let profile = json!({ "defaultAction": "SCMP_ACT_ERRNO", "syscalls": rules });
    let filter = parse(&profile).compile(&context()).unwrap();
    machine::check(filter.program());
    assert!((3000..4096).contains(&filter.program().len()));
    let ask = |name, request| super::ask(&filter, Abi::X86_64, name, &[0, request]);
    for request in (0..1500).step_by(7).chain([1499]) {
        assert_eq!(ask("ioctl", request), super::ALLOW, "{request}");
    }
    assert_eq!(ask("ioctl", 1500), super::EPERM);
    assert_eq!(ask("write", 0), super::EPERM);
    assert_eq!(ask("read", 0), super::ALLOW);
    assert_eq!(ask("exit", 0), super::ALLOW);
}

#[test]
fn what_a_reader_may_not_expect_is_said() {
    let profile = parse(&json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "flags": ["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"],
        "syscalls": [
            { "names": ["clone3", "unshar"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38 },
            { "names": ["read", "clone3"], "action": "SCMP_ACT_ALLOW", "comment": "too late" },
            { "names": ["write"], "action": "SCMP_ACT_TRACE" },
        ],
    }));
    let filter = profile.compile(&context()).unwrap();
    assert_eq!(filter.flags(), 2);
    let notes = filter.notes().join("\n");
    for words in [
        "flags: WAIT_KILLABLE_RECV",
        "syscalls[2].action: SCMP_ACT_TRACE",
        "syscalls[1]: other rules decide before it: clone3",
        "calls that no Linux has: unshar",
    ] {
        assert!(notes.contains(words), "{notes}\nlacks: {words}");
    }
    assert_eq!(filter.notes().len(), 4, "{notes}");
}

#[test]
fn podmans_and_older_docker_files_are_profiles_too() {
    parse(&json!({
        "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38, "defaultErrno": "ENOSYS",
        "archMap": [{ "architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X32"] }],
        "syscalls": [
            { "names": ["bdflush"], "action": "SCMP_ACT_ERRNO", "args": [], "comment": "",
              "includes": {}, "excludes": {}, "errnoRet": 1, "errno": "EPERM" },
            { "name": "accept", "action": "SCMP_ACT_ALLOW", "args": null },
            { "names": ["ptrace"], "action": "SCMP_ACT_ALLOW", "args": null, "comment": "",
              "includes": { "minKernel": "4.8" }, "excludes": {} },
        ],
    }));
    parse(&json!({ "defaultAction": "SCMP_ACT_ALLOW", "architectures": null, "syscalls": null }));
}
