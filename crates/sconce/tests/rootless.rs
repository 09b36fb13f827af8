//! `sconce` as a user with ranges in /etc/subuid and /etc/subgid. These tests add one for themselves
//! alone and so are run by root.

#[allow(dead_code)]
mod world;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use sconce_testkit::MappedUser;
use world::detached::eventually;
use world::{World, texts};

/// A world in which `sconce` is the user's.
struct Rootless {
    world: World,
    user: MappedUser,
}

impl Rootless {
    fn new() -> Self {
        let world = World::new();
        world.image(r#"{"Env": ["PATH=/usr/bin"]}"#);
        let user = MappedUser::new(&world.path(""));
        // Where the program was built, another user may not come.
        sconce_testkit::copy_program(env!("CARGO_BIN_EXE_sconce").as_ref(), &world.path("sconce"));
        fs::set_permissions(world.path(""), fs::Permissions::from_mode(0o755)).unwrap();
        for folder in ["store", "home"] {
            fs::create_dir(world.path(folder)).unwrap();
            fs::set_permissions(world.path(folder), fs::Permissions::from_mode(0o700)).unwrap();
            give(&world.path(folder), MappedUser::ID);
        }
        Self { world, user }
    }

    fn sconce(&self, words: &[&str]) -> Command {
        let mut command = self.user.command(&self.world.path("sconce"));
        command.current_dir(self.world.path("")).args(words).stdin(Stdio::null());
        command.env("SCONCE_HOME", self.world.path("store")).env("HOME", self.world.path("home"));
        command
    }

    /// Standard output of a command that has nothing to complain about.
    fn works(&self, words: &[&str]) -> String {
        let (code, out, err) = texts(&self.sconce(words).output().unwrap());
        assert_eq!(code, 0, "{words:?}\n{out}{err}");
        let complaint = ["could not", "can't", "cannot"].iter().find(|word| err.contains(**word));
        assert!(complaint.is_none(), "{words:?}\n{err}");
        out
    }

    /// Starts a container that leaves files of other users, and waits until they are there.
    fn start(&self, options: &[&str]) -> (Child, PathBuf) {
        let script = "mkdir -p /srv/ann/deep; touch /srv/ann/deep/file; chown -R 1000:44 /srv/ann
            chmod -R 700 /srv/ann; touch /ready; sleep 1000";
        let words = [&["run", "--gpus", "none", "-q"], options, &["oci:image", "sh", "-c", script]];
        let child = self.sconce(&words.concat()).stdout(Stdio::null()).spawn().unwrap();
        let containers = self.world.path("store/containers");
        let mut found = None;
        eventually("it runs", || {
            let folders = fs::read_dir(&containers).into_iter().flatten().flatten();
            found = folders
                .map(|folder| folder.path())
                .find(|folder| folder.join("scratch/upper/ready").exists());
            found.is_some()
        });
        let folder = found.unwrap();
        let owner = fs::metadata(folder.join("scratch/upper/srv/ann")).unwrap().uid();
        assert_eq!(owner, MappedUser::FIRST + 999);
        (child, folder)
    }
}

fn give(path: &Path, id: u32) {
    chown(path, Some(id), Some(id)).unwrap();
}

fn kill(pid: u32) {
    assert!(Command::new("kill").args(["-KILL", &pid.to_string()]).status().unwrap().success());
}

#[test]
fn other_users_exist_and_the_callers_groups_do_not() {
    let rootless = Rootless::new();
    for (user, ids) in [("0", "0 0 0"), ("1000:1000", "1000 1000 1000"), ("7", "7 0 0")] {
        let words = ["run", "--gpus", "none", "-q", "-u", user, "oci:image", "sh", "-c"];
        let script = "echo $(id -u) $(id -g) $(id -G); touch $HOME/x";
        assert_eq!(rootless.works(&[&words[..], &[script]].concat()), format!("{ids}\n"));
    }
}

#[test]
fn a_killed_run_is_in_the_way_of_no_command() {
    let rootless = Rootless::new();
    let image = rootless.works(&["run", "--gpus", "none", "-q", "oci:image", "true"]);
    assert_eq!(image, "");
    let (mut child, folder) = rootless.start(&[]);
    child.kill().unwrap();
    child.wait().unwrap();
    for words in
        [&["images", "--all"][..], &["ps"], &["ps", "-a"], &["prune", "--dry-run"], &["prune"]]
    {
        rootless.works(words);
    }
    eventually("the next one cleans up", || {
        rootless.works(&["run", "--gpus", "none", "-q", "oci:image", "true"]);
        !folder.exists()
    });
    rootless.works(&["prune", "--all"]);
    let containers = fs::read_dir(rootless.world.path("store/containers")).unwrap();
    assert_eq!(containers.count(), 0);
}

#[test]
fn a_detached_one_whose_shim_is_killed_is_removed() {
    let rootless = Rootless::new();
    let (mut child, folder) = rootless.start(&["-d", "--name", "job"]);
    assert!(child.wait().unwrap().success());
    assert!(rootless.works(&["ps"]).contains("job"));
    assert_eq!(rootless.works(&["exec", "-u", "1000:1000", "job", "id", "-G"]), "1000\n");
    kill(shim_of(&folder));
    eventually("it has ended", || !rootless.works(&["ps"]).contains("job"));
    assert!(rootless.works(&["ps", "-a"]).contains("job"));
    rootless.works(&["rm", "job"]);
    assert!(!folder.exists());
    rootless.works(&["prune", "--all"]);
}

/// The process that holds a container: it has the first digits of the container's id in its name.
fn shim_of(folder: &Path) -> u32 {
    let id = folder.file_name().unwrap().to_str().unwrap();
    let name = format!("sconce-{}\n", &id[..8]);
    let found = fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .find(|entry| fs::read_to_string(entry.path().join("comm")).is_ok_and(|comm| comm == name));
    found.unwrap().file_name().to_string_lossy().parse().unwrap()
}

/// The kernel lets a container change no folder of a group that it doesn't have, as a store's that is not its user's first.
#[test]
fn a_member_of_the_stores_group_writes_wherever_the_image_has_a_folder() {
    let rootless = Rootless::new();
    let (store, group) = (rootless.world.path("store"), MappedUser::GROUPS[0]);
    let (ann, ben) = (MappedUser::ID + 1, MappedUser::ID + 2);
    chown(&store, Some(ann), Some(group)).unwrap();
    fs::set_permissions(&store, fs::Permissions::from_mode(0o2770)).unwrap();
    // Without ranges in subuid(5).
    let says = |user: u32, words: &[&str]| {
        let home = rootless.world.path(&user.to_string());
        fs::create_dir_all(&home).unwrap();
        give(&home, user);
        let mut command = Command::new("setpriv");
        let groups = format!("--groups={group}");
        command.args([&format!("--reuid={user}"), &format!("--regid={user}"), &groups]);
        command.arg(rootless.world.path("sconce")).args(words).stdin(Stdio::null());
        command.current_dir(rootless.world.path("")).env("SCONCE_HOME", &store);
        let (code, out, err) = texts(&command.env("HOME", home).output().unwrap());
        assert_eq!(code, 0, "{user}: {words:?}\n{out}{err}");
        out
    };
    let script = "mkdir /new /usr/new && echo x > /etc/made && echo y > /usr/new/made && rm /etc/made \
        && cat /usr/new/made && stat -c %a /usr && head -c 9 /etc/hosts";
    let run = ["run", "--gpus", "none", "-q", "oci:image", "sh", "-c", script];
    let wrote = "y\n755\n127.0.0.1";
    // Whether the trees are another member's or their own.
    for [first, second] in [[ann, ben], [ben, ann]] {
        assert_eq!(says(first, &run), wrote);
        assert_eq!(says(second, &run), wrote);
        for user in [first, second, first] {
            says(user, &["prune", "--all"]);
        }
        assert_eq!(fs::read_dir(store.join("trees")).unwrap().count(), 0);
        assert_eq!(fs::read_dir(store.join("leftovers")).unwrap().count(), 0);
    }
}

/// Whoever has ranges has a namespace without the caller's other groups, and the store is reached by one of those; so may a
/// volume be. The container has none of them.
#[test]
fn a_member_with_ranges_starts_what_is_reached_by_a_group() {
    let rootless = Rootless::new();
    let (store, group) = (rootless.world.path("store"), MappedUser::GROUPS[0]);
    chown(&store, Some(MappedUser::ID + 1), Some(group)).unwrap();
    fs::set_permissions(&store, fs::Permissions::from_mode(0o2770)).unwrap();
    let lab = rootless.world.path("lab");
    fs::create_dir_all(lab.join("data")).unwrap();
    chown(&lab, Some(0), Some(group)).unwrap();
    fs::set_permissions(&lab, fs::Permissions::from_mode(0o750)).unwrap();
    give(&lab.join("data"), MappedUser::ID);
    let script = "echo $(id -u) $(id -G); mkdir -p /srv/x && echo y > /etc/made && touch /srv/x/y && \
        chown -R 1000:44 /srv/x && stat -c %u:%g /srv/x/y; touch /data/here";
    let run = ["run", "--gpus", "none", "-q", "-v", "lab/data:/data", "oci:image", "sh", "-c"];
    for _ in 0..2 {
        assert_eq!(rootless.works(&[&run[..], &[script]].concat()), "0 0\n1000:44\n");
    }
    assert!(lab.join("data/here").exists());
    let detached = ["run", "--gpus", "none", "-q", "-d", "--name", "job", "oci:image", "sleep"];
    rootless.works(&[&detached[..], &["1000"]].concat());
    assert_eq!(rootless.works(&["exec", "job", "sh", "-c", "echo $(id -G)"]), "0\n");
    rootless.works(&["rm", "-f", "job"]);
    rootless.works(&["prune", "--all"]);
    let own = store.join("containers").join(MappedUser::ID.to_string());
    assert_eq!(fs::read_dir(own).unwrap().count(), 0);
}

/// What a build that was killed left in the store's own folder is no different.
#[test]
fn the_stores_folder_for_what_is_being_made() {
    let rootless = Rootless::new();
    rootless.works(&["images"]);
    let left = rootless.world.path("store/tmp/1-0");
    let below = left.join("upper/ann");
    fs::create_dir_all(&below).unwrap();
    fs::write(below.join("file"), "").unwrap();
    give(&left, MappedUser::ID);
    give(&left.join("upper"), MappedUser::ID);
    for path in [below.join("file"), below] {
        give(&path, MappedUser::FIRST + 999);
    }
    rootless.works(&["images"]);
    assert!(!left.exists());
}
