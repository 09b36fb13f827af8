//! Hostile files: what must be refused at once, and what must not be reached.

use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use rustix::fs::{CWD, FileType, Mode};

use super::*;

/// Answers of `what` within two seconds: a hang fails the test and not the whole run.
fn soon<T: Send + 'static>(what: impl FnOnce() -> T + Send + 'static) -> T {
    let (send, receive) = mpsc::channel();
    thread::spawn(move || send.send(what()));
    receive.recv_timeout(Duration::from_secs(2)).expect("it hangs")
}

fn fifo(path: &Path) {
    rustix::fs::mknodat(CWD, path, FileType::Fifo, Mode::RWXU, 0).unwrap();
}

fn refused(path: &Path) -> String {
    let path = path.to_owned();
    soon(move || read(&path, 1 << 20)).unwrap_err().to_string()
}

#[test]
fn only_regular_files_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fifo(&at("fifo"));
    symlink("/dev/zero", at("zero")).unwrap();
    symlink("fifo", at("link")).unwrap();
    let _listener = UnixListener::bind(at("socket")).unwrap();
    assert_eq!(refused(&at("fifo")), "it is a FIFO (named pipe), not a regular file");
    assert_eq!(refused(&at("link")), "it is a FIFO (named pipe), not a regular file");
    assert_eq!(refused(&at("zero")), "it is a character device, not a regular file");
    assert_eq!(refused(&at("socket")), "it is a socket, not a regular file");
    assert_eq!(refused(folder.path()), "it is a folder, not a regular file");
    fs::write(at("text"), "words").unwrap();
    symlink("text", at("good")).unwrap();
    assert_eq!(read_to_string(&at("good"), 5).unwrap(), "words");
    assert!(is_missing(&read(&at("none"), 5).unwrap_err()));
    assert_eq!(read_if_there(&at("text/none"), 5).unwrap(), None);
    fs::write(at("bytes"), b"a\nb\xff").unwrap();
    let words = "it is not UTF-8 text: line 2 has bytes that are none";
    assert_eq!(read_to_string(&at("bytes"), 5).unwrap_err().to_string(), words);
    symlink("../nothing", at("dangling")).unwrap();
    let said = read_to_string_unfollowed(&at("dangling"), 5).unwrap_err().to_string();
    assert!(said.ends_with("dangling is a link to ../nothing, which is not there"), "{said}");
}

#[test]
fn a_limit_is_kept_and_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("large");
    // As large as it likes, and no disk is used for it.
    fs::File::create(&path).unwrap().set_len(1 << 40).unwrap();
    assert_eq!(
        refused(&path),
        "it has more than 1048576 bytes, the most that is read of such a file"
    );
    assert_eq!(bounded(&[7u8; 8][..], 8).unwrap().len(), 8);
    assert!(bounded(&[7u8; 9][..], 8).is_err());
}

#[test]
fn what_a_shell_hands_over_is_read_to_its_end() {
    let (reader, mut writer) = std::io::pipe().unwrap();
    let path = PathBuf::from(format!("/dev/fd/{}", reader.as_raw_fd()));
    writer.write_all(b"A=1\n").unwrap();
    drop(writer);
    let named = path.clone();
    assert_eq!(soon(move || read_argument(&named, 100)).unwrap(), "A=1\n");
    // A link to one is a file that a project could have.
    let folder = tempfile::tempdir().unwrap();
    symlink(&path, folder.path().join("env")).unwrap();
    let link = folder.path().join("env");
    let error = soon(move || read_argument(&link, 100)).unwrap_err();
    assert_eq!(error.to_string(), "it is a FIFO (named pipe), not a regular file");
    for other in ["dev/stdin", "/dev/fd/", "/dev/fd/../null", "/dev/zero", "/proc/1/fd/0"] {
        assert!(!is_descriptor(Path::new(other)), "{other}");
    }
}

#[test]
fn nothing_leads_out_of_a_folder() {
    let above = tempfile::tempdir().unwrap();
    let root = above.path().join("project");
    fs::create_dir_all(root.join("src")).unwrap();
    fs::write(above.path().join("secret"), "secret").unwrap();
    fs::write(root.join("src/a.py"), "a").unwrap();
    symlink("/etc", root.join("etc")).unwrap();
    symlink("../secret", root.join("up")).unwrap();
    symlink("src", root.join("lib")).unwrap();
    symlink("etc/passwd", root.join("via")).unwrap();
    let folder = Folder::open(&root).unwrap();
    let error = |path: &str| {
        let error = folder.read(Path::new(path), 100).unwrap_err().to_string();
        error.replace(&root.display().to_string(), "ROOT")
    };
    assert_eq!(error("etc/passwd"), "it leads out of ROOT through the link etc -> /etc");
    assert_eq!(error("up"), "it leads out of ROOT through the link up -> ../secret");
    assert_eq!(error("via"), "it leads out of ROOT through the link via -> etc/passwd");
    assert_eq!(error("../secret"), "it leads out of ROOT");
    assert_eq!(error("/etc/passwd"), "it leads out of ROOT");
    assert_eq!(folder.read(Path::new("lib/a.py"), 100).unwrap(), b"a");
    let look = |path: &str| folder.look(Path::new(path)).unwrap();
    assert_eq!(look("up"), Found::Link("../secret".into()));
    assert_eq!(look("src"), Found::Folder);
    assert_eq!(look(""), Found::Folder);
    assert!(matches!(look("lib/a.py"), Found::File { len: 1, .. }));
    assert_eq!(folder.names(Path::new("lib")).unwrap(), ["a.py"]);
    fifo(&root.join("fifo"));
    assert!(folder.look(Path::new("fifo")).is_err());
    assert!(folder.names(Path::new("etc")).is_err());
}

/// Somebody swaps a folder for a link to the outside as fast as they can.
#[test]
fn a_swapped_folder_lets_nothing_out() {
    let above = tempfile::tempdir().unwrap();
    let root = above.path().join("project");
    fs::create_dir_all(root.join("data")).unwrap();
    fs::write(root.join("data/file"), "inside").unwrap();
    fs::create_dir(above.path().join("other")).unwrap();
    fs::write(above.path().join("other/file"), "secret").unwrap();
    symlink("../other", root.join("link")).unwrap();
    let folder = Folder::open(&root).unwrap();
    let stop = AtomicBool::new(false);
    let (mut inside, mut refused) = (0, 0);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let exchange = rustix::fs::RenameFlags::EXCHANGE;
                let (a, b) = (root.join("data"), root.join("link"));
                rustix::fs::renameat_with(CWD, a, CWD, b, exchange).unwrap();
            }
        });
        for _ in 0..5000 {
            match folder.read(Path::new("data/file"), 100) {
                Ok(bytes) => {
                    assert_eq!(bytes, b"inside");
                    inside += 1;
                }
                Err(_) => refused += 1,
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert!(inside > 0 && refused > 0, "{inside} {refused}: nothing was swapped");
}

#[test]
fn layers_show_what_overlayfs_shows() {
    let disk = tempfile::tempdir().unwrap();
    let layer = |name: &str| {
        let path = disk.path().join(name);
        fs::create_dir_all(&path).unwrap();
        path
    };
    let (top, middle, base) = (layer("top"), layer("middle"), layer("base"));
    let write = |root: &Path, path: &str, text: &str| {
        fs::create_dir_all(root.join(path).parent().unwrap()).unwrap();
        fs::write(root.join(path), text).unwrap();
    };
    write(&base, "etc/ld.so.cache", "base");
    write(&base, "usr/etc/other", "other");
    write(&middle, "opt/below", "middle");
    write(&base, "opt/below/deep", "hidden by a file");
    fs::create_dir_all(top.join("etc")).unwrap();
    symlink("/dev/zero", top.join("etc/zero")).unwrap();
    symlink("../../../usr/etc/other", top.join("etc/other")).unwrap();
    symlink("loop", top.join("etc/loop")).unwrap();
    let layers = Layers::open([&top, &middle, &base]).unwrap();
    let text = |path: &str| {
        let bytes = layers.read(Path::new(path), 16);
        bytes.map(|bytes| bytes.map(|bytes| String::from_utf8(bytes).unwrap()))
    };
    assert_eq!(text("etc/ld.so.cache").unwrap().as_deref(), Some("base"));
    assert_eq!(text("/etc/other").unwrap().as_deref(), Some("other"));
    assert_eq!(text("etc/zero").unwrap(), None, "the image has no /dev/zero of its own");
    assert_eq!(text("opt/below/deep").unwrap(), None);
    assert_eq!(text("none").unwrap(), None);
    assert!(text("etc/loop").is_err() && text("etc").is_err());
    write(&base, "large", &"x".repeat(17));
    assert!(text("large").unwrap_err().to_string().contains("more than 16 bytes"));
    // What a layer above deleted is not there.
    let mark =
        |path: &Path| rustix::fs::mknodat(CWD, path, FileType::CharacterDevice, Mode::RUSR, 0);
    if mark(&top.join("etc/ld.so.cache")).is_ok() {
        assert_eq!(text("etc/ld.so.cache").unwrap(), None);
    }
    let opaque = rustix::fs::XattrFlags::empty();
    fs::create_dir_all(top.join("usr/etc")).unwrap();
    if rustix::fs::setxattr(top.join("usr"), "user.overlay.opaque", b"y", opaque).is_ok() {
        assert_eq!(text("usr/etc/other").unwrap(), None);
    }
}
