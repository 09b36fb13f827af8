//! Limits on memory and processors, under cgroup v1, v2 and both.
//!
//! A group is made only when a limit is asked for; otherwise a container stays in its
//! caller's group, where batch systems count it. Where a limit cannot be set, the caller is
//! told once and the container runs without (cgroups(7); Documentation/admin-guide/
//! cgroup-v1 and cgroup-v2.rst).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::process::Pid;

use crate::memory::number_in;

/// The group in which process times are measured, in microseconds (the kernel's default).
const PERIOD: u64 = 100_000;

/// Where the groups of this process are.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    /// All controllers in one tree: its mount point and this process's group there.
    Unified { mount: PathBuf, own: PathBuf },
    /// A tree for each controller.
    Split { memory: Option<PathBuf>, cpu: Option<PathBuf> },
}

/// The groups made for one container; they are removed when this is dropped.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    folders: Vec<PathBuf>,
}

impl Groups {
    /// Makes groups named `name` with these limits and puts `process` into them. The second
    /// answer says, for the user, which limit could not be set and why.
    pub(crate) fn limit(
        process: Pid,
        name: &str,
        memory: Option<u64>,
        cpus: Option<f64>,
    ) -> (Self, Option<String>) {
        let mut groups = Self::default();
        if memory.is_none() && cpus.is_none() {
            return (groups, None);
        }
        let quota = cpus.map(|cpus| (cpus * PERIOD as f64).round().max(1000.0) as u64);
        let settings = match place() {
            Some(Place::Unified { mount, own }) => {
                // A group with processes cannot hand controllers to a child: the new group
                // stands beside its caller's.
                let parent =
                    if own == mount { mount } else { own.parent().unwrap_or(&mount).to_owned() };
                let group = parent.join(name);
                vec![
                    memory.map(|bytes| (group.clone(), "memory", "memory.max", bytes.to_string())),
                    quota.map(|quota| (group, "cpu", "cpu.max", format!("{quota} {PERIOD}"))),
                ]
            }
            Some(Place::Split { memory: memory_tree, cpu: cpu_tree }) => {
                let child = |tree: Option<PathBuf>| tree.unwrap_or_default().join(name);
                vec![
                    memory.map(|bytes| {
                        (child(memory_tree), "memory", "memory.limit_in_bytes", bytes.to_string())
                    }),
                    quota.map(|quota| {
                        (child(cpu_tree), "cpu", "cpu.cfs_quota_us", quota.to_string())
                    }),
                ]
            }
            None => Vec::new(),
        };
        if settings.is_empty() {
            return (
                groups,
                Some("no limits are set: there is no cgroup file system here".to_owned()),
            );
        }
        let mut missed = Vec::new();
        for (group, controller, file, value) in settings.into_iter().flatten() {
            if let Err(error) = groups.set(process, &group, controller, file, &value) {
                missed.push(format!("the {controller} limit is not set ({error})"));
            }
        }
        let note = (!missed.is_empty()).then(|| missed.join(", "));
        (groups, note)
    }

    fn set(
        &mut self,
        process: Pid,
        group: &Path,
        controller: &str,
        file: &str,
        value: &str,
    ) -> io::Result<()> {
        if group.is_relative() {
            return Err(io::Error::new(
                io::ErrorKind::NotFound,
                "this machine has no such controller",
            ));
        }
        let at = |path: &Path, error: io::Error| {
            io::Error::new(error.kind(), format!("{}: {error}", path.display()))
        };
        if !self.folders.iter().any(|made| made == group) {
            match fs::create_dir(group) {
                // A run that was killed may have had this process's number.
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(at(group, error));
                }
                _ => {}
            }
            self.folders.push(group.to_owned());
        }
        let setting = group.join(file);
        if !setting.exists()
            && let Some(parent) = group.parent()
        {
            let switch = parent.join("cgroup.subtree_control");
            fs::write(&switch, format!("+{controller}")).map_err(|error| at(&switch, error))?;
        }
        fs::write(&setting, value).map_err(|error| at(&setting, error))?;
        let processes = group.join("cgroup.procs");
        fs::write(&processes, process.as_raw_nonzero().to_string())
            .map_err(|error| at(&processes, error))
    }
}

impl Drop for Groups {
    fn drop(&mut self) {
        for folder in &self.folders {
            // The last process may be leaving still; a group that stays is empty and harmless.
            for _ in 0..50 {
                match fs::remove_dir(folder) {
                    Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
                        std::thread::sleep(std::time::Duration::from_millis(2));
                    }
                    _ => break,
                }
            }
        }
    }
}

/// The machine has cgroup v2 and nothing else at the usual place.
pub(crate) fn unified() -> bool {
    matches!(place(), Some(Place::Unified { .. }))
}

/// The smallest memory limit on this process's group and those above it, in bytes.
pub(crate) fn memory_limit() -> Option<u64> {
    let (folder, file, top) = match place()? {
        Place::Unified { mount, own } => (own, "memory.max", mount),
        Place::Split { memory, .. } => {
            (memory?, "memory.limit_in_bytes", PathBuf::from("/sys/fs/cgroup/memory"))
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
        Place::Split { cpu, .. } => {
            let own = cpu?;
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

fn place() -> Option<Place> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    parse(&groups, &mounts)
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
    let (memory, cpu) = (split("memory"), split("cpu"));
    if memory.is_some() || cpu.is_some() {
        return Some(Place::Split { memory, cpu });
    }
    let found = mount("cgroup2", "")?;
    let point = found.1.clone();
    Some(Place::Unified { own: join(found, group("")?), mount: point })
}

#[cfg(test)]
mod tests {
    use super::*;

    const V1: &str = "30 25 0:26 / /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory\n\
                      31 25 0:27 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
                      32 25 0:28 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";

    #[test]
    fn quotas_are_cores() {
        assert_eq!(cores("400000 100000\n"), Some(4.0));
        assert_eq!(cores("50000 100000"), Some(0.5));
        for none in ["max 100000", "-1 100000", "", "1", "1 0"] {
            assert_eq!(cores(none), None, "{none}");
        }
    }

    #[test]
    fn each_layout_is_read() {
        let hybrid = parse("4:memory:/job/7\n2:cpu,cpuacct:/\n0::/\n", V1);
        assert_eq!(
            hybrid,
            Some(Place::Split {
                memory: Some("/sys/fs/cgroup/memory/job/7".into()),
                cpu: Some("/sys/fs/cgroup/cpu,cpuacct".into()),
            })
        );
        let v2 = "30 25 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
        assert_eq!(
            parse("0::/user.slice/a.scope\n", v2),
            Some(Place::Unified {
                mount: "/sys/fs/cgroup".into(),
                own: "/sys/fs/cgroup/user.slice/a.scope".into(),
            })
        );
        let part = "30 25 0:26 /docker/x /sys/fs/cgroup ro - cgroup2 cgroup rw\n";
        assert_eq!(
            parse("0::/docker/x/y\n", part),
            Some(Place::Unified { mount: "/sys/fs/cgroup".into(), own: "/sys/fs/cgroup/y".into() })
        );
        assert_eq!(parse("", ""), None);
        assert_eq!(parse("0::/\n", "broken\n"), None);
    }
}
