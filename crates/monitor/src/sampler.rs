//! The sampler: a thread that makes a [`Sample`] at every interval, whatever single GPUs do.
//!
//! Each GPU is asked by a thread of its own; the sampler takes what has come in time. A GPU that does not answer keeps its
//! last values, with their age. A session of NVML is opened anew when a GPU is lost, the number of GPUs changes or
//! the driver was away, but never while a call of the old one is still out.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use sconce_facts::Action;
use sconce_gpu::nvml::events::Events;
use sconce_gpu::nvml::session::Session;
use sconce_gpu::nvml::{self, Fabric};

use crate::kernel::KernelLog;
use crate::owner::{OwnContainer, Owners};
use crate::pods::{Places, Pods};
use crate::ports::{INFINIBAND, Ports};
use crate::sample::{Event, EventKind, Gpu, Process, SAME_MS, Sample, UNKNOWN};
use crate::worker::{Found, Look, Worker};

/// How long the first answers may take.
const FIRST: Duration = Duration::from_secs(5);
/// How long after one attempt to open NVML anew the next follows.
const REOPEN: Duration = Duration::from_secs(30);
/// How long threads may take to come out of NVML; the wait for events lasts half a second at most.
const LAST: Duration = Duration::from_secs(2);
/// How often it is looked whether something happened, where samples are further apart, or a GPU takes long to answer.
const TICK: Duration = Duration::from_secs(1);
/// How long a GPU may take to answer at most, however far samples are apart.
const LOOK: Duration = Duration::from_secs(10);
/// How often our own containers are looked for.
const OWN: Duration = Duration::from_secs(5);
/// How long NVML's report of an error waits for the kernel's line where that says how bad it is.
const FOR_LINE: Duration = Duration::from_millis(800);
/// The inode of the first namespace of process ids (include/linux/proc_ns.h, PROC_PID_INIT_INO).
const FIRST_PIDS: &str = "pid:[4026531836]";

/// Finds our own containers that run.
pub type FindOwn = Box<dyn FnMut() -> Vec<OwnContainer> + Send>;

/// Finds the driver's NVML.
pub type FindLibrary = Box<dyn FnMut() -> PathBuf + Send>;

/// Is told at once what happened before the next sample is due, and says whether to go on. The sample has it as well.
pub type Between = Box<dyn FnMut(Vec<Event>) -> bool>;

/// What a sampler is to do.
pub struct Options {
    /// Finds NVML: asked each time that it is opened, as a replaced driver has another.
    pub library: FindLibrary,
    /// How often.
    pub interval: Duration,
    /// Where the kernel's log is.
    pub kernel_log: PathBuf,
    /// Where ports of InfiniBand are.
    pub infiniband: PathBuf,
    /// Where pods are looked for; absent where nobody wants to know.
    pub pods: Option<Places>,
    /// Finds our own containers.
    pub own: FindOwn,
    /// Whether errors are waited for; who looks once has no use for them.
    pub listen: bool,
    /// Who does not wait for the next sample.
    pub between: Option<Between>,
}

impl Options {
    /// Usual ones.
    pub fn new(library: FindLibrary, own: FindOwn) -> Self {
        Self {
            library,
            interval: Duration::from_secs(1),
            kernel_log: PathBuf::from("/dev/kmsg"),
            infiniband: PathBuf::from(INFINIBAND),
            pods: Some(Places::default()),
            own,
            listen: true,
            between: None,
        }
    }
}

/// Milliseconds since 1970.
pub fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

/// Takes samples for as long as `wanted` says so.
pub fn run(mut options: Options, mut wanted: impl FnMut(Sample) -> bool) {
    let log = KernelLog::open(&options.kernel_log).ok();
    let mut owners = Owners::new(Path::new("/proc"), Path::new("/etc/passwd"));
    let ports = Ports::watch(&options.infiniband);
    let mut pods = options.pods.as_ref().and_then(Pods::watch);
    let mut own_at: Option<Instant> = None;
    let pids = std::fs::read_link("/proc/self/ns/pid");
    let sees_processes = pids.is_ok_and(|pids| pids.as_os_str() == FIRST_PIDS);
    let mut machine = Machine { log, sees_processes, ..Machine::default() };
    let mut next = Instant::now();
    loop {
        if own_at.is_none_or(|at| at.elapsed() >= OWN) {
            owners.set_own((options.own)());
            own_at = Some(Instant::now());
        }
        machine.keep_open(&mut options);
        let patience = if machine.first { FIRST } else { options.interval.mul_f64(0.8).min(LOOK) };
        let end = Instant::now() + patience;
        machine.ask();
        while !machine.gather(end.min(Instant::now() + TICK)) && Instant::now() < end {
            if !machine.tick(&mut options) {
                break;
            }
        }
        let mut sample = machine.sample(now_ms(), &mut owners);
        sample.kubelet = pods.as_mut().and_then(|pods| pods.name(&mut sample.gpus));
        sample.ports = ports.as_ref().map(Ports::now).unwrap_or_default();
        if !wanted(sample) {
            return machine.end();
        }
        next += options.interval;
        let now = Instant::now();
        // Behind by more than an interval: no row of samples to catch up.
        if next + options.interval < now {
            next = now;
        }
        loop {
            thread::sleep(next.saturating_duration_since(Instant::now()).min(TICK));
            if Instant::now() >= next {
                break;
            }
            if !machine.tick(&mut options) {
                if machine.told.is_empty() {
                    return machine.end();
                }
                // What was told of is in a sample, also in the last.
                break;
            }
        }
    }
}

/// The GPUs as they were last seen, and the session that sees them.
#[derive(Default)]
struct Machine {
    open: Option<Open>,
    generation: u64,
    tried: Option<Instant>,
    /// How long after an attempt another number of GPUs leads to the next: longer each time where the number does not rest.
    news: Duration,
    silence: Option<String>,
    driver: Option<String>,
    /// By UUID.
    gpus: BTreeMap<String, Seen>,
    /// At the first look there is nothing older to show.
    first: bool,
    log: Option<KernelLog>,
    sees_processes: bool,
    /// What happened lately, from whatever source.
    reported: Vec<Event>,
    /// What was told of between samples, for the next one.
    told: Vec<Event>,
    /// What NVML reported and the kernel's line has not come of.
    waiting: Vec<Event>,
}

/// Errors that NVML reported and no sample has yet: the session's number of the GPU, the error's.
type Reported = Arc<Mutex<Vec<(usize, Option<u32>)>>>;

struct Open {
    session: Arc<Session>,
    workers: Vec<(String, Worker)>,
    answers: Receiver<Found>,
    events: Reported,
    over: Arc<AtomicBool>,
    waiter: Option<thread::JoinHandle<()>>,
    /// The session's numbers of the GPUs.
    handles: Vec<(usize, String)>,
    count: u32,
}

struct Seen {
    gpu: Gpu,
    at: Instant,
}

impl Machine {
    /// Opens NVML where it is not, or where it no longer sees what is there.
    fn keep_open(&mut self, options: &mut Options) {
        let lost = self.gpus.values().any(|seen| seen.gpu.lost.is_some());
        // One that was lost when the session began did not say then who it is.
        let named = |open: &Open| {
            let mut nameless = open.handles.iter().filter(|(_, uuid)| uuid.starts_with(UNKNOWN));
            nameless.any(|(handle, _)| open.session.identity(*handle).uuid.is_some())
        };
        // One call each time, and not all GPUs counted through.
        let recounted =
            self.open.as_ref().is_some_and(|open| open.session.count() != Ok(open.count));
        let stale = match &self.open {
            None => true,
            Some(open) => {
                let free = open.workers.iter().all(|(_, worker)| !worker.busy);
                free && (recounted || lost || named(open))
            }
        };
        let patience = (options.interval * 30).clamp(Duration::from_secs(1), REOPEN);
        let since = self.tried.map(|at| at.elapsed());
        // Another number is news, and seen at once; what an attempt did not mend is tried again after a while.
        let wait = if recounted { self.news } else { patience };
        if !stale || since.is_some_and(|since| since < wait) {
            return;
        }
        self.tried = Some(Instant::now());
        self.news = match since {
            Some(since) if since < patience => (self.news * 2).min(patience),
            _ => options.interval / 2,
        };
        if let Some(open) = self.open.take() {
            open.end();
        }
        self.generation += 1;
        match Open::new(&(options.library)(), self.generation, &mut self.gpus) {
            Ok(mut open) => {
                if options.listen {
                    open.listen();
                }
                self.driver = open.session.driver().filter(|version| !version.trim().is_empty());
                self.silence = None;
                self.open = Some(open);
                self.first = true;
            }
            Err(why) => self.silence = Some(why),
        }
    }

    /// Asks every GPU.
    fn ask(&mut self) {
        let Some(open) = &mut self.open else { return };
        self.first = false;
        for (_, worker) in &mut open.workers {
            worker.ask();
        }
    }

    /// Takes what comes until then; whether that is all.
    fn gather(&mut self, end: Instant) -> bool {
        let Some(open) = &mut self.open else { return true };
        while open.workers.iter().any(|(_, worker)| worker.busy) {
            let left = end.saturating_duration_since(Instant::now());
            let found = match open.answers.recv_timeout(left) {
                Ok(found) => found,
                Err(RecvTimeoutError::Timeout) => return false,
                Err(RecvTimeoutError::Disconnected) => return true,
            };
            if found.generation != self.generation {
                continue;
            }
            let Some((uuid, worker)) = open.workers.get_mut(found.worker) else { continue };
            worker.busy = false;
            let Some(seen) = self.gpus.get_mut(uuid) else { continue };
            seen.at = Instant::now();
            match found.what {
                Ok(look) => seen.take(*look),
                Err(code) => seen.gpu.lost = Some(code),
            }
        }
        true
    }

    /// Tells of what happened, where somebody wants to know before the next sample; whether to go on.
    fn tick(&mut self, options: &mut Options) -> bool {
        let Some(between) = &mut options.between else { return true };
        let news = self.news();
        self.told.extend(news.iter().cloned());
        between(news)
    }

    fn end(mut self) {
        if let Some(open) = self.open.take() {
            open.end();
        }
    }

    /// What happened since it was asked last: each error once, with its GPU.
    fn news(&mut self) -> Vec<Event> {
        let mut events = self.events();
        if let Some(log) = &mut self.log {
            events.extend(log.news(now_ms()));
            let waits = |event: &Event| {
                let row = event.code.and_then(sconce_facts::xid).map(|row| row.action);
                event.kind == EventKind::Xid
                    && event.line.is_empty()
                    && matches!(row, Some(Action::ByLine | Action::ByLink))
                    && now_ms().abs_diff(event.at_ms) < FOR_LINE.as_millis() as u64
            };
            let (waiting, ready) = events.into_iter().partition(waits);
            (self.waiting, events) = (waiting, ready);
        }
        let mut events = self.once(events);
        // The kernel's log is the whole machine's: in a container, errors of GPUs that it was not given are others'.
        events.retain(|event| {
            self.sees_processes || event.kind != EventKind::Xid || !event.uuid.is_empty()
        });
        events
    }

    /// The errors that NVML reported.
    fn events(&mut self) -> Vec<Event> {
        let mut all = std::mem::take(&mut self.waiting);
        let Some(open) = &self.open else { return all };
        let mut pending = open.events.lock().unwrap_or_else(PoisonError::into_inner);
        let events = pending.drain(..).map(|(handle, code)| {
            let of = |(known, _): &&(usize, String)| *known == handle;
            let uuid = open.handles.iter().find(of).map(|(_, uuid)| uuid.clone());
            Event {
                at_ms: now_ms(),
                kind: EventKind::Xid,
                uuid: uuid.unwrap_or_default(),
                code,
                ..Event::default()
            }
        });
        all.extend(events);
        all
    }

    fn sample(&mut self, at_ms: u64, owners: &mut Owners) -> Sample {
        let mut gpus: Vec<Gpu> = Vec::new();
        for seen in self.gpus.values() {
            let mut gpu = seen.gpu.clone();
            gpu.age_ms = u64::try_from(seen.at.elapsed().as_millis()).unwrap_or(u64::MAX);
            gpu.holders = owners.holders(gpu.index);
            for process in gpu.processes.iter_mut().flatten() {
                let known = owners.of(process.pid);
                process.parent = known.parent;
                process.name = known.name;
                process.user = known.user;
                process.workload = known.workload;
            }
            gpus.push(gpu);
        }
        gpus.sort_by_key(|gpu| gpu.index);
        let mut events = std::mem::take(&mut self.told);
        events.extend(self.news());
        let (driver, silence) = (self.driver.clone(), self.silence.clone());
        let (kernel_log, sees_processes) = (self.log.is_some(), self.sees_processes);
        let xid_events = self.open.as_ref().is_some_and(|open| open.waiter.is_some());
        let ports = Vec::new();
        Sample {
            at_ms,
            driver,
            silence,
            kernel_log,
            xid_events,
            sees_processes,
            gpus,
            ports,
            events,
            kubelet: None,
        }
    }

    /// Each error once, with its GPU.
    fn once(&mut self, events: Vec<Event>) -> Vec<Event> {
        let mut news = Vec::new();
        for mut event in events {
            let same_place = |gpu: &&Gpu| {
                !event.bus_id.is_empty() && gpu.bus_id.starts_with(event.bus_id.as_str())
            };
            let mut gpus = self.gpus.values().map(|seen| &seen.gpu);
            let gpu = self.gpus.get(&event.uuid).map(|seen| &seen.gpu);
            if let Some(gpu) = gpu.or_else(|| gpus.find(same_place)) {
                event.uuid.clone_from(&gpu.uuid);
                if event.bus_id.is_empty() {
                    event.bus_id.clone_from(&gpu.bus_id);
                }
            }
            let known = self.reported.iter_mut().find(|old| event.is_other_report_of(old));
            match known {
                // The line has said it all.
                Some(_) if event.line.is_empty() => {}
                Some(known) => {
                    known.clone_from(&event);
                    // Of both in one go the line alone is told of.
                    news.retain(|other: &Event| !event.is_other_report_of(other));
                    news.push(event);
                }
                None => {
                    self.reported.push(event.clone());
                    news.push(event);
                }
            }
        }
        let newest = self.reported.iter().map(|event| event.at_ms).max().unwrap_or(0);
        self.reported.retain(|event| event.at_ms + SAME_MS >= newest);
        news
    }
}

impl Seen {
    fn take(&mut self, look: Look) {
        let gpu = &mut self.gpu;
        gpu.lost = None;
        gpu.values = look.values;
        gpu.fabric = look.fabric.map(|state| {
            let words = match state {
                Fabric::NotStarted => "not-started",
                Fabric::InProgress => "in-progress",
                Fabric::Completed => "completed",
                Fabric::Failed => "failed",
            };
            words.to_owned()
        });
        gpu.mig = look.mig;
        gpu.instances = look.instances;
        gpu.processes = look.processes.map(|all| {
            let all = all.into_iter().map(|process| Process {
                pid: process.pid,
                memory: process.memory,
                gpu_instance: process.gpu_instance,
                ..Process::default()
            });
            all.collect()
        });
    }
}
/// Of a GPU that NVML does not list any more: NOT_FOUND.
const GONE: i32 = 6;

impl Open {
    fn new(
        library: &Path,
        generation: u64,
        gpus: &mut BTreeMap<String, Seen>,
    ) -> Result<Self, String> {
        let session = Session::open(library).map_err(|silence| silence.to_string())?;
        let session = Arc::new(session);
        let refused = |code| format!("NVML does not say how many GPUs there are: {}", say(code));
        let count = session.count().map_err(refused)?;
        let (send, answers) = channel();
        let mut open = Self {
            session,
            workers: Vec::new(),
            answers,
            events: Arc::default(),
            over: Arc::default(),
            waiter: None,
            handles: Vec::new(),
            count,
        };
        // One that did not say what it is may say so now.
        gpus.retain(|uuid, _| !uuid.starts_with(UNKNOWN));
        for seen in gpus.values_mut() {
            seen.gpu.lost = Some(GONE);
        }
        for index in 0..count {
            open.add(index, generation, &send, gpus);
        }
        Ok(open)
    }

    fn add(
        &mut self,
        index: u32,
        generation: u64,
        answers: &Sender<Found>,
        gpus: &mut BTreeMap<String, Seen>,
    ) {
        let handle = self.session.by_index(index);
        let known = gpus.values().find(|seen| seen.gpu.index == index).map(|seen| &seen.gpu.uuid);
        let known = known.cloned().unwrap_or_else(|| format!("{UNKNOWN}{index}"));
        let handle = match handle {
            Ok(handle) => handle,
            Err(code) => {
                let entry = gpus.entry(known.clone());
                let seen = entry.or_insert_with(|| Seen::new(index, known));
                seen.gpu.lost = Some(code);
                return;
            }
        };
        let identity = self.session.identity(handle);
        // One without a UUID is known by its place.
        let uuid = identity.uuid.filter(|uuid| !uuid.is_empty());
        let uuid = uuid.unwrap_or_else(|| format!("{UNKNOWN}{index}"));
        // A second one of the same name is another GPU all the same.
        let taken = self.handles.iter().any(|(_, other)| *other == uuid);
        let uuid = if taken { format!("{uuid}-{index}") } else { uuid };
        let seen = gpus.entry(uuid.clone()).or_insert_with(|| Seen::new(index, uuid.clone()));
        seen.at = Instant::now();
        seen.gpu.lost = None;
        seen.gpu.index = index;
        seen.gpu.model = identity.name.unwrap_or_default();
        seen.gpu.minor = identity.minor;
        seen.gpu.bus_id = identity.bus_id.unwrap_or_default();
        let session = Arc::clone(&self.session);
        let at = self.workers.len();
        if let Some(worker) = Worker::start(session, handle, at, generation, answers.clone()) {
            self.workers.push((uuid.clone(), worker));
        }
        self.handles.push((handle, uuid));
    }

    /// Waits for NVML's events in a thread of its own.
    fn listen(&mut self) {
        let handles: Vec<usize> = self.handles.iter().map(|(handle, _)| *handle).collect();
        let Some(events) = Events::open(&self.session, &handles) else { return };
        let (over, found) = (Arc::clone(&self.over), Arc::clone(&self.events));
        let builder = thread::Builder::new().name("nvml events".to_owned()).stack_size(128 << 10);
        let run = move || {
            while !over.load(Ordering::Relaxed) {
                match events.wait(Duration::from_millis(500)) {
                    Ok(Some(event)) => {
                        let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
                        if found.len() < 4096 {
                            found.push((event.gpu, event.code));
                        }
                    }
                    Ok(None) => {}
                    Err(_) => thread::sleep(Duration::from_millis(500)),
                }
            }
        };
        self.waiter = builder.spawn(run).ok();
    }

    /// Ends it, once no thread is inside NVML any more. Where one does not come back the session stays open.
    fn end(self) {
        self.over.store(true, Ordering::Relaxed);
        let workers = self.workers.into_iter().map(|(_, worker)| worker.end());
        let mut threads: Vec<_> = workers.chain(self.waiter).collect();
        let end = Instant::now() + LAST;
        loop {
            threads.retain(|thread| !thread.is_finished());
            if threads.is_empty() {
                self.session.close();
                return;
            }
            if Instant::now() >= end {
                return;
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Seen {
    fn new(index: u32, uuid: String) -> Self {
        Self { gpu: Gpu { index, uuid, ..Gpu::default() }, at: Instant::now() }
    }
}

/// An `nvmlReturn_t` in words.
pub fn say(code: i32) -> String {
    let words = match code {
        1 => "NVML was ended",
        GONE => "it is no longer listed",
        9 => "the driver is not loaded",
        known => nvml::say(known),
    };
    format!("{words} ({code})")
}
