//! `sconce oci`, started as podman and Slurm start a runtime: bundles made here, of this machine's shell and tools.
//!
//! Run by root, as those of `validation.rs` are.

#[allow(dead_code)]
mod world;

use std::fs;
use std::io::{IoSliceMut, Read};
use std::mem::MaybeUninit;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};
use serde_json::{Value, json};
use world::{World, texts};

const ID: &str = "job";

/// A bundle and a folder of containers.
struct Bundle {
    world: World,
    config: Value,
}

impl Bundle {
    /// One whose command is this script.
    fn new(script: &str) -> Self {
        Self::of(World::new(), script)
    }

    /// One in a folder of its caller's.
    fn of(world: World, script: &str) -> Self {
        world.image("{}");
        // Where a user namespace's root may not make them.
        for folder in ["proc", "dev", "sys"] {
            fs::create_dir(world.path("root").join(folder)).unwrap();
        }
        let mount = |destination: &str, kind: &str, options: &[&str]| json!({ "destination": destination, "type": kind, "source": kind, "options": options });
        let namespaces =
            ["pid", "ipc", "uts", "mount", "network"].map(|kind| json!({ "type": kind }));
        let config = json!({
            "ociVersion": "1.0.2",
            "root": { "path": "root" },
            "hostname": "bundle",
            "process": {
                "user": { "uid": 0, "gid": 0 },
                "args": ["sh", "-c", script],
                "env": ["PATH=/usr/bin"],
                "cwd": "/",
                "capabilities": {},
            },
            "mounts": [
                mount("/proc", "proc", &["nosuid", "noexec", "nodev"]),
                mount("/dev", "tmpfs", &["nosuid", "mode=755", "size=64k"]),
                mount("/dev/pts", "devpts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]),
            ],
            "annotations": { "org.example.job": "7" },
            "linux": {
                "cgroupsPath": format!("/sconce-test/{}-{:?}", std::process::id(), std::thread::current().id()),
                "namespaces": namespaces,
            },
        });
        Self { world, config }
    }

    fn write(&self) {
        fs::write(self.world.path("config.json"), self.config.to_string()).unwrap();
    }

    fn root(&self) -> String {
        self.world.path("containers").to_string_lossy().into_owned()
    }

    fn command(&self, words: &[&str]) -> Command {
        let root = self.root();
        self.world.sconce(&[&["oci", "--root", &root], words].concat())
    }

    /// What it answers: exit code, standard output, standard error.
    fn says(&self, words: &[&str]) -> (i32, String, String) {
        texts(&self.command(words).output().unwrap())
    }

    #[track_caller]
    fn does(&self, words: &[&str]) -> String {
        let (code, out, err) = self.says(words);
        assert_eq!(code, 0, "{words:?}: {out}{err}");
        out
    }

    /// `create`, whose process has its output in a file.
    #[track_caller]
    fn create(&self) {
        self.write();
        let output = fs::File::create(self.world.path("out")).unwrap();
        let errors = fs::File::create(self.world.path("err")).unwrap();
        let mut command = self.command(&["create", "--pid-file", "pid", ID]);
        let status = command.stdout(output).stderr(errors).status().unwrap();
        assert!(status.success(), "{}", fs::read_to_string(self.world.path("err")).unwrap());
    }

    #[track_caller]
    fn fails_to_create(&self) -> String {
        let (code, out, err) = self.says(&["create", ID]);
        assert!(matches!(code, 1 | 126 | 127) && out.is_empty(), "{code} {out}{err}");
        assert!(self.left().is_empty(), "{:?}", self.left());
        err
    }

    /// What is in the folder of containers.
    fn left(&self) -> Vec<String> {
        let entries = fs::read_dir(self.root()).into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    }

    fn output(&self) -> String {
        fs::read_to_string(self.world.path("out")).unwrap()
    }

    #[track_caller]
    fn state(&self) -> Value {
        serde_json::from_str(&self.does(&["state", ID])).unwrap()
    }

    #[track_caller]
    fn becomes(&self, status: &str) {
        until(|| self.state()["status"] == status, &format!("it is never {status}"));
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        for id in self.left() {
            let _ = self.says(&["delete", "--force", &id]);
        }
    }
}

#[track_caller]
fn until(mut done: impl FnMut() -> bool, why: &str) {
    let last = Instant::now() + Duration::from_secs(20);
    while !done() {
        assert!(Instant::now() < last, "{why}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// From `create` to `delete`, with what `state` says on the way.
#[test]
fn a_life() {
    let bundle = Bundle::new("echo began; until test -e /go; do sleep 0.02; done; exit 3");
    bundle.create();
    let state = bundle.state();
    let pid = fs::read_to_string(bundle.world.path("pid")).unwrap();
    assert_eq!(state["ociVersion"].as_str().unwrap().split('.').next(), Some("1"));
    assert_eq!((&state["id"], &state["status"]), (&json!(ID), &json!("created")));
    assert_eq!(state["pid"].to_string(), pid, "no more and no less than the number");
    assert_eq!(state["annotations"]["org.example.job"], "7");
    assert_eq!(
        Path::new(state["bundle"].as_str().unwrap()),
        fs::canonicalize(bundle.world.path("")).unwrap()
    );
    assert_eq!(bundle.output(), "", "the command waits for start");
    // What is changed in the bundle now is for the next container.
    fs::write(bundle.world.path("config.json"), "{").unwrap();
    bundle.does(&["start", ID]);
    bundle.becomes("running");
    until(|| bundle.output() == "began\n", "it does not begin");
    assert_ne!(bundle.says(&["start", ID]).0, 0, "it was started");
    let (code, _, err) = bundle.says(&["delete", ID]);
    assert!(code == 1 && err.contains("running") && err.contains("--force"), "{err}");
    fs::write(bundle.world.path("root/go"), "").unwrap();
    bundle.becomes("stopped");
    assert_eq!(bundle.state()["pid"], 0);
    assert_ne!(bundle.says(&["kill", ID]).0, 0, "it has stopped");
    bundle.does(&["delete", ID]);
    assert!(bundle.left().is_empty());
    let (code, _, err) = bundle.says(&["state", ID]);
    assert!(code == 1 && err.contains("does not exist"), "{err}");
}

#[test]
fn run_passes_on_the_exit_code_and_leaves_nothing() {
    for (script, code) in [("exit 7", 7), ("kill -TERM $$", 143), ("echo out; echo err >&2", 0)] {
        let mut bundle = Bundle::new(script);
        // A first process has no default actions: not this one.
        if code == 143 {
            bundle.config["linux"]["namespaces"] = json!([{ "type": "mount" }]);
            bundle.config.as_object_mut().unwrap().remove("hostname");
        }
        bundle.write();
        let (ended, out, err) = bundle.says(&["run", ID]);
        assert_eq!(ended, code, "{script}: {out}{err}");
        if code == 0 {
            assert_eq!((out.as_str(), err.as_str()), ("out\n", "err\n"));
        }
        assert!(bundle.left().is_empty());
    }
}

#[test]
fn signals() {
    let bundle = Bundle::new("trap 'exit 5' USR1; echo ready; while :; do sleep 0.02; done");
    bundle.create();
    bundle.does(&["start", ID]);
    until(|| bundle.output() == "ready\n", "it does not begin");
    assert_ne!(bundle.says(&["kill", ID, "NOSUCH"]).0, 0);
    bundle.does(&["kill", ID, "10"]);
    bundle.becomes("stopped");
    bundle.does(&["delete", ID]);
    // A container that waits for its start can be ended, and removed.
    bundle.create();
    bundle.does(&["kill", ID, "KILL"]);
    bundle.becomes("stopped");
    bundle.does(&["delete", ID]);
    bundle.create();
    bundle.does(&["delete", ID]);
    bundle.create();
    bundle.does(&["start", ID]);
    bundle.does(&["delete", "--force", ID]);
    bundle.does(&["delete", "--force", ID]);
    assert_ne!(bundle.says(&["delete", ID]).0, 0, "there is none");
}

#[test]
fn one_id_is_one_container() {
    let bundle = Bundle::new("sleep 100");
    bundle.create();
    let before = bundle.state();
    let (code, _, err) = bundle.says(&["create", ID]);
    assert!(code == 1 && err.contains("exists already"), "{err}");
    assert_eq!(bundle.state(), before, "the first is as it was");
    let list: Value = serde_json::from_str(&bundle.does(&["list", "--format", "json"])).unwrap();
    assert_eq!(list, json!([before]));
    assert_eq!(bundle.does(&["list", "-q"]), format!("{ID}\n"));
}

/// An id that could lead elsewhere is refused before anything is made.
#[test]
fn an_id_is_no_path() {
    let bundle = Bundle::new("true");
    bundle.write();
    for id in ["../x", "..", "a/b", ".x", "", "a b"] {
        for command in [&["create"][..], &["run"], &["start"], &["state"], &["delete", "--force"]] {
            let (code, _, err) = bundle.says(&[command, &["--", id]].concat());
            assert!(code == 1 && err.contains("is no container id"), "{command:?} {id:?}: {err}");
        }
    }
    assert!(bundle.left().is_empty() && !bundle.world.path("x").exists());
}

#[test]
fn configurations_that_are_none() {
    let mut bundle = Bundle::new("true");
    let err = bundle.fails_to_create();
    assert!(err.contains("config.json"), "{err}");
    let whole = bundle.config.to_string();
    fs::write(bundle.world.path("config.json"), &whole[..whole.len() / 2]).unwrap();
    assert!(bundle.fails_to_create().contains("EOF while parsing"));
    let mut wrong = |path: &str, value: Value, said: &str| {
        let kept = bundle.config.clone();
        *bundle.config.pointer_mut(path).unwrap() = value;
        bundle.write();
        let err = bundle.fails_to_create();
        assert!(err.contains(said), "{path}: {err}");
        bundle.config = kept;
    };
    wrong("/ociVersion", json!("2.0.0"), "ociVersion is '2.0.0'");
    wrong("/ociVersion", json!(null), "ociVersion");
    wrong("/root", json!(null), "it has no `root`");
    wrong("/root/path", json!("nowhere"), "nowhere: No such file or directory");
    wrong("/process", json!(null), "it has no `process`");
    wrong("/process/args", json!([]), "process.args names no command");
    wrong("/process/cwd", json!("here"), "process.cwd 'here' is not absolute");
    wrong(
        "/process/args",
        json!(["nosuch"]),
        "exec: \"nosuch\": executable file not found in $PATH",
    );
    wrong("/process/args", json!(["/nosuch"]), "exec: \"/nosuch\": no such file or directory");
    wrong("/process/args", json!(["/etc/passwd"]), "exec: \"/etc/passwd\": permission denied");
    wrong("/linux/cgroupsPath", json!("/"), "linux.cgroupsPath");
    wrong("/linux/cgroupsPath", json!("/a/../.."), "linux.cgroupsPath");
    wrong("/mounts/0/type", json!("nosuchfs"), "nosuchfs");
    wrong("/linux", json!({ "seccomp": { "defaultAction": "SCMP_ACT_NOPE" } }), "SCMP_ACT_NOPE");
    fs::remove_file(bundle.world.path("config.json")).unwrap();
    let fifo = Command::new("mkfifo").arg(bundle.world.path("config.json")).status().unwrap();
    assert!(fifo.success());
    bundle.fails_to_create();
}

/// podman shows the last line of this file as the cause.
#[test]
fn errors_are_lines_of_the_log() {
    let mut bundle = Bundle::new("true");
    bundle.config["process"]["args"] = json!(["nosuch"]);
    bundle.write();
    let root = bundle.root();
    let log = |format: &str| {
        let words = ["oci", "--root", &root, "--log", "log", "--log-format", format, "create", ID];
        assert_eq!(texts(&bundle.world.sconce(&words).output().unwrap()).0, 127);
        let text = fs::read_to_string(bundle.world.path("log")).unwrap();
        fs::remove_file(bundle.world.path("log")).unwrap();
        text
    };
    let line: Value = serde_json::from_str(&log("json")).unwrap();
    assert_eq!(line["level"], "error");
    assert_eq!(line["msg"], "exec: \"nosuch\": executable file not found in $PATH");
    assert!(line["time"].is_string());
    let text = log("text");
    assert!(text.starts_with("time=\"") && text.contains("level=error msg=\"exec: "), "{text}");
}

/// Which hooks run when, and where (runtime.md, "Lifecycle").
#[test]
fn hooks() {
    let mut bundle = Bundle::new("echo command >> /order");
    let order = bundle.world.path("root/order");
    let outside = |name: &str| {
        let script = format!(
            "cat > {}.json; echo {name} >> {}",
            bundle.world.path(name).display(),
            order.display()
        );
        json!([{ "path": "/bin/sh", "args": ["sh", "-c", script] }])
    };
    let inside = json!([{ "path": "/usr/bin/sh", "args": ["sh", "-c", "echo startContainer >> /order"], "env": ["PATH=/usr/bin"] }]);
    bundle.config["hooks"] = json!({
        "prestart": outside("prestart"),
        "createRuntime": outside("createRuntime"),
        "createContainer": outside("createContainer"),
        "startContainer": inside,
        "poststart": [{ "path": "/bin/false" }],
        "poststop": outside("poststop"),
    });
    bundle.create();
    let lines = || fs::read_to_string(&order).unwrap();
    assert_eq!(lines(), "prestart\ncreateRuntime\ncreateContainer\n");
    let state = |name: &str| -> Value {
        let path = bundle.world.path(&format!("{name}.json"));
        serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
    };
    let seen = state("createRuntime");
    assert_eq!((&seen["id"], &seen["status"]), (&json!(ID), &json!("creating")));
    assert_eq!(seen["pid"], bundle.state()["pid"]);
    assert_eq!(seen["bundle"], bundle.state()["bundle"]);
    // A hook that fails after the start stops nothing, and is told.
    let (code, _, err) = bundle.says(&["start", ID]);
    assert!(code == 0 && err.contains("poststart hook /bin/false failed"), "{err}");
    bundle.becomes("stopped");
    bundle.does(&["delete", ID]);
    assert_eq!(
        lines(),
        "prestart\ncreateRuntime\ncreateContainer\nstartContainer\ncommand\npoststop\n"
    );
    assert_eq!(state("poststop")["status"], "stopped");
}

/// One that fails before the start ends it all.
#[test]
fn a_hook_that_fails() {
    let mut bundle = Bundle::new("true");
    let stopped = bundle.world.path("stopped");
    bundle.config["hooks"] = json!({
        "createRuntime": [{ "path": "/bin/false" }],
        "poststop": [{ "path": "/bin/touch", "args": ["touch", stopped] }],
    });
    bundle.write();
    let err = bundle.fails_to_create();
    assert!(err.contains("hook"), "{err}");
    assert!(stopped.exists());
}

/// Identity, capabilities, the filter and limits are the configuration's, for `exec` as for the command.
#[test]
fn privileges() {
    let status = "id -u; id -g; id -G; while read k v; do case $k in Cap*|NoNewPrivs:|Seccomp:) echo $k $v;; esac; done < /proc/self/status; ulimit -n; umask";
    let mut bundle = Bundle::new(&format!("{{ {status}; }} > /tmp/first; sleep 100"));
    fs::set_permissions(bundle.world.path("root/tmp"), fs::Permissions::from_mode(0o1777)).unwrap();
    let process = &mut bundle.config["process"];
    process["user"] = json!({ "uid": 1000, "gid": 1001, "additionalGids": [5, 6], "umask": 0o027 });
    let some = json!(["CAP_CHOWN", "CAP_NET_BIND_SERVICE"]);
    process["capabilities"] = json!({ "bounding": some, "permitted": some, "effective": some, "inheritable": some, "ambient": ["CAP_CHOWN"] });
    process["rlimits"] = json!([{ "type": "RLIMIT_NOFILE", "soft": 77, "hard": 77 }]);
    bundle.config["linux"]["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{ "names": ["getcwd"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38 }],
    });
    bundle.create();
    bundle.does(&["start", ID]);
    let first = bundle.world.path("root/tmp/first");
    until(
        || fs::read_to_string(&first).is_ok_and(|text| text.ends_with("0027\n")),
        "it wrote nothing",
    );
    let first = fs::read_to_string(first).unwrap();
    let expected = "1000\n1001\n1001 5 6\nCapInh: 0000000000000401\nCapPrm: 0000000000000001\nCapEff: 0000000000000001\nCapBnd: 0000000000000401\nCapAmb: 0000000000000001\nNoNewPrivs: 0\nSeccomp: 2\n77\n0027\n";
    assert_eq!(first, expected);
    assert_eq!(bundle.does(&["exec", ID, "sh", "-c", status]), expected);
    // A process of podman's says all of it itself.
    let other = json!({ "user": { "uid": 0, "gid": 0 }, "args": ["sh", "-c", status], "env": ["PATH=/usr/bin"], "cwd": "/tmp", "noNewPrivileges": true });
    fs::write(bundle.world.path("process.json"), other.to_string()).unwrap();
    let seen = bundle.does(&["exec", "--process", "process.json", ID]);
    let none = "CapInh: 0000000000000000\nCapPrm: 0000000000000000\nCapEff: 0000000000000000\nCapBnd: 0000000000000000\nCapAmb: 0000000000000000\nNoNewPrivs: 1\nSeccomp: 2\n";
    assert!(seen.starts_with(&format!("0\n0\n0\n{none}")), "{seen}");
}

#[test]
fn exec() {
    let bundle = Bundle::new("sleep 100");
    bundle.create();
    assert_ne!(bundle.says(&["exec", ID, "true"]).0, 0, "it is not started");
    bundle.does(&["start", ID]);
    assert_eq!(
        bundle.says(&["exec", ID, "sh", "-c", "echo in; exit 4"]),
        (4, "in\n".into(), String::new())
    );
    assert_eq!(
        bundle.does(&["exec", "--env", "A=b", "--cwd", "/tmp", ID, "sh", "-c", "echo $A $PWD"]),
        "b /tmp\n"
    );
    assert_eq!(bundle.does(&["exec", ID, "cat", "/proc/sys/kernel/hostname"]), "bundle\n");
    let (code, _, err) = bundle.says(&["exec", ID, "nosuch"]);
    assert!(code == 127 && err.contains("executable file not found in $PATH"), "{err}");
    assert_eq!(bundle.says(&["exec", ID, "/etc/passwd"]).0, 126);
    // It stays when its starter has gone, and is among the container's processes.
    let mut second =
        bundle.command(&["exec", "--detach", "--pid-file", "second", ID, "sleep", "100"]);
    assert!(second.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success());
    let second = fs::read_to_string(bundle.world.path("second")).unwrap();
    let all = bundle.does(&["ps", ID]);
    assert!(all.lines().any(|line| line == second), "{second} of {all}");
    let first = bundle.state()["pid"].to_string();
    assert!(all.lines().any(|line| line == first));
}

/// A user's bundle, with a user namespace of one id: what `runc spec --rootless` writes.
#[test]
fn without_root() {
    let script = "id -u; read a b c < /proc/self/uid_map; echo $a $b $c; sleep 100";
    let mut bundle = Bundle::of(World::of_nobody(), script);
    let linux = &mut bundle.config["linux"];
    linux["namespaces"] =
        json!([{ "type": "pid" }, { "type": "mount" }, { "type": "uts" }, { "type": "user" }]);
    linux["uidMappings"] = json!([{ "containerID": 0, "hostID": 65534, "size": 1 }]);
    linux["gidMappings"] = linux["uidMappings"].clone();
    linux.as_object_mut().unwrap().remove("cgroupsPath");
    let options = json!(["nosuid", "noexec", "nodev", "relatime", "ro"]);
    let sys = json!({ "destination": "/sys", "type": "none", "source": "/sys", "options": ["rbind", "nosuid", "noexec", "nodev", "ro"] });
    let groups = json!({ "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": options });
    bundle.config["mounts"].as_array_mut().unwrap().extend([sys, groups]);
    bundle.create();
    bundle.does(&["start", ID]);
    until(|| bundle.output() == "0\n0 65534 1\n", "it does not begin");
    assert_eq!(bundle.does(&["exec", ID, "id", "-u"]), "0\n");
    bundle.does(&["kill", ID, "KILL"]);
    bundle.becomes("stopped");
    bundle.does(&["delete", ID]);
    bundle.config["process"]["args"] = json!(["sh", "-c", "exit 6"]);
    bundle.write();
    assert_eq!(bundle.says(&["run", ID]).0, 6);
    assert!(bundle.left().is_empty());
}

/// A process of another user namespace than ours joins that too: root there is nobody here.
#[test]
fn exec_joins_the_user_namespace() {
    let mut bundle = Bundle::new("sleep 100");
    let map = json!([{ "containerID": 0, "hostID": 100_000, "size": 65536 }]);
    let linux = &mut bundle.config["linux"];
    linux["namespaces"].as_array_mut().unwrap().push(json!({ "type": "user" }));
    linux["uidMappings"] = map.clone();
    linux["gidMappings"] = map;
    // The way to the root is closed to others.
    let folder = bundle.world.path("");
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
    bundle.create();
    bundle.does(&["start", ID]);
    let script = "read a b c < /proc/self/uid_map; echo $a $b $c; id -u";
    assert_eq!(bundle.does(&["exec", ID, "sh", "-c", script]), "0 100000 65536\n0\n");
}

#[test]
fn pause() {
    let bundle = Bundle::new("while :; do echo x; sleep 0.02; done");
    bundle.create();
    bundle.does(&["start", ID]);
    bundle.does(&["pause", ID]);
    assert_eq!(bundle.state()["status"], "paused");
    assert_ne!(bundle.says(&["exec", ID, "true"]).0, 0);
    assert_ne!(bundle.says(&["delete", ID]).0, 0);
    bundle.does(&["resume", ID]);
    assert_eq!(bundle.state()["status"], "running");
    bundle.does(&["pause", ID]);
    bundle.does(&["delete", "--force", ID]);
}

/// podman asks for this with `--tmpfs` and `--read-only`.
#[test]
fn a_file_system_in_memory_begins_with_what_is_below() {
    let script = "cat /tmp/folder/file; readlink /tmp/link; stat -c '%u %a' /tmp/folder; echo new > /tmp/folder/file; touch /x";
    let mut bundle = Bundle::new(script);
    let tmp = bundle.world.path("root/tmp");
    fs::create_dir(tmp.join("folder")).unwrap();
    fs::write(tmp.join("folder/file"), "old\n").unwrap();
    std::os::unix::fs::chown(tmp.join("folder"), Some(7), None).unwrap();
    fs::set_permissions(tmp.join("folder"), fs::Permissions::from_mode(0o750)).unwrap();
    symlink("folder", tmp.join("link")).unwrap();
    bundle.config["root"]["readonly"] = json!(true);
    let mount = json!({ "destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["rw", "nosuid", "nodev", "tmpcopyup"] });
    bundle.config["mounts"].as_array_mut().unwrap().push(mount);
    bundle.config["process"]["capabilities"] = json!({ "bounding": ["CAP_DAC_OVERRIDE"], "permitted": ["CAP_DAC_OVERRIDE"], "effective": ["CAP_DAC_OVERRIDE"] });
    bundle.write();
    let (code, out, err) = bundle.says(&["run", ID]);
    assert_eq!((code, out.as_str()), (1, "old\nfolder\n7 750\n"), "{err}");
    assert!(err.contains("Read-only file system"), "{err}");
    assert_eq!(fs::read_to_string(tmp.join("folder/file")).unwrap(), "old\n");
}

#[test]
fn limits_are_changed() {
    let bundle = Bundle::new("sleep 100");
    bundle.create();
    fs::write(bundle.world.path("limits"), r#"{ "pids": { "limit": 33 } }"#).unwrap();
    bundle.does(&["update", "--resources", "limits", ID]);
    let group = bundle.config["linux"]["cgroupsPath"].as_str().unwrap();
    let seen = ["/sys/fs/cgroup/pids", "/sys/fs/cgroup"]
        .iter()
        .find_map(|tree| fs::read_to_string(format!("{tree}{group}/pids.max")).ok());
    assert_eq!(seen.as_deref(), Some("33\n"));
    bundle.does(&["delete", ID]);
    assert!(!Path::new(&format!("/sys/fs/cgroup/pids{group}")).exists());
}

/// A terminal goes to whoever listens at the socket.
#[test]
fn a_terminal() {
    let mut bundle = Bundle::new("test -t 0 && test -t 1 && stty size && readlink /proc/self/fd/0");
    bundle.config["process"]["terminal"] = json!(true);
    bundle.config["process"]["consoleSize"] = json!({ "height": 30, "width": 90 });
    bundle.write();
    let err = bundle.fails_to_create();
    assert!(err.contains("--console-socket"), "{err}");
    let listener = UnixListener::bind(bundle.world.path("socket")).unwrap();
    bundle.does(&["create", "--console-socket", "socket", ID]);
    let (stream, _) = listener.accept().unwrap();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut name = [0; 64];
    let mut parts = [IoSliceMut::new(&mut name)];
    rustix::net::recvmsg(&stream, &mut parts, &mut ancillary, RecvFlags::CMSG_CLOEXEC).unwrap();
    let master = ancillary.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut sent) => sent.next(),
        _ => None,
    });
    bundle.does(&["start", ID]);
    let mut seen = Vec::new();
    // EIO at the end: nobody has the other side any more.
    let _ = fs::File::from(master.unwrap()).read_to_end(&mut seen);
    assert_eq!(String::from_utf8_lossy(&seen), "30 90\r\n/dev/pts/0\r\n");
    bundle.becomes("stopped");
}

/// podman takes one path for a runtime, and no word behind it.
#[test]
fn called_by_its_own_name() {
    let bundle = Bundle::new("true");
    let link = bundle.world.path("sconce-oci");
    symlink(env!("CARGO_BIN_EXE_sconce"), &link).unwrap();
    bundle.write();
    let call = |words: &[&str]| {
        let mut command = Command::new(&link);
        command.current_dir(bundle.world.path("")).args(["--root", &bundle.root()]).args(words);
        texts(&command.stdin(Stdio::null()).output().unwrap())
    };
    assert_eq!(call(&["run", ID]).0, 0);
    let features: Value = serde_json::from_str(&call(&["features"]).1).unwrap();
    assert_eq!(features["linux"]["seccomp"]["enabled"], true);
}

/// The folder of containers is closed to others, and one that others may write to is refused.
#[test]
fn where_containers_are_kept() {
    let bundle = Bundle::new("true");
    bundle.create();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let root = bundle.world.path("containers");
    assert_eq!((mode(&root), mode(&root.join(ID))), (0o700, 0o700));
    bundle.does(&["delete", ID]);
    fs::set_permissions(&root, fs::Permissions::from_mode(0o777)).unwrap();
    let (code, _, err) = bundle.says(&["create", ID]);
    assert!(code == 1 && err.contains("can be written to by others"), "{err}");
    fs::set_permissions(&root, fs::Permissions::from_mode(0o700)).unwrap();
    // What another user made is not removed.
    fs::create_dir(root.join("theirs")).unwrap();
    std::os::unix::fs::chown(root.join("theirs"), Some(65534), Some(65534)).unwrap();
    let (code, _, err) = bundle.says(&["delete", "--force", "theirs"]);
    assert!(code == 1 && err.contains("belongs to user 65534"), "{err}");
    fs::remove_dir(root.join("theirs")).unwrap();
    // What a killed `create` left is no container, and goes with --force.
    fs::create_dir(root.join("half")).unwrap();
    let (code, _, err) = bundle.says(&["state", "half"]);
    assert!(code == 1 && err.contains("never made whole"), "{err}");
    assert_ne!(bundle.says(&["delete", "half"]).0, 0);
    bundle.does(&["delete", "--force", "half"]);
    assert!(bundle.left().is_empty());
}

/// A link that somebody puts beside the file of the process's number leads nowhere.
#[test]
fn the_file_of_a_number_follows_no_link() {
    let bundle = Bundle::new("true");
    fs::write(bundle.world.path("mine"), "kept").unwrap();
    for name in ["pid", "pid.part"] {
        symlink("mine", bundle.world.path(name)).unwrap();
    }
    bundle.create();
    assert_eq!(fs::read_to_string(bundle.world.path("mine")).unwrap(), "kept");
    let pid = fs::read_to_string(bundle.world.path("pid")).unwrap();
    assert_eq!(pid, bundle.state()["pid"].to_string());
}

/// The program that a container sees behind `/proc/self/exe` before its command is not this machine's file.
#[test]
fn the_program_is_a_copy() {
    let bundle = Bundle::new("sleep 100");
    bundle.create();
    let pid = bundle.state()["pid"].to_string();
    let copy = fs::metadata(format!("/proc/{pid}/exe")).unwrap();
    let program = fs::metadata(env!("CARGO_BIN_EXE_sconce")).unwrap();
    use std::os::unix::fs::MetadataExt;
    assert_eq!(copy.len(), program.len());
    assert_ne!(copy.dev(), program.dev(), "an overlay or a memfd");
}
