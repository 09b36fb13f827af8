//! Names of images: what engines take for one, which registry one is of, how one is spelt, and what means something else.
//!
//! Source: distribution/reference, "Grammar": components of lower case letters and digits with `.`, `_`,
//! `__` or dashes between them, a host with a port before them, a tag behind.

use crate::transport::Transport;

/// The longest name, without its tag (distribution/reference, `NameTotalLengthMax`).
pub const MAX_NAME: usize = 255;
/// The longest tag.
pub const MAX_TAG: usize = 128;
/// The tag of a name that has none.
const LATEST: &str = ":latest";
/// The fewest hex digits that no name has: as many as are printed of a digest. Words such as `facade` have fewer.
const SHORT_DIGEST: usize = 12;

/// Whether the first part of a name is a registry: it has a dot or a port, or is `localhost`.
#[must_use]
pub fn is_host(first: &str) -> bool {
    first.contains(['.', ':']) || first == "localhost"
}

/// The registry in front of a name, if it has one: `ghcr.io` of `ghcr.io/team/app`.
#[must_use]
pub fn host_of(name: &str) -> Option<&str> {
    name.split_once('/').map(|(first, _)| first).filter(|first| is_host(first))
}

/// Whether a tag may be written so.
#[must_use]
pub fn is_tag(tag: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    tag.len() <= MAX_TAG
        && tag.starts_with(word)
        && tag.chars().all(|c| word(c) || matches!(c, '.' | '-'))
}

/// Whether an engine takes this as a name, `demo`, `lab/demo:1.2`, `host:5000/lab/demo`, and it [means](meaning) nothing else here.
///
/// # Errors
/// It is no name, in words that follow it.
pub fn check_image_name(text: &str) -> Result<(), String> {
    match meaning(text) {
        Some(means) => Err(format!("is {means}, and no name of an image")),
        None if is_name(text) => Ok(()),
        None => Err("is not a name of an image: one has lower case letters and no blanks, as demo or lab/demo:1.2".to_owned()),
    }
}

fn is_name(text: &str) -> bool {
    let (name, tag) = match text.rsplit_once(':') {
        // A port is not a tag.
        Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
        _ => (text, None),
    };
    let host = host_of(name);
    let path = host.map_or(name, |host| &name[host.len() + 1..]);
    name.len() <= MAX_NAME
        && tag.is_none_or(is_tag)
        && host.is_none_or(is_host_name)
        && path.split('/').all(is_component)
}

/// What a text means that is no name, whoever wants to give it to an image: in words that follow "it is".
///
/// An image with such a name would be taken where another one, or none, is meant: `sconce run ac17b6bec725` starts
/// the image with that digest.
#[must_use]
pub fn meaning(text: &str) -> Option<&'static str> {
    if is_digest(text) {
        return Some("a digest, or the first digits of one");
    }
    Transport::split(text).map(|_| "a place: the word before the `:` says of which kind")
}

/// Whether it is a digest, or begins one with as many digits as are printed.
#[must_use]
pub fn is_digest(text: &str) -> bool {
    let plain = plain_name(text);
    let digits =
        plain.len() >= SHORT_DIGEST && plain.bytes().all(|digit| digit.is_ascii_hexdigit());
    digits || plain.starts_with("sha256:")
}

/// The one spelling of a name in a store. `hello` and `hello:latest` are one name, as in Docker: here it is the short one, except that of a
/// registry, `ghcr.io/team/app:latest`, which is whole with its tag alone.
#[must_use]
pub fn plain_name(name: &str) -> String {
    let last = name.rsplit('/').next().unwrap_or_default();
    let of_registry = host_of(name).is_some();
    if name.contains('@') || last.is_empty() {
        return name.to_owned();
    }
    match last.strip_suffix(LATEST) {
        None if of_registry && !last.contains(':') => format!("{name}{LATEST}"),
        Some(rest) if !of_registry && !rest.is_empty() && !rest.contains(':') => {
            name[..name.len() - LATEST.len()].to_owned()
        }
        _ => name.to_owned(),
    }
}

/// The other spelling of a plain name, which older programs have written.
#[must_use]
pub fn other_spelling(plain: &str) -> Option<String> {
    let other = match plain.strip_suffix(LATEST) {
        Some(short) => short.to_owned(),
        None => format!("{plain}{LATEST}"),
    };
    (plain_name(&other) == plain).then_some(other)
}

/// The host of a name as engines take it: labels of letters, digits and dashes, and a port.
fn is_host_name(host: &str) -> bool {
    let (name, port) = host.split_once(':').unwrap_or((host, "0"));
    let label = |label: &str| {
        let inner = |c: char| c.is_ascii_alphanumeric() || c == '-';
        !label.is_empty()
            && label.chars().all(inner)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.split('.').all(label) && !port.is_empty() && port.chars().all(|c| c.is_ascii_digit())
}

/// A part of a name between slashes.
#[must_use]
pub fn is_component(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let between = |gap: &str| {
        matches!(gap, "." | "_" | "__") || (!gap.is_empty() && gap.chars().all(|c| c == '-'))
    };
    text.starts_with(plain)
        && text.ends_with(plain)
        && text.split(plain).filter(|gap| !gap.is_empty()).all(between)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_engines_take() {
        for good in [
            "demo",
            "a.b_c__d--e",
            "lab/demo:1.2",
            "host:5000/lab/demo",
            "registry.example.invalid/x:Tag_1",
            "localhost/x",
            "0",
            "docker:24",
            "facade",
            "20261128",
            "lab/ac17b6bec725",
            "ac17b6bec725:1",
            "store",
        ] {
            assert!(check_image_name(good).is_ok(), "{good}");
        }
        let long = "a".repeat(256);
        for bad in [
            "",
            "Demo",
            "a b",
            "-a",
            "a-",
            "a._b",
            "a___b",
            "a//b",
            "/a",
            "a/",
            "a:",
            "a:-x",
            "a:b:c",
            "ä",
            "host:/a",
            "host:5x/a",
            ".a.b/c",
            "a@b",
            "a\n",
            &long,
        ] {
            assert!(check_image_name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_means_something_else_is_no_name() {
        let whole = "a".repeat(64);
        for (text, words) in [
            ("ac17b6bec725", "first digits"),
            ("ac17b6bec725:latest", "first digits"),
            ("AC17B6BEC725", "first digits"),
            (&whole, "first digits"),
            ("sha256:ac17b6", "first digits"),
            ("sha256:1.0", "first digits"),
            ("store:hello", "a place"),
            ("store:latest", "a place"),
            ("oci:x", "a place"),
            ("oci-archive:x", "a place"),
            ("docker-archive:x", "a place"),
            ("dir:x", "a place"),
            ("docker://x", "a place"),
        ] {
            assert!(meaning(text).is_some_and(|means| means.contains(words)), "{text}");
            assert!(check_image_name(text).is_err(), "{text}");
        }
    }

    #[test]
    fn one_name_has_one_spelling() {
        for (name, plain, other) in [
            ("hello", "hello", Some("hello:latest")),
            ("hello:latest", "hello", Some("hello:latest")),
            ("lab/demo:latest", "lab/demo", Some("lab/demo:latest")),
            ("hello:1", "hello:1", None),
            ("latest", "latest", Some("latest:latest")),
            ("a:1:latest", "a:1:latest", None),
            (":latest", ":latest", None),
            ("x@y", "x@y", None),
            ("ghcr.io/team/app", "ghcr.io/team/app:latest", Some("ghcr.io/team/app")),
            (
                "docker.io/library/alpine:latest",
                "docker.io/library/alpine:latest",
                Some("docker.io/library/alpine"),
            ),
            ("localhost:5000/app:1", "localhost:5000/app:1", None),
            ("localhost/app", "localhost/app:latest", Some("localhost/app")),
            ("a/", "a/", None),
        ] {
            assert_eq!(plain_name(name), plain, "{name}");
            assert_eq!(plain_name(plain), plain, "{name}");
            assert_eq!(other_spelling(plain).as_deref(), other, "{name}");
        }
    }
}
