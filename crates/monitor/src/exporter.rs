//! What is given out: the last sample as text, whether it is fresh, what the rules found, and a page of it all.

use std::fmt::Write;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sconce_listen::Hosts;
use serde::Serialize;

use crate::counters::Counters;
use crate::events::{self, Ran, Told};
use crate::history::{self, History, Span};
use crate::names::Names;
use crate::sample::{Event, Sample};
use crate::sampler::now_ms;
use crate::server::{Answer, STREAM, Site};
use crate::text::{Format, Page, render};
use crate::watch::{Change, Finding, Watch};

/// The last sample, and what follows from it. Scrapes read it; the sampler writes it.
pub struct Exporter {
    names: Names,
    counters: Option<Counters>,
    host: String,
    interval: Duration,
    hosts: Option<Hosts>,
    state: Mutex<State>,
    history: Option<(PathBuf, Mutex<History>)>,
}

struct State {
    watch: Watch,
    findings: Vec<Finding>,
    sample: Option<Arc<Sample>>,
    /// Rendered when first asked for, once for each format.
    text: [Option<Arc<str>>; 2],
    /// The same for pages that are open.
    live: Option<Arc<str>>,
    samples: u64,
    /// Counts what pages that are open hear of: samples, and what happened between them.
    news: u64,
    begun_ms: u64,
}

impl State {
    /// What is given out is made anew.
    fn renew(&mut self) {
        self.findings = self.watch.findings();
        self.text = [None, None];
        self.live = None;
        self.news += 1;
    }
}

impl Exporter {
    /// One without a sample yet.
    pub fn new(names: Names, host: &str, interval: Duration, watch: Watch) -> Self {
        let state = State {
            watch,
            findings: Vec::new(),
            sample: None,
            text: [None, None],
            live: None,
            samples: 0,
            news: 0,
            begun_ms: now_ms(),
        };
        let (host, state) = (host.to_owned(), Mutex::new(state));
        Self { names, counters: None, host, interval, hosts: None, state, history: None }
    }

    /// Gives out what a file of counters asks for, of dcgm-exporter's metrics.
    #[must_use]
    pub fn with_counters(self, counters: Counters) -> Self {
        Self { counters: Some(counters), ..self }
    }

    /// Answers requests for these names of hosts alone.
    #[must_use]
    pub fn with_hosts(self, hosts: Hosts) -> Self {
        Self { hosts: Some(hosts), ..self }
    }

    /// Keeps a history in this folder.
    #[must_use]
    pub fn with_history(mut self, folder: PathBuf, history: History) -> Self {
        self.history = Some((folder, Mutex::new(history)));
        self
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the next sample: what begins and ends with it, and whether it is in the history.
    pub fn push(&self, sample: Sample) -> (Vec<Change>, io::Result<()>) {
        let sample = Arc::new(sample);
        let mut state = self.state();
        // The watch keeps less of what nobody else holds, without a copy.
        state.sample = None;
        let changes = state.watch.push(Arc::clone(&sample));
        state.sample = Some(Arc::clone(&sample));
        state.samples += 1;
        state.renew();
        drop(state);
        let Some((_, history)) = &self.history else { return (changes, Ok(())) };
        let mut history = history.lock().unwrap_or_else(PoisonError::into_inner);
        let (rows, told) = (history.push(&sample), history.events().push(&sample, &changes));
        (changes, rows.and(told))
    }

    /// Takes what happened since the last sample: what begins with it, and whether it is in the history. The next sample has
    /// it as well.
    pub fn happened(&self, events: Vec<Event>) -> (Vec<Change>, io::Result<()>) {
        let mut state = self.state();
        let changes = state.watch.happened(now_ms(), events);
        state.renew();
        let sample = state.sample.clone();
        drop(state);
        let (Some((_, history)), Some(sample)) = (&self.history, sample) else {
            return (changes, Ok(()));
        };
        let mut history = history.lock().unwrap_or_else(PoisonError::into_inner);
        let told = history.events().push(&sample, &changes);
        (changes, told)
    }

    /// The next sample comes after a pause of so many milliseconds that was not waited for.
    pub fn skip(&self, pause_ms: u64) {
        self.state().watch.skip(pause_ms);
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
                    counters: self.counters.as_ref(),
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
            "# HELP {total} Samples taken\n# TYPE {total} counter\nsconce_monitor_samples_total {samples}\n\
             # HELP sconce_monitor_interval_seconds How far samples are apart\n\
             # TYPE sconce_monitor_interval_seconds gauge\nsconce_monitor_interval_seconds {}\n",
            self.interval.as_secs_f64()
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

    /// What was between two times: `from` and `to` in milliseconds since 1970, in about so many `points`.
    /// What can't be read as such gets no answer for another span.
    fn past(&self, query: &str) -> Answer {
        let Some((folder, _)) = &self.history else {
            return Answer { status: 404, kind: PLAIN, body: "no history is kept\n".into() };
        };
        let Asked { from, to, points } = match Asked::of(query, now_ms()) {
            Ok(asked) => asked,
            Err(why) => {
                return Answer { status: 400, kind: PLAIN, body: format!("{why}\n").into() };
            }
        };
        let span = history::read(folder, from, to, points);
        let (told, ran) = events::read(folder, from, to);
        json(&Past { span, told, ran })
    }
}

/// What of the past is asked for.
#[derive(Debug, PartialEq)]
struct Asked {
    from: u64,
    to: u64,
    points: usize,
}

impl Asked {
    /// Reads a query; without one it is the last hour.
    fn of(query: &str, now: u64) -> Result<Self, String> {
        let (mut from, mut to, mut points) = (None, None, None);
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (place, most) = match name {
                "from" => (&mut from, LATEST_MS),
                "to" => (&mut to, LATEST_MS),
                "points" => (&mut points, MOST_POINTS),
                _ => {
                    return Err(format!(
                        "`{}` is not known: there are from, to and points",
                        shown(name)
                    ));
                }
            };
            // `parse` takes a sign.
            let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
            let number = value.parse::<u64>().ok().filter(|number| digits && *number <= most);
            let Some(number) = number else {
                let what = match name {
                    "points" => format!("a number from 2 to {MOST_POINTS}"),
                    _ => "a time in milliseconds since 1970".to_owned(),
                };
                return Err(format!("{name}: `{}` is not {what}", shown(value)));
            };
            if place.replace(number).is_some() {
                return Err(format!("{name} stands there twice"));
            }
        }
        if points.is_some_and(|points| points < 2) {
            return Err(format!("points: a number from 2 to {MOST_POINTS}"));
        }
        let until = to.unwrap_or(now);
        let since = from.unwrap_or_else(|| until.saturating_sub(HOUR_MS));
        if since > until {
            let end = if to.is_some() { "`to`" } else { "now, and there is no `to`" };
            return Err(format!("from: {since} is later than {end}"));
        }
        Ok(Self { from: since, to: until, points: points.map_or(600, |points| points as usize) })
    }
}

/// The beginning of what was asked, as it can be printed.
fn shown(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(40).collect()
}

/// What a page shows of the past.
#[derive(Serialize)]
struct Past {
    #[serde(flatten)]
    span: Span,
    told: Vec<Told>,
    ran: Vec<Ran>,
}

/// What a page shows of now.
#[derive(Serialize)]
struct Now<'a> {
    host: &'a str,
    age_ms: u64,
    sample: &'a Sample,
    findings: &'a [Finding],
}

impl Site for Exporter {
    fn answer(&self, method: &str, target: &str, accept: &str) -> Answer {
        if method != "GET" && method != "HEAD" {
            let words = "this exporter answers GET and HEAD\n";
            return Answer { status: 405, kind: PLAIN, body: words.into() };
        }
        let target = target.split('#').next().unwrap_or_default();
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
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
            "/api/findings" => json(&self.state().findings),
            "/api/sample" => match self.sample() {
                Some(sample) => json(&*sample),
                None => Answer { status: 503, kind: PLAIN, body: "no sample yet\n".into() },
            },
            "/api/now" => match self.news(0) {
                Some((_, text)) => {
                    let text = text.trim_start_matches(DATA).trim_end().to_owned();
                    Answer { status: 200, kind: "application/json", body: text.into() }
                }
                None => Answer { status: 503, kind: PLAIN, body: "no sample yet\n".into() },
            },
            "/api/history" => self.past(query),
            "/api/live" => Answer { status: 200, kind: STREAM, body: Vec::new() },
            "/" => Answer { status: 200, kind: "text/html; charset=utf-8", body: PAGE.into() },
            _ => Answer { status: 404, kind: PLAIN, body: "not found; /metrics is here\n".into() },
        }
    }

    fn hosts(&self) -> Option<&Hosts> {
        self.hosts.as_ref()
    }

    fn news(&self, after: u64) -> Option<(u64, Arc<str>)> {
        let mut state = self.state();
        if state.news <= after {
            return None;
        }
        if state.live.is_none() {
            let sample = state.sample.as_deref()?;
            let age_ms = now_ms().saturating_sub(sample.at_ms);
            let now = Now { host: &self.host, age_ms, sample, findings: &state.findings };
            let text = serde_json::to_string(&now).ok()?;
            state.live = Some(format!("{DATA}{text}\n\n").into());
        }
        Some((state.news, state.live.clone()?))
    }
}

fn json(what: &impl Serialize) -> Answer {
    match serde_json::to_vec(what) {
        Ok(body) => Answer { status: 200, kind: "application/json", body },
        Err(error) => Answer { status: 500, kind: PLAIN, body: format!("{error}\n").into() },
    }
}

const PLAIN: &str = "text/plain; charset=utf-8";
/// What a line of a stream begins with.
const DATA: &str = "data: ";
const HOUR_MS: u64 = 3_600_000;
/// The end of the year 9999.
const LATEST_MS: u64 = 253_402_300_799_999;
/// Points of an answer.
const MOST_POINTS: u64 = 2000;
/// One file, which asks nobody but this server.
const PAGE: &str = include_str!("page.html");

#[cfg(test)]
mod tests {
    use super::*;

    /// Whoever adds a rule names it in Chinese too.
    #[test]
    fn the_page_has_the_titles_of_all_rules_in_chinese() {
        let (_, table) = PAGE.split_once("const RULES = {").unwrap();
        let (table, _) = table.split_once("};").unwrap();
        let named: Vec<&str> = table.lines().filter_map(|line| line.split('"').nth(1)).collect();
        let rules: Vec<&str> = crate::rules::RULES.iter().map(|rule| rule.id).collect();
        assert_eq!(named, rules);
    }
}
