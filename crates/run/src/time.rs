//! The time as RFC 3339 has it, in UTC.

use std::time::{SystemTime, UNIX_EPOCH};

/// Now, to the nanosecond.
pub(crate) fn now() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    format!("{}.{:09}Z", seconds(since.as_secs()), since.subsec_nanos())
}

/// A moment as `2026-01-02T03:04:05Z`, from seconds since 1970.
#[must_use]
pub fn rfc3339(moment: u64) -> String {
    format!("{}Z", seconds(moment))
}

/// `2026-01-02T03:04:05`. Days to a date by Howard Hinnant's `civil_from_days`
/// (howardhinnant.github.io/date_algorithms.html).
fn seconds(moment: u64) -> String {
    let (days, rest) = (moment / 86_400, moment % 86_400);
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_index = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_index + 2) / 5 + 1;
    let month = if month_index < 10 { month_index + 3 } else { month_index - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")
}

#[cfg(test)]
mod tests {
    use super::rfc3339;

    #[test]
    fn moments() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(rfc3339(1_798_761_599), "2026-12-31T23:59:59Z");
    }
}
