//! A store that is opened to others, or closed to them, after it was made.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::process::{User, child_of, need_root, open_folder, said};
use crate::sharing::{ANN, BEN, GROUP, ROOT, below, chmod, chown};

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}

/// What was made for one user is refused to all once the folder says that it is for others, whoever asks.
#[test]
fn a_private_store_is_not_opened_by_chmod() {
    need_root();
    for (owner, all) in [(ROOT, false), (ANN, false), (ANN, true)] {
        let folder = open_folder();
        let root = folder.path().join("home");
        fs::create_dir(&root).unwrap();
        chown(&root, User { gid: GROUP, ..owner });
        let work = |user, work: &str| said(child_of(user, "022", folder.path(), &root, work));
        let member_root = User { also: Some(GROUP), ..ROOT };
        assert_eq!(work(owner, "sharing build 1"), ["built"]);
        let made: Vec<_> = below(&root).into_iter().map(|path| (mode(&path), path)).collect();
        for opened in [0o2755, 0o2770] {
            if all {
                for path in below(&root) {
                    chmod(&path, opened);
                }
            }
            chmod(&root, opened);
            let others = if opened & 0o020 != 0 { vec![BEN, member_root] } else { Vec::new() };
            for user in others.into_iter().chain([owner]) {
                let refusal = work(user, "open");
                let what = format!("was made with mode 0700 and has {opened:04o} now: ");
                assert!(refusal[0].contains(&what), "{user:?}: {refusal:?}");
                let who = format!("for uid {}, whose it is: `chmod 700 ", owner.uid);
                assert_eq!(refusal[1].contains(&who), user.uid != owner.uid, "{refusal:?}");
            }
            // Nor is it read below another, in parts.
            let mut over = child_of(BEN, "022", folder.path(), &folder.path().join("ben"), "open");
            fs::create_dir_all(folder.path().join("ben")).unwrap();
            chown(&folder.path().join("ben"), BEN);
            over.env("STORE_LOWERS", &root);
            let words = said(over);
            assert!(words[0].contains("skipping the store"), "{words:?}");
            assert!(words[0].contains("was made with mode 0700"), "{words:?}");
            // As it was, it is used as it was.
            chmod(&root, 0o700);
            for (mode, path) in made.iter().filter(|(_, path)| all && path.exists()) {
                chmod(path, *mode);
            }
            assert_eq!(work(owner, "open"), ["opened"]);
            assert_eq!(mode(&root), 0o700);
        }
    }
}

/// A shared store that is closed for a while has what a shared one has: it can be opened again.
#[test]
fn a_shared_store_that_is_closed_stays_fit_to_be_shared() {
    need_root();
    for made in [0o2755, 0o2770] {
        let folder = open_folder();
        let root = folder.path().join("home");
        fs::create_dir(&root).unwrap();
        chown(&root, User { gid: GROUP, ..ANN });
        chmod(&root, made);
        let work = |user, work: &str| said(child_of(user, "077", folder.path(), &root, work));
        assert_eq!(work(ANN, "open"), ["opened"]);
        // One that lost its setgid bit is closed, as any folder that others could read.
        chmod(&root, if made & 0o020 != 0 { 0o700 } else { 0o750 });
        assert_eq!(work(ANN, "sharing build 1"), ["built"]);
        assert_eq!(mode(&root), 0o700);
        let trees = fs::read_dir(root.join("trees")).unwrap().flatten().map(|tree| tree.path());
        for path in trees.chain(["blobs", "trees"].map(|name| root.join(name))) {
            let wanted = if made & 0o020 != 0 { 0o070 } else { 0o050 };
            assert_eq!(mode(&path) & 0o070, wanted, "{}", path.display());
        }
        chmod(&root, made);
        assert_eq!(work(ANN, "open"), ["opened"]);
        if made & 0o020 != 0 {
            let trees = fs::read_dir(root.join("trees")).unwrap().count();
            assert_eq!(work(BEN, "sharing prune 1"), [format!("pruned {trees}")]);
        }
        // For others than it was made for, it is not.
        chmod(&root, made | 0o077 & !0o002);
        let refusal = work(ANN, "open");
        assert!(refusal[0].contains("stays closed to those"), "{refusal:?}");
    }
}
