//! The output of a container that nobody may be attached to: its log, and those who look.
//!
//! The log is Docker's json-file format (docs.docker.com, "JSON File logging driver"): a line for
//! each piece of output, `{"log":"text\n","stream":"stdout","time":"2026-01-02T03:04:05.6Z"}`, so
//! that what reads Docker's logs reads these. It is kept to two files of [`LARGEST`] bytes.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::control::{self, Message};
use crate::error::{Doing, Error};
use crate::{Container, Stdio, os, streams, time};

/// Largest a log grows before it is `log.1` and a new one begins.
const LARGEST: u64 = 64 << 20;
/// Extension of a file beside a log whose beginning is gone: how many files are.
pub(crate) const DROPPED: &str = "dropped";
/// How long someone who looks may keep the container waiting, milliseconds.
const PATIENCE: i64 = 1000;

/// A piece of output, as it stands in a log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// What was written: a line, or a part of one.
    pub log: String,
    /// `stdout` or `stderr`.
    pub stream: String,
    /// When, RFC 3339.
    pub time: String,
}

/// Where the output goes.
#[derive(Default)]
pub(crate) struct Output {
    log: Option<Log>,
    sources: Vec<Source>,
    /// Input and outputs of who is attached.
    viewers: Vec<Viewer>,
    /// Where input goes: a pipe or a terminal.
    input: Option<OwnedFd>,
    /// Input that the container has not taken yet. Until it has, no more is read.
    typed: Vec<u8>,
    /// The container's terminal.
    terminal: bool,
    /// The container in a person's words.
    called: String,
}

struct Source {
    stream: &'static str,
    fd: Option<OwnedFd>,
    /// The beginning of a line whose end has not come.
    begun: Vec<u8>,
}

struct Viewer {
    /// The socket of who asked to look.
    client: OwnedFd,
    input: Option<OwnedFd>,
    outputs: [OwnedFd; 2],
    gone: bool,
}

/// Longest piece without an end of line that is kept as one.
const LONGEST: usize = 16 << 10;

impl Output {
    /// Prepares the streams of a detached container as descriptors 0 to 2 of this process; those
    /// of an attached one are there already.
    pub(crate) fn of(container: &Container, folder: &Path) -> Result<Self, Error> {
        if !container.detach {
            return Ok(Self::default());
        }
        let log = Log::open(folder)?;
        let id = || folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let called = container.name.clone().unwrap_or_else(id);
        let mut output = Self { log: Some(log), called, ..Self::default() };
        if container.stdio == Stdio::Terminal {
            return Ok(output);
        }
        let what = "joining the container's streams";
        if container.stdio == Stdio::Inherit {
            let (read, write) = streams::pipe().doing(what)?;
            os::place(read.as_fd(), 0).doing(what)?;
            rustix::io::ioctl_fionbio(&write, true).doing(what)?;
            output.input = Some(write);
        }
        for (number, stream) in [(1, "stdout"), (2, "stderr")] {
            let (read, write) = streams::pipe().doing(what)?;
            os::place(write.as_fd(), number).doing(what)?;
            output.sources.push(Source { stream, fd: Some(read), begun: Vec::new() });
        }
        Ok(output)
    }

    /// The container has its streams: this process lets go of them, so that their readers see the
    /// end.
    pub(crate) fn started(&self) -> io::Result<()> {
        let null = streams::null()?;
        (0..=2).try_for_each(|number| os::place(null.as_fd(), number))
    }

    /// Takes the container's terminal as its one source, and as where input goes.
    pub(crate) fn show_terminal(&mut self, master: OwnedFd) {
        self.terminal = true;
        // Where it fails, a write of input may wait for the command.
        let _ = rustix::io::ioctl_fionbio(&master, true);
        self.input = master.try_clone().ok();
        self.sources.push(Source { stream: "stdout", fd: Some(master), begun: Vec::new() });
    }

    /// Tells the container's terminal its new size.
    pub(crate) fn resize(&self, rows: u16, columns: u16) {
        if let Some(terminal) = self.input.as_ref().filter(|_| self.terminal) {
            // A container that just ended has no terminal to resize.
            let size = crate::terminal::of_size((rows, columns));
            let _ = rustix::termios::tcsetwinsize(terminal, size);
        }
    }

    /// Lets someone look, from now on, and type where the container takes input. `client` is told where the output is not
    /// read.
    pub(crate) fn attach(&mut self, fds: Vec<OwnedFd>, client: OwnedFd) -> Result<(), Error> {
        let [input, out, err] = <[OwnedFd; 3]>::try_from(fds)
            .map_err(|_| Error::Lost("an attachment came without its streams".to_owned()))?;
        if self.log.is_none() {
            return Err(Error::Attached);
        }
        let input = self.input.is_some().then_some(input);
        self.viewers.push(Viewer { client, input, outputs: [out, err], gone: false });
        Ok(())
    }

    /// What there is to read, by number: sources first, then those who type.
    pub(crate) fn readable(&self) -> impl Iterator<Item = (usize, BorrowedFd<'_>)> {
        let sources = self.sources.iter().map(|source| source.fd.as_ref());
        let takes = self.typed.is_empty();
        let typing = self.viewers.iter().map(move |viewer| viewer.input.as_ref().filter(|_| takes));
        let all = sources.chain(typing).enumerate();
        all.filter_map(|(at, fd)| Some((at, fd?.as_fd())))
    }

    /// Reads number `at` of [`Output::readable`] once.
    pub(crate) fn read(&mut self, at: usize) -> io::Result<()> {
        if at >= self.sources.len() {
            self.read_input(at - self.sources.len());
            return Ok(());
        }
        let mut buffer = vec![0; 64 << 10];
        let Some(source) = self.sources.get_mut(at) else { return Ok(()) };
        let Some(fd) = &source.fd else { return Ok(()) };
        let count = match rustix::io::read(fd, &mut buffer) {
            // EIO: no process has the container's side open any more (pty(7)).
            Ok(0) | Err(Errno::IO) => 0,
            Ok(count) => count,
            Err(Errno::INTR | Errno::AGAIN) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        if count == 0 {
            source.fd = None;
        }
        let bytes = buffer.get(..count).unwrap_or_default();
        let which = usize::from(source.stream == "stderr");
        for viewer in self.viewers.iter_mut().filter(|viewer| !viewer.gone) {
            let shown = viewer.outputs.get(which).map_or(Ok(()), |fd| show(fd, bytes));
            viewer.gone = shown.is_err();
            if shown == Err(Errno::TIMEDOUT) {
                let unread = Error::Unread(self.called.clone());
                let failed = Message::Failed { message: unread.chain(), hint: unread.hint() };
                // It may be gone as well.
                drop(control::send(&viewer.client, &failed));
            }
        }
        source.begun.extend_from_slice(bytes);
        let Some(log) = &mut self.log else { return Ok(()) };
        while let Some(length) = piece(&source.begun, source.fd.is_none()) {
            let text: Vec<u8> = source.begun.drain(..length).collect();
            log.write(source.stream, &text);
        }
        Ok(())
    }

    /// Lets go of those who left. Only between two rounds of [`Output::readable`]: the numbers of the others change, and to
    /// read from who has typed nothing would wait for them.
    pub(crate) fn let_go(&mut self) {
        self.viewers.retain(|viewer| !viewer.gone);
    }

    fn read_input(&mut self, at: usize) {
        let Some(viewer) = self.viewers.get_mut(at).filter(|viewer| !viewer.gone) else { return };
        let mut buffer = [0; 16 << 10];
        let typed = viewer.input.as_ref().map_or(Ok(0), |fd| rustix::io::read(fd, &mut buffer));
        match typed {
            Ok(count) if count > 0 => {
                self.typed.extend_from_slice(buffer.get(..count).unwrap_or_default());
                self.write_input();
            }
            Err(Errno::INTR | Errno::AGAIN) => {}
            _ => viewer.input = None,
        }
    }

    /// Where input goes that waits.
    pub(crate) fn writable(&self) -> Option<BorrowedFd<'_>> {
        self.input.as_ref().filter(|_| !self.typed.is_empty()).map(AsFd::as_fd)
    }

    /// Passes on as much input as the container takes.
    pub(crate) fn write_input(&mut self) {
        let Some(input) = &self.input else { return self.typed.clear() };
        match rustix::io::write(input, &self.typed) {
            Ok(count) => drop(self.typed.drain(..count)),
            Err(Errno::INTR | Errno::AGAIN) => {}
            // Nobody reads it any more.
            Err(_) => self.typed.clear(),
        }
    }

    /// Why the end of the output is not in the log, where it is not.
    pub(crate) fn lost(&self) -> Option<String> {
        self.log.as_ref()?.lost.clone()
    }

    /// Reads what is left of an ended container's output.
    pub(crate) fn drain(&mut self) -> io::Result<()> {
        for at in 0..self.sources.len() {
            while self.sources.get(at).is_some_and(|source| source.fd.is_some()) {
                self.read(at)?;
            }
        }
        Ok(())
    }
}

/// How much of `begun` is one piece: a line, what is too long to be one, or at the end the rest.
fn piece(begun: &[u8], last: bool) -> Option<usize> {
    match begun.iter().position(|byte| *byte == b'\n') {
        Some(end) => Some((end + 1).min(LONGEST)),
        None if begun.len() >= LONGEST => Some(LONGEST),
        None if last && !begun.is_empty() => Some(begun.len()),
        None => None,
    }
}

/// Writes to someone who looks, waiting a moment: who does not read is let go, not waited for.
fn show(to: &OwnedFd, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        let mut fds = [PollFd::new(to, PollFlags::OUT)];
        let patience = rustix::event::Timespec { tv_sec: PATIENCE / 1000, tv_nsec: 0 };
        if poll(&mut fds, Some(&patience))? == 0 {
            return Err(Errno::TIMEDOUT);
        }
        // A pipe that is ready takes this much without blocking (pipe(7)).
        let part = bytes.get(..bytes.len().min(4096)).unwrap_or_default();
        let count = rustix::io::write(to, part)?;
        bytes = bytes.get(count..).unwrap_or_default();
    }
    Ok(())
}

struct Log {
    path: PathBuf,
    file: File,
    length: u64,
    /// How many files are gone: at the third, the first is.
    dropped: u64,
    /// Why the last piece could not be kept, be it in part.
    lost: Option<String>,
}

impl Log {
    fn open(folder: &Path) -> Result<Self, Error> {
        let path = folder.join("log");
        let file = create(&path).doing_to("creating", &path)?;
        Ok(Self { path, file, length: 0, dropped: 0, lost: None })
    }

    /// Keeps a piece of output. A full disk does not end the container: what can't be kept is lost, and
    /// as soon as there is room again the log says so.
    fn write(&mut self, stream: &str, text: &[u8]) {
        let said = self.lost.clone().map_or(Ok(()), |why| {
            self.append("stderr", format!("sconce: output is missing here: {why}\n").as_bytes())
        });
        self.lost = said.and_then(|()| self.append(stream, text)).err().map(|why| why.to_string());
    }

    /// Writes a line, in a new file where the old one is long enough.
    fn append(&mut self, stream: &str, text: &[u8]) -> io::Result<()> {
        let line = Line {
            log: String::from_utf8_lossy(text).into_owned(),
            stream: stream.to_owned(),
            time: time::now(),
        };
        let mut bytes = serde_json::to_vec(&line)?;
        bytes.push(b'\n');
        if self.lost.is_some() {
            // The end of what may be a part of a line.
            bytes.insert(0, b'\n');
        }
        if self.length + bytes.len() as u64 > LARGEST {
            let older = self.path.with_extension("1");
            if older.exists() {
                let (count, part) = (self.dropped + 1, self.path.with_extension("part"));
                fs::write(&part, format!("{count}\n"))?;
                fs::rename(part, self.path.with_extension(DROPPED))?;
                self.dropped = count;
            }
            fs::rename(&self.path, older)?;
            self.file = create(&self.path)?;
            self.length = 0;
        }
        self.length += bytes.len() as u64;
        self.file.write_all(&bytes)
    }
}

fn create(path: &Path) -> io::Result<File> {
    fs::OpenOptions::new().append(true).create(true).mode(0o600).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_is_cut_into_lines() {
        assert_eq!(piece(b"one\ntwo", false), Some(4));
        assert_eq!(piece(b"two", false), None);
        assert_eq!(piece(b"two", true), Some(3));
        assert_eq!(piece(b"", true), None);
        assert_eq!(piece(&[b'x'; LONGEST + 1], false), Some(LONGEST));
    }

    #[test]
    fn a_log_is_two_files_at_most() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut log = Log::open(folder.path()).expect("a log");
        log.write("stdout", b"first\n");
        for _ in 0..2 {
            log.length = LARGEST;
            log.write("stderr", b"\xffnext\n");
        }
        let text = fs::read_to_string(folder.path().join("log")).expect("the log");
        let line: Line = serde_json::from_str(&text).expect("one line");
        assert_eq!((line.log.as_str(), line.stream.as_str()), ("\u{fffd}next\n", "stderr"));
        assert!(folder.path().join("log.1").exists());
        // The third says that the first is gone.
        assert!(folder.path().join("log.dropped").exists());
        assert_eq!(fs::read_dir(folder.path()).expect("listed").count(), 3);
    }
}
