//! What to say when no torch fits, in words a researcher understands.

use pep440_rs::Version;
use sconce_facts::{DriverVersion, Machine, Release};

use crate::candidate::{Reason, Request, WantedGpu, consider};
use crate::error::Error;
use crate::explain::Refused;
use crate::python::offered;
use crate::spec::{CudaRequest, TorchRequest};

/// One refused release.
pub(crate) fn one(release: &Release, reason: &Reason) -> Refused {
    Refused { what: format!("torch {}", release.version), why: reason.to_string() }
}

/// The error for a request that no release meets.
pub(crate) fn no_torch(request: &Request, refused: &[(&'static Release, Reason)]) -> Error {
    let told = refused.iter().map(|(release, reason)| one(release, reason)).collect();
    let Some((newest, reason)) = refused.first() else {
        return unknown_version(request);
    };
    if refused.len() == 1 {
        return Error::NoTorch {
            message: format!("torch {}: {reason}", newest.version),
            refused: told,
            hint: hint(request, newest, reason),
        };
    }
    // What has code for all of the GPUs and is refused for its CUDA: a newer driver alone would do.
    let of_driver = |(_, reason): &&(_, Reason)| matches!(reason, Reason::OldDriver { .. });
    if let Some((release, reason)) = refused.iter().find(of_driver)
        && !std::ptr::eq(*release, *newest)
        && !request.gpus.is_empty()
    {
        let message = format!(
            "torch {}, the newest with code for {}: {reason}",
            release.version,
            named(&request.gpus)
        );
        return Error::NoTorch { message, refused: told, hint: hint(request, release, reason) };
    }
    if let Some(message) = together(request) {
        let hint = Some("make an environment for each, or leave one out".to_owned());
        return Error::NoTorch { message, refused: told, hint };
    }
    let message = format!("the newest looked at, torch {}: {reason}", newest.version);
    Error::NoTorch { message, refused: told, hint: hint(request, newest, reason) }
}

/// A version that the facts do not have although they reach past it.
fn unknown_version(request: &Request) -> Error {
    let TorchRequest::Versions(specifiers) = &request.torch else {
        return Error::NoTorch {
            message: "no release is known".into(),
            refused: Vec::new(),
            hint: None,
        };
    };
    let wanted = specifiers.to_string();
    let versions = || sconce_facts::releases().iter().map(|release| release.version.as_str());
    // The last release not above the first version named, else the first of all.
    let named = specifiers.iter().next().map(|specifier| specifier.version().clone());
    let below = |known: &&str| known.parse::<Version>().ok() <= named;
    let near = versions().take_while(below).last().or_else(|| versions().next());
    let oldest = versions().next().unwrap_or_default();
    let newest = &sconce_facts::newest_release().version;
    Error::NoTorch {
        message: format!("there is no torch {wanted} (known: {oldest} to {newest})"),
        refused: Vec::new(),
        hint: near.map(|near| format!("the nearest is torch = \"{near}\"")),
    }
}

/// "1080TI (sm_61) and H100 (sm_90)"
fn named(gpus: &[WantedGpu]) -> String {
    let named: Vec<_> = gpus.iter().map(ToString::to_string).collect();
    named.join(" and ")
}

/// GPUs that each have a torch and no torch in common.
fn together(request: &Request) -> Option<String> {
    // One that is taken only where it is asked for may serve all of them.
    if request.gpus.len() < 2 || old_release(request).is_some() {
        return None;
    }
    let served = |gpu: &WantedGpu| {
        let alone = Request { gpus: vec![gpu.clone()], ..request.clone() };
        let fits: Vec<_> = sconce_facts::releases()
            .iter()
            .filter(|release| consider(release, &alone, false).is_ok())
            .map(|release| release.version.as_str())
            .collect();
        match (fits.first(), fits.last()) {
            (Some(first), Some(last)) => format!("{gpu} is served by {first} to {last}"),
            _ => match (old(&alone), &request.driver) {
                (Some(old), _) => format!("{gpu} is served by {} and older", old.version),
                (None, Some(driver)) if runs_with_another_driver(&alone) => {
                    format!("{gpu} is served by none that driver {driver} runs")
                }
                _ => format!("{gpu} is served by none"),
            },
        }
    };
    let each: Vec<_> = request.gpus.iter().map(served).collect();
    Some(format!("no release serves all of these GPUs: {}", each.join("; ")))
}

/// Whether a release would fit with a driver that is new enough.
fn runs_with_another_driver(request: &Request) -> bool {
    let open = Request { driver: None, ..request.clone() };
    let mut releases = sconce_facts::releases().iter();
    releases.any(|release| consider(release, &open, false).is_ok())
}

/// What would make a release fit.
pub(crate) fn hint(
    request: &Request,
    release: &'static Release,
    reason: &Reason,
) -> Option<String> {
    match reason {
        Reason::NoCode { gpu, .. } => {
            let other = other_release(request).or_else(|| own_build(request, release));
            Some(other.or_else(|| old_release(request)).unwrap_or_else(|| {
                format!("no torch from PyPI has code for {gpu} and is what else is asked for")
            }))
        }
        Reason::OldDriver { .. } if gpu_without_driver(request).is_some() => {
            gpu_without_driver(request)
        }
        Reason::OldDriver { floor, .. } => {
            let newer = newer_driver(request, release, floor);
            let older = other_release(request)
                .or_else(|| older_cuda(request))
                .or_else(|| old_release(request))
                .or_else(|| of_driver(request));
            Some(older.map_or_else(|| newer.clone(), |older| format!("{older}; or {newer}")))
        }
        Reason::NoNvcc { .. } => Some(match other_release(request) {
            Some(other) => format!("{other}; or flavour = \"runtime\""),
            None => "flavour = \"runtime\"".into(),
        }),
        Reason::NoPython { .. } => {
            let free = Request { bases: offered(None), ..request.clone() };
            let base = consider(release, &free, true).ok()?.base;
            Some(match base.standalone {
                Some(_) => format!("python = \"{}\"", base.python),
                None => format!("python = \"{}\" (Debian {})", base.python, base.release),
            })
        }
        Reason::CpuBuild { .. } => other_release(request),
        Reason::OtherCuda { .. } => {
            let has: Vec<_> =
                release.variants.iter().filter_map(|variant| variant.cuda()).collect();
            let has: Vec<_> = has.iter().map(ToString::to_string).collect();
            Some(format!("torch {} has builds for CUDA {}", release.version, has.join(", ")))
        }
        Reason::NotAsked => None,
    }
}

/// The driver that a release needs, and before it the lowest one with which any fits that may be taken.
fn newer_driver(request: &Request, release: &'static Release, floor: &DriverVersion) -> String {
    let needs = |other: &'static Release| match consider(other, request, false) {
        Err(Reason::OldDriver { floor, .. }) => Some((floor, other)),
        _ => None,
    };
    // Of several with one floor the newest.
    let lowest =
        sconce_facts::releases().iter().rev().filter_map(needs).min_by(|a, b| a.0.cmp(&b.0));
    match lowest.filter(|(lowest, _)| lowest < floor) {
        Some((lowest, other)) => format!(
            "a driver from {lowest} on, which runs torch {}, or from {floor} on for torch {}",
            other.version, release.version
        ),
        None => format!("a driver from {floor} on"),
    }
}

/// A GPU that no torch runs on with the driver, as that does not know its generation.
fn gpu_without_driver(request: &Request) -> Option<String> {
    let driver = request.driver.as_ref()?;
    let needs = |gpu: &WantedGpu| gpu.oldest_driver().filter(|oldest| driver < *oldest);
    let (oldest, gpu) = request
        .gpus
        .iter()
        .filter_map(|gpu| Some((needs(gpu)?, gpu)))
        .max_by_key(|(oldest, _)| *oldest)?;
    Some(format!("a driver from {oldest} on: no older one runs {gpu}, whatever the torch"))
}

/// The releases that fit when the version is left open, those among them that are taken only where they are asked for.
fn other_release(request: &Request) -> Option<String> {
    let newest = Request { torch: TorchRequest::Newest, ..request.clone() };
    // Where none fits without being asked for, others speak of it.
    sconce_facts::releases().iter().find(|release| consider(release, &newest, false).is_ok())?;
    let fits: Vec<_> = sconce_facts::releases()
        .iter()
        .filter(|release| {
            let Ok(exactly) = format!("=={}", release.version).parse() else { return false };
            let asked = Request { torch: TorchRequest::Versions(exactly), ..request.clone() };
            consider(release, &asked, false).is_ok()
        })
        .map(|release| release.version.as_str())
        .collect();
    match (fits.first(), fits.last()) {
        (Some(first), Some(last)) if first == last => Some(format!("torch {first} fits")),
        (Some(first), Some(last)) => {
            Some(format!("the first torch that fits is {first}, the newest {last}"))
        }
        _ => None,
    }
}

/// The newest of the releases that are taken only where they are asked for, if one fits.
fn old_release(request: &Request) -> Option<String> {
    let found = old(request)?;
    Some(format!("the newest torch that fits is torch = \"{}\"", found.version))
}

fn old(request: &Request) -> Option<&'static Release> {
    let fits = |release: &'static Release| {
        let exactly = format!("=={}", release.version).parse().ok()?;
        let open = Request { torch: TorchRequest::Versions(exactly), ..request.clone() };
        consider(release, &open, false).ok()
    };
    let mut old = sconce_facts::releases().iter().filter(|release| release.asked).rev();
    old.find(|release| fits(release).is_some())
}

/// The newest release that a driver runs, in a build on PyTorch's own index for an older CUDA.
fn older_cuda(request: &Request) -> Option<String> {
    let driver = request.driver.as_ref()?;
    let fits = |release: &'static Release| {
        release.variants.iter().rev().filter_map(|variant| variant.cuda()).find(|cuda| {
            let cuda = CudaRequest::Version { major: cuda.major, minor: Some(cuda.minor) };
            let open = Request { torch: TorchRequest::Newest, cuda, ..request.clone() };
            // That a build is there at all is documented for x86_64 alone.
            consider(release, &open, true).is_ok_and(|candidate| {
                candidate.architectures.is_some() || request.machine == Machine::X86_64
            })
        })
    };
    let mut releases = sconce_facts::releases().iter().rev();
    let (release, cuda) = releases.find_map(|release| Some((release, fits(release)?)))?;
    let version = &release.version;
    Some(format!(
        "the newest torch that driver {driver} runs is {version} with CUDA {cuda}: torch = \"{version}\", cuda = \"{cuda}\""
    ))
}

/// What a driver runs that is below the floors of all that fits otherwise.
fn of_driver(request: &Request) -> Option<String> {
    let driver = request.driver.as_ref()?;
    let runs = |release: &&Release| {
        release.build(request.machine).cuda_build
            && release.cuda.floor().is_some_and(|floor| *driver >= floor.driver)
    };
    if let Some(release) = sconce_facts::releases().iter().rev().find(runs) {
        return Some(format!(
            "the newest torch that driver {driver} runs is {} with CUDA {}, whose wheels are for {}",
            release.version,
            release.cuda,
            release.build(request.machine).python.join(", ")
        ));
    }
    let lowest = sconce_facts::floors().first()?;
    Some(format!(
        "no torch that is known here runs on driver {driver}: the lowest floor is {}, that of CUDA {}",
        lowest.driver, lowest.major
    ))
}

/// A build of the same release on PyTorch's own index that would do.
fn own_build(request: &Request, release: &'static Release) -> Option<String> {
    let cuda = release.variants.iter().rev().filter_map(|variant| variant.cuda()).find(|cuda| {
        let cuda = CudaRequest::Version { major: cuda.major, minor: Some(cuda.minor) };
        consider(release, &Request { cuda, ..request.clone() }, true)
            .is_ok_and(|candidate| candidate.architectures.is_some())
    })?;
    Some(format!("cuda = \"{cuda}\" takes PyTorch's own build, which is documented to have it"))
}
