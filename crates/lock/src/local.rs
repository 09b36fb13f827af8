//! A CUDA behind a version, as PyTorch's own index writes it: `torch==2.3.1+cu121`.

use pep508_rs::{Requirement, VerbatimUrl};
use sconce_facts::CudaVersion;

use crate::error::Error;
use crate::requirements_txt::{Ask, Line};
use crate::spec::{CudaWish, Environment, Requirements, TorchWish};
use crate::spec_parse::torch_versions;
use crate::wheel_name::normalise;

/// Packages whose local version is PyTorch's (PyTorch, "Previous versions").
const PACKAGES: &[&str] = &["torch", "torchvision", "torchaudio"];

/// The version without its local part, and the CUDA that this names; `None` for any other version.
pub(crate) fn split(version: &str) -> Option<(&str, CudaWish)> {
    let (public, local) = version.trim().split_once('+')?;
    let wish = match local {
        "cpu" => CudaWish::Cpu,
        local => {
            let CudaVersion { major, minor } = CudaVersion::from_variant(local)?;
            CudaWish::Version { major, minor: Some(minor) }
        }
    };
    Some((public, wish))
}

/// Reads such requirements as what they mean: the release, and a wish for its CUDA.
///
/// # Errors
/// The CUDA is not the one that is asked for elsewhere.
pub(crate) fn take(environment: &mut Environment) -> Result<(), Error> {
    if environment.torch == TorchWish::None {
        return Ok(());
    }
    let mut found = Vec::new();
    match &mut environment.requirements {
        Requirements::List(list) => {
            found.extend(
                list.iter_mut().filter_map(|text| replace(text).map(|wish| (wish, text.clone()))),
            );
        }
        Requirements::File(file) => {
            for Line { ask, .. } in file.lines.iter_mut().chain(&mut file.constraints) {
                if let Ask::Requirement(text) = ask {
                    found.extend(replace(text).map(|wish| (wish, text.clone())));
                }
            }
        }
    }
    for ((cuda, torch), text) in found {
        wish_cuda(environment, cuda, &text)?;
        if let (Some(version), TorchWish::Newest) = (torch, &environment.torch)
            && let Some(versions) = torch_versions(&version)
        {
            environment.torch = TorchWish::Versions(versions);
        }
    }
    Ok(())
}

/// Sets the CUDA, unless another one is asked for.
pub(crate) fn wish_cuda(
    environment: &mut Environment,
    cuda: CudaWish,
    text: &str,
) -> Result<(), Error> {
    let same = match (&environment.cuda, &cuda) {
        (CudaWish::Auto, _) => true,
        (CudaWish::Version { major, minor: None }, CudaWish::Version { major: other, .. }) => {
            major == other
        }
        (one, other) => one == other,
    };
    if !same {
        return Err(Error::Wish {
            message: format!("`{text}` is a build for another CUDA than `cuda` asks for"),
            hint: Some("leave `cuda` out: the version says it".into()),
        });
    }
    environment.cuda = cuda;
    Ok(())
}

/// Takes the local part out of a requirement; the CUDA, and the version if it is torch's.
fn replace(text: &mut String) -> Option<(CudaWish, Option<String>)> {
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
        let cuda = |major, minor| CudaWish::Version { major, minor: Some(minor) };
        assert_eq!(split("2.3.1+cu121"), Some(("2.3.1", cuda(12, 1))));
        assert_eq!(split("2.3.1+cpu"), Some(("2.3.1", CudaWish::Cpu)));
        assert_eq!(split("2.3.1+git1234"), None);
        assert_eq!(split("2.3.1"), None);
        for (text, now, wish) in [
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
            assert_eq!(replace(&mut changed), wish, "{text}");
            assert_eq!(changed, now);
        }
    }
}
