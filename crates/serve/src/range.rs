//! The part of a blob that a request asks for (RFC 9110, section 14).

/// Which bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// All of them: no range was asked for, or one that may be passed over (several, another unit).
    Whole,
    /// From `start` on `len` bytes.
    Some { start: u64, len: u64 },
    /// Bytes that are not there.
    Outside,
}

/// The part that the header `Range` asks for of a blob of `size` bytes.
pub(crate) fn part(header: Option<&str>, size: u64) -> Part {
    let Some(range) = header.and_then(|header| header.strip_prefix("bytes=")) else {
        return Part::Whole;
    };
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    // Numbers past the largest blob there can be are the largest number.
    let number = |text: &str| text.parse::<u64>().unwrap_or(u64::MAX);
    match range.trim().split_once('-') {
        Some((first, last)) if digits(first) && (last.is_empty() || digits(last)) => {
            let (start, last) =
                (number(first), if last.is_empty() { u64::MAX } else { number(last) });
            if last < start {
                return Part::Whole;
            }
            if start >= size {
                return Part::Outside;
            }
            Part::Some { start, len: last.min(size - 1) - start + 1 }
        }
        Some(("", count)) if digits(count) => match number(count).min(size) {
            0 => Part::Outside,
            len => Part::Some { start: size - len, len },
        },
        _ => Part::Whole,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_ten_bytes() {
        let some = |start, len| Part::Some { start, len };
        for (header, expected) in [
            ("bytes=0-0", some(0, 1)),
            ("bytes=3-", some(3, 7)),
            ("bytes=3-99999999999999999999999", some(3, 7)),
            ("bytes=-4", some(6, 4)),
            ("bytes=-40", some(0, 10)),
            ("bytes=10-", Part::Outside),
            ("bytes=99999999999999999999-", Part::Outside),
            ("bytes=-0", Part::Outside),
            ("bytes=5-4", Part::Whole),
            ("bytes=0-1,3-4", Part::Whole),
            ("bytes=a-b", Part::Whole),
            ("bytes=-", Part::Whole),
            ("bytes=+1-2", Part::Whole),
            ("lines=0-1", Part::Whole),
        ] {
            assert_eq!(part(Some(header), 10), expected, "{header}");
        }
        assert_eq!(part(Some("bytes=0-"), 0), Part::Outside);
        assert_eq!(part(None, 10), Part::Whole);
    }
}
