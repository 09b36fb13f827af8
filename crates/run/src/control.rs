//! The words the three processes of a container say to each other.
//!
//! One `SOCK_SEQPACKET` pair joins the caller and the keeper; the container's first process
//! inherits the keeper's end, so whoever knows something tells the caller directly. A packet
//! is one tag byte and its payload.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};

/// Longest payload: an error's text is cut here.
const LONGEST: usize = 8 << 10;

/// One packet.
#[derive(Debug)]
pub(crate) enum Message {
    /// Caller to keeper: go on.
    Go,
    /// Keeper: my user namespace stands, write its maps.
    MapMe,
    /// Keeper: something the user should know.
    Notice(String),
    /// Keeper or its children: why the container library could not do something.
    Reason(String),
    /// Keeper: it cannot be done.
    Failed { message: String, hint: Option<String> },
    /// First process: the master side of the container's terminal.
    Terminal(OwnedFd),
    /// First process: `execve` failed with this `errno`.
    ExecFailed(i32),
    /// First process: the command ended with this exit status, or by the signal of this
    /// number negated.
    Ended(i32),
    /// Caller to keeper: pass this signal on.
    Signal(i32),
}

/// The caller's end and the keeper's end.
pub(crate) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?)
}

/// Sends one packet.
pub(crate) fn send(socket: impl AsFd, message: &Message) -> io::Result<()> {
    let (tag, payload, fd): (u8, Vec<u8>, Option<BorrowedFd<'_>>) = match message {
        Message::Go => (b'G', Vec::new(), None),
        Message::MapMe => (b'M', Vec::new(), None),
        Message::Notice(text) => (b'N', text.clone().into_bytes(), None),
        Message::Reason(text) => (b'R', text.clone().into_bytes(), None),
        Message::Failed { message, hint } => {
            let text = format!("{message}\0{}", hint.as_deref().unwrap_or_default());
            (b'F', text.into_bytes(), None)
        }
        Message::Terminal(fd) => (b'T', Vec::new(), Some(fd.as_fd())),
        Message::ExecFailed(errno) => (b'X', errno.to_ne_bytes().to_vec(), None),
        Message::Ended(status) => (b'W', status.to_ne_bytes().to_vec(), None),
        Message::Signal(signal) => (b'S', signal.to_ne_bytes().to_vec(), None),
    };
    let length = payload.len().min(LONGEST);
    let parts = [
        IoSlice::new(std::slice::from_ref(&tag)),
        IoSlice::new(payload.get(..length).unwrap_or_default()),
    ];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let fds: Vec<BorrowedFd<'_>> = fd.into_iter().collect();
    if !fds.is_empty() {
        ancillary.push(SendAncillaryMessage::ScmRights(&fds));
    }
    rustix::io::retry_on_intr(|| {
        sendmsg(socket.as_fd(), &parts, &mut ancillary, SendFlags::NOSIGNAL)
    })?;
    Ok(())
}

/// Receives one packet; `None` when every other end is closed.
pub(crate) fn receive(socket: impl AsFd) -> io::Result<Option<Message>> {
    let mut buffer = vec![0u8; LONGEST + 1];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received = loop {
        let mut parts = [IoSliceMut::new(&mut buffer)];
        match recvmsg(socket.as_fd(), &mut parts, &mut ancillary, RecvFlags::CMSG_CLOEXEC) {
            Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::CONNRESET) => return Ok(None),
            other => break other?,
        }
    };
    let fd = ancillary.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    let Some((tag, payload)) = buffer.get(..received.bytes).and_then(<[u8]>::split_first) else {
        return Ok(None);
    };
    let bad =
        || io::Error::new(io::ErrorKind::InvalidData, format!("packet '{}'", char::from(*tag)));
    let text = || String::from_utf8_lossy(payload).into_owned();
    let number = || <[u8; 4]>::try_from(payload).map(i32::from_ne_bytes).map_err(|_| bad());
    Ok(Some(match tag {
        b'G' => Message::Go,
        b'M' => Message::MapMe,
        b'N' => Message::Notice(text()),
        b'R' => Message::Reason(text()),
        b'F' => {
            let text = text();
            let (message, hint) = text.split_once('\0').unwrap_or((&text, ""));
            let hint = (!hint.is_empty()).then(|| hint.to_owned());
            Message::Failed { message: message.to_owned(), hint }
        }
        b'T' => Message::Terminal(fd.ok_or_else(bad)?),
        b'X' => Message::ExecFailed(number()?),
        b'W' => Message::Ended(number()?),
        b'S' => Message::Signal(number()?),
        _ => return Err(bad()),
    }))
}
