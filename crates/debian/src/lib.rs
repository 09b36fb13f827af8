//! Debian archives: signed indexes, version order, resolution, and a root file system without
//! maintainer scripts.
//!
//! The way of the data: [`InRelease`] (signed) vouches for a list, [`Packages`] holds the lists
//! of a release, [`resolve()`] picks the smallest set that some names need as [`Pin`]s, [`Deb`]
//! reads a package, and [`compose()`] makes the root file system of the packages as layer entries:
//! what maintainer scripts would have done is rows of data and a few writers of known formats.
//! Nothing here opens a connection, asks the clock or runs anything.

mod archive;
mod brief;
mod compose;
mod compression;
mod control;
mod date;
mod deb;
mod error;
mod flavour;
mod mirrors;
mod openpgp;
mod packages;
mod relation;
mod renamed;
mod resolve;
mod tar;
mod target;
mod version;

pub use archive::{Fetch, FetchError, InRelease, Source};
pub use compose::{DebFile, Options, compose};
pub use compression::Compression;
pub use control::{ControlError, Stanza, Stanzas};
pub use date::parse as date;
pub use deb::{Control, Deb, DebError};
pub use error::Error;
pub use flavour::{omissions, roots};
pub use mirrors::{Lists, Mirror, Mirrors, Notice};
pub use openpgp::{Keyring, SignatureError, Signed};
pub use packages::{Origin, Package, Packages};
pub use resolve::{Omission, Pin, resolve};
pub use tar::{EntryKind, Tar, TarEntry};
pub use target::{Arch, Release, Target};
pub use version::{ParseVersionError, Version};
