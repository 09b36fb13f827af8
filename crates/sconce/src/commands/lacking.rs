//! Images of the store of which a part is gone or damaged: what is said, and the command that brings it back.

use sconce_start::Target;
use sconce_store::{Error as StoreError, Image};

use crate::context::Context;
use crate::error::{Failure, Kind};

/// That all of an image is here, each part with its size. Nothing is read for it.
pub fn check(
    context: &Context,
    (text, target): (&str, &Target),
    image: &Image,
) -> Result<(), Failure> {
    context.store.check_blobs(image).map_err(|error| match error {
        StoreError::MissingBlob(_) => {
            let what = format!("image {text} is not whole: {error}");
            Failure::new(Kind::Storage, what).hint(hint((text, target), image))
        }
        error => unwritten(context, (text, target), image, error.into()),
    })
}

/// A failure to write an image: as [`unsent`], where it is that of a part.
pub fn unwritten(
    context: &Context,
    named: (&str, &Target),
    image: &Image,
    failure: Failure,
) -> Failure {
    match failure.kind {
        Kind::Integrity => damaged(context, named, image, failure),
        _ => failure,
    }
}

/// A failure to send an image. Where a part of it is to blame, what is damaged of its layers goes, so that the command in the hint
/// brings it anew.
pub fn unsent(
    context: &Context,
    named: (&str, &Target),
    image: &Image,
    error: sconce_transfer::Error,
) -> Failure {
    use sconce_registry::Error as R;
    use sconce_transfer::Error as E;
    match &error {
        E::Registry(R::Damaged { .. } | R::Source { .. }) => {}
        E::Store(error) if is_of_a_part(error) => {}
        _ => return error.into(),
    }
    damaged(context, named, image, error.into())
}

fn damaged(context: &Context, named: (&str, &Target), image: &Image, failure: Failure) -> Failure {
    match sconce_build::mend(&context.store, image, &context.display) {
        Ok(()) => failure.hint(hint(named, image)),
        Err(error) => error.into(),
    }
}

/// Whether an error says that something of an image is gone, or not what it should be.
fn is_of_a_part(error: &StoreError) -> bool {
    use StoreError as E;
    matches!(
        error,
        E::WrongDigest { .. }
            | E::Corrupt { .. }
            | E::BadLayer { .. }
            | E::MissingBlob(_)
            | E::MissingLayer(_)
            | E::Incomplete { .. }
    )
}

/// What a failure to start an image of the store says, where a part of the image is to blame.
pub fn not_started(
    context: &Context,
    (text, target): (&str, &Target),
    error: sconce_start::Error,
) -> Failure {
    use sconce_start::Error as E;
    let is_of_image = match &error {
        E::Store(error) | E::Build(sconce_build::Error::Store(error)) => is_of_a_part(error),
        _ => false,
    };
    let failure = Failure::from(error);
    match target.stored(&context.store) {
        // A project's own errors say what makes it anew.
        Ok(Some(image)) if is_of_image && pulled(target, &image).is_some() => {
            failure.hint(hint((text, target), &image))
        }
        _ => failure,
    }
}

/// The name by which a registry has an image.
fn pulled(target: &Target, image: &Image) -> Option<String> {
    sconce_start::pulled_as(target, image).first().map(ToString::to_string)
}

fn hint((text, target): (&str, &Target), image: &Image) -> String {
    match (target, pulled(target, image)) {
        (Target::Folder(_) | Target::Tag(_), _) => format!("`sconce build {text}` makes it anew"),
        (_, Some(name)) => format!("`sconce pull {name}` fetches it"),
        _ => "bring the image as it came: `sconce pull` and `sconce copy` fetch what is missing"
            .to_owned(),
    }
}
