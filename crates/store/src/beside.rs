//! What is about an image and no part of it, such as signatures: OCI's artifacts, kept with the image so that
//! they go where it goes.
//!
//! They are a memo of the image, whole: no prune leaves half of one. Their bytes are texts (JSON, a lock); other
//! artifacts are not kept.
//!
//! There is room for so many. Whoever may push can bring any number of them, signatures in name too: so where the room is full, what comes takes the
//! place of the newest of whoever has most, and never of one who has less. Nobody's signature goes because another brings junk.

use std::collections::HashMap;

use sconce_blob::Digest;
use sconce_oci::Artifact;
use serde::{Deserialize, Serialize};

use crate::Store;
use crate::error::Error;

/// The kind of the memo; its key is the image's digest.
const MEMO: &str = "beside";
/// What is kept beside one image, bytes and artifacts.
const MAX_BYTES: usize = 4 << 20;
const MAX_COUNT: usize = 256;

/// An artifact about an image, with its files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beside {
    /// Its manifest, the text of the document.
    pub manifest: String,
    /// Its configuration and its files, in the order of the manifest.
    pub files: Vec<String>,
    /// Who pushed it; nobody where a person brought it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    by: Option<String>,
}

impl Beside {
    /// From bytes; `None` where they are no texts.
    #[must_use]
    pub fn new(manifest: Vec<u8>, files: Vec<Vec<u8>>) -> Option<Self> {
        let files: Result<Vec<String>, _> = files.into_iter().map(String::from_utf8).collect();
        Some(Self { manifest: String::from_utf8(manifest).ok()?, files: files.ok()?, by: None })
    }

    /// The same, pushed by `who`.
    pub(crate) fn of(self, who: &str) -> Self {
        Self { by: Some(who.to_owned()), ..self }
    }

    /// The digest of its manifest.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(self.manifest.as_bytes())
    }

    /// Its manifest, if it is about this image and all its files are those that it names.
    #[must_use]
    pub fn about(&self, image: Digest) -> Option<Artifact> {
        let artifact = Artifact::parse(self.manifest.as_bytes()).ok()?;
        let named = [&artifact.config].into_iter().chain(&artifact.layers).map(|file| file.digest);
        let whole = named.eq(self.files.iter().map(|file| Digest::of(file.as_bytes())));
        let is_about = artifact.subject.as_ref().is_some_and(|subject| subject.digest == image);
        (whole && is_about).then_some(artifact)
    }

    /// The room that it takes, bytes. In the memo, control characters take six times theirs: a third of that counts, if it is more.
    fn len(&self) -> usize {
        let room = |text: &String| {
            let escaped = |byte: u8| match byte {
                b'"' | b'\\' => 2,
                0..0x20 => 6,
                _ => 1,
            };
            text.len().max(text.bytes().map(escaped).sum::<usize>() / 3)
        };
        self.files.iter().chain([&self.manifest]).map(room).sum()
    }

    /// What share of all the room it takes, in bytes: one of a few bytes takes its place as well.
    fn share(&self) -> usize {
        self.len().max(MAX_BYTES / MAX_COUNT)
    }
}

/// What each of those who brought something has of the room.
fn shares(kept: &[Beside]) -> HashMap<Option<String>, usize> {
    let mut shares: HashMap<Option<String>, usize> = HashMap::new();
    kept.iter().for_each(|one| *shares.entry(one.by.clone()).or_default() += one.share());
    shares
}

/// Makes room for what comes; says whether there is some.
fn make_room(kept: &mut Vec<Beside>, comes: &Beside) -> bool {
    let full = |kept: &[Beside]| {
        let size: usize = kept.iter().map(Beside::len).sum();
        size.saturating_add(comes.len()) > MAX_BYTES || kept.len() >= MAX_COUNT
    };
    if !full(kept) {
        return true;
    }
    // All or nothing: none goes for one that finds no room in the end.
    let mut left = kept.clone();
    while full(&left) {
        let shares = shares(&left);
        let own = shares.get(&comes.by).copied().unwrap_or(0).saturating_add(comes.share());
        let most = shares.iter().max_by_key(|(_, share)| **share);
        let Some((who, _)) = most.filter(|(who, share)| **share > own && **who != comes.by) else {
            return false;
        };
        match left.iter().rposition(|one| one.by == *who) {
            Some(newest) => drop(left.remove(newest)),
            None => return false,
        }
    }
    *kept = left;
    true
}

impl Store {
    /// Keeps these artifacts beside an image, with those that are there, as far as there is room; where there is none, in the place of others' that
    /// have more. Returns how many could not be kept.
    ///
    /// # Errors
    /// The store can't be written to.
    pub fn put_beside(&self, image: Digest, artifacts: Vec<Beside>) -> Result<usize, Error> {
        // Who writes at the same moment would lose what the other has put there.
        let _lock = self.lock("beside", image)?;
        let before = self.beside(image)?;
        let (mut kept, mut left) = (before.clone(), 0);
        for artifact in artifacts {
            if let Some(there) = kept.iter().position(|one| one.manifest == artifact.manifest) {
                // It belongs to whoever has less: else one who has much could bring another's, and it would go with theirs.
                let shares = shares(&kept);
                let share = |who: &Option<String>| shares.get(who).copied().unwrap_or(0);
                if share(&artifact.by) < share(&kept[there].by) {
                    kept[there].by = artifact.by;
                }
                continue;
            }
            if artifact.about(image).is_none() || !make_room(&mut kept, &artifact) {
                left += 1;
                continue;
            }
            kept.push(artifact);
        }
        if kept != before {
            // Texts alone: writing them to memory can't fail.
            let bytes = serde_json::to_vec(&kept).unwrap_or_default();
            self.put_memo(MEMO, image, &bytes)?;
        }
        Ok(left)
    }

    /// The artifacts that are kept beside an image; none where what is kept is damaged.
    ///
    /// # Errors
    /// The store can't be read.
    pub fn beside(&self, image: Digest) -> Result<Vec<Beside>, Error> {
        let memo = self.memo(MEMO, image)?;
        let mut kept: Vec<Beside> =
            memo.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
        kept.retain(|artifact| artifact.about(image).is_some());
        Ok(kept)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(number: usize, size: usize, by: &str) -> Beside {
        let text = format!("{number}{}", "x".repeat(size));
        Beside { manifest: text, files: Vec::new(), by: Some(by.to_owned()) }
    }

    fn count(kept: &[Beside], by: &str) -> usize {
        kept.iter().filter(|one| one.by.as_deref() == Some(by)).count()
    }

    /// However much one brings, another's signature stays, and a new one finds room.
    #[test]
    fn who_brings_much_crowds_nobody_out() {
        for size in [0, 10_000, 2_000_000] {
            let mut kept = vec![one(0, 3000, "signer")];
            let add = |kept: &mut Vec<Beside>, one: Beside| {
                let room = make_room(kept, &one);
                if room {
                    kept.push(one);
                }
                room
            };
            for number in 0..300 {
                add(&mut kept, one(number, size, "junk"));
            }
            assert_eq!(count(&kept, "signer"), 1, "{size}");
            assert!(!add(&mut kept, one(999, size, "junk")), "{size}");
            assert!(add(&mut kept, one(1, 3000, "signer")), "{size}");
            assert!(add(&mut kept, one(2, 3000, "another")), "{size}");
            assert_eq!((count(&kept, "signer"), count(&kept, "another")), (2, 1), "{size}");
            // Who has less is not the one whose own goes.
            assert!(kept.iter().map(Beside::len).sum::<usize>() <= MAX_BYTES);
            assert!(kept.len() <= MAX_COUNT);
        }
        assert!(!make_room(&mut Vec::new(), &one(0, MAX_BYTES, "huge")));
        // What takes six times its room in the memo has that much less.
        let control = Beside { manifest: "\u{1}".repeat(MAX_BYTES / 2), ..one(0, 0, "a") };
        assert_eq!(control.len(), MAX_BYTES);
    }
}
