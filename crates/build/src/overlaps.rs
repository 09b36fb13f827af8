//! What is in the wheels of a set, and which of them install different files at one path, asked before they are
//! downloaded.

use std::sync::atomic::{AtomicBool, Ordering};

use sconce_fetch::pypi::normalized;
use sconce_layer::{Listing, Overlap, Venv};
use sconce_lock::{OverlapQuestion, Overlaps, Wheel};

use crate::builder::Builder;
use crate::contents::{Contents, PARALLEL, contents};
use crate::error::Error;
use crate::parallel;
use crate::venv::PREFIX;

/// A wheel's files, and the packages that its METADATA names as required, by whatever condition.
type Listed = (Listing, Vec<String>);

/// Which wheels of a set install different files at one path. `places` are the wheels with their
/// addresses, as far as these are known.
pub(crate) fn overlaps(
    builder: &Builder<'_>,
    question: &OverlapQuestion<'_>,
    places: &[(&Wheel, Option<String>)],
) -> Overlaps {
    let mut answer = Overlaps::default();
    let Ok(venv) = Venv::new(&format!("/{PREFIX}"), question.python) else { return answer };
    // After a server could not be reached nothing more is asked.
    let down = AtomicBool::new(false);
    let all = parallel::each("wheel contents", PARALLEL, places, |(wheel, url)| {
        let url = url.as_deref().filter(|_| !down.load(Ordering::Relaxed));
        let contents = contents(builder, wheel, url);
        if let Err(Error::Fetch(sconce_fetch::Error::GaveUp { .. })) = &contents {
            down.store(true, Ordering::Relaxed);
        }
        let contents = contents.map_err(|error| reason(&error))?;
        listed(wheel, &contents, &venv).map_err(|error| error.to_string())
    });
    let (mut known, mut listings) = (Vec::new(), Vec::new());
    for ((wheel, _), listed) in places.iter().zip(all) {
        match listed {
            Ok((listing, requires)) => {
                known.push((*wheel, requires));
                listings.push(listing);
            }
            Err(why) => answer.unread.push((wheel.file.clone(), why)),
        }
    }
    let needed_by = |name: &str| -> Vec<String> {
        let needs = |(_, requires): &&(&Wheel, Vec<String>)| requires.iter().any(|r| r == name);
        known.iter().filter(needs).map(|(wheel, _)| wheel.name.clone()).collect()
    };
    for Overlap { first, second, path, more } in Overlap::among(&listings, &venv, question.prefer) {
        let packages = [first, second].map(|place| known[place].0.name.clone());
        let needed_by = [needed_by(&packages[0]), needed_by(&packages[1])];
        answer.found.push(sconce_lock::Overlap { packages, needed_by, path, more });
    }
    answer
}

/// The files in a wheel.
///
/// # Errors
/// Why they are not known, in words.
pub(crate) fn files(
    builder: &Builder<'_>,
    wheel: &Wheel,
    url: Option<&str>,
) -> Result<Vec<String>, String> {
    let contents = contents(builder, wheel, url).map_err(|error| reason(&error))?;
    Ok(contents.files.into_iter().map(|entry| entry.name).collect())
}

fn listed(wheel: &Wheel, contents: &Contents, venv: &Venv) -> Result<Listed, sconce_layer::Error> {
    let files = contents.files.iter().map(|entry| (entry.name.as_str(), entry.size, entry.crc));
    let listing = Listing::new(&wheel.name, &wheel.file, files, &contents.entry_points, venv)?;
    Ok((listing, requires(&contents.metadata)))
}

/// Why a wheel could not be asked, without its address.
fn reason(error: &Error) -> String {
    use sconce_fetch::Error as E;
    match error {
        Error::Fetch(
            E::GaveUp { .. } | E::Unreachable { .. } | E::Stalled { .. } | E::Slow { .. },
        ) => "their server can't be reached".into(),
        Error::Fetch(E::Status { status, .. }) if *status != 200 => {
            format!("their server answered {status}")
        }
        Error::Fetch(E::Status { .. } | E::BadAnswer { .. } | E::CutOff { .. }) => {
            "their server does not send parts of files".into()
        }
        Error::Fetch(E::Offline { .. }) => "offline".into(),
        Error::Store(sconce_store::Error::MissingBlob(_)) => {
            "where they are was not known, or their server could not be reached".into()
        }
        error => error.to_string(),
    }
}

/// The names behind `Requires-Dist`, each once.
fn requires(metadata: &str) -> Vec<String> {
    let part = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let lines = metadata.lines().take_while(|line| !line.trim().is_empty());
    let wanted = lines.filter_map(|line| line.strip_prefix("Requires-Dist:"));
    let mut names: Vec<String> =
        wanted.filter_map(|line| line.trim().split(|c| !part(c)).next()).map(normalized).collect();
    names.sort_unstable();
    names.dedup();
    names
}
