//! What a lock needs and the store lacks: wheels and debs, in one go.

use std::path::Path;
use std::sync::Mutex;

use sconce_fetch::downloads::{self, Wanted};
use sconce_fetch::{apt, indexes, pypi};
use sconce_lock::{DebPin, IndexKind, Lock, Wheel};

use crate::builder::Builder;
use crate::error::Error;
use crate::progress::Progress;

/// The memo that leads from a wheel's digest to the address it was resolved to.
pub(crate) const URL: &str = "url";

/// Files under way at a time.
const PARALLEL: usize = 8;

impl Builder<'_> {
    /// Downloads what is missing of a lock: its wheels, and its debs unless their layer is there.
    pub(crate) fn download(&self, lock: &Lock) -> Result<(), Error> {
        let mut wanted = Vec::new();
        let missing: Vec<&Wheel> = lock
            .wheels
            .iter()
            .filter(|wheel| self.store.blob_path(wheel.sha256).is_none())
            .collect();
        let offline = self.client.options().offline;
        let mut names: Vec<String> = missing.iter().map(|wheel| wheel.file.clone()).collect();
        let debs: Vec<&DebPin> = match self.remembered_base(lock)? {
            Some(_) => Vec::new(),
            None => {
                let here = |digest| self.store.blob_path(digest).is_some();
                lock.debs.iter().filter(|deb| !here(deb.sha256)).collect()
            }
        };
        names.extend(debs.iter().map(|deb| format!("{} {}", deb.name, deb.version)));
        if offline && !names.is_empty() {
            return Err(sconce_fetch::Error::Offline { missing: names }.into());
        }
        for wheel in missing {
            wanted.push(Wanted {
                name: wheel.file.clone(),
                url: self.wheel_url(lock, wheel)?,
                digest: wheel.sha256,
                size: wheel.size,
            });
        }
        wanted.extend(self.wanted_debs(&debs)?);
        self.download_all(&wanted)
    }

    /// Downloads Debian packages.
    pub(crate) fn download_debs(&self, pins: &[DebPin]) -> Result<(), Error> {
        let missing: Vec<_> =
            pins.iter().filter(|deb| self.store.blob_path(deb.sha256).is_none()).collect();
        self.download_all(&self.wanted_debs(&missing)?)
    }

    fn wanted_debs(&self, debs: &[&DebPin]) -> Result<Vec<Wanted>, Error> {
        if debs.is_empty() {
            return Ok(Vec::new());
        }
        let mirrors = apt::mirrors(self.mirror, Path::new("/"))?;
        debs.iter()
            .map(|deb| {
                let url = mirrors.urls(&deb.index, &deb.path).into_iter().next();
                Ok(Wanted {
                    name: format!("{}_{}_{}.deb", deb.name, deb.version, deb.arch),
                    url: url.ok_or(apt::Error::NoMirror)?,
                    digest: deb.sha256,
                    size: Some(deb.size),
                })
            })
            .collect()
    }

    /// Downloads files, drawn as one stage.
    pub(crate) fn download_all(&self, wanted: &[Wanted]) -> Result<(), Error> {
        if wanted.is_empty() {
            return Ok(());
        }
        let total: u64 = wanted.iter().filter_map(|file| file.size).sum();
        self.progress.begin("downloading", Some(total));
        let stage = InStage { progress: self.progress, said: Mutex::default() };
        downloads::download_all(self.client, self.store, wanted, PARALLEL, &stage)?;
        self.progress.end(&format!("{} files", wanted.len()));
        Ok(())
    }

    fn wheel_url(&self, lock: &Lock, wheel: &Wheel) -> Result<String, Error> {
        if let Some(bytes) = self.store.memo(URL, wheel.sha256)? {
            return Ok(String::from_utf8_lossy(&bytes).into_owned());
        }
        if let Some(url) = &wheel.url {
            return Ok(url.clone());
        }
        let configured = indexes::configured(&|name| std::env::var_os(name))?;
        let row = lock
            .indexes
            .iter()
            .find(|row| row.kind == IndexKind::Python && row.name == wheel.index);
        let base = match row.and_then(|row| row.url.clone()) {
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
        self.store.put_memo(URL, wheel.sha256, url.as_bytes())?;
        Ok(url)
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

struct InStage<'a> {
    progress: &'a dyn Progress,
    said: Mutex<Option<String>>,
}

impl downloads::DownloadProgress for InStage<'_> {
    fn started(&self, _: &str, have: u64, _: Option<u64>) {
        self.progress.advance(have);
    }

    fn advanced(&self, _: &str, bytes: u64) {
        self.progress.advance(bytes);
    }

    fn restarted(&self, _: &str, _: u64) {}

    fn finished(&self, _: &str) {}

    fn retrying(&self, name: &str, why: &sconce_fetch::Error) {
        // One trouble with a server meets all files at once: it is said once.
        let words = why.to_string();
        let mut said = self.said.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if said.as_ref() != Some(&words) {
            self.progress.note(&format!("{name}: {words}; trying again"));
            *said = Some(words);
        }
    }
}
