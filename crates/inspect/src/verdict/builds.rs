//! Builds of a library of which a program takes the one for torch's CUDA: which of them serve a GPU.

use std::collections::BTreeMap;

use sconce_facts::Capability;

use super::library_service;
use crate::names::{self, Choice};
use crate::scan::Scan;

/// The builds of a library for several CUDAs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Builds {
    /// Their names: `libbitsandbytes_cuda*`.
    names: &'static str,
    /// The CUDAs of those with code for the GPU.
    with: Vec<String>,
    /// And of those without.
    without: Vec<String>,
    /// The CUDA of torch, which decides.
    torch: Option<String>,
}

impl Builds {
    /// Which of them have code for the GPU, and which is taken.
    pub fn words(&self) -> String {
        let those = |cudas: &[String]| match cudas {
            [one] => format!("that for CUDA {one}"),
            some => format!("those for CUDA {}", some.join(", ")),
        };
        let has = |cudas: &[String]| if cudas.len() == 1 { "has" } else { "have" };
        let of = format!("of its builds ({})", self.names);
        if let Some(torch) = self.torch.as_ref().filter(|torch| self.with.contains(torch)) {
            return format!("{of} that for CUDA {torch} is taken, torch's own");
        }
        let (with, without) = (&self.with, &self.without);
        let without = match without.is_empty() {
            true => String::new(),
            false => format!(", {} {} not", those(without), has(without)),
        };
        format!("{of} {} {} it{without}: the one for torch's CUDA is taken", those(with), has(with))
    }
}

/// The builds among which torch's CUDA chooses, and which of them serve `gpu`.
pub(super) fn of(scan: &Scan, gpu: Capability, cuda: Option<&str>) -> Vec<Builds> {
    let mut found: BTreeMap<&'static str, Builds> = BTreeMap::new();
    for library in &scan.libraries {
        let row = names::alternative(library.name()).filter(|row| row.by == Choice::Cuda);
        let Some((row, service)) = row.zip(library_service(library, gpu)) else { continue };
        // `130` is 13.0.
        let build = row.build(library.name());
        let Some((major, minor)) = build.split_at_checked(2).filter(|(_, minor)| !minor.is_empty())
        else {
            continue;
        };
        let builds = found.entry(&row.names).or_insert_with(|| Builds {
            names: &row.names,
            with: Vec::new(),
            without: Vec::new(),
            torch: cuda.map(str::to_owned),
        });
        let list = if service.fails() { &mut builds.without } else { &mut builds.with };
        list.push(format!("{major}.{minor}"));
    }
    let mut found: Vec<Builds> = found.into_values().collect();
    for builds in &mut found {
        for list in [&mut builds.with, &mut builds.without] {
            list.sort();
            list.dedup();
        }
    }
    found
}
