//! What is asked of a container, by the command line and `[run]`; and the container that comes of it
//! and the image's configuration.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use sconce_oci::Process;
use sconce_run::{Capabilities, Container, Dns, Network, Port, Seccomp, Stdio, Tmpfs, Ulimit};
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::limits::{self, signal};
use crate::network::HostAddress;
use crate::volumes::{Bind, check_places, check_sources};
use crate::{network, variables};

/// What is asked. [`Request::default`] asks for nothing: the image and the defaults decide.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Request {
    /// What runs instead of the image's command.
    pub command: Vec<String>,
    /// Instead of the image's entrypoint; an empty one leaves none.
    pub entrypoint: Option<String>,
    /// What its standard streams are.
    pub stdio: Stdio,
    /// It outlives its caller.
    pub detach: bool,
    /// Its record and log go when it ends.
    pub remove: bool,
    /// How people call it.
    pub name: Option<String>,
    /// Added to the image's labels.
    pub labels: Vec<(String, String)>,
    /// Where its id is written to; the file must not be there.
    pub id_file: Option<PathBuf>,
    /// Which GPUs, in the words of `--gpus`; all that can be had if not given.
    pub gpus: Option<String>,
    /// Where the driver's files are, if not in the usual folders.
    pub driver_root: Option<PathBuf>,
    /// What may become of the project's lock.
    #[serde(skip)]
    pub lock: sconce_build::Policy,
    /// When an image is pulled from its registry.
    pub pull: Pull,
    /// It starts even where `sconce doctor` says that it can't work.
    pub force: bool,
    /// It runs on all processors, not only on those near the GPUs.
    pub no_affinity: bool,
    /// Nothing is set for training: neither variables nor the affinity.
    pub no_defaults: bool,
    /// Packages with native code are not imported beside the first run.
    pub no_import_check: bool,
    /// It may start before its image is whole: whoever asks for that finishes the image.
    pub early: bool,
    /// Its variables; the last of two equal names counts, and one without a value takes away the
    /// image's.
    pub env: Vec<(String, Option<String>)>,
    /// Where the command starts; the image's folder if not given.
    pub workdir: Option<PathBuf>,
    /// Who it runs as; the image's user if not given.
    pub user: Option<String>,
    /// More groups of the command.
    pub groups: Vec<String>,
    /// Folders and files of this machine.
    pub binds: Vec<Bind>,
    /// Folders in memory.
    pub tmpfs: Vec<Tmpfs>,
    /// Device nodes of this machine.
    pub devices: Vec<sconce_run::Device>,
    /// Ports of this machine that lead to ports inside.
    pub ports: Vec<Port>,
    /// `-P`: the ports that the image exposes are published as well.
    pub publish_all: bool,
    /// Its network mode; the host's if not given.
    pub network: Option<Network>,
    /// Its host name; this machine's if not given.
    pub hostname: Option<String>,
    /// More lines of `/etc/hosts`.
    pub hosts: Vec<(String, HostAddress)>,
    /// What replaces this machine's resolver settings.
    pub dns: Dns,
    /// It sees this machine's processes.
    pub host_pids: bool,
    /// Its root can't be written to.
    pub read_only: bool,
    /// Size of `/dev/shm`, bytes.
    pub shm_bytes: Option<u64>,
    /// Memory limit, bytes.
    pub memory_bytes: Option<u64>,
    /// Limit on memory and swap together, bytes; -1 is none.
    pub memory_swap_bytes: Option<i64>,
    /// Quota of processor time, in processors.
    pub cpus: Option<f64>,
    /// The processors it runs on, by number.
    pub processors: Option<Vec<usize>>,
    /// Most processes and threads; -1 is no limit.
    pub pids: Option<i64>,
    /// Limits of its processes.
    pub ulimits: Vec<Ulimit>,
    /// Changes to the default capabilities.
    pub capabilities: Capabilities,
    /// The seccomp filter.
    pub seccomp: Seccomp,
    /// The AppArmor profile.
    pub apparmor: Option<String>,
    /// setuid programs gain nothing.
    pub no_new_privileges: bool,
    /// The number of the signal that `sconce stop` sends first.
    pub stop_signal: Option<i32>,
    /// Seconds until `sconce stop` kills.
    pub stop_timeout: Option<u64>,
}

/// When an image is pulled from its registry: Docker's `--pull`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pull {
    /// Where it is not in the store.
    #[default]
    Missing,
    /// Each time; what is there of it already is not moved again.
    Always,
    /// Never.
    Never,
}

impl Pull {
    /// `missing`, `always` or `never`.
    ///
    /// # Errors
    /// [`Error::Option`]
    pub fn parse(given: &str) -> Result<Self, Error> {
        match given {
            "missing" => Ok(Self::Missing),
            "always" => Ok(Self::Always),
            "never" => Ok(Self::Never),
            _ => Err(Error::option("--pull", given, "there are missing, always and never")),
        }
    }
}

impl Request {
    /// Finds what does not fit together, before anything is made for the container: two mounts in one
    /// place, a port published twice, a source that is not there.
    ///
    /// # Errors
    /// The first of these.
    pub fn check(&self) -> Result<(), Error> {
        check_places(&self.binds, &self.tmpfs)?;
        network::check_ports(&self.ports)?;
        self.hosts()?;
        limits::check_machine(self)?;
        check_sources(&self.binds, &self.devices)?;
        if let Some(path) = self.id_file.as_ref().filter(|path| path.symlink_metadata().is_ok()) {
            let given = path.display().to_string();
            return Err(Error::option("--cidfile", given, "the file is there already"));
        }
        Ok(())
    }

    /// What a person should know about it.
    #[must_use]
    pub fn remarks(&self) -> Vec<String> {
        network::remarks(&self.ports, self.network.unwrap_or_default())
    }

    /// The lines of `/etc/hosts` in its network.
    fn hosts(&self) -> Result<Vec<(String, IpAddr)>, Error> {
        let network = self.network.unwrap_or_default();
        let line = |(name, address): &(String, HostAddress)| {
            Ok((name.clone(), address.of(name, network)?))
        };
        self.hosts.iter().map(line).collect()
    }

    /// The container that is asked for, of an image with this configuration: what the image and the
    /// defaults say where the request says nothing. `gpus` is how many it gets, `processors` the
    /// processor time the caller itself may use, where that is limited.
    ///
    /// Its layers, folder, edits and the processors near its GPUs are left to [`crate::ready`].
    ///
    /// # Errors
    /// Two mounts in one place; a stop signal or an exposed port of the image that is none.
    pub fn container(
        &self,
        config: Process,
        gpus: usize,
        processors: Option<f64>,
    ) -> Result<Container, Error> {
        check_places(&self.binds, &self.tmpfs)?;
        let mut env = BTreeMap::new();
        if !self.no_defaults {
            let quota = [self.cpus, processors].into_iter().flatten().reduce(f64::min);
            env = variables::variables(gpus, quota);
        }
        let of_image = config.env.unwrap_or_default();
        let of_image = of_image.iter().filter_map(|variable| variable.split_once('='));
        env.extend(of_image.map(|(name, value)| (name.to_owned(), value.to_owned())));
        for (name, value) in &self.env {
            match value {
                Some(value) => drop(env.insert(name.clone(), value.clone())),
                None => drop(env.remove(name)),
            }
        }
        let labels = config.labels.unwrap_or_default().into_iter();
        let mut labels: BTreeMap<String, String> =
            labels.map(|(key, value)| (key, value.unwrap_or_default())).collect();
        labels.extend(self.labels.iter().cloned());
        // As Docker: another entrypoint drops the image's command, an empty one too.
        let entrypoint = match &self.entrypoint {
            Some(program) if program.is_empty() => Vec::new(),
            Some(program) => vec![program.clone()],
            None => config.entrypoint.unwrap_or_default(),
        };
        let command = match (self.command.is_empty(), &self.entrypoint) {
            (true, None) => config.cmd.unwrap_or_default(),
            _ => self.command.clone(),
        };
        let given = |text: Option<String>| text.filter(|text| !text.is_empty());
        let stop_signal = match (self.stop_signal, given(config.stop_signal)) {
            (Some(number), _) => Some(number),
            (None, Some(name)) => Some(signal("the image's StopSignal", &name)?),
            (None, None) => None,
        };
        let network = self.network.unwrap_or_default();
        let mut ports = self.ports.clone();
        if self.publish_all {
            let exposed = config.exposed_ports.unwrap_or_default();
            ports.extend(network::exposed(exposed.keys().map(String::as_str), &ports, network)?);
            network::check_ports(&ports)?;
        }
        Ok(Container {
            name: self.name.clone(),
            labels,
            env: env.into_iter().collect(),
            workdir: self.workdir.clone().or_else(|| given(config.working_dir).map(PathBuf::from)),
            user_of_image: self.user.is_none(),
            user: self.user.clone().or_else(|| given(config.user)),
            groups: self.groups.clone(),
            volumes: self.binds.iter().map(|bind| bind.volume.clone()).collect(),
            folders: config.volumes.unwrap_or_default().into_keys().map(PathBuf::from).collect(),
            tmpfs: self.tmpfs.clone(),
            devices: self.devices.clone(),
            ports,
            network,
            host_pids: self.host_pids,
            read_only: self.read_only,
            shm_bytes: self.shm_bytes,
            memory_bytes: self.memory_bytes,
            memory_swap_bytes: self.memory_swap_bytes,
            cpus: self.cpus,
            processors: self.processors.clone(),
            pids: self.pids,
            ulimits: self.ulimits.clone(),
            hostname: self.hostname.clone(),
            hosts: self.hosts()?,
            dns: self.dns.clone(),
            capabilities: self.capabilities.clone(),
            seccomp: self.seccomp.clone(),
            apparmor: self.apparmor.clone(),
            no_new_privileges: self.no_new_privileges,
            stop_signal,
            stop_timeout: self.stop_timeout,
            stdio: self.stdio,
            detach: self.detach,
            remove: self.remove,
            id_file: self.id_file.clone(),
            ..Container::new(Vec::new(), "", entrypoint.into_iter().chain(command))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IMAGE: &str = r#"{"Entrypoint": ["/start"], "Cmd": ["serve", "-v"], "User": "ann",
        "Env": ["PATH=/bin", "A=image", "broken"], "WorkingDir": "/srv", "StopSignal": "SIGINT",
        "Labels": {"a": "1", "b": null}}"#;

    fn container(image: &str, change: impl FnOnce(&mut Request)) -> Container {
        let mut request = Request { no_defaults: true, ..Request::default() };
        change(&mut request);
        let process: Process = serde_json::from_str(image).unwrap();
        request.container(process, 0, None).unwrap()
    }

    #[test]
    fn the_image_decides_where_nothing_is_asked() {
        let made = container(IMAGE, |_| {});
        assert_eq!(made.command, ["/start", "serve", "-v"]);
        assert_eq!((made.user.as_deref(), made.stop_signal), (Some("ann"), Some(2)));
        assert_eq!(made.workdir, Some("/srv".into()));
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(made.env, [pair("A", "image"), pair("PATH", "/bin")]);
        assert_eq!(made.labels.len(), 2);
        let asked = container(IMAGE, |request| {
            request.user = Some("0".into());
            request.env = vec![("A".into(), Some("1".into())), ("A".into(), Some("2".into()))];
            request.env.push(("PATH".into(), None));
            request.labels = vec![pair("a", "2")];
        });
        assert_eq!(asked.env, [pair("A", "2")]);
        assert_eq!((asked.user.as_deref(), asked.labels["a"].as_str()), (Some("0"), "2"));
    }

    #[test]
    fn entrypoint_and_command_are_dockers() {
        let command = |entrypoint: Option<&str>, command: &[&str]| {
            let made = container(IMAGE, |request| {
                request.entrypoint = entrypoint.map(str::to_owned);
                request.command = command.iter().map(|word| (*word).to_owned()).collect();
            });
            made.command.join(" ")
        };
        assert_eq!(command(None, &["x"]), "/start x");
        assert_eq!(command(Some("sh"), &[]), "sh");
        assert_eq!(command(Some("sh"), &["-c", "x"]), "sh -c x");
        assert_eq!(command(Some(""), &["x"]), "x");
        assert_eq!(command(Some(""), &[]), "");
    }

    #[test]
    fn null_is_nothing() {
        for image in [
            r#"{"config": {"Cmd": null, "Entrypoint": null, "Env": null, "Labels": null, "User": null,
                "WorkingDir": null, "StopSignal": null}}"#,
            r#"{"config": null}"#,
            "{}",
        ] {
            let made = container(image, |request| request.command = vec!["true".into()]);
            assert_eq!(made.command, ["true"], "{image}");
            assert_eq!((made.env.len(), made.user, made.workdir), (0, None, None));
        }
    }

    #[test]
    fn it_can_be_written_down() {
        let mut request = Request { name: Some("x".into()), ..Request::default() };
        request.ports = network::ports("127.0.0.1:1:2").unwrap();
        request.ulimits = vec![crate::ulimit("memlock=-1").unwrap()];
        request.capabilities.add.push("SYS_PTRACE".into());
        let text = serde_json::to_string(&request).unwrap();
        assert_eq!(serde_json::from_str::<Request>(&text).unwrap(), request);
        assert_eq!(serde_json::from_str::<Request>("{}").unwrap(), Request::default());
    }
}
