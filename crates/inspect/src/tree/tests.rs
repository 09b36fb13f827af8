//! Trees made here: what is found in them, and what ends a walk.

use std::fs;

use super::*;

fn tree(files: &[&str]) -> Tree {
    let mut tree = Tree::new();
    for file in files {
        tree.add_file(file, Arc::new(file.as_bytes().to_vec()));
    }
    tree
}

#[test]
fn links_stay_inside() {
    let mut tree = tree(&["usr/lib/libc.so.6", "data/x"]);
    tree.add_link("lib", "usr/lib");
    tree.add_link("etc/abs", "/lib/libc.so.6");
    tree.add_link("etc/up", "../../../../data/x");
    tree.add_link("loop", "loop");
    tree.add_link("a", "b");
    tree.add_link("b", "a");
    assert_eq!(tree.resolve("lib/libc.so.6").unwrap(), "usr/lib/libc.so.6");
    assert_eq!(tree.resolve("etc/abs").unwrap(), "usr/lib/libc.so.6");
    assert_eq!(tree.resolve("etc/up").unwrap(), "data/x");
    assert_eq!(tree.resolve("loop"), None);
    assert_eq!(tree.resolve("a/x"), None);
    assert_eq!(tree.resolve("data/x/y"), None);
    assert!(tree.is_directory("lib") && !tree.is_directory("data/x"));
}

#[test]
fn names_that_climb_are_not_taken() {
    let tree = tree(&["../x", "a/../../y", "", "/", "ok//./z"]);
    assert_eq!(tree.files().map(|(path, _)| path).collect::<Vec<_>>(), ["ok/z"]);
}

#[test]
fn an_opaque_directory_hides_lower_ones() {
    let dir = tempfile::tempdir().unwrap();
    let (below, above) = (dir.path().join("below"), dir.path().join("above"));
    for (layer, file) in [(&below, "a/old"), (&below, "b/kept"), (&above, "a/new"), (&above, "b/c")]
    {
        let path = layer.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "x").unwrap();
    }
    let flags = rustix::fs::XattrFlags::empty();
    let set = rustix::fs::setxattr(above.join("a"), "user.overlay.opaque", b"y", flags);
    // tmpfs of older kernels has no attributes.
    if set.is_err() {
        return;
    }
    let tree = Tree::layers(&[above, below]).unwrap();
    assert_eq!(tree.files().map(|(path, _)| path).collect::<Vec<_>>(), ["a/new", "b/c", "b/kept"]);
}

#[test]
fn upper_layers_hide_lower_ones() {
    let mut tree = tree(&["a/one", "a/two", "b/three", "c"]);
    tree.begin_layer();
    tree.add_file("c", Arc::new(b"new".to_vec()));
    tree.add_file("b/four", Arc::new(b"4".to_vec()));
    tree.whiteout("a", "one");
    tree.whiteout("b", ".wh..opq");
    assert_eq!(tree.files().map(|(path, _)| path).collect::<Vec<_>>(), ["a/two", "b/four", "c"]);
    let hidden: Vec<_> = tree.hidden().iter().map(|(path, size)| (path.as_str(), *size)).collect();
    assert_eq!(hidden, [("c", 1), ("a/one", 5), ("b/three", 7)]);
}

#[test]
fn an_archive_may_hide_the_same_directory_again_and_again() {
    // Gone through each time, this would be a thousand million steps.
    let mut tree = tree(&["d/old"]);
    tree.begin_layer();
    for number in 0..50_000 {
        tree.add_blank(&format!("d/{number}"), 1);
    }
    let start = std::time::Instant::now();
    for _ in 0..20_000 {
        tree.whiteout("d", ".wh..opq");
        tree.whiteout("", ".wh..opq");
    }
    assert!(start.elapsed().as_secs() < 5, "{:?}", start.elapsed());
    assert_eq!(tree.files().count(), 50_000);
    assert_eq!(tree.hidden().len(), 1);
}

#[test]
fn what_vanishes_or_lies_too_deep_is_told_of() {
    let dir = tempfile::tempdir().unwrap();
    let deep = dir.path().join("d/".repeat(MAX_DEPTH + 2));
    fs::create_dir_all(&deep).unwrap();
    fs::write(deep.join("x.so"), "x").unwrap();
    fs::write(dir.path().join("libgone.so"), [7; 100]).unwrap();
    let fifo = dir.path().join("pipe.so");
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    let kind = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, kind, mode, 0).unwrap();
    let tree = Tree::folder(dir.path()).unwrap();
    assert_eq!(tree.troubles().len(), 1, "{:?}", tree.troubles());
    assert!(tree.troubles()[0].why.contains("folders below each other"));
    assert_eq!(tree.files().map(|(path, _)| path).collect::<Vec<_>>(), ["libgone.so"]);
    // A pipe that takes the place of a file after it was listed is not waited for.
    fs::remove_file(dir.path().join("libgone.so")).unwrap();
    fs::rename(&fifo, dir.path().join("libgone.so")).unwrap();
    let report = crate::inspect("x", &tree, &crate::Options::default(), &|_, _| {});
    let lost = report.findings.iter().find(|finding| finding.subject == "libgone.so").unwrap();
    assert_eq!(lost.kind, crate::finding::Kind::Unreadable);
    assert!(lost.message.contains("not a regular file"), "{}", lost.message);
    assert!(crate::Subject::open(&dir.path().join("libgone.so"), "amd64").is_err());
}

#[test]
fn more_entries_than_there_is_room_for_are_told_of() {
    let dir = tempfile::tempdir().unwrap();
    for number in 0..50 {
        let name = format!("lib{number}.so");
        fs::write(dir.path().join(&name), [7; 100]).unwrap();
    }
    let mut tree = Tree::new();
    tree.room.most = 20;
    tree.add_folder(dir.path(), "").unwrap();
    for number in 0..50 {
        tree.add_blank(&format!("archive/folder/{number}"), 1);
    }
    assert_eq!(tree.files().count(), 20);
    assert_eq!(tree.troubles().len(), 1, "{:?}", tree.troubles());
    assert!(tree.troubles()[0].why.contains("more than 20 files and folders"));
    // What was not looked at may be what matters.
    let report = crate::inspect("x", &tree, &crate::Options::default(), &|_, _| {});
    let told = report.findings.iter().find(|finding| finding.message.contains("more than 20"));
    assert_eq!(told.unwrap().severity, crate::finding::Severity::Error);
}

#[test]
fn a_folder_that_was_not_read_leaves_the_answer_open() {
    let said = |path: &str| {
        let mut world = crate::failures::World::new();
        world.tree.trouble(path, "permission denied", super::LET_READ);
        world.answer("h100", "550.54.14")
    };
    let packages = format!("{}/other", crate::failures::SITE);
    for path in [packages.as_str(), "usr/lib/x86_64-linux-gnu", "home/me/.venv/dist-packages/x"] {
        let said = said(path);
        assert!(said.starts_with("Can't tell: permission denied"), "{path}: {said}");
    }
    let said = said("root/.cache");
    assert!(said.starts_with("Yes: "), "{said}");
}
