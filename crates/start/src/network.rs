//! `--network`, `-p`, `-P` and `--add-host`.

use std::net::{IpAddr, Ipv4Addr};

use sconce_run::{Network, Port};
use serde::{Deserialize, Serialize};

use crate::error::Error;

/// Reads `--network MODE`.
///
/// # Errors
/// A mode that is not there, with what there is instead.
pub fn network(given: &str) -> Result<Network, Error> {
    let wrong = |why| Err(Error::option("--network", given, why));
    match given {
        "host" => Ok(Network::Host),
        "none" => Ok(Network::None),
        "private" => Ok(Network::Private),
        "bridge" | "default" | "nat" => wrong(
            "there is no bridge: `host` (the default) is this machine's network, `private` one of its own, `none` none",
        ),
        _ if given.starts_with("container:") => wrong(
            "containers on the network of this machine reach each other at localhost; leave it out",
        ),
        _ => wrong(
            "there are no named networks: `host` (the default) is this machine's network, `private` one of its own, `none` none",
        ),
    }
}

/// Reads `-p [ADDRESS:]HOST:CONTAINER`, where both may be ranges of the same length.
///
/// # Errors
/// What is not a port, ranges of different length, more than a thousand.
pub fn ports(given: &str) -> Result<Vec<Port>, Error> {
    let wrong = |why: &str| Error::option("-p", given, why);
    let (rest, protocol) = match given.rsplit_once('/') {
        Some((rest, protocol)) => (rest, format!("/{protocol}")),
        None => (given, String::new()),
    };
    let (front, container) = match rest.rsplit_once(':') {
        Some((front, container)) => (Some(front), container),
        None => (None, rest),
    };
    let (address, host) = match front
        .map(|front| front.rsplit_once(':').map_or((None, front), |(a, h)| (Some(a), h)))
    {
        Some((address, host)) => (address, host),
        None => (None, container),
    };
    let range = |text: &str| -> Option<(u16, u16)> {
        let (first, last) = text.split_once('-')?;
        Some((first.parse().ok()?, last.parse().ok()?))
    };
    if !host.contains('-') && !container.contains('-') {
        return Ok(vec![given.parse()?]);
    }
    let (Some(host), Some(container)) = (range(host), range(container)) else {
        return Err(wrong("ranges are written FIRST-LAST:FIRST-LAST, as in 8000-8007:8000-8007"));
    };
    let length = |range: (u16, u16)| u32::from(range.1).checked_sub(range.0.into());
    let Some(length) = length(host).filter(|one| length(container) == Some(*one)) else {
        return Err(wrong("the two ranges must have the same length"));
    };
    if length >= 1000 {
        return Err(wrong("a range has a thousand ports at most"));
    }
    let address = address.map_or(String::new(), |address| format!("{address}:"));
    let one = |at: u32| {
        let (host, container) = (u32::from(host.0) + at, u32::from(container.0) + at);
        Ok(format!("{address}{host}:{container}{protocol}").parse()?)
    };
    (0..=length).map(one).collect()
}

/// What a line of `/etc/hosts` gives to a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HostAddress {
    /// An address that was given.
    Ip(IpAddr),
    /// `host-gateway`: where this machine is reached.
    Machine,
}

impl HostAddress {
    /// The address of `name` in a container with this network.
    ///
    /// # Errors
    /// This machine is not reached from there.
    pub(crate) fn of(self, name: &str, network: Network) -> Result<IpAddr, Error> {
        match (self, network) {
            (Self::Ip(address), _) => Ok(address),
            (Self::Machine, Network::Host) => Ok(Ipv4Addr::LOCALHOST.into()),
            (Self::Machine, Network::Private | Network::None) => Err(Error::option(
                "--add-host",
                format!("{name}:host-gateway"),
                "a network of its own does not reach this machine's services; `--network host` does",
            )),
        }
    }
}

/// The ports of `-P`: those that the image exposes (`6006/tcp`), each at its own number, but for those
/// in `given`. With this machine's network they are ports of this machine already.
///
/// # Errors
/// A port that is none, and one that is not TCP.
pub(crate) fn exposed<'a>(
    ports: impl Iterator<Item = &'a str>,
    given: &[Port],
    network: Network,
) -> Result<Vec<Port>, Error> {
    if network != Network::Private {
        return Ok(Vec::new());
    }
    let ports = ports.map(|port| port.parse::<Port>().map_err(|_| exposed_otherwise(port)));
    let mut ports = ports.collect::<Result<Vec<_>, _>>()?;
    ports.retain(|port| !given.iter().any(|other| other.container == port.container));
    Ok(ports)
}

fn exposed_otherwise(port: &str) -> Error {
    let why =
        "the image exposes this, and only single TCP ports are forwarded; choose with -p instead";
    Error::option("-P", port, why)
}

/// Reads `--add-host NAME:IP`; `=` will do for the colon, and `host-gateway` is this machine.
///
/// # Errors
/// No name, or no IP address.
pub fn host_line(given: &str) -> Result<(String, HostAddress), Error> {
    let wrong = |why| Error::option("--add-host", given, why);
    let at = given.find('=').or_else(|| given.find(':'));
    let (name, address) = at.map_or((given, ""), |at| (&given[..at], &given[at + 1..]));
    if name.is_empty() || name.contains(|c: char| c.is_whitespace() || c.is_control() || c == '#') {
        return Err(wrong("write NAME:IP"));
    }
    let address = address.trim_start_matches('[').trim_end_matches(']');
    let address = match address {
        "host-gateway" => HostAddress::Machine,
        text => {
            let address = text.parse().map_err(|_| wrong("write NAME:IP, with an IP address"))?;
            HostAddress::Ip(address)
        }
    };
    Ok((name.to_owned(), address))
}

/// Refuses a host's port that is published twice at one address.
pub(crate) fn check_ports(ports: &[Port]) -> Result<(), Error> {
    for (at, port) in ports.iter().enumerate() {
        let same = |other: &&Port| {
            let anywhere = other.address.is_none() || port.address.is_none();
            other.host == port.host && (anywhere || other.address == port.address)
        };
        if ports[..at].iter().any(|other| same(&other)) {
            return Err(Error::SamePort { port: port.host });
        }
    }
    Ok(())
}

/// What a person should know of ports that the network's mode leaves without meaning.
pub(crate) fn remarks(ports: &[Port], network: Network) -> Vec<String> {
    match network {
        Network::Private => Vec::new(),
        Network::None if ports.is_empty() => Vec::new(),
        Network::None => vec!["-p does nothing without a network".to_owned()],
        Network::Host => {
            let limited = ports.iter().filter_map(|port| {
                let address = port.address.filter(|address| !address.is_unspecified())?;
                let (host, container) = (port.host, port.container);
                Some(format!(
                    "-p {address}:{host}:{container} does not limit who reaches port {container}: with this \
                     machine's network the command chooses the address it listens on; tell it \
                     {address}, or use --network private"
                ))
            });
            limited.collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_ports() {
        let read = |given| -> Vec<(u16, u16)> {
            ports(given).unwrap().iter().map(|port| (port.host, port.container)).collect()
        };
        assert_eq!(read("80:81"), [(80, 81)]);
        assert_eq!(read("8000-8002:9000-9002/tcp"), [(8000, 9000), (8001, 9001), (8002, 9002)]);
        assert_eq!(read("8000-8001"), [(8000, 8000), (8001, 8001)]);
        let found = ports("127.0.0.1:80-81:80-81").unwrap();
        assert!(found.iter().all(|port| port.address.is_some()));
        assert!(ports("[::1]:80-81:80-81").unwrap()[0].address.unwrap().is_ipv6());
        for bad in [
            "80-82:80-81",
            "82-80:82-80",
            "80-81:80",
            "1-5000:1-5000",
            "0-1:0-1",
            "65535-65536:1-2",
            "53:53/udp",
        ] {
            assert!(ports(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_port_is_published_once() {
        let read = |given: &[&str]| -> Vec<Port> {
            given.iter().flat_map(|given| ports(given).unwrap()).collect()
        };
        assert!(check_ports(&read(&["80:1", "81:1", "127.0.0.1:82:1", "127.0.0.2:82:1"])).is_ok());
        assert!(check_ports(&read(&["80:1", "80:2"])).is_err());
        assert!(check_ports(&read(&["80:1", "127.0.0.1:80:2"])).is_err());
        let notes = remarks(&read(&["127.0.0.1:80:80", "0.0.0.0:81:81", "82:82"]), Network::Host);
        assert_eq!(notes.len(), 1);
        assert!(notes[0].contains("127.0.0.1"));
        assert!(remarks(&read(&["127.0.0.1:80:80"]), Network::Private).is_empty());
    }

    #[test]
    fn lines_of_hosts() {
        let line = |name: &str, address: &str| {
            (name.to_owned(), HostAddress::Ip(address.parse().unwrap()))
        };
        assert_eq!(host_line("db:10.0.0.1").unwrap(), line("db", "10.0.0.1"));
        assert_eq!(host_line("db=[::1]").unwrap(), line("db", "::1"));
        assert_eq!(host_line("db:::1").unwrap(), line("db", "::1"));
        let (name, machine) = host_line("me:host-gateway").unwrap();
        assert_eq!(machine.of(&name, Network::Host).unwrap(), IpAddr::V4(Ipv4Addr::LOCALHOST));
        for network in [Network::Private, Network::None] {
            let error = machine.of(&name, network).unwrap_err().to_string();
            assert!(error.contains("me:host-gateway"), "{error}");
        }
        for bad in ["db", ":1.1.1.1", "a b:1.1.1.1", "db:here", "a\n1.1.1.1 bank:1.1.1.1"] {
            assert!(host_line(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn exposed_ports() {
        let given = ports("9000:80").unwrap();
        let of = |image: &[&str], network| exposed(image.iter().copied(), &given, network);
        let numbers = |found: Vec<Port>| -> Vec<(u16, u16)> {
            found.iter().map(|port| (port.host, port.container)).collect()
        };
        assert_eq!(numbers(of(&["80/tcp", "6006"], Network::Private).unwrap()), [(6006, 6006)]);
        assert!(of(&["80/tcp", "53/udp"], Network::Host).unwrap().is_empty());
        for bad in ["53/udp", "x", "80-90/tcp", ""] {
            let error = of(&[bad], Network::Private).unwrap_err().to_string();
            assert!(error.contains("choose with -p"), "{error}");
        }
    }

    #[test]
    fn modes() {
        assert_eq!(network("private").unwrap(), Network::Private);
        for bad in ["bridge", "mynet", "container:x", ""] {
            assert!(network(bad).is_err(), "{bad}");
        }
    }
}
