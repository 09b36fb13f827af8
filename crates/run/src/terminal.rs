//! The caller's terminal, joined to the container's.

use std::collections::VecDeque;
use std::io::{self, IsTerminal};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::termios::{OptionalActions, Termios, Winsize};

use crate::error::{Doing, Error};

/// Rows and columns of the caller's terminal; an error if nobody could type on it. Output may go
/// elsewhere: `-it | tee log` shows what it did.
pub(crate) fn size() -> Result<(u16, u16), Error> {
    if !io::stdin().is_terminal() {
        return Err(Error::NotATerminal("input"));
    }
    let size = window().doing("reading the terminal's size")?;
    Ok((size.ws_row, size.ws_col))
}

/// The window: standard output's where that is a terminal, else that of the keyboard.
fn window() -> rustix::io::Result<Winsize> {
    rustix::termios::tcgetwinsize(io::stdout())
        .or_else(|_| rustix::termios::tcgetwinsize(io::stdin()))
}

/// A window of so many rows and columns.
pub(crate) fn of_size((rows, columns): (u16, u16)) -> Winsize {
    Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }
}

/// The caller's terminal in raw mode: keys pass through as they are. Dropping it, in a panic too,
/// gives it back as it was.
pub(crate) struct Raw {
    previous: Termios,
}

impl Raw {
    pub(crate) fn new() -> Result<Self, Error> {
        let what = "switching the terminal to raw mode";
        let previous = rustix::termios::tcgetattr(io::stdin()).doing(what)?;
        let mut raw = previous.clone();
        raw.make_raw();
        let kept = Self { previous };
        rustix::termios::tcsetattr(io::stdin(), OptionalActions::Now, &raw).doing(what)?;
        Ok(kept)
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = rustix::termios::tcsetattr(io::stdin(), OptionalActions::Now, &self.previous);
    }
}

/// The keys that leave a container one is attached to, Docker's: Ctrl-P, Ctrl-Q.
const DETACH: [u8; 2] = [0x10, 0x11];

/// The caller's terminal, and what it is joined to.
pub(crate) struct Joined {
    /// The container's terminal, or a socket to the shim that has it.
    pub(crate) master: OwnedFd,
    _raw: Raw,
    /// The container's terminal is with its shim: this process may leave it.
    attached: bool,
    /// Ctrl-P was typed: what it means, the next key decides.
    leaving: bool,
    /// The keys to leave were typed.
    pub(crate) left: bool,
    /// Typed, and not yet taken by the container.
    typed: VecDeque<u8>,
    /// The keyboard has not reported its end.
    keyboard_open: bool,
    /// Standard output.
    screen: Screen,
    /// What the container wrote, and is yet to be shown. Until it is, no more is read.
    unshown: VecDeque<u8>,
    /// When something was shown last.
    pub(crate) moved: Instant,
    /// The caller's terminal was closed.
    pub(crate) gone: bool,
}

/// Where output is shown.
enum Screen {
    /// What standard output is, opened anew: writing there does not block, and nothing changes for others who have it open.
    Own(OwnedFd),
    /// Standard output itself: a file or socket, or another user's terminal (`su`). Writing there may block.
    Given,
}

impl Screen {
    fn new() -> Self {
        let kind = rustix::fs::fstat(rustix::stdio::stdout())
            .map(|about| rustix::fs::FileType::from_raw_mode(about.st_mode));
        let blocks = rustix::fs::FileType::Fifo;
        let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        match io::stdout().is_terminal() || kind == Ok(blocks) {
            true => rustix::fs::open("/proc/self/fd/1", flags, Mode::empty())
                .map_or(Self::Given, Self::Own),
            false => Self::Given,
        }
    }

    fn fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Own(fd) => fd.as_fd(),
            Self::Given => rustix::stdio::stdout(),
        }
    }
}

impl Joined {
    /// Passes every key through from now on: the container's terminal gives them meaning.
    pub(crate) fn new(master: OwnedFd) -> Result<Self, Error> {
        let joined = Self::with(master, false)?;
        joined.resize();
        Ok(joined)
    }

    /// Passes keys to the shim that has the container's terminal, until Ctrl-P, Ctrl-Q.
    pub(crate) fn to_shim(socket: OwnedFd) -> Result<Self, Error> {
        Self::with(socket, true)
    }

    fn with(master: OwnedFd, attached: bool) -> Result<Self, Error> {
        rustix::io::ioctl_fionbio(&master, true).doing("preparing the container's terminal")?;
        Ok(Self {
            master,
            _raw: Raw::new()?,
            attached,
            leaving: false,
            left: false,
            typed: VecDeque::new(),
            keyboard_open: true,
            screen: Screen::new(),
            unshown: VecDeque::new(),
            moved: Instant::now(),
            gone: false,
        })
    }

    /// Takes over the size of the caller's terminal; or answers with it, rows and columns, where the
    /// shim has to.
    pub(crate) fn resize(&self) -> Option<(u16, u16)> {
        let size = window().ok()?;
        if self.attached {
            return Some((size.ws_row, size.ws_col));
        }
        // A container that just ended has no terminal to resize.
        let _ = rustix::termios::tcsetwinsize(&self.master, size);
        None
    }

    /// The container's terminal is with its shim.
    pub(crate) fn is_attached(&self) -> bool {
        self.attached
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
            Ok(length) => self.take(buffer.get(..length).unwrap_or_default()),
            Err(Errno::INTR | Errno::AGAIN) => {}
            Err(error) => return Err(error).doing("reading the terminal"),
        }
        self.write_keys()
    }

    /// Keeps what is for the container.
    fn take(&mut self, keys: &[u8]) {
        if !self.attached {
            self.typed.extend(keys);
            return;
        }
        let [first, second] = DETACH;
        for key in keys {
            if self.leaving && *key == second {
                self.left = true;
                return;
            }
            if std::mem::replace(&mut self.leaving, *key == first) {
                self.typed.push_back(first);
            }
            if !self.leaving {
                self.typed.push_back(*key);
            }
        }
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

    /// Where output is to be shown that waits for it.
    pub(crate) fn blocked(&self) -> Option<BorrowedFd<'_>> {
        (!self.unshown.is_empty()).then(|| self.screen.fd())
    }

    /// Shows as much of what waits as the screen takes now.
    pub(crate) fn show(&mut self) -> Result<(), Error> {
        while !self.unshown.is_empty() {
            match rustix::io::write(self.screen.fd(), self.unshown.make_contiguous()) {
                Ok(written) => {
                    self.unshown.drain(..written.min(self.unshown.len()));
                    self.moved = Instant::now();
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                // What a terminal answers that hung up (tty_io.c, `hung_up_tty_write`).
                Err(Errno::IO) => {
                    self.gone = true;
                    break;
                }
                Err(error) => return Err(error).doing("writing to the terminal"),
            }
        }
        Ok(())
    }

    /// Takes and shows what the container wrote, where nothing waits to be shown; false at the end.
    pub(crate) fn take_output(&mut self) -> Result<bool, Error> {
        if !self.unshown.is_empty() {
            return Ok(true);
        }
        let mut buffer = [0; 16 << 10];
        match rustix::io::read(&self.master, &mut buffer) {
            // EIO: no process has the container's side open any more (pty(7)).
            Ok(0) | Err(Errno::IO) => Ok(false),
            Ok(length) => {
                self.unshown.extend(buffer.get(..length).unwrap_or_default());
                self.show().map(|()| true)
            }
            Err(Errno::INTR | Errno::AGAIN) => Ok(true),
            Err(error) => Err(error).doing("reading the container's terminal"),
        }
    }
}
