//! A machine as everything here sees it: a folder that holds its files, and what is not a file.
//!
//! All paths are the machine's own absolute paths. On the host the folder is `/`; a described
//! machine (a recorded one, or a test's) lies in any folder, its device nodes and NVML answers
//! given as data. Links are followed inside the folder, never out of it.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{nvml, opening};

/// No file read here is longer; a linker cache has some 100 KiB.
const LONGEST: u64 = 16 << 20;
/// Names in one folder.
const MOST_NAMES: usize = 65_536;
/// Links followed for one path (Linux' own limit).
const MOST_LINKS: usize = 40;

/// One machine.
#[derive(Clone, Debug)]
pub struct Machine {
    root: PathBuf,
    driver_root: Option<PathBuf>,
    given: Option<Given>,
}

/// What a machine says beyond its files: given for a described one, asked for on the host.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Given {
    /// Device nodes.
    pub node: Vec<Node>,
    /// Unix sockets.
    pub sockets: Vec<PathBuf>,
    /// What NVML answers; absent when it can't be asked.
    pub nvml: Option<nvml::Answers>,
    /// Size of the file system at `/dev/shm`, in bytes.
    pub shm_bytes: Option<u64>,
    /// The environment of the caller.
    pub environment: BTreeMap<String, String>,
    /// The hard limit of locked memory, in bytes; absent means unlimited.
    pub memlock_bytes: Option<u64>,
    /// The kernel's log, newest line last.
    pub kernel_log: Option<String>,
    /// Whether the caller is root.
    pub root: bool,
    /// What the host is called, and whether that name resolves.
    pub host_name: Option<HostName>,
}

/// The host's name.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostName {
    /// As `uname` says it.
    pub name: String,
    /// Whether it has an address.
    pub resolves: bool,
}

/// A device node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Node {
    /// Its path on the machine.
    pub path: PathBuf,
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// Permission bits.
    #[serde(default = "everyone")]
    pub mode: u32,
    /// What opening it for reading and writing gave.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open: Option<Opening>,
}

/// What opening a device node gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Opening {
    /// It opened.
    Fine,
    /// EPERM: the device cgroup or a security module forbids it.
    Forbidden,
    /// EACCES: the permission bits or SELinux forbid it.
    Denied,
    /// ENODEV, ENXIO or EIO: nothing answers behind it.
    Dead,
    /// Another error.
    Failed,
    /// It had not opened when patience ran out: the driver, or the GPU, hangs.
    Hung,
}

impl Opening {
    /// What an errno of open(2) means.
    pub(crate) fn of(code: i32) -> Self {
        use rustix::io::Errno;
        match Errno::from_raw_os_error(code) {
            Errno::PERM => Self::Forbidden,
            Errno::ACCESS => Self::Denied,
            Errno::NODEV | Errno::NXIO | Errno::IO => Self::Dead,
            _ => Self::Failed,
        }
    }
}

fn everyone() -> u32 {
    0o666
}

impl Machine {
    /// The machine this program runs on.
    pub fn host() -> Self {
        Self { root: "/".into(), driver_root: None, given: None }
    }

    /// A machine whose files lie under `root` and whose other answers are `given`.
    pub fn described(root: impl Into<PathBuf>, given: Given) -> Self {
        Self { root: root.into(), driver_root: None, given: Some(given) }
    }

    /// The same machine, its driver's files under `driver_root` (`/run/nvidia/driver` for the
    /// driver container, any folder that holds `usr/lib…` or `lib64`).
    pub fn with_driver_root(mut self, driver_root: impl Into<PathBuf>) -> Self {
        self.driver_root = Some(driver_root.into());
        self
    }

    /// The folder named with `--driver-root`.
    pub fn driver_root(&self) -> Option<&Path> {
        self.driver_root.as_deref()
    }

    /// What was given beyond files; `None` on the host.
    pub fn given(&self) -> Option<&Given> {
        self.given.as_ref()
    }

    /// Whether this is the machine this program runs on.
    pub fn is_host(&self) -> bool {
        self.given.is_none()
    }

    /// The path after following all links, as the machine names it; `None` if nothing is there.
    pub fn resolve(&self, path: &Path) -> Option<PathBuf> {
        // A described node's folder need not be on disk.
        if self.given_node(path).is_some() {
            return Some(path.to_owned());
        }
        let mut left: Vec<PathBuf> = vec![path.to_owned()];
        let mut done = PathBuf::from("/");
        let mut links = 0;
        while let Some(part) = left.pop() {
            let mut parts: Vec<Component<'_>> = part.components().collect();
            if parts.len() != 1 {
                parts.reverse();
                left.extend(parts.iter().map(|part| PathBuf::from(part.as_os_str())));
                continue;
            }
            match parts.pop()? {
                Component::RootDir => done = PathBuf::from("/"),
                Component::ParentDir => _ = done.pop(),
                Component::Normal(name) => {
                    let next = done.join(name);
                    if self.given_node(&next).is_some() {
                        done = next;
                        continue;
                    }
                    let at = self.below_root(&next);
                    if at.symlink_metadata().ok()?.file_type().is_symlink() {
                        links += 1;
                        if links > MOST_LINKS {
                            return None;
                        }
                        left.push(fs::read_link(at).ok()?);
                    } else {
                        done = next;
                    }
                }
                Component::CurDir | Component::Prefix(_) => {}
            }
        }
        Some(done)
    }

    /// Where the file can be opened by this program.
    pub fn at(&self, path: &Path) -> Option<PathBuf> {
        Some(self.below_root(&self.resolve(path)?))
    }

    fn below_root(&self, path: &Path) -> PathBuf {
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// Whether anything is at this path.
    pub fn exists(&self, path: &Path) -> bool {
        self.resolve(path).is_some()
    }

    /// Whether a folder is at this path.
    pub fn is_dir(&self, path: &Path) -> bool {
        self.at(path).is_some_and(|path| path.is_dir())
    }

    /// Whether a plain file is at this path.
    pub fn is_file(&self, path: &Path) -> bool {
        self.at(path).is_some_and(|path| path.is_file())
    }

    /// Whether a socket is at this path.
    pub fn is_socket(&self, path: &Path) -> bool {
        if let Some(given) = &self.given {
            return given.sockets.iter().any(|socket| socket == path);
        }
        let meta = self.at(path).and_then(|path| fs::metadata(path).ok());
        meta.is_some_and(|meta| meta.file_type().is_socket())
    }

    /// Where the link at this path points, unresolved; `None` if there is no link.
    pub fn link(&self, path: &Path) -> Option<PathBuf> {
        let folder = self.at(path.parent()?)?;
        fs::read_link(folder.join(path.file_name()?)).ok()
    }

    /// The bytes of a regular file; `None` if nothing is there. Longer ones than 16 MiB, and what is
    /// no regular file, are errors.
    pub fn read(&self, path: &Path) -> io::Result<Option<Vec<u8>>> {
        let Some(at) = self.at(path) else { return Ok(None) };
        sconce_open::read_if_there(&at, LONGEST)
    }

    /// The text of a small file, trimmed; `None` when it is not there or can't be read.
    pub fn text(&self, path: &str) -> Option<String> {
        let bytes = self.read(Path::new(path)).ok()??;
        Some(String::from_utf8_lossy(&bytes).trim().to_owned())
    }

    /// The names in a folder, sorted; empty when there is none.
    pub fn names(&self, folder: &Path) -> Vec<String> {
        let mut names: Vec<String> = self
            .at(folder)
            .and_then(|path| fs::read_dir(path).ok())
            .into_iter()
            .flatten()
            .take(MOST_NAMES)
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .collect();
        if let Some(given) = &self.given {
            let nodes = given.node.iter().map(|node| &node.path).chain(&given.sockets);
            names.extend(
                nodes
                    .filter(|path| path.parent() == Some(folder))
                    .filter_map(|path| Some(path.file_name()?.to_str()?.to_owned())),
            );
        }
        names.sort();
        names.dedup();
        names
    }

    /// The character device at this path.
    pub fn node(&self, path: &Path) -> Option<Node> {
        if self.given.is_some() {
            let node = self.given_node(path).or_else(|| self.given_node(&self.resolve(path)?));
            return node.cloned();
        }
        let meta = fs::metadata(self.at(path)?).ok()?;
        meta.file_type().is_char_device().then(|| Node {
            path: path.to_owned(),
            major: rustix::fs::major(meta.rdev()),
            minor: rustix::fs::minor(meta.rdev()),
            mode: meta.mode() & 0o7777,
            open: None,
        })
    }

    fn given_node(&self, path: &Path) -> Option<&Node> {
        self.given.as_ref()?.node.iter().find(|node| node.path == path)
    }

    /// What opening the node gives at once. The driver only notes that a GPU is wanted and says yes; whether it
    /// starts, [`Machine::open_all`] finds out.
    pub fn open(&self, node: &Node) -> Opening {
        if self.given.is_some() {
            return node.open.unwrap_or(Opening::Fine);
        }
        let Some(at) = self.at(&node.path) else { return Opening::Dead };
        let open = fs::OpenOptions::new().read(true).write(true).custom_flags(NONBLOCK).open(at);
        match open.map_err(|error| error.raw_os_error()) {
            Ok(_) => Opening::Fine,
            Err(Some(code)) => Opening::of(code),
            Err(None) => Opening::Failed,
        }
    }

    /// What opening the nodes gives when one waits for it as CUDA does, all at once and within `patience`. An idle
    /// GPU without persistence takes a second or two. Capabilities (`/dev/nvidia-caps`) are opened to read, as they
    /// are meant to be.
    pub fn open_all(&self, nodes: &[Node], patience: Duration) -> Vec<Opening> {
        if self.given.is_some() {
            return nodes.iter().map(|node| self.open(node)).collect();
        }
        let paths: Vec<(PathBuf, bool)> = nodes
            .iter()
            .map(|node| {
                let at = self.at(&node.path).unwrap_or_else(|| node.path.clone());
                (at, node.path.starts_with("/dev/nvidia-caps"))
            })
            .collect();
        let paths: Vec<(&Path, bool)> = paths.iter().map(|(path, read)| (&**path, *read)).collect();
        opening::open_all(&paths, patience)
    }

    /// What NVML answers within `patience`; `library` is where libnvidia-ml lies on the machine.
    pub fn nvml(&self, library: &Path, patience: Duration) -> Result<nvml::Answers, nvml::Silence> {
        match &self.given {
            Some(given) => given.nvml.clone().ok_or(nvml::Silence::NotGiven),
            None => nvml::ask(library, patience),
        }
    }
}

/// `O_NONBLOCK`.
const NONBLOCK: i32 = rustix::fs::OFlags::NONBLOCK.bits() as i32;
