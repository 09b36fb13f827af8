//! What an entry of a container is: its form and its target, as the compiler names them.

use std::fmt;

use serde::{Serialize, Serializer};

/// Which GPUs code for one capability serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Variant {
    /// Its capability and later minor ones of the same major.
    Plain,
    /// `sm_100f`: its family.
    Family,
    /// `sm_90a`: exactly its capability.
    Specific,
}

/// A target as the compiler names it: 90 and [`Variant::Specific`] is `sm_90a`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Target {
    /// Ten times the major capability plus the minor one.
    pub number: u32,
    /// With or without a suffix.
    pub variant: Variant,
}

impl Target {
    /// The major compute capability.
    pub const fn major(self) -> u32 {
        self.number / 10
    }

    /// The minor compute capability.
    pub const fn minor(self) -> u32 {
        self.number % 10
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let suffix = match self.variant {
            Variant::Plain => "",
            Variant::Family => "f",
            Variant::Specific => "a",
        };
        write!(f, "{}{suffix}", self.number)
    }
}

/// What an entry holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Form {
    /// Machine code for a GPU.
    Cubin,
    /// Assembly text that a driver compiles when it is loaded.
    Ptx,
    /// NVVM IR, for link-time optimisation.
    Nvvm,
    /// A kind this reader does not know.
    Unknown(u16),
}

/// Code of one form for one target, printed as `sm_90a`, `compute_90`, `nvvm_90`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Code {
    /// What it is.
    pub form: Form,
    /// Whom it is for.
    pub target: Target,
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.form {
            Form::Cubin => write!(f, "sm_{}", self.target),
            Form::Ptx => write!(f, "compute_{}", self.target),
            Form::Nvvm => write!(f, "nvvm_{}", self.target),
            Form::Unknown(kind) => write!(f, "kind{kind:#x}_{}", self.target),
        }
    }
}

impl Serialize for Code {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
