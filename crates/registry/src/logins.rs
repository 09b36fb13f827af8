//! Logins: Docker's `config.json` and credential helpers, podman's `auth.json`.
//!
//! Sources: docker/cli `configfile`, docker/docker-credential-helpers (the protocol),
//! containers-auth.json(5). A key is a host with its port, before it maybe a scheme, behind it
//! (podman's) the beginning of a repository's name.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sconce_oci::DOCKER_HUB_HOSTS;
use serde::{Deserialize, Serialize};

use crate::credential_helper::{NONE_THERE, run_helper};
use crate::error::Error;
use crate::reference::HUB;

/// Docker Hub's key among the logins, and to credential helpers.
const HUB_KEY: &str = "https://index.docker.io/v1/";
/// The largest file of logins and answer of a helper, bytes.
pub(crate) const MAX_FILE: u64 = 1 << 20;
/// What helpers call a login that has no user: an identity token.
const TOKEN_USER: &str = "<token>";

/// What one logs in with. Its `Debug` hides it.
#[derive(Clone, PartialEq, Eq)]
pub enum Login {
    /// A user name and a password, coded as in a `Basic` header.
    Basic(String),
    /// A token that buys tokens (OAuth 2.0's refresh token).
    Identity(String),
}

impl Login {
    /// A user name and a password.
    #[must_use]
    pub fn new(user: &str, password: &str) -> Self {
        Self::Basic(STANDARD.encode(format!("{user}:{password}")))
    }
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Login")
    }
}

/// Logins by registry. Files are read when a login is asked for.
#[derive(Clone, Default)]
pub struct Logins {
    /// The one asked first comes first.
    paths: Vec<PathBuf>,
    files: OnceLock<Vec<File>>,
}

#[derive(Clone, Default, Deserialize)]
struct File {
    #[serde(default)]
    auths: BTreeMap<String, Auth>,
    #[serde(default, rename = "credsStore")]
    store: Option<String>,
    #[serde(default, rename = "credHelpers")]
    helpers: BTreeMap<String, String>,
}

#[derive(Clone, Deserialize)]
struct Auth {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
}

/// What a helper is told and answers.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Credentials {
    #[serde(rename = "ServerURL", default)]
    server_url: String,
    username: String,
    secret: String,
}

impl Logins {
    /// Those of one file; one that isn't there has none.
    #[must_use]
    pub fn of_file(path: &Path) -> Self {
        Self { paths: vec![path.to_owned()], files: OnceLock::new() }
    }

    /// Those of the files that the environment names, or of the usual ones: `REGISTRY_AUTH_FILE`,
    /// Docker's ([`docker_file`]), podman's in `XDG_RUNTIME_DIR` and below `~/.config`.
    #[must_use]
    pub fn of_environment(env: &dyn Fn(&str) -> Option<OsString>) -> Self {
        let below = |name: &str, rest: &str| env(name).map(|base| PathBuf::from(base).join(rest));
        let paths = [
            env("REGISTRY_AUTH_FILE").map(PathBuf::from),
            docker_file(env),
            below("XDG_RUNTIME_DIR", "containers/auth.json"),
            below("XDG_CONFIG_HOME", "containers/auth.json")
                .or_else(|| below("HOME", ".config/containers/auth.json")),
        ];
        Self { paths: paths.into_iter().flatten().collect(), files: OnceLock::new() }
    }

    fn files(&self) -> Result<&[File], Error> {
        if let Some(files) = self.files.get() {
            return Ok(files);
        }
        let files = self.paths.iter().filter_map(|path| read(path).transpose());
        let files = files.collect::<Result<Vec<_>, Error>>()?;
        Ok(self.files.get_or_init(|| files))
    }

    /// The login for a repository of a registry that is reached by `scheme`.
    ///
    /// # Errors
    /// [`Error::Logins`] for a file that can't be read or is no such file: what it holds stands in no
    /// error; [`Error::Helper`] where a credential helper fails.
    pub(crate) fn get(
        &self,
        scheme: &str,
        host: &str,
        repository: &str,
    ) -> Result<Option<Login>, Error> {
        for file in self.files()? {
            let helper =
                file.helpers.iter().find(|(key, _)| bare(key) == hosts(host)[0] || *key == host);
            let helper = helper.map(|(_, name)| name).or(file.store.as_ref());
            if let Some(name) = helper
                && let Some(login) = ask_helper(name, key_of(host))?
            {
                return Ok(Some(login));
            }
            if let Some(login) = file.written(scheme, host, repository) {
                return Ok(Some(login));
            }
        }
        Ok(None)
    }
}

impl File {
    /// The login that stands in the file itself: that with the longest key that fits.
    fn written(&self, scheme: &str, host: &str, repository: &str) -> Option<Login> {
        let mut found: Option<(usize, Login)> = None;
        for (key, auth) in &self.auths {
            if key.split_once("://").is_some_and(|(of, _)| of != scheme) {
                continue;
            }
            let place = bare(key);
            let Some(name) = hosts(host).iter().find_map(|host| place.strip_prefix(host)) else {
                continue;
            };
            let beneath = match name.strip_prefix('/') {
                None => name.is_empty(),
                Some(name) => {
                    let rest = repository.strip_prefix(name);
                    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
                }
            };
            let longer = found.as_ref().is_none_or(|(length, _)| place.len() > *length);
            if beneath
                && longer
                && let Some(login) = auth.login()
            {
                found = Some((place.len(), login));
            }
        }
        found.map(|(_, login)| login)
    }
}

impl Auth {
    fn login(&self) -> Option<Login> {
        let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        if let Some(token) = given(&self.identitytoken) {
            return Some(Login::Identity(token));
        }
        match (given(&self.auth), &self.username, &self.password) {
            (Some(coded), ..) => Some(Login::Basic(coded)),
            (None, Some(user), Some(password)) => Some(Login::new(user, password)),
            // The password is with a credential helper.
            _ => None,
        }
    }
}

/// Where Docker keeps logins: `config.json` in `DOCKER_CONFIG`, else in `~/.docker`.
#[must_use]
pub fn docker_file(env: &dyn Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let folder = env("DOCKER_CONFIG")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(env("HOME")?).join(".docker")));
    folder.map(|folder| folder.join("config.json"))
}

/// Keeps a login as `docker login` does: with the credential helper that the file names, else in the
/// file, which is then readable to its owner alone. Says whether a helper has it.
///
/// # Errors
/// [`Error::Logins`], [`Error::Helper`]
pub fn save(path: &Path, host: &str, user: &str, password: &str) -> Result<bool, Error> {
    let file = read(path)?.unwrap_or_default();
    if let Some(helper) = file.helpers.get(host).or(file.store.as_ref()) {
        let credentials = Credentials {
            server_url: key_of(host).to_owned(),
            username: user.to_owned(),
            secret: password.to_owned(),
        };
        let said = serde_json::to_string(&credentials).unwrap_or_default();
        return match run_helper(helper, "store", &said)? {
            Ok(_) => Ok(true),
            Err(said) => Err(refused(helper, "it stored nothing", &said)),
        };
    }
    let coded = STANDARD.encode(format!("{user}:{password}"));
    change(path, |auths| {
        auths.insert(key_of(host).to_owned(), serde_json::json!({ "auth": coded }));
    })?;
    Ok(false)
}

/// Forgets the login of a registry. Says whether there was one.
///
/// # Errors
/// [`Error::Logins`], [`Error::Helper`]
pub fn forget(path: &Path, host: &str) -> Result<bool, Error> {
    let Some(file) = read(path)? else { return Ok(false) };
    let mut had = false;
    let is_its = |key: &str| hosts(host).contains(&bare(key));
    if file.auths.keys().any(|key| is_its(key)) {
        had = true;
        change(path, |auths| auths.retain(|key, _| !is_its(key)))?;
    }
    if let Some(helper) = file.helpers.get(host).or(file.store.as_ref()) {
        had |= erase(helper, key_of(host))?;
    }
    Ok(had)
}

/// Has a helper forget a login. Says whether there was one: some helpers refuse to erase what they do not have.
fn erase(helper: &str, key: &str) -> Result<bool, Error> {
    let Err(said) = run_helper(helper, "erase", key)? else { return Ok(true) };
    match run_helper(helper, "get", key)? {
        Err(none) if none.contains(NONE_THERE) => Ok(false),
        _ => Err(refused(helper, "it did not erase the login", &said)),
    }
}

/// A helper's refusal, with the first line of what it says of it.
fn refused(helper: &str, what: &str, said: &str) -> Error {
    let line = said.lines().next().unwrap_or_default();
    let line: String = line.chars().filter(|c| !c.is_control()).take(200).collect();
    let why = if line.is_empty() { what.to_owned() } else { format!("{what}: {line}") };
    Error::Helper { name: helper.to_owned(), why }
}

/// Changes the `auths` of a file and leaves all else in it as it is.
fn change(
    path: &Path,
    work: impl FnOnce(&mut serde_json::Map<String, serde_json::Value>),
) -> Result<(), Error> {
    let bad = |why: String| Error::Logins { path: path.to_owned(), why, is_other: false };
    let old = sconce_open::read_if_there(path, MAX_FILE).map_err(|error| bad(error.to_string()))?;
    let mut whole: serde_json::Map<String, serde_json::Value> = match old {
        Some(bytes) => serde_json::from_slice(&bytes).map_err(|error| other(path, &error))?,
        None => serde_json::Map::new(),
    };
    let auths = whole.entry("auths").or_insert_with(|| serde_json::json!({}));
    match auths.as_object_mut() {
        Some(auths) => work(auths),
        None => {
            let why = format!("{NO_FILE}: its `auths` is no object");
            return Err(Error::Logins { path: path.to_owned(), why, is_other: true });
        }
    }
    let text = serde_json::to_vec_pretty(&whole).map_err(|error| bad(error.to_string()))?;
    let folder = path.parent().unwrap_or(Path::new("."));
    let write = || -> std::io::Result<()> {
        std::fs::create_dir_all(folder)?;
        // Of mode 0600, and in place whole or not at all.
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(&text)?;
        file.persist(path)?;
        Ok(())
    };
    write().map_err(|error| bad(format!("can't be written: {error}")))
}

const NO_FILE: &str = "no such file as `docker login` writes";

fn read(path: &Path) -> Result<Option<File>, Error> {
    let bad = |why: String| Error::Logins { path: path.to_owned(), why, is_other: false };
    let text = sconce_open::read_if_there(path, MAX_FILE);
    let Some(text) = text.map_err(|error| bad(error.to_string()))? else { return Ok(None) };
    serde_json::from_slice(&text).map(Some).map_err(|error| other(path, &error))
}

/// That a file is not one of logins, and where; nothing that stands in it.
fn other(path: &Path, error: &serde_json::Error) -> Error {
    let why = format!("{NO_FILE} (line {}, column {})", error.line(), error.column());
    Error::Logins { path: path.to_owned(), why, is_other: true }
}

/// What a helper knows; `None` where it knows nothing.
fn ask_helper(name: &str, key: &str) -> Result<Option<Login>, Error> {
    let Ok(answer) = run_helper(name, "get", key)? else { return Ok(None) };
    let wrong = || Error::Helper { name: name.to_owned(), why: "its answer can't be read".into() };
    let found: Credentials = serde_json::from_slice(&answer).map_err(|_| wrong())?;
    Ok(match found.username == TOKEN_USER {
        true => Some(Login::Identity(found.secret)),
        false => Some(Login::new(&found.username, &found.secret)),
    })
}

/// The key under which a registry's login is kept.
fn key_of(host: &str) -> &str {
    if host == HUB.0 { HUB_KEY } else { host }
}

/// The names under which a registry's login may be kept.
fn hosts(host: &str) -> Vec<&str> {
    if host == HUB.0 { DOCKER_HUB_HOSTS.to_vec() } else { vec![host] }
}

/// A key without its scheme, and without the version of the API that Docker once put behind it.
fn bare(key: &str) -> &str {
    let key = key.split_once("://").map_or(key, |(_, rest)| rest);
    let key = key.trim_end_matches('/');
    key.strip_suffix("/v1").or_else(|| key.strip_suffix("/v2")).unwrap_or(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logins(text: &str) -> Logins {
        let files = vec![serde_json::from_str(text).unwrap()];
        Logins { paths: Vec::new(), files: OnceLock::from(files) }
    }

    #[test]
    fn a_key_is_scheme_host_port_and_the_beginning_of_a_name() {
        let logins = logins(
            r#"{"auths":{
                "https://index.docker.io/v1/": {"auth": "aHVi"},
                "r.example.invalid:5000": {"username": "u", "password": "p"},
                "r.example.invalid:5000/team": {"auth": "dGVhbQ=="},
                "http://plain.example.invalid": {"auth": "cGxhaW4="},
                "token.example.invalid": {"auth": "eDp5", "identitytoken": "t0ken"},
                "helped.example.invalid": {}
            }}"#,
        );
        let basic = |coded: &str| Some(Login::Basic(coded.to_owned()));
        for (scheme, host, repository, expected) in [
            ("https", "docker.io", "library/debian", basic("aHVi")),
            ("https", "r.example.invalid:5000", "other/app", basic("dTpw")),
            ("https", "r.example.invalid:5000", "team/app", basic("dGVhbQ==")),
            ("https", "r.example.invalid:5000", "teamwork", basic("dTpw")),
            ("https", "r.example.invalid", "team/app", None),
            ("http", "plain.example.invalid", "a", basic("cGxhaW4=")),
            ("https", "plain.example.invalid", "a", None),
            ("https", "token.example.invalid", "a", Some(Login::Identity("t0ken".into()))),
            ("https", "helped.example.invalid", "a", None),
        ] {
            assert_eq!(logins.get(scheme, host, repository).unwrap(), expected, "{host}");
        }
        let none = Logins::of_file(Path::new("/nonexistent/config.json"));
        assert_eq!(none.get("https", "r.example.invalid", "a").unwrap(), None);
    }

    #[test]
    fn what_else_is_in_the_file_stays() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/config.json");
        assert!(!save(&path, "r.example.invalid", "u", "secret").unwrap());
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::write(&path, r#"{"psFormat":"x","auths":{"a":{"auth":"eDp5"}}}"#).unwrap();
        save(&path, "docker.io", "u", "secret").unwrap();
        let found = Logins::of_file(&path).get("https", "docker.io", "library/a").unwrap();
        assert_eq!(found, Some(Login::new("u", "secret")));
        assert!(forget(&path, "docker.io").unwrap() && !forget(&path, "docker.io").unwrap());
        let left: serde_json::Value =
            serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        assert_eq!(left, serde_json::json!({"psFormat": "x", "auths": {"a": {"auth": "eDp5"}}}));
        std::fs::write(&path, r#"{"auths": "secret"}"#).unwrap();
        let error = Logins::of_file(&path).get("https", "a", "b").unwrap_err().to_string();
        assert!(!error.contains("secret"), "{error}");
    }
}
