//! Other processes, of this user or another, that do something with a store.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use sconce_store::{LowerRoot, Options, Store};

/// Who a process runs as.
#[derive(Clone, Copy, Debug)]
pub struct User {
    pub uid: u32,
    /// Its first group.
    pub gid: u32,
    /// Its other group.
    pub also: Option<u32>,
}

pub const NOBODY: User = User { uid: 65534, gid: 65534, also: None };

/// These tests start processes of several users, and so must be run by root: says so instead of
/// passing for nothing.
pub fn need_root() {
    assert!(rustix::process::geteuid().is_root(), "this test must be run by root");
}

/// A folder under /tmp that others may enter, with this program in it.
pub fn open_folder() -> tempfile::TempDir {
    let folder = tempfile::Builder::new().prefix("sconce-store-").tempdir_in("/tmp").unwrap();
    std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
    // By another process: what a thread of this one has open for writing, its children can't execute.
    let mut copy = Command::new("cp");
    let copied = copy
        .arg("--preserve=mode")
        .arg(std::env::current_exe().unwrap())
        .arg(folder.path().join("program"));
    assert!(copied.status().unwrap().success());
    folder
}

/// The same in mounts of its own, which end with it: of a file system of so many MiB at `root`, which is a folder. That takes root.
pub fn child_on_a_small_disk(root: &Path, mib: u32, work: &str) -> Command {
    let mut command = Command::new("unshare");
    let script = "mount -t tmpfs -o \"size=$0m,mode=700\" tmpfs \"$STORE_ROOT\" && exec \"$@\"";
    command.args(["--mount", "sh", "-c", script]).arg(mib.to_string());
    command.arg(std::env::current_exe().unwrap());
    as_child(command, root, work)
}

/// Runs the [`child`] test in a process of its own.
pub fn child_process(root: &Path, work: &str) -> Command {
    as_child(Command::new(std::env::current_exe().unwrap()), root, work)
}

/// The same as another user and with a umask; `folder` is of [`open_folder`].
pub fn child_of(user: User, umask: &str, folder: &Path, root: &Path, work: &str) -> Command {
    let mut command = Command::new("sh");
    command.arg("-c").arg("umask $0; exec \"$@\"").arg(umask).arg("setpriv");
    command.arg(format!("--reuid={}", user.uid)).arg(format!("--regid={}", user.gid));
    match user.also {
        Some(group) => command.arg(format!("--groups={group}")),
        None => command.arg("--clear-groups"),
    };
    command.arg(folder.join("program"));
    as_child(command, root, work)
}

fn as_child(mut command: Command, root: &Path, work: &str) -> Command {
    command
        .args(["--ignored", "--exact", "process::child", "--nocapture", "--test-threads=1"])
        .current_dir("/")
        .env("STORE_ROOT", root)
        .env("STORE_WORK", work)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit());
    command
}

/// What the other process does; not a test of its own.
#[test]
#[ignore = "runs in a process of its own, which other tests start"]
fn child() {
    let root = PathBuf::from(std::env::var_os("STORE_ROOT").unwrap());
    let work = std::env::var("STORE_WORK").unwrap();
    let work = work.split_once(' ').unwrap_or((&work, ""));
    if let ("remove", path) = work {
        return say(&match sconce_store::remove_tree(Path::new(path)) {
            Ok(()) => "removed".to_owned(),
            Err(error) => format!("{error:?}"),
        });
    }
    let lowers = std::env::var_os("STORE_LOWERS").unwrap_or_default();
    let lowers = std::env::split_paths(&lowers)
        .filter(|root| !root.as_os_str().is_empty())
        .map(|root| LowerRoot { root, named: std::env::var_os("STORE_UNNAMED").is_none() });
    let mut options = Options {
        lowers: lowers.collect(),
        note: Some(Box::new(|text| say(&format!("note: {text}")))),
        remover: None,
        ..Options::default()
    };
    if let Some(mounted) = std::env::var_os("STORE_UMOUNT") {
        options.remover = Some(Box::new(move |path| {
            say("asked");
            Command::new("umount").arg(path.join(&mounted)).status().map(drop)
        }));
    }
    let store = match Store::open_with(&root, options) {
        Ok(store) => store,
        Err(error) => {
            say(&format!("refused: {error}"));
            return say(&format!("to do: {}", error.hint().unwrap_or_default()));
        }
    };
    match work {
        ("open", "") => say("opened"),
        ("crash", work) => crate::crash::work(&store, work),
        ("prune", work) => crate::prune::work(&store, work),
        ("sharing", work) => crate::sharing::work(&store, work),
        ("extract", digest) => {
            let tree = store.extract(digest.parse().unwrap(), &|_| {});
            say(&tree.map_or_else(|error| error.to_string(), |tree| tree.display().to_string()));
        }
        other => panic!("unknown work {other:?}"),
    }
}

pub fn say(text: &str) {
    std::io::stdout().write_all(format!("SAID {text}\n").as_bytes()).unwrap();
}

/// Waits for the word to go on, or the end of whoever gives it.
pub fn wait() {
    std::io::stdin().read_line(&mut String::new()).unwrap();
}

pub fn listen(child: &mut Child) -> impl Iterator<Item = String> + use<> {
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    // The harness may write its own words before ours on the same line.
    lines.map_while(Result::ok).filter_map(|line| Some(line.split_once("SAID ")?.1.to_owned()))
}

/// All that a process says until its end.
pub fn said(mut command: Command) -> Vec<String> {
    let mut child = command.stdin(Stdio::null()).spawn().unwrap();
    let said = listen(&mut child).collect();
    assert!(child.wait().unwrap().success(), "{said:?}");
    said
}
