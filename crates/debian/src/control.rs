//! Debian control data: stanzas of `Field: value` lines with folded continuation lines.
//!
//! Source: Debian Policy §5.1, "Syntax of control files"; deb822(5). Read as a stream, with
//! bounds on a line, a stanza and the number of fields.

use std::io::{self, BufRead, Read};

/// The longest line, bytes. The longest in trixie's index has about 60,000 (`Provides`).
const MAX_LINE: usize = 1 << 20;
/// The longest stanza, bytes. A `Release` of all architectures has about 200,000.
const MAX_STANZA: usize = 8 << 20;
/// The most fields of a stanza.
const MAX_FIELDS: usize = 256;

/// One stanza: fields in the order they came in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stanza {
    fields: Vec<(String, String)>,
}

impl Stanza {
    /// A field's value, its name without regard to case. A folded value keeps its line breaks;
    /// the blank that starts each continuation line is gone.
    pub fn get(&self, name: &str) -> Option<&str> {
        let field = self.fields.iter().find(|(field, _)| field.eq_ignore_ascii_case(name))?;
        Some(&field.1)
    }

    /// All fields.
    pub fn fields(&self) -> impl Iterator<Item = (&str, &str)> {
        self.fields.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Sets a field, in its place if it is there already, else last.
    pub fn set(&mut self, name: &str, value: &str) {
        match self.fields.iter_mut().find(|(field, _)| field.eq_ignore_ascii_case(name)) {
            Some(field) => field.1 = value.to_owned(),
            None => self.fields.push((name.to_owned(), value.to_owned())),
        }
    }

    /// The stanza as text, one line break at its end.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        for (name, value) in &self.fields {
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
        text
    }
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
        let mut size = 0;
        while let Some(line) = self.next_line()? {
            if line.trim_ascii().is_empty() {
                if stanza.fields.is_empty() {
                    continue;
                }
                return Ok(Some(stanza));
            }
            size += line.len();
            if size > MAX_STANZA {
                return Err(self.fault("the stanza is longer than 8 MiB"));
            }
            let text = std::str::from_utf8(line).map(str::trim_ascii_end);
            let Ok(text) = text.map(str::to_owned) else {
                return Err(self.fault("not UTF-8"));
            };
            self.take_line(&mut stanza, &text)?;
        }
        Ok((!stanza.fields.is_empty()).then_some(stanza))
    }

    fn take_line(&self, stanza: &mut Stanza, text: &str) -> Result<(), ControlError> {
        if text.starts_with('#') {
            return Ok(());
        }
        if let Some(continued) = text.strip_prefix([' ', '\t']) {
            let Some((_, value)) = stanza.fields.last_mut() else {
                return Err(self.fault("a continuation line without a field before it"));
            };
            value.push('\n');
            value.push_str(continued);
            return Ok(());
        }
        let Some((name, value)) = text.split_once(':') else {
            return Err(self.fault("a line without a colon"));
        };
        let printable = |c: u8| c.is_ascii_graphic() && c != b':';
        if name.is_empty() || name.starts_with('-') || !name.bytes().all(printable) {
            return Err(self.fault("a field name of other than printable characters"));
        }
        if stanza.get(name).is_some() {
            return Err(self.fault("a field that stands twice"));
        }
        if stanza.fields.len() >= MAX_FIELDS {
            return Err(self.fault("more than 256 fields"));
        }
        stanza.fields.push((name.to_owned(), value.trim_ascii().to_owned()));
        Ok(())
    }

    fn fault(&self, reason: &'static str) -> ControlError {
        ControlError::Syntax { line: self.line, reason }
    }

    fn next_line(&mut self) -> Result<Option<&[u8]>, ControlError> {
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
        Ok((n > 0).then_some(&self.buffer))
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
