//! The world that a resolution asks: uv for Python packages, signed indexes for Debian's.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::SystemTime;

use sconce_blob::Digest;
use sconce_debian::{Mirrors, Target};
use sconce_fetch::uv::{self, Uv};
use sconce_fetch::{apt, indexes, pypi};
use sconce_lock::{
    Base, DebPin, DebianAnswer, DebianRequest, Flavour, FolderRequest, Index, IndexError,
    ListedFile, Machine, Native, Order, Outcome, OverlapQuestion, Overlaps, PythonAnswer,
    PythonPin, PythonRequest, Sdist, SourceRequest, UvLockRequest, Wheel,
};

use crate::builder::Builder;
use crate::contents;
use crate::download::URL;
use crate::error::Error;
use crate::image::architecture;
use crate::native;
use crate::project::Project;

/// The indexes of this machine's configuration.
pub(crate) struct World<'a> {
    builder: &'a Builder<'a>,
    folder: PathBuf,
    uv: Option<Uv>,
}

impl World<'_> {
    /// Where the resolver found a wheel.
    fn address(&self, wheel: &Wheel) -> Option<String> {
        self.uv.as_ref()?.locations().get(&wheel.sha256).cloned()
    }
}

impl<'a> World<'a> {
    /// For a project; its folder is where relative paths in its requirements start.
    pub(crate) fn new(builder: &'a Builder<'a>, project: &Project) -> Self {
        let folder = match project {
            Project::Folder { folder, .. } => folder.clone(),
            Project::Tag { .. } => PathBuf::from("/"),
        };
        Self { builder, folder, uv: None }
    }

    fn uv(&mut self) -> Result<&mut Uv, IndexError> {
        if self.uv.is_none() {
            let options = uv::Options {
                cache: &self.builder.store.root().join("tools"),
                folder: &self.folder,
                offline: self.builder.client.options().offline,
            };
            let found = Uv::find(options, &mut |text| self.builder.progress.note(text));
            self.uv = Some(found.map_err(IndexError::failed)?);
        }
        self.uv.as_mut().ok_or_else(|| IndexError::NoSolution { words: String::new() })
    }
}

/// Pages of an index under way at a time.
const PAGES: usize = 8;

impl Index for World<'_> {
    fn releases(
        &mut self,
        packages: &[String],
    ) -> Result<BTreeMap<String, Vec<ListedFile>>, IndexError> {
        let client = self.builder.client;
        // uv answers from its cache without a network; there is no such cache for pages.
        if client.options().offline {
            return Ok(BTreeMap::new());
        }
        let configured = indexes::configured(&|name| std::env::var_os(name));
        let base = configured.and_then(|configured| configured.default_index());
        let base = base.map_err(IndexError::failed)?;
        let limit = std::env::var("UV_EXCLUDE_NEWER").ok();
        let (next, pages) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
        std::thread::scope(|scope| {
            for _ in 0..PAGES.min(packages.len()) {
                scope.spawn(|| {
                    while let Some(name) = packages.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let page = pypi::files(client, &base, name);
                        let mut pages = pages.lock().unwrap_or_else(|held| held.into_inner());
                        pages.insert(name.clone(), page);
                    }
                });
            }
        });
        let mut found = BTreeMap::new();
        for (name, page) in pages.into_inner().unwrap_or_else(|held| held.into_inner()) {
            match page {
                Ok(files) => {
                    let files = files.into_iter().filter(|file| !too_new(file, limit.as_deref()));
                    found.insert(name, files.map(listed).collect());
                }
                // uv found the package all the same: it is on another index.
                Err(sconce_fetch::Error::Status { status: 404 | 403 | 410, .. }) => {}
                Err(error) => return Err(IndexError::failed(error)),
            }
        }
        Ok(found)
    }

    fn python(&mut self, request: &PythonRequest) -> Result<PythonAnswer, IndexError> {
        let uv = self.uv()?;
        let answer = uv.python(request)?;
        let locations: Vec<_> =
            uv.locations().iter().map(|(digest, url)| (*digest, url.clone())).collect();
        // A build that follows needs no second look-up.
        for (digest, url) in locations {
            self.builder.store.put_memo(URL, digest, url.as_bytes()).map_err(IndexError::failed)?;
        }
        Ok(answer)
    }

    fn source(&mut self, request: &SourceRequest<'_>) -> Result<Sdist, IndexError> {
        let builder = Builder { project: Some(&self.folder), ..*self.builder };
        builder.source(request).map_err(IndexError::failed)
    }

    fn folder(&mut self, request: &FolderRequest<'_>) -> Result<Sdist, IndexError> {
        let found = self.builder.folder(request.name, request.app, &self.folder, request.container);
        found.map_err(IndexError::failed)
    }

    fn build(&mut self, order: &Order<'_>) -> Result<Outcome, IndexError> {
        let builder = Builder { project: Some(&self.folder), ..*self.builder };
        builder.wheel(order).map_err(IndexError::failed)
    }

    fn built(&mut self, wheel: &Wheel) -> Option<PathBuf> {
        self.builder.store.blob_path(wheel.sha256)
    }

    fn native(&mut self, wheels: &[(Wheel, bool)]) -> Vec<Result<Native, String>> {
        let places: Vec<_> =
            wheels.iter().map(|(wheel, known)| (wheel, *known, self.address(wheel))).collect();
        let (next, found) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
        let builder = self.builder;
        std::thread::scope(|scope| {
            for _ in 0..PAGES.min(places.len()) {
                scope.spawn(|| {
                    loop {
                        let at = next.fetch_add(1, Ordering::Relaxed);
                        let Some((wheel, known, url)) = places.get(at) else { break };
                        let answer = match url {
                            Some(url) => asked(builder, wheel, *known, url),
                            None => Err("where it is is not known".to_owned()),
                        };
                        found.lock().unwrap_or_else(|held| held.into_inner()).insert(at, answer);
                    }
                });
            }
        });
        found.into_inner().unwrap_or_else(|held| held.into_inner()).into_values().collect()
    }

    fn uv_lock(&mut self, request: &UvLockRequest<'_>) -> Result<String, IndexError> {
        self.uv()?.export(request)
    }

    fn standalone(
        &mut self,
        base: &'static Base,
        machine: Machine,
    ) -> Result<PythonPin, IndexError> {
        let builder = Builder { project: Some(&self.folder), ..*self.builder };
        builder.standalone(base, machine).map_err(IndexError::failed)
    }

    fn overlaps(&mut self, question: &OverlapQuestion<'_>) -> Overlaps {
        let places: Vec<_> =
            question.wheels.iter().map(|wheel| (wheel, self.address(wheel))).collect();
        contents::overlaps(self.builder, question, &places)
    }

    fn debian(&mut self, request: &DebianRequest) -> Result<DebianAnswer, IndexError> {
        let target = Target::new(&request.base.release, architecture(request.machine))
            .map_err(IndexError::failed)?;
        let flavour = match (request.flavour, request.torch) {
            (Flavour::Runtime, false) => "tools",
            (flavour, _) => flavour.as_str(),
        };
        let own_python = request.base.standalone.is_none();
        let mut roots =
            sconce_debian::roots(flavour, target, own_python).map_err(IndexError::failed)?;
        roots.extend(request.packages.iter().cloned());
        roots.sort();
        roots.dedup();
        let mirror = request.mirror.as_deref();
        let debs = debian_pins(
            self.builder,
            &request.base.release,
            architecture(request.machine),
            &roots,
            mirror,
            &request.allow_missing,
        );
        Ok(DebianAnswer { debs: debs.map_err(unfit)? })
    }
}

/// The memo of what a wheel says about itself.
const NATIVE: &str = "native";

/// What a wheel says about itself: asked once.
fn asked(builder: &Builder<'_>, wheel: &Wheel, known: bool, url: &str) -> Result<Native, String> {
    let key = Digest::of(format!("{} {known}", wheel.sha256).as_bytes());
    if let Ok(Some(bytes)) = builder.store.memo(NATIVE, key)
        && let Ok(native) = serde_json::from_slice(&bytes)
    {
        return Ok(native);
    }
    let native = native::native(builder.client, url, known).map_err(|error| error.to_string())?;
    if let Ok(bytes) = serde_json::to_vec(&native) {
        builder.store.put_memo(NATIVE, key, &bytes).map_err(|error| error.to_string())?;
    }
    Ok(native)
}

/// Whether uv passes a file over because of UV_EXCLUDE_NEWER: a day, or a time in UTC.
fn too_new(file: &pypi::Listed, limit: Option<&str>) -> bool {
    let (Some(uploaded), Some(limit)) = (file.uploaded.as_deref(), limit) else { return false };
    let end = match limit.len() {
        10 => 10,
        _ if limit.ends_with('Z') => 19,
        _ => return false,
    };
    uploaded.get(..end) > limit.get(..end)
}

fn listed(file: pypi::Listed) -> ListedFile {
    let pypi::Listed { name, uploaded, requires_python, yanked, .. } = file;
    ListedFile { name, uploaded, requires_python, yanked }
}

/// The packages that `roots` need, from the signed lists of a release.
pub(crate) fn debian_pins(
    builder: &Builder<'_>,
    release: &str,
    arch: &str,
    roots: &[String],
    mirror: Option<&str>,
    allow_missing: &[String],
) -> Result<Vec<DebPin>, Error> {
    let target = Target::new(release, arch)?;
    let mirrors = apt::mirrors(mirror, Path::new("/"))?;
    let mirrors = Mirrors { allow_missing: allow_missing.to_owned(), ..mirrors };
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let now = now.map_or(0, |time| time.as_secs());
    let lists = mirrors.load(target, now, builder.client)?;
    for notice in &lists.notices {
        builder.progress.note(&notice.to_string());
    }
    let omissions = sconce_debian::omissions();
    let pins = sconce_debian::resolve(roots, omissions, &lists.packages, target)?;
    Ok(pins
        .into_iter()
        .map(|pin| DebPin {
            name: pin.name,
            version: pin.version,
            arch: pin.architecture,
            path: pin.filename,
            size: pin.size,
            sha256: pin.sha256,
            index: pin.suite,
        })
        .collect())
}

/// A set that can't be had is an answer; what keeps from asking is a failure.
fn unfit(error: Error) -> IndexError {
    use sconce_debian::Error as E;
    match error {
        Error::Debian(
            error @ (E::UnknownPackage { .. }
            | E::PackageName { .. }
            | E::Unsatisfied { .. }
            | E::Conflict { .. }),
        ) => {
            let hint = error.hint().map(|hint| format!(" ({hint})")).unwrap_or_default();
            IndexError::NoSolution { words: format!("{error}{hint}") }
        }
        error => IndexError::failed(error),
    }
}
