//! What people write for an image in a registry: `HOST[:PORT]/NAME[:TAG][@DIGEST]`.
//!
//! Source: `distribution/reference`, whose grammar Docker, containerd and podman share: the first
//! part is a host when it has a dot or a port or is `localhost`; otherwise the name is Docker Hub's,
//! there below `library/` when it has one part only.

use std::fmt;

use sconce_blob::Digest;
use sconce_oci::name::{MAX_NAME, is_component, is_host, is_tag};
use sconce_oci::{DOCKER_HUB, DOCKER_HUB_REGISTRY};

use crate::error::Error;

/// Docker Hub, as names say it and as it is reached.
pub(crate) const HUB: (&str, &str) = (DOCKER_HUB, DOCKER_HUB_REGISTRY);

/// An image in a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// The registry's host, with its port where one is named: `docker.io`, `localhost:5000`.
    pub host: String,
    /// The repository: `library/debian`.
    pub repository: String,
    /// `latest` when neither a tag nor a digest is named.
    pub tag: Option<String>,
    /// The digest of its manifest or index.
    pub digest: Option<Digest>,
}

impl Reference {
    /// Reads a reference; `docker://` in front is passed over.
    ///
    /// # Errors
    /// [`Error::Reference`] says which part is wrong.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let bad = |why: &str| Error::Reference { text: text.to_owned(), why: why.to_owned() };
        let rest = text.strip_prefix("docker://").unwrap_or(text);
        let (rest, digest) = match rest.split_once('@') {
            Some((rest, digest)) => {
                let digest = digest.parse().map_err(|_| bad("its digest is no sha256 digest"))?;
                (rest, Some(digest))
            }
            None => (rest, None),
        };
        let (host, rest) = match rest.split_once('/') {
            // Capitals of a host mean nothing (RFC 4343), and are no way around what is said of a host.
            Some((host, rest)) if is_host(&host.to_ascii_lowercase()) => {
                (host.to_ascii_lowercase(), rest)
            }
            _ => (HUB.0.to_owned(), rest),
        };
        let (name, tag) = match rest.rsplit_once(':') {
            Some((name, tag)) => (name, Some(tag)),
            None => (rest, None),
        };
        let known = |c: char| c.is_ascii_alphanumeric() || ".-:[]".contains(c);
        if host.starts_with(['.', '-', ':']) || !host.chars().all(known) {
            return Err(bad("its host is not a host name"));
        }
        if name.is_empty() || name.len() > MAX_NAME || !name.split('/').all(is_component) {
            return Err(bad("a repository is made of small letters, digits, `.`, `_` and `-`"));
        }
        if tag.is_some_and(|tag| !is_tag(tag)) {
            return Err(bad("a tag is made of letters, digits, `.`, `_` and `-`"));
        }
        let repository = match host == HUB.0 && !name.contains('/') {
            true => format!("library/{name}"),
            false => name.to_owned(),
        };
        let tag = match (tag, digest) {
            (None, None) => Some("latest".to_owned()),
            (tag, _) => tag.map(str::to_owned),
        };
        Ok(Self { host, repository, tag, digest })
    }

    /// Whether `text` is meant for a registry and is no mistyped path: it says `docker://`, names a
    /// host, or has an owner and a tag or digest.
    pub fn is_meant(text: &str) -> bool {
        let named = text.split_once('/').is_some_and(|(first, rest)| {
            is_host(first) || !first.is_empty() && rest.contains([':', '@'])
        });
        let remote = text.starts_with("docker://") || named;
        remote && !text.starts_with(['.', '/']) && Self::parse(text).is_ok()
    }

    /// What its manifest is asked for by.
    pub(crate) fn wanted(&self) -> String {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.to_string(),
            (None, Some(tag)) => tag.clone(),
            (None, None) => "latest".to_owned(),
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.host, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        self.digest.map_or(Ok(()), |digest| write!(f, "@{digest}"))
    }
}

pub(crate) fn is_loopback(host: &str) -> bool {
    let bare = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(rest),
        None => host.rsplit_once(':').map_or(host, |(bare, _)| bare),
    };
    bare == "localhost" || bare.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_write() {
        let hex = "a".repeat(64);
        for (text, whole) in [
            ("debian", "docker.io/library/debian:latest"),
            ("debian:trixie", "docker.io/library/debian:trixie"),
            ("team/app", "docker.io/team/app:latest"),
            ("docker.io/debian", "docker.io/library/debian:latest"),
            ("localhost/app", "localhost/app:latest"),
            ("LOCALHOST:5000/app", "localhost:5000/app:latest"),
            ("localhost:5000/a/b/c:v1.2_x-3", "localhost:5000/a/b/c:v1.2_x-3"),
            ("docker://r.example.invalid/app:1", "r.example.invalid/app:1"),
            (
                &format!("r.example.invalid/app@sha256:{hex}"),
                &format!("r.example.invalid/app@sha256:{hex}"),
            ),
        ] {
            assert_eq!(Reference::parse(text).unwrap().to_string(), *whole);
        }
        for text in [
            "",
            "/",
            "a//b",
            "A/b",
            "a/..",
            "a:",
            "a/b:-x",
            "r.example.invalid/a@sha256:12",
            "r.ex ample/a",
            "../a",
            "a/b:x/y",
            "r.x/a?b",
        ] {
            assert!(Reference::parse(text).is_err(), "{text}");
        }
        for (text, meant) in [
            ("team/app:1", true),
            ("team/app", false),
            ("localhost:5000/app", true),
            ("torch:2.15.0", false),
            ("docker://debian", true),
            ("./a/b", false),
            ("/a/b", false),
        ] {
            assert_eq!(Reference::is_meant(text), meant, "{text}");
        }
    }

    #[test]
    fn only_this_machine_is_spoken_to_without_tls() {
        for (host, plain) in [
            ("localhost", true),
            ("localhost:5000", true),
            ("127.0.0.1:80", true),
            ("[::1]:5000", true),
            ("localhost.example.invalid", false),
            ("10.0.0.1:5000", false),
            ("127.0.0.1.example.invalid", false),
        ] {
            assert_eq!(is_loopback(host), plain, "{host}");
        }
    }
}
