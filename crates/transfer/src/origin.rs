//! Which repository of a registry is known to have a blob: it can be taken from there without being
//! sent. A hint, kept in the store.

use sconce_blob::Digest;
use sconce_registry::Reference;
use sconce_store::{Error, Store};

/// The kind of the memo; its key is the digest of host and blob.
const MEMO: &str = "origin";

fn key(host: &str, blob: Digest) -> Digest {
    Digest::of(format!("{host} {blob}").as_bytes())
}

/// Another repository of the registry of `reference` that had the blob.
pub(crate) fn of(store: &Store, reference: &Reference, blob: Digest) -> Option<String> {
    let memo = store.memo(MEMO, key(&reference.host, blob)).ok().flatten()?;
    let repository = String::from_utf8(memo).ok()?;
    // Nothing that goes into an address is believed.
    let known = Reference::parse(&format!("{}/{repository}", reference.host)).ok()?;
    (known.repository == repository && repository != reference.repository).then_some(repository)
}

/// Remembers where a blob is.
pub(crate) fn note(store: &Store, reference: &Reference, blob: Digest) -> Result<(), Error> {
    store.put_memo(MEMO, key(&reference.host, blob), reference.repository.as_bytes())
}
