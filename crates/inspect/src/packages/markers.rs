//! Requirements as `Requires-Dist` writes them: a name, bounds of its version, and a marker that says where they hold.
//!
//! Source: PyPA "Dependency specifiers" and "Version specifiers". Only releases are compared, as numbers: what has
//! another form decides nothing, so that no requirement is held to be broken that a resolver would take.

use super::{normalise, numbers, release};

/// What markers ask of a place; a value that is not known decides nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// `3.12` or `3.12.3`.
    pub python: Option<String>,
    /// `x86_64`.
    pub machine: String,
}

/// One requirement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement<'a> {
    /// The package's name, normalised.
    pub name: String,
    /// The extras that are asked for, normalised.
    pub extras: Vec<String>,
    /// The bounds, as they are written: `>=9.8,<10.0`.
    pub bounds: &'a str,
    /// The marker, as it is written.
    pub marker: &'a str,
}

/// The longest requirement that is read, bytes.
const MAX_LINE: usize = 4 << 10;
/// Parentheses of a marker within each other.
const MAX_DEPTH: usize = 16;

impl<'a> Requirement<'a> {
    /// Reads a line; nothing of one that names an address instead of bounds, or has no name.
    pub fn read(line: &'a str) -> Option<Self> {
        if line.len() > MAX_LINE {
            return None;
        }
        let (requirement, marker) = line.split_once(';').unwrap_or((line, ""));
        let requirement = requirement.trim();
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let end = requirement.find(|c| !plain(c)).unwrap_or(requirement.len());
        let (name, rest) = requirement.split_at(end);
        let rest = rest.trim_start();
        let (extras, rest) = match rest.strip_prefix('[') {
            Some(rest) => rest.split_once(']')?,
            None => ("", rest),
        };
        let extras = extras.split(',').map(str::trim).filter(|extra| !extra.is_empty());
        let (extras, rest) = (extras.map(normalise).collect(), rest.trim_start());
        if name.is_empty() || rest.starts_with('@') {
            return None;
        }
        let bounds = rest.trim_matches(|c: char| c.is_whitespace() || matches!(c, '(' | ')'));
        Some(Self { name: normalise(name), extras, bounds, marker: marker.trim() })
    }

    /// Whether an extra asks for it.
    pub fn is_extra(&self) -> bool {
        self.marker.contains("extra")
    }

    /// The extra that asks for it, normalised, where its marker names one.
    pub fn of_extra(&self) -> Option<String> {
        let (_, rest) = self.marker.split_once("extra")?;
        let rest = rest.trim_start().strip_prefix("==")?.trim_start();
        let quote = rest.chars().next().filter(|c| matches!(c, '"' | '\''))?;
        Some(normalise(rest[1..].split(quote).next()?))
    }

    /// Whether it holds at `place`: not where its marker says no, nor where that can't be told.
    pub fn holds(&self, place: &Place) -> bool {
        self.marker.is_empty() || holds(self.marker, place) == Some(true)
    }

    /// Whether it would hold with the extra that asks for it.
    pub fn holds_with_extras(&self, place: &Place) -> bool {
        self.marker.is_empty() || Marker::read(self.marker, place, true) == Some(true)
    }

    /// The bound that `version` breaks.
    pub fn broken_by(&self, version: &str) -> Option<&'a str> {
        self.bounds.split(',').map(str::trim).find(|bound| allows(bound, version) == Some(false))
    }
}

/// Whether a bound like `>=9.8` allows a version; nothing where either has a form that is not compared.
fn allows(bound: &str, version: &str) -> Option<bool> {
    let operators = ["===", "==", "!=", "<=", ">=", "~=", "<", ">"];
    let operator = operators.into_iter().find(|operator| bound.starts_with(operator))?;
    let wanted = bound[operator.len()..].trim();
    let public = version.split('+').next().unwrap_or(version);
    let own = release(public)?;
    // What comes before or after a release is another matter: 2.6.0a0 is none of 2.6.
    let is_release = numbers(public).is_some();
    if let Some(prefix) = wanted.strip_suffix(".*") {
        let prefix_numbers: Vec<u64> =
            prefix.split('.').map(|part| part.parse().ok()).collect::<Option<_>>()?;
        let begins = begins(&own, &prefix_numbers);
        return match operator {
            "==" => Some(begins),
            "!=" => Some(!begins),
            _ => None,
        };
    }
    let other = numbers(wanted.split('+').next().unwrap_or(wanted))?;
    if !is_release && own == other {
        return None;
    }
    Some(match operator {
        "==" | "===" => own == other,
        "!=" => own != other,
        "<=" => own <= other,
        ">=" => own >= other,
        "<" => own < other,
        ">" => own > other,
        _ => {
            let parts = wanted.split('.').count().checked_sub(1).filter(|parts| *parts > 0)?;
            let prefix: Vec<u64> = wanted
                .split('.')
                .take(parts)
                .map(|part| part.parse().ok())
                .collect::<Option<_>>()?;
            own >= other && begins(&own, &prefix)
        }
    })
}

/// Whether a release, whose last zeros are left out, begins with these numbers.
fn begins(own: &[u64], prefix: &[u64]) -> bool {
    prefix.iter().enumerate().all(|(at, number)| own.get(at).unwrap_or(&0) == number)
}

fn holds(marker: &str, place: &Place) -> Option<bool> {
    Marker::read(marker, place, false)
}

/// A marker that is being read.
struct Marker<'a> {
    words: Vec<&'a str>,
    at: usize,
    place: &'a Place,
    /// Whether the extras that it names are wanted.
    extras: bool,
}

impl<'a> Marker<'a> {
    fn read(text: &'a str, place: &'a Place, extras: bool) -> Option<bool> {
        let mut marker = Self { words: words(text)?, at: 0, place, extras };
        let value = marker.any(0);
        if marker.at == marker.words.len() { value } else { None }
    }

    fn peek(&self) -> Option<&'a str> {
        self.words.get(self.at).copied()
    }

    fn take(&mut self) -> Option<&'a str> {
        let word = self.peek()?;
        self.at += 1;
        Some(word)
    }

    fn any(&mut self, depth: usize) -> Option<bool> {
        let mut value = self.all(depth);
        while self.peek() == Some("or") {
            self.at += 1;
            let next = self.all(depth);
            value = match (value, next) {
                (Some(true), _) | (_, Some(true)) => Some(true),
                (Some(false), Some(false)) => Some(false),
                _ => None,
            };
        }
        value
    }

    fn all(&mut self, depth: usize) -> Option<bool> {
        let mut value = self.one(depth);
        while self.peek() == Some("and") {
            self.at += 1;
            let next = self.one(depth);
            value = match (value, next) {
                (Some(false), _) | (_, Some(false)) => Some(false),
                (Some(true), Some(true)) => Some(true),
                _ => None,
            };
        }
        value
    }

    fn one(&mut self, depth: usize) -> Option<bool> {
        if self.peek() == Some("(") {
            if depth >= MAX_DEPTH {
                return None;
            }
            self.at += 1;
            let value = self.any(depth + 1);
            return if self.take() == Some(")") { value } else { None };
        }
        let left = self.take()?;
        let mut operator = self.take()?.to_owned();
        if operator == "not" {
            operator = format!("not {}", self.take()?);
        }
        let right = self.take()?;
        self.compare(left, &operator, right)
    }

    fn compare(&self, left: &str, operator: &str, right: &str) -> Option<bool> {
        if left == "extra" || right == "extra" {
            return Some(self.extras);
        }
        let (left_value, right_value) = (self.value(left)?, self.value(right)?);
        if left.starts_with("python_") {
            // `3.12` of 3.12.3 is python_version; of the full one no more may be known.
            let own = match left {
                "python_version" => left_value.split('.').take(2).collect::<Vec<_>>().join("."),
                _ if left_value.split('.').count() > 2 => left_value,
                _ => return None,
            };
            return match operator {
                "in" => Some(right_value.contains(&own)),
                "not in" => Some(!right_value.contains(&own)),
                _ => allows(&format!("{operator}{right_value}"), &own),
            };
        }
        Some(match operator {
            "==" => left_value == right_value,
            "!=" => left_value != right_value,
            "in" => right_value.contains(&left_value),
            "not in" => !right_value.contains(&left_value),
            _ => return None,
        })
    }

    /// What a word stands for: a text in quotes, or something of the place.
    fn value(&self, word: &str) -> Option<String> {
        if let Some(text) = word.strip_prefix(['"', '\'']) {
            return Some(text[..text.len().saturating_sub(1)].to_owned());
        }
        Some(match word {
            "python_version" | "python_full_version" => self.place.python.clone()?,
            "sys_platform" => "linux".to_owned(),
            "platform_system" => "Linux".to_owned(),
            "os_name" => "posix".to_owned(),
            "platform_machine" => self.place.machine.clone(),
            "implementation_name" => "cpython".to_owned(),
            "platform_python_implementation" => "CPython".to_owned(),
            _ => return None,
        })
    }
}

/// The words of a marker: parentheses, operators, names, and texts with their quotes.
fn words(text: &str) -> Option<Vec<&str>> {
    let mut out = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let len = match first {
            '(' | ')' => 1,
            '"' | '\'' => 2 + rest[1..].find(first)?,
            '<' | '>' | '=' | '!' | '~' => {
                rest.find(|c| !matches!(c, '<' | '>' | '=' | '!' | '~')).unwrap_or(rest.len())
            }
            _ => {
                let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.');
                let len = rest.find(|c| !plain(c)).unwrap_or(rest.len());
                Some(len).filter(|len| *len > 0)?
            }
        };
        let (word, behind) = rest.split_at(len);
        out.push(word);
        rest = behind.trim_start();
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> Place {
        Place { python: Some("3.12.3".to_owned()), machine: "x86_64".to_owned() }
    }

    #[test]
    fn lines_and_their_markers() {
        for (line, name, bounds, applies) in [
            ("typing-extensions>=4.10.0", "typing-extensions", ">=4.10.0", true),
            (
                "nvidia_cudnn-cu12 (==9.1.0.70) ; platform_system == \"Linux\" and platform_machine == \"x86_64\"",
                "nvidia-cudnn-cu12",
                "==9.1.0.70",
                true,
            ),
            (
                "triton==3.1.0; platform_system == 'Linux' and python_version < '3.13'",
                "triton",
                "==3.1.0",
                true,
            ),
            ("setuptools; python_version >= \"3.13\"", "setuptools", "", false),
            (
                "a[b,c]>=1,<2; (sys_platform == 'win32' or python_full_version >= '3.12.4')",
                "a",
                ">=1,<2",
                false,
            ),
            (
                "nvidia-cudnn-cu12<10.0,>=9.8; extra == \"with-cuda\"",
                "nvidia-cudnn-cu12",
                "<10.0,>=9.8",
                false,
            ),
            ("x; made_up == 'y'", "x", "", false),
            ("x; python_version >= ", "x", "", false),
            ("x; ((((((((((((((((((((", "x", "", false),
        ] {
            let read = Requirement::read(line).unwrap();
            assert_eq!((read.name.as_str(), read.bounds), (name, bounds), "{line}");
            assert_eq!(read.holds(&place()), applies, "{line}");
        }
        let extra = Requirement::read("x>=1; extra == 'y' and python_version > '3.9'").unwrap();
        assert!(extra.is_extra() && !extra.holds(&place()) && extra.holds_with_extras(&place()));
        for none in ["x @ https://example.org/x.whl", "", "[x]", "; y", "x[y"] {
            assert_eq!(Requirement::read(none), None, "{none}");
        }
    }

    #[test]
    fn bounds() {
        for (bounds, version, broken) in [
            (">=9.8,<10.0", "9.1.0.70", Some(">=9.8")),
            (">=9.8,<10.0", "9.8", None),
            ("<10.0,>=9.8", "10.0.1", Some("<10.0")),
            ("==13.0.*", "13.0.48", None),
            ("==13.0.*", "13.1", Some("==13.0.*")),
            ("==2.5.1", "2.5.1+cu124", None),
            ("==2.5.1", "2.5.1.0", None),
            ("~=1.4", "1.9", None),
            ("~=1.4.2", "1.5", Some("~=1.4.2")),
            ("!=1.0", "1.0", Some("!=1.0")),
            (">=2.6", "2.6.0a0+git", None),
            (">=2.6", "nightly", None),
            ("", "1", None),
            ("what", "1", None),
        ] {
            let line = format!("x{bounds}");
            let Some(read) = Requirement::read(&line) else { panic!("{line}") };
            assert_eq!(read.broken_by(version), broken, "{bounds} {version}");
        }
    }
}
