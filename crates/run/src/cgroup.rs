//! Limits on memory, processor time and the number of processes, under cgroup v1, v2 and both.
//!
//! Each container gets a group where one can be made; in a job of a batch system only when a limit
//! is asked for, as the batch system counts and ends what is in its own group. Where a limit that
//! was asked for cannot be set, the caller is told once and the container runs without (cgroups(7);
//! Documentation/admin-guide/cgroup-v1 and cgroup-v2.rst).

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use crate::memory::number_in;

/// The group in which process times are measured, in microseconds (the kernel's default).
const PERIOD: u64 = 100_000;

/// What statfs(2) says of a cgroup v2 tree (include/uapi/linux/magic.h).
const CGROUP2_SUPER_MAGIC: rustix::fs::FsWord = 0x6367_7270;

/// Where the groups of this process are.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    /// All controllers in one tree: its mount point and this process's group there.
    Unified { mount: PathBuf, own: PathBuf },
    /// A tree for each controller: this process's group in those that are used here.
    Split(Vec<(String, PathBuf)>),
}

impl Place {
    /// Where a container's group for this controller is made, and this process's own group there.
    fn folders(&self, controller: &str) -> Option<(&Path, &Path)> {
        Some(match self {
            // A group with processes cannot hand controllers to a child: the new group stands
            // beside its caller's.
            Self::Unified { mount, own } if own == mount => (mount, own),
            Self::Unified { mount, own } => (own.parent().unwrap_or(mount), own),
            Self::Split(trees) => {
                let own = &trees.iter().find(|(kind, _)| kind == controller)?.1;
                (own, own)
            }
        })
    }
}

/// What a container may use.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Limits {
    /// Bytes.
    pub(crate) memory: Option<u64>,
    /// Bytes of memory and swap together; -1 for no limit.
    pub(crate) memory_swap: Option<i64>,
    /// Cores.
    pub(crate) cpus: Option<f64>,
    /// Processes and threads; -1 for no limit.
    pub(crate) pids: Option<i64>,
    /// The limit on processes is the default: no notice where it cannot be set.
    pub(crate) pids_by_default: bool,
}

impl Limits {
    /// The settings: controller, file, value, and whether somebody asked for it.
    fn settings(&self, unified: bool) -> Vec<(&'static str, &'static str, String, bool)> {
        let mut rows = Vec::new();
        let mut set = |controller, v1, v2, value: String, asked| {
            rows.push((controller, if unified { v2 } else { v1 }, value, asked));
        };
        if let Some(bytes) = self.memory {
            set("memory", "memory.limit_in_bytes", "memory.max", bytes.to_string(), true);
        }
        if let Some(total) = self.memory_swap {
            // v1 limits both together, v2 swap alone.
            let swap = u64::try_from(total).map(|total| {
                if unified { total.saturating_sub(self.memory.unwrap_or(0)) } else { total }
            });
            let none = if unified { "max" } else { "-1" };
            let value = swap.map_or(none.to_owned(), |bytes| bytes.to_string());
            set("memory", "memory.memsw.limit_in_bytes", "memory.swap.max", value, true);
        }
        if let Some(cpus) = self.cpus {
            let quota = (cpus * PERIOD as f64).round().max(1000.0) as u64;
            let value = if unified { format!("{quota} {PERIOD}") } else { quota.to_string() };
            set("cpu", "cpu.cfs_quota_us", "cpu.max", value, true);
        }
        if let Some(most) = self.pids.filter(|most| *most >= 0) {
            set("pids", "pids.max", "pids.max", most.to_string(), !self.pids_by_default);
        }
        rows
    }
}

/// A group of a container.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) path: PathBuf,
    /// Its `cgroup.procs`.
    pub(crate) entrance: File,
    /// The folder it lies in.
    pub(crate) parent: File,
}

impl Group {
    /// The text of one of its files, from a process that no longer sees where it is mounted.
    fn read(&self, file: &str) -> Option<String> {
        let path = Path::new(self.path.file_name()?).join(file);
        let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC;
        let opened =
            rustix::fs::openat(&self.parent, path, flags, rustix::fs::Mode::empty()).ok()?;
        io::read_to_string(File::from(opened)).ok()
    }

    /// Removes it, from a process that no longer sees where it is mounted.
    pub(crate) fn remove(&self) -> io::Result<()> {
        let name = self.path.file_name().unwrap_or_default();
        until_empty(|| {
            let flags = rustix::fs::AtFlags::REMOVEDIR;
            Ok(rustix::fs::unlinkat(&self.parent, name, flags)?)
        })
    }
}

/// The groups that a container is to have.
pub(crate) struct Plan {
    name: String,
    place: Option<Place>,
    /// As [`Limits::settings`] has them.
    settings: Vec<(&'static str, &'static str, String, bool)>,
}

impl Plan {
    /// Groups named `name` with these limits.
    pub(crate) fn new(name: &str, limits: &Limits) -> Self {
        let place = place();
        let mut settings = limits.settings(matches!(place, Some(Place::Unified { .. })));
        // A batch system counts and ends what is in the group of its job: leaving it is only for
        // those who ask for a limit.
        if !settings.iter().any(|(.., asked)| *asked) && std::env::var_os("SLURM_JOB_ID").is_some()
        {
            settings.clear();
        }
        Self { name: name.to_owned(), place, settings }
    }

    /// Where they will be.
    pub(crate) fn paths(&self) -> Vec<PathBuf> {
        let controllers = self.settings.iter().map(|(controller, ..)| *controller);
        let folder = |controller| Some(self.place.as_ref()?.folders(controller)?.0);
        let mut paths: Vec<PathBuf> =
            controllers.filter_map(folder).map(|parent| parent.join(&self.name)).collect();
        paths.dedup();
        paths
    }

    /// Makes them. The second answer says, for the user, which limit could not be set and why.
    pub(crate) fn make(self) -> (Groups, Option<String>) {
        let mut groups = Groups::default();
        let Some(place) = self.place else {
            let asked = self.settings.iter().any(|(.., asked)| *asked);
            let note = asked.then(|| "no limits are set: no cgroup file system is mounted".into());
            return (groups, note);
        };
        let mut missed = Vec::new();
        for (controller, file, value, asked) in self.settings {
            if let Err(error) = groups.set(&place, &self.name, controller, file, &value)
                && asked
            {
                missed.push(format!("the {controller} limit is not set ({error})"));
            }
        }
        let note = (!missed.is_empty()).then(|| missed.join(", "));
        (groups, note)
    }
}

/// The groups made for one container; they are removed when this is dropped.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    pub(crate) made: Vec<Group>,
    /// The group that this process is in, in one of the trees of those made.
    own: Option<PathBuf>,
}

impl Groups {
    /// Groups that another process made.
    pub(crate) fn of(made: Vec<Group>) -> Self {
        Self { made, own: None }
    }

    fn set(
        &mut self,
        place: &Place,
        name: &str,
        controller: &str,
        file: &str,
        value: &str,
    ) -> io::Result<()> {
        let missing =
            || io::Error::new(io::ErrorKind::NotFound, "the kernel has no such controller");
        let (parent, own) = place.folders(controller).ok_or_else(missing)?;
        let path = parent.join(name);
        let at = |path: &Path, error: io::Error| {
            io::Error::new(error.kind(), format!("{}: {error}", path.display()))
        };
        if !self.made.iter().any(|made| made.path == path) {
            fs::create_dir(&path).map_err(|error| at(&path, error))?;
            let opened = entrance(&path).map_err(|error| at(&path, error)).and_then(|entrance| {
                let parent = File::open(parent).map_err(|error| at(parent, error))?;
                Ok(Group { path: path.clone(), entrance, parent })
            });
            match opened {
                Ok(group) => {
                    self.made.push(group);
                    self.own = Some(own.to_owned());
                }
                Err(error) => {
                    // It is empty; the first error is the one to report.
                    let _ = fs::remove_dir(&path);
                    return Err(error);
                }
            }
        }
        let setting = path.join(file);
        if !setting.exists() && matches!(place, Place::Unified { .. }) {
            let switch = parent.join("cgroup.subtree_control");
            fs::write(&switch, format!("+{controller}")).map_err(|error| at(&switch, error))?;
        }
        fs::write(&setting, value).map_err(|error| at(&setting, error))
    }

    /// Puts the calling process into all of them.
    pub(crate) fn enter(&self) -> io::Result<()> {
        self.made.iter().try_for_each(|group| (&group.entrance).write_all(b"0"))
    }

    /// How often their memory limit has killed.
    pub(crate) fn memory_kills(&self) -> u64 {
        let count = |group: &Group| -> Option<u64> {
            let text = group.read("memory.events").or_else(|| group.read("memory.oom_control"))?;
            let line = text.lines().find_map(|line| line.strip_prefix("oom_kill "))?;
            line.trim().parse().ok()
        };
        self.made.iter().filter_map(count).sum()
    }

    /// Takes the kernel's wait for a change of groups ahead of time, in a thread.
    ///
    /// Moving a process to another group waits for an RCU grace period, some ten milliseconds
    /// (kernel/cgroup/cgroup.c, `cgroup_attach_lock`); a move that follows soon after does not wait again
    /// (kernel/rcu/sync.c). So this process is moved to the group it is in already, while the container is
    /// made, and the container's first process enters its own without a wait.
    pub(crate) fn expect_entry(&self) {
        if let Some(own) = self.own.as_deref().and_then(|own| entrance(own).ok()) {
            // Where it fails, the entry itself waits.
            let _ = std::thread::Builder::new().spawn(move || (&own).write_all(b"0"));
        }
    }
}

/// The file through which a process enters the group at `folder`.
fn entrance(folder: &Path) -> io::Result<File> {
    File::options().write(true).open(folder.join("cgroup.procs"))
}

impl Drop for Groups {
    fn drop(&mut self) {
        self.made.iter().for_each(|group| remove(&group.path));
    }
}

/// Removes a group, waiting a little for its last process to leave. The shim has removed it
/// already where it ended by itself; a group that stays is empty and harmless.
pub(crate) fn remove(path: &Path) {
    let _ = until_empty(|| fs::remove_dir(path));
}

fn until_empty(remove: impl Fn() -> io::Result<()>) -> io::Result<()> {
    for _ in 0..50 {
        match remove() {
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
                std::thread::sleep(std::time::Duration::from_millis(2));
            }
            other => return other,
        }
    }
    remove()
}

/// The machine has cgroup v2 at the usual place: asked of the mount alone, as `/proc/self/cgroup` waits
/// for whoever changes groups.
pub(crate) fn unified() -> bool {
    rustix::fs::statfs("/sys/fs/cgroup").is_ok_and(|about| about.f_type == CGROUP2_SUPER_MAGIC)
}

/// The smallest memory limit on this process's group and those above it, in bytes.
pub(crate) fn memory_limit() -> Option<u64> {
    let (folder, file, top) = match place()? {
        Place::Unified { mount, own } => (own, "memory.max", mount),
        Place::Split(trees) => {
            let memory = trees.into_iter().find(|(kind, _)| kind == "memory")?.1;
            (memory, "memory.limit_in_bytes", PathBuf::from("/sys/fs/cgroup/memory"))
        }
    };
    folder
        .ancestors()
        .take_while(|folder| folder.starts_with(&top))
        .filter_map(|folder| number_in(&folder.join(file)))
        .min()
}

/// The smallest quota of processor time on this process's group and those above it, in cores.
pub(crate) fn processor_limit() -> Option<f64> {
    let (folder, top) = match place()? {
        Place::Unified { mount, own } => (own, mount),
        Place::Split(trees) => {
            let own = trees.into_iter().find(|(kind, _)| kind == "cpu")?.1;
            let top = own.ancestors().find(|at| at.parent() == Some(Path::new("/sys/fs/cgroup")));
            (own.clone(), top.unwrap_or(&own).to_owned())
        }
    };
    let read = |file: PathBuf| fs::read_to_string(file).unwrap_or_default();
    folder
        .ancestors()
        .take_while(|folder| folder.starts_with(&top))
        .filter_map(|folder| {
            cores(&read(folder.join("cpu.max"))).or_else(|| {
                let quota = read(folder.join("cpu.cfs_quota_us"));
                cores(&format!("{} {}", quota.trim(), read(folder.join("cpu.cfs_period_us"))))
            })
        })
        .reduce(f64::min)
}

/// `400000 100000` is 4; `max 100000` and v1's `-1 100000` are no limit.
fn cores(text: &str) -> Option<f64> {
    let (quota, period) = text.trim().split_once(' ')?;
    let (quota, period) = (quota.parse::<u64>().ok()?, period.parse::<u64>().ok()?);
    (period > 0).then(|| quota as f64 / period as f64)
}

/// Read once: a process that starts containers stays where it is.
fn place() -> Option<Place> {
    static PLACE: LazyLock<Option<Place>> = LazyLock::new(|| {
        let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
        let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
        parse(&groups, &mounts)
    });
    PLACE.clone()
}

/// Puts `/proc/self/cgroup` and `/proc/self/mountinfo` together (cgroups(7), proc(5)).
fn parse(groups: &str, mounts: &str) -> Option<Place> {
    let group = |controller: &str| {
        groups.lines().find_map(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            let (names, path) = (fields.next()?, fields.next()?);
            names.split(',').any(|name| name == controller).then_some(path)
        })
    };
    // Fields: id, parent, device, root, mount point, options, optional fields, "-", type,
    // source, super options.
    let mount = |kind: &str, controller: &str| {
        mounts.lines().find_map(|line| {
            let (left, right) = line.split_once(" - ")?;
            let left: Vec<&str> = left.split(' ').collect();
            let right: Vec<&str> = right.split(' ').collect();
            let (root, point) = (*left.get(3)?, *left.get(4)?);
            let options = right.get(2)?;
            (right.first() == Some(&kind)
                && (controller.is_empty() || options.split(',').any(|option| option == controller)))
            .then(|| (PathBuf::from(root), PathBuf::from(point)))
        })
    };
    let join = |(root, point): (PathBuf, PathBuf), path: &str| {
        // Inside a container the mount may show a part of the tree only.
        let below = Path::new(path).strip_prefix(&root).unwrap_or(Path::new("")).to_owned();
        point.join(below)
    };
    let split = |controller: &str| Some(join(mount("cgroup", controller)?, group(controller)?));
    let trees: Vec<(String, PathBuf)> = ["memory", "cpu", "pids"]
        .iter()
        .filter_map(|kind| Some(((*kind).to_owned(), split(kind)?)))
        .collect();
    if !trees.is_empty() {
        return Some(Place::Split(trees));
    }
    let found = mount("cgroup2", "")?;
    let point = found.1.clone();
    Some(Place::Unified { own: join(found, group("")?), mount: point })
}

#[cfg(test)]
mod tests;
