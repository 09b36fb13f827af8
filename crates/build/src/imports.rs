//! The import check: whether packages with native code can be imported, beside torch where there is one. Each is imported once, in
//! a container of the image without GPU and network, beside the first run of a set of wheels and debs; what came of
//! it is remembered for that set.
//!
//! The facts vouch for torch and what torch pins; of everything else only an import shows whether it fits. An
//! import that fails for want of a GPU says nothing of the package.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::Duration;

use sconce_blob::{Digest, Hasher};
use sconce_facts::Machine;
use sconce_lock::{Lock, Wheel};
use sconce_run::{Container, Network, Volume};
use sconce_store::Store;
use serde::{Deserialize, Serialize};

use crate::builder::Builder;
use crate::error::{Error, at};
use crate::trees::scratch;
use crate::venv::PREFIX;

mod libraries;

/// The memo that leads from a set to the answers, JSON: `{"torchaudio": {"outcome": "failed", "error": "…"}}`.
const MEMO: &str = "imports";

/// Raised when the same set comes to be asked in another way.
const RECIPE: &[u8] = b"sconce imports 3\n";

/// The program that imports, inside.
const PROGRAM: &str = include_str!("imports/imports.py");

/// Where the program and its list lie inside, and the file of its answers.
const WORK: &str = "/run/sconce";
const RESULTS: &str = "/run/sconce-results";

/// How long one import may take. vllm takes 20 s on two cores.
const SECONDS: u64 = 120;

/// The most that is read of the answers, bytes.
const MOST: u64 = 4 << 20;

/// The longest error that is kept of a package, characters.
const LONGEST: usize = 300;

/// How many libraries that are not there are named.
const MOST_LIBRARIES: usize = 20;

/// How many packages are named in messages.
const NAMED: usize = 3;

/// How long a check that was told to stop is waited for.
const STOP: Duration = Duration::from_secs(2);

/// What is to be imported of a lock, and what is known of it.
#[derive(Debug, Clone)]
pub struct Imports {
    key: Digest,
    torch: Option<String>,
    machine: Machine,
    packages: Vec<(String, String)>,
    answers: BTreeMap<String, Answer>,
}

/// What came of an import.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Answer {
    outcome: Outcome,
    error: String,
    /// The libraries that are not there: where that is the error, or what was imported printed so.
    #[serde(default)]
    libraries: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Outcome {
    Imported,
    /// An exception.
    Failed,
    /// The process did.
    Ended,
    /// It took too long.
    Late,
    /// There is no module to import.
    Nothing,
}

/// What an answer means.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Fits,
    /// It is imported, and printed that parts of it lack these libraries.
    Lacks(Vec<String>),
    /// It can't be imported; the error, and the libraries that are not there.
    Fails(String, Vec<String>),
    /// Can't tell because.
    Unknown(String),
}

impl Answer {
    fn verdict(&self) -> Verdict {
        let error = self.error.as_str();
        let unknown = |why: String| Verdict::Unknown(why);
        match self.outcome {
            Outcome::Imported => match libraries::that_debian_may_have(&self.libraries) {
                none if none.is_empty() => Verdict::Fits,
                libraries => Verdict::Lacks(libraries),
            },
            Outcome::Nothing => Verdict::Fits,
            Outcome::Late => unknown(format!("the import was not done after {SECONDS} s")),
            _ if error.starts_with("torch itself: ") => unknown(format!("{error} (torch)")),
            // The kernel's way to end what uses too much memory.
            Outcome::Ended if error.starts_with("signal 9:") => unknown("it was killed".into()),
            Outcome::Failed | Outcome::Ended => match sconce_facts::import_wants(error) {
                Some(wants) => unknown(format!("it wants {wants}")),
                None if error.starts_with("SystemExit") => unknown(error.to_owned()),
                None => Verdict::Fails(error.to_owned(), self.libraries.clone()),
            },
        }
    }
}

impl Builder<'_> {
    /// What is to be imported of a lock; `None` where nothing in it has native code but torch.
    ///
    /// # Errors
    /// The store can't be read.
    pub fn imports(&self, lock: &Lock) -> Result<Option<Imports>, Error> {
        let native = lock.wheels.iter().filter(|wheel| wheel.may_be_native());
        let of = |wheel: &Wheel| (wheel.name.clone(), wheel.version.clone());
        let packages: Vec<_> = native.map(of).collect();
        if packages.is_empty() {
            return Ok(None);
        }
        let key = key_of(lock);
        // What can't be read was written by another sconce: it is asked again.
        let answers = self.store.memo(MEMO, key)?;
        let answers = answers.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        Ok(Some(Imports {
            key,
            torch: lock.facts.torch.as_ref().map(|torch| torch.version.clone()),
            machine: lock.facts.machine,
            packages,
            answers: answers.unwrap_or_default(),
        }))
    }
}

/// The set: the image's wheels, debs and Python.
fn key_of(lock: &Lock) -> Digest {
    let wheels = lock.wheels.iter().map(|wheel| wheel.sha256);
    let wheels = wheels.chain(lock.python.iter().map(|python| python.sha256));
    let mut digests: Vec<Digest> = wheels.chain(lock.debs.iter().map(|deb| deb.sha256)).collect();
    digests.sort_unstable();
    let mut hasher = Hasher::new();
    hasher.update(RECIPE);
    hasher.update(lock.facts.python.as_bytes());
    for digest in digests {
        hasher.update(digest.as_bytes());
    }
    hasher.finish()
}

impl Imports {
    /// Whether everything has its answer.
    pub fn is_known(&self) -> bool {
        self.packages.iter().all(|(name, _)| self.answers.contains_key(name))
    }

    /// What a person should know of the answers: what can't be imported and, where `all`, of what that can't be told.
    pub fn remarks(&self, all: bool) -> Vec<String> {
        let mut remarks = Vec::new();
        let mut untold: BTreeMap<String, Vec<&str>> = BTreeMap::new();
        let mut failed = 0;
        let mut lacking = Vec::new();
        for (name, version) in &self.packages {
            match self.answers.get(name).map(Answer::verdict) {
                None | Some(Verdict::Fits) => {}
                Some(Verdict::Lacks(libraries)) => lacking.push((name, version, libraries)),
                Some(Verdict::Unknown(why)) => untold.entry(why).or_default().push(name),
                Some(Verdict::Fails(error, libraries)) => {
                    failed += 1;
                    if failed <= NAMED {
                        remarks.push(self.failure(name, version, &error, &libraries));
                    }
                }
            }
        }
        if failed > NAMED {
            remarks.push(format!("{} more packages can't be imported", failed - NAMED));
        }
        for (name, version, libraries) in lacking.iter().take(NAMED) {
            remarks.push(format!(
                "{name} {version} is imported, but parts of it can't be loaded for want of {}{}",
                libraries.join(", "),
                libraries::what_brings(libraries)
            ));
        }
        if lacking.len() > NAMED {
            remarks.push(format!("{} more packages lack libraries", lacking.len() - NAMED));
        }
        for (why, names) in untold.iter().filter(|_| all) {
            let more = match names.len().saturating_sub(NAMED) {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            let named: Vec<_> = names.iter().take(NAMED).copied().collect();
            remarks.push(format!(
                "whether {}{more} can be imported{} can't be told here: {why}",
                named.join(", "),
                self.beside()
            ));
        }
        remarks
    }

    /// " beside torch 2.15.0".
    fn beside(&self) -> String {
        self.torch.as_ref().map(|torch| format!(" beside torch {torch}")).unwrap_or_default()
    }

    fn failure(&self, name: &str, version: &str, error: &str, libraries: &[String]) -> String {
        // The words of some errors name another package than torch.
        let pair = sconce_facts::import_pair(error).and_then(|pair| {
            let other = self.packages.iter().find(|(other, _)| *other == pair.with)?;
            (other.0 != name).then_some((pair, other))
        });
        if let Some((pair, (with, of))) = pair {
            return format!(
                "{name} {version} can't be imported beside {with} {of}: {error}; ask for {}, or for another \
                 release of {name}",
                pair.fix
            );
        }
        let fits = self.torch.as_deref().and_then(|torch| {
            let torch = torch.split('+').next().unwrap_or(torch);
            let fits = sconce_facts::torch_for(name, version, self.machine)?;
            (fits.version != torch).then(|| {
                format!("; it is built for torch = \"{}\" (CUDA {})", fits.version, fits.cuda)
            })
        });
        format!(
            "{name} {version} can't be imported{}: {error}{}",
            self.beside(),
            fits.or_else(|| libraries::of_error(error, libraries)).unwrap_or_default()
        )
    }

    /// Begins to import what has no answer, in a container over `lowers`, with so many processes at a time.
    ///
    /// # Errors
    /// The store can't be written.
    pub fn begin(
        &self,
        store: &Store,
        lowers: Vec<PathBuf>,
        workers: usize,
    ) -> Result<ImportCheck, Error> {
        let work = scratch(store, "imports/work")?;
        let results = scratch(store, "imports")?.join("results");
        let names = self.packages.iter().map(|(name, _)| name);
        let unknown = names.filter(|name| !self.answers.contains_key(*name));
        let list: String = unknown.map(|name| format!("{name}\n")).collect();
        for (path, text) in [
            (work.join("imports.py"), PROGRAM),
            (work.join("packages"), &list),
            (results.clone(), ""),
        ] {
            fs::write(&path, text).map_err(at("write", &path))?;
        }
        // Root of a container without root is nobody who could write to a file of mode 644.
        let open = fs::set_permissions(&results, Permissions::from_mode(0o666));
        open.map_err(at("write", &results))?;
        let folder = scratch(store, "imports/container")?;
        let container = container(lowers, folder, &work, &results, workers);
        let (sender, done) = mpsc::channel();
        std::thread::spawn(move || {
            // What a container without a cgroup says of its limit is not worth a word here.
            let captured = sconce_run::run_captured(&container, 16 << 10, &mut |_| {});
            // Nobody listens any more where the check was given up.
            let _ = sender.send(captured.map(drop));
        });
        Ok(ImportCheck { imports: self.clone(), work, results, done })
    }
}

fn container(
    lowers: Vec<PathBuf>,
    folder: PathBuf,
    work: &Path,
    results: &Path,
    workers: usize,
) -> Container {
    let memory = sconce_run::default_shm_bytes(None);
    let command = [
        format!("/{PREFIX}/bin/python").as_str(),
        // Neither variables, nor the user's packages, nor the current folder; and no bytecode is written.
        "-I",
        "-B",
        "-W",
        "ignore",
        &format!("{WORK}/imports.py"),
        WORK,
        RESULTS,
        &workers.to_string(),
        &SECONDS.to_string(),
        &memory.to_string(),
    ]
    .map(str::to_owned);
    let mut container = Container::new(lowers, folder, command);
    let env = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    container.env = vec![
        env("PATH", &format!("/{PREFIX}/bin:/usr/bin:/bin")),
        env("LANG", "C.UTF-8"),
        env("HOME", "/tmp"),
        // One thread for each import: others run beside it, and so does the first run.
        env("OMP_NUM_THREADS", "1"),
        env("OPENBLAS_NUM_THREADS", "1"),
        env("MKL_NUM_THREADS", "1"),
        env("HF_HUB_OFFLINE", "1"),
    ];
    let volume = |source: &Path, target: &str, read_only| Volume {
        source: source.to_owned(),
        target: target.into(),
        read_only,
        resolved: false,
    };
    container.volumes = vec![volume(work, WORK, true), volume(results, RESULTS, false)];
    container.network = Network::None;
    container.hostname = Some("sconce".into());
    container.memory_bytes = Some(memory);
    container
}

/// Imports under way beside something else.
pub struct ImportCheck {
    imports: Imports,
    work: PathBuf,
    results: PathBuf,
    done: Receiver<Result<(), sconce_run::Error>>,
}

impl ImportCheck {
    /// Waits for the imports, no longer than `patience`; `waiting` is called once where they are not done yet. What has
    /// an answer by then is remembered in `store`; the rest is asked beside the next run.
    ///
    /// # Errors
    /// The container could not be started, or the store can't be written.
    pub fn end(
        mut self,
        store: &Store,
        patience: Duration,
        waiting: impl FnOnce(),
    ) -> Result<Imports, Error> {
        let runs = |ended: &Result<_, _>| matches!(ended, Err(RecvTimeoutError::Timeout));
        let mut ended = self.done.recv_timeout(Duration::from_millis(50));
        if runs(&ended) {
            waiting();
            ended = self.done.recv_timeout(patience);
        }
        if runs(&ended) {
            let stop = self.work.join("stop");
            fs::write(&stop, "").map_err(at("write", &stop))?;
            // One that does not stop dies with this process.
            ended = self.done.recv_timeout(STOP);
        }
        let bytes = sconce_open::file(&self.results).and_then(|file| {
            use std::io::Read;
            let mut bytes = Vec::new();
            file.take(MOST).read_to_end(&mut bytes).map(|_| bytes)
        });
        let bytes = bytes.map_err(at("read", &self.results))?;
        let before = self.imports.answers.len();
        take(&mut self.imports, &bytes);
        if self.imports.answers.len() > before {
            let text = serde_json::to_vec(&self.imports.answers);
            let text = text.map_err(|error| Error::Memo(error.to_string()))?;
            store.put_memo(MEMO, self.imports.key, &text)?;
        }
        match ended {
            Ok(Err(error)) => Err(Error::Run(error)),
            _ => Ok(self.imports),
        }
    }
}

/// Takes the answers to what was asked; they come from inside and are not trusted: the first one of a package counts,
/// and what is no answer is none.
fn take(imports: &mut Imports, bytes: &[u8]) {
    #[derive(Deserialize)]
    struct Line {
        package: String,
        #[serde(flatten)]
        answer: Answer,
    }
    for line in bytes.split(|byte| *byte == b'\n') {
        let Ok(Line { package, mut answer }) = serde_json::from_slice::<Line>(line) else {
            continue;
        };
        if !imports.packages.iter().any(|(name, _)| *name == package) {
            continue;
        }
        let words: Vec<&str> = answer.error.split_whitespace().collect();
        let shown = |c: &char| !c.is_control();
        answer.error = words.join(" ").chars().filter(shown).take(LONGEST).collect();
        answer.libraries.retain(|name| libraries::is_name(name));
        answer.libraries.truncate(MOST_LIBRARIES);
        imports.answers.entry(package).or_insert(answer);
    }
}

#[cfg(test)]
mod tests;
