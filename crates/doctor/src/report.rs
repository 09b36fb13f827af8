//! Findings, the verdict over them, and both as text and JSON.

use std::fmt::Write;

use serde::Serialize;
use serde_json::{Value, json};

use crate::fix::{self, Step};
use crate::rules::{OF_PAIR, OF_START, RULES, Rule, WITHOUT_GPU, is_jetson};
use crate::snapshot::{Snapshot, Subject};
use crate::state::Trouble;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// CUDA, or the subject, can't work.
    Stops,
    /// Whether CUDA works is not known.
    Unknown,
    /// It works until something common is done, or works at a part of its speed.
    Warns,
    /// Good to know.
    Notes,
}

/// One thing found.
#[derive(Clone, Debug)]
pub struct Finding {
    /// The rule that found it.
    pub rule: &'static Rule,
    /// How bad it is.
    pub severity: Severity,
    /// What it is, in one sentence about this machine.
    pub summary: String,
    /// What was seen.
    pub evidence: Vec<String>,
    /// What to do on this machine; empty where the rule's own advice is all there is.
    pub steps: Vec<Step>,
}

impl Finding {
    /// A finding of `rule`.
    pub fn new(rule: &'static Rule, severity: Severity, summary: impl Into<String>) -> Self {
        Self { rule, severity, summary: summary.into(), evidence: Vec::new(), steps: Vec::new() }
    }

    /// Adds what was seen.
    pub fn seen(mut self, evidence: impl Into<String>) -> Self {
        self.evidence.push(evidence.into());
        self
    }

    /// With what to do about it on this machine.
    pub(crate) fn fix(mut self, steps: Vec<Step>) -> Self {
        self.steps = steps;
        self
    }

    /// What to do, a line for each step; `inside` is whether a container was looked at.
    pub fn advice(&self, inside: bool) -> Vec<String> {
        match self.steps.is_empty() {
            true => vec![self.rule.fix.to_owned()],
            false => self.steps.iter().map(|step| step.line(inside)).collect(),
        }
    }
}

/// What it comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Nothing found that matters.
    Ready,
    /// It will run; something should be seen to.
    ReadyWithWarnings,
    /// What was found does not decide it.
    CantTell,
    /// It can't work.
    Blocked,
    /// There is no NVIDIA GPU on this machine.
    NoGpu,
}

impl Verdict {
    /// The exit code of `sconce doctor`: 0 it can run, 1 it can't, 12 that is not known, 10 there is no GPU. (The others
    /// are those of every command: 2 a wrong command line, 6 a damaged snapshot.)
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Ready | Self::ReadyWithWarnings => 0,
            Self::Blocked => 1,
            Self::CantTell => 12,
            Self::NoGpu => 10,
        }
    }

    fn says(self) -> &'static str {
        match self {
            Self::Ready => "ready: nothing stands in the way",
            Self::ReadyWithWarnings => "ready, with warnings",
            Self::CantTell => {
                "can't tell: what was found does not decide whether a container with GPUs works here"
            }
            Self::Blocked => "blocked: a container with GPUs can't work here as it is",
            Self::NoGpu => {
                "no NVIDIA GPU on this machine: containers run on the processor (--gpus none)"
            }
        }
    }
}

/// All that was found, worst first.
#[derive(Clone, Debug)]
pub struct Report {
    /// What it comes to.
    pub verdict: Verdict,
    /// The findings.
    pub findings: Vec<Finding>,
    /// The machine in one line.
    pub machine: String,
    /// What was to run.
    pub subject: Option<String>,
    /// Whether this was seen from inside a container.
    pub container: bool,
}

/// What rules find, with the steps of the machine's own system.
fn found(rules: &[&Rule], snapshot: &Snapshot, subject: Option<&Subject>) -> Vec<Finding> {
    let found = rules.iter().flat_map(|rule| (rule.check)(snapshot, subject));
    let fitted = |finding: Finding| {
        let steps = finding.steps.into_iter().map(|step| fix::fitted(snapshot, step));
        Finding { steps: steps.collect(), ..finding }
    };
    found.map(fitted).collect()
}

/// Judges a snapshot by all rules, with what is to run there where that is known.
pub fn examine(snapshot: &Snapshot, subject: Option<&Subject>) -> Report {
    let rules = if is_jetson(snapshot) { WITHOUT_GPU } else { RULES };
    let mut findings = found(rules, snapshot, subject);
    findings.sort_by_key(|finding| finding.severity);
    let elsewhere = snapshot.wsl || is_jetson(snapshot);
    let nothing = snapshot.pci.is_empty() && snapshot.gpus.is_empty() && !elsewhere;
    let worst = findings.first().map(|finding| finding.severity);
    // Whatever the rules overlook, a GPU that can't be used is not nothing. One that was not given is.
    let mut troubles = snapshot.devices().into_iter().filter_map(|device| device.trouble);
    let troubled = troubles.any(|trouble| trouble != Trouble::Denied);
    let verdict = match worst {
        _ if nothing && snapshot.driver.module.is_none() => Verdict::NoGpu,
        Some(Severity::Stops) => Verdict::Blocked,
        // A driver without a GPU.
        _ if nothing => Verdict::NoGpu,
        Some(Severity::Unknown) => Verdict::CantTell,
        Some(Severity::Warns) => Verdict::ReadyWithWarnings,
        Some(Severity::Notes) | None if troubled => Verdict::ReadyWithWarnings,
        Some(Severity::Notes) | None => Verdict::Ready,
    };
    let subject = subject.map(|subject| subject.name.clone());
    let container = snapshot.container;
    Report { verdict, findings, machine: machine(snapshot), subject, container }
}

/// The rule about the fabric of NVLink.
const FABRIC: &str = "fabric-manager";

/// What a start can meet: without a subject of the machine, with one of the pair; worst first. Rules
/// about what a container of sconce's never sees (the host's /dev/shm, its variables) are left out.
pub fn before_start(snapshot: &Snapshot, subject: Option<&Subject>) -> Vec<Finding> {
    let rules = if subject.is_some() { OF_PAIR } else { OF_START };
    let mut findings = found(rules, snapshot, subject);
    // A container is given all of these GPUs: with one whose fabric is not up CUDA starts for none.
    for finding in &mut findings {
        if finding.rule.id == FABRIC {
            finding.severity = Severity::Stops;
        }
    }
    findings.sort_by_key(|finding| finding.severity);
    findings
}

/// Whether a character turns the direction of the text after it (Unicode's bidirectional controls).
fn is_turn(char: char) -> bool {
    matches!(char, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// `2x NVIDIA H100 80GB HBM3, driver 580.159.04 (CUDA up to 13.0)`.
fn machine(snapshot: &Snapshot) -> String {
    let mut models: Vec<(&str, usize)> = Vec::new();
    let devices = snapshot.devices();
    let given: Vec<_> = devices.iter().filter_map(|device| device.gpu).collect();
    for gpu in &given {
        match models.iter_mut().find(|(model, _)| *model == gpu.model) {
            Some((_, count)) => *count += 1,
            None => models.push((&gpu.model, 1)),
        }
    }
    let gpus: Vec<String> =
        models.iter().map(|(model, count)| format!("{count}x {model}")).collect();
    let mut line = if gpus.is_empty() { "no GPU seen".to_owned() } else { gpus.join(", ") };
    if given.len() < snapshot.gpus.len() {
        _ = write!(line, " (of {} on the machine)", snapshot.gpus.len());
    }
    match &snapshot.driver.module {
        Some(version) => _ = write!(line, ", driver {version}"),
        None => line += ", no driver loaded",
    }
    if let Some(cuda) = snapshot.driver.cuda {
        _ = write!(line, " (CUDA up to {}.{})", cuda / 1000, cuda % 1000 / 10);
    }
    line
}

/// Without control characters: a snapshot from elsewhere, or a file name, must neither speak to the
/// terminal nor write lines of its own.
pub(crate) fn plain(text: &str) -> String {
    text.chars()
        .map(|char| if char.is_control() || is_turn(char) { '\u{fffd}' } else { char })
        .collect()
}

impl Report {
    /// What tells one report from another, for those who wait for a change: rules and severities, and of what is
    /// more than a note its summary. Figures in notes, such as memory in use, change all the time.
    pub fn essence(&self) -> Vec<(&'static str, Severity, &str)> {
        let findings = self.findings.iter().map(|one| match one.severity {
            Severity::Notes => (one.rule.id, one.severity, ""),
            Severity::Stops | Severity::Unknown | Severity::Warns => {
                (one.rule.id, one.severity, one.summary.as_str())
            }
        });
        findings.collect()
    }

    /// For people: verdict, then each finding with evidence, fix and references.
    pub fn text(&self) -> String {
        let mut out = format!("{}\n", plain(&self.machine));
        if let Some(subject) = &self.subject {
            _ = writeln!(out, "for {}", plain(subject));
        }
        _ = writeln!(out, "{}", self.verdict.says());
        for (at, finding) in self.findings.iter().enumerate() {
            let word = match finding.severity {
                Severity::Stops => "STOPS",
                Severity::Unknown => "can't tell",
                Severity::Warns => "warns",
                Severity::Notes => "notes",
            };
            _ = writeln!(out, "\n{word}  {} [{}]", plain(&finding.summary), finding.rule.id);
            for seen in &finding.evidence {
                _ = writeln!(out, "       seen: {}", plain(seen));
            }
            // Findings of one rule with one remedy need it once, after the last.
            let next = self.findings.get(at + 1);
            let same =
                |next: &Finding| (next.rule.id, &next.steps) == (finding.rule.id, &finding.steps);
            if next.is_some_and(same) {
                continue;
            }
            for (at, line) in finding.advice(self.container).iter().enumerate() {
                let word = if at == 0 { "fix: " } else { "then:" };
                _ = writeln!(out, "       {word} {}", plain(line));
            }
            if !finding.rule.references.is_empty() {
                _ = writeln!(out, "       see:  {}", finding.rule.references.join(", "));
            }
        }
        out
    }

    /// For scripts: `schema` 1.
    pub fn json(&self) -> Value {
        let findings: Vec<Value> = self
            .findings
            .iter()
            .map(|finding| {
                json!({
                    "rule": finding.rule.id,
                    "severity": finding.severity,
                    "summary": finding.summary,
                    "evidence": finding.evidence,
                    "fix": finding.advice(self.container).join("; then "),
                    "steps": finding.steps,
                    "references": finding.rule.references,
                })
            })
            .collect();
        json!({
            "schema": 1,
            "verdict": self.verdict,
            "exit_code": self.verdict.exit_code(),
            "machine": self.machine,
            "subject": self.subject,
            "findings": findings,
        })
    }
}
