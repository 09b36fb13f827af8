//! Signing images where they lie, and who has signed one.

use sconce_blob::Digest;
use sconce_oci::{Artifact, CONFIG, Descriptor, referrers_tag};
use sconce_registry::{Attached, Image, Named, Reference, Registry, Rights};
use sconce_sign::{
    BUNDLE, CONTENT, Claim, Evidence, Finding, MAX_DOCUMENT, PREDICATE_TYPE, PrivateKey, PublicKey,
    SIGNATURE, SIMPLE_SIGNING, Statement, Verdict, judge,
};

use crate::Transfer;
use crate::error::Error;
use crate::evidence::{Beside, Found, Kept, gather, names_of};
use crate::policy::{Demand, Origin};

/// What is beside an image in its registry.
pub struct Surroundings {
    /// The image's digest.
    pub image: Digest,
    /// What it is, where it is no image.
    pub artifact: Option<Artifact>,
    /// The digests that it goes by: its own first, then those of the indexes that lead to it.
    pub names: Vec<Digest>,
    /// What is there.
    pub beside: Vec<Beside>,
    /// Why there may be more that could be a signature.
    pub unread: Option<String>,
    /// Whether there is more that says that it is something else.
    pub others: bool,
}

impl Surroundings {
    /// What each of it proves, in the same order; nothing where it can't be a signature.
    #[must_use]
    pub fn findings(&self, keys: &[PublicKey]) -> Vec<Option<Finding>> {
        let examine = |evidence: &Evidence| evidence.examine(&self.names, keys);
        self.beside.iter().map(|beside| beside.evidence.as_ref().map(examine)).collect()
    }

    /// Whether one of these keys has signed it.
    #[must_use]
    pub fn verdict(&self, keys: &[PublicKey]) -> Verdict {
        let mut findings: Vec<Finding> = self.findings(keys).into_iter().flatten().collect();
        findings.extend(self.unread.clone().map(Finding::Unreadable));
        judge(&findings)
    }
}

impl Transfer<'_> {
    /// What `reference` names: an index, where it is one.
    ///
    /// # Errors
    /// Those of the registry.
    pub fn named(&self, reference: &Reference) -> Result<Named, Error> {
        let registry = Registry::new(self.access, reference.clone(), &Rights::Pull)?;
        Ok(registry.named()?)
    }

    /// Signs something of what `reference` names, an index as it is, and puts it beside it.
    ///
    /// # Errors
    /// Those of the registry and the key.
    pub fn attest(
        &self,
        reference: &Reference,
        key: &PrivateKey,
        statement: &dyn Fn(Digest) -> Statement,
    ) -> Result<Attached, Error> {
        let registry = Registry::new(self.access, reference.clone(), &Rights::Push(Vec::new()))?;
        let subject = registry.named()?.descriptor;
        let statement = statement(subject.digest);
        let file = registry.put_bytes(BUNDLE, &statement.sign(key)?)?;
        let mut artifact = Artifact::new(BUNDLE, subject, file);
        artifact.annotations.extend([
            (CONTENT.0.to_owned(), CONTENT.1.to_owned()),
            (PREDICATE_TYPE.to_owned(), statement.predicate_type),
        ]);
        Ok(registry.attach(&artifact)?)
    }

    /// Signs what `reference` names in the older form: under the tag `sha256-HEX.sig`, with the
    /// signatures that are there already. Returns the tag.
    ///
    /// # Errors
    /// Those of the registry and the key; what is under the tag already is no such thing.
    pub fn sign_under_tag(&self, reference: &Reference, key: &PrivateKey) -> Result<String, Error> {
        let registry = Registry::new(self.access, reference.clone(), &Rights::Push(Vec::new()))?;
        let image = registry.named()?.descriptor.digest;
        let tag = format!("{}.sig", referrers_tag(image));
        let mut files = match registry.under_tag(&tag)? {
            None => Vec::new(),
            Some(bytes) => {
                let read = Artifact::parse(&bytes).map_err(|why| {
                    sconce_registry::Error::Answer { url: format!("{}:{tag}", reference.host), why }
                })?;
                read.layers
            }
        };
        let repository = format!("{}/{}", reference.host, reference.repository);
        if let Evidence::Simple { payload, signature } =
            Evidence::sign_simple(key, &repository, image)?
        {
            let mut file = registry.put_bytes(SIMPLE_SIGNING, &payload)?;
            file.annotations.insert(SIGNATURE.to_owned(), signature);
            if !files.contains(&file) {
                files.push(file);
            }
        }
        let config = simple_config(&files);
        let config = registry.put_bytes(CONFIG, &config)?;
        registry.put_under_tag(&tag, &Artifact::under_tag(config, files))?;
        Ok(tag)
    }

    /// What is beside the image that `reference` names, for `architecture` (OCI's name); no more of it than
    /// what one of `keys` has signed it with.
    ///
    /// # Errors
    /// Those of the registry.
    pub fn surroundings(
        &self,
        reference: &Reference,
        architecture: &str,
        keys: &[PublicKey],
    ) -> Result<Surroundings, Error> {
        let registry = Registry::new(self.access, reference.clone(), &Rights::Pull)?;
        let (image, names, artifact) = match registry.image(architecture) {
            Ok(image) => (image.digest, names_of(image.digest, &image.indexes), None),
            Err(sconce_registry::Error::Artifact { reference, digest, manifest, .. }) => {
                let read = Artifact::parse(&manifest)
                    .map_err(|why| sconce_registry::Error::Answer { url: reference, why })?;
                (digest, vec![digest], Some(read))
            }
            Err(error) => return Err(error.into()),
        };
        let mut signs = |evidence: &Evidence| is_signed(evidence, &names, keys);
        let Found { beside, unread, others } = gather(&registry, &names, &mut signs)?;
        Ok(Surroundings { image, artifact, names, beside, unread, others })
    }

    /// What may be a signature of an image of the store: what is kept beside it here, and, where none of `keys` has signed it
    /// so, what is beside it in the registries that it was pulled from.
    ///
    /// # Errors
    /// Those of the store and the registries; that a registry has the image no more is none.
    pub fn surroundings_of(
        &self,
        image: Digest,
        pulled_as: &[Reference],
        architecture: &str,
        keys: &[PublicKey],
    ) -> Result<Surroundings, Error> {
        let (names, evidence) = self.evidence_here(image)?;
        let beside = |evidence: Evidence| {
            let (bytes, kind) = match &evidence {
                Evidence::Bundle(bytes) => (bytes.as_slice(), BUNDLE),
                Evidence::Simple { payload, .. } => (payload.as_slice(), SIMPLE_SIGNING),
                Evidence::Missing(_) => (&[][..], BUNDLE),
            };
            Beside {
                about: image,
                digest: Digest::of(bytes),
                kind: kind.to_owned(),
                size: bytes.len() as u64,
                tag: None,
                evidence: Some(evidence),
                file: None,
            }
        };
        let beside: Vec<Beside> = evidence.into_iter().map(beside).collect();
        let mut there =
            Surroundings { image, artifact: None, names, beside, unread: None, others: false };
        for reference in pulled_as {
            if matches!(there.verdict(keys), Verdict::Yes { .. }) {
                break;
            }
            // By its digest: the name may mean another image by now. An index that led to it has it under the name alone.
            let exact = Reference { tag: None, digest: Some(image), ..reference.clone() };
            for reference in [reference, &exact] {
                match self.surroundings(reference, architecture, keys) {
                    Ok(more) if more.image == image => {
                        there.names.extend(more.names);
                        there.beside.extend(more.beside);
                        there.unread = there.unread.or(more.unread);
                        there.others |= more.others;
                        break;
                    }
                    Ok(_) => {}
                    Err(Error::Registry(
                        sconce_registry::Error::NotFound { .. }
                        | sconce_registry::Error::NoPlatform { .. },
                    )) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(there)
    }

    /// The bytes of a file beside the image that `reference` names.
    ///
    /// # Errors
    /// Those of the registry; it is too large.
    pub fn file(&self, reference: &Reference, file: &Descriptor) -> Result<Vec<u8>, Error> {
        let registry = Registry::new(self.access, reference.clone(), &Rights::Pull)?;
        Ok(registry.small_blob(file, MAX_DOCUMENT)?)
    }

    /// Whether the policy lets an image in that is still in its registry; before any of its layers come.
    pub(crate) fn admit(
        &self,
        reference: &Reference,
        registry: &Registry,
        image: &Image,
    ) -> Result<(), Error> {
        let names = names_of(image.digest, &image.indexes);
        let mut demands = Vec::new();
        for (file, demand) in self.policy.demands(reference) {
            match demand {
                Demand::Nothing => {}
                Demand::Refused => {
                    return Err(Error::refused(&reference.to_string(), &file.path, None));
                }
                Demand::Signed(keys) => demands.push((file, keys)),
            }
        }
        if demands.is_empty() {
            return Ok(());
        }
        let mut met = vec![false; demands.len()];
        let mut enough = |evidence: &Evidence| {
            for (met, (_, keys)) in met.iter_mut().zip(&demands) {
                *met |= is_signed(evidence, &names, keys);
            }
            met.iter().all(|met| *met)
        };
        let Found { beside, unread, .. } = gather(registry, &names, &mut enough)?;
        for (file, keys) in &demands {
            let examine = |beside: &Beside| Some(beside.evidence.as_ref()?.examine(&names, keys));
            let mut findings: Vec<Finding> = beside.iter().filter_map(examine).collect();
            findings.extend(unread.clone().map(Finding::Unreadable));
            match judge(&findings) {
                Verdict::Yes { .. } => {}
                verdict => {
                    return Err(Error::refused(&reference.to_string(), &file.path, Some(verdict)));
                }
            }
        }
        let keys: Vec<PublicKey> =
            demands.iter().flat_map(|(_, keys)| keys.iter().cloned()).collect();
        Ok(Kept::note(self.store, image.digest, &image.indexes, &beside, &keys)?)
    }

    /// Whether the policy lets an image start that was taken in under this name before. What proved its
    /// signature then is verified again; where that is not enough its registry is asked.
    ///
    /// # Errors
    /// [`Error::Unsigned`], and those of the registry.
    pub fn admit_stored(
        &self,
        reference: &Reference,
        image: Digest,
        architecture: &str,
    ) -> Result<(), Error> {
        let (names, evidence) = Kept::of(self.store, image);
        let is_met = |demand| match demand {
            Demand::Nothing => true,
            Demand::Refused => false,
            Demand::Signed(keys) => {
                let found: Vec<_> =
                    evidence.iter().map(|evidence| evidence.examine(&names, keys)).collect();
                matches!(judge(&found), Verdict::Yes { .. })
            }
        };
        if self.policy.demands(reference).all(|(_, demand)| is_met(demand)) {
            return Ok(());
        }
        if let Some((file, _)) =
            self.policy.demands(reference).find(|(_, demand)| *demand == Demand::Refused)
        {
            return Err(Error::refused(&reference.to_string(), &file.path, None));
        }
        let registry = Registry::new(self.access, reference.clone(), &Rights::Pull)?;
        let there = match registry.image(architecture) {
            Ok(there) if there.digest == image => there,
            // The name means another image by now; this one may still be signed.
            Ok(_) | Err(sconce_registry::Error::NotFound { .. }) => {
                let exact = Reference { tag: None, digest: Some(image), ..reference.clone() };
                Registry::new(self.access, exact, &Rights::Pull)?.image(architecture)?
            }
            Err(error) if error.is_offline() => {
                let mut demands = self.policy.demands(reference);
                let signed = demands.find(|(_, demand)| matches!(demand, Demand::Signed(_)));
                return Err(match signed {
                    Some((file, _)) => Error::unproven(&reference.to_string(), &file.path),
                    None => error.into(),
                });
            }
            Err(error) => return Err(error.into()),
        };
        self.admit(reference, &registry, &there)
    }

    /// Whether the policy lets an image in, or start, that no registry answers for. What came along with it counts, and what was
    /// found of its signatures before; all of it is verified here.
    ///
    /// # Errors
    /// [`Error::Unsigned`], and those of the store.
    pub fn admit_from(&self, origin: Origin, name: &str, image: Digest) -> Result<(), Error> {
        let mut known = None;
        for (file, demand) in self.policy.demands_of(origin) {
            let verdict = match demand {
                Demand::Nothing => continue,
                Demand::Refused => None,
                Demand::Signed(keys) => {
                    let (names, evidence) = match &known {
                        Some(known) => known,
                        None => known.insert(self.evidence_here(image)?),
                    };
                    let found: Vec<_> =
                        evidence.iter().map(|evidence| evidence.examine(names, keys)).collect();
                    Some(judge(&found))
                }
            };
            if !matches!(verdict, Some(Verdict::Yes { .. })) {
                return Err(Error::refused_of(name, origin, &file.path, verdict));
            }
        }
        Ok(())
    }

    /// What the store has that may be signatures of an image, and the digests that it goes by.
    fn evidence_here(&self, image: Digest) -> Result<(Vec<Digest>, Vec<Evidence>), Error> {
        let (names, mut evidence) = Kept::of(self.store, image);
        for kept in self.store.beside(image)? {
            let Some(artifact) = kept.about(image) else { continue };
            for file in artifact.layers.iter().filter(|file| file.media_type == BUNDLE) {
                let is_it = |text: &&String| Digest::of(text.as_bytes()) == file.digest;
                if let Some(text) = kept.files.iter().find(is_it) {
                    evidence.push(Evidence::Bundle(text.clone().into_bytes()));
                }
            }
        }
        Ok((names, evidence))
    }
}

/// Whether one of the keys has signed the image that goes by `names`.
fn is_signed(evidence: &Evidence, names: &[Digest], keys: &[PublicKey]) -> bool {
    matches!(evidence.examine(names, keys), Finding::Proved { claim: Claim::Signed, .. })
}

/// The configuration that belongs to files of the older form: as of an image, which says nothing.
fn simple_config(files: &[Descriptor]) -> Vec<u8> {
    let ids: Vec<String> = files.iter().map(|file| file.digest.to_string()).collect();
    let config = serde_json::json!({
        "architecture": "",
        "os": "",
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": ids},
    });
    config.to_string().into_bytes()
}
