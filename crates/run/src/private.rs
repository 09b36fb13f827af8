//! `--network private`: a network namespace joined to the host's network by `pasta` (passt.top).
//!
//! pasta copies what the container sends and receives through ordinary sockets of the host: no
//! bridge, no firewall rule, no privilege. It is started here for one container and ends when the
//! container's network does.

use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use rustix::process::{Pid, WaitOptions};

use crate::error::{Doing, Error};
use crate::{Port, os, signals, streams};

/// Where the program is looked for: a shim has no PATH.
const PLACES: &[&str] = &["/usr/local/bin/pasta", "/usr/bin/pasta", "/bin/pasta"];

/// A process that becomes pasta when the namespace is there. It is forked before, as it must stay
/// in the host's.
pub(crate) struct Pasta {
    pid: Pid,
    go: OwnedFd,
    errors: OwnedFd,
}

impl Pasta {
    pub(crate) fn wait_for_namespace(ports: &[Port]) -> Result<Self, Error> {
        let program =
            PLACES.iter().find(|place| Path::new(place).is_file()).ok_or(Error::NoPasta)?;
        let namespace = format!("/proc/{}/ns/net", rustix::process::getpid().as_raw_nonzero());
        let what = "preparing the container's network";
        let (wait, go) = streams::pipe().doing(what)?;
        let (errors, to_errors) = streams::pipe().doing(what)?;
        let pid = os::fork(|| {
            let mut byte = [0];
            if !matches!(rustix::io::read(&wait, &mut byte), Ok(1)) {
                return 1;
            }
            signals::reset_signals();
            let mut command = Command::new(program);
            command.args(["--quiet", "--config-net", "--no-map-gw"]);
            command.args(["-T", "none", "-U", "none", "-u", "none"]);
            command.args(["-t", &forwarded(ports)]);
            if rustix::process::geteuid().is_root() {
                command.args(["--runas", "0"]);
            }
            command.args(["--netns", &namespace]).stderr(std::process::Stdio::from(to_errors));
            drop(command.exec());
            127
        })
        .doing(what)?;
        Ok(Self { pid, go, errors })
    }

    /// Joins the namespace that this process is in now.
    pub(crate) fn join(self) -> Result<Self, Error> {
        let what = "joining the container's network";
        rustix::io::write(&self.go, b"g").doing(what)?;
        // It goes into the background when all is set up.
        let status = rustix::process::waitpid(Some(self.pid), WaitOptions::empty()).doing(what)?;
        if status.and_then(|(_, status)| status.exit_status()) == Some(0) {
            return Ok(self);
        }
        let mut text = [0; 4096];
        let count =
            std::fs::File::from(self.errors.try_clone().doing(what)?).read(&mut text).unwrap_or(0);
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
    fn ports_as_pasta_reads_them() {
        let port = |text: &str| text.parse::<Port>().expect("a port");
        assert_eq!(forwarded(&[]), "none");
        assert_eq!(
            forwarded(&[port("8080:80"), port("127.0.0.1:6006:6006")]),
            "8080:80,127.0.0.1/6006:6006"
        );
    }
}
