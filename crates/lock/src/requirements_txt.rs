//! The requirements.txt format (pip, "Requirements File Format").
//!
//! What is read here is what uv gets: each line in the form in which it was understood, never the
//! file itself. Two readers of one format would differ somewhere, and there a line could pass here
//! that runs code there (uv takes a second statement after `--hash=…` on one line).

use std::path::{Path, PathBuf};

use crate::place::{Place, file_url, is_place, place, wheel_place};

/// One thing that a line asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The file it stands in.
    pub file: PathBuf,
    /// Its number there, from 1.
    pub number: usize,
    /// What it asks for.
    pub ask: Ask,
}

/// What a line asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    /// A requirement as uv gets it, with its hashes.
    Requirement(String),
    /// Where else packages are: an option as uv gets it.
    Option(String),
    /// Every package must have a hash (`--require-hashes`).
    RequireHashes,
    /// Another file, whose lines are requirements, or constraints (`-c`).
    File {
        /// As it is written.
        path: String,
        /// Whether its lines are constraints.
        constraints: bool,
    },
}

/// What is wrong with a line: its number, from 1, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    pub number: usize,
    pub text: String,
    pub why: String,
    /// Whether something would have to be built.
    pub builds: bool,
}

/// What an option is to us.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Means {
    /// `-e`: code that runs here.
    Editable,
    /// `-r`, and with true `-c`.
    File(bool),
    /// An index or a collection of files: handed on under this name.
    Place(&'static str),
    /// A word without a value, handed on under this name.
    Flag(&'static str),
    /// `--require-hashes`.
    Hashes,
    /// Says nothing about what is chosen; with true it has a value.
    Nothing(bool),
}

/// The options that a file can have (pip, "Supported options"): spellings, and what they mean here.
const OPTIONS: &[(&[&str], Means)] = &[
    (&["-e", "--editable"], Means::Editable),
    (&["-r", "--requirement"], Means::File(false)),
    (&["-c", "--constraint"], Means::File(true)),
    (&["-i", "--index-url", "--pypi-url"], Means::Place("--index-url")),
    (&["--extra-index-url"], Means::Place("--extra-index-url")),
    (&["-f", "--find-links"], Means::Place("--find-links")),
    (&["--no-index"], Means::Flag("--no-index")),
    (&["--only-binary", "--trusted-host", "--use-feature"], Means::Nothing(true)),
    (&["--require-hashes"], Means::Hashes),
    (&["--prefer-binary", "--pre"], Means::Nothing(false)),
];

/// Reads the text of `file`; relative paths in it count from its folder.
pub(crate) fn parse(text: &str, file: &Path) -> Result<Vec<Line>, Fault> {
    let folder = file.parent().unwrap_or(Path::new(""));
    let mut lines = Vec::new();
    for (number, text) in logical_lines(text) {
        let fault = |(why, builds): (String, bool)| Fault {
            number,
            text: text.chars().take(120).collect(),
            why,
            builds,
        };
        let asks =
            if text.starts_with('-') { options(&text, folder) } else { requirement(&text, folder) };
        for ask in asks.map_err(fault)? {
            lines.push(Line { file: file.to_owned(), number, ask });
        }
    }
    Ok(lines)
}

/// Lines without comments and with their continuations, and the number of the first of each.
fn logical_lines(text: &str) -> Vec<(usize, String)> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text).replace("\r\n", "\n");
    let mut lines = Vec::new();
    let mut open: Option<(usize, String)> = None;
    for (at, line) in text.split(['\n', '\r']).enumerate() {
        let (start, mut whole) = open.take().unwrap_or((at + 1, String::new()));
        let code = without_comment(line);
        let goes_on = code.len() == line.len() && code.ends_with('\\');
        whole.push_str(code.strip_suffix('\\').filter(|_| goes_on).unwrap_or(code));
        if goes_on {
            open = Some((start, whole));
        } else {
            lines.push((start, whole));
        }
    }
    lines.extend(open);
    lines.retain_mut(|(_, line)| {
        *line = line.trim().to_owned();
        !line.is_empty()
    });
    lines
}

/// A comment begins at the line's start or after a blank.
fn without_comment(line: &str) -> &str {
    let begins = |at: &usize| line[..*at].chars().next_back().is_none_or(char::is_whitespace);
    let at = line.match_indices('#').map(|(at, _)| at).find(begins);
    at.map_or(line, |at| &line[..at])
}

type Asks = Result<Vec<Ask>, (String, bool)>;

fn wrong<T>(why: impl Into<String>) -> Result<T, (String, bool)> {
    Err((why.into(), false))
}

/// A line of options, one after the other.
fn options(line: &str, folder: &Path) -> Asks {
    let mut asks = Vec::new();
    let mut rest = line;
    while !rest.is_empty() {
        let Some((means, value, after)) = option(rest)? else {
            return wrong("it is not an option that a requirements file can have here");
        };
        rest = after;
        match means {
            Means::Editable => {
                let why = "an editable package runs its own code here when it is looked at";
                return Err((why.into(), true));
            }
            Means::File(constraints) => {
                if value.contains("${") || (value.contains(':') && is_place(&value)) {
                    return wrong("an included file is named by its path");
                }
                asks.push(Ask::File { path: value, constraints });
            }
            Means::Place(name) => {
                let value = match place(&value) {
                    _ if value.contains("${") => value,
                    Place::Network(url) => url,
                    Place::Local(path) => file_url(&absolute(folder, &path)),
                };
                asks.push(Ask::Option(format!("{name} {value}")));
            }
            Means::Flag(name) => asks.push(Ask::Option(name.to_owned())),
            Means::Hashes => asks.push(Ask::RequireHashes),
            Means::Nothing(_) => {}
        }
    }
    Ok(asks)
}

/// The first option of a text, its value, and what comes after.
#[allow(clippy::type_complexity, reason = "one caller")]
fn option(text: &str) -> Result<Option<(Means, String, &str)>, (String, bool)> {
    if let Some(rest) = text.strip_prefix("--no-binary") {
        let (value, rest) = value(rest.trim_start_matches(['=', ' ', '\t']));
        if value == ":none:" {
            return Ok(Some((Means::Nothing(true), value, rest)));
        }
        return Err(("it asks for source distributions, whose code would run here".into(), true));
    }
    for (spellings, means) in OPTIONS {
        for spelling in *spellings {
            let Some(rest) = text.strip_prefix(spelling) else { continue };
            let ends = rest.is_empty() || rest.starts_with(['=', ' ', '\t']);
            // A letter takes its value without a blank: `-rmore.txt`.
            if !ends && spelling.len() > 2 {
                continue;
            }
            if matches!(means, Means::Flag(_) | Means::Hashes | Means::Nothing(false)) {
                if rest.starts_with('=') {
                    continue;
                }
                return Ok(Some((*means, String::new(), rest.trim_start())));
            }
            let (value, rest) = value(rest.strip_prefix('=').unwrap_or(rest).trim_start());
            if value.is_empty() {
                return wrong("the option has no value");
            }
            return Ok(Some((*means, value, rest)));
        }
    }
    Ok(None)
}

/// A value, in quotes or up to the next blank, and what comes after.
fn value(text: &str) -> (String, &str) {
    if let Some(quote) = text.chars().next().filter(|c| matches!(c, '"' | '\''))
        && let Some((value, rest)) = text[1..].split_once(quote)
    {
        return (value.to_owned(), rest.trim_start());
    }
    let end = text.find(char::is_whitespace).unwrap_or(text.len());
    (text[..end].to_owned(), text[end..].trim_start())
}

/// A line that is a requirement, with nothing but hashes behind it.
fn requirement(line: &str, folder: &Path) -> Asks {
    if line.chars().any(|c| c.is_control() && c != '\t') {
        return wrong("it holds a control character");
    }
    let option = line.match_indices(" -").chain(line.match_indices("\t-")).map(|(at, _)| at).min();
    let (text, mut rest) = match option {
        Some(at) => (line[..at].trim_end(), line[at..].trim_start()),
        None => (line, ""),
    };
    let mut hashes = String::new();
    while !rest.is_empty() {
        let Some(after) = rest.strip_prefix("--hash") else {
            return wrong("only --hash may stand behind a requirement");
        };
        let (hash, after) = value(after.strip_prefix('=').unwrap_or(after).trim_start());
        let plain = |c: char| c.is_ascii_alphanumeric() || c == ':';
        if hash.is_empty() || !hash.chars().all(plain) {
            return wrong("--hash has no hash");
        }
        hashes += &format!(" --hash={hash}");
        rest = after;
    }
    Ok(vec![Ask::Requirement(checked(text, folder)? + &hashes)])
}

/// A requirement as uv gets it: PEP 508, or a wheel by itself.
pub(crate) fn checked(text: &str, folder: &Path) -> Result<String, (String, bool)> {
    let text = text.trim();
    if text.chars().any(|c| c.is_control() && c != '\t') {
        return wrong("it holds a control character");
    }
    if let Some(name) = variable(text) {
        return wrong(format!(
            "`{name}` is a variable of the environment, which pip puts in and a lock does not: write what it stands for"
        ));
    }
    if let Some(words) = crate::requirements::instead_of_file(text) {
        return Err((words, false));
    }
    if let Some((name, rest)) = named(text) {
        let (target, marker) = target_and_marker(rest)?;
        let target = wheel(target, folder)?;
        valid(&format!("{name}{marker}"))?;
        return Ok(format!("{name} @ {target}{marker}"));
    }
    if is_place(text) {
        let (target, marker) = target_and_marker(text)?;
        let (target, extras) = match target.find('[') {
            Some(at) if target.ends_with(']') => target.split_at(at),
            _ => (target, ""),
        };
        let target = wheel(target, folder)?;
        valid(&format!("x{extras}{marker}"))?;
        return Ok(format!("{target}{extras}{marker}"));
    }
    valid(text)?;
    Ok(text.to_owned())
}

/// A variable of the environment in a requirement by name (pip, "Using environment variables"). In addresses and paths uv
/// puts them in.
fn variable(text: &str) -> Option<&str> {
    let start = text.find("${")?;
    let end = start + text[start..].find('}')?;
    // By itself it may be a folder.
    let is_named = start > 0 && named(text).is_none();
    (is_named && !text.contains('/') && !text.contains(".whl")).then(|| &text[start..=end])
}

fn valid(text: &str) -> Result<(), (String, bool)> {
    crate::requirements::check_requirement(text).map_err(|why| (why, false))
}

fn wheel(text: &str, folder: &Path) -> Result<String, (String, bool)> {
    match wheel_place(text).map_err(|why| (why, true))? {
        // uv puts the variables in; what they lead to is a matter of trust.
        _ if text.contains("${") => Ok(text.to_owned()),
        Place::Network(url) => Ok(url),
        Place::Local(path) => {
            let fragment = text.find('#').map_or("", |at| &text[at..]);
            Ok(file_url(&absolute(folder, &path)) + fragment)
        }
    }
}

/// `name[extras]` and what stands behind its `@`.
fn named(text: &str) -> Option<(&str, &str)> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let rest = text.trim_start_matches(plain);
    if rest.len() == text.len() {
        return None;
    }
    let mut after = rest.trim_start();
    if let Some(extras) = after.strip_prefix('[') {
        after = extras.split_once(']')?.1.trim_start();
    }
    let target = after.strip_prefix('@')?;
    Some((text[..text.len() - after.len()].trim_end(), target.trim()))
}

/// An address or path, and the marker behind it, which begins with a blank (PEP 508).
fn target_and_marker(text: &str) -> Result<(&str, &str), (String, bool)> {
    let end = text.find(char::is_whitespace).unwrap_or(text.len());
    let (target, rest) = text.split_at(end);
    if rest.is_empty() {
        return Ok((target, ""));
    }
    match rest.trim_start().starts_with(';') {
        true => Ok((target, rest)),
        // `./my folder`, and `a.whl -e .`: what follows the first blank is not a marker.
        false => {
            wheel_place(text).map_err(|why| (why, true))?;
            wrong("a path with a blank is written with %20, as a file: address")
        }
    }
}

fn absolute(folder: &Path, path: &str) -> PathBuf {
    let joined = folder.join(path);
    std::path::absolute(&joined).unwrap_or(joined)
}

#[cfg(test)]
#[path = "requirements_txt_tests.rs"]
mod tests;
