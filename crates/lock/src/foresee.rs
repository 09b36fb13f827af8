//! What a lock would choose, as far as the facts alone say it: no index is asked.

use crate::candidate::candidates;
use crate::document::TorchFacts;
use crate::error::Error;
use crate::explain::Explanation;
use crate::refusal;
use crate::resolve::{Host, request};
use crate::spec::{Spec, TorchRequest};

/// The torch that a lock of this specification begins with on that machine; requirements can still
/// lead to an older one. Nothing for one without torch, or with a torch newer than the facts.
///
/// # Errors
/// No torch that the facts know fits the request.
pub fn foresee(spec: &Spec, host: &Host) -> Result<Option<TorchFacts>, Error> {
    if spec.environment.torch == TorchRequest::None {
        return Ok(None);
    }
    let request = request(spec, host, &mut Explanation::default())?;
    let (left, refused) = candidates(&request);
    let Some(first) = left.first() else {
        return if refused.is_empty() {
            Ok(None)
        } else {
            Err(refusal::no_torch(&request, &refused))
        };
    };
    Ok(Some(TorchFacts {
        version: first.release.version.clone(),
        cuda: first.cuda,
        driver: first.cuda.and_then(|cuda| cuda.floor()).map(|row| row.driver.clone()),
        architectures: first.architectures.unwrap_or_default().to_vec(),
        cudnn: None,
        nccl: None,
        triton: None,
    }))
}
