//! The lock that is there already, and what of it a new one may change.

use crate::document::{Lock, Wheel};
use crate::wheel_name::normalise;

/// What may move although the lock that is there still has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Upgrade {
    /// Nothing.
    #[default]
    Nothing,
    /// These packages.
    Packages(Vec<String>),
    /// Everything.
    All,
}

/// The lock that is there already.
#[derive(Debug, Clone, Copy)]
pub struct Previous<'a> {
    /// `None` where there is none.
    pub lock: Option<&'a Lock>,
    /// What of it may change without need.
    pub upgrade: &'a Upgrade,
}

impl<'a> Previous<'a> {
    /// No lock is there.
    pub const NONE: Previous<'static> = Previous { lock: None, upgrade: &Upgrade::Nothing };

    /// The lock, unless everything in it may change.
    pub(crate) fn kept(&self) -> Option<&'a Lock> {
        self.lock.filter(|_| *self.upgrade != Upgrade::All)
    }

    /// The lock, if nothing in it may change without need.
    pub(crate) fn untouched(&self) -> Option<&'a Lock> {
        self.lock.filter(|_| *self.upgrade == Upgrade::Nothing)
    }

    /// The wheel of a package, unless it may change.
    pub(crate) fn wheel(&self, name: &str) -> Option<&'a Wheel> {
        self.wheels().find(|wheel| wheel.name == name)
    }

    /// The wheels that stay where they still fit.
    pub(crate) fn wheels(&self) -> impl Iterator<Item = &'a Wheel> {
        let named: Vec<String> = match self.upgrade {
            Upgrade::Packages(names) => names.iter().map(|name| normalise(name)).collect(),
            Upgrade::Nothing | Upgrade::All => Vec::new(),
        };
        let wheels = self.kept().map(|lock| lock.wheels.iter()).into_iter().flatten();
        wheels.filter(move |wheel| !named.contains(&wheel.name))
    }
}
