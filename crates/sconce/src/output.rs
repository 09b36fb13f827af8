//! What is printed, and what happens when it can't be.
//!
//! These take the place of the standard library's macros of the same names, which panic: a full
//! disk behind `2>` must not change what a command does, and one behind `>` is an error like others.

use std::fmt::Arguments;
use std::io::{self, ErrorKind, Write};
use std::sync::LazyLock;
use std::time::Duration;

use crate::error::{Failure, Kind};

macro_rules! print {
    ($($text:tt)*) => { $crate::output::data(format_args!($($text)*)) };
}
macro_rules! println {
    ($($text:tt)*) => { $crate::output::data(format_args!("{}\n", format_args!($($text)*))) };
}
macro_rules! eprint {
    ($($text:tt)*) => { $crate::output::words(format_args!($($text)*)) };
}
macro_rules! eprintln {
    ($($text:tt)*) => { $crate::output::words(format_args!("{}\n", format_args!($($text)*))) };
}

/// Prints a result on standard output. Where that is closed the process ends as other tools do, by
/// SIGPIPE's status and without a word.
pub fn data(text: Arguments<'_>) {
    let mut stdout = io::stdout().lock();
    let Err(error) = stdout.write_fmt(text).and_then(|()| stdout.flush()) else { return };
    if error.kind() == ErrorKind::BrokenPipe {
        std::process::exit(141);
    }
    Failure::new(Kind::Storage, format!("cannot write to standard output: {error}")).print();
    std::process::exit(Kind::Storage as i32);
}

/// Prints words on standard error. Where nobody can read them, nobody can be told either. Logs keep them, so
/// no login and no query of an address is in them, whoever wrote them: uv and servers repeat addresses whole.
///
/// Projects, images, registries and other people's containers have words in them: on a terminal none of these moves the cursor
/// or turns the direction of writing, so that what is said and asked can't be made to look like something else.
pub fn words(text: Arguments<'_>) {
    let text = in_one_line(&sconce_fetch::http::without_secrets(&text.to_string()));
    let text = shown(&text);
    // Who was told to end does not wait for a terminal that takes no more.
    let patience = match sconce_run::ended_by() {
        Some(_) => Duration::from_secs(1),
        None => {
            let _ = io::stderr().write_all(text.as_bytes());
            return;
        }
    };
    let (done, is_done) = std::sync::mpsc::channel::<()>();
    let write = move || {
        let _ = io::stderr().write_all(text.as_bytes());
        drop(done);
    };
    if std::thread::Builder::new().spawn(write).is_ok() {
        let _ = is_done.recv_timeout(patience);
    }
}

/// A text with the line breaks of arguments escaped: what is said of one does not look like a line of ours.
pub fn in_one_line(text: &str) -> String {
    static BROKEN: LazyLock<Vec<String>> = LazyLock::new(|| broken_parts(std::env::args_os()));
    BROKEN.iter().fold(text.to_owned(), |text, part| {
        text.replace(part.as_str(), &part.replace('\n', "\\n").replace('\r', "\\r"))
    })
}

/// The arguments that have line breaks, and such parts of them as errors are about (`--name=VALUE`, `FROM:TO`), the
/// longest first.
fn broken_parts(arguments: impl Iterator<Item = std::ffi::OsString>) -> Vec<String> {
    let breaks = |part: &&str| part.contains(['\n', '\r']) && !part.trim().is_empty();
    let mut parts = Vec::new();
    for argument in arguments.skip(1) {
        let argument = argument.to_string_lossy();
        let value = argument.split_once('=').map(|(_, value)| value);
        let pieces = argument.split(['=', ':', ',']).filter(|piece| piece.trim() == *piece);
        let all = [&*argument].into_iter().chain(value).chain(pieces);
        parts.extend(all.filter(breaks).map(str::to_owned));
    }
    parts.sort_by_key(|part| std::cmp::Reverse(part.len()));
    parts.dedup();
    parts
}

/// A program's own output, as it is.
pub fn passed_on(text: &str) {
    let _ = io::stderr().write_all(text.as_bytes());
}

/// A text of several lines, as a terminal may show it. (A raw terminal's lines end in `\r\n`.)
pub fn shown(text: &str) -> String {
    let ends = |rest: &str| rest.starts_with("\r\n") || rest.starts_with('\n');
    let mut shown = String::with_capacity(text.len());
    for (at, c) in text.char_indices() {
        match hides(c) && !ends(&text[at..]) {
            true => shown.extend(c.escape_default()),
            false => shown.push(c),
        }
    }
    shown
}

/// What moves the cursor, or turns the direction of writing (UAX #9), which hides as much.
pub fn hides(c: char) -> bool {
    let turns =
        matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    turns || c.is_control()
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_of_arguments_has_line_breaks() {
        let arguments = ["sconce", "a", "\n", "--name=x\ny", "-v/no\nsuch:/x", "c:\n  d"];
        let parts = super::broken_parts(arguments.into_iter().map(Into::into));
        let expected = ["-v/no\nsuch:/x", "--name=x\ny", "-v/no\nsuch", "c:\n  d", "x\ny"];
        assert_eq!(parts, expected);
    }
}
