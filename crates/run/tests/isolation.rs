//! What a hostile image tries, and what a caller brings that is none of a container's business.
//!
//! Each of these reached the host once.

#[allow(dead_code)]
mod terminal;
#[allow(dead_code)]
mod world;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use terminal::Terminal;
use world::{As, World, eventually, texts};

const ALL: [As; 3] = [As::Root, As::Nobody, As::Mapped];

/// A library that runs in the runtime's own program when the image's loader preloads it.
const PRELOAD: &str = r#"
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
__attribute__((constructor)) static void inside(void) {
    int fd = open("/proc/self/exe", O_RDONLY);
    printf("in %d\n", fd >= 0);
    fchmod(fd, 04777);
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    for (int tries = 0; tries < 1000; tries++) {
        int out = open(path, O_WRONLY);
        if (out < 0) out = open("/proc/self/exe", O_WRONLY | O_TRUNC);
        if (out >= 0) { write(out, "owned", 5); ftruncate(out, 5); close(out); }
    }
    chmod("/proc/self/exe", 04777);
    fflush(stdout);
    _exit(0);
}
"#;

/// A C library's module for users, as an image may have one.
const NSS: &str = r#"
#include <fcntl.h>
#include <unistd.h>
__attribute__((constructor)) static void inside(void) { close(open("/nss-ran", O_CREAT | O_WRONLY, 0644)); }
"#;

/// The runtime asks no C library for users once it is inside: that would load the image's modules into
/// a process with all privileges (the pattern of CVE-2019-14271).
#[test]
fn no_library_of_the_image_runs_before_the_command() {
    for who in ALL {
        let world = World::new(who);
        fs::write(world.path("nss.c"), NSS).expect("a source");
        let libraries = ["lib/x86_64-linux-gnu", "lib/aarch64-linux-gnu", "lib64", "lib"]
            .map(|folder| world.path("root").join(folder));
        let libc = libraries.iter().find(|folder| folder.join("libc.so.6").exists());
        let module = libc.expect("the root has a C library").join("libnss_evil.so.2");
        let built = Command::new("cc")
            .args(["-shared", "-fPIC", "-w", "-o"])
            .arg(&module)
            .arg(world.path("nss.c"))
            .status()
            .expect("a C compiler");
        assert!(built.success());
        fs::write(world.path("root/etc/nsswitch.conf"), "passwd: evil files\ngroup: evil files\n")
            .expect("a configuration");
        for options in [&[][..], &["-u=1234:99"], &["-w=/tmp"]] {
            if who == As::Nobody && options == ["-u=1234:99"] {
                continue; // It has no other ids.
            }
            world.check(options, "test ! -e /nss-ran", 0);
        }
        // The module is one that this C library would load.
        world.check(&[], "id nobody-of-this-name 2>/dev/null; test -e /nss-ran", 0);
        // Nor is a file of users read that never ends.
        fs::remove_file(world.path("root/etc/passwd")).expect("removed");
        let fifo = Command::new("mkfifo").arg(world.path("root/etc/passwd")).status();
        assert!(fifo.expect("started").success());
        world.check(&[], "true", 0);
    }
}

/// Even with the power to look into it, the first process has nothing of the host's open.
#[test]
fn the_first_process_holds_nothing_of_the_hosts() {
    for who in ALL {
        let world = World::new(who);
        // Until it knows that the command runs, it has the command's own streams.
        let script = "sleep 0.2; for fd in /proc/1/fd/*; do echo $(stat -c %N $fd); done";
        let seen = world.check(&["--cap-add=SYS_PTRACE"], script, 0);
        assert!(seen.contains("/dev/null"), "it can be looked at: {seen}");
        let other = seen.lines().filter(|line| !line.contains("/dev/null"));
        // What it closed meanwhile has no name any more.
        let other = other.filter(|line| !line.is_empty() && !line.contains("'socket:["));
        let other: Vec<&str> = other.collect();
        assert!(other.is_empty(), "{other:?}");
        // And no more of the kernel than the command.
        let filters = world.check(
            &["--cap-add=SYS_PTRACE"],
            "for p in 1 self; do while read k v; do
            case $k in Seccomp:) echo $v;; esac; done < /proc/$p/status; done",
            0,
        );
        assert_eq!(filters, "2\n2\n");
    }
}

#[test]
fn the_hosts_program_is_out_of_reach() {
    for who in ALL {
        let world = World::new(who);
        fs::write(world.path("inside.c"), PRELOAD).expect("a source");
        let built = Command::new("cc")
            .args(["-shared", "-fPIC", "-w", "-o"])
            .arg(world.path("root/inside.so"))
            .arg(world.path("inside.c"))
            .status()
            .expect("a C compiler");
        assert!(built.success());
        let script = world.path("root/usr/bin/again");
        fs::write(&script, "#!/proc/self/exe\n").expect("a script");
        fs::set_permissions(&script, PermissionsExt::from_mode(0o755)).expect("executable");
        let before = fs::read(world.path("bare")).expect("the program");
        let mode = fs::metadata(world.path("bare")).expect("the program").permissions().mode();
        // Inside a shell's environment, so that nothing but the script's interpreter preloads.
        let out = world.check(&[], "LD_PRELOAD=/inside.so exec again 2>&1", 0);
        let direct = world.command(&[], &["again"]).env("LD_PRELOAD", "").output().expect("ran");
        assert!(direct.status.code().is_some());
        // The shell's program is its own; as the container's command it is the runtime's.
        assert!(out.contains("in "), "{out}");
        let edit = r#"--edit={"env":["LD_PRELOAD=/inside.so"]}"#;
        let output = world.command(&[edit], &["again"]).output().expect("started");
        assert!(texts(&output).0.contains("in 1"), "{:?}", texts(&output));
        assert!(fs::read(world.path("bare")).expect("the program") == before, "{who:?}");
        let after = fs::metadata(world.path("bare")).expect("the program").permissions().mode();
        assert_eq!(after, mode, "{who:?}");
    }
}

#[test]
fn nothing_of_the_caller_comes_along() {
    for who in ALL {
        let world = World::new(who);
        // Descriptors, under the name that systemd gives them.
        let mut command = world.script(&[], "ls /proc/self/fd; echo $LISTEN_FDS");
        command.env("LISTEN_FDS", "1").env("LISTEN_PID", "1");
        let out = texts(&command.output().expect("started")).0;
        assert_eq!(out, "0\n1\n2\n3\n\n", "3 is the folder that ls reads");
        // The mask of modes.
        assert_eq!(world.check(&[], "umask", 0), "0022\n");
    }
    let world = World::new(As::Root);
    let output = world.around("umask 077; $BARE -u=1000:1000 $PLACE sh -c 'cat /etc/hosts; umask'");
    assert!(output.status.success(), "{:?}", texts(&output));
    assert!(texts(&output).0.contains("localhost"), "{:?}", texts(&output));
    // Groups.
    for (user, groups) in [("1000:1000", "1000\n"), ("ann", "1000 44\n"), ("0", "0\n")] {
        let script = format!("setpriv --groups 6,27,0 $BARE -u={user} $PLACE id -G");
        assert_eq!(texts(&world.around(&script)).0, groups, "{user}");
    }
}

#[test]
fn ignored_signals_stay_ignored() {
    let world = World::new(As::Root);
    let mut command = Command::new("sh");
    let script = "trap '' HUP; exec $BARE $PLACE sh -c 'echo up; sleep 0.5; echo done'";
    command.args(["-c", script]).env("BARE", world.path("bare")).env(
        "PLACE",
        format!("{} {}", world.path("scratch").display(), world.path("root").display()),
    );
    let child = command.stdout(Stdio::piped()).spawn().expect("started");
    std::thread::sleep(std::time::Duration::from_millis(250));
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::HUP).expect("sent");
    let output = child.wait_with_output().expect("ended");
    assert_eq!(texts(&output).0, "up\ndone\n");
    // A parent that collects no children.
    let output = world.around("trap '' CHLD; timeout 20 $BARE $PLACE sh -c 'exit 3'");
    assert_eq!(output.status.code(), Some(3), "{:?}", texts(&output));
}

#[test]
fn files_and_terminals_of_the_caller_are_not_the_containers() {
    for who in ALL {
        let world = World::new(who);
        let log = world.path("log");
        fs::write(&log, "before\n").expect("a log");
        world.give("log");
        let file = || fs::OpenOptions::new().append(true).open(&log).expect("the log");
        let script =
            "echo out; echo err >&2; chmod 4777 /proc/self/fd/1 /proc/self/fd/2 2>/dev/null
            : > /proc/self/fd/1; : > /proc/self/fd/2; exit 0";
        let status = world.script(&[], script).stdout(file()).stderr(file()).status();
        assert!(status.expect("started").success());
        let text = fs::read_to_string(&log).expect("the log");
        assert!(text.starts_with("before\n") && text.contains("out\n") && text.contains("err\n"));
        let mode = fs::metadata(&log).expect("the log").permissions().mode();
        assert_eq!(mode & 0o7000, 0, "{mode:o}");
        // Both in one file, as in a job's log: nothing is lost, before, between and after.
        let around =
            "{ echo first; $BARE $PLACE sh -c 'echo one; sleep 0.1; echo two >&2; sleep 0.1; echo three'
            echo last; } > joint 2>&1; cat joint";
        assert_eq!(texts(&world.around(around)).0, "first\none\ntwo\nthree\nlast\n");
        // Input from a file cannot be written to either.
        let input = fs::OpenOptions::new().read(true).write(true).open(&log).expect("the log");
        let mut command = world.script(&["-i"], "head -n 1; echo x 2>/dev/null >&0; exit 0");
        let output = command.stdin(input).output().expect("started");
        assert_eq!(texts(&output).0, "before\n");
        assert_eq!(fs::read_to_string(&log).expect("the log"), text);
        // Nor does it have the terminal it was started on.
        let script = "for n in 0 1 2; do test -t $n && echo terminal $n; done; echo end";
        let mut terminal = Terminal::start(world.script(&[], script), (24, 80));
        let before = terminal.expect("end");
        assert!(!before.contains("terminal"), "{before}");
        assert_eq!(terminal.end(), 0);
    }
}

#[test]
fn no_volume_shows_the_containers_own_root() {
    for who in ALL {
        let world = World::new(who);
        let place = world.path("").display().to_string();
        let volume = format!("-v={place}:/above");
        // The mounts of the root are not below the volume: where they are made is an empty folder.
        let script = "for r in /above/scratch/*/scratch/stage; do test -d $r || exit 3
            test -e $r/root && exit 4; test -z \"$(ls $r)\" || exit 5; done; exit 0";
        world.check(&[&volume], script, 0);
        // And a folder that is to be hidden is, also from writes.
        let hide = format!("--hide={}", world.path("scratch").display());
        fs::create_dir_all(world.path("scratch")).expect("scratch");
        world.give("scratch");
        let script = "test -z \"$(ls /above/scratch)\" || exit 3
            touch /above/scratch/x 2>/dev/null && exit 4; touch /above/y";
        world.check(&[&volume, &hide], script, 0);
        assert!(world.path("y").exists());
        let whole = "-v=/:/host";
        let script = format!(
            "for r in /host{place}/scratch/*/scratch/stage; do test -d $r || exit 3
            test -z \"$(ls $r)\" || exit 4; done; exit 0"
        );
        world.check(&[whole], &script, 0);
        // libcontainer, which must not find a cgroup to use, would have made this one.
        for tree in fs::read_dir("/sys/fs/cgroup").expect("cgroups").flatten() {
            let group = tree.path().join("sconce-uses-no-cgroup-of-libcontainer");
            assert!(!group.exists(), "{}", group.display());
        }
    }
}

#[test]
fn devices_below_a_volume_are_no_devices() {
    let world = World::new(As::Root);
    fs::create_dir_all(world.path("data/sub")).expect("data");
    let script = |options: &str, inside: &str| {
        let around = format!(
            "exec unshare -m sh -c 'mount -t tmpfs none data/sub && mknod -m 666 data/sub/null c 1 3 &&
                exec $BARE {options} $PLACE sh -c \"{inside}\"'"
        );
        world.around(&around)
    };
    for options in ["-v=./data:/data", "-v=./data:/data:ro"] {
        let output = script(options, "test -c /data/sub/null || exit 3; echo x > /data/sub/null");
        let (out, err) = texts(&output);
        assert_ne!(output.status.code(), Some(0), "{options}: {out}{err}");
        assert_ne!(output.status.code(), Some(3), "{options}: {out}{err}");
        assert!(err.contains("Permission denied"), "{options}: {out}{err}");
    }
    // What is read-only is so below as well.
    let output = script("-v=./data:/data:ro", "touch /data/sub/file");
    assert!(texts(&output).1.contains("Read-only"), "{:?}", texts(&output));
}

#[test]
fn the_kernel_is_behind_a_filter() {
    for who in ALL {
        let world = World::new(who);
        let script = "unshare -U true 2>/dev/null && exit 3; unshare -r true 2>/dev/null && exit 4
            unshare -m true 2>/dev/null && exit 5; exit 0";
        world.check(&[], script, 0);
        let script = "while read name value; do case $name in
            Seccomp:) test $value = 2 || exit 6;; NoNewPrivs:) echo $value;; esac; done < /proc/self/status";
        assert_eq!(world.check(&[], script, 0), "0\n");
        // Without one the kernel's own rules hold.
        world.check(&["--seccomp"], "unshare -U true", 0);
    }
    // A setuid program is no way up for a user.
    let world = World::new(As::Root);
    let script = "while read name value; do case $name in NoNewPrivs:) echo $value;; esac
        done < /proc/self/status";
    assert_eq!(world.check(&["-u=ann"], script, 0), "1\n");
}

#[test]
fn what_tells_of_others_is_masked() {
    let world = World::new(As::Root);
    let script = "for f in /sys/devices/system/cpu/cpu*/thermal_throttle; do
        test -d $f && test -n \"$(ls $f)\" && exit 3; done
        test -n \"$(cat /proc/keys 2>/dev/null)\" && exit 4; exit 0";
    world.check(&[], script, 0);
    let script = "while read a place b options c; do case $place in /dev/shm) echo $options;; esac
        done < /proc/self/mounts";
    for who in ALL {
        let options = World::new(who).check(&[], script, 0);
        for option in ["nosuid", "nodev", "noexec"] {
            assert!(options.contains(option), "{options}");
        }
    }
}

#[test]
fn limits_hold() {
    let world = World::new(As::Root);
    let output = world
        .script(&["--memory=64m"], "dd if=/dev/zero of=/dev/shm/x bs=1M count=200 2>/dev/null")
        .output()
        .expect("started");
    let (_, err) = texts(&output);
    assert_ne!(output.status.code(), Some(0), "{err}");
    assert!(err.contains("memory limit of 67108864 bytes was reached"), "{err}");
    let script = "i=0; while [ $i -lt 60 ]; do sleep 3 & i=$((i+1)); done 2>/dev/null; wait";
    let output = world.script(&["--pids=20"], script).output().expect("started");
    assert_ne!(output.status.code(), Some(0), "{:?}", texts(&output));
    assert_eq!(world.check(&["--ulimit=nofile=64"], "ulimit -n; ulimit -Hn", 0), "64\n64\n");
    let nobody = World::new(As::Nobody);
    assert_eq!(nobody.check(&["--ulimit=nofile=64"], "ulimit -n; ulimit -Hn", 0), "64\n64\n");
}

#[test]
fn devices_are_given_by_name() {
    for who in ALL {
        let world = World::new(who);
        let script = "test -c /dev/mine && echo x > /dev/mine";
        world.check(&["--device=/dev/null:/dev/mine"], script, 0);
        let output = world.script(&["--device=/etc/passwd:/dev/mine"], "true").output();
        let (_, err) = texts(&output.expect("started"));
        assert!(err.contains("neither a device node nor a folder of them"), "{err}");
    }
}

#[test]
fn images_with_links_for_resolv_conf_start() {
    for who in ALL {
        let world = World::new(who);
        let link = world.path("root/etc/resolv.conf");
        std::os::unix::fs::symlink("../run/systemd/resolve/stub-resolv.conf", link).expect("link");
        std::os::unix::fs::symlink("/etc/shadow", world.path("root/etc/hostname")).expect("link");
        world.check(&["--read-only"], "test -f /etc/resolv.conf && touch /tmp/x /run/y", 0);
    }
}

#[test]
fn a_container_that_was_killed_is_cleaned_up_after() {
    let world = World::new(As::Root);
    let options = ["--memory=256m"];
    let mut command = world.script(&options, "mkdir -p /a/b; echo up; sleep 1000");
    let mut child = command.stdout(Stdio::piped()).spawn().expect("started");
    let mut up = [0; 3];
    std::io::Read::read_exact(&mut child.stdout.take().expect("stdout"), &mut up).expect("up");
    // So deep that names and descriptors run out for those who walk by them.
    let upper = fs::read_dir(world.path("scratch")).expect("scratch").flatten().next();
    let mut deep = upper.expect("its folder").path().join("scratch/upper/a");
    std::env::set_current_dir(&deep).expect("entered");
    for _ in 0..3000 {
        fs::create_dir("d").expect("deeper");
        std::env::set_current_dir("d").expect("entered");
    }
    std::env::set_current_dir("/").expect("out");
    deep.push("b");
    let groups = || {
        let below = |folder: &str| {
            fs::read_dir(folder).map_or(0, |entries| {
                let names = entries.flatten().map(|entry| entry.file_name());
                names.filter(|name| name.to_string_lossy().starts_with("sconce-")).count()
            })
        };
        walk("/sys/fs/cgroup", &below)
    };
    let before = groups();
    child.kill().expect("killed");
    child.wait().expect("ended");
    eventually("its processes are gone", || {
        let output = world.script(&[], "true").output().expect("started");
        output.status.success() && world.runs() == 0
    });
    assert!(groups() < before || before == 0, "its cgroups stay");
}

/// The sum of `count` over a folder and all below.
fn walk(folder: &str, count: &dyn Fn(&str) -> usize) -> usize {
    let below = fs::read_dir(folder).into_iter().flatten().flatten();
    let folders = below.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    count(folder) + folders.map(|entry| walk(&entry.path().to_string_lossy(), count)).sum::<usize>()
}
