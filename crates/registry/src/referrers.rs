//! What a registry has about an image: artifacts that refer to it.
//!
//! Source: distribution-spec 1.1, "Listing Referrers", "Pushing Manifests with Subject". A registry
//! that lists them itself says so (`OCI-Subject`) when it takes one. For those that don't, whoever puts
//! an artifact also keeps the list, under a tag made of the image's digest. Two who do so at once may lose
//! one row: the specification knows no way around that.

use std::io::{self, Read};

use sconce_blob::Digest;
use sconce_fetch::http::{Method, shown};
use sconce_oci::{
    Artifact, Descriptor, Document, EMPTY, EMPTY_BYTES, INDEX, MANIFEST, MAX_MANIFEST,
    MAX_REFERRERS, Referrer, referrers_tag,
};
use serde::Deserialize;

use crate::client::{ACCEPT, Registry, whole};
use crate::error::Error;
use crate::upload::Outgoing;

/// The most pages of a list that are read.
const MAX_PAGES: usize = 20;
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

    /// The artifacts about an image or an index.
    ///
    /// # Errors
    /// [`Error::Denied`], a list that is none or too long, and those of the network.
    pub fn referrers(&self, image: Digest) -> Result<Vec<Referrer>, Error> {
        if let Some(rows) = self.listed(image)? {
            return Ok(rows);
        }
        let tag = referrers_tag(image);
        let url = self.url(&format!("manifests/{tag}"))?;
        let wrong = |why: String| Error::Answer { url: shown(&url), why };
        let list = self.under_tag(&tag)?;
        Ok(list.map(|list| Referrer::list(&list)).transpose().map_err(wrong)?.unwrap_or_default())
    }

    /// The artifacts about an image, as the registry itself lists them; `None` where it lists none.
    fn listed(&self, image: Digest) -> Result<Option<Vec<Referrer>>, Error> {
        let mut url = self.url(&format!("referrers/{image}"))?;
        let mut rows = Vec::new();
        for page in 0..MAX_PAGES {
            let got = self.patiently(|| {
                let headers = [("Accept", INDEX), ("Accept-Encoding", "identity")];
                let stream = self.ask(Method::Get, &url, &headers, &mut || Ok(None))?;
                if page == 0 && NO_LISTS.contains(&stream.status) {
                    return Ok(None);
                }
                let stream = stream.accepted(&[200])?;
                let next = stream.header("link").and_then(next).and_then(|to| url.join(to).ok());
                let bytes = whole(stream, MAX_MANIFEST)?;
                self.count(bytes.len() as u64);
                Ok(Some((bytes, next)))
            })?;
            let wrong = |why: String| Error::Answer { url: shown(&url), why };
            let Some((bytes, next)) = got else { return Ok(None) };
            rows.extend(Referrer::list(&bytes).map_err(wrong)?);
            if rows.len() > MAX_REFERRERS {
                return Err(wrong(format!("more than {MAX_REFERRERS} artifacts about one image")));
            }
            match next {
                None => return Ok(Some(rows)),
                Some(next) if next.origin() == self.api.origin() => url = next,
                Some(_) => return Err(wrong("the list goes on at another host".to_owned())),
            }
        }
        Err(Error::Answer {
            url: shown(&url),
            why: format!("a list of more than {MAX_PAGES} pages"),
        })
    }

    /// The manifest of an artifact.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Answer`] for what is none, and those of the network.
    pub fn artifact(&self, row: &Referrer) -> Result<Artifact, Error> {
        let url = self.url(&format!("manifests/{}", row.digest))?;
        let bytes = self.document(&url, &row.digest.to_string(), Some(row.digest), MAX_MANIFEST)?;
        Artifact::parse(&bytes).map_err(|why| Error::Answer { url: shown(&url), why })
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
    /// One of more than `limit` bytes, [`Error::WrongDigest`], and those of the network.
    pub fn small_blob(&self, blob: &Descriptor, limit: u64) -> Result<Vec<u8>, Error> {
        let url = self.url(&format!("blobs/{}", blob.digest))?;
        let wrong = |why| Error::Answer { url: shown(&url), why };
        if blob.size > limit {
            return Err(wrong(format!("{} bytes, where at most {limit} are read", blob.size)));
        }
        self.document(&url, &blob.digest.to_string(), Some(blob.digest), limit)
    }

    /// Puts a small blob, if it is not there.
    ///
    /// # Errors
    /// As [`Registry::put_blob`].
    pub fn put_bytes(&self, media_type: &str, bytes: &[u8]) -> Result<Descriptor, Error> {
        let blob = Descriptor::of(media_type, bytes);
        if !self.has_blob(blob.digest)? {
            self.put_blob(&blob, None, &Bytes(bytes))?;
        }
        Ok(blob)
    }

    /// Puts an artifact about an image, whose file is there already, and sees to it that it is listed.
    ///
    /// # Errors
    /// [`Error::Denied`], a list that is none or full, and those of the network.
    pub fn attach(&self, artifact: &Artifact) -> Result<Attached, Error> {
        self.put_bytes(EMPTY, EMPTY_BYTES)?;
        let bytes = artifact.to_json();
        let digest = Digest::of(&bytes);
        let answer = self.put_document(&digest.to_string(), MANIFEST, &bytes)?;
        let Some(subject) = &artifact.subject else { return Ok(Attached { digest, tag: None }) };
        // Not all that keep lists say so (go-containerregistry 0.20): then they are asked.
        if answer.header("oci-subject").is_some() || self.listed(subject.digest)?.is_some() {
            return Ok(Attached { digest, tag: None });
        }
        let tag = referrers_tag(subject.digest);
        let before = self.under_tag(&tag)?;
        let url = shown(&self.url(&format!("manifests/{tag}"))?);
        let list = Referrer::of(artifact, &bytes)
            .add_to(before.as_deref())
            .map_err(|why| Error::Answer { url, why })?;
        if let Some(list) = list {
            self.put_document(&tag, INDEX, &list)?;
        }
        Ok(Attached { digest, tag: Some(tag) })
    }

    /// Puts an artifact under a tag.
    ///
    /// # Errors
    /// [`Error::Denied`], and those of the network.
    pub fn put_under_tag(&self, tag: &str, artifact: &Artifact) -> Result<Digest, Error> {
        let bytes = artifact.to_json();
        self.put_document(tag, MANIFEST, &bytes)?;
        Ok(Digest::of(&bytes))
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
