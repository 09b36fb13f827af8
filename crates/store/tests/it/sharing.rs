//! Whose a store is, who else may read and write it, and what they can do with what layers hold.

use std::fs::{self, Permissions};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use sconce_blob::Digest;
use sconce_store::{Policy, Store, Which};

use crate::crash::{check_everything, put_everything};
use crate::process::{NOBODY, User, child_of, listen, need_root, open_folder, said, say, wait};
use crate::{header, link, put_layer, tar};

/// What other processes do for these tests.
pub fn work(store: &Store, work: &str) {
    let (work, count) = work.split_once(' ').unwrap_or((work, "1"));
    let count: u64 = count.parse().unwrap_or(1);
    match work {
        "build" => {
            for number in 1..=count {
                put_everything(store, number);
                assert!(check_everything(store) >= 4);
            }
            say("built");
        }
        "mount" => {
            let name = std::env::var("STORE_WORK").unwrap();
            let image = store.image(name.rsplit_once(' ').unwrap().1).unwrap();
            for path in store.mount_layers(&image).unwrap() {
                say(&path.display().to_string());
            }
            // The use is noted here, so that what was made stays as long as the image is wanted.
            drop(store.lease(image.manifest).unwrap());
        }
        "prune" | "prune-all" | "prune-unnamed" => {
            let images = if work == "prune-unnamed" { Which::Unnamed } else { Which::All };
            let policy = Policy { images, keep_bytes: None, dry_run: false };
            let pruned: usize = (0..count).map(|_| store.prune(&policy, &[]).unwrap().trees).sum();
            say(&format!("pruned {pruned}"));
        }
        "lock" => {
            let _lock = store.lock("work", Digest::of(b"work")).unwrap();
            say("locked");
            wait();
        }
        "lease" => {
            put_everything(store, 1);
            let image = store.images().unwrap()[0].manifest;
            let lease = store.lease(image).unwrap();
            say(&store.containers().unwrap().display().to_string());
            wait();
            drop(lease);
        }
        other => panic!("unknown work {other}"),
    }
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

pub fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

pub fn chown(path: &Path, user: User) {
    std::os::unix::fs::chown(path, Some(user.uid), Some(user.gid)).unwrap();
}

/// All that is below a folder and is not a link.
pub fn below(folder: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                folders.push(entry.path());
            }
            all.push(entry.path());
        }
    }
    all
}

#[test]
fn a_store_is_its_owners_alone_whatever_the_umask() {
    need_root();
    for umask in ["000", "022", "077"] {
        let folder = open_folder();
        let home = folder.path().join("home");
        fs::create_dir(&home).unwrap();
        chown(&home, NOBODY);
        let root = home.join("sconce");
        let build = child_of(NOBODY, umask, folder.path(), &root, "sharing build 1");
        assert_eq!(said(build), ["built"], "umask {umask}");
        assert_eq!(mode(&root), 0o700);
        for path in below(&root) {
            let mode = mode(&path);
            let in_tree = path.strip_prefix(root.join("trees")).is_ok_and(|p| p.iter().count() > 0);
            let wanted = match (path.is_dir(), in_tree) {
                (true, false) if path.starts_with(root.join("tmp")) => continue,
                (true, false) => 0o700,
                (true, true) => 0o755,
                (false, false) if path.starts_with(root.join("blobs")) => 0o444,
                (false, _) => 0o644,
            };
            assert_eq!(mode, wanted, "umask {umask}: {}", path.display());
        }
    }
}

#[test]
fn trees_have_the_modes_of_their_layers_whatever_the_umask() {
    need_root();
    for (user, umask) in [(NOBODY, "000"), (NOBODY, "077"), (ROOT, "000"), (ROOT, "077")] {
        let folder = open_folder();
        let root = folder.path().join("home");
        fs::create_dir(&root).unwrap();
        chown(&root, user);
        let modes = [("0", 0o644), ("1", 0o4755), ("2", 0o2755), ("3", 0o666), ("4", 0o000)];
        let mut entries = Vec::new();
        for (name, mode) in modes {
            entries.push((with_mode(header(b'0', name, 0), mode), &b""[..]));
        }
        // As layers of Fedora begin: nobody but root could move the tree into its place.
        entries.push((with_mode(header(b'5', "./", 0), 0o555), &b""[..]));
        for (name, mode) in [("d/", 0o1777), ("e/", 0o2775), ("f/", 0o000), ("g/h/", 0o700)] {
            entries.push((with_mode(header(b'5', name, 0), mode), &b""[..]));
        }
        let layer = give_layer(&folder, &root, user, &tar(&entries));
        let work = format!("extract {layer}");
        let tree = said(child_of(user, umask, folder.path(), &root, &work)).pop().unwrap();
        let tree = Path::new(&tree);
        assert_eq!(tree.parent(), Some(&*root.join("trees")), "{}", tree.display());
        let wanted =
            modes.into_iter().chain([("d", 0o1777), ("e", 0o2775), ("f", 0), ("g", 0o755)]);
        for (name, wanted) in wanted.chain([("g/h", 0o700), ("", 0o755)]) {
            assert_eq!(mode(&tree.join(name)), wanted, "{user:?}, umask {umask}: {name}");
        }
    }
}

pub const ROOT: User = User { uid: 0, gid: 0, also: None };

pub fn with_mode(mut header: tar::Header, mode: u32) -> tar::Header {
    header.set_mode(mode);
    header.set_cksum();
    header
}

/// Puts a layer into another user's store.
fn give_layer(folder: &tempfile::TempDir, root: &Path, user: User, tar: &[u8]) -> Digest {
    let ours = Store::open(folder.path().join("ours")).unwrap();
    let layer = put_layer(&ours, tar);
    assert_eq!(said(child_of(user, "022", folder.path(), root, "open")), ["opened"]);
    let blob = root.join("blobs/sha256").join(&layer.hex()[..2]);
    fs::create_dir_all(&blob).unwrap();
    fs::copy(ours.blob_path(layer).unwrap().unwrap(), blob.join(layer.hex())).unwrap();
    let record = format!("layers/{}.json", layer.hex());
    fs::copy(ours.root().join(&record), root.join(&record)).unwrap();
    for path in [&blob, &blob.join(layer.hex()), &root.join(&record)] {
        chown(path, user);
    }
    layer
}

#[test]
fn an_open_store_is_closed_and_an_exposed_one_refused() {
    need_root();
    let folder = open_folder();
    let root = folder.path().join("a home");
    let open = |umask| said(child_of(NOBODY, umask, folder.path(), &root, "open"));
    fs::create_dir(&root).unwrap();
    chown(&root, NOBODY);
    assert_eq!(open("022"), ["opened"]);
    for open_mode in [0o755, 0o711, 0o500] {
        chmod(&root, open_mode);
        assert_eq!(open("022"), ["opened"]);
        assert_eq!(mode(&root), 0o700);
    }
    for (path, exposed) in [("", 0o775), ("", 0o777), ("", 0o3777), ("blobs", 0o777)] {
        chmod(&root, if path.is_empty() { exposed } else { 0o755 });
        chmod(&root.join(path), exposed);
        let refusal = open("022");
        assert!(refusal[0].starts_with("refused: others can write"), "{refusal:?}");
        if exposed & 0o1000 == 0 {
            run_hint(&refusal[1], NOBODY);
            assert_eq!(open("022"), ["opened"]);
        }
        chmod(&root, 0o700);
    }
    chmod(&root.join("blobs"), 0o700);
    // A part that belongs to somebody else, as `sudo` once left it.
    chown(&root.join("trees"), ROOT);
    let refusal = open("022");
    assert!(refusal[0].contains("trees' belongs to uid 0"), "{refusal:?}");
    run_hint(&refusal[1].replace("sudo ", ""), ROOT);
    assert_eq!(open("022"), ["opened"]);
}

/// Runs the first command that a hint gives.
fn run_hint(hint: &str, user: User) {
    let command = hint.split('`').nth(1).unwrap();
    let status = Command::new("setpriv")
        .arg(format!("--reuid={}", user.uid))
        .arg("--clear-groups")
        .args(["sh", "-c", command])
        .status();
    assert!(status.unwrap().success(), "{command}");
}

#[test]
fn somebody_elses_store_is_refused() {
    need_root();
    let folder = open_folder();
    let (theirs, ours) = (folder.path().join("theirs"), folder.path().join("ours"));
    for (root, user) in [(&theirs, NOBODY), (&ours, ROOT)] {
        fs::create_dir(root).unwrap();
        chown(root, user);
        assert_eq!(said(child_of(user, "022", folder.path(), root, "open")), ["opened"]);
    }
    // `sudo sconce` with HOME kept.
    let refusal = said(child_of(ROOT, "022", folder.path(), &theirs, "open"));
    assert!(refusal[0].contains("belongs to uid 65534; you are uid 0"), "{refusal:?}");
    assert!(refusal[1].contains(&format!("export SCONCE_STORES={}", theirs.display())));
    chmod(&ours, 0o755);
    let refusal = said(child_of(NOBODY, "022", folder.path(), &ours, "open"));
    assert!(refusal[0].contains("belongs to uid 0; you are uid 65534"), "{refusal:?}");
    // Not even made: its owner could not remove it.
    let home = folder.path().join("home");
    fs::create_dir(&home).unwrap();
    chown(&home, NOBODY);
    let root = home.join(".local/share/sconce");
    let refusal = said(child_of(ROOT, "022", folder.path(), &root, "open"));
    assert!(refusal[0].contains("belongs to uid 65534"), "{refusal:?}");
    assert_eq!(fs::read_dir(&home).unwrap().count(), 0);
    // A folder of other things is told of before anything is changed.
    fs::write(ours.join("version"), "").unwrap();
    fs::remove_file(ours.join("version")).unwrap();
    fs::write(ours.join("letter"), "").unwrap();
    chmod(&ours, 0o755);
    let refusal = said(child_of(ROOT, "022", folder.path(), &ours, "open"));
    assert!(refusal[0].contains("is not a sconce store"), "{refusal:?}");
    assert_eq!(mode(&ours), 0o755);
}

/// A layer as a hostile image has it.
fn hostile() -> Vec<u8> {
    let mut device = header(b'3', "dev/mem", 0);
    device.set_device_major(1).unwrap();
    device.set_device_minor(1).unwrap();
    device.set_mode(0o666);
    device.set_cksum();
    let mut block = header(b'4', "dev/sda", 0);
    block.set_device_major(8).unwrap();
    block.set_mode(0o666);
    block.set_cksum();
    let pax =
        "57 SCHILY.xattr.security.capability=\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0\n";
    let mut theirs = header(b'0', "theirs", 0);
    theirs.set_uid(65534);
    theirs.set_mode(0o666);
    theirs.set_cksum();
    tar(&[
        (with_mode(header(b'0', "bin/su", 2), 0o4755), b"hi"),
        (with_mode(header(b'0', "bin/sg", 0), 0o2755), b""),
        (with_mode(header(b'0', "secret", 0), 0o600), b""),
        (with_mode(header(b'5', "tmp/", 0), 0o1777), b""),
        (theirs, b""),
        (device, b""),
        (block, b""),
        (with_mode(link(b'1', "hard", "bin/su"), 0o4755), b""),
        (header(b'0', "bin/.wh.gone", 0), b""),
        (header(b'x', "pax", pax.len()), pax.as_bytes()),
        (header(b'0', "bin/ping", 0), b""),
    ])
}

#[test]
fn nobody_else_reaches_what_a_private_store_holds() {
    need_root();
    let folder = open_folder();
    let root = folder.path().join("home");
    let store = Store::open(&root).unwrap();
    let tree = store.extract(put_layer(&store, &hostile()), &|_| {}).unwrap();
    assert_eq!(mode(&tree.join("bin/su")), 0o4755);
    assert!(fs::symlink_metadata(tree.join("dev/mem")).unwrap().file_type().is_char_device());
    let reach = |path: &Path| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "stat"]).arg(path);
        command.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success()
    };
    assert!(reach(folder.path()) && reach(&root));
    for path in ["bin/su", "dev/mem", "dev/sda", "bin/ping", ""] {
        assert!(!reach(&tree.join(path)), "{path}");
    }
}

#[test]
fn a_store_that_others_read_holds_nothing_for_them_to_abuse() {
    need_root();
    for (store_mode, folders) in [(0o2755, 0o755), (0o2770, 0o775)] {
        let folder = open_folder();
        let root = folder.path().join("home");
        fs::create_dir(&root).unwrap();
        chmod(&root, store_mode);
        let layer = give_layer(&folder, &root, ROOT, &hostile());
        let work = format!("extract {layer}");
        let mut words = said(child_of(ROOT, "077", folder.path(), &root, &work));
        let tree = PathBuf::from(words.pop().unwrap());
        assert_eq!(words.len(), 1, "said once: {words:?}");
        assert!(words[0].contains("device nodes"), "{words:?}");
        let mut names: Vec<_> = below(&tree);
        names.retain(|path| {
            let meta = fs::symlink_metadata(path).unwrap();
            let wanted = match (meta.is_dir(), path.ends_with("bin/gone")) {
                (true, _) => folders,
                // The whiteout is overlay's own: the device 0/0, which nobody can open.
                (false, true) => return false,
                _ if path.ends_with("secret") || path.ends_with("theirs") => 0o644,
                _ if path.ends_with("ping") => 0o644,
                _ => 0o755,
            };
            assert_eq!(mode(path), wanted, "{}", path.display());
            assert_eq!(meta.uid(), 0, "{}", path.display());
            let mut value = [0; 64];
            assert!(rustix::fs::lgetxattr(path, "security.capability", &mut value).is_err());
            meta.file_type().is_char_device() || meta.file_type().is_block_device()
        });
        assert!(names.is_empty(), "devices: {names:?}");
    }
}

pub const GROUP: u32 = 65_100;
// Each with a group of their own first, as Debian makes users.
pub const ANN: User = User { uid: 65_001, gid: 65_001, also: Some(GROUP) };
pub const BEN: User = User { uid: 65_002, gid: 65_002, also: Some(GROUP) };

/// A store of a group, made as `docs/store.md` says.
fn group_store(folder: &tempfile::TempDir) -> PathBuf {
    let root = folder.path().join("home");
    fs::create_dir(&root).unwrap();
    chown(&root, User { gid: GROUP, ..ANN });
    chmod(&root, 0o2770);
    root
}

#[test]
fn a_group_builds_and_prunes_one_store_at_once() {
    need_root();
    let folder = open_folder();
    let root = group_store(&folder);
    let start = |user, umask, work| {
        let mut child = child_of(user, umask, folder.path(), &root, work).spawn().unwrap();
        let said = listen(&mut child);
        (child, said)
    };
    // From the first moment on, with umasks that would shut the others out.
    let workers = [
        start(ANN, "077", "sharing build 12"),
        start(BEN, "077", "sharing build 12"),
        start(ANN, "022", "sharing prune 12"),
        start(BEN, "000", "sharing prune 12"),
    ];
    for (mut child, said) in workers {
        let said: Vec<String> = said.collect();
        assert!(child.wait().unwrap().success(), "{said:?}");
        assert_eq!(said.len(), 1, "{said:?}");
    }
    assert_eq!(mode(&root), 0o3770);
    for path in below(&root) {
        let meta = fs::symlink_metadata(&path).unwrap();
        assert_eq!(meta.gid(), GROUP, "{}", path.display());
        assert_eq!(meta.mode() & 0o002, 0, "{}", path.display());
    }
    // What one made, trees too, the other removes.
    let run = |user, work| said(child_of(user, "077", folder.path(), &root, work));
    assert_eq!(run(ANN, "sharing build 3"), ["built"]);
    let trees = fs::read_dir(root.join("trees")).unwrap().count();
    assert!(trees >= 3);
    assert_eq!(run(BEN, "sharing prune 1"), [format!("pruned {trees}")]);
    assert_eq!(fs::read_dir(root.join("trees")).unwrap().count(), 0);
    assert_eq!(fs::read_dir(root.join("leftovers")).unwrap().count(), 0);
    // A user outside the group, and root, stay outside.
    let outside = User { uid: 65_003, gid: 65_003, also: None };
    chmod(&root, 0o2775);
    for user in [outside, ROOT] {
        let refusal = said(child_of(user, "022", folder.path(), &root, "open"));
        assert!(refusal[0].contains("belongs to uid 65001"), "{refusal:?}");
    }
}

/// The tree of folders that one member needs to start another's image is out of the way when that other prunes; what can't be
/// pruned is named with its owner, and keeps nothing else.
#[test]
fn what_one_member_started_another_prunes() {
    need_root();
    let folder = open_folder();
    let root = group_store(&folder);
    let run = |user, work: &str| said(child_of(user, "077", folder.path(), &root, work));
    let trees = || below(&root.join("trees")).into_iter().filter(|path| path.is_dir());
    assert_eq!(run(ANN, "sharing build 1"), ["built"]);
    let anns = fs::read_dir(root.join("trees")).unwrap().count();
    let image = fs::read_dir(root.join("images")).unwrap().next().unwrap().unwrap().path();
    let image = image.file_stem().unwrap().to_str().unwrap().to_owned();
    assert!(run(BEN, &format!("sharing mount {image}")).len() > 1);
    assert!(fs::read_dir(root.join("trees")).unwrap().count() > anns, "folders of his own");
    // In his container he can change none but those of his first group, and that group writes no store.
    for path in trees() {
        let meta = fs::symlink_metadata(&path).unwrap();
        let wanted = if meta.gid() == GROUP { 0o070 } else { 0o050 };
        assert_eq!(meta.mode() & 0o070, wanted, "{}", path.display());
        assert!([GROUP, BEN.gid].contains(&meta.gid()), "{}", path.display());
    }
    assert!(trees().any(|path| fs::metadata(path).unwrap().gid() == BEN.gid));
    let words = run(ANN, "sharing prune 1");
    assert_eq!(words.last(), Some(&format!("pruned {anns}")));
    assert!(words[0].contains("holds files of uid 65002, which only they can remove"), "{words:?}");
    assert_eq!(trees().count(), 0);
    assert_eq!(run(BEN, "sharing prune 1"), ["pruned 0"]);
    assert_eq!(fs::read_dir(root.join("leftovers")).unwrap().count(), 0);
    // As an older sconce made it.
    assert_eq!(run(ANN, "sharing build 1"), ["built"]);
    let closed = fs::read_dir(root.join("trees")).unwrap().next().unwrap().unwrap().path();
    chmod(&closed, 0o755);
    let words = run(BEN, "sharing prune 1");
    assert!(words[0].contains("left: ") && words[0].contains("belongs to uid 65001"), "{words:?}");
    assert!(words[0].contains(&format!("`chmod g+w {}`", closed.display())), "{words:?}");
    assert_eq!(fs::read_dir(root.join("trees")).unwrap().count(), 1, "{words:?}");
    assert_eq!(words.last(), Some(&format!("pruned {}", anns - 1)));
    chmod(&closed, 0o775);
    assert_eq!(run(BEN, "sharing prune 1"), ["pruned 1"]);
    // What is the group's, but not below.
    assert_eq!(run(ANN, "sharing build 1"), ["built"]);
    let tree = fs::read_dir(root.join("trees")).unwrap().next().unwrap().unwrap().path();
    fs::create_dir_all(tree.join("own/below")).unwrap();
    for path in ["own", "own/below"] {
        chown(&tree.join(path), ANN);
        chmod(&tree.join(path), 0o775);
    }
    let words = run(BEN, "sharing prune 1");
    let own =
        "holds files of uid 65001, which only they can remove: their next `sconce prune` does";
    assert!(words[0].contains("/leftovers/") && words[0].contains(own), "{words:?}");
    assert_eq!(words.last(), Some(&format!("pruned {}", anns - 1)));
    assert_eq!(run(ANN, "sharing prune 1"), ["pruned 0"]);
    assert_eq!(fs::read_dir(root.join("leftovers")).unwrap().count(), 0);
}

#[test]
fn locks_and_leases_hold_between_two_users() {
    need_root();
    let folder = open_folder();
    let root = group_store(&folder);
    let start = |user, work| {
        let mut child = child_of(user, "077", folder.path(), &root, work).spawn().unwrap();
        let said = listen(&mut child);
        (child, said)
    };
    let (mut ann, mut anns) = start(ANN, "sharing lock");
    assert_eq!(anns.next().as_deref(), Some("locked"));
    let (mut ben, mut bens) = start(BEN, "sharing lock");
    std::thread::sleep(std::time::Duration::from_millis(200));
    drop(ann.stdin.take());
    assert!(ann.wait().unwrap().success());
    assert_eq!(bens.next().as_deref(), Some("locked"));
    drop(ben.stdin.take());
    assert!(ben.wait().unwrap().success());
    let (mut ann, mut anns) = start(ANN, "sharing lease");
    let containers = anns.next().unwrap();
    assert!(containers.ends_with("containers/65001"), "{containers}");
    assert_eq!(mode(Path::new(&containers)), 0o700);
    let prune = || said(child_of(BEN, "077", folder.path(), &root, "sharing prune"));
    assert_eq!(prune(), ["pruned 0"]);
    drop(ann.stdin.take());
    assert!(ann.wait().unwrap().success());
    assert_eq!(prune(), ["pruned 1"]);
}
