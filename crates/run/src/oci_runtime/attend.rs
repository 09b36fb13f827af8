//! `run` and `exec` in the foreground: the caller's terminal and signals, and how the process ended.

use std::io::{self, IsTerminal};
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SocketFlags, SocketType,
};
use rustix::process::{Pid, PidfdFlags, WaitOptions};

use super::create::Create;
use super::error::{Doing, Error};
use super::exec::Exec;
use super::record::Process;
use super::{Runtime, folder};
use crate::signals::SignalPipe;
use crate::terminal::Joined;
use crate::{Exit, os};

impl Runtime {
    /// Makes a container, starts it, and unless `detach` waits for its end and removes it.
    ///
    /// # Errors
    /// As of [`Runtime::create`] and [`Runtime::start`].
    pub fn run(
        &self,
        id: &str,
        options: &Create,
        detach: bool,
        keep: bool,
    ) -> Result<Option<Exit>, Error> {
        if detach || options.console_socket.is_some() {
            self.create(id, options)?;
            self.start_or_delete(id)?;
            if detach {
                return Ok(None);
            }
        }
        let mut terminal = None;
        if options.console_socket.is_none() {
            self.create_with(id, options, |_, wanted| own_terminal(wanted, &mut terminal))?;
            self.start_or_delete(id)?;
        }
        let path = folder::place(&self.root, id)?;
        let process = super::record::Record::read(&path)?.process;
        let process =
            process.ok_or_else(|| Error::Container("it ended while it was started".to_owned()))?;
        let ended = attend(process.pid, terminal);
        if !keep {
            self.delete(id, true)?;
        }
        ended.map(Some)
    }

    fn start_or_delete(&self, id: &str) -> Result<(), Error> {
        self.start(id).inspect_err(|_| {
            let _ = self.delete(id, true);
        })
    }

    /// [`Runtime::exec`] that waits for the process's end.
    ///
    /// # Errors
    /// The same.
    pub fn exec_and_wait(&self, id: &str, exec: &Exec) -> Result<Exit, Error> {
        if exec.console_socket.is_some() {
            return attend(self.exec(id, exec)?, None);
        }
        let mut terminal = None;
        let pid = self.exec_with(id, exec, |_, wanted| own_terminal(wanted, &mut terminal))?;
        attend(pid, terminal)
    }
}

/// A pair of sockets for a terminal that this process joins to its own: the end for libcontainer.
fn own_terminal(wanted: bool, ours: &mut Option<OwnedFd>) -> Result<Option<OwnedFd>, Error> {
    if !wanted {
        return Ok(None);
    }
    if !io::stdin().is_terminal() {
        return Err(Error::Terminal(
            "the process gets a terminal, and standard input is none: `--console-socket` says where it is sent to",
        ));
    }
    let flags = SocketFlags::CLOEXEC;
    let pair = rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None);
    let (mine, theirs) = pair.doing("making a pair of sockets")?;
    *ours = Some(mine);
    Ok(Some(theirs))
}

/// The terminal that libcontainer has sent.
fn receive(socket: &OwnedFd) -> Result<OwnedFd, Error> {
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut name = [0; 64];
    let mut parts = [io::IoSliceMut::new(&mut name)];
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    rustix::net::recvmsg(socket, &mut parts, &mut ancillary, flags)
        .doing("receiving the terminal")?;
    let sent = ancillary.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut sent) => sent.next(),
        _ => None,
    });
    sent.ok_or(Error::Terminal("the container's process sent no terminal"))
}

/// Stays with a process of a container, a child of this one, to its end.
fn attend(pid: i32, terminal: Option<OwnedFd>) -> Result<Exit, Error> {
    let gone = || Error::Container("its process is gone".to_owned());
    let number = Pid::from_raw(pid).ok_or_else(gone)?;
    let process = Process::of(pid).ok_or_else(gone)?;
    let life =
        rustix::process::pidfd_open(number, PidfdFlags::empty()).doing("watching the process")?;
    let signals = SignalPipe::new().doing("listening for signals")?;
    let master = terminal.as_ref().map(receive).transpose()?;
    let mut joined = master.map(Joined::new).transpose()?;
    while !os::readable(&life) {
        wait(&life, signals.as_ref(), joined.as_ref())?;
        if let Some(signals) = signals.as_ref().filter(|signals| os::readable(signals.fd())) {
            let mut byte = [0];
            if rustix::io::read(signals.fd(), &mut byte) == Ok(1) {
                match (i32::from(byte[0]), &joined) {
                    (libc::SIGWINCH, Some(joined)) => drop(joined.resize()),
                    (signal, _) => drop(process.signal(signal)?),
                }
            }
        }
        if let Some(joined) = &mut joined {
            if joined.wants_keys() && os::readable(io::stdin()) {
                joined.read_keys()?;
            }
            joined.write_keys()?;
            joined.show()?;
            if os::readable(&joined.master) {
                joined.take_output()?;
            }
        }
    }
    // What it wrote before its end is in the terminal still.
    while let Some(joined) = &mut joined
        && (os::readable(&joined.master) || joined.blocked().is_some())
    {
        joined.show()?;
        if joined.gone || !joined.take_output()? {
            break;
        }
    }
    let status =
        rustix::io::retry_on_intr(|| rustix::process::waitpid(Some(number), WaitOptions::empty()));
    let status = status.doing("waiting for the process")?.map(|(_, status)| status);
    let code = status.and_then(|status| status.exit_status());
    let signal = status.and_then(|status| status.terminating_signal());
    Ok(match (code, signal) {
        (Some(code), _) => Exit::Code(u8::try_from(code).unwrap_or(u8::MAX)),
        (_, Some(signal)) => Exit::Signal(signal),
        _ => return Err(gone()),
    })
}

/// Waits for whatever comes first.
fn wait(
    life: &OwnedFd,
    signals: Option<&SignalPipe>,
    joined: Option<&Joined>,
) -> Result<(), Error> {
    let keyboard = io::stdin();
    let mut fds = vec![PollFd::new(life, PollFlags::IN)];
    fds.extend(signals.map(|signals| PollFd::new(signals.fd(), PollFlags::IN)));
    if let Some(joined) = joined {
        let keys = if joined.has_keys() { PollFlags::OUT } else { PollFlags::empty() };
        if joined.wants_keys() {
            fds.push(PollFd::from_borrowed_fd(keyboard.as_fd(), PollFlags::IN));
        }
        match joined.blocked() {
            Some(screen) => fds.push(PollFd::from_borrowed_fd(screen, PollFlags::OUT)),
            None => fds.push(PollFd::new(&joined.master, PollFlags::IN | keys)),
        }
    }
    match poll(&mut fds, None) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(error).doing("waiting for the process"),
    }
}
