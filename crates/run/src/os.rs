//! The calls that Rust cannot check: fork, exec, ids, and the namespaces' few. Those about signals
//! are in `signals`.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::Pid;

pub(crate) fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Runs `child` in a new process, which ends with the status it returns and never comes
/// back into the caller's code, not even by a panic.
pub(crate) fn fork(child: impl FnOnce() -> i32) -> io::Result<Pid> {
    // SAFETY: the child is single-threaded; glibc's fork leaves its allocator usable there,
    // and the child touches no lock that another thread of the caller may have held: it
    // prints nothing and reads the environment only.
    let pid = check(unsafe { libc::fork() })?;
    match Pid::from_raw(pid) {
        Some(pid) => Ok(pid),
        None => {
            let status = catch_unwind(AssertUnwindSafe(child)).unwrap_or(125);
            exit_now(status)
        }
    }
}

/// Ends this process without running what the caller registered to run at its own exit.
pub(crate) fn exit_now(status: i32) -> ! {
    // SAFETY: `_exit` takes any number and does not return.
    unsafe { libc::_exit(status) }
}

/// A descriptor that this process is known to hold open for all its life.
pub(crate) fn borrow(fd: RawFd) -> BorrowedFd<'static> {
    // SAFETY: called by the container's first process for the descriptor that its shim
    // opened for it and that nothing there closes before it ends.
    unsafe { BorrowedFd::borrow_raw(fd) }
}

/// Puts `fd` at number `at`, open across exec; the descriptor it came from stays open.
pub(crate) fn place(fd: BorrowedFd<'_>, at: RawFd) -> io::Result<()> {
    if fd.as_raw_fd() == at {
        rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::empty())?;
        return Ok(());
    }
    // SAFETY: `fd` is open; whatever had the number `at` is this process's to replace, as it
    // was just forked and owns nothing there.
    check(unsafe { libc::dup2(fd.as_raw_fd(), at) }).map(|_| ())
}

/// Closes every descriptor from `first` on. For a forked child that never drops what it
/// inherited.
pub(crate) fn close_from(first: u32) {
    // SAFETY: close_range takes numbers only; the child's own owners of these descriptors
    // are leaked on purpose, as it leaves by `_exit`.
    unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0) };
}

/// Closes every descriptor from 3 on but those of `kept`, for good.
pub(crate) fn close_all_but(kept: &[RawFd]) {
    let mut kept: Vec<u32> = kept.iter().filter_map(|fd| u32::try_from(*fd).ok()).collect();
    kept.sort_unstable();
    let mut first = 3;
    for fd in kept.into_iter().filter(|fd| *fd >= 3) {
        if fd > first {
            // SAFETY: as for `close_from`.
            unsafe { libc::syscall(libc::SYS_close_range, first, fd - 1, 0) };
        }
        first = fd + 1;
    }
    close_from(first);
}

/// Leaves the namespaces that `flags` names.
pub(crate) fn unshare(flags: libc::c_int) -> io::Result<()> {
    // SAFETY: the calling process is single-threaded and just forked; no descriptor or lock
    // depends on the namespaces it leaves.
    check(unsafe { libc::unshare(flags) }).map(|_| ())
}

/// Becomes `uid` and `gid` in all three ways (setresuid(2)).
pub(crate) fn set_ids(uid: u32, gid: u32) -> io::Result<()> {
    // SAFETY: both take plain numbers; the process is single-threaded.
    check(unsafe { libc::setresgid(gid, gid, gid) })?;
    // SAFETY: as above.
    check(unsafe { libc::setresuid(uid, uid, uid) }).map(|_| ())
}

/// Something can be read from `fd` now; of a pidfd: its process has ended (pidfd_open(2)).
pub(crate) fn readable(fd: impl AsFd) -> bool {
    let mut fds = [PollFd::new(&fd, PollFlags::IN)];
    let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut fds, Some(&now)).is_ok_and(|count| count > 0)
}

/// How many capabilities the kernel knows.
pub(crate) fn capabilities_known() -> u32 {
    // SAFETY: PR_CAPBSET_READ takes a number and answers -1 for one that is none.
    (0..64).take_while(|number| unsafe { libc::prctl(libc::PR_CAPBSET_READ, *number) } >= 0).count()
        as u32
}

/// Takes a capability, by number, from the bounding set (prctl(2)).
pub(crate) fn drop_from_bounding_set(number: u32) -> io::Result<()> {
    // SAFETY: PR_CAPBSET_DROP takes a number.
    check(unsafe { libc::prctl(libc::PR_CAPBSET_DROP, number) }).map(|_| ())
}

/// Joins a new, empty session keyring (keyctl_join_session_keyring(3)): the caller's keys stay
/// the caller's. A kernel without keyrings has none to share.
pub(crate) fn leave_keyring() -> io::Result<()> {
    const KEYCTL_JOIN_SESSION_KEYRING: libc::c_int = 1; // linux/keyctl.h
    let name = std::ptr::null::<libc::c_char>();
    // SAFETY: a null name asks for an anonymous keyring; nothing is written.
    let result = unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, name) };
    match result {
        -1 => match io::Error::last_os_error() {
            error if error.raw_os_error() == Some(libc::ENOSYS) => Ok(()),
            error => Err(error),
        },
        _ => Ok(()),
    }
}

/// `struct mount_attr` (linux/mount.h).
#[repr(C)]
struct MountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    userns: u64,
}

/// Sets mount attributes (`MOUNT_ATTR_*`) on the whole of a detached tree (mount_setattr(2)).
pub(crate) fn set_mount_attributes(tree: BorrowedFd<'_>, set: u64) -> io::Result<()> {
    mount_attributes(tree, set, libc::AT_RECURSIVE)
}

/// Sets them on one mount, and not on those below it.
pub(crate) fn set_attributes_of_mount(mount: BorrowedFd<'_>, set: u64) -> io::Result<()> {
    mount_attributes(mount, set, 0)
}

fn mount_attributes(tree: BorrowedFd<'_>, set: u64, flags: libc::c_int) -> io::Result<()> {
    let attributes = MountAttr { set, clear: 0, propagation: 0, userns: 0 };
    // SAFETY: the path is an empty C string, and the structure lives through the call and has
    // the size that is given.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | flags,
            &raw const attributes,
            size_of::<MountAttr>(),
        )
    };
    check(result as libc::c_int).map(|_| ())
}

/// Becomes the program behind `program`, with these arguments and no environment at all. Returns
/// only if that fails.
pub(crate) fn execute_fd(program: BorrowedFd<'_>, arguments: &[&CStr]) -> io::Error {
    execute_fd_with(program, arguments, &[])
}

/// The same with this environment.
pub(crate) fn execute_fd_with(
    program: BorrowedFd<'_>,
    arguments: &[&CStr],
    environment: &[&CStr],
) -> io::Error {
    let pointers = |words: &[&CStr]| -> Vec<*const libc::c_char> {
        words.iter().map(|word| word.as_ptr()).chain([std::ptr::null()]).collect()
    };
    let (argv, envp) = (pointers(arguments), pointers(environment));
    // SAFETY: the path is an empty C string; argv and envp end in a null pointer and live through
    // the call.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            program.as_raw_fd(),
            c"".as_ptr(),
            argv.as_ptr(),
            envp.as_ptr(),
            libc::AT_EMPTY_PATH,
        );
    }
    io::Error::last_os_error()
}

/// Sends a signal to every other process that this one may signal and sees. Only for process 1 of
/// a pid namespace.
pub(crate) fn signal_all_others(signal: rustix::process::Signal) -> io::Result<()> {
    // SAFETY: kill takes numbers; -1 reaches the processes of this pid namespace only.
    check(unsafe { libc::kill(-1, signal.as_raw()) }).map(|_| ())
}

/// Enters namespaces of the process behind `pidfd` (setns(2), Linux 5.8).
pub(crate) fn enter_namespaces(pidfd: BorrowedFd<'_>, flags: libc::c_int) -> io::Result<()> {
    // SAFETY: the calling process is single-threaded; setns takes numbers only.
    check(unsafe { libc::setns(pidfd.as_raw_fd(), flags) }).map(|_| ())
}

/// Marks every descriptor from `first` on to be closed at exec.
pub(crate) fn close_at_exec_from(first: u32) {
    const CLOSE_RANGE_CLOEXEC: libc::c_uint = 4; // linux/close_range.h, Linux 5.11
    // SAFETY: close_range takes numbers only.
    unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, CLOSE_RANGE_CLOEXEC) };
}

/// Forbids other processes to look into this one and those it forks (PR_SET_DUMPABLE).
pub(crate) fn hide_memory() -> io::Result<()> {
    // SAFETY: PR_SET_DUMPABLE takes a number.
    check(unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0) }).map(|_| ())
}

/// Where this program's arguments lie, as `/proc/self/cmdline` shows them; 0 where that is not known.
static ARGUMENTS: [AtomicUsize; 2] = [AtomicUsize::new(0), AtomicUsize::new(0)];

/// Remembers where this program's arguments are. In a container, `/proc` says what root there likes.
pub(crate) fn remember_arguments() {
    let about = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // Fields 48 and 49, counted from the third, behind the name (proc_pid_stat(5)).
    let fields = about.rsplit_once(')').map_or("", |(_, fields)| fields);
    let mut fields = fields.split_whitespace().skip(45).map_while(|word| word.parse().ok());
    for place in &ARGUMENTS {
        place.store(fields.next().unwrap_or(0), Ordering::Relaxed);
    }
}

/// Shows `name` and no more as this process's arguments: they say where the store lies on the machine.
pub(crate) fn hide_arguments(name: &CStr) {
    let [start, end] = [&ARGUMENTS[0], &ARGUMENTS[1]].map(|place| place.load(Ordering::Relaxed));
    let name = name.to_bytes();
    if start == 0 || end.saturating_sub(start) <= name.len() {
        return;
    }
    let place: *mut u8 = std::ptr::with_exposed_provenance_mut(start);
    // SAFETY: the kernel put the arguments there, on this process's own stack (execve(2)), and said so before any
    // container was there. A shim has one thread, and has read them.
    unsafe {
        std::ptr::write_bytes(place, 0, end - start);
        std::ptr::copy_nonoverlapping(name.as_ptr(), place, name.len());
    }
}

/// Makes the loopback device of this network namespace usable (netdevice(7)).
pub(crate) fn raise_loopback() -> io::Result<()> {
    let socket = rustix::net::socket_with(
        rustix::net::AddressFamily::INET,
        rustix::net::SocketType::DGRAM,
        rustix::net::SocketFlags::CLOEXEC,
        None,
    )?;
    // SAFETY: an ifreq is plain data; the name is shorter than its field and ends in NUL, and
    // both requests read and write this one request only.
    unsafe {
        let mut request: libc::ifreq = std::mem::zeroed();
        for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
            *to = *from as libc::c_char;
        }
        check(libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFFLAGS, &mut request))?;
        request.ifr_ifru.ifru_flags |= libc::IFF_UP as libc::c_short;
        check(libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &mut request))?;
    }
    Ok(())
}

/// A command ready to be executed: nothing is allocated between fork and exec.
pub(crate) struct Program {
    candidates: Vec<CString>,
    _arguments: Vec<CString>,
    _environment: Vec<CString>,
    argv: Vec<*const libc::c_char>,
    envp: Vec<*const libc::c_char>,
}

/// What [`Program::execute`] says of a program whose interpreter or dynamic loader is not there: execve(2) says
/// `ENOENT`, as of one that is not there itself.
pub(crate) const NO_INTERPRETER: i32 = libc::ELIBACC;

fn is_there(path: &CStr) -> bool {
    rustix::fs::access(path, rustix::fs::Access::EXISTS).is_ok()
}

impl Program {
    /// `candidates` are the paths to try, in order.
    pub(crate) fn new(
        candidates: Vec<CString>,
        arguments: Vec<CString>,
        environment: Vec<CString>,
    ) -> Self {
        let pointers = |strings: &[CString]| {
            strings.iter().map(|s| s.as_ptr()).chain([std::ptr::null()]).collect::<Vec<_>>()
        };
        let (argv, envp) = (pointers(&arguments), pointers(&environment));
        Self { candidates, _arguments: arguments, _environment: environment, argv, envp }
    }

    /// Becomes the first candidate that exists. Returns only if none can be executed: a
    /// file that exists and is refused counts for more than one that does not.
    pub(crate) fn execute(&self) -> io::Error {
        let mut worst = io::Error::from_raw_os_error(libc::ENOENT);
        for candidate in &self.candidates {
            let path: &CStr = candidate;
            // SAFETY: path, argv and envp are NUL-terminated and live in `self`; argv and envp
            // end in a null pointer.
            unsafe { libc::execve(path.as_ptr(), self.argv.as_ptr(), self.envp.as_ptr()) };
            let error = io::Error::last_os_error();
            match error.raw_os_error() {
                // It is there: what should run it is not.
                Some(libc::ENOENT) if is_there(path) => {
                    worst = io::Error::from_raw_os_error(NO_INTERPRETER);
                }
                Some(libc::ENOENT | libc::ENOTDIR) => {}
                Some(libc::EACCES) => worst = error,
                _ => return error,
            }
        }
        worst
    }
}

/// How long a process of ours that waits keeps what it has read of this program.
pub(crate) const KEPT: std::time::Duration = std::time::Duration::from_secs(1);

/// Gives back the memory in which this program was read, its code and what is only read beside it: what runs on reads its
/// part again, from the page cache. A start takes 9 MB of it, a process that waits some hundred kilobytes.
pub(crate) fn give_back_program() {
    unsafe extern "C" fn read_only(
        object: *mut libc::dl_phdr_info,
        _: libc::size_t,
        _: *mut libc::c_void,
    ) -> libc::c_int {
        // SAFETY: dl_iterate_phdr(3) passes an object that is loaded, with its program headers.
        let object = unsafe { &*object };
        for at in 0..usize::from(object.dlpi_phnum) {
            // SAFETY: there are `dlpi_phnum` of them.
            let header = unsafe { &*object.dlpi_phdr.add(at) };
            if header.p_type != libc::PT_LOAD || header.p_flags & libc::PF_W != 0 {
                continue;
            }
            let page = rustix::param::page_size() as u64;
            let start = (object.dlpi_addr + header.p_vaddr) / page * page;
            let length = object.dlpi_addr + header.p_vaddr + header.p_memsz - start;
            // SAFETY: the range is mapped from the object's file and never written to, so that a page that is dropped
            // comes back as it was (madvise(2)).
            unsafe { libc::madvise(start as *mut _, length as usize, libc::MADV_DONTNEED) };
        }
        // The first is the program itself; its libraries are shared with other programs.
        1
    }
    // SAFETY: `read_only` only reads what it is given.
    unsafe { libc::dl_iterate_phdr(Some(read_only), std::ptr::null_mut()) };
}
