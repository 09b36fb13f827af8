//! Which files of packages go into an image: the rows of `data/filter.toml`.

use std::sync::LazyLock;

use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    keep: bool,
    path: String,
    #[cfg_attr(not(test), allow(dead_code, reason = "for readers, and a test"))]
    reason: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rules {
    rule: Vec<Rule>,
}

static RULES: LazyLock<Vec<Rule>> = LazyLock::new(|| {
    toml::from_str::<Rules>(include_str!("../../data/filter.toml"))
        .expect("data/filter.toml is part of the program, and a test reads it")
        .rule
});

/// Folders that are left out when nothing is left in them.
pub(super) const PRUNED: [&str; 2] = ["usr/share/doc/", "usr/share/man/"];

/// Whether the file, link or folder at `path` stays.
pub(super) fn keeps(path: &str) -> bool {
    // All rules are about what is below usr/.
    let rule = path.starts_with("usr/").then(|| RULES.iter().find(|rule| fits(&rule.path, path)));
    rule.flatten().is_none_or(|rule| rule.keep)
}

fn fits(pattern: &str, path: &str) -> bool {
    let (mut patterns, mut parts) = (pattern.split('/'), path.split('/'));
    loop {
        match (patterns.next(), parts.next()) {
            (Some("**"), Some(_)) | (None, None) => return true,
            (Some(pattern), Some(part)) if part_fits(pattern, part) => {}
            _ => return false,
        }
    }
}

/// Whether a part of a path fits a pattern with any number of `*`.
fn part_fits(pattern: &str, part: &str) -> bool {
    let mut pieces = pattern.split('*');
    let first = pieces.next().unwrap_or_default();
    let Some(mut rest) = part.strip_prefix(first) else { return false };
    let mut last = None;
    for piece in pieces {
        if let Some(middle) = last.replace(piece) {
            match rest.find(middle) {
                Some(at) => rest = rest.get(at + middle.len()..).unwrap_or_default(),
                None => return false,
            }
        }
    }
    last.map_or(rest.is_empty(), |last| rest.ends_with(last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules() {
        assert!(RULES.iter().all(|rule| rule.reason.len() > 3));
        for (path, kept) in [
            ("usr/share/doc/bash/copyright", true),
            ("usr/share/doc/bash/copyright/x", false),
            ("usr/share/doc/libstdc++-14-dev", true),
            ("usr/share/doc/bash/changelog.gz", false),
            ("usr/share/man", true),
            ("usr/share/man/man1/ls.1.gz", false),
            ("usr/lib/python3.13/config-3.13-x86_64-linux-gnu/libpython3.13.a", false),
            ("usr/lib/python3.13/config-3.13-x86_64-linux-gnu/Makefile", true),
            ("usr/lib/x86_64-linux-gnu/libpython3.13.so.1.0", true),
            ("usr/lib/x86_64-linux-gnu/libc.a", true),
            ("etc/usr/share/man/x", true),
        ] {
            assert_eq!(keeps(path), kept, "{path}");
        }
    }

    #[test]
    fn patterns() {
        for (pattern, part, fitting) in [
            ("a*c*e", "abcde", true),
            ("a*c*e", "ace", true),
            ("a*c*e", "aec", false),
            ("*", "", true),
            ("a*a", "a", false),
            ("a", "ab", false),
            ("*.a", "x.a", true),
        ] {
            assert_eq!(part_fits(pattern, part), fitting, "{pattern} {part}");
        }
    }
}
