//! Why a lock is what it is.

use std::fmt::Write;

use serde::Serialize;

/// One alternative that was looked at and not taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Refused {
    /// The alternative: "torch 2.15.0".
    pub what: String,
    /// Why not.
    pub why: String,
}

/// One choice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Choice {
    /// What was chosen about: "torch", "driver".
    pub subject: String,
    /// What was chosen: "2.10.0 (CUDA 12.8)".
    pub choice: String,
    /// Why, in a sentence.
    pub why: String,
    /// What was refused on the way, best first.
    pub refused: Vec<Refused>,
}

/// Every choice of a resolution, in the order they were made, and what to know besides.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// The choices.
    pub choices: Vec<Choice>,
    /// Things to know: caveats of the chosen set, things that could not be checked.
    pub notes: Vec<String>,
}

impl Explanation {
    pub(crate) fn choose(
        &mut self,
        subject: &str,
        choice: impl Into<String>,
        why: impl Into<String>,
        refused: Vec<Refused>,
    ) {
        let (choice, why) = (choice.into(), why.into());
        self.choices.push(Choice { subject: subject.to_owned(), choice, why, refused });
    }

    pub(crate) fn note(&mut self, text: impl Into<String>) {
        let text = text.into();
        if !self.notes.contains(&text) {
            self.notes.push(text);
        }
    }

    /// For people: one choice a paragraph, refusals beneath, those with the same reason together.
    pub fn render(&self) -> String {
        let mut out = String::new();
        for choice in &self.choices {
            let _ = writeln!(out, "{}: {}\n  {}", choice.subject, choice.choice, choice.why);
            let mut rest = choice.refused.as_slice();
            while let Some(first) = rest.first() {
                let same = rest.iter().take_while(|refused| refused.why == first.why).count();
                let names: Vec<_> =
                    rest.iter().take(same).map(|refused| refused.what.as_str()).collect();
                let _ = writeln!(out, "  not {}: {}", names.join(", "), first.why);
                rest = rest.get(same..).unwrap_or_default();
            }
        }
        for note in &self.notes {
            let _ = writeln!(out, "note: {note}");
        }
        out
    }
}
