//! Libraries that must be of one release and find each other by name alone: is it the one that came with it?
//!
//! Two files in one folder were installed together. Others are of one release where the version of the package, or the
//! number in the file's name (`libcublasLt.so.12.4.5.8`), says so.

use crate::finding::{Finding, Kind, Severity};
use crate::loader::{Found, Loader, Process};
use crate::names::{self, OneRelease, is_like};
use crate::packages::{Contents, is_python_library, release};

/// Libraries of `process` that get another release of what they need.
pub fn check(loader: &Loader<'_>, process: &Process, contents: &Contents) -> Vec<Finding> {
    let mut out = Vec::new();
    for loaded in &process.loaded {
        let Some(library) = loader.library(loaded.library) else { continue };
        let soname = names::unmangled(library.soname());
        let row = names::of_one_release().iter().find(|row| is_like(&row.library, &soname));
        let needed = library.dynamic.iter().flat_map(|dynamic| &dynamic.needed);
        let Some((row, with)) = row.and_then(|row| {
            let mut needed = needed.filter(|name| is_like(&row.with, &names::unmangled(name)));
            Some((row, needed.next()?))
        }) else {
            continue;
        };
        let Some(provider) = process.get(with) else { continue };
        let Some(other) = loader.library(provider.library) else { continue };
        if folder(&library.path) == folder(&other.path) {
            continue;
        }
        let versions =
            [&library.path, &other.path].map(|path| version(row, path, &soname, contents));
        if let [Some(own), Some(others)] = &versions
            && release(own) == release(others)
        {
            continue;
        }
        let words = versions.map(|version| version.unwrap_or_else(|| "an unknown release".into()));
        out.push(finding(
            row,
            with,
            (&library.path, &words[0]),
            (&other.path, &words[1]),
            provider.found,
        ));
    }
    out
}

fn finding(
    row: &OneRelease,
    with: &str,
    (own, own_version): (&str, &str),
    (other, version): (&str, &str),
    found: Found,
) -> Finding {
    let name = own.rsplit('/').next().unwrap_or(own);
    let message = format!("{name} gets {other} {}, which may be of another release", found.words());
    let fix = match found {
        Found::Environment => "take its folder out of LD_LIBRARY_PATH",
        _ => "remove the one that does not belong to the other",
    };
    Finding::new(Severity::Warning, Kind::Shadowed, with, message)
        .evidence([format!("{own}: {own_version}"), format!("{other}: {version}")])
        .evidence([format!("seen as: {}", row.fails)])
        .fix(fix)
        .gpu(true)
}

/// The release of the library at `path`: of the package that brings it, or by the number in its name.
fn version(row: &OneRelease, path: &str, soname: &str, contents: &Contents) -> Option<String> {
    let name = path.rsplit('/').next().unwrap_or(path);
    let (_, number) = name.split_once(".so.")?;
    if number.split('.').count() > 2 {
        return Some(number.to_owned());
    }
    if !(is_python_library(path) && path.contains("nvidia/")) {
        return None;
    }
    let major = names::cuda_major(soname);
    let mut installed = contents.packages.iter().filter(|package| {
        let of_major = release(&package.version).and_then(|numbers| numbers.first().copied());
        row.packages.contains(&package.name)
            && (major.is_none() || of_major == major.map(u64::from))
    });
    Some(installed.next()?.version.clone())
}

fn folder(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use crate::failures::{SITE, World};
    use crate::forge::Library;

    fn world(other: &str) -> World {
        let mut world = World::new();
        let needs = Library::new("libcublas.so.12").needs(&["libcublasLt.so.12"]);
        world.site("nvidia/cublas/lib/libcublas.so.12", &needs.runpath("$ORIGIN"));
        let own = Library::new("libcublasLt.so.12");
        world.site("nvidia/cublas/lib/libcublasLt.so.12", &own);
        world.file(
            &format!("{SITE}/nvidia_cublas_cu12-12.4.5.8.dist-info/METADATA"),
            b"Name: nvidia-cublas-cu12\nVersion: 12.4.5.8\n",
        );
        let torch = Library::new("libtorch_python.so")
            .needs(&["libtorch_cuda.so", "libcublas.so.12", "libc.so.6"])
            .rpath("$ORIGIN/../../nvidia/cublas/lib:$ORIGIN");
        world.site("torch/lib/libtorch_python.so", &torch);
        world.put(&format!("usr/local/cuda/lib64/{other}"), &own);
        world.tree.add_link("usr/local/cuda/lib64/libcublasLt.so.12", other);
        world
    }

    #[test]
    fn cublas_beside_the_cublaslt_of_another_toolkit() {
        let mut world = world("libcublasLt.so.12.1.3.1");
        let sound = world.answer("h100", "550.54.14");
        assert!(sound.starts_with("Yes: "), "{sound}");
        world.library_path = Some("/usr/local/cuda/lib64".to_owned());
        expect![[r#"
            Warning Shadowed libcublasLt.so.12: libcublas.so.12 gets usr/local/cuda/lib64/libcublasLt.so.12.1.3.1 by LD_LIBRARY_PATH, which may be of another release
                SITE/nvidia/cublas/lib/libcublas.so.12: 12.4.5.8
                usr/local/cuda/lib64/libcublasLt.so.12.1.3.1: 12.1.3.1
                seen as: undefined symbol: cublasLtHSHMatmulAlgoInit, version libcublasLt.so.11; CUBLAS_STATUS_INVALID_VALUE when calling cublasSgemm
        "#]].assert_eq(&shadowed(&world));
        let said = world.answer("h100", "550.54.14");
        assert!(said.starts_with("Yes, in part: ") && said.contains("libcublas"), "{said}");
    }

    #[test]
    fn one_of_the_same_release_may_lie_elsewhere() {
        let mut world = world("libcublasLt.so.12.4.5.8");
        world.library_path = Some("/usr/local/cuda/lib64".to_owned());
        let said = world.answer("h100", "550.54.14");
        assert!(said.starts_with("Yes: "), "{said}");
    }

    fn shadowed(world: &World) -> String {
        let report = world.report();
        let findings =
            report.findings.iter().filter(|finding| finding.subject.contains("cublasLt"));
        let text = findings.map(|finding| {
            let evidence: String =
                finding.evidence.iter().map(|line| format!("    {line}\n")).collect();
            format!(
                "{:?} {:?} {}: {}\n{evidence}",
                finding.severity, finding.kind, finding.subject, finding.message
            )
        });
        text.collect::<String>().replace(SITE, "SITE")
    }
}
