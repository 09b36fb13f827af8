//! The answers of the programs inside: one line of JSON for each check (docs/format/verify.md).
//!
//! They are bytes from a container: bounded in number and length, read strictly, and cleaned of all
//! that could move a terminal's cursor.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// Bytes of one line.
const MOST_LINE: usize = 16 << 10;
/// Bytes of all lines.
const MOST_BYTES: usize = 1 << 20;
/// Characters of a detail.
const MOST_DETAIL: usize = 2000;
/// Figures of one check.
const MOST_FIGURES: usize = 32;

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It holds.
    Pass,
    /// It does not, or could not be made where it should.
    Fail,
    /// It can't be asked here, and that is not a fault.
    NotApplicable,
}

/// The answer to one check.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    /// The check's name.
    pub check: String,
    /// How it came out.
    pub verdict: Outcome,
    /// What was found, or the reason, in one line.
    pub detail: String,
    /// How long it took.
    pub seconds: f64,
    /// What was measured, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub figures: BTreeMap<String, f64>,
}

impl Answer {
    /// An answer without figures.
    pub fn new(check: &str, verdict: Outcome, detail: impl Into<String>, seconds: f64) -> Self {
        let (check, detail) = (check.to_owned(), clean(&detail.into()));
        Self { check, verdict, detail, seconds, figures: BTreeMap::new() }
    }

    /// The answer as its line, with the line's end.
    pub fn line(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(self).map(|line| line + "\n")
    }
}

/// A line that is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// It is not JSON of an answer's shape.
    Shape(String),
    /// It is longer than a line may be.
    Long,
    /// It answers a check that was not asked.
    Unasked(String),
    /// It answers a check that was answered before; the first answer counts.
    Again(String),
    /// The file is longer than it may be; the rest is not read.
    Flood,
}

impl std::fmt::Display for Malformed {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Shape(reason) => write!(out, "a line from inside is no answer: {reason}"),
            Self::Long => write!(out, "a line from inside is longer than {MOST_LINE} bytes"),
            Self::Unasked(name) => write!(out, "an answer to `{name}`, which was not asked"),
            Self::Again(name) => write!(out, "a second answer to `{name}`; the first counts"),
            Self::Flood => {
                write!(out, "more than {MOST_BYTES} bytes of answers; the rest is not read")
            }
        }
    }
}

/// Makes answers of bytes as they come.
#[derive(Debug)]
pub struct Reader {
    asked: BTreeSet<String>,
    answered: BTreeSet<String>,
    line: Vec<u8>,
    /// The line is too long: its rest is skipped.
    skipping: bool,
    taken: usize,
}

impl Reader {
    /// A reader of answers to these checks.
    pub fn new<'a>(asked: impl IntoIterator<Item = &'a str>) -> Self {
        let asked = asked.into_iter().map(str::to_owned).collect();
        Self { asked, answered: BTreeSet::new(), line: Vec::new(), skipping: false, taken: 0 }
    }

    /// What these bytes, after all before them, complete.
    pub fn read(&mut self, bytes: &[u8]) -> Vec<Result<Answer, Malformed>> {
        let mut found = Vec::new();
        if self.taken > MOST_BYTES {
            return found;
        }
        for byte in bytes {
            self.taken += 1;
            if self.taken > MOST_BYTES {
                found.push(Err(Malformed::Flood));
                self.line = Vec::new();
                break;
            }
            match byte {
                b'\n' if self.skipping => self.skipping = false,
                b'\n' => {
                    let line = std::mem::take(&mut self.line);
                    if !line.is_empty() {
                        found.push(self.answer(&line));
                    }
                }
                _ if self.skipping => {}
                _ if self.line.len() == MOST_LINE => {
                    self.line = Vec::new();
                    self.skipping = true;
                    found.push(Err(Malformed::Long));
                }
                byte => self.line.push(*byte),
            }
        }
        found
    }

    fn answer(&mut self, line: &[u8]) -> Result<Answer, Malformed> {
        let mut answer: Answer = serde_json::from_slice(line)
            .map_err(|error| Malformed::Shape(clean(&error.to_string())))?;
        if !self.asked.contains(&answer.check) {
            let name: String = answer.check.chars().take(60).collect();
            return Err(Malformed::Unasked(clean(&name)));
        }
        if !(0.0..1e6).contains(&answer.seconds) {
            return Err(Malformed::Shape("a time that can't be".to_owned()));
        }
        let sound = |name: &String| {
            name.len() <= 40
                && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
        };
        if answer.figures.len() > MOST_FIGURES || !answer.figures.keys().all(sound) {
            return Err(Malformed::Shape("figures that can't be".to_owned()));
        }
        answer.detail = clean(&answer.detail);
        if !self.answered.insert(answer.check.clone()) {
            return Err(Malformed::Again(answer.check));
        }
        Ok(answer)
    }
}

/// Text from outside for a line of a terminal: no control characters, none that turn the direction of
/// writing (Unicode's bidirectional embeddings, overrides and isolates), and not without end.
pub(crate) fn clean(text: &str) -> String {
    let turns = |char| matches!(char, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let shown = text.chars().take(MOST_DETAIL);
    shown.map(|char| if char.is_control() || turns(char) { ' ' } else { char }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(check: &str, detail: &str) -> String {
        Answer { detail: detail.to_owned(), ..Answer::new(check, Outcome::Pass, "", 0.5) }
            .line()
            .unwrap()
    }

    fn reader() -> Reader {
        Reader::new(["cudnn", "nccl"])
    }

    #[test]
    fn answers_come_in_pieces() {
        let mut reader = reader();
        let text = line("cudnn", "fine") + "\n" + &line("nccl", "fine too");
        let found: Vec<_> = text.bytes().flat_map(|byte| reader.read(&[byte])).collect();
        let names: Vec<_> = found.into_iter().map(|answer| answer.unwrap().check).collect();
        assert_eq!(names, ["cudnn", "nccl"]);
        assert!(reader.read(b"{\"check\":").is_empty(), "half a line is none");
    }

    #[test]
    fn what_is_no_answer_is_said_and_the_rest_read() {
        let mut reader = reader();
        let good = line("cudnn", "x");
        let shapes = [
            "hello\n".to_owned(),
            "{}\n".to_owned(),
            "[1,2]\n".to_owned(),
            "\u{0}\u{1}\n".to_owned(),
            good.replace("pass", "perhaps"),
            good.replace("0.5", "-1"),
            good.replace("0.5", "1e400"),
            good.replace("0.5}", "0.5,\"more\":1}"),
            good.replace("0.5}", "0.5,\"figures\":{\"a b\":1}}"),
            good.replace("0.5}", "0.5,\"figures\":{\"a\":\"1\"}}"),
            "[".repeat(10_000) + "\n",
        ];
        for text in shapes {
            let found = reader.read(text.as_bytes());
            assert!(matches!(found.as_slice(), [Err(Malformed::Shape(_))]), "{text}: {found:?}");
        }
        assert_eq!(reader.read(b"\xff\xfe\n").len(), 1);
        let found = reader.read(line("rm -rf", "").as_bytes());
        assert_eq!(found, [Err(Malformed::Unasked("rm -rf".into()))]);
        assert!(reader.read(good.as_bytes())[0].is_ok());
        assert_eq!(reader.read(good.as_bytes()), [Err(Malformed::Again("cudnn".into()))]);
    }

    #[test]
    fn a_line_without_end_and_a_flood_are_bounded() {
        let mut reader = reader();
        let long = vec![b'x'; MOST_LINE * 3];
        assert_eq!(reader.read(&long), [Err(Malformed::Long)]);
        assert!(reader.line.capacity() <= MOST_LINE);
        let found = reader.read((String::from("yyy\n") + &line("nccl", "")).as_bytes());
        assert!(matches!(found.as_slice(), [Ok(_)]), "{found:?}");
        let flood = b"\n".repeat(MOST_BYTES);
        assert_eq!(reader.read(&flood), [Err(Malformed::Flood)]);
        assert!(reader.read(line("cudnn", "").as_bytes()).is_empty());
    }

    #[test]
    fn details_cannot_move_the_cursor() {
        let mut reader = reader();
        let hostile =
            "red \u{1b}[31m back\rbell\u{7} \u{202e}turned".to_owned() + &"z".repeat(5000);
        let answer = reader.read(line("cudnn", &hostile).as_bytes()).remove(0).unwrap();
        assert!(answer.detail.starts_with("red  [31m back bell   turned"), "{}", answer.detail);
        assert_eq!(answer.detail.chars().count(), MOST_DETAIL);
    }
}
