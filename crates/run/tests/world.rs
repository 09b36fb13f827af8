//! A root file system made of this machine's own shell and tools, and ways to run in it.
//!
//! Every test starts the example program `bare` as its own process: a container is about
//! processes, signals and terminals, and without root it takes another user.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use sconce_testkit::MappedUser;

/// Programs of the root: coreutils and the shell, which every Debian or Ubuntu has.
const PROGRAMS: &[&str] = &[
    "sh", "cat", "echo", "id", "ls", "sleep", "stat", "df", "touch", "true", "kill", "env", "stty",
    "tty", "pwd", "rm", "mkdir", "head", "tail", "wc", "hostname", "mount", "setpriv", "mknod",
    "unshare", "chmod", "dd", "chown",
];

/// A user that is not root: `nobody` on every Linux.
const NOBODY: u32 = 65534;

/// Who starts the container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum As {
    /// Root, who needs no user namespace.
    Root,
    /// A user without rights and without ranges in /etc/subuid.
    Nobody,
    /// A user without rights and with a range of ids in /etc/subuid and /etc/subgid.
    Mapped,
}

/// A temporary folder with a root file system, the program, and room for scratch.
pub struct World {
    folder: tempfile::TempDir,
    who: As,
    mapped: Option<MappedUser>,
}

impl World {
    /// Needs root, so that it can be anyone: says so instead of passing for nothing.
    pub fn new(who: As) -> Self {
        assert!(
            rustix::process::geteuid().is_root(),
            "these tests start containers as root and as others, and so must be run by root"
        );
        let folder = tempfile::Builder::new().prefix("sconce-run-").tempdir().expect("a folder");
        let mapped = (who == As::Mapped).then(|| MappedUser::new(folder.path()));
        let world = Self { folder, who, mapped };
        sconce_testkit::copy_program(&bare(), &world.path("bare"));
        make_root(&world.path("root"));
        fs::set_permissions(world.path(""), fs::Permissions::from_mode(0o755)).expect("readable");
        world.give("");
        world
    }

    /// Who starts the container, by number.
    fn uid(&self) -> u32 {
        match self.who {
            As::Root => 0,
            As::Nobody => NOBODY,
            As::Mapped => MappedUser::ID,
        }
    }

    /// Makes a path in the world's folder, and all below it, belong to who starts the container.
    pub fn give(&self, name: &str) {
        give(&self.path(name), self.uid());
    }

    /// How many folders of runs there are.
    pub fn runs(&self) -> usize {
        fs::read_dir(self.path("scratch")).map_or(0, |entries| entries.count())
    }

    /// A path in the world's folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The program with `options` and a shell script to run inside.
    pub fn script(&self, options: &[&str], script: &str) -> Command {
        self.command(options, &["sh", "-c", script])
    }

    /// The program with `options` and a command to run inside.
    pub fn command(&self, options: &[&str], inside: &[&str]) -> Command {
        let program = self.path("bare");
        let mut command = match (&self.mapped, self.who) {
            (Some(user), _) => user.command(&program),
            (None, As::Root) => Command::new(program),
            (None, _) => {
                let mut command = Command::new("setpriv");
                let id = NOBODY.to_string();
                command.args(["--reuid", &id, "--regid", &id, "--clear-groups"]).arg(program);
                command
            }
        };
        command
            .current_dir(self.folder.path())
            .args(options)
            .arg(self.path("scratch"))
            .arg(self.path("root"))
            .args(inside);
        command
    }

    /// A shell script on this machine, run by root, which finds the program as `$BARE` and its folders
    /// as `$PLACE`.
    pub fn around(&self, script: &str) -> Output {
        let bare = self.path("bare").display().to_string();
        let bare = match (&self.mapped, self.who) {
            (Some(user), _) => {
                // It takes more than words to become this user.
                let command = user.command(&self.path("bare"));
                let words = std::iter::once(command.get_program()).chain(command.get_args());
                let words = words.map(|word| format!("'{}' ", word.to_string_lossy()));
                let script = format!("#!/bin/sh\nexec {}\"$@\"\n", words.collect::<String>());
                let file = self.path("as-mapped");
                fs::write(&file, script).expect("a script");
                fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).expect("executable");
                file.display().to_string()
            }
            (None, As::Nobody) => {
                format!("setpriv --reuid {NOBODY} --regid {NOBODY} --clear-groups {bare}")
            }
            (None, _) => bare,
        };
        let (scratch, root) = (self.path("scratch"), self.path("root"));
        Command::new("sh")
            .args(["-c", script])
            .current_dir(self.folder.path())
            .env("BARE", bare)
            .env("PLACE", format!("{} {}", scratch.display(), root.display()))
            .output()
            .expect("started")
    }

    /// Runs a script to its end; what it wrote must end the test with `code`.
    pub fn check(&self, options: &[&str], script: &str, code: i32) -> String {
        let output = self.script(options, script).output().expect("started");
        let (out, err) = texts(&output);
        assert_eq!(output.status.code(), Some(code), "{script}\nout: {out}\nerr: {err}");
        assert_eq!(self.runs(), 0, "the run's folder stays");
        out
    }
}

/// The example program, as it was built.
fn bare() -> PathBuf {
    let me = std::env::current_exe().expect("this program");
    let example = me.ancestors().nth(2).expect("target folder").join("examples/bare");
    assert!(example.is_file(), "build it first: cargo build -p sconce-run --example bare");
    example
}

/// Standard output and standard error.
pub fn texts(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

/// Waits until `ready` says yes, ten seconds at most.
pub fn eventually(what: &str, mut ready: impl FnMut() -> bool) {
    for _ in 0..1000 {
        if ready() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("not within ten seconds: {what}");
}

/// Processes of this machine whose command line holds `mark`.
pub fn processes_with(mark: &str) -> usize {
    let entries = fs::read_dir("/proc").expect("proc");
    entries
        .flatten()
        .filter(|entry| {
            let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&line).contains(mark)
        })
        .count()
}

fn make_root(root: &Path) {
    for folder in ["etc", "tmp", "usr/bin", "root", "home/ann"] {
        fs::create_dir_all(root.join(folder)).expect("a folder of the root");
    }
    symlink("usr/bin", root.join("bin")).expect("bin");
    fs::set_permissions(root.join("tmp"), fs::Permissions::from_mode(0o1777)).expect("tmp");
    let passwd = "root:x:0:0:root:/root:/bin/sh\nann:x:1000:1000::/home/ann:/bin/sh\n";
    fs::write(root.join("etc/passwd"), passwd).expect("passwd");
    fs::write(root.join("etc/group"), "root:x:0:\nann:x:1000:\nvideo:x:44:ann\n").expect("group");
    let script = "#!/bin/sh\nexit 0\n";
    fs::write(root.join("usr/bin/not-executable"), script).expect("a script");
    let mut libraries = BTreeSet::new();
    for program in PROGRAMS {
        let found = ["/usr/bin", "/bin"]
            .iter()
            .map(|folder| Path::new(folder).join(program))
            .find(|file| file.exists());
        let Some(found) = found else { panic!("this machine has no {program}") };
        fs::copy(&found, root.join("usr/bin").join(program)).expect("a program copied");
        let ldd = Command::new("ldd").arg(&found).output().expect("ldd");
        for word in texts(&ldd).0.split_whitespace().filter(|word| word.starts_with('/')) {
            libraries.insert(word.to_owned());
        }
    }
    // The runtime's own, for tests that execute it inside.
    for word in texts(&Command::new("ldd").arg(bare()).output().expect("ldd")).0.split_whitespace()
    {
        if word.starts_with('/') {
            libraries.insert(word.to_owned());
        }
    }
    for library in libraries {
        let target = root.join(library.trim_start_matches('/'));
        fs::create_dir_all(target.parent().expect("a folder")).expect("a library folder");
        fs::copy(&library, target).expect("a library copied");
    }
}

fn give(path: &Path, id: u32) {
    std::os::unix::fs::lchown(path, Some(id), Some(id)).expect("owner");
    if path.is_dir() && !path.is_symlink() {
        for entry in fs::read_dir(path).expect("a folder").flatten() {
            give(&entry.path(), id);
        }
    }
}
