//! Room for thread-local variables: a library that asks for a place in the block which each thread has from the start
//! (`DF_STATIC_TLS`) can be opened later only while the spare part of that block lasts.
//!
//! Source: glibc `elf/dl-tls.c` (`_dl_tls_static_surplus_init`) and `elf/dl-reloc.c`; the manual, "Dynamic Linking
//! Tunables". Seen as `cannot allocate memory in static TLS block` (pytorch/pytorch#2575, jemalloc/jemalloc#937).

use std::collections::{BTreeMap, BTreeSet};

use crate::finding::{Finding, Kind, Severity};
use crate::loader::{Loader, Process};
use crate::names;
use crate::packages::is_python_library;

/// Bytes that glibc keeps for libraries which are opened later, if nobody sets a tunable: the same in all releases.
const SURPLUS: u64 = 1664;
/// The part of it that the tunable `glibc.rtld.optional_static_tls` sets.
const TUNED: u64 = 512;
/// Libraries named in one finding.
const MAX_EVIDENCE: usize = 6;

/// What the processes of an environment need.
pub struct StaticTls<'a> {
    loader: &'a Loader<'a>,
    /// Libraries that are loaded when the program starts, before the block is made.
    at_start: BTreeSet<usize>,
    /// Those that `import torch` opens.
    torch: BTreeSet<usize>,
    /// Sets of libraries that are too large, and the module that brings each.
    over: BTreeMap<BTreeSet<usize>, usize>,
}

impl<'a> StaticTls<'a> {
    /// With the process in which torch is imported; `python` is the program, where the tree has one.
    pub fn new(loader: &'a Loader<'a>, torch: &Process, python: Option<usize>) -> Self {
        let mut start = Process::default();
        if let Some(python) = python {
            loader.load(&mut start, python);
        }
        let at_start = start.loaded.iter().map(|loaded| loaded.library).collect();
        let mut all = Self { loader, at_start, torch: BTreeSet::new(), over: BTreeMap::new() };
        all.torch = all.needing(torch);
        let last = all.torch.iter().next_back().copied();
        if let Some(last) = last.filter(|_| all.bytes(&all.torch) > SURPLUS) {
            all.over.insert(all.torch.clone(), last);
        }
        all
    }

    /// Takes what a module of Python opens, beside what torch has opened before.
    pub fn take(&mut self, process: &Process) {
        let Some(first) = process.loaded.first() else { return };
        let Some(root) = self.loader.library(first.library) else { return };
        if !(is_python_library(&root.path) && names::is_module(root.name())) {
            return;
        }
        let own = self.needing(process);
        if own.is_subset(&self.torch) {
            return;
        }
        let all: BTreeSet<usize> = own.union(&self.torch).copied().collect();
        if self.bytes(&all) > SURPLUS {
            self.over.entry(all).or_insert(first.library);
        }
    }

    /// The libraries of a process that need room in the block after the start.
    fn needing(&self, process: &Process) -> BTreeSet<usize> {
        let opened = process.loaded.iter().map(|loaded| loaded.library);
        opened.filter(|at| !self.at_start.contains(at) && self.of(*at) > 0).collect()
    }

    /// Bytes that one library needs. The C library is loaded at the start of every program.
    fn of(&self, at: usize) -> u64 {
        let library = self.loader.library(at).filter(|library| library.soname() != "libc.so.6");
        library.and_then(|library| Some(library.dynamic.as_ref()?.static_tls)).unwrap_or(0)
    }

    fn bytes(&self, libraries: &BTreeSet<usize>) -> u64 {
        libraries.iter().fold(0, |sum, at| sum.saturating_add(self.of(*at)))
    }

    /// What may fail.
    pub fn findings(&self) -> Vec<Finding> {
        self.over
            .iter()
            .filter_map(|(libraries, module)| self.finding(libraries, *module))
            .collect()
    }

    fn finding(&self, libraries: &BTreeSet<usize>, module: usize) -> Option<Finding> {
        let mut largest: Vec<usize> = libraries.iter().copied().collect();
        largest.sort_by_key(|at| (std::cmp::Reverse(self.of(*at)), *at));
        let heaviest = self.loader.library(*largest.first()?)?;
        let total = self.bytes(libraries);
        let message = format!(
            "may fail to be imported: it and what is opened before need {total} bytes of static TLS, and glibc keeps {SURPLUS}"
        );
        let tuned = (total - (SURPLUS - TUNED)).next_multiple_of(TUNED);
        let named = largest.iter().take(MAX_EVIDENCE).filter_map(|at| {
            Some(format!("{}: {} bytes", self.loader.library(*at)?.path, self.of(*at)))
        });
        let finding = Finding::new(
            Severity::Warning,
            Kind::StaticTls,
            self.loader.library(module)?.path.clone(),
            message,
        );
        let finding = finding.evidence(named).evidence([format!(
            "seen as: {}: cannot allocate memory in static TLS block",
            heaviest.name()
        )]);
        Some(
            finding
                .fix(format!(
                    "set GLIBC_TUNABLES=glibc.rtld.optional_static_tls={tuned} (glibc 2.33 and later), or have {} loaded at the start with LD_PRELOAD",
                    heaviest.name()
                ))
                .gpu(true),
        )
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use crate::failures::World;
    use crate::finding::Kind;
    use crate::forge::Library;

    fn world(bytes: u64) -> World {
        let mut world = World::new();
        let torch = Library::new("libtorch_python.so")
            .needs(&["libtorch_cuda.so", "libgomp.so.1", "libc.so.6"])
            .rpath("$ORIGIN:$ORIGIN/../../nvidia/cuda_runtime/lib");
        world.site("torch/lib/libtorch_python.so", &torch);
        world.site("torch/lib/libgomp.so.1", &Library::new("libgomp.so.1").static_tls(200, 16));
        let module = Library::new("").needs(&["libjemalloc.so.2", "libc.so.6"]).rpath("$ORIGIN");
        world.site("other/_C.cpython-313-x86_64-linux-gnu.so", &module);
        let library = Library::new("libjemalloc.so.2").static_tls(bytes, 16);
        world.site("other/libjemalloc.so.2", &library);
        world
    }

    #[test]
    fn a_library_that_fits_is_not_told_of() {
        let report = world(1456).report();
        assert!(report.findings.iter().all(|finding| finding.kind != Kind::StaticTls));
    }

    #[test]
    fn a_library_that_does_not_fit_beside_torch_may_fail() {
        let world = world(1457);
        let report = world.report();
        let finding = report.findings.iter().find(|finding| finding.kind == Kind::StaticTls);
        let finding = finding.expect("a finding");
        let text = format!(
            "{}\n{}\n{}",
            finding.message,
            finding.evidence.join("\n"),
            finding.fix.as_deref().unwrap_or("")
        );
        expect![[r#"
            may fail to be imported: it and what is opened before need 1680 bytes of static TLS, and glibc keeps 1664
            opt/venv/lib/python3.13/site-packages/other/libjemalloc.so.2: 1472 bytes
            opt/venv/lib/python3.13/site-packages/torch/lib/libgomp.so.1: 208 bytes
            seen as: libjemalloc.so.2: cannot allocate memory in static TLS block
            set GLIBC_TUNABLES=glibc.rtld.optional_static_tls=1024 (glibc 2.33 and later), or have libjemalloc.so.2 loaded at the start with LD_PRELOAD"#]]
        .assert_eq(&text);
        let said = world.answer("h100", "550.54.14");
        assert!(said.starts_with("Yes, in part: ") && said.contains("may fail"), "{said}");
    }
}
