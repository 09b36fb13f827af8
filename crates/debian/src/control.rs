//! Debian control data: stanzas of `Field: value` lines with folded continuation lines.
//!
//! Source: Debian Policy §5.1, "Syntax of control files"; deb822(5). Read as a stream, with
//! bounds on a line, a stanza and the number of fields.

use std::fmt;
use std::io::{self, BufRead, Read};
use std::ops::Range;

/// The longest line, bytes. The longest in trixie's index has about 60,000 (`Provides`).
const MAX_LINE: usize = 1 << 20;
/// The longest stanza, bytes. A `Release` of all architectures has about 200,000.
const MAX_STANZA: usize = 8 << 20;
/// The most fields of a stanza.
const MAX_FIELDS: usize = 256;

/// One stanza: fields in the order they came in.
#[derive(Clone, Default)]
pub struct Stanza {
    /// Names and values, one after the other: a list has a million of them.
    text: String,
    fields: Vec<Field>,
}

/// Where a field stands in the text of its stanza.
#[derive(Clone)]
struct Field {
    name: Range<usize>,
    value: Range<usize>,
}

impl Stanza {
    /// A field's value, its name without regard to case. A folded value keeps its line breaks;
    /// the blank that starts each continuation line is gone.
    pub fn get(&self, name: &str) -> Option<&str> {
        let mut fields = self.fields.iter();
        let field = fields.find(|field| self.part(&field.name).eq_ignore_ascii_case(name))?;
        Some(self.part(&field.value))
    }

    /// All fields.
    pub fn fields(&self) -> impl Iterator<Item = (&str, &str)> {
        self.fields.iter().map(|field| (self.part(&field.name), self.part(&field.value)))
    }

    /// Sets a field, in its place if it is there already, else last.
    pub fn set(&mut self, name: &str, value: &str) {
        let there = self.fields.iter().position(|f| self.part(&f.name).eq_ignore_ascii_case(name));
        match there {
            Some(at) => self.fields[at].value = self.put(value),
            None => {
                let field = Field { name: self.put(name), value: self.put(value) };
                self.fields.push(field);
            }
        }
    }

    /// The stanza as text, one line break at its end.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        self.fields().for_each(|(name, value)| write_field(&mut text, name, value));
        text
    }

    fn part(&self, range: &Range<usize>) -> &str {
        self.text.get(range.clone()).unwrap_or_default()
    }

    fn put(&mut self, part: &str) -> Range<usize> {
        let start = self.text.len();
        self.text.push_str(part);
        start..self.text.len()
    }

    fn clear(&mut self) {
        self.text.clear();
        self.fields.clear();
    }
}

impl PartialEq for Stanza {
    fn eq(&self, other: &Self) -> bool {
        self.fields().eq(other.fields())
    }
}

impl Eq for Stanza {}

impl fmt::Debug for Stanza {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.fields()).finish()
    }
}

/// Writes a field as control data has it.
pub(crate) fn write_field(text: &mut String, name: &str, value: &str) {
    text.push_str(name);
    text.push(':');
    for (number, line) in value.split('\n').enumerate() {
        // The first line of a folded field such as `Conffiles` may be empty.
        if number > 0 {
            text.push('\n');
        }
        if number > 0 || !line.is_empty() {
            text.push(' ');
        }
        text.push_str(line);
    }
    text.push('\n');
}

/// Why control data can't be read.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The bytes below could not be read.
    #[error("line {line}: {source}")]
    Read {
        /// Where, counted from 1.
        line: u64,
        /// What happened.
        #[source]
        source: io::Error,
    },
    /// The text breaks a rule.
    #[error("line {line}: {reason}")]
    Syntax {
        /// Where, counted from 1.
        line: u64,
        /// Which rule.
        reason: &'static str,
    },
}

/// Reads stanza by stanza.
pub struct Stanzas<R> {
    inner: R,
    line: u64,
    buffer: Vec<u8>,
}

impl<R: BufRead> Stanzas<R> {
    /// Reads from `inner`, which starts at the start of a stanza.
    pub fn new(inner: R) -> Self {
        Self { inner, line: 0, buffer: Vec::new() }
    }

    /// The next stanza, or nothing at the end.
    pub fn next_stanza(&mut self) -> Result<Option<Stanza>, ControlError> {
        let mut stanza = Stanza::default();
        Ok(self.read_into(&mut stanza)?.then_some(stanza))
    }

    /// As [`Stanzas::next_stanza`], in the place of another stanza; false at the end.
    pub fn read_into(&mut self, stanza: &mut Stanza) -> Result<bool, ControlError> {
        stanza.clear();
        let mut size = 0;
        while self.read_line()? {
            let line = self.buffer.as_slice();
            if line.trim_ascii().is_empty() {
                if stanza.fields.is_empty() {
                    continue;
                }
                return Ok(true);
            }
            size += line.len();
            if size > MAX_STANZA {
                return Err(self.fault("the stanza is longer than 8 MiB"));
            }
            let Ok(text) = std::str::from_utf8(line).map(str::trim_ascii_end) else {
                return Err(self.fault("not UTF-8"));
            };
            stanza.take_line(text).map_err(|reason| self.fault(reason))?;
        }
        Ok(!stanza.fields.is_empty())
    }

    fn fault(&self, reason: &'static str) -> ControlError {
        ControlError::Syntax { line: self.line, reason }
    }

    /// Reads a line into the buffer; false at the end.
    fn read_line(&mut self) -> Result<bool, ControlError> {
        self.buffer.clear();
        self.line += 1;
        let line = self.line;
        let n = (&mut self.inner)
            .take(MAX_LINE as u64 + 1)
            .read_until(b'\n', &mut self.buffer)
            .map_err(|source| ControlError::Read { line, source })?;
        if n > MAX_LINE {
            return Err(self.fault("longer than 1 MiB"));
        }
        if self.buffer.contains(&0) {
            return Err(self.fault("a NUL byte"));
        }
        Ok(n > 0)
    }
}

impl Stanza {
    /// Adds a line, or says which rule it breaks.
    fn take_line(&mut self, text: &str) -> Result<(), &'static str> {
        if text.starts_with('#') {
            return Ok(());
        }
        if let Some(continued) = text.strip_prefix([' ', '\t']) {
            // The last value stands at the end of the text.
            let Some(last) = self.fields.last_mut() else {
                return Err("a continuation line without a field before it");
            };
            self.text.push('\n');
            self.text.push_str(continued);
            last.value.end = self.text.len();
            return Ok(());
        }
        let Some((name, value)) = text.split_once(':') else {
            return Err("a line without a colon");
        };
        let printable = |c: u8| c.is_ascii_graphic() && c != b':';
        if name.is_empty() || name.starts_with('-') || !name.bytes().all(printable) {
            return Err("a field name of other than printable characters");
        }
        if self.get(name).is_some() {
            return Err("a field that stands twice");
        }
        if self.fields.len() >= MAX_FIELDS {
            return Err("more than 256 fields");
        }
        let field = Field { name: self.put(name), value: self.put(value.trim_ascii()) };
        self.fields.push(field);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &[u8]) -> Result<Vec<Stanza>, ControlError> {
        let mut stanzas = Stanzas::new(text);
        let mut all = Vec::new();
        while let Some(stanza) = stanzas.next_stanza()? {
            all.push(stanza);
        }
        Ok(all)
    }

    #[test]
    fn stanzas_and_folded_fields() {
        let text = "# a comment\nPackage: a\nDescription: first\n second\n .\n\n\n\nPackage: b\n";
        let all = parse(text.as_bytes()).unwrap();
        assert_eq!(all.len(), 2);
        assert_eq!(all[0].get("description"), Some("first\nsecond\n."));
        assert_eq!(all[0].to_text(), "Package: a\nDescription: first\n second\n .\n");
        assert_eq!(parse(all[0].to_text().as_bytes()).unwrap(), all[..1]);
        assert_eq!(all[1].get("Package"), Some("b"));
    }

    #[test]
    fn faults_name_the_line() {
        for (text, message) in [
            (&b" x"[..], "line 1: a continuation line without a field before it"),
            (b"A: 1\nb", "line 2: a line without a colon"),
            (b"A: 1\na: 2", "line 2: a field that stands twice"),
            (b"A: \xff", "line 1: not UTF-8"),
            (b"A: 1\n\x00B: 2", "line 2: a NUL byte"),
            (b"A b: 1", "line 1: a field name of other than printable characters"),
        ] {
            assert_eq!(parse(text).unwrap_err().to_string(), message);
        }
        let long = vec![b'a'; MAX_LINE + 2];
        assert_eq!(parse(&long).unwrap_err().to_string(), "line 1: longer than 1 MiB");
        let many: String = (0..300).map(|n| format!("F{n}: x\n")).collect();
        assert!(parse(many.as_bytes()).unwrap_err().to_string().contains("256 fields"));
    }
}
