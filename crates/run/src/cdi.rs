//! Container Device Interface edits: how devices come into a container.
//!
//! A document (CDI specification 0.4 to 1.0, github.com/cncf-tags/container-device-interface,
//! SPEC.md) names devices and what each needs: environment, device nodes, mounts, hooks.
//! Whoever knows the devices writes it; this crate applies it and knows no vendor.

use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use serde_json::{Map, Value, json};

use crate::error::Error;

/// The edits that a document makes for all its devices and for those in `devices`; `all`
/// stands for every one.
pub fn select(document: &Value, devices: &[&str]) -> Result<Vec<Value>, Error> {
    let list = document.get("devices").and_then(Value::as_array);
    let entries: Vec<(&str, Option<&Value>)> = list
        .into_iter()
        .flatten()
        .filter_map(|device| Some((device.get("name")?.as_str()?, device.get("containerEdits"))))
        .collect();
    let mut edits: Vec<Value> = document.get("containerEdits").into_iter().cloned().collect();
    for wanted in devices {
        let found: Vec<&Value> = entries
            .iter()
            .filter(|(name, _)| name == wanted || (*wanted == "all" && *name != "all"))
            .filter_map(|(_, edits)| *edits)
            .collect();
        // A document may have a device of the name "all" that stands for the rest.
        let found = match entries.iter().find(|(name, _)| name == wanted) {
            Some((_, Some(own))) => vec![*own],
            _ => found,
        };
        if found.is_empty() {
            let names: Vec<&str> = entries.iter().map(|(name, _)| *name).collect();
            return Err(Error::Invalid {
                option: "device",
                given: (*wanted).to_owned(),
                why: format!("there are: {}", names.join(", ")),
            });
        }
        edits.extend(found.into_iter().cloned());
    }
    Ok(edits)
}

/// Writes `edits` into a runtime configuration. Environment goes to `environment`, where the
/// request's own variables are: an edit replaces a variable of the same name. With
/// `bind_nodes` device nodes are shown by bind mounts, as a user namespace lets nobody make
/// one.
pub(crate) fn apply(
    edits: &[Value],
    bind_nodes: bool,
    configuration: &mut Value,
    environment: &mut Vec<(String, String)>,
) -> Result<(), Error> {
    for edit in edits {
        for variable in items(edit, "env") {
            let text = variable.as_str().ok_or_else(|| malformed("env", variable))?;
            let (name, value) = text.split_once('=').ok_or_else(|| malformed("env", variable))?;
            environment.retain(|(present, _)| present != name);
            environment.push((name.to_owned(), value.to_owned()));
        }
        for node in items(edit, "deviceNodes") {
            let (host, device) = device(node)?;
            if bind_nodes {
                let options = ["bind", "nosuid", "noexec"];
                let mount = json!({
                    "destination": device["path"], "source": host, "type": "bind", "options": options,
                });
                push(configuration, &["mounts"], mount);
            } else {
                push(configuration, &["linux", "devices"], device);
            }
        }
        for mount in items(edit, "mounts") {
            push(configuration, &["mounts"], bind(mount)?);
        }
        for hook in items(edit, "hooks") {
            let (phase, hook) = phase_of(hook)?;
            push(configuration, &["hooks", phase], hook);
        }
        for group in items(edit, "additionalGids") {
            push(configuration, &["process", "user", "additionalGids"], group.clone());
        }
    }
    Ok(())
}

fn items<'a>(edit: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    edit.get(key).and_then(Value::as_array).into_iter().flatten()
}

fn malformed(what: &str, found: &Value) -> Error {
    let mut given = found.to_string();
    if given.len() > 200 {
        given = given.chars().take(200).collect();
    }
    Error::Invalid {
        option: "CDI",
        given,
        why: format!("that is not an entry of {what} as the CDI specification has it"),
    }
}

fn text<'a>(value: &'a Value, key: &str) -> Option<&'a str> {
    value.get(key).and_then(Value::as_str)
}

/// A `deviceNodes` entry: the node here, and the OCI device. What the document leaves out is looked up on the
/// node itself (SPEC.md, "deviceNodes").
fn device(node: &Value) -> Result<(&str, Value), Error> {
    let bad = || malformed("deviceNodes", node);
    let path = text(node, "path").ok_or_else(bad)?;
    let host = text(node, "hostPath").unwrap_or(path);
    let metadata = std::fs::metadata(host)
        .map_err(|source| Error::Os { what: format!("looking at the device {host}"), source })?;
    let kind = metadata.file_type();
    let kind = if kind.is_char_device() {
        "c"
    } else if kind.is_block_device() {
        "b"
    } else {
        return Err(Error::Invalid {
            option: "CDI",
            given: host.to_owned(),
            why: "that is not a device file".to_owned(),
        });
    };
    let number =
        |key: &str, or: u32| node.get(key).and_then(Value::as_u64).unwrap_or(u64::from(or));
    let device = json!({
        "path": path,
        "type": text(node, "type").unwrap_or(kind),
        "major": number("major", rustix::fs::major(metadata.rdev())),
        "minor": number("minor", rustix::fs::minor(metadata.rdev())),
        "fileMode": number("fileMode", metadata.mode() & 0o777),
        "uid": number("uid", metadata.uid()),
        "gid": number("gid", metadata.gid()),
    });
    Ok((host, device))
}

/// A `mounts` entry as an OCI mount.
fn bind(mount: &Value) -> Result<Value, Error> {
    let bad = || malformed("mounts", mount);
    let source = text(mount, "hostPath").ok_or_else(bad)?;
    let target = text(mount, "containerPath").ok_or_else(bad)?;
    if !Path::new(target).is_absolute() {
        return Err(bad());
    }
    let options =
        mount.get("options").cloned().unwrap_or_else(|| json!(["rbind", "ro", "nosuid", "nodev"]));
    Ok(json!({
        "destination": target,
        "source": source,
        "type": text(mount, "type").unwrap_or("bind"),
        "options": options,
    }))
}

/// A `hooks` entry: its phase under the runtime specification's name, and the hook.
fn phase_of(hook: &Value) -> Result<(&'static str, Value), Error> {
    const PHASES: &[&str] = &[
        "prestart",
        "createRuntime",
        "createContainer",
        "startContainer",
        "poststart",
        "poststop",
    ];
    let bad = || malformed("hooks", hook);
    let name = text(hook, "hookName").ok_or_else(bad)?;
    let phase = PHASES.iter().find(|phase| **phase == name).ok_or_else(bad)?;
    let mut entry = Map::new();
    for key in ["path", "args", "env", "timeout"] {
        if let Some(value) = hook.get(key) {
            entry.insert(key.to_owned(), value.clone());
        }
    }
    Ok((phase, Value::Object(entry)))
}

/// Appends to the list at `path`, making what is missing on the way.
fn push(configuration: &mut Value, path: &[&str], item: Value) {
    let mut place = configuration;
    for key in path {
        place = &mut place[*key];
    }
    match place {
        Value::Array(list) => list.push(item),
        other => *other = json!([item]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document() -> Value {
        json!({
            "cdiVersion": "0.5.0",
            "kind": "example.invalid/thing",
            "containerEdits": { "env": ["SHARED=1"] },
            "devices": [
                { "name": "0", "containerEdits": {
                    "env": ["ZERO=1", "SHARED=2"],
                    "deviceNodes": [{ "path": "/dev/thing0", "hostPath": "/dev/null" }],
                    "mounts": [{ "hostPath": "/usr/lib/a.so", "containerPath": "/usr/lib/a.so" }],
                    "hooks": [{ "hookName": "createContainer", "path": "/bin/link", "args": ["link"] }],
                    "additionalGids": [44],
                } },
                { "name": "1", "containerEdits": { "env": ["ONE=1"] } },
            ],
        })
    }

    #[test]
    fn devices_are_selected_by_name() {
        let document = document();
        assert_eq!(select(&document, &["1"]).expect("selected").len(), 2);
        assert_eq!(select(&document, &["all"]).expect("selected").len(), 3);
        let error = select(&document, &["2"]).expect_err("no such device").to_string();
        assert!(error.contains("there are: 0, 1"), "{error}");
    }

    #[test]
    fn edits_are_applied() {
        let edits = select(&document(), &["0"]).expect("selected");
        let mut configuration = json!({ "mounts": [], "linux": {}, "process": { "user": {} } });
        let mut environment = vec![("ZERO".to_owned(), "0".to_owned())];
        apply(&edits, false, &mut configuration, &mut environment).expect("applied");
        let pair = |k: &str, v: &str| (k.to_owned(), v.to_owned());
        assert_eq!(environment, [pair("ZERO", "1"), pair("SHARED", "2")]);
        let device = &configuration["linux"]["devices"][0];
        assert_eq!((&device["major"], &device["minor"]), (&json!(1), &json!(3)));
        assert_eq!(device["path"], "/dev/thing0");
        assert_eq!(configuration["mounts"][0]["options"][1], "ro");
        apply(&edits, true, &mut configuration, &mut environment).expect("applied");
        assert_eq!(configuration["mounts"][1]["source"], "/dev/null");
        assert_eq!(configuration["mounts"][1]["destination"], "/dev/thing0");
        assert_eq!(configuration["hooks"]["createContainer"][0]["path"], "/bin/link");
        assert_eq!(configuration["process"]["user"]["additionalGids"][0], json!(44));
    }

    #[test]
    fn what_is_no_edit_is_refused() {
        for bad in [
            json!({ "env": ["NOVALUE"] }),
            json!({ "env": [1] }),
            json!({ "deviceNodes": [{}] }),
            json!({ "deviceNodes": [{ "path": "/etc/passwd" }] }),
            json!({ "deviceNodes": [{ "path": "/dev/there-is-no-such-device" }] }),
            json!({ "mounts": [{ "hostPath": "/a" }] }),
            json!({ "mounts": [{ "hostPath": "/a", "containerPath": "b" }] }),
            json!({ "hooks": [{ "hookName": "never", "path": "/a" }] }),
        ] {
            let mut configuration = json!({});
            let edits = [bad];
            assert!(
                apply(&edits, false, &mut configuration, &mut Vec::new()).is_err(),
                "{edits:?}"
            );
        }
    }
}
