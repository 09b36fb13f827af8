//! Whose image has a name: two projects can give theirs the same one.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use sconce_blob::Digest;
use sconce_oci::name::plain_name;
use sconce_store::Store;

use crate::builder::Builder;
use crate::error::Error;
use crate::project::Project;

/// Which project gave a name to which image: the folder, behind the image's digest.
const NAMED: &str = "named";

/// The image that a project has given a name to last, and the project's folder.
fn given(store: &Store, name: &str) -> Result<Option<(Digest, PathBuf)>, sconce_store::Error> {
    let kept = store.memo(NAMED, Digest::of(name.as_bytes()))?.unwrap_or_default();
    let parts = || {
        let at = kept.iter().position(|byte| *byte == b' ')?;
        let image = std::str::from_utf8(kept.get(..at)?).ok()?.parse().ok()?;
        Some((image, PathBuf::from(OsStr::from_bytes(kept.get(at + 1..)?))))
    };
    Ok(parts())
}

/// The image of the store that has this name and is not what the project of `folder` has given it to.
///
/// # Errors
/// The store can't be read.
pub fn named_by_another(
    store: &Store,
    folder: &Path,
    name: &str,
) -> Result<Option<Digest>, sconce_store::Error> {
    let name = &*plain_name(name);
    let Some(image) = store.names()?.get(name).copied() else { return Ok(None) };
    let is_own = given(store, name)?.is_some_and(|(of, by)| of == image && by == folder);
    Ok((!is_own).then_some(image))
}

impl Builder<'_> {
    /// Says whose image loses `name`, where that is another project's, and keeps who has it now.
    pub(crate) fn say_whose_name(
        &self,
        project: &Project,
        name: &str,
        image: Digest,
    ) -> Result<(), Error> {
        let Project::Folder { folder, .. } = project else { return Ok(()) };
        let name = &*plain_name(name);
        let before = named_by_another(self.store, folder, name)?.filter(|before| *before != image);
        if let Some(before) = before {
            let by = given(self.store, name)?.filter(|(of, _)| *of == before).map(|(_, by)| by);
            let what = match by {
                Some(by) => format!("the image of {}", by.display()),
                None => "an image that no project here has made".to_owned(),
            };
            let (short, now) = (before.short(), folder.display());
            self.progress.note(&format!("`{name}` was {what} ({short}), and is now of {now}"));
        }
        let mut now = format!("{image} ").into_bytes();
        now.extend(folder.as_os_str().as_bytes());
        Ok(self.store.put_memo(NAMED, Digest::of(name.as_bytes()), &now)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::heard::{Heard, with};

    /// An image without layers.
    fn image(store: &Store, number: u32) -> Digest {
        let config = format!(
            r#"{{"architecture": "a{number}", "os": "linux", "rootfs": {{"type": "layers", "diff_ids": []}}}}"#
        );
        let manifest = format!(
            r#"{{"schemaVersion": 2, "layers": [], "config": {{"digest": "{}", "size": {},
                "mediaType": "application/vnd.oci.image.config.v1+json"}}}}"#,
            Digest::of(config.as_bytes()),
            config.len()
        );
        store.put_image(&[], manifest.as_bytes(), config.as_bytes()).unwrap()
    }

    #[test]
    fn whose_image_loses_its_name_is_said() {
        let heard = Heard::default();
        with(&heard, |builder| whose(builder, &heard));
    }

    fn whose(builder: &Builder<'_>, heard: &Heard) {
        let folder = tempfile::tempdir().unwrap();
        let store = builder.store;
        let project = |name: &str| {
            let path = folder.path().join(name);
            std::fs::create_dir_all(&path).unwrap();
            Project::of_text(&path, "[image]\nname = \"hello\"\n").unwrap()
        };
        let (a, b) = (project("a"), project("b"));
        let built = |project: &Project, number| {
            let image = image(store, number);
            builder.say_whose_name(project, "hello", image).unwrap();
            store.put_name("hello", image).unwrap();
            (image.short(), heard.notes.lock().unwrap().drain(..).collect::<Vec<_>>())
        };
        // One that a person has called so.
        store.put_name("hello", image(store, 9)).unwrap();
        let other =
            |name: &str| named_by_another(store, &folder.path().join(name), "hello").unwrap();
        assert!(other("a").is_some());
        let (first, said) = built(&a, 1);
        assert_eq!((other("a"), other("b").is_some()), (None, true));
        assert!(said[0].contains("was an image that no project here has made"), "{said:?}");
        // Its own, anew.
        let (second, said) = built(&a, 2);
        assert!(first != second && said.is_empty(), "{said:?}");
        let (third, said) = built(&b, 3);
        let path = |name: &str| folder.path().join(name).display().to_string();
        assert_eq!(
            said,
            [format!(
                "`hello` was the image of {} ({second}), and is now of {}",
                path("a"),
                path("b")
            )]
        );
        // The same image of both: nothing moves.
        assert_eq!(built(&a, 3), (third, vec![]));
        // Another one than any project has made.
        let fourth = image(store, 4);
        store.put_name("hello", fourth).unwrap();
        let said = built(&b, 5).1;
        assert!(said[0].contains("was an image that no project here has made"), "{said:?}");
    }
}
