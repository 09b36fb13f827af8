//! A torch that the facts do not know.

use sconce_facts::CudaVersion;

use super::{Chosen, Resolution, as_set, cuda_of, torch_facts, versions};
use crate::candidate::{self, Reason};
use crate::document::TorchFacts;
use crate::error::Error;
use crate::index::IndexError;
use crate::spec::{CudaRequest, Flavour};

impl Resolution<'_> {
    /// A torch that the facts do not know yet: what its dependencies say is all there is.
    pub(super) fn newer_than_facts(&mut self, requirement: String) -> Result<Chosen, Error> {
        let mut first = None;
        for base in self.request.bases.clone() {
            let backend = match self.request.cuda {
                CudaRequest::Version { major, minor: Some(minor) } => {
                    Some(CudaVersion { major, minor }.variant())
                }
                CudaRequest::Cpu => Some("cpu".to_owned()),
                _ => None,
            };
            let answer = match self.ask(base, Some(requirement.clone()), None, &[], backend) {
                Ok(answer) => answer,
                Err(error @ IndexError::NoSolution { .. }) => {
                    first.get_or_insert(error);
                    continue;
                }
                Err(error) => return Err(Error::from_index("package index", error)),
            };
            let mut wheels = self.wheels(&answer, base)?;
            let Some(torch) = wheels.iter().find(|wheel| wheel.name == "torch").cloned() else {
                continue;
            };
            let cuda = cuda_of(&as_set(&versions(&wheels)));
            self.check_unknown(&torch.version, cuda)?;
            let mut addresses = answer.addresses;
            if let (Flavour::Devel, Some(_)) = (self.request.flavour, cuda) {
                let pin = Some(format!("torch=={}", torch.version));
                let answer = self.ask(base, pin, cuda, &[], None);
                let answer = answer.map_err(|error| Error::from_index("package index", error))?;
                wheels = self.wheels(&answer, base)?;
                addresses = answer.addresses;
            }
            let facts = TorchFacts {
                version: torch.version.clone(),
                ..torch_facts(&as_set(&versions(&wheels)), cuda, Vec::new())
            };
            let newest = &sconce_facts::newest_release().version;
            self.explanation.choose(
                "torch",
                torch.version.clone(),
                format!("asked for; newer than what this sconce knows (up to {newest})"),
                Vec::new(),
            );
            self.explanation.note(format!(
                "torch {}: CUDA, cuDNN and NCCL are read from its dependencies; which GPUs it has code for is not \
                 known and was not checked",
                torch.version
            ));
            return Ok(Chosen { base, torch: Some(facts), wheels, addresses });
        }
        let none = || IndexError::NoSolution { words: "no torch in the set".into() };
        Err(Error::from_index("package index", first.unwrap_or_else(none)))
    }

    /// What of a request can be checked for a torch without facts.
    pub(super) fn check_unknown(
        &self,
        version: &str,
        cuda: Option<CudaVersion>,
    ) -> Result<(), Error> {
        let refuse = |reason: Reason| Error::NoTorch {
            message: format!("torch {version}: {reason}"),
            refused: Vec::new(),
            hint: None,
        };
        match cuda {
            None if !self.request.gpus.is_empty() => {
                Err(refuse(Reason::CpuBuild { machine: self.request.machine }))
            }
            Some(cuda) => match &self.request.driver {
                Some(driver) => candidate::driver_fits(driver, cuda).map_err(refuse),
                None => Ok(()),
            },
            None => Ok(()),
        }
    }
}
