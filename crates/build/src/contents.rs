//! What a wheel that is not downloaded has in it: the directory at the end of its archive, read by
//! range requests and remembered by the wheel's hash.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use sconce_fetch::pypi::normalized;
use sconce_fetch::range::Remote;
use sconce_inspect::read::{Named, OnDisk, ReadAt};
use sconce_inspect::zip;
use sconce_layer::{Listing, Overlap, Venv};
use sconce_lock::{OverlapQuestion, Overlaps, Wheel};
use serde::{Deserialize, Serialize};

use crate::builder::Builder;
use crate::error::{Error, at};
use crate::native::{Bytes, text};
use crate::venv::PREFIX;

/// The most bytes that are fetched of one wheel: the directory of the largest has some 2 MB.
const LIMIT: u64 = 24 << 20;
/// Wheels that are asked at a time.
const PARALLEL: usize = 16;
/// The memo of what a wheel has in it.
const MEMO: &str = "contents";
/// The largest memo that is kept, bytes; torch has 1 MB.
const MEMO_LIMIT: usize = 8 << 20;

/// What a wheel has in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Contents {
    /// Name, bytes and CRC-32 of each file.
    files: Vec<(String, u64, u32)>,
    /// Its entry_points.txt.
    entry_points: String,
    /// The packages that its METADATA names as required, by whatever condition.
    requires: Vec<String>,
}

/// Which wheels of a set install different files at one path. `places` are the wheels with their
/// addresses, as far as these are known.
pub(crate) fn overlaps(
    builder: &Builder<'_>,
    question: &OverlapQuestion<'_>,
    places: &[(&Wheel, Option<String>)],
) -> Overlaps {
    let mut answer = Overlaps::default();
    let Ok(venv) = Venv::new(&format!("/{PREFIX}"), question.python) else { return answer };
    let mut known: Vec<(&Wheel, Contents)> = Vec::new();
    let mut listings = Vec::new();
    for ((wheel, _), contents) in places.iter().zip(all(builder, places)) {
        let listed = contents.map_err(|error| reason(&error)).and_then(|contents| {
            let listing = listing(wheel, &contents, &venv).map_err(|error| error.to_string())?;
            Ok((contents, listing))
        });
        match listed {
            Ok((contents, listing)) => {
                known.push((wheel, contents));
                listings.push(listing);
            }
            Err(why) => answer.unread.push((wheel.file.clone(), why)),
        }
    }
    let needed_by = |name: &str| -> Vec<String> {
        let needs =
            |(_, contents): &&(&Wheel, Contents)| contents.requires.iter().any(|r| r == name);
        known.iter().filter(needs).map(|(wheel, _)| wheel.name.clone()).collect()
    };
    for Overlap { first, second, path, more } in Overlap::among(&listings, &venv, question.prefer) {
        let packages = [first, second].map(|place| known[place].0.name.clone());
        let needed_by = [needed_by(&packages[0]), needed_by(&packages[1])];
        answer.found.push(sconce_lock::Overlap { packages, needed_by, path, more });
    }
    answer
}

fn listing(
    wheel: &Wheel,
    contents: &Contents,
    venv: &Venv,
) -> Result<Listing, sconce_layer::Error> {
    let files = contents.files.iter().map(|(name, size, crc)| (name.as_str(), *size, *crc));
    Listing::new(&wheel.name, &wheel.file, files, &contents.entry_points, venv)
}

/// Why a wheel could not be asked, without its address.
fn reason(error: &Error) -> String {
    use sconce_fetch::Error as E;
    match error {
        Error::Fetch(E::GaveUp { .. } | E::Unreachable { .. } | E::Stalled { .. }) => {
            "their server can't be reached".into()
        }
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

/// The contents of all, in their order. After a server could not be reached nothing more is asked.
fn all(builder: &Builder<'_>, places: &[(&Wheel, Option<String>)]) -> Vec<Result<Contents, Error>> {
    let (next, found) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
    let down = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..PARALLEL.min(places.len()) {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some((wheel, url)) = places.get(at) else { break };
                    let url = url.as_deref().filter(|_| !down.load(Ordering::Relaxed));
                    let answer = contents(builder, wheel, url);
                    if let Err(Error::Fetch(sconce_fetch::Error::GaveUp { .. })) = &answer {
                        down.store(true, Ordering::Relaxed);
                    }
                    found.lock().unwrap_or_else(|held| held.into_inner()).insert(at, answer);
                }
            });
        }
    });
    found.into_inner().unwrap_or_else(|held| held.into_inner()).into_values().collect()
}

/// What a wheel has in it: remembered, else read of the store's own copy, else asked for.
fn contents(builder: &Builder<'_>, wheel: &Wheel, url: Option<&str>) -> Result<Contents, Error> {
    if let Some(bytes) = builder.store.memo(MEMO, wheel.sha256)?
        && let Ok(contents) = serde_json::from_slice(&bytes)
    {
        return Ok(contents);
    }
    let contents = match (builder.store.blob_path(wheel.sha256), url) {
        (Some(path), _) => read(&OnDisk::open(&path).map_err(at("open", &path))?)?,
        (None, Some(url)) => read(&Bytes(Remote::open_at_end(builder.client, url, LIMIT)?))?,
        (None, None) => return Err(sconce_store::Error::MissingBlob(wheel.sha256).into()),
    };
    let bytes = serde_json::to_vec(&contents).map_err(|error| Error::Memo(error.to_string()))?;
    if bytes.len() <= MEMO_LIMIT {
        builder.store.put_memo(MEMO, wheel.sha256, &bytes)?;
    }
    Ok(contents)
}

fn read(bytes: &dyn ReadAt) -> Result<Contents, Error> {
    let entries = zip::entries(Named::new("the wheel", bytes))?;
    let described = |file: &str| -> Result<String, Error> {
        let end = format!(".dist-info/{file}");
        let entry = entries
            .iter()
            .find(|entry| entry.name.ends_with(&end) && entry.name.matches('/').count() == 1);
        Ok(entry.map(|entry| text(bytes, entry)).transpose()?.unwrap_or_default())
    };
    let (entry_points, metadata) = (described("entry_points.txt")?, described("METADATA")?);
    let files = entries.iter().map(|entry| (entry.name.clone(), entry.size, entry.crc)).collect();
    Ok(Contents { files, entry_points, requires: requires(&metadata) })
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
