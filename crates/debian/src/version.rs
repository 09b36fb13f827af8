//! Debian version numbers and their order.
//!
//! Source: Debian Policy §5.6.12, "Version": `[epoch:]upstream[-revision]`, compared part by
//! part; within a part stretches of non-digits and of digits alternate, `~` sorts before
//! everything, even the end, and letters before all other characters.

use std::cmp::Ordering;
use std::fmt;

/// A well-formed Debian version. Its order is Debian's, so `1.0` and `0:1.0` are equal.
#[derive(Clone, Debug)]
pub struct Version {
    text: Box<str>,
    epoch: u32,
    /// Where the upstream part starts in `text`.
    upstream: usize,
    /// Where the upstream part ends; the revision, if any, starts one byte later.
    end: usize,
}

/// A text that is no Debian version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a Debian version")]
pub struct ParseVersionError(String);

/// The longest version accepted, bytes. The longest in trixie's index has 62.
const MAX_LEN: usize = 512;

impl Version {
    /// Reads a version.
    pub fn parse(text: &str) -> Result<Self, ParseVersionError> {
        let fault = || ParseVersionError(text.chars().take(80).collect());
        if text.is_empty() || text.len() > MAX_LEN {
            return Err(fault());
        }
        let (epoch, upstream) = match text.split_once(':') {
            None => (0, 0),
            Some((digits, _)) if digits.bytes().all(|c| c.is_ascii_digit()) => {
                (digits.parse().map_err(|_| fault())?, digits.len() + 1)
            }
            Some(_) => return Err(fault()),
        };
        let rest = text.get(upstream..).ok_or_else(fault)?;
        let end = upstream + rest.rfind('-').unwrap_or(rest.len());
        let plain = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'+' | b'~');
        let (front, back) = (text.get(upstream..end), text.get(end + 1..));
        let front_fits = front
            .is_some_and(|t| !t.is_empty() && t.bytes().all(|c| plain(c) || b"-:".contains(&c)));
        let back_fits = back.is_none_or(|t| !t.is_empty() && t.bytes().all(plain));
        if !front_fits || !back_fits {
            return Err(fault());
        }
        Ok(Self { text: text.into(), epoch, upstream, end })
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    fn parts(&self) -> (u32, &[u8], &[u8]) {
        let bytes = self.text.as_bytes();
        let upstream = bytes.get(self.upstream..self.end).unwrap_or_default();
        (self.epoch, upstream, bytes.get(self.end + 1..).unwrap_or_default())
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        let ((epoch, upstream, revision), (epoch2, upstream2, revision2)) =
            (self.parts(), other.parts());
        epoch
            .cmp(&epoch2)
            .then_with(|| compare_part(upstream, upstream2))
            .then_with(|| compare_part(revision, revision2))
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Version {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Version {}

/// Where a character sorts among non-digits; 0 is the end of the stretch.
fn weight(byte: Option<&u8>) -> i32 {
    match byte {
        None => 0,
        Some(b'~') => -1,
        Some(c) if c.is_ascii_digit() => 0,
        Some(&c) if c.is_ascii_alphabetic() => i32::from(c),
        Some(&c) => i32::from(c) + 256,
    }
}

fn compare_part(mut a: &[u8], mut b: &[u8]) -> Ordering {
    let digit = |c: Option<&u8>| c.is_some_and(u8::is_ascii_digit);
    while !a.is_empty() || !b.is_empty() {
        while (!a.is_empty() && !digit(a.first())) || (!b.is_empty() && !digit(b.first())) {
            match weight(a.first()).cmp(&weight(b.first())) {
                Ordering::Equal => (a, b) = (tail(a), tail(b)),
                unequal => return unequal,
            }
        }
        let (number, rest) = digits(a);
        let (number2, rest2) = digits(b);
        // Numbers of any length: without leading zeros, the longer one is the larger.
        match number.len().cmp(&number2.len()).then_with(|| number.cmp(number2)) {
            Ordering::Equal => (a, b) = (rest, rest2),
            unequal => return unequal,
        }
    }
    Ordering::Equal
}

fn tail(bytes: &[u8]) -> &[u8] {
    bytes.get(1..).unwrap_or_default()
}

/// The leading digits without leading zeros, and what follows them.
fn digits(bytes: &[u8]) -> (&[u8], &[u8]) {
    let len = bytes.iter().take_while(|c| c.is_ascii_digit()).count();
    let (number, rest) = bytes.split_at(len);
    let zeros = number.iter().take_while(|&&c| c == b'0').count();
    (&number[zeros..], rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v(text: &str) -> Version {
        Version::parse(text).unwrap()
    }

    #[test]
    fn order_of_policy() {
        // Each row ascends. The first is the example of Policy §5.6.12.
        for row in [
            &["~~", "~~a", "~", "0", "a"][..],
            &["1.0~beta1~svn1245", "1.0~beta1", "1.0", "1.0-1", "1.0-1+b1", "1.0+dfsg-1", "1.0.1"],
            &["2.36-9", "2.36-9+deb12u1", "2.36-9+deb12u10", "2.36-10", "2.37-1", "1:0.1"],
            &["1.2a", "1.2b", "1.2+", "1.2.", "1.2.1"],
            &["0.9.9", "0.9.10", "0.10", "99999999999999999998", "99999999999999999999"],
            &["5.4.1~rc1-1", "5.4.1-0.0", "5.4.1-0.0+really", "5.4.1-1"],
            &["3.0.15-1~deb12u1", "3.0.15-1"],
        ] {
            for pair in row.windows(2) {
                let (a, b) = (v(pair[0]), v(pair[1]));
                assert_eq!((a.cmp(&b), b.cmp(&a)), (Ordering::Less, Ordering::Greater), "{a} {b}");
            }
        }
        for (a, b) in [("1.0", "0:1.0"), ("1.0", "1.0-0"), ("1.01", "1.1"), ("1.0-00", "1.0-0")] {
            assert_eq!(v(a), v(b));
        }
    }

    #[test]
    fn refuses_what_is_no_version() {
        let long = "1".repeat(513);
        for text in
            ["", ":", "1:", "a:1", "1.0-", "-1", "1 0", "1_0", "99999999999:1", "1.0é", &long]
        {
            assert!(Version::parse(text).is_err(), "{text:?}");
        }
        assert_eq!(v("1:2:3-4-5").parts(), (1, &b"2:3-4"[..], &b"5"[..]));
    }
}
