//! Every flag of `docker run`, and the commands of Docker that are not here: a table that says what becomes of each, and the reading of a command
//! line by it.
//!
//! The table is `data/docker.toml`; `docs/docker.md` is generated from it ([`page`]).

use std::ffi::{OsStr, OsString};
use std::fmt::Write;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::sync::LazyLock;

use serde::Deserialize;

use crate::error::Error;

/// What becomes of a flag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It does what it says.
    Works,
    /// It is read, and nothing need be done for it.
    Taken,
    /// It is an error that says what to do instead.
    Refused,
}

/// A flag of `docker run`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Flag {
    /// Its long name, without dashes.
    pub name: String,
    /// Its letter.
    pub short: Option<char>,
    /// Other long names of it.
    #[serde(default)]
    pub aliases: Vec<String>,
    /// What its value is, in capitals; a switch has none.
    pub value: Option<String>,
    /// What becomes of it.
    pub verdict: Verdict,
    /// Why, or what to do instead: a sentence without its full stop.
    pub words: String,
    /// The only values that are taken.
    #[serde(default)]
    pub values: Vec<String>,
    /// What to do instead of giving another value.
    pub otherwise: Option<String>,
}

/// A command of Docker's that is not here under its name.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Command {
    /// Its name, as `image ls`.
    pub name: String,
    /// What to do instead: a sentence without its full stop.
    pub words: String,
}

/// Options of one of Docker's commands, `run` aside, that are not here.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CommandOption {
    /// The command.
    pub command: String,
    /// What they are called, with their dashes.
    pub names: Vec<String>,
    /// What to do instead: a sentence without its full stop.
    pub words: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    flag: Vec<Flag>,
    command: Vec<Command>,
    option: Vec<CommandOption>,
}

fn table() -> &'static Table {
    static TABLE: LazyLock<Table> = LazyLock::new(|| {
        let table: Result<Table, _> = toml::from_str(include_str!("../data/docker.toml"));
        table.expect("data/docker.toml is read by a test")
    });
    &TABLE
}

/// All flags, by name.
///
/// # Panics
/// Never: the table is part of the program, and a test reads it.
pub fn flags() -> &'static [Flag] {
    &table().flag
}

/// All commands that are not here, by name.
///
/// # Panics
/// Never: the table is part of the program, and a test reads it.
pub fn commands() -> &'static [Command] {
    &table().command
}

/// All options of its commands, `run` aside, that are not here, by command.
///
/// # Panics
/// Never: the table is part of the program, and a test reads it.
pub fn command_options() -> &'static [CommandOption] {
    &table().option
}

/// An option that the command itself declares, Docker's or its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Declared {
    /// Its long name, without dashes.
    pub name: String,
    /// Its letter.
    pub short: Option<char>,
    /// It takes a value.
    pub takes_value: bool,
}

/// How the words after the target are to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterTarget {
    /// They are the command, options and `--` included.
    Command,
    /// Options go on.
    Options,
}

/// Reads what follows the name of `command` on a command line: the options that it declares come
/// back as `--name` or `--name=value`, flags that need nothing done are left out, and the target
/// follows `--`, so that whoever parses the result can't mistake a word of the command for an
/// option of its own.
///
/// # Errors
/// A flag of Docker's that is refused, an unknown one, a value that is missing.
pub fn read(
    command: &'static str,
    declared: &[Declared],
    after: AfterTarget,
    words: impl IntoIterator<Item = OsString>,
) -> Result<Vec<OsString>, Error> {
    let mut line = Line { command, declared, options: Vec::new() };
    let mut words = words.into_iter();
    let mut operands = Vec::new();
    while let Some(word) = words.next() {
        let bytes = word.as_bytes();
        match bytes {
            b"--" => {
                operands.extend(words);
                break;
            }
            [b'-', b'-', name @ ..] => {
                let (name, value) = split(name);
                line.long(&String::from_utf8_lossy(name), value, &mut words)?;
            }
            [b'-', letters @ ..] if !letters.is_empty() => line.letters(letters, &mut words)?,
            _ => {
                operands.push(word);
                if after == AfterTarget::Command {
                    operands.extend(words);
                    break;
                }
            }
        }
    }
    if !operands.is_empty() {
        line.options.push("--".into());
        line.options.extend(operands);
    }
    Ok(line.options)
}

/// `name=value`, or a name alone.
fn split(text: &[u8]) -> (&[u8], Option<OsString>) {
    match text.iter().position(|byte| *byte == b'=') {
        Some(at) => (&text[..at], Some(OsStr::from_bytes(&text[at + 1..]).to_owned())),
        None => (text, None),
    }
}

struct Line<'a> {
    command: &'static str,
    declared: &'a [Declared],
    options: Vec<OsString>,
}

impl Line<'_> {
    fn long(
        &mut self,
        name: &str,
        value: Option<OsString>,
        rest: &mut dyn Iterator<Item = OsString>,
    ) -> Result<(), Error> {
        let declared = |name: &str| self.declared.iter().find(|declared| declared.name == name);
        // The table is read for what is not declared: a start that needs none of it is quicker.
        if let Some(declared) = declared(name) {
            return self.put(&format!("--{name}"), declared.takes_value, value, rest);
        }
        let flag = flags()
            .iter()
            .find(|flag| flag.name == name || flag.aliases.iter().any(|alias| alias == name))
            .ok_or_else(|| self.unknown(format!("--{name}")))?;
        let shown = format!("--{}", flag.name);
        match declared(&flag.name) {
            Some(declared) => self.put(&shown, declared.takes_value, value, rest),
            None => self.docker(flag, &shown, value, rest),
        }
    }

    /// `-it`, `-p8080:80`, `-v /a:/b`.
    fn letters(
        &mut self,
        letters: &[u8],
        rest: &mut dyn Iterator<Item = OsString>,
    ) -> Result<(), Error> {
        let mut left = letters;
        while let [letter, behind @ ..] = left {
            let letter = *letter as char;
            let shown = format!("-{letter}");
            let declared = self.declared.iter().find(|known| known.short == Some(letter));
            let flag = match declared {
                Some(_) => None,
                None => flags().iter().find(|flag| flag.short == Some(letter)),
            };
            let takes_value = match (declared, flag) {
                (Some(declared), _) => declared.takes_value,
                (None, Some(flag)) => flag.value.is_some(),
                (None, None) => return Err(self.unknown(shown)),
            };
            let attached = match behind {
                [] => None,
                // `-d=false` of a switch and `-p=80` both have their value after the sign.
                [b'=', value @ ..] => Some(value),
                value if takes_value => Some(value),
                _ => None,
            };
            let value = attached.map(|value| OsStr::from_bytes(value).to_owned());
            left = if attached.is_some() { &[] } else { behind };
            match (declared, flag) {
                (Some(declared), _) => {
                    let name = format!("--{}", declared.name);
                    self.put(&name, takes_value, value, rest)?;
                }
                (None, Some(flag)) => self.docker(flag, &shown, value, rest)?,
                (None, None) => {}
            }
        }
        Ok(())
    }

    /// An option that the command declares.
    fn put(
        &mut self,
        shown: &str,
        takes_value: bool,
        value: Option<OsString>,
        rest: &mut dyn Iterator<Item = OsString>,
    ) -> Result<(), Error> {
        if takes_value {
            let mut word = format!("{shown}=").into_bytes();
            word.extend(self.value(shown, value, rest)?.as_bytes());
            self.options.push(OsString::from_vec(word));
        } else if switch(shown, value)? {
            self.options.push(shown.into());
        }
        Ok(())
    }

    /// A flag of Docker's that the command does not declare: taken or refused.
    fn docker(
        &mut self,
        flag: &Flag,
        shown: &str,
        value: Option<OsString>,
        rest: &mut dyn Iterator<Item = OsString>,
    ) -> Result<(), Error> {
        let refused = |given: Option<&str>, words: &str| Error::Refused {
            flag: given.map_or_else(|| shown.to_owned(), |given| format!("{shown} {given}")),
            words: words.to_owned(),
        };
        if flag.value.is_none() {
            let on = switch(shown, value)?;
            return match (flag.verdict, &flag.otherwise) {
                (Verdict::Taken, Some(otherwise)) if !on => Err(refused(Some("false"), otherwise)),
                (Verdict::Refused | Verdict::Works, _) if on => Err(refused(None, &flag.words)),
                _ => Ok(()),
            };
        }
        let value = self.value(shown, value, rest)?;
        let value = value.to_string_lossy();
        let taken = flag.values.is_empty()
            || value.is_empty()
            || flag.values.iter().any(|known| known.eq_ignore_ascii_case(&value));
        match flag.verdict {
            Verdict::Taken if taken => Ok(()),
            Verdict::Taken => {
                Err(refused(Some(&value), flag.otherwise.as_deref().unwrap_or(&flag.words)))
            }
            Verdict::Refused | Verdict::Works => Err(refused(None, &flag.words)),
        }
    }

    fn value(
        &self,
        shown: &str,
        value: Option<OsString>,
        rest: &mut dyn Iterator<Item = OsString>,
    ) -> Result<OsString, Error> {
        value
            .or_else(|| rest.next())
            .ok_or_else(|| Error::NoValue { command: self.command, flag: shown.to_owned() })
    }

    fn unknown(&self, flag: String) -> Error {
        let names = self.declared.iter().map(|declared| declared.name.as_str());
        let nearest = flag
            .strip_prefix("--")
            .and_then(|name| sconce_facts::nearest(name, names))
            .map(|name| format!("--{name}"));
        Error::UnknownFlag { command: self.command, flag, nearest }
    }
}

/// The value of a switch: none is true; Docker takes Go's spellings of a truth value.
fn switch(shown: &str, value: Option<OsString>) -> Result<bool, Error> {
    let Some(value) = value else { return Ok(true) };
    match value.to_string_lossy().as_ref() {
        "true" | "True" | "TRUE" | "1" | "t" | "T" => Ok(true),
        "false" | "False" | "FALSE" | "0" | "f" | "F" => Ok(false),
        given => Err(Error::option(shown, given, "it is true or false")),
    }
}

/// The text of `docs/docker.md`.
pub fn page() -> String {
    let mut out = String::from(
        "# Every flag of `docker run`\n\n\
         Generated from `crates/start/data/docker.toml`; a test fails when they differ \
         (`UPDATE_EXPECT=1 cargo test -p sconce-start` writes it anew).\n\n\
         **works**: `sconce run` does it. **taken**: read, and nothing need be done. **refused**: an \
         error, in the words given here. After the target everything is the command's, options and \
         `--` too. What fails before the command starts is exit code 125.\n\n\
         | flag | verdict | |\n|---|---|---|\n",
    );
    for flag in flags() {
        let short = flag.short.map_or(String::new(), |letter| format!("`-{letter}`, "));
        let value = flag.value.as_ref().map_or(String::new(), |value| format!(" {value}"));
        let verdict = match flag.verdict {
            Verdict::Works => "works",
            Verdict::Taken => "taken",
            Verdict::Refused => "refused",
        };
        let values: Vec<String> = flag.values.iter().map(|value| format!("`{value}`")).collect();
        let mut words = match values.is_empty() {
            true => flag.words.clone(),
            false => format!("{}: {}", values.join(", "), flag.words),
        };
        if let Some(otherwise) = &flag.otherwise {
            let _ = write!(words, ". Else **refused**: {otherwise}");
        }
        let cell = |text: &str| text.replace('|', "\\|");
        let name = cell(&format!("{short}`--{}{value}`", flag.name));
        let _ = writeln!(out, "| {name} | {verdict} | {} |", cell(&words));
    }
    out.push_str(
        "\n# Commands of Docker that are not here\n\n\
         Each is an error that says what to do instead. `sconce --help` lists those that are.\n\n\
         | command | instead |\n|---|---|\n",
    );
    for Command { name, words } in commands() {
        let _ = writeln!(out, "| `docker {name}` | {} |", words.replace('|', "\\|"));
    }
    out.push_str(
        "\n# Options of Docker's other commands that are not here\n\n\
         Each is an error that says what to do instead. `sconce COMMAND --help` lists those that are.\n\n\
         | option | instead |\n|---|---|\n",
    );
    for CommandOption { command, names, words } in command_options() {
        let names: Vec<String> =
            names.iter().map(|name| format!("`docker {command} {name}`")).collect();
        let _ = writeln!(out, "| {} | {} |", names.join(", "), words.replace('|', "\\|"));
    }
    out
}
