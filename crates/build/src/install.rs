//! The project itself, installed: its folder is packed as a source distribution, its wheel built in a container,
//! and that wheel is a layer between the environment and the app.

use std::collections::BTreeMap;
use std::fs::File;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;

use sconce_blob::Digest;
use sconce_layer::Entry;
use sconce_lock::{App, Facts, Lock, Order, Outcome, OwnProject, PROJECT, Sdist};

use crate::app;
use crate::builder::{Builder, NamedLayer, Trees};
use crate::error::{Error, at};
use crate::later::Blobs;
use crate::wheels::wheel_plans;

/// The one folder at the top of a source distribution (PEP 625).
const TOP: &str = "project";

impl Builder<'_> {
    /// Packs a project's folder and reads what it says of its build.
    pub(crate) fn folder(
        &self,
        name: &str,
        app: &App,
        folder: &Path,
        container: &Lock,
    ) -> Result<Sdist, Error> {
        let file = OwnProject::file_of(name);
        let (sha256, _) = self.pack(&file, sources(app, folder)?)?;
        self.look(&file, sha256, PROJECT.into(), container)
    }

    /// The layers of a project's own wheel, built of `sources`.
    pub(crate) fn own_wheel(
        &self,
        lock: &Lock,
        project: &OwnProject,
        sources: Vec<Entry>,
        trees: Trees,
    ) -> Result<Vec<NamedLayer>, Error> {
        let (sha256, size) = self.pack(&OwnProject::file_of(&project.name), sources)?;
        let source = project.source(sha256, size);
        let container = source.container(lock);
        let order = Order { source: &source, version: None, container: &container, requires: None };
        let Outcome::Wheel { wheel, path, .. } = self.wheel(&order)? else {
            return Err(Error::Source { file: source.file, why: "its build gave no wheel".into() });
        };
        let opened = File::open(&path).map_err(at("open", &path))?;
        let wheels = [sconce_layer::Wheel::open(&wheel.file, wheel.sha256, Arc::new(opened))?];
        let planned = wheel_plans(lock, &wheels)?;
        // What it has of GPU code is judged by itself: it may well have none beside torch.
        let facts = Facts { torch: None, ..lock.facts.clone() };
        self.wheel_layers(&facts, &planned.layers, (trees, Blobs::Now), &BTreeMap::new())
    }

    /// A source distribution of these files, in the store.
    fn pack(&self, file: &str, entries: Vec<Entry>) -> Result<(Digest, u64), Error> {
        let mut blob = self.store.create_blob()?;
        let threads = NonZeroUsize::new(self.threads).unwrap_or(NonZeroUsize::MIN);
        let made = sconce_layer::plain(entries, &mut blob, None, threads, &())?;
        blob.commit(Some((made.digest, file)))?;
        Ok((made.digest, made.size))
    }
}

/// All files of a project's folder that are not left out of its app: what its build may read.
pub(crate) fn sources(app: &App, folder: &Path) -> Result<Vec<Entry>, Error> {
    let whole = App { include: vec![".".into()], workdir: format!("/{TOP}"), ..app.clone() };
    app::entries(&whole, folder)
}
