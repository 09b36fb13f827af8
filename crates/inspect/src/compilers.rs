//! Compilers that packages bring (Triton's and XLA's ptxas), against the GPUs that they must know.

use std::collections::BTreeMap;

use sconce_facts::{Capability, CudaVersion};

use crate::finding::{Finding, Kind, Severity};
use crate::names::{self, Compiler};
use crate::packages::{Contents, Package, release};
use crate::verdict::{Outcome, Verdict};

/// A compiler in a package, and who compiles with it.
struct Installed<'a> {
    package: &'a Package,
    row: &'static Compiler,
    cuda: CudaVersion,
    /// The package that calls it, which may be its own.
    of: &'a Package,
}

impl Installed<'_> {
    /// The first CUDA whose compiler knows `capability`, where this one is older.
    fn too_old_for(&self, capability: Capability) -> Option<CudaVersion> {
        let first: CudaVersion = capability.row()?.first_cuda.parse().ok()?;
        (self.cuda < first).then_some(first)
    }

    fn is_own(&self) -> bool {
        self.package.name == self.of.name
    }
}

/// The compiler that does not know GPUs of this capability, in words.
pub fn too_old(contents: &Contents, capability: Capability) -> Option<String> {
    of(contents).find_map(|compiler| words(&compiler, capability))
}

/// The same of one with which all is compiled that runs: whether anything runs then is not known.
pub fn all_with_one_too_old(contents: &Contents, capability: Capability) -> Option<String> {
    if contents.torch.is_some() {
        return None;
    }
    of(contents).filter(|compiler| !compiler.is_own()).find_map(|compiler| {
        let words = words(&compiler, capability)?;
        Some(format!("{words}, unless {} has the driver compile it", compiler.of.name))
    })
}

fn words(compiler: &Installed<'_>, capability: Capability) -> Option<String> {
    let Installed { package, row, cuda, of } = compiler;
    let first = compiler.too_old_for(capability)?;
    let what = match compiler.is_own() {
        true => "what it compiles".to_owned(),
        false => format!("what {} compiles with it", of.name),
    };
    Some(format!(
        "{} of {} {} is of CUDA {cuda}, and {} needs CUDA {first}: {what} fails with `{}`",
        row.program,
        package.name,
        package.version,
        capability.sm(),
        row.fails
    ))
}

/// The GPUs on which the rest runs and that a compiler does not know.
pub fn findings(contents: &Contents, gpus: &[Verdict]) -> Vec<Finding> {
    let runs = |verdict: &&Verdict| {
        let outcome = matches!(verdict.outcome, Outcome::Native | Outcome::Jit | Outcome::Partial);
        outcome && !verdict.gpus.is_empty()
    };
    let mut unknown: BTreeMap<&str, (String, String, Vec<String>)> = BTreeMap::new();
    for compiler in of(contents) {
        let name = &compiler.package.name;
        for capability in gpus.iter().filter(runs).map(|verdict| verdict.capability) {
            let Some(first) = compiler.too_old_for(capability) else { continue };
            let message = format!(
                "its {} is of CUDA {}: it compiles nothing for GPUs that need a newer one",
                compiler.row.program, compiler.cuda
            );
            let fix = match compiler.is_own() {
                true => format!("on such a GPU, install the {name} and torch of a newer release"),
                false => format!("on such a GPU, install '{name}>={first}'"),
            };
            let entry = unknown.entry(name).or_insert((message, fix, Vec::new()));
            let sm = capability.sm();
            if !entry.2.contains(&sm) {
                entry.2.push(sm);
            }
        }
    }
    let finding = |(package, (message, fix, gpus)): (&str, (String, String, Vec<String>))| {
        Finding::new(Severity::Note, Kind::NoCode, package, message)
            .evidence([gpus.join(" ")])
            .fix(fix)
    };
    unknown.into_iter().map(finding).collect()
}

fn of(contents: &Contents) -> impl Iterator<Item = Installed<'_>> {
    contents.packages.iter().filter_map(|package| {
        let own = release(&package.version)?;
        let mut rows = names::compilers().iter().rev();
        let row = rows.find(|row| {
            row.package == package.name && release(&row.since).is_some_and(|since| since <= own)
        })?;
        let of = match row.of.is_empty() {
            true => package,
            false => contents.packages.iter().find(|other| row.of.contains(&other.name))?,
        };
        let of_version = || match own.as_slice() {
            [major, minor, ..] => format!("{major}.{minor}").parse().ok(),
            _ => None,
        };
        Some(Installed { package, row, cuda: row.cuda.or_else(of_version)?, of })
    })
}
