//! PEM: labelled base64 (RFC 7468). A file may hold several blocks, with other text between them.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// A block: what it says it is, and its bytes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Block {
    pub(crate) label: String,
    pub(crate) bytes: Vec<u8>,
}

/// All blocks of a text. What is between them is passed over; a block that is not whole is an error.
pub(crate) fn blocks(text: &str) -> Result<Vec<Block>, String> {
    let mut found = Vec::new();
    let mut open: Option<(String, String)> = None;
    for line in text.lines().map(str::trim) {
        match (&mut open, label(line, "BEGIN"), label(line, "END")) {
            (None, Some(begun), _) => open = Some((begun.to_owned(), String::new())),
            (None, None, _) => {}
            (Some((begun, body)), None, Some(end)) if begun == end => {
                let bytes = STANDARD
                    .decode(&*body)
                    .map_err(|_| format!("the block `{begun}` is not base64"))?;
                found.push(Block { label: std::mem::take(begun), bytes });
                open = None;
            }
            (Some((begun, _)), Some(_), _) | (Some((begun, _)), _, Some(_)) => {
                return Err(format!("the block `{begun}` has no end"));
            }
            (Some((_, body)), None, None) => body.push_str(line),
        }
    }
    match open {
        Some((begun, _)) => Err(format!("the block `{begun}` has no end")),
        None => Ok(found),
    }
}

fn label<'a>(line: &'a str, which: &str) -> Option<&'a str> {
    line.strip_prefix("-----")?.strip_suffix("-----")?.strip_prefix(which)?.strip_prefix(' ')
}

/// The text of one block.
pub(crate) fn encode(label: &str, bytes: &[u8]) -> String {
    let coded = STANDARD.encode(bytes);
    let mut text = format!("-----BEGIN {label}-----\n");
    for line in coded.as_bytes().chunks(64) {
        text.push_str(&String::from_utf8_lossy(line));
        text.push('\n');
    }
    text + &format!("-----END {label}-----\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_and_what_is_between_them() {
        let text = format!("Bag\n{}x\n{}", encode("A B", b"one"), encode("C", &[7; 100]));
        let found = blocks(&text).unwrap();
        assert_eq!(found[0], Block { label: "A B".into(), bytes: b"one".to_vec() });
        assert_eq!((found[1].label.as_str(), found[1].bytes.len()), ("C", 100));
        assert!(blocks("").unwrap().is_empty());
        for text in [
            "-----BEGIN A-----\nb25l\n",
            "-----BEGIN A-----\n-----END B-----\n",
            "-----BEGIN A-----\n-----BEGIN A-----\n-----END A-----\n",
            "-----BEGIN A-----\n!\n-----END A-----\n",
        ] {
            assert!(blocks(text).is_err(), "{text}");
        }
    }
}
