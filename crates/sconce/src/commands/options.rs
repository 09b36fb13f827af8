//! The options of a container, as `run` and `verify` have them: Docker's where Docker has them.
//! `crates/start/data/docker.toml` says what becomes of the rest.

use std::path::PathBuf;

use clap::ArgAction;
use sconce_run::{Stdio, parse_cpus, parse_env, parse_size};
use sconce_start::{Device, Error, Mount, Pull, Request, SecurityOption};

use crate::cli::Global;
use crate::commands::locking::Locking;
use crate::commands::paths;
use crate::commands::registries::Registries;
use crate::context::environment;
use crate::error::Failure;

/// What decides the container, and not how it is attended.
#[derive(clap::Args, Clone, Default, PartialEq)]
pub struct Options {
    #[command(flatten)]
    pub registries: Registries,
    /// GPUs to use: all, none, a count, or comma-separated indexes or UUIDs
    #[arg(long, value_name = "WHICH")]
    gpus: Option<String>,
    /// Set an environment variable: NAME=VALUE, or NAME to pass the host's value
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    env: Vec<String>,
    /// Read environment variables from a file, one NAME=VALUE per line
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,
    /// Bind-mount a host path: HOST:CONTAINER[:ro]
    #[arg(short, long, value_name = "HOST:CONTAINER")]
    volume: Vec<String>,
    /// Publish a container port on the host: HOST:CONTAINER
    #[arg(short, long, value_name = "HOST:CONTAINER")]
    publish: Vec<String>,
    /// Publish all ports that the image exposes, under the same numbers
    #[arg(short = 'P', long)]
    publish_all: bool,
    /// User to run as: name or uid, optionally :group or :gid
    #[arg(short, long, value_name = "USER")]
    user: Option<String>,
    /// Working directory of the command
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<std::ffi::OsString>,
    /// Size of /dev/shm, such as 8g [default: half of the host's memory]
    #[arg(long, value_name = "SIZE")]
    shm_size: Option<String>,
    /// Start even if `sconce doctor` says that it can't work
    #[arg(long)]
    force: bool,
    /// Allow, this once, what the project asks for outside its folder (see `sconce trust`)
    #[arg(long)]
    pub trust: bool,
    #[command(flatten)]
    lock: Locking,
    /// Use all CPUs, not only those near the GPUs
    #[arg(long)]
    no_affinity: bool,
    /// Don't set the environment variables for training and the CPU affinity (see docs/run.md)
    #[arg(long)]
    no_defaults: bool,
    /// Root folder of the driver's files, if not /
    #[arg(long, value_name = "DIR")]
    driver_root: Option<PathBuf>,
    /// When to build or pull the image: missing, always or never
    #[arg(long, value_name = "WHEN")]
    pull: Option<String>,
    /// Platform; must be the host's: linux/amd64 or linux/arm64
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<String>,
    /// Print help
    #[arg(long, action = ArgAction::Help)]
    help: Option<bool>,
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    network: Network,
    #[command(flatten)]
    limits: Limits,
    #[command(flatten)]
    security: Security,
}

/// Mounts and devices.
#[derive(clap::Args, Clone, Default, PartialEq)]
#[command(next_help_heading = "Files")]
struct Files {
    /// Add a mount: type=bind,source=DIR,target=DIR[,readonly] or type=tmpfs,target=DIR
    #[arg(long, value_name = "MOUNT")]
    mount: Vec<String>,
    /// Mount a tmpfs: DIR[:size=64m,mode=700]
    #[arg(long, value_name = "DIR")]
    tmpfs: Vec<String>,
    /// Add a host device, such as /dev/fuse
    #[arg(long, value_name = "NODE")]
    device: Vec<String>,
    /// Mount the root filesystem read-only; volumes, /dev/shm, /tmp, /var/tmp and /run stay writable
    #[arg(long)]
    read_only: bool,
}

/// Network options.
#[derive(clap::Args, Clone, Default, PartialEq)]
#[command(next_help_heading = "Network")]
struct Network {
    /// Network mode: host, none or private
    #[arg(long, value_name = "MODE")]
    network: Option<String>,
    /// Container host name [default: the host's]
    #[arg(short = 'h', long, value_name = "NAME")]
    hostname: Option<String>,
    /// Add a line to /etc/hosts: NAME:IP
    #[arg(long, value_name = "NAME:IP")]
    add_host: Vec<String>,
    /// DNS server, instead of the host's
    #[arg(long, value_name = "IP")]
    dns: Vec<String>,
    /// DNS search domain, instead of the host's
    #[arg(long, value_name = "DOMAIN")]
    dns_search: Vec<String>,
    /// resolv.conf(5) option, instead of the host's
    #[arg(long, value_name = "OPTION")]
    dns_option: Vec<String>,
}

/// Resource limits.
#[derive(clap::Args, Clone, Default, PartialEq)]
#[command(next_help_heading = "Limits")]
struct Limits {
    /// Memory limit, such as 64g
    #[arg(short, long, value_name = "SIZE")]
    memory: Option<String>,
    /// Limit of memory plus swap; -1 for no limit
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
    memory_swap: Option<String>,
    /// CPU limit, such as 4 or 0.5
    #[arg(long, value_name = "N")]
    cpus: Option<String>,
    /// CPU limit as a CFS quota, in microseconds
    #[arg(long, value_name = "MICROSECONDS", allow_hyphen_values = true, hide_short_help = true)]
    cpu_quota: Option<String>,
    /// Period of the CFS quota, in microseconds
    #[arg(long, value_name = "MICROSECONDS", hide_short_help = true)]
    cpu_period: Option<String>,
    /// CPUs to run on, such as 0-3,8
    #[arg(long, value_name = "LIST")]
    cpuset_cpus: Option<String>,
    /// Limit of processes and threads; -1 for no limit
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    pids_limit: Option<String>,
    /// Set a ulimit: NAME=SOFT[:HARD], such as nofile=1024
    #[arg(long, value_name = "LIMIT")]
    ulimit: Vec<String>,
}

/// Privileges.
#[derive(clap::Args, Clone, Default, PartialEq)]
#[command(next_help_heading = "Security")]
struct Security {
    /// Add a Linux capability, such as SYS_PTRACE
    #[arg(long, value_name = "CAPABILITY")]
    cap_add: Vec<String>,
    /// Drop a Linux capability; ALL drops all
    #[arg(long, value_name = "CAPABILITY")]
    cap_drop: Vec<String>,
    /// seccomp=unconfined, seccomp=FILE, apparmor=PROFILE or no-new-privileges
    #[arg(long, value_name = "OPTION")]
    security_opt: Vec<String>,
    /// Add a supplementary group, by name or gid
    #[arg(long, value_name = "GROUP")]
    group_add: Vec<String>,
    /// PID namespace: host to share the host's
    #[arg(long, value_name = "MODE")]
    pid: Option<String>,
}

impl Options {
    /// The options as a request.
    pub fn request(&self) -> Result<Request, Failure> {
        let mut request = Request {
            gpus: self.gpus.clone(),
            driver_root: paths::of_given("--driver-root", self.driver_root.as_deref())?,
            force: self.force,
            lock: self.lock.policy(),
            no_affinity: self.no_affinity,
            no_defaults: self.no_defaults,
            user: self.user.clone().filter(|user| !user.is_empty()),
            workdir: self.workdir.clone().filter(|folder| !folder.is_empty()).map(PathBuf::from),
            stdio: Stdio::Output,
            ..Request::default()
        };
        request.shm_bytes = size("--shm-size", self.shm_size.as_deref())?;
        let env = environment();
        for path in &self.env_file {
            let path = paths::of_option("--env-file", path)?;
            let variables = paths::while_reading(&path, || sconce_start::env_file(&path, &env))?;
            request.env.extend(variables.into_iter().map(|(name, value)| (name, Some(value))));
        }
        for variable in &self.env {
            request.env.push(parse_env(variable, |name| env.get(name))?);
        }
        for volume in &self.volume {
            request.binds.push(sconce_start::volume(volume, &env)?);
        }
        for ports in &self.publish {
            request.ports.extend(sconce_start::ports(ports)?);
        }
        request.publish_all = self.publish_all;
        if let Some(platform) = &self.platform {
            sconce_start::platform(platform)?;
        }
        if let Some(given) = &self.pull {
            request.pull = Pull::parse(given)?;
        }
        self.files.add(&mut request)?;
        for bind in &mut request.binds {
            reach_source(&mut bind.volume)?;
        }
        self.network.add(&mut request)?;
        self.limits.add(&mut request)?;
        self.security.add(&mut request)?;
        Ok(request)
    }

    /// What `--gpus` was given.
    pub fn gpus(&self) -> Option<&str> {
        self.gpus.as_deref()
    }

    /// Nothing is said but perhaps `--gpus`.
    pub fn says_only_gpus(&self) -> bool {
        *self == Self { gpus: self.gpus.clone(), help: self.help, ..Self::default() }
    }

    /// What holds for the command: nothing is fetched with `--pull never`.
    pub fn global(&self, global: &Global) -> Global {
        let never = self.pull.as_deref() == Some("never");
        Global { offline: global.offline || never, ..global.clone() }
    }
}

/// Where the source of a volume leads, before anything is made of it. What is there no more, or a link to what is not there,
/// is named by who starts the container.
fn reach_source(volume: &mut sconce_run::Volume) -> Result<(), Failure> {
    match paths::reach(&volume.source) {
        Ok(reached) if reached.guarded => {
            (volume.source, volume.resolved) = (reached.real, true);
            Ok(())
        }
        Ok(_) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::Other => {
            let (source, target) = (volume.source.display(), volume.target.display());
            let given = format!("{source}:{target}");
            Err(Error::Option { option: "volume".into(), given, why: error.to_string() }.into())
        }
        Err(_) => Ok(()),
    }
}

/// As Docker: 0 is as if it were not given.
fn is_nothing(given: &str) -> bool {
    let number = given.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    number.parse::<f64>().is_ok_and(|number| number == 0.0)
}

fn size(option: &'static str, given: Option<&str>) -> Result<Option<u64>, Failure> {
    let given = given.filter(|given| !is_nothing(given));
    Ok(given.map(|given| parse_size(option, given)).transpose()?)
}

impl Files {
    fn add(&self, request: &mut Request) -> Result<(), Failure> {
        for mount in &self.mount {
            match sconce_start::mount(mount, &environment())? {
                Mount::Bind(bind) => request.binds.push(bind),
                Mount::Tmpfs(tmpfs) => request.tmpfs.push(tmpfs),
            }
        }
        for tmpfs in &self.tmpfs {
            request.tmpfs.push(sconce_start::tmpfs(tmpfs)?);
        }
        let mut gpus = Vec::new();
        for device in &self.device {
            match sconce_start::device(device)? {
                Device::Node(mut node) => {
                    node.source = paths::of_option("--device", &node.source)?;
                    request.devices.push(node);
                }
                Device::Gpus(name) => gpus.push(name),
            }
        }
        if !gpus.is_empty() {
            if request.gpus.is_some() {
                let why = "GPUs are chosen with --gpus already; leave one of the two out";
                let given = format!("nvidia.com/gpu={}", gpus[0]);
                let option = "--device".into();
                return Err(Error::Option { option, given, why: why.into() }.into());
            }
            request.gpus = Some(format!("device={}", gpus.join(",")));
        }
        request.read_only = self.read_only;
        Ok(())
    }
}

impl Network {
    fn add(&self, request: &mut Request) -> Result<(), Failure> {
        request.network = self.network.as_deref().map(sconce_start::network).transpose()?;
        request.hostname.clone_from(&self.hostname);
        for line in &self.add_host {
            request.hosts.push(sconce_start::host_line(line)?);
        }
        for server in &self.dns {
            let server = server.parse().map_err(|_| Error::Option {
                option: "--dns".into(),
                given: server.clone(),
                why: "that is no IP address".into(),
            })?;
            request.dns.servers.push(server);
        }
        // A line of resolv.conf ends at white space.
        let words = |option: &str, words: &[String]| match words.iter().find(|word| {
            word.is_empty() || word.contains(|c: char| c.is_whitespace() || c.is_control())
        }) {
            None => Ok(words.to_vec()),
            Some(word) => Err(Error::Option {
                option: option.into(),
                given: word.clone(),
                why: "write one word; give the option again for another".into(),
            }),
        };
        request.dns.search = words("--dns-search", &self.dns_search)?;
        request.dns.options = words("--dns-option", &self.dns_option)?;
        Ok(())
    }
}

impl Limits {
    fn add(&self, request: &mut Request) -> Result<(), Failure> {
        request.memory_bytes = size("--memory", self.memory.as_deref())?;
        if let Some(swap) = &self.memory_swap {
            request.memory_swap_bytes = sconce_start::swap(swap, request.memory_bytes)?;
        }
        let quota =
            sconce_start::cpus_of_quota(self.cpu_quota.as_deref(), self.cpu_period.as_deref())?;
        request.cpus = match (&self.cpus, quota) {
            (Some(_), Some(_)) => {
                return Err(Error::Option {
                    option: "--cpu-quota".into(),
                    given: self.cpu_quota.clone().unwrap_or_default(),
                    why: "--cpus says the same; leave one of the two out".into(),
                }
                .into());
            }
            (Some(cpus), None) if is_nothing(cpus) => None,
            (Some(cpus), None) => Some(parse_cpus(cpus)?),
            (None, quota) => quota,
        };
        request.processors =
            self.cpuset_cpus.as_deref().map(sconce_start::processors).transpose()?;
        if let Some(given) = &self.pids_limit {
            // As Docker: 0 is no limit too.
            let limit = given.parse::<i64>().ok().filter(|limit| *limit >= -1);
            let limit = limit.ok_or_else(|| Error::Option {
                option: "--pids-limit".into(),
                given: given.clone(),
                why: "write a number; -1 is no limit".into(),
            })?;
            request.pids = Some(if limit == 0 { -1 } else { limit });
        }
        for limit in &self.ulimit {
            let limit = sconce_start::ulimit(limit)?;
            request.ulimits.retain(|known| known.name != limit.name);
            request.ulimits.push(limit);
        }
        Ok(())
    }
}

impl Security {
    fn add(&self, request: &mut Request) -> Result<(), Failure> {
        for name in &self.cap_add {
            request.capabilities.add.push(sconce_start::capability("--cap-add", name)?);
        }
        for name in &self.cap_drop {
            request.capabilities.drop.push(sconce_start::capability("--cap-drop", name)?);
        }
        for option in &self.security_opt {
            match sconce_start::security_option(option)? {
                SecurityOption::Seccomp(seccomp) => request.seccomp = seccomp,
                SecurityOption::Profile(path) => {
                    let path = paths::of_option("--security-opt", &path)?;
                    request.seccomp = sconce_start::seccomp_profile(&path)?;
                }
                SecurityOption::AppArmor(profile) => request.apparmor = Some(profile),
                SecurityOption::NoNewPrivileges(on) => request.no_new_privileges = on,
                SecurityOption::Nothing => {}
            }
        }
        request.groups.clone_from(&self.group_add);
        request.host_pids = match self.pid.as_deref() {
            None | Some("" | "private") => false,
            Some("host") => true,
            Some(given) => {
                return Err(Error::Option {
                    option: "--pid".into(),
                    given: given.to_owned(),
                    why: "there is host; `sconce exec` starts more in a container that runs".into(),
                }
                .into());
            }
        };
        Ok(())
    }
}
