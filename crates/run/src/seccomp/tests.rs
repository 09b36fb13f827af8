//! A compiled profile beside the profile itself: every call of every ABI, with arguments at the
//! edges of the rules, through an interpreter of BPF and through a plain reading of the JSON.

mod machine;
mod reading;
mod refused;

use serde_json::{Value, json};

use super::numbers::{self, Abi};
use super::{Arch, Context, Filter, Profile};
use machine::run;
use reading::Reading;

const ALLOW: u32 = 0x7fff_0000;
const EPERM: u32 = 0x0005_0001;
const ENOSYS: u32 = 0x0005_0026;
const KILL_PROCESS: u32 = 0x8000_0000;

/// What Docker gives a container (moby, `daemon/pkg/oci/caps/defaults.go`).
const DOCKER_CAPABILITIES: &[&str] = &[
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];

fn context<'a>(capabilities: &'a [&'a str], arch: Arch) -> Context<'a> {
    Context { capabilities, kernel: (6, 1), arch }
}

fn docker_default() -> Value {
    serde_json::from_str(include_str!("../../data/seccomp.json")).unwrap()
}

fn compile(profile: &Value, context: &Context) -> Filter {
    let profile = Profile::parse(profile.to_string().as_bytes()).unwrap();
    profile.compile(context).unwrap()
}

/// What the filter answers to a call by name.
fn ask(filter: &Filter, abi: Abi, name: &str, arguments: &[u64]) -> u32 {
    let number = abi.number(name).unwrap_or_else(|| panic!("{abi:?} has no {name}"));
    let mut all = [0; 6];
    all[..arguments.len()].copy_from_slice(arguments);
    run(filter.program(), abi.audit(), number, &all)
}

/// The compiled profile answers as the profile reads, for every number and edge of `context`'s
/// machine. Returns how many calls were compared.
fn compare(profile: &Value, context: &Context) -> usize {
    let filter = compile(profile, context);
    machine::check(filter.program());
    let mut compared = 0;
    for abi in [Abi::X86_64, Abi::X32, Abi::X86, Abi::Aarch64, Abi::Arm] {
        let reading = Reading::new(profile, context, abi);
        let (first, odd): (_, &[u32]) = match abi {
            Abi::X32 => (numbers::X32_BIT, &[0x7fff_ffff, u32::MAX - 1, u32::MAX]),
            Abi::X86_64 => (0, &[0xf0001, numbers::X32_BIT - 1]),
            _ => (0, &[0xeffff, 0x3fff_ffff, 0x4000_0000, u32::MAX]),
        };
        let private = if abi == Abi::Arm { 0xf0000..0xf0010 } else { 0..0 };
        for number in (first..first + 560).chain(odd.iter().copied()).chain(private) {
            for arguments in reading.edges(number) {
                let is = run(filter.program(), abi.audit(), number, &arguments);
                let want = reading.expected(number, &arguments);
                assert_eq!(
                    is, want,
                    "{abi:?} call {number} {arguments:x?}: {is:#x}, not {want:#x}\nin {context:?}\n{profile}"
                );
                compared += 1;
            }
        }
    }
    compared
}

#[test]
fn dockers_profile_means_what_it_says() {
    let profile = docker_default();
    let every: Vec<String> = profile["syscalls"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|rule| rule["includes"]["caps"].as_array().cloned().unwrap_or_default())
        .map(|name| name.as_str().unwrap().to_owned())
        .collect();
    let every: Vec<&str> = every.iter().map(String::as_str).collect();
    let mut compared = 0;
    for arch in [Arch::X86_64, Arch::Aarch64] {
        for kernel in [(4, 7), (4, 8)] {
            for capabilities in [&[][..], DOCKER_CAPABILITIES, &every] {
                compared += compare(&profile, &Context { capabilities, kernel, arch });
            }
        }
        for capability in &every {
            compared += compare(&profile, &context(&[*capability], arch));
        }
    }
    assert!(compared > 100_000, "only {compared} calls were compared");
}

#[test]
fn dockers_profile_names_only_calls_that_the_table_knows() {
    for arch in [Arch::X86_64, Arch::Aarch64] {
        let filter = Profile::docker_default().compile(&context(&[], arch)).unwrap();
        assert_eq!(filter.notes(), &[] as &[String]);
    }
}

#[test]
fn a_container_of_today_gets_no_namespaces_keys_or_programs_in_the_kernel() {
    let filter =
        Profile::docker_default().compile(&context(DOCKER_CAPABILITIES, Arch::X86_64)).unwrap();
    for abi in [Abi::X86_64, Abi::X32, Abi::X86] {
        let ask = |name, arguments: &[u64]| ask(&filter, abi, name, arguments);
        for name in [
            "unshare",
            "setns",
            "mount",
            "umount2",
            "move_mount",
            "fsopen",
            "open_tree",
            "keyctl",
            "add_key",
            "request_key",
            "perf_event_open",
            "userfaultfd",
            "bpf",
            "io_uring_setup",
            "kexec_load",
            "init_module",
            "pivot_root",
            "reboot",
            "swapon",
            "open_by_handle_at",
        ] {
            assert_eq!(ask(name, &[]), EPERM, "{abi:?} {name}");
        }
        assert_eq!(ask("clone3", &[]), ENOSYS, "{abi:?}");
        if abi != Abi::X32 {
            assert_eq!(ask("open_tree_attr", &[]), ENOSYS, "{abi:?}: newer than the profile");
        }
        assert_eq!(ask("clone", &[0x1000_0000]), EPERM, "{abi:?}: CLONE_NEWUSER");
        assert_eq!(ask("clone", &[0x003d_0f00]), ALLOW, "{abi:?}: a thread");
        for name in ["read", "execve", "futex", "mmap", "openat", "ptrace", "chroot", "fork"] {
            let name = if (abi, name) == (Abi::X86, "mmap") { "mmap2" } else { name };
            assert_eq!(ask(name, &[]), ALLOW, "{abi:?} {name}");
        }
        let socket = |family| ask("socket", &[family]);
        for (family, answer) in [(1, ALLOW), (2, ALLOW), (16, ALLOW), (38, EPERM), (39, ALLOW)] {
            assert_eq!(socket(family), answer, "{abi:?} {family}");
        }
        assert_eq!(socket(40), EPERM, "{abi:?}: AF_VSOCK");
        // The kernel throws the upper half of a family away; these are AF_VSOCK and AF_ALG.
        assert_eq!(socket(1 << 32 | 40), EPERM, "{abi:?}");
        assert_eq!(socket(0xffff_ffff << 32 | 38), EPERM, "{abi:?}");
    }
    // An architecture that is none of this machine's.
    assert_eq!(run(filter.program(), 0xc000_00f3, 63, &[0; 6]), EPERM);
}

#[test]
fn a_capability_brings_its_calls() {
    for (capability, name) in [
        ("CAP_SYS_ADMIN", "unshare"),
        ("CAP_SYS_ADMIN", "clone3"),
        ("CAP_SYS_PTRACE", "process_madvise"),
        ("CAP_BPF", "bpf"),
        ("CAP_PERFMON", "perf_event_open"),
        ("CAP_SYS_TIME", "clock_settime"),
        ("CAP_DAC_READ_SEARCH", "open_by_handle_at"),
    ] {
        for (arch, abi) in [(Arch::X86_64, Abi::X86_64), (Arch::Aarch64, Abi::Aarch64)] {
            let with = Profile::docker_default().compile(&context(&[capability], arch)).unwrap();
            let without = Profile::docker_default().compile(&context(&[], arch)).unwrap();
            assert_eq!(ask(&with, abi, name, &[]), ALLOW, "{capability} {name}");
            assert_ne!(ask(&without, abi, name, &[]), ALLOW, "{capability} {name}");
        }
    }
}

/// Docker's profile has it with that capability; sconce's never has.
#[test]
fn what_is_withheld_comes_with_no_capability() {
    for (arch, abi) in [(Arch::X86_64, Abi::X86_64), (Arch::Aarch64, Abi::Aarch64)] {
        let context = context(&["CAP_SYS_PTRACE"], arch);
        let ours = Profile::docker_default().compile(&context).unwrap();
        assert_eq!(ask(&ours, abi, "pidfd_getfd", &[]), EPERM);
        assert_eq!(ask(&compile(&docker_default(), &context), abi, "pidfd_getfd", &[]), ALLOW);
    }
}

#[test]
fn a_rule_is_part_of_the_profile_where_its_scope_says_so() {
    let rule = |name: &str, field: &str, scope: Value| json!({ "names": [name], "action": "SCMP_ACT_ALLOW", field: scope });
    let profile = json!({ "defaultAction": "SCMP_ACT_ERRNO", "syscalls": [
        rule("read", "includes", json!({ "minKernel": "4.8" })),
        rule("write", "excludes", json!({ "minKernel": "4.8" })),
        rule("open", "includes", json!({ "arches": ["arm64", "amd64"] })),
        rule("close", "excludes", json!({ "arches": ["arm64", "amd64"] })),
        rule("stat", "includes", json!({ "caps": ["CAP_BPF", "CAP_PERFMON"] })),
        rule("mseal", "excludes", json!({ "caps": ["CAP_BPF", "CAP_PERFMON"] })),
    ]});
    let allowed = |kernel, capabilities: &[&str]| {
        let filter = compile(&profile, &Context { capabilities, kernel, arch: Arch::X86_64 });
        let names = ["read", "write", "open", "close", "stat", "mseal"];
        let is_allowed = |name: &&str| ask(&filter, Abi::X86_64, name, &[]) == ALLOW;
        names.into_iter().filter(is_allowed).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(allowed((4, 7), &[]), "write open mseal");
    assert_eq!(allowed((4, 8), &["CAP_BPF"]), "read open");
    assert_eq!(allowed((5, 0), &["CAP_PERFMON", "CAP_BPF"]), "read open stat");
    assert_eq!(allowed((0, 0), &[]), "write open mseal");
}

#[test]
fn a_release_is_two_numbers() {
    for (release, version) in [
        ("6.1.0-44-amd64", (6, 1)),
        ("6.18.44-fc-v782", (6, 18)),
        ("5.15-rc3", (5, 15)),
        ("7", (0, 0)),
        ("linux", (0, 0)),
        ("99999999999.1", (0, 0)),
    ] {
        assert_eq!(super::version(release), version, "{release}");
    }
}

#[test]
fn every_operator_compares_whole_arguments() {
    let mut profiles = Vec::new();
    for op in ["NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ"] {
        for value in [0, 1, 40, 0xffff_ffff, 1 << 32, (1 << 32) + 7, u64::MAX - 1, u64::MAX] {
            for value_two in [0, 1, 5 << 32, 0xffff_ffff, u64::MAX] {
                let op = format!("SCMP_CMP_{op}");
                let args = |index| json!([{ "index": index, "value": value, "valueTwo": value_two, "op": op }]);
                profiles.push(json!({
                    "defaultAction": "SCMP_ACT_ERRNO",
                    "architectures": ["SCMP_ARCH_X86", "SCMP_ARCH_ARM"],
                    "syscalls": [
                        // Wide, and read as 32 bits by the kernel.
                        { "names": ["write"], "action": "SCMP_ACT_ALLOW", "args": args(2) },
                        { "names": ["ioctl"], "action": "SCMP_ACT_ALLOW", "args": args(1) },
                    ],
                }));
            }
        }
    }
    for profile in &profiles {
        compare(profile, &context(&[], Arch::X86_64));
        compare(profile, &context(&[], Arch::Aarch64));
    }
}

#[test]
fn rules_for_one_call_are_weighed() {
    let eq =
        |index: u32, value: u64| json!({ "index": index, "value": value, "op": "SCMP_CMP_EQ" });
    let rule = |action: &str, args: Value| json!({ "names": ["prctl", "socket", "shmget"], "action": format!("SCMP_ACT_{action}"), "args": args });
    let groups = [
        // Alternatives.
        json!([rule("ALLOW", json!([eq(0, 1)])), rule("ALLOW", json!([eq(0, 3), eq(1, 4)]))]),
        // Two conditions on one argument: either.
        json!([rule("ALLOW", json!([eq(0, 1), eq(0, 2), eq(1, 9)]))]),
        // A refusal inside of what is allowed, before and after it.
        json!([rule("ALLOW", json!([])), rule("TRAP", json!([eq(0, 1)]))]),
        json!([rule("TRAP", json!([eq(0, 1)])), rule("ALLOW", json!([]))]),
        json!([
            rule("ALLOW", json!([eq(0, 1)])),
            rule("KILL", json!([eq(1, 1)])),
            rule("LOG", json!([eq(2, 1)]))
        ]),
        // The default, said again: once for all, once in one case.
        json!([rule("ERRNO", json!([])), rule("ALLOW", json!([eq(0, 1)]))]),
        json!([rule("ERRNO", json!([eq(1, 1)])), rule("ALLOW", json!([eq(0, 1)]))]),
        // The first of two without conditions.
        json!([rule("ALLOW", json!([])), rule("KILL_PROCESS", json!([]))]),
        json!([
            rule("KILL_PROCESS", json!([])),
            rule("ALLOW", json!([])),
            rule("ALLOW", json!([eq(0, 1)]))
        ]),
    ];
    for syscalls in groups {
        for default in ["ERRNO", "ALLOW", "LOG", "KILL", "TRAP", "KILL_PROCESS", "TRACE"] {
            let profile = json!({
                "defaultAction": format!("SCMP_ACT_{default}"),
                "archMap": [
                    { "architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"] },
                    { "architecture": "SCMP_ARCH_AARCH64", "subArchitectures": null },
                ],
                "syscalls": syscalls,
            });
            compare(&profile, &context(&[], Arch::X86_64));
            compare(&profile, &context(&[], Arch::Aarch64));
        }
    }
}

#[test]
fn a_rule_cannot_be_evaded_through_i386s_older_calls() {
    let arch = json!(["SCMP_ARCH_X86"]);
    let vsock = json!([{ "index": 0, "value": 40, "op": "SCMP_CMP_EQ" }]);
    let deny = json!({ "defaultAction": "SCMP_ACT_ALLOW", "architectures": arch, "syscalls": [
        { "names": ["socket"], "action": "SCMP_ACT_ERRNO", "args": vsock },
        { "names": ["shmget"], "action": "SCMP_ACT_ERRNO" },
    ]});
    let filter = compile(&deny, &context(&[], Arch::X86_64));
    assert_eq!(ask(&filter, Abi::X86, "socketcall", &[1]), EPERM);
    assert_eq!(ask(&filter, Abi::X86, "socketcall", &[2]), ALLOW);
    assert_eq!(ask(&filter, Abi::X86, "ipc", &[23]), EPERM);
    assert_eq!(ask(&filter, Abi::X86, "ipc", &[1]), ALLOW);

    let not_vsock = json!([{ "index": 0, "value": 40, "op": "SCMP_CMP_NE" }]);
    let allow = json!({ "defaultAction": "SCMP_ACT_ERRNO", "architectures": arch, "syscalls": [
        { "names": ["socket"], "action": "SCMP_ACT_ALLOW", "args": not_vsock },
        { "names": ["bind"], "action": "SCMP_ACT_ALLOW" },
    ]});
    let filter = compile(&allow, &context(&[], Arch::X86_64));
    assert_eq!(ask(&filter, Abi::X86, "socket", &[2]), ALLOW);
    assert_eq!(ask(&filter, Abi::X86, "socketcall", &[1]), EPERM, "which family, nobody sees");
    assert_eq!(ask(&filter, Abi::X86, "socketcall", &[2]), ALLOW, "bind has no conditions");
}

#[test]
fn an_architecture_that_is_not_named_is_no_way_around() {
    let rules = json!([{ "names": ["bpf"], "action": "SCMP_ACT_ERRNO" }]);
    let allow = json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules });
    let filter = compile(&allow, &context(&[], Arch::X86_64));
    assert_eq!(ask(&filter, Abi::X86_64, "bpf", &[]), EPERM);
    assert_eq!(ask(&filter, Abi::X86_64, "read", &[]), ALLOW);
    for abi in [Abi::X86, Abi::X32] {
        assert_eq!(ask(&filter, abi, "bpf", &[]), KILL_PROCESS);
        assert_eq!(ask(&filter, abi, "read", &[]), KILL_PROCESS);
    }
}

/// Numbers that look random and are the same on every run (Knuth's MMIX constants).
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % end
    }

    fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }
}

#[test]
fn profiles_made_by_dice_mean_what_they_say() {
    let names: Vec<&str> = numbers::rows().map(|(name, _)| name).collect();
    let actions = ["ALLOW", "ERRNO", "KILL", "KILL_PROCESS", "TRAP", "LOG", "TRACE"];
    let operators = ["NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ"];
    let values = [0, 1, 38, 40, 0x7e02_0000, 0xffff_ffff, 1 << 32, 3 << 40, u64::MAX];
    for seed in 0..40 {
        let mut dice = Dice(seed);
        let mut syscalls = Vec::new();
        for _ in 0..dice.of(&[0, 1, 5, 40, 120]) {
            // A few names again and again, so that rules meet.
            let pool = dice.of(&[3, 20, names.len()]);
            let called: Vec<&str> =
                (0..dice.of(&[1, 2, 30])).map(|_| names[dice.below(pool)]).collect();
            let args: Vec<Value> = (0..dice.of(&[0, 0, 1, 1, 2, 4]))
                .map(|_| {
                    json!({
                        "index": dice.below(6),
                        "op": format!("SCMP_CMP_{}", dice.of(&operators)),
                        "value": dice.of(&values),
                        "valueTwo": dice.of(&values),
                    })
                })
                .collect();
            let action = format!("SCMP_ACT_{}", dice.of(&actions));
            syscalls.push(json!({ "names": called, "action": action, "args": args }));
        }
        let profile = json!({
            "defaultAction": format!("SCMP_ACT_{}", dice.of(&actions)),
            "architectures": dice.of(&[&[][..], &["SCMP_ARCH_X86"], &["SCMP_ARCH_X32", "SCMP_ARCH_ARM"]]),
            "syscalls": syscalls,
        });
        let arch = dice.of(&[Arch::X86_64, Arch::Aarch64]);
        let parsed = Profile::parse(profile.to_string().as_bytes()).unwrap();
        match parsed.compile(&context(&[], arch)) {
            Ok(_) => {
                compare(&profile, &context(&[], arch));
            }
            Err(error) => assert!(matches!(error, super::SeccompError::TooLong), "{error}"),
        }
    }
}

#[test]
fn a_call_passes_a_few_comparisons_only() {
    let filter =
        Profile::docker_default().compile(&context(DOCKER_CAPABILITIES, Arch::X86_64)).unwrap();
    assert!(filter.program().len() < 1000, "{} instructions", filter.program().len());
    let steps = |number| machine::steps(filter.program(), Abi::X86_64.audit(), number, &[0; 6]).1;
    let most = (0..480).map(steps).max().unwrap();
    assert!(most <= 24, "{most} instructions for one call");
}

#[test]
fn bytes_of_a_filter_are_the_filter() {
    let filter = Profile::docker_default().compile(&context(&[], Arch::X86_64)).unwrap();
    let bytes = filter.to_bytes();
    assert_eq!(bytes.len(), 8 * (1 + filter.program().len()));
    assert_eq!(Filter::from_bytes(&bytes).unwrap(), filter);
    for wrong in [&bytes[..bytes.len() - 1], &bytes[..bytes.len() - 8], &bytes[..8], &[]] {
        assert!(Filter::from_bytes(wrong).is_err());
    }
    let many = [&[0; 4][..], &5000_u32.to_le_bytes(), &[0; 8 * 5000]].concat();
    assert!(Filter::from_bytes(&many).is_err());
}
