//! Whose image has a name: two projects can give theirs the same one.

use std::path::Path;

use sconce_blob::Digest;
use sconce_store::Store;

use crate::builder::Builder;
use crate::error::Error;
use crate::project::Project;

/// Which project gave a name to which image: the folder, behind the image's digest.
const NAMED: &str = "named";

/// The image of the store that has this name and is not what the project of `folder` has given it to.
///
/// # Errors
/// The store can't be read.
pub fn named_by_another(
    store: &Store,
    folder: &Path,
    name: &str,
) -> Result<Option<Digest>, sconce_store::Error> {
    let name = &*sconce_oci::name::plain_name(name);
    let Some(image) = store.names()?.get(name).copied() else { return Ok(None) };
    let kept = store.memo(NAMED, Digest::of(name.as_bytes()))?.unwrap_or_default();
    let own = format!("{image} {}", folder.display());
    Ok((kept != own.as_bytes()).then_some(image))
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
        let name = &*sconce_oci::name::plain_name(name);
        let key = Digest::of(name.as_bytes());
        let before = self.store.names()?.get(name).copied().filter(|before| *before != image);
        let kept = self.store.memo(NAMED, key)?.unwrap_or_default();
        let kept = String::from_utf8_lossy(&kept);
        if let Some(before) = before {
            let short = before.short();
            let of = kept.split_once(' ');
            let of = of
                .filter(|(digest, _)| digest.parse().is_ok_and(|digest: Digest| digest == before));
            let what = match of {
                Some((_, of)) if Path::new(of) == folder => None,
                Some((_, of)) => Some(format!("the image of {of} ({short})")),
                None => Some(format!("an image that no project here has made ({short})")),
            };
            if let Some(what) = what {
                let now = folder.display();
                self.progress.note(&format!("`{name}` was {what}, and is now of {now}"));
            }
        }
        let now = format!("{image} {}", folder.display());
        Ok(self.store.put_memo(NAMED, key, now.as_bytes())?)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::progress::{Progress, Silent, Stage};

    #[derive(Default)]
    struct Heard(Mutex<Vec<String>>);

    impl Progress for Heard {
        fn begin(&self, _: &str, _: Option<u64>) -> Box<dyn Stage> {
            Box::new(Silent)
        }
        fn note(&self, text: &str) {
            self.0.lock().unwrap().push(text.to_owned());
        }
    }

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
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path().join("store")).unwrap();
        let client = sconce_fetch::http::Client::new(sconce_fetch::http::Options::default());
        let heard = Heard::default();
        let progress = &heard;
        let builder = Builder {
            project: None,
            store: &store,
            client: &client,
            progress,
            threads: 2,
            mirror: None,
        };
        let project = |name: &str| {
            let path = folder.path().join(name);
            std::fs::create_dir_all(&path).unwrap();
            Project::of_text(&path, "[image]\nname = \"hello\"\n").unwrap()
        };
        let (a, b) = (project("a"), project("b"));
        let built = |project: &Project, number| {
            let image = image(&store, number);
            builder.say_whose_name(project, "hello", image).unwrap();
            store.put_name("hello", image).unwrap();
            (image.short(), heard.0.lock().unwrap().drain(..).collect::<Vec<_>>())
        };
        // One that a person has called so.
        store.put_name("hello", image(&store, 9)).unwrap();
        let other =
            |name: &str| named_by_another(&store, &folder.path().join(name), "hello").unwrap();
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
        let fourth = image(&store, 4);
        store.put_name("hello", fourth).unwrap();
        let said = built(&b, 5).1;
        assert!(said[0].contains("was an image that no project here has made"), "{said:?}");
    }
}
