//! Image tags people know, as specifications: `torch:2.15.0`, `pytorch:2.1.0-cuda12.1-cudnn8-runtime`,
//! `nvcr.io/nvidia/pytorch:24.05-py3`.

use sconce_facts::{CudaVersion, Release};

use crate::error::Error;
use crate::spec::{CudaRequest, Environment, Flavour, Requirements, Spec, TorchRequest};
use crate::spec_parse::torch_versions;

impl Spec {
    /// Whether a text looks like a tag of an image with torch: one of the repositories people know, with or without
    /// a tag behind it.
    pub fn is_tag(text: &str) -> bool {
        let repository = text.split_once(':').map_or(text, |(repository, _)| repository);
        sconce_facts::tag_repositories().iter().any(|row| row.name == repository)
    }

    /// Whether a text names an image of NVIDIA's own, by the registry that has it.
    pub fn is_ngc(text: &str) -> bool {
        let repository = text.split_once(':').map_or(text, |(repository, _)| repository);
        sconce_facts::tag_repositories().iter().any(|row| row.ngc && row.name == repository)
    }

    /// The specification that a tag stands for. CUDA and cuDNN in it must be those of a build of that torch.
    ///
    /// # Errors
    /// No repository or tag that is known; with the nearest one that is.
    pub fn from_tag(text: &str) -> Result<Self, Error> {
        let wrong = |why: &str, near: Option<String>| Error::Tag {
            tag: text.chars().take(120).collect(),
            why: why.to_owned(),
            near,
        };
        let (repository, tag) = text.split_once(':').unwrap_or((text, "latest"));
        if !Self::is_tag(text) {
            let names = sconce_facts::tag_repositories().iter().map(|row| row.name.as_str());
            let near = sconce_facts::nearest(repository, names).map(|near| format!("{near}:{tag}"));
            return Err(wrong("the part before `:` is not an image with torch", near));
        }
        if Self::is_ngc(text) {
            return ngc(repository, tag);
        }
        let near = || nearest(tag).map(|near| format!("{repository}:{near}"));
        let mut environment = Environment::default();
        let mut cudnn = None;
        let mut has_torch = false;
        let mut parts = tag.split('-').peekable();
        let dated = |text: &str| text.starts_with(|c: char| c.is_ascii_digit());
        match parts.peek().copied().unwrap_or_default() {
            "latest" | "newest" => drop(parts.next()),
            // `py313-torch2.15-cu132`: each part says what it is.
            first if is_short(first) => {}
            version => {
                let versions = dated(version).then(|| torch_versions(version));
                let versions = versions
                    .flatten()
                    .ok_or_else(|| wrong("it begins with no torch version", near()))?;
                environment.torch = TorchRequest::Versions(versions);
                has_torch = true;
                parts.next();
            }
        }
        for part in parts {
            let flavour = sconce_facts::tag_flavours().iter().find(|row| row.name == part);
            if let Some(row) = flavour {
                environment.flavour = if row.name == Flavour::Devel.as_str() {
                    Flavour::Devel
                } else {
                    Flavour::Runtime
                };
            } else if part == "cpu" {
                environment.cuda = CudaRequest::Cpu;
            } else if let Some(cuda) = part.strip_prefix("cuda") {
                let cuda: CudaVersion = cuda
                    .parse()
                    .map_err(|_| wrong("its CUDA is not a release like `cuda12.1`", near()))?;
                environment.cuda =
                    CudaRequest::Version { major: cuda.major, minor: Some(cuda.minor) };
            } else if let Some(torch) = part.strip_prefix("torch").filter(|text| dated(text)) {
                let versions = torch_versions(torch)
                    .filter(|_| !has_torch)
                    .ok_or_else(|| wrong("its torch is not a release like `torch2.15`", near()))?;
                environment.torch = TorchRequest::Versions(versions);
                has_torch = true;
            } else if let Some(digits) = part.strip_prefix("py").filter(|text| dated(text)) {
                let python = format!("3.{}", digits.strip_prefix('3').unwrap_or("?"));
                if !sconce_facts::pythons().contains(&python.as_str()) {
                    return Err(wrong(
                        "its Python is not a version that there is, like `py313`",
                        near(),
                    ));
                }
                environment.python = Some(python);
            } else if let Some(digits) = part.strip_prefix("cu").filter(|text| dated(text)) {
                let at = digits.len() - 1;
                let (major, minor) = digits.split_at_checked(at).unwrap_or_default();
                let (Ok(major), Ok(minor)) = (major.parse(), minor.parse()) else {
                    return Err(wrong("its CUDA is not a release like `cu132`", near()));
                };
                environment.cuda = CudaRequest::Version { major, minor: Some(minor) };
            } else if let Some(major) = part.strip_prefix("cudnn") {
                cudnn = Some(
                    major
                        .parse()
                        .map_err(|_| wrong("its cuDNN is not a major like `cudnn8`", near()))?,
                );
            } else {
                return Err(wrong(&format!("`{}` means nothing in it", cut(part)), near()));
            }
        }
        check(&environment, cudnn).map_err(|why| wrong(&why, near()))?;
        // The images people know by these tags have NumPy, and torch warns at every import without it.
        environment.requirements = Requirements::List(vec!["numpy".to_owned()]);
        Ok(Self { environment, ..Self::default() })
    }
}

/// What stands nearest to a release of NVIDIA's: its torch is a pre-release that no index has.
fn ngc(repository: &str, tag: &str) -> Result<Spec, Error> {
    let releases = sconce_facts::ngc_releases();
    let name = tag.strip_suffix("-py3").unwrap_or(tag);
    let Some(row) = releases.iter().find(|row| row.name == name) else {
        // The one before it: NVIDIA's names are years and months.
        let month = tag.split('-').next().unwrap_or(tag);
        let before = releases.iter().rev().find(|row| row.name.as_str() <= month);
        let dated = month.starts_with(|c: char| c.is_ascii_digit());
        let end = if dated { releases.first() } else { releases.last() };
        let near = before.or(end).map(|row| format!("{repository}:{}-py3", row.name));
        let why = "what is in that release is not known here".to_owned();
        return Err(Error::Tag { tag: format!("{repository}:{}", cut(tag)), why, near });
    };
    let torch = sconce_facts::release(&row.nearest).ok();
    let (Some(versions), Some(torch)) = (torch_versions(&row.nearest), torch) else {
        let why = format!("there is no torch {}", row.nearest);
        return Err(Error::Tag { tag: format!("{repository}:{}", cut(tag)), why, near: None });
    };
    let has_python = sconce_facts::pythons().contains(&row.python.as_str());
    let python = has_python.then(|| row.python.clone());
    let instead = match &python {
        Some(python) => format!(" and Python {python}"),
        None => format!(" (Python {} is not to be had here)", row.python),
    };
    let remark = format!(
        "NVIDIA's {} has torch {} with CUDA {} and Python {}; this is the public torch {} with CUDA {}{instead}, \
         without what NVIDIA adds",
        row.name, row.torch, row.cuda, row.python, row.nearest, torch.cuda
    );
    let environment = Environment {
        torch: TorchRequest::Versions(versions),
        python,
        // The images have NumPy, and torch warns at every import without it.
        requirements: Requirements::List(vec!["numpy".to_owned()]),
        ..Environment::default()
    };
    Ok(Spec { environment, remarks: vec![remark], ..Spec::default() })
}

/// CUDA and cuDNN of a tag against the builds of the torch it names, as far as the facts know that torch.
fn check(environment: &Environment, cudnn: Option<u64>) -> Result<(), String> {
    let TorchRequest::Versions(specifiers) = &environment.torch else { return Ok(()) };
    let known: Vec<_> = sconce_facts::releases()
        .iter()
        .filter(|release| {
            release.version.parse().is_ok_and(|version| specifiers.contains(&version))
        })
        .collect();
    let Some(newest) = known.last() else {
        return if crate::candidate::reaches_beyond(specifiers) {
            Ok(())
        } else {
            Err(format!("there is no torch {specifiers}"))
        };
    };
    let fits = |release: &&Release| {
        builds(release).into_iter().any(|build| {
            let cuda = match environment.cuda {
                CudaRequest::Version { major, minor } => {
                    build.0.major == major && minor.is_none_or(|minor| build.0.minor == minor)
                }
                CudaRequest::Auto | CudaRequest::Cpu => true,
            };
            cuda && (cudnn.is_none() || build.1.is_none() || build.1 == cudnn)
        })
    };
    if known.iter().copied().any(|release| fits(&release)) {
        return Ok(());
    }
    let has: Vec<_> = builds(newest)
        .into_iter()
        .map(|(cuda, cudnn)| match cudnn {
            Some(cudnn) => format!("CUDA {cuda} with cuDNN {cudnn}"),
            None => format!("CUDA {cuda}"),
        })
        .collect();
    Err(format!("torch {} has builds for {}", newest.version, has.join(", ")))
}

/// CUDA and cuDNN major of every build of a release.
fn builds(release: &Release) -> Vec<(CudaVersion, Option<u64>)> {
    let major = |text: &String| text.split('.').next().and_then(|major| major.parse().ok());
    let pypi = release.build(sconce_facts::Machine::X86_64).cudnn.as_ref().and_then(major);
    release
        .variants
        .iter()
        .filter_map(|variant| {
            let cuda = variant.cuda()?;
            let of_pypi = if cuda == release.cuda { pypi } else { None };
            Some((cuda, of_pypi.or_else(|| variant.cudnn.as_ref().and_then(major))))
        })
        .collect()
}

/// The tag most like a wrong one, of all that the facts make.
fn nearest(tag: &str) -> Option<String> {
    let mut all = Vec::new();
    for release in sconce_facts::releases().iter().rev() {
        all.push(release.version.clone());
        for (cuda, cudnn) in builds(release).into_iter().rev() {
            for flavour in sconce_facts::tag_flavours() {
                let cudnn = cudnn.map(|cudnn| format!("-cudnn{cudnn}")).unwrap_or_default();
                all.push(format!("{}-cuda{cuda}{cudnn}-{}", release.version, flavour.name));
            }
        }
    }
    sconce_facts::nearest(tag, all.iter().map(String::as_str)).map(str::to_owned)
}

/// Whether a part of a tag says by itself what it is: `py313`, `torch2.15`, `cu132`.
fn is_short(part: &str) -> bool {
    ["py", "torch", "cu"].iter().any(|kind| {
        part.strip_prefix(kind).is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    })
}

fn cut(text: &str) -> String {
    text.chars().take(40).collect()
}
