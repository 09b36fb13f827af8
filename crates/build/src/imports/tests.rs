//! What the answers mean.

use super::*;

fn imports(packages: &[(&str, &str)]) -> Imports {
    let own = |(name, version): &(&str, &str)| ((*name).to_owned(), (*version).to_owned());
    Imports {
        key: Digest::of(b""),
        torch: Some("2.15.0".into()),
        machine: Machine::X86_64,
        packages: packages.iter().map(own).collect(),
        answers: BTreeMap::new(),
    }
}

fn line(package: &str, outcome: &str, error: &str) -> String {
    let line = serde_json::json!({"package": package, "outcome": outcome, "error": error});
    format!("{line}\n")
}

#[test]
fn a_failure_names_the_pair_and_the_torch_that_fits() {
    let mut all = imports(&[("numpy", "2.4.0"), ("torchaudio", "2.11.0"), ("other", "1.0")]);
    let text = line("numpy", "imported", "")
        + &line("torchaudio", "failed", "RuntimeError: different\n CUDA \u{1b}[31mversions")
        + &line("other", "ended", "signal 11: Fatal error");
    take(&mut all, text.as_bytes());
    assert!(all.is_known());
    assert_eq!(
        all.remarks(false),
        [
            "torchaudio 2.11.0 can't be imported beside torch 2.15.0: RuntimeError: different CUDA [31mversions; \
             it is built for torch = \"2.14.1\" (CUDA 13.0)",
            "other 1.0 can't be imported beside torch 2.15.0: signal 11: Fatal error",
        ]
    );
}

/// All that is missing is named at once, with what brings it; what comes from inside is not trusted.
#[test]
fn all_libraries_that_are_missing_are_named() {
    let mut all = imports(&[("open3d", "0.20.0")]);
    let error =
        "ImportError: libEGL.so.1: cannot open shared object file: No such file or directory";
    let libraries = ["libEGL.so.1", "libusb-1.0.so.0", "libodd.so.3", "\u{1b}[31m.so", "no"];
    let line = serde_json::json!({
        "package": "open3d", "outcome": "failed", "error": error, "libraries": libraries
    });
    take(&mut all, line.to_string().as_bytes());
    let remark = all.remarks(false).remove(0);
    assert!(
        remark.ends_with(
            "directory; it lacks libusb-1.0.so.0, libodd.so.3 as well; `packages = [\"libegl1\", \
             \"libusb-1.0-0\"]` under [base] brings them; if Debian has libodd.so.3, \"libodd3\" under \
             [base] packages brings it"
        ),
        "{remark}"
    );
}

/// A library of Debian's is named as sconce.toml has it.
#[test]
fn a_library_that_is_missing_names_its_package() {
    let mut all = imports(&[("open3d", "0.20.0"), ("other", "1"), ("cuda", "2")]);
    let text = line(
        "open3d",
        "failed",
        "ImportError: libEGL.so.1: cannot open shared object file: No such file or directory",
    ) + &line("other", "failed", "OSError: libown.so.1: cannot open shared object file")
        + &line("cuda", "failed", "OSError: libcublas.so.12: cannot open shared object file");
    take(&mut all, text.as_bytes());
    let remarks = all.remarks(false);
    assert!(
        remarks[0].ends_with("directory; `packages = [\"libegl1\"]` under [base] brings it"),
        "{remarks:?}"
    );
    assert!(
        remarks[1].ends_with(
            "file; if Debian has libown.so.1, \"libown1\" under [base] packages brings it"
        ),
        "{remarks:?}"
    );
    assert!(
        remarks[2].ends_with("file; nvidia-cublas-cu12 on PyPI has libcublas.so.12"),
        "{remarks:?}"
    );
}

/// A package that is imported without parts of itself: what it lacks of Debian's is said, what it may do without is not.
#[test]
fn what_is_imported_may_lack_libraries() {
    let mut all = imports(&[("pymeshlab", "2025.7"), ("tensorflow", "2.20.0")]);
    let line = |package: &str, libraries: &[&str]| {
        let line = serde_json::json!({
            "package": package, "outcome": "imported", "error": "", "libraries": libraries
        });
        format!("{line}\n")
    };
    let text = line("pymeshlab", &["libOpenGL.so.0", "libp11-kit.so.0"])
        + &line("tensorflow", &["libcuda.so.1", "libnvinfer.so.8", "libcudart.so.12"]);
    take(&mut all, text.as_bytes());
    assert!(all.is_known());
    assert_eq!(
        all.remarks(false),
        [
            "pymeshlab 2025.7 is imported, but parts of it can't be loaded for want of libOpenGL.so.0, \
          libp11-kit.so.0; `packages = [\"libopengl0\"]` under [base] brings it; if Debian has \
          libp11-kit.so.0, \"libp11-kit0\" under [base] packages brings it"
        ]
    );
}

/// What is for want of a GPU, the network, memory or time is neither yes nor no.
#[test]
fn what_can_not_be_told() {
    let names = ["a", "b", "c", "d", "e", "f"].map(|name| (name, "1"));
    let mut all = imports(&names);
    let text = [
        line("a", "failed", "ImportError: libcuda.so.1: cannot open shared object file"),
        line("b", "late", ""),
        line("c", "ended", "signal 9: "),
        line("d", "failed", "URLError: <urlopen error [Errno -3]>"),
        line("e", "failed", "torch itself: OSError: libcudart.so.13: cannot open"),
        line("f", "failed", "SystemExit: 1"),
    ];
    take(&mut all, text.concat().as_bytes());
    assert_eq!(all.remarks(false), [""; 0]);
    let told = all.remarks(true).join("\n");
    for word in
        ["whether a can", "the NVIDIA driver", "120 s", "killed", "the network", "SystemExit"]
    {
        assert!(told.contains(word), "{word}: {told}");
    }
    assert_eq!(told.matches("can't be told here").count(), 6);
}

#[test]
fn answers_from_inside_are_not_trusted() {
    let mut all = imports(&[("a", "1"), ("b", "1")]);
    let text = line("a", "imported", "")
        + &line("a", "failed", "x")
        + &line("nobody", "failed", "x")
        + "{\"package\": \"b\", \"outcome\": \"fine\", \"error\": \"\"}\nnull\n\u{0}\n{";
    take(&mut all, text.as_bytes());
    assert_eq!(all.answers.len(), 1);
    assert_eq!(all.remarks(true), [""; 0]);
    assert!(!all.is_known());
    take(&mut all, line("b", "failed", &"x".repeat(10_000)).as_bytes());
    assert!(all.remarks(true)[0].len() < 400);
}

/// What an error says of NumPy is not torch's fault, and without torch nothing is said of it.
#[test]
fn the_package_that_does_not_fit_is_named() {
    let numpy = "ImportError: numpy.core.multiarray failed to import (AttributeError: _ARRAY_API not found)";
    let library =
        "ImportError: libGL.so.1: cannot open shared object file: No such file or directory";
    let mut all = imports(&[("numpy", "2.5.5"), ("cv", "4.8"), ("open", "1")]);
    let text = line("numpy", "imported", "") + &line("cv", "failed", numpy);
    take(&mut all, (text + &line("open", "failed", library)).as_bytes());
    let remarks = all.remarks(false);
    assert_eq!(
        remarks[0],
        format!(
            "cv 4.8 can't be imported beside numpy 2.5.5: {numpy}; ask for `numpy<2`, or for another release of cv"
        )
    );
    assert!(remarks[1].starts_with("open 1 can't be imported beside torch 2.15.0: "));
    all.torch = None;
    let remarks = all.remarks(false);
    assert!(remarks[1].starts_with("open 1 can't be imported: ImportError: libGL"), "{remarks:?}");
    assert!(
        remarks[1].ends_with("`packages = [\"libgl1\"]` under [base] brings it"),
        "{remarks:?}"
    );
}
