//! The files of `/etc` that belong to a machine and not to an image: names and resolvers.

use std::fs;
use std::net::{IpAddr, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::error::{Doing, Error};
use crate::{Container, Dns, Network, private};

/// The files that are written here, in the container.
pub(crate) const FILES: [&str; 3] = ["/etc/hosts", "/etc/hostname", "/etc/resolv.conf"];

/// Writes hosts, hostname and resolv.conf into `folder`; the answer pairs each one's place
/// inside with its file here.
pub(crate) fn write(
    folder: &Path,
    container: &Container,
    hostname: &str,
) -> Result<Vec<(&'static str, PathBuf)>, Error> {
    fs::create_dir_all(folder).doing_to("creating", folder)?;
    let host = |file: &str| fs::read_to_string(file).unwrap_or_default();
    let shares_network = container.network == Network::Host;
    let own = if shares_network { outward_address() } else { None };
    let base = if shares_network { host("/etc/hosts") } else { String::new() };
    let mut table = hosts(&base, hostname, own);
    for (name, address) in &container.hosts {
        table.push_str(&format!("{address}\t{name}\n"));
    }
    let base = host("/etc/resolv.conf");
    let mut dns = container.dns.clone();
    let private = container.network == Network::Private;
    if private && dns.servers.is_empty() && private::resolves_on_loopback(&base) {
        dns.servers.push(IpAddr::V4(private::RESOLVER));
    }
    let texts = [table, format!("{hostname}\n"), resolver(&base, &dns)];
    let mut written = Vec::with_capacity(FILES.len());
    for (place, text) in FILES.into_iter().zip(texts) {
        let file = folder.join(place.trim_start_matches("/etc/"));
        fs::write(&file, text).doing_to("writing", &file)?;
        // A --user must be able to read them, whatever the caller's umask.
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644))
            .doing_to("setting the mode of", &file)?;
        written.push((place, file));
    }
    Ok(written)
}

/// The host's resolver settings with those that were given in place of their kind
/// (resolv.conf(5)).
fn resolver(base: &str, dns: &Dns) -> String {
    let replaced = [
        ("nameserver", dns.servers.is_empty()),
        ("search", dns.search.is_empty()),
        ("domain", dns.search.is_empty()),
        ("options", dns.options.is_empty()),
    ];
    let keeps = |line: &&str| {
        let word = line.split_whitespace().next();
        replaced.iter().all(|(kind, stays)| *stays || word != Some(kind))
    };
    let mut lines: Vec<String> = base.lines().filter(keeps).map(str::to_owned).collect();
    lines.extend(dns.servers.iter().map(|server| format!("nameserver {server}")));
    if !dns.search.is_empty() {
        lines.push(format!("search {}", dns.search.join(" ")));
    }
    if !dns.options.is_empty() {
        lines.push(format!("options {}", dns.options.join(" ")));
    }
    lines.iter().map(|line| format!("{line}\n")).collect()
}

/// The host's table, with `localhost` and the container's own name in it. A rendezvous hangs
/// where a machine cannot resolve its own name (pytorch#150532); an address that others can
/// reach comes before the loopback one, as gloo and NCCL bind to what the name gives.
fn hosts(base: &str, hostname: &str, address: Option<IpAddr>) -> String {
    let knows = |name: &str| {
        base.lines().any(|line| {
            let line = line.split('#').next().unwrap_or_default();
            line.split_whitespace().skip(1).any(|field| field == name)
        })
    };
    let mut text = base.to_owned();
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    if !knows("localhost") {
        text.push_str("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n");
    }
    if !knows(hostname) {
        let address = address.map_or_else(|| "127.0.0.1".to_owned(), |address| address.to_string());
        text.push_str(&format!("{address}\t{hostname}\n"));
    }
    text
}

/// The address this machine would use to reach others. Connecting a UDP socket asks the
/// routing table and sends nothing; the address is one reserved for documentation (RFC 5737).
fn outward_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    socket.local_addr().ok().map(|address| address.ip()).filter(|address| !address.is_unspecified())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_replaces_its_kind() {
        let base = "nameserver 10.0.0.1\nsearch a.example\noptions ndots:2\n";
        assert_eq!(resolver(base, &Dns::default()), base);
        let dns = Dns {
            servers: vec!["192.0.2.7".parse().expect("address")],
            search: vec!["b.example".into(), "c.example".into()],
            options: Vec::new(),
        };
        let expected = "options ndots:2\nnameserver 192.0.2.7\nsearch b.example c.example\n";
        assert_eq!(resolver(base, &dns), expected);
    }

    #[test]
    fn the_name_is_always_there_once() {
        let with = hosts("127.0.0.1 localhost\n10.0.0.7 node7 # me\n", "node7", None);
        assert_eq!(with, "127.0.0.1 localhost\n10.0.0.7 node7 # me\n");
        let without = hosts(
            "127.0.0.1 localhost\n#node7",
            "node7",
            Some("10.0.0.7".parse().expect("address")),
        );
        assert_eq!(without, "127.0.0.1 localhost\n#node7\n10.0.0.7\tnode7\n");
        let empty = hosts("", "box", None);
        assert_eq!(
            empty,
            "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n127.0.0.1\tbox\n"
        );
    }
}
