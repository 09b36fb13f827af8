//! Licences by the names that SPDX has for them.
//!
//! Source: SPDX 2.3, annex D, "License expressions"; PEP 639, "License Expression".

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use serde::Deserialize;

use crate::table;

/// No honest expression is longer, bytes.
const MAX_LEN: usize = 2000;
/// No honest expression has more parentheses within each other.
const MAX_DEPTH: usize = 20;

#[derive(Deserialize)]
struct Table {
    list: Vec<List>,
    classifier: Vec<Classifier>,
}

#[derive(Deserialize)]
struct List {
    licences: String,
    exceptions: String,
}

#[derive(Deserialize)]
struct Classifier {
    name: String,
    id: String,
}

struct Names {
    /// By the name in lower case.
    licences: BTreeMap<String, String>,
    exceptions: BTreeMap<String, String>,
    classifiers: BTreeMap<String, String>,
}

static NAMES: LazyLock<Names> = LazyLock::new(|| {
    let Table { list, classifier } = table::read(table::LICENCES);
    let named = |text: fn(&List) -> &str| {
        let all = list.iter().flat_map(|list| text(list).split_whitespace());
        all.map(|name| (name.to_ascii_lowercase(), name.to_owned())).collect()
    };
    Names {
        licences: named(|list| &list.licences),
        exceptions: named(|list| &list.exceptions),
        classifiers: classifier.into_iter().map(|row| (row.name, row.id)).collect(),
    }
});

/// A licence expression as SPDX writes it, and the names of licences in it that are not on SPDX's list
/// (`LicenseRef-…`); `None` where the text is none.
#[must_use]
pub fn licence(text: &str) -> Option<(String, BTreeSet<String>)> {
    if text.len() > MAX_LEN {
        return None;
    }
    let spaced = text.replace('(', " ( ").replace(')', " ) ");
    let mut reader = Reader {
        words: spaced.split_whitespace().collect(),
        at: 0,
        out: String::new(),
        own: BTreeSet::new(),
    };
    reader.all(0)?;
    (reader.at == reader.words.len()).then_some((reader.out, reader.own))
}

/// The licence that a classifier of a Python package (`License :: OSI Approved :: MIT License`) means, where it means
/// exactly one.
#[must_use]
pub fn licence_of_classifier(classifier: &str) -> Option<&'static str> {
    let name = classifier.rsplit(" :: ").next()?;
    classifier.starts_with("License :: ").then(|| NAMES.classifiers.get(name))?.map(String::as_str)
}

struct Reader<'a> {
    words: Vec<&'a str>,
    at: usize,
    out: String,
    own: BTreeSet<String>,
}

impl<'a> Reader<'a> {
    fn word(&mut self) -> Option<&'a str> {
        let word = self.words.get(self.at).copied();
        self.at += 1;
        word
    }

    fn next_is(&self, word: &str) -> bool {
        self.words.get(self.at).is_some_and(|next| next.eq_ignore_ascii_case(word))
    }

    /// `one AND one OR one`: what binds more does not matter to who repeats it.
    fn all(&mut self, depth: usize) -> Option<()> {
        self.one(depth)?;
        while let Some(word) = ["AND", "OR"].into_iter().find(|word| self.next_is(word)) {
            self.at += 1;
            self.out.push_str(&format!(" {word} "));
            self.one(depth)?;
        }
        Some(())
    }

    fn one(&mut self, depth: usize) -> Option<()> {
        let word = self.word()?;
        if word == "(" {
            if depth >= MAX_DEPTH {
                return None;
            }
            self.out.push('(');
            self.all(depth + 1)?;
            self.out.push(')');
            return (self.word()? == ")").then_some(());
        }
        let (bare, plus) = match word.strip_suffix('+') {
            Some(bare) => (bare, "+"),
            None => (word, ""),
        };
        let known = NAMES.licences.get(&bare.to_ascii_lowercase());
        match (known, bare.get(.."LicenseRef-".len())) {
            (Some(known), _) => self.out.push_str(&format!("{known}{plus}")),
            (None, Some(start)) if start.eq_ignore_ascii_case("LicenseRef-") && plus.is_empty() => {
                let rest = &bare["LicenseRef-".len()..];
                let plain = |c: char| c.is_ascii_alphanumeric() || "-.".contains(c);
                if rest.is_empty() || !rest.chars().all(plain) {
                    return None;
                }
                let own = format!("LicenseRef-{rest}");
                self.out.push_str(&own);
                self.own.insert(own);
            }
            _ => return None,
        }
        if self.next_is("WITH") {
            self.at += 1;
            let exception = NAMES.exceptions.get(&self.word()?.to_ascii_lowercase())?;
            self.out.push_str(&format!(" WITH {exception}"));
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions() {
        for (text, expected) in [
            ("mit", "MIT"),
            ("Apache-2.0 or (bsd-3-clause and MIT)", "Apache-2.0 OR (BSD-3-Clause AND MIT)"),
            ("GPL-3.0-or-later with gcc-exception-3.1", "GPL-3.0-or-later WITH GCC-exception-3.1"),
            ("LGPL-2.1+", "LGPL-2.1+"),
            ("LicenseRef-NVIDIA-Proprietary", "LicenseRef-NVIDIA-Proprietary"),
        ] {
            assert_eq!(licence(text).map(|(text, _)| text).as_deref(), Some(expected), "{text}");
        }
        let deep = format!("{}MIT{}", "(".repeat(900), ")".repeat(900));
        for text in [
            "",
            "()",
            "(MIT",
            "MIT)",
            "MIT MIT",
            "MIT OR",
            "AND",
            "BSD",
            "Apache 2.0",
            "MIT WITH",
            "MIT WITH x",
            "LicenseRef-",
            "LicenseRef-a\u{1b}",
            "LicenseRef-ü",
            "MIT, BSD",
            "+",
            "ü",
            &deep,
        ] {
            assert_eq!(licence(text), None, "{text:?}");
        }
        let (_, own) = licence("MIT AND licenseref-x").unwrap();
        assert_eq!(own.into_iter().collect::<Vec<_>>(), ["LicenseRef-x"]);
    }

    #[test]
    fn classifiers_mean_licences_of_the_list() {
        assert_eq!(licence_of_classifier("License :: OSI Approved :: MIT License"), Some("MIT"));
        assert_eq!(licence_of_classifier("License :: OSI Approved :: BSD License"), None);
        assert_eq!(licence_of_classifier("Topic :: MIT License"), None);
        for id in NAMES.classifiers.values() {
            assert_eq!(licence(id).map(|(text, _)| text).as_ref(), Some(id));
        }
        assert!(NAMES.licences.len() > 600 && NAMES.exceptions.len() > 50);
    }
}
