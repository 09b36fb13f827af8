//! The report as a page to read.

use std::fmt::Write;

use crate::finding::Severity;
use crate::report::{Basis, Report};
use crate::verdict::{Outcome, Verdict};

/// Packages listed by weight.
const HEAVIEST: usize = 8;
/// Libraries that leave a GPU out, shown of each.
const GAPS: usize = 4;
/// GPUs of one capability named.
const NAMES: usize = 8;
/// Findings of one severity shown.
const SHOWN: usize = 12;
const WIDTH: usize = 100;

/// A terminal's colours, or none.
#[derive(Clone, Copy)]
struct Ink {
    on: bool,
}

impl Ink {
    fn paint(self, code: &str, text: &str) -> String {
        if self.on { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    fn bold(self, text: &str) -> String {
        self.paint("1", text)
    }

    fn dim(self, text: &str) -> String {
        self.paint("2", text)
    }

    fn outcome(self, outcome: Outcome, text: &str) -> String {
        self.paint(
            match outcome {
                Outcome::Native => "32",
                Outcome::Jit => "36",
                Outcome::Partial => "33",
                Outcome::Not => "31",
                Outcome::Unlinked | Outcome::NoGpuCode => "2",
            },
            text,
        )
    }
}

/// Bytes for people: `5.51 GB`.
pub fn bytes(n: u64) -> String {
    const UNITS: [(u64, &str); 3] = [(1_000_000_000, "GB"), (1_000_000, "MB"), (1_000, "kB")];
    match UNITS.iter().find(|(size, _)| n >= *size) {
        Some((size, unit)) => {
            let hundredths = n / (size / 100);
            format!("{}.{:02} {unit}", hundredths / 100, hundredths % 100)
        }
        None => format!("{n} B"),
    }
}

/// Text from a file name or package for a terminal: control characters become `?`.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

impl Report {
    /// The report as a page, coloured for a terminal when `colour` says so.
    pub fn page(&self, colour: bool) -> String {
        let ink = Ink { on: colour };
        let mut out = String::new();
        // Writing to a String does not fail.
        let _ = self.write_page(&mut out, ink);
        out
    }

    fn write_page(&self, out: &mut String, ink: Ink) -> std::fmt::Result {
        writeln!(out, "{}", ink.bold(&plain(&self.subject)))?;
        let basis = match self.basis {
            Basis::Bytes => None,
            Basis::Image => Some("by the bytes of the image it was built to"),
            Basis::Wheels => Some("by the bytes of its wheels; no image is built of it here"),
            Basis::Facts => Some("by what is known of this torch; its wheels are not here"),
        };
        if let Some(basis) = basis {
            writeln!(out, "{}", ink.dim(&format!("  {basis}")))?;
        }
        if self.not_judged > 0 {
            let others = format!(
                "  nothing is said of {} more packages with native code: they are judged when their wheels are here",
                self.not_judged
            );
            writeln!(out, "{}", ink.dim(&others))?;
        }
        self.write_contents(out, ink)?;
        self.write_gpus(out, ink)?;
        self.write_drivers(out, ink)?;
        if self.basis == Basis::Facts {
            return Ok(());
        }
        self.write_findings(out, ink)?;
        self.write_weight(out, ink)?;
        let Some(moved) = self.moved else { return Ok(()) };
        let share = moved.bytes as f64 * 100.0 / moved.of.max(1) as f64;
        let line = format!(
            "  {} moved, {share:.1}% of its {}; {} of {} layers were here",
            bytes(moved.bytes),
            bytes(moved.of),
            moved.layers_here,
            moved.layers
        );
        writeln!(out, "{}", ink.dim(&line))
    }

    fn write_contents(&self, out: &mut String, ink: Ink) -> std::fmt::Result {
        let mut parts = Vec::new();
        match &self.contents.torch {
            Some(torch) => parts.push(format!("torch {}", torch.version)),
            None => parts.push("no torch".to_owned()),
        }
        parts.extend(self.contents.python.iter().map(|python| format!("Python {python}")));
        parts.extend(
            self.contents.parts.iter().map(|part| format!("{} {}", part.name, part.version)),
        );
        parts.extend(self.contents.glibc.iter().map(|glibc| format!("glibc {glibc}")));
        if let (None, Some(needed)) = (&self.contents.glibc, &self.contents.glibc_needed) {
            parts.push(format!("needs glibc {needed}"));
        }
        parts.push(self.machine.clone());
        let mut line = String::from(" ");
        for part in parts {
            let part = plain(&part);
            if line.len() + part.len() + 3 > WIDTH {
                writeln!(out, "{}", ink.dim(&line))?;
                line = String::from(" ");
            }
            line += if line.len() > 1 { " · " } else { " " };
            line += &part;
        }
        writeln!(out, "{}", ink.dim(&line))
    }

    fn write_gpus(&self, out: &mut String, ink: Ink) -> std::fmt::Result {
        writeln!(out, "\n{}", ink.bold("GPUs"))?;
        if self.gpus.iter().all(|verdict| verdict.outcome == Outcome::NoGpuCode) {
            let words = match (self.basis, &self.contents.torch) {
                (Basis::Facts, Some(torch)) if torch.cuda.is_some() => "not known",
                _ => "no GPU code, so nothing here decides it",
            };
            return writeln!(out, "  {}", ink.outcome(Outcome::NoGpuCode, words));
        }
        for verdict in self.gpus.iter().filter(|verdict| !verdict.gpus.is_empty()) {
            let word = match verdict.outcome {
                Outcome::Native => "runs",
                Outcome::Jit => "runs, part by JIT",
                Outcome::Partial => "runs in part",
                Outcome::Not => "does not run",
                Outcome::Unlinked | Outcome::NoGpuCode => "not decided",
            };
            let word = ink.outcome(verdict.outcome, &format!("{word:<18}"));
            let names = short_names(verdict);
            writeln!(out, "  {:>5}  {word} {}", verdict.capability.to_string(), plain(&names))?;
            if verdict.outcome == Outcome::Partial {
                for gap in verdict.gaps.iter().take(GAPS) {
                    let line = format!("{} {}", plain(&gap.library), gap.words());
                    writeln!(out, "         {}", ink.dim(&line))?;
                }
                if let more @ 1.. = verdict.gaps.len().saturating_sub(GAPS) {
                    writeln!(out, "         {}", ink.dim(&format!("and {more} more")))?;
                }
            }
        }
        Ok(())
    }

    fn write_drivers(&self, out: &mut String, ink: Ink) -> std::fmt::Result {
        let drivers = &self.drivers;
        let Some(cuda) = &drivers.cuda else { return Ok(()) };
        writeln!(out, "\n{}", ink.bold("Driver"))?;
        match &drivers.floor {
            Some(floor) => writeln!(out, "  CUDA {} runs from driver {floor} on", plain(cuda))?,
            None => writeln!(out, "  CUDA {}: no driver floor is known", plain(cuda))?,
        }
        for build in &drivers.builds {
            writeln!(out, "  {}", plain(&build.words()))?;
        }
        for newer in drivers.newer.iter().take(GAPS) {
            writeln!(out, "  {}", plain(&newer.words()))?;
        }
        if let more @ 1.. = drivers.newer.len().saturating_sub(GAPS) {
            writeln!(out, "  and {more} more")?;
        }
        let jit: Vec<(u16, u16)> =
            self.gpus.iter().flat_map(|verdict| verdict.jit.iter().map(|(_, isa)| *isa)).collect();
        if let Some((major, minor)) = jit.into_iter().max() {
            let driver = crate::names::ptx_driver((major, minor))
                .map_or("a driver that knows it".to_owned(), |driver| format!("driver {driver}"));
            writeln!(out, "  what runs by JIT needs {driver} (PTX {major}.{minor})")?;
        }
        Ok(())
    }

    fn write_findings(&self, out: &mut String, ink: Ink) -> std::fmt::Result {
        if self.findings.is_empty() {
            return writeln!(
                out,
                "\n{}",
                ink.outcome(Outcome::Native, "Nothing is wrong with it.")
            );
        }
        writeln!(out, "\n{}", ink.bold("Findings"))?;
        for (severity, word, code) in [
            (Severity::Error, "error", "31"),
            (Severity::Warning, "warning", "33"),
            (Severity::Note, "note", "36"),
        ] {
            let all: Vec<_> =
                self.findings.iter().filter(|finding| finding.severity == severity).collect();
            for finding in all.iter().take(SHOWN) {
                let place = finding.offset.map_or(String::new(), |at| format!(" at offset {at}"));
                writeln!(
                    out,
                    "  {} {}{place}: {}",
                    ink.paint(code, &format!("{word:<7}")),
                    plain(&finding.subject),
                    plain(&finding.message)
                )?;
                if severity != Severity::Note {
                    for line in finding.evidence.iter().take(3) {
                        writeln!(out, "          {}", ink.dim(&plain(line)))?;
                    }
                    if let Some(fix) = &finding.fix {
                        writeln!(out, "          fix: {}", plain(fix))?;
                    }
                }
            }
            if all.len() > SHOWN {
                writeln!(out, "  {}", ink.dim(&format!("and {} more", all.len() - SHOWN)))?;
            }
        }
        Ok(())
    }

    fn write_weight(&self, out: &mut String, ink: Ink) -> std::fmt::Result {
        let weight = &self.weight;
        writeln!(out, "\n{}", ink.bold("Weight"))?;
        writeln!(
            out,
            "  {} in {} files; {} of it GPU code",
            bytes(weight.bytes),
            weight.files,
            bytes(weight.gpu_bytes)
        )?;
        if let Some(unneeded) = self.not_needed_bytes {
            writeln!(out, "  {} of the GPU code is for other GPUs than yours", bytes(unneeded))?;
        }
        if weight.relocatable_bytes > 0 {
            let dead = bytes(weight.relocatable_bytes);
            writeln!(out, "  {dead} is code for the device linker, which nothing loads")?;
        }
        if weight.hidden_bytes > 0 {
            writeln!(out, "  {} is hidden by upper layers", bytes(weight.hidden_bytes))?;
        }
        let copies: u64 =
            weight.copies.iter().map(|copy| copy.bytes * (copy.paths.len() as u64 - 1)).sum();
        if copies > 0 {
            writeln!(out, "  {} is copies of other files", bytes(copies))?;
        }
        let mut heaviest: Vec<_> = self.contents.packages.iter().collect();
        heaviest.sort_by(|a, b| (b.bytes, &a.name).cmp(&(a.bytes, &b.name)));
        for package in heaviest.iter().take(HEAVIEST).filter(|package| package.bytes > 0) {
            let name = format!("{} {}", plain(&package.name), plain(&package.version));
            writeln!(out, "  {:>10}  {name}", bytes(package.bytes))?;
        }
        Ok(())
    }
}

/// The first few GPUs of a verdict, each product once: `H100, H200, GH200 and 3 more`.
fn short_names(verdict: &Verdict) -> String {
    let mut names: Vec<&str> = Vec::new();
    for gpu in &verdict.gpus {
        // `H100 SXM5 80GB` is an H100; `RTX 4090` keeps both words.
        let short = match gpu.split_once(' ') {
            Some((first, _)) if first.chars().any(|c| c.is_ascii_digit()) => first,
            _ => gpu,
        };
        if !names.contains(&short) {
            names.push(short);
        }
    }
    let more = names.len().saturating_sub(NAMES);
    names.truncate(NAMES);
    let all = names.join(", ");
    if more > 0 { format!("{all} and {more} more") } else { all }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (n, text) in
            [(0, "0 B"), (999, "999 B"), (1_000, "1.00 kB"), (5_511_668_895, "5.51 GB")]
        {
            assert_eq!(bytes(n), text);
        }
    }

    #[test]
    fn no_escape_sequence_from_outside() {
        assert_eq!(plain("a\x1b[2Jb\n"), "a?[2Jb?");
    }
}
