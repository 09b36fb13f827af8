//! Starts a shim: a fork that drops everything of the caller's and executes this program anew.
//!
//! The forked process leaves the caller's session, groups, keyring and descriptors; without root it enters
//! a user namespace; then it executes a sealed copy of this program ([`crate::sealed`]) with an empty
//! environment. So nothing of the caller's memory is near the container, and the program that runs there
//! is none that a container could change.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::process::Pid;

use crate::cgroup::Groups;
use crate::control::{self, Message};
use crate::error::{Doing, Error};
use crate::ids::{self, Power};
use crate::{os, sealed, signals};

/// `argv[0]` of a shim.
pub(crate) const NAME: &str = "sconce-shim";

/// Where a shim finds its descriptors: the socket to its caller, the lock on its folder, those it
/// only holds, then two for each cgroup ([`crate::cgroup::Group`]).
pub(crate) const CONTROL: RawFd = 3;
pub(crate) const LOCK: RawFd = 4;
pub(crate) const HELD: RawFd = 5;

/// What a shim is started with.
pub(crate) struct Launch<'a> {
    /// The container's folder.
    pub(crate) folder: &'a Path,
    pub(crate) lock: &'a OwnedFd,
    pub(crate) streams: &'a [OwnedFd; 3],
    pub(crate) control: &'a OwnedFd,
    /// Locks that it keeps open until it ends.
    pub(crate) held: &'a [OwnedFd],
    pub(crate) groups: &'a Groups,
    pub(crate) power: Power,
    /// Rows and columns of the terminal that the caller shows.
    pub(crate) window: Option<(u16, u16)>,
}

impl Launch<'_> {
    /// Starts it. Its messages come over the other end of `control`.
    pub(crate) fn fork(&self) -> io::Result<Pid> {
        let failed = |error: &Error| Message::Failed { message: error.chain(), hint: error.hint() };
        os::fork(|| {
            signals::block_signals();
            let error = match self.place_descriptors().and_then(|()| self.become_shim()) {
                Ok(never) => match never {},
                Err(error) => error,
            };
            drop(control::send(os::borrow(CONTROL), &failed(&error)));
            1
        })
    }

    fn become_shim(&self) -> Result<std::convert::Infallible, Error> {
        // The keyboard's signals are the caller's to pass on.
        rustix::process::setsid().doing("leaving the caller's session")?;
        os::leave_keyring().doing("leaving the caller's keyring")?;
        rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
        if self.power == Power::User {
            os::unshare(libc::CLONE_NEWUSER).map_err(ids::refusal)?;
            control::send(os::borrow(CONTROL), &Message::MapMe).doing("asking for id maps")?;
            match control::receive(os::borrow(CONTROL)).doing("waiting for the caller")? {
                Some(Message::Go) => {}
                _ => return Err(Error::Lost("the caller is gone".to_owned())),
            }
            os::set_ids(0, 0).map_err(ids::refusal)?;
        }
        if !ids::groups_are_fixed() {
            rustix::thread::set_thread_groups(&[]).doing("leaving the caller's groups")?;
        }
        if self.power == Power::User {
            // An overlay takes CAP_SYS_ADMIN in a mount namespace of one's own. Ubuntu lets the
            // namespace be made and takes its powers away: seen only here.
            os::unshare(libc::CLONE_NEWNS).map_err(ids::refusal)?;
        }
        let program =
            sealed::program(&self.folder.join("scratch")).doing("copying this program")?;
        let text = |bytes: &[u8]| CString::new(bytes).map_err(io::Error::from);
        let words = [
            text(NAME.as_bytes()),
            text(self.folder.as_os_str().as_bytes()),
            text(self.held.len().to_string().as_bytes()),
            text(self.groups.made.len().to_string().as_bytes()),
            text(self.window.map_or(String::new(), |(r, c)| format!("{r}x{c}")).as_bytes()),
        ];
        let words = words.into_iter().collect::<io::Result<Vec<_>>>().doing("naming the folder")?;
        let words: Vec<_> = words.iter().map(CString::as_c_str).collect();
        Err(os::execute_fd(program.as_fd(), &words)).doing("starting the shim")
    }

    /// Puts every descriptor in its place and closes the rest. All are first moved out of the way:
    /// one may be where another belongs.
    fn place_descriptors(&self) -> Result<(), Error> {
        let groups = self.groups.made.iter();
        let groups = groups.flat_map(|group| [group.entrance.as_fd(), group.parent.as_fd()]);
        let wanted = self
            .streams
            .iter()
            .chain([self.control, self.lock])
            .chain(self.held)
            .map(AsFd::as_fd)
            .chain(groups);
        let wanted: Vec<_> = wanted.collect();
        let above = HELD + wanted.len() as RawFd + 1;
        let moved = wanted
            .iter()
            .map(|fd| rustix::io::fcntl_dupfd_cloexec(fd, above))
            .collect::<Result<Vec<OwnedFd>, _>>()
            .doing("joining the shim's descriptors")?;
        for (fd, at) in moved.iter().zip(0..) {
            os::place(fd.as_fd(), at).doing("joining the shim's descriptors")?;
        }
        std::mem::forget(moved);
        os::close_from(wanted.len() as u32);
        Ok(())
    }
}
