//! What is shown: this machine's GPUs, or those of machines on which a monitor listens.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use sconce_fetch::http::{self, Client};
use sconce_monitor::metric::Metric;
use sconce_monitor::sample::Sample;
use sconce_monitor::sampler::{self, Options};
use sconce_monitor::watch::Watch;
use serde::{Deserialize, Serialize};

use crate::commands::own;
use crate::error::{Failure, Kind};

/// How often a machine is asked.
const EVERY: Duration = Duration::from_secs(1);
/// How long a machine may take to take the connection, and without a byte.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long its whole answer may take: one whose bytes drip is as good as one that is silent.
const WHOLE: Duration = Duration::from_secs(10);
/// Bytes of an answer: 16 GPUs with 7 instances and 200 processes each have 3 MB.
const LARGEST: u64 = 32 << 20;
/// Values of a GPU that are remembered.
const REMEMBERED: usize = 240;

/// Where a machine's samples come from.
#[derive(Clone)]
pub enum Source {
    /// This machine's NVML.
    Here,
    /// A monitor: its address.
    There(String),
}

/// What a monitor says of now (`/api/now`).
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
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

/// Which machine said what, or why it says nothing.
pub type Said = (usize, Result<Now, String>);

/// A machine, and what it said last.
#[derive(Default)]
pub struct Machine {
    /// Its address; nothing for this one.
    pub name: Option<String>,
    /// What it said, or why it says nothing.
    pub answer: Option<Result<Now, String>>,
    /// How busy each GPU was, oldest first.
    pub busy: Vec<VecDeque<f64>>,
}

impl Source {
    /// This machine, if no other is named.
    pub fn of(hosts: &[String]) -> Result<Vec<Self>, Failure> {
        if hosts.is_empty() {
            return Ok(vec![Self::Here]);
        }
        let bare: Vec<String> = hosts
            .iter()
            .map(|host| host.trim_start_matches("http://").trim_end_matches('/').to_owned())
            .collect();
        let has_port = |host: &&String| {
            host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok())
        };
        if let Some(host) = bare.iter().find(|host| !has_port(host)) {
            let failure = Failure::new(
                Kind::Usage,
                format!(
                    "there is no `sconce top` of a container, and machines are HOST:PORT: `{host}` has no port"
                ),
            );
            // As printed it must do something: a word that can be a container's name is taken for one.
            let named = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
            let name = if host.chars().all(named) { host.as_str() } else { "NAME" };
            return Err(failure.hint(format!(
                "a machine is `sconce top gpu1:9400`; a container's processes are `sconce exec {name} ps aux`, its use of memory and processors `sconce stats {name}`"
            )));
        }
        Ok(sconce_doctor::fleet::names(&bare)?.into_iter().map(Self::There).collect())
    }

    fn machine(&self) -> Machine {
        let name = match self {
            Self::Here => None,
            Self::There(address) => Some(address.clone()),
        };
        Machine { name, ..Machine::default() }
    }
}

impl Machine {
    /// Takes what it said.
    pub fn take(&mut self, answer: Result<Now, String>) {
        if let Ok(now) = &answer {
            let gpus = &now.sample.gpus;
            self.busy.resize_with(gpus.len().min(1024), VecDeque::new);
            for (past, gpu) in self.busy.iter_mut().zip(gpus) {
                let busy = [Metric::Graphics, Metric::Utilization].into_iter();
                let busy = busy.filter_map(|metric| gpu.values.get(metric)).next();
                past.push_back(busy.unwrap_or(0.0));
                while past.len() > REMEMBERED {
                    past.pop_front();
                }
            }
        }
        self.answer = Some(answer);
    }

    /// That it says nothing, and why.
    pub fn silence(&self) -> Option<String> {
        match (&self.name, &self.answer) {
            (Some(name), Some(Err(why))) => Some(format!("{name}: {why}")),
            (Some(name), None) => Some(format!("{name} does not answer")),
            _ => None,
        }
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
                Source::There(address) => machine.take(there(&client(), address)),
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
        Source::There(address) => {
            let client = client();
            while send.send((at, there(&client, address))).is_ok() {
                thread::sleep(EVERY);
            }
        }
    }
}

/// Samples of this machine, so many at most, until `take` says no.
fn here(interval: Duration, most: usize, take: &mut dyn FnMut(Result<Now, String>) -> bool) {
    let mut watch = Watch::new(None);
    let mut left = most;
    let options = Options::new(Box::new(own::library), own::finder());
    let once = most < usize::MAX;
    sampler::run(Options { interval, listen: !once, ..options }, |sample| {
        left -= 1;
        if let Some(why) = &sample.silence {
            let go_on = take(Err(why.clone()));
            return go_on && !once;
        }
        let sample = Arc::new(sample);
        drop(watch.push(Arc::clone(&sample)));
        let findings = watch.findings().into_iter().map(|one| Found {
            rule: one.rule.to_owned(),
            title: one.title.to_owned(),
            severity: one.severity.word().to_owned(),
            gpu: one.gpu,
            evidence: one.evidence,
        });
        let now = Now { findings: findings.collect(), sample: Arc::unwrap_or_clone(sample) };
        take(Ok(now)) && left > 0
    });
}

fn client() -> Client {
    Client::new(http::Options {
        connect: PATIENCE,
        stall: PATIENCE,
        whole: Some(WHOLE),
        tries: 1,
        ..Default::default()
    })
}

fn there(client: &Client, address: &str) -> Result<Now, String> {
    let bytes = client
        .get_bytes(&format!("http://{address}/api/now"), LARGEST)
        .map_err(|error| error.to_string())?;
    serde_json::from_slice(&bytes)
        .map_err(|error| format!("this is no answer of `sconce monitor`: {error}"))
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
