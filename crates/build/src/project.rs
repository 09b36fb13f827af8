//! What a person names: a folder with a `sconce.toml`, a tag, or an image in the store; and the way
//! from each to a lock and an image.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use sconce_blob::Digest;
use sconce_facts::Machine;
use sconce_lock::{
    Change, Explanation, Host, Lock, Previous, ProjectFile, Requirements, Spec, Upgrade, Wheel,
};

use sconce_open::Folder;

use crate::builder::{Builder, Environment, Made, Trees, Until};
use crate::error::{Error, at};
use crate::logins;
use crate::resolve::World;
use crate::seal::seal;
use crate::waiting;

/// The memo that leads from a tag to its lock.
const TAG_LOCK: &str = "tag-lock";

/// The largest lock that is read, bytes.
const LOCK_LIMIT: u64 = 64 << 20;

/// What is to be locked, built or run.
#[derive(Debug, Clone)]
pub enum Project {
    /// A folder.
    Folder {
        /// Where: absolute, links followed, and opened without following any from then on.
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

/// What may become of the lock that a project has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Policy {
    /// One that fits `sconce.toml` is kept, unless something is to be upgraded; one that does not is
    /// written anew, with as few changes as can be.
    Update(Upgrade),
    /// It must be there, and fit.
    Locked,
    /// It must be there, and is taken as it is.
    Frozen,
}

impl Policy {
    /// Whether a lock may be written, its seal included.
    pub const fn writes(&self) -> bool {
        matches!(self, Self::Update(_))
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self::Update(Upgrade::Nothing)
    }
}

/// How a lock came about.
#[derive(Debug)]
pub struct Locked {
    /// The lock.
    pub lock: Lock,
    /// Why each thing was chosen; `None` when the lock was there already.
    pub explanation: Option<Explanation>,
    /// What differs from the lock that was there before.
    pub changes: Vec<Change>,
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
    /// Whether the image is all that the lock says. One that is not can be started, and has neither a name nor a
    /// seal; [`Builder::ready`] makes the whole one.
    pub whole: bool,
}

impl Project {
    /// The project in a folder: what its `sconce.toml` says, or, where there is none, its file of requirements.
    pub fn folder(folder: &Path) -> Result<Self, Error> {
        match Self::has_spec(folder) {
            true => Ok(Self::of_spec(Spec::load(&folder.join("sconce.toml"))?)),
            false => Self::of_text(folder, &Self::text(folder)?),
        }
    }

    /// The file of requirements that stands for the `sconce.toml` that a folder does not have.
    fn stand_in(folder: &Path) -> Option<&'static str> {
        let file = sconce_lock::project_file(folder)?;
        (file.way.is_none() && !Self::has_spec(folder)).then_some(file.name)
    }

    /// The project in a folder with this text as its `sconce.toml`.
    pub fn of_text(folder: &Path, text: &str) -> Result<Self, Error> {
        Ok(Self::of_spec(Spec::of_text(text, folder)?))
    }

    fn of_spec(spec: Spec) -> Self {
        Self::Folder { folder: spec.leads.folder().to_owned(), spec: Box::new(spec) }
    }

    /// Whether a folder is a project: it has a `sconce.toml`, a file of requirements that stands for one, or a lock that is left of
    /// one.
    #[must_use]
    pub fn is_in(folder: &Path) -> bool {
        let has_lock = folder.join("sconce.lock").symlink_metadata().is_ok();
        has_lock || Self::has_spec(folder) || Self::stand_in(folder).is_some()
    }

    /// Whether a folder has a `sconce.toml`. A link to nothing is one too, which can't be read.
    #[must_use]
    pub fn has_spec(folder: &Path) -> bool {
        folder.join("sconce.toml").symlink_metadata().is_ok()
    }

    /// The project with these requirements besides, each built from its source distribution. Their
    /// versions and what they are built against are those of the project's lock where they fit.
    pub fn with_sources(&self, requirements: &[String]) -> Result<Self, Error> {
        let project = match self {
            Self::Folder { folder, .. } => {
                let text = Self::text(folder)?;
                Self::of_text(folder, &sconce_lock::add(&text, requirements)?)?
            }
            Self::Tag { .. } => {
                let mut project = self.clone();
                let text = sconce_lock::add("", requirements)?;
                let listed = Spec::parse(&text)?.environment.requirements;
                project.spec_mut().environment.requirements = listed;
                project
            }
        };
        Ok(project.built_from_source(requirements))
    }

    /// The project, where the packages of these requirements are built from source.
    #[must_use]
    pub fn built_from_source(mut self, requirements: &[String]) -> Self {
        let names = &mut self.spec_mut().environment.from_source;
        names.extend(requirements.iter().filter_map(|text| sconce_lock::package_of(text)));
        names.sort();
        names.dedup();
        self
    }

    /// The text of the `sconce.toml` in a folder, or what it would say for the file of requirements there.
    pub fn text(folder: &Path) -> Result<String, Error> {
        if Self::has_spec(folder) {
            return Ok(Spec::text(folder)?);
        }
        match Self::stand_in(folder) {
            Some(name) => Ok(Spec::stand_in(name)),
            None => Err(Error::NoSpec(folder.to_owned())),
        }
    }

    /// What is wanted.
    pub fn spec(&self) -> &Spec {
        match self {
            Self::Folder { spec, .. } | Self::Tag { spec, .. } => spec,
        }
    }

    fn spec_mut(&mut self) -> &mut Spec {
        match self {
            Self::Folder { spec, .. } | Self::Tag { spec, .. } => spec,
        }
    }

    /// The project for a processor that is not the one of its lock: that has a lock and an image of its own.
    fn beside(mut self, machine: Machine) -> Self {
        let spec = self.spec_mut();
        spec.environment.platform = Some(machine);
        spec.beside = Some(machine);
        self
    }

    /// The name its image gets in the store: the tag, or what `[image]` says, or the folder's own name in
    /// letters that engines take; with the processor behind it, where that is not the one of its lock.
    pub fn name(&self) -> Option<String> {
        let name = self.plain_name()?;
        Some(match self.spec().beside {
            Some(machine) => format!("{name}-{}", machine.debian()),
            None => name,
        })
    }

    fn plain_name(&self) -> Option<String> {
        if let Some(name) = &self.spec().image.name {
            return Some(name.clone());
        }
        match self {
            Self::Tag { tag, .. } if tag.contains(':') => Some(tag.clone()),
            Self::Tag { tag, .. } => Some(format!("{tag}:latest")),
            Self::Folder { folder, .. } => {
                let name = sconce_lock::image_name_of(&folder.file_name()?.to_string_lossy());
                // `torch` is `torch:latest`, which means another image.
                Some(if Spec::is_tag(&name) { format!("{name}-project") } else { name })
            }
        }
    }

    fn lock_path(&self) -> Option<PathBuf> {
        match self {
            Self::Folder { folder, spec } => Some(folder.join(lock_file(spec.beside))),
            Self::Tag { .. } => None,
        }
    }
}

/// What a project's lock is called: `sconce.lock`, or `sconce.arm64.lock` beside it.
fn lock_file(beside: Option<Machine>) -> String {
    match beside {
        Some(machine) => format!("sconce.{}.lock", machine.debian()),
        None => "sconce.lock".to_owned(),
    }
}

/// Whether a file of a project's folder is sconce's: what the project asks for, and its locks.
pub(crate) fn is_ours(name: &str) -> bool {
    let locks = [None, Some(Machine::X86_64), Some(Machine::Aarch64)];
    name == "sconce.toml" || locks.into_iter().any(|beside| name == lock_file(beside))
}

/// The key of the lock of a tag.
fn tag_key(tag: &str, spec: &Spec) -> Digest {
    match spec.beside {
        Some(machine) => Digest::of(format!("{tag} for {machine}").as_bytes()),
        None => Digest::of(tag.as_bytes()),
    }
}

impl Builder<'_> {
    /// The project for a processor: itself, where its lock is for that or would be; else with a lock beside it.
    ///
    /// # Errors
    /// Its lock can't be read.
    pub fn on(&self, project: Project, machine: Machine) -> Result<Project, Error> {
        let own = match self.existing_lock(&project)? {
            Some(lock) => Some(lock.facts.machine),
            None => project.spec().environment.platform.or_else(Machine::current),
        };
        Ok(if own == Some(machine) { project } else { project.beside(machine) })
    }

    /// The lock that a project has, if any, whether it still fits or not.
    pub fn existing_lock(&self, project: &Project) -> Result<Option<Lock>, Error> {
        let text = match project {
            Project::Folder { folder, .. } => {
                let path = folder.join(lock_file(project.spec().beside));
                if path.is_symlink() && !path.exists() {
                    // A link to nothing is not a lock; the next one takes its place.
                    return Ok(None);
                }
                let real = project.spec().leads.real(&path).unwrap_or_else(|| path.clone());
                match sconce_open::read_to_string_unfollowed(&real, LOCK_LIMIT) {
                    Err(error) if sconce_open::is_missing(&error) => return Ok(None),
                    // As it leads out, it is not of the project, and nobody was asked.
                    Ok(_) if !real.starts_with(folder) => {
                        let why = format!(
                            "it is a link to {}, out of the project's folder",
                            real.display()
                        );
                        return Err(at("read", &path)(std::io::Error::other(why)));
                    }
                    read => read.map_err(at("read", &path))?,
                }
            }
            Project::Tag { tag, spec } => return self.lock_of_tag(tag, spec),
        };
        Ok(Some(Lock::parse(&text)?))
    }

    /// The lock that a tag has in the store.
    fn lock_of_tag(&self, tag: &str, spec: &Spec) -> Result<Option<Lock>, Error> {
        let key = tag_key(tag, spec);
        let Some(bytes) = self.store.memo(TAG_LOCK, key)? else { return Ok(None) };
        Lock::parse(&String::from_utf8_lossy(&bytes)).map(Some).map_err(|source| {
            let path = self.store.memo_path(TAG_LOCK, key);
            Error::TagLock { tag: tag.to_owned(), path, source: Box::new(source) }
        })
    }

    /// The project's lock, as the policy has it; a new one is kept.
    ///
    /// # Errors
    /// The lock is not there or does not fit, and may not be written; a new one can't be made.
    pub fn lock(&self, project: &Project, host: &Host, policy: &Policy) -> Result<Locked, Error> {
        let kept = |lock| Locked { lock, explanation: None, changes: Vec::new() };
        let missing = || Error::Lock(sconce_lock::Error::LockMissing);
        let upgrade = match policy {
            Policy::Frozen => return self.existing_lock(project)?.ok_or_else(missing).map(kept),
            Policy::Locked => {
                let lock = self.existing_lock(project)?.ok_or_else(missing)?;
                lock.check_spec(project.spec())?;
                return Ok(kept(lock));
            }
            Policy::Update(upgrade) => upgrade,
        };
        let before = match (self.existing_lock(project), upgrade) {
            // A lock that can't be read is written anew where that was asked for.
            (Err(error), Upgrade::All) => {
                self.progress.note(&format!("the lock that is there is not used: {error}"));
                None
            }
            (before, _) => before?,
        };
        // Of an older sconce: what may be a token goes with the next writing, which is now.
        let bare = before.as_ref().and_then(Lock::without_queries);
        let before = match bare {
            Some(bare) if bare.check_spec(project.spec()).is_ok() => {
                match self.keep_lock(project, &bare) {
                    Err(error) if error.is_unwritable() => {}
                    kept => kept?,
                }
                Some(bare)
            }
            Some(bare) => Some(bare),
            None => before,
        };
        if *upgrade == Upgrade::Nothing
            && let Some(lock) = &before
        {
            match lock.check_spec(project.spec()) {
                Ok(()) => return Ok(kept(lock.clone())),
                Err(stale) => self.progress.note(&format!("locking again: {stale}")),
            }
        }
        if let Project::Folder { folder, spec } = project {
            self.say_what_is_read(folder, spec);
        }
        let locked = self.resolve(project, host, before.as_ref(), upgrade)?;
        self.keep_lock(project, &locked.lock)?;
        Ok(locked)
    }

    /// Says which file in a project's folder says what is needed, and which would but is not read.
    fn say_what_is_read(&self, folder: &Path, spec: &Spec) {
        if let Some(name) = Project::stand_in(folder) {
            self.progress.note(&format!(
                "{name} says what is needed, and the folder is /workspace inside; `sconce init` writes a sconce.toml that says so"
            ));
            if name == "pyproject.toml" && folder.join("uv.lock").exists() {
                self.progress.note(
                    "uv.lock is not read: `requirements = \"uv.lock\"` under [environment] in a sconce.toml takes the versions that it has",
                );
            }
            return;
        }
        let Requirements::List(list) = &spec.environment.requirements else { return };
        let unread = sconce_lock::project_file(folder).filter(|_| list.is_empty());
        let Some(ProjectFile { name, way }) = unread else { return };
        self.progress.note(&match way {
            None => format!(
                "{name} is not read, for the sconce.toml beside it names no requirements: `requirements = \"{name}\"` under [environment] takes them"
            ),
            // A Dockerfile beside it may be for something else.
            Some(_) if name != "pyproject.toml" => return,
            Some(way) => format!("{name} is not read: {way}"),
        });
    }

    /// A new lock for a project, which is not written; `before` is the one that is there.
    ///
    /// # Errors
    /// It can't be made.
    pub fn resolve(
        &self,
        project: &Project,
        host: &Host,
        before: Option<&Lock>,
        upgrade: &Upgrade,
    ) -> Result<Locked, Error> {
        let stage = self.progress.begin("locking", None);
        self.add_logins(project)?;
        let previous = Previous { lock: before, upgrade };
        let (lock, explanation) = waiting::told_of(self.progress, |told| {
            let mut world = World::new(self, project, told);
            sconce_lock::resolve(project.spec(), host, previous, &mut world)
        })?;
        stage.end(&format!(
            "{}{} Python and {} Debian packages",
            lock.facts.torch.as_ref().map_or(String::new(), |torch| {
                let cuda = torch.cuda.as_ref().map(|cuda| format!(", CUDA {cuda}"));
                format!("torch {}{}; ", torch.version, cuda.unwrap_or_default())
            }),
            lock.wheels.len(),
            lock.debs.len()
        ));
        let changes = before.map_or(Vec::new(), |before| sconce_lock::changes(before, &lock));
        Ok(Locked { lock, explanation: Some(explanation), changes })
    }

    /// Copies a wheel of a lock, which is in the store, to a folder.
    ///
    /// # Errors
    /// It is not in the store, or can't be written.
    pub fn export_wheel(&self, wheel: &Wheel, folder: &Path) -> Result<PathBuf, Error> {
        let blob = self.store.blob_path(wheel.sha256)?;
        let blob = blob.ok_or(sconce_store::Error::MissingBlob(wheel.sha256))?;
        let path = folder.join(&wheel.file);
        let write = || -> std::io::Result<()> {
            std::fs::create_dir_all(folder)?;
            let mut file = tempfile::Builder::new().prefix(".sconce.wheel").tempfile_in(folder)?;
            std::io::copy(&mut std::fs::File::open(&blob)?, &mut file)?;
            file.as_file().set_permissions(PermissionsExt::from_mode(0o644))?;
            file.persist(&path)?;
            Ok(())
        };
        write().map_err(at("write", &path))?;
        Ok(path)
    }

    /// Hands the client the logins of the indexes that hold the project's packages.
    fn add_logins(&self, project: &Project) -> Result<(), Error> {
        let env = |name: &str| std::env::var_os(name);
        let configured = sconce_fetch::indexes::configured(&env)?;
        logins::add(self.client, &configured, project.spec(), &env);
        Ok(())
    }

    /// Writes a project's lock to where it belongs.
    pub fn keep_lock(&self, project: &Project, lock: &Lock) -> Result<(), Error> {
        let text = lock.to_text();
        match (project.lock_path(), project) {
            (Some(path), _) => write_whole(&path, &text),
            (None, Project::Tag { tag, spec }) => {
                Ok(self.store.put_memo(TAG_LOCK, tag_key(tag, spec), text.as_bytes())?)
            }
            (None, Project::Folder { .. }) => Ok(()),
        }
    }

    /// Builds what isn't there, seals the lock if it had no seal, and names the image.
    pub fn ready(&self, project: &Project, lock: Lock, trees: Trees) -> Result<Ready, Error> {
        self.ready_under(&Policy::default(), project, lock, trees)
    }

    /// As [`Builder::ready`], but the lock gets no seal where the policy has it stay as it is.
    pub fn ready_under(
        &self,
        policy: &Policy,
        project: &Project,
        lock: Lock,
        trees: Trees,
    ) -> Result<Ready, Error> {
        self.ready_until(policy, project, lock, (trees, Until::Whole))
    }

    /// As [`Builder::ready_under`] with trees, but does not wait for what a first command can do without.
    pub fn startable(
        &self,
        policy: &Policy,
        project: &Project,
        lock: Lock,
    ) -> Result<Ready, Error> {
        self.ready_until(policy, project, lock, (Trees::All, Until::Startable))
    }

    fn ready_until(
        &self,
        policy: &Policy,
        project: &Project,
        lock: Lock,
        (trees, until): (Trees, Until),
    ) -> Result<Ready, Error> {
        self.add_logins(project)?;
        let builder = Builder { project: Some(&project.spec().leads), ..*self };
        let Made { environment, whole } = builder.environment_until(&lock, trees, until)?;
        let mut unsealed = None;
        // A lock that is taken as it is, though sconce.toml has changed since, stays as it is.
        let fits = lock.check_spec(project.spec());
        let lock = match lock.sealed {
            None if whole && fits.is_ok() && policy.writes() => {
                let sealed = seal(&lock, &environment);
                // A checkout that is there to be read works too: its lock says all but the seal.
                match self.keep_lock(project, &sealed) {
                    Err(error) if error.is_unwritable() => unsealed = Some(error.to_string()),
                    kept => kept?,
                }
                sealed
            }
            None if whole => {
                let kept = || "`--locked` and `--frozen` write nothing".to_owned();
                unsealed = Some(fits.err().map_or_else(kept, |stale| stale.to_string()));
                lock
            }
            _ => lock,
        };
        let image = match project {
            Project::Folder { folder, .. } => {
                self.app(&lock, &environment, &lock.app, folder, trees)?.image
            }
            Project::Tag { .. } => environment.image,
        };
        if whole && let Some(name) = project.name() {
            self.say_whose_name(project, &name, image)?;
            if self.store.names()?.get(&sconce_oci::name::plain_name(&name)) == Some(&image) {
                return Ok(Ready { lock, environment, image, whole });
            }
            self.store.put_name(&name, image)?;
            if let Some(error) = unsealed {
                self.progress.note(&format!("the lock stays without a seal: {error}"));
            }
        }
        Ok(Ready { lock, environment, image, whole })
    }
}

/// Writes a file of a project so that it is whole or as it was. `path` is absolute and its folder was
/// resolved before: no link on the way is followed. A link in its place is replaced: a project that was
/// cloned must not lead a write elsewhere.
///
/// # Errors
/// It can't be written.
pub fn write_whole(path: &Path, text: &str) -> Result<(), Error> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    let write = || -> std::io::Result<()> {
        let open = Folder::open_unfollowed(folder)?;
        let folder = sconce_open::held(&open);
        let path = folder.join(path.file_name().unwrap_or_default());
        let mut file = tempfile::Builder::new().prefix(".sconce.lock").tempfile_in(&folder)?;
        file.write_all(text.as_bytes())?;
        // A temporary file is its owner's alone; a lock is for the whole team.
        let before = std::fs::symlink_metadata(&path).ok().filter(std::fs::Metadata::is_file);
        let mode = before.map_or(0o644, |about| about.permissions().mode() & 0o777);
        file.as_file().set_permissions(PermissionsExt::from_mode(mode))?;
        file.as_file().sync_all()?;
        file.persist(&path)?;
        Ok(())
    };
    write().map_err(at("write", path))
}
