//! For tests: what a build has said, and a builder over a store of its own.

use std::sync::Mutex;

use sconce_store::Store;

use crate::builder::Builder;
use crate::progress::{Progress, Silent, Stage};

/// Keeps what it is told.
#[derive(Default)]
pub(crate) struct Heard {
    pub(crate) notes: Mutex<Vec<String>>,
    pub(crate) looked_for: Mutex<Vec<String>>,
}

impl Progress for Heard {
    fn begin(&self, _: &str, _: Option<u64>) -> Box<dyn Stage> {
        Box::new(Silent)
    }
    fn note(&self, text: &str) {
        self.notes.lock().unwrap().push(text.to_owned());
    }
    fn looking_for(&self, what: &str) {
        self.looked_for.lock().unwrap().push(what.to_owned());
    }
}

/// Runs `work` with a builder over a store of its own.
pub(crate) fn with<T>(progress: &dyn Progress, work: impl FnOnce(&Builder<'_>) -> T) -> T {
    let home = tempfile::tempdir().unwrap();
    let store = Store::open(home.path()).unwrap();
    let client = sconce_fetch::http::Client::new(sconce_fetch::http::Options::default());
    let (project, threads, mirror) = (None, 2, None);
    work(&Builder { project, store: &store, client: &client, progress, threads, mirror })
}
