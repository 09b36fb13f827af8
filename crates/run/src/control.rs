//! The protocol between a container's processes, its caller and its clients.
//!
//! Packets over `SOCK_SEQPACKET` sockets, each one [`Message`] as JSON, some with descriptors. One
//! pair joins the caller and the shim, another the shim and the container's first process; that one is made so that it
//! leads a process inside to nobody ([`pair_of_nobody`]). Everyone else connects to the socket in the container's folder.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use rustix::process::WaitOptions;
use serde::{Deserialize, Serialize};

use crate::os;

/// Longest packet. A request that is longer is refused by its sender; an error's text is cut.
const LONGEST: usize = 128 << 10;
/// Longest text of an error or notice.
const LONGEST_TEXT: usize = 8 << 10;
/// Most descriptors with a packet.
pub(crate) const MOST_FDS: usize = 16;

/// One packet.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Message {
    /// Caller to shim: go on.
    Go,
    /// Caller to shim: descriptors of its container come with this.
    Take,
    /// Caller to shim: start this container. All descriptors have been sent.
    Begin(Begin),
    /// Shim: my user namespace stands, write its maps.
    MapMe,
    /// Shim: something the user should know.
    Notice(String),
    /// Shim or its children: why the container library could not do something.
    Reason(String),
    /// The request failed.
    Failed { message: String, hint: Option<String> },
    /// The command runs.
    Started,
    /// The command runs on a terminal, whose master side comes with this.
    #[serde(skip)]
    Terminal(OwnedFd),
    /// `execve` failed with this `errno`.
    ExecFailed(i32),
    /// The command ended with this exit status, or by the signal of this number negated.
    Ended(i32),
    /// The container's memory limit killed something in it.
    OutOfMemory,
    /// To the shim: pass this signal on. KILL ends the whole container.
    Signal(i32),
    /// To the shim: run another command, on the three descriptors that come with this.
    Exec(Exec),
    /// To the shim: show output on the last two descriptors from now on, take input from the first.
    Attach,
    /// To the shim: the window of a container's own terminal has changed.
    Resize { rows: u16, columns: u16 },
    /// To the shim: say `Ended` when the container does.
    Wait,
    /// To the shim: which process of the container is the command that this client asked for?
    Which,
    /// The answer: its number as the container counts.
    Process(i32),
    /// To the shim: read or write files below this path, as a tar stream on the descriptor that
    /// comes with this.
    Copy { path: String, into: bool },
}

/// The container that a shim is for. Its descriptors, in their order: the three streams, the lock on
/// the folder, two for each cgroup ([`crate::cgroup::Group`]), and those that are only held.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Begin {
    /// The container's folder.
    pub(crate) folder: std::ffi::OsString,
    /// How many cgroups it has.
    pub(crate) groups: usize,
    /// Rows and columns of the terminal that the caller shows.
    pub(crate) window: Option<(u16, u16)>,
}

/// Another command for a running container.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub struct Exec {
    /// The command; the first word is looked for on PATH.
    pub command: Vec<String>,
    /// Variables beside the container's own; without a value, those to leave out.
    pub env: Vec<(String, Option<String>)>,
    /// Where it starts; the container's own working directory if not given.
    pub workdir: Option<String>,
    /// Who it runs as; the container's own user if not given.
    pub user: Option<String>,
    /// Rows and columns of the terminal it gets.
    pub terminal: Option<(u16, u16)>,
}

/// Two ends, joined.
pub(crate) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?)
}

/// Two ends, joined, made by a process that is gone: who holds one of them learns nothing of who made it. The kernel gives a
/// pidfd of the maker of a pair (unix(7), SO_PEERPIDFD), and with CAP_SYS_PTRACE a pidfd opens its descriptors.
pub(crate) fn pair_of_nobody() -> io::Result<(OwnedFd, OwnedFd)> {
    let (ours, theirs) = pair()?;
    let maker = os::fork(|| {
        let made = pair().and_then(|(one, other)| {
            send_with(&theirs, &Message::Take, &[one.as_fd(), other.as_fd()])
        });
        i32::from(made.is_err())
    })?;
    drop(theirs);
    let received = receive_with(&ours);
    rustix::io::retry_on_intr(|| rustix::process::waitpid(Some(maker), WaitOptions::empty()))?;
    let (_, fds) = received?.ok_or(io::ErrorKind::UnexpectedEof)?;
    let mut fds = fds.into_iter();
    fds.next().zip(fds.next()).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}

/// On the wire a message is tagged JSON; the one that is only a descriptor has a name of its own.
const TERMINAL: &[u8] = b"terminal";

/// Sends one packet.
pub(crate) fn send(socket: impl AsFd, message: &Message) -> io::Result<()> {
    match message {
        Message::Terminal(fd) => send_bytes(socket, TERMINAL, &[fd.as_fd()]),
        message => send_with(socket, message, &[]),
    }
}

/// Sends one packet with descriptors.
pub(crate) fn send_with(
    socket: impl AsFd,
    message: &Message,
    fds: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let cut = |text: &str| text.chars().take(LONGEST_TEXT).collect::<String>();
    let bytes = match message {
        Message::Failed { message, hint } => serde_json::to_vec(&Message::Failed {
            message: cut(message),
            hint: hint.as_deref().map(cut),
        }),
        Message::Notice(text) => serde_json::to_vec(&Message::Notice(cut(text))),
        Message::Reason(text) => serde_json::to_vec(&Message::Reason(cut(text))),
        message => serde_json::to_vec(message),
    }?;
    if bytes.len() > LONGEST {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("command and environment are longer than {} KiB", LONGEST >> 10),
        ));
    }
    send_bytes(socket, &bytes, fds)
}

fn send_bytes(socket: impl AsFd, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let parts = [IoSlice::new(bytes)];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_FDS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() {
        ancillary.push(SendAncillaryMessage::ScmRights(fds));
    }
    rustix::io::retry_on_intr(|| {
        sendmsg(socket.as_fd(), &parts, &mut ancillary, SendFlags::NOSIGNAL)
    })?;
    Ok(())
}

/// Receives one packet; `None` when every other end is closed.
pub(crate) fn receive(socket: impl AsFd) -> io::Result<Option<Message>> {
    Ok(receive_with(socket)?.map(|(message, _)| message))
}

/// Receives one packet and the descriptors that come with it.
pub(crate) fn receive_with(socket: impl AsFd) -> io::Result<Option<(Message, Vec<OwnedFd>)>> {
    let mut buffer = vec![0u8; LONGEST];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_FDS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received = loop {
        let mut parts = [IoSliceMut::new(&mut buffer)];
        match recvmsg(socket.as_fd(), &mut parts, &mut ancillary, RecvFlags::CMSG_CLOEXEC) {
            // CONNRESET: the other end closed before it had read everything. It is reported once, ahead
            // of what was sent from there, which is still to be read, and of the end (net/unix/af_unix.c).
            Err(rustix::io::Errno::INTR | rustix::io::Errno::CONNRESET) => {}
            other => break other?,
        }
    };
    let mut fds = Vec::new();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            fds.extend(received);
        }
    }
    let bytes = buffer.get(..received.bytes).unwrap_or_default();
    if bytes.is_empty() {
        // An empty packet reads like the end, which also hangs up (unix(7)).
        return match hung_up(socket.as_fd()) {
            true => Ok(None),
            false => Err(io::ErrorKind::InvalidData.into()),
        };
    }
    if bytes == TERMINAL {
        let master = fds.pop().ok_or(io::ErrorKind::InvalidData)?;
        return Ok(Some((Message::Terminal(master), fds)));
    }
    let invalid = |error| io::Error::new(io::ErrorKind::InvalidData, error);
    let message = match serde_json::from_slice(bytes).map_err(invalid)? {
        // A name in it may be a container's.
        Message::Notice(text) => Message::Notice(without_controls(&text)),
        other => other,
    };
    Ok(Some((message, fds)))
}

fn hung_up(socket: BorrowedFd<'_>) -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let mut fds = [PollFd::from_borrowed_fd(socket, PollFlags::IN)];
    let polled = poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }));
    let [socket] = fds;
    polled.is_err() || socket.revents().intersects(PollFlags::HUP | PollFlags::ERR)
}

/// A text that moves no terminal's cursor.
fn without_controls(text: &str) -> String {
    let shown = |c: char| match c.is_control() {
        true => c.escape_default().collect::<String>(),
        false => c.to_string(),
    };
    text.chars().map(shown).collect()
}
