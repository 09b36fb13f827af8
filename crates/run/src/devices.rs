//! `--device`, as the CDI edit that does the same.

use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use serde_json::{Value, json};

use crate::Device;
use crate::error::{Doing, Error};

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
    let kind = fs::metadata(source).doing_to("looking at the device", source)?.file_type();
    if kind.is_char_device() || kind.is_block_device() {
        nodes.push(json!({ "path": target, "hostPath": source }));
    } else if kind.is_dir() && depth > 0 {
        for entry in fs::read_dir(source).doing_to("reading", source)? {
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
