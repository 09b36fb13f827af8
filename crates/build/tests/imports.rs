//! The program of the import check, with this machine's Python and packages made for it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const PROGRAM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/imports/imports.py");

/// A package with native code, as far as its RECORD says, whose `__init__.py` this is.
fn package(site: &Path, name: &str, requires: &str, init: &str) {
    let info = site.join(format!("{name}-1.0.dist-info"));
    fs::create_dir_all(&info).unwrap();
    fs::create_dir_all(site.join(name)).unwrap();
    fs::write(site.join(name).join("__init__.py"), init).unwrap();
    let requires = match requires {
        "" => String::new(),
        text => format!("Requires-Dist: {text}\n"),
    };
    let metadata = format!("Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n{requires}");
    fs::write(info.join("METADATA"), metadata).unwrap();
    let record = format!("{name}/__init__.py,,\n{name}/_C.cpython-313-x86_64-linux-gnu.so,,\n");
    fs::write(info.join("RECORD"), record).unwrap();
}

struct Ran {
    /// Outcome and error by package.
    answers: BTreeMap<String, (String, String)>,
    /// What went to standard output or error.
    printed: String,
    took: Duration,
}

/// Imports `names` of a folder of packages; `stop` tells the program to end after so long.
fn run(folder: &Path, names: &[&str], seconds: &str, stop: Option<Duration>) -> Ran {
    let (work, results) = (folder.join("work"), folder.join("results"));
    fs::create_dir_all(&work).unwrap();
    fs::write(work.join("packages"), names.join("\n")).unwrap();
    fs::write(&results, "").unwrap();
    let begun = Instant::now();
    let child = Command::new("python3")
        .args(["-B", "-s", "-W", "ignore", PROGRAM])
        .args([&work, &results])
        .args(["3", seconds, &(1_u64 << 30).to_string()])
        .env("PYTHONPATH", folder.join("site"))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    if let Some(after) = stop {
        std::thread::sleep(after);
        fs::write(work.join("stop"), "").unwrap();
    }
    let output = child.wait_with_output().unwrap();
    let text = fs::read_to_string(&results).unwrap();
    let answer = |line: &str| {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        let word = |key: &str| line[key].as_str().unwrap().to_owned();
        (word("package"), (word("outcome"), word("error")))
    };
    let printed = [output.stdout, output.stderr].concat();
    Ran {
        answers: text.lines().map(answer).collect(),
        printed: String::from_utf8_lossy(&printed).into_owned(),
        took: begun.elapsed(),
    }
}

#[test]
fn each_import_has_its_own_outcome() {
    let folder = tempfile::tempdir().unwrap();
    let site = folder.path().join("site");
    package(&site, "torch", "", "LOADED = True\n");
    package(&site, "plain", "", "print('loud')\nimport sys\nassert 'torch' not in sys.modules\n");
    package(&site, "beside", "torch>=2", "import sys\nassert 'torch' in sys.modules\n");
    package(
        &site,
        "extra",
        "torch ; extra == \"all\"",
        "import sys\nassert 'torch' not in sys.modules\n",
    );
    package(&site, "cousin", "torch-geometric", "import sys\nassert 'torch' not in sys.modules\n");
    package(&site, "misfit", "torch", "raise RuntimeError('different CUDA versions')\n");
    let chained =
        "try:\n    1 / 0\nexcept Exception as error:\n    raise ImportError('outer') from error\n";
    package(&site, "chained", "torch", chained);
    package(&site, "leaves", "", "import sys\nsys.exit(3)\n");
    package(
        &site,
        "crashes",
        "",
        "import os, sys\nsys.stderr.write('last words')\nsys.stderr.flush()\nos.abort()\n",
    );
    package(&site, "hungry", "", "x = bytearray(1 << 32)\n");
    package(&site, "hangs", "torch", "import time\ntime.sleep(600)\n");
    package(&site, "reads", "", "import sys\nassert sys.stdin.read() == ''\n");
    // Modules at the top, one of them beside a package; and a wheel of libraries alone.
    package(&site, "top", "", "");
    fs::write(
        site.join("top-1.0.dist-info/RECORD"),
        "top/__init__.py,,\ntop_cuda.cpython-313-x86_64-linux-gnu.so,,\n",
    )
    .unwrap();
    package(&site, "deep", "", "");
    fs::write(site.join("deep-1.0.dist-info/RECORD"), "deep.libs/libx.so.1,,\n../x.so,,\n")
        .unwrap();
    let names = [
        "plain", "beside", "extra", "cousin", "misfit", "chained", "leaves", "crashes", "hungry",
        "hangs", "reads", "top", "deep", "gone",
    ];
    let ran = run(folder.path(), &names, "3", None);
    let outcomes: BTreeMap<&str, &str> =
        ran.answers.iter().map(|(name, (outcome, _))| (name.as_str(), outcome.as_str())).collect();
    let expected = BTreeMap::from([
        ("plain", "imported"),
        ("beside", "imported"),
        ("extra", "imported"),
        ("cousin", "imported"),
        ("misfit", "failed"),
        ("chained", "failed"),
        ("leaves", "failed"),
        ("crashes", "ended"),
        ("hungry", "failed"),
        ("hangs", "late"),
        ("reads", "imported"),
        ("top", "imported"),
        ("deep", "nothing"),
        ("gone", "nothing"),
    ]);
    assert_eq!(outcomes, expected, "{:?}\n{}", ran.answers, ran.printed);
    let error = |name: &str| ran.answers[name].1.as_str();
    assert_eq!(error("misfit"), "RuntimeError: different CUDA versions");
    assert_eq!(error("chained"), "ImportError: outer (ZeroDivisionError: division by zero)");
    assert_eq!(error("leaves"), "SystemExit: 3");
    assert_eq!(error("crashes"), "signal 6: last words");
    assert!(error("hungry").starts_with("MemoryError"), "{}", error("hungry"));
    assert_eq!(ran.printed, "");
    assert!(ran.took < Duration::from_secs(30), "{:?}", ran.took);
}

/// A torch that can't be imported says nothing of the packages beside it.
#[test]
fn torch_itself() {
    let folder = tempfile::tempdir().unwrap();
    let site = folder.path().join("site");
    package(
        &site,
        "torch",
        "",
        "raise OSError('libcudart.so.13: cannot open shared object file')\n",
    );
    package(&site, "beside", "torch", "import torch\n");
    package(&site, "plain", "", "");
    let ran = run(folder.path(), &["beside", "plain"], "3", None);
    assert_eq!(ran.answers["plain"].0, "imported");
    assert!(
        ran.answers["beside"].1.starts_with("torch itself: OSError: libcudart"),
        "{:?}",
        ran.answers
    );
}

/// Told to stop, it does so at once and leaves what has no answer without one.
#[test]
fn it_stops() {
    let folder = tempfile::tempdir().unwrap();
    let site = folder.path().join("site");
    package(&site, "torch", "", "");
    let init = format!(
        "import pathlib, time\ntime.sleep(4)\npathlib.Path('{}').write_text('x')\n",
        folder.path().join("went-on").display()
    );
    for name in ["one", "two", "three"] {
        package(&site, name, if name == "one" { "torch" } else { "" }, &init);
    }
    let ran = run(folder.path(), &["one", "two", "three"], "60", Some(Duration::from_secs(1)));
    assert!(ran.answers.is_empty() && ran.took < Duration::from_secs(3), "{:?}", ran.took);
}

/// dlopen names the first library that is not there, and a person wants to know all of them.
#[test]
fn all_missing_libraries_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let site = folder.path().join("site");
    let load =
        "import ctypes, os\nctypes.CDLL(os.path.join(os.path.dirname(__file__), 'libneeds.so'))\n";
    package(&site, "needs", "", load);
    let cc = |out: &str, libraries: &[&str]| {
        let mut cc = Command::new("cc");
        let at = site.join("needs");
        cc.args(["-shared", "-nostdlib", "-Wl,--no-as-needed", "-o", out]).args(libraries);
        cc.args(["-x", "c", "/dev/null"]);
        assert!(cc.current_dir(at).status().unwrap().success());
    };
    let gone = ["libone.so", "libtwo.so", "libother.so"];
    gone.iter().for_each(|library| cc(library, &[]));
    cc("libneeds.so", &gone[..2]);
    // For another framework, and no part of what the import lacks.
    cc("libmore.so", &gone);
    gone.iter().for_each(|library| fs::remove_file(site.join("needs").join(library)).unwrap());
    let files = "needs/__init__.py,,\nneeds/libmore.so,,\nneeds/libneeds.so,,\n";
    fs::write(site.join("needs-1.0.dist-info/RECORD"), files).unwrap();
    run(folder.path(), &["needs"], "20", None);
    let said = fs::read_to_string(folder.path().join("results")).unwrap();
    assert!(said.contains("\"libraries\": [\"libone.so\", \"libtwo.so\"]"), "{said}");
}

/// A package goes on without a plugin that can't be loaded, and prints it: what the plugin lacks is named.
#[test]
fn what_an_imported_package_says_that_it_lacks() {
    let folder = tempfile::tempdir().unwrap();
    let site = folder.path().join("site");
    let words = "cannot open shared object file: No such file or directory";
    let init = format!(
        "import os\nprint('libplugin.so: (libgone.so.1: {words})')\n\
         os.write(2, b'libc.so.6: {words}\\n')\n"
    );
    package(&site, "plugins", "", &init);
    run(folder.path(), &["plugins"], "20", None);
    let said = fs::read_to_string(folder.path().join("results")).unwrap();
    // What is loaded by now is not missing, whoever looked for it in vain before.
    assert!(
        said.contains("\"imported\"") && said.contains("\"libraries\": [\"libgone.so.1\"]"),
        "{said}"
    );
}
