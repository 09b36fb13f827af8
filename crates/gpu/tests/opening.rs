//! Opening nodes as CUDA does: what comes back, and what does not.

#![allow(unsafe_code)]

use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sconce_gpu::{Machine, Node, Opening};

/// `F_SETSIG` (include/uapi/asm-generic/fcntl.h), which the libc crate lacks.
const F_SETSIG: libc::c_int = 10;

fn node(path: &Path) -> Node {
    Node { path: path.to_owned(), major: 1, minor: 3, mode: 0o666, open: None }
}

/// A file that nobody else can open for writing until the lease on it is given up (fcntl(2), F_SETLEASE): the open
/// waits in the kernel, as with a driver that hangs.
struct Leased {
    path: PathBuf,
    file: fs::File,
}

impl Leased {
    fn new() -> Self {
        let path = Path::new("/dev/shm").join(format!("sconce-leased-{}", std::process::id()));
        fs::write(&path, "").unwrap();
        let file = fs::File::open(&path).unwrap();
        // A process that another test forked holds what was open for writing until it executes a program.
        for _ in 0..200 {
            // SAFETY: both calls take a descriptor that is open and plain numbers. SIGURG is ignored by default.
            let leased = unsafe {
                libc::fcntl(file.as_raw_fd(), F_SETSIG, libc::SIGURG);
                libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, libc::F_RDLCK)
            };
            if leased == 0 {
                return Self { path, file };
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        panic!("no lease: {}", std::io::Error::last_os_error());
    }
}

impl Drop for Leased {
    fn drop(&mut self) {
        // SAFETY: as above.
        unsafe { libc::fcntl(self.file.as_raw_fd(), libc::F_SETLEASE, libc::F_UNLCK) };
        let _ = fs::remove_file(&self.path);
    }
}

#[test]
fn what_opens_and_what_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let locked = dir.path().join("locked");
    fs::write(&locked, "").unwrap();
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o000)).unwrap();
    let paths = [Path::new("/dev/null"), &dir.path().join("nothing"), &locked];
    let nodes: Vec<Node> = paths.iter().map(|path| node(path)).collect();
    let openings = Machine::host().open_all(&nodes, Duration::from_secs(20));
    // Root may open what nobody may.
    let locked = if is_root() { Opening::Fine } else { Opening::Denied };
    assert_eq!(openings, [Opening::Fine, Opening::Failed, locked]);
    assert_eq!(Machine::host().open_all(&[], Duration::ZERO), []);
}

fn is_root() -> bool {
    // SAFETY: geteuid takes nothing and can't fail.
    unsafe { libc::geteuid() == 0 }
}

#[test]
fn one_that_hangs_is_left_and_the_others_are_told() {
    let leased = Leased::new();
    let nodes = [node(&leased.path), node(Path::new("/dev/null"))];
    let begin = Instant::now();
    let openings = Machine::host().open_all(&nodes, Duration::from_millis(300));
    assert_eq!(openings, [Opening::Hung, Opening::Fine]);
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
}
