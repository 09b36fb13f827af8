//! What is shown: this machine's GPUs, or those of machines on which a monitor listens.

use std::collections::VecDeque;
use std::fs::File;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use sconce_fetch::Error;
use sconce_fetch::http::{self, Client, TlsFault};
use sconce_monitor::recording::Replay;
use sconce_monitor::sample::Sample;
use sconce_monitor::sampler::{self, Options};
use sconce_monitor::watch::Watch;
use serde::{Deserialize, Serialize};

use super::addresses::{Address, Reach};
use super::tables;
use crate::commands::{monitor_replay, own};
use crate::error::{Failure, Kind};

/// How often a machine is asked.
const EVERY: Duration = Duration::from_secs(1);
/// How long a machine may take to take the connection, and without a byte.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long its whole answer may take: one whose bytes drip is as good as one that is silent.
const WHOLE: Duration = Duration::from_secs(10);
/// Bytes of an answer: 16 GPUs with 7 instances and 200 processes each have 3 MB.
const LARGEST: u64 = 32 << 20;
/// What most machines lack that do not answer.
pub const LISTENS: &str = "`sconce monitor --listen :9400` must run there, and its port be reached";
/// Values of a GPU that are remembered.
const REMEMBERED: usize = 240;

/// Where a machine's samples come from.
#[derive(Clone)]
pub enum Source {
    /// This machine's NVML.
    Here,
    /// A monitor, and what it is asked with.
    There(Address, Arc<Client>),
}

/// What a monitor says of now.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Now {
    /// The last sample.
    pub sample: Sample,
    /// What is wrong.
    pub findings: Vec<Found>,
}

/// A finding.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Found {
    /// The rule's name.
    pub rule: String,
    /// What is wrong.
    pub title: String,
    /// How bad.
    pub severity: String,
    /// The GPU's number.
    pub gpu: Option<u32>,
    /// What was seen.
    pub evidence: String,
}

/// `/api/now`. Each monitor says all of this, whatever its version: what lacks one is something else's answer.
#[derive(Deserialize)]
struct Answer {
    #[serde(rename = "host")]
    _host: String,
    #[serde(rename = "age_ms")]
    _age_ms: u64,
    sample: Sample,
    findings: Vec<Found>,
}

/// Which machine said what, or why it says nothing.
pub type Said = (usize, Result<Now, Silent>);

/// The machine of a recording, what it says, and the thread that plays it.
pub type Playing = (Machine, Receiver<Said>, JoinHandle<Replay<File>>);

/// Why a machine says nothing, and what to do about it.
#[derive(Clone, Debug, Default)]
pub struct Silent {
    /// Why.
    pub why: String,
    /// What to do.
    pub hint: Option<String>,
}

/// A machine, and what it said last.
#[derive(Default)]
pub struct Machine {
    /// Its address; nothing for this one.
    pub name: Option<String>,
    /// What it said, or why it says nothing.
    pub answer: Option<Result<Now, Silent>>,
    /// How busy each GPU was, oldest first.
    pub busy: Vec<VecDeque<f64>>,
}

impl Source {
    /// This machine, if no other is named.
    pub fn of(hosts: &[String], reach: &Reach) -> Result<Vec<Self>, Failure> {
        if hosts.is_empty() {
            return Ok(vec![Self::Here]);
        }
        let addresses = Address::of(hosts)?;
        let means = reach.means(&addresses)?;
        if reach.is_open(&addresses) {
            eprintln!(
                "note: the password of --login goes over the network unencrypted; https:// before a machine encrypts"
            );
        }
        let of = |address: Address| {
            let client = Arc::new(means.client(&address, options()));
            Self::There(address, client)
        };
        Ok(addresses.into_iter().map(of).collect())
    }

    fn machine(&self) -> Machine {
        let name = match self {
            Self::Here => None,
            Self::There(address, _) => Some(address.name.clone()),
        };
        Machine { name, ..Machine::default() }
    }
}

impl Machine {
    /// Takes what it said.
    pub fn take(&mut self, answer: Result<Now, Silent>) {
        if let Ok(now) = &answer {
            let gpus = &now.sample.gpus;
            self.busy.resize_with(gpus.len().min(1024), VecDeque::new);
            for (past, gpu) in self.busy.iter_mut().zip(gpus) {
                let busy = tables::busy(gpu).filter(|_| tables::absent(gpu).is_none());
                past.push_back(busy.unwrap_or(0.0));
                while past.len() > REMEMBERED {
                    past.pop_front();
                }
            }
        }
        self.answer = Some(answer);
    }

    /// That it says nothing, and why.
    pub fn silence(&self) -> Option<Silent> {
        let (why, hint) = match (&self.name, &self.answer) {
            (Some(name), Some(Err(silent))) => {
                (format!("{name}: {}", silent.why), silent.hint.clone())
            }
            (Some(name), None) => (format!("{name} does not answer"), None),
            _ => return None,
        };
        Some(Silent { why, hint })
    }
}

/// Asks each once.
pub fn once(sources: &[Source]) -> Vec<Machine> {
    thread::scope(|scope| {
        let ask = |source: &Source| {
            let mut machine = source.machine();
            match source {
                Source::Here => here(Duration::from_millis(500), 2, &mut |now| {
                    machine.take(now);
                    true
                }),
                Source::There(address, client) => machine.take(there(client, address)),
            }
            machine
        };
        let asked: Vec<_> = sources.iter().map(|source| scope.spawn(move || ask(source))).collect();
        asked.into_iter().map(|one| one.join().unwrap_or_default()).collect()
    })
}

/// Asks all of them again and again: which said what.
pub fn follow(sources: &[Source]) -> (Vec<Machine>, Receiver<Said>) {
    let (send, answers) = sync_channel(64);
    for (at, source) in sources.iter().enumerate() {
        let (source, send) = (source.clone(), send.clone());
        // It ends with the process, or when nobody listens any more.
        let asking =
            thread::Builder::new().name("asks".into()).spawn(move || ask(at, &source, &send));
        drop(asking);
    }
    (sources.iter().map(Source::machine).collect(), answers)
}

fn ask(at: usize, source: &Source, send: &SyncSender<Said>) {
    match source {
        Source::Here => here(EVERY, usize::MAX, &mut |now| send.send((at, now)).is_ok()),
        Source::There(address, client) => {
            while send.send((at, there(client, address))).is_ok() {
                thread::sleep(EVERY);
            }
        }
    }
}

/// A recording, played at its own pace in a thread, which has it when it is over.
pub fn play(mut samples: Replay<File>) -> Result<Playing, Failure> {
    let (send, answers) = sync_channel(64);
    let machine = Machine { name: Some(recorded(&samples)), ..Machine::default() };
    let playing = move || {
        let mut watch = Watch::new(None);
        monitor_replay::play(&mut samples, None, |sample, gap| {
            gap.into_iter().for_each(|pause| watch.skip(pause));
            send.send((0, judged(&mut watch, sample))).is_ok()
        });
        samples
    };
    let playing = thread::Builder::new().name("plays".into()).spawn(playing);
    let playing = playing.map_err(|error| Failure::of(Kind::Machine, &error, None))?;
    Ok((machine, answers, playing))
}

/// The last moment of a recording.
pub fn last_of(samples: &mut Replay<File>) -> Machine {
    let mut machine = Machine { name: Some(recorded(samples)), ..Machine::default() };
    let mut watch = Watch::new(None);
    for sample in samples {
        machine.take(judged(&mut watch, sample));
    }
    machine
}

/// What the machine of a recording is called.
fn recorded(samples: &Replay<File>) -> String {
    match samples.host() {
        "" => "a recording".to_owned(),
        host => format!("{host}, recorded"),
    }
}

/// A sample, and what is wrong with it.
fn judged(watch: &mut Watch, sample: Sample) -> Result<Now, Silent> {
    let sample = Arc::new(sample);
    drop(watch.push(Arc::clone(&sample)));
    if let Some(why) = &sample.silence {
        return Err(Silent { why: why.clone(), hint: None });
    }
    let findings = watch.findings().into_iter().map(|one| Found {
        rule: one.rule.to_owned(),
        title: one.title.to_owned(),
        severity: one.severity.word().to_owned(),
        gpu: one.gpu,
        evidence: one.evidence,
    });
    Ok(Now { findings: findings.collect(), sample: Arc::unwrap_or_clone(sample) })
}

/// Samples of this machine, so many at most, until `take` says no.
fn here(interval: Duration, most: usize, take: &mut dyn FnMut(Result<Now, Silent>) -> bool) {
    let mut watch = Watch::new(None);
    let mut left = most;
    let options = Options::new(Box::new(own::library), own::finder());
    let once = most < usize::MAX;
    sampler::run(Options { interval, listen: !once, ..options }, |sample| {
        left -= 1;
        let silent = sample.silence.is_some();
        take(judged(&mut watch, sample)) && left > 0 && !(silent && once)
    });
}

fn options() -> http::Options {
    http::Options {
        connect: PATIENCE,
        stall: PATIENCE,
        whole: Some(WHOLE),
        tries: 1,
        // Who answers in a monitor's place is none of the machines that were named.
        follow: false,
        ..Default::default()
    }
}

fn there(client: &Client, address: &Address) -> Result<Now, Silent> {
    let bytes = client.get_bytes(&address.url(), LARGEST).map_err(|error| {
        let hint = advice(&error, &address.name);
        let why = match error {
            Error::Status { status: 404, .. } => strange(&error.to_string()),
            Error::Status { status: 300..=399, .. } => match leads(client, address) {
                Some(to) => format!("{error}: it redirects to {to}"),
                None => error.to_string(),
            },
            _ => error.to_string(),
        };
        Silent { why, hint: Some(hint) }
    })?;
    let other = |why: &str| Silent { why: strange(why), hint: Some(LISTENS.to_owned()) };
    let Answer { sample, findings, .. } =
        serde_json::from_slice(&bytes).map_err(|error| other(&error.to_string()))?;
    // Each sample has its time.
    if sample.at_ms == 0 {
        return Err(other("its sample has no `at_ms`"));
    }
    Ok(Now { sample, findings })
}

/// Where a redirect leads: it is asked once more, since the failure has no headers.
fn leads(client: &Client, address: &Address) -> Option<String> {
    let answer = client.open(&http::parse(&address.url()).ok()?, &[]).ok()?;
    let to = http::without_secrets(answer.header("location")?);
    Some(to.chars().map(|c| if c.is_control() { ' ' } else { c }).take(200).collect())
}

/// That something answers which is no monitor.
fn strange(why: &str) -> String {
    format!("the host answers, but is no `sconce monitor`: {why}")
}

/// What to do about a machine that does not answer as it should.
fn advice(error: &Error, name: &str) -> String {
    match error {
        Error::Status { status: 401, .. } => {
            "`--login FILE` names a file with USER:PASSWORD in it; over https:// ~/.netrc may have it as well".to_owned()
        }
        Error::Status { status: 300..=399, .. } => {
            "redirects are not followed: name the machine that it redirects to, if a monitor listens there".to_owned()
        }
        Error::Status { status: 421, said: Some(said), .. } if said.contains("--host-name") => {
            "start the monitor with that option, or ask it by its address".to_owned()
        }
        Error::OnlyTls { .. } => format!("`sconce top https://{name}` asks over TLS"),
        Error::PlainHttp { .. } => format!("`sconce top http://{name}` asks without TLS"),
        Error::Tls { fault: TlsFault::Untrusted, .. } => {
            "`--ca FILE` names the authority's certificate".to_owned()
        }
        Error::Tls { fault: TlsFault::Client(_), .. } => {
            "`--cert FILE --key FILE` shows a certificate".to_owned()
        }
        Error::Tls { fault, .. } => fault.hint().unwrap_or_else(|| LISTENS.to_owned()),
        _ => LISTENS.to_owned(),
    }
}

/// As JSON: the sample of this machine, or of each machine what it said.
pub fn json(machines: &[Machine]) -> serde_json::Result<String> {
    if let [Machine { name: None, answer: Some(Ok(now)), .. }] = machines {
        return serde_json::to_string_pretty(&now.sample);
    }
    let all: std::collections::BTreeMap<&str, &Now> = machines
        .iter()
        .filter_map(|machine| {
            Some((machine.name.as_deref()?, machine.answer.as_ref()?.as_ref().ok()?))
        })
        .collect();
    serde_json::to_string_pretty(&all)
}
