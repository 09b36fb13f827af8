//! Where standalone builds of Python come from: the mirror and the list that uv is set to.
//!
//! Source: uv's reference of settings, `python-install-mirror` (`UV_PYTHON_INSTALL_MIRROR`) and
//! `python-downloads-json-url` (`UV_PYTHON_DOWNLOADS_JSON_URL`). The variables come first, then uv.toml
//! or pyproject.toml of the project, then the user's and the system's uv.toml.

use std::ffi::OsString;
use std::path::Path;

use sconce_lock::{Base, Machine, PythonPin, python_releases};
use serde::Deserialize;

use crate::error::Error;
use crate::http::Client;
use crate::indexes;

/// The largest list that is read, bytes; uv's own has 3 MB.
const LIST_LIMIT: u64 = 32 << 20;

/// What uv is set to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Setting {
    /// What stands in for the address of python-build-standalone's releases.
    pub mirror: Option<String>,
    /// A list of builds in the format of uv's own: an address, or a path.
    pub list: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Keys {
    python_install_mirror: Option<String>,
    python_downloads_json_url: Option<String>,
}

#[derive(Default, Deserialize)]
struct Pyproject {
    #[serde(default)]
    tool: Tool,
}

#[derive(Default, Deserialize)]
struct Tool {
    #[serde(default)]
    uv: Keys,
}

/// A build in uv's list.
#[derive(Deserialize)]
struct Row {
    name: String,
    arch: Arch,
    os: String,
    libc: String,
    major: u32,
    minor: u32,
    patch: u32,
    #[serde(default)]
    prerelease: String,
    url: String,
    sha256: Option<String>,
    variant: Option<String>,
    build: Option<String>,
    size: Option<u64>,
}

#[derive(Deserialize)]
struct Arch {
    family: String,
    variant: Option<String>,
}

/// Reads uv's configuration; `env` looks a variable up, `project` is the folder of the project.
///
/// # Errors
/// A file of it can't be read.
pub fn setting(
    env: &dyn Fn(&str) -> Option<OsString>,
    project: Option<&Path>,
) -> Result<Setting, Error> {
    let text = |name: &str| env(name)?.into_string().ok().filter(|text| !text.trim().is_empty());
    let mut found = Setting {
        mirror: text("UV_PYTHON_INSTALL_MIRROR"),
        list: text("UV_PYTHON_DOWNLOADS_JSON_URL"),
    };
    let own = env("UV_NO_CONFIG").is_none_or(|value| value.is_empty() || value == "0")
        && env("UV_CONFIG_FILE").is_none();
    let mut files = Vec::new();
    if let Some(folder) = project.filter(|_| own) {
        files.extend(["uv.toml", "pyproject.toml"].map(|name| folder.join(name)));
    }
    files.extend(indexes::uv_files(env));
    for path in files {
        let Some(text) = indexes::read(&path)? else { continue };
        let bad = |error: toml::de::Error| indexes::bad_toml(&path, &text, &error);
        let keys: Keys = match path.file_name().is_some_and(|name| name == "pyproject.toml") {
            true => toml::from_str(&text).map(|file: Pyproject| file.tool.uv).map_err(bad)?,
            false => toml::from_str(&text).map_err(bad)?,
        };
        found.mirror = found.mirror.or(keys.python_install_mirror);
        found.list = found.list.or(keys.python_downloads_json_url);
    }
    Ok(found)
}

impl Setting {
    /// The address of a build.
    pub fn address(&self, pin: &PythonPin) -> String {
        if let Some(url) = &pin.url {
            return url.clone();
        }
        let base = self.mirror.as_deref().unwrap_or(python_releases()).trim_end_matches('/');
        // As in uv's list.
        let file = pin.file.replace('+', "%2B");
        format!("{base}/{}/{file}", pin.build.as_deref().unwrap_or_default())
    }
}

/// The newest build for a base and a processor in a list, which is an address or a path.
///
/// # Errors
/// The list can't be had or read, or has no such build.
pub fn listed(
    client: &Client,
    list: &str,
    base: &Base,
    machine: Machine,
) -> Result<PythonPin, Error> {
    let bytes = match list.contains("://") {
        true => client.get_bytes(list, LIST_LIMIT)?,
        false => {
            let failed = |source| Error::File { action: "read", path: list.into(), source };
            sconce_open::read(Path::new(list), LIST_LIMIT).map_err(failed)?
        }
    };
    newest(&bytes, base, machine).map_err(|why| Error::PythonList { list: list.into(), why })
}

fn newest(bytes: &[u8], base: &Base, machine: Machine) -> Result<PythonPin, String> {
    // Rows of another form are for others: uv's list grows.
    let rows: std::collections::BTreeMap<String, serde_json::Value> =
        serde_json::from_slice(bytes).map_err(|error| format!("no list of Pythons: {error}"))?;
    let rows = rows.into_values().filter_map(|row| serde_json::from_value::<Row>(row).ok());
    let variant = base.is_free_threaded().then_some("freethreaded");
    let fits = |row: &Row| {
        (row.name.as_str(), row.os.as_str(), row.libc.as_str()) == ("cpython", "linux", "gnu")
            && row.arch.family == machine.as_str()
            && row.arch.variant.is_none()
            && row.prerelease.is_empty()
            && format!("{}.{}", row.major, row.minor) == base.python_version()
            && row.variant.as_deref() == variant
            && row.url.ends_with(".tar.gz")
    };
    let found = rows.filter(fits).max_by_key(|row| (row.patch, row.build.clone()));
    let none = || format!("it has no Python {} for {machine} with glibc", base.python);
    let row = found.ok_or_else(none)?;
    let sha256 = row.sha256.as_deref().and_then(|text| text.parse().ok());
    let sha256 = sha256.ok_or_else(|| format!("{} has no SHA-256 there", row.url))?;
    let last = row.url.rsplit('/').next().unwrap_or_default();
    let file = percent_encoding::percent_decode_str(last).decode_utf8_lossy().into_owned();
    let released = row.url.strip_prefix(python_releases());
    let released = released.and_then(|rest| rest.strip_prefix('/')?.split_once('/'));
    let (build, url) = match released {
        Some((build, _)) => (Some(build.to_owned()), None),
        None => (row.build, Some(row.url.clone())),
    };
    let version = format!("{}.{}.{}", row.major, row.minor, row.patch);
    Ok(PythonPin { version, build, file, size: row.size, sha256, url })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHA: &str = "fe04e8b27bd69ca2144fc542428f8b9b5287b6a2e45516a4acfe2c2bc3102773";

    fn row(version: &str) -> String {
        let [major, minor, patch] = version.split('.').collect::<Vec<_>>()[..] else { panic!() };
        format!(
            r#""{version}": {{"name": "cpython", "arch": {{"family": "x86_64", "variant": null}}, "os": "linux",
            "libc": "gnu", "major": {major}, "minor": {minor}, "patch": {patch}, "prerelease": "", "variant": null,
            "url": "https://h.invalid/d/cpython-{version}%2B1-install_only.tar.gz", "sha256": "{SHA}"}}"#
        )
    }

    fn asked(rows: &[String], python: &str) -> Result<PythonPin, String> {
        let text = format!("{{ {} }}", rows.join(", "));
        let base = sconce_lock::base_with("trixie", python).unwrap();
        newest(text.as_bytes(), base, Machine::X86_64)
    }

    #[test]
    fn the_newest_of_a_list_is_taken() {
        let rows = [
            row("3.9.9"),
            row("3.9.25"),
            row("3.9.30").replace(r#""prerelease": """#, r#""prerelease": "rc1""#),
            row("3.10.1"),
            r#""odd": {"name": 7}"#.to_owned(),
        ];
        let pin = asked(&rows, "3.9").unwrap();
        assert_eq!(
            (pin.version.as_str(), pin.file.as_str(), pin.build.as_deref()),
            ("3.9.25", "cpython-3.9.25+1-install_only.tar.gz", None)
        );
        let url = "https://h.invalid/d/cpython-3.9.25%2B1-install_only.tar.gz";
        assert_eq!(pin.url.as_deref(), Some(url));
        assert!(asked(&rows, "3.12").unwrap_err().contains("no Python 3.12 for x86_64"));
        assert!(asked(&rows, "3.13t").unwrap_err().contains("no Python 3.13t"));
        assert!(
            newest(b"[]", sconce_lock::base_with("trixie", "3.9").unwrap(), Machine::X86_64)
                .is_err()
        );
    }

    #[test]
    fn addresses_follow_the_mirror() {
        let base = sconce_lock::base_with("trixie", "3.9").unwrap();
        let pin = PythonPin::known(base, Machine::X86_64).unwrap();
        let end = "/20251031/cpython-3.9.25%2B20251031-x86_64-unknown-linux-gnu-install_only_stripped.tar.gz";
        let address = Setting::default().address(&pin);
        assert_eq!(address, format!("{}{end}", python_releases()));
        let mirror = Some("https://m.invalid/pbs/".to_owned());
        let setting = Setting { mirror, list: None };
        assert_eq!(setting.address(&pin), format!("https://m.invalid/pbs{end}"));
        // uv's own list has that address, so the lock needs none.
        let listed = row("3.9.25")
            .replace("https://h.invalid/d/cpython-3.9.25%2B1-install_only.tar.gz", &address);
        let listed = asked(&[listed], "3.9").unwrap();
        assert_eq!((listed.url.as_deref(), &listed.file), (None, &pin.file));
    }

    #[test]
    fn the_project_s_uv_comes_before_the_user_s() {
        let folder = tempfile::tempdir().unwrap();
        let (project, home) = (folder.path().join("p"), folder.path().join("home"));
        std::fs::create_dir_all(&project).unwrap();
        std::fs::create_dir_all(home.join("uv")).unwrap();
        std::fs::write(
            project.join("pyproject.toml"),
            "[project]\nname = \"x\"\n[tool.uv]\npython-install-mirror = \"https://p.invalid\"\n",
        )
        .unwrap();
        std::fs::write(
            home.join("uv/uv.toml"),
            "python-install-mirror = \"https://u.invalid\"\npython-downloads-json-url = \"/l.json\"\n",
        )
        .unwrap();
        let of = |variable: Option<&str>, project: Option<&Path>| {
            let env = |name: &str| match name {
                "XDG_CONFIG_HOME" => Some(home.clone().into_os_string()),
                "UV_PYTHON_INSTALL_MIRROR" => variable.map(OsString::from),
                _ => None,
            };
            let Setting { mirror, list } = setting(&env, project).unwrap();
            assert_eq!(list.as_deref(), Some("/l.json"));
            mirror.unwrap()
        };
        assert_eq!(of(Some("https://v.invalid"), Some(&project)), "https://v.invalid");
        assert_eq!(of(None, Some(&project)), "https://p.invalid");
        assert_eq!(of(None, None), "https://u.invalid");
    }
}
