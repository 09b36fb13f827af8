//! A lock as the subject: by the image it was built to, by its wheels, else by what is known.

use std::path::{Path, PathBuf};

use sconce_build::Project;
use sconce_inspect::source::Subject;
use sconce_inspect::{Basis, Known, Report, by_facts};
use sconce_lock::Lock;

use super::Found;
use crate::cli::Global;
use crate::context::Context;
use crate::error::{Failure, Kind};

/// No lock is larger, bytes.
const LIMIT: u64 = 16 << 20;

/// The lock that `path` is, or that lies in the folder `path`.
pub fn lock_at(path: &Path) -> Option<PathBuf> {
    let inside = path.join("sconce.lock");
    match path.is_dir() {
        // One that is not a file is refused by name where it is opened.
        true => inside.symlink_metadata().is_ok().then_some(inside),
        false => path.extension().is_some_and(|end| end == "lock").then(|| path.to_owned()),
    }
}

/// Why a lock in the folder `path` does not say what the project there gets: it asks for something else by now, or what it asks
/// for can't be read.
pub(super) fn stale(path: &Path) -> Option<String> {
    let lock = lock_at(path).filter(|_| path.is_dir())?;
    let lock = Lock::parse(&sconce_open::read_to_string(&lock, LIMIT).ok()?).ok()?;
    match Project::folder(path) {
        Ok(project) => lock
            .check_spec(project.spec())
            .is_err()
            .then(|| "the project was changed after it was locked".to_owned()),
        Err(error) => Some(format!("what the project asks for can't be read ({error})")),
    }
}

/// Wheels of a lock that are here.
pub(super) struct Wheels {
    /// Their names and where they are.
    pub(super) files: Vec<(String, PathBuf)>,
    /// The folder of sys.path that they are installed to.
    site: String,
}

/// What they bring, as an environment.
pub(super) fn subject(wheels: &Wheels) -> Result<Box<Subject>, Failure> {
    let tree = Subject::wheels(&wheels.files, &wheels.site)?;
    let (what, library_path) = ("lock", None);
    Ok(Box::new(Subject { what, tree, library_path, partial: true, on_machine: false }))
}

/// Looks for the bytes that the lock at `path`, called `name`, stands for.
pub(super) fn find(global: &Global, name: &str, path: &Path) -> Result<Found, Failure> {
    let failed = |error: std::io::Error| {
        Failure::new(Kind::Storage, format!("can't read {}: {error}", path.display()))
    };
    let lock = Lock::parse(&sconce_open::read_to_string(path, LIMIT).map_err(failed)?)?;
    let context = Context::open(global)?;
    let built = lock.sealed.as_ref().map(|sealed| sealed.image.hex());
    if let Some(image) = built.and_then(|image| context.store.image(&image).ok()) {
        let subject = super::of_store(&context, &image)?;
        return Ok(Found::Bytes(Box::new(subject), Basis::Image));
    }
    let mut files: Vec<(String, PathBuf)> = Vec::new();
    for wheel in &lock.wheels {
        let path = context.store.blob_path(wheel.sha256)?;
        files.extend(path.map(|path| (wheel.file.clone(), path)));
    }
    let site = format!("opt/venv/lib/python{}/site-packages", lock.facts.python);
    let wheels = Wheels { files, site };
    if wheels.files.len() == lock.wheels.len() && !wheels.files.is_empty() {
        return Ok(Found::Bytes(subject(&wheels)?, Basis::Wheels));
    }
    let torch = lock.facts.torch.as_ref().map(|torch| Known {
        version: &torch.version,
        cuda: torch.cuda,
        driver: torch.driver.as_ref(),
        architectures: &torch.architectures,
    });
    let report = by_facts(name, lock.facts.machine.as_str(), torch);
    let not_judged = lock.wheels.iter().filter(|wheel| wheel.may_be_native()).count();
    let report = Box::new(Report { not_judged, ..report });
    Ok(match wheels.files.is_empty() {
        true => Found::Facts(report),
        false => Found::Part(report, wheels),
    })
}
