//! A CUDA behind a version, as PyTorch's own index writes it: `torch==2.3.1+cu121`.

use pep508_rs::{Requirement, VerbatimUrl};
use sconce_facts::CudaVersion;

use crate::error::Error;
use crate::requirements_txt::{Ask, Line};
use crate::spec::{CudaRequest, Environment, Requirements, TorchRequest};
use crate::spec_parse::torch_versions;
use crate::wheel_name::normalise;

/// Packages whose local version is PyTorch's (PyTorch, "Previous versions").
const PACKAGES: &[&str] = &["torch", "torchvision", "torchaudio"];

/// The version without its local part, and the CUDA that this names; `None` for any other version.
pub(crate) fn split(version: &str) -> Option<(&str, CudaRequest)> {
    let (public, local) = version.trim().split_once('+')?;
    let request = match local {
        "cpu" => CudaRequest::Cpu,
        local => {
            let CudaVersion { major, minor } = CudaVersion::from_variant(local)?;
            CudaRequest::Version { major, minor: Some(minor) }
        }
    };
    Some((public, request))
}

/// Reads such requirements as what they mean: the release, and a request for its CUDA.
///
/// # Errors
/// The CUDA is not the one that is asked for elsewhere.
pub(crate) fn take(environment: &mut Environment) -> Result<(), Error> {
    if environment.torch == TorchRequest::None {
        return Ok(());
    }
    let mut found = Vec::new();
    match &mut environment.requirements {
        Requirements::List(list) => {
            found.extend(
                list.iter_mut()
                    .filter_map(|text| replace(text).map(|request| (request, text.clone()))),
            );
        }
        Requirements::File(file) => {
            for Line { ask, .. } in file.lines.iter_mut().chain(&mut file.constraints) {
                if let Ask::Requirement(text) = ask {
                    found.extend(replace(text).map(|request| (request, text.clone())));
                }
            }
        }
    }
    for ((cuda, torch), text) in found {
        ask_for_cuda(environment, cuda, &text)?;
        if let (Some(version), TorchRequest::Newest) = (torch, &environment.torch)
            && let Some(versions) = torch_versions(&version)
        {
            environment.torch = TorchRequest::Versions(versions);
        }
    }
    Ok(())
}

/// Sets the CUDA, unless another one is asked for.
pub(crate) fn ask_for_cuda(
    environment: &mut Environment,
    cuda: CudaRequest,
    text: &str,
) -> Result<(), Error> {
    let same = match (&environment.cuda, &cuda) {
        (CudaRequest::Auto, _) => true,
        (
            CudaRequest::Version { major, minor: None },
            CudaRequest::Version { major: other, .. },
        ) => major == other,
        (one, other) => one == other,
    };
    if !same {
        return Err(Error::Request {
            message: format!("`{text}` is a build for another CUDA than `cuda` asks for"),
            hint: Some("leave `cuda` out: the version says it".into()),
        });
    }
    environment.cuda = cuda;
    Ok(())
}

/// Takes the local part out of a requirement; the CUDA, and the version if it is torch's.
fn replace(text: &mut String) -> Option<(CudaRequest, Option<String>)> {
    let bare = text.split(" --hash").next().unwrap_or(text);
    let parsed = bare.parse::<Requirement<VerbatimUrl>>().ok()?;
    let name = normalise(parsed.name.as_ref());
    let at = PACKAGES.contains(&name.as_str()).then(|| text.find("=="))?? + 2;
    let rest = text.get(at..)?;
    let start = at + rest.len() - rest.trim_start().len();
    let rest = rest.trim_start();
    let end = rest.find(|c: char| c.is_whitespace() || ",;)".contains(c)).unwrap_or(rest.len());
    let version = rest.get(..end)?.to_owned();
    let (public, cuda) = split(&version)?;
    let public = public.to_owned();
    text.replace_range(start..start + version.len(), &public);
    Some((cuda, (name == "torch").then_some(public)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_local_version_is_a_cuda() {
        let cuda = |major, minor| CudaRequest::Version { major, minor: Some(minor) };
        assert_eq!(split("2.3.1+cu121"), Some(("2.3.1", cuda(12, 1))));
        assert_eq!(split("2.3.1+cpu"), Some(("2.3.1", CudaRequest::Cpu)));
        assert_eq!(split("2.3.1+git1234"), None);
        assert_eq!(split("2.3.1"), None);
        for (text, now, request) in [
            ("torch==2.1.0+cu121", "torch==2.1.0", Some((cuda(12, 1), Some("2.1.0".into())))),
            (
                "torchvision == 0.16.0+cu118 ; python_version > '3'",
                "torchvision == 0.16.0 ; python_version > '3'",
                Some((cuda(11, 8), None)),
            ),
            ("vllm==0.6+cu118", "vllm==0.6+cu118", None),
            ("torch>=2.1", "torch>=2.1", None),
        ] {
            let mut changed = text.to_owned();
            assert_eq!(replace(&mut changed), request, "{text}");
            assert_eq!(changed, now);
        }
    }
}
