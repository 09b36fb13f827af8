//! Rootless containers of a user with ranges in /etc/subuid and /etc/subgid: other users exist
//! inside, and what they leave belongs to nobody on the host but them.

#[allow(dead_code)]
mod world;

use std::fs;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::process::Stdio;

use sconce_testkit::MappedUser;
use world::{As, World, eventually, texts};

/// Who `inside` is on the host.
fn outside(inside: u32) -> u32 {
    MappedUser::FIRST + inside - 1
}

/// None of them has a group of the caller's.
#[test]
fn other_users_exist() {
    let world = World::new(As::Mapped);
    for (user, ids) in [
        ("0", "0 0 0"),
        ("1000:1000", "1000 1000 1000"),
        ("ann", "1000 1000 1000 44"),
        ("7:8", "7 8 8"),
        ("65534:65534", "65534 65534 65534"),
    ] {
        let user = format!("-u={user}");
        assert_eq!(world.check(&[&user], "echo $(id -u) $(id -g) $(id -G)", 0), format!("{ids}\n"));
    }
    // The range ends somewhere.
    let output = world.script(&["-u=70000:70000"], "true").output().expect("started");
    let (_, err) = texts(&output);
    assert!(output.status.code() == Some(125) && err.contains("longer ones are needed"), "{err}");
}

#[test]
fn files_of_other_users() {
    let world = World::new(As::Mapped);
    fs::create_dir(world.path("data")).expect("data");
    world.give("data");
    let script = "touch /x /data/root; chown 1000:44 /x; stat -c '%u %g' /x
        mkdir /data/d; touch /data/d/ann; chown -R 1000:44 /data/d; chmod 700 /data/d
        stat -c '%u %g' /data/d/ann";
    assert_eq!(world.check(&["-v=./data:/data"], script, 0), "1000 44\n1000 44\n");
    let owner = |path: &str| {
        let about = fs::metadata(world.path(path)).expect("a file");
        (about.uid(), about.gid())
    };
    assert_eq!(owner("data/root"), (MappedUser::ID, MappedUser::ID));
    assert_eq!(owner("data/d/ann"), (outside(1000), outside(44)));
    // And it is found there as it was left, by its owner alone.
    let options = ["-v=./data:/data", "-u=1000:44"];
    assert_eq!(world.check(&options, "cat /data/d/ann; ls /data/d", 0), "ann\n");
    world.check(&["-v=./data:/data", "-u=1001:44"], "ls /data/d 2>/dev/null && exit 9; exit 0", 0);
}

/// What a killed container leaves may belong to users that exist in its namespace only: the next
/// one removes it all the same, and never fails for it.
#[test]
fn files_of_other_users_are_cleaned_up() {
    let world = World::new(As::Mapped);
    let script = "mkdir -p /var/lib/ann/deep /only; touch /var/lib/ann/deep/file /only/file
        chown -R 1000:44 /var/lib/ann; chmod -R 700 /var/lib/ann; chown 7:8 /only; chmod 700 /only
        echo up; sleep 1000";
    let mut child = world.script(&[], script).stdout(Stdio::piped()).spawn().expect("started");
    let mut up = [0; 3];
    child.stdout.take().expect("stdout").read_exact(&mut up).expect("up");
    let left = fs::read_dir(world.path("scratch")).expect("scratch").flatten().next();
    let left = left.expect("its folder").path();
    let about = fs::metadata(left.join("scratch/upper/var/lib/ann")).expect("a folder");
    assert_eq!((about.uid(), about.permissions().mode() & 0o777), (outside(1000), 0o700));
    child.kill().expect("killed");
    child.wait().expect("ended");
    assert!(left.exists(), "nobody cleans it up but the next");
    eventually("the next one cleans up", || {
        let output = world.script(&[], "true").output().expect("started");
        let (_, err) = texts(&output);
        assert!(output.status.success(), "{err}");
        assert!(!err.contains("could not be removed"), "{err}");
        world.runs() == 0
    });
    assert!(!left.exists());
}

/// One that cannot be removed even there is said, and stays in nobody's way.
#[test]
fn what_cannot_be_removed_stops_nobody() {
    let world = World::new(As::Mapped);
    let left = world.path("scratch/00000000000000aa");
    fs::create_dir_all(left.join("scratch/upper/d")).expect("folders");
    fs::write(left.join("scratch/upper/d/file"), "").expect("a file");
    for path in ["scratch", "scratch/00000000000000aa", "scratch/00000000000000aa/scratch"] {
        chown(world.path(path), Some(MappedUser::ID), Some(MappedUser::ID)).expect("owner");
    }
    // Somebody outside of the ranges owns what is below.
    let output = world.script(&[], "echo ran").output().expect("started");
    let (out, err) = texts(&output);
    assert_eq!((output.status.code(), out.as_str()), (Some(0), "ran\n"), "{err}");
    assert!(err.contains("00000000000000aa could not be removed"), "{err}");
}
