//! The person's own code: one more layer on top of the environment.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use sconce_blob::{Digest, Hasher, HashingReader};
use sconce_layer::{Content, Entry, Kind, Meta, check_path};
use sconce_lock::App;
use serde::{Deserialize, Serialize};

use crate::builder::{Builder, Environment, NamedLayer, Trees};
use crate::error::{Error, at};

/// An image with an app on top of its environment.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AppLayer {
    /// The image's manifest digest; the environment's own where there is no app.
    pub image: Digest,
    /// The app's layer, if anything is included.
    pub layer: Option<NamedLayer>,
}

/// The memo that leads from an app's key to its image.
const MEMO: &str = "app";

/// Never part of an app: caches, version control, and what sconce itself writes.
const LEFT_OUT: [&str; 6] = [".git", ".hg", "__pycache__", ".venv", ".mypy_cache", ".pytest_cache"];

impl Builder<'_> {
    /// Puts the files that `app` includes, read from `folder`, on top of an environment.
    pub fn app(
        &self,
        lock: &sconce_lock::Lock,
        environment: &Environment,
        app: &App,
        folder: &Path,
        trees: Trees,
    ) -> Result<AppLayer, Error> {
        let entries = entries(app, folder)?;
        if entries.is_empty() {
            return Ok(AppLayer { image: environment.image, layer: None });
        }
        let key = key(environment.image, &entries)?;
        if let Some(known) = self.known_app(key, trees)? {
            return Ok(known);
        }
        let layer = self.plain_layer("app", entries, trees == Trees::All)?;
        let mut layers = environment.layers.clone();
        layers.push(layer.clone());
        let image = self.put_image_of(lock, &layers, Some(environment.image))?;
        let app = AppLayer { image, layer: Some(layer) };
        let bytes = serde_json::to_vec(&app).map_err(|error| Error::Memo(error.to_string()))?;
        self.store.put_memo(MEMO, key, &bytes)?;
        Ok(app)
    }

    /// The app made under `key` before, if it is whole.
    fn known_app(&self, key: Digest, trees: Trees) -> Result<Option<AppLayer>, Error> {
        let Some(bytes) = self.store.memo(MEMO, key)? else { return Ok(None) };
        let app: AppLayer =
            serde_json::from_slice(&bytes).map_err(|error| Error::Memo(error.to_string()))?;
        let tree = |named: &NamedLayer| self.store.tree(named.layer.diff_id).is_some();
        let whole = trees == Trees::None || app.layer.as_ref().is_none_or(tree);
        Ok((whole && self.image(app.image).is_ok()).then_some(app))
    }
}

/// What an app's image is a function of.
fn key(environment: Digest, entries: &[Entry]) -> Result<Digest, Error> {
    let mut hasher = Hasher::new();
    hasher.update(environment.as_bytes());
    for entry in entries {
        let (kind, content) = match &entry.kind {
            Kind::Directory => ("directory", Vec::new()),
            Kind::Symlink { target } => ("symlink", target.clone().into_bytes()),
            Kind::Hardlink { target } => ("hardlink", target.clone().into_bytes()),
            Kind::File(content) => ("file", digest_of(content)?.as_bytes().to_vec()),
        };
        let (length, mode) = (content.len(), entry.meta.mode);
        hasher.update(format!("{kind} {mode:o} {length} {}\0", entry.path).as_bytes());
        hasher.update(&content);
    }
    Ok(hasher.finish())
}

fn digest_of(content: &Content) -> Result<Digest, Error> {
    match content {
        Content::Path { path, .. } => {
            let mut reader = HashingReader::new(fs::File::open(path).map_err(at("open", path))?);
            std::io::copy(&mut reader, &mut std::io::sink()).map_err(at("read", path))?;
            Ok(reader.into_hasher().finish())
        }
        Content::Bytes(bytes) => Ok(Digest::of(bytes)),
        // Apps are made of files on disk; anything else is simply never found again.
        Content::Range { offset, len, .. } => Ok(Digest::of(format!("{offset} {len}").as_bytes())),
    }
}

/// The entries of an app's layer, below its working directory.
fn entries(app: &App, folder: &Path) -> Result<Vec<Entry>, Error> {
    let mut found = BTreeMap::new();
    let workdir = app.workdir.trim_matches('/');
    for include in &app.include {
        let bad = |why: &str| Error::Include { path: include.clone(), why: why.into() };
        let relative = include.trim_start_matches("./").trim_end_matches('/');
        if relative == "." || relative.is_empty() {
            add_folder(folder, workdir, folder, &mut found)?;
            continue;
        }
        check_path(relative).map_err(|fault| bad(&format!("can't be used: {fault}")))?;
        let path = folder.join(relative);
        let inside = join(workdir, relative);
        match fs::symlink_metadata(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(bad("is not there"));
            }
            Err(error) => return Err(at("read", &path)(error)),
            Ok(_) => add(&path, &inside, folder, &mut found)?,
        }
    }
    if found.is_empty() {
        return Ok(Vec::new());
    }
    // Every folder on the way stands in the layer, with the same metadata as everywhere.
    let paths: Vec<String> = found.keys().cloned().collect();
    for path in paths {
        for (end, _) in path.match_indices('/') {
            let parent = path[..end].to_owned();
            found.entry(parent.clone()).or_insert_with(|| directory(parent));
        }
    }
    Ok(found.into_values().collect())
}

fn directory(path: String) -> Entry {
    Entry { path, kind: Kind::Directory, meta: Meta::DIRECTORY }
}

fn join(folder: &str, name: &str) -> String {
    if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") }
}

fn add(
    path: &Path,
    inside: &str,
    root: &Path,
    found: &mut BTreeMap<String, Entry>,
) -> Result<(), Error> {
    let about = fs::symlink_metadata(path).map_err(at("read", path))?;
    let bad = |why: String| Error::Include { path: path.display().to_string(), why };
    check_path(inside).map_err(|fault| bad(format!("can't be used: {fault}")))?;
    let entry = if about.is_dir() {
        found.insert(inside.to_owned(), directory(inside.to_owned()));
        return add_folder(path, inside, root, found);
    } else if about.is_symlink() {
        let target = fs::read_link(path).map_err(at("read", path))?;
        let target = target
            .to_str()
            .ok_or_else(|| bad("points to a name that is not UTF-8".into()))?
            .to_owned();
        Entry { path: inside.to_owned(), kind: Kind::Symlink { target }, meta: Meta::SYMLINK }
    } else if about.is_file() {
        // What matters of a mode is whether it runs: the umask must not change the image.
        let program = about.permissions().mode() & 0o111 != 0;
        let meta = if program { Meta::PROGRAM } else { Meta::FILE };
        let content = Content::Path { path: path.to_owned(), len: about.len() };
        Entry { path: inside.to_owned(), kind: Kind::File(content), meta }
    } else {
        return Err(bad("is neither a file, a folder nor a symbolic link".into()));
    };
    found.insert(inside.to_owned(), entry);
    Ok(())
}

fn add_folder(
    path: &Path,
    inside: &str,
    root: &Path,
    found: &mut BTreeMap<String, Entry>,
) -> Result<(), Error> {
    for entry in fs::read_dir(path).map_err(at("list", path))? {
        let entry = entry.map_err(at("list", path))?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else {
            let path = entry.path().display().to_string();
            return Err(Error::Include { path, why: "has a name that is not UTF-8".into() });
        };
        let ours = path == root && matches!(name, "sconce.toml" | "sconce.lock");
        if ours || LEFT_OUT.contains(&name) {
            continue;
        }
        add(&entry.path(), &join(inside, name), root, found)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(include: &[&str], make: impl Fn(&Path)) -> Result<Vec<String>, Error> {
        let folder = tempfile::tempdir().unwrap();
        make(folder.path());
        let app =
            App { include: include.iter().map(|s| s.to_string()).collect(), ..App::default() };
        Ok(entries(&app, folder.path())?.into_iter().map(|entry| entry.path).collect())
    }

    #[test]
    fn folders_are_taken_whole_but_for_caches() {
        let found = paths(&["."], |folder| {
            for path in ["src/a.py", "src/__pycache__/a.pyc", ".git/HEAD", "sconce.toml"] {
                fs::create_dir_all(folder.join(path).parent().unwrap()).unwrap();
                fs::write(folder.join(path), "x").unwrap();
            }
        });
        assert_eq!(found.unwrap(), ["app", "app/src", "app/src/a.py"]);
    }

    #[test]
    fn what_is_not_there_or_outside_is_an_error() {
        assert!(matches!(paths(&["a.py"], |_| ()), Err(Error::Include { .. })));
        assert!(matches!(paths(&["../a.py"], |_| ()), Err(Error::Include { .. })));
        assert!(matches!(paths(&["/etc/passwd"], |_| ()), Err(Error::Include { .. })));
        assert!(paths(&[], |_| ()).unwrap().is_empty());
    }

    #[test]
    fn the_umask_does_not_show() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.py");
        fs::write(&path, "x").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let app = App { include: vec!["a.py".into()], ..App::default() };
        let entry = entries(&app, folder.path()).unwrap().pop().unwrap();
        assert_eq!((entry.path.as_str(), entry.meta), ("app/a.py", Meta::FILE));
    }
}
