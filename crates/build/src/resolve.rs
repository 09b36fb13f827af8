//! The world that a resolution asks: uv for Python packages, signed indexes for Debian's.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::mpsc::Sender;
use std::thread::JoinHandle;

use sconce_blob::Digest;
use sconce_debian::{Lists, Target};
use sconce_fetch::uv::{self, Uv};
use sconce_fetch::{indexes, pypi};
use sconce_lock::{
    Base, DebPin, DebianAnswer, DebianRequest, Flavour, FolderRequest, Generated, Index,
    IndexError, Leads, Libraries, ListedFile, Machine, Native, NumpyApi, Order, Outcome,
    OverlapQuestion, Overlaps, PythonAnswer, PythonPin, PythonRequest, Requirements, Sdist,
    SourceRequest, TakenNames, TorchNames, UvLockRequest, Wheel,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::builder::Builder;
use crate::debian_lists::{self, Ahead, Question};
use crate::download::keep_address;
use crate::error::Error;
use crate::image::architecture;
use crate::project::Project;
use crate::{generated, libraries, native, numpy, overlaps, parallel, torch_names};

/// The indexes of this machine's configuration.
pub(crate) struct World<'a> {
    builder: &'a Builder<'a>,
    leads: Leads,
    uv: Option<Uv>,
    /// Whether packages are asked for by name: then their pages in the index will be read.
    by_name: bool,
    /// A thread that asks pip which index it asks when none is configured.
    pip: Option<JoinHandle<Result<String, sconce_fetch::Error>>>,
    /// What pip said.
    pip_index: Option<String>,
    /// Debian's lists that were begun with.
    ahead: Option<Ahead>,
    /// Debian's lists that were read last.
    lists: Option<(Question, Lists)>,
    /// Who says what is looked for.
    told: Sender<String>,
}

impl World<'_> {
    /// Where the resolver found a wheel.
    fn address(&self, wheel: &Wheel) -> Option<String> {
        self.uv.as_ref()?.locations().get(&wheel.sha256).cloned()
    }
}

impl<'a> World<'a> {
    /// For a project; its folder is where relative paths in its requirements start.
    pub(crate) fn new(builder: &'a Builder<'a>, project: &Project, told: Sender<String>) -> Self {
        let leads = match project {
            Project::Folder { spec, .. } => spec.leads.clone(),
            Project::Tag { .. } => Leads::of(Path::new("/")),
        };
        let requirements = &project.spec().environment.requirements;
        let none = matches!(requirements, Requirements::List(list) if list.is_empty());
        Self {
            builder,
            leads,
            uv: None,
            by_name: !none,
            pip: None,
            pip_index: None,
            ahead: None,
            lists: None,
            told,
        }
    }

    /// Begins to ask pip which index it asks, where nothing else says it: its Python takes a while to start.
    fn begin_with_pip(&mut self) {
        let wanted = self.by_name && !self.builder.client.options().offline;
        if !wanted || self.pip.is_some() || self.pip_index.is_some() {
            return;
        }
        let configured = indexes::configured(&|name| std::env::var_os(name));
        if configured.is_ok_and(|configured| configured.default.is_none()) {
            let thread = std::thread::Builder::new().name("pip".to_owned());
            self.pip = thread.spawn(indexes::pip_default).ok();
        }
    }

    /// The default index: the configured one, else pip's own.
    fn default_index(&mut self) -> Result<String, sconce_fetch::Error> {
        let configured = indexes::configured(&|name| std::env::var_os(name))?;
        if let Some(index) = configured.default.or_else(|| self.pip_index.clone()) {
            return Ok(index);
        }
        let begun = self.pip.take().and_then(|thread| thread.join().ok());
        let index = begun.unwrap_or_else(indexes::pip_default)?;
        self.pip_index = Some(index.clone());
        Ok(index)
    }

    /// Debian's lists for a question: those that were read last, those that were begun with, or new ones.
    fn lists(&mut self, question: Question) -> Result<&Lists, Error> {
        let known = self.lists.take().filter(|(of, _)| *of == question);
        let lists = match known {
            Some((_, lists)) => lists,
            None => {
                let ahead = self.ahead.take().filter(|ahead| ahead.answers(&question));
                let ahead = ahead.map(|ahead| ahead.wait(self.builder.client)).transpose()?;
                let lists = match ahead.flatten() {
                    Some(lists) => lists,
                    None => debian_lists::load(self.builder.client, self.builder.store, &question)?,
                };
                say(self.builder, &lists);
                lists
            }
        };
        Ok(&self.lists.insert((question, lists)).1)
    }

    fn uv(&mut self) -> Result<&mut Uv, IndexError> {
        if self.uv.is_none() {
            let tools = self.builder.store.tools();
            let options = uv::Options {
                cache: tools.as_deref(),
                leads: &self.leads,
                offline: self.builder.client.options().offline,
                stop: self.builder.client.stop(),
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
        let base = self.default_index().map_err(IndexError::failed)?;
        let limit = std::env::var("UV_EXCLUDE_NEWER").ok();
        let pages =
            parallel::each("pages", PAGES, packages, |name| pypi::files(client, &base, name));
        let mut found = BTreeMap::new();
        for (name, page) in packages.iter().cloned().zip(pages) {
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
        self.begin_with_pip();
        let store = self.builder.store;
        let uv = self.uv()?;
        let answer = uv.python(request)?;
        let locations: Vec<_> = uv.locations().iter().collect();
        // A build that follows needs no second look-up.
        let kept = parallel::each("addresses", PAGES, &locations, |(digest, url)| {
            keep_address(store, **digest, url)
        });
        kept.into_iter().collect::<Result<(), _>>().map_err(IndexError::failed)?;
        Ok(answer)
    }

    fn source(&mut self, request: &SourceRequest<'_>) -> Result<Sdist, IndexError> {
        let builder = Builder { project: Some(&self.leads), ..*self.builder };
        builder.source(request).map_err(IndexError::failed)
    }

    fn folder(&mut self, request: &FolderRequest<'_>) -> Result<Sdist, IndexError> {
        let found =
            self.builder.folder(request.name, request.app, self.leads.folder(), request.container);
        found.map_err(IndexError::failed)
    }

    fn build(&mut self, order: &Order<'_>) -> Result<Outcome, IndexError> {
        let builder = Builder { project: Some(&self.leads), ..*self.builder };
        builder.wheel(order).map_err(IndexError::failed)
    }

    fn built(&mut self, wheel: &Wheel) -> Option<PathBuf> {
        // A store that does not say so fails at the next thing that is asked of it.
        self.builder.store.blob_path(wheel.sha256).ok().flatten()
    }

    fn native(&mut self, wheels: &[(Wheel, bool)]) -> Vec<Result<Native, String>> {
        let places: Vec<_> =
            wheels.iter().map(|(wheel, known)| (wheel, *known, self.address(wheel))).collect();
        let builder = self.builder;
        parallel::each("native", PAGES, &places, |(wheel, known, url)| match url {
            Some(url) => asked(builder, wheel, *known, url),
            None => Err("where it is is not known".to_owned()),
        })
    }

    fn libraries(&mut self, wheels: &[Wheel], code: bool) -> Vec<Result<Libraries, String>> {
        let places: Vec<_> = wheels.iter().map(|wheel| (wheel, self.address(wheel))).collect();
        let builder = self.builder;
        parallel::each("libraries", PAGES, &places, |(wheel, url)| {
            kept(builder, &format!("libraries {READING} {code}"), wheel, || {
                libraries::libraries(builder, wheel, code, url.as_deref())
            })
        })
    }

    fn taken_names(&mut self, wheels: &[(Wheel, bool)]) -> Vec<Result<Vec<TakenNames>, String>> {
        let places: Vec<_> =
            wheels.iter().map(|(wheel, known)| (wheel, *known, self.address(wheel))).collect();
        let builder = self.builder;
        parallel::each("names", PAGES, &places, |(wheel, known, url)| match url {
            Some(url) => kept(builder, &format!("names {READING}.1 {known}"), wheel, || {
                torch_names::taken(builder, wheel, *known, url)
            }),
            None => Err("where it is is not known".to_owned()),
        })
    }

    fn torch_names(&mut self, torch: &Wheel) -> Result<TorchNames, String> {
        let url = self.address(torch).ok_or("where it is is not known")?;
        let builder = self.builder;
        kept(builder, &format!("torch's names {READING}"), torch, || {
            torch_names::offered(builder, torch, &url)
        })
    }

    fn numpy(&mut self, wheels: &[Wheel]) -> Vec<Result<Option<NumpyApi>, String>> {
        let places: Vec<_> = wheels.iter().map(|wheel| (wheel, self.address(wheel))).collect();
        let builder = self.builder;
        parallel::each("numpy", PAGES, &places, |(wheel, url)| match url {
            Some(url) => kept(builder, &format!("numpy {READING}"), wheel, || {
                numpy::numpy(builder, wheel, url)
            }),
            None => Err("where it is is not known".to_owned()),
        })
    }

    fn generated(&mut self, wheels: &[Wheel]) -> Vec<Result<Vec<Generated>, String>> {
        let places: Vec<_> = wheels.iter().map(|wheel| (wheel, self.address(wheel))).collect();
        let builder = self.builder;
        parallel::each("generated", PAGES, &places, |(wheel, url)| match url {
            Some(url) => {
                kept(builder, "generated 1", wheel, || generated::generated(builder, wheel, url))
            }
            None => Err("where it is is not known".to_owned()),
        })
    }

    fn files(&mut self, wheel: &Wheel) -> Result<Vec<String>, String> {
        overlaps::files(self.builder, wheel, self.address(wheel).as_deref())
    }

    fn requires(&mut self, wheels: &[Wheel]) -> Vec<Result<Vec<String>, String>> {
        let places: Vec<_> = wheels.iter().map(|wheel| (wheel, self.address(wheel))).collect();
        let builder = self.builder;
        parallel::each("requires", PAGES, &places, |(wheel, url)| {
            overlaps::said(builder, wheel, url.as_deref(), "Requires-Dist:")
        })
    }

    fn extras(&mut self, wheels: &[Wheel]) -> Vec<Result<Vec<String>, String>> {
        let places: Vec<_> = wheels.iter().map(|wheel| (wheel, self.address(wheel))).collect();
        let builder = self.builder;
        parallel::each("extras", PAGES, &places, |(wheel, url)| {
            overlaps::said(builder, wheel, url.as_deref(), "Provides-Extra:")
        })
    }

    fn looking_for(&mut self, what: &str) {
        // Nobody listens any more only when the resolution is over.
        let _ = self.told.send(what.to_owned());
    }

    fn uv_lock(&mut self, request: &UvLockRequest<'_>) -> Result<String, IndexError> {
        self.uv()?.export(request)
    }

    fn standalone(
        &mut self,
        base: &'static Base,
        machine: Machine,
    ) -> Result<PythonPin, IndexError> {
        let builder = Builder { project: Some(&self.leads), ..*self.builder };
        builder.standalone(base, machine).map_err(IndexError::failed)
    }

    fn overlaps(&mut self, question: &OverlapQuestion<'_>) -> Overlaps {
        let places: Vec<_> =
            question.wheels.iter().map(|wheel| (wheel, self.address(wheel))).collect();
        overlaps::overlaps(self.builder, question, &places)
    }

    fn prefetch_debian(&mut self, request: &DebianRequest) {
        if !self.builder.client.options().offline {
            self.ahead = Ahead::begin(self.builder, question(request));
        }
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
        let lists = self.lists(question(request)).map_err(unfit)?;
        Ok(DebianAnswer { debs: pins(&roots, lists, target).map_err(unfit)? })
    }
}

/// The lists that a request is answered from.
fn question(request: &DebianRequest) -> Question {
    Question {
        release: request.base.release.clone(),
        arch: architecture(request.machine).to_owned(),
        mirror: request.mirror.clone(),
        allow_missing: request.allow_missing.clone(),
    }
}

/// Raised when the same wheel would answer otherwise: modules are read in another way.
const READING: u32 = 4;

/// The memo of what a wheel says about itself.
const NATIVE: &str = "native";

/// What a wheel says about itself: asked once.
fn asked(builder: &Builder<'_>, wheel: &Wheel, known: bool, url: &str) -> Result<Native, String> {
    kept(builder, &known.to_string(), wheel, || native::native(builder, wheel, known, url))
}

/// The answer to a question to a wheel, kept by its SHA-256.
fn kept<T: Serialize + DeserializeOwned>(
    builder: &Builder<'_>,
    question: &str,
    wheel: &Wheel,
    ask: impl FnOnce() -> Result<T, Error>,
) -> Result<T, String> {
    let key = Digest::of(format!("{} {question}", wheel.sha256).as_bytes());
    if let Ok(Some(bytes)) = builder.store.memo(NATIVE, key)
        && let Ok(known) = serde_json::from_slice(&bytes)
    {
        return Ok(known);
    }
    let found = ask().map_err(|error| overlaps::reason(&error))?;
    if let Ok(bytes) = serde_json::to_vec(&found) {
        builder.store.put_memo(NATIVE, key, &bytes).map_err(|error| error.to_string())?;
    }
    Ok(found)
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
    let question = Question {
        release: release.to_owned(),
        arch: arch.to_owned(),
        mirror: mirror.map(str::to_owned),
        allow_missing: allow_missing.to_owned(),
    };
    let lists = debian_lists::load(builder.client, builder.store, &question)?;
    say(builder, &lists);
    pins(roots, &lists, Target::new(release, arch)?)
}

/// Says what is not as good as it should be.
fn say(builder: &Builder<'_>, lists: &Lists) {
    lists.notices.iter().for_each(|notice| builder.progress.note(&notice.to_string()));
}

fn pins(roots: &[String], lists: &Lists, target: Target) -> Result<Vec<DebPin>, Error> {
    let omissions = sconce_debian::omissions();
    let pins = sconce_debian::resolve(roots, omissions, &lists.packages, target)?;
    let pin = |pin: sconce_debian::Pin| DebPin {
        name: pin.name,
        version: pin.version,
        arch: pin.architecture,
        path: pin.filename,
        size: pin.size,
        sha256: pin.sha256,
        index: pin.suite,
    };
    Ok(pins.into_iter().map(pin).collect())
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
