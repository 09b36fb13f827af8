//! An image out of an archive, which may come over standard input.

use std::path::Path;

use sconce_blob::Digest;
use sconce_store::Store;

use crate::error::Error;

/// How standard input is written where a file is named.
pub(crate) const STANDARD_INPUT: &str = "-";

/// Takes in the image of the archive at `path`, or of what comes over standard input where that is `-`:
/// the one that is tagged `tag`, or the only one, for `architecture` (`amd64`).
///
/// # Errors
/// Those of the store.
pub fn read_archive(
    store: &Store,
    path: &Path,
    tag: Option<&str>,
    architecture: &str,
) -> Result<Digest, Error> {
    Ok(match path == Path::new(STANDARD_INPUT) {
        true => store.read_archive_stream(std::io::stdin(), tag, architecture, &[])?,
        false => store.read_archive(path, tag, architecture, &[])?,
    })
}
