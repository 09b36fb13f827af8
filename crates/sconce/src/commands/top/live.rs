//! `sconce top` until q is pressed.

use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::machines::{Machine, Said};
use super::screen::{Key, Screen};
use super::view::{State, lines};
use crate::error::{Failure, Kind};

/// How often the screen is drawn at least: a clock that stands still looks like a program that does.
const DRAW: Duration = Duration::from_millis(250);
/// How long a word about what was done stays.
const SAID: Duration = Duration::from_secs(4);

/// What keys are typed into.
enum Typing {
    Filter(String),
    Signal(String),
}

/// Shows these machines, until q is pressed or no more answers come; `local` processes can be sent signals.
pub fn run(mut all: Vec<Machine>, answers: &Receiver<Said>, local: bool) -> Result<(), Failure> {
    let interrupts = sconce_run::Interrupts::listen()?;
    let mut screen = Screen::take().map_err(|error| {
        Failure::new(Kind::Machine, format!("the terminal can't be used: {error}"))
            .hint("`sconce top --once` prints a table")
    })?;
    let mut state = State::default();
    let mut typing: Option<Typing> = None;
    let mut said: Option<Instant> = None;
    loop {
        let over = loop {
            match answers.try_recv() {
                Ok((at, answer)) => {
                    if let Some(machine) = all.get_mut(at) {
                        machine.take(answer);
                    }
                }
                Err(error) => break error == TryRecvError::Disconnected,
            }
        };
        if said.is_some_and(|said| said.elapsed() > SAID) {
            said = None;
        }
        match &typing {
            Some(Typing::Filter(text)) => {
                state.line = Some(format!("show processes with: {text}_"))
            }
            Some(Typing::Signal(text)) => {
                state.line =
                    Some(format!("send TERM to the process (`PID`, or `PID KILL`): {text}_"));
            }
            None if said.is_none() => state.line = None,
            None => {}
        }
        // A terminal that is gone.
        if screen.show(&lines(&all, &mut state, Screen::size())).is_err()
            || interrupts.came().is_some()
            || over
        {
            break;
        }
        let Some(key) = screen.key(DRAW) else { continue };
        match (&mut typing, key) {
            (_, Key::End) | (None, Key::Char('q') | Key::Escape) => break,
            (Some(_), Key::Escape) => typing = None,
            (Some(Typing::Filter(text) | Typing::Signal(text)), Key::Char(c))
                if text.len() < 60 =>
            {
                text.push(c)
            }
            (Some(Typing::Filter(text) | Typing::Signal(text)), Key::Backspace) => drop(text.pop()),
            (Some(Typing::Filter(text)), Key::Enter) => {
                (state.filter, state.scroll) = (text.clone(), 0);
                typing = None;
            }
            (Some(Typing::Signal(text)), Key::Enter) => {
                state.line = Some(signal(text));
                (typing, said) = (None, Some(Instant::now()));
            }
            (None, Key::Char('s')) => state.sort = state.sort.next(),
            (None, Key::Char('/')) => typing = Some(Typing::Filter(state.filter.clone())),
            (None, Key::Char('k')) if local => typing = Some(Typing::Signal(String::new())),
            (None, Key::Char('k')) => {
                state.line = Some("processes of other machines get no signal from here".to_owned());
                said = Some(Instant::now());
            }
            (None, Key::Up) => state.scroll = state.scroll.saturating_sub(1),
            (None, Key::Down) => state.scroll = state.scroll.saturating_add(1).min(100_000),
            (None, Key::First) => state.scroll = 0,
            (None, Key::Last) => state.scroll = usize::MAX,
            (None, Key::PageUp) => state.scroll = state.scroll.saturating_sub(10),
            (None, Key::PageDown) => state.scroll = state.scroll.saturating_add(10).min(100_000),
            _ => {}
        }
    }
    Ok(())
}

/// Sends it, and says so.
fn signal(text: &str) -> String {
    let mut words = text.split_whitespace();
    let pid = words
        .next()
        .and_then(|pid| pid.parse().ok())
        .filter(|pid| *pid > 1)
        .and_then(Pid::from_raw);
    let signal = match words.next() {
        None | Some("TERM") => Some((Signal::TERM, "TERM")),
        Some("KILL") => Some((Signal::KILL, "KILL")),
        Some("INT") => Some((Signal::INT, "INT")),
        Some(_) => None,
    };
    match (pid, signal) {
        (Some(pid), Some((signal, word))) => match kill_process(pid, signal) {
            Ok(()) => format!("sent {word} to {}", pid.as_raw_nonzero()),
            Err(error) => format!("{}: {error}", pid.as_raw_nonzero()),
        },
        _ => "a process id, and TERM, INT or KILL".to_owned(),
    }
}
