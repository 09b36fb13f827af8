//! The name that the image of a folder gets.

use sconce_blob::Digest;
use sconce_oci::name::meaning;

/// How much of a folder's name is kept.
const KEPT: usize = 64;

/// The name of an image of the folder of this name. What can't stand in one becomes a dash; where letters
/// are lost by that, part of the name's digest keeps two folders apart. One that is itself like a digest has a word before it.
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
        (false, false) if meaning(name).is_some() => format!("project-{name}"),
        (false, false) => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use sconce_oci::name::check_image_name;

    use super::*;

    #[test]
    fn every_folder_has_a_legal_one() {
        for (folder, expected) in [
            ("demo", "demo"),
            ("my_proj.v2", "my_proj.v2"),
            ("My Project (2)", "my-project-2"),
            ("a._b", "a.-b"),
            ("-x-", "x"),
            ("..", "project-"),
            ("AC17B6BEC725", "project-ac17b6bec725"),
        ] {
            let name = image_name_of(folder);
            assert!(name.starts_with(expected.trim_end_matches(".-b")), "{folder}: {name}");
            assert!(check_image_name(&name).is_ok(), "{folder}: {name}");
        }
        let apart = ["机器学习", "深度学习", "Übung", "übung ", "Ubung", "ỮẼ"].map(image_name_of);
        for (at, name) in apart.iter().enumerate() {
            assert!(check_image_name(name).is_ok(), "{name}");
            assert!(!apart[..at].contains(name), "{name}");
        }
        assert!(apart[2].starts_with("bung-") && apart[0].starts_with("project-"), "{apart:?}");
        for odd in ["a\u{0}b", "\n", "x".repeat(300).as_str(), "a.-_-.b", "İ", "ﬁne", "..a..b.."]
        {
            assert!(
                check_image_name(&image_name_of(odd)).is_ok(),
                "{odd:?}: {}",
                image_name_of(odd)
            );
        }
    }
}
