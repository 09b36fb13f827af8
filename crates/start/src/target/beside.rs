//! What lies in the working folder and has the name of something else, in words.

use std::path::Path;

use sconce_build::{Project, named_by_another};
use sconce_lock::Spec;
use sconce_oci::Transport;
use sconce_oci::name::{is_digest, plain_name};
use sconce_store::Store;

use super::Target;
use crate::error::Error;

impl Target {
    /// What is said where a tag or a digest is the name of something in the working folder too, which was perhaps meant.
    #[must_use]
    pub fn beside_name(text: &str) -> Option<String> {
        let is = match is_digest(text) {
            true => "a digest",
            false if Spec::is_tag(text) && !Spec::is_ngc(text) => "the tag",
            false => return None,
        };
        let is_here = Self::is_name(text) && Path::new(text).symlink_metadata().is_ok();
        is_here.then(|| format!("`{text}` is {is}; what has that name here is `./{text}`"))
    }

    /// What is said where a project or an image in this folder has the name of another image of the store, which was
    /// perhaps meant.
    ///
    /// # Errors
    /// The store can't be read.
    pub fn hides(&self, text: &str, store: &Store) -> Result<Option<String>, Error> {
        match self {
            Self::Folder(_) | Self::Layout { .. } | Self::Archive { .. } => {
                self.hides_as_file(text, store)
            }
            _ => Ok(None),
        }
    }

    /// As [`Target::hides`] to a command that reads any file or folder.
    ///
    /// # Errors
    /// The store can't be read.
    pub fn hides_as_file(&self, text: &str, store: &Store) -> Result<Option<String>, Error> {
        if text.starts_with(['.', '/']) || Transport::split(text).is_some() {
            return Ok(None);
        }
        let name = plain_name(text);
        let is = self.kind();
        // Building the project gives its image the name.
        if let Self::Folder(Project::Folder { folder, .. }) = self
            && self.project().and_then(Project::name).is_some_and(|own| plain_name(&own) == name)
        {
            let other = named_by_another(store, folder, &name)?;
            return Ok(other.map(|image| {
                let short = image.short();
                format!(
                    "`{text}` is {is} here, whose image takes that name from {short} of the store"
                )
            }));
        }
        // One that is damaged has the name too.
        if matches!(store.image(text), Err(sconce_store::Error::NoImage { .. })) {
            return Ok(None);
        }
        Ok(Some(format!(
            "`{text}` is {is} here; the image of that name in the store is `store:{text}`"
        )))
    }
}
