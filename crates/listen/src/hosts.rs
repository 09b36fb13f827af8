//! The host names that a server answers to.
//!
//! A web page can let a name of its own mean this machine's address (DNS rebinding): the browser then
//! takes the server for the page's own and lets it read all answers. What the page can't choose
//! is the name in `Host`. An address there was never looked up, and `localhost`, this machine's name and
//! those that its owner has named are nobody else's.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::error::Strange;

/// The longest name of a host (RFC 1035).
const MAX_NAME: usize = 253;

/// The host names that a server answers to; any IP address is answered as well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hosts(Vec<String>);

impl Hosts {
    /// This machine's own name, and others: `registry.example`; `.example` is that name and all below it.
    #[must_use]
    pub fn new(own: &str, others: &[String]) -> Self {
        let own = plain(own);
        let short = own.split('.').next().unwrap_or_default().to_owned();
        let names = [own, short].into_iter().chain(others.iter().map(|name| plain(name)));
        Self(names.filter(|name| !name.is_empty()).collect())
    }

    /// Whether this is a name that can be answered to: `registry.example`, `.example`.
    #[must_use]
    pub fn is_name(text: &str) -> bool {
        is_name(text.strip_prefix('.').unwrap_or(text))
    }

    /// Whether a request for this host is answered. Clients before HTTP/1.1 may name none; no browser is
    /// one of them.
    ///
    /// # Errors
    /// [`Strange`]: it is none that is known, or no name at all.
    pub fn check(&self, host: Option<&str>) -> Result<(), Strange> {
        let Some(host) = host else { return Ok(()) };
        let odd = || Strange::NoName;
        if let Some(rest) = host.strip_prefix('[') {
            let (address, port) = rest.split_once(']').ok_or_else(odd)?;
            let is_port = port.is_empty() || port.strip_prefix(':').is_some_and(is_number);
            return match address.parse::<Ipv6Addr>().is_ok() && is_port {
                true => Ok(()),
                false => Err(odd()),
            };
        }
        let name = match host.split_once(':') {
            Some((name, port)) if is_number(port) => name,
            Some(_) => return Err(odd()),
            None => host,
        };
        if name.parse::<Ipv4Addr>().is_ok() {
            return Ok(());
        }
        let name = plain(name);
        if !is_name(&name) {
            return Err(odd());
        }
        // RFC 6761, section 6.3: browsers look neither up.
        let known = name == "localhost"
            || name.ends_with(".localhost")
            || self.0.iter().any(|known| match known.strip_prefix('.') {
                Some(above) => name == above || name.ends_with(known),
                None => name == *known,
            });
        match known {
            true => Ok(()),
            false => Err(Strange::Unknown(name)),
        }
    }
}

fn plain(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

fn is_number(text: &str) -> bool {
    text.len() <= 5 && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_name(name: &str) -> bool {
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let is_label = |label: &str| !label.is_empty() && label.bytes().all(letter);
    name.len() <= MAX_NAME && name.split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_answered_to() {
        let others = ["Registry.example.".to_owned(), ".cluster.local".to_owned()];
        let hosts = Hosts::new("node1.lab", &others);
        let (unknown, odd) = (Some(true), Some(false));
        for (host, expected) in [
            ("127.0.0.1:5000", None),
            ("192.0.2.7", None),
            ("[::1]:5000", None),
            ("[::1]", None),
            ("localhost:5000", None),
            ("LOCALHOST.", None),
            ("a.localhost", None),
            ("node1:5000", None),
            ("node1.lab", None),
            ("registry.example:1", None),
            ("cluster.local", None),
            ("a.b.cluster.local", None),
            ("evilcluster.local", unknown),
            ("a.registry.example", unknown),
            ("node1.evil.example", unknown),
            ("localhost.evil.example", unknown),
            ("127.0.0.1.evil.example:5000", unknown),
            ("127.1", unknown),
            ("", odd),
            ("[::1", odd),
            ("[x]", odd),
            ("a@localhost", odd),
            ("localhost:x", odd),
            ("localhost:5000:1", odd),
            ("a b", odd),
        ] {
            let refused = hosts.check(Some(host)).err();
            let is_unknown = refused.map(|no| matches!(no, Strange::Unknown(_)));
            assert_eq!(is_unknown, expected, "{host}");
        }
        assert!(hosts.check(None).is_ok());
        assert!(Hosts::new("", &[]).check(Some("x")).is_err());
        assert!(Hosts::is_name("a.b") && Hosts::is_name(".b") && !Hosts::is_name("a/b:1"));
    }
}
