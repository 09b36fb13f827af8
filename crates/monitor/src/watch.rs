//! Rules over time: what holds for long enough is a finding, until it has not held for long enough.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use crate::rules::{OF_EVENTS, RULES, Rule};
use crate::sample::{Event, EventKind, Sample};
use crate::window::{Follows, Window};

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Work is slower or dearer than it need be.
    Note,
    /// It will hurt, or does hurt a part.
    Warning,
    /// Work is lost, or is about to be.
    Critical,
}

impl Severity {
    /// As in labels.
    pub fn word(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

/// What a rule saw at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    /// The GPU's number.
    pub gpu: Option<u32>,
    /// Its UUID.
    pub uuid: String,
    /// Tells two things of one rule on one GPU apart: an Xid's number.
    pub key: String,
    /// How bad, where that is not the rule's.
    pub severity: Option<Severity>,
    /// What was seen, with figures.
    pub evidence: String,
    /// What to do, where that is not the rule's.
    pub action: Option<String>,
}

/// A rule that holds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Finding {
    /// Its name.
    pub rule: &'static str,
    /// What is wrong.
    pub title: &'static str,
    /// How bad.
    pub severity: Severity,
    /// The GPU's number.
    pub gpu: Option<u32>,
    /// Its UUID.
    pub uuid: String,
    /// Tells two things of one rule on one GPU apart: an Xid's number.
    #[serde(skip)]
    pub key: String,
    /// Since when, milliseconds since 1970.
    pub since_ms: u64,
    /// What was seen last.
    pub evidence: String,
    /// What to do.
    pub action: String,
}

/// A finding that begins or ends.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// It begins, or has become worse than it was told of.
    Begins(Finding),
    /// It has ended; when.
    Ends(Finding, u64),
}

/// What a rule sees, and since when.
struct Track {
    rule: &'static Rule,
    finding: Finding,
    first_ms: u64,
    last_ms: u64,
    /// As how bad it was told of.
    told: Option<Severity>,
}

/// The rules at work.
pub struct Watch {
    window: Window,
    tracks: Vec<Track>,
    cap: Duration,
    last_xid: Vec<(String, u32)>,
    xids: Vec<(String, u32, u64)>,
    /// In how many samples some rules could not be told of, and how far those were apart at most.
    blind: Option<(u64, Duration)>,
    /// What was judged before a sample has it.
    judged: Vec<Event>,
    last_ms: u64,
}

/// Seconds before the newest sample, over which another report of an error is looked for.
const LATELY: u64 = 10;
/// The most things that are tracked.
const MOST: usize = 4096;

impl Watch {
    /// Rules with their own times, or this one where it is shorter: for trials.
    pub fn new(cap: Option<Duration>) -> Self {
        let cap = cap.unwrap_or(Duration::MAX);
        let (tracks, last_xid, xids) = (Vec::new(), Vec::new(), Vec::new());
        Self {
            window: Window::default(),
            tracks,
            cap,
            last_xid,
            xids,
            blind: None,
            judged: Vec::new(),
            last_ms: 0,
        }
    }

    /// Judges the next sample.
    pub fn push(&mut self, mut sample: Arc<Sample>) -> Vec<Change> {
        let now = sample.at_ms;
        let mut changes = self.before(&sample);
        let judged = std::mem::take(&mut self.judged);
        if sample.events.iter().any(|event| judged.contains(event)) {
            Arc::make_mut(&mut sample).events.retain(|event| !judged.contains(event));
        }
        self.count(&sample.events);
        let follows = self.window.push(sample);
        // What was seen on both sides of a gap was not seen in it.
        let mut over_at = now;
        match follows {
            Follows::First | Follows::InTime => {}
            Follows::SetBack => {
                self.tracks.retain(|track| track.told.is_some());
                // Where the clock was set back what holds holds from now on.
                self.tracks.iter_mut().for_each(|track| track.last_ms = track.last_ms.min(now));
            }
            Follows::Gap => {
                self.tracks.retain(|track| track.told.is_some());
                over_at = self.last_ms;
            }
        }
        self.last_ms = now;
        let step = self.window.step_ms().map_or(Duration::ZERO, Duration::from_millis);
        if RULES.iter().any(|rule| !rule.bears(step)) {
            let (samples, widest) = self.blind.unwrap_or_default();
            self.blind = Some((samples + 1, widest.max(step)));
        }
        for rule in RULES.iter().filter(|rule| rule.bears(step)) {
            self.ask(rule, now);
        }
        changes.extend(self.changes(now, over_at, |_| true));
        changes
    }

    /// What a sample brings that happened since the last is judged at its own time.
    fn before(&mut self, sample: &Sample) -> Vec<Change> {
        let within = |event: &&Event| self.last_ms < event.at_ms && event.at_ms < sample.at_ms;
        let news = sample.events.iter().filter(|event| !self.judged.contains(event));
        let mut news: Vec<Event> = match self.last_ms {
            0 => Vec::new(),
            _ => news.filter(within).cloned().collect(),
        };
        news.sort_by_key(|event| event.at_ms);
        let judge = |event: Event| self.happened(event.at_ms, vec![event]);
        news.into_iter().flat_map(judge).collect()
    }

    /// Judges what happened since the last sample, when it is known. The next sample has it as well.
    pub fn happened(&mut self, now: u64, events: Vec<Event>) -> Vec<Change> {
        self.count(&events);
        self.window.happened(&events);
        self.judged.extend(events);
        for rule in OF_EVENTS {
            self.ask(rule, now);
        }
        self.changes(now, now, |rule| OF_EVENTS.iter().any(|one| one.id == rule.id))
    }

    /// The next sample comes after a gap of so many milliseconds, whatever its time.
    pub fn skip(&mut self, pause_ms: u64) {
        self.window.skip(pause_ms);
    }

    fn count(&mut self, events: &[Event]) {
        for (at, event) in events.iter().enumerate() {
            let Some(code) = event.code.filter(|_| event.kind == EventKind::Xid) else { continue };
            let before = self.window.events(LATELY).chain(&events[..at]);
            if before.into_iter().any(|other| event.is_other_report_of(other)) {
                continue;
            }
            self.last_xid.retain(|(uuid, _)| *uuid != event.uuid);
            self.last_xid.push((event.uuid.clone(), code));
            let room = self.xids.len() < MOST;
            let mut known = self.xids.iter_mut();
            match known.find(|(uuid, known, _)| *uuid == event.uuid && *known == code) {
                Some((_, _, count)) => *count += 1,
                None if room => self.xids.push((event.uuid.clone(), code, 1)),
                None => {}
            }
        }
    }

    fn ask(&mut self, rule: &'static Rule, now: u64) {
        for seen in (rule.check)(&self.window) {
            self.note(rule, seen, now);
        }
    }

    /// What begins and ends now, of the rules that were asked; what is over was so at the latest at `over_at`.
    fn changes(&mut self, now: u64, over_at: u64, asked: impl Fn(&Rule) -> bool) -> Vec<Change> {
        let mut changes = Vec::new();
        let cap = self.cap;
        let scaled = |time: Duration| time.min(cap).as_millis() as u64;
        self.tracks.retain_mut(|track| {
            if !asked(track.rule) {
                return true;
            }
            let unseen = now.saturating_sub(track.last_ms);
            let held = now.saturating_sub(track.first_ms) >= scaled(track.rule.hold);
            let worse = track.told.is_none_or(|told| told < track.finding.severity);
            if track.last_ms == now && worse && (held || track.told.is_some()) {
                track.told = Some(track.finding.severity);
                changes.push(Change::Begins(track.finding.clone()));
            }
            // Before it is told of one gap ends it: it must hold throughout.
            let told = track.told.is_some();
            let over = if told { unseen > scaled(track.rule.clear) } else { unseen > 0 };
            if over && told {
                // A clock that was set back lets nothing end before it began.
                let end = over_at.max(track.finding.since_ms);
                changes.push(Change::Ends(track.finding.clone(), end));
            }
            !over
        });
        changes
    }

    fn note(&mut self, rule: &'static Rule, seen: Seen, now: u64) {
        let same = |track: &&mut Track| {
            track.finding.rule == rule.id
                && track.finding.uuid == seen.uuid
                && track.finding.key == seen.key
        };
        let severity = seen.severity.unwrap_or(rule.severity);
        let action = seen.action.unwrap_or_else(|| rule.action.to_owned());
        if let Some(track) = self.tracks.iter_mut().find(same) {
            track.last_ms = now;
            track.finding.evidence = seen.evidence;
            track.finding.severity = severity;
            track.finding.action = action;
            return;
        }
        if self.tracks.len() >= MOST {
            return;
        }
        let finding = Finding {
            rule: rule.id,
            title: rule.title,
            severity,
            gpu: seen.gpu,
            uuid: seen.uuid,
            key: seen.key,
            since_ms: now,
            evidence: seen.evidence,
            action,
        };
        self.tracks.push(Track { rule, finding, first_ms: now, last_ms: now, told: None });
    }

    /// What holds now, the worst first.
    pub fn findings(&self) -> Vec<Finding> {
        let fired = self.tracks.iter().filter(|track| track.told.is_some());
        let mut all: Vec<Finding> = fired.map(|track| track.finding.clone()).collect();
        all.sort_by_key(|finding| (std::cmp::Reverse(finding.severity), finding.gpu, finding.rule));
        all
    }

    /// In how many samples some rules could not be told of, as samples were too far apart, and how far at most.
    pub fn blind(&self) -> Option<(u64, Duration)> {
        self.blind
    }

    /// The last error of each GPU.
    pub fn last_xid(&self) -> &[(String, u32)] {
        &self.last_xid
    }

    /// All errors so far: GPU, number, how often.
    pub fn xids(&self) -> &[(String, u32, u64)] {
        &self.xids
    }
}
