//! Locks on GPUs between the sconce processes of all users of a machine.
//!
//! Each is a flock(2) on something that the kernel made for the device itself, so that nobody can
//! prepare it, there is nothing to create or to clean up, and every user finds the same:
//!
//! - a GPU: its folder in sysfs, `/sys/bus/pci/devices/<bus>`; where sysfs is not mounted, its folder
//!   `/proc/driver/nvidia/gpus/<bus>`;
//! - a MIG instance: the file `/proc/driver/nvidia/capabilities/gpu<minor>/mig/gi<g>/ci<c>/access`, which
//!   is the instance's own. Opening it gives no right to the instance, as its node in
//!   `/dev/nvidia-caps` would to whoever inherits the descriptor.
//!
//! A lock belongs to an inode: sysfs has one set of them for each network namespace, procfs for each
//! mount. Processes in other network namespaces (a container's) don't meet these locks.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use crate::Error;
use crate::machine::Machine;
use crate::select::Device;

/// Locks on GPUs. Dropping it, or the death of all processes that have it, lets go of them.
#[derive(Debug, Default)]
pub struct Guard {
    pub(crate) files: Vec<File>,
}

impl Guard {
    /// How many locks are held.
    pub fn len(&self) -> usize {
        self.files.len()
    }

    /// Whether no lock is held.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// The descriptors that hold the locks: for a process that outlives this one. They are closed on
    /// exec unless that is taken off.
    pub fn into_descriptors(self) -> Vec<OwnedFd> {
        self.files.into_iter().map(OwnedFd::from).collect()
    }
}

/// What of the machine stands for a device, the better first.
fn places(device: &Device) -> Vec<PathBuf> {
    let bus = &device.gpu.bus_id;
    match &device.instance {
        None => vec![
            Path::new("/sys/bus/pci/devices").join(bus),
            Path::new("/proc/driver/nvidia/gpus").join(bus),
        ],
        Some(mig) => vec![PathBuf::from(format!(
            "/proc/driver/nvidia/capabilities/gpu{}/mig/gi{}/ci{}/access",
            device.gpu.minor, mig.gpu_instance, mig.compute_instance
        ))],
    }
}

/// Opens what stands for a device, to be locked.
pub(crate) fn open(machine: &Machine, device: &Device) -> Result<File, Error> {
    let places = places(device);
    // Links are followed inside the machine (sysfs has one there); the last part is none then.
    let found = places.iter().find_map(|place| Some((place, machine.at(place)?)));
    let missing = || Error::Lock {
        path: places.first().cloned().unwrap_or_default(),
        source: io::ErrorKind::NotFound.into(),
    };
    let (place, at) = found.ok_or_else(missing)?;
    let folder = if device.instance.is_none() { OFlags::DIRECTORY } else { OFlags::empty() };
    let flags = folder | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let opened = OpenOptions::new().read(true).custom_flags(flags.bits() as i32).open(at);
    opened.map_err(|source| Error::Lock { path: place.clone(), source })
}

/// A lock that can't be taken, for another reason than that somebody has it.
pub(crate) fn broken(device: &Device, source: io::Error) -> Error {
    Error::Lock { path: places(device).into_iter().next().unwrap_or_default(), source }
}

/// Who holds a lock on the file: ` (process 1234, python)`, or nothing where that can't be seen.
pub(crate) fn holder(file: &File) -> String {
    let Ok(about) = file.metadata() else { return String::new() };
    // As /proc/locks writes it (proc_locks(5)).
    let (major, minor) = (rustix::fs::major(about.dev()), rustix::fs::minor(about.dev()));
    let inode = format!("{major:02x}:{minor:02x}:{}", about.ino());
    let locks = fs::read_to_string("/proc/locks").unwrap_or_default();
    let takers = locks.lines().filter_map(|line| taker(line, &inode));
    let holder = takers.into_iter().find(|pid| holds(*pid, &inode)).or_else(|| {
        // Whoever took it is gone and another has inherited it: a detached container's shim.
        let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
        let mut pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        pids.find(|pid| holds(*pid, &inode))
    });
    let Some(pid) = holder else { return String::new() };
    match fs::read_to_string(format!("/proc/{pid}/comm")) {
        Ok(name) => format!(" (process {pid}, {})", name.trim()),
        Err(_) => format!(" (process {pid})"),
    }
}

/// The process that took the lock of a line of /proc/locks, if it is on this inode and held.
fn taker(line: &str, inode: &str) -> Option<u32> {
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    match words.as_slice() {
        [_, "FLOCK", _, _, pid, at, ..] if *at == inode => pid.parse().ok().filter(|pid| *pid > 0),
        _ => None,
    }
}

/// Whether a process has a descriptor with a lock on this inode; those of other users can't be seen.
fn holds(pid: u32, inode: &str) -> bool {
    let descriptors = fs::read_dir(format!("/proc/{pid}/fdinfo")).into_iter().flatten().flatten();
    descriptors.into_iter().any(|entry| {
        let text = fs::read_to_string(entry.path()).unwrap_or_default();
        let locks = text.lines().filter_map(|line| line.strip_prefix("lock:"));
        locks.into_iter().any(|line| taker_of_any(line, inode))
    })
}

fn taker_of_any(line: &str, inode: &str) -> bool {
    let mut words = line.split_ascii_whitespace();
    words.any(|word| word == "FLOCK") && words.any(|word| word == inode)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_proc_locks() {
        let line = "12: FLOCK  ADVISORY  WRITE 4711 00:17:12345 0 EOF";
        assert_eq!(taker(line, "00:17:12345"), Some(4711));
        assert_eq!(taker(line, "00:17:1234"), None);
        assert_eq!(taker("12: -> FLOCK  ADVISORY  WRITE 4711 00:17:1 0 EOF", "00:17:1"), None);
        assert_eq!(taker("1: FLOCK ADVISORY WRITE 0 00:17:1 0 EOF", "00:17:1"), None);
        assert_eq!(taker("1: POSIX ADVISORY WRITE 1 00:17:1 0 EOF", "00:17:1"), None);
        assert!(taker_of_any("\t1: FLOCK  ADVISORY  READ 9 00:17:1 0 EOF", "00:17:1"));
    }

    /// A folder of sysfs can be locked by anybody, and who has it can be told.
    #[test]
    fn a_folder_of_sysfs_holds_a_lock() {
        let folder = Path::new("/sys/devices/system");
        if !folder.is_dir() {
            return;
        }
        let (first, second) = (File::open(folder).unwrap(), File::open(folder).unwrap());
        first.try_lock().unwrap();
        assert!(matches!(second.try_lock(), Err(fs::TryLockError::WouldBlock)));
        let me = format!(" (process {},", std::process::id());
        assert!(holder(&second).starts_with(&me), "{}", holder(&second));
        drop(first);
        // A process that another test has forked holds it until it runs its program.
        let gone = || second.try_lock().is_ok();
        assert!((0..100).any(|_| gone() || {
            std::thread::sleep(std::time::Duration::from_millis(50));
            false
        }));
    }

    /// The lock stays with a process that inherits the descriptor, and is found there.
    #[test]
    fn an_inherited_lock_is_found_with_its_heir() {
        let folder = tempfile::tempdir().unwrap();
        let open = || File::open(folder.path()).unwrap();
        let lock = open();
        lock.try_lock().unwrap();
        // Standard input stands for the descriptor that a shim would be given.
        let mut heir = std::process::Command::new("sleep").arg("60").stdin(lock).spawn().unwrap();
        let other = open();
        assert!(matches!(other.try_lock(), Err(fs::TryLockError::WouldBlock)));
        // The kernel lets the parent go on a moment before the child has its new name.
        let comm = format!("/proc/{}/comm", heir.id());
        while fs::read_to_string(&comm).unwrap() != "sleep\n" {
            std::thread::yield_now();
        }
        let words = holder(&other);
        heir.kill().unwrap();
        heir.wait().unwrap();
        assert_eq!(words, format!(" (process {}, sleep)", heir.id()));
        other.try_lock().unwrap();
    }
}
