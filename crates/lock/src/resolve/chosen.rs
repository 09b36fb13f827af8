//! A torch that was chosen: what the lock says of it, and why it was taken.

use std::collections::BTreeMap;

use sconce_facts::CudaVersion;

use super::group::same_version;
use super::{Chosen, Resolution, as_set, torch_facts, versions};
use crate::candidate::{Candidate, Channel};
use crate::document::{TorchFacts, Wheel};
use crate::explain::Refused;
use crate::spec::TorchRequest;
use crate::verify::drifting;

impl Resolution<'_> {
    /// The facts of a lock for a candidate and its set, with what is to be said of the choice.
    pub(super) fn chosen(
        &mut self,
        candidate: Candidate,
        wheels: Vec<Wheel>,
        addresses: BTreeMap<String, String>,
        refused: Vec<Refused>,
    ) -> Chosen {
        let machine = self.request.machine;
        let owned = versions(&wheels);
        let set = as_set(&owned);
        let architectures = candidate.architectures.map(<[_]>::to_vec);
        let torch = TorchFacts {
            version: wheels
                .iter()
                .find(|wheel| wheel.name == "torch")
                .map_or_else(|| candidate.release.version.clone(), |wheel| wheel.version.clone()),
            ..torch_facts(&set, candidate.cuda, architectures.clone().unwrap_or_default())
        };
        let cuda = candidate.cuda.map_or("CPU build".to_owned(), |cuda| format!("CUDA {cuda}"));
        let choice = format!("{} ({cuda})", torch.version);
        self.explanation.choose("torch", choice, self.why(&candidate), refused);
        if architectures.is_none() {
            let text =
                "which GPUs this build has code for is documented nowhere; it was not checked";
            self.explanation.note(text);
        }
        let capabilities: Vec<_> = self.request.gpus.iter().map(|gpu| gpu.capability).collect();
        for caveat in sconce_facts::caveats(&candidate.release.version, &capabilities) {
            let held = caveat.constraint.as_ref().map(|c| format!(" (held to {c})"));
            self.explanation.note(format!(
                "torch {}: {}{}",
                candidate.release.version,
                caveat.text,
                held.unwrap_or_default()
            ));
        }
        let build = candidate.release.build(machine);
        if build.triton.is_some() && set.version("triton").is_none() {
            self.explanation.note(format!(
                "torch {} brings no Triton to Python {}: torch.compile will not reach the GPU",
                candidate.release.version, candidate.base.python
            ));
        }
        let open = drifting(candidate.requires(machine), &set);
        if !open.is_empty() {
            self.explanation
                .note(format!("pinned here though torch leaves a range: {}", open.join(", ")));
        }
        Chosen { base: candidate.base, torch: Some(torch), wheels, addresses }
    }

    /// Why this release, in a sentence.
    fn why(&self, candidate: &Candidate) -> String {
        let mut parts = Vec::new();
        match &self.request.torch {
            _ if self
                .previous
                .wheel("torch")
                .is_some_and(|w| same_version(candidate, &w.version)) =>
            {
                let text = "the lock has it, and it still fits (`sconce lock --upgrade` looks for a newer one)";
                parts.push(text.to_owned());
            }
            TorchRequest::Versions(specifiers) => {
                parts.push(format!("the newest that is {specifiers}"))
            }
            _ => parts.push("the newest that fits".to_owned()),
        }
        for gpu in &self.request.gpus {
            let by = candidate
                .architectures
                .and_then(|has| has.iter().rev().find(|sm| sm.runs_on(gpu.capability)));
            if let Some(sm) = by {
                parts.push(format!("has {sm} for {}", gpu.label));
            }
        }
        if let Some(row) = candidate.cuda.and_then(CudaVersion::floor) {
            parts.push(match &self.request.driver {
                Some(driver) => format!(
                    "driver {driver} is enough for CUDA {} (from {})",
                    row.major, row.driver
                ),
                None => format!("needs driver {} or newer", row.driver),
            });
        }
        if let Channel::Variant(_) | Channel::Cpu = candidate.channel {
            parts.push("from PyTorch's own index, since PyPI's wheel has another CUDA".to_owned());
        }
        parts.join("; ")
    }
}
