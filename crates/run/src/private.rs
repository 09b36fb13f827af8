//! `--network private`: a network namespace joined to the host's network by `pasta` (passt.top).
//!
//! pasta copies what the container sends and receives through ordinary sockets of the host: no
//! bridge, no firewall rule, no privilege. It is started here for one container and ends when the
//! container's shim does.
//!
//! Services of the host's loopback device stay out of reach, but for its resolver, where there is one
//! (systemd-resolved, dnsmasq): queries by UDP to [`RESOLVER`] are passed on to it.

use std::fs::File;
use std::io::Read;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitOptions};

use crate::control::{self, Message};
use crate::error::{Doing, Error};
use crate::{Port, os, signals, streams};

/// Where the program is looked for: a shim has no PATH.
const PLACES: &[&str] = &["/usr/local/bin/pasta", "/usr/bin/pasta", "/bin/pasta"];

/// Where the container finds a resolver of the host's loopback device: a link-local address (RFC
/// 3927), which podman uses for the same.
pub(crate) const RESOLVER: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);

/// What pasta says, and what can be done about it.
const HINTS: &[(&str, &str)] = &[
    (
        "tun",
        "pasta needs /dev/net/tun: `modprobe tun` and `chmod 666 /dev/net/tun` as root, or use --network host or none",
    ),
    // Of "External interface not usable" and, since 2023_06_25, "No external routable interface".
    (
        "xternal",
        "this machine has no default route, which pasta needs; use --network none, or host",
    ),
];

/// What can be done about what pasta said.
pub(crate) fn hint(said: &str) -> Option<&'static str> {
    HINTS.iter().find(|(part, _)| said.contains(part)).map(|(_, hint)| *hint)
}

/// The host's own programs find their resolver on its loopback device.
pub(crate) fn resolves_on_loopback(resolv_conf: &str) -> bool {
    resolv_conf
        .lines()
        .filter_map(|line| line.strip_prefix("nameserver")?.trim().parse::<Ipv4Addr>().ok())
        .any(|address| address.is_loopback())
}

/// How long it may take to set up the namespace.
const PATIENCE: Duration = Duration::from_secs(10);

/// A process that becomes pasta when the namespace is there. It is forked before, as it must stay
/// in the host's.
pub(crate) struct Pasta {
    pid: Pid,
    go: OwnedFd,
    errors: OwnedFd,
    /// pasta writes its number here when all is set up.
    ready: PathBuf,
}

impl Pasta {
    pub(crate) fn wait_for_namespace(ports: &[Port], scratch: &Path) -> Result<Self, Error> {
        let program =
            PLACES.iter().find(|place| Path::new(place).is_file()).ok_or(Error::NoPasta)?;
        let what = "preparing the container's network";
        let (wait, go) = control::pair().doing(what)?;
        let (errors, to_errors) = streams::pipe().doing(what)?;
        let ready = scratch.join("pasta.pid");
        let shim = rustix::process::getpid();
        let pid = os::fork(|| {
            // It ends with the shim, whatever ends that: it holds the namespace itself.
            let bound = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
            let namespace = match control::receive_with(&wait) {
                Ok(Some((_, mut fds))) => fds.pop(),
                _ => None,
            };
            let (Some(namespace), Ok(())) = (namespace, bound) else { return 1 };
            if rustix::process::getppid() != Some(shim)
                || rustix::io::fcntl_setfd(&namespace, rustix::io::FdFlags::empty()).is_err()
            {
                return 1;
            }
            signals::reset_signals();
            let mut command = Command::new(program);
            command.args(["--foreground", "--quiet", "--config-net", "--no-map-gw"]);
            command.args(["-T", "none", "-U", "none", "-u", "none"]);
            command.args(["-t", &forwarded(ports)]).arg("--pid").arg(&ready);
            if std::fs::read_to_string("/etc/resolv.conf")
                .is_ok_and(|text| resolves_on_loopback(&text))
            {
                command.args(["--dns-forward", &RESOLVER.to_string()]);
            }
            if rustix::process::geteuid().is_root() {
                command.args(["--runas", "0"]);
            }
            command.args(["--netns", &format!("/proc/self/fd/{}", namespace.as_raw_fd())]);
            // The container's own streams are open here: their readers wait for the end.
            command.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::null());
            command.stderr(std::process::Stdio::from(to_errors));
            drop(command.exec());
            127
        })
        .doing(what)?;
        Ok(Self { pid, go, errors, ready })
    }

    /// Joins the namespace that this process is in now.
    pub(crate) fn join(self) -> Result<(), Error> {
        let what = "joining the container's network";
        let namespace = File::open("/proc/self/ns/net").doing(what)?;
        control::send_with(&self.go, &Message::Go, &[namespace.as_fd()]).doing(what)?;
        drop(namespace);
        let until = Instant::now() + PATIENCE;
        loop {
            if std::fs::metadata(&self.ready).is_ok_and(|about| about.len() > 0) {
                return Ok(());
            }
            let ended =
                rustix::process::waitpid(Some(self.pid), WaitOptions::NOHANG).doing(what)?;
            if ended.is_some() {
                break;
            }
            if Instant::now() > until {
                let _ = rustix::process::kill_process(self.pid, Signal::KILL);
                return Err(Error::Pasta("it was not ready within ten seconds".to_owned()));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        let mut text = [0; 4096];
        let count = File::from(self.errors).read(&mut text).unwrap_or(0);
        let text = String::from_utf8_lossy(text.get(..count).unwrap_or_default());
        Err(Error::Pasta(text.lines().last().unwrap_or("it gave no reason").to_owned()))
    }
}

/// The value of `-t`: `none`, or `[address/]host:container` with commas.
fn forwarded(ports: &[Port]) -> String {
    if ports.is_empty() {
        return "none".to_owned();
    }
    let one = |port: &Port| match port.address {
        Some(address) => format!("{address}/{}:{}", port.host, port.container),
        None => format!("{}:{}", port.host, port.container),
    };
    ports.iter().map(one).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolvers_of_the_loopback_device() {
        assert!(resolves_on_loopback("search a\nnameserver 127.0.0.53\n"));
        assert!(resolves_on_loopback("nameserver 192.0.2.1\nnameserver\t127.0.0.1"));
        for text in
            ["", "nameserver", "nameserver 192.0.2.53", "#nameserver 127.0.0.1", "nameserver ::1"]
        {
            assert!(!resolves_on_loopback(text), "{text}");
        }
    }

    #[test]
    fn ports_as_pasta_reads_them() {
        let port = |text: &str| text.parse::<Port>().expect("a port");
        assert_eq!(forwarded(&[]), "none");
        assert_eq!(
            forwarded(&[port("8080:80"), port("127.0.0.1:6006:6006")]),
            "8080:80,127.0.0.1/6006:6006"
        );
    }
}
