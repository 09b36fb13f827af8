//! `/etc/passwd`, `group` and `shadow`, from base-passwd's masters.
//!
//! Source: passwd(5), shadow(5); base-passwd's `update-passwd` does the same on a machine.

use sconce_layer::{Content, Kind, Meta};

use super::tree::Tree;
use crate::Error;

const MAX_MASTER: u64 = 1 << 20;

pub(super) fn add(tree: &mut Tree) -> Result<(), Error> {
    let passwd = master(tree, "usr/share/base-passwd/passwd.master")?;
    let group = master(tree, "usr/share/base-passwd/group.master")?;
    let (Some(passwd), Some(group)) = (passwd, group) else { return Ok(()) };
    // `*` in the masters is a locked password; it goes to shadow, and `x` says so. The day of
    // the last change stays empty: a date would differ, and 0 would ask for a new password.
    let shadow: String = names(&passwd).map(|name| format!("{name}:*::0:99999:7:::\n")).collect();
    let gshadow: String = names(&group).map(|name| format!("{name}:*::\n")).collect();
    let files = [
        ("etc/passwd", shadowed(&passwd), Meta::FILE),
        ("etc/group", shadowed(&group), Meta::FILE),
        // Group `shadow` is 42 (Policy §9.2.2, group.master).
        ("etc/shadow", shadow, Meta { gid: 42, ..Meta::root(0o640) }),
        ("etc/gshadow", gshadow, Meta { gid: 42, ..Meta::root(0o640) }),
    ];
    for (path, text, meta) in files {
        tree.add(path, Kind::File(Content::bytes(text.into_bytes())), meta)?;
    }
    Ok(())
}

fn master(tree: &Tree, path: &str) -> Result<Option<String>, Error> {
    if tree.get(path).is_none() {
        return Ok(None);
    }
    let fault = |_| Error::Compose { path: path.to_owned(), reason: "it isn't UTF-8".into() };
    String::from_utf8(tree.read(path, MAX_MASTER)?).map(Some).map_err(fault)
}

fn names(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter_map(|line| line.split_once(':')).map(|(name, _)| name)
}

fn shadowed(text: &str) -> String {
    let lines = text.lines().filter(|line| line.contains(':'));
    lines.map(|line| format!("{}\n", line.replacen(":*:", ":x:", 1))).collect()
}
