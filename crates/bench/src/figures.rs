//! The figures, a row each.

mod rows;

pub use rows::FIGURES;

/// Which program measures a figure: each group is a process of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Group {
    /// Products of matrices.
    Products,
    /// Products with a matrix that is sparse, two of every four numbers zero.
    Sparse,
    /// A convolution.
    Convolution,
    /// Memory of the device.
    Memory,
    /// Between host and device.
    Host,
    /// Between devices.
    Peers,
    /// NCCL.
    Collectives,
    /// How long starting something takes.
    Latency,
    /// Single operators through torch.
    Torch,
    /// A transformer block in training, through torch.
    Training,
    /// A small model in training, through torch.
    Small,
    /// torch's DataLoader.
    Loader,
    /// Load without a pause, each result compared.
    Burn,
}

/// All groups, in the order in which they are measured.
pub const GROUPS: &[(Group, &str)] = &[
    (Group::Latency, "latency"),
    (Group::Host, "host"),
    (Group::Memory, "memory"),
    (Group::Products, "products"),
    (Group::Sparse, "sparse"),
    (Group::Convolution, "convolution"),
    (Group::Peers, "peers"),
    (Group::Collectives, "collectives"),
    (Group::Torch, "torch"),
    (Group::Training, "training"),
    (Group::Small, "small"),
    (Group::Loader, "loader"),
    (Group::Burn, "burn"),
];

/// What is asked beside groups: the GPUs that there are. Where they can't be had, nothing of a GPU is measured.
pub const GPUS: &str = "gpus";
/// What is said not to be measured where NVML does not answer.
pub const NVML: &str = "nvml";

impl Group {
    /// Its name.
    pub fn name(self) -> &'static str {
        GROUPS.iter().find(|(group, _)| *group == self).map_or("", |(_, name)| name)
    }

    /// The group of that name.
    pub fn named(name: &str) -> Option<Self> {
        GROUPS.iter().find(|(_, known)| *known == name).map(|(group, _)| *group)
    }

    /// Its figures are measured by a program in Python, through torch.
    pub fn by_torch(self) -> bool {
        matches!(self, Self::Torch | Self::Training | Self::Small | Self::Loader)
    }

    /// It can be measured without a GPU.
    pub fn without_gpu(self) -> bool {
        self == Self::Loader
    }
}

/// A figure.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// As `--only` and the documents have it.
    pub name: &'static str,
    /// Who measures it.
    pub group: Group,
    /// Its unit.
    pub unit: &'static str,
    /// More is better; else less.
    pub more: bool,
    /// It is among those of `--quick`.
    pub quick: bool,
    /// What it says.
    pub says: &'static str,
    /// The same in Chinese.
    pub says_zh: &'static str,
    /// How it is measured.
    pub method: &'static str,
}

/// The figure of that name.
pub fn figure(name: &str) -> Option<&'static Row> {
    FIGURES.iter().find(|row| row.name == name)
}
