//! RECORD: which files a wheel installs, with their digests (PyPA, "Recording installed
//! projects", and PEP 376/427).

use std::collections::HashMap;
use std::fmt;

use sconce_blob::Digest;
use sha2::{Digest as _, Sha384, Sha512};

use crate::sha::Sha256;

/// A digest in the spelling of RECORD: `sha256=` and URL-safe base64 without `=`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RecordHash {
    algorithm: Algorithm,
    digest: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Algorithm {
    Sha256,
    Sha384,
    Sha512,
}

/// What is wrong with a line of RECORD.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum RecordFault {
    #[error("it is not UTF-8")]
    Encoding,
    #[error("the line is not `path,hash,size` in CSV")]
    Csv,
    #[error("`{0}` is listed twice")]
    Twice(String),
    #[error("the hash `{0}` is not sha256, sha384 or sha512 in URL-safe base64")]
    Hash(String),
    #[error("the size `{0}` is not a number")]
    Size(String),
    #[error("`{0}` is listed without a hash")]
    NoHash(String),
    #[error("`{0}` is listed but is not in the wheel")]
    Absent(String),
    #[error("`{0}` is in the wheel but not listed")]
    Unlisted(String),
    #[error("`{path}` has {real} bytes, not {listed}")]
    OtherSize {
        /// Which file.
        path: String,
        /// What RECORD says.
        listed: u64,
        /// What the archive says.
        real: u64,
    },
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Number of the line, from 1.
    pub line: usize,
    /// The digest, if the line has one.
    pub hash: Option<RecordHash>,
    /// The length, if the line has one.
    pub size: Option<u64>,
}

/// All lines by path; the error has the number of the line.
pub fn parse(bytes: &[u8]) -> Result<HashMap<String, Row>, (usize, RecordFault)> {
    let text = std::str::from_utf8(bytes).map_err(|e| {
        let line = bytes[..e.valid_up_to()].iter().filter(|&&byte| byte == b'\n').count() + 1;
        (line, RecordFault::Encoding)
    })?;
    let mut rows = HashMap::new();
    for (number, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        let fail = |fault| (number + 1, fault);
        if line.is_empty() {
            continue;
        }
        let fields = fields(line).ok_or_else(|| fail(RecordFault::Csv))?;
        let [path, hash, size] = fields;
        let hash = match hash.as_str() {
            "" => None,
            text => {
                Some(RecordHash::parse(text).ok_or_else(|| fail(RecordFault::Hash(cut(text))))?)
            }
        };
        let size = match size.as_str() {
            "" => None,
            text => Some(text.parse().map_err(|_| fail(RecordFault::Size(cut(text))))?),
        };
        let shown = cut(&path);
        if rows.insert(path, Row { line: number + 1, hash, size }).is_some() {
            return Err(fail(RecordFault::Twice(shown)));
        }
    }
    Ok(rows)
}

/// A text from outside, fit to be printed.
pub(crate) fn cut(text: &str) -> String {
    text.chars().take(200).flat_map(char::escape_debug).collect()
}

/// The three fields of a line (RFC 4180; no field may span lines).
fn fields(line: &str) -> Option<[String; 3]> {
    let mut fields: [String; 3] = Default::default();
    let mut rest = line;
    for (n, field) in fields.iter_mut().enumerate() {
        if let Some(mut quoted) = rest.strip_prefix('"') {
            loop {
                let end = quoted.find('"')?;
                field.push_str(&quoted[..end]);
                quoted = &quoted[end + 1..];
                match quoted.strip_prefix('"') {
                    Some(more) => {
                        field.push('"');
                        quoted = more;
                    }
                    None => break,
                }
            }
            rest = quoted;
        } else {
            let end = rest.find(',').unwrap_or(rest.len());
            field.push_str(&rest[..end]);
            rest = &rest[end..];
        }
        rest = match n {
            2 => rest.is_empty().then_some("")?,
            _ => rest.strip_prefix(',')?,
        };
    }
    Some(fields)
}

/// Writes one line: the path quoted only where CSV needs it, `\n` at the end.
pub fn write(out: &mut String, path: &str, hash_and_size: Option<(&RecordHash, u64)>) {
    use fmt::Write as _;
    if path.contains(['"', ',']) {
        let _ = write!(out, "\"{}\"", path.replace('"', "\"\""));
    } else {
        out.push_str(path);
    }
    let _ = match hash_and_size {
        Some((hash, size)) => writeln!(out, ",{hash},{size}"),
        None => writeln!(out, ",,"),
    };
}

impl RecordHash {
    /// SHA-256 of bytes at hand.
    pub fn of(bytes: &[u8]) -> Self {
        Self::from_sha256(Digest::of(bytes))
    }

    fn from_sha256(digest: Digest) -> Self {
        Self { algorithm: Algorithm::Sha256, digest: digest.as_bytes().to_vec() }
    }

    fn parse(text: &str) -> Option<Self> {
        let (name, digest) = text.split_once('=')?;
        let (algorithm, len) = match name {
            "sha256" => (Algorithm::Sha256, 32),
            "sha384" => (Algorithm::Sha384, 48),
            "sha512" => (Algorithm::Sha512, 64),
            _ => return None,
        };
        let digest = base64(digest.trim_end_matches('='))?;
        (digest.len() == len).then_some(Self { algorithm, digest })
    }

    /// A hasher of this algorithm.
    pub fn hasher(&self) -> RecordHasher {
        match self.algorithm {
            Algorithm::Sha256 => RecordHasher::Sha256(Sha256::new()),
            Algorithm::Sha384 => RecordHasher::Sha384(Sha384::new()),
            Algorithm::Sha512 => RecordHasher::Sha512(Sha512::new()),
        }
    }
}

impl fmt::Display for RecordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.algorithm {
            Algorithm::Sha256 => "sha256=",
            Algorithm::Sha384 => "sha384=",
            Algorithm::Sha512 => "sha512=",
        })?;
        for three in self.digest.chunks(3) {
            let bits = three.iter().fold(0u32, |sum, &byte| sum << 8 | u32::from(byte))
                << (8 * (3 - three.len()));
            for n in 0..=three.len() {
                let six = bits >> (18 - 6 * n) & 63;
                write!(f, "{}", char::from(ALPHABET[six as usize]))?;
            }
        }
        Ok(())
    }
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// URL-safe base64 without padding (RFC 4648, 5), at most the 64 bytes of a SHA-512.
fn base64(text: &str) -> Option<Vec<u8>> {
    if text.len() > 86 || text.len() % 4 == 1 {
        return None;
    }
    let mut out = Vec::with_capacity(text.len() * 3 / 4);
    let (mut bits, mut count) = (0u32, 0);
    for byte in text.bytes() {
        let six = ALPHABET.iter().position(|&letter| letter == byte)?;
        bits = bits << 6 | six as u32;
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push((bits >> count) as u8);
            bits &= (1 << count) - 1;
        }
    }
    (bits == 0).then_some(out)
}

/// Digests a file's bytes as its line of RECORD asks.
pub enum RecordHasher {
    /// SHA-256.
    Sha256(Sha256),
    /// SHA-384.
    Sha384(Sha384),
    /// SHA-512.
    Sha512(Sha512),
}

impl RecordHasher {
    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hasher) => hasher.update(bytes),
            Self::Sha384(hasher) => hasher.update(bytes),
            Self::Sha512(hasher) => hasher.update(bytes),
        }
    }

    /// Takes the next bytes for itself and for the DiffID.
    pub fn update_both(&mut self, diff: &mut Sha256, bytes: &[u8]) {
        match self {
            Self::Sha256(hasher) => hasher.update_both(diff, bytes),
            other => {
                other.update(bytes);
                diff.update(bytes);
            }
        }
    }

    /// The digest of all bytes taken.
    pub fn finish(self) -> RecordHash {
        match self {
            Self::Sha256(hasher) => RecordHash::from_sha256(hasher.finish()),
            Self::Sha384(hasher) => {
                RecordHash { algorithm: Algorithm::Sha384, digest: hasher.finalize().to_vec() }
            }
            Self::Sha512(hasher) => {
                RecordHash { algorithm: Algorithm::Sha512, digest: hasher.finalize().to_vec() }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digest_in_the_spelling_of_record() {
        // The empty file's, as every wheel with an empty `__init__.py` has it.
        let empty = "sha256=47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU";
        assert_eq!(RecordHash::of(b"").to_string(), empty);
        assert_eq!(RecordHash::parse(empty), Some(RecordHash::of(b"")));
        assert_eq!(RecordHash::parse(&format!("{empty}=")), Some(RecordHash::of(b"")));
        let sha512 = RecordHash::parse(&format!("sha512={}", "A".repeat(86))).unwrap();
        assert_ne!(sha512.hasher().finish(), sha512);
        for bad in ["md5=1B2M2Y8AsgTpgAmY7PhCfg", "sha256=", "sha256", &empty[..49], "sha1=x"] {
            assert_eq!(RecordHash::parse(bad), None, "{bad}");
        }
        // The last character has bits that no byte uses; they must be zero.
        assert_eq!(RecordHash::parse(&empty.replace("uFU", "uFV")), None);
    }

    #[test]
    fn lines_as_csv_has_them() {
        let rows = parse(b"a.py,,\r\n\"b,\"\"c\",,7\nRECORD,,\n\n").unwrap();
        assert_eq!(rows.len(), 3);
        assert_eq!(rows["b,\"c"], Row { line: 2, hash: None, size: Some(7) });
        let mut out = String::new();
        write(&mut out, "b,\"c", Some((&RecordHash::of(b""), 0)));
        write(&mut out, "RECORD", None);
        let again = parse(out.as_bytes()).unwrap();
        assert_eq!(again["b,\"c"].hash, Some(RecordHash::of(b"")));
        assert_eq!(again["RECORD"].hash, None);
    }

    #[test]
    fn broken_lines_are_named() {
        let check = |text: &[u8], line, fault| assert_eq!(parse(text).unwrap_err(), (line, fault));
        check(b"a,,\nb,,\na,,\n", 3, RecordFault::Twice("a".into()));
        check(b"a,,\nb,", 2, RecordFault::Csv);
        check(b"\"b,,", 1, RecordFault::Csv);
        check(b"a,,,", 1, RecordFault::Csv);
        check(b"a,md5=x,", 1, RecordFault::Hash("md5=x".into()));
        check(b"a,,-1", 1, RecordFault::Size("-1".into()));
        check(b"a,,\n\xff,,", 2, RecordFault::Encoding);
    }
}
