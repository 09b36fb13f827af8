//! What a lock needs and the store lacks: wheels, debs and a standalone Python.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use sconce_blob::Digest;
use sconce_fetch::downloads::{self, Wanted};
use sconce_fetch::http::to_be_kept;
use sconce_fetch::peers::Needed;
use sconce_fetch::{apt, indexes, pypi};
use sconce_lock::{DebPin, IndexKind, IndexRequest, Leads, Lock, Wheel};
use sconce_store::Store;

use crate::builder::Builder;
use crate::error::Error;
use crate::progress::{Progress, Stage};

/// The memo that leads from a wheel's digest to the address it was resolved to, where that is no secret.
const ADDRESS: &str = "address";

/// Files under way at a time.
const PARALLEL: usize = 8;

/// The same of Debian packages: most take longer to begin than to come.
const PARALLEL_DEBS: usize = 16;

impl Builder<'_> {
    /// Without a network everything must be here.
    ///
    /// # Errors
    /// Something is not; all of it is named.
    pub(crate) fn check_offline(&self, lock: &Lock) -> Result<(), Error> {
        if !self.client.options().offline {
            return Ok(());
        }
        let mut missing: Vec<String> =
            self.missing_wheels(lock)?.iter().map(|wheel| wheel.file.clone()).collect();
        let debs = self.missing_debs(lock)?;
        missing.extend(debs.iter().map(|deb| format!("{} {}", deb.name, deb.version)));
        missing.extend(self.wanted_python(lock)?.map(|file| file.name));
        match missing.is_empty() {
            true => Ok(()),
            false => Err(sconce_fetch::Error::Offline { missing }.into()),
        }
    }

    /// Downloads what the base is made of, and a standalone Python.
    pub(crate) fn fetch_base(&self, lock: &Lock, cancel: &AtomicBool) -> Result<(), Error> {
        let python = self.wanted_python(lock)?;
        let needed = |name: &str, digest, size| Needed { name: name.to_owned(), digest, size };
        let of_python = python.iter().filter_map(|f| Some(needed(&f.name, f.digest, f.size?)));
        let of_debs = self.missing_debs(lock)?.into_iter();
        let of_debs = of_debs.map(|deb| needed(&deb.name, deb.sha256, deb.size));
        self.take_from_peers(&of_python.chain(of_debs).collect::<Vec<_>>(), cancel, &|_| {})?;
        if let Some(file) = python
            && self.store.blob_path(file.digest)?.is_none()
        {
            let name = file.name.clone();
            self.download_as("downloading Python", &[file], 1, cancel, &|_| {})
                .map_err(|source| Error::PythonDownload { file: name, source: Box::new(source) })?;
        }
        let debs = self.wanted_debs(&self.missing_debs(lock)?)?;
        self.download_as("downloading debs", &debs, PARALLEL_DEBS, cancel, &|_| {})
    }

    fn missing_wheels<'a>(&self, lock: &'a Lock) -> Result<Vec<&'a Wheel>, Error> {
        Ok(self.store.missing(&lock.wheels, |wheel| wheel.sha256)?)
    }

    /// None where the layer of the base is there.
    fn missing_debs<'a>(&self, lock: &'a Lock) -> Result<Vec<&'a DebPin>, Error> {
        if self.remembered_base(lock)?.is_some() || self.unpacked_base(lock)?.is_some() {
            return Ok(Vec::new());
        }
        Ok(self.store.missing(&lock.debs, |deb| deb.sha256)?)
    }

    /// Downloads the wheels of a lock that are missing; `arrived` is told the file name of each.
    pub(crate) fn fetch_wheels(
        &self,
        lock: &Lock,
        cancel: &AtomicBool,
        arrived: &(dyn Fn(&str) + Sync),
    ) -> Result<(), Error> {
        // A file of unknown size is not taken from strangers: nothing bounds what they send.
        let needed = self.missing_wheels(lock)?.into_iter().filter_map(|wheel| {
            let (name, digest) = (wheel.file.clone(), wheel.sha256);
            Some(Needed { name, digest, size: wheel.size? })
        });
        self.take_from_peers(&needed.collect::<Vec<_>>(), cancel, arrived)?;
        let missing = self.missing_wheels(lock)?;
        if !missing.is_empty() {
            self.store.forget_retired()?;
        }
        let wanted = self.wanted_wheels(lock, &missing)?;
        let Err(error) = self.download_as("downloading", &wanted, PARALLEL, cancel, arrived) else {
            return Ok(());
        };
        // An address that was remembered is a hint: what the lock and the configuration say decides.
        let missing = self.store.missing(missing, |wheel| wheel.sha256)?;
        let mut remembered = false;
        for wheel in &missing {
            remembered |= self.store.memo(ADDRESS, wheel.sha256)?.is_some();
            self.store.forget_memo(ADDRESS, wheel.sha256)?;
        }
        if !remembered || cancel.load(Ordering::Relaxed) {
            return Err(error);
        }
        let mut again = self.wanted_wheels(lock, &missing)?;
        let before = |file: &Wanted| wanted.iter().any(|old| old.url == file.url);
        if again.iter().all(before) {
            return Err(error);
        }
        again = self.store.missing(again, |file| file.digest)?;
        self.download_as("downloading", &again, PARALLEL, cancel, arrived)
    }

    fn wanted_wheels(&self, lock: &Lock, wheels: &[&Wheel]) -> Result<Vec<Wanted>, Error> {
        let within = self.within()?;
        let one = |wheel: &&Wheel| {
            Ok(Wanted {
                within: within.clone(),
                name: wheel.file.clone(),
                url: self.wheel_url(lock, wheel)?,
                others: Vec::new(),
                digest: wheel.sha256,
                size: wheel.size,
            })
        };
        wheels.iter().map(one).collect()
    }

    /// Downloads Debian packages.
    pub(crate) fn download_debs(&self, pins: &[DebPin]) -> Result<(), Error> {
        let missing = self.store.missing(pins, |deb| deb.sha256)?;
        self.download_all(&self.wanted_debs(&missing)?)
    }

    fn wanted_debs(&self, debs: &[&DebPin]) -> Result<Vec<Wanted>, Error> {
        if debs.is_empty() {
            return Ok(Vec::new());
        }
        let mirrors = apt::mirrors(self.mirror, Path::new("/"))?;
        debs.iter()
            .map(|deb| {
                let mut urls = mirrors.urls(&deb.index, &deb.path).into_iter();
                Ok(Wanted {
                    within: None,
                    name: format!("{}_{}_{}.deb", deb.name, deb.version, deb.arch),
                    url: urls.next().ok_or(apt::Error::NoMirror)?,
                    others: urls.collect(),
                    digest: deb.sha256,
                    size: Some(deb.size),
                })
            })
            .collect()
    }

    /// Downloads files, drawn as one stage.
    pub(crate) fn download_all(&self, wanted: &[Wanted]) -> Result<(), Error> {
        self.download_as("downloading", wanted, PARALLEL, &AtomicBool::new(false), &|_| {})
    }

    fn download_as(
        &self,
        what: &str,
        wanted: &[Wanted],
        parallel: usize,
        cancel: &AtomicBool,
        arrived: &(dyn Fn(&str) + Sync),
    ) -> Result<(), Error> {
        if wanted.is_empty() {
            return Ok(());
        }
        let total: u64 = wanted.iter().filter_map(|file| file.size).sum();
        let stage = self.progress.begin(what, Some(total));
        let watch = Watch {
            progress: self.progress,
            stage: &*stage,
            said: Mutex::default(),
            cancel,
            arrived,
        };
        downloads::download_all(self.client, self.store, wanted, parallel, &watch)?;
        stage.end(&format!("{} files", wanted.len()));
        Ok(())
    }

    /// Takes from other machines what they have of these files.
    fn take_from_peers(
        &self,
        needed: &[Needed],
        cancel: &AtomicBool,
        arrived: &(dyn Fn(&str) + Sync),
    ) -> Result<(), Error> {
        let peers = &self.client.options().peers;
        if peers.is_empty() || needed.is_empty() {
            return Ok(());
        }
        let stage = self.progress.begin("asking peers", None);
        let (progress, said) = (self.progress, Mutex::default());
        let watch = Watch { progress, stage: &*stage, said, cancel, arrived };
        peers.take(self.store, needed, PARALLEL, &watch)?;
        let missing = self.store.missing(needed, |file| file.digest)?.len();
        stage.end(&format!("{} of {} files", needed.len() - missing, needed.len()));
        Ok(())
    }

    fn wheel_url(&self, lock: &Lock, wheel: &Wheel) -> Result<String, Error> {
        if let Some(url) = &wheel.url {
            return Ok(self.beneath_project(url));
        }
        if let Some(bytes) = self.store.memo(ADDRESS, wheel.sha256)? {
            return Ok(String::from_utf8_lossy(&bytes).into_owned());
        }
        let configured = indexes::configured(&|name| std::env::var_os(name))?;
        let row = lock
            .indexes
            .iter()
            .find(|row| row.kind == IndexKind::Python && row.name == wheel.index);
        let base = match row.and_then(|row| row.url.clone()) {
            Some(url) if IndexRequest { name: String::new(), url: url.clone() }.is_folder() => {
                let folder = self.beneath_project(&url);
                let found = self.in_find_links(&[folder], wheel);
                return found.ok_or_else(|| {
                    sconce_fetch::Error::NotInIndex {
                        index: url,
                        file: wheel.file.clone(),
                        digest: wheel.sha256,
                        other: None,
                    }
                    .into()
                });
            }
            Some(url) => url,
            None => configured.default_index()?,
        };
        let url = match pypi::find(self.client, &base, &wheel.file, wheel.sha256) {
            Ok(url) => url,
            Err(error) => match self.in_find_links(&configured.find_links, wheel) {
                Some(url) => url,
                None => return Err(error.into()),
            },
        };
        keep_address(self.store, wheel.sha256, &url)?;
        Ok(url)
    }

    /// An address of a lock: a path counts from the folder of the project.
    fn beneath_project(&self, url: &str) -> String {
        self.project.map_or_else(|| Leads::default().address(url), |leads| leads.address(url))
    }

    /// Where wheels of this machine may be: in the project's folder, where its trust reaches, and where a
    /// person has configured wheels.
    fn within(&self) -> Result<Option<Vec<PathBuf>>, Error> {
        let Some(mut places) = self.project.and_then(Leads::allowed) else { return Ok(None) };
        let configured = indexes::configured(&|name| std::env::var_os(name))?;
        let extra = configured.extra.into_iter().map(|(_, address)| address);
        let configured = configured.default.into_iter().chain(extra).chain(configured.find_links);
        places.extend(configured.filter_map(|address| Leads::default().local(&address)));
        Ok(Some(places))
    }

    /// A flat collection of files that has the wheel. One that can't be read has nothing: the
    /// index's own answer is the error that counts.
    fn in_find_links(&self, places: &[String], wheel: &Wheel) -> Option<String> {
        places.iter().find_map(|place| {
            let listed = pypi::find_links(self.client, place).ok()?;
            listed.into_iter().find(|file| file.name == wheel.file).map(|file| file.url)
        })
    }
}

/// Remembers where a file is. Many may be able to read a store: an address that is good with a token alone is looked up
/// again.
pub(crate) fn keep_address(
    store: &Store,
    file: Digest,
    url: &str,
) -> Result<(), sconce_store::Error> {
    match to_be_kept(url) {
        Some(url) => store.put_memo(ADDRESS, file, url.as_bytes()),
        None => Ok(()),
    }
}

struct Watch<'a> {
    progress: &'a dyn Progress,
    stage: &'a dyn Stage,
    said: Mutex<Option<String>>,
    cancel: &'a AtomicBool,
    arrived: &'a (dyn Fn(&str) + Sync),
}

impl downloads::DownloadProgress for Watch<'_> {
    fn started(&self, _: &str, have: u64, _: Option<u64>) {
        self.stage.advance(have);
    }

    fn advanced(&self, _: &str, bytes: u64) {
        self.stage.advance(bytes);
    }

    fn is_cancelled(&self) -> bool {
        self.cancel.load(Ordering::Relaxed)
    }

    fn restarted(&self, _: &str, _: u64) {}

    fn finished(&self, name: &str) {
        (self.arrived)(name);
    }

    fn retrying(&self, name: &str, why: &sconce_fetch::Error) {
        // One trouble with a server meets all files at once: it is said once.
        let words = why.to_string();
        let mut said = self.said.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if said.as_ref() != Some(&words) {
            let about = sconce_fetch::about(name, why);
            self.progress.note(&format!("{about}; trying again"));
            *said = Some(words);
        }
    }
}
