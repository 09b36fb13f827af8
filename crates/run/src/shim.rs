//! The process that owns a container: one each, no daemon.
//!
//! It makes the container, starts it, and stays until it ends: passes signals on, keeps the output
//! of one that nobody is attached to, starts what `exec` asks for, and cleans up. It has one thread,
//! runs from a sealed copy of this program, and an attached one ends when its caller does. Every mount
//! was made in a namespace of its own: killing it leaves nothing mounted, and the container's first
//! process dies with it.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use crate::cgroup::{Group, Groups};
use crate::control::{self, Begin, Message};
use crate::error::{Doing, Error};
use crate::folder::{self, State};
use crate::forward::Listeners;
use crate::output::Output;
use crate::running::{Client, Running};
use crate::spawn::{CONTROL, NAME};
use crate::{Container, Exit, clean, os, setup};

/// Takes over if this process was started as a container's shim, and then never returns. A program
/// that starts containers calls it first thing in `main`.
pub fn shim_main() {
    if std::env::args_os().next().is_none_or(|name| name != NAME) {
        return;
    }
    os::remember_arguments();
    let ended =
        os::hide_memory().and_then(|()| container_to_keep()).doing("waiting for a container");
    let ended = ended.and_then(|order| order.map_or(Ok(()), keep));
    let status = match ended {
        Ok(()) => 0,
        Err(error) => {
            let failed = Message::Failed { message: error.chain(), hint: error.hint() };
            drop(control::send(os::borrow(CONTROL), &failed));
            1
        }
    };
    os::exit_now(status)
}

/// A container to start, with its descriptors.
struct Order {
    begin: Begin,
    descriptors: Vec<OwnedFd>,
}

/// What the caller wants started; `None` if it has gone without wanting anything.
fn container_to_keep() -> io::Result<Option<Order>> {
    let mut descriptors = Vec::new();
    loop {
        match control::receive_with(os::borrow(CONTROL))? {
            Some((Message::Take, more)) => descriptors.extend(more),
            Some((Message::Begin(begin), _)) => return Ok(Some(Order { begin, descriptors })),
            _ => return Ok(None),
        }
    }
}

/// Sends a notice to the caller, if it is still there.
pub(crate) fn notice(text: impl Into<String>) {
    drop(control::send(os::borrow(CONTROL), &Message::Notice(text.into())));
}

/// Keeps a container from start to end.
fn keep(order: Order) -> Result<(), Error> {
    let missing = || Error::Lost("its caller sent too few descriptors".to_owned());
    let Begin { folder, groups, window } = order.begin;
    let path = Path::new(&folder);
    // What ps(1) shows, and what is named as the holder of a GPU: 15 bytes at most.
    let id = path.file_name().unwrap_or_default().to_string_lossy();
    let name = CString::new(format!("sconce-{}", id.get(..8).unwrap_or_default()));
    rustix::thread::set_name(&name.unwrap_or_default()).doing("naming this process")?;
    let mut descriptors = order.descriptors.into_iter();
    for number in 0..CONTROL {
        let stream = descriptors.next().ok_or_else(missing)?;
        os::place(stream.as_fd(), number).doing("joining the container's streams")?;
    }
    os::close_at_exec_from(CONTROL as u32);
    let lock = descriptors.next().ok_or_else(missing)?;
    let container: Container =
        folder::read(path, "container.json").doing_to("reading", path.join("container.json"))?;
    let mut state: State =
        folder::read(path, "state.json").doing_to("reading", path.join("state.json"))?;
    let mut made = Vec::new();
    for path in state.cgroups.iter().take(groups) {
        let mut file = || descriptors.next().map(Into::into).ok_or_else(missing);
        made.push(Group { path: path.clone(), entrance: file()?, parent: file()? });
    }
    let groups = Groups::of(made);
    let _held: Vec<OwnedFd> = descriptors.collect();
    // Open until the process ends: a client that connects too late sees end of file and reads the state.
    let listener = listen(path)?;
    let ended = live(path, &container, &mut state, &groups, &listener, window);
    state.pid = None;
    state.finished = Some(folder::now());
    match &ended {
        Ok((exit, _)) => state.exit = Some(exit.code()),
        // It has ended as a shell's does whose command is not there: nothing was lost.
        Err(error @ (Error::NotFound(_) | Error::NotExecutable { .. })) => {
            state.exit = Some(error.exit_code());
            state.error = Some(error.chain());
        }
        Err(error) => state.error = Some(error.chain()),
    }
    for group in &groups.made {
        if let Err(error) = group.remove() {
            notice(format!("the cgroup {} stays: {error}", group.path.display()));
        }
    }
    std::mem::forget(groups);
    let cleaned = if container.detach && !container.remove && state.started.is_some() {
        let _ = fs::remove_file(path.join("socket"));
        clean::keep_record(path, &state)
    } else {
        // Without it the rest is nobody's, should this process be killed here.
        let _ = fs::remove_file(path.join("container.json"));
        clean::remove(path)
    };
    let cleaned = cleaned.and(container.leased.as_deref().map_or(Ok(()), clean::remove));
    // Sent last: by then everything is cleaned up and the folder's lock is free.
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::Unlock)
        .doing("letting go of the container's folder")?;
    let (exit, clients) = ended?;
    let message = Message::Ended(exit.status());
    for client in clients.iter().filter(|client| client.waits) {
        drop(control::send(&client.socket, &message));
    }
    drop(control::send(os::borrow(CONTROL), &message));
    cleaned
}

/// From the start of the container to its end: how it ended, and who is connected.
fn live(
    path: &Path,
    container: &Container,
    state: &mut State,
    groups: &Groups,
    listener: &OwnedFd,
    window: Option<(u16, u16)>,
) -> Result<(Exit, Vec<Client>), Error> {
    let scratch = path.join("scratch");
    let ports = Listeners::open(container)?;
    let output = Output::of(container, path)?;
    let (ours, theirs) = control::pair_of_nobody().doing("making a pair of sockets")?;
    let started = setup::start(container, &scratch, groups, window, theirs);
    let started = match started {
        Ok(started) => started,
        Err(error) => {
            setup::unmount(&scratch);
            return Err(error);
        }
    };
    output.started().doing("letting go of the command's streams")?;
    state.pid = Some(started.init.as_raw_nonzero().get());
    state.started = Some(folder::now());
    folder::write(path, "state.json", state)?;
    ports.serve().doing("starting to forward ports")?;
    let mut running = Running::new(container, started, groups, ours, listener, output)?;
    let ended = running.serve();
    if groups.memory_kills() > 0 {
        state.out_of_memory = true;
        drop(control::send(os::borrow(CONTROL), &Message::OutOfMemory));
    }
    state.output_lost = running.output.lost();
    let ended = ended.and_then(|()| running.end());
    setup::tidy(container, &scratch, &running.started.overlay, ended.is_ok())?;
    ended.map(|exit| (exit, running.clients))
}

/// Listens where others find this container.
fn listen(path: &Path) -> Result<OwnedFd, Error> {
    use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen};
    // A socket's path may have 107 bytes: from within the folder it is short.
    std::env::set_current_dir(path).doing_to("entering", path)?;
    let flags = SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
        .doing("making a socket")?;
    let address = SocketAddrUnix::new("socket").doing("naming a socket")?;
    bind(&socket, &address).doing_to("listening in", path)?;
    listen(&socket, 16).doing_to("listening in", path)?;
    Ok(socket)
}
