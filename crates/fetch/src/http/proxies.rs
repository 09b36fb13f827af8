//! Which proxy a request goes through, as the environment says it: `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY`.
//!
//! They are read as Go's `httpproxy` and curl read them, so that what is set for docker, skopeo and cosign holds here.
//! This machine itself is never asked through a proxy: another machine's `localhost` is not what was meant, and a login
//! for it would go there in the clear.

use std::ffi::OsString;
use std::net::IpAddr;

use ureq::{Proxy, ProxyProtocol};
use url::{Host, Url};

use crate::error::Error;

/// Proxies, and what is asked without one.
#[derive(Clone, Debug, Default)]
pub(super) struct Proxies {
    http: Option<Named>,
    https: Option<Named>,
    without: Without,
}

/// What a variable says.
type Named = Result<Proxy, Unusable>;

/// A variable that names a proxy which can't be used. Without it requests would go out directly, past what somebody has
/// put between this machine and the network.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Unusable {
    variable: String,
    /// Without a login.
    value: String,
    why: String,
}

impl Proxies {
    /// Those of the environment.
    pub(super) fn of_environment() -> Self {
        Self::read(&|name| std::env::var_os(name))
    }

    fn read(variable: &dyn Fn(&str) -> Option<OsString>) -> Self {
        // An empty one says nothing, as for Go. One that is no text names no proxy, which is said.
        let value = |name: &str| {
            let names = [name.to_ascii_uppercase(), name.to_owned()];
            names.into_iter().find_map(|name| {
                let value = variable(&name)?.to_string_lossy().trim().to_owned();
                (!value.is_empty()).then_some((name, value))
            })
        };
        let proxy = |name: &str| {
            let (variable, value) = value(name)?;
            let unusable = |why| Unusable { variable, value: without_login(&value), why };
            Some(usable(&value).map_err(unusable))
        };
        let list = value("no_proxy").map(|(_, list)| list);
        Self {
            http: proxy("http_proxy").or_else(|| proxy("all_proxy")),
            https: proxy("https_proxy").or_else(|| proxy("all_proxy")),
            without: Without::parse(&list.unwrap_or_default()),
        }
    }

    /// The proxy for a request to `url`.
    ///
    /// # Errors
    /// [`Error::BadProxy`] where there is one that can't be used.
    pub(super) fn of(&self, url: &Url) -> Result<Option<&Proxy>, Error> {
        let proxy = match url.scheme() {
            "https" => &self.https,
            _ => &self.http,
        };
        match proxy.as_ref().filter(|_| !is_here(url) && !self.without.has(url)) {
            None => Ok(None),
            Some(Ok(proxy)) => Ok(Some(proxy)),
            Some(Err(Unusable { variable, value, why })) => Err(Error::BadProxy {
                variable: variable.clone(),
                value: value.clone(),
                why: why.clone(),
            }),
        }
    }
}

/// The proxy that a value names; why it can't be used.
fn usable(value: &str) -> Result<Proxy, String> {
    // ureq takes any word for a host, and the port of the scheme where the one that stands there is none.
    let (scheme, rest) = value.split_once("://").unwrap_or(("http", value));
    match scheme.to_ascii_lowercase().as_str() {
        "http" | "https" => {}
        scheme if scheme.starts_with("socks") => return Err("SOCKS is not spoken here".to_owned()),
        _ if is_scheme(scheme) => return Err(format!("`{scheme}://` is no kind of proxy")),
        _ => return Err("it is no address of a proxy".to_owned()),
    }
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if rest[authority.len()..].contains('@') {
        // What stands before it would be the host, and a part of the login would go there as the path.
        return Err("a `/`, `?` or `#` in a login is written `%2F`, `%3F` or `%23`".to_owned());
    }
    if !is_port(port_of(authority)) {
        return Err("its port is no number from 1 to 65535".to_owned());
    }
    let address = format!("{scheme}://{authority}");
    let proxy = Proxy::new(&address).map_err(|_| "it is no address of a proxy".to_owned())?;
    match matches!(proxy.protocol(), ProxyProtocol::Http | ProxyProtocol::Https)
        && !proxy.host().is_empty()
    {
        true => Ok(proxy),
        false => Err("it is no address of a proxy".to_owned()),
    }
}

/// The port of a host, behind a login; empty where there is none.
fn port_of(authority: &str) -> &str {
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    match host.rsplit_once(':') {
        // Colons within the brackets of an address are its own.
        Some((_, port)) if !port.contains(']') => port,
        _ => "",
    }
}

fn is_port(port: &str) -> bool {
    port.is_empty() || port.parse::<u16>().is_ok_and(|port| port > 0)
}

fn is_scheme(word: &str) -> bool {
    !word.is_empty() && word.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
}

/// A value as it may be shown: without what stands before the last `@`, whatever is wrong with the rest, and without what
/// stands for a port and is none: a login whose host was forgotten.
fn without_login(value: &str) -> String {
    let shown = match value.rsplit_once('@') {
        None => {
            let rest = value.split_once("://").map_or(value, |(_, rest)| rest);
            let port = port_of(rest.split(['/', '?', '#']).next().unwrap_or_default());
            if is_port(port) { value.to_owned() } else { value.replace(port, "…") }
        }
        Some((before, rest)) => match before.split_once("://") {
            Some((scheme, _)) if is_scheme(scheme) => format!("{scheme}://{rest}"),
            _ => rest.to_owned(),
        },
    };
    shown.chars().filter(|c| !c.is_control()).take(200).collect()
}

/// Whether this machine itself is meant: `localhost`, names below it (RFC 6761, 6.3), its loopback addresses.
pub(super) fn is_here(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => {
            let name = name.strip_suffix('.').unwrap_or(name);
            name.rsplit('.').next().is_some_and(|last| last.eq_ignore_ascii_case("localhost"))
        }
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.to_canonical().is_loopback(),
        None => false,
    }
}

/// What `NO_PROXY` lists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Without {
    rows: Vec<(Row, Option<u16>)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Row {
    /// `*`
    All,
    /// An address and how many of its first bits count: `10.0.0.0/8`, `10.1.2.3`.
    Network(IpAddr, u32),
    /// A name with a dot before it, and whether the name itself is meant beside those below it.
    Name(String, bool),
}

impl Without {
    fn parse(text: &str) -> Self {
        // curl takes blanks for commas. No name has one.
        let words = text.split(|c: char| c == ',' || c.is_whitespace());
        Self { rows: words.filter_map(|word| row(&word.to_ascii_lowercase())).collect() }
    }

    fn has(&self, url: &Url) -> bool {
        let port = url.port_or_known_default();
        let ip = match url.host() {
            Some(Host::Ipv4(ip)) => Some(IpAddr::from(ip)),
            Some(Host::Ipv6(ip)) => Some(IpAddr::from(ip).to_canonical()),
            _ => None,
        };
        let host = url.host_str().unwrap_or_default();
        let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        self.rows.iter().any(|(row, only)| {
            let named = match row {
                Row::All => true,
                Row::Network(network, bits) => ip.is_some_and(|ip| is_within(ip, *network, *bits)),
                Row::Name(name, itself) => {
                    host.ends_with(name.as_str()) || (*itself && host == name[1..])
                }
            };
            named && only.is_none_or(|only| Some(only) == port)
        })
    }
}

/// One entry; nothing for what is none.
fn row(word: &str) -> Option<(Row, Option<u16>)> {
    if word == "*" {
        return Some((Row::All, None));
    }
    if let Some((ip, bits)) = word.split_once('/')
        && let (Ok(ip), Ok(bits)) = (ip.parse::<IpAddr>(), bits.parse::<u32>())
    {
        let most = if ip.is_ipv4() { 32 } else { 128 };
        return (bits <= most).then_some((Row::Network(ip, bits), None));
    }
    let (host, port) = match word.parse::<IpAddr>() {
        // Colons of an address without brackets are its own.
        Ok(_) => (word, None),
        Err(_) => match word.rsplit_once(':') {
            Some((host, port)) => (host, Some(port.parse().ok()?)),
            None => (word, None),
        },
    };
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    if let Ok(ip) = bare.parse::<IpAddr>() {
        let ip = ip.to_canonical();
        let bits = if ip.is_ipv4() { 32 } else { 128 };
        return Some((Row::Network(ip, bits), port));
    }
    let host = host.strip_prefix('*').filter(|rest| rest.starts_with('.')).unwrap_or(host);
    let host = host.strip_suffix('.').unwrap_or(host);
    match host.strip_prefix('.') {
        Some("") => None,
        Some(_) => Some((Row::Name(host.to_owned(), false), port)),
        None if host.is_empty() => None,
        None => Some((Row::Name(format!(".{host}"), true), port)),
    }
}

fn is_within(ip: IpAddr, network: IpAddr, bits: u32) -> bool {
    match (ip, network) {
        (IpAddr::V4(ip), IpAddr::V4(network)) => {
            let differ = ip.to_bits() ^ network.to_bits();
            differ.leading_zeros() >= bits
        }
        (IpAddr::V6(ip), IpAddr::V6(network)) => {
            let differ = ip.to_bits() ^ network.to_bits();
            differ.leading_zeros() >= bits
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(rows: &[(&str, &str)]) -> Proxies {
        Proxies::read(&|name| {
            rows.iter().find(|(own, _)| *own == name).map(|(_, value)| (*value).into())
        })
    }

    fn through<'a>(proxies: &'a Proxies, url: &str) -> Option<&'a str> {
        proxies.of(&Url::parse(url).expect(url)).expect(url).map(Proxy::host)
    }

    /// The table of Go's golang.org/x/net/http/httpproxy (`UseProxyTests`), whose requests go to port 80, with what it
    /// has no row for.
    #[test]
    fn no_proxy_as_go_reads_it() {
        let list = "foobar.com, .barbaz.net, *.wildcard.io, 192.168.1.1, 192.168.1.2:81, 192.168.1.3:80, 10.0.0.0/30, \
                    2001:db8::52:0:1, [2001:db8::52:0:2]:443, [2001:db8::52:0:3]:80, 2002:db8:a::45/64";
        let proxies = proxies(&[("http_proxy", "proxy"), ("NO_PROXY", list)]);
        for (host, goes) in [
            ("localhost", false),
            ("127.0.0.1", false),
            ("127.0.0.2", false),
            ("[::1]", false),
            ("[::2]", true),
            ("192.168.1.1", false),
            ("192.168.1.2", true),
            ("192.168.1.3", false),
            ("192.168.1.4", true),
            ("10.0.0.2", false),
            ("[2001:db8::52:0:1]", false),
            ("[2001:db8::52:0:2]", true),
            ("[2001:db8::52:0:3]", false),
            ("[2002:db8:a::123]", false),
            ("[fe80::424b:c8be:1643:a1b6]", true),
            ("barbaz.net", true),
            ("www.barbaz.net", false),
            ("foobar.com", false),
            ("www.foobar.com", false),
            ("foofoobar.com", true),
            ("baz.com", true),
            ("localhost.net", true),
            ("barbarbaz.net", true),
            ("wildcard.io", true),
            ("nested.wildcard.io", false),
            ("awildcard.io", true),
            // Go sends this one to the proxy. RFC 6761 has it be this machine.
            ("local.localhost", false),
            ("localhost.", false),
            ("[::ffff:127.0.0.1]", false),
            ("FooBar.com", false),
            ("foobar.com.", false),
            ("10.0.0.4", true),
        ] {
            let url = format!("http://{host}/v2/");
            assert_eq!(through(&proxies, &url).is_some(), goes, "{host}");
        }
    }

    #[test]
    fn ports_and_lists() {
        for (list, url, goes) in [
            ("*", "http://a.invalid/", false),
            ("b.invalid,*", "http://a.invalid/", false),
            ("a.invalid:5000", "http://a.invalid:5000/", false),
            ("a.invalid:5000", "http://a.invalid/", true),
            ("a.invalid:443", "https://a.invalid/", false),
            (" b.invalid ,\ta.invalid ", "http://a.invalid:5000/", false),
            ("b.invalid a.invalid", "http://a.invalid/", false),
            ("10.0.0.0/8", "http://10.9.9.9:5000/", false),
            ("10.0.0.0/8", "http://11.9.9.9/", true),
            ("0.0.0.0/0", "http://11.9.9.9/", false),
            ("0.0.0.0/0", "http://[2001:db8::1]/", true),
            // Entries that are none.
            (",.,:80,*.,10.0.0.0/33,a.invalid:x,[", "http://a.invalid/", true),
            ("", "http://a.invalid/", true),
        ] {
            let proxies = proxies(&[("ALL_PROXY", "http://proxy:3128"), ("no_proxy", list)]);
            assert_eq!(through(&proxies, url).is_some(), goes, "{list}: {url}");
        }
    }

    #[test]
    fn each_scheme_has_its_own() {
        let three = [("HTTP_PROXY", "plain:1"), ("https_proxy", "tls:2"), ("ALL_PROXY", "all:3")];
        for (set, plain, tls) in [
            (&three[..], Some("plain"), Some("tls")),
            (&three[..1], Some("plain"), None),
            (&three[1..2], None, Some("tls")),
            (&three[2..], Some("all"), Some("all")),
            (&three[1..], Some("all"), Some("tls")),
            (&[("HTTP_PROXY", ""), ("http_proxy", "plain")][..], Some("plain"), None),
        ] {
            let proxies = proxies(set);
            let went =
                (through(&proxies, "http://a.invalid/"), through(&proxies, "https://a.invalid/"));
            assert_eq!(went, (plain, tls), "{set:?}");
        }
    }

    /// Where it is for, a proxy that can't be used is an error, and nothing of it that is secret is shown.
    #[test]
    fn a_proxy_that_cannot_be_used_is_not_passed_over() {
        for (value, shown, why) in [
            ("socks5://me:secret@all:1080", "socks5://all:1080", "SOCKS is not spoken"),
            ("SOCKS5H://all", "SOCKS5H://all", "SOCKS is not spoken"),
            ("ftp://all:21", "ftp://all:21", "`ftp://` is no kind of proxy"),
            ("htp://me:se/cret@all", "htp://all", "`htp://` is no kind of proxy"),
            ("http://me:secret@all:31x28", "http://all:31x28", "no number from 1"),
            ("all:99999", "all:…", "no number from 1"),
            ("[::1]:0", "[::1]:…", "no number from 1"),
            ("me:secret", "me:…", "no number from 1"),
            ("http://me:se/cret@all:1", "http://all:1", "written `%2F`"),
            ("http://me:se?cret@all:1", "http://all:1", "written `%2F`"),
            ("http://all:99999/x@y", "http://y", "written `%2F`"),
            ("http://", "http://", "no address"),
            ("http:///path", "http:///path", "no address"),
            ("me:secret://x@all:1", "all:1", "no address"),
            ("a b", "a b", "no address"),
        ] {
            let read = proxies(&[("https_proxy", value), ("ALL_PROXY", "http://other")]);
            let said = read.of(&Url::parse("https://a.invalid/").unwrap()).expect_err(value);
            let words = said.to_string();
            assert!(words.starts_with(&format!("https_proxy names `{shown}`")), "{words}");
            assert!(words.contains(why) && !words.contains("secret"), "{words}");
            assert!(!words.contains("cret"), "{words}");
            // What is not for it is asked as ever.
            assert_eq!(through(&read, "http://a.invalid/"), Some("other"));
            assert_eq!(through(&read, "https://localhost/"), None);
            let none = proxies(&[("https_proxy", value), ("NO_PROXY", "a.invalid")]);
            assert_eq!(through(&none, "https://a.invalid/"), None);
        }
        for value in ["http://me:se%40cret@all:3128/", "all", "HTTPS://all", "http://[::1]:3128"] {
            let read = proxies(&[("ALL_PROXY", value)]);
            assert!(through(&read, "https://a.invalid/").is_some(), "{value}");
        }
    }
}
