//! What can be wrong with a driver, a CDI document or a request for GPUs.

use std::io;
use std::path::PathBuf;

/// Why a container can't have the GPUs it was asked for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Neither a kernel module nor a driver library is here.
    #[error("this machine has no NVIDIA driver: {evidence}")]
    NoDriver {
        /// What was looked at, and whether an NVIDIA card is on the PCI bus.
        evidence: String,
    },
    /// The kernel module is loaded, `libcuda` is nowhere.
    #[error(
        "the NVIDIA kernel module {module} is loaded, but its libcuda was found in none of {looked}"
    )]
    NoLibraries {
        /// The module's version.
        module: String,
        /// The folders that were looked at.
        looked: String,
    },
    /// The libraries are there, the module isn't loaded.
    #[error("the NVIDIA libraries {version} are in {folder}, but the kernel module is not loaded")]
    NotLoaded {
        /// The libraries' version.
        version: String,
        /// Where they are.
        folder: PathBuf,
    },
    /// The libraries and the loaded module are of different releases.
    #[error(
        "Driver/library version mismatch: the loaded kernel module is {module}, the libraries in {folder} are {libraries}"
    )]
    Mismatch {
        /// The module's version.
        module: String,
        /// The libraries' version.
        libraries: String,
        /// Where the libraries are.
        folder: PathBuf,
    },
    /// Windows' driver through WSL.
    #[error(
        "this is WSL: its GPUs come through /dev/dxg and /usr/lib/wsl, which sconce does not inject"
    )]
    Wsl,
    /// The driver works and there is no GPU.
    #[error(
        "the NVIDIA driver {version} is loaded, but it shows no GPU under /proc/driver/nvidia/gpus"
    )]
    NoGpu {
        /// The driver's version.
        version: String,
    },
    /// A device node that a container needs does not exist.
    #[error("the device node {path} is missing")]
    NoNode {
        /// The node.
        path: PathBuf,
    },
    /// The value of `--gpus` can't be read.
    #[error("`--gpus {given}`: {reason}")]
    Request {
        /// What was written.
        given: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A GPU was named that isn't there.
    #[error("there is no GPU `{name}` on this machine; there is: {there}")]
    Unknown {
        /// What was asked for.
        name: String,
        /// All names that would do.
        there: String,
    },
    /// A whole GPU was asked for that is cut into MIG instances.
    #[error("GPU {gpu} is in MIG mode {state}")]
    Mig {
        /// The GPU's index.
        gpu: u32,
        /// `with these instances: …` or `without an instance`.
        state: String,
    },
    /// Fewer GPUs are free than were asked for.
    #[error("{wanted} GPUs were asked for; of {total} here {idle} are idle ({busy})")]
    NotEnough {
        /// How many were asked for.
        wanted: usize,
        /// How many could be had.
        idle: usize,
        /// How many there are.
        total: usize,
        /// Who holds the others.
        busy: String,
    },
    /// A GPU was named that the caller's job does not have.
    #[error("GPU `{name}` is not this job's: {said} gives it {given}")]
    NotGiven {
        /// What was asked for.
        name: String,
        /// The variables that say so.
        said: String,
        /// What the job has.
        given: String,
    },
    /// The caller's job has no GPU.
    #[error("this job has no GPU: {said}")]
    NoneGiven {
        /// The variables that say so.
        said: String,
    },
    /// The variables that say what a job was given can't be followed.
    #[error("`{said}` can't be followed: {reason}")]
    Job {
        /// The variable and its value.
        said: String,
        /// Why not.
        reason: String,
    },
    /// What stands for a GPU could not be locked.
    #[error("{path}, by which the GPU is locked, can't be used")]
    Lock {
        /// The folder or file of the kernel.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A file of the machine could not be read.
    #[error("can't read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A CDI document is not valid.
    #[error("the CDI document {path} is not valid: {reason}")]
    Cdi {
        /// The document.
        path: PathBuf,
        /// Which rule it breaks.
        reason: String,
    },
    /// A linker cache is damaged.
    #[error("the linker cache is damaged at offset {offset}: {reason}")]
    LinkerCache {
        /// Where.
        offset: usize,
        /// What is wrong there.
        reason: &'static str,
    },
}

impl Error {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::NoDriver { .. } => {
                "install NVIDIA's driver (the `nvidia-open` or `nvidia-driver` package of your distribution), \
                 name its folder with --driver-root, or run on the processor with --gpus none"
            }
            Self::NoLibraries { .. } => {
                "install the user-space half of the driver in the module's version, name its folder with \
                 --driver-root, or run on the processor with --gpus none"
            }
            Self::NotLoaded { .. } => {
                "load it with `modprobe nvidia` (`dmesg | grep -i nvidia` says why it isn't), or run on the \
                 processor with --gpus none"
            }
            Self::Mismatch { .. } => {
                "the driver was upgraded under a running module: reboot, or stop all GPU programs and reload it \
                 (`rmmod nvidia_uvm nvidia_drm nvidia_modeset nvidia && modprobe nvidia`)"
            }
            Self::Wsl => {
                "run on the processor with --gpus none, or on a Linux machine with NVIDIA's own driver"
            }
            Self::NoGpu { .. } => {
                "`lspci -d 10de:` shows whether the card is on the bus and `dmesg | grep -i nvrm` why the driver \
                 left it; --gpus none runs on the processor"
            }
            Self::NoNode { .. } => {
                "`nvidia-modprobe -u -c 0` or one call of `nvidia-smi` as root makes the nodes; for /dev/nvidia-uvm \
                 `modprobe nvidia-uvm` comes first"
            }
            Self::Request { .. } => {
                "say --gpus all, none, 2 (any two idle ones), 0,3 (these), a GPU-… or MIG-… UUID, or device=0"
            }
            Self::Unknown { .. } => "name one of these, or say how many: --gpus 1",
            Self::Mig { .. } => {
                "name one instance (--gpus MIG-… or device=0:0), or take the GPU out of MIG mode"
            }
            Self::NotEnough { .. } => {
                "ask for fewer, wait for the others, or name GPUs to share them on purpose: --gpus device=0,1"
            }
            Self::NotGiven { .. } => "name one of these, or leave --gpus out to get them all",
            Self::NoneGiven { .. } => {
                "ask the batch system for GPUs, unset the variable if it is not meant, or say --gpus none"
            }
            Self::Job { .. } => {
                "name GPUs by UUID (`nvidia-smi -L`), set CUDA_DEVICE_ORDER=PCI_BUS_ID to count as nvidia-smi \
                 does, or unset the variable if it is not meant"
            }
            Self::Lock { .. } => {
                "GPUs are locked by their folders in /sys and /proc/driver/nvidia: both must be mounted here"
            }
            Self::Read { .. } => return None,
            Self::Cdi { .. } => {
                "fix or delete it; sconce can make a right one: `sconce cdi generate`"
            }
            Self::LinkerCache { .. } => "`ldconfig` writes a new one",
        };
        Some(hint.to_owned())
    }
}

/// An error with its causes: `dlopen failed: libcuda.so.1: cannot open shared object file`.
pub(crate) fn in_full(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        words += &format!(": {error}");
        cause = error.source();
    }
    words
}
