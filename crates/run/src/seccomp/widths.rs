//! Arguments that a 64-bit kernel reads as 32 bits.
//!
//! A filter sees whole registers, and the kernel throws the upper half of such an argument away:
//! a rule that compares all 64 bits can be passed with a bit that has no meaning (CVE-2019-10063
//! was this, for `ioctl(TIOCSTI)` in flatpak). Only arguments whose type is `int`, `unsigned int`
//! or one of their names in the kernel's prototype may stand here: a wrong row would let
//! too much match.

/// Calls and the arguments that are 32 bits wide (Linux, include/linux/syscalls.h, and the
/// SYSCALL_DEFINE of each call).
const NARROW: &[(&str, &[u32])] = &[
    ("accept4", &[0, 3]),
    ("arch_prctl", &[0]),
    ("bpf", &[0, 2]),
    ("clock_adjtime", &[0]),
    ("clock_settime", &[0]),
    ("fcntl", &[0, 1]),
    ("futex", &[1]),
    ("getsockopt", &[0, 1, 2]),
    ("io_uring_register", &[0, 1, 3]),
    ("io_uring_setup", &[0]),
    ("ioctl", &[0, 1]),
    ("ioprio_set", &[0, 1, 2]),
    ("keyctl", &[0]),
    ("kill", &[0, 1]),
    ("madvise", &[2]),
    ("memfd_create", &[1]),
    ("mlockall", &[0]),
    ("mknod", &[2]),
    ("mknodat", &[0, 3]),
    ("open", &[1]),
    ("openat", &[0, 2]),
    ("perf_event_open", &[1, 2, 3]),
    ("personality", &[0]),
    ("prctl", &[0]),
    ("prlimit64", &[0, 1]),
    ("quotactl", &[0]),
    ("reboot", &[0, 1, 2]),
    ("sched_setscheduler", &[0, 1]),
    ("seccomp", &[0, 1]),
    ("setns", &[0, 1]),
    ("setpriority", &[0, 1, 2]),
    ("setrlimit", &[0]),
    ("setsockopt", &[0, 1, 2]),
    ("socket", &[0, 1, 2]),
    ("socketpair", &[0, 1, 2]),
    ("syslog", &[0, 2]),
    ("tgkill", &[0, 1, 2]),
    ("timer_create", &[0]),
    ("tkill", &[0, 1]),
    ("umount2", &[1]),
    ("userfaultfd", &[0]),
];

/// The kernel reads this argument as 32 bits, whatever the register holds.
pub(super) fn narrow(call: &str, argument: u32) -> bool {
    NARROW.iter().any(|(name, arguments)| *name == call && arguments.contains(&argument))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_name_calls_that_exist() {
        for (name, arguments) in NARROW {
            assert!(crate::seccomp::numbers::known(name), "{name}");
            assert!(arguments.iter().all(|argument| *argument < 6), "{name}");
        }
    }
}
