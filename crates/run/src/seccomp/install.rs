//! Handing a filter to the kernel.
#![allow(unsafe_code)]

use std::io;
use std::ptr;

use super::filter::{Filter, Instruction};

const _: () = assert!(size_of::<Instruction>() == size_of::<libc::sock_filter>());
const _: () = assert!(align_of::<Instruction>() == align_of::<libc::sock_filter>());

impl Filter {
    /// Puts this thread, and all that it starts from now on, under the filter, for good. Filters
    /// that are there already stay: for each call the most restrictive answer counts.
    ///
    /// Call it as the last thing before execve(2): what the profile refuses is refused to the
    /// caller too. Nothing is allocated.
    ///
    /// # Errors
    /// EACCES if the thread has neither `CAP_SYS_ADMIN` in its user namespace nor no_new_privs;
    /// ENOSYS or EINVAL from a kernel that lacks seccomp filters or one of the flags; EINVAL
    /// for a program that the kernel does not take.
    pub fn install(&self) -> io::Result<()> {
        let program = self.program();
        let program = libc::sock_fprog {
            len: u16::try_from(program.len()).map_err(|_| io::ErrorKind::InvalidInput)?,
            // Read only: the type in the C library's header has no const.
            filter: program.as_ptr().cast_mut().cast(),
        };
        // SAFETY: seccomp(2) reads `len` instructions at `filter`, which `self` owns and which
        // have the layout of `struct sock_filter`; it keeps a copy and no pointer.
        let answer = unsafe {
            libc::syscall(
                libc::SYS_seccomp,
                libc::SECCOMP_SET_MODE_FILTER,
                self.flags(),
                &raw const program,
            )
        };
        match answer {
            0 => return Ok(()),
            -1 => {}
            // With SECCOMP_FILTER_FLAG_TSYNC only, which no profile of ours sets.
            thread => {
                let why = format!("thread {thread} could not be put under the filter");
                return Err(io::Error::other(why));
            }
        }
        let error = io::Error::last_os_error();
        if error.raw_os_error() != Some(libc::ENOSYS) {
            return Err(error);
        }
        // A sandbox around this one may know the older call only, which takes no flags.
        // SAFETY: as above; PR_SET_SECCOMP takes the same structure.
        let answer = unsafe {
            libc::prctl(
                libc::PR_SET_SECCOMP,
                libc::SECCOMP_MODE_FILTER,
                &raw const program,
                ptr::null::<libc::c_void>(),
                ptr::null::<libc::c_void>(),
            )
        };
        if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}
