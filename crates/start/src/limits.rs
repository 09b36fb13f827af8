//! `--ulimit`, `--cpuset-cpus`, `--memory-swap`, `--cpu-quota` and `--stop-signal`.

use sconce_run::{Ulimit, parse_size};

use crate::error::Error;
use crate::request::Request;

/// The least memory that a container can start in, bytes: Docker's own bound.
const LEAST_MEMORY: u64 = 6 << 20;

/// That this machine has what is asked for.
///
/// # Errors
/// Too little memory, more processors than there are, a host name that is none.
pub(crate) fn check_machine(request: &Request) -> Result<(), Error> {
    if let Some(bytes) = request.memory_bytes.filter(|bytes| *bytes < LEAST_MEMORY) {
        return Err(Error::option("-m", bytes.to_string(), "a container needs 6m at the least"));
    }
    let there = std::fs::read_to_string("/sys/devices/system/cpu/online").unwrap_or_default();
    let there = there.trim();
    if let (Some(wanted), Ok(online)) = (&request.processors, processors(there))
        && let Some(missing) = wanted.iter().find(|number| !online.contains(number))
    {
        let why = format!("there is no processor {missing}; this machine has {there}");
        return Err(Error::option("--cpuset-cpus", missing.to_string(), why));
    }
    let is_name = |name: &str| {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
        !name.is_empty() && name.len() <= 64 && name.chars().all(plain)
    };
    match request.hostname.as_deref().filter(|name| !is_name(name)) {
        Some(name) => {
            let why = "a host name has up to 64 letters, digits, dashes, dots and underscores";
            Err(Error::option("--hostname", name, why))
        }
        None => Ok(()),
    }
}

/// Limits by the names that Docker takes (docker/go-units, ulimit.go).
const ULIMITS: [&str; 15] = [
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

/// Signals by name and number, as Linux has them on x86-64 and aarch64 (signal(7)).
const SIGNALS: [(&str, i32); 32] = [
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ILL", 4),
    ("TRAP", 5),
    ("ABRT", 6),
    ("IOT", 6),
    ("BUS", 7),
    ("FPE", 8),
    ("KILL", 9),
    ("USR1", 10),
    ("SEGV", 11),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("STKFLT", 16),
    ("CHLD", 17),
    ("CONT", 18),
    ("STOP", 19),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("XCPU", 24),
    ("XFSZ", 25),
    ("VTALRM", 26),
    ("PROF", 27),
    ("WINCH", 28),
    ("IO", 29),
    ("PWR", 30),
    ("SYS", 31),
];

/// The first and last real-time signal that glibc leaves to programs (signal(7)).
const REAL_TIME: (i32, i32) = (34, 64);

/// The most processors that are read of a list; Linux can be built for 8192.
const MOST_PROCESSORS: usize = 8192;

/// Reads `--ulimit NAME=SOFT[:HARD]`; -1 or `unlimited` is no limit.
///
/// # Errors
/// An unknown name, a soft limit above the hard one.
pub fn ulimit(given: &str) -> Result<Ulimit, Error> {
    let wrong = |why: String| Error::option("--ulimit", given, why);
    let (name, limits) = given
        .split_once('=')
        .ok_or_else(|| wrong("write NAME=SOFT or NAME=SOFT:HARD, as in memlock=-1".into()))?;
    if !ULIMITS.contains(&name) {
        return Err(wrong(format!("there is no limit `{name}`; there are {}", ULIMITS.join(", "))));
    }
    let number = |text: &str| match text {
        "-1" | "unlimited" => Ok(None),
        text => match text.parse::<u64>() {
            Ok(number) => Ok(Some(number)),
            Err(_) => Err(wrong(format!("`{text}` is not a number; -1 is no limit"))),
        },
    };
    let (soft, hard) = match limits.split_once(':') {
        Some((soft, hard)) => (number(soft)?, number(hard)?),
        None => (number(limits)?, number(limits)?),
    };
    if hard.is_some_and(|hard| soft.is_none_or(|soft| soft > hard)) {
        return Err(wrong("the soft limit is above the hard one".into()));
    }
    Ok(Ulimit { name: name.to_owned(), soft, hard })
}

/// Reads a list of processors, `0-3,8`.
///
/// # Errors
/// What is not a list, or an empty one.
pub fn processors(given: &str) -> Result<Vec<usize>, Error> {
    let wrong = || Error::option("--cpuset-cpus", given, "write numbers and ranges, as in 0-3,8");
    let mut found = Vec::new();
    for part in given.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let number = |text: &str| text.trim().parse::<usize>().map_err(|_| wrong());
        let (first, last) = (number(first)?, number(last)?);
        if last < first || last >= MOST_PROCESSORS {
            return Err(wrong());
        }
        found.extend(first..=last);
    }
    found.sort_unstable();
    found.dedup();
    Ok(found)
}

/// Reads `--memory-swap SIZE`, memory and swap together, beside `--memory`; -1 is no limit.
///
/// # Errors
/// Without `--memory`, or below it.
pub fn swap(given: &str, memory_bytes: Option<u64>) -> Result<Option<i64>, Error> {
    let wrong = |why| Error::option("--memory-swap", given, why);
    match given {
        // As Docker: 0 is as if it was not given.
        "0" => Ok(None),
        "-1" => Ok(Some(-1)),
        _ => {
            let bytes = parse_size("--memory-swap", given)?;
            let memory = memory_bytes.ok_or_else(|| wrong("give --memory too"))?;
            if bytes < memory {
                return Err(wrong("it is memory and swap together, and so at least --memory"));
            }
            i64::try_from(bytes).map(Some).map_err(|_| wrong("it is too large"))
        }
    }
}

/// What `--cpu-quota` and `--cpu-period` come to in processors.
///
/// # Errors
/// What is not a number of microseconds from the kernel's range (cgroup-v2: a period from 1 ms to 1 s).
pub fn cpus_of_quota(quota: Option<&str>, period: Option<&str>) -> Result<Option<f64>, Error> {
    let number = |option: &str, given: &str, range: std::ops::RangeInclusive<u32>| {
        let number = given.parse::<u32>().ok().filter(|number| range.contains(number));
        let why = || {
            Error::option(
                option,
                given,
                format!("write microseconds from {} to {}", range.start(), range.end()),
            )
        };
        number.ok_or_else(why)
    };
    // 0 and -1 are Docker's words for none.
    let given =
        |text: Option<&str>| text.filter(|text| !matches!(*text, "0" | "-1")).map(str::to_owned);
    let period = match given(period) {
        Some(period) => number("--cpu-period", &period, 1_000..=1_000_000)?,
        None => 100_000,
    };
    let Some(quota) = given(quota) else { return Ok(None) };
    let quota = number("--cpu-quota", &quota, 1_000..=u32::MAX)?;
    Ok(Some(f64::from(quota) / f64::from(period)))
}

/// The number of a signal by name, with or without SIG, or by number.
///
/// # Errors
/// What is not a signal.
pub fn signal(option: &str, given: &str) -> Result<i32, Error> {
    let upper = given.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let (first, last) = REAL_TIME;
    let offset = |text: &str, sign: char| match text {
        "" => Some(0),
        text => text.strip_prefix(sign)?.parse::<i32>().ok().filter(|number| *number >= 0),
    };
    let real_time = || {
        let number = match (name.strip_prefix("RTMIN"), name.strip_prefix("RTMAX")) {
            (Some(rest), _) => first.checked_add(offset(rest, '+')?)?,
            (_, Some(rest)) => last.checked_sub(offset(rest, '-')?)?,
            _ => return None,
        };
        (first..=last).contains(&number).then_some(number)
    };
    let named = || SIGNALS.iter().find(|(known, _)| *known == name).map(|(_, number)| *number);
    let numbered = || name.parse::<i32>().ok().filter(|number| (1..=last).contains(number));
    // nptl(7): the C library takes both, and a program never sees them.
    if let Some(number @ (32 | 33)) = numbered() {
        let why = format!("signal {number} is the C library's own; RTMIN is 34");
        return Err(Error::option(option, given, why));
    }
    numbered().or_else(named).or_else(real_time).ok_or_else(|| {
        Error::option(option, given, "there is no such signal; write TERM, SIGINT or 9")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ulimits() {
        let read = |given| ulimit(given).map(|limit| (limit.soft, limit.hard));
        assert_eq!(read("memlock=-1").unwrap(), (None, None));
        assert_eq!(read("memlock=-1:-1").unwrap(), (None, None));
        assert_eq!(read("stack=67108864").unwrap(), (Some(67_108_864), Some(67_108_864)));
        assert_eq!(read("nofile=1024:524288").unwrap(), (Some(1024), Some(524_288)));
        assert_eq!(read("core=0:-1").unwrap(), (Some(0), None));
        for bad in
            ["memlock", "nofiles=1", "nofile=2:1", "nofile=-1:1", "nofile=x", "nofile=", "NOFILE=1"]
        {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn lists_of_processors() {
        assert_eq!(processors("0-2,5,1").unwrap(), [0, 1, 2, 5]);
        for bad in ["", "3-1", "a", "0-99999", "-1", "1,"] {
            assert!(processors(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn swap_beside_memory() {
        assert_eq!(swap("-1", None).unwrap(), Some(-1));
        assert_eq!(swap("2g", Some(1 << 30)).unwrap(), Some(2 << 30));
        assert_eq!(swap("0", None).unwrap(), None);
        assert!(swap("2g", None).is_err());
        assert!(swap("1g", Some(2 << 30)).is_err());
    }

    #[test]
    fn quotas() {
        assert_eq!(cpus_of_quota(Some("50000"), None).unwrap(), Some(0.5));
        assert_eq!(cpus_of_quota(Some("20000"), Some("10000")).unwrap(), Some(2.0));
        assert_eq!(cpus_of_quota(Some("-1"), Some("10000")).unwrap(), None);
        assert!(cpus_of_quota(Some("1"), None).is_err());
        assert!(cpus_of_quota(Some("50000"), Some("5")).is_err());
    }

    #[test]
    fn signals() {
        let read = |given| signal("--stop-signal", given).ok();
        assert_eq!(read("SIGTERM"), Some(15));
        assert_eq!(read("int"), Some(2));
        assert_eq!(read("9"), Some(9));
        assert_eq!(read("SIGRTMIN+3"), Some(37));
        assert_eq!(read("RTMAX"), Some(64));
        for bad in ["", "0", "65", "NONE", "RTMIN+99", "RTMIN-1", "-9", "SIG"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
