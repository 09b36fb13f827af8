//! The answers together: as lines for people, as JSON for programs, and the verdict.

use serde_json::{Value, json};

use crate::answer::{Answer, Outcome, clean};
use crate::checks::Check;

/// The answers so far.
#[derive(Debug, Default)]
pub struct Report {
    /// In the order in which they came.
    pub answers: Vec<Answer>,
    /// What came from inside and was no answer.
    pub remarks: Vec<String>,
}

/// How many checks came out how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Those that hold.
    pub pass: usize,
    /// Those that do not.
    pub fail: usize,
    /// Those that could not be asked.
    pub not_applicable: usize,
}

impl Report {
    /// Gives each of `checks` that has no answer this one.
    pub fn fill(&mut self, checks: &[&Check], verdict: Outcome, reason: &str) -> Vec<Answer> {
        let missing = checks.iter().filter(|check| !self.has(check.name));
        let answers: Vec<Answer> =
            missing.map(|check| Answer::new(check.name, verdict, reason, 0.0)).collect();
        self.answers.extend(answers.iter().cloned());
        answers
    }

    /// Whether this check has its answer.
    pub fn has(&self, name: &str) -> bool {
        self.answers.iter().any(|answer| answer.check == name)
    }

    /// The numbers.
    pub fn tally(&self) -> Tally {
        let mut tally = Tally::default();
        for answer in &self.answers {
            match answer.verdict {
                Outcome::Pass => tally.pass += 1,
                Outcome::Fail => tally.fail += 1,
                Outcome::NotApplicable => tally.not_applicable += 1,
            }
        }
        tally
    }

    /// The verdict in a sentence.
    pub fn verdict(&self) -> String {
        let Tally { pass, fail, not_applicable } = self.tally();
        let failed = self.answers.iter().filter(|answer| answer.verdict == Outcome::Fail);
        match fail {
            0 => format!("verified: {pass} passed, {not_applicable} not applicable"),
            _ => {
                let names: Vec<&str> = failed.map(|answer| answer.check.as_str()).collect();
                let names = names.join(", ");
                format!("{fail} failed ({names}), {pass} passed, {not_applicable} not applicable")
            }
        }
    }

    /// The document of docs/format/verify.md.
    pub fn json(&self, target: &str, gpus: usize) -> Value {
        let tally = self.tally();
        json!({
            "version": 1,
            "target": target,
            "gpus": gpus,
            "verdict": if tally.fail == 0 { Outcome::Pass } else { Outcome::Fail },
            "passed": tally.pass,
            "failed": tally.fail,
            "not_applicable": tally.not_applicable,
            "checks": self.answers,
            "remarks": self.remarks,
        })
    }

    /// The last words of a program that ended early, for a reason: its last lines as one.
    pub fn last_words(output: &[u8]) -> String {
        let text = String::from_utf8_lossy(output);
        let lines: Vec<&str> =
            text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        clean(&lines[lines.len().saturating_sub(6)..].join(" | "))
    }
}

/// A line for people.
impl std::fmt::Display for Answer {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let verdict = match self.verdict {
            Outcome::Pass => "pass",
            Outcome::Fail => "FAIL",
            Outcome::NotApplicable => "n/a",
        };
        write!(out, "{verdict:<4}  {:<18}  {}", self.check, self.detail)?;
        if self.seconds >= 0.05 { write!(out, " ({:.1} s)", self.seconds) } else { Ok(()) }
    }
}
