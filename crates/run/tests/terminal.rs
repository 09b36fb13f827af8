//! A terminal with a program on it, as a person has.

use std::fs;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::Stdio;

/// A program on a pseudo-terminal of the test.
pub struct Terminal {
    /// The program.
    pub child: std::process::Child,
    master: fs::File,
    /// The side that the program has.
    pub slave: OwnedFd,
    seen: String,
}

impl Terminal {
    /// Starts a program on a terminal of so many rows and columns.
    pub fn start(mut command: std::process::Command, (rows, columns): (u16, u16)) -> Self {
        use rustix::pty::OpenptFlags;
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = rustix::pty::openpt(flags).expect("a terminal");
        rustix::pty::grantpt(&master).expect("granted");
        rustix::pty::unlockpt(&master).expect("unlocked");
        let slave = rustix::pty::ioctl_tiocgptpeer(&master, flags).expect("the other side");
        let end = || Stdio::from(slave.try_clone().expect("a copy"));
        command.stdin(end()).stdout(end()).stderr(end());
        let terminal = Self {
            master: master.into(),
            child: {
                resize(&slave, rows, columns);
                command.spawn().expect("started")
            },
            slave,
            seen: String::new(),
        };
        drop(command);
        terminal
    }

    /// Reads until `text` comes; the answer is what came before it.
    pub fn expect(&mut self, text: &str) -> String {
        let mut buffer = [0; 1024];
        while !self.seen.contains(text) {
            let mut fds = [rustix::event::PollFd::new(&self.master, rustix::event::PollFlags::IN)];
            let ten = rustix::event::Timespec { tv_sec: 10, tv_nsec: 0 };
            let ready = rustix::event::poll(&mut fds, Some(&ten)).expect("polled");
            assert!(ready > 0, "'{text}' did not come, only: {}", self.seen);
            let length = self.master.read(&mut buffer).expect("read");
            self.seen.push_str(&String::from_utf8_lossy(&buffer[..length]));
        }
        let start = self.seen.find(text).expect("found");
        let before = self.seen[..start].to_owned();
        self.seen.drain(..start + text.len());
        before
    }

    /// Types keys.
    pub fn type_in(&mut self, keys: &[u8]) {
        self.master.write_all(keys).expect("typed");
    }

    /// Changes the size of the window.
    pub fn resize(&self, rows: u16, columns: u16) {
        resize(&self.slave, rows, columns);
        // It is not the program's controlling terminal here, so the kernel tells nobody.
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::WINCH).expect("told");
    }

    /// Closes the window. The kernel tells nobody here either.
    #[allow(dead_code)]
    pub fn close(self) -> std::process::Child {
        self.child
    }

    /// Waits for the program's end: its status.
    pub fn end(&mut self) -> i32 {
        self.child.wait().expect("ended").code().unwrap_or(-1)
    }
}

fn resize(slave: &OwnedFd, rows: u16, columns: u16) {
    let size =
        rustix::termios::Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    rustix::termios::tcsetwinsize(slave, size).expect("resized");
}
