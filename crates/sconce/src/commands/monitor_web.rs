//! `sconce monitor --web-config`: what keeps others out.

use std::path::Path;

use sconce_listen::{Logins, Tls, Wants};
use sconce_monitor::guarded::Guard;
use sconce_monitor::web;

use crate::commands::paths;
use crate::error::{Failure, Kind};

/// The largest file of the configuration, a certificate or a key, bytes.
const MAX_FILE: u64 = 1 << 20;

/// What the file asks for; all that it names is read once.
pub fn guard(given: &Path) -> Result<Guard, Failure> {
    let path = paths::of_option("--web-config", given)?;
    let wrong = |why: &dyn std::fmt::Display| {
        Failure::new(Kind::Document, format!("{}: {why}", given.display()))
            .hint("`sconce monitor --help` and docs/monitor.md say what stands in such a file")
    };
    let text = read(&path)?;
    let text = str::from_utf8(&text).map_err(|_| wrong(&"it is no text"))?;
    let folder = path.parent().unwrap_or(Path::new("."));
    let asked = web::parse(text, folder).map_err(|why| wrong(&why))?;
    let tls = match &asked.tls {
        None => None,
        Some(tls) => {
            let authorities = match &tls.clients {
                Some((path, must)) => Some((read(path)?, *must)),
                None => None,
            };
            let clients = authorities.as_ref().map(|(bytes, must)| (&bytes[..], *must));
            let wants = Wants { clients, newest: tls.newest };
            Some(Tls::with(&read(&tls.certificate)?, &read(&tls.key)?, wants)?)
        }
    };
    let users = asked.users.iter();
    let users = users.map(|(line, name, hash)| (*line, Some((name.as_str(), hash.as_str()))));
    let logins = match asked.users.is_empty() {
        true => None,
        false => Some(Logins::of(users).map_err(|error| wrong(&error))?),
    };
    let knows_clients = asked.tls.is_some_and(|tls| tls.clients.is_some_and(|(_, must)| must));
    Ok(Guard { tls, knows_clients, logins })
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    sconce_open::read(path, MAX_FILE).map_err(|error| {
        let what = format!("--web-config: can't read {}: {error}", path.display());
        Failure::new(Kind::Storage, what)
    })
}
