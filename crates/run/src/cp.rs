//! The caller's side of `cp`: files of a running container, as a tar stream from or to a process in it.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::PollFlags;

use crate::archive::{self, UntilSignal};
use crate::attend::{self, Attended};
use crate::control::{self, Message};
use crate::error::{Doing, Error};
use crate::folder::Listed;
use crate::living::End;
use crate::signals::SignalPipe;
use crate::{Exit, signals, streams};

/// How long a container may take to remove what an interrupted copy has brought.
const AFTER_SIGNAL: Duration = Duration::from_secs(10);

impl Listed {
    /// Copies `path` of the container into the host's folder `to`. Files are the caller's. A signal
    /// that would end this process ends the copy: [`Error::Interrupted`].
    pub fn copy_out(
        &self,
        path: &str,
        to: &Path,
        notices: &mut dyn FnMut(&str),
    ) -> Result<(), Error> {
        let signals = signals::SignalPipe::new().doing("listening for signals")?;
        let (read, write) = streams::pipe().doing("making a pipe")?;
        let socket = self.connect()?;
        let message = Message::Copy { path: path.to_owned(), into: false };
        control::send_with(&socket, &message, &[write.as_fd()]).doing("asking for the files")?;
        drop(write);
        let mut pulse = self.pulse_of(&socket);
        // Names and links are the container's: the library refuses what leads out of `to`.
        let mut stream = UntilSignal {
            stream: File::from(read),
            signals: signals.as_ref(),
            signal: None,
            look: &mut || {
                pulse.as_mut().and_then(|pulse| pulse.word()).iter().for_each(|text| notices(text));
            },
        };
        let mut tar = tar::Archive::new(&mut stream);
        let unpacked = tar.unpack(to).map_err(|error| archive::failed("writing to", to, error));
        let mut signal = stream.signal;
        if let (None, Some(signals)) = (signal, &signals) {
            signal = archive::wait(&socket, PollFlags::IN, Some(signals), &mut *stream.look)
                .doing("waiting for the end of the copy")?;
        }
        if let Some(signal) = signal {
            return Err(Error::Interrupted(signal));
        }
        let sent = self.copied(&socket, notices);
        // Where this side took no more, that is the reason, and not the pipe that broke.
        unpacked.and(sent)
    }

    /// Copies the host's `from`, which the caller calls `called`, into the container's folder `path`, under the name `name`. There it is under a name
    /// of its own until it is whole; a signal that would end this process ends the copy and leaves nothing of
    /// it: [`Error::Interrupted`].
    pub fn copy_in(
        &self,
        (from, called): (&Path, &Path),
        name: &Path,
        path: &str,
        notices: &mut dyn FnMut(&str),
    ) -> Result<(), Error> {
        let signals = signals::SignalPipe::new().doing("listening for signals")?;
        let (read, write) = streams::pipe().doing("making a pipe")?;
        rustix::io::ioctl_fionbio(&write, true).doing("making a pipe")?;
        let socket = self.connect()?;
        let message = Message::Copy { path: path.to_owned(), into: true };
        control::send_with(&socket, &message, &[read.as_fd()]).doing("asking for the files")?;
        drop(read);
        let mut pulse = self.pulse_of(&socket);
        let mut stream = UntilSignal {
            stream: File::from(write),
            signals: signals.as_ref(),
            signal: None,
            look: &mut || {
                pulse.as_mut().and_then(|pulse| pulse.word()).iter().for_each(|text| notices(text));
            },
        };
        let sent = send(from, called, name, &mut stream);
        let signal = stream.signal;
        // The container sees the end of it, and whether it is the right one.
        drop(stream);
        if let Some(signal) = signal {
            self.given_up(&socket, path, notices)?;
            return Err(Error::Interrupted(signal));
        }
        // All has been sent: what is left is to give it its place.
        let answer = self.copied_unless(&socket, signals.as_ref(), path, notices);
        match (answer, sent) {
            // Where this side could not go on, that is the reason, and not that it was cut short.
            (Err(Error::Shim { message, .. }), Err(error))
                if message == Error::CutShort.to_string() =>
            {
                Err(archive::failed("reading", called, error))
            }
            (Err(error), _) => Err(error),
            (Ok(()), Err(error)) => Err(archive::failed("reading", called, error)),
            (Ok(()), Ok(left_out)) => {
                left_out.in_words().iter().for_each(|text| notices(text));
                Ok(())
            }
        }
    }

    /// Waits until the container has removed what there is of an interrupted copy, or says what may be left.
    fn given_up(
        &self,
        socket: &OwnedFd,
        path: &str,
        notices: &mut dyn FnMut(&str),
    ) -> Result<(), Error> {
        let until = Instant::now() + AFTER_SIGNAL;
        while crate::living::readable_until(socket, until)? {
            match control::receive(socket).doing("listening to the container")? {
                Some(Message::Ended(_)) | None => return Ok(()),
                Some(_) => {}
            }
        }
        notices(&format!(
            "the container does not answer: a part of the copy may be left in {path}, in a folder whose name begins with {}",
            crate::copy::APART
        ));
        Ok(())
    }

    /// Waits until a copy is done, or a signal comes.
    fn copied_unless(
        &self,
        socket: &OwnedFd,
        signals: Option<&SignalPipe>,
        path: &str,
        notices: &mut dyn FnMut(&str),
    ) -> Result<(), Error> {
        if let Some(signals) = signals {
            let mut pulse = self.pulse_of(socket);
            let mut look = || {
                pulse.as_mut().and_then(|pulse| pulse.word()).iter().for_each(|text| notices(text));
            };
            let signal = archive::wait(socket, PollFlags::IN, Some(signals), &mut look)
                .doing("waiting for the end of the copy")?;
            if let Some(signal) = signal {
                self.given_up(socket, path, notices)?;
                return Err(Error::Interrupted(signal));
            }
        }
        self.copied(socket, notices)
    }

    /// Waits until a copy is done.
    fn copied(&self, socket: &OwnedFd, notices: &mut dyn FnMut(&str)) -> Result<(), Error> {
        let mut end = End::default();
        let to = Attended::to(socket, self.pulse_of(socket));
        attend::attend(to, Vec::new(), 0, &mut |message| Ok(end.hear(message, notices)))?;
        match end.result()? {
            Some(Exit::Code(0)) => Ok(()),
            _ => Err(Error::Lost("the copy ended before it was done".to_owned())),
        }
    }
}

/// Writes `from` as a tar stream, whose end is written only where all of it was.
fn send(
    from: &Path,
    called: &Path,
    name: &Path,
    stream: &mut UntilSignal<'_>,
) -> io::Result<archive::LeftOut> {
    let mut tar = tar::Builder::new(BufWriter::with_capacity(256 << 10, stream));
    // Dropped, it would write the end of an archive that is not whole.
    let added = archive::add(&mut tar, from, called, name);
    match added {
        Ok(left_out) => {
            tar.into_inner()?.flush()?;
            Ok(left_out)
        }
        Err(error) => {
            std::mem::forget(tar);
            Err(error)
        }
    }
}
