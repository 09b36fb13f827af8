//! Groups of torch releases that one question asks for.

use pep440_rs::Version;
use sconce_facts::CudaVersion;

use super::Resolution;
use crate::candidate::{Candidate, Channel, Reason, Request, consider};
use crate::spec::{CudaRequest, Flavour};

impl Resolution<'_> {
    /// The candidates at the head of `left` that one question can ask for.
    pub(super) fn group(&self, left: &[Candidate], head: Candidate) -> Vec<Candidate> {
        // PyTorch's own builds carry a local version, which ranges treat in their own way: one at a time.
        if head.channel.backend().is_some() {
            return vec![head];
        }
        let group: Vec<_> = left.iter().take_while(|c| alike(c, &head)).copied().collect();
        let cuda = group.iter().map(|c| c.cuda).reduce(|a, b| if a == b { a } else { None });
        match (self.request.flavour, cuda.flatten()) {
            // What devel adds depends on the CUDA: one at a time where it is not the same for all.
            (Flavour::Devel, None) => vec![head],
            _ => group,
        }
    }

    /// A candidate as the build that was found: an index of the user's own may have one for another CUDA, which its version
    /// says (`2.10.0+cu126`).
    pub(super) fn as_built(
        &self,
        candidate: Candidate,
        version: &str,
    ) -> Result<Candidate, Reason> {
        let local = version.split_once('+').map(|(_, local)| local);
        let (Some(local), Channel::Pypi) = (local, candidate.channel) else { return Ok(candidate) };
        let cuda = match (CudaVersion::from_variant(local), local) {
            (Some(CudaVersion { major, minor }), _) => {
                CudaRequest::Version { major, minor: Some(minor) }
            }
            (None, "cpu") => CudaRequest::Cpu,
            (None, _) => return Ok(candidate),
        };
        let request = Request { cuda, bases: vec![candidate.base], ..self.request.clone() };
        consider(candidate.release, &request, true)
    }

    /// The same releases on the other Pythons that may be had.
    pub(super) fn elsewhere(&self, group: &[Candidate]) -> Vec<Vec<Candidate>> {
        let Some(head) = group.first() else { return Vec::new() };
        let others = self.request.bases.iter().filter(|&&base| base != head.base);
        let on = |base: &&'static sconce_facts::Base| -> Vec<Candidate> {
            group.iter().filter_map(|candidate| candidate.on(base, &self.request)).collect()
        };
        others.map(on).filter(|group| !group.is_empty()).collect()
    }
}

/// Whether two candidates can be asked for in one question.
fn alike(a: &Candidate, b: &Candidate) -> bool {
    a.base == b.base
        && a.channel.backend() == b.channel.backend()
        && a.constraints() == b.constraints()
}

/// Whether a refusal rests on the range of torch that we asked for, as uv writes it.
pub(super) fn is_ours(group: &[Candidate], words: &str) -> bool {
    let (Some(newest), Some(oldest)) = (group.first(), group.last()) else { return false };
    let (newest, oldest) = (&newest.release.version, &oldest.release.version);
    match group.len() {
        1 => {
            words.contains(&format!("torch=={newest} "))
                || words.contains(&format!("torch=={newest},"))
        }
        _ => words.contains(&format!("torch>={oldest}")),
    }
}

/// The range that holds the candidates (newest first) and no other release of the facts.
pub(super) fn range(group: &[Candidate]) -> String {
    let (Some(newest), Some(oldest)) = (group.first(), group.last()) else { return "torch".into() };
    if group.len() == 1 {
        return format!("torch=={}", newest.release.version);
    }
    let mut text = format!("torch<={},>={}", newest.release.version, oldest.release.version);
    let between = sconce_facts::releases()
        .iter()
        .skip_while(|release| release.version != oldest.release.version)
        .take_while(|release| release.version != newest.release.version);
    for release in between {
        if !group.iter().any(|candidate| candidate.release.version == release.version) {
            text.push_str(&format!(",!={}", release.version));
        }
    }
    text
}

pub(super) fn same_version(candidate: &Candidate, found: &str) -> bool {
    let public = found.split('+').next().unwrap_or(found);
    public.parse::<Version>().ok() == candidate.release.version.parse::<Version>().ok()
}
