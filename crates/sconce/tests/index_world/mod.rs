//! A project whose packages an index on loopback has, and a uv that answers with all of them.

#![allow(dead_code, reason = "no test file uses all of it")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use sconce_blob::Digest;
use sconce_lock::{
    DebianAnswer, DebianRequest, Host, Index, IndexError, ListedFile, Lock, Native, Previous,
    PythonAnswer, PythonRequest, Spec, resolve,
};
use sconce_testkit::{PackageIndex, Wheel};

/// Answers with the wheels in `pylock`, but for those whose override never holds; after the seconds in `waits`; fails with the
/// words in `fails`.
const UV: &str = r#"#!/bin/sh
[ "$1" = --version ] && echo 'uv 99.0.0' && exit
here=${0%/*}
cat >/dev/null
while [ $# -gt 0 ]; do
  [ "$1" = --output-file ] && out=$2
  [ "$1" = --overrides ] && without=$(sed -n "s/ ; python_version < '0'//p" $2)
  shift
done
[ -e $here/waits ] && sleep $(cat $here/waits)
[ -e $here/fails ] && cat $here/fails >&2 && exit 2
[ -n "$out" ] || exit 0
echo 'lock-version = "1.0"' >$out
for package in $here/pylock/*; do
  case " $without " in *" ${package##*/} "*) ;; *) cat $package ;; esac
done >>$out
"#;

/// An empty world, which the first lock is of: no Debian package is asked for after that.
struct Nothing;

impl Index for Nothing {
    fn python(&mut self, _: &PythonRequest) -> Result<PythonAnswer, IndexError> {
        Ok(PythonAnswer { pylock: "lock-version = \"1.0\"\n".into(), ..Default::default() })
    }

    fn releases(&mut self, _: &[String]) -> Result<BTreeMap<String, Vec<ListedFile>>, IndexError> {
        Ok(BTreeMap::new())
    }

    fn native(&mut self, _: &[(sconce_lock::Wheel, bool)]) -> Vec<Result<Native, String>> {
        Vec::new()
    }

    fn debian(&mut self, _: &DebianRequest) -> Result<DebianAnswer, IndexError> {
        Ok(DebianAnswer::default())
    }
}

/// Where the index has its build of Python.
const PYTHON: &str =
    "/pythons/cpython-3.9.99%2B1-x86_64-unknown-linux-gnu-install_only_stripped.tar.gz";

/// A project that is built without Debian's archive: its Python is a build of its own.
pub fn with_python(wheels: &[Wheel]) -> World {
    let folder = tempfile::tempdir().unwrap();
    let script = "mkdir -p python/bin python/lib/python3.9
        echo ELF >python/bin/python3.9 && chmod 755 python/bin/python3.9
        ln -s python3.9 python/bin/python3 && echo 'import sys' >python/lib/python3.9/os.py
        tar --create --gzip --file x.tar.gz python";
    let made = Command::new("sh").args(["-ec", script]).current_dir(folder.path()).status();
    assert!(made.unwrap().success());
    let bytes = fs::read(folder.path().join("x.tar.gz")).unwrap();
    let mut world = World::on("3.10", wheels);
    world.asks("python = \"3.9\"\nbytecode = false");
    world.index.server.put(PYTHON, bytes.clone());
    let list = format!(
        r#"{{"a": {{"name": "cpython", "arch": {{"family": "x86_64", "variant": null}}, "os": "linux", "libc": "gnu",
        "major": 3, "minor": 9, "patch": 99, "prerelease": "", "variant": null, "build": "1",
        "url": "{}", "sha256": "{}"}}}}"#,
        world.index.server.url(PYTHON),
        Digest::of(&bytes).hex()
    );
    world.index.server.put("/list.json", list);
    world.env.push(("UV_PYTHON_DOWNLOADS_JSON_URL", world.index.server.url("/list.json")));
    world
}

/// The project, its index and a store of its own.
pub struct World {
    dir: tempfile::TempDir,
    pub index: PackageIndex,
    /// Variables besides those that every start has.
    pub env: Vec<(&'static str, String)>,
}

impl World {
    /// A project with these packages, in alphabetical order.
    pub fn new(wheels: &[Wheel]) -> Self {
        Self::on("auto", wheels)
    }

    /// One whose first lock is for that Python.
    pub fn on(python: &str, wheels: &[Wheel]) -> Self {
        let mut world = Self {
            dir: tempfile::tempdir().unwrap(),
            index: PackageIndex::json(),
            env: Vec::new(),
        };
        fs::create_dir(world.path("pylock")).unwrap();
        for wheel in wheels {
            let digest = world.index.add(wheel);
            world.put(wheel, digest);
        }
        fs::create_dir(world.path("project")).unwrap();
        world.asks("");
        world.first_lock("sconce.lock", "x86_64", python);
        fs::write(world.path("uv"), UV).unwrap();
        fs::set_permissions(world.path("uv"), Permissions::from_mode(0o755)).unwrap();
        world
    }

    /// A lock that has the Debian packages of nothing, for a processor.
    pub fn first_lock(&self, name: &str, machine: &str, python: &str) {
        let host = Host { machine: Some(machine.parse().unwrap()), ..Host::default() };
        let spec = format!("[environment]\ntorch = false\npython = \"{python}\"\n");
        let spec = Spec::parse(&spec).unwrap();
        let (lock, _) = resolve(&spec, &host, Previous::NONE, &mut Nothing).unwrap();
        fs::write(self.path("project").join(name), lock.to_text()).unwrap();
    }

    /// Has the index list another wheel of a package, and uv take that one.
    pub fn again(&mut self, wheel: &Wheel) {
        let digest = self.index.add(wheel);
        self.put(wheel, digest);
    }

    fn put(&self, wheel: &Wheel, digest: Digest) {
        let url = self.index.server.url(&self.index.path(&wheel.file_name()));
        self.put_at(wheel, digest, &url);
    }

    /// Has uv find a wheel at an address.
    pub fn put_at(&self, wheel: &Wheel, digest: Digest, url: &str) {
        let (name, file) = (wheel.project(), wheel.file_name());
        let version = file.split('-').nth(1).unwrap();
        let mut row = String::new();
        let _ = writeln!(row, "[[packages]]\nname = \"{name}\"\nversion = \"{version}\"");
        let (hash, size) = (digest.hex(), wheel.build().len());
        let _ = writeln!(
            row,
            "wheels = [{{ url = \"{url}\", size = {size}, hashes = {{ sha256 = \"{hash}\" }} }}]"
        );
        fs::write(self.path("pylock").join(name), row).unwrap();
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes sconce.toml with these keys.
    pub fn asks(&self, keys: &str) {
        let text = format!("[environment]\ntorch = false\nrequirements = [\"a\"]\n{keys}\n");
        fs::write(self.path("project/sconce.toml"), text).unwrap();
    }

    /// Exit code and what is said.
    pub fn sconce(&self, words: &[&str]) -> (i32, String) {
        self.said_by(Command::new(env!("CARGO_BIN_EXE_sconce")).args(words))
    }

    /// As [`World::sconce`], where the project's folder can only be read.
    #[allow(dead_code)]
    pub fn sconce_on_read_only(&self, words: &[&str]) -> (i32, String) {
        let root = fs::metadata("/proc/self").unwrap().uid() == 0;
        let script = "mount --bind . . && mount -o remount,bind,ro . && cd \"$PWD\" && exec \"$@\"";
        let mut command = Command::new("unshare");
        command.arg(if root { "--mount" } else { "-rm" }).args(["sh", "-c", script, "sh"]);
        self.said_by(command.arg(env!("CARGO_BIN_EXE_sconce")).args(words))
    }

    fn said_by(&self, command: &mut Command) -> (i32, String) {
        let output = command
            .current_dir(self.path("project"))
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.dir.path())
            .env("SCONCE_HOME", self.path("store"))
            .env("SCONCE_STORES", "")
            .env("SCONCE_UV", self.path("uv"))
            .env("UV_NO_CONFIG", "1")
            .env("UV_DEFAULT_INDEX", self.index.url())
            .env("PIP_CONFIG_FILE", "/dev/null")
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let said = [output.stderr, output.stdout].concat();
        (output.status.code().unwrap_or(-1), String::from_utf8(said).unwrap())
    }

    /// The lock that `sconce lock` writes.
    #[track_caller]
    pub fn locks(&self) -> Lock {
        let (code, said) = self.sconce(&["lock"]);
        assert_eq!(code, 0, "{said}");
        Lock::parse(&fs::read_to_string(self.path("project/sconce.lock")).unwrap()).unwrap()
    }

    /// The ranges of what was asked of a wheel's file.
    pub fn ranges(&self, file: &str) -> Vec<String> {
        let asked = self.index.server.requests_for(&self.index.path(file));
        let range = |asked: &sconce_testkit::Request| asked.header("range").unwrap_or("all").into();
        asked.iter().map(range).collect()
    }
}
