//! The dates of a `Release`: `Sat, 21 Nov 2026 09:15:44 UTC`. HTTP has the same, with `GMT`.
//!
//! Source: Debian wiki, "DebianRepository/Format", "Date, Valid-Until": RFC 1123 dates, in UTC;
//! RFC 9110, section 5.6.7, `IMF-fixdate`.

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// Seconds since 1970 of a date, or nothing if it is none or lies before 1970.
pub fn parse(text: &str) -> Option<u64> {
    let (_weekday, rest) = text.split_once(", ")?;
    let words: Vec<&str> = rest.split_ascii_whitespace().collect();
    let [day, month, year, time, zone] = words[..] else { return None };
    if !matches!(zone, "UTC" | "GMT" | "Z" | "+0000" | "+00:00") {
        return None;
    }
    let number = |text: &str, max: u64| text.parse().ok().filter(|&n: &u64| n <= max);
    let month = MONTHS.iter().position(|name| *name == month)? as u64 + 1;
    let (day, year) = (number(day, 31).filter(|&d| d > 0)?, number(year, 9999)?);
    let mut clock = time.splitn(3, ':');
    let (hour, minute, second) = (clock.next()?, clock.next()?, clock.next()?);
    let (hour, minute, second) = (number(hour, 23)?, number(minute, 59)?, number(second, 60)?);
    // Days in the proleptic Gregorian calendar, with years that begin in March.
    let (year, month) =
        if month > 2 { (year, month - 3) } else { (year.checked_sub(1)?, month + 9) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1;
    let days = days.checked_sub(719_468)?;
    Some(((days * 24 + hour) * 60 + minute) * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn dates() {
        for (text, seconds) in [
            ("Thu, 01 Jan 1970 00:00:00 UTC", Some(0)),
            ("Tue, 29 Feb 2000 23:59:59 UTC", Some(951_868_799)),
            ("Sat, 21 Nov 2026 09:15:44 UTC", Some(1_795_252_544)),
            ("Sat, 21 Nov 2026 09:15:44 +0000", Some(1_795_252_544)),
            ("Sat, 21 Nov 2026 09:15:44 CET", None),
            ("Sat, 00 Nov 2026 09:15:44 UTC", None),
            ("Sat, 21 Nov 2026 24:15:44 UTC", None),
            ("Wed, 31 Dec 1969 23:59:59 UTC", None),
            ("Thu, 1 Jan 18446744073709551615 00:00:00 UTC", None),
            ("", None),
        ] {
            assert_eq!(parse(text), seconds, "{text}");
        }
    }
}
