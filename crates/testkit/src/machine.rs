//! What a test needs of the machine: Debian's packages, and a user with subordinate ids.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

/// Copies a program that is started then. Another process writes it: a thread that starts something while this one writes
/// would hand its child the file, open for writing, and what is open so is not executed (execve(2), `ETXTBSY`).
pub fn copy_program(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("--preserve=mode").arg(from).arg(to).status();
    assert!(copied.expect("cp").success(), "{} copied to {}", from.display(), to.display());
}

/// Makes sure that `program` of Debian's `package` is on this machine, and installs it with apt-get
/// where it is not. A machine that cannot install it fails the test: there is no test without it.
pub fn installed(program: &str, package: &str) {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock();
    let there = || {
        ["/usr/bin", "/bin", "/usr/sbin", "/usr/local/bin"]
            .iter()
            .any(|folder| Path::new(folder).join(program).exists())
    };
    if there() {
        return;
    }
    let apt = |words: &[&str]| {
        let mut command = Command::new("apt-get");
        command.args(["-q", "-y", "-o", "DPkg::Lock::Timeout=300"]).args(words);
        command.env("DEBIAN_FRONTEND", "noninteractive").output()
    };
    let install = || apt(&["install", "--no-install-recommends", package]);
    let mut output = install();
    if !there() {
        // A new machine has no lists of packages yet.
        drop(apt(&["update"]));
        output = install();
    }
    let said = match output {
        Ok(output) => String::from_utf8_lossy(&output.stderr).into_owned(),
        Err(error) => error.to_string(),
    };
    assert!(there(), "this test needs {program}; `apt-get install {package}` as root said: {said}");
}

/// A user whom only the commands see that are started as it: with ranges in subuid(5) and subgid(5),
/// in an `/etc` of their own mount namespace.
pub struct MappedUser {
    etc: PathBuf,
}

impl MappedUser {
    /// Its uid and gid.
    pub const ID: u32 = 21_001;
    /// Its first subordinate uid and gid: 1 inside a container.
    pub const FIRST: u32 = 2_100_000;
    /// How many it has.
    pub const COUNT: u32 = 65_536;
    /// Its supplementary groups, which no container should have: disk and sudo, as Debian counts.
    pub const GROUPS: [u32; 2] = [6, 27];

    /// Makes the files in `folder`, which must stay. Needs root, and Debian's `uidmap`.
    pub fn new(folder: &Path) -> Self {
        installed("newuidmap", "uidmap");
        let etc = folder.join("etc");
        fs::create_dir(&etc).expect("a folder for /etc");
        let (id, first, count) = (Self::ID, Self::FIRST, Self::COUNT);
        let with = |name: &str, line: String| {
            let present = fs::read_to_string(Path::new("/etc").join(name)).expect("a file of /etc");
            fs::write(etc.join(name), format!("{present}{line}\n")).expect("a file for /etc");
        };
        with("passwd", format!("mapped:x:{id}:{id}::/:/bin/sh"));
        with("group", format!("mapped:x:{id}:"));
        for name in ["subuid", "subgid"] {
            fs::write(etc.join(name), format!("mapped:{first}:{count}\n")).expect("a range");
        }
        Self { etc }
    }

    /// `program`, to be run as this user. The process that is started becomes the program.
    pub fn command(&self, program: &Path) -> Command {
        let script = "mount -t overlay -o lowerdir=\"$0\":/etc none /etc || exit 125
            id=$1 groups=$2; shift 2; exec setpriv --reuid $id --regid $id --groups $groups \"$@\"";
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c", script]);
        let groups = Self::GROUPS.map(|group| group.to_string()).join(",");
        command.arg(&self.etc).arg(Self::ID.to_string()).arg(groups).arg(program);
        command
    }
}
