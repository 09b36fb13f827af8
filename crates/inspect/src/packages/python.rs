//! Which Python it is, and what torch says of itself.

use super::{Torch, numbers};
use crate::tree::Tree;

/// What the `version.py` at `path` says.
pub(super) fn torch(tree: &Tree, path: &str) -> Option<Torch> {
    let text = tree.text(path, 1 << 16)?;
    // `cuda: Optional[str] = '13.2'`; older ones have no annotation.
    let value = |name: &str| {
        text.lines().find_map(|line| {
            let (left, right) = line.split_once('=')?;
            let left = left.split(':').next()?.trim();
            (left == name).then(|| right.trim().to_owned())
        })
    };
    let unquote = |text: String| -> Option<String> {
        let inner = text.strip_prefix(['\'', '"'])?.strip_suffix(['\'', '"'])?;
        Some(inner.to_owned())
    };
    Some(Torch {
        version: value("__version__").and_then(unquote)?,
        cuda: value("cuda").and_then(unquote),
        path: path.strip_suffix("/version.py")?.to_owned(),
    })
}

/// Python's version: of a virtual environment by its `pyvenv.cfg`, else by the programs there are,
/// else by the directory of packages.
pub(super) fn version(tree: &Tree) -> Option<String> {
    if let Some(config) = tree.text("pyvenv.cfg", 1 << 16) {
        let version = config.lines().find_map(|line| {
            let (key, value) = line.split_once('=')?;
            matches!(key.trim(), "version" | "version_info").then(|| value.trim().to_owned())
        });
        if version.is_some() {
            return version;
        }
    }
    let digits = |text: &str| -> Option<String> {
        let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let version = text[..end].trim_end_matches('.');
        (!version.is_empty()).then(|| version.to_owned())
    };
    let program = |path: &str| digits(path.strip_prefix("python")?).filter(|v| v.contains('.'));
    let programs = ["usr/bin", "usr/local/bin", "opt/venv/bin"];
    programs
        .iter()
        .flat_map(|folder| tree.files_below(folder))
        .filter_map(|(path, _)| program(path.rsplit('/').next()?))
        .max_by_key(|version| numbers(version))
        .or_else(|| {
            tree.files().find_map(|(path, _)| {
                let at = path.find("/python3.").filter(|at| path[*at..].contains("-packages/"))?;
                digits(&path[at + "/python".len()..])
            })
        })
}
