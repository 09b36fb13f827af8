//! Image tags people know.

use std::sync::LazyLock;

use serde::Deserialize;

use crate::table;

/// A repository name that stands for "an image with torch".
#[derive(Debug, Clone, Deserialize)]
pub struct TagRepository {
    /// What stands before the colon.
    pub name: String,
    /// Whether its tags are releases of NVIDIA's.
    #[serde(default)]
    pub ngc: bool,
}

/// The last part of a tag.
#[derive(Debug, Clone, Deserialize)]
pub struct TagFlavour {
    /// `runtime` or `devel`.
    pub name: String,
}

#[derive(Deserialize)]
struct Table {
    repository: Vec<TagRepository>,
    flavour: Vec<TagFlavour>,
}

static ROWS: LazyLock<Table> = LazyLock::new(|| table::read(table::TAGS));

/// Repository names that sconce answers to.
pub fn tag_repositories() -> &'static [TagRepository] {
    &ROWS.repository
}

/// Flavours a tag can end in.
pub fn tag_flavours() -> &'static [TagFlavour] {
    &ROWS.flavour
}
