//! What a person names: a folder with a `sconce.toml`, a tag, or an image in the store; and the way
//! from each to a lock and an image.

use std::io::Write;
use std::path::{Path, PathBuf};

use sconce_blob::Digest;
use sconce_lock::{Explanation, Host, Lock, Spec};

use crate::builder::{Builder, Environment, Trees};
use crate::error::{Error, at};
use crate::resolve::World;
use crate::seal::seal;

/// The memo that leads from a tag to its lock.
const TAG_LOCK: &str = "tag-lock";

/// The largest lock that is read, bytes.
const LOCK_LIMIT: u64 = 64 << 20;

/// What is to be locked, built or run.
#[derive(Debug, Clone)]
pub enum Project {
    /// A folder.
    Folder {
        /// Where.
        folder: PathBuf,
        /// Its `sconce.toml`; the default one if it has none.
        spec: Box<Spec>,
    },
    /// A tag that people know: `torch:2.15.0`.
    Tag {
        /// As written.
        tag: String,
        /// What it stands for.
        spec: Box<Spec>,
    },
}

/// How a lock came about.
#[derive(Debug)]
pub struct Locked {
    /// The lock.
    pub lock: Lock,
    /// Why each thing was chosen; `None` when the lock was there already.
    pub explanation: Option<Explanation>,
}

/// An image that can be started.
#[derive(Debug)]
pub struct Ready {
    /// The lock it was built from.
    pub lock: Lock,
    /// The environment that the lock seals.
    pub environment: Environment,
    /// The image: the environment's own, or that with the app on top.
    pub image: Digest,
}

impl Project {
    /// The project in a folder.
    pub fn folder(folder: &Path) -> Result<Self, Error> {
        let path = folder.join("sconce.toml");
        let spec = match path.exists() {
            true => Spec::load(&path)?,
            false => return Err(Error::NoSpec(folder.to_owned())),
        };
        Ok(Self::Folder { folder: folder.to_owned(), spec: Box::new(spec) })
    }

    /// What `text` means, or nothing if it is neither a folder nor a tag: then it may be an image.
    pub fn find(text: &str) -> Result<Option<Self>, Error> {
        let path = Path::new(text);
        let looks_like_a_path =
            text.starts_with(['.', '/']) || (text.contains('/') && !text.contains(':'));
        if path.join("sconce.toml").exists() || (looks_like_a_path && !Spec::is_tag(text)) {
            return Self::folder(path).map(Some);
        }
        if Spec::is_tag(text) {
            let spec = Box::new(Spec::from_tag(text)?);
            return Ok(Some(Self::Tag { tag: text.to_owned(), spec }));
        }
        Ok(None)
    }

    /// What is wanted.
    pub fn spec(&self) -> &Spec {
        match self {
            Self::Folder { spec, .. } | Self::Tag { spec, .. } => spec,
        }
    }

    /// The name its image gets in the store: the tag, or the folder's own name.
    pub fn name(&self) -> Option<String> {
        match self {
            Self::Tag { tag, .. } if tag.contains(':') => Some(tag.clone()),
            Self::Tag { tag, .. } => Some(format!("{tag}:latest")),
            Self::Folder { folder, .. } => {
                let folder = folder.canonicalize().ok()?;
                Some(folder.file_name()?.to_str()?.to_owned())
            }
        }
    }

    fn lock_path(&self) -> Option<PathBuf> {
        match self {
            Self::Folder { folder, .. } => Some(folder.join("sconce.lock")),
            Self::Tag { .. } => None,
        }
    }
}

impl Builder<'_> {
    /// The lock that a project has, if any, whether it still fits or not.
    pub fn existing_lock(&self, project: &Project) -> Result<Option<Lock>, Error> {
        let text = match project {
            Project::Folder { folder, .. } => {
                let path = folder.join("sconce.lock");
                match sconce_open::read_to_string(&path, LOCK_LIMIT) {
                    Err(error) if sconce_open::is_missing(&error) => return Ok(None),
                    read => read.map_err(at("read", &path))?,
                }
            }
            Project::Tag { tag, .. } => {
                match self.store.memo(TAG_LOCK, Digest::of(tag.as_bytes()))? {
                    None => return Ok(None),
                    Some(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
                }
            }
        };
        Ok(Some(Lock::parse(&text)?))
    }

    /// The project's lock: the one it has if that fits what is wanted, else a new one, which is
    /// kept. `anew` resolves in any case.
    pub fn lock(&self, project: &Project, host: &Host, anew: bool) -> Result<Locked, Error> {
        let spec = project.spec();
        if !anew && let Some(lock) = self.existing_lock(project)? {
            match lock.check_spec(spec) {
                Ok(()) => return Ok(Locked { lock, explanation: None }),
                Err(stale) => self.progress.note(&format!("locking again: {stale}")),
            }
        }
        self.progress.begin("locking", None);
        let mut world = World::new(self, project);
        let (lock, explanation) = sconce_lock::resolve(spec, host, &mut world)?;
        self.progress.end(&format!(
            "{}{} Python and {} Debian packages",
            lock.facts.torch.as_ref().map_or(String::new(), |torch| {
                let cuda = torch.cuda.as_ref().map(|cuda| format!(", CUDA {cuda}"));
                format!("torch {}{}; ", torch.version, cuda.unwrap_or_default())
            }),
            lock.wheels.len(),
            lock.debs.len()
        ));
        self.keep_lock(project, &lock)?;
        Ok(Locked { lock, explanation: Some(explanation) })
    }

    /// Writes a project's lock to where it belongs.
    pub fn keep_lock(&self, project: &Project, lock: &Lock) -> Result<(), Error> {
        let text = lock.to_text();
        match (project.lock_path(), project) {
            (Some(path), _) => write_whole(&path, &text),
            (None, Project::Tag { tag, .. }) => {
                let key = Digest::of(tag.as_bytes());
                Ok(self.store.put_memo(TAG_LOCK, key, text.as_bytes())?)
            }
            (None, Project::Folder { .. }) => Ok(()),
        }
    }

    /// Builds what isn't there, seals the lock if it had no seal, and names the image.
    pub fn ready(&self, project: &Project, lock: Lock, trees: Trees) -> Result<Ready, Error> {
        let environment = self.environment(&lock, trees)?;
        let lock = match lock.sealed {
            Some(_) => lock,
            None => {
                let sealed = seal(&lock, &environment);
                self.keep_lock(project, &sealed)?;
                sealed
            }
        };
        let image = match project {
            Project::Folder { folder, spec } => {
                self.app(&lock, &environment, &spec.app, folder, trees)?.image
            }
            Project::Tag { .. } => environment.image,
        };
        if let Some(name) = project.name()
            && self.store.names()?.get(&name) != Some(&image)
        {
            self.store.put_name(&name, image)?;
        }
        Ok(Ready { lock, environment, image })
    }
}

/// Writes a file so that it is whole or not there at all.
fn write_whole(path: &Path, text: &str) -> Result<(), Error> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let write = || -> std::io::Result<()> {
        let mut file = tempfile::Builder::new().prefix(".sconce.lock").tempfile_in(folder)?;
        file.write_all(text.as_bytes())?;
        // A temporary file is its owner's alone; a lock is for the whole team.
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
        file.as_file().set_permissions(mode)?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        Ok(())
    };
    write().map_err(at("write", path))
}
