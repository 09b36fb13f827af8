//! A file of counters, as dcgm-exporter takes it with `-f`: which of its metrics are given out, of which type, with which HELP.
//!
//! Source: dcgm-exporter `etc/default-counters.csv` and `internal/pkg/counters`: lines `FIELD, TYPE, HELP`, read as CSV (RFC 4180), `#`
//! before a comment. The type `label` makes a label of a field.

use std::collections::BTreeMap;

use crate::names::{DRIVER_VERSION, ROWS, XID};

/// The most lines of a file.
const MOST: usize = 4096;
/// The longest HELP, characters.
const LONGEST: usize = 1024;

/// What a file asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    asked: BTreeMap<String, Counter>,
    /// What it asks for that is not known here, in its order.
    pub unknown: Vec<String>,
}

/// One metric.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Counter {
    /// `gauge`, `counter`, or `label`.
    pub(crate) kind: String,
    pub(crate) help: String,
}

/// A line that can't be read.
#[derive(Debug, thiserror::Error)]
#[error("{}{why}", line.map(|line| format!("line {line}: ")).unwrap_or_default())]
pub struct BadLine {
    line: Option<usize>,
    why: String,
}

impl Counters {
    /// Reads a file.
    ///
    /// # Errors
    /// A line that is none of `FIELD, TYPE, HELP`; a file that asks for nothing known.
    pub fn parse(text: &str) -> Result<Self, BadLine> {
        let mut counters = Self::default();
        for (number, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let bad = |why: String| BadLine { line: Some(number + 1), why };
            if number >= MOST {
                return Err(bad(format!("a file has {MOST} lines at most")));
            }
            let mut fields = fields(line).map_err(bad)?.into_iter();
            let (Some(name), Some(kind), Some(help), None) =
                (fields.next(), fields.next(), fields.next(), fields.next())
            else {
                return Err(bad(
                    "it is not `FIELD, TYPE, HELP`; a HELP with a comma stands in quotes"
                        .to_owned(),
                ));
            };
            let is_label = kind == "label";
            if !is_label && kind != "gauge" && kind != "counter" {
                return Err(bad(format!("`{kind}` is none of gauge, counter and label")));
            }
            if help.chars().count() > LONGEST {
                return Err(bad(format!("its HELP has more than {LONGEST} characters")));
            }
            let labels = DRIVER_VERSION.contains(&&*name);
            let of_row =
                ROWS.iter().any(|(row, _)| row.name == name || row.v4_9.as_ref() == Some(&name));
            let values = of_row || XID.contains(&&*name);
            if !(is_label && labels || !is_label && values) {
                counters.unknown.push(name);
            } else if counters.asked.insert(name.clone(), Counter { kind, help }).is_some() {
                return Err(bad(format!("{name} stands there twice")));
            }
        }
        if counters.asked.is_empty() {
            let why = match counters.unknown.is_empty() {
                true => "it asks for nothing",
                false => "nothing that it asks for is known here",
            };
            return Err(BadLine { line: None, why: why.to_owned() });
        }
        Ok(counters)
    }

    /// What was asked for under this name.
    pub(crate) fn get(&self, name: &str) -> Option<&Counter> {
        self.asked.get(name)
    }
}

/// The fields of a line: between commas, without the blanks around them; what stands in quotes may have any.
fn fields(line: &str) -> Result<Vec<String>, String> {
    let mut fields = Vec::new();
    let mut rest = line;
    loop {
        rest = rest.trim_start();
        let (field, after) = match rest.strip_prefix('"') {
            None => {
                let end = rest.find(',').unwrap_or(rest.len());
                let (field, after) = rest.split_at(end);
                if field.contains('"') {
                    return Err("a quote stands in the middle of a field".to_owned());
                }
                (field.trim_end().to_owned(), after)
            }
            Some(quoted) => {
                let mut field = String::new();
                let mut chars = quoted.char_indices().peekable();
                let end = loop {
                    match chars.next() {
                        None => return Err("a quote is not closed".to_owned()),
                        // Two are one.
                        Some((_, '"')) if chars.next_if(|(_, next)| *next == '"').is_some() => {
                            field.push('"');
                        }
                        Some((at, '"')) => break at + 1,
                        Some((_, char)) => field.push(char),
                    }
                };
                (field, quoted.get(end..).unwrap_or_default().trim_start())
            }
        };
        fields.push(field);
        match after.strip_prefix(',') {
            Some(after) => rest = after,
            None if after.is_empty() => return Ok(fields),
            None => return Err("something stands behind a quoted field".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_as_dcgm_exporter_reads_them() {
        let text = "\u{feff}# Format\n\n  # DCGM_FI_DEV_SM_CLOCK, gauge, commented out\n\
            DCGM_FI_DEV_GPU_TEMP, gauge, GPU temperature (in C).\r\n\
            DCGM_FI_DEV_GPU_UTIL ,counter,\"Utilization, \"\"busy\"\"\"\n\
            DCGM_FI_DEV_BOARD_POWER_WATTS, gauge, Power\n\
            DCGM_FI_DEV_XID_ERRORS,gauge,Xid\n\
            DCGM_FI_DRIVER_VERSION, label, Driver Version\n\
            DCGM_FI_DEV_VGPU_LICENSE_STATUS, gauge, vGPU License status\n";
        let counters = Counters::parse(text).unwrap();
        let help = |name: &str| counters.get(name).map(|one| (&*one.kind, &*one.help));
        assert_eq!(help("DCGM_FI_DEV_GPU_TEMP"), Some(("gauge", "GPU temperature (in C).")));
        assert_eq!(help("DCGM_FI_DEV_GPU_UTIL"), Some(("counter", "Utilization, \"busy\"")));
        assert_eq!(help("DCGM_FI_DRIVER_VERSION"), Some(("label", "Driver Version")));
        assert!(help("DCGM_FI_DEV_SM_CLOCK").is_none() && help("DCGM_FI_DEV_XID_ERRORS").is_some());
        assert!(help("DCGM_FI_DEV_BOARD_POWER_WATTS").is_some());
        assert_eq!(counters.unknown, ["DCGM_FI_DEV_VGPU_LICENSE_STATUS"]);
    }

    #[test]
    fn other_files_are_refused_with_their_line() {
        for (text, says) in [
            ("", "it asks for nothing"),
            ("# only\n", "it asks for nothing"),
            ("DCGM_FI_DEV_NEW, gauge, New\n", "nothing that it asks for"),
            ("\nDCGM_FI_DEV_GPU_TEMP, gauge\n", "line 2: it is not"),
            ("DCGM_FI_DEV_GPU_TEMP, gauge, a, b\n", "line 1: it is not"),
            ("DCGM_FI_DEV_GPU_TEMP, histogram, T\n", "`histogram` is none of"),
            ("DCGM_FI_DEV_GPU_TEMP, gauge, \"T\n", "not closed"),
            ("DCGM_FI_DEV_GPU_TEMP, gauge, \"T\" x\n", "behind a quoted"),
            ("DCGM_FI_DEV_GPU_TEMP, gauge, a \"T\"\n", "in the middle"),
            (
                "DCGM_FI_DEV_GPU_TEMP, gauge, T\nDCGM_FI_DEV_GPU_TEMP, gauge, T\n",
                "line 2: DCGM_FI_DEV_GPU_TEMP stands there twice",
            ),
        ] {
            let error = Counters::parse(text).unwrap_err().to_string();
            assert!(error.contains(says), "{text:?}: {error}");
        }
    }
}
