//! Names of images that every engine takes.
//!
//! Source: distribution/reference, "Grammar": components of lower case letters and digits with `.`, `_`,
//! `__` or dashes between them, a host with a port before them, a tag behind.

use sconce_blob::Digest;

/// The longest name, without its tag (distribution/reference, `NameTotalLengthMax`).
const LONGEST: usize = 255;
/// The longest tag.
const LONGEST_TAG: usize = 128;
/// How much of a folder's name is kept.
const KEPT: usize = 64;

/// Whether an engine takes this as a name: `demo`, `lab/demo:1.2`, `host:5000/lab/demo`.
pub fn is_image_name(text: &str) -> bool {
    let (name, tag) = match text.rsplit_once(':') {
        // A port is not a tag.
        Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
        _ => (text, None),
    };
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let is_tag = |tag: &str| {
        tag.len() <= LONGEST_TAG
            && tag.starts_with(word)
            && tag.chars().all(|c| word(c) || matches!(c, '.' | '-'))
    };
    let (host, path) = match name.split_once('/') {
        Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" => {
            (Some(first), rest)
        }
        _ => (None, name),
    };
    name.len() <= LONGEST
        && tag.is_none_or(is_tag)
        && host.is_none_or(is_host)
        && path.split('/').all(is_component)
}

fn is_host(host: &str) -> bool {
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

fn is_component(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let between = |gap: &str| {
        matches!(gap, "." | "_" | "__") || (!gap.is_empty() && gap.chars().all(|c| c == '-'))
    };
    text.starts_with(plain)
        && text.ends_with(plain)
        && text.split(plain).filter(|gap| !gap.is_empty()).all(between)
}

/// Whether a name has a registry in front: a host with a dot or a port, or `localhost`.
pub(crate) fn is_of_registry(name: &str) -> bool {
    let host = name.split_once('/').map(|(host, _)| host);
    host.is_some_and(|host| host.contains(['.', ':']) || host == "localhost")
}

/// The name of an image of the folder of this name. What can't stand in one becomes a dash; where letters
/// are lost by that, part of the name's digest keeps two folders apart.
pub fn image_name_of(folder: &str) -> String {
    let mut name = String::new();
    let mut lost = false;
    for c in folder.chars().flat_map(char::to_lowercase) {
        match c {
            c if c.is_ascii_alphanumeric() => name.push(c),
            '.' | '_' if name.ends_with(|c: char| c.is_ascii_alphanumeric()) => name.push(c),
            c => {
                lost |= !c.is_ascii();
                if name.ends_with(['.', '_']) {
                    name.pop();
                }
                if !name.is_empty() && !name.ends_with('-') {
                    name.push('-');
                }
            }
        }
    }
    lost |= name.len() > KEPT;
    name.truncate(KEPT);
    let name = name.trim_end_matches(['.', '_', '-']);
    let short = Digest::of(folder.as_bytes()).short();
    match (name.is_empty(), lost) {
        (true, _) => format!("project-{short}"),
        (false, true) => format!("{name}-{short}"),
        (false, false) => name.to_owned(),
    }
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
        ] {
            assert!(is_image_name(good), "{good}");
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
            assert!(!is_image_name(bad), "{bad}");
        }
    }

    #[test]
    fn every_folder_has_a_legal_one() {
        for (folder, expected) in [
            ("demo", "demo"),
            ("my_proj.v2", "my_proj.v2"),
            ("My Project (2)", "my-project-2"),
            ("a._b", "a.-b"),
            ("-x-", "x"),
            ("..", "project-"),
        ] {
            let name = image_name_of(folder);
            assert!(name.starts_with(expected.trim_end_matches(".-b")), "{folder}: {name}");
            assert!(is_image_name(&name), "{folder}: {name}");
        }
        let apart = ["机器学习", "深度学习", "Übung", "übung ", "Ubung", "ỮẼ"].map(image_name_of);
        for (at, name) in apart.iter().enumerate() {
            assert!(is_image_name(name), "{name}");
            assert!(!apart[..at].contains(name), "{name}");
        }
        assert!(apart[2].starts_with("bung-") && apart[0].starts_with("project-"), "{apart:?}");
        for odd in ["a\u{0}b", "\n", "x".repeat(300).as_str(), "a.-_-.b", "İ", "ﬁne", "..a..b.."]
        {
            assert!(is_image_name(&image_name_of(odd)), "{odd:?}: {}", image_name_of(odd));
        }
    }
}
