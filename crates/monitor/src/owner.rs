//! Whose a process is: from /proc alone, which needs no privileges, and from what our own containers say of
//! themselves.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use crate::sample::Workload;

/// Bytes read of a file of /proc or of /etc/passwd.
const LIMIT: u64 = 1 << 20;
/// How far a process's ancestors are followed.
const MOST_ANCESTORS: usize = 64;
/// Processes that are remembered.
const MOST_REMEMBERED: usize = 16_384;

/// A container of our own that runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnContainer {
    /// Its first process, as the host counts.
    pub pid: u32,
    /// What is known of it.
    pub workload: Workload,
    /// The numbers of the GPUs that were given to it.
    pub gpus: Vec<u32>,
}

/// Reads /proc, and remembers what it has read.
pub struct Owners {
    proc: PathBuf,
    known: HashMap<u32, Known>,
    users: Vec<(u32, String)>,
    own: Vec<OwnContainer>,
}

/// What is known of a process.
#[derive(Clone, Debug, Default)]
pub struct Known {
    started: String,
    /// Who started it, while that one lives.
    pub parent: Option<u32>,
    /// What the kernel calls it.
    pub name: String,
    /// Whose it is.
    pub user: Option<String>,
    /// What it runs in.
    pub workload: Workload,
}

impl Owners {
    /// Of this machine, or of another `/proc` and `/etc/passwd`.
    pub fn new(proc: &Path, passwd: &Path) -> Self {
        let text = sconce_open::read_to_string(passwd, LIMIT).unwrap_or_default();
        let users = text.lines().filter_map(|line| {
            let mut fields = line.split(':');
            let (name, uid) = (fields.next()?, fields.nth(1)?);
            Some((uid.parse().ok()?, name.to_owned()))
        });
        let users = users.collect();
        Self { proc: proc.to_owned(), known: HashMap::new(), users, own: Vec::new() }
    }

    /// The containers of our own that run now.
    pub fn set_own(&mut self, own: Vec<OwnContainer>) {
        if self.own != own {
            self.known.clear();
            self.own = own;
        }
    }

    /// Our own containers that were given this GPU.
    pub fn holders(&self, gpu: u32) -> Vec<Workload> {
        let of = self.own.iter().filter(|own| own.gpus.contains(&gpu));
        of.map(|own| own.workload.clone()).collect()
    }

    /// What is known of a process; nothing of one that is not in this /proc.
    pub fn of(&mut self, pid: u32) -> Known {
        let Some((started, parent)) = self.stat(pid) else { return Known::default() };
        if let Some(known) = self.known.get(&pid).filter(|known| known.started == started) {
            return Known { parent: starter(parent), ..known.clone() };
        }
        let read = |name: &str| self.read(pid, name);
        let name = read("comm").unwrap_or_default().trim_end_matches('\n').to_owned();
        let uid = read("status").and_then(|text| {
            let line =
                text.lines().find_map(|line| line.strip_prefix("Uid:").map(str::to_owned))?;
            line.split_whitespace().next()?.parse::<u32>().ok()
        });
        let user = uid.map(|uid| {
            let known = self.users.iter().find(|(known, _)| *known == uid);
            known.map_or_else(|| uid.to_string(), |(_, name)| name.clone())
        });
        let cgroup = of_cgroup(&read("cgroup").unwrap_or_default());
        let mut workload = self.own_of(pid, parent).unwrap_or_else(|| cgroup.clone());
        // A container of ours within a job of Slurm is in that job.
        workload.slurm_job.clone_from(&cgroup.slurm_job);
        let known = Known { started, parent: starter(parent), name, user, workload };
        if self.known.len() >= MOST_REMEMBERED {
            self.known.clear();
        }
        self.known.insert(pid, known.clone());
        known
    }

    /// Our container among whose first processes' descendants it is.
    fn own_of(&self, pid: u32, parent: u32) -> Option<Workload> {
        let (mut at, mut next) = (pid, parent);
        for _ in 0..MOST_ANCESTORS {
            if let Some(own) = self.own.iter().find(|own| own.pid == at) {
                return Some(own.workload.clone());
            }
            if next <= 1 {
                return None;
            }
            at = next;
            next = self.stat(at)?.1;
        }
        None
    }

    fn read(&self, pid: u32, name: &str) -> Option<String> {
        let path = self.proc.join(pid.to_string()).join(name);
        let bytes = sconce_open::read(&path, LIMIT).ok()?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// When it started, in ticks since the machine did, and its parent (proc(5): the name may hold anything, also `)`).
    fn stat(&self, pid: u32) -> Option<(String, u32)> {
        let text = self.read(pid, "stat")?;
        let fields = text.rsplit_once(')')?.1;
        let mut fields = fields.split_whitespace();
        let parent = fields.nth(1)?.parse().ok()?;
        Some((fields.nth(17)?.to_owned(), parent))
    }
}

/// A parent that tells something: one whose own has ended is process 1's.
fn starter(parent: u32) -> Option<u32> {
    Some(parent).filter(|parent| *parent > 1)
}

/// What a process's control groups say: those that Docker, podman, containerd, CRI-O, Kubernetes and Slurm make.
///
/// ```text
/// 0::/system.slice/docker-<64 hex>.scope
/// 0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod<uid>.slice/cri-containerd-<64 hex>.scope
/// 0::/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-<64 hex>.scope/container
/// 0::/system.slice/slurmstepd.scope/job_123/step_0/user/task_0
/// 5:memory:/kubepods/burstable/pod<uid>/<64 hex>
/// ```
pub fn of_cgroup(text: &str) -> Workload {
    let mut found = Workload::default();
    for line in text.lines().take(64) {
        let Some(path) = line.splitn(3, ':').nth(2) else { continue };
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).take(64).collect();
        for (at, part) in parts.iter().enumerate() {
            let bare = part.strip_suffix(".scope").unwrap_or(part);
            let id = bare.rsplit('-').next().filter(|id| is_id(id));
            let before = at.checked_sub(1).and_then(|at| parts.get(at)).copied().unwrap_or("");
            let runtime = match bare.rsplit_once('-').map_or("", |(runtime, _)| runtime) {
                "docker" => "docker",
                "libpod" => "podman",
                "cri-containerd" | "containerd" => "containerd",
                "crio" => "cri-o",
                "" if before == "docker" => "docker",
                "" if before == "libpod_parent" => "podman",
                "" if before.contains("pod") => "kubernetes",
                _ => "",
            };
            if let (Some(id), false) = (id, runtime.is_empty())
                && found.container.is_empty()
            {
                found.container = id.to_owned();
                if found.runtime.is_empty() {
                    found.runtime = runtime.to_owned();
                }
            }
            if let Some(uid) = pod_uid(part) {
                found.runtime = "kubernetes".to_owned();
                found.pod_uid = uid;
            }
            let job = part.strip_prefix("job_").filter(|job| is_number(job));
            if let Some(job) = job.filter(|_| path.contains("slurm")) {
                found.slurm_job = job.to_owned();
                if found.runtime.is_empty() {
                    found.runtime = "slurm".to_owned();
                }
            }
        }
    }
    found
}

fn is_id(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn is_number(text: &str) -> bool {
    (1..=12).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// `pod<uid>` or `kubepods-burstable-pod<uid>.slice`, in which `_` stands for `-`.
fn pod_uid(part: &str) -> Option<String> {
    let bare = part.strip_suffix(".slice").unwrap_or(part);
    let uid = bare.strip_prefix("pod").or_else(|| {
        let (before, uid) = bare.rsplit_once("-pod")?;
        before.starts_with("kubepods").then_some(uid)
    })?;
    let uid = uid.replace('_', "-");
    let digits = uid.bytes().filter(u8::is_ascii_hexdigit).count();
    let plain = uid.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    (digits == 32 && plain && uid.len() <= 36).then_some(uid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_groups_of_engines() {
        let id = "a".repeat(64);
        let uid = "0123abcd-0123-4567-89ab-0123456789ab";
        let low = uid.replace('-', "_");
        for (path, runtime, container, pod, job) in [
            (format!("0::/system.slice/docker-{id}.scope"), "docker", true, false, ""),
            (format!("5:memory:/docker/{id}"), "docker", true, false, ""),
            (
                format!("0::/user.slice/user@1000.service/user.slice/libpod-{id}.scope/container"),
                "podman",
                true,
                false,
                "",
            ),
            (
                format!(
                    "0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{low}.slice/cri-containerd-{id}.scope"
                ),
                "kubernetes",
                true,
                true,
                "",
            ),
            (format!("4:cpu:/kubepods/besteffort/pod{uid}/{id}"), "kubernetes", true, true, ""),
            (
                "0::/system.slice/slurmstepd.scope/job_4711/step_0/user/task_0".to_owned(),
                "slurm",
                false,
                false,
                "4711",
            ),
            ("0::/user.slice/session-1.scope".to_owned(), "", false, false, ""),
            // Names that only look like it.
            ("0::/system.slice/docker-nothing.scope/job_x".to_owned(), "", false, false, ""),
            (format!("0::/my-podcast.slice/{}", &id[1..]), "", false, false, ""),
        ] {
            let found = of_cgroup(&path);
            assert_eq!(found.runtime, runtime, "{path}");
            assert_eq!(!found.container.is_empty(), container, "{path}");
            assert_eq!(found.pod_uid == uid, pod, "{path}");
            assert_eq!(found.slurm_job, job, "{path}");
        }
    }
}
