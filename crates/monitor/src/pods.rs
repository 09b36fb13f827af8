//! Which pod has which GPU: from the kubelet, and from the names of the folders with the pods' logs.
//!
//! A thread of its own asks, so that a kubelet that hangs or lies holds up no sample.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::Errno;

use crate::grpc::Failed;
use crate::kubelet::{self, Given};
use crate::sample::{Gpu, Workload};

/// Where the kubelet's socket is (kubernetes/kubernetes `pkg/kubelet/config/defaults.go` and `apis/podresources`).
pub const SOCKET: &str = "/var/lib/kubelet/pod-resources/kubelet.sock";
/// Where the kubelet keeps the pods' logs: a folder `<namespace>_<name>_<uid>` for each.
pub const LOGS: &str = "/var/log/pods";
/// How often it is asked, whatever happens.
const EVERY: Duration = Duration::from_secs(15);
/// How often at most.
const RARELY: Duration = Duration::from_secs(1);
/// How long an answer holds where no other comes: a kubelet that is started anew takes less.
const STALE: Duration = Duration::from_secs(60);
/// The most folders of logs.
const MOST_PODS: usize = 16_384;

/// Where pods are looked for.
#[derive(Clone, Debug)]
pub struct Places {
    /// The kubelet's socket.
    pub socket: PathBuf,
    /// It must be there; a machine without a kubelet has none, and that is no news.
    pub expected: bool,
    /// The pods' logs.
    pub logs: PathBuf,
    /// How long the first sample waits for the first answer.
    pub first: Duration,
}

impl Default for Places {
    fn default() -> Self {
        Self {
            socket: PathBuf::from(SOCKET),
            expected: false,
            logs: PathBuf::from(LOGS),
            first: Duration::ZERO,
        }
    }
}

/// What is known of this machine's pods; a thread finds it out for as long as this lives.
pub(crate) struct Pods {
    shared: Arc<Shared>,
    /// The processes of the sample before.
    processes: Vec<(u32, u32)>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    woken: Condvar,
    answered: Condvar,
}

#[derive(Default)]
struct State {
    given: Vec<Given>,
    at: Option<Instant>,
    why: Option<String>,
    /// Namespace and name by uid.
    names: HashMap<String, (String, String)>,
    /// How often was asked.
    rounds: u64,
    wanted: bool,
    over: bool,
}

impl Pods {
    pub(crate) fn watch(places: &Places) -> Option<Self> {
        let shared: Arc<Shared> = Arc::default();
        let (places, first) = (places.clone(), places.first);
        let its = Arc::clone(&shared);
        let builder = thread::Builder::new().name("pods".to_owned()).stack_size(256 << 10);
        builder.spawn(move || keep(&places, &its)).ok()?;
        let state = shared.state.lock().unwrap_or_else(PoisonError::into_inner);
        drop(shared.answered.wait_timeout_while(state, first, |state| state.rounds == 0));
        Some(Self { shared, processes: Vec::new() })
    }

    /// Names the pods of processes, and those that hold a GPU; says why the kubelet tells nothing, where it should.
    pub(crate) fn name(&mut self, gpus: &mut [Gpu]) -> Option<String> {
        let processes = |gpu: &Gpu| {
            let ids = gpu.processes.iter().flatten().map(|process| process.pid);
            ids.map(|pid| (gpu.index, pid)).collect::<Vec<_>>()
        };
        let processes: Vec<_> = gpus.iter().flat_map(processes).collect();
        let mut state = self.shared.state.lock().unwrap_or_else(PoisonError::into_inner);
        if processes != self.processes {
            self.processes = processes;
            state.wanted = true;
            self.shared.woken.notify_one();
        }
        for process in gpus.iter_mut().flat_map(|gpu| gpu.processes.iter_mut().flatten()) {
            let workload = &mut process.workload;
            if let Some((namespace, pod)) = state.names.get(&workload.pod_uid) {
                workload.namespace.clone_from(namespace);
                workload.pod.clone_from(pod);
            }
        }
        if state.at.is_some_and(|at| at.elapsed() < STALE) {
            for given in &state.given {
                hold(gpus, given);
            }
        }
        state.why.clone()
    }
}

impl Drop for Pods {
    fn drop(&mut self) {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner).over = true;
        self.shared.woken.notify_one();
    }
}

/// Puts a pod to the GPU, or the instance of one, that it was given; a device of no GPU of this machine is nobody's.
fn hold(gpus: &mut [Gpu], given: &Given) {
    let workload = || Workload {
        runtime: "kubernetes".to_owned(),
        name: given.container.clone(),
        pod: given.pod.clone(),
        namespace: given.namespace.clone(),
        ..Workload::default()
    };
    for gpu in gpus {
        if gpu.uuid == given.device {
            gpu.holders.push(workload());
        }
        for instance in gpu.instances.iter_mut().filter(|one| one.uuid == given.device) {
            instance.holders.push(workload());
        }
    }
}

fn keep(places: &Places, shared: &Shared) {
    loop {
        let began = Instant::now();
        let names = named(&places.logs);
        let answer = kubelet::ask(&places.socket);
        let mut state = shared.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.names = names;
        state.rounds += 1;
        match answer {
            Ok(given) => {
                state.given = given;
                state.at = Some(Instant::now());
                state.why = None;
            }
            Err(Failed::Connect(Errno::NOENT | Errno::NOTDIR))
                if !places.expected && state.at.is_none() =>
            {
                state.why = None;
            }
            Err(failed) => state.why = Some(why(&places.socket, &failed)),
        }
        shared.answered.notify_all();
        // What changed meanwhile is asked for once more.
        let least = RARELY.saturating_sub(began.elapsed());
        let over = |state: &mut State| !state.over;
        let waited = shared.woken.wait_timeout_while(state, least, over);
        let state = waited.unwrap_or_else(PoisonError::into_inner).0;
        let quiet = |state: &mut State| !state.over && !state.wanted;
        let waited = shared.woken.wait_timeout_while(state, EVERY.saturating_sub(least), quiet);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner).0;
        if state.over {
            return;
        }
        state.wanted = false;
    }
}

/// What is said of a kubelet that tells nothing, with what to do.
fn why(socket: &Path, failed: &Failed) -> String {
    let what = match failed {
        Failed::Connect(Errno::ACCESS | Errno::PERM) => {
            "it is root's: run the monitor as root, or as a DaemonSet that mounts the socket's folder (docs/monitor.md)"
        }
        Failed::Connect(Errno::NOENT | Errno::NOTDIR) => {
            "no such socket: in a pod, mount its folder with hostPath (docs/monitor.md)"
        }
        Failed::Connect(Errno::CONNREFUSED) => {
            "no kubelet listens: `systemctl status kubelet` says why"
        }
        Failed::Connect(Errno::AGAIN) => "it takes no more connections",
        Failed::Status(12, _) => "pods are listed by Kubernetes 1.20 and later",
        _ => "",
    };
    let what = if what.is_empty() { String::new() } else { format!(" ({what})") };
    format!("the kubelet at {} does not name the pods: {failed}{what}", socket.display())
}

/// The pods by the folders of their logs. Those of static pods have 32 digits for a uid, as their control groups.
fn named(logs: &Path) -> HashMap<String, (String, String)> {
    let mut found = HashMap::new();
    let Ok(entries) = std::fs::read_dir(logs) else { return found };
    for entry in entries.flatten().take(MOST_PODS) {
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        let mut parts = name.split('_');
        let (Some(namespace), Some(pod), Some(uid), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            continue;
        };
        if !namespace.is_empty() && !pod.is_empty() && (32..=36).contains(&uid.len()) {
            found.insert(uid.to_owned(), (namespace.to_owned(), pod.to_owned()));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::Process;

    const UID: &str = "0123abcd-0123-4567-89ab-0123456789ab";

    /// The pod of a process by the folder of its logs, without a kubelet.
    #[test]
    fn names_by_logs() {
        let folder = tempfile::tempdir().unwrap();
        for name in [&format!("ml_train-0_{UID}"), "ml_odd", "a_b_c", "ml_x_y_z"] {
            std::fs::create_dir(folder.path().join(name)).unwrap();
        }
        let hostile = format!("a\"b\n_c\\d_{}", UID.replace('-', ""));
        std::fs::create_dir(folder.path().join(hostile)).unwrap();
        let places = Places {
            socket: folder.path().join("none/kubelet.sock"),
            logs: folder.path().to_owned(),
            first: Duration::from_secs(20),
            ..Places::default()
        };
        let of = |uid: &str| {
            let workload = Workload { pod_uid: uid.to_owned(), ..Workload::default() };
            Process { workload, ..Process::default() }
        };
        let uids = [UID, &UID.replace('-', ""), "other", ""];
        let processes = Some(uids.into_iter().map(of).collect());
        let mut gpus = [Gpu { processes, ..Gpu::default() }];
        assert_eq!(Pods::watch(&places).unwrap().name(&mut gpus), None);
        let names: Vec<_> = gpus[0].processes.iter().flatten().map(|one| &one.workload).collect();
        let names: Vec<_> = names.iter().map(|one| (&*one.namespace, &*one.pod)).collect();
        assert_eq!(names, [("ml", "train-0"), ("a\"b\n", "c\\d"), ("", ""), ("", "")]);
    }
}
