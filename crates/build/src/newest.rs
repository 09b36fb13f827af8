//! The newest release that the index has of each package.

use std::collections::BTreeMap;

use sconce_lock::Index;

use crate::builder::Builder;
use crate::error::Error;
use crate::project::Project;
use crate::resolve::World;
use crate::waiting;

impl Builder<'_> {
    /// The newest release of each package on the default index, previews and files that were taken back left out, whatever
    /// Python it is for. A package that the index does not list is left out, and all are without a network.
    ///
    /// # Errors
    /// The index does not answer.
    pub fn newest(
        &self,
        project: &Project,
        names: &[String],
    ) -> Result<BTreeMap<String, String>, Error> {
        let pages =
            waiting::told_of(self.progress, |told| World::new(self, project, told).releases(names));
        let pages = pages.map_err(|source| sconce_lock::Error::Index {
            what: "index for the releases it has",
            named: None,
            source: Box::new(source),
        })?;
        let newest = |(name, files): (String, Vec<sconce_lock::ListedFile>)| {
            let version = sconce_lock::newest_listed(&name, &files)?;
            Some((name, version))
        };
        Ok(pages.into_iter().filter_map(newest).collect())
    }
}
