//! The bytecode layer: every `.py` of the base and the wheels compiled in a container without
//! network, by the Python of the image.
//!
//! Without it `import torch` takes three times as long in a fresh container. The invalidation mode
//! is `unchecked-hash` (PEP 552): the bytes depend on the source, its path and the Python version,
//! on no clock and no processor.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use sconce_blob::{Digest, Hasher};
use sconce_facts::Machine;
use sconce_layer::{Content, Entry, Kind, Meta};
use sconce_lock::{DebPin, Lock};
use sconce_run::{Container, Exit, Network};
use sconce_store::Layer;

use crate::builder::{Builder, NamedLayer, Trees};
use crate::error::{Error, at};
use crate::image::architecture;
use crate::resolve::debian_pins;
use crate::trees::{Sources, scratch};
use crate::venv::site_packages;

const MEMO: &str = "bytecode-layer";

/// How much of the compiler's words is kept, bytes.
const OUTPUT_LIMIT: usize = 64 << 10;

impl Builder<'_> {
    /// The bytecode layer of a lock, if it was made before.
    pub(crate) fn remembered_bytecode(&self, lock: &Lock) -> Result<Option<Layer>, Error> {
        if !lock.facts.bytecode {
            return Ok(None);
        }
        self.remembered(MEMO, key(lock))
    }

    /// Compiles what lies in `layers` (their trees, or the Python sources kept of them).
    pub(crate) fn bytecode_layer(
        &self,
        lock: &Lock,
        layers: &[NamedLayer],
        sources: Option<&Sources>,
        trees: Trees,
    ) -> Result<NamedLayer, Error> {
        let python = &lock.facts.python;
        self.progress.begin("bytecode", None);
        let stdlib = format!("/usr/lib/python{python}");
        let lowers = match sources {
            Some(sources) => {
                // The base has a tree in any case; of it, too, only Python sources count.
                let base = self.tree(layers)?;
                copy_sources(&base, Path::new(&stdlib[1..]), sources.root())?;
                let compiler = match Machine::current() == Some(lock.facts.machine) {
                    true => base,
                    false => self.foreign_compiler(lock)?,
                };
                vec![sources.root().to_owned(), compiler]
            }
            None => {
                let trees = layers.iter().rev().filter_map(|l| self.store.tree(l.layer.diff_id));
                trees.collect()
            }
        };
        let changes = self.store.scratch_dir()?.join("bytecode");
        let site = format!("/{}", site_packages(python));
        let command = [
            format!("/usr/bin/python{python}").as_str(),
            // Python must not cache what it imports itself: such files carry the time of their
            // source, and compileall would take them for done. Neither the user's packages nor
            // the current folder count; PYTHONHASHSEED does, so not -I.
            "-B",
            "-s",
            "-P",
            "-m",
            "compileall",
            "-f",
            "-q",
            // One after the other: marshal marks an object as shared by its reference count, and in
            // a worker that depends on which files the worker happened to compile before.
            "-j1",
            "--invalidation-mode",
            "unchecked-hash",
            &stdlib,
            &site,
        ]
        .map(str::to_owned);
        let mut container = Container::new(lowers, scratch(self.store, "compile")?, command);
        container.env = vec![
            ("PATH".into(), "/usr/bin:/bin".into()),
            ("LANG".into(), "C.UTF-8".into()),
            // The order of sets of strings must not reach the bytes.
            ("PYTHONHASHSEED".into(), "0".into()),
        ];
        container.network = Network::None;
        container.hostname = Some("sconce".into());
        container.keep_changes = Some(changes.clone());
        let progress = self.progress;
        let done =
            sconce_run::run_captured(&container, OUTPUT_LIMIT, &mut |text| progress.note(text))?;
        // 1 says that some file does not compile: wheels ship templates and Python 2 now and then.
        if !matches!(done.exit, Exit::Code(0 | 1)) {
            let words = String::from_utf8_lossy(&done.stderr);
            let tail: Vec<&str> = words.lines().rev().take(5).collect();
            return Err(Error::Bytecode(format!("{:?}: {}", done.exit, tail.join(" | "))));
        }
        let roots = match sources {
            Some(sources) => vec![sources.root().to_owned()],
            None => container.lowers.clone(),
        };
        let entries = compiled(&changes, &roots)?;
        let count = entries.iter().filter(|entry| matches!(entry.kind, Kind::File(_))).count();
        if count == 0 {
            return Err(Error::Bytecode("Python compiled nothing".into()));
        }
        self.progress.end(&format!("{count} files compiled"));
        let layer = self.plain_layer("bytecode", entries, trees == Trees::All)?;
        self.remember(MEMO, key(lock), &layer.layer)?;
        fs::remove_dir_all(&changes).map_err(at("remove", &changes))?;
        Ok(layer)
    }
}

impl Builder<'_> {
    fn tree(&self, layers: &[NamedLayer]) -> Result<PathBuf, Error> {
        let base = layers.first().map(|named| named.layer.diff_id);
        let tree = base.and_then(|diff_id| self.store.tree(diff_id));
        tree.ok_or_else(|| Error::Bytecode("the base was not unpacked".into()))
    }

    /// A root with this machine's build of the very Python that the image of another processor
    /// has: bytecode depends on the version, not on the processor.
    fn foreign_compiler(&self, lock: &Lock) -> Result<PathBuf, Error> {
        let python = format!("python{}", lock.facts.python);
        let machine = Machine::current().ok_or_else(|| {
            Error::Bytecode("this processor has no Debian to compile with".into())
        })?;
        let arch = architecture(machine);
        let pins =
            debian_pins(self, &lock.facts.base, arch, std::slice::from_ref(&python), self.mirror)?;
        let version = |pins: &[DebPin]| {
            pins.iter().find(|pin| pin.name == python).map(|pin| pin.version.clone())
        };
        let (wanted, found) = (version(&lock.debs), version(&pins));
        if wanted != found {
            let text = |version: Option<String>| version.unwrap_or_else(|| "none".into());
            return Err(Error::Bytecode(format!(
                "the image has {python} {}, the archive has {} for this machine",
                text(wanted),
                text(found)
            )));
        }
        self.download_debs(&pins)?;
        let layer = self.root_layer("compiler", arch, lock, &pins, true)?;
        let tree = self.store.tree(layer.layer.diff_id);
        tree.ok_or_else(|| Error::Bytecode("the compiler was not unpacked".into()))
    }
}

/// Copies the `.py` files below `folder` of a tree to the same places below `to`.
fn copy_sources(tree: &Path, folder: &Path, to: &Path) -> Result<(), Error> {
    let from = tree.join(folder);
    fs::create_dir_all(to.join(folder)).map_err(at("create", to.join(folder)))?;
    for entry in fs::read_dir(&from).map_err(at("list", &from))? {
        let entry = entry.map_err(at("list", &from))?;
        let path = folder.join(entry.file_name());
        let kind = entry.file_type().map_err(at("read", entry.path()))?;
        if kind.is_dir() {
            copy_sources(tree, &path, to)?;
        } else if kind.is_file() && path.extension().is_some_and(|ending| ending == "py") {
            fs::copy(entry.path(), to.join(&path)).map_err(at("copy", entry.path()))?;
        }
    }
    Ok(())
}

/// The source of a `.pyc`: `a/__pycache__/b.cpython-313.pyc` comes from `a/b.py` (PEP 3147).
fn source_of(compiled: &Path) -> Option<PathBuf> {
    let name = compiled.file_name()?.to_str()?;
    let (stem, _) = name.split_once(".cpython-")?;
    Some(compiled.parent()?.parent()?.join(format!("{stem}.py")))
}

/// What the bytecode is a function of.
fn key(lock: &Lock) -> Digest {
    let mut hasher = Hasher::new();
    hasher.update(b"sconce bytecode 1\n");
    for deb in &lock.debs {
        hasher.update(deb.name.as_bytes());
        hasher.update(deb.version.as_bytes());
    }
    for wheel in &lock.wheels {
        hasher.update(wheel.sha256.as_bytes());
    }
    hasher.finish()
}

/// The `.pyc` files below a container's changes, and the folders they are in. Only those whose
/// source is a plain file below one of `roots`: not what another machine's Python brought along, and
/// not what a link leads to, so that trees and copies of their sources give the same layer.
fn compiled(changes: &Path, roots: &[PathBuf]) -> Result<Vec<Entry>, Error> {
    fn walk(folder: &Path, found: &mut Vec<(PathBuf, u64)>) -> Result<(), Error> {
        for entry in fs::read_dir(folder).map_err(at("list", folder))? {
            let entry = entry.map_err(at("list", folder))?;
            let about = entry.metadata().map_err(at("read", entry.path()))?;
            if about.is_dir() {
                walk(&entry.path(), found)?;
            } else if about.is_file() && entry.path().extension().is_some_and(|e| e == "pyc") {
                found.push((entry.path(), about.len()));
            }
        }
        Ok(())
    }
    let mut found = Vec::new();
    walk(changes, &mut found)?;
    let mut folders = BTreeSet::new();
    let mut entries = Vec::with_capacity(found.len());
    for (path, len) in found {
        // Python made these names from names that were checked as UTF-8 before.
        let Some(inside) = path.strip_prefix(changes).ok().and_then(Path::to_str) else { continue };
        let Some(source) = source_of(Path::new(inside)) else { continue };
        let plain = |root: &PathBuf| {
            fs::symlink_metadata(root.join(&source)).is_ok_and(|about| about.is_file())
        };
        if !roots.iter().any(plain) {
            continue;
        }
        let inside = inside.to_owned();
        folders.extend(inside.match_indices('/').map(|(end, _)| inside[..end].to_owned()));
        let kind = Kind::File(Content::Path { path, len });
        entries.push(Entry { path: inside, kind, meta: Meta::FILE });
    }
    let folders = folders.into_iter().map(|path| Entry {
        path,
        kind: Kind::Directory,
        meta: Meta::DIRECTORY,
    });
    entries.extend(folders);
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compiled_files_lead_to_their_sources() {
        let check = |compiled: &str, source: Option<&str>| {
            assert_eq!(source_of(Path::new(compiled)), source.map(PathBuf::from), "{compiled}");
        };
        check("a/__pycache__/b.cpython-313.pyc", Some("a/b.py"));
        check("a/__pycache__/b.x.cpython-311.pyc", Some("a/b.x.py"));
        check("b.pyc", None);
    }
}
