//! Machines in a file: `tests/worlds/*.toml` says which files, links, libraries, nodes and NVML
//! answers a machine has. They are written by hand after public descriptions of such machines;
//! where one was recorded on a real machine, its first line says so.

// Each test binary uses its own part of this.
#![allow(dead_code)]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use sconce_gpu::{Given, Machine, linker};
use toml::{Table, Value};

/// A described machine; its files live as long as this.
pub struct World {
    pub machine: Machine,
    pub root: PathBuf,
    _dir: tempfile::TempDir,
}

fn table(name: &str) -> Table {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../gpu/tests/worlds");
    let text = fs::read_to_string(path.join(format!("{name}.toml"))).unwrap();
    let mut world: Table = text.parse().unwrap();
    if let Some(base) = world.remove("from") {
        let mut base = table(base.as_str().unwrap());
        let removed = world.remove("remove").unwrap_or(Value::Array(vec![]));
        for path in removed.as_array().unwrap() {
            remove(&mut base, path.as_str().unwrap());
        }
        merge(&mut base, world);
        return base;
    }
    world
}

/// Takes files, links, libraries and nodes that start with `path` out of a world, or `nvml`'s answers.
fn remove(world: &mut Table, path: &str) {
    if path == "nvml" {
        let given = world.get_mut("given").and_then(Value::as_table_mut).unwrap();
        given.remove("nvml").expect("this machine's NVML answers");
        return;
    }
    let mut found = false;
    for kind in ["files", "links"] {
        if let Some(Value::Table(files)) = world.get_mut(kind) {
            let before = files.len();
            files.retain(|key, _| !key.starts_with(path));
            found |= files.len() < before;
        }
    }
    let mut lists = Vec::new();
    for (key, value) in world.iter_mut() {
        match value {
            Value::Array(list) if key == "libraries" => lists.push(list),
            Value::Table(given) if key == "given" => {
                lists.extend(given.iter_mut().filter_map(|(_, value)| value.as_array_mut()));
            }
            _ => {}
        }
    }
    for list in lists {
        let before = list.len();
        list.retain(|item| {
            let text = item.as_str().or_else(|| item.get("path").and_then(Value::as_str));
            !text.is_some_and(|text| text.starts_with(path))
        });
        found |= list.len() < before;
    }
    assert!(found, "nothing to remove: {path}");
}

fn merge(base: &mut Table, over: Table) {
    for (key, value) in over {
        match (base.get_mut(&key), value) {
            (Some(Value::Table(base)), Value::Table(over)) => merge(base, over),
            (Some(Value::Array(base)), Value::Array(over)) if key == "libraries" => {
                base.extend(over)
            }
            (_, value) => _ = base.insert(key, value),
        }
    }
}

/// Makes the machine `tests/worlds/<name>.toml`.
pub fn world(name: &str) -> World {
    let world = table(name);
    let dir = tempfile::tempdir().unwrap();
    let place = |path: &str| {
        let at = dir.path().join(path.strip_prefix('/').unwrap());
        fs::create_dir_all(at.parent().unwrap()).unwrap();
        at
    };
    let each = |kind: &str| world.get(kind).and_then(Value::as_table).cloned().unwrap_or_default();
    for (path, text) in each("files") {
        fs::write(place(&path), text.as_str().unwrap()).unwrap();
    }
    for (path, target) in each("links") {
        symlink(target.as_str().unwrap(), place(&path)).unwrap();
    }
    for path in world.get("libraries").and_then(Value::as_array).into_iter().flatten() {
        let mut header = [0u8; 64];
        header[..5].copy_from_slice(b"\x7fELF\x02");
        header[18] = 62;
        fs::write(place(path.as_str().unwrap()), header).unwrap();
    }
    let cache = world.get("cache").and_then(Value::as_array).into_iter().flatten();
    let entries: Vec<linker::Entry> = cache
        .map(|path| Path::new(path.as_str().unwrap()))
        .map(|path| linker::Entry::new(path.file_name().unwrap().to_str().unwrap(), path, "x86_64"))
        .collect();
    if !entries.is_empty() {
        fs::write(place("/etc/ld.so.cache"), linker::with(None, &entries).unwrap()).unwrap();
    }
    let given: Given = match world.get("given") {
        Some(given) => given.clone().try_into().unwrap(),
        None => Given::default(),
    };
    let machine = Machine::described(dir.path(), given);
    World { machine, root: dir.path().to_owned(), _dir: dir }
}
