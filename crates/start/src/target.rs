//! What a person names: the one place that decides it, and the words for it.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};

use sconce_blob::Digest;
use sconce_build::Project;
use sconce_lock::Spec;
use sconce_oci::Transport;
use sconce_oci::name::{is_digest, plain_name};
use sconce_registry::Reference;
use sconce_store::{Image, Store};

use crate::archive;
use crate::error::Error;

/// What was named.
#[derive(Debug, Clone)]
pub enum Target {
    /// A folder with a sconce.toml, or a file of requirements in its place.
    Folder(Project),
    /// A tag that people know: `torch:2.15.0`.
    Tag(Project),
    /// An image of the store, by name or digest; or nothing at all, which only the store knows.
    Image(String),
    /// An image of the store, by name or digest, and nothing else: `store:NAME`.
    Stored(String),
    /// An image in a registry: `HOST/NAME:TAG`, `docker://NAME`.
    Reference(String),
    /// An OCI layout: `oci:DIR[:TAG]`, or a folder with an `oci-layout`.
    Layout {
        /// The folder.
        path: PathBuf,
        /// Which of its images.
        tag: Option<String>,
    },
    /// An image in a tar: `docker-archive:FILE[:NAME[:TAG]]`, `oci-archive:FILE[:TAG]`, or a tar; `-` is
    /// standard input.
    Archive {
        /// The file, or `-`.
        path: PathBuf,
        /// Which of its images.
        tag: Option<String>,
    },
    /// Any other file or folder, which only `sconce inspect` reads. A name without a slash may still be
    /// that of an image: [`Target::stored`] looks.
    Path(PathBuf),
}

/// The kinds of [`Target`], for messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// [`Target::Folder`].
    Folder,
    /// [`Target::Tag`].
    Tag,
    /// [`Target::Image`], [`Target::Stored`].
    Image,
    /// [`Target::Reference`].
    Reference,
    /// [`Target::Layout`].
    Layout,
    /// [`Target::Archive`].
    Archive,
    /// [`Target::Path`].
    Path,
}

impl Kind {
    /// What can be locked and built.
    pub const BUILDABLE: &[Self] = &[Self::Folder, Self::Tag];
    /// What can be judged without reading its bytes.
    pub const JUDGED: &[Self] = &[Self::Folder, Self::Tag, Self::Image, Self::Reference];
    /// What can be started.
    pub const STARTABLE: &[Self] =
        &[Self::Folder, Self::Tag, Self::Image, Self::Reference, Self::Layout, Self::Archive];

    const fn words(self) -> &'static str {
        match self {
            Self::Folder => "a folder with a sconce.toml",
            Self::Tag => "a tag such as torch:2.15.0",
            Self::Image => "an image of the store",
            Self::Reference => "an image in a registry",
            Self::Layout => "an OCI layout",
            Self::Archive => "an image archive",
            Self::Path => "a file or folder",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.words())
    }
}

impl Target {
    /// What `text` means. A prefix decides; then a tag, a digest and a registry's name, which are [no paths](Self::is_name); then a
    /// project, a layout or a file at the path. What is left is for the store to know.
    ///
    /// # Errors
    /// A path at which there is nothing; a registry's name at which there is something; a project or a tag that can't be read.
    pub fn find(text: &str) -> Result<Self, Error> {
        if let Some((transport, rest)) = Transport::split(text) {
            return Self::at_place(text, transport, rest);
        }
        if text == archive::STANDARD_INPUT {
            return Ok(Self::Archive { path: text.into(), tag: None });
        }
        let path = Path::new(text);
        if Self::is_name(text) {
            if Spec::is_tag(text) && !Spec::is_ngc(text) {
                let spec = Box::new(Spec::from_tag(text)?);
                return Ok(Self::Tag(Project::Tag { tag: text.to_owned(), spec }));
            }
            if is_digest(text) {
                return Ok(Self::Image(text.to_owned()));
            }
            // `sconce verify-signature R` has looked in the registry: what lies here would be taken as verified.
            return match path.symlink_metadata() {
                Ok(_) => Err(Error::TwoMeanings(text.to_owned())),
                Err(_) => Ok(Self::Reference(text.to_owned())),
            };
        }
        if let Some(found) = Self::at(path)? {
            return Ok(found);
        }
        if !text.is_empty() && path.exists() {
            return Ok(Self::Path(path.to_owned()));
        }
        if text.starts_with(['.', '/']) {
            return Err(Error::NoPath(path.to_owned()));
        }
        Ok(Self::Image(text.to_owned()))
    }

    /// Whether `text` is a tag, a digest, or the name of an image in a registry, and so no path, whatever lies there: with
    /// `./` before it, it is one. A folder that was cloned or unpacked must not take the place of what people know by name.
    #[must_use]
    pub fn is_name(text: &str) -> bool {
        let is_place = text.starts_with(['.', '/']) || Transport::split(text).is_some();
        !is_place && (Spec::is_tag(text) || is_digest(text) || Reference::is_meant(text))
    }

    /// What `text` means to a command that takes these kinds.
    ///
    /// # Errors
    /// As [`Target::find`], and a target of another kind, with what to do instead.
    pub fn find_for(text: &str, command: &'static str, takes: &[Kind]) -> Result<Self, Error> {
        let mut found = Self::find(text)?;
        // What can be built is: NVIDIA's own image is meant where its name has `docker://` before it.
        let builds = takes.contains(&Kind::Folder);
        if matches!(found, Self::Reference(_)) && builds && Spec::is_ngc(text) {
            let spec = Box::new(Spec::from_tag(text)?);
            found = Self::Tag(Project::Tag { tag: text.to_owned(), spec });
        }
        let kind = found.kind();
        // A folder's name without a slash may be an image's; none begins with a dot.
        let nameable = !text.contains('/') && !text.starts_with('.');
        let bare = kind == Kind::Path && takes.contains(&Kind::Image) && nameable;
        if let Self::Path(path) = &found
            && path.is_dir()
            && takes.contains(&Kind::Folder)
            && !takes.contains(&kind)
            && (!bare || Project::is_in(path))
        {
            return Ok(Self::Folder(Project::folder(path)?));
        }
        if takes.contains(&kind) || bare {
            return Ok(found);
        }
        let hint = match &found {
            Self::Reference(_) | Self::Path(_) => {
                Some(format!("`sconce inspect {text}` says what it can run on"))
            }
            Self::Layout { .. } | Self::Archive { .. } => Some(format!(
                "`sconce inspect {text}` says what it can run on, `sconce run {text}` starts it"
            )),
            Self::Image(_) => {
                Some("`sconce init DIR` makes a project; tags look like torch:2.15.0".into())
            }
            Self::Folder(_) | Self::Tag(_) | Self::Stored(_) => None,
        };
        Err(Error::WrongTarget {
            command,
            takes: listed(takes),
            text: format!("`{text}`"),
            is: match &found {
                Self::Image(_) => "neither of them",
                _ => kind.words(),
            },
            hint,
        })
    }

    /// What a place means whose kind was said.
    fn at_place(text: &str, transport: Transport, rest: &str) -> Result<Self, Error> {
        let named = |what| match rest {
            "" => Err(Error::Nameless { text: text.to_owned(), what }),
            rest => Ok(rest),
        };
        match transport {
            Transport::Layout => {
                let (path, tag) = at_tag(named("folder")?);
                Ok(Self::Layout { path, tag })
            }
            Transport::Archive => {
                let (path, tag) = at_tag(named("file")?);
                Ok(Self::Archive { path, tag })
            }
            Transport::Store => Ok(Self::Stored(named("image")?.to_owned())),
            Transport::Registry => {
                Reference::parse(text)?;
                Ok(Self::Reference(text.to_owned()))
            }
            Transport::Folder => Err(Error::OfSkopeo(text.to_owned())),
        }
    }

    /// A project, layout or tar at `path`; nothing where there is something else or nothing.
    fn at(path: &Path) -> Result<Option<Self>, Error> {
        if Project::has_spec(path) {
            return Ok(Some(Self::Folder(Project::folder(path)?)));
        }
        if path.join("oci-layout").is_file() {
            return Ok(Some(Self::Layout { path: path.to_owned(), tag: None }));
        }
        if path.is_file() && is_tar(path) {
            return Ok(Some(Self::Archive { path: path.to_owned(), tag: None }));
        }
        Ok(None)
    }

    /// Which kind it is.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Folder(_) => Kind::Folder,
            Self::Tag(_) => Kind::Tag,
            Self::Image(_) | Self::Stored(_) => Kind::Image,
            Self::Reference(_) => Kind::Reference,
            Self::Layout { .. } => Kind::Layout,
            Self::Archive { .. } => Kind::Archive,
            Self::Path(_) => Kind::Path,
        }
    }

    /// What `image` is called where it was named so: the name that was written, the project's, or the only one that it
    /// has. Nothing where it has several and was named by digest or as a file: engines would tag it as something else.
    #[must_use]
    pub fn name_of(&self, image: &Image) -> Option<String> {
        let of_image = |name: &str| {
            let own = image.names.iter().find(|own| plain_name(own) == plain_name(name))?;
            Some(own.clone())
        };
        let written = match self {
            Self::Folder(project) | Self::Tag(project) => {
                project.name().and_then(|name| of_image(&name))
            }
            Self::Image(name) | Self::Stored(name) => of_image(name),
            Self::Path(path) => of_image(&path.to_string_lossy()),
            Self::Reference(text) => {
                let whole = || of_image(&Reference::parse(text).ok()?.to_string());
                of_image(text).or_else(whole)
            }
            // Of its images, the one of that whole name.
            Self::Archive { tag: Some(tag), .. } if tag.contains([':', '/']) => Some(tag.clone()),
            Self::Layout { .. } | Self::Archive { .. } => None,
        };
        written.or_else(|| match &image.names[..] {
            [] => self.project()?.name(),
            [only] => Some(only.clone()),
            _ => None,
        })
    }

    /// The project that it is, if it is one.
    #[must_use]
    pub const fn project(&self) -> Option<&Project> {
        match self {
            Self::Folder(project) | Self::Tag(project) => Some(project),
            _ => None,
        }
    }

    /// The project that it is.
    ///
    /// # Errors
    /// As [`Target::find_for`] for what can be built.
    pub fn find_project(text: &str, command: &'static str) -> Result<Project, Error> {
        match Self::find_for(text, command, Kind::BUILDABLE)? {
            Self::Folder(project) | Self::Tag(project) => Ok(project),
            _ => Err(Error::NotBuilt(text.to_owned())),
        }
    }

    /// The image of the store that it means as things are: one of that name or digest, or what a tag
    /// was built to before. Nothing where it has to be made or taken in first.
    ///
    /// # Errors
    /// There is no such image; with the nearest name.
    pub fn stored(&self, store: &Store) -> Result<Option<Image>, Error> {
        match self {
            Self::Stored(name) => match store.image_called(name) {
                Err(sconce_store::Error::NoImage { .. }) if is_pulled(store, name)? => {
                    Self::Reference(name.clone()).stored(store)
                }
                // What is built or pulled under that name is something else.
                Err(sconce_store::Error::NoImage { name, nearest })
                    if !name.starts_with("sha256:") =>
                {
                    Err(Error::NotStored { name, nearest })
                }
                found => Ok(Some(found?)),
            },
            Self::Image(name) => match store.image(name) {
                Ok(image) => Ok(Some(image)),
                Err(sconce_store::Error::NoImage { .. })
                    if let Some(digest) = by_digest(name, &store.names()?) =>
                {
                    Ok(Some(store.image(&digest.hex())?))
                }
                Err(sconce_store::Error::NoImage { .. }) if is_pulled(store, name)? => {
                    Self::Reference(name.clone()).stored(store)
                }
                // A name with an owner is Docker Hub's where nothing here has it.
                Err(sconce_store::Error::NoImage { .. })
                    if name.contains('/') && Reference::parse(name).is_ok() =>
                {
                    Ok(None)
                }
                // `torhc:2.15.0` is rather a tag with a slip than an image.
                Err(error @ sconce_store::Error::NoImage { .. }) => match Spec::from_tag(name) {
                    Err(tag) if name.contains(':') && !name.starts_with("sha256:") => {
                        Err(tag.into())
                    }
                    _ => Err(error.into()),
                },
                Err(error) => Err(error.into()),
            },
            Self::Path(path) => Ok(Some(store.image(&path.to_string_lossy())?)),
            Self::Tag(project) => match project
                .name()
                .map(|name| store.names().map(|names| names.get(&plain_name(&name)).copied()))
            {
                Some(found) => Ok(found?.map(|digest| store.image(&digest.hex())).transpose()?),
                None => Ok(None),
            },
            Self::Reference(text) => {
                // `lab/demo:1` is what was built under that name, or Docker Hub's that was pulled.
                let names = store.names()?;
                let name = Reference::parse(text)?.to_string();
                let found = names.get(&plain_name(text)).or_else(|| names.get(&name)).copied();
                let found = found.or_else(|| by_digest(text, &names));
                Ok(found.map(|digest| store.image(&digest.hex())).transpose()?)
            }
            Self::Folder(_) | Self::Layout { .. } | Self::Archive { .. } => Ok(None),
        }
    }
}

/// The image that `NAME@DIGEST` means of those that the store has by that name, under whatever tag.
fn by_digest(text: &str, names: &BTreeMap<String, Digest>) -> Option<Digest> {
    let digest = Reference::parse(text).ok()?.digest?;
    let mut names = names.iter().filter(|(_, image)| **image == digest);
    names.any(|(name, _)| has_name(text, name)).then_some(digest)
}

/// Whether `NAME@DIGEST` has the name that a name of the store has: the digest says which image it is, and no tag.
pub(crate) fn has_name(text: &str, name: &str) -> bool {
    let (Ok(meant), Ok(known)) = (Reference::parse(text), Reference::parse(name)) else {
        return false;
    };
    // `docker://NAME` is what Docker Hub has, and `lab/demo` may be anybody's here.
    let whole = || known.to_string() == name;
    meant.digest.is_some()
        && (&meant.host, &meant.repository) == (&known.host, &known.repository)
        && (!text.starts_with("docker://") || whole())
}

/// Whether an image was pulled under the whole of this name, `docker.io/library/alpine:latest` for
/// `alpine`, and none is called by the name itself.
pub(crate) fn is_pulled(store: &Store, name: &str) -> Result<bool, Error> {
    match Reference::parse(name) {
        Ok(reference) => {
            let names = store.names()?;
            Ok(!names.contains_key(&plain_name(name)) && names.contains_key(&reference.to_string()))
        }
        Err(_) => Ok(false),
    }
}

/// `PATH[:TAG]`.
fn at_tag(text: &str) -> (PathBuf, Option<String>) {
    match text.split_once(':') {
        Some((path, tag)) if !tag.is_empty() => (path.into(), Some(tag.to_owned())),
        Some((path, _)) => (path.into(), None),
        None => (text.into(), None),
    }
}

/// A file that ends in `.tar`, or has the mark of one (POSIX ustar, at byte 257).
fn is_tar(path: &Path) -> bool {
    if path.extension().is_some_and(|end| end == "tar") {
        return true;
    }
    let mut head = Vec::new();
    let read = sconce_open::file(path).and_then(|file| file.take(262).read_to_end(&mut head));
    read.is_ok() && head.get(257..262) == Some(b"ustar")
}

/// `a, b or c`.
fn listed(kinds: &[Kind]) -> String {
    let words: Vec<&str> = kinds.iter().map(|kind| kind.words()).collect();
    match words.split_last() {
        Some((last, [])) => (*last).to_owned(),
        Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
        None => String::new(),
    }
}

mod beside;
#[cfg(test)]
mod tests;
