//! What is printed, and what happens when it can't be.
//!
//! These take the place of the standard library's macros of the same names, which panic: a full
//! disk behind `2>` must not change what a command does, and one behind `>` is an error like others.

use std::fmt::Arguments;
use std::io::{self, ErrorKind, Write};

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
pub fn words(text: Arguments<'_>) {
    let text = sconce_fetch::http::without_secrets(&text.to_string());
    let _ = io::stderr().write_all(text.as_bytes());
}
