//! The rows of a lock that follow from what was resolved: wheels, their torch, the indexes they name.

use std::collections::BTreeMap;
use std::path::Path;

use pep440_rs::Version;
use sconce_facts::CudaVersion;

use super::overlaps;
use crate::document::{DebPin, IndexKind, IndexRow, TorchFacts, Wheel};
use crate::pylock::{Package, PylockWheel, Source as PylockSource};
use crate::source::Source;
use crate::target::Target;
use crate::verify::Set;
use crate::wheel_name::in_lock;

pub(super) fn row(
    package: &Package,
    wheel: &PylockWheel,
    index: String,
    folder: Option<&Path>,
) -> Wheel {
    let (index, url) = match &wheel.source {
        PylockSource::Index(_) => (index, None),
        PylockSource::Direct(url) => {
            let path = url.strip_prefix("file://").map(Path::new);
            let inner = folder.and_then(|folder| path?.strip_prefix(folder).ok());
            let url = match inner {
                Some(inner) => format!("./{}", inner.display()),
                None => in_lock(url),
            };
            ("direct".to_owned(), Some(url))
        }
    };
    Wheel {
        name: package.name.clone(),
        version: wheel.name.version.to_string(),
        file: wheel.name.file.clone(),
        size: wheel.size,
        sha256: wheel.sha256,
        index,
        url,
        variant: wheel.name.variant.clone(),
    }
}

pub(super) fn versions(wheels: &[Wheel]) -> Vec<(String, Version)> {
    let of = |wheel: &Wheel| Some((wheel.name.clone(), wheel.version.parse().ok()?));
    wheels.iter().filter_map(of).collect()
}

pub(super) fn as_set(versions: &[(String, Version)]) -> Set<'_> {
    Set(versions.iter().map(|(name, version)| (name.as_str(), version)).collect())
}

/// Whether a set has what torch pins, but for what is left out of it.
pub(super) fn meets(
    wheels: &[Wheel],
    pins: &[String],
    exclude: &[String],
    target: Target,
) -> Result<(), String> {
    let pins = overlaps::pins_besides(exclude, pins);
    as_set(&versions(wheels)).meets(&pins, target)
}

/// What a set says about its torch.
pub(super) fn torch_facts(
    set: &Set<'_>,
    cuda: Option<CudaVersion>,
    architectures: Vec<sconce_facts::Sm>,
) -> TorchFacts {
    let text = |version: Option<&Version>| version.map(ToString::to_string);
    TorchFacts {
        version: String::new(),
        cuda,
        driver: cuda.and_then(CudaVersion::floor).map(|row| row.driver.clone()),
        architectures,
        cudnn: text(set.version_like(&["nvidia-cudnn-cu"])),
        nccl: text(set.version_like(&["nvidia-nccl-cu"])),
        triton: text(set.version("triton")),
    }
}

/// The CUDA of a set, by NVIDIA's packages in it.
pub(super) fn cuda_of(set: &Set<'_>) -> Option<CudaVersion> {
    let names = ["cuda-toolkit", "nvidia-cuda-runtime", "nvidia-cuda-runtime-cu"];
    set.version_like(&names)?.to_string().parse().ok()
}

/// The indexes that packages name, those of the containers that they are built in as well.
pub(super) fn index_rows<'a>(
    (wheels, sources): (&[Wheel], &[Source]),
    debs: impl IntoIterator<Item = &'a DebPin>,
    addresses: &BTreeMap<String, String>,
) -> Vec<IndexRow> {
    let all = wheels.iter().chain(sources.iter().flat_map(|source| &source.wheels));
    let python = all.map(|wheel| wheel.index.as_str());
    let python = python.chain(sources.iter().map(|source| source.index.as_str()));
    let python = python.map(|name| (name, IndexKind::Python));
    let debian = debs.into_iter().map(|deb| (deb.index.as_str(), IndexKind::Debian));
    let mut rows: Vec<IndexRow> = Vec::new();
    for (name, kind) in python.chain(debian) {
        if !rows.iter().any(|row| row.name == name && row.kind == kind) {
            let url = addresses.get(name).filter(|_| kind == IndexKind::Python);
            let url = url.map(|url| in_lock(url));
            rows.push(IndexRow { name: name.to_owned(), kind, url });
        }
    }
    rows.sort_by(|a, b| (b.kind.as_str(), &a.name).cmp(&(a.kind.as_str(), &b.name)));
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_has_no_login_and_no_query() {
        let wheel = |index: &str| Wheel {
            name: "a".into(),
            version: "1.0".into(),
            file: "a-1.0-py3-none-any.whl".into(),
            size: None,
            sha256: sconce_blob::Digest::of(b""),
            index: index.into(),
            url: None,
            variant: None,
        };
        let addresses = BTreeMap::from([
            ("lab".to_owned(), "https://me:word@h.invalid/simple/?token=t0k3n#x".to_owned()),
            ("plain".to_owned(), "https://h.invalid/simple".to_owned()),
        ]);
        let rows = index_rows((&[wheel("lab"), wheel("plain")], &[]), [], &addresses);
        let urls: Vec<_> = rows.iter().filter_map(|row| row.url.as_deref()).collect();
        assert_eq!(urls, ["https://h.invalid/simple/", "https://h.invalid/simple"]);
    }
}
