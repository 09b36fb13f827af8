//! The caller's terminal, joined to the container's.

use std::collections::VecDeque;
use std::io::{self, IsTerminal, Write};
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::termios::{OptionalActions, Termios, Winsize};

use crate::error::{Doing, Error};

/// The size of the caller's terminal; an error if the caller has none.
pub(crate) fn size() -> Result<Winsize, Error> {
    if !io::stdin().is_terminal() {
        return Err(Error::NotATerminal("input"));
    }
    if !io::stdout().is_terminal() {
        return Err(Error::NotATerminal("output"));
    }
    rustix::termios::tcgetwinsize(io::stdout()).doing("reading the terminal's size")
}

/// The two terminals while a command has them. Dropping it, in a panic too, gives the
/// caller's terminal back as it was.
pub(crate) struct Joined {
    pub(crate) master: OwnedFd,
    previous: Termios,
    /// Typed, and not yet taken by the container.
    typed: VecDeque<u8>,
    /// The keyboard has not reported its end.
    keyboard_open: bool,
}

impl Joined {
    /// Passes every key through from now on: the container's terminal gives them meaning.
    pub(crate) fn new(master: OwnedFd) -> Result<Self, Error> {
        let what = "switching the terminal to raw mode";
        let previous = rustix::termios::tcgetattr(io::stdin()).doing(what)?;
        let mut raw = previous.clone();
        raw.make_raw();
        rustix::io::ioctl_fionbio(&master, true).doing("preparing the container's terminal")?;
        let joined = Self { master, previous, typed: VecDeque::new(), keyboard_open: true };
        rustix::termios::tcsetattr(io::stdin(), OptionalActions::Now, &raw).doing(what)?;
        joined.resize();
        Ok(joined)
    }

    /// Takes over the size of the caller's terminal.
    pub(crate) fn resize(&self) {
        if let Ok(size) = rustix::termios::tcgetwinsize(io::stdout()) {
            // A container that just ended has no terminal to resize.
            let _ = rustix::termios::tcsetwinsize(&self.master, size);
        }
    }

    /// More keys can be taken: those before have gone.
    pub(crate) fn wants_keys(&self) -> bool {
        self.keyboard_open && self.typed.is_empty()
    }

    /// Keys wait for the container to take them.
    pub(crate) fn has_keys(&self) -> bool {
        !self.typed.is_empty()
    }

    /// Reads what was typed and passes it on.
    pub(crate) fn read_keys(&mut self) -> Result<(), Error> {
        let mut buffer = [0; 4096];
        match rustix::io::read(io::stdin(), &mut buffer) {
            Ok(0) | Err(Errno::IO) => self.keyboard_open = false,
            Ok(length) => self.typed.extend(buffer.iter().take(length)),
            Err(Errno::INTR | Errno::AGAIN) => {}
            Err(error) => return Err(error).doing("reading the terminal"),
        }
        self.write_keys()
    }

    /// Passes on what the container will take now.
    pub(crate) fn write_keys(&mut self) -> Result<(), Error> {
        while !self.typed.is_empty() {
            match rustix::io::write(&self.master, self.typed.make_contiguous()) {
                Ok(written) => drop(self.typed.drain(..written.min(self.typed.len()))),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                // Nobody is left to read them.
                Err(_) => self.typed.clear(),
            }
        }
        Ok(())
    }

    /// Shows what the container wrote; false at the end.
    pub(crate) fn show(&mut self) -> Result<bool, Error> {
        let mut buffer = [0; 16 << 10];
        match rustix::io::read(&self.master, &mut buffer) {
            // EIO: no process has the container's side open any more (pty(7)).
            Ok(0) | Err(Errno::IO) => Ok(false),
            Ok(length) => {
                let mut out = io::stdout().lock();
                out.write_all(buffer.get(..length).unwrap_or_default())
                    .and_then(|()| out.flush())
                    .doing("writing to the terminal")?;
                Ok(true)
            }
            Err(Errno::INTR | Errno::AGAIN) => Ok(true),
            Err(error) => Err(error).doing("reading the container's terminal"),
        }
    }
}

impl Drop for Joined {
    fn drop(&mut self) {
        let _ = rustix::termios::tcsetattr(io::stdin(), OptionalActions::Now, &self.previous);
    }
}
