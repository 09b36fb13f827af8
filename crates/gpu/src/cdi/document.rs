//! The CDI document: its fields, and what makes one valid.
//!
//! A document is a file of JSON or YAML in `/etc/cdi` or `/var/run/cdi`. Whoever wrote it, it is
//! bounded in size and counts, and every path in it is absolute and has no `..`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Error;

/// Versions of the specification, oldest first.
const VERSIONS: &[&str] =
    &["0.1.0", "0.2.0", "0.3.0", "0.4.0", "0.5.0", "0.6.0", "0.7.0", "0.8.0", "1.0.0", "1.1.0"];
/// Bytes of a document; one for 8 GPUs has some 100 KiB.
pub(crate) const LONGEST: usize = 4 << 20;
/// Entries in any list of a document.
const MOST: usize = 4096;
/// Bytes of any text in a document.
const LONGEST_TEXT: usize = 4096;

/// A CDI document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Document {
    /// The version of the specification that it needs.
    pub cdi_version: String,
    /// `nvidia.com/gpu`.
    pub kind: String,
    /// Free notes (since 0.6.0).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// The devices.
    pub devices: Vec<Device>,
    /// What a container gets with any of them.
    #[serde(default, skip_serializing_if = "ContainerEdits::is_empty")]
    pub container_edits: ContainerEdits,
}

/// One device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Device {
    /// Its name: `0`, `GPU-…`, `all`.
    pub name: String,
    /// Free notes (since 0.6.0).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// What a container gets with it.
    pub container_edits: ContainerEdits,
}

/// What a container gets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ContainerEdits {
    /// `NAME=value`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// Device nodes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub device_nodes: Vec<DeviceNode>,
    /// Network devices (since 1.1.0); read, never applied.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub net_devices: Vec<Value>,
    /// Mounts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<Mount>,
    /// OCI hooks.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hooks: Vec<Hook>,
    /// Groups to join (since 0.7.0).
    #[serde(rename = "additionalGids", skip_serializing_if = "Vec::is_empty")]
    pub additional_gids: Vec<u32>,
    /// Cache allocation (since 0.7.0); read, never applied.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub intel_rdt: Option<Value>,
}

/// A device node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DeviceNode {
    /// In the container.
    pub path: PathBuf,
    /// On the host, where it differs (since 0.5.0).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_path: Option<PathBuf>,
    /// `c`, `b`, `u` or `p`.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Major number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub major: Option<u32>,
    /// Minor number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub minor: Option<u32>,
    /// Permission bits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file_mode: Option<u32>,
    /// `rwm` or a part of it, for the device cgroup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub permissions: Option<String>,
    /// Owner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// Group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gid: Option<u32>,
}

/// A mount.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Mount {
    /// On the host.
    pub host_path: PathBuf,
    /// In the container.
    pub container_path: PathBuf,
    /// File system (since 0.4.0).
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Mount options.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
}

/// An OCI hook.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Hook {
    /// `createContainer` and so on.
    pub hook_name: String,
    /// The program.
    pub path: PathBuf,
    /// Its arguments, with its name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// Its environment.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// Seconds it may take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<u32>,
}

impl ContainerEdits {
    /// Whether it edits nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// As JSON; absent fields are left out.
    pub fn json(&self) -> Value {
        // Serialising plain data into a `Value` has no way to fail.
        serde_json::to_value(self).unwrap_or_default()
    }
}

impl Document {
    /// Reads a document; `path` is for the error, and its ending says whether it is YAML.
    pub fn parse(bytes: &[u8], path: &Path) -> Result<Self, Error> {
        let invalid = |reason: String| Error::Cdi { path: path.to_owned(), reason };
        if bytes.len() > LONGEST {
            return Err(invalid(format!("{} bytes, more than {LONGEST}", bytes.len())));
        }
        let yaml = path.extension().is_some_and(|ending| ending == "yaml" || ending == "yml");
        // A newer document is first of all newer: its unknown fields are a consequence.
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Version {
            cdi_version: String,
        }
        let newer = |version: &str| {
            let newest = VERSIONS.last().unwrap_or(&"");
            format!(
                "it is of CDI version {version}, of which sconce knows none; the newest it knows is {newest}"
            )
        };
        let (version, document) = if yaml {
            let text = std::str::from_utf8(bytes).map_err(|error| invalid(error.to_string()))?;
            let version = serde_saphyr::from_str::<Version>(text).map_err(|e| e.to_string());
            (version, serde_saphyr::from_str::<Self>(text).map_err(|e| one_line(&e.to_string())))
        } else {
            let version = sconce_open::json::<Version>(bytes).map_err(|e| e.to_string());
            (version, sconce_open::json::<Self>(bytes).map_err(|e| e.to_string()))
        };
        if let Ok(Version { cdi_version }) = version
            && !VERSIONS.contains(&cdi_version.trim_start_matches('v'))
        {
            return Err(invalid(newer(&cdi_version.chars().take(40).collect::<String>())));
        }
        let document = document.map_err(&invalid)?;
        document.check().map_err(invalid)?;
        Ok(document)
    }

    /// The specification's rules beyond the shape of the fields.
    fn check(&self) -> Result<(), String> {
        let (vendor, class) = self.kind.split_once('/').ok_or("its kind is not `vendor/class`")?;
        if !is_name(vendor, "_-.") || !is_name(class, "_-.") {
            return Err(format!("its kind `{}` is not `vendor/class`", short(&self.kind)));
        }
        if self.devices.is_empty() {
            return Err("it has no devices".into());
        }
        bounded("devices", self.devices.len())?;
        bounded("annotations", self.annotations.len())?;
        self.container_edits.check()?;
        let mut names = BTreeSet::new();
        for device in &self.devices {
            let name = short(&device.name);
            if !is_device_name(&device.name) {
                return Err(format!("`{name}` is not a name for a device"));
            }
            if !names.insert(&device.name) {
                return Err(format!("device `{name}` stands in it twice"));
            }
            bounded("annotations", device.annotations.len())?;
            if device.container_edits.is_empty() {
                return Err(format!("device `{name}` edits nothing"));
            }
            device
                .container_edits
                .check()
                .map_err(|reason| format!("device `{name}`: {reason}"))?;
        }
        Ok(())
    }

    /// The oldest version of the specification that has all the fields used here.
    pub fn lowest_version(&self) -> &'static str {
        let edits = || {
            self.devices.iter().map(|device| &device.container_edits).chain([&self.container_edits])
        };
        let notes = !self.annotations.is_empty()
            || self.devices.iter().any(|device| !device.annotations.is_empty());
        let dotted = self.kind.split_once('/').is_some_and(|(_, class)| class.contains('.'));
        let starts_with_digit =
            |device: &Device| device.name.starts_with(|first: char| first.is_ascii_digit());
        if edits().any(|edits| !edits.net_devices.is_empty()) {
            "1.1.0"
        } else if edits()
            .any(|edits| !edits.additional_gids.is_empty() || edits.intel_rdt.is_some())
        {
            "0.7.0"
        } else if notes || dotted {
            "0.6.0"
        } else if self.devices.iter().any(starts_with_digit)
            || edits().any(|edits| edits.device_nodes.iter().any(|node| node.host_path.is_some()))
        {
            "0.5.0"
        } else if edits().any(|edits| edits.mounts.iter().any(|mount| mount.kind.is_some())) {
            "0.4.0"
        } else {
            "0.3.0"
        }
    }

    /// As JSON with an end of line, the same bytes for the same document.
    pub fn json(&self) -> String {
        let value = serde_json::to_value(self).unwrap_or_default();
        format!("{value:#}\n")
    }

    /// All host files and nodes that a container with `device` needs.
    pub fn host_paths(&self) -> BTreeSet<&Path> {
        let edits = self.devices.iter().map(|device| &device.container_edits);
        let mut paths = BTreeSet::new();
        for edits in edits.chain([&self.container_edits]) {
            paths.extend(edits.mounts.iter().map(|mount| mount.host_path.as_path()));
            paths.extend(edits.device_nodes.iter().map(DeviceNode::on_host));
        }
        paths
    }
}

impl DeviceNode {
    /// Its path on the host.
    pub fn on_host(&self) -> &Path {
        self.host_path.as_ref().unwrap_or(&self.path)
    }
}

impl ContainerEdits {
    fn check(&self) -> Result<(), String> {
        bounded("env", self.env.len())?;
        bounded("deviceNodes", self.device_nodes.len())?;
        bounded("netDevices", self.net_devices.len())?;
        bounded("mounts", self.mounts.len())?;
        bounded("hooks", self.hooks.len())?;
        bounded("additionalGids", self.additional_gids.len())?;
        for variable in &self.env {
            bounded_text(variable)?;
            if variable.split_once('=').is_none_or(|(name, _)| name.is_empty()) {
                return Err(format!("`{}` is not NAME=value", short(variable)));
            }
        }
        for node in &self.device_nodes {
            plain(&node.path)?;
            plain(node.on_host())?;
            let kind = node.kind.as_deref().unwrap_or("c");
            if !matches!(kind, "b" | "c" | "u" | "p" | "") {
                return Err(format!("`{}` is not a kind of device node", short(kind)));
            }
            let permissions = node.permissions.as_deref().unwrap_or("");
            if !permissions.bytes().all(|byte| matches!(byte, b'r' | b'w' | b'm')) {
                return Err(format!("`{}` are not permissions of a device", short(permissions)));
            }
        }
        for mount in &self.mounts {
            plain(&mount.host_path)?;
            plain(&mount.container_path)?;
            let to = &mount.container_path;
            if [Path::new("/"), Path::new("/proc"), Path::new("/sys"), Path::new("/dev")]
                .contains(&to.as_path())
            {
                return Err(format!("it mounts over the container's {}", to.display()));
            }
            bounded("options", mount.options.len())?;
            mount.options.iter().try_for_each(|option| bounded_text(option))?;
        }
        for hook in &self.hooks {
            plain(&hook.path)?;
            const NAMES: &[&str] = &[
                "prestart",
                "createRuntime",
                "createContainer",
                "startContainer",
                "poststart",
                "poststop",
            ];
            if !NAMES.contains(&hook.hook_name.as_str()) {
                return Err(format!("`{}` is not an OCI hook", short(&hook.hook_name)));
            }
            bounded("args", hook.args.len())?;
            bounded("env", hook.env.len())?;
            hook.args.iter().chain(&hook.env).try_for_each(|text| bounded_text(text))?;
        }
        Ok(())
    }
}

fn bounded(list: &str, length: usize) -> Result<(), String> {
    if length > MOST { Err(format!("{length} {list}, more than {MOST}")) } else { Ok(()) }
}

fn bounded_text(text: &str) -> Result<(), String> {
    if text.len() > LONGEST_TEXT || text.contains('\0') {
        return Err(format!("`{}…` is too long or holds a NUL", short(text)));
    }
    Ok(())
}

/// Absolute, without `..`, of a length that Linux takes.
fn plain(path: &Path) -> Result<(), String> {
    let text = path.to_string_lossy();
    bounded_text(&text)?;
    let up = path.components().any(|part| part == Component::ParentDir);
    if !path.is_absolute() || up {
        return Err(format!("`{}` is not an absolute path without `..`", short(&text)));
    }
    Ok(())
}

/// A letter, then letters, digits and `more`, ending in a letter or digit.
fn is_name(text: &str, more: &str) -> bool {
    let inner = |char: char| char.is_ascii_alphanumeric() || more.contains(char);
    text.len() <= 253
        && text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text.ends_with(|last: char| last.is_ascii_alphanumeric())
        && text.chars().all(inner)
}

/// As [`is_name`], with `_-.:` inside and digits in front.
fn is_device_name(text: &str) -> bool {
    let inner = |char: char| char.is_ascii_alphanumeric() || "_-.:".contains(char);
    text.len() <= 253
        && text.starts_with(|first: char| first.is_ascii_alphanumeric())
        && text.ends_with(|last: char| last.is_ascii_alphanumeric())
        && text.chars().all(inner)
}

/// Text of someone else in a message: short and on one line.
fn short(text: &str) -> String {
    text.chars().take(80).map(|char| if char.is_control() { '?' } else { char }).collect()
}

/// YAML's messages draw the place in the text: the first line says what it is.
fn one_line(text: &str) -> String {
    let text = text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("not YAML");
    text.chars().take(300).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    const GOOD: &str = r#"{"cdiVersion":"0.5.0","kind":"nvidia.com/gpu","devices":[{"name":"0",
        "containerEdits":{"deviceNodes":[{"path":"/dev/nvidia0"}]}}],
        "containerEdits":{"env":["A=b"],"mounts":[{"hostPath":"/usr/lib64/libcuda.so.580.1",
        "containerPath":"/usr/lib64/libcuda.so.580.1","options":["ro"]}]}}"#;

    fn check(from: &str, to: &str, says: Expect) {
        assert!(GOOD.contains(from), "the document has no {from}");
        let text = GOOD.replacen(from, to, 1);
        let error = Document::parse(text.as_bytes(), Path::new("/etc/cdi/a.json")).unwrap_err();
        let Error::Cdi { reason, .. } = error else { panic!("{error}") };
        says.assert_eq(&reason);
    }

    #[test]
    fn a_good_document_is_read_and_written_the_same() {
        let document = Document::parse(GOOD.as_bytes(), Path::new("/etc/cdi/a.json")).unwrap();
        let again = Document::parse(document.json().as_bytes(), Path::new("a.json")).unwrap();
        assert_eq!(document, again);
        assert_eq!(document.lowest_version(), "0.5.0");
    }

    #[test]
    fn hostile_documents_are_refused_with_the_reason() {
        check(
            "0.5.0",
            "9.9.9",
            expect![
                "it is of CDI version 9.9.9, of which sconce knows none; the newest it knows is 1.1.0"
            ],
        );
        check(
            "\"kind\"",
            "\"sort\"",
            expect![
                "unknown field `sort`, expected one of `cdiVersion`, `kind`, `annotations`, `devices`, `containerEdits` at line 1 column 28"
            ],
        );
        check("nvidia.com/gpu", "nvidia", expect!["its kind is not `vendor/class`"]);
        check("\"name\":\"0\"", "\"name\":\"../0\"", expect!["`../0` is not a name for a device"]);
        check(
            "\"/dev/nvidia0\"",
            "\"dev/nvidia0\"",
            expect!["device `0`: `dev/nvidia0` is not an absolute path without `..`"],
        );
        check(
            "{\"hostPath\":\"/usr/lib64/",
            "{\"hostPath\":\"/usr/../",
            expect!["`/usr/../libcuda.so.580.1` is not an absolute path without `..`"],
        );
        check(
            "\"containerPath\":\"/usr/lib64/libcuda.so.580.1\"",
            "\"containerPath\":\"/proc\"",
            expect!["it mounts over the container's /proc"],
        );
        check("A=b", "=b", expect!["`=b` is not NAME=value"]);
        check(
            "\"deviceNodes\":[{\"path\":\"/dev/nvidia0\"}]",
            "",
            expect!["device `0` edits nothing"],
        );
        check(
            "\"devices\":[{",
            "\"devices\":[{\"name\":\"0\",\"containerEdits\":{\"env\":[\"A=b\"]}},{",
            expect!["device `0` stands in it twice"],
        );
        check(
            "\"containerEdits\":{\"deviceNodes\"",
            "\"containerEdits\":{\"deviceNode\"",
            expect![
                "unknown field `deviceNode`, expected one of `env`, `deviceNodes`, `netDevices`, `mounts`, `hooks`, `additionalGids`, `intelRdt` at line 2 column 38"
            ],
        );
        check(
            "\"env\":[\"A=b\"]",
            "\"hooks\":[{\"hookName\":\"boot\",\"path\":\"/bin/true\"}]",
            expect!["`boot` is not an OCI hook"],
        );
    }

    /// What `nvidia-ctk cdi generate` writes, in its order and indentation.
    #[test]
    fn yaml_is_read() {
        let text = "---\ncdiVersion: 0.5.0\nkind: nvidia.com/gpu\ndevices:\n- name: \"0\"\n  containerEdits:\n    deviceNodes:\n    - path: /dev/nvidia0\n- name: all\n  containerEdits:\n    deviceNodes:\n    - path: /dev/nvidia0\ncontainerEdits:\n  hooks:\n  - hookName: createContainer\n    path: /usr/bin/nvidia-cdi-hook\n    args:\n    - nvidia-cdi-hook\n    - update-ldcache\n    - --folder\n    - /usr/lib64\n  mounts:\n  - hostPath: /usr/bin/nvidia-smi\n    containerPath: /usr/bin/nvidia-smi\n    options:\n    - ro\n    - nosuid\n";
        let document = Document::parse(text.as_bytes(), Path::new("/etc/cdi/nvidia.yaml")).unwrap();
        assert_eq!(document.devices.len(), 2);
        assert_eq!(document.container_edits.hooks[0].args[1], "update-ldcache");
    }

    /// serde takes an array for a structure.
    #[test]
    fn an_array_is_no_object() {
        for (bad, name) in [
            (
                r#"{"cdiVersion":"0.5.0","kind":"nvidia.com/gpu","devices":[["0",{},{"env":["A=b"]}]]}"#,
                "a.json",
            ),
            (
                r#"["0.5.0","nvidia.com/gpu",{},[{"name":"0","containerEdits":{"env":["A=b"]}}],{}]"#,
                "a.json",
            ),
            (
                "cdiVersion: 0.5.0\nkind: nvidia.com/gpu\ndevices:\n- [\"0\", {}, {env: [A=b]}]\n",
                "a.yaml",
            ),
            (
                "[0.5.0, nvidia.com/gpu, {}, [{name: '0', containerEdits: {env: [A=b]}}], {}]\n",
                "a.yaml",
            ),
        ] {
            assert!(Document::parse(bad.as_bytes(), Path::new(name)).is_err(), "{bad}");
        }
    }

    #[test]
    fn aliases_can_not_blow_a_document_up() {
        let mut text = String::from(
            "cdiVersion: 0.5.0\nkind: nvidia.com/gpu\na0: &a0 [x,x,x,x,x,x,x,x,x,x]\n",
        );
        for level in 1..12 {
            let before = format!("*a{}, ", level - 1).repeat(10);
            text += &format!("a{level}: &a{level} [{before}]\n");
        }
        text += "devices: *a11\n";
        assert!(Document::parse(text.as_bytes(), Path::new("a.yaml")).is_err());
        let deep = format!("{{\"kind\":{}", "[".repeat(200_000));
        assert!(Document::parse(deep.as_bytes(), Path::new("a.json")).is_err());
        assert!(Document::parse(deep.as_bytes(), Path::new("a.yaml")).is_err());
        assert!(Document::parse(&[0xff, 0xfe, 0], Path::new("a.yaml")).is_err());
    }
}
