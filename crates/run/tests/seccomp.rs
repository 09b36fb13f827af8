//! Filters in a real kernel: the example `filtered` puts itself under one and makes calls.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Command, Output};

const EPERM: &str = "1";
const ENOSYS: &str = "38";
const CLONE_NEWUSER: i64 = 0x1000_0000;
const CLONE_FS: i64 = 0x200;
const AF_VSOCK: i64 = 40;
const AF_ALG: i64 = 38;

fn example() -> PathBuf {
    let path = std::env::current_exe()
        .expect("this program")
        .ancestors()
        .nth(2)
        .expect("target folder")
        .join("examples/filtered");
    assert!(path.is_file(), "build it first: cargo build -p sconce-run --example filtered");
    path
}

fn filtered(arguments: &[&str]) -> Output {
    Command::new(example()).args(arguments).output().expect("the example")
}

/// The answer to a call: `ok`, an errno, or the signal that it brought.
fn answer(options: &[&str], how: &str, call: &[i64]) -> String {
    let numbers: Vec<String> = call.iter().map(ToString::to_string).collect();
    let numbers = numbers.iter().map(String::as_str);
    let arguments: Vec<&str> = options.iter().copied().chain([how]).chain(numbers).collect();
    let output = filtered(&arguments);
    match output.status.signal() {
        Some(signal) => format!("signal {signal}"),
        None => {
            let words = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{arguments:?}: {words}");
            String::from_utf8_lossy(&output.stdout).trim().to_owned()
        }
    }
}

#[track_caller]
fn refused(call: &[i64], errno: &str) {
    let free = answer(&["--free"], "call", call);
    assert_ne!(free, errno, "without a filter: these tests need root's capabilities");
    assert_eq!(answer(&[], "call", call), errno, "{call:?}, which answers {free} without a filter");
}

#[track_caller]
fn allowed(call: &[i64]) {
    let free = answer(&["--free"], "call", call);
    assert_eq!(answer(&[], "call", call), free, "{call:?}");
}

#[test]
fn root_in_a_container_does_not_reach_what_docker_refuses() {
    refused(&[libc::SYS_unshare, CLONE_NEWUSER], EPERM);
    refused(&[libc::SYS_clone, CLONE_NEWUSER | CLONE_FS], EPERM);
    refused(&[libc::SYS_clone3], ENOSYS);
    refused(&[libc::SYS_setns, -1, 0], EPERM);
    refused(&[libc::SYS_mount], EPERM);
    refused(&[libc::SYS_fsopen], EPERM);
    refused(&[libc::SYS_keyctl, 0, -3, 0], EPERM);
    refused(&[libc::SYS_add_key], EPERM);
    refused(&[libc::SYS_request_key], EPERM);
    refused(&[libc::SYS_perf_event_open], EPERM);
    refused(&[libc::SYS_userfaultfd, -1], EPERM);
    refused(&[libc::SYS_bpf, -1], EPERM);
    refused(&[libc::SYS_io_uring_setup], EPERM);
    refused(&[libc::SYS_kexec_load, 0, 0, 0, -1], EPERM);
    refused(&[libc::SYS_personality, 0x004_0000], EPERM);
    refused(&[libc::SYS_socket, AF_VSOCK, 1, 0], EPERM);
    refused(&[libc::SYS_socket, AF_ALG, 5, 0], EPERM);
}

#[test]
fn the_upper_half_of_a_register_hides_no_socket() {
    for upper in [1, 1 << 10, -1] {
        refused(&[libc::SYS_socket, upper << 32 | AF_VSOCK, 1, 0], EPERM);
        refused(&[libc::SYS_socket, upper << 32 | AF_ALG, 5, 0], EPERM);
        allowed(&[libc::SYS_socket, upper << 32 | i64::from(libc::AF_INET), 1, 0]);
    }
}

#[test]
fn ordinary_things_go_on() {
    for family in [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK] {
        allowed(&[libc::SYS_socket, family.into(), libc::SOCK_DGRAM.into(), 0]);
    }
    allowed(&[libc::SYS_personality, 0xffff_ffff]);
    allowed(&[libc::SYS_memfd_create, 0, 0]);
    allowed(&[libc::SYS_openat2]);
    allowed(&[600]);
    assert_eq!(filtered(&["threads"]).stdout, b"6\n");
    assert!(filtered(&["exec", "/bin/true"]).status.success());
    let script = "/bin/true & wait; for i in 1 2 3; do echo $i; done | cat | tail -n 1";
    let output = filtered(&["exec", "sh", "-c", script]);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "3\n");
    // What a command starts is under the filter too.
    let output = filtered(&["exec", "unshare", "--user", "/bin/true"]);
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(words.contains("Operation not permitted"), "{words}");
}

#[test]
fn a_capability_opens_its_calls() {
    let user_namespace = &[libc::SYS_unshare, CLONE_NEWUSER];
    assert_eq!(answer(&[], "call", user_namespace), EPERM);
    assert_eq!(answer(&["--cap", "CAP_SYS_ADMIN"], "call", user_namespace), "ok");
}

/// The same calls by the numbers of i386 (asm/unistd_32.h) and of x32.
#[cfg(target_arch = "x86_64")]
#[test]
fn another_abi_is_no_way_around() {
    const X32: i64 = 0x4000_0000;
    assert_eq!(answer(&[], "call", &[X32 | libc::SYS_unshare, CLONE_NEWUSER]), EPERM);
    assert_eq!(answer(&[], "call", &[X32 | libc::SYS_keyctl, 0, -3, 0]), EPERM);
    let (getpid, unshare, keyctl, clone3, socket) = (20, 310, 288, 435, 359);
    if answer(&["--free"], "call32", &[getpid]).starts_with("signal") {
        // The kernel runs no i386 programs: there is nothing behind the filter.
        assert!(answer(&[], "call32", &[unshare, CLONE_NEWUSER]).starts_with("signal"));
        return;
    }
    assert_eq!(answer(&[], "call32", &[getpid]), "ok");
    assert_eq!(answer(&["--free"], "call32", &[unshare, CLONE_NEWUSER]), "ok");
    assert_eq!(answer(&[], "call32", &[unshare, CLONE_NEWUSER]), EPERM);
    assert_eq!(answer(&[], "call32", &[keyctl, 0, -3, 0]), EPERM);
    assert_eq!(answer(&[], "call32", &[clone3]), ENOSYS);
    assert_eq!(answer(&[], "call32", &[socket, AF_VSOCK, 1, 0]), EPERM);
    assert_eq!(answer(&[], "call32", &[socket, libc::AF_INET.into(), 1, 0]), "ok");
}

#[test]
fn a_file_says_what_else_happens() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("profile.json");
    let profile = r#"{ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
        { "names": ["getppid"], "action": "SCMP_ACT_KILL_PROCESS" },
        { "names": ["getpgid"], "action": "SCMP_ACT_ERRNO", "errnoRet": 71,
          "args": [{ "index": 0, "value": 4294967297, "op": "SCMP_CMP_GE" }] } ] }"#;
    fs::write(&file, profile).expect("a profile");
    let options = ["--profile", file.to_str().expect("a path")];
    assert_eq!(answer(&options, "call", &[libc::SYS_getppid]), format!("signal {}", libc::SIGSYS));
    assert_eq!(answer(&options, "call", &[libc::SYS_getpgid, 0]), "ok");
    assert_eq!(answer(&options, "call", &[libc::SYS_getpgid, 1 << 32]), "ok");
    assert_eq!(answer(&options, "call", &[libc::SYS_getpgid, (1 << 32) + 1]), "71");
    assert_eq!(answer(&options, "call", &[libc::SYS_getpgid, 2 << 32]), "71");
}

#[test]
fn a_user_without_no_new_privs_gets_no_filter() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("readable");
    let program = folder.path().join("filtered");
    sconce_testkit::copy_program(&example(), &program);
    let run = |options: &[&str]| {
        let mut command = Command::new(&program);
        command.args(options).args(["call", &libc::SYS_getpid.to_string()]);
        command.uid(65534).gid(65534).output().expect("the example")
    };
    let output = run(&["--privileges"]);
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("Permission denied"));
    assert_eq!(run(&[]).stdout, b"ok\n");
    // Root needs no no_new_privs: setuid programs in a container stay what they are.
    assert_eq!(filtered(&["--privileges", "call", &libc::SYS_getpid.to_string()]).stdout, b"ok\n");
}
