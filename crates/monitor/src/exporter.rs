//! What is given out: the last sample as text, whether it is fresh, what the rules found.

use std::fmt::Write;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::names::Names;
use crate::sample::Sample;
use crate::sampler::now_ms;
use crate::server::Answer;
use crate::text::{Format, Page, render};
use crate::watch::{Change, Finding, Watch};

/// The last sample, and what follows from it. Scrapes read it; the sampler writes it.
pub struct Exporter {
    names: Names,
    host: String,
    interval: Duration,
    state: Mutex<State>,
}

struct State {
    watch: Watch,
    findings: Vec<Finding>,
    sample: Option<Arc<Sample>>,
    /// Rendered when first asked for, once for each format.
    text: [Option<Arc<str>>; 2],
    samples: u64,
    begun_ms: u64,
}

impl Exporter {
    /// One without a sample yet.
    pub fn new(names: Names, host: &str, interval: Duration, watch: Watch) -> Self {
        let state = State {
            watch,
            findings: Vec::new(),
            sample: None,
            text: [None, None],
            samples: 0,
            begun_ms: now_ms(),
        };
        Self { names, host: host.to_owned(), interval, state: Mutex::new(state) }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the next sample; what begins and ends with it.
    pub fn push(&self, sample: Sample) -> Vec<Change> {
        let sample = Arc::new(sample);
        let mut state = self.state();
        let changes = state.watch.push(Arc::clone(&sample));
        state.findings = state.watch.findings();
        state.sample = Some(sample);
        state.text = [None, None];
        state.samples += 1;
        changes
    }

    /// The last sample.
    pub fn sample(&self) -> Option<Arc<Sample>> {
        self.state().sample.clone()
    }

    /// How old a sample may be: three intervals, and ten seconds at least.
    pub fn patience(&self) -> Duration {
        (self.interval * 3).max(Duration::from_secs(10))
    }

    /// The metrics. They are rendered once for a sample, and only their age is new.
    pub fn metrics(&self, format: Format) -> String {
        let mut state = self.state();
        let place = usize::from(format == Format::OpenMetrics);
        let known = state.text.get(place).cloned().flatten();
        let body = match (known, &state.sample) {
            (Some(text), _) => Some(text),
            (None, Some(sample)) => {
                let page = Page {
                    sample,
                    findings: &state.findings,
                    last_xid: state.watch.last_xid(),
                    xids: state.watch.xids(),
                    names: self.names,
                    host: &self.host,
                    stale_ms: self.patience().as_millis() as u64,
                };
                let text: Arc<str> = render(&page, format).into();
                if let Some(place) = state.text.get_mut(place) {
                    *place = Some(Arc::clone(&text));
                }
                Some(text)
            }
            (None, None) => None,
        };
        let (samples, at) = (state.samples, state.sample.as_ref().map(|sample| sample.at_ms));
        drop(state);
        let mut text = String::with_capacity(body.as_deref().map_or(0, str::len) + 1024);
        text.push_str(body.as_deref().unwrap_or(""));
        let open = format == Format::OpenMetrics;
        let total = if open { "sconce_monitor_samples" } else { "sconce_monitor_samples_total" };
        let _ = write!(
            text,
            "# HELP {total} Samples taken\n# TYPE {total} counter\nsconce_monitor_samples_total {samples}\n"
        );
        if let Some(at) = at {
            let age = now_ms().saturating_sub(at) as f64 / 1e3;
            let _ = write!(
                text,
                "# HELP sconce_monitor_sample_age_seconds How old this sample is\n\
                 # TYPE sconce_monitor_sample_age_seconds gauge\nsconce_monitor_sample_age_seconds {age}\n"
            );
        }
        if open {
            text.push_str("# EOF\n");
        }
        text
    }

    /// Whether samples come: 503 before the first, and when the last is too old.
    fn health(&self) -> (u16, String) {
        let state = self.state();
        let Some(sample) = &state.sample else {
            let waited = now_ms().saturating_sub(state.begun_ms) / 1000;
            return (503, format!("no sample yet, {waited} s after the start\n"));
        };
        let age = now_ms().saturating_sub(sample.at_ms);
        if u128::from(age) > self.patience().as_millis() {
            return (503, format!("the last sample is {} s old\n", age / 1000));
        }
        match &sample.silence {
            // It watches, and what it watches is not there: the exporter itself is well.
            Some(why) => (200, format!("OK, but NVML does not answer: {why}\n")),
            None => (200, "OK\n".to_owned()),
        }
    }

    /// Answers a request.
    pub fn answer(&self, method: &str, path: &str, accept: &str) -> Answer {
        if method != "GET" && method != "HEAD" {
            let words = "this exporter answers GET and HEAD\n";
            return Answer { status: 405, kind: PLAIN, body: words.into() };
        }
        match path {
            "/metrics" => {
                let format = Format::of_accept(accept);
                let body = self.metrics(format).into_bytes();
                Answer { status: 200, kind: format.content_type(), body }
            }
            "/health" | "/-/healthy" => {
                let (status, words) = self.health();
                Answer { status, kind: PLAIN, body: words.into() }
            }
            "/api/findings" => {
                let findings = self.state().findings.clone();
                let body = serde_json::to_vec(&findings).unwrap_or_default();
                Answer { status: 200, kind: "application/json", body }
            }
            "/api/sample" => {
                let sample = self.sample();
                let body = sample.and_then(|sample| serde_json::to_vec(&*sample).ok());
                match body {
                    Some(body) => Answer { status: 200, kind: "application/json", body },
                    None => Answer { status: 503, kind: PLAIN, body: "no sample yet\n".into() },
                }
            }
            "/" => Answer { status: 200, kind: "text/html; charset=utf-8", body: INDEX.into() },
            _ => Answer { status: 404, kind: PLAIN, body: "not found; /metrics is here\n".into() },
        }
    }
}

const PLAIN: &str = "text/plain; charset=utf-8";

const INDEX: &str = "<!doctype html><html lang=en><title>sconce monitor</title><h1>sconce monitor</h1>\
<ul><li><a href=/metrics>/metrics</a>: Prometheus, or OpenMetrics by Accept<li><a href=/health>/health</a>\
<li><a href=/api/findings>/api/findings</a>: what is wrong now, JSON<li><a href=/api/sample>/api/sample</a>: the last sample, JSON</ul></html>\n";
