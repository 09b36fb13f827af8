//! What a launch is to be: `[launch]` of a project, and flags of the same names over it.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::error::Error;

/// What each rank runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Program {
    /// A Python file and its arguments.
    Script(Vec<String>),
    /// A Python module and its arguments.
    Module(Vec<String>),
    /// Another program and its arguments, which is started as it is.
    Other(Vec<String>),
}

impl Program {
    /// Reads what people write: `train.py`, `python -u train.py`, `-m package`, `./start.sh`.
    ///
    /// # Errors
    /// No word at all; `-m` without a module.
    pub fn of(words: &[String]) -> Result<Self, Error> {
        let is_python = |word: &str| {
            let name = word.rsplit('/').next().unwrap_or(word);
            let version = name.strip_prefix("python").unwrap_or("no");
            version.chars().all(|c| c.is_ascii_digit() || c == '.')
        };
        let first = words.first().ok_or(Error::NoProgram)?;
        let mut rest = words;
        if is_python(first) {
            rest = &words[1..];
            // The ranks' output is never held back anyway.
            while let Some((option, after)) = rest.split_first().filter(|(word, _)| *word == "-u") {
                let _ = option;
                rest = after;
            }
        }
        match rest.first().map(String::as_str) {
            Some("-m") if rest.len() > 1 => Ok(Self::Module(rest[1..].to_vec())),
            Some("-m") => Err(Error::Setting {
                name: "command",
                given: words.join(" "),
                why: "`-m` wants the name of a module".to_owned(),
            }),
            Some(script) if script.ends_with(".py") && !script.starts_with('-') => {
                Ok(Self::Script(rest.to_vec()))
            }
            // Other options of Python are kept: it is started as it was written.
            _ => Ok(Self::Other(words.to_vec())),
        }
    }

    /// As it was meant, for people.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Self::Script(words) | Self::Other(words) => words.join(" "),
            Self::Module(words) => format!("-m {}", words.join(" ")),
        }
    }
}

/// What becomes of ranks that hang.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnHang {
    /// They are ended.
    Abort,
    /// They go on; the evidence is kept.
    GoOn,
}

/// What a launch is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Machines.
    pub nodes: u32,
    /// Ranks on each.
    pub ranks_per_node: u32,
    /// Whether each rank has a GPU.
    pub gpus: bool,
    /// What each runs.
    pub program: Program,
    /// Where they meet, on node 0.
    pub port: u16,
    /// The address of node 0 that the others reach; found out if not given.
    pub master: Option<String>,
    /// How often all are started again.
    pub restarts: u32,
    /// When all are ended.
    pub time_limit: Option<Duration>,
    /// How long ranks may say nothing.
    pub hang_after: Option<Duration>,
    /// What becomes of them then.
    pub on_hang: OnHang,
    /// How long a node may say nothing.
    pub node_timeout: Duration,
    /// How long the all-reduce before the first step may take; without it there is none.
    pub preflight: Option<Duration>,
    /// Variables of the ranks: they come before what is chosen.
    pub env: BTreeMap<String, String>,
}

impl Settings {
    /// All ranks.
    #[must_use]
    pub fn world(&self) -> u32 {
        self.nodes.saturating_mul(self.ranks_per_node)
    }
}

/// `90s`, `10m`, `2h`, `1d`, or a number of seconds; `never` is none.
///
/// # Errors
/// Something else.
pub fn duration(name: &'static str, given: &str) -> Result<Option<Duration>, Error> {
    if given == "never" {
        return Ok(None);
    }
    let (digits, scale) = match given.char_indices().next_back() {
        Some((at, 's')) => (&given[..at], 1.0),
        Some((at, 'm')) => (&given[..at], 60.0),
        Some((at, 'h')) => (&given[..at], 3600.0),
        Some((at, 'd')) => (&given[..at], 86_400.0),
        _ => (given, 1.0),
    };
    let seconds = digits.parse::<f64>().ok().map(|number| number * scale);
    match seconds.filter(|seconds| (0.1..=31_536_000.0).contains(seconds)) {
        Some(seconds) => Ok(Some(Duration::from_secs_f64(seconds))),
        None => Err(Error::Setting {
            name,
            given: given.chars().take(80).collect(),
            why: "write 90s, 10m, 2h or never; a year at most".to_owned(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(line: &str) -> Program {
        Program::of(&line.split(' ').map(str::to_owned).collect::<Vec<_>>()).unwrap()
    }

    fn words(line: &str) -> Vec<String> {
        line.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn programs_as_people_write_them() {
        for line in [
            "train.py --epochs 3",
            "python train.py --epochs 3",
            "python3.13 -u train.py --epochs 3",
        ] {
            assert_eq!(program(line), Program::Script(words("train.py --epochs 3")), "{line}");
        }
        assert_eq!(
            program("/usr/bin/python -m pkg.train x"),
            Program::Module(words("pkg.train x"))
        );
        for line in
            ["./start.sh a", "python -X dev train.py", "pythonic x.py", "python", "bash -c x.py"]
        {
            assert_eq!(program(line), Program::Other(words(line)), "{line}");
        }
        assert!(Program::of(&[]).is_err() && Program::of(&words("python -m")).is_err());
    }

    #[test]
    fn durations() {
        let read =
            |text: &str| duration("time-limit", text).unwrap().map(|time| time.as_secs_f64());
        assert_eq!(read("90"), Some(90.0));
        assert_eq!(read("1.5h"), Some(5400.0));
        assert_eq!((read("10m"), read("2d"), read("never")), (Some(600.0), Some(172_800.0), None));
        for wrong in ["", "m", "-1s", "0", "1y", "NaN", "inf", "1e99", "10 m", "é"] {
            assert!(duration("time-limit", wrong).is_err(), "{wrong}");
        }
    }
}
