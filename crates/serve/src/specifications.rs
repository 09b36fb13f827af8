//! Images that are asked for before they are there: a tag that people know is locked and built, once,
//! however many ask for it meanwhile.
//!
//! A build costs time, network and disk, so it is bounded who may cause one, how many run, how many
//! requests wait for one, all of them and those of one client, how long it takes and how full the disk may be. A client that goes
//! away gives its place up. A build that it has begun goes on, so that the next one finds what was built, unless somebody
//! else waits for its place.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use sconce_blob::Digest;
use sconce_build::{Builder, Error as BuildError, Policy, Progress, Project, Trees};
use sconce_fetch::http::Client;
use sconce_lock::{Error as LockError, Host, Lock, Spec};
use sconce_store::Store;

use crate::clients::Client as Who;
use crate::error::Refusal;

/// Builds at a time: each keeps all cores and the disk busy.
const MAX_BUILDS: usize = 2;
/// Requests that may wait for builds.
const MAX_WAITING: usize = 128;
/// Those of one client.
const MAX_OF_ONE: usize = 32;
/// How often it is looked whether a client that waits is still there.
const LOOK: Duration = Duration::from_millis(500);
/// How long a build may go on that nobody waits for any more, where others wait for their turn.
const ABANDONED: Duration = Duration::from_secs(10);
/// How long a failure is answered without trying again.
const REMEMBERED: Duration = Duration::from_secs(60);
/// The most failures that are remembered.
const MAX_REMEMBERED: usize = 256;
/// How long the downloads of a build may take.
const MAX_TIME: Duration = Duration::from_secs(2 * 60 * 60);
/// Bytes that must be free for a build to begin: an image with CUDA takes 4 to 7 GB of wheels.
const MIN_FREE: u64 = 8 << 30;
/// Bytes of the stack of a build's thread, as that of a program's first one.
const STACK: usize = 8 << 20;

/// Which tags may be built for whoever asks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allowed {
    patterns: Vec<String>,
    /// Nothing is built, whatever was allowed.
    never: bool,
}

impl Allowed {
    /// From patterns: `torch` (any tag of it), `torch:2.15.0`, `torch:2.*`, `*`.
    #[must_use]
    pub fn new(patterns: Vec<String>) -> Self {
        Self { patterns, never: false }
    }

    /// Nothing at all: what is not there is built for nobody.
    #[must_use]
    pub fn nothing() -> Self {
        Self { patterns: Vec::new(), never: true }
    }

    /// Whether there is anything that may be built.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// Whether `NAME:TAG` may.
    #[must_use]
    pub fn holds(&self, name: &str) -> bool {
        let repository = name.split_once(':').map_or(name, |(repository, _)| repository);
        self.patterns.iter().any(|pattern| match pattern.strip_suffix('*') {
            Some(start) => name.starts_with(start),
            None => pattern == name || pattern == repository,
        })
    }
}

/// Builds what is asked for by specification.
pub struct Specifications<'a> {
    client: &'a Client,
    progress: &'a dyn Progress,
    threads: usize,
    host: Host,
    allowed: Allowed,
    min_free: u64,
    state: Mutex<State>,
    changed: Condvar,
}

/// Who asks for an image, and whether they are still there.
pub(crate) struct Asker<'a> {
    pub(crate) who: &'a Who,
    pub(crate) has_left: &'a dyn Fn() -> bool,
}

#[derive(Default)]
struct State {
    /// What is built, and for whom.
    building: HashMap<String, Who>,
    /// What is waited for, and by whom.
    waiting: Vec<(String, Who)>,
    /// Builds that end so that others may begin.
    ending: HashSet<String>,
    failed: HashMap<String, (Instant, Refusal)>,
}

impl State {
    /// Whether a request must wait: for the same image, or for its turn. A client that has something built lets others begin first.
    fn is_busy(&self, name: &str, who: &Who) -> bool {
        let has_one = |who: &Who| self.building.values().any(|other| other == who);
        self.building.len() >= MAX_BUILDS
            || self.building.contains_key(name)
            || (has_one(who)
                && self
                    .waiting
                    .iter()
                    .any(|(wanted, other)| !has_one(other) && !self.building.contains_key(wanted)))
    }

    fn enter(&mut self, name: &str, who: &Who) -> Result<(), Refusal> {
        if self.waiting.iter().filter(|(_, other)| other == who).count() >= MAX_OF_ONE {
            return Err(Refusal::too_many("too many of your requests wait for images to be built"));
        }
        if self.waiting.len() >= MAX_WAITING {
            return Err(Refusal::too_many("too many requests wait for images to be built"));
        }
        self.waiting.push((name.to_owned(), who.clone()));
        Ok(())
    }

    fn leave(&mut self, name: &str, who: &Who) {
        let mut waiting = self.waiting.iter();
        if let Some(at) = waiting.position(|(wanted, other)| wanted == name && other == who) {
            self.waiting.swap_remove(at);
        }
    }

    /// Whether a build that nobody waits for must end: more images are waited for than there are places, those that
    /// become free already counted. It is one of those that end from then on.
    fn must_end(&mut self, name: &str) -> bool {
        let wanted: HashSet<&String> = self.waiting.iter().map(|(wanted, _)| wanted).collect();
        if wanted.contains(&name.to_owned()) {
            return false;
        }
        let begin = wanted.iter().filter(|wanted| !self.building.contains_key(**wanted)).count();
        let free = (MAX_BUILDS + self.ending.len()).saturating_sub(self.building.len());
        begin > free && self.ending.insert(name.to_owned())
    }
}

/// For a client that is not there any more; nobody reads it, and nobody else is to be answered with it.
fn gone() -> Refusal {
    Refusal::new(499, "UNKNOWN", "the client has gone")
}

/// Why there is no image: what the client is told, and what whoever runs this is.
type Failed = (Refusal, Option<String>);

impl<'a> Specifications<'a> {
    /// Builds for the processor of `host`, what `allowed` holds.
    pub fn new(
        client: &'a Client,
        progress: &'a dyn Progress,
        threads: usize,
        host: Host,
        allowed: Allowed,
    ) -> Self {
        let (state, changed) = (Mutex::default(), Condvar::new());
        Self { client, progress, threads, host, allowed, min_free: MIN_FREE, state, changed }
    }

    /// Begins no build with fewer bytes free on the store's disk.
    #[must_use]
    pub fn with_min_free(self, bytes: u64) -> Self {
        Self { min_free: bytes, ..self }
    }

    /// The image of a tag, built if need be; `None` where it is not a tag that sconce knows.
    pub(crate) fn image(
        &self,
        store: &Store,
        name: &str,
        asker: &Asker<'_>,
    ) -> Option<Result<Digest, Failed>> {
        if !Spec::is_tag(name) {
            return None;
        }
        Some(self.known(store, name, asker))
    }

    fn known(&self, store: &Store, name: &str, asker: &Asker<'_>) -> Result<Digest, Failed> {
        if !self.allowed.holds(name) {
            let message = match self.allowed.never {
                true => format!(
                    "`{name}` is not here, and nothing is built here: `sconce serve` runs with --no-build"
                ),
                false => format!(
                    "`{name}` is not here, and is not built for whoever asks: `sconce serve --allow {name}` allows it"
                ),
            };
            return Err((Refusal::new(403, "DENIED", message), None));
        }
        let spec = Spec::from_tag(name).map_err(|error| {
            let hint = error.hint().map_or(String::new(), |hint| format!("; {hint}"));
            (Refusal::manifest_unknown(format!("{error}{hint}")), None)
        })?;
        let project = Project::Tag { tag: name.to_owned(), spec: Box::new(spec) };
        let building = self.turn(name, asker).map_err(|refusal| (refusal, None))?;
        // Whoever had it built meanwhile left it in the store, where this finds it at once.
        let built = self.build(store, &project, name, asker);
        if let Err((refusal, _)) = &built
            && refusal.status != gone().status
        {
            let mut state = self.state();
            state.failed.retain(|_, (since, _)| since.elapsed() < REMEMBERED);
            if state.failed.len() < MAX_REMEMBERED {
                state.failed.insert(name.to_owned(), (Instant::now(), refusal.clone()));
            }
        }
        drop(building);
        built
    }

    /// Waits until nobody builds the same, nor too many anything.
    fn turn<'s>(&'s self, name: &'s str, asker: &Asker<'_>) -> Result<Building<'s, 'a>, Refusal> {
        let mut state = self.state();
        state.enter(name, asker.who)?;
        let mut left = false;
        while !left && state.is_busy(name, asker.who) {
            let waited = self.changed.wait_timeout(state, LOOK);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
            left = (asker.has_left)();
        }
        state.leave(name, asker.who);
        if left {
            return Err(gone());
        }
        if let Some((since, refusal)) = state.failed.get(name)
            && since.elapsed() < REMEMBERED
        {
            return Err(refusal.clone());
        }
        state.building.insert(name.to_owned(), asker.who.clone());
        Ok(Building { all: self, name })
    }

    fn build(
        &self,
        store: &Store,
        project: &Project,
        name: &str,
        asker: &Asker<'_>,
    ) -> Result<Digest, Failed> {
        let internal = |why: String| (Refusal::internal(), Some(why));
        let disk =
            rustix::fs::statvfs(store.root()).map_err(|error| internal(error.to_string()))?;
        if disk.f_bavail.saturating_mul(disk.f_frsize) < self.min_free {
            let message = "the disk of this registry is too full to build images on";
            return Err((Refusal::new(403, "DENIED", message), Some(message.to_owned())));
        }
        let cancel = Arc::new(AtomicBool::new(false));
        let client = self.client.beside(Arc::clone(&cancel));
        let (done, wait) = channel();
        thread::scope(|scope| {
            let work = || {
                let built = self.ready(store, &client, project);
                // Nobody listens once it was joined.
                let _ = done.send(());
                built
            };
            let builder = thread::Builder::new().name("build".to_owned()).stack_size(STACK);
            let thread = builder
                .spawn_scoped(scope, work)
                .map_err(|error| internal(format!("no thread to build with: {error}")))?;
            let (begun, mut left) = (Instant::now(), None::<Instant>);
            let mut abandoned = false;
            while wait.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
                left = left.or_else(|| (asker.has_left)().then(Instant::now));
                abandoned |= left.is_some_and(|since| since.elapsed() > ABANDONED)
                    && self.state().must_end(name);
                if abandoned || begun.elapsed() > MAX_TIME {
                    cancel.store(true, Ordering::Relaxed);
                }
            }
            match thread.join() {
                Ok(Err(_)) if abandoned => Err((gone(), None)),
                Ok(built) => built.map_err(|error| told(&error)),
                Err(_) => Err(internal("the build panicked".to_owned())),
            }
        })
    }

    fn ready(
        &self,
        store: &Store,
        client: &Client,
        project: &Project,
    ) -> Result<Digest, BuildError> {
        let builder = self.builder(store, client, project);
        let locked = builder.lock(project, &self.host, &Policy::default())?;
        Ok(builder.ready(project, locked.lock, Trees::None)?.image)
    }

    fn builder<'b>(
        &'b self,
        store: &'b Store,
        client: &'b Client,
        project: &'b Project,
    ) -> Builder<'b> {
        Builder {
            store,
            client,
            progress: self.progress,
            threads: self.threads,
            project: None,
            mirror: project.spec().base.mirror.as_deref(),
        }
    }

    /// The lock that a tag has.
    pub(crate) fn lock(&self, store: &Store, name: &str) -> Result<Option<Lock>, BuildError> {
        if !Spec::is_tag(name) {
            return Ok(None);
        }
        let project = Project::Tag { tag: name.to_owned(), spec: Box::default() };
        self.builder(store, self.client, &project).existing_lock(&project)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A build under way, until it is dropped.
struct Building<'a, 'b> {
    all: &'a Specifications<'b>,
    name: &'a str,
}

impl Drop for Building<'_, '_> {
    fn drop(&mut self) {
        let mut state = self.all.state();
        state.building.remove(self.name);
        state.ending.remove(self.name);
        drop(state);
        self.all.changed.notify_all();
    }
}

/// What a client is told of a failed build: that nothing fits what it asked for, or only that it failed.
/// Addresses and paths of this machine are for its own people.
fn told(error: &BuildError) -> Failed {
    let mut words = error.to_string();
    if let Some(hint) = error.hint() {
        words = format!("{words}; {hint}");
    }
    match error {
        BuildError::Lock(
            LockError::NoTorch { .. }
            | LockError::Unsatisfiable { .. }
            | LockError::Misfit { .. }
            | LockError::Request { .. }
            | LockError::Tag { .. },
        ) => (Refusal::manifest_unknown(words), None),
        _ => (Refusal::internal(), Some(words)),
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn client(last: u8) -> Who {
        Who::at(IpAddr::from([192, 0, 2, last]))
    }

    /// Of two builds that nobody waits for one ends for one that is waited for, and both for two.
    #[test]
    fn no_more_builds_end_than_places_are_wanted() {
        let mut state = State::default();
        let (one, other) = (client(1), client(2));
        for name in ["a", "b"] {
            state.building.insert(name.to_owned(), one.clone());
        }
        assert!(!state.must_end("a") && !state.must_end("b"), "nobody waits");
        state.enter("c", &other).unwrap();
        // Somebody asks for it again: it goes on.
        state.enter("a", &other).unwrap();
        assert!(!state.must_end("a"));
        state.leave("a", &other);
        // Twice the same image is one place.
        state.enter("c", &one).unwrap();
        assert!(state.must_end("a") && !state.must_end("b"));
        state.enter("d", &other).unwrap();
        assert!(state.must_end("b"));
        // Where one has ended and the other place is taken, nothing more ends.
        for name in ["a", "b"] {
            state.building.remove(name);
            state.ending.remove(name);
        }
        state.leave("c", &other);
        state.leave("c", &one);
        state.building.insert("c".to_owned(), other.clone());
        state.building.insert("e".to_owned(), one.clone());
        state.leave("d", &other);
        assert!(!state.must_end("e"));
    }

    #[test]
    fn who_waits_and_for_what() {
        let mut state = State::default();
        let (one, other) = (client(1), client(2));
        assert!(!state.is_busy("a", &one));
        state.building.insert("a".to_owned(), one.clone());
        // The same image, whoever asks for it.
        assert!(state.is_busy("a", &other));
        // A client that has something built lets others begin, but not who waits for that very image.
        assert!(!state.is_busy("b", &one) && !state.is_busy("b", &other));
        state.enter("a", &other).unwrap();
        assert!(!state.is_busy("b", &one));
        state.enter("c", &other).unwrap();
        assert!(state.is_busy("b", &one) && !state.is_busy("c", &other));
        state.building.insert("c".to_owned(), other.clone());
        assert!(state.is_busy("d", &client(3)), "two are built");
    }

    /// Each request has a place of its own, and gives up no other's.
    #[test]
    fn places_are_counted_and_given_up_one_by_one() {
        let mut state = State::default();
        let (one, other) = (client(1), client(2));
        for _ in 0..MAX_OF_ONE {
            state.enter("a", &one).unwrap();
        }
        assert_eq!(state.enter("b", &one).unwrap_err().status, 429);
        state.enter("a", &other).unwrap();
        state.leave("a", &one);
        state.leave("b", &one);
        assert_eq!(state.waiting.len(), MAX_OF_ONE);
        state.enter("b", &one).unwrap();
        assert_eq!(state.enter("b", &one).unwrap_err().status, 429);
        for last in 3..=5 {
            for _ in 0..MAX_OF_ONE {
                let _ = state.enter("a", &client(last));
            }
        }
        assert_eq!(state.waiting.len(), MAX_WAITING);
        assert_eq!(state.enter("a", &other).unwrap_err().status, 429);
        for name in ["a", "b"] {
            for last in 1..=5 {
                (0..=MAX_OF_ONE).for_each(|_| state.leave(name, &client(last)));
            }
        }
        assert!(state.waiting.is_empty());
    }

    #[test]
    fn patterns() {
        let allowed = |patterns: &[&str], name| {
            Allowed::new(patterns.iter().map(|text| (*text).to_owned()).collect()).holds(name)
        };
        for (pattern, name, expected) in [
            ("torch", "torch:2.15.0", true),
            ("torch", "pytorch:2.15.0", false),
            ("torch:2.15.0", "torch:2.15.0", true),
            ("torch:2.15.0", "torch:2.15.1", false),
            ("torch:2.*", "torch:2.15.1", true),
            ("torch:2.*", "torch:1.13.1", false),
            ("*", "pytorch:2.1.0", true),
        ] {
            assert_eq!(allowed(&[pattern], name), expected, "{pattern} {name}");
        }
        assert!(!Allowed::nothing().holds("torch:2.15.0") && Allowed::nothing().is_empty());
        assert!(!allowed(&[], "torch:2.15.0") && allowed(&["a", "torch"], "torch:1"));
    }
}
