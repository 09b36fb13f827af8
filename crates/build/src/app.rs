//! The person's own code: one more layer on top of the environment.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use ignore::gitignore::Gitignore;
use sconce_blob::{Digest, Hasher};
use sconce_layer::{Content, Entry, Kind, Meta, ReadAt, check_path};
use sconce_lock::{App, Lock};
use sconce_open::{Folder, Found};
use sconce_store::Layer;
use serde::{Deserialize, Serialize};

use crate::builder::{Builder, Environment, NamedLayer, Trees};
use crate::error::{Error, at};
use crate::ignored::{Fate, Ignored, glob};
use crate::image::{self, Documents};
use crate::install;
use crate::project::Project;
use crate::project::is_ours;

/// An image with an app on top of its environment.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AppLayer {
    /// The image's manifest digest; the environment's own where there is no app.
    pub image: Digest,
    /// Its layers: those of the project's own wheel, and that of the files that are included.
    pub layers: Vec<NamedLayer>,
}

/// The memo that leads from an app's key to its image.
const MEMO: &str = "app-image";

/// Never part of an app: caches, version control, and what sconce itself writes.
const LEFT_OUT: [&str; 6] = [".git", ".hg", "__pycache__", ".venv", ".mypy_cache", ".pytest_cache"];

/// How much of a file is hashed at once, bytes.
const PIECE: u64 = 1 << 20;

impl Builder<'_> {
    /// Puts the files that `app` includes, read from `folder`, on top of an environment.
    pub fn app(
        &self,
        lock: &Lock,
        environment: &Environment,
        app: &App,
        folder: &Path,
        trees: Trees,
    ) -> Result<AppLayer, Error> {
        let entries = entries(app, folder)?;
        let sources = match &lock.project {
            Some(_) => install::sources(app, folder)?,
            None => Vec::new(),
        };
        if entries.is_empty() && sources.is_empty() {
            return Ok(AppLayer { image: environment.image, layers: Vec::new() });
        }
        let key = key(environment.image, &entries, &sources)?;
        if let Some(known) = self.known_app(key, trees)? {
            return Ok(known);
        }
        if let Some(note) = size_note(&entries, app) {
            self.progress.note(&note);
        }
        let mut layers = match &lock.project {
            Some(project) => self.own_wheel(lock, project, sources, trees)?,
            None => Vec::new(),
        };
        if !entries.is_empty() {
            layers.push(self.plain_layer("app", entries, trees == Trees::All)?);
        }
        let all: Vec<NamedLayer> = environment.layers.iter().chain(&layers).cloned().collect();
        let image = self.put_image_of(lock, &all, Some(environment.image))?;
        let app = AppLayer { image, layers };
        let bytes = serde_json::to_vec(&app).map_err(|error| Error::Memo(error.to_string()))?;
        self.store.put_memo(MEMO, key, &bytes)?;
        Ok(app)
    }

    /// The documents of a project's image, of which nothing need be here but the project's own files: the seal
    /// of its lock says what the layers below them are. `None` where that does not tell: no seal, one of a sconce
    /// that made other documents, or a project that is installed as a wheel.
    ///
    /// # Errors
    /// The files of the project can't be read, or their layer not be stored.
    pub fn sealed(&self, project: &Project, lock: &Lock) -> Result<Option<Documents>, Error> {
        let (Some(sealed), None) = (&lock.sealed, &lock.project) else { return Ok(None) };
        let layers = sealed.layers.iter().map(|layer| NamedLayer {
            name: layer.name.clone(),
            layer: Layer {
                diff_id: layer.diff_id,
                digest: layer.digest,
                size: layer.size,
                media_type: sconce_layer::Layer::MEDIA_TYPE.into(),
            },
        });
        let mut layers: Vec<NamedLayer> = layers.collect();
        let environment = image::documents(lock, &layers, None);
        if Digest::of(&environment.manifest) != sealed.image {
            return Ok(None);
        }
        let entries = match project {
            Project::Folder { folder, .. } => entries(&lock.app, folder)?,
            Project::Tag { .. } => Vec::new(),
        };
        if entries.is_empty() {
            return Ok(Some(environment));
        }
        layers.push(self.plain_layer("app", entries, false)?);
        Ok(Some(image::documents(lock, &layers, Some(sealed.image))))
    }

    /// The app made under `key` before, if it is whole.
    fn known_app(&self, key: Digest, trees: Trees) -> Result<Option<AppLayer>, Error> {
        let Some(bytes) = self.store.memo(MEMO, key)? else { return Ok(None) };
        let Ok(app) = serde_json::from_slice::<AppLayer>(&bytes) else { return Ok(None) };
        let mut whole = true;
        if trees != Trees::None {
            for named in &app.layers {
                whole &= self.store.tree(named.layer.diff_id)?.is_some();
            }
        }
        Ok((whole && self.image(app.image).is_ok()).then_some(app))
    }
}

/// What an app's image is a function of.
fn key(environment: Digest, entries: &[Entry], sources: &[Entry]) -> Result<Digest, Error> {
    let mut hasher = Hasher::new();
    hasher.update(environment.as_bytes());
    for entry in entries.iter().chain(sources) {
        let (kind, content) = match &entry.kind {
            Kind::Directory => ("directory", Vec::new()),
            Kind::Symlink { target } => ("symlink", target.clone().into_bytes()),
            Kind::Hardlink { target } => ("hardlink", target.clone().into_bytes()),
            Kind::File(content) => ("file", digest_of(&entry.path, content)?.as_bytes().to_vec()),
        };
        let (length, mode) = (content.len(), entry.meta.mode);
        hasher.update(format!("{kind} {mode:o} {length} {}\0", entry.path).as_bytes());
        hasher.update(&content);
    }
    Ok(hasher.finish())
}

fn digest_of(path: &str, content: &Content) -> Result<Digest, Error> {
    let Content::Range { source, offset, len } = content else {
        return Err(Error::Memo("an app is made of files in its folder".into()));
    };
    let mut hasher = Hasher::new();
    let mut piece = vec![0; (*len).min(PIECE) as usize];
    let mut done = 0;
    while done < *len {
        let n = (len - done).min(PIECE) as usize;
        source
            .read_exact_at(&mut piece[..n], offset + done)
            .map_err(|error| bad(path, format!("can't be read: {error}")))?;
        hasher.update(&piece[..n]);
        done += n as u64;
    }
    Ok(hasher.finish())
}

/// A file of the project, opened beneath its folder each time it is read: thousands of them may
/// wait for their turn, more than there are descriptors.
struct Included {
    folder: Arc<Folder>,
    path: String,
    len: u64,
}

impl ReadAt for Included {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let file = self.folder.file(Path::new(&self.path))?;
        if file.metadata()?.len() != self.len {
            // Its length stands before it in the layer already.
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        ReadAt::read_at(&file, buf, offset)
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.len)
    }
}

/// The entries of an app's layer, below its working directory.
pub(crate) fn entries(app: &App, folder: &Path) -> Result<Vec<Entry>, Error> {
    let workdir = app.workdir.trim_matches('/');
    let open = Folder::open_unfollowed(folder).map_err(at("open", folder))?;
    let open = Arc::new(open);
    let ignored = Ignored::new(&open, &app.exclude)?;
    let mut walk = Walk { folder: Arc::clone(&open), workdir, ignored, found: BTreeMap::new() };
    for include in &app.include {
        let relative = include.trim_start_matches("./").trim_end_matches('/');
        if relative == "." || relative.is_empty() {
            walk.folder(String::new(), None)?;
            continue;
        }
        check_path(relative).map_err(|fault| bad(include, format!("can't be used: {fault}")))?;
        if let Some(pattern) = glob(relative)?
            && open.look(Path::new(relative)).is_err()
        {
            let before = walk.found.len();
            walk.folder(String::new(), Some(&pattern))?;
            if walk.found.len() == before {
                return Err(bad(include, "fits nothing that is there"));
            }
            continue;
        }
        let entry = walk.look(relative)?;
        let is_folder = matches!(entry.kind, Kind::Directory);
        if walk.ignored.excludes(relative, is_folder) {
            continue;
        }
        walk.found.insert(entry.path.clone(), entry);
        if is_folder {
            walk.folder(relative.to_owned(), None)?;
        }
    }
    let mut found = walk.found;
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

fn bad(path: &str, why: impl Into<String>) -> Error {
    Error::Include { path: path.to_owned(), why: why.into() }
}

fn join(folder: &str, name: &str) -> String {
    if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") }
}

/// An app of more bytes is worth a word: data and checkpoints belong in a volume.
const LARGE: u64 = 256 << 20;

/// A word about an app that is large, and what makes it so.
fn size_note(entries: &[Entry], app: &App) -> Option<String> {
    let workdir = app.workdir.trim_matches('/');
    let mut total = 0;
    let mut tops: BTreeMap<&str, u64> = BTreeMap::new();
    for entry in entries {
        let Kind::File(Content::Range { len, .. }) = entry.kind else { continue };
        total += len;
        let inside = entry.path.strip_prefix(workdir).unwrap_or(&entry.path).trim_matches('/');
        *tops.entry(inside.split('/').next().unwrap_or(inside)).or_default() += len;
    }
    if total <= LARGE {
        return None;
    }
    let mut tops: Vec<(&str, u64)> = tops.into_iter().collect();
    tops.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
    let megabytes = |bytes: u64| format!("{} MB", bytes / 1_000_000);
    let largest: Vec<String> =
        tops.iter().take(3).map(|(name, bytes)| format!("{name} {}", megabytes(*bytes))).collect();
    Some(format!(
        "the app has {} ({}); `exclude` under [app] leaves files out, and `volumes` under [run] mounts them",
        megabytes(total),
        largest.join(", ")
    ))
}

/// The project's folder, and what of it has been found to be in the app.
struct Walk<'a> {
    folder: Arc<Folder>,
    workdir: &'a str,
    ignored: Ignored<'a>,
    found: BTreeMap<String, Entry>,
}

impl Walk<'_> {
    /// Whether a folder is at `path`. What can't be taken is not a folder: it may be left out.
    fn is_folder(&self, path: &str) -> bool {
        matches!(self.folder.look(Path::new(path)), Ok(Found::Folder))
    }

    /// The entry of what is at `path`.
    fn look(&self, path: &str) -> Result<Entry, Error> {
        let inside = join(self.workdir, path);
        check_path(&inside).map_err(|fault| bad(path, format!("can't be used: {fault}")))?;
        let found = self.folder.look(Path::new(path)).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => bad(path, "is not there"),
            _ => bad(path, format!("can't be taken: {error}")),
        })?;
        Ok(match found {
            Found::Folder => directory(inside),
            Found::Link(target) => {
                let target = target.into_string();
                let target = target.map_err(|_| bad(path, "points to a name that is not UTF-8"))?;
                Entry { path: inside, kind: Kind::Symlink { target }, meta: Meta::SYMLINK }
            }
            Found::File { mode, len } => {
                // What matters of a mode is whether it runs: the umask must not change the image.
                let meta = if mode & 0o111 != 0 { Meta::PROGRAM } else { Meta::FILE };
                let (folder, name) = (Arc::clone(&self.folder), path.to_owned());
                let source = Arc::new(Included { folder, path: name, len });
                let kind = Kind::File(Content::Range { source, offset: 0, len });
                Entry { path: inside, kind, meta }
            }
        })
    }

    /// Adds all that is in a folder of the project, all the way down, or what fits a pattern of it.
    fn folder(&mut self, start: String, pattern: Option<&Gitignore>) -> Result<(), Error> {
        let mut pending = vec![start];
        while let Some(folder) = pending.pop() {
            let names = self.folder.names(Path::new(&folder));
            let names = names.map_err(|error| bad(&folder, format!("can't be listed: {error}")))?;
            for name in names {
                let path = Path::new(&folder).join(&name).display().to_string();
                let Some(name) = name.to_str() else {
                    return Err(bad(&path, "has a name that is not UTF-8"));
                };
                let ours = folder.is_empty() && is_ours(name);
                if ours || LEFT_OUT.contains(&name) {
                    continue;
                }
                let is_folder = self.is_folder(&path);
                let fate = self.ignored.fate(&path, is_folder)?;
                if fate == Fate::LeftOut {
                    continue;
                }
                let fits = |pattern: &Gitignore| {
                    pattern.matched_path_or_any_parents(&path, is_folder).is_ignore()
                };
                if fate == Fate::Taken && pattern.is_none_or(fits) {
                    let entry = self.look(&path)?;
                    self.found.insert(entry.path.clone(), entry);
                }
                if is_folder {
                    pending.push(path);
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::process::Command;

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

    /// What is taken of these files, with the text of each where it matters.
    #[track_caller]
    fn taken(include: &[&str], exclude: &[&str], files: &[(&str, &str)], expected: &[&str]) {
        let folder = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        let app = App { include: owned(include), exclude: owned(exclude), ..App::default() };
        let entries = entries(&app, folder.path()).unwrap_or_else(|error| panic!("{error}"));
        let is_file = |entry: &&Entry| matches!(entry.kind, Kind::File(_));
        let found: Vec<_> = entries.iter().filter(is_file).map(|entry| &entry.path[4..]).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn gitignore_holds_for_its_folder_and_those_below() {
        let files = [
            (".gitignore", "*.ckpt\n/data\nout/\n[broken\n!keep.ckpt\n"),
            ("a.ckpt", ""),
            ("data/x", ""),
            ("src/data/x", ""),
            ("src/keep.ckpt", ""),
            ("src/b.ckpt", ""),
            ("src/out/y", ""),
            ("src/more/.gitignore", "*.txt\n!*.ckpt\n"),
            ("src/more/a.txt", ""),
            ("src/more/c.ckpt", ""),
            ("src/a.txt", ""),
        ];
        let kept =
            ["src/a.txt", "src/data/x", "src/keep.ckpt", "src/more/.gitignore", "src/more/c.ckpt"];
        taken(&["."], &[], &files, &[&[".gitignore"], &kept[..]].concat());
        taken(&["src"], &[], &files, &kept);
        // What an include names itself is meant, as with `git add --force`.
        taken(&["data", "a.ckpt"], &[], &files, &["a.ckpt", "data/x"]);
        taken(&["src"], &["*.txt", "/src/data"], &files, &[kept[2], kept[3], kept[4]]);
        taken(&["data", "a.ckpt"], &["*.ckpt"], &files, &["data/x"]);
    }

    #[test]
    fn dockerignore_begins_at_the_project_and_brings_files_back() {
        let files = [
            (".dockerignore", "# all\n*\n!src\n!./tools/*.py\nsrc/**/*.log\n**/tmp\n"),
            ("a.py", ""),
            ("src/a.py", ""),
            ("src/deep/b.log", ""),
            ("src/tmp/c", ""),
            ("tools/run.py", ""),
            ("tools/run.sh", ""),
        ];
        taken(&["."], &[], &files, &["src/a.py", "tools/run.py"]);
        // As in a context of Docker's, `*.log` is one at the top.
        let files = [(".dockerignore", "*.log\n"), ("a.log", ""), ("src/b.log", "")];
        taken(&["."], &[], &files, &[".dockerignore", "src/b.log"]);
    }

    #[test]
    fn an_include_may_be_a_pattern() {
        let files = [
            (".gitignore", "local*\n"),
            ("configs/a.yaml", ""),
            ("configs/deep/b.yaml", ""),
            ("configs/deep/local.yaml", ""),
            ("configs/deep/c.json", ""),
            ("train.py", ""),
            ("more/train.py", ""),
            ("odd[1].py", ""),
        ];
        taken(
            &["configs/**/*.yaml", "*.py"],
            &[],
            &files,
            &["configs/a.yaml", "configs/deep/b.yaml", "odd[1].py", "train.py"],
        );
        taken(&["odd[1].py"], &[], &files, &["odd[1].py"]);
        taken(&["con*"], &["deep"], &files, &["configs/a.yaml"]);
        assert_eq!(
            refused("*.toml", |_| ()),
            "`*.toml` of [app] include fits nothing that is there"
        );
    }

    /// What reads patterns opens nothing outside, and reads no more of a file than there can be of it.
    #[test]
    fn hostile_patterns_are_refused() {
        let leads_out = |folder: &Path| symlink("/etc/passwd", folder.join(".gitignore")).unwrap();
        let why = refused(".", leads_out);
        assert!(why.starts_with(".gitignore can't be read: it leads out"), "{why}");
        let long = |folder: &Path| {
            fs::write(folder.join(".dockerignore"), "x\n".repeat(10_001)).unwrap();
        };
        assert_eq!(refused(".", long), ".dockerignore has 10001 lines, and 10000 are read");
        let large = |folder: &Path| {
            fs::write(folder.join(".gitignore"), "x".repeat(2 << 20)).unwrap();
        };
        assert!(refused(".", large).starts_with(".gitignore can't be read:"));
        let bomb = |folder: &Path| {
            let line = format!("{}\n", "{a,b,c,d,e}".repeat(2000));
            fs::write(folder.join(".gitignore"), line).unwrap();
            fs::write(folder.join("x"), "").unwrap();
        };
        taken_or_refused(bomb);
    }

    /// Either is right, in bounded time and memory.
    fn taken_or_refused(make: impl Fn(&Path)) {
        let _ = paths(&["."], make);
    }

    #[test]
    fn a_large_app_is_worth_a_word() {
        let folder = tempfile::tempdir().unwrap();
        for (name, len) in [("data", 300_000_000), ("weights", 500_000_000), ("src", 10)] {
            fs::create_dir(folder.path().join(name)).unwrap();
            let file = fs::File::create(folder.path().join(name).join("x")).unwrap();
            file.set_len(len).unwrap();
        }
        let note = |include: &str| {
            let app = App { include: vec![include.into()], ..App::default() };
            size_note(&entries(&app, folder.path()).unwrap(), &app)
        };
        assert_eq!(note("src"), None);
        let said = note(".").unwrap();
        assert!(
            said.starts_with("the app has 800 MB (weights 500 MB, data 300 MB, src 0 MB);"),
            "{said}"
        );
    }

    #[test]
    fn what_is_not_there_or_outside_is_an_error() {
        assert!(matches!(paths(&["a.py"], |_| ()), Err(Error::Include { .. })));
        assert!(matches!(paths(&["../a.py"], |_| ()), Err(Error::Include { .. })));
        assert!(matches!(paths(&["/etc/passwd"], |_| ()), Err(Error::Include { .. })));
        assert!(paths(&[], |_| ()).unwrap().is_empty());
    }

    /// The words in which an include is refused.
    fn refused(include: &str, make: impl Fn(&Path)) -> String {
        let folder = tempfile::tempdir().unwrap();
        make(folder.path());
        let app = App { include: vec![include.into()], ..App::default() };
        let error = entries(&app, folder.path()).unwrap_err().to_string();
        error.replace(&folder.path().display().to_string(), "DIR")
    }

    #[test]
    fn what_leads_out_or_waits_is_refused_by_name() {
        let to_etc = |folder: &Path| symlink("/etc", folder.join("etc")).unwrap();
        assert_eq!(
            refused("etc/passwd", to_etc),
            "`etc/passwd` of [app] include can't be taken: it leads out of DIR through the link etc -> /etc"
        );
        let fifo = |folder: &Path| {
            fs::create_dir(folder.join("src")).unwrap();
            let made = Command::new("mkfifo").arg(folder.join("src/pipe")).status();
            assert!(made.unwrap().success());
        };
        assert_eq!(
            refused("src", fifo),
            "`src/pipe` of [app] include can't be taken: it is a FIFO (named pipe), not a regular file"
        );
    }

    /// Links are kept as links, wherever they point: they mean something in the image.
    #[test]
    fn links_stay_links_and_lead_on_inside() {
        let found = paths(&["lib/a.py", "data"], |folder| {
            fs::create_dir(folder.join("src")).unwrap();
            fs::write(folder.join("src/a.py"), "x").unwrap();
            symlink("src", folder.join("lib")).unwrap();
            symlink("/mnt/data", folder.join("data")).unwrap();
        });
        assert_eq!(found.unwrap(), ["app", "app/data", "app/lib", "app/lib/a.py"]);
    }

    /// The layer is written after the walk: what was swapped for a link meanwhile lets nothing out.
    #[test]
    fn a_folder_swapped_after_the_walk_lets_nothing_out() {
        let folder = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("src")).unwrap();
        fs::write(folder.path().join("src/key"), "inside").unwrap();
        fs::write(outside.path().join("key"), "secret").unwrap();
        let app = App { include: vec!["src".into()], ..App::default() };
        let entries = entries(&app, folder.path()).unwrap();
        fs::rename(folder.path().join("src"), folder.path().join("old")).unwrap();
        symlink(outside.path(), folder.path().join("src")).unwrap();
        let file = entries.iter().find(|entry| entry.path == "app/src/key").unwrap();
        let Kind::File(content) = &file.kind else { panic!("{file:?}") };
        let error = digest_of(&file.path, content).unwrap_err().to_string();
        assert!(error.contains("leads out of"), "{error}");
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
