//! Where `sconce monitor` listens, and for whom.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use sconce_monitor::guarded::Guard;

use crate::error::{Failure, Kind};

pub fn address(text: &str) -> Result<SocketAddr, String> {
    // As Go programs take it; all IPv4 addresses and, where there is IPv6, those too.
    if let Some(port) = text.strip_prefix(':') {
        let port = port.parse().map_err(|_| "a port is a number up to 65535".to_owned())?;
        return Ok((std::net::Ipv6Addr::UNSPECIFIED, port).into());
    }
    text.parse().map_err(|_| "ADDRESS:PORT (127.0.0.1:9400, [::1]:9400), or :PORT".to_owned())
}

/// What others on the network get to see, where that is to be said.
pub fn open_to(guard: &Guard) -> Option<&'static str> {
    match (guard.tls.as_ref(), guard.logins.as_ref()) {
        (None, Some(_)) => Some(
            "passwords go over the network unencrypted, and so does what is shown; tls_server_config in --web-config encrypts",
        ),
        // Who must have a certificate is no stranger; who need not is one.
        (_, None) if !guard.knows_clients => Some(
            "whoever reaches this address reads the names of containers, processes and users; a firewall, --web-config or --listen 127.0.0.1:9400 keeps them out",
        ),
        _ => None,
    }
}

pub fn cannot_listen(wanted: Option<SocketAddr>, error: &std::io::Error) -> Failure {
    let address = wanted.map(|address| address.to_string()).unwrap_or_default();
    let failure = Failure::new(Kind::Machine, format!("can't listen on {address}: {error}"));
    match error.kind() {
        std::io::ErrorKind::AddrInUse => failure
            .hint("another program listens there, dcgm-exporter perhaps: `--listen 127.0.0.1:9401` takes another port"),
        _ => failure,
    }
}

pub fn listen(address: SocketAddr) -> Result<TcpListener, Failure> {
    let bound = TcpListener::bind(address).or_else(|error| {
        // A machine without IPv6.
        let all = address.ip().is_unspecified() && address.is_ipv6();
        if all && error.kind() != std::io::ErrorKind::AddrInUse {
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, address.port()))
        } else {
            Err(error)
        }
    });
    bound.map_err(|error| cannot_listen(Some(address), &error))
}
