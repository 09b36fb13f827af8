//! What is answered to a request.

use std::fmt::Display;
use std::net::IpAddr;

use sconce_blob::Digest;
use sconce_listen::{Hosts, Logins, No, Tls};
use sconce_oci::{Document, INDEX, MANIFEST, list_of};
use sconce_store::{Error as StoreError, Image, Store};
use serde_json::json;

use crate::answer::{Answer, Body};
use crate::beside;
use crate::body::Incoming;
use crate::clients::Client;
use crate::error::Refusal;
use crate::images;
use crate::pushes::Pushes;
use crate::range::{Part, part};
use crate::request::{Request, Secret};
use crate::route::{Route, Wanted, route, upload};
use crate::specifications::{Asker, Specifications};
use crate::stores::Stores;

/// The most repositories or tags of one answer; a `Link` leads to the rest.
const MAX_LISTED: usize = 1000;

/// The store as a registry.
pub struct Registry<'a> {
    /// Where images and blobs are.
    pub stores: Stores<'a>,
    /// Where those come from that are not there yet.
    pub specifications: Specifications<'a>,
    /// The host names it answers to.
    pub hosts: Hosts,
    /// Who may ask; anybody where there are none.
    pub logins: Option<Logins>,
    /// What takes pushes; nothing is taken where there is none.
    pub pushes: Option<Pushes>,
    /// What connections are encrypted with.
    pub tls: Option<Tls>,
    /// Told what a person who runs it should see: who took what, and what failed here.
    pub note: &'a (dyn Fn(&str) + Sync),
}

impl Registry<'_> {
    /// The answer; a refusal is one too.
    pub(crate) fn answer(
        &self,
        request: &Request,
        body: &mut Incoming<'_, '_>,
        client: IpAddr,
    ) -> Answer {
        if let Err(strange) = self.hosts.check(request.host.as_deref()) {
            let refusal = Refusal::from(strange);
            // Engines show little of an answer that is no: whoever runs this is told as well.
            (self.note)(&format!("{client}: {}", refusal.message));
            return refusal.into();
        }
        let sent = request.authorization.as_ref().map(Secret::text);
        let login = self.logins.as_ref().map(|logins| logins.check(sent, client));
        let who = match login {
            None => Client::at(client),
            Some(Ok(name)) => Client::Named(name),
            Some(Err(no)) => {
                let refusal = Refusal::from(no);
                // An engine asks without a login first: that is nothing to tell of.
                if no != No::Absent {
                    (self.note)(&format!("{client}: {}", refusal.message));
                }
                return refusal.into();
            }
        };
        let reads = matches!(request.method.as_str(), "GET" | "HEAD");
        let of_upload = upload(&request.path).is_ok_and(|upload| upload.is_some());
        if let Some(pushes) = self.pushes.as_ref().filter(|_| !reads || of_upload) {
            let answered = pushes.answer(self, request, body, (client, &who));
            return answered.unwrap_or_else(Answer::from);
        }
        if !reads {
            return Refusal::method(&request.method).into();
        }
        let asker = Asker { who: &who, has_left: &|| body.has_left() };
        let answered = route(&request.path).and_then(|route| match route {
            Route::Base => Ok(Answer::json(&json!({}))),
            Route::Catalog => self.catalog(request),
            Route::Tags(name) => self.tags(request, &name),
            Route::Manifest(name, wanted) => {
                self.manifest(request, &name, &wanted, (client, &asker))
            }
            Route::Referrers(name, image) => self.referrers(request, &name, image),
            Route::Blob(digest) => self.blob(request, digest),
            Route::Lock(name) => self.lock(&name),
        });
        answered.unwrap_or_else(Answer::from)
    }

    /// Gives up what nothing comes of any more.
    pub(crate) fn sweep(&self) {
        if let Some(pushes) = &self.pushes {
            pushes.sweep();
        }
        // Opens it anew when it is time; a fault is the next request's.
        let _ = self.stores.get();
    }

    /// Removes what is left of uploads and builds that have not ended: to be called when the process ends, of which
    /// nobody would know any more what they were.
    pub fn clear(&self) {
        self.stores.clear();
    }

    pub(crate) fn store(&self) -> Result<Store, Refusal> {
        self.stores.get().map_err(|error| self.failed(&error))
    }

    /// A fault here: said to who runs this, not to who asks.
    pub(crate) fn failed(&self, error: &dyn Display) -> Refusal {
        (self.note)(&error.to_string());
        Refusal::internal()
    }

    fn catalog(&self, request: &Request) -> Result<Answer, Refusal> {
        let found = images::repositories(&self.store()?).map_err(|error| self.failed(&error))?;
        let (names, more) = page(request, found.into_keys());
        let answer = Answer::json(&json!({ "repositories": names }));
        Ok(linked(answer, "/v2/_catalog", request, more))
    }

    fn tags(&self, request: &Request, name: &str) -> Result<Answer, Refusal> {
        let mut found =
            images::repositories(&self.store()?).map_err(|error| self.failed(&error))?;
        let found = found.remove(name).ok_or_else(|| Refusal::name_unknown(name))?;
        let (tags, more) = page(request, found.into_keys());
        let answer = Answer::json(&json!({ "name": name, "tags": tags }));
        Ok(linked(answer, &format!("/v2/{name}/tags/list"), request, more))
    }

    fn manifest(
        &self,
        request: &Request,
        repository: &str,
        wanted: &Wanted,
        (client, asker): (IpAddr, &Asker<'_>),
    ) -> Result<Answer, Refusal> {
        let store = self.store()?;
        let digest = match wanted {
            Wanted::Digest(digest) => *digest,
            Wanted::Tag(tag) => {
                let name = format!("{repository}:{tag}");
                let digest = self.named(&store, repository, tag, (request.of_browser, asker))?;
                (self.note)(&format!("{client} asks for {name}: {}", digest.short()));
                digest
            }
        };
        let bytes = match self.image(&store, digest)? {
            Some(image) => {
                if let Some(why) = images::damaged(&store, &image) {
                    (self.note)(&format!("image {}: {why}", digest.short()));
                    let message = "a part of this image is damaged; the registry's log says which";
                    return Err(Refusal::manifest_unknown(message));
                }
                // By a tag it would have been built anew.
                if !images::is_whole(&store, &image).map_err(|error| self.failed(&error))? {
                    (self.note)(&format!("image {}: parts of it were pruned", digest.short()));
                    let message = "parts of this image were pruned: it is there again when it was built or pulled";
                    return Err(Refusal::manifest_unknown(message));
                }
                // With other bytes it is no part of this image, whoever asks again.
                let documents = store.config(&image).and_then(|_| store.manifest(&image));
                let bytes = documents.map_err(|error| {
                    (self.note)(&format!("image {}: {error}", digest.short()));
                    let message = "a part of this image is damaged; the registry's log says which";
                    Refusal::manifest_unknown(message)
                })?;
                self.stores.told(&image, &bytes);
                bytes
            }
            None => beside::manifest(&store, digest)
                .ok_or_else(|| Refusal::manifest_unknown("there is no such image here"))?,
        };
        let media_type = match Document::parse(&bytes) {
            Ok(Document::Manifest(manifest)) => manifest.media_type.unwrap_or(MANIFEST.to_owned()),
            Ok(Document::Index(_)) => INDEX.to_owned(),
            Err(why) => return Err(self.failed(&format!("manifest {digest}: {why}"))),
        };
        let answer = match is_known(request, digest) {
            true => Answer::new(304, &media_type, Vec::new()),
            false => Answer::new(200, &media_type, bytes),
        };
        Ok(answer.with("Docker-Content-Digest", digest.to_string()).with("ETag", tag_of(digest)))
    }

    /// The artifacts about an image; none about one that is not here.
    fn referrers(
        &self,
        request: &Request,
        repository: &str,
        image: Digest,
    ) -> Result<Answer, Refusal> {
        let store = self.store()?;
        let mut rows = Vec::new();
        if self.image(&store, image)?.is_some() {
            let found = images::repositories(&store).map_err(|error| self.failed(&error))?;
            let tags = found.get(repository).into_iter().flatten();
            let mut locks = Vec::new();
            for (tag, _) in tags.filter(|(_, digest)| **digest == image) {
                let lock = self.specifications.lock(&store, &format!("{repository}:{tag}"));
                locks.extend(lock.map_err(|error| self.failed(&error))?);
            }
            rows = beside::artifacts(&store, image, &locks).map_err(|error| self.failed(&error))?;
        }
        let kind = request.parameter("artifactType");
        if let Some(kind) = &kind {
            rows.retain(|row| row.artifact_type == *kind);
        }
        let answer = Answer::new(200, INDEX, list_of(&rows));
        Ok(match kind {
            Some(_) => answer.with("OCI-Filters-Applied", "artifactType"),
            None => answer,
        })
    }

    /// The image of a name: that of the store, else the one that is built for it.
    fn named(
        &self,
        store: &Store,
        repository: &str,
        tag: &str,
        (of_browser, asker): (bool, &Asker<'_>),
    ) -> Result<Digest, Refusal> {
        let found = images::find(store, repository, tag).map_err(|error| self.failed(&error))?;
        if let Some(digest) = found
            && let Some(image) = self.image(store, digest)?
            && images::is_whole(store, &image).map_err(|error| self.failed(&error))?
        {
            return Ok(digest);
        }
        let name = format!("{repository}:{tag}");
        if of_browser {
            // Any page may ask the loopback address of whoever reads it.
            let message = format!("`{name}` is not there, and nothing is built for a browser");
            return Err(Refusal::new(403, "DENIED", message));
        }
        match self.specifications.image(store, &name, asker) {
            Some(made) => made.map_err(|(refusal, fault)| {
                fault.iter().for_each(|fault| (self.note)(&format!("{name}: {fault}")));
                refusal
            }),
            None if found.is_some() => Err(Refusal::manifest_unknown(format!(
                "parts of `{name}` were pruned: it is there again when it was built or pulled"
            ))),
            None => Err(Refusal::manifest_unknown(format!("there is no image `{name}` here"))),
        }
    }

    /// The image with this digest, if it is one.
    fn image(&self, store: &Store, digest: Digest) -> Result<Option<Image>, Refusal> {
        if !store.knows(digest) {
            return Ok(None);
        }
        match store.image(&digest.hex()) {
            Ok(image) => Ok(Some(image)),
            Err(StoreError::NoImage { .. } | StoreError::Incomplete { .. }) => Ok(None),
            Err(error) => Err(self.failed(&error)),
        }
    }

    fn blob(&self, request: &Request, digest: Digest) -> Result<Answer, Refusal> {
        let store = self.store()?;
        // What is not there is not looked up as what is: that would keep its place in the store's books.
        if !store.knows(digest) {
            return Err(Refusal::blob_unknown());
        }
        if let Some(size) = self.stores.size(&store, digest)
            && let Err(error) = store.check_size(digest, size)
        {
            (self.note)(&error.to_string());
            return Err(Refusal::blob_unknown());
        }
        let mut blob = match store.open_blob(digest) {
            Ok(blob) => blob,
            Err(StoreError::MissingBlob(_)) => return Err(Refusal::blob_unknown()),
            Err(error) => return Err(self.failed(&error)),
        };
        let size = blob.len();
        let fresh = request.if_range.as_ref().is_none_or(|known| *known == tag_of(digest));
        let range = request.range.as_deref().filter(|_| fresh && request.method == "GET");
        let mut answer = Answer::new(200, "application/octet-stream", Vec::new())
            .with("Docker-Content-Digest", digest.to_string())
            .with("ETag", tag_of(digest))
            .with("Accept-Ranges", "bytes");
        if is_known(request, digest) {
            answer.status = 304;
            return Ok(answer);
        }
        answer.body = match part(range, size) {
            Part::Whole => Body::Blob(Box::new(blob), size),
            Part::Some { start, len } => {
                answer.status = 206;
                answer = answer
                    .with("Content-Range", format!("bytes {start}-{}/{size}", start + len - 1));
                blob.skip(start);
                Body::Blob(Box::new(blob), len)
            }
            Part::Outside => {
                let refusal = Refusal::new(416, "BLOB_UNKNOWN", "the blob has no such bytes");
                return Ok(Answer::from(refusal).with("Content-Range", format!("bytes */{size}")));
            }
        };
        Ok(answer)
    }

    fn lock(&self, name: &str) -> Result<Answer, Refusal> {
        let found = self.specifications.lock(&self.store()?, name);
        match found.map_err(|error| self.failed(&error))? {
            // What `push` does not put beside an image is not shown here either.
            Some(lock) if !lock.private().is_empty() => Err(Refusal::private_lock()),
            Some(lock) => {
                Ok(Answer::new(200, "text/plain; charset=utf-8", lock.to_text().into_bytes()))
            }
            None => Err(Refusal::name_unknown(name)),
        }
    }
}

/// The entity tag of what a digest names.
fn tag_of(digest: Digest) -> String {
    format!("\"{digest}\"")
}

/// Whether the client has it already.
fn is_known(request: &Request, digest: Digest) -> bool {
    let tag = tag_of(digest);
    let known = request.if_none_match.as_deref().unwrap_or_default();
    known.split(',').any(|known| known.trim().trim_start_matches("W/") == tag)
}

/// The part of a list that is asked for with `n` and `last`, and the last of it where there is more.
fn page(request: &Request, all: impl Iterator<Item = String>) -> (Vec<String>, Option<String>) {
    let most = request.parameter("n").and_then(|n| n.parse().ok()).unwrap_or(MAX_LISTED);
    let most = most.min(MAX_LISTED);
    let last = request.parameter("last");
    let mut after = all.skip_while(|name| last.as_ref().is_some_and(|last| name <= last));
    let listed: Vec<String> = after.by_ref().take(most).collect();
    let more = after.next().and_then(|_| listed.last().cloned());
    (listed, more)
}

/// With the address of the next part.
fn linked(answer: Answer, path: &str, request: &Request, more: Option<String>) -> Answer {
    let Some(last) = more else { return answer };
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    query.append_pair("last", &last);
    if let Some(n) = request.parameter("n") {
        query.append_pair("n", &n);
    }
    answer.with("Link", format!("<{path}?{}>; rel=\"next\"", query.finish()))
}
