//! AppArmor: the profile `sconce-default` around a container, where the host has AppArmor.
//!
//! Root loads the profile on first use, as Docker's daemon does at its start; it stays until the
//! machine restarts (`apparmor_parser -R` takes it out). Rootless containers run without, as
//! podman's do: loading needs `CAP_MAC_ADMIN`, and the kernel does not show a user which
//! profiles are loaded. Sources: apparmor.d(5), apparmor_parser(8), aa_change_onexec(2), moby's
//! `apparmor` package, runc's `libcontainer/apparmor`.
//!
//! Not tried on a kernel with AppArmor: loading, and the switch at execve. Tried: that
//! apparmor_parser 3.0.8 compiles the profile in each form that [`AppArmor::text`] makes.

use std::fs;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::fs::{Mode, OFlags, ResolveFlags};

use crate::error::{Doing, Error};

/// The name of the profile.
pub(crate) const PROFILE: &str = "sconce-default";

const TEMPLATE: &str = include_str!("../data/apparmor.profile");

/// Where the parser may be: a caller's PATH is not trusted as root.
const PARSERS: &[&str] = &["usr/sbin/apparmor_parser", "sbin/apparmor_parser"];

/// What a container is confined by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Confinement {
    /// This profile, which is loaded: for [`set_exec_profile`].
    Profile(&'static str),
    /// None, for this reason.
    None(String),
}

/// A host's AppArmor.
#[derive(Debug)]
pub(crate) struct AppArmor {
    /// `/`, except in tests.
    root: PathBuf,
}

impl AppArmor {
    /// This machine's.
    pub(crate) fn host() -> Self {
        Self { root: PathBuf::from("/") }
    }

    /// The kernel enforces AppArmor.
    pub(crate) fn available(&self) -> bool {
        let enabled = fs::read(self.root.join("sys/module/apparmor/parameters/enabled"));
        enabled.is_ok_and(|text| text.starts_with(b"Y"))
    }

    /// Loads [`PROFILE`] unless the kernel has it.
    ///
    /// # Errors
    /// The profile could be loaded here, and the parser refused: containers would run with less
    /// around them than was asked for.
    pub(crate) fn ensure_loaded(&self) -> Result<Confinement, Error> {
        let none = |why: &str| Ok(Confinement::None(why.to_owned()));
        if !self.available() {
            return none("this kernel has no AppArmor, or it is switched off");
        }
        match self.is_loaded(PROFILE) {
            Ok(true) => return Ok(Confinement::Profile(PROFILE)),
            Ok(false) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return none("/sys/kernel/security is not mounted, as inside another container");
            }
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                return none("only root can see and load AppArmor profiles");
            }
            Err(error) => return Err(error).doing("reading the list of AppArmor profiles"),
        }
        let parsers = PARSERS.iter().map(|path| self.root.join(path));
        let Some(parser) = parsers.into_iter().find(|path| path.is_file()) else {
            return none("apparmor_parser is not installed (Debian's package apparmor)");
        };
        let what = format!("loading the AppArmor profile {PROFILE}");
        load(&parser, &self.text()).doing(&*what)?;
        match self.is_loaded(PROFILE) {
            Ok(true) => Ok(Confinement::Profile(PROFILE)),
            Ok(false) => {
                Err(io::Error::other("the parser reported success, and the kernel lacks it"))
                    .doing(what)
            }
            Err(error) => Err(error).doing("reading the list of AppArmor profiles"),
        }
    }

    /// The kernel has a profile of this name.
    pub(crate) fn is_loaded(&self, name: &str) -> io::Result<bool> {
        let list = fs::read_to_string(self.root.join("sys/kernel/security/apparmor/profiles"))?;
        Ok(list.lines().any(|line| label(line) == name))
    }

    /// The profile for this host: with the includes that its AppArmor has, and the label under
    /// which the caller runs, which will send the container signals.
    fn text(&self) -> String {
        let has = |file: &str| self.root.join("etc/apparmor.d").join(file).is_file();
        let current = ["proc/self/attr/apparmor/current", "proc/self/attr/current"]
            .iter()
            .find_map(|path| fs::read_to_string(self.root.join(path)).ok())
            .unwrap_or_default();
        let caller = match label(current.trim_end_matches(['\n', '\0'])) {
            "" | "unconfined" => String::new(),
            // A pattern or a quote in the name would be one in the rule.
            name if name.contains(|c: char| c.is_control() || "\"\\*?[]{}^@".contains(c)) => {
                String::new()
            }
            name => format!("signal (receive) peer=\"{name}\","),
        };
        let abi = if has("abi/3.0") { "abi <abi/3.0>," } else { "" };
        // The abstraction uses variables of the tunables.
        let (tunables, base) = match (has("tunables/global"), has("abstractions/base")) {
            (false, _) => ("@{PROC}=/proc/", ""),
            (true, false) => ("#include <tunables/global>", ""),
            (true, true) => ("#include <tunables/global>", "#include <abstractions/base>"),
        };
        TEMPLATE
            .replace("{{abi}}", abi)
            .replace("{{tunables}}", tunables)
            .replace("{{base}}", base)
            .replace("{{caller}}", &caller)
    }
}

/// The name in `name (mode)`, the form of `/sys/kernel/security/apparmor/profiles` and
/// `/proc/self/attr/current`. A name may hold spaces and parentheses.
fn label(line: &str) -> &str {
    match line.strip_suffix(')').and_then(|line| line.rsplit_once(" (")) {
        Some((name, _)) => name,
        None => line,
    }
}

/// Hands a profile to the parser: `-r` to replace one of the same name, `-K` to leave the cache
/// alone, which may be on a file system that cannot be written to.
fn load(parser: &Path, text: &str) -> io::Result<()> {
    let mut child = Command::new(parser)
        .arg("-Kr")
        .env_clear()
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut input = child.stdin.take().expect("stdin is piped");
    // A parser that ends early breaks the pipe; what it says is the better reason.
    let written = input.write_all(text.as_bytes());
    drop(input);
    let output = child.wait_with_output()?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr);
        return Err(io::Error::other(format!("apparmor_parser: {}", words.trim())));
    }
    written
}

/// Puts this thread under a loaded profile with its next execve(2).
///
/// `/proc` must be procfs, and what lies between it and the file must not be covered by another
/// mount: an image cannot turn the write into one to a file of its choice (CVE-2019-16884).
///
/// # Errors
/// EINVAL or ENOENT from a kernel without AppArmor or without the profile; EACCES if the thread's
/// own profile does not let it go.
pub(crate) fn set_exec_profile(name: &str) -> io::Result<()> {
    let proc = rustix::fs::open(
        "/proc",
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    if rustix::fs::fstatfs(&proc)?.f_type != rustix::fs::PROC_SUPER_MAGIC {
        return Err(io::Error::other("/proc is not the kernel's"));
    }
    write_exec(open_exec(&proc)?, name)
}

/// The file that takes the profile for the next execve: AppArmor's own since Linux 5.8, before
/// that one that all security modules share.
fn open_exec(proc: impl AsFd) -> io::Result<OwnedFd> {
    let open = |path: &str| {
        let resolve = ResolveFlags::NO_XDEV | ResolveFlags::NO_MAGICLINKS;
        rustix::fs::openat2(&proc, path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty(), resolve)
    };
    match open("thread-self/attr/apparmor/exec") {
        Err(rustix::io::Errno::NOENT) => Ok(open("thread-self/attr/exec")?),
        other => Ok(other?),
    }
}

fn write_exec(file: OwnedFd, name: &str) -> io::Result<()> {
    if name.is_empty() || name.contains(['\0', '\n']) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "no name of an AppArmor profile"));
    }
    // The kernel takes the whole command in one write.
    let command = format!("exec {name}");
    match rustix::io::write(&file, command.as_bytes())? {
        written if written == command.len() => Ok(()),
        _ => Err(io::ErrorKind::WriteZero.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// A host's files in a folder.
    struct Host {
        folder: tempfile::TempDir,
        apparmor: AppArmor,
    }

    impl Host {
        fn new(files: &[(&str, &str)]) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let apparmor = AppArmor { root: folder.path().to_owned() };
            let host = Self { folder, apparmor };
            for (path, text) in files {
                host.put(path, text);
            }
            host
        }

        fn put(&self, path: &str, text: &str) {
            let path = self.folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }

        /// A parser that keeps what it is given, then runs a script in the host's folder.
        fn parser(&self, script: &str) {
            let root = self.folder.path();
            let start = format!("#!/bin/sh\ncd {}\n[ \"$*\" = -Kr ] || exit 9", root.display());
            self.put("script", &format!("{start}\n/bin/cat > given\n{script}\n"));
            // Copied by another process: this one's forks would hold a file that it writes
            // itself open, and the kernel does not execute a file that is being written.
            let mut install = Command::new("install");
            install.args(["-D", "-m755", "script", "usr/sbin/apparmor_parser"]);
            assert!(install.current_dir(root).status().unwrap().success());
        }
    }

    const ENABLED: (&str, &str) = ("sys/module/apparmor/parameters/enabled", "Y\n");
    const PROFILES: &str = "sys/kernel/security/apparmor/profiles";
    const OTHERS: &str =
        "docker-default (enforce)\nsconce-default-2 (enforce)\na (b) c (complain)\n";

    #[track_caller]
    fn none(host: &Host, words: &str) {
        match host.apparmor.ensure_loaded().unwrap() {
            Confinement::None(why) => assert!(why.contains(words), "{why}"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_host_without_apparmor_says_why() {
        none(&Host::new(&[]), "no AppArmor");
        none(&Host::new(&[(ENABLED.0, "N\n")]), "no AppArmor");
        none(&Host::new(&[ENABLED]), "/sys/kernel/security is not mounted");
        none(&Host::new(&[ENABLED, (PROFILES, OTHERS)]), "apparmor_parser is not installed");
    }

    #[test]
    fn a_loaded_profile_is_taken_as_it_is() {
        let host =
            Host::new(&[ENABLED, (PROFILES, &format!("{OTHERS}sconce-default (enforce)\n"))]);
        let loaded = host.apparmor.ensure_loaded().unwrap();
        assert_eq!(loaded, Confinement::Profile("sconce-default"));
        assert!(host.apparmor.is_loaded("a (b) c").unwrap());
        assert!(!host.apparmor.is_loaded("sconce").unwrap());
    }

    #[test]
    fn the_parser_is_given_the_profile_once() {
        let host = Host::new(&[ENABLED, (PROFILES, OTHERS)]);
        host.parser(&format!("echo 'sconce-default (enforce)' >> {PROFILES}"));
        assert_eq!(host.apparmor.ensure_loaded().unwrap(), Confinement::Profile(PROFILE));
        let given = fs::read_to_string(host.folder.path().join("given")).unwrap();
        assert_eq!(given, host.apparmor.text());
        fs::remove_file(host.folder.path().join("given")).unwrap();
        host.apparmor.ensure_loaded().unwrap();
        assert!(!host.folder.path().join("given").exists());
    }

    #[test]
    fn a_parser_that_fails_is_an_error_with_its_words() {
        let host = Host::new(&[ENABLED, (PROFILES, OTHERS)]);
        host.parser("echo 'syntax error, line 7' >&2; exit 1");
        let error = host.apparmor.ensure_loaded().unwrap_err().chain();
        assert!(error.contains("sconce-default") && error.contains("line 7"), "{error}");
        host.parser("exit 0");
        let error = host.apparmor.ensure_loaded().unwrap_err().chain();
        assert!(error.contains("the kernel lacks it"), "{error}");
    }

    #[test]
    fn the_text_follows_the_host() {
        let bare = Host::new(&[("etc/apparmor.d/abstractions/base", "")]).apparmor.text();
        assert!(bare.contains("\n@{PROC}=/proc/\n"));
        assert!(
            !bare.contains("include") && !bare.contains("abi <") && !bare.contains("{{"),
            "{bare}"
        );

        let host = Host::new(&[
            ("etc/apparmor.d/abi/3.0", ""),
            ("etc/apparmor.d/tunables/global", ""),
            ("etc/apparmor.d/abstractions/base", ""),
            ("proc/self/attr/current", "sconce (unconfined)\n"),
        ]);
        let text = host.apparmor.text();
        for line in [
            "abi <abi/3.0>,",
            "#include <tunables/global>",
            "  #include <abstractions/base>",
            "  signal (receive) peer=\"sconce\",",
        ] {
            assert!(text.lines().any(|is| is == line), "{text}\nlacks: {line}");
        }
        for (current, peers) in [
            ("unconfined\n", 1),
            ("a\", capability, (enforce)\n", 1),
            ("/usr/bin/* (enforce)\n", 1),
            ("/usr/bin/my tool (enforce)\n", 2),
        ] {
            host.put("proc/self/attr/apparmor/current", current);
            assert_eq!(host.apparmor.text().matches("(receive) peer=").count(), peers, "{current}");
        }
    }

    #[test]
    fn the_next_profile_is_written_where_the_kernel_has_its_file() {
        let old = Host::new(&[("thread-self/attr/exec", "")]);
        let new =
            Host::new(&[("thread-self/attr/exec", ""), ("thread-self/attr/apparmor/exec", "")]);
        for (host, path) in [(old, "attr/exec"), (new, "attr/apparmor/exec")] {
            let proc = fs::File::open(host.folder.path()).unwrap();
            write_exec(open_exec(&proc).unwrap(), PROFILE).unwrap();
            let written = fs::read_to_string(host.folder.path().join("thread-self").join(path));
            assert_eq!(written.unwrap(), "exec sconce-default");
            for name in ["", "a\0b", "a\nexec b"] {
                assert!(write_exec(open_exec(&proc).unwrap(), name).is_err());
            }
        }
    }

    #[test]
    fn another_mount_in_the_way_is_refused() {
        let host = Host::new(&[]);
        symlink("/proc/thread-self", host.folder.path().join("thread-self")).unwrap();
        let error = open_exec(fs::File::open(host.folder.path()).unwrap()).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EXDEV), "{error}");
    }
}
