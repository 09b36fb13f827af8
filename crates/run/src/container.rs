//! What is to run: serialisable, so that a shim reads it from a file and `sconce inspect` prints it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::request::{Port, Volume};

/// A container: its root, its command, and what it may use.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Container {
    /// The image's extracted layers, the top one first. They are never written to.
    pub lowers: Vec<PathBuf>,
    /// The folder in which this container gets one of its own, named after its id. It is made if
    /// missing; what killed containers left there is removed. On a file system that overlays
    /// cannot write to, what the container changes is kept in memory.
    pub folder: PathBuf,
    /// `--name`: how people call it; unique among the living of `folder`.
    pub name: Option<String>,
    /// What people called the image, for `ps`.
    pub image: String,
    /// It was started before its image was whole, for `ps`.
    pub early: bool,
    /// `--label`.
    pub labels: BTreeMap<String, String>,
    /// What to run; the first word is looked for on the environment's PATH.
    pub command: Vec<String>,
    /// The whole environment; PATH, HOME, HOSTNAME and (on a terminal) TERM are added where
    /// they are missing. The last of two equal names counts.
    pub env: Vec<(String, String)>,
    /// Where the command starts; made if missing. `/` if not given.
    pub workdir: Option<PathBuf>,
    /// `name`, `uid`, `name:group` or `uid:gid`, looked up in the image. Root if not given.
    pub user: Option<String>,
    /// Whether it is the image that names that user, and not who starts the container.
    #[serde(default)]
    pub user_of_image: bool,
    /// `--group-add`: more groups of the command, by name or number, looked up in the image.
    pub groups: Vec<String>,
    /// Folders and files of the host to bind-mount.
    pub volumes: Vec<Volume>,
    /// Folders in memory.
    pub tmpfs: Vec<Tmpfs>,
    /// Device nodes of the host.
    pub devices: Vec<Device>,
    /// Ports of the host that lead to ports inside.
    pub ports: Vec<Port>,
    /// Its network mode.
    pub network: Network,
    /// It sees the host's processes (`--pid host`).
    pub host_pids: bool,
    /// The root cannot be written to; volumes, `/dev/shm`, `/tmp`, `/var/tmp` and `/run` still can.
    pub read_only: bool,
    /// Size of `/dev/shm` in bytes; [`crate::default_shm_bytes`] if not given. It costs nothing
    /// until it is used.
    pub shm_bytes: Option<u64>,
    /// Memory limit, in bytes.
    pub memory_bytes: Option<u64>,
    /// Limit on memory and swap together, in bytes; -1 for no limit on swap. Docker's
    /// `--memory-swap`; without it the kernel's own rule holds.
    pub memory_swap_bytes: Option<i64>,
    /// Most processor time it may use, in cores.
    pub cpus: Option<f64>,
    /// The processors it runs on, by number; the caller's if not given.
    pub processors: Option<Vec<usize>>,
    /// Most processes and threads; [`DEFAULT_PIDS`] if not given, none for -1.
    pub pids: Option<i64>,
    /// `--ulimit`, in the order given.
    pub ulimits: Vec<Ulimit>,
    /// Its host name; the host's own if not given.
    pub hostname: Option<String>,
    /// More lines of `/etc/hosts`.
    pub hosts: Vec<(String, IpAddr)>,
    /// Name servers, search domains and options of `/etc/resolv.conf`; the host's where empty.
    pub dns: Dns,
    /// Changes to the default capabilities.
    pub capabilities: Capabilities,
    /// The seccomp filter.
    pub seccomp: Seccomp,
    /// The AppArmor profile: `unconfined`, a loaded profile's name, or sconce's own if not given.
    pub apparmor: Option<String>,
    /// setuid programs gain nothing. Always so for users other than root.
    pub no_new_privileges: bool,
    /// What `sconce stop` sends first; TERM if not given.
    pub stop_signal: Option<i32>,
    /// Seconds that `sconce stop` waits before KILL; 10 if not given.
    pub stop_timeout: Option<u64>,
    /// What its standard streams are.
    pub stdio: Stdio,
    /// It outlives its caller (`-d`); its output goes to a log.
    pub detach: bool,
    /// Its id is written here once it has one (`--cidfile`); a file that is there is an error.
    pub id_file: Option<PathBuf>,
    /// Its record and log go when it ends (`--rm`). Only a detached one leaves any.
    pub remove: bool,
    /// How it was started, for `sconce generate systemd`.
    pub invocation: Option<Invocation>,
    /// The GPUs it has, in words, for `ps`.
    pub gpus: Vec<String>,
    /// Folders that are made in its root where they are missing.
    #[serde(default)]
    pub folders: Vec<PathBuf>,
    /// Folders that no volume may show: each is covered where a volume holds it.
    pub hidden: Vec<PathBuf>,
    /// A folder that is removed when it ends.
    pub leased: Option<PathBuf>,
    /// CDI `containerEdits`, as [`crate::cdi::select`] finds them; applied in order, after all else.
    pub edits: Vec<serde_json::Value>,
    /// After a clean end, what it changed in its root is moved here (same file system as
    /// `folder`) instead of being removed. As overlayfs keeps it: deleted files are
    /// character devices 0/0.
    pub keep_changes: Option<PathBuf>,
}

/// Most processes and threads of a container that says nothing of it. Docker sets none, podman
/// 2048, which DataLoader workers on a large machine exceed.
pub const DEFAULT_PIDS: i64 = 32_768;

impl Container {
    /// A container with everything at its default.
    pub fn new(
        lowers: Vec<PathBuf>,
        folder: impl Into<PathBuf>,
        command: impl IntoIterator<Item = impl Into<String>>,
    ) -> Self {
        Self {
            lowers,
            folder: folder.into(),
            name: None,
            early: false,
            image: String::new(),
            labels: BTreeMap::new(),
            command: command.into_iter().map(Into::into).collect(),
            env: Vec::new(),
            workdir: None,
            user: None,
            user_of_image: false,
            groups: Vec::new(),
            volumes: Vec::new(),
            tmpfs: Vec::new(),
            devices: Vec::new(),
            ports: Vec::new(),
            network: Network::Host,
            host_pids: false,
            read_only: false,
            shm_bytes: None,
            memory_bytes: None,
            memory_swap_bytes: None,
            cpus: None,
            processors: None,
            pids: None,
            ulimits: Vec::new(),
            hostname: None,
            hosts: Vec::new(),
            dns: Dns::default(),
            capabilities: Capabilities::default(),
            seccomp: Seccomp::Default,
            apparmor: None,
            no_new_privileges: false,
            stop_signal: None,
            stop_timeout: None,
            stdio: Stdio::Output,
            detach: false,
            id_file: None,
            remove: false,
            invocation: None,
            gpus: Vec::new(),
            folders: Vec::new(),
            hidden: Vec::new(),
            leased: None,
            edits: Vec::new(),
            keep_changes: None,
        }
    }
}

/// The command line that started a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invocation {
    /// The program.
    pub program: PathBuf,
    /// What stood behind it.
    pub arguments: Vec<String>,
    /// Where it was called.
    pub folder: PathBuf,
}

/// A network mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Network {
    /// The host's: every port inside is a port of the host, as HPC runtimes have it.
    #[default]
    Host,
    /// None but its own loopback device.
    None,
    /// One of its own, joined to the host's by `pasta` (passt).
    Private,
}

/// What the command's standard streams are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stdio {
    /// Output goes where the caller's goes; there is no input.
    #[default]
    Output,
    /// The caller's three streams (`-i`).
    Inherit,
    /// A terminal of its own, joined to the caller's (`-it`); with `-t` alone nothing is typed.
    Terminal,
}

/// `--tmpfs TARGET[:OPTIONS]`, or a mount of that type.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tmpfs {
    /// Where it is inside: an absolute path.
    pub target: PathBuf,
    /// Most bytes; half of the memory if not given.
    pub size: Option<u64>,
    /// Mode of its top folder; 1777 if not given.
    pub mode: Option<u32>,
    /// Who owns its top folder; root if not given.
    pub uid: Option<u32>,
    /// The group of its top folder; root's if not given.
    pub gid: Option<u32>,
    /// Programs there can be executed.
    pub exec: bool,
    /// It cannot be written to.
    pub read_only: bool,
}

impl Tmpfs {
    /// One on `target` with Docker's defaults.
    pub fn new(target: impl Into<PathBuf>) -> Self {
        Self {
            target: target.into(),
            size: None,
            mode: None,
            uid: None,
            gid: None,
            exec: false,
            read_only: false,
        }
    }
}

/// `--device HOST[:CONTAINER[:rwm]]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// The node on the host, or a folder of nodes.
    pub source: PathBuf,
    /// Where it is inside.
    pub target: PathBuf,
}

/// `--ulimit NAME=SOFT[:HARD]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ulimit {
    /// As limits.conf(5) calls it: `memlock`, `nofile`.
    pub name: String,
    /// `None` is unlimited.
    pub soft: Option<u64>,
    /// `None` is unlimited.
    pub hard: Option<u64>,
}

/// What replaces the host's resolver settings.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Dns {
    /// `--dns`.
    pub servers: Vec<IpAddr>,
    /// `--dns-search`.
    pub search: Vec<String>,
    /// `--dns-option`.
    pub options: Vec<String>,
}

/// `--cap-add` and `--cap-drop`: names without `CAP_` in capitals, or `ALL`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Capabilities {
    /// Added.
    pub add: Vec<String>,
    /// Dropped, first.
    pub drop: Vec<String>,
}

/// Which seccomp filter holds the container's processes.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Seccomp {
    /// Docker's default profile.
    #[default]
    Default,
    /// None.
    Unconfined,
    /// The text of a profile in Docker's format.
    Profile(String),
}
