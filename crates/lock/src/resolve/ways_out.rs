//! What fits, where a package and the torch beside it do not.

use sconce_facts::{CudaVersion, Variant};

use super::companions::Wants;
use super::releases::releases;
use super::{MOST_QUESTIONS, Resolution};
use crate::candidate::{Candidate, Request, candidates, consider};
use crate::spec::{CudaRequest, TorchRequest};

/// The newest releases of a package among which one that fits is looked for: six questions.
const RELEASES: usize = 63;

impl Resolution<'_> {
    /// The newest torch that has what a package wants, with the version of torch left open: "torch = "2.14.1"
    /// (CUDA 13.0)".
    pub(super) fn torch_that_has(&self, wants: &Wants) -> Option<String> {
        let open = Request { torch: TorchRequest::Newest, ..self.request.clone() };
        let (all, _) = candidates(&open);
        let found = all.iter().find(|one| wants.met_by(one, self.request.machine))?;
        Some(format!("torch = \"{}\"{}", found.release.version, wants.of(found)))
    }

    /// The newest CUDA that a package wants and for which there is a build of the very torch that was asked for.
    pub(super) fn cuda_that_fits(
        &self,
        wants: &Wants,
        candidate: &Candidate,
    ) -> Option<CudaVersion> {
        let fits = |cuda: CudaVersion| {
            let cuda_wanted = CudaRequest::Version { major: cuda.major, minor: Some(cuda.minor) };
            let request = Request { cuda: cuda_wanted, ..self.request.clone() };
            let found = consider(candidate.release, &request, true).ok()?;
            // One without architectures is planned, and nobody has seen it.
            (wants.has(cuda) && found.architectures.is_some()).then_some(cuda)
        };
        let variants = candidate.release.variants.iter().filter_map(Variant::cuda);
        variants.filter_map(fits).max()
    }

    /// A release that fits beside a torch: the newest of the package itself, that of the package for torch's CUDA, or the
    /// newest of the package's older ones: "bitsandbytes 0.50.2".
    pub(super) fn release_that_fits(
        &mut self,
        package: &str,
        candidate: &Candidate,
    ) -> Option<String> {
        if let Some(newest) = self.fits(package, None, candidate) {
            return Some(newest);
        }
        let other = candidate.cuda.and_then(|cuda| for_cuda(package, cuda.major));
        if let Some(found) = other.and_then(|other| self.fits(&other, None, candidate)) {
            return Some(found);
        }
        let listed = self.index.releases(&[package.to_owned()]).ok()?;
        let target = self.target(candidate.base);
        let all = releases(package, listed.get(package)?, target);
        let fit = all.into_iter().filter(|(v, one)| one.wheel_fits && !v.any_prerelease());
        let mut versions: Vec<String> = fit.map(|(version, _)| version.to_string()).collect();
        let first = versions.len().saturating_sub(RELEASES);
        versions.drain(..first);
        // A package goes from one CUDA to the next once, if at all.
        let (mut low, mut high, mut found) = (0, versions.len(), None);
        while low < high {
            let middle = usize::midpoint(low, high);
            match self.fits(package, versions.get(middle).map(String::as_str), candidate) {
                Some(fits) => (low, found) = (middle + 1, Some(fits)),
                None => high = middle,
            }
        }
        found
    }

    /// A release by name and version, where it is to be had and fits.
    fn fits(
        &mut self,
        package: &str,
        version: Option<&str>,
        candidate: &Candidate,
    ) -> Option<String> {
        if self.questions >= MOST_QUESTIONS {
            return None;
        }
        let pin = version.map(|version| format!("=={version}")).unwrap_or_default();
        let answer = self.ask_for(candidate.base, format!("{package}{pin}")).ok()?;
        let mut wheels = self.wheels(&answer, candidate.base).ok()?;
        wheels.retain(|wheel| wheel.name == package);
        let newest = wheels.first()?;
        let newest = format!("{package} {}", newest.version);
        self.disagreement(&wheels, candidate).is_none().then_some(newest)
    }
}

/// What a package is called for another CUDA, where its name has the CUDA at its end: "cupy-cuda13x" of "cupy-cuda12x".
fn for_cuda(package: &str, major: u16) -> Option<String> {
    let (name, _) = package.rsplit_once("-cu")?;
    let rest = package.get(name.len() + "-cu".len()..)?;
    let word = rest.trim_start_matches("da");
    let digits: String = word.chars().take_while(char::is_ascii_digit).collect();
    let behind = word.get(digits.len()..)?;
    let is_major = digits.len() == 2 && matches!(behind, "" | "x") && digits != major.to_string();
    let before = package.len() - word.len();
    is_major.then(|| format!("{}{major}{behind}", package.get(..before).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::for_cuda;

    #[test]
    fn names_with_a_cuda() {
        assert_eq!(for_cuda("cupy-cuda12x", 13).as_deref(), Some("cupy-cuda13x"));
        assert_eq!(for_cuda("faiss-gpu-cu12", 13).as_deref(), Some("faiss-gpu-cu13"));
        for none in
            ["cupy-cuda13x", "onnxruntime-gpu", "a-cuda", "a-cu121", "a-cu12-extra", "-cu", "ü-cuü"]
        {
            assert_eq!(for_cuda(none, 13), None, "{none}");
        }
    }
}
