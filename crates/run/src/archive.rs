//! Tar streams of files, for `cp`.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags, poll};

use crate::signals::SignalPipe;

/// Adds `path` and what is below it under the name `name`. Links stay links; sockets, FIFOs and devices
/// hold nothing to copy: they are left out and answered.
pub(crate) fn add(
    tar: &mut tar::Builder<impl Write>,
    path: &Path,
    name: &Path,
) -> io::Result<Vec<PathBuf>> {
    tar.follow_symlinks(false);
    tar.sparse(false);
    let mut left_out = Vec::new();
    let mut waiting = vec![(path.to_owned(), name.to_owned())];
    while let Some((path, name)) = waiting.pop() {
        let kind = fs::symlink_metadata(&path)?.file_type();
        if kind.is_dir() {
            tar.append_dir(&name, &path)?;
            for entry in fs::read_dir(&path)? {
                let entry = entry?;
                waiting.push((entry.path(), name.join(entry.file_name())));
            }
        } else if kind.is_file() || kind.is_symlink() {
            tar.append_path_with_name(&path, &name)?;
        } else {
            left_out.push(path);
        }
    }
    Ok(left_out)
}

/// What [`add`] left out, in words; nothing for nothing.
pub(crate) fn left_out_in_words(paths: &[PathBuf]) -> Option<String> {
    let first = paths.first()?.display();
    Some(match paths.len() {
        1 => format!("{first} is a socket, a FIFO or a device, and was left out"),
        count => format!("{first} and {} more sockets, FIFOs or devices were left out", count - 1),
    })
}

/// A stream that ends with an error when this process is told to end.
pub(crate) struct UntilSignal<'a> {
    pub(crate) stream: File,
    pub(crate) signals: Option<&'a SignalPipe>,
    /// The signal that came.
    pub(crate) signal: Option<i32>,
}

impl Read for UntilSignal<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if let Some(signals) = self.signals {
            self.signal = wait(&self.stream, signals.fd())?;
            if self.signal.is_some() {
                return Err(io::Error::other("interrupted"));
            }
        }
        self.stream.read(buffer)
    }
}

/// Waits until there is something to read, or a signal that would end this process: that one.
pub(crate) fn wait(stream: impl AsFd, signals: impl AsFd) -> io::Result<Option<i32>> {
    loop {
        let mut fds = [PollFd::new(&signals, PollFlags::IN), PollFd::new(&stream, PollFlags::IN)];
        rustix::io::retry_on_intr(|| poll(&mut fds, None))?;
        if fds[0].revents().is_empty() {
            return Ok(None);
        }
        let mut number = [0];
        rustix::io::retry_on_intr(|| rustix::io::read(&signals, &mut number))?;
        let number = i32::from(number[0]);
        // Others that arrive are a window's or a stopped job's.
        if matches!(number, libc::SIGINT | libc::SIGTERM | libc::SIGHUP | libc::SIGQUIT) {
            return Ok(Some(number));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nothing comes on the stream: whoever waits must still hear the second signal.
    #[test]
    fn a_signal_is_heard_after_one_that_ends_nothing() {
        let (stream, writer) = rustix::pipe::pipe().expect("a pipe");
        let (signals, noted) = rustix::pipe::pipe().expect("a pipe");
        rustix::io::write(&noted, &[libc::SIGWINCH as u8]).expect("written");
        let (say, heard) = std::sync::mpsc::channel();
        let waiting = std::thread::spawn(move || drop(say.send(wait(&stream, &signals))));
        let patience = std::time::Duration::from_millis(50);
        assert!(heard.recv_timeout(patience).is_err(), "a window's new size ends no wait");
        rustix::io::write(&noted, &[libc::SIGINT as u8]).expect("written");
        let answer = heard.recv_timeout(std::time::Duration::from_secs(20)).expect("an answer");
        assert_eq!(answer.expect("no error"), Some(libc::SIGINT));
        waiting.join().expect("ended");
        drop(writer);
    }
}
