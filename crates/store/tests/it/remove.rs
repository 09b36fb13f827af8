//! Removing trees as images and containers leave them.

use std::ffi::{CString, OsStr};
use std::fs::{self, Permissions};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use rustix::fs::{CWD, Mode, OFlags, Uid, fchown, mkdirat, openat};
use sconce_store::{Error, Store, remove_tree};

use crate::process::{NOBODY, child_of, need_root, open_folder, said};

/// Folders of [`NOBODY`] in `at`, one in the other, so deep.
fn nest(at: &Path, depth: usize) -> OwnedFd {
    let name = CString::new("d".repeat(200)).unwrap();
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut folder = openat(CWD, at, flags, Mode::empty()).unwrap();
    for _ in 0..depth {
        mkdirat(&folder, &name, Mode::RWXU).unwrap();
        folder = openat(&folder, &name, flags, Mode::empty()).unwrap();
        fchown(&folder, Some(Uid::from_raw(NOBODY.uid)), None).unwrap();
    }
    folder
}

#[test]
fn a_tree_deeper_than_any_path_with_few_descriptors() {
    need_root();
    let folder = open_folder();
    let tree = folder.path().join("tree");
    fs::create_dir(&tree).unwrap();
    let deepest = nest(&tree, 20_000);
    fs::write(folder.path().join("stays"), "").unwrap();
    rustix::fs::symlinkat("../../stays", &deepest, "link").unwrap();
    drop(deepest);
    let inner = child_of(NOBODY, "022", folder.path(), Path::new("/none"), "");
    // As somebody without rights, and with no more than 24 descriptors (the harness has some).
    let mut command = Command::new("sh");
    command.arg("-c").arg("ulimit -n 24; exec \"$0\" \"$@\"");
    command.arg(inner.get_program()).args(inner.get_args());
    command.env("STORE_ROOT", "/none").env("STORE_WORK", format!("remove {}", tree.display()));
    command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::null());
    std::os::unix::fs::chown(&tree, Some(NOBODY.uid), None).unwrap();
    fs::set_permissions(folder.path(), Permissions::from_mode(0o777)).unwrap();
    assert_eq!(said(command), ["removed"]);
    assert!(!tree.exists() && folder.path().join("stays").exists());
}

fn give(tree: &Path, uid: u32) {
    let status = Command::new("chown").args(["-R", "-h"]).arg(uid.to_string()).arg(tree).status();
    assert!(status.unwrap().success());
}

#[test]
fn any_name_and_mode_and_no_link_followed() {
    need_root();
    let folder = open_folder();
    let (tree, victim) = (folder.path().join("tree"), folder.path().join("victim"));
    fs::create_dir_all(victim.join("sub")).unwrap();
    fs::write(victim.join("sub/file"), "safe").unwrap();
    fs::create_dir(&tree).unwrap();
    for name in [&b"\xff\xfe"[..], b"a\nb", b"-rf", b"..x", b"sp ace", &[b'n'; 255]] {
        fs::create_dir_all(tree.join(OsStr::from_bytes(name)).join("below")).unwrap();
        fs::write(tree.join(OsStr::from_bytes(name)).join("file"), "").unwrap();
    }
    for (name, to) in [("l", &victim), ("m", &victim.join("sub")), ("n", &tree)] {
        std::os::unix::fs::symlink(to, tree.join(name)).unwrap();
    }
    fs::hard_link(victim.join("sub/file"), tree.join("hard")).unwrap();
    fs::create_dir_all(tree.join("closed/inner/file")).unwrap();
    for (path, mode) in [("closed/inner", 0), ("closed", 0), ("sp ace", 0o555), ("..x", 0o111)] {
        fs::set_permissions(tree.join(path), Permissions::from_mode(mode)).unwrap();
    }
    give(&tree, NOBODY.uid);
    fs::set_permissions(folder.path(), Permissions::from_mode(0o777)).unwrap();
    let work = format!("remove {}", tree.display());
    let remove = child_of(NOBODY, "022", folder.path(), Path::new("/none"), &work);
    assert_eq!(said(remove), ["removed"]);
    assert!(fs::symlink_metadata(&tree).is_err());
    assert_eq!(fs::read(victim.join("sub/file")).unwrap(), b"safe");
    // A link is removed, not what it leads to; nothing there is fine.
    let link = folder.path().join("link");
    std::os::unix::fs::symlink(&victim, &link).unwrap();
    remove_tree(&link).unwrap();
    assert!(fs::symlink_metadata(&link).is_err() && victim.join("sub/file").exists());
    remove_tree(&folder.path().join("no/thing")).unwrap();
}

#[test]
fn what_belongs_to_others_is_listed_and_all_else_goes() {
    need_root();
    let folder = open_folder();
    let tree = folder.path().join("tree");
    fs::create_dir_all(tree.join("upper/var/mine")).unwrap();
    fs::create_dir_all(tree.join("upper/var/theirs/deeper")).unwrap();
    fs::create_dir_all(tree.join("upper/empty")).unwrap();
    fs::write(tree.join("upper/var/theirs/deeper/file"), "").unwrap();
    fs::write(tree.join("upper/theirs, but in my folder"), "").unwrap();
    give(&tree, NOBODY.uid);
    // As a rootless container with a range of ids leaves them.
    for path in ["upper/var/theirs", "upper/empty", "upper/theirs, but in my folder"] {
        give(&tree.join(path), 100_033);
    }
    fs::set_permissions(folder.path(), Permissions::from_mode(0o777)).unwrap();
    let work = format!("remove {}", tree.display());
    let said = said(child_of(NOBODY, "022", folder.path(), Path::new("/none"), &work)).concat();
    assert!(said.contains("Unremovable") && said.contains("owners: [100033]"), "{said}");
    assert!(said.contains("var/theirs/deeper") && !said.contains("mine"), "{said}");
    let left = |path: &str| tree.join(path).exists();
    assert!(left("upper/var/theirs/deeper/file"));
    assert!(!left("upper/var/mine") && !left("upper/empty"));
    assert!(!left("upper/theirs, but in my folder"));
    remove_tree(&tree).unwrap();
    assert!(!tree.exists());
}

/// A mount in its namespace goes with the shell that made it.
#[test]
fn a_mount_is_not_entered() {
    need_root();
    let folder = open_folder();
    let (tree, data) = (folder.path().join("tree"), folder.path().join("data"));
    fs::create_dir_all(tree.join("upper/volume")).unwrap();
    fs::create_dir(&data).unwrap();
    fs::write(data.join("precious"), "").unwrap();
    let script = format!(
        "mount --bind {} {} && exec {} --ignored --exact process::child --nocapture",
        data.display(),
        tree.join("upper/volume").display(),
        folder.path().join("program").display()
    );
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", &script]);
    command.env("STORE_ROOT", "/none").env("STORE_WORK", format!("remove {}", tree.display()));
    command.stdout(std::process::Stdio::piped());
    let said = said(command).concat();
    assert!(said.contains("Unremovable") && said.contains("volume"), "{said}");
    assert!(data.join("precious").exists());
}

#[test]
fn leftovers_that_cannot_be_removed_stop_nobody() {
    need_root();
    let folder = open_folder();
    let root = folder.path().join("home");
    fs::create_dir(&root).unwrap();
    give(&root, NOBODY.uid);
    let open = || said(child_of(NOBODY, "022", folder.path(), &root, "open"));
    assert_eq!(open(), ["opened"]);
    // Of three runs that were killed: one closed its folder, one left files of a mapped user, one
    // nested deeper than a path can be.
    let tmp = root.join("tmp");
    for name in ["1-0", "2-0", "3-0"] {
        fs::create_dir_all(tmp.join(name).join("container/upper")).unwrap();
    }
    fs::write(tmp.join("2-0/container/upper/file"), "").unwrap();
    give(&tmp, NOBODY.uid);
    drop(nest(&tmp.join("3-0/container/upper"), 3000));
    give(&tmp.join("2-0/container/upper"), 100_033);
    fs::set_permissions(tmp.join("1-0"), Permissions::from_mode(0o0)).unwrap();
    let first = open();
    assert_eq!(first.last().map(String::as_str), Some("opened"));
    let aside = root.join("leftovers/2-0.0");
    assert_eq!(first.len(), 2, "{first:?}");
    assert!(first[0].contains("uid") || first[0].contains("another user"), "{first:?}");
    assert!(first[0].contains(&format!("`sudo rm -rf {}`", aside.display())), "{first:?}");
    assert_eq!(fs::read_dir(&tmp).unwrap().count(), 0);
    // Said once; a prune tries again and says it again.
    assert_eq!(open(), ["opened"]);
    let prune = || said(child_of(NOBODY, "022", folder.path(), &root, "sharing prune"));
    assert!(prune()[0].contains("sudo rm -rf"));
    remove_tree(&aside).unwrap();
    assert_eq!(prune(), ["pruned 0"]);
}

#[test]
fn a_remover_is_asked_for_what_this_process_cannot_remove() {
    need_root();
    let folder = open_folder();
    let (root, data) = (folder.path().join("home"), folder.path().join("data"));
    drop(Store::open(&root).unwrap());
    let volume = root.join("tmp/1-0/volume");
    fs::create_dir_all(&volume).unwrap();
    fs::create_dir(&data).unwrap();
    let script = format!(
        "mount --bind {} {} && exec {} --ignored --exact process::child --nocapture",
        data.display(),
        volume.display(),
        folder.path().join("program").display()
    );
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", &script]).env("STORE_UMOUNT", "volume");
    command.env("STORE_ROOT", &root).env("STORE_WORK", "open");
    command.stdout(std::process::Stdio::piped());
    assert_eq!(said(command), ["asked", "opened"]);
    assert!(!root.join("tmp/1-0").exists());
    assert!(matches!(remove_tree(Path::new("/")), Err(Error::Io { .. })));
}
