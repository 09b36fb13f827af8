//! What the packages beside torch are built for: from the facts, else from their own bytes.

use sconce_facts::{Agree, CudaVersion};

use super::Resolution;
use crate::document::Wheel;
use crate::index::Native;

/// Beginnings of names that are torch itself, or that it pins.
const OF_TORCH: &[&str] = &["nvidia-", "cuda-"];

impl Resolution<'_> {
    /// The first package whose native code is for another CUDA than torch's; in a sentence.
    pub(super) fn disagreement(
        &mut self,
        wheels: &[Wheel],
        torch: Option<CudaVersion>,
    ) -> Option<String> {
        let torch = torch?;
        let mut unknown = Vec::new();
        for wheel in wheels.iter().filter(|wheel| may_be_native(wheel)) {
            let agree = sconce_facts::companion(&wheel.name);
            if agree == Some(Agree::Any) {
                continue;
            }
            match sconce_facts::built_for(&wheel.name, &wheel.version) {
                Some(cuda) if wheel.index == "pypi" => {
                    let native = Native { cuda: Some(cuda), ..Native::default() };
                    let found = disagrees(wheel, &native, agree, torch);
                    if found.is_some() {
                        return found;
                    }
                }
                _ => unknown.push((wheel.clone(), agree.is_some())),
            }
        }
        let answers = self.index.native(&unknown);
        let mut found = None;
        for ((wheel, known), answer) in unknown.iter().zip(answers) {
            match answer {
                Ok(native) => {
                    let agree = sconce_facts::companion(&wheel.name);
                    found = found.or_else(|| disagrees(wheel, &native, agree, torch));
                }
                // Of packages that are no more than likely for torch it is not worth a word.
                Err(why) if *known => self.explanation.note(format!(
                    "whether {} {} is built for CUDA {torch} could not be read: {why}",
                    wheel.name, wheel.version
                )),
                Err(_) => {}
            }
        }
        found
    }
}

/// Whether a wheel can hold native code that is not torch's own.
fn may_be_native(wheel: &Wheel) -> bool {
    !wheel.file.ends_with("-any.whl")
        && wheel.name != "torch"
        && wheel.name != "triton"
        && !OF_TORCH.iter().any(|beginning| wheel.name.starts_with(beginning))
}

fn disagrees(
    wheel: &Wheel,
    native: &Native,
    agree: Option<Agree>,
    torch: CudaVersion,
) -> Option<String> {
    let Wheel { name, version, .. } = wheel;
    if let Some(cuda) = native.cuda {
        let same = match agree {
            Some(Agree::Minor) => cuda == torch,
            // A version.py of a package that the facts do not have proves nothing by its minor.
            Some(Agree::Major) | None => cuda.major == torch.major,
            Some(Agree::Any) => true,
        };
        if !same {
            return Some(format!(
                "{name} {version} is built for CUDA {cuda}, and this torch has CUDA {torch}"
            ));
        }
    }
    let major = native.major.filter(|major| *major != torch.major)?;
    let why = native.why.as_deref().map(|why| format!(" ({why})")).unwrap_or_default();
    Some(format!(
        "{name} {version} is built for CUDA {major}{why}, and this torch has CUDA {torch}"
    ))
}
