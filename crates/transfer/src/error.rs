//! What can go wrong between a registry and the store.

use std::path::{Path, PathBuf};

use sconce_sign::Verdict;

use crate::policy::Origin;

/// Why an image did not get where it should.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The registry, or the way to it.
    #[error(transparent)]
    Registry(#[from] sconce_registry::Error),
    /// The store.
    #[error(transparent)]
    Store(#[from] sconce_store::Error),
    /// A key.
    #[error(transparent)]
    Key(#[from] sconce_sign::Error),
    /// The policy does not let the image in.
    #[error("{name} is not taken: {why} (policy {})", policy.display())]
    Unsigned {
        /// The image.
        name: String,
        /// The policy file.
        policy: PathBuf,
        /// What is missing.
        why: String,
        /// It is not known whether it is signed.
        is_open: bool,
        /// What to do about it, where that is not to sign it in its registry.
        hint: Option<String>,
    },
    /// Another piece of the same work failed first.
    #[error("stopped")]
    Stopped,
}

impl Error {
    /// An image that a policy file does not let in, with what its signatures came to; without where no
    /// rule is for it.
    pub(crate) fn refused(name: &str, policy: &Path, verdict: Option<Verdict>) -> Self {
        let is_open = matches!(verdict, Some(Verdict::CantTell(_)));
        // No signature helps where no rule asks for one.
        let hint = verdict.is_none().then(|| {
            format!(
                "a rule of the policy takes it: `[[images]]` with `name = \"{}\"` and the keys that must have signed it, `keys = [\"FILE\"]`, or `accept = true`",
                repository(name)
            )
        });
        let why = match verdict {
            None => "no rule is for it, and others are refused".to_owned(),
            Some(Verdict::Yes { .. }) => "it is signed".to_owned(),
            Some(Verdict::No(why)) => format!("none of the keys for it has signed it: {why}"),
            Some(Verdict::CantTell(why)) => {
                format!("can't tell whether one of the keys for it has signed it: {why}")
            }
        };
        Self::Unsigned { name: name.to_owned(), policy: policy.to_owned(), why, is_open, hint }
    }

    /// An image whose signature is not here, where its registry may not be asked.
    pub(crate) fn unproven(name: &str, policy: &Path) -> Self {
        let why = "what would prove it is not in the store, and its registry may not be asked";
        let mut error = Self::refused(name, policy, Some(Verdict::CantTell(why.to_owned())));
        if let Self::Unsigned { hint, .. } = &mut error {
            *hint = Some(format!("`sconce pull {name}` asks its registry for its signatures"));
        }
        error
    }

    /// The same of an image that no registry answers for.
    pub(crate) fn refused_of(
        name: &str,
        origin: Origin,
        policy: &Path,
        verdict: Option<Verdict>,
    ) -> Self {
        let none = verdict.is_none();
        let mut error = Self::refused(name, policy, verdict);
        if let Self::Unsigned { why, hint, .. } = &mut error {
            let (what, help) = match origin {
                Origin::Files => (
                    "it is from a layout or an archive, or has no name; the policy has no `[files]`, and what no rule names is refused",
                    "`[files]` in the policy says who must have signed such images, or takes them with `accept = true`; `sconce copy` brings the signatures of a registry along",
                ),
                Origin::Pushed => (
                    "a client pushed it to `sconce serve --writable` here; the policy has no `[pushed]`, and what no rule names is refused",
                    "`[pushed]` in the policy says who must have signed such images, or takes them with `accept = true`; `sconce copy` and cosign push signatures with an image",
                ),
            };
            if none {
                *why = what.to_owned();
            }
            *hint = Some(help.to_owned());
        }
        error
    }

    /// What to do about it, where there is something.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Registry(error) => error.hint(),
            Self::Store(error) => error.hint(),
            Self::Key(error) => error.hint(),
            Self::Unsigned { hint: Some(hint), .. } => Some(hint.clone()),
            Self::Unsigned { name, .. } => Some(format!(
                "`sconce show {name}` lists what there is; whoever answers for the image signs it: `sconce sign {name} --key FILE`"
            )),
            Self::Stopped => None,
        }
    }
}

/// The name of an image without tag and digest, as rules of a policy have it.
fn repository(name: &str) -> &str {
    let name = name.split('@').next().unwrap_or(name);
    match name.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => repository,
        _ => name,
    }
}
