//! An image's configuration, as far as anybody here reads it.

use std::collections::BTreeMap;

use sconce_blob::Digest;
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::{MAX_LAYERS, Manifest, or_default};

/// What an image is for, how it starts, and what its layers unpack to ("Image configuration").
#[derive(Clone, Debug, Deserialize)]
#[serde(expecting = "a JSON object")]
pub struct Config {
    /// Go's name of the processor. Empty where it is not said.
    #[serde(default, deserialize_with = "or_default")]
    pub architecture: String,
    /// `linux`. Empty where it is not said.
    #[serde(default, deserialize_with = "or_default")]
    pub os: String,
    /// RFC 3339, as it stands there.
    pub created: Option<String>,
    /// How a container of it starts.
    #[serde(default, rename = "config", deserialize_with = "or_default")]
    pub process: Process,
    rootfs: RootFs,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(expecting = "`rootfs`, which is a JSON object")]
struct RootFs {
    #[serde(default, deserialize_with = "or_default")]
    diff_ids: Vec<Digest>,
}

/// How a container starts: `config` of the configuration.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default, expecting = "`config`, which is a JSON object")]
pub struct Process {
    /// User and group, as names or numbers.
    pub user: Option<String>,
    /// `NAME=value`, each.
    pub env: Option<Vec<String>>,
    /// What is always run.
    pub entrypoint: Option<Vec<String>>,
    /// Its default arguments, or the default command.
    pub cmd: Option<Vec<String>>,
    /// Where it runs.
    pub working_dir: Option<String>,
    /// What the image says of itself.
    pub labels: Option<BTreeMap<String, Option<String>>>,
    /// The signal that ends it.
    pub stop_signal: Option<String>,
    /// Ports it listens on: `6006/tcp`.
    pub exposed_ports: Option<BTreeMap<String, IgnoredAny>>,
    /// Folders that a container finds there, whether the image has them or not.
    pub volumes: Option<BTreeMap<String, IgnoredAny>>,
}

impl Config {
    /// Reads one.
    ///
    /// # Errors
    /// In words, what is wrong with it.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(bytes)
            .map_err(|error| format!("no configuration of an image: {error}"))
    }

    /// Whether it is for Linux on the processor that Go calls `architecture`, or does not say.
    #[must_use]
    pub fn is_for(&self, architecture: &str) -> bool {
        self.is_for_linux() && (self.architecture.is_empty() || self.architecture == architecture)
    }

    /// Whether it is for Linux, or does not say.
    #[must_use]
    pub fn is_for_linux(&self) -> bool {
        self.os.is_empty() || self.os == "linux"
    }

    /// What it is for, in words: `arm64`, `windows/amd64`.
    #[must_use]
    pub fn platform(&self) -> String {
        match self.is_for_linux() {
            true => self.architecture.clone(),
            false => format!("{}/{}", self.os, self.architecture),
        }
    }

    /// SHA-256 of each layer's plain tar, the base first.
    #[must_use]
    pub fn diff_ids(&self) -> &[Digest] {
        &self.rootfs.diff_ids
    }

    /// That it is the one that a manifest names: as many layers, and not too many.
    ///
    /// # Errors
    /// In words, how they differ.
    pub fn check(&self, bytes: &[u8], manifest: &Manifest) -> Result<(), String> {
        let actual = Digest::of(bytes);
        if actual != manifest.config.digest {
            let named = manifest.config.digest;
            return Err(format!("it names the config {named}, but the config given is {actual}"));
        }
        let (len, said) = (bytes.len() as u64, manifest.config.size);
        if len != said {
            return Err(format!("its config has {len} bytes, not the {said} that it says"));
        }
        manifest.check_layers()?;
        let (layers, ids) = (manifest.layers.len(), self.rootfs.diff_ids.len());
        if layers != ids {
            return Err(format!("it has {layers} layers, but its config has {ids} DiffIDs"));
        }
        if layers > MAX_LAYERS {
            return Err(format!("{layers} layers; at most {MAX_LAYERS} can be mounted"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn null_is_nothing() {
        let config = Config::parse(
            br#"{"architecture":null,"created":null,"config":null,"rootfs":{"diff_ids":null}}"#,
        )
        .unwrap();
        assert!(config.architecture.is_empty() && config.diff_ids().is_empty());
        for process in [
            r#"{"Cmd": null, "Entrypoint": null, "Env": null, "Labels": null, "User": null,
                "WorkingDir": null, "StopSignal": null, "ExposedPorts": null}"#,
            "null",
            "{}",
        ] {
            let text = format!(r#"{{"config": {process}, "rootfs": {{}}}}"#);
            let process = Config::parse(text.as_bytes()).unwrap().process;
            assert!(process.cmd.is_none() && process.user.is_none(), "{text}");
        }
        assert!(Config::parse(br#"{"config": {"Cmd": "sh"}, "rootfs": {}}"#).is_err());
    }
}
