//! Images written as files: an OCI layout, or an archive for `docker load`, which may go to standard output.

use std::fs::File;
use std::io::BufWriter;
use std::ops::ControlFlow;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use sconce_build::Progress;
use sconce_oci::Transport;
use sconce_oci::name::{check_image_name, is_tag};
use sconce_run::Interrupts;
use sconce_store::{Image, LayoutOut, LayoutWriter};

use crate::cli::Global;
use crate::commands::ps;
use crate::context::Context;
use crate::error::{Failure, Kind};

/// Where an image is written, and as what.
#[derive(Clone)]
pub enum ImageFile {
    /// A folder: an OCI layout.
    Layout(PathBuf),
    /// A file as `docker save` makes it, which is an OCI layout in a tar as well.
    Archive(PathBuf),
    /// The same over standard output.
    Stream,
}

/// A place for an image and the tag that it gets there, with which it is added to a layout that is there.
#[derive(Clone)]
pub struct Output {
    pub file: ImageFile,
    pub tag: Option<String>,
}

impl std::str::FromStr for Output {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (file, tag) = match Transport::split(text) {
            Some((Transport::Layout, rest)) => {
                let (path, tag) = layout_and_tag(rest);
                let path = Some(path).filter(|path| !path.is_empty());
                (path.map(ImageFile::layout), tag.map(str::to_owned))
            }
            Some((Transport::Archive, rest)) => match archive_and_name(text, rest)? {
                ("-", _) => {
                    let what = "`sconce copy NAME docker-archive:-` writes to standard output";
                    return Err(what.into());
                }
                (path, name) => {
                    let path = Some(path).filter(|path| !path.is_empty());
                    (path.map(|path| ImageFile::Archive(path.into())), name)
                }
            },
            _ => (None, None),
        };
        let file = file.ok_or("write oci:DIR[:TAG] or docker-archive:FILE[:NAME[:TAG]]")?;
        Ok(Self { file, tag })
    }
}

/// `DIR[:TAG]`, behind `oci:`.
pub fn layout_and_tag(rest: &str) -> (&str, Option<&str>) {
    match rest.split_once(':') {
        Some((path, "")) => (path, None),
        Some((path, tag)) => (path, Some(tag)),
        None => (rest, None),
    }
}

/// `FILE[:NAME[:TAG]]` behind `docker-archive:`, `FILE[:TAG]` behind `oci-archive:`, as skopeo has them: the file, and what the
/// image is called in it, in words for [`tagged`].
///
/// # Errors
/// It can't be called so, in words.
pub fn archive_and_name<'a>(
    text: &str,
    rest: &'a str,
) -> Result<(&'a str, Option<String>), String> {
    let (path, name) = layout_and_tag(rest);
    let Some(name) = name else { return Ok((path, None)) };
    if !text.starts_with("docker-archive:") && is_tag(name) {
        return Ok((path, Some(name.to_owned())));
    }
    check_image_name(name).map_err(|why| format!("`{name}` behind the file {why}"))?;
    // A name without a tag means its latest, and would be taken for a tag.
    let last = name.rsplit_once('/').map_or(name, |(_, last)| last);
    match last.contains(':') {
        true => Ok((path, Some(name.to_owned()))),
        false => Ok((path, Some(format!("{name}:latest")))),
    }
}

/// `tag`, as the name of an image that is otherwise called `name`; it may be a whole name itself.
pub fn tagged(tag: &str, name: Option<String>) -> String {
    if tag.contains([':', '/']) {
        return tag.to_owned();
    }
    let name = name.unwrap_or_else(|| "image".to_owned());
    // Its tag, where it has one, goes: a colon before a slash is that of a host's port.
    let repository = name.rsplit_once(':').filter(|(_, tag)| !tag.contains('/'));
    let repository = repository.map_or(name.as_str(), |(repository, _)| repository);
    format!("{repository}:{tag}")
}

impl ImageFile {
    fn layout(path: &str) -> Self {
        Self::Layout(path.into())
    }

    /// Writes `image`, which engines will call `names`; into a layout as `out` has it. Ctrl-C leaves nothing of it in a folder
    /// or file.
    pub fn write(
        &self,
        global: &Global,
        context: &Context,
        image: &Image,
        names: &[String],
        out: LayoutOut,
    ) -> Result<(), Failure> {
        let interrupts = Interrupts::listen()?;
        let stage = context.display.begin("writing", Some(image.size));
        let written = |bytes| {
            stage.advance(bytes);
            match interrupts.came() {
                Some(_) => ControlFlow::Break(()),
                None => ControlFlow::Continue(()),
            }
        };
        let store = &context.store;
        match self {
            Self::Layout(path) => {
                let place = place(global, path)?;
                let wrote = store.put_layout(image, names, &place, out, &written);
                wrote.map_err(|error| hinted(error, &place, path))?;
                stage.end(&path.display().to_string());
            }
            Self::Archive(path) => {
                let place = place(global, path)?;
                store.write_docker_archive(image, names, &place, &written)?;
                stage.end(&path.display().to_string());
            }
            Self::Stream => {
                // The handle of the standard library looks for line ends.
                let out = std::io::stdout().as_fd().try_clone_to_owned();
                let out = out.map_err(|error| {
                    Failure::new(Kind::Storage, format!("can't write to standard output: {error}"))
                })?;
                let mut out = BufWriter::with_capacity(1 << 20, File::from(out));
                store.send_docker_archive(image, names, &mut out, &written)?;
                stage.end("standard output");
            }
        }
        Ok(())
    }
}

/// Says that a layout lists more than the image, where it does: other tools refuse to guess which is meant.
pub fn note_beside(context: &Context, image: &Image, to: &ImageFile) -> Result<(), Failure> {
    let beside = context.store.beside(image.manifest)?.len();
    if beside > 0 && matches!(to, ImageFile::Layout(_)) {
        let files = if beside == 1 { "1 artifact" } else { &format!("{beside} artifacts") };
        context.display.note(&format!(
            "the layout lists {files} besides the image: other tools need the image's tag; --image-only leaves them out"
        ));
    }
    Ok(())
}

/// A failure to write a layout: to one that is there, an image is added by its tag alone.
fn hinted(error: sconce_store::Error, place: &Path, path: &Path) -> Failure {
    let is_layout =
        matches!(error, sconce_store::Error::Exists(_)) && place.join("oci-layout").is_file();
    let failure = Failure::from(error);
    match is_layout {
        true => failure.hint(format!(
            "`oci:{}:TAG` adds to the layout that is there, beside its other images",
            path.display()
        )),
        false => failure,
    }
}

/// Writes a layout: `work` is handed it, with other images in it where `beside` says so, and puts what it has to.
/// Ctrl-C leaves nothing of it.
pub fn layout<T>(
    global: &Global,
    context: &Context,
    path: &Path,
    beside: bool,
    work: impl FnOnce(LayoutWriter<'_>) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let place = place(global, path)?;
    let interrupts = Interrupts::listen()?;
    let stage = context.display.begin("copying", None);
    let written = |bytes| {
        stage.advance(bytes);
        match interrupts.came() {
            Some(_) => ControlFlow::Break(()),
            None => ControlFlow::Continue(()),
        }
    };
    let begun = LayoutWriter::begin(&place, beside, &written);
    let done = work(begun.map_err(|error| hinted(error, &place, path))?)?;
    stage.end(&path.display().to_string());
    Ok(done)
}

/// `path` with no link in its folder. A link in a volume is refused: a container made it.
fn place(global: &Global, path: &Path) -> Result<PathBuf, Failure> {
    // Without a last part, as `..`, it can't be made; the store says so.
    let Some(name) = path.file_name() else { return Ok(path.to_owned()) };
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    let real = sconce_run::reach(folder, &ps::writable_volumes(global)?).map_err(|error| {
        let what = format!("can't write to {}: {error}", folder.display());
        Failure::new(Kind::Storage, what)
    })?;
    Ok(real.join(name))
}
