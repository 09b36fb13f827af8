//! What clients may write where whoever runs this says so (distribution-spec 1.1, "Push"): blobs, manifests of images of one
//! platform, and what is about those. Nothing is ever deleted.

use std::io::Read;
use std::net::IpAddr;

use sconce_blob::Digest;
use sconce_lock::Spec;
use sconce_oci::{Artifact, DOCKER_HUB_HOSTS, Document, Transport};
use sconce_store::{Error as StoreError, Store};

use crate::answer::Answer;
use crate::body::Incoming;
use crate::clients::Client;
use crate::error::Refusal;
use crate::fields::{check_fields, check_type};
use crate::registry::Registry;
use crate::request::{Framing, Request};
use crate::route::{Route, Upload, Wanted, route, upload};
use crate::uploads::{Fault, Uploads, Which, check_room};

/// The largest manifest that is taken, bytes.
const MAX_MANIFEST: u64 = 4 << 20;
/// Bytes that must be free on the store's disk for more to be taken.
const MIN_FREE: u64 = 2 << 30;

/// Takes what is pushed.
pub struct Pushes {
    uploads: Uploads,
    min_free: u64,
}

impl Default for Pushes {
    fn default() -> Self {
        Self { uploads: Uploads::default(), min_free: MIN_FREE }
    }
}

impl Pushes {
    /// Takes nothing while fewer bytes are free on the store's disk.
    #[must_use]
    pub fn with_min_free(self, bytes: u64) -> Self {
        Self { min_free: bytes, ..self }
    }

    /// Gives up what nothing comes of.
    pub(crate) fn sweep(&self) {
        self.uploads.sweep();
    }

    /// The answer to a request that writes.
    pub(crate) fn answer(
        &self,
        registry: &Registry<'_>,
        request: &Request,
        body: &mut Incoming<'_, '_>,
        (client, who): (IpAddr, &Client),
    ) -> Result<Answer, Refusal> {
        if request.of_browser {
            // Any page may send to the loopback address of whoever reads it.
            return Err(Refusal::new(403, "DENIED", "nothing is taken from a browser"));
        }
        // Until it has been answered: a manifest is not done when all of it is read.
        let _receiving = request.has_body.then(|| body.receive(who)).transpose()?;
        let store = registry.store()?;
        let done = match upload(&request.path)? {
            Some(wanted) => self.upload(&store, request, body, (&wanted, who)),
            None => match (request.method.as_str(), route(&request.path)?) {
                ("PUT", Route::Manifest(name, wanted)) => {
                    let taken = self.manifest(&store, request, body, (&name, &wanted, who));
                    if let Ok((_, digest)) = &taken {
                        let what = match &wanted {
                            Wanted::Tag(tag) => format!("{name}:{tag}"),
                            Wanted::Digest(_) => name,
                        };
                        (registry.note)(&format!("{client} pushed {what}: {}", digest.short()));
                    }
                    taken.map(|(answer, _)| answer)
                }
                ("DELETE", Route::Manifest(..) | Route::Blob(_)) => {
                    let why = "nothing is deleted here: `sconce rmi` and `sconce prune` on this machine do";
                    Err(Refusal::new(405, "UNSUPPORTED", why).into())
                }
                _ => Err(Refusal::method(&request.method).into()),
            },
        };
        done.map_err(|fault| match fault {
            Fault::Refused(refusal) => refusal,
            Fault::Here(why) => registry.failed(&format!("{client}: {why}")),
            Fault::Full(why) => {
                (registry.note)(&format!("{client}: {why}"));
                Refusal::new(507, "DENIED", "the registry's disk is full; its log says more")
            }
            Fault::Slow => Refusal::new(
                408,
                "BLOB_UPLOAD_INVALID",
                "what is sent comes too slowly, or not at all",
            ),
            Fault::Client(why) => Refusal::new(400, "BLOB_UPLOAD_INVALID", why),
        })
    }

    fn upload(
        &self,
        store: &Store,
        request: &Request,
        body: &mut Incoming<'_, '_>,
        (wanted, who): (&Upload, &Client),
    ) -> Result<Answer, Fault> {
        let name = &wanted.repository;
        let digest = |key: &str| match request.parameter(key) {
            None => Ok(None),
            Some(text) if text.starts_with("sha256:") => {
                text.parse::<Digest>().map(Some).map_err(|_| Refusal::digest_invalid())
            }
            Some(_) => Err(Refusal::digest_invalid()),
        };
        match (request.method.as_str(), &wanted.id) {
            ("POST", None) => {
                // Whoever may push may read: it is as good as there.
                if let Some(known) = digest("mount")?
                    && store.has_blob(known)?
                {
                    self.uploads.keep(store);
                    return Ok(made(name, "blobs", known));
                }
                check_room(store, self.min_free)?;
                let whole = digest("digest")?;
                let id = self.uploads.begin(store, name, who)?;
                match whole {
                    Some(whole) => {
                        self.finish(store, (request, body), Which::new(name, &id, who), whole)
                    }
                    None => Ok(going_on(name, &id, 0)),
                }
            }
            ("PATCH", Some(id)) => {
                let range = request.content_range.as_deref();
                let size = self.uploads.with(Which::new(name, id, who), |upload| {
                    let end = end_of_piece(range, upload.len(), request.framing)?;
                    upload.add(store, body, self.min_free)?;
                    check_end(end, upload.len())?;
                    Ok(upload.len())
                });
                match size {
                    Ok(size) => Ok(going_on(name, id, size)),
                    Err(fault) => self.range(Which::new(name, id, who), fault),
                }
            }
            ("PUT", Some(id)) => {
                let whole = digest("digest")?.ok_or_else(Refusal::digest_invalid)?;
                let which = Which::new(name, id, who);
                let done = self.finish(store, (request, body), which, whole);
                done.or_else(|fault| self.range(which, fault))
            }
            ("GET", Some(id)) => {
                let size =
                    self.uploads.with(Which::new(name, id, who), |upload| Ok(upload.len()))?;
                Ok(Answer { status: 204, ..going_on(name, id, size) })
            }
            ("DELETE", Some(id)) => {
                self.uploads.with(Which::new(name, id, who), |upload| {
                    upload.cancel();
                    Ok(())
                })?;
                Ok(Answer::empty(204))
            }
            _ => Err(Refusal::method(&request.method).into()),
        }
    }

    /// Says with a refusal of a piece where the upload stands.
    fn range(&self, which: Which<'_>, fault: Fault) -> Result<Answer, Fault> {
        match fault {
            Fault::Refused(refusal) if refusal.status == 416 => {
                let size = self.uploads.with(which, |upload| Ok(upload.len()))?;
                let location = address(which.repository, which.id);
                let range = format!("0-{}", size.saturating_sub(1));
                Ok(Answer::from(refusal).with("Range", range).with("Location", location))
            }
            fault => Err(fault),
        }
    }

    fn finish(
        &self,
        store: &Store,
        (request, body): (&Request, &mut Incoming<'_, '_>),
        which: Which<'_>,
        whole: Digest,
    ) -> Result<Answer, Fault> {
        let range = request.content_range.as_deref();
        self.uploads.with(which, |upload| {
            let end = end_of_piece(range, upload.len(), request.framing)?;
            let added = upload.add(store, body, self.min_free);
            if added.is_err() {
                // What broke off in the last piece is begun anew.
                upload.cancel();
            }
            added.and_then(|()| check_end(end, upload.len()))?;
            upload.finish(whole)
        })?;
        self.uploads.keep(store);
        Ok(made(which.repository, "blobs", whole))
    }

    fn manifest(
        &self,
        store: &Store,
        request: &Request,
        body: &mut Incoming<'_, '_>,
        (name, wanted, who): (&str, &Wanted, &Client),
    ) -> Result<(Answer, Digest), Fault> {
        check_room(store, self.min_free)?;
        let mut bytes = Vec::new();
        let read = body.take(MAX_MANIFEST + 1).read_to_end(&mut bytes);
        read.map_err(|error| Fault::of_client(&error))?;
        if bytes.len() as u64 > MAX_MANIFEST {
            let why = "the manifest has more than 4 MiB";
            return Err(Refusal::new(413, "MANIFEST_INVALID", why).into());
        }
        let invalid = |why: String| Refusal::new(400, "MANIFEST_INVALID", why);
        let digest = Digest::of(&bytes);
        let first = name.split('/').next().unwrap_or_default();
        if DOCKER_HUB_HOSTS.contains(&first) {
            // It would answer for the name without that, which may be one that sconce builds.
            let why = "names are pushed without Docker Hub's own, such as `docker.io/`";
            return Err(Refusal::new(400, "NAME_INVALID", why).into());
        }
        if Transport::of_word(name).is_some() {
            // `store:good` is the image `good` of the store.
            let why = format!("`{name}:` says where an image is, and is no name of one");
            return Err(Refusal::new(400, "NAME_INVALID", why).into());
        }
        let mut names = Vec::new();
        match wanted {
            Wanted::Digest(said) if *said != digest => {
                let why = format!("the manifest has the digest {digest}, not {said}");
                return Err(Refusal::new(400, "DIGEST_INVALID", why).into());
            }
            Wanted::Digest(_) => {}
            Wanted::Tag(tag) => names.push(format!("{name}:{tag}")),
        }
        let document = Document::parse(&bytes).map_err(invalid)?;
        check_fields(&bytes).map_err(invalid)?;
        check_type(request.content_type.as_deref(), &document).map_err(invalid)?;
        let artifact = Artifact::parse(&bytes).ok().filter(|artifact| artifact.subject.is_some());
        if artifact.is_none() {
            let Document::Manifest(read) = document else {
                let why = "an index of several platforms is not kept here: push the image of one";
                return Err(Refusal::new(400, "UNSUPPORTED", why).into());
            };
            if let Some(kind) = read.artifact() {
                let why = format!(
                    "it is an artifact of type `{kind}`, and no image; of artifacts those are kept here whose `subject` is an image that is here"
                );
                return Err(Refusal::new(400, "UNSUPPORTED", why).into());
            }
            if let Some(known) = names.iter().find(|name| Spec::is_tag(name)) {
                let why = format!(
                    "`{known}` means what sconce builds for it: push it under another name"
                );
                return Err(Refusal::new(403, "DENIED", why).into());
            }
        }
        let named: Vec<&str> = names.iter().map(String::as_str).collect();
        let put = match artifact {
            Some(_) => store.put_pushed_artifact(&bytes, &who.to_string()).map(Some),
            None => store.put_pushed(&named, &bytes).map(|_| None),
        };
        let subject = put.map_err(|error| match error {
            StoreError::MissingBlob(missing) => {
                let why = format!("{missing} is not here: push it first");
                Refusal::new(404, "MANIFEST_BLOB_UNKNOWN", why).into()
            }
            StoreError::BadDocument { .. }
            | StoreError::BadLayer { .. }
            | StoreError::BadName { .. }
            | StoreError::WrongDigest { .. } => invalid(error.to_string()).into(),
            error => Fault::from(error),
        })?;
        let answer = made(name, "manifests", digest);
        Ok((
            match subject {
                Some(subject) => answer.with("OCI-Subject", subject.to_string()),
                None => answer,
            },
            digest,
        ))
    }
}

fn address(name: &str, id: &str) -> String {
    format!("/v2/{name}/blobs/uploads/{id}")
}

/// 201.
fn made(name: &str, kind: &str, digest: Digest) -> Answer {
    Answer::empty(201)
        .with("Location", format!("/v2/{name}/{kind}/{digest}"))
        .with("Docker-Content-Digest", digest.to_string())
}

/// 202, with how much there is.
fn going_on(name: &str, id: &str, size: u64) -> Answer {
    Answer::empty(202)
        .with("Location", address(name, id))
        .with("Range", format!("0-{}", size.saturating_sub(1)))
        .with("Docker-Upload-UUID", id)
}

/// Where the upload stands behind a piece, where a client says which bytes it is.
///
/// # Errors
/// It does not begin where the upload stands, or has another length than it says.
fn end_of_piece(range: Option<&str>, at: u64, framing: Framing) -> Result<Option<u64>, Fault> {
    let Some(range) = range else { return Ok(None) };
    let (first, end) = span(range).ok_or_else(|| {
        misfit(format!("its Content-Range is no `FIRST-LAST`, and this upload stands at byte {at}"))
    })?;
    if first != at {
        let why = format!("the piece does not begin at byte {at}, where this upload stands");
        return Err(misfit(why));
    }
    match framing {
        Framing::Length(length) if at.checked_add(length) != Some(end) => {
            let said = end.saturating_sub(first);
            Err(misfit(format!("the piece has {length} bytes, and its Content-Range says {said}")))
        }
        _ => Ok(Some(end)),
    }
}

/// The same of one whose length is known once all of it has come.
fn check_end(end: Option<u64>, at: u64) -> Result<(), Fault> {
    match end {
        Some(end) if end != at => Err(misfit(format!(
            "the piece ends before byte {at}, and its Content-Range says before byte {end}"
        ))),
        _ => Ok(()),
    }
}

fn misfit(why: String) -> Fault {
    Refusal::new(416, "BLOB_UPLOAD_INVALID", why).into()
}

/// The first byte of `5-9`, and the one behind the last; also where a client writes `bytes 5-9/10`. Docker's client writes `5-4` for
/// a piece of nothing.
fn span(range: &str) -> Option<(u64, u64)> {
    let range = range.trim().strip_prefix("bytes").unwrap_or(range).trim_start_matches([' ', '=']);
    let range = range.split('/').next()?.trim();
    let (first, last) = range.split_once('-')?;
    let number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse());
    let (first, last): (u64, u64) = (number(first)?.ok()?, number(last)?.ok()?);
    let end = last.checked_add(1)?;
    (end >= first).then_some((first, end))
}
