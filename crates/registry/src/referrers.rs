//! What a registry has about an image: artifacts that refer to it.
//!
//! Source: distribution-spec 1.1, "Listing Referrers", "Pushing Manifests with Subject". A registry
//! that lists them itself says so (`OCI-Subject`) when it takes one. For those that don't, whoever puts
//! an artifact also keeps the list, under a tag made of the image's digest. The specification has no lock
//! for that: whoever puts a row there looks whether it stayed.
//!
//! Anybody who may write to a repository adds artifacts. Lists, manifests and the time for them are bounded,
//! and what is beyond the bounds is said to be there.

use std::collections::HashSet;
use std::io::{self, Read};
use std::time::{Duration, Instant};

use sconce_blob::Digest;
use sconce_fetch::http::{Method, shown};
use sconce_oci::{
    Artifact, Descriptor, Document, EMPTY, EMPTY_BYTES, INDEX, MANIFEST, MAX_ARTIFACT,
    MAX_MANIFEST, MAX_REFERRERS, Referrer, referrers_tag,
};
use serde::Deserialize;

use crate::client::{ACCEPT, Registry, whole};
use crate::error::Error;
use crate::upload::Outgoing;

/// The most pages of a list that are read, and for how long.
const MAX_PAGES: usize = 20;
const MAX_TIME: Duration = Duration::from_secs(60);
/// How often a list is looked at for what was just put into it, and the pauses between.
const LIST_TRIES: u32 = 8;
const PAUSE: Duration = Duration::from_millis(200);
/// What registries without such lists answer: by the specification 404, in fact others too.
const NO_LISTS: [u16; 4] = [400, 404, 405, 501];

/// What a reference names: a manifest or an index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// Where it is, and what it is.
    pub descriptor: Descriptor,
    /// The bytes of the document.
    pub bytes: Vec<u8>,
}

/// Where an artifact was put.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attached {
    /// The digest of its manifest.
    pub digest: Digest,
    /// The tag of the list that it was put into by hand.
    pub tag: Option<String>,
}

/// The artifacts about an image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listed {
    /// The rows of the list.
    pub rows: Vec<Referrer>,
    /// Why there may be more of the kind that was asked for.
    pub cut: Option<String>,
    /// Whether there are more of other kinds.
    pub others: bool,
}

/// A list as the registry makes it.
#[derive(Default)]
struct Pages {
    rows: Vec<Referrer>,
    cut: Option<String>,
    /// It has only what was asked for.
    filtered: bool,
}

/// Bytes at hand.
struct Bytes<'a>(&'a [u8]);

impl Outgoing for Bytes<'_> {
    fn open(&self) -> io::Result<Box<dyn Read + '_>> {
        Ok(Box::new(self.0))
    }

    fn sent(&self, _: u64) {}
}

impl Registry {
    /// What the reference names, an index as it is.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Denied`], and those of the network.
    pub fn named(&self) -> Result<Named, Error> {
        let wanted = self.reference.wanted();
        let url = self.url(&format!("manifests/{wanted}"))?;
        let bytes = self.document(&url, &wanted, self.reference.digest, MAX_MANIFEST)?;
        let wrong = |why| Error::Answer { url: shown(&url), why };
        let default = match Document::parse(&bytes).map_err(wrong)? {
            Document::Index(_) => INDEX,
            Document::Manifest(_) => MANIFEST,
        };
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Typed {
            media_type: Option<String>,
        }
        let typed = serde_json::from_slice::<Typed>(&bytes).ok().and_then(|typed| typed.media_type);
        let media_type = typed.as_deref().unwrap_or(default);
        Ok(Named { descriptor: Descriptor::of(media_type, &bytes), bytes })
    }

    /// The artifacts about an image or an index. Where there are too many to read them all, those of `kind`
    /// are asked for besides.
    ///
    /// # Errors
    /// [`Error::Denied`], a list that is none, and those of the network.
    pub fn referrers(&self, image: Digest, kind: &str) -> Result<Listed, Error> {
        let Some(mut listed) = self.listed(image, None)? else {
            let rows = self.listed_under_tag(image)?;
            return Ok(Listed { rows, cut: None, others: false });
        };
        let others = listed.cut.is_some();
        if others
            && let Some(of_kind) = self.listed(image, Some(kind))?
            && of_kind.filtered
        {
            let known: HashSet<Digest> = listed.rows.iter().map(|row| row.digest).collect();
            listed.rows.extend(of_kind.rows.into_iter().filter(|row| !known.contains(&row.digest)));
            // A registry knows the types of its manifests: what was not read is of other ones.
            listed.cut = of_kind.cut;
        }
        Ok(Listed { rows: listed.rows, cut: listed.cut, others })
    }

    /// The list that is kept by hand, in a registry that makes none.
    fn listed_under_tag(&self, image: Digest) -> Result<Vec<Referrer>, Error> {
        let tag = referrers_tag(image);
        let url = self.url(&format!("manifests/{tag}"))?;
        let wrong = |why: String| Error::Answer { url: shown(&url), why };
        let list = self.under_tag(&tag)?;
        Ok(list.map(|list| Referrer::list(&list)).transpose().map_err(wrong)?.unwrap_or_default())
    }

    /// The artifacts about an image, as the registry itself lists them, only those of a kind where that is
    /// given; `None` where it lists none.
    fn listed(&self, image: Digest, kind: Option<&str>) -> Result<Option<Pages>, Error> {
        let mut url = self.url(&format!("referrers/{image}"))?;
        if let Some(kind) = kind {
            url.query_pairs_mut().append_pair("artifactType", kind);
        }
        let end = Instant::now() + MAX_TIME;
        let mut pages = Pages::default();
        for page in 0..MAX_PAGES {
            let got = self.patiently(|| {
                let headers = [("Accept", INDEX), ("Accept-Encoding", "identity")];
                let stream = self.ask(Method::Get, &url, &headers, &mut || Ok(None))?;
                if page == 0 && NO_LISTS.contains(&stream.status) {
                    return Ok(None);
                }
                let stream = stream.accepted(&[200])?;
                let next = stream.header("link").and_then(next).and_then(|to| url.join(to).ok());
                let filtered = stream.header("oci-filters-applied").is_some_and(|applied| {
                    applied.split(',').any(|one| one.trim() == "artifactType")
                });
                let bytes = whole(stream, MAX_MANIFEST)?;
                self.count(bytes.len() as u64);
                Ok(Some((bytes, next, filtered)))
            })?;
            let wrong = |why: String| Error::Answer { url: shown(&url), why };
            let Some((bytes, next, filtered)) = got else { return Ok(None) };
            pages.filtered = filtered && (page == 0 || pages.filtered);
            pages.rows.extend(Referrer::list(&bytes).map_err(wrong)?);
            match next {
                None => return Ok(Some(pages)),
                Some(next) if next.origin() == self.api.origin() => url = next,
                Some(_) => return Err(wrong("the list goes on at another host".to_owned())),
            }
            if pages.rows.len() >= MAX_REFERRERS || Instant::now() > end {
                break;
            }
        }
        pages.cut = Some(format!("the list goes on after {} rows", pages.rows.len()));
        Ok(Some(pages))
    }

    /// The manifest of an artifact.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Answer`] for what is none, and those of the network.
    pub fn artifact(&self, row: &Referrer) -> Result<(Artifact, Vec<u8>), Error> {
        let url = self.url(&format!("manifests/{}", row.digest))?;
        let wrong = |why| Error::Answer { url: shown(&url), why };
        if row.size > MAX_ARTIFACT {
            return Err(wrong(format!(
                "{} bytes, where at most {MAX_ARTIFACT} are read",
                row.size
            )));
        }
        let bytes = self.document(&url, &row.digest.to_string(), Some(row.digest), MAX_ARTIFACT)?;
        Artifact::parse(&bytes).map(|artifact| (artifact, bytes)).map_err(wrong)
    }

    /// The bytes of a manifest or index under a tag of the repository; `None` where there is no such tag.
    ///
    /// # Errors
    /// [`Error::Denied`], and those of the network.
    pub fn under_tag(&self, tag: &str) -> Result<Option<Vec<u8>>, Error> {
        let url = self.url(&format!("manifests/{tag}"))?;
        self.patiently(|| {
            let headers = [("Accept", ACCEPT), ("Accept-Encoding", "identity")];
            let stream = self.ask(Method::Get, &url, &headers, &mut || Ok(None))?;
            if stream.status == 404 {
                return Ok(None);
            }
            let bytes = whole(stream.accepted(&[200])?, MAX_MANIFEST)?;
            self.count(bytes.len() as u64);
            Ok(Some(bytes))
        })
    }

    /// A small blob, whole.
    ///
    /// # Errors
    /// One of more than `limit` bytes, or than it is said to have, [`Error::WrongDigest`], and those of the
    /// network.
    pub fn small_blob(&self, blob: &Descriptor, limit: u64) -> Result<Vec<u8>, Error> {
        let url = self.url(&format!("blobs/{}", blob.digest))?;
        let wrong = |why| Error::Answer { url: shown(&url), why };
        if blob.size > limit {
            return Err(wrong(format!("{} bytes, where at most {limit} are read", blob.size)));
        }
        // What is said of its size was counted: no more of it is read.
        self.document(&url, &blob.digest.to_string(), Some(blob.digest), blob.size)
    }

    /// Puts a small blob, if it is not there. That it was taken is not believed: it is read back.
    ///
    /// # Errors
    /// As [`Registry::put_blob`]; the registry has it not.
    pub fn put_bytes(&self, media_type: &str, bytes: &[u8]) -> Result<Descriptor, Error> {
        let blob = Descriptor::of(media_type, bytes);
        if !self.has_blob(blob.digest)? {
            self.put_blob(&blob, None, &Bytes(bytes))?;
            let there = self.small_blob(&blob, blob.size);
            self.taken(&format!("blobs/{}", blob.digest), there)?;
        }
        Ok(blob)
    }

    /// Puts an artifact about an image, whose files are there already, and sees to it that it is there and
    /// listed.
    ///
    /// # Errors
    /// [`Error::Denied`], a list that is none or full, a registry that says it took what it has not, and
    /// those of the network.
    pub fn attach(&self, artifact: &Artifact) -> Result<Attached, Error> {
        self.attach_bytes(artifact, &artifact.to_json())
    }

    /// As [`Registry::attach`], for an artifact that has these bytes elsewhere.
    ///
    /// # Errors
    /// As [`Registry::attach`].
    pub fn attach_bytes(&self, artifact: &Artifact, bytes: &[u8]) -> Result<Attached, Error> {
        if artifact.config.media_type == EMPTY {
            self.put_bytes(EMPTY, EMPTY_BYTES)?;
        }
        let digest = Digest::of(bytes);
        let path = format!("manifests/{digest}");
        self.put_document(&digest.to_string(), MANIFEST, bytes)?;
        let there = self.document(&self.url(&path)?, &path, Some(digest), MAX_ARTIFACT);
        self.taken(&path, there)?;
        let Some(subject) = &artifact.subject else { return Ok(Attached { digest, tag: None }) };
        let kind = artifact.kind();
        // Not all that keep lists say so when they take one (`OCI-Subject`), nor do all that say so keep any.
        for attempt in 0..LIST_TRIES {
            let Some(pages) = self.listed(subject.digest, Some(kind))? else {
                return self.list_by_hand(artifact, bytes);
            };
            if pages.cut.is_some() || pages.rows.iter().any(|row| row.digest == digest) {
                return Ok(Attached { digest, tag: None });
            }
            // Some make their lists a moment later.
            std::thread::sleep(PAUSE * attempt);
        }
        let url = shown(&self.url(&format!("referrers/{}", subject.digest))?);
        let why = "the registry took an artifact and does not list it".to_owned();
        Err(Error::Answer { url, why })
    }

    /// Adds an artifact to the list under a tag of the repository, with what others put there. Who writes
    /// at the same moment may write over it: so the list is read again a little later, until the row is in it.
    fn list_by_hand(&self, artifact: &Artifact, bytes: &[u8]) -> Result<Attached, Error> {
        let digest = Digest::of(bytes);
        let subject = artifact.subject.as_ref().map_or(digest, |subject| subject.digest);
        let tag = referrers_tag(subject);
        let url = shown(&self.url(&format!("manifests/{tag}"))?);
        let row = Referrer::of(artifact, bytes);
        for attempt in 1..=LIST_TRIES {
            let before = self.under_tag(&tag)?;
            let list = row
                .add_to(before.as_deref())
                .map_err(|why| Error::Answer { url: url.clone(), why })?;
            match list {
                None => return Ok(Attached { digest, tag: Some(tag) }),
                Some(list) => drop(self.put_document(&tag, INDEX, &list)?),
            }
            // Those who met once don't meet again: each waits for a time of its own.
            let own = u32::from(digest.as_bytes().first().copied().unwrap_or_default() % 16);
            std::thread::sleep(PAUSE + PAUSE / 8 * own * attempt);
        }
        let why = "the registry took a list of artifacts and has another one".to_owned();
        Err(Error::Answer { url, why })
    }

    /// What was just put there, as it is read back.
    fn taken(&self, path: &str, there: Result<Vec<u8>, Error>) -> Result<(), Error> {
        match there {
            Err(Error::NotFound { .. }) => Err(Error::Answer {
                url: shown(&self.url(path)?),
                why: "the registry said that it took this, and does not have it".to_owned(),
            }),
            there => there.map(drop),
        }
    }

    /// Puts an artifact under a tag.
    ///
    /// # Errors
    /// [`Error::Denied`], and those of the network.
    pub fn put_under_tag(&self, tag: &str, artifact: &Artifact) -> Result<Digest, Error> {
        self.put_bytes_under_tag(tag, MANIFEST, &artifact.to_json())
    }

    /// Puts a manifest under a tag, and reads it back.
    ///
    /// # Errors
    /// [`Error::Denied`], and those of the network.
    pub fn put_bytes_under_tag(
        &self,
        tag: &str,
        media_type: &str,
        bytes: &[u8],
    ) -> Result<Digest, Error> {
        self.put_document(tag, media_type, bytes)?;
        let digest = Digest::of(bytes);
        match self.under_tag(tag)? {
            Some(there) if Digest::of(&there) == digest => Ok(digest),
            _ => Err(Error::Answer {
                url: shown(&self.url(&format!("manifests/{tag}"))?),
                why: "the registry said that it took this, and has something else".to_owned(),
            }),
        }
    }
}

/// Where a list goes on: the address of `<…>; rel="next"` (RFC 8288).
fn next(header: &str) -> Option<&str> {
    header.split(',').find_map(|link| {
        let (to, about) = link.trim().strip_prefix('<')?.split_once('>')?;
        let is_next =
            about.split(';').any(|word| matches!(word.trim(), "rel=next" | "rel=\"next\""));
        is_next.then_some(to)
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn where_a_list_goes_on() {
        for (header, expected) in [
            ("</v2/a?n=1>; rel=\"next\"", Some("/v2/a?n=1")),
            ("<x>; rel=prev, <y>; rel=next", Some("y")),
            ("<x>; rel=last", None),
            ("x; rel=next", None),
            ("", None),
        ] {
            assert_eq!(super::next(header), expected, "{header}");
        }
    }
}
