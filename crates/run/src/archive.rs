//! Tar streams of files, for `cp`.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags, poll};

use crate::signals::SignalPipe;

/// Adds `path` and what is below it under the name `name`. Links stay links; sockets, of which an
/// archive has no kind, are left out and answered.
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
        } else if kind.is_socket() {
            left_out.push(path);
        } else {
            tar.append_path_with_name(&path, &name)?;
        }
    }
    Ok(left_out)
}

/// What [`add`] left out, in words; nothing for nothing.
pub(crate) fn left_out_in_words(paths: &[PathBuf]) -> Option<String> {
    let first = paths.first()?.display();
    Some(match paths.len() {
        1 => format!("{first} is a socket, and was left out"),
        count => format!("{first} and {} more sockets were left out", count - 1),
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
            let signals: &OwnedFd = signals.fd();
            let mut fds = [
                PollFd::new(signals, PollFlags::IN),
                PollFd::from_borrowed_fd(self.stream.as_fd(), PollFlags::IN),
            ];
            rustix::io::retry_on_intr(|| poll(&mut fds, None))?;
            if !fds[0].revents().is_empty() {
                let mut number = [0];
                rustix::io::read(signals, &mut number)?;
                let number = i32::from(number[0]);
                // Others that arrive are a window's or a stopped job's.
                if matches!(number, libc::SIGINT | libc::SIGTERM | libc::SIGHUP | libc::SIGQUIT) {
                    self.signal = Some(number);
                    return Err(io::Error::other("interrupted"));
                }
            }
        }
        self.stream.read(buffer)
    }
}
