//! The program that compiles, with this machine's Python: what it writes for a layer depends on
//! that layer alone.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const COMPILER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/bytecode/compile.py");

/// Compiles `layers`, lists of files, and returns what the program did.
fn compile(folder: &Path, layers: &[&[PathBuf]], workers: &str) -> Output {
    let lines = |(number, layer): (usize, &&[PathBuf])| -> String {
        layer.iter().map(|path| format!("{number} {}\n", path.display())).collect()
    };
    let list = folder.join("list");
    fs::write(&list, layers.iter().enumerate().map(lines).collect::<String>()).unwrap();
    Command::new("python3")
        .args(["-B", "-S", "-s", "-W", "ignore", COMPILER])
        .arg(&list)
        .arg(folder.join("out"))
        .arg(workers)
        .env("PYTHONHASHSEED", "0")
        .output()
        .unwrap()
}

/// The bytecode of a layer, by its place; all is removed afterwards.
fn take(folder: &Path, number: usize, layer: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let out = folder.join("out");
    let inside = layer.strip_prefix("/").unwrap();
    let cache = out.join(number.to_string()).join(inside).join("__pycache__");
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(&cache).unwrap() {
        let entry = entry.unwrap();
        found.insert(entry.file_name().into(), fs::read(entry.path()).unwrap());
    }
    fs::remove_dir_all(out).unwrap();
    found
}

/// Modules that share names and constants, so that a process which compiles one of them has
/// objects that the next one would find.
fn modules(folder: &Path, count: usize) -> Vec<PathBuf> {
    fs::create_dir_all(folder).unwrap();
    let module = |number: usize| {
        let path = folder.join(format!("m{number:03}.py"));
        let text = format!(
            "import os\nNAMES = ('alpha', 'beta {number}', 1.5, b'x')\n\
             def shared(first, second={{'alpha', 'beta'}}):\n    return first, NAMES, {number}\n\
             def only_{number}(first):\n    return first in {{'q', 'r', 's', 'm{next:03}'}}\n",
            next = number + 1
        );
        fs::write(&path, text).unwrap();
        path
    };
    (0..count).map(module).collect()
}

#[test]
fn bytecode_of_a_layer_depends_on_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let (one, other) = (folder.path().join("one"), folder.path().join("other"));
    let (layer, more) = (modules(&one, 150), modules(&other, 70));

    assert!(compile(folder.path(), &[&layer], "1").status.success());
    let alone = take(folder.path(), 0, &one);
    assert_eq!(alone.len(), 150);
    for (layers, workers, number) in [
        (vec![&more[..], &layer[..]], "1", 1),
        (vec![&layer[..], &more[..]], "8", 0),
        // Wheels may share a file: both layers have it, and neither is in the other's way.
        (vec![&layer[..], &layer[..], &layer[..]], "8", 2),
        (vec![&[], &layer[..]], "3", 1),
    ] {
        let output = compile(folder.path(), &layers, workers);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(take(folder.path(), number, &one) == alone, "{workers} workers gave other bytes");
    }
}

#[test]
fn what_is_no_python_is_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let layer = folder.path().join("layer");
    let mut files = modules(&layer, 2);
    for (name, bytes) in [("template.py", &b"{{ name }} ="[..]), ("null.py", b"a = '\0'\n")] {
        fs::write(layer.join(name), bytes).unwrap();
        files.push(layer.join(name));
    }
    let output = compile(folder.path(), &[&files], "2");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(take(folder.path(), 0, &layer).len(), 2);
}

#[test]
fn bytecode_that_cannot_be_written_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let layer = modules(&folder.path().join("layer"), 2);
    // A file where Python wants a folder, as root can write nearly anywhere.
    fs::write(folder.path().join("out"), "").unwrap();
    let output = compile(folder.path(), &[&layer], "2");
    assert!(!output.status.success());
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(words.contains("m000.py") && words.contains("failed"), "{words}");
}

#[test]
fn a_source_that_is_gone_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let output = compile(folder.path(), &[&[folder.path().join("gone.py")]], "2");
    assert!(!output.status.success());
}

#[test]
fn a_source_that_no_person_writes_takes_no_memory() {
    let world = tempfile::tempdir().unwrap();
    let folder = world.path().join("src");
    let mut files = modules(&folder, 2);
    let huge = folder.join("huge.py");
    fs::write(&huge, format!("x = [{}]\n", "[],".repeat(3 << 20))).unwrap();
    files.push(huge);
    let done = compile(world.path(), &[&files], "1");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let made = take(world.path(), 0, &folder);
    assert_eq!(made.len(), 2, "{:?}", made.keys());
}
