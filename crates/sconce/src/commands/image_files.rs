//! Images written as files: an OCI layout, or an archive for `docker load`.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use sconce_build::Progress;
use sconce_run::Interrupts;
use sconce_store::Image;

use crate::cli::Global;
use crate::commands::ps;
use crate::context::Context;
use crate::error::{Failure, Kind};

/// Where an image is written, and as what.
#[derive(Clone)]
pub enum ImageFile {
    /// A folder: an OCI layout.
    Layout(PathBuf),
    /// A file as `docker save` makes it.
    Archive(PathBuf),
}

impl std::str::FromStr for ImageFile {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            Some(("oci", path)) if !path.is_empty() => Ok(Self::Layout(path.into())),
            Some(("docker-archive", path)) if !path.is_empty() => Ok(Self::Archive(path.into())),
            _ => Err("write oci:DIR or docker-archive:FILE".into()),
        }
    }
}

impl ImageFile {
    /// Writes `image`, which engines will call `names`. Ctrl-C leaves nothing of it.
    pub fn write(
        &self,
        global: &Global,
        context: &Context,
        image: &Image,
        names: &[String],
    ) -> Result<(), Failure> {
        let (Self::Layout(path) | Self::Archive(path)) = self;
        let place = place(global, path)?;
        let interrupts = Interrupts::listen()?;
        let stage = context.display.begin("writing", Some(image.size));
        let written = |bytes| {
            stage.advance(bytes);
            match interrupts.came() {
                Some(_) => ControlFlow::Break(()),
                None => ControlFlow::Continue(()),
            }
        };
        match self {
            Self::Layout(_) => context.store.write_layout(image, names, &place, &written)?,
            Self::Archive(_) => {
                context.store.write_docker_archive(image, names, &place, &written)?;
            }
        }
        stage.end(&path.display().to_string());
        Ok(())
    }
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
