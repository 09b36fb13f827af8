//! What is in the wheels of a set, and which of them install different files at one path, asked before they are
//! downloaded.

use std::sync::atomic::{AtomicBool, Ordering};

use sconce_layer::{Listing, Overlap, Venv};
use sconce_lock::{Misnamed, OverlapQuestion, Overlaps, Wheel, WheelName};

use crate::builder::Builder;
use crate::contents::{Contents, PARALLEL, contents};
use crate::error::Error;
use crate::parallel;
use crate::venv::PREFIX;

/// A wheel's files, what its METADATA requires, and the release that it says it is where that is another one.
type Listed = (Listing, Vec<String>, Option<String>);

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
    for ((wheel, url), listed) in places.iter().zip(all) {
        match listed {
            Ok((listing, requires, other)) => {
                answer.misnamed.extend(other.map(|says| Misnamed {
                    file: wheel.file.clone(),
                    path: url.as_deref().and_then(sconce_fetch::local_path),
                    says,
                }));
                answer.requires.insert(wheel.name.clone(), requires);
                known.push(*wheel);
                listings.push(listing);
            }
            Err(why) => answer.unread.push((wheel.file.clone(), why)),
        }
    }
    for Overlap { first, second, path, more } in Overlap::among(&listings, &venv, question.prefer) {
        let packages = [first, second].map(|place| known[place].name.clone());
        answer.found.push(sconce_lock::Overlap { packages, path, more });
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

/// What METADATA of a wheel says under a header, line by line: what it requires, its extras.
///
/// # Errors
/// Why it is not known, in words.
pub(crate) fn said(
    builder: &Builder<'_>,
    wheel: &Wheel,
    url: Option<&str>,
    header: &str,
) -> Result<Vec<String>, String> {
    let contents = contents(builder, wheel, url).map_err(|error| reason(&error))?;
    Ok(values(&contents.metadata, header).map(str::to_owned).collect())
}

fn listed(wheel: &Wheel, contents: &Contents, venv: &Venv) -> Result<Listed, sconce_layer::Error> {
    let files = contents.files.iter().map(|entry| (entry.name.as_str(), entry.size, entry.crc));
    let listing = Listing::new(&wheel.name, &wheel.file, files, &contents.entry_points, venv)?;
    let requires = values(&contents.metadata, "Requires-Dist:").map(str::to_owned).collect();
    Ok((listing, requires, other_release(&contents.metadata, &wheel.file)))
}

/// Why a wheel could not be asked, without its address.
pub(crate) fn reason(error: &Error) -> String {
    use sconce_fetch::Error as E;
    match error {
        Error::Fetch(
            E::GaveUp { .. }
            | E::Unreachable { .. }
            | E::Tls { .. }
            | E::PlainHttp { .. }
            | E::OnlyTls { .. }
            | E::NoTls { .. }
            | E::NoHttp { .. }
            | E::Stalled { .. }
            | E::Late { .. }
            | E::Slow { .. },
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

/// The values of a header in METADATA.
pub(crate) fn values<'m>(metadata: &'m str, header: &'m str) -> impl Iterator<Item = &'m str> {
    // A line of blanks goes on with the one before it, as of a licence (RFC 822, 3.1.1).
    let lines = metadata.lines().take_while(|line| !line.is_empty());
    lines.filter_map(move |line| line.strip_prefix(header)).map(str::trim)
}

/// The release that METADATA is of, where it is not the one in the name of the wheel's file; nothing where it does not
/// say.
fn other_release(metadata: &str, file: &str) -> Option<String> {
    let name = values(metadata, "Name:").next()?;
    let version = values(metadata, "Version:").next()?;
    let named: WheelName = file.parse().ok()?;
    let same = named.is_of(name, version)?;
    (!same).then(|| format!("{name} {version}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// pandas 2.0.3 has its licence before what it requires.
    #[test]
    fn a_field_of_many_lines() {
        let metadata =
            "License: BSD\n        \n        Copyright\nRequires-Dist: a\n\nRequires-Dist: text\n";
        assert_eq!(values(metadata, "Requires-Dist:").collect::<Vec<_>>(), ["a"]);
    }

    #[test]
    fn the_release_of_metadata() {
        let other = |metadata: &str| other_release(metadata, "Foo_bar-1.0+cu1-py3-none-any.whl");
        assert_eq!(other("Name: foo.bar\nVersion: 1.0.0+cu1\n"), None);
        assert_eq!(other("Name: foo-bar\nVersion: 1.0\n").as_deref(), Some("foo-bar 1.0"));
        assert_eq!(other("Name: other\nVersion: 1.0+cu1\n").as_deref(), Some("other 1.0+cu1"));
        // The same release, as PEP 440 has it.
        let post = "thop-0.1.1.post2209072238-py3-none-any.whl";
        assert_eq!(other_release("Name: thop\nVersion: 0.1.1-2209072238\n", post), None);
        for silent in
            ["", "Name: foo-bar\n", "Name: other\n\nVersion: 1\n", "Name: x\nVersion: ?\n"]
        {
            assert_eq!(other(silent), None, "{silent}");
        }
    }
}
