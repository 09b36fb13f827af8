//! More processes in a running container: commands of `exec`, and the reading and writing of `cp`.
//!
//! The shim is root of the container's user namespace and was never inside anything else, so it
//! forks a process that joins the namespaces of the first one. That process has more privileges than the container
//! and is never one of the container's processes: root inside can stop what it sees. Only its child is, the command,
//! which begins with hardly more than the container has and takes the same privileges on the same path as the container's own. Nothing is opened by a path of the
//! container that the command does not open itself, but for its working folder and the image's users.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::path::Path;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags};

use crate::cgroup::Groups;
use crate::control::{self, Exec, Message};
use crate::copy;
use crate::error::{Doing, Error};
use crate::ids::Maps;
use crate::privileges::Privileges;
use crate::process::{self, Patience, Process, Refused, Terminal};
use crate::{init, os, terminal, user};

/// The container to join.
pub(crate) struct Target<'a> {
    /// Its first process.
    pub(crate) life: &'a OwnedFd,
    /// Its own command.
    pub(crate) process: &'a Process,
    /// It has no pid namespace of its own.
    pub(crate) host_pids: bool,
    pub(crate) groups: &'a Groups,
}

impl Target<'_> {
    /// Starts a command on `streams`. The returned process ends as the command does; what it says to the client, as soon
    /// as the command runs or failed, goes to `shim`: the command has its descriptors for an instant in which root
    /// inside may take them, and the client's socket would lead to the client. The command's own process comes through `shim` as well, as a pidfd: where the
    /// returned one ends before it, only the shim may end it.
    pub(crate) fn exec(
        &self,
        exec: &Exec,
        streams: &[OwnedFd],
        shim: &OwnedFd,
    ) -> Result<Pid, Error> {
        let maps = Maps::read()?;
        let kept = streams.iter().chain([shim, self.life]);
        let kept = kept.map(AsRawFd::as_raw_fd).collect();
        self.fork(shim, kept, || {
            let mut process = self.process_of(exec, &maps)?;
            // A link may lead out, to what is not a path inside (getcwd(2)).
            let inside = || std::env::current_dir().is_ok_and(|folder| folder.is_absolute());
            if std::env::set_current_dir(&process.workdir).is_err() || !inside() {
                return Err(Error::Invalid {
                    option: "working folder",
                    given: process.workdir.display().to_string(),
                    why: "there is no such folder in the container".to_owned(),
                });
            }
            let what = "joining the command's streams";
            // In place of the machine's null device: root inside could change its mode and owner.
            let (ended, _) = crate::streams::pipe().doing(what)?;
            for (number, stream) in (0..).zip(streams) {
                let is_null = init::is_null(stream).doing(what)?;
                let stream = if is_null { &ended } else { stream };
                os::place(stream.as_fd(), number).doing(what)?;
            }
            drop(ended);
            let terminal = process.terminal.map(Terminal::open).transpose();
            let terminal = terminal.doing("opening a terminal in the container")?;
            if let Some(terminal) = &terminal {
                terminal.give_to(process.privileges.uid).doing("giving the terminal away")?;
            }
            process.privileges = process
                .privileges
                .lower()
                .doing("giving up privileges before the command is seen")?;
            let step_down = |child| {
                let child = rustix::process::pidfd_open(child, PidfdFlags::empty())?;
                control::send_with(shim, &Message::Take, &[child.as_fd()])?;
                init::step_down(&process.privileges, c"sconce-exec")
            };
            let child = match process.start(terminal.as_ref(), step_down, Patience::Short) {
                Ok(child) => child,
                // No process is forked into a pid namespace whose first one has ended (pid_namespaces(7)).
                Err(Refused::Prepare(_)) if self.ends_soon() => return Err(Error::Ending),
                Err(Refused::Prepare(error)) => return Err(error).doing("preparing the command"),
                // As of a command that it ended.
                Err(Refused::Interrupted(signal)) => return Ok(128 + signal),
                Err(Refused::Stopped) => return Err(Error::Kept),
                Err(Refused::Late) => return Err(Error::Late(process::LATE.as_secs())),
                Err(Refused::Execute(error)) => {
                    let errno = error.raw_os_error().unwrap_or(libc::EIO);
                    drop(control::send(shim, &Message::ExecFailed(errno)));
                    return Ok(127);
                }
            };
            match terminal {
                Some(terminal) => {
                    drop(control::send(shim, &Message::Terminal(terminal.into_master())));
                }
                None => drop(control::send(shim, &Message::Started)),
            }
            // The command's pipes must see their end when the command closes them.
            let (ended, _) = crate::streams::pipe().doing(what)?;
            for number in 0..=2 {
                os::place(ended.as_fd(), number).doing(what)?;
            }
            Ok(init::stay_with(child))
        })
    }

    /// Reads or writes files for `cp`.
    pub(crate) fn copy(
        &self,
        path: &Path,
        into: bool,
        stream: OwnedFd,
        client: &OwnedFd,
    ) -> Result<Pid, Error> {
        let kept = vec![client.as_raw_fd(), stream.as_raw_fd()];
        let mut stream = Some(stream);
        self.fork(client, kept, || {
            // As the container's root with its capabilities, and no more.
            let privileges = Privileges {
                uid: 0,
                gid: 0,
                groups: Vec::new(),
                filter: self.process.privileges.waiting_filter.clone(),
                no_new_privileges: true,
                limits: Vec::new(),
                ..self.process.privileges.clone()
            };
            init::step_down(&privileges, c"sconce-cp")
                .doing("taking the container's privileges")?;
            let Some(stream) = stream.take() else { return Ok(125) };
            match into {
                true => copy::write(path, File::from(stream))?,
                false => {
                    let left_out = copy::read(path, File::from(stream))?;
                    for text in left_out.in_words() {
                        drop(control::send(client, &Message::Notice(text)));
                    }
                }
            }
            Ok(0)
        })
    }

    /// Forks a process that joins the container's namespaces, closes all descriptors but `kept` and then
    /// does `work`, whose answer is its status. An error is sent to the client. It is not among the container's
    /// processes, its children are.
    fn fork(
        &self,
        client: &OwnedFd,
        kept: Vec<RawFd>,
        work: impl FnOnce() -> Result<i32, Error>,
    ) -> Result<Pid, Error> {
        os::fork(|| {
            let joined = os::hide_memory().doing("hiding this process's memory");
            let joined =
                joined.and_then(|()| self.groups.enter().doing("entering the container's cgroup"));
            let joined = joined.and_then(|()| {
                let pids = if self.host_pids { 0 } else { libc::CLONE_NEWPID };
                let flags = libc::CLONE_NEWNS
                    | libc::CLONE_NEWIPC
                    | libc::CLONE_NEWUTS
                    | libc::CLONE_NEWCGROUP
                    | pids;
                let entered = os::enter_namespaces(self.life.as_fd(), flags);
                match entered {
                    // Of a first process that is about to be gone the kernel says all kinds of things.
                    Err(_) if self.ends_soon() => Err(Error::Ending),
                    entered => entered.doing("joining the container's namespaces"),
                }
            });
            // The rest are the host's folders, locks and cgroups, which a link of the container's could
            // reach through `/proc/self/fd`.
            let joined = joined.map(|()| os::close_all_but(&kept));
            // The shim's groups are the caller's: no folder of the container is entered by them.
            let joined = joined.and_then(|()| match self.process.privileges.groups_are_fixed {
                true => Ok(()),
                false => {
                    rustix::thread::set_thread_groups(&[]).doing("leaving the caller's groups")
                }
            });
            match joined.and_then(|()| work()) {
                Ok(status) => status,
                Err(error) => {
                    let failed = Message::Failed { message: error.chain(), hint: error.hint() };
                    drop(control::send(client, &failed));
                    126
                }
            }
        })
        .doing("starting a process in the container")
    }

    /// The first process ends within a moment.
    fn ends_soon(&self) -> bool {
        const MOMENT: Duration = Duration::from_millis(10);
        (0..50).any(|_| {
            os::readable(self.life) || {
                std::thread::sleep(MOMENT);
                false
            }
        })
    }

    /// The container's own command with what `exec` changes. Called inside, where the image's
    /// users are.
    fn process_of(&self, exec: &Exec, maps: &Maps) -> Result<Process, Error> {
        let mut process = self.process.clone();
        process.command.clone_from(&exec.command);
        process.terminal = exec.terminal.map(terminal::of_size);
        if let Some(workdir) = &exec.workdir {
            process.workdir = workdir.into();
        }
        let mut set = |name: &str, value: Option<&str>| {
            process.environment.retain(|(present, _)| present != name);
            process.environment.extend(value.map(|value| (name.to_owned(), value.to_owned())));
        };
        if let Some(user) = &exec.user {
            let root = File::open("/").doing("opening the container's root")?;
            let passwd = user::read_in(&root, "/etc/passwd")?;
            let group = user::read_in(&root, "/etc/group")?;
            let identity = user::resolve(Some(user), &[], &passwd, &group)?;
            user::check_mapped(Some(user), &identity, maps)?;
            // Nobody made a home for one that the image does not know.
            set("HOME", Some(if identity.known { &identity.home } else { "/tmp" }));
            process.privileges.uid = identity.uid;
            process.privileges.gid = identity.gid;
            process.privileges.groups = identity.groups;
            process.privileges.no_new_privileges |= identity.uid != 0;
        }
        if process.terminal.is_some() {
            set("TERM", Some("xterm"));
        }
        for (name, value) in &exec.env {
            set(name, value.as_deref());
        }
        Ok(process)
    }
}
