//! Whether a command may write the lock: `build`, `run` and `verify` have these options.

use sconce_build::Policy;

/// Whether the lock may be written.
#[derive(clap::Args, Clone, Copy, Default, PartialEq)]
pub struct Locking {
    /// The lock must be there and fit sconce.toml: for CI
    #[arg(long, conflicts_with = "frozen")]
    locked: bool,
    /// Take the lock as it is, whether it fits sconce.toml or not
    #[arg(long)]
    frozen: bool,
}

impl Locking {
    pub fn policy(self) -> Policy {
        match (self.locked, self.frozen) {
            (true, _) => Policy::Locked,
            (_, true) => Policy::Frozen,
            _ => Policy::default(),
        }
    }
}
