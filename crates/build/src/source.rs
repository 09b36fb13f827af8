//! Wheels that are built from source: a source distribution is an outsider's program. It is unpacked and run in a
//! container without network, never here; what comes out of there is read as an outsider's as well.

mod kept;
mod memory;

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use sconce_blob::{Digest, Hasher};
use sconce_fetch::downloads::Wanted;
use sconce_fetch::{indexes, pypi};
use sconce_lock::{
    IndexRequest, Lock, Order, Outcome, PROJECT, RECIPE, Rebuilt, SOURCE, Sdist, Source,
    SourceRequest, Wheel, WheelName,
};
use sconce_open::Folder;
use sconce_run::{Container, Exit, Network, Volume};
use serde::{Deserialize, Serialize};

use crate::builder::{Builder, Trees};
use crate::download::keep_address;
use crate::error::{Error, at};
use crate::trees::{self, scratch};
use crate::venv::PREFIX;
use crate::{image, python, toolkit};

/// The program inside.
const PROGRAM: &str = include_str!("source/sdist.py");

/// Where the program and the source distribution lie inside.
const WORK: &str = "/run/sconce";
/// Where inside the wheel comes to lie.
const OUT: &str = "/run/sconce-out";

/// The memo that leads from what a wheel is built of to the wheel.
const MEMO: &str = "built-wheel";

/// The largest answer, log and wheel that are taken from a container, bytes.
const ANSWER_LIMIT: u64 = 1 << 20;
const LOG_LIMIT: u64 = 64 << 20;
const WHEEL_LIMIT: u64 = 8 << 30;

/// Lines of a log that an error shows, and how long each.
const TAIL: usize = 12;
const WIDTH: usize = 200;

/// What is remembered of a wheel that was built.
#[derive(Serialize, Deserialize)]
struct Record {
    file: String,
    size: u64,
    sha256: Digest,
    rebuilt: Option<bool>,
}

/// What the program inside says.
#[derive(Deserialize)]
struct Answer {
    refused: Option<String>,
    wheel: Option<String>,
    requires: Option<Vec<String>>,
    #[serde(default)]
    compiles: bool,
    #[serde(default)]
    cuda: bool,
}

impl Builder<'_> {
    /// Fetches a source distribution, and reads what it says of its build.
    pub(crate) fn source(&self, request: &SourceRequest<'_>) -> Result<Sdist, Error> {
        let found = self.find_source(request.name, request.file, request.indexes)?;
        let (index, listed) = found;
        let sha256 = listed.digest.ok_or_else(|| Error::Source {
            file: request.file.to_owned(),
            why: "its index gives no SHA-256 of it".into(),
        })?;
        keep_address(self.store, sha256, &listed.url)?;
        let wanted = Wanted {
            name: request.file.to_owned(),
            url: listed.url,
            others: Vec::new(),
            digest: sha256,
            size: None,
            within: None,
        };
        self.download_all(&[wanted])?;
        self.look(request.file, sha256, index, request.container)
    }

    /// Reads what a source distribution in the store says of its build.
    pub(crate) fn look(
        &self,
        file: &str,
        sha256: Digest,
        index: String,
        container: &Lock,
    ) -> Result<Sdist, Error> {
        let size = self.store.open_blob(sha256)?.len();
        let work = self.work_folder(file, sha256, "look")?;
        let command = ["look", &inside(file), &format!("{OUT}/answer")];
        let python = format!("/{}", python::interpreter(container));
        let (_, out) = self.inside(container, &python, &command, work, Vec::new())?;
        let answer = answer(&out, file)?;
        Ok(Sdist {
            size,
            sha256,
            index,
            requires: answer.requires.unwrap_or_default(),
            compiles: answer.compiles,
            cuda: answer.cuda,
        })
    }

    /// The first index that has a source distribution, by name.
    fn find_source(
        &self,
        name: &str,
        file: &str,
        named: &[IndexRequest],
    ) -> Result<(String, pypi::Listed), Error> {
        let configured = indexes::configured(&|name| std::env::var_os(name))?;
        let named = named.iter().filter(|index| !index.is_folder());
        let mut places: Vec<(String, String)> =
            named.map(|index| (index.name.clone(), index.url.clone())).collect();
        places.push(("pypi".into(), configured.default_index()?));
        for (index, base) in &places {
            match pypi::files(self.client, base, name) {
                Ok(files) => {
                    if let Some(found) = files.into_iter().find(|listed| listed.name == file) {
                        return Ok((index.clone(), found));
                    }
                }
                Err(sconce_fetch::Error::Status { status: 404 | 403 | 410, .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(Error::Source { file: file.to_owned(), why: "no index has it any more".into() })
    }

    /// Builds a wheel, or finds the one that was built of the same things.
    pub(crate) fn wheel(&self, order: &Order<'_>) -> Result<Outcome, Error> {
        let key = key(order.source, order.container);
        let _alone = self.store.lock("wheel", key)?;
        if let Some(bytes) = self.store.memo(MEMO, key)?
            && let Ok(record) = serde_json::from_slice::<Record>(&bytes)
            && let Some(path) = self.store.blob_path(record.sha256)?
        {
            return Ok(outcome(order, record, path));
        }
        let made = match self.make(order.source, order.version, order.container, order.requires)? {
            Made::Requires(more) => return Ok(Outcome::Requires(more)),
            Made::Wheel(file, sha256, size) => (file, sha256, size),
        };
        let (file, sha256, size) = made;
        // What compiles nothing is built again in no time, and so it is known whether that gives the same.
        let rebuilt = match file.ends_with("-any.whl") && order.source.index != PROJECT {
            false => None,
            true => match self.make(order.source, order.version, order.container, None)? {
                Made::Wheel(_, again, _) => Some(again == sha256),
                Made::Requires(_) => None,
            },
        };
        let record = Record { file, size, sha256, rebuilt };
        self.remember_wheel(key, &record)?;
        let path = self.store.blob_path(sha256)?.ok_or(sconce_store::Error::MissingBlob(sha256))?;
        Ok(outcome(order, record, path))
    }

    /// Builds a wheel of a lock a second time, and remembers what came of it.
    ///
    /// # Errors
    /// It is not from source, or can't be built.
    pub fn rebuild(&self, lock: &Lock, wheel: &Wheel) -> Result<Rebuilt, Error> {
        let source = lock.sources.iter().find(|source| source.name == wheel.name);
        let source = source.ok_or(sconce_store::Error::MissingBlob(wheel.sha256))?;
        let container = source.container(lock);
        self.fetch_source(lock, source)?;
        let made = self.make(source, Some(&wheel.version), &container, None)?;
        let same = matches!(&made, Made::Wheel(_, sha256, _) if *sha256 == wheel.sha256);
        if !same && source.recipe != RECIPE {
            return Err(Error::OtherWheel {
                file: wheel.file.clone(),
                recipe: Some(source.recipe),
                image: lock.sealed.as_ref().map(|sealed| sealed.image),
            });
        }
        let record = Record {
            file: wheel.file.clone(),
            size: wheel.size.unwrap_or_default(),
            sha256: wheel.sha256,
            rebuilt: Some(same),
        };
        self.remember_wheel(key(source, &container), &record)?;
        Ok(if same { Rebuilt::Same } else { Rebuilt::Differs })
    }

    fn remember_wheel(&self, key: Digest, record: &Record) -> Result<(), Error> {
        let bytes = serde_json::to_vec(record).map_err(|error| Error::Memo(error.to_string()))?;
        Ok(self.store.put_memo(MEMO, key, &bytes)?)
    }

    /// Builds the wheels of a lock that are from source and not in the store.
    pub(crate) fn build_missing(&self, lock: &Lock) -> Result<(), Error> {
        for wheel in &lock.wheels {
            if wheel.index != SOURCE || self.store.blob_path(wheel.sha256)?.is_some() {
                continue;
            }
            let source = lock.sources.iter().find(|source| source.name == wheel.name);
            let source = source.ok_or(sconce_store::Error::MissingBlob(wheel.sha256))?;
            if self.client.options().offline && self.store.blob_path(source.sha256)?.is_none() {
                let missing = vec![source.file.clone()];
                return Err(sconce_fetch::Error::Offline { missing }.into());
            }
            self.fetch_source(lock, source)?;
            let container = source.container(lock);
            let made = self.make(source, Some(&wheel.version), &container, None)?;
            if !matches!(&made, Made::Wheel(_, sha256, _) if *sha256 == wheel.sha256) {
                return Err(Error::OtherWheel {
                    file: wheel.file.clone(),
                    recipe: Some(source.recipe).filter(|recipe| *recipe != RECIPE),
                    image: lock.sealed.as_ref().map(|sealed| sealed.image),
                });
            }
        }
        Ok(())
    }

    fn fetch_source(&self, lock: &Lock, source: &Source) -> Result<(), Error> {
        if self.store.blob_path(source.sha256)?.is_some() {
            return Ok(());
        }
        let row = lock.indexes.iter().find(|row| row.name == source.index);
        let url = row.and_then(|row| row.url.clone());
        let named: Vec<IndexRequest> =
            url.into_iter().map(|url| IndexRequest { name: source.index.clone(), url }).collect();
        let (_, listed) = self.find_source(&source.name, &source.file, &named)?;
        let wanted = Wanted {
            name: source.file.clone(),
            url: listed.url,
            others: Vec::new(),
            digest: source.sha256,
            size: source.size,
            within: None,
        };
        self.download_all(&[wanted])
    }

    /// A folder with what goes into the container, and one for what comes out of it.
    fn work_folder(&self, file: &str, sha256: Digest, name: &str) -> Result<Work, Error> {
        let (inside, out) = (
            scratch(self.store, &format!("{name}/in"))?,
            scratch(self.store, &format!("{name}/out"))?,
        );
        let blob = self.store.blob_path(sha256)?.ok_or(sconce_store::Error::MissingBlob(sha256))?;
        let path = inside.join("sdist.py");
        fs::write(&path, PROGRAM).map_err(at("write", &path))?;
        let path = inside.join(file);
        // A copy: what runs inside may write to what it is shown.
        fs::copy(&blob, &path).map_err(at("write", &path))?;
        Ok(Work { inside, out })
    }

    /// Builds a wheel once. `requires` are the requirements that are met; none accepts the container as it is.
    fn make(
        &self,
        source: &Source,
        version: Option<&str>,
        container: &Lock,
        requires: Option<&[String]>,
    ) -> Result<Made, Error> {
        let what = match version {
            Some(version) => format!("{} {version}", source.name),
            None => source.name.clone(),
        };
        let stage = self.progress.begin(&format!("building {what} from source"), None);
        let begun = Instant::now();
        let work = self.work_folder(&source.file, source.sha256, "wheel")?;
        let text = serde_json::to_vec(&requires).map_err(|error| Error::Memo(error.to_string()))?;
        let path = work.inside.join("requires");
        fs::write(&path, text).map_err(at("write", &path))?;
        let command = ["build", &inside(&source.file), OUT, &format!("{WORK}/requires")];
        let python = format!("/{PREFIX}/bin/python");
        let variables = self.variables(source, container);
        let (exit, out) = self.inside(container, &python, &command, work, variables)?;
        let log = self.keep_log(&out, &what)?;
        let answer = match exit {
            Exit::Code(0) => answer(&out, &source.file)?,
            _ => return Err(failure(what, exit, &out, log)),
        };
        if let Some(more) = answer.requires {
            stage.end(&format!("{} asks for {}", source.name, more.join(", ")));
            return Ok(Made::Requires(more));
        }
        let wrong = |why: String| Error::Source { file: source.file.clone(), why };
        let file = answer.wheel.unwrap_or_default();
        let name: WheelName =
            file.parse().map_err(|error| wrong(format!("its build gave {error}")))?;
        let asked = version.is_none_or(|version| version.parse().as_ref() == Ok(&name.version));
        if name.name != source.name || !asked {
            return Err(wrong(format!("its build gave {file}, which is not a wheel of {what}")));
        }
        let found =
            Folder::open(&out).and_then(|folder| folder.file(&Path::new("wheel").join(&file)));
        let found = found.map_err(at("open", out.join("wheel").join(&file)))?;
        if found.metadata().map_err(at("read", &out))?.len() > WHEEL_LIMIT {
            return Err(wrong(format!("its build gave a wheel of more than {WHEEL_LIMIT} bytes")));
        }
        let (sha256, size) = self.store.put_stream(found.take(WHEEL_LIMIT), &file, None)?;
        let path = self.store.blob_path(sha256)?.ok_or(sconce_store::Error::MissingBlob(sha256))?;
        let blob = fs::File::open(&path).map_err(at("open", &path))?;
        sconce_layer::Wheel::open(&file, sha256, Arc::new(blob))?;
        fs::remove_dir_all(&out).map_err(at("remove", &out))?;
        stage.end(&format!("{file} in {} s", begun.elapsed().as_secs()));
        Ok(Made::Wheel(file, sha256, size))
    }

    /// What a build sees besides what the container has.
    fn variables(&self, source: &Source, container: &Lock) -> Vec<(String, String)> {
        let jobs = memory::jobs(self.threads, !source.architectures.is_empty()).to_string();
        let mut variables = variables(&jobs);
        if container.wheels.iter().any(|wheel| wheel.name.starts_with("nvidia-cuda-nvcc")) {
            let all = toolkit::ENV.into_iter().chain(toolkit::BUILD_ENV);
            variables.extend(all.map(|(name, value)| (name.to_owned(), value.to_owned())));
        }
        variables.extend(source.variables());
        variables
    }

    /// Runs the program in a container of a lock; gives back how it ended, and the folder of what came out.
    fn inside(
        &self,
        lock: &Lock,
        python: &str,
        command: &[&str],
        work: Work,
        variables: Vec<(String, String)>,
    ) -> Result<(Exit, PathBuf), Error> {
        let environment = Builder { ..*self }.environment(lock, Trees::All)?;
        let image = self.image(environment.image)?;
        let _lease = self.store.lease(environment.image)?;
        let lowers = trees::extract(self.store, &image, self.threads, self.progress)?;
        let program = format!("{WORK}/sdist.py");
        let words = [python, "-B", "-s", &program].into_iter().chain(command.iter().copied());
        let mut container = Container::new(lowers, scratch(self.store, "build")?, words);
        container.env = variables;
        let volume = |source: &PathBuf, target: &str, read_only| Volume {
            source: source.clone(),
            target: target.into(),
            read_only,
            resolved: false,
        };
        container.volumes = vec![volume(&work.inside, WORK, true), volume(&work.out, OUT, false)];
        container.network = Network::None;
        container.hostname = Some("sconce".into());
        let progress = self.progress;
        let done = sconce_run::run_captured(&container, ANSWER_LIMIT as usize, &mut |text| {
            progress.note(text);
        })?;
        fs::remove_dir_all(&work.inside).map_err(at("remove", &work.inside))?;
        if !done.stderr.is_empty() && done.exit != Exit::Code(0) {
            // What Python itself says before the log is opened.
            let path = work.out.join("stderr");
            fs::write(&path, &done.stderr).map_err(at("write", &path))?;
        }
        Ok((done.exit, work.out))
    }

    /// Keeps the log of a build in the store, under the package's name.
    fn keep_log(&self, out: &Path, what: &str) -> Result<PathBuf, Error> {
        let folder = self.store.root().join("logs");
        fs::create_dir_all(&folder).map_err(at("create", &folder))?;
        let path = folder.join(format!("{}.log", what.replace(' ', "-")));
        let log = read_log(out);
        fs::write(&path, log).map_err(at("write", &path))?;
        Ok(path)
    }
}

/// Variables of every build.
fn variables(jobs: &str) -> Vec<(String, String)> {
    [
        ("PATH", format!("/{PREFIX}/bin:/usr/local/cuda/bin:{}", image::PATH)),
        ("VIRTUAL_ENV", format!("/{PREFIX}")),
        ("LANG", "C.UTF-8".into()),
        ("HOME", "/build/home".into()),
        ("TMPDIR", "/build/tmp".into()),
        ("PYTHONDONTWRITEBYTECODE", "1".into()),
        // The order of sets of strings must not reach the bytes.
        ("PYTHONHASHSEED", "0".into()),
        ("MAX_JOBS", jobs.to_owned()),
        ("CMAKE_BUILD_PARALLEL_LEVEL", jobs.to_owned()),
        ("MAKEFLAGS", format!("-j{jobs}")),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .to_vec()
}

/// What came of a build.
enum Made {
    Wheel(String, Digest, u64),
    Requires(Vec<String>),
}

/// The folders that a container is shown.
struct Work {
    inside: PathBuf,
    out: PathBuf,
}

fn inside(file: &str) -> String {
    format!("{WORK}/{file}")
}

fn outcome(order: &Order<'_>, record: Record, path: PathBuf) -> Outcome {
    let rebuilt = record.rebuilt.map(|same| if same { Rebuilt::Same } else { Rebuilt::Differs });
    // A wheel's file name was read when it was made.
    let version = order
        .version
        .map(str::to_owned)
        .or_else(|| record.file.parse().ok().map(|name: WheelName| name.version.to_string()));
    let version = version.unwrap_or_default();
    let wheel = Wheel {
        name: order.source.name.clone(),
        version,
        file: record.file,
        size: Some(record.size),
        sha256: record.sha256,
        index: SOURCE.to_owned(),
        url: None,
        variant: None,
    };
    Outcome::Wheel { wheel, path, rebuilt }
}

/// What a wheel is a function of, as far as can be.
fn key(source: &Source, container: &Lock) -> Digest {
    let mut hasher = Hasher::new();
    hasher.update(format!("sconce wheel {RECIPE}").as_bytes());
    hasher.update(Digest::of(PROGRAM.as_bytes()).as_bytes());
    hasher.update(source.sha256.as_bytes());
    hasher.update(container.digest().as_bytes());
    for (name, value) in source.variables() {
        hasher.update(format!("{name}={value}\0").as_bytes());
    }
    hasher.finish()
}

fn answer(out: &Path, file: &str) -> Result<Answer, Error> {
    let read = Folder::open(out).and_then(|folder| folder.read(Path::new("answer"), ANSWER_LIMIT));
    let bytes = read.map_err(at("read", out.join("answer")))?;
    let wrong = |why: String| Error::Source { file: file.to_owned(), why };
    let answer: Answer =
        serde_json::from_slice(&bytes).map_err(|error| wrong(error.to_string()))?;
    match answer.refused {
        Some(why) => Err(wrong(printable(&why))),
        None => Ok(answer),
    }
}

/// The end of a log, or of what was said before there was one.
fn read_log(out: &Path) -> Vec<u8> {
    let Ok(folder) = Folder::open(out) else { return Vec::new() };
    let mut log = Vec::new();
    for name in ["log", "stderr"] {
        // A log that is not a plain file any more is none.
        if let Ok(file) = folder.file(Path::new(name)) {
            let _ = file.take(LOG_LIMIT).read_to_end(&mut log);
        }
    }
    log
}

fn failure(what: String, exit: Exit, out: &Path, log: PathBuf) -> Error {
    let text = read_log(out);
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<String> =
        text.lines().filter(|line| !line.trim().is_empty()).map(printable).collect();
    let tail = lines.get(lines.len().saturating_sub(TAIL)..).unwrap_or_default().join("\n");
    Error::Wheel { what, exit: exit.code(), tail, log }
}

/// A line of an outsider's, for a terminal.
fn printable(line: &str) -> String {
    line.chars().map(|c| if c.is_control() { ' ' } else { c }).take(WIDTH).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a build is told to do, and the number by which locks know it. Where the two no longer go together,
    /// raise `sconce_lock::RECIPE` if a build can give other bytes now, and put the new digest here in any case.
    #[test]
    fn the_recipe_is_raised_with_what_it_is_made_of() {
        let mut hasher = Hasher::new();
        hasher.update(PROGRAM.as_bytes());
        hasher.update(
            format!("{:?}{:?}", variables("1"), (toolkit::ENV, toolkit::BUILD_ENV)).as_bytes(),
        );
        assert_eq!(
            (RECIPE, hasher.finish().hex()),
            (3, "89c10260a0bbc9c1867ea9699ca648f9890c155e1da2bbc18a2f137194b1197e".to_owned())
        );
    }
}
