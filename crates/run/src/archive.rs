//! Tar streams of files, for `cp`.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::error::Error;
use crate::holes;
use crate::pulse;
use crate::signals::{SignalPipe, ends_a_process};

/// What [`add`] left out.
#[derive(Default)]
pub(crate) struct LeftOut {
    /// Sockets, FIFOs and devices: they hold nothing to copy.
    special: Vec<PathBuf>,
    /// Folders of the kernel's below what was asked for: `/proc` is as large as the machine.
    kernel: Vec<PathBuf>,
    /// Files of the kernel's of which there is more than [`LARGEST_OF_KERNEL`].
    cut: Vec<PathBuf>,
}

impl LeftOut {
    /// In words, of which there are none where nothing was left out.
    pub(crate) fn in_words(&self) -> Vec<String> {
        let said = |paths: &[PathBuf], one: &str, more: &str| {
            let first = paths.first()?.display();
            Some(match paths.len() {
                1 => format!("{first} is {one}, and was left out"),
                count => format!("{first} and {} more {more} were left out", count - 1),
            })
        };
        let special =
            said(&self.special, "a socket, a FIFO or a device", "sockets, FIFOs or devices");
        let kernel = said(&self.kernel, "a folder of the kernel's", "folders of the kernel's");
        let cut = self.cut.iter().map(|path| {
            let (path, most) = (path.display(), LARGEST_OF_KERNEL >> 20);
            format!(
                "{path} is the kernel's and longer than {most} MiB: only so much of it was copied"
            )
        });
        special.into_iter().chain(kernel).chain(cut).collect()
    }
}

/// Adds `path`, which people call `called`, and what is below it under the name `name`. Links stay links. Whoever can write there may exchange a folder for a
/// link at any time: below `path` none is followed.
pub(crate) fn add(
    tar: &mut tar::Builder<impl Write>,
    path: &Path,
    called: &Path,
    name: &Path,
) -> io::Result<LeftOut> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let top = rustix::fs::openat(CWD, path, flags, Mode::empty())?;
    let mut left_out = LeftOut::default();
    let mut waiting = vec![PathBuf::new()];
    while let Some(below) = waiting.pop() {
        let name = if below.as_os_str().is_empty() { name.to_owned() } else { name.join(&below) };
        let found = File::from(open_below(&top, &below, OFlags::PATH | OFlags::NOFOLLOW)?);
        let about = found.metadata()?;
        let mut header = tar::Header::new_gnu();
        header.set_metadata(&about);
        if about.is_dir() && !below.as_os_str().is_empty() && is_the_kernels(&found)? {
            left_out.kernel.push(shown(called, &below));
        } else if about.is_dir() {
            header.set_size(0);
            tar.append_data(&mut header, name.join(""), io::empty())?;
            let folder = open_below(&top, &below, OFlags::RDONLY | OFlags::DIRECTORY)?;
            for entry in rustix::fs::Dir::new(folder)? {
                let entry = entry?.file_name().to_owned().into_bytes();
                if entry != b"." && entry != b".." {
                    waiting.push(below.join(OsString::from_vec(entry)));
                }
            }
        } else if about.is_symlink() {
            let target = rustix::fs::readlinkat(&found, "", Vec::new())?.into_bytes();
            append_link(tar, &mut header, &name, &target)?;
        } else if about.is_file() {
            // It may have become a FIFO: don't wait for a writer.
            let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::NOFOLLOW;
            let file = match below.as_os_str().is_empty() {
                true => rustix::fs::openat(CWD, path, flags | OFlags::CLOEXEC, Mode::empty())?,
                false => open_below(&top, &below, flags)?,
            };
            let file = File::from(file);
            let now = file.metadata()?;
            if (now.dev(), now.ino()) != (about.dev(), about.ino()) {
                return Err(exchanged(&shown(called, &below)));
            }
            header.set_metadata(&now);
            if is_the_kernels(&file)? {
                // Its size is said to be nothing, or a page.
                let mut bytes = Vec::new();
                (&file).take(LARGEST_OF_KERNEL).read_to_end(&mut bytes)?;
                // By the page: some have entries of several bytes and give no part of one.
                if bytes.len() as u64 == LARGEST_OF_KERNEL && (&file).read(&mut [0; 4096])? > 0 {
                    left_out.cut.push(shown(called, &below));
                }
                header.set_size(bytes.len() as u64);
                tar.append_data(&mut header, name, bytes.as_slice())?;
            } else {
                holes::append(tar, &mut header, &name, &file, now.len())?;
            }
        } else {
            left_out.special.push(shown(called, &below));
        }
    }
    Ok(left_out)
}

/// Adds a link with exactly these bytes: the library would take `//` and `/./` for `/`.
fn append_link(
    tar: &mut tar::Builder<impl Write>,
    header: &mut tar::Header,
    name: &Path,
    target: &[u8],
) -> io::Result<()> {
    header.set_size(0);
    if header.set_link_name_literal(target).is_err() {
        // What has no room in a header goes before it, with a NUL at its end (tar(5), "Long link").
        let mut long = tar::Header::new_gnu();
        long.set_path("././@LongLink")?;
        long.set_entry_type(tar::EntryType::GNULongLink);
        long.set_mode(0o644);
        long.set_size(target.len() as u64 + 1);
        long.set_cksum();
        tar.append(&long, target.chain(&[0_u8][..]))?;
    }
    tar.append_data(header, name, io::empty())
}

/// `path.join(below)`, without a slash at the end where there is nothing below.
fn shown(path: &Path, below: &Path) -> PathBuf {
    if below.as_os_str().is_empty() { path.to_owned() } else { path.join(below) }
}

/// The most bytes of a file that the kernel makes.
const LARGEST_OF_KERNEL: u64 = 16 << 20;

/// File systems whose files are the kernel's answers and have no size that can be relied on, by the number that
/// statfs(2) has for each (include/uapi/linux/magic.h).
const OF_THE_KERNEL: [(u64, &str); 8] = [
    (0x9fa0, "proc"),
    (0x6265_6572, "sysfs"),
    (0x0027_e0eb, "cgroup"),
    (0x6367_7270, "cgroup2"),
    (0x6462_6720, "debugfs"),
    (0x7472_6163, "tracefs"),
    (0x7363_6673, "securityfs"),
    (0x6265_6570, "configfs"),
];

/// It is in one of the kernel's file systems.
fn is_the_kernels(file: impl AsFd) -> io::Result<bool> {
    let number = rustix::fs::fstatfs(file)?.f_type as u64;
    Ok(OF_THE_KERNEL.iter().any(|(known, _)| *known == number))
}

/// An error of reading or writing a tar stream of what is at `path`, in the kernel's words: the library says each place
/// twice before it comes to them.
pub(crate) fn failed(what: &str, path: &Path, error: io::Error) -> Error {
    match kernels_answer(&error) {
        Some(libc::ENAMETOOLONG) => Error::TooLong(path.to_owned()),
        _ => Error::Os { what: format!("{what} {}", path.display()), source: error },
    }
}

/// What the kernel said, below the library's words.
pub(crate) fn kernels_answer(error: &io::Error) -> Option<i32> {
    let mut cause: &(dyn std::error::Error + 'static) = error;
    loop {
        if let Some(number) = cause.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error) {
            return Some(number);
        }
        cause = cause.source()?;
    }
}

/// How often a walk is tried again that the kernel gave up because something was renamed meanwhile
/// (openat2(2), EAGAIN).
const TRIES: usize = 16;

/// Opens what is at `below` in the folder `top`, through no link; `top` itself for an empty path.
fn open_below(top: &OwnedFd, below: &Path, flags: OFlags) -> io::Result<OwnedFd> {
    if below.as_os_str().is_empty() && flags.contains(OFlags::PATH) {
        return top.try_clone();
    }
    let below = if below.as_os_str().is_empty() { Path::new(".") } else { below };
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    // With NO_SYMLINKS a link at the end can be looked at, but only as itself.
    for _ in 0..TRIES {
        match rustix::fs::openat2(top, below, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            Err(Errno::AGAIN) => {}
            Err(Errno::LOOP) => break,
            opened => return Ok(opened?),
        }
    }
    Err(exchanged(below))
}

fn exchanged(path: &Path) -> io::Error {
    io::Error::other(format!("{} was exchanged while it was read", path.display()))
}

/// A stream that ends with an error when this process is told to end. One that is written to must be one that does not
/// block.
pub(crate) struct UntilSignal<'a> {
    pub(crate) stream: File,
    pub(crate) signals: Option<&'a SignalPipe>,
    /// The signal that came.
    pub(crate) signal: Option<i32>,
    /// Called now and then while nothing moves.
    pub(crate) look: &'a mut dyn FnMut(),
}

impl UntilSignal<'_> {
    fn wait(&mut self, until: PollFlags) -> io::Result<()> {
        self.signal = wait(&self.stream, until, self.signals, self.look)?;
        self.signal.map_or(Ok(()), |_| Err(io::Error::other("interrupted")))
    }
}

impl Read for UntilSignal<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.wait(PollFlags::IN)?;
        self.stream.read(buffer)
    }
}

impl Write for UntilSignal<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            self.wait(PollFlags::OUT)?;
            match self.stream.write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                written => return written,
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Waits until there is something to read, or room to write, or a signal that would end this process: that one.
pub(crate) fn wait(
    stream: impl AsFd,
    until: PollFlags,
    signals: Option<&SignalPipe>,
    look: &mut dyn FnMut(),
) -> io::Result<Option<i32>> {
    let second = Timespec { tv_sec: pulse::LOOK.as_secs().cast_signed(), tv_nsec: 0 };
    loop {
        let mut fds = vec![PollFd::new(&stream, until)];
        fds.extend(signals.map(|signals| PollFd::new(signals.fd(), PollFlags::IN)));
        if rustix::io::retry_on_intr(|| poll(&mut fds, Some(&second)))? == 0 {
            look();
            continue;
        }
        let came = fds.get(1).is_some_and(|fd| !fd.revents().is_empty());
        let Some(signals) = signals.filter(|_| came) else { return Ok(None) };
        let mut number = [0];
        rustix::io::retry_on_intr(|| rustix::io::read(signals.fd(), &mut number))?;
        let number = i32::from(number[0]);
        if ends_a_process(number) {
            return Ok(Some(number));
        }
    }
}

#[cfg(test)]
mod tests {
    use rustix::process::Signal;

    use super::*;

    /// Nothing comes on the stream: whoever waits must still hear the second signal.
    #[test]
    fn a_signal_is_heard_after_one_that_ends_nothing() {
        let (stream, writer) = rustix::pipe::pipe().expect("a pipe");
        // Another test of this process may have them.
        let signals = (0..400).find_map(|_| {
            std::thread::sleep(std::time::Duration::from_millis(50));
            SignalPipe::new().expect("signals")
        });
        let signals = signals.expect("nobody else has them for long");
        let raise = |signal| {
            let own = rustix::process::getpid();
            rustix::process::kill_process(own, signal).expect("signalled");
        };
        raise(Signal::WINCH);
        let (say, heard) = std::sync::mpsc::channel();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                drop(say.send(wait(&stream, PollFlags::IN, Some(&signals), &mut || ())));
            });
            let patience = std::time::Duration::from_millis(50);
            assert!(heard.recv_timeout(patience).is_err(), "a window's new size ends no wait");
            raise(Signal::INT);
            let answer = heard.recv_timeout(std::time::Duration::from_secs(20)).expect("an answer");
            assert_eq!(answer.expect("no error"), Some(libc::SIGINT));
        });
        drop(writer);
    }
}
