//! Which package indexes the person has configured, for uv or for pip.
//!
//! The first of these that names an index wins: `UV_DEFAULT_INDEX`, `UV_INDEX_URL`, uv.toml,
//! `PIP_INDEX_URL`, pip.conf; else pip is asked for its built-in one, so that the address of the
//! public index stands nowhere in sconce.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Deserialize;

use crate::error::Error;

/// The largest configuration file that is read, bytes.
const CONFIG_LIMIT: u64 = 1 << 20;

/// Where packages come from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Configured {
    /// The default index, where one is configured.
    pub default: Option<String>,
    /// Further indexes, in the order they are asked; the name where they have one.
    pub extra: Vec<(Option<String>, String)>,
    /// Flat collections of files: folders or pages.
    pub find_links: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct UvToml {
    #[serde(default)]
    index: Vec<UvIndex>,
    index_url: Option<String>,
    #[serde(default)]
    extra_index_url: Vec<String>,
    #[serde(default)]
    find_links: Vec<String>,
    pip: Option<Box<UvToml>>,
}

#[derive(Deserialize)]
struct UvIndex {
    name: Option<String>,
    url: String,
    #[serde(default)]
    default: bool,
    format: Option<String>,
}

/// Reads the configuration of uv and pip; `env` looks a variable up.
pub fn configured(env: &dyn Fn(&str) -> Option<OsString>) -> Result<Configured, Error> {
    let mut found = Configured::default();
    let text = |name: &str| env(name)?.into_string().ok().filter(|text| !text.trim().is_empty());
    found.default = text("UV_DEFAULT_INDEX").or_else(|| text("UV_INDEX_URL")).map(named_url);
    for name in ["UV_INDEX", "UV_EXTRA_INDEX_URL"] {
        for word in text(name).unwrap_or_default().split_whitespace() {
            found.extra.push(split_name(word));
        }
    }
    let links = text("UV_FIND_LINKS").unwrap_or_default();
    found.find_links.extend(links.split(',').filter(|l| !l.is_empty()).map(str::to_owned));
    for path in uv_files(env) {
        if let Some(text) = read(&path)? {
            found.take_uv(toml::from_str(&text).map_err(|error| bad_toml(&path, &text, &error))?);
        }
    }
    found.default = found.default.or_else(|| text("PIP_INDEX_URL"));
    for word in text("PIP_EXTRA_INDEX_URL").unwrap_or_default().split_whitespace() {
        found.extra.push((None, word.to_owned()));
    }
    let links = text("PIP_FIND_LINKS").unwrap_or_default();
    found.find_links.extend(links.split_whitespace().map(str::to_owned));
    for path in pip_files(env) {
        if let Some(text) = read(&path)? {
            found.take_pip(&text);
        }
    }
    let mut seen = std::collections::HashSet::new();
    found.extra.retain(|(_, url)| seen.insert(url.clone()));
    found.find_links.retain(|place| seen.insert(place.clone()));
    Ok(found)
}

/// The index that pip asks when nothing is configured.
pub fn pip_default() -> Result<String, Error> {
    let why = |why: String| Error::NoIndex { why };
    let question = "from pip._internal.models.index import PyPI; print(PyPI.simple_url)";
    let output = Command::new("python3")
        // Isolated: what lies in the current folder must not be imported.
        .args(["-I", "-c", question])
        .stdin(Stdio::null())
        .output()
        .map_err(|error| why(format!("python3: {error}")))?;
    let answer = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    match output.status.success() && answer.contains("://") {
        true => Ok(answer),
        false => {
            let said = String::from_utf8_lossy(&output.stderr);
            Err(why(said.lines().last().unwrap_or("it said nothing").to_owned()))
        }
    }
}

impl Configured {
    /// The default index: the configured one, else pip's own.
    pub fn default_index(&self) -> Result<String, Error> {
        self.default.clone().map_or_else(pip_default, Ok)
    }

    fn take_uv(&mut self, file: UvToml) {
        for index in file.index {
            if index.format.as_deref() == Some("flat") {
                self.find_links.push(index.url);
            } else if index.default {
                self.default.get_or_insert(index.url);
            } else {
                self.extra.push((index.name, index.url));
            }
        }
        if let Some(url) = file.index_url {
            self.default.get_or_insert(url);
        }
        self.extra.extend(file.extra_index_url.into_iter().map(|url| (None, url)));
        self.find_links.extend(file.find_links);
        if let Some(pip) = file.pip {
            self.take_uv(*pip);
        }
    }

    /// pip's configuration is an INI file whose values may go on in indented lines
    /// (Python's configparser).
    fn take_pip(&mut self, text: &str) {
        let mut section = String::new();
        let mut key = String::new();
        for line in text.lines() {
            let bare = line.trim();
            if bare.is_empty() || bare.starts_with(['#', ';']) {
                continue;
            }
            if let Some(name) = bare.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
                section = name.trim().to_ascii_lowercase();
                key.clear();
                continue;
            }
            let goes_on = line.starts_with(char::is_whitespace) && !key.is_empty();
            let value = match bare.find(['=', ':']) {
                Some(at) if !goes_on => {
                    key = bare[..at].trim().to_ascii_lowercase().replace('_', "-");
                    bare[at + 1..].trim()
                }
                _ => bare,
            };
            if !matches!(section.as_str(), "global" | "install" | "download") {
                continue;
            }
            for word in value.split_whitespace() {
                match key.as_str() {
                    "index-url" => {
                        self.default.get_or_insert_with(|| word.to_owned());
                    }
                    "extra-index-url" => self.extra.push((None, word.to_owned())),
                    "find-links" => self.find_links.push(word.to_owned()),
                    _ => {}
                }
            }
        }
    }
}

/// `NAME=URL`, as uv's variables allow.
fn split_name(word: &str) -> (Option<String>, String) {
    match word.split_once('=') {
        Some((name, url)) if !name.contains(['/', ':']) => (Some(name.to_owned()), url.to_owned()),
        _ => (None, word.to_owned()),
    }
}

fn named_url(word: String) -> String {
    split_name(&word).1
}

/// uv's user and system configuration, the nearer first (uv, "Configuration files"). That of the
/// current project is not read: a lock belongs to its own sconce.toml.
pub(crate) fn uv_files(env: &dyn Fn(&str) -> Option<OsString>) -> Vec<PathBuf> {
    if let Some(file) = env("UV_CONFIG_FILE") {
        return vec![file.into()];
    }
    if env("UV_NO_CONFIG").is_some_and(|value| !value.is_empty() && value != "0") {
        return Vec::new();
    }
    let mut files: Vec<_> =
        config_home(env).map(|home| home.join("uv/uv.toml")).into_iter().collect();
    files.extend(["/etc/xdg/uv/uv.toml", "/etc/uv/uv.toml"].map(PathBuf::from));
    files
}

/// pip's configuration, the nearer first (pip, "Configuration Files").
fn pip_files(env: &dyn Fn(&str) -> Option<OsString>) -> Vec<PathBuf> {
    let mut files = Vec::new();
    if let Some(file) = env("PIP_CONFIG_FILE") {
        if file == "/dev/null" {
            return files;
        }
        files.push(file.into());
    }
    files.extend(env("VIRTUAL_ENV").map(|venv| Path::new(&venv).join("pip.conf")));
    files.extend(config_home(env).map(|home| home.join("pip/pip.conf")));
    files.extend(env("HOME").map(|home| Path::new(&home).join(".pip/pip.conf")));
    files.extend(["/etc/xdg/pip/pip.conf", "/etc/pip.conf"].map(PathBuf::from));
    files
}

fn config_home(env: &dyn Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let xdg = env("XDG_CONFIG_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    xdg.or_else(|| env("HOME").map(|home| Path::new(&home).join(".config")))
}

pub(crate) fn read(path: &Path) -> Result<Option<String>, Error> {
    match sconce_open::read_to_string(path, CONFIG_LIMIT) {
        Ok(text) => Ok(Some(text)),
        Err(error) if sconce_open::is_missing(&error) => Ok(None),
        Err(source) => Err(Error::File { action: "read", path: path.to_owned(), source }),
    }
}

/// What is wrong with a file of uv's, and where.
pub(crate) fn bad_toml(path: &Path, text: &str, error: &toml::de::Error) -> Error {
    let before = error.span().and_then(|span| text.get(..span.start));
    let message = error.message().trim().replace('\n', "; ");
    let why = before.map_or(message.clone(), |before| {
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        format!("line {line}, column {column}: {message}")
    });
    Error::BadConfig { path: path.to_owned(), why }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn with(variables: &[(&str, &str)]) -> Configured {
        let variables: HashMap<_, _> = variables.iter().copied().collect();
        // What this machine has configured must not matter.
        let mut found = configured(&|name| match (name, variables.get(name)) {
            (_, Some(value)) => Some(value.into()),
            ("UV_NO_CONFIG", _) => Some("1".into()),
            ("PIP_CONFIG_FILE", _) => Some("/dev/null".into()),
            _ => None,
        })
        .unwrap();
        found.extra.sort();
        found
    }

    #[test]
    fn the_environment_comes_first() {
        let found = with(&[
            ("UV_DEFAULT_INDEX", "main=https://a.example.invalid/simple"),
            ("PIP_INDEX_URL", "https://b.example.invalid/simple"),
            ("UV_INDEX", "x=https://x.example.invalid/s https://y.example.invalid/?a=b"),
            ("PIP_FIND_LINKS", "/wheels /more"),
        ]);
        assert_eq!(found.default_index().unwrap(), "https://a.example.invalid/simple");
        assert_eq!(found.extra[0], (None, "https://y.example.invalid/?a=b".to_owned()));
        assert_eq!(found.extra[1].0.as_deref(), Some("x"));
        assert_eq!(found.find_links, ["/wheels", "/more"]);
        assert_eq!(with(&[]), Configured::default());
    }

    #[test]
    fn files_of_uv_and_pip_are_read() {
        let mut found = Configured::default();
        let text = r#"
            find-links = ["/flat"]
            [[index]]
            name = "cu"
            url = "https://cu.example.invalid/whl"
            [[index]]
            url = "https://d.example.invalid/simple"
            default = true
            [pip]
            extra-index-url = ["https://e.example.invalid/simple"]
        "#;
        found.take_uv(toml::from_str(text).unwrap());
        found.take_pip(
            "[global]\nindex-url = https://pip.example.invalid/simple\n; no\n\
             find_links =\n    /one\n    file:///two\n[list]\nfind-links = /three\n",
        );
        assert_eq!(found.default.as_deref(), Some("https://d.example.invalid/simple"));
        assert_eq!(found.extra.len(), 2);
        assert_eq!(found.find_links, ["/flat", "/one", "file:///two"]);
    }
}
