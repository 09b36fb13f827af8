//! Seccomp: which system calls a container may make.
//!
//! A [`Profile`] is read in Docker's format, Docker's own default among them. It is compiled for one
//! machine and one set of capabilities into a [`Filter`], a classic BPF program that the kernel
//! runs before every system call (seccomp(2)). libseccomp is not needed. Profiles mean what they
//! mean under runc, which uses libseccomp, except where that allows what the profile refuses:
//!
//! - An argument that the kernel reads as 32 bits is compared as 32 bits. libseccomp compares all
//!   64, so that `socket(1 << 32 | AF_VSOCK, ...)` passes Docker's rule against `AF_VSOCK`.
//! - A rule with conditions that refuses a call counts beside one without that allows it.
//!   libseccomp drops it.
//! - A rule with conditions that allows `socket` does not allow it through i386's `socketcall`,
//!   where conditions cannot be checked.
//!
//! A process of an architecture that the profile does not name gets the default action, or is
//! killed if that allows calls (libseccomp kills it in any case). Calls that are newer than every
//! call that the profile names fail with ENOSYS, as under runc: C libraries then fall back to
//! older ones.
//!
//! Sources: seccomp(2), the kernel's seccomp_filter.rst, moby's `profiles/seccomp`, the OCI
//! runtime specification's `linux.seccomp`, libseccomp's `src/db.c` and `src/syscalls.c`, runc's
//! `libcontainer/seccomp`.

mod assembler;
mod compile;
mod filter;
mod install;
mod numbers;
mod profile;
mod rules;
#[cfg(test)]
mod tests;
mod widths;

pub use filter::{Filter, Instruction};
pub use profile::Profile;

/// What a profile is compiled for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Context<'a> {
    /// The capabilities in the container's bounding set, by name: `CAP_SYS_ADMIN`.
    pub capabilities: &'a [&'a str],
    /// Version and major revision of the kernel: 6 and 1 for 6.1.0-44-amd64. A release that
    /// cannot be read is 0 and 0; rules that need a minimum are then left out.
    pub kernel: (u32, u32),
    /// The machine's architecture.
    pub arch: Arch,
}

impl<'a> Context<'a> {
    /// This machine, with these capabilities.
    #[must_use]
    pub fn host(capabilities: &'a [&'a str]) -> Self {
        let release = rustix::system::uname().release().to_string_lossy().into_owned();
        Self { capabilities, kernel: version(&release), arch: Arch::native() }
    }
}

/// The first two numbers of a kernel's release.
fn version(release: &str) -> (u32, u32) {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(version)), Some(Ok(revision))) => (version, revision),
        _ => (0, 0),
    }
}

/// An architecture that filters are made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arch {
    /// x86_64, which also runs programs for i386 and, on some kernels, x32.
    X86_64,
    /// aarch64, which may also run programs for 32-bit arm.
    Aarch64,
}

impl Arch {
    /// The one that this program was built for.
    #[must_use]
    pub fn native() -> Self {
        if cfg!(target_arch = "aarch64") { Self::Aarch64 } else { Self::X86_64 }
    }

    /// As Docker's profiles write it in `includes.arches`.
    fn docker_name(self) -> &'static str {
        match self {
            Self::X86_64 => "amd64",
            Self::Aarch64 => "arm64",
        }
    }
}

/// Why a profile cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SeccompError {
    /// The file is larger than any profile.
    #[error("the seccomp profile has {bytes} bytes, and at most {limit} are read", limit = Profile::MAX_BYTES)]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// It is no JSON, or no profile in Docker's format.
    #[error("this is not a seccomp profile in Docker's format: {0}")]
    Format(#[source] serde_json::Error),
    /// A field makes no sense.
    #[error("seccomp profile, {place}: {why}")]
    Invalid {
        /// The field, such as `syscalls[3].args[0].index`.
        place: String,
        /// What is wrong with it.
        why: String,
    },
    /// `SCMP_ACT_NOTIFY` needs a second process that answers for each call.
    #[error(
        "seccomp profile, {place}: SCMP_ACT_NOTIFY asks a seccomp agent for each call, and there is none here"
    )]
    Notify {
        /// Where it stands.
        place: String,
    },
    /// The program would be longer than the kernel takes.
    #[error(
        "the seccomp profile is too long: the kernel takes {limit} BPF instructions, and its rules need more",
        limit = Filter::MAX_INSTRUCTIONS
    )]
    TooLong,
    /// Bytes that are no filter of [`Filter::to_bytes`].
    #[error("these bytes are no seccomp filter: {0}")]
    NoFilter(&'static str),
}

impl SeccompError {
    /// What to do about it, where there is something.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::TooLarge { .. } | Self::Format(_) => Some(
                "docs.docker.com/engine/security/seccomp describes the format; --security-opt seccomp=unconfined runs without a filter",
            ),
            Self::Notify { .. } => Some("use SCMP_ACT_ERRNO or SCMP_ACT_ALLOW instead"),
            Self::TooLong => Some("leave out rules with conditions on arguments"),
            Self::Invalid { .. } | Self::NoFilter(_) => None,
        }
    }
}
