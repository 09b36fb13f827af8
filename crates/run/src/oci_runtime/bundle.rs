//! A bundle: `config.json` as the specification has it, read and held to what this runtime does.

use std::fs;
use std::path::{Path, PathBuf};

use libcontainer::oci_spec::runtime::{LinuxDeviceType, LinuxNamespaceType, Process, Spec};
use serde_json::Value;

use super::error::{Doing, Error};
use super::privileges::Privileges;
use crate::seccomp::{Context, Filter, Profile};

/// Larger than any configuration, with a seccomp profile and all mounts of a pod.
const LARGEST: u64 = 16 << 20;
/// The file of a configuration.
pub(super) const CONFIG: &str = "config.json";

/// A configuration with where it is.
#[derive(Debug, Clone)]
pub(super) struct Bundle {
    pub(super) path: PathBuf,
    /// The root file system, without links.
    pub(super) root: PathBuf,
    pub(super) spec: Spec,
    filter: Option<Filter>,
    /// What the caller should know of it.
    pub(super) notes: Vec<String>,
}

impl Bundle {
    /// Reads the bundle in `path`.
    pub(super) fn open(path: &Path) -> Result<Self, Error> {
        let found = fs::canonicalize(path).map_err(|error| Error::Document {
            path: path.to_owned(),
            why: format!("there is no bundle: {error}"),
        })?;
        Self::read(&found.join(CONFIG), &found)
    }

    /// Reads the configuration `config` of the bundle in `path`.
    pub(super) fn read(config: &Path, path: &Path) -> Result<Self, Error> {
        let wrong = |why: String| Error::Document { path: config.to_owned(), why };
        let bytes = sconce_open::read(config, LARGEST).map_err(|error| wrong(error.to_string()))?;
        let value: Value =
            serde_json::from_slice(&bytes).map_err(|error| wrong(error.to_string()))?;
        let seccomp = value["linux"]["seccomp"].clone();
        let version = value["ociVersion"].as_str().unwrap_or_default().to_owned();
        if !version.starts_with("1.") {
            return Err(wrong(format!("ociVersion is '{version}': this runtime reads 1.x")));
        }
        let mut spec: Spec = sconce_open::json(&bytes).map_err(|error| wrong(error.to_string()))?;
        let mut root = spec.root().clone().ok_or_else(|| wrong("it has no `root`".to_owned()))?;
        if spec.linux().is_none() {
            return Err(wrong(
                "it has no `linux`: this runtime starts Linux containers".to_owned(),
            ));
        }
        check_process(&spec).map_err(wrong)?;
        let folder = path.join(root.path());
        let folder = fs::canonicalize(&folder)
            .and_then(|folder| match folder.is_dir() {
                true => Ok(folder),
                false => Err(std::io::ErrorKind::NotADirectory.into()),
            })
            .map_err(|error| wrong(format!("root.path {}: {error}", folder.display())))?;
        root.set_path(folder.clone());
        spec.set_root(Some(root));
        let mut bundle =
            Self { path: path.to_owned(), root: folder, spec, filter: None, notes: Vec::new() };
        bundle.check()?;
        bundle.filter = bundle.compile(seccomp).map_err(wrong)?;
        Ok(bundle)
    }

    /// Refuses what would be left out silently and keeps a container apart.
    fn check(&self) -> Result<(), Error> {
        let unsupported = |field, why: &str| Err(Error::Unsupported { field, why: why.to_owned() });
        let linux = self.spec.linux().as_ref();
        let process = self.spec.process().as_ref();
        let labelled = process.is_some_and(|process| process.selinux_label().is_some())
            || linux.is_some_and(|linux| linux.mount_label().is_some());
        if labelled && Path::new("/sys/fs/selinux/enforce").exists() {
            return unsupported(
                "process.selinuxLabel",
                "this machine has SELinux, and labels are not set here; `--security-opt label=disable` asks for none",
            );
        }
        if linux.is_some_and(|linux| linux.intel_rdt().is_some()) {
            return unsupported("linux.intelRdt", "cache allocation is not set here");
        }
        let invalid = |error: &dyn std::error::Error| Error::Document {
            path: self.path.join(CONFIG),
            why: super::chain(error),
        };
        libcontainer::validator::Validator::validate_spec(&self.spec).map_err(|e| invalid(&e))?;
        let syscall = libcontainer::syscall::syscall::create_syscall();
        libcontainer::utils::validate_spec_for_new_user_ns(&self.spec, &*syscall)
            .map_err(|e| invalid(&e))?;
        if let Some(mounts) = self.spec.mounts() {
            libcontainer::utils::validate_mount_options(mounts).map_err(|e| invalid(&e))?;
        }
        let group = self.cgroup("x");
        if group.components().all(|part| matches!(part, std::path::Component::RootDir)) {
            return unsupported(
                "linux.cgroupsPath",
                "a container needs a cgroup of its own, not the root",
            );
        }
        if group.components().any(|part| matches!(part, std::path::Component::ParentDir)) {
            return unsupported("linux.cgroupsPath", "it must not have `..` in it");
        }
        Ok(())
    }

    /// Its cgroup: the configuration's, or one of this runtime.
    pub(super) fn cgroup(&self, id: &str) -> PathBuf {
        let given = self.spec.linux().as_ref().and_then(|linux| linux.cgroups_path().clone());
        given.unwrap_or_else(|| Path::new("/sconce-oci").join(id))
    }

    /// The kinds of namespaces that its processes have of their own, or join.
    pub(super) fn namespaces(&self) -> Vec<LinuxNamespaceType> {
        let linux = self.spec.linux().as_ref();
        let given = linux.and_then(|linux| linux.namespaces().as_deref()).unwrap_or_default();
        given.iter().map(|one| one.typ()).collect()
    }

    /// Leaves out what shows cgroups, for a process that has none.
    pub(super) fn leave_out_cgroups(&mut self) {
        let mut mounts = self.spec.mounts().clone().unwrap_or_default();
        let before = mounts.len();
        mounts
            .retain(|mount| !mount.typ().as_deref().is_some_and(|kind| kind.starts_with("cgroup")));
        if mounts.len() < before {
            self.notes
                .push("mounts of cgroups are left out: a user has none under cgroup v1".to_owned());
        }
        self.spec.set_mounts(Some(mounts));
    }

    /// The seccomp profile for this machine.
    fn compile(&mut self, seccomp: Value) -> Result<Option<Filter>, String> {
        if seccomp.is_null() {
            return Ok(None);
        }
        let bytes = serde_json::to_vec(&seccomp).map_err(|error| error.to_string())?;
        let chain = |error: crate::seccomp::SeccompError| {
            format!("linux.seccomp: {}", super::chain(&error))
        };
        let filter =
            Profile::parse(&bytes).and_then(|profile| profile.compile(&Context::host(&[])));
        let filter = filter.map_err(chain)?;
        self.notes.extend(filter.notes().iter().map(|note| format!("linux.seccomp: {note}")));
        Ok(Some(filter))
    }

    /// What a process of this container is and may do. Device files are held back by mount flags and a
    /// missing CAP_MKNOD where no device cgroup does it: libcgroups has none for cgroup v2 without libbpf.
    pub(super) fn privileges(&mut self, process: &Process) -> Privileges {
        let mut privileges = Privileges::of(process, self.filter.clone());
        if crate::cgroup::unified()
            && !self.namespaces().contains(&LinuxNamespaceType::User)
            && self.denies_devices()
        {
            privileges.no_devices = true;
            if privileges.drop_mknod() {
                self.notes.push(
                    "CAP_MKNOD is left out: under cgroup v2 nothing else keeps devices away"
                        .to_owned(),
                );
            }
        }
        privileges
    }

    /// The configuration allows some devices only.
    fn denies_devices(&self) -> bool {
        let resources = self.spec.linux().as_ref().and_then(|linux| linux.resources().as_ref());
        let rules =
            resources.and_then(|resources| resources.devices().as_deref()).unwrap_or_default();
        // Rules count in their order: the last about all devices decides.
        let all = rules.iter().rev().find(|rule| {
            rule.major().is_none_or(|major| major < 0)
                && matches!(rule.typ(), None | Some(LinuxDeviceType::A))
        });
        !all.is_some_and(|rule| rule.allow())
    }

    /// Adds what every program expects and libcontainer would ask the C library for, which loads modules of
    /// the image into a process that has all privileges still.
    pub(super) fn with_home(&self, process: &mut Process) -> Result<(), Error> {
        let mut environment = process.env().clone().unwrap_or_default();
        if environment.iter().any(|entry| entry.starts_with("HOME=")) {
            return Ok(());
        }
        let root = fs::File::open(&self.root).doing(format!("opening {}", self.root.display()))?;
        let passwd = crate::user::read_in(&root, "/etc/passwd").unwrap_or_default();
        let uid = process.user().uid();
        let home = crate::user::find(&passwd, |entry| entry.uid == uid).map(|entry| entry.home);
        environment.push(format!("HOME={}", home.unwrap_or_else(|| "/".to_owned())));
        process.set_env(Some(environment));
        Ok(())
    }
}

fn check_process(spec: &Spec) -> Result<(), String> {
    let process = spec.process().as_ref().ok_or("it has no `process`")?;
    let args = process.args().as_ref();
    if args.and_then(|args| args.first()).is_none_or(String::is_empty) {
        return Err("process.args names no command".to_owned());
    }
    match process.cwd().is_absolute() {
        true => Ok(()),
        false => Err(format!("process.cwd '{}' is not absolute", process.cwd().display())),
    }
}
