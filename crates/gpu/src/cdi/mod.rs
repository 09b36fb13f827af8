//! CDI, the Container Device Interface: what a container receives with a GPU.
//!
//! [`Edits`] is the plain form that a runtime applies without knowing what NVIDIA is; [`edits`]
//! makes it in memory, fresh at each start, so that it can't be stale. [`document`] makes the file
//! that other engines read (`sconce cdi generate`). [`registry`] reads the files that others wrote.
//! Specification: container-device-interface's SPEC.md 1.1.0.

mod document;
mod generate;
pub mod registry;

use std::path::PathBuf;

use serde_json::Value;

use crate::linker::Entry;

pub use document::{ContainerEdits, Device, DeviceNode, Document, Hook, Mount as DocumentMount};
pub use generate::{document, edits, library_folder};
pub use registry::{Origin, Plan, plan};

/// All that a container receives. Applying it twice gives the same; the order is fixed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Edits {
    /// Files and sockets of the host, bound into the container.
    pub mounts: Vec<Mount>,
    /// Device nodes, also to be allowed (rw, no mknod) in the device cgroup.
    pub nodes: Vec<Node>,
    /// Symbolic links to make in the container, in place of whatever is there.
    pub links: Vec<Link>,
    /// Plain files to write in the container, in place of whatever is there. One below /proc must
    /// be bound over the kernel's.
    pub files: Vec<File>,
    /// Environment variables to set.
    pub env: Vec<(String, String)>,
    /// Libraries to add to the container's linker cache: see [`crate::linker::with`].
    pub linker: Vec<Entry>,
    /// Groups that the container's process joins.
    pub groups: Vec<u32>,
}

/// A bind mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// On the host.
    pub host: PathBuf,
    /// In the container.
    pub container: PathBuf,
    /// Whether it can't be written there. Either way: nosuid, nodev.
    pub read_only: bool,
}

/// A device node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// In the container.
    pub path: PathBuf,
    /// On the host.
    pub host: PathBuf,
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// Permission bits.
    pub mode: u32,
}

/// A symbolic link in the container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// The link.
    pub path: PathBuf,
    /// What it says.
    pub target: String,
}

/// A plain file in the container, 0644.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Where.
    pub path: PathBuf,
    /// What it holds.
    pub contents: Vec<u8>,
}

impl Edits {
    /// As `containerEdits` of CDI, for a runtime that takes such. CDI has no links, files and
    /// linker entries: a link becomes a second mount of what it points to, the others are left out.
    pub fn container_edits(&self) -> ContainerEdits {
        generate::container_edits(self, true)
    }

    /// [`Self::container_edits`] as JSON.
    pub fn json(&self) -> Value {
        self.container_edits().json()
    }
}
