//! `--device`, as the CDI edit that does the same.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use sconce_open::held;
use serde_json::{Value, json};

use crate::error::{Doing, Error};
use crate::{Device, reach};

/// Deepest folder of nodes.
const DEEPEST: usize = 4;

/// One edit with all nodes; a folder stands for the nodes below it, as for Docker.
pub(crate) fn edit(devices: &[Device]) -> Result<Option<Value>, Error> {
    let mut nodes = Vec::new();
    for device in devices {
        add(&device.source, &device.target, DEEPEST, &mut nodes)?;
    }
    Ok((!nodes.is_empty()).then(|| json!({ "deviceNodes": nodes })))
}

fn add(source: &Path, target: &Path, depth: usize, nodes: &mut Vec<Value>) -> Result<(), Error> {
    // Its path was resolved before: a link that has come into it since may be a container's.
    let open = reach::hold(source).doing_to("looking at the device", source)?;
    let about = fs::metadata(held(&open)).doing_to("looking at the device", source)?;
    let kind = about.file_type();
    if kind.is_char_device() || kind.is_block_device() {
        // All that was seen of it, so that nothing is looked up at its path again.
        nodes.push(json!({
            "path": target,
            "hostPath": source,
            "type": if kind.is_char_device() { "c" } else { "b" },
            "major": rustix::fs::major(about.rdev()),
            "minor": rustix::fs::minor(about.rdev()),
            "fileMode": about.mode() & 0o777,
            "uid": about.uid(),
            "gid": about.gid(),
        }));
    } else if kind.is_dir() && depth > 0 {
        for entry in fs::read_dir(held(&open)).doing_to("reading", source)? {
            let name = entry.doing_to("reading", source)?.file_name();
            let below = source.join(&name);
            // A folder of nodes may hold sockets and links that are not for a container.
            if fs::symlink_metadata(&below).is_ok_and(|about| {
                let kind = about.file_type();
                kind.is_char_device() || kind.is_block_device() || kind.is_dir()
            }) {
                add(&below, &target.join(&name), depth - 1, nodes)?;
            }
        }
    } else {
        return Err(Error::Invalid {
            option: "--device",
            given: source.display().to_string(),
            why: "it is neither a device node nor a folder of them".to_owned(),
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_node_that_was_seen_is_the_one_that_is_given() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().canonicalize().expect("real").join(name);
        let of = |source: &Path| edit(&[Device { source: source.into(), target: "/dev/x".into() }]);
        let made = of(Path::new("/dev/null")).expect("a device").expect("an edit");
        let node = &made["deviceNodes"][0];
        assert_eq!(
            (&node["type"], &node["major"], &node["minor"]),
            (&json!("c"), &json!(1), &json!(3))
        );
        // A link that has come into the path since it was resolved.
        std::os::unix::fs::symlink("/dev/null", at("node")).expect("a link");
        std::os::unix::fs::symlink("/dev", at("folder")).expect("a link");
        for path in ["node", "folder/null"] {
            let error = of(&at(path)).expect_err(path);
            let cause = std::error::Error::source(&error).expect("a cause").to_string();
            assert!(cause.contains("a link has come into the path"), "{path}: {cause}");
        }
    }
}
