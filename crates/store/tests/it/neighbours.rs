//! What a member of a group that shares a store can make the others do outside it: nothing.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use sconce_blob::Digest;
use sconce_store::Store;

use crate::process::{User, child_of, need_root, open_folder, said};
use crate::sharing::{ANN, BEN, GROUP, ROOT, below, chmod, chown};

/// All that members may write to at the top of a store, and what is made there on the way.
const FOLDERS: [&str; 14] = [
    "tmp",
    "leftovers",
    "partial",
    "unsynced",
    "locks",
    "memo",
    "blobs",
    "blobs/sha256",
    "virtual",
    "trees",
    "layers",
    "images",
    "refs",
    "containers",
];

/// A store of a group that its admin has made, as `docs/store.md` says.
fn admins_store(folder: &Path) -> PathBuf {
    let root = folder.join("home");
    fs::create_dir(&root).unwrap();
    chown(&root, User { gid: GROUP, ..ROOT });
    chmod(&root, 0o2770);
    root
}

/// A folder of this user's with files and folders that a store has, too.
fn victims(folder: &Path, user: User) -> PathBuf {
    let victims = folder.join(format!("of-{}", user.uid));
    for path in ["deep/keep", "1-0", "sha256/00", "full"] {
        fs::create_dir_all(victims.join(path)).unwrap();
    }
    for path in ["full/pins", "gc", "precious"] {
        fs::write(victims.join(path), b"mine").unwrap();
    }
    for path in below(&victims).iter().chain([&victims]) {
        chown(path, user);
        chmod(path, if path.is_dir() { 0o700 } else { 0o600 });
    }
    victims
}

/// Each path below with its mode, owner and size.
fn picture(folder: &Path) -> Vec<(PathBuf, u32, u32, u64)> {
    let mut all: Vec<_> = below(folder)
        .into_iter()
        .map(|path| {
            let meta = fs::symlink_metadata(&path).unwrap();
            let len = if meta.is_file() { meta.len() } else { 0 };
            (path, meta.mode(), meta.uid(), len)
        })
        .collect();
    all.sort();
    all
}

/// What is run beside such a link may fail, but never hang.
fn run(user: User, folder: &Path, root: &Path, work: &str) {
    let mut command = child_of(user, "077", folder, root, work);
    let mut child = command.stderr(std::process::Stdio::null()).spawn().unwrap();
    drop(child.stdin.take());
    drop(child.stdout.take());
    let begun = Instant::now();
    while child.try_wait().unwrap().is_none() {
        assert!(begun.elapsed() < Duration::from_secs(60), "{work} hangs");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A link in place of a folder, whose owner proves nothing: a member can move a link of root's, out of an image's tree,
/// to wherever the group may write.
#[test]
fn a_link_of_another_member_leads_nowhere() {
    need_root();
    for user in [BEN, ROOT] {
        let folder = open_folder();
        let root = admins_store(folder.path());
        let victims = victims(folder.path(), user);
        let before = picture(&victims);
        assert_eq!(said(child_of(ANN, "077", folder.path(), &root, "sharing build 1")), ["built"]);
        for name in FOLDERS {
            for owner in [ANN, user] {
                let (place, aside) = (root.join(name), root.join("locks.aside"));
                let was_there = fs::rename(&place, &aside).is_ok();
                std::os::unix::fs::symlink(&victims, &place).unwrap();
                std::os::unix::fs::lchown(&place, Some(owner.uid), Some(GROUP)).unwrap();
                for work in ["sharing build 1", "sharing prune 1", "sharing lease"] {
                    run(user, folder.path(), &root, work);
                    assert_eq!(picture(&victims), before, "{name}, {work}, uid {}", user.uid);
                }
                fs::remove_file(&place).unwrap();
                if was_there {
                    fs::rename(&aside, &place).unwrap();
                }
            }
        }
        assert_eq!(
            said(child_of(user, "077", folder.path(), &root, "sharing prune-unnamed")).len(),
            1
        );
    }
}

/// The same where folder and link are exchanged all the time.
#[test]
fn a_link_that_comes_and_goes_leads_nowhere() {
    need_root();
    for user in [BEN, ROOT] {
        let folder = open_folder();
        let root = admins_store(folder.path());
        let victims = victims(folder.path(), user);
        let before = picture(&victims);
        assert_eq!(said(child_of(ANN, "077", folder.path(), &root, "sharing build 1")), ["built"]);
        for name in FOLDERS.iter().filter(|name| root.join(name).exists()) {
            let (place, link) = (root.join(name), root.join("leads.out"));
            std::os::unix::fs::symlink(&victims, &link).unwrap();
            std::os::unix::fs::lchown(&link, Some(user.uid), Some(GROUP)).unwrap();
            let done = AtomicBool::new(false);
            let exchange = || renameat_with(CWD, &place, CWD, &link, RenameFlags::EXCHANGE);
            std::thread::scope(|scope| {
                let exchanging = scope.spawn(|| {
                    let mut times = 0_u64;
                    while !done.load(Ordering::Relaxed) {
                        exchange().unwrap();
                        times += 1;
                        // Now and then for long enough that much is done through it.
                        std::thread::sleep(Duration::from_micros(times * 130 % 7919));
                    }
                });
                for work in ["sharing build 1", "sharing prune 1"].iter().cycle().take(10) {
                    run(user, folder.path(), &root, work);
                }
                done.store(true, Ordering::Relaxed);
                exchanging.join().unwrap();
            });
            if fs::symlink_metadata(&place).unwrap().is_symlink() {
                exchange().unwrap();
            }
            fs::remove_file(&link).unwrap();
            assert_eq!(picture(&victims), before, "{name}, uid {}", user.uid);
        }
        assert_eq!(
            said(child_of(user, "077", folder.path(), &root, "sharing prune-unnamed")).len(),
            1
        );
    }
}

/// What commands use by its path stays where it is: in a store that root made, no member can put something in its place.
#[test]
fn what_is_used_by_its_path_is_not_moved_by_others() {
    need_root();
    let folder = open_folder();
    let root = admins_store(folder.path());
    // A member is first, and the folders are theirs until root comes by.
    assert_eq!(said(child_of(ANN, "077", folder.path(), &root, "sharing build 1")), ["built"]);
    chown(&root.join("containers"), User { gid: GROUP, ..ANN });
    // Whose they are, others are told who have something there.
    let heard = said(child_of(BEN, "077", folder.path(), &root, "sharing lease"));
    let about: Vec<&String> = heard.iter().filter(|line| line.contains("can move")).collect();
    let [told] = &about[..] else { panic!("once: {heard:?}") };
    let word = format!("containers and {}/tmp belong to uid {}, who can", root.display(), ANN.uid);
    assert!(told.contains(&word), "{told}");
    let gives = format!("/containers {}/tmp` gives them to", root.display());
    assert!(told.contains(&gives), "{told}");
    drop(said(child_of(ROOT, "077", folder.path(), &root, "open")));
    fs::create_dir(root.join("tmp/of-root")).unwrap();
    let moves = |user: User, from: &Path| {
        let mut command = std::process::Command::new("mv");
        command.arg("-T").arg(from).arg(root.join("moved")).uid(user.uid).gid(GROUP);
        command.stderr(std::process::Stdio::null()).status().unwrap().success()
    };
    for user in [ANN, BEN] {
        for name in ["tmp", "containers", "tmp/of-root"] {
            let place = root.join(name);
            assert!(place.exists() && !moves(user, &place), "uid {}: {name}", user.uid);
        }
    }
    // Their own things are theirs, and the group's are everybody's.
    fs::create_dir(root.join("tmp/of-ann")).unwrap();
    chown(&root.join("tmp/of-ann"), User { gid: GROUP, ..ANN });
    assert!(!moves(BEN, &root.join("tmp/of-ann")));
    assert!(moves(ANN, &root.join("tmp/of-ann")));
}

/// Root comes first, as `docs/security.md` has it: nobody else can be the owner of these folders then, and no program is
/// run from such a store.
#[test]
fn what_root_opens_first_is_roots_to_hold() {
    need_root();
    let folder = open_folder();
    let root = admins_store(folder.path());
    drop(said(child_of(ROOT, "077", folder.path(), &root, "open")));
    drop(said(child_of(ANN, "077", folder.path(), &root, "sharing lease")));
    for name in ["", "tmp", "containers"] {
        let about = fs::metadata(root.join(name)).unwrap();
        assert_eq!((about.uid(), about.mode() & 0o7777), (0, 0o3770), "{name}");
    }
    assert_eq!(Store::open(&root).unwrap().tools(), None);
    let own = folder.path().join("own");
    assert_eq!(Store::open(&own).unwrap().tools(), Some(own.join("tools")));
}

/// A name that a member gave to somebody's file, or a pipe, in the place of a download.
#[test]
fn a_download_is_written_to_no_file_of_anothers_choice() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path().join("store")).unwrap();
    let precious = folder.path().join("precious");
    fs::write(&precious, b"mine").unwrap();
    let wanted = Digest::of(b"wanted");
    let place = store.partial_path(wanted);
    let plant: [&dyn Fn(); 3] = [
        &|| fs::hard_link(&precious, &place).unwrap(),
        &|| std::os::unix::fs::symlink(&precious, &place).unwrap(),
        &|| {
            let made = std::process::Command::new("mkfifo").arg(&place).status().unwrap();
            assert!(made.success());
        },
    ];
    for plant in plant {
        plant();
        let (path, mut file) = store.open_partial(wanted).unwrap();
        assert_eq!(path, place);
        file.write_all(b"wanted").unwrap();
        assert_eq!(fs::read(&precious).unwrap(), b"mine");
        // It goes on where it was.
        assert_eq!(store.open_partial(wanted).unwrap().1.metadata().unwrap().len(), 6);
        store.remove_partial(wanted).unwrap();
        assert!(!place.exists());
    }
}

#[test]
fn the_mode_of_a_file_that_a_link_leads_to_stays() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path().join("store")).unwrap();
    let precious = folder.path().join("precious");
    let plant: [&dyn Fn(&Path); 2] =
        [&|place| std::os::unix::fs::symlink(&precious, place).unwrap(), &|place| {
            fs::hard_link(&precious, place).unwrap()
        }];
    for (number, plant) in plant.into_iter().enumerate() {
        fs::write(&precious, format!("mine {number}")).unwrap();
        chmod(&precious, 0o600);
        let place = store.scratch_dir().unwrap().join("came");
        plant(&place);
        let digest = Digest::of(format!("mine {number}").as_bytes());
        let error = store.adopt(&place, digest, None).unwrap_err();
        assert!(error.to_string().contains("exchanged"), "{error}");
        assert_eq!(fs::metadata(&precious).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(!store.has_blob(digest).unwrap());
    }
}

/// In a folder that nobody else writes to, a link is the owner's: the store has that part on another disk.
#[test]
fn a_private_store_may_have_a_folder_elsewhere() {
    let folder = tempfile::tempdir().unwrap();
    let (root, disk) = (folder.path().join("store"), folder.path().join("disk"));
    drop(Store::open(&root).unwrap());
    fs::rename(root.join("partial"), &disk).unwrap();
    std::os::unix::fs::symlink("../disk", root.join("partial")).unwrap();
    let store = Store::open(&root).unwrap();
    let wanted = Digest::of(b"wanted");
    store.open_partial(wanted).unwrap().1.write_all(b"wan").unwrap();
    assert_eq!(fs::read(disk.join(wanted.hex())).unwrap(), b"wan");
    let policy = sconce_store::Policy {
        images: sconce_store::Which::Unnamed,
        keep_bytes: None,
        dry_run: false,
    };
    store.prune(&policy, &[]).unwrap();
    assert_eq!(fs::read_dir(&disk).unwrap().count(), 0);
}

/// Which functions change what is at a path that they look up: none is called but where the store's own folder is made.
#[test]
fn no_path_of_a_store_is_changed_by_its_name() {
    let by_path = [
        "fs::rename",
        "fs::remove_",
        "fs::create_",
        "fs::hard_link",
        "fs::write",
        "fs::copy",
        "fs::set_permissions",
        "File::create",
        "DirBuilder::new",
        "CWD, &",
    ];
    let mut waiting = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    let mut found = Vec::new();
    while let Some(folder) = waiting.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                waiting.push(path);
                continue;
            }
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            let text = fs::read_to_string(&path).unwrap();
            let lines = text.lines().filter(|line| by_path.iter().any(|word| line.contains(word)));
            found.extend(lines.map(|line| format!("{name}: {}", line.trim())));
        }
    }
    // The store's own folder, and the reading of a tree.
    found.retain(|line| !line.starts_with("access.rs: ") && !line.contains("Cursor::open(CWD"));
    assert!(found.is_empty(), "{found:#?}");
}
