//! Which keys must have signed what is taken from registries, from files and from those who push: policy files.
//!
//! There may be one of the machine and one of the user. Both hold: an image must satisfy each.

use std::path::{Path, PathBuf};

use sconce_oci::{DOCKER_HUB, DOCKER_HUB_HOSTS};
use sconce_registry::Reference;
use sconce_sign::{MAX_KEY, PublicKey};
use serde::Deserialize;

/// The largest policy that is read, bytes.
const MAX_POLICY: u64 = 1 << 20;
/// The version of the form.
const VERSION: u32 = 1;

/// A policy file that can't be used. Nothing that others built is taken then.
#[derive(Debug, thiserror::Error)]
#[error("the policy {} can't be used: {why}", path.display())]
pub struct PolicyError {
    /// The file of the policy.
    pub path: PathBuf,
    /// What is wrong.
    pub why: String,
}

impl PolicyError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        Some("docs/signatures.md has the form; while a policy can't be read, nothing that others built is taken".to_owned())
    }
}

/// What one file says of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Demand<'a> {
    /// It is taken as it is.
    Nothing,
    /// One of these keys must have signed it.
    Signed(&'a [PublicKey]),
    /// It is not taken: no rule names it.
    Refused,
}

/// Where an image is from that no registry answers for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// An OCI layout or an archive; or nobody knows: it is in the store and has no name.
    Files,
    /// A client put it into the store that `sconce serve --writable` serves, and nobody else has.
    Pushed,
}

/// All policy files of a machine and its user. None of them asks for nothing.
#[derive(Clone, Debug, Default)]
pub struct SigningPolicy {
    files: Vec<PolicyFile>,
}

/// One policy file.
#[derive(Clone, Debug)]
pub(crate) struct PolicyFile {
    pub(crate) path: PathBuf,
    refuses: bool,
    rules: Vec<Rule>,
    /// What is asked of images of each [`Origin`]: nothing where there are no keys. As of what no rule names where it is left out.
    files: Option<Vec<PublicKey>>,
    pushed: Option<Vec<PublicKey>>,
}

/// What is asked of the images of a registry, or of a part of it.
#[derive(Clone, Debug)]
struct Rule {
    /// The host, then the beginning of the repository's name.
    name: Vec<String>,
    /// None where nothing is asked.
    keys: Vec<PublicKey>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    version: u32,
    #[serde(default)]
    default: Other,
    #[serde(default)]
    images: Vec<Row>,
    files: Option<Asked>,
    pushed: Option<Asked>,
}

/// What becomes of images that no rule names.
#[derive(Clone, Copy, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Other {
    #[default]
    Accept,
    Refuse,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    name: String,
    #[serde(default)]
    keys: Vec<PathBuf>,
    #[serde(default)]
    accept: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    #[serde(default)]
    keys: Vec<PathBuf>,
    #[serde(default)]
    accept: bool,
}

impl SigningPolicy {
    /// Reads those of these files that are there.
    ///
    /// # Errors
    /// A file that is there and can't be used.
    pub fn read(paths: &[PathBuf]) -> Result<Self, PolicyError> {
        let files: Result<Vec<_>, _> =
            paths.iter().filter_map(|path| PolicyFile::read(path).transpose()).collect();
        Ok(Self { files: files? })
    }

    /// The files that ask something of an image, and what.
    pub(crate) fn demands(
        &self,
        reference: &Reference,
    ) -> impl Iterator<Item = (&PolicyFile, Demand<'_>)> {
        let demands = self.files.iter().map(|file| (file, file.demand(reference)));
        demands.filter(|(_, demand)| *demand != Demand::Nothing)
    }

    /// As [`SigningPolicy::demands`], of an image that no registry answers for.
    pub(crate) fn demands_of(
        &self,
        origin: Origin,
    ) -> impl Iterator<Item = (&PolicyFile, Demand<'_>)> {
        let demands = self.files.iter().map(move |file| (file, file.demand_of(origin)));
        demands.filter(|(_, demand)| *demand != Demand::Nothing)
    }
}

impl PolicyFile {
    fn read(path: &Path) -> Result<Option<Self>, PolicyError> {
        let wrong = |why: String| PolicyError { path: path.to_owned(), why };
        let read = sconce_open::read_if_there(path, MAX_POLICY);
        let Some(bytes) = read.map_err(|error| wrong(error.to_string()))? else {
            return is_absent(path).then_some(None).ok_or_else(|| {
                wrong(
                    "a link to it leads nowhere, or there is a file where its folder would be"
                        .into(),
                )
            });
        };
        let text = String::from_utf8(bytes).map_err(|_| wrong("it is not text".to_owned()))?;
        let Document { version, default, images, files, pushed } =
            toml::from_str(&text).map_err(|error| wrong(error.to_string().trim().to_owned()))?;
        if version != VERSION {
            return Err(wrong(format!("it has version {version}, this sconce reads {VERSION}")));
        }
        let mut rules: Vec<Rule> = Vec::new();
        for Row { name, keys, accept } in images {
            let parts = parts(&name).map_err(|why| wrong(format!("`{name}`: {why}")))?;
            if keys.is_empty() != accept {
                return Err(wrong(format!("`{name}` needs either keys or `accept = true`")));
            }
            if rules.iter().any(|rule| rule.name == parts) {
                return Err(wrong(format!("`{name}` stands there twice")));
            }
            rules.push(Rule { name: parts, keys: keys_in(path, &keys)? });
        }
        let asked = |what: &str, asked: Option<Asked>| match asked {
            None => Ok(None),
            Some(Asked { keys, accept }) if keys.is_empty() == accept => {
                keys_in(path, &keys).map(Some)
            }
            Some(_) => Err(wrong(format!("`[{what}]` needs either keys or `accept = true`"))),
        };
        let (files, pushed) = (asked("files", files)?, asked("pushed", pushed)?);
        let refuses = default == Other::Refuse;
        Ok(Some(Self { path: path.to_owned(), refuses, rules, files, pushed }))
    }

    fn demand_of(&self, origin: Origin) -> Demand<'_> {
        let asked = match origin {
            Origin::Files => &self.files,
            Origin::Pushed => &self.pushed,
        };
        match asked {
            Some(keys) if keys.is_empty() => Demand::Nothing,
            Some(keys) => Demand::Signed(keys),
            None if self.refuses => Demand::Refused,
            None => Demand::Nothing,
        }
    }

    /// What the rule with the longest name that fits says.
    fn demand(&self, reference: &Reference) -> Demand<'_> {
        let host = canonical(&reference.host);
        let host = std::iter::once(host.as_str());
        let parts: Vec<&str> = host.chain(reference.repository.split('/')).collect();
        let fits = |rule: &&Rule| {
            rule.name.len() <= parts.len() && rule.name.iter().zip(&parts).all(|(a, b)| a == b)
        };
        match self.rules.iter().filter(fits).max_by_key(|rule| rule.name.len()) {
            Some(rule) if rule.keys.is_empty() => Demand::Nothing,
            Some(rule) => Demand::Signed(&rule.keys),
            None if self.refuses => Demand::Refused,
            None => Demand::Nothing,
        }
    }
}

/// Whether there is no policy at a path: nothing by that name, and no folder or link that should have it.
fn is_absent(path: &Path) -> bool {
    // From the top: the first that is not there must not be a link, and each before it is a folder.
    let mut above: Vec<&Path> = path.ancestors().collect();
    above.reverse();
    let missing = above.into_iter().find(|path| !path.exists());
    let nothing = |path: &Path| {
        path.symlink_metadata().is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound)
    };
    missing.is_some_and(nothing)
}

/// One spelling of a host: names are the same in capitals (RFC 4343), a port in whatever digits, and 443 is
/// what is meant without one.
fn canonical(host: &str) -> String {
    let host = host.to_ascii_lowercase();
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !name.is_empty() => match port.parse::<u16>() {
            Ok(443) => (name, String::new()),
            Ok(port) => (name, format!(":{port}")),
            Err(_) => (host.as_str(), String::new()),
        },
        _ => (host.as_str(), String::new()),
    };
    let name = name.trim_end_matches('.');
    let name = if DOCKER_HUB_HOSTS.contains(&name) { DOCKER_HUB } else { name };
    format!("{name}{port}")
}

/// `HOST[:PORT][/NAME]`, split at the slashes. A name that could never fit is refused: whoever wrote it
/// believes that it guards something.
fn parts(name: &str) -> Result<Vec<String>, String> {
    let (host, rest) = name.split_once('/').unwrap_or((name, "x"));
    let plain = format!("{host}/{rest}");
    let read = Reference::parse(&plain).ok();
    let fits = read.is_some_and(|read| {
        // Capitals of a host mean nothing.
        read.host == host.to_ascii_lowercase()
            && (read.repository == rest || read.repository == format!("library/{rest}"))
            && read.digest.is_none()
            && read.tag.as_deref() == Some("latest")
    });
    match fits && !rest.contains(':') {
        true => {
            let mut parts: Vec<String> = name.split('/').map(str::to_owned).collect();
            parts[0] = canonical(host);
            Ok(parts)
        }
        false => Err("write HOST or HOST/NAME without a tag; Docker Hub is docker.io, and `debian` there docker.io/library/debian".to_owned()),
    }
}

/// The keys that a policy names, beside it where a name is not absolute.
fn keys_in(policy: &Path, names: &[PathBuf]) -> Result<Vec<PublicKey>, PolicyError> {
    let folder = policy.parent().unwrap_or(Path::new("/"));
    let key = |name: &PathBuf| {
        let path = folder.join(name);
        let wrong = |why: String| PolicyError {
            path: policy.to_owned(),
            why: format!("its key {}: {why}", path.display()),
        };
        let bytes = sconce_open::read(&path, MAX_KEY).map_err(|error| wrong(error.to_string()))?;
        PublicKey::parse(&bytes).map_err(|error| wrong(error.to_string()))
    };
    names.iter().map(key).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const KEY: &str = include_str!("../../sign/tests/cosign/cosign.pub");

    fn policy(text: &str) -> Result<SigningPolicy, PolicyError> {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a.pub"), KEY).unwrap();
        fs::write(folder.path().join("policy.toml"), text).unwrap();
        SigningPolicy::read(&[folder.path().join("none.toml"), folder.path().join("policy.toml")])
    }

    fn demand(policy: &SigningPolicy, name: &str) -> &'static str {
        let reference = Reference::parse(name).unwrap();
        let found = policy.demands(&reference).next();
        match found.map(|(_, demand)| demand) {
            None | Some(Demand::Nothing) => "nothing",
            Some(Demand::Signed(_)) => "signed",
            Some(Demand::Refused) => "refused",
        }
    }

    #[test]
    fn the_longest_name_that_fits_counts() {
        let text = "version = 1\ndefault = \"refuse\"\n\
            [[images]]\nname = \"r.example.invalid\"\nkeys = [\"a.pub\"]\n\
            [[images]]\nname = \"R.EXAMPLE.Invalid:0443/open\"\naccept = true\n\
            [[images]]\nname = \"r.example.invalid/open/not\"\nkeys = [\"a.pub\"]\n\
            [[images]]\nname = \"docker.io/library/debian\"\naccept = true\n";
        let read = policy(text).unwrap();
        for (name, expected) in [
            ("r.example.invalid/app:1", "signed"),
            ("r.example.invalid/open:1", "nothing"),
            ("r.example.invalid/open/app", "nothing"),
            ("r.example.invalid/openness", "signed"),
            (
                "r.example.invalid/open/not/here@sha256:1111111111111111111111111111111111111111111111111111111111111111",
                "signed",
            ),
            ("r.example.invalid:443/app", "signed"),
            ("R.Example.invalid:0443/app", "signed"),
            ("r.example.invalid:444/app", "refused"),
            ("index.docker.io/library/debian", "nothing"),
            ("debian:trixie", "nothing"),
            ("alpine", "refused"),
        ] {
            assert_eq!(demand(&read, name), expected, "{name}");
        }
        let none = policy("version = 1\n").unwrap();
        assert_eq!(demand(&none, "alpine"), "nothing");
    }

    #[test]
    fn what_no_registry_answers_for() {
        let said = |text: &str| {
            let read = policy(text).unwrap();
            [Origin::Files, Origin::Pushed].map(|origin| match read.demands_of(origin).next() {
                None | Some((_, Demand::Nothing)) => "nothing",
                Some((_, Demand::Signed(_))) => "signed",
                Some((_, Demand::Refused)) => "refused",
            })
        };
        assert_eq!(said("version = 1"), ["nothing", "nothing"]);
        assert_eq!(said("version = 1\ndefault = \"refuse\""), ["refused", "refused"]);
        let text = "version = 1\ndefault = \"refuse\"\n[files]\naccept = true\n[pushed]\nkeys = [\"a.pub\"]";
        assert_eq!(said(text), ["nothing", "signed"]);
        assert_eq!(said("version = 1\n[files]\nkeys = [\"a.pub\"]"), ["signed", "nothing"]);
    }

    #[test]
    fn a_place_that_cannot_be_looked_into_is_no_missing_policy() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("file"), "").unwrap();
        std::os::unix::fs::symlink("nothing", at("link")).unwrap();
        assert!(SigningPolicy::read(&[at("none"), at("none/policy.toml")]).is_ok());
        for path in ["link", "link/policy.toml", "file/policy.toml"] {
            let error = SigningPolicy::read(&[at(path)]).unwrap_err().to_string();
            assert!(error.contains("leads nowhere"), "{path}: {error}");
        }
    }

    #[test]
    fn what_could_guard_nothing_is_refused() {
        for (text, says) in [
            ("", "version"),
            ("version = 2", "this sconce reads 1"),
            ("version = 1\nother = 1", "unknown field"),
            ("version = 1\ndefault = \"deny\"", "deny"),
            ("version = 1\n[files]", "either keys or"),
            ("version = 1\n[pushed]\nkeys = [\"a.pub\"]\naccept = true", "either keys or"),
            ("version = 1\n[pushed]\nkeys = [\"b.pub\"]", "b.pub"),
            ("version = 1\n[other]\naccept = true", "unknown field"),
            ("version = 1\n[[images]]\nname = \"r.x/a\"", "either keys or"),
            (
                "version = 1\n[[images]]\nname = \"r.x/a\"\nkeys = [\"a.pub\"]\naccept = true",
                "either",
            ),
            ("version = 1\n[[images]]\nname = \"r.x/a\"\nkeys = [\"b.pub\"]", "b.pub"),
            ("version = 1\n[[images]]\nname = \"r.x/a\"\nkeys = [\"policy.toml\"]", "no PEM file"),
            ("version = 1\n[[images]]\nname = \"r.x/a\"\nkey = \"a.pub\"", "unknown field"),
            ("version = 1\n[[images]]\nname = \"debian\"\naccept = true", "docker.io"),
            ("version = 1\n[[images]]\nname = \"r.x/a:1\"\naccept = true", "without a tag"),
            ("version = 1\n[[images]]\nname = \"r.x/a*\"\naccept = true", "without a tag"),
            ("version = 1\n[[images]]\nname = \"r.x/\"\naccept = true", "without a tag"),
            ("version = 1\n[[images]]\nname = \"https://r.x/a\"\naccept = true", "without a tag"),
        ] {
            let error = policy(text).unwrap_err().to_string();
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}
