//! The fences of DESIGN and ARCHITECTURE.md, held over `cargo metadata` and the sources.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

/// Each crate of the workspace with its dependencies: (name, kind).
fn crates() -> Vec<(String, Vec<(String, String)>)> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--format-version", "1", "--offline"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let room = |name: &str| name.strip_prefix("sconce-").unwrap_or(name).to_owned();
    metadata["packages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|package| {
            let dependencies = package["dependencies"].as_array().unwrap().iter();
            let dependencies = dependencies.map(|dependency| {
                let kind = dependency["kind"].as_str().unwrap_or("normal").to_owned();
                (room(dependency["name"].as_str().unwrap()), kind)
            });
            (room(package["name"].as_str().unwrap()), dependencies.collect())
        })
        .filter(|(name, _)| name != "xtask")
        .collect()
}

/// Every Rust source below `crates/*/src`, with its crate.
fn sources() -> Vec<(String, PathBuf, String)> {
    fn walk(dir: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    for room in fs::read_dir(root().join("crates")).unwrap() {
        walk(&room.unwrap().path().join("src"), &mut found);
    }
    found.sort();
    let crates = root().join("crates");
    found
        .into_iter()
        .map(|path| {
            let below = path.strip_prefix(&crates).unwrap();
            let room = below.components().next().unwrap().as_os_str().to_string_lossy().into();
            let text = fs::read_to_string(&path).unwrap();
            (room, below.to_owned(), text)
        })
        .collect()
}

/// The part of a source before its inline tests.
fn product(text: &str) -> &str {
    text.split("#[cfg(test)]").next().unwrap()
}

#[test]
fn crates_reach_only_what_the_arrows_allow() {
    let rooms = crates();
    let names: BTreeSet<&str> = rooms.iter().map(|(name, _)| name.as_str()).collect();
    for (name, dependencies) in &rooms {
        if xtask::DEV_ONLY.contains(&name.as_str()) {
            continue;
        }
        let allowed = xtask::ARROWS.iter().find(|(from, _)| from == name);
        let (_, allowed) = allowed.unwrap_or_else(|| panic!("crate `{name}` has no row in ARROWS"));
        for (dependency, kind) in dependencies {
            if !names.contains(dependency.as_str()) || kind == "dev" {
                continue;
            }
            assert!(
                allowed.contains(&dependency.as_str()),
                "`{name}` must not use `{dependency}`: the arrows are in xtask/src/lib.rs"
            );
        }
    }
    for (from, _) in xtask::ARROWS {
        assert!(names.contains(from), "ARROWS names a crate that is not there: `{from}`");
    }
}

#[test]
fn libraries_stay_in_their_rooms() {
    for (name, dependencies) in crates() {
        for (library, rooms, why) in xtask::LIBRARIES {
            let uses = dependencies.iter().any(|(used, kind)| used == library && kind != "dev");
            assert!(
                !uses || rooms.contains(&name.as_str()),
                "`{name}` uses `{library}`, but {why}"
            );
        }
    }
}

#[test]
fn unsafe_code_and_printing_stay_in_their_rooms() {
    for (room, path, text) in sources() {
        let words = |words: &[&str]| {
            product(&text)
                .lines()
                .filter(|line| !line.trim_start().starts_with("//"))
                .any(|line| words.iter().any(|word| line.contains(word)))
        };
        let path = path.display();
        if !xtask::UNSAFE.contains(&room.as_str()) {
            assert!(!words(&["unsafe {", "unsafe fn", "unsafe impl"]), "{path}: unsafe code");
        }
        if !xtask::PRINTING.contains(&room.as_str()) && !xtask::DEV_ONLY.contains(&room.as_str()) {
            let printing = ["println!(", "print!(", "eprintln!(", "eprint!("];
            assert!(!words(&printing), "{path}: only the commands print");
        }
    }
}

#[test]
fn every_source_says_what_it_is_and_can_be_read_in_one_sitting() {
    for (_, path, text) in sources() {
        assert!(text.starts_with("//!"), "{}: starts without module docs", path.display());
        let lines = product(&text).lines().count();
        assert!(lines <= 900, "{}: {lines} lines before its tests", path.display());
        let name = path.file_stem().unwrap().to_string_lossy();
        let nameless = ["utils", "util", "common", "helpers", "helper", "misc"];
        assert!(!nameless.contains(&name.as_ref()), "{}: a name that says nothing", path.display());
    }
}

#[test]
fn the_architecture_page_knows_every_crate_and_names_only_what_exists() {
    let page = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    for (name, _) in crates() {
        assert!(
            page.contains(&format!("`crates/{name}`")),
            "ARCHITECTURE.md lacks `crates/{name}`"
        );
    }
    for path in page.split('`').skip(1).step_by(2) {
        let is_path = path.contains('/') && !path.contains([' ', '<', '*', '$', '~', ':']);
        if is_path && !path.starts_with('/') && !path.starts_with("./") {
            assert!(
                root().join(path).exists(),
                "ARCHITECTURE.md names `{path}`, which is not there"
            );
        }
    }
}

/// Files git tracks, as text; binary ones are left out.
fn tracked() -> Vec<(String, String)> {
    let output = Command::new("git").args(["ls-files", "-z"]).current_dir(root()).output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout)
        .unwrap()
        .split_terminator('\0')
        .filter_map(|path| Some((path.to_owned(), fs::read_to_string(root().join(path)).ok()?)))
        .collect()
}

/// Most of our Python runs on machines with GPUs and torch alone, where no test is.
#[test]
fn python_uses_only_names_that_are_defined() {
    let all = tracked().into_iter().map(|(path, _)| path).filter(|path| path.ends_with(".py"));
    let mut command = Command::new("python3");
    command.arg("xtask/tests/undefined.py").args(all).current_dir(root());
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn no_address_of_an_index_and_no_path_of_a_machine_is_committed() {
    // Spelt in pieces, so that this file does not hold what it looks for.
    let words = [
        ["files.python", "hosted.org"].concat(),
        ["pypi.", "org/"].concat(),
        ["deb.", "debian.org"].concat(),
        ["ftp.", "debian.org"].concat(),
        ["security.", "debian.org"].concat(),
        ["download.", "pytorch.org"].concat(),
        ["/work", "/main"].concat(),
        ["/work", "/shared"].concat(),
        ["/tmp/", "bash_jobs"].concat(),
    ];
    for (path, text) in tracked() {
        for word in &words {
            assert!(!text.contains(word.as_str()), "{path} holds `{word}`");
        }
    }
}
