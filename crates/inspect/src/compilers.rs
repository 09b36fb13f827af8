//! Compilers that packages bring (Triton's ptxas), against the GPUs that they must know.

use std::collections::BTreeMap;

use sconce_facts::{Capability, CudaVersion};

use crate::finding::{Finding, Kind, Severity};
use crate::names::{self, Compiler};
use crate::packages::{Contents, Package, release};
use crate::verdict::{Outcome, Verdict};

/// The compiler that does not know GPUs of this capability, in words.
pub fn too_old(contents: &Contents, capability: Capability) -> Option<String> {
    let first: CudaVersion = capability.row()?.first_cuda.parse().ok()?;
    let (package, compiler) = of(contents).find(|(_, compiler)| compiler.cuda < first)?;
    Some(format!(
        "{} of {} {} is of CUDA {}, and {} needs CUDA {first}: what it compiles fails with `{}`",
        compiler.program,
        package.name,
        package.version,
        compiler.cuda,
        capability.sm(),
        compiler.fails
    ))
}

/// The GPUs on which the rest runs and that a compiler does not know.
pub fn findings(contents: &Contents, gpus: &[Verdict]) -> Vec<Finding> {
    let runs = |verdict: &&Verdict| {
        let outcome = matches!(verdict.outcome, Outcome::Native | Outcome::Jit | Outcome::Partial);
        outcome && !verdict.gpus.is_empty()
    };
    let mut unknown: BTreeMap<&str, (String, Vec<String>)> = BTreeMap::new();
    for (package, compiler) in of(contents) {
        for capability in gpus.iter().filter(runs).map(|verdict| verdict.capability) {
            let first = capability.row().and_then(|row| row.first_cuda.parse().ok());
            if first.is_some_and(|first: CudaVersion| compiler.cuda < first) {
                let message = format!(
                    "its {} is of CUDA {}: it compiles nothing for GPUs that need a newer one",
                    compiler.program, compiler.cuda
                );
                let entry = unknown.entry(&package.name).or_insert((message, Vec::new()));
                entry.1.push(capability.sm());
            }
        }
    }
    let finding = |(package, (message, gpus)): (&str, (String, Vec<String>))| {
        Finding::new(Severity::Note, Kind::NoCode, package, message)
            .evidence([gpus.join(" ")])
            .fix(format!("on such a GPU, install the {package} and torch of a newer release"))
    };
    unknown.into_iter().map(finding).collect()
}

fn of(contents: &Contents) -> impl Iterator<Item = (&Package, &'static Compiler)> {
    contents.packages.iter().filter_map(|package| {
        let own = release(&package.version)?;
        let mut rows = names::compilers().iter().rev();
        let row = rows.find(|row| {
            row.package == package.name && release(&row.since).is_some_and(|since| since <= own)
        })?;
        Some((package, row))
    })
}
