//! What `diff` and `sbom` look at: a lock, or an image of the store and what is installed in it.

use std::path::Path;

use sconce_audit::{Contents, LOCK_FILE, LayerSize, Said};
use sconce_build::{Progress, Project};
use sconce_debian::Deb;
use sconce_inspect::packages::{Declared, Installed, installed};
use sconce_inspect::{Subject, Tree};
use sconce_lock::Lock;
use sconce_oci::Config;
use sconce_start::Target;
use sconce_store::Image;

use crate::cli::Global;
use crate::commands::paths;
use crate::context::Context;
use crate::error::{Failure, Kind};

/// No lock is larger, bytes.
const MAX_LOCK: u64 = 16 << 20;
/// Standard input.
const STANDARD_INPUT: &str = "-";

/// What was found.
pub enum Found {
    /// A lock.
    Lock(Box<Lock>),
    /// An image.
    Image(Box<Built>),
}

/// An image of the store.
pub struct Built {
    pub image: Image,
    pub installed: Installed,
    /// Its processor, as locks name it.
    platform: Option<String>,
    /// What each layer is called.
    layers: Vec<String>,
    /// Its Debian release: its number and its code name.
    pub release: Option<(String, String)>,
}

/// What a person means by `text`.
pub fn find(global: &Global, text: &str) -> Result<Found, Failure> {
    if text == STANDARD_INPUT {
        let read = sconce_open::bounded(std::io::stdin().lock(), MAX_LOCK);
        let bytes = read.map_err(|error| unread(Path::new("standard input"), &error))?;
        return lock_of(&String::from_utf8_lossy(&bytes));
    }
    let named = paths::target(text)?;
    let path = Path::new(&*named);
    let is_file = !Target::is_name(text) && !path.is_dir() && path.exists();
    match Target::find(&named)? {
        Target::Archive { .. } | Target::Layout { .. } => Err(Failure::new(
            Kind::Usage,
            format!("`{text}` is an image in a file, and only those of the store are compared and listed"),
        )
        .hint(format!("`sconce pull {}` takes it in", pullable(text)))),
        // `sconce.lock`, `<(git show HEAD:sconce.lock)`.
        _ if is_file => {
            let text = paths::while_reading(path, || sconce_open::read_resolved(path, MAX_LOCK));
            lock_of(&text.map_err(|error| unread(path, &error))?)
        }
        Target::Folder(project) => locked(&Context::open(global)?, text, &project),
        Target::Path(folder) if folder.join("sconce.lock").symlink_metadata().is_ok() => {
            let path = folder.join("sconce.lock");
            let text = sconce_open::read_to_string(&path, MAX_LOCK);
            lock_of(&text.map_err(|error| unread(&path, &error))?)
        }
        target => {
            let context = Context::open(global)?;
            if let Target::Tag(project) = &target
                && let Some(lock) = context.builder(None).existing_lock(project)?
            {
                return Ok(Found::Lock(Box::new(lock)));
            }
            context.say_hidden(&target, &named)?;
            let hint = "name a lock, a folder with one, or an image that `sconce images` lists";
            let image = target.stored(&context.store);
            let image = image.map_err(|error| Failure::from(error).or_hint(hint))?;
            let Some(image) = image else {
                let what = format!("there is neither a lock nor an image of `{text}` here");
                let how = match target {
                    Target::Tag(_) => format!("`sconce lock {text}` makes its lock"),
                    _ => format!("`sconce pull {text}` takes the image in"),
                };
                return Err(Failure::new(Kind::Usage, what).hint(how));
            };
            built(&context, image)
        }
    }
}

fn pullable(text: &str) -> String {
    match (text.contains(':'), Path::new(text).is_dir()) {
        (true, _) => text.to_owned(),
        (_, true) => format!("oci:{text}"),
        _ => format!("docker-archive:{text}"),
    }
}

fn unread(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(Kind::Storage, format!("can't read {}: {error}", path.display()))
}

fn lock_of(text: &str) -> Result<Found, Failure> {
    Ok(Found::Lock(Box::new(Lock::parse(text)?)))
}

/// The lock of a project. One that is not there is no answer: 1 would be one.
fn locked(context: &Context, text: &str, project: &Project) -> Result<Found, Failure> {
    let Some(lock) = context.builder(None).existing_lock(project)? else {
        let hint = format!("`sconce lock {}` makes one", crate::trust::quoted(Path::new(text)));
        return Err(Failure::new(Kind::Usage, format!("`{text}` has no sconce.lock")).hint(hint));
    };
    if lock.check_spec(project.spec()).is_err() {
        context.display.note(&format!(
            "{text}: the project was changed after it was locked, and this is of the lock as it is"
        ));
    }
    Ok(Found::Lock(Box::new(lock)))
}

fn built(context: &Context, image: Image) -> Result<Found, Failure> {
    let bytes = context.store.config(&image)?;
    let damaged = |why| Failure::new(Kind::Integrity, format!("the image's configuration: {why}"));
    let config = Config::parse(&bytes).map_err(damaged)?;
    let trees = sconce_build::extract(&context.store, &image, context.threads, &context.display)?;
    let tree = Tree::layers(&trees)?;
    let mut installed = installed(&tree);
    let troubles = tree.troubles().iter().filter(|_| tree.is_cut());
    installed.unread.extend(troubles.map(|trouble| format!("{} {}", trouble.path, trouble.why)));
    let mut machines = sconce_facts::Machine::ALL.into_iter();
    let platform = match machines.find(|one| one.debian() == config.platform()) {
        Some(machine) => Some(machine.as_str().to_owned()),
        None => Some(config.platform()).filter(|platform| !platform.is_empty()),
    };
    let layers = names_of_layers(&bytes, image.layers.len());
    let release = release(&tree);
    Ok(Found::Image(Box::new(Built { image, installed, platform, layers, release })))
}

/// What each layer was made by, where the configuration says it of each (sconce's name for a layer); else its place.
fn names_of_layers(config: &[u8], count: usize) -> Vec<String> {
    let config: serde_json::Value = serde_json::from_slice(config).unwrap_or_default();
    let history = config["history"].as_array();
    let rows = history.into_iter().flatten().filter(|row| row["empty_layer"] != true);
    let names: Vec<&str> = rows.filter_map(|row| row["created_by"].as_str()).collect();
    let plain = |name: &&str| name.len() <= 60 && name.chars().all(|c| c.is_ascii_graphic());
    match names.len() == count && names.iter().all(plain) {
        true => names.into_iter().map(str::to_owned).collect(),
        false => (1..=count).map(|at| format!("layer {at}")).collect(),
    }
}

/// The number and the code name of a Debian release (os-release(5)).
fn release(tree: &Tree) -> Option<(String, String)> {
    let files = ["etc/os-release", "usr/lib/os-release"];
    let text = files.into_iter().find_map(|file| tree.text(file, 64 << 10))?;
    let value = |key: &str| {
        let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='))?;
        let value = value.trim().trim_matches(['"', '\'']);
        let plain = value.len() <= 40 && value.chars().all(|c| c.is_ascii_graphic());
        (plain && !value.is_empty()).then(|| value.to_owned())
    };
    (value("ID")? == "debian").then(|| value("VERSION_ID").zip(value("VERSION_CODENAME")))?
}

impl Found {
    /// What is in it, to be compared.
    pub fn contents(&self, name: &str) -> Contents {
        match self {
            Self::Lock(lock) => Contents::of_lock(name, lock),
            Self::Image(built) => {
                let layers = built.image.layers.iter().zip(&built.layers);
                let layers = layers.map(|(layer, name)| LayerSize {
                    name: name.clone(),
                    diff_id: layer.diff_id,
                    size: layer.size,
                });
                Contents::of_image(
                    name,
                    built.image.manifest,
                    &built.installed,
                    &built.image.labels,
                    built.platform.as_deref(),
                    layers.collect(),
                )
            }
        }
    }
}

/// The lock that is kept beside an image, if it is the one that the image itself says it was built from. Anybody may have put
/// another there.
pub fn lock_beside(context: &Context, image: &Image) -> Result<Option<Lock>, Failure> {
    for beside in context.store.beside(image.manifest)? {
        let Some(artifact) = beside.about(image.manifest) else { continue };
        let is_lock = artifact.layers.iter().any(|file| file.media_type == LOCK_FILE);
        let texts = beside.files.iter().filter(|_| is_lock);
        let mut locks = texts.filter_map(|text| Lock::parse(text).ok());
        let label = image.labels.get("dev.sconce.lock");
        let own = locks.find(|lock| label == Some(&lock.digest().to_string()));
        if own.is_some() {
            return Ok(own);
        }
    }
    Ok(None)
}

/// What the packages of a lock say of themselves, as far as they are in the store. One that can't be read says nothing.
pub fn said(context: &Context, lock: &Lock) -> Result<Said, Failure> {
    let mut said = Said::new();
    for wheel in &lock.wheels {
        let Some(path) = context.store.blob_path(wheel.sha256)? else { continue };
        let tree = Subject::wheels(&[(wheel.file.clone(), path)], "site-packages");
        let found = tree.map(|tree| installed(&tree).packages).unwrap_or_default();
        let own = found.into_iter().find(|one| one.name == wheel.name);
        said.extend(own.map(|one| (wheel.sha256, one)));
    }
    for deb in &lock.debs {
        let Some(path) = context.store.blob_path(deb.sha256)? else { continue };
        let Ok(file) = std::fs::File::open(path) else { continue };
        let control = Deb::open(&file).and_then(|deb| deb.control());
        let own = control.ok().and_then(|one| Declared::of_stanza(&one.stanza.to_text()));
        let own = own.filter(|one| one.name == deb.name && one.version == deb.version);
        said.extend(own.map(|one| (deb.sha256, one)));
    }
    Ok(said)
}
