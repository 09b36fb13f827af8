//! What the validation programs of opencontainers/runtime-tools expect of a container, asked of
//! `sconce run`: a test for each that applies, under the program's name. `docs/oci-validation.md` says
//! which don't and why, and how runc and others do in the programs themselves.
//!
//! These are run by root, as those are.

#[allow(dead_code)]
mod world;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use sconce_testkit::MappedUser;
use world::{World, texts};

const RUN: [&str; 4] = ["run", "--gpus", "none", "-q"];

fn new() -> World {
    let world = World::new();
    world.image(r#"{"Env": ["PATH=/usr/bin"]}"#);
    world
}

/// What a script prints in a container with these options.
#[track_caller]
fn sees(world: &World, options: &[&str], script: &str) -> String {
    let words = [&RUN[..], options, &["oci:image", "sh", "-c", script]].concat();
    let (code, out, err) = world.says(&words);
    assert_eq!(code, 0, "{options:?} {script}\n{out}{err}");
    out
}

/// Starts a container that has a name and stays.
#[track_caller]
fn stays(world: &World, name: &str, options: &[&str]) {
    let words = [&RUN[..], &["-d", "--name", name], options, &["oci:image"]].concat();
    let script = "trap 'exit 7' TERM; trap 'exit 8' USR1; trap 'exit 9' 37; touch /ready; while :; do sleep 0.05; done";
    let (code, _, err) = world.says(&[&words[..], &["sh", "-c", script]].concat());
    assert_eq!(code, 0, "{err}");
    let until = Instant::now() + Duration::from_secs(10);
    while world.says(&["exec", name, "cat", "/ready"]).0 != 0 {
        assert!(Instant::now() < until, "it did not start");
    }
}

/// Of one that stays, what `sconce inspect` says.
fn inspected(world: &World, name: &str) -> serde_json::Value {
    let (code, out, err) = world.says(&["inspect", name]);
    assert_eq!(code, 0, "{err}");
    serde_json::from_str(&out).unwrap()
}

/// The cgroups of one that stays.
#[track_caller]
fn groups_of(world: &World, name: &str) -> Vec<String> {
    let id = inspected(world, name)["id"].as_str().unwrap().to_owned();
    let state = fs::read(world.path("store/containers").join(id).join("state.json")).unwrap();
    let state: serde_json::Value = serde_json::from_slice(&state).unwrap();
    serde_json::from_value(state["cgroups"].clone()).unwrap()
}

/// File systems, links and devices that every Linux container has (runtime-spec, config-linux.md).
#[test]
fn default() {
    let world = new();
    let mounts = "while read a b c d place e; do set -- $e; while test \"$1\" != -; do shift; done
        echo $place $2; done < /proc/self/mountinfo";
    let mounts = sees(&world, &[], mounts);
    for mount in ["/proc proc", "/sys sysfs", "/dev/pts devpts", "/dev/shm tmpfs"] {
        assert!(mounts.lines().any(|line| line == mount), "{mount}: {mounts}");
    }
    let links = "cd /dev; for l in fd ptmx stdin stdout stderr; do echo $l $(readlink $l); done";
    let expected = "fd /proc/self/fd\nptmx pts/ptmx\nstdin /proc/self/fd/0\nstdout /proc/self/fd/1\nstderr /proc/self/fd/2\n";
    assert_eq!(sees(&world, &[], links), expected);
    let devices =
        "cd /dev; stat -c '%n %F %t %T %a' null zero full random urandom tty; stat -Lc '%F' ptmx";
    let one = |name: &str, major: u32, minor: u32| {
        format!("{name} character special file {major:x} {minor:x} 666\n")
    };
    let expected = [
        one("null", 1, 3),
        one("zero", 1, 5),
        one("full", 1, 7),
        one("random", 1, 8),
        one("urandom", 1, 9),
        one("tty", 5, 0),
        "character special file\n".to_owned(),
    ];
    assert_eq!(sees(&world, &[], devices), expected.concat());
}

#[test]
fn delete() {
    let world = new();
    assert_ne!(world.says(&["rm", "nobody"]).0, 0);
    stays(&world, "job", &[]);
    assert_ne!(world.says(&["rm", "job"]).0, 0, "it runs");
    assert_eq!(world.says(&["stop", "job"]).0, 0);
    assert_eq!(world.says(&["rm", "job"]).0, 0);
    assert_ne!(world.says(&["rm", "job"]).0, 0, "it is gone");
}

#[test]
fn delete_resources() {
    let world = new();
    stays(&world, "job", &["--pids-limit", "100"]);
    let groups = groups_of(&world, "job");
    assert!(!groups.is_empty() && groups.iter().all(|group| fs::exists(group).unwrap()));
    assert_eq!(world.says(&["rm", "-f", "job"]).0, 0);
    assert!(groups.iter().all(|group| !fs::exists(group).unwrap()), "{groups:?}");
    assert_eq!(fs::read_dir(world.path("store/containers")).unwrap().count(), 0);
}

#[test]
fn hostname() {
    let world = new();
    let script = "cat /proc/sys/kernel/hostname";
    let own = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    assert_eq!(sees(&world, &[], script), own);
    assert_eq!(sees(&world, &["-h", "hostname-specific"], script), "hostname-specific\n");
}

#[test]
fn kill() {
    let world = new();
    assert_ne!(world.says(&["kill", "nobody"]).0, 0);
    stays(&world, "job", &[]);
    assert_eq!(world.says(&["kill", "job"]).0, 0);
    assert_eq!(world.says(&["wait", "job"]).1, "137\n");
}

#[test]
fn kill_no_effect() {
    let world = new();
    stays(&world, "job", &[]);
    assert_eq!(world.says(&["stop", "job"]).0, 0);
    let before = inspected(&world, "job");
    assert_ne!(world.says(&["kill", "job"]).0, 0, "it has ended");
    assert_eq!(inspected(&world, "job"), before);
}

#[test]
fn killsig() {
    for (signal, code) in [("TERM", "7"), ("USR1", "8"), ("RTMIN+3", "9"), ("KILL", "137")] {
        let world = new();
        stays(&world, "job", &[]);
        assert_eq!(world.says(&["kill", "-s", signal, "job"]).0, 0);
        let (_, out, err) = world.says(&["wait", "job"]);
        assert_eq!(out.trim_end(), code, "{signal}: {err}");
    }
}

/// The value of a limit in the container's own cgroup, in v1's or v2's file.
#[track_caller]
fn limit(options: &[&str], files: [&str; 2]) -> String {
    let world = new();
    stays(&world, "job", options);
    let groups = groups_of(&world, "job").into_iter();
    let found = groups
        .flat_map(|group| files.map(|file| format!("{group}/{file}")))
        .find_map(|file| fs::read_to_string(file).ok());
    world.says(&["rm", "-f", "job"]);
    found.unwrap_or_else(|| panic!("no group of it has {files:?}")).trim().to_owned()
}

#[test]
fn linux_cgroups_memory() {
    for bytes in ["50593792", "151781376"] {
        let files = ["memory.limit_in_bytes", "memory.max"];
        assert_eq!(limit(&["--memory", bytes], files), bytes);
    }
}

#[test]
fn linux_cgroups_cpus() {
    for (given, quota) in [("0.5", "50000"), ("2", "200000")] {
        let value = limit(&["--cpus", given], ["cpu.cfs_quota_us", "cpu.max"]);
        assert_eq!(value.split(' ').next().unwrap(), quota);
    }
}

#[test]
fn linux_cgroups_pids() {
    assert_eq!(limit(&["--pids-limit", "1000"], ["pids.max", "pids.max"]), "1000");
}

#[test]
fn linux_devices() {
    let options = ["--device", "/dev/null:/dev/test1", "--device", "/dev/full:/dev/sub/test2"];
    let script = "stat -c '%F %t %T %u %g' /dev/test1 /dev/sub/test2; echo x > /dev/test1; echo x > /dev/sub/test2";
    let words = [&RUN[..], &options, &["oci:image", "sh", "-c", script]].concat();
    let (code, out, err) = new().says(&words);
    let expected = "character special file 1 3 0 0\ncharacter special file 1 7 0 0\n";
    assert_eq!(out, expected, "{err}");
    assert_ne!(code, 0, "{err}");
}

#[test]
fn linux_masked_paths() {
    let script = "for f in kcore keys latency_stats timer_list sched_debug interrupts; do
            if test -e /proc/$f; then test -z \"$(cat /proc/$f 2>/dev/null)\" || echo /proc/$f; fi; done
        for d in /proc/acpi /proc/scsi /proc/asound /sys/firmware /sys/devices/virtual/powercap; do
            if test -e $d; then test -z \"$(ls $d)\" || echo $d; fi; done";
    assert_eq!(sees(&new(), &[], script), "");
}

#[test]
fn linux_ns_nopath() {
    let script = "for n in cgroup ipc mnt pid uts net; do readlink /proc/self/ns/$n; done";
    let seen = sees(&new(), &["--network", "none"], script);
    for (line, kind) in seen.lines().zip(["cgroup", "ipc", "mnt", "pid", "uts", "net"]) {
        let own = fs::read_link(format!("/proc/self/ns/{kind}")).unwrap();
        assert!(line.starts_with(kind) && own.to_string_lossy() != line, "{line}");
    }
    assert_eq!(seen.lines().count(), 6);
}

/// What is not asked for is the caller's: the network, and processes with `--pid host`.
#[test]
fn linux_ns_itype() {
    let script = "for n in net user pid; do readlink /proc/self/ns/$n; done";
    let seen = sees(&new(), &["--pid", "host"], script);
    let own = ["net", "user", "pid"]
        .map(|kind| fs::read_link(format!("/proc/self/ns/{kind}")).unwrap().display().to_string());
    assert_eq!(seen.lines().collect::<Vec<_>>(), own);
}

#[test]
fn linux_readonly_paths() {
    let script = "for f in bus fs irq sys; do touch /proc/$f/x 2>/dev/null && echo /proc/$f; done
        for f in sys/kernel/core_pattern sysrq-trigger sys/vm/drop_caches; do
            (: > /proc/$f) 2>/dev/null && echo /proc/$f; done; exit 0";
    assert_eq!(sees(&new(), &[], script), "");
}

#[test]
fn linux_seccomp() {
    let world = new();
    let profile = r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
        {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 5}]}"#;
    fs::write(world.path("profile.json"), profile).unwrap();
    let script = "mkdir /new 2>&1 && echo made; exit 0";
    assert_eq!(sees(&world, &[], script), "made\n");
    let seen = sees(&world, &["--security-opt", "seccomp=profile.json"], script);
    assert!(seen.contains("Input/output error"), "{seen}");
}

#[test]
fn linux_uid_mappings() {
    let world = new();
    let user = MappedUser::new(&world.path(""));
    sconce_testkit::copy_program(env!("CARGO_BIN_EXE_sconce").as_ref(), &world.path("sconce"));
    fs::set_permissions(world.path(""), fs::Permissions::from_mode(0o755)).unwrap();
    fs::create_dir(world.path("store")).unwrap();
    fs::set_permissions(world.path("store"), fs::Permissions::from_mode(0o700)).unwrap();
    chown(world.path("store"), Some(MappedUser::ID), Some(MappedUser::ID)).unwrap();
    let mut command = user.command(&world.path("sconce"));
    command.current_dir(world.path("")).args(RUN).args(["oci:image", "sh", "-c"]);
    command.arg("while read a b c; do echo $a $b $c; done < /proc/self/uid_map");
    // Of root's home nobody could tell whether there is a policy in it.
    command.env("HOME", world.path("")).env_remove("XDG_CONFIG_HOME");
    command.env("SCONCE_HOME", world.path("store")).stdin(Stdio::null());
    let (_, out, err) = texts(&command.output().unwrap());
    let (id, first, count) = (MappedUser::ID, MappedUser::FIRST, MappedUser::COUNT);
    assert_eq!(out, format!("0 {id} 1\n1 {first} {count}\n"), "{err}");
}

#[test]
fn mounts() {
    let world = new();
    fs::create_dir(world.path("data")).unwrap();
    let options = [
        "--mount",
        "type=tmpfs,dst=/tmpfs,tmpfs-size=1m,tmpfs-mode=0750",
        "-v",
        "./data:/bind:ro",
        "-v",
        "./data:/bind2",
    ];
    let script = "while read a place kind options b; do case $place in /tmpfs|/bind*)
            echo $place $options;; esac; done < /proc/mounts
        stat -c %a /tmpfs; touch /bind2/x; touch /bind/y 2>/dev/null && echo writable; exit 0";
    let seen = sees(&world, &options, script);
    let options_of = |place: &str| -> Vec<&str> {
        let line = seen.lines().find(|line| line.split(' ').next() == Some(place)).unwrap();
        line.split_once(' ').unwrap().1.split(',').collect()
    };
    assert!(
        ["nosuid", "nodev", "noexec", "size=1024k"]
            .iter()
            .all(|o| options_of("/tmpfs").contains(o))
    );
    assert!(options_of("/bind").contains(&"ro") && options_of("/bind2").contains(&"rw"), "{seen}");
    assert!(seen.ends_with("\n750\n") && world.path("data/x").exists(), "{seen}");
}

#[test]
fn process() {
    let options = ["-w", "/test", "-e", "testa=valuea", "-e", "testb=123"];
    assert_eq!(sees(&new(), &options, "pwd; echo $testa $testb"), "/test\nvaluea 123\n");
}

const CAPABILITIES: &str =
    "while read key value; do case $key in Cap*) echo $key $value;; esac; done < /proc/self/status";

#[test]
fn process_capabilities() {
    let world = new();
    // linux/capability.h: CHOWN is 0, KILL 5.
    let options = ["--cap-drop", "ALL", "--cap-add", "CHOWN", "--cap-add", "KILL"];
    let set = "0000000000000021";
    let expected = format!(
        "CapInh: {0}\nCapPrm: {set}\nCapEff: {set}\nCapBnd: {set}\nCapAmb: {0}\n",
        "0".repeat(16)
    );
    assert_eq!(sees(&world, &options, CAPABILITIES), expected);
    // All that this kernel knows and the caller has.
    let all = sees(&world, &["--cap-add", "ALL"], CAPABILITIES);
    let own = fs::read_to_string("/proc/self/status").unwrap();
    let own = own.lines().find_map(|line| line.strip_prefix("CapBnd:")).unwrap().trim().to_owned();
    assert!(all.contains(&format!("CapBnd: {own}")), "{all}");
}

#[test]
fn process_capabilities_fail() {
    let words = [&RUN[..], &["--cap-add", "CAP_TEST", "oci:image", "true"]].concat();
    let (code, _, err) = new().says(&words);
    assert!(code == 125 && err.contains("CAP_TEST"), "{err}");
}

/// It is the caller's: `choom` sets it.
#[test]
fn process_oom_score_adj() {
    let world = new();
    let words = [&RUN[..], &["oci:image", "cat", "/proc/self/oom_score_adj"]].concat();
    let inner = world.sconce(&words);
    let mut command = Command::new("sh");
    command.args(["-c", "echo 100 > /proc/self/oom_score_adj; exec \"$@\"", "sh"]);
    command.arg(inner.get_program()).args(inner.get_args()).current_dir(world.path(""));
    command.env("SCONCE_HOME", world.path("store")).arg0("sh");
    let (code, out, err) = texts(&command.output().unwrap());
    assert_eq!((code, out.as_str()), (0, "100\n"), "{err}");
}

#[test]
fn process_rlimits() {
    const GIB: u64 = 1 << 30;
    // Docker has no name for the address space.
    let limits = [
        ("core", 3 * GIB, 4 * GIB, "Max core file size"),
        ("fsize", 7 * GIB, 8 * GIB, "Max file size"),
        ("cpu", 60, 120, "Max cpu time"),
        ("nofile", 3000, 4000, "Max open files"),
        ("stack", 9 * GIB, 10 * GIB, "Max stack size"),
        ("data", 5 * GIB, 6 * GIB, "Max data size"),
    ];
    let given: Vec<String> =
        limits.iter().map(|(n, soft, hard, _)| format!("--ulimit={n}={soft}:{hard}")).collect();
    let given: Vec<&str> = given.iter().map(String::as_str).collect();
    let seen = sees(&new(), &given, "cat /proc/self/limits");
    for (name, soft, hard, title) in limits {
        let line = seen.lines().find_map(|line| line.strip_prefix(title)).unwrap();
        let words: Vec<&str> = line.split_whitespace().take(2).collect();
        assert_eq!(words, [soft.to_string(), hard.to_string()], "{name}");
    }
}

#[test]
fn process_rlimits_fail() {
    let words = [&RUN[..], &["--ulimit", "test=1:2", "oci:image", "true"]].concat();
    let (code, _, err) = new().says(&words);
    assert!(code == 125 && err.contains("test"), "{err}");
}

#[test]
fn process_user() {
    let options = ["-u", "10:10", "--group-add", "5"];
    assert_eq!(sees(&new(), &options, "id -u; id -g; id -G; umask"), "10\n10\n10 5\n0022\n");
}

#[test]
fn root_readonly_true() {
    let script = "touch /x 2>/dev/null && exit 3; touch /etc/x 2>/dev/null && exit 4; exit 0";
    sees(&new(), &["--read-only"], script);
    sees(&new(), &[], "touch /x /etc/x");
}

#[test]
fn state() {
    let world = new();
    assert_ne!(world.says(&["inspect", "nobody"]).0, 0);
    stays(&world, "job", &[]);
    let running = inspected(&world, "job");
    assert_eq!(running["status"], "running");
    let pid = running["pid"].as_i64().unwrap();
    assert!(fs::metadata(format!("/proc/{pid}")).unwrap().uid() == 0, "{running}");
    assert!(world.says(&["ps"]).1.contains("job"));
    assert_eq!(world.says(&["stop", "job"]).0, 0);
    let ended = inspected(&world, "job");
    assert!(ended["status"] == "exited" && ended["pid"].is_null(), "{ended}");
}
