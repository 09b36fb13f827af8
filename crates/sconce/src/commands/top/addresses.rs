//! Which machines are asked, and what with: addresses as people write them, certificates, logins.

use std::net::{IpAddr, Ipv6Addr};
use std::path::PathBuf;

use sconce_fetch::http::{self, Client};
use sconce_fetch::{Certificates, Netrc};

use crate::commands::paths;
use crate::context::netrc;
use crate::error::{Failure, Kind};

/// The largest file of a login, bytes.
const MAX_LOGIN: u64 = 64 << 10;
/// What a monitor says of now.
const NOW: &str = "/api/now";

/// How monitors are reached.
#[derive(clap::Args)]
pub struct Reach {
    /// Trust the authorities in this file (PEM) too, for machines that are asked over https://
    #[arg(long, value_name = "FILE", requires = "hosts")]
    ca: Option<PathBuf>,
    /// Show this certificate (PEM, with those above it) to monitors over https://
    #[arg(long, value_name = "FILE", requires = "hosts", requires = "key")]
    cert: Option<PathBuf>,
    /// The private key of --cert, PEM, without a password
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
    /// Log in with the USER:PASSWORD in this file; without it, over https:// with what ~/.netrc (or the file that NETRC
    /// names) has for the machine
    #[arg(long, value_name = "FILE", requires = "hosts")]
    login: Option<PathBuf>,
}

/// A machine's monitor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// `gpu1:9400`.
    pub name: String,
    /// Over TLS.
    tls: bool,
}

impl Address {
    /// What is asked.
    pub fn url(&self) -> String {
        let scheme = if self.tls { "https" } else { "http" };
        format!("{scheme}://{}{NOW}", self.name)
    }

    /// Those that words name: `gpu1:9400`, `gpu[2-8]:9400`, `[::1]:9400`, each with `https://` before it or not.
    pub fn of(words: &[String]) -> Result<Vec<Self>, Failure> {
        let mut all = Vec::new();
        for word in words {
            let (tls, bare) = match word.split_once("://") {
                Some(("https", bare)) => (true, bare),
                Some(("http", bare)) => (false, bare),
                Some(_) => return Err(no_port(word)),
                None => (false, word.as_str()),
            };
            let bare = bare.trim_end_matches('/');
            if bare.contains('@') {
                let what = "a login has no place on a command line, where all users of this machine can read it";
                let hint = "`--login FILE` names a file with USER:PASSWORD in it";
                return Err(Failure::new(Kind::Usage, what).hint(hint));
            }
            let names = match literal(bare)? {
                true => vec![bare.to_owned()],
                false if !has_port(bare) => return Err(no_port(bare)),
                false => sconce_doctor::fleet::names(&[bare.to_owned()])?,
            };
            all.extend(names.into_iter().map(|name| Self { name, tls }));
        }
        Ok(all)
    }
}

fn has_port(host: &str) -> bool {
    host.rsplit_once(':').is_some_and(|(name, port)| {
        let digits = port.bytes().all(|byte| byte.is_ascii_digit());
        !name.is_empty() && digits && port.parse::<u16>().is_ok_and(|port| port > 0)
    })
}

fn no_port(host: &str) -> Failure {
    if host.is_empty() {
        let failure = Failure::new(Kind::Usage, "a machine is HOST:PORT, and one of them is empty");
        return failure
            .hint("`sconce top gpu1:9400` asks another machine, `sconce top` shows this one");
    }
    if let Some((name, port)) = host.rsplit_once(':').filter(|_| !host.contains("://")) {
        let what = match port {
            "" => format!("`{host}` has no port behind its colon"),
            _ => format!("`{host}`: `{port}` is no port, a number from 1 to 65535"),
        };
        let name = if name.is_empty() || name.contains(':') { "gpu1" } else { name };
        let hint = format!(
            "a monitor listens on 9400 unless it is told otherwise: `sconce top {name}:9400`"
        );
        return Failure::new(Kind::Usage, what).hint(hint);
    }
    let failure = Failure::new(
        Kind::Usage,
        format!(
            "there is no `sconce top` of a container, and machines are HOST:PORT: `{host}` has no port"
        ),
    );
    // As printed it must do something: a word that can be a container's name is taken for one.
    let named = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    let name = if host.chars().all(named) { host } else { "NAME" };
    failure.hint(format!(
        "a machine is `sconce top gpu1:9400`; a container's processes are `sconce exec {name} ps aux`, its use of memory and processors `sconce stats {name}`"
    ))
}

/// Whether it is an address of IPv6 with its port; false where it is none at all. A range's brackets hold no colon.
fn literal(bare: &str) -> Result<bool, Failure> {
    let wrong = |what: String, address: &str| {
        let hint = format!(
            "an address of IPv6 stands in brackets, its port behind them: `sconce top '[{address}]:9400'`"
        );
        Err(Failure::new(Kind::Usage, what).hint(hint))
    };
    let Some((inside, rest)) = bare.strip_prefix('[').and_then(|rest| rest.split_once(']')) else {
        // `::1:9400` is an address as well; who writes so means the port.
        // Of four digits or five none is a usual group at an end, and a port mostly is.
        let address = bare.rsplit_once(':').filter(|(less, port)| {
            port.len() >= 4 && port.parse::<u16>().is_ok() && less.parse::<Ipv6Addr>().is_ok()
        });
        let address = address.map(|(less, _)| less);
        return match address.unwrap_or(bare).parse::<Ipv6Addr>() {
            Ok(address) => wrong(format!("`{bare}` has no brackets"), &address.to_string()),
            Err(_) => Ok(false),
        };
    };
    if !inside.contains(':') {
        return Ok(false);
    }
    let (plain, zone) = inside.split_once('%').map_or((inside, false), |(plain, _)| (plain, true));
    let Ok(address) = plain.parse::<Ipv6Addr>() else {
        return wrong(format!("`{inside}` is no address of IPv6"), "::1");
    };
    if zone {
        let what = format!("`{inside}` names an interface, and addresses are asked without");
        let hint = "name the machine, or an address of it that is good on all interfaces";
        return Err(Failure::new(Kind::Usage, what).hint(hint));
    }
    match rest.starts_with(':') && has_port(bare) {
        true => Ok(true),
        false => wrong(format!("`{bare}` has no port"), &address.to_string()),
    }
}

/// What machines are asked with: what of the files is for all of them.
pub struct Means {
    certificates: Certificates,
    login: Option<(String, String)>,
    netrc: Netrc,
}

impl Reach {
    /// Reads the files that are named; for those machines they are.
    pub fn means(&self, machines: &[Address]) -> Result<Means, Failure> {
        let tls = machines.iter().any(|machine| machine.tls);
        for (option, given) in [("--ca", &self.ca), ("--cert", &self.cert)] {
            if given.is_some() && !tls {
                let what = format!("{option} is for machines that are asked over TLS, and none is");
                let hint = "write https:// before them, as in `sconce top https://gpu1:9400`";
                return Err(Failure::new(Kind::Usage, what).hint(hint));
            }
        }
        let ca = paths::of_given("--ca", self.ca.as_deref())?;
        let ca = ca.as_slice();
        Certificates::read(ca, None).map_err(|error| Failure::from(error).of_option("--ca"))?;
        let cert = paths::of_given("--cert", self.cert.as_deref())?;
        let key = paths::of_given("--key", self.key.as_deref())?;
        let client = cert.as_deref().zip(key.as_deref());
        let certificates = Certificates::read(ca, client)
            .map_err(|error| Failure::from(error).of_option("--cert"))?;
        let login = self.login.as_deref().map(login).transpose()?;
        // What stands there may be for all hosts, and goes over no network unencrypted.
        let netrc = if tls && login.is_none() { netrc()? } else { Netrc::default() };
        Ok(Means { certificates, login, netrc })
    }

    /// Whether a login is sent unencrypted, over a network.
    pub fn is_open(&self, machines: &[Address]) -> bool {
        // `127.example` is a name like any other.
        let here = |name: &str| {
            let host = name.rsplit_once(':').map_or(name, |(host, _)| host);
            let bare = host.trim_start_matches('[').trim_end_matches(']');
            host == "localhost" || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
        };
        self.login.is_some() && machines.iter().any(|one| !one.tls && !here(&one.name))
    }
}

impl Means {
    /// A client for one machine.
    pub fn client(&self, address: &Address, options: http::Options) -> Client {
        let client = Client::new(http::Options {
            certificates: self.certificates.clone(),
            netrc: if address.tls { self.netrc.clone() } else { Netrc::default() },
            ..options
        });
        // It stands in no request to another scheme, host or port.
        if let Some((user, password)) = &self.login
            && let Ok(mut url) = http::parse(&address.url())
            && url.set_username(user).is_ok()
            && url.set_password(Some(password)).is_ok()
        {
            client.remember(url.as_str());
        }
        client
    }
}

/// `USER:PASSWORD`, the file's only line. Nothing that stands in it is shown.
fn login(path: &std::path::Path) -> Result<(String, String), Failure> {
    let text = paths::read("--login", path, MAX_LOGIN)?;
    let text = text.trim_end_matches(['\n', '\r']);
    match text.split_once(':') {
        Some((user, password)) if !user.is_empty() && !text.contains(['\n', '\r', '\0']) => {
            Ok((user.to_owned(), password.to_owned()))
        }
        _ => {
            let what = format!("--login: {} is not a line USER:PASSWORD", path.display());
            let hint = "the file holds one line, the user's name and password as they are, with a colon between";
            Err(Failure::new(Kind::Document, what).hint(hint))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn urls(word: &str) -> Result<Vec<String>, Failure> {
        Ok(Address::of(&[word.to_owned()])?.iter().map(Address::url).collect())
    }

    #[test]
    fn addresses() {
        for (word, expected) in [
            ("gpu1:9400", "http://gpu1:9400/api/now"),
            ("http://gpu1:9400/", "http://gpu1:9400/api/now"),
            ("https://gpu1:443", "https://gpu1:443/api/now"),
            ("[::1]:9400", "http://[::1]:9400/api/now"),
            ("https://[2001:db8::7]:9400/", "https://[2001:db8::7]:9400/api/now"),
            ("127.0.0.1:1", "http://127.0.0.1:1/api/now"),
        ] {
            assert_eq!(urls(word).expect(word), [expected]);
        }
        let many = urls("https://gpu[08-10]:9400").expect("a range");
        assert_eq!(many[0], "https://gpu08:9400/api/now");
        assert_eq!((many.len(), urls("[1-3].gpu:9400").expect("a range").len()), (3, 3));
        for (word, says, hint) in [
            ("::1", "`::1` has no brackets", "`sconce top '[::1]:9400'`"),
            ("::1:9400", "`::1:9400` has no brackets", "`sconce top '[::1]:9400'`"),
            ("::1:9500", "`::1:9500` has no brackets", "`sconce top '[::1]:9400'`"),
            ("127.0.0.1:99999", "`99999` is no port", "`sconce top 127.0.0.1:9400`"),
            ("gpu1:0", "`0` is no port", "`sconce top gpu1:9400`"),
            ("gpu1:", "has no port behind its colon", "`sconce top gpu1:9400`"),
            (":9400", "`9400` is no port", "`sconce top gpu1:9400`"),
            ("", "one of them is empty", "`sconce top gpu1:9400`"),
            ("[::1]", "`[::1]` has no port", "`sconce top '[::1]:9400'`"),
            ("https://[2001:db8::7]", "has no port", "'[2001:db8::7]:9400'"),
            ("[::1]:99999", "has no port", "'[::1]:9400'"),
            ("[::x]:9400", "`::x` is no address of IPv6", "'[::1]:9400'"),
            ("[fe80::1%eth0]:9400", "names an interface", "name the machine"),
            ("me:word@gpu1:9400", "a login has no place", "`--login FILE`"),
            ("ftp://gpu1:9400", "machines are HOST:PORT", "sconce top gpu1:9400"),
            ("training", "`training` has no port", "`sconce stats training`"),
        ] {
            let failure = format!("{:?}", urls(word).expect_err(word));
            assert!(failure.contains(says) && failure.contains(hint), "{word}: {failure}");
            assert!(!failure.contains("word@"), "{failure}");
        }
    }
}
