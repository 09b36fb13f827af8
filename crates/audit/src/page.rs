//! A difference as a page for a person.

use std::fmt::Write;

use crate::contents::Kind;
use crate::difference::{Change, Difference, How, PackageChange};
use crate::gpus::Served;

/// GPUs that are named; of more, how many.
const NAMED: usize = 4;

impl Difference {
    /// A page for a person; empty where nothing differs.
    #[must_use]
    pub fn page(&self) -> String {
        let mut out = String::new();
        let width = self.facts.iter().map(|fact| fact.what.chars().count()).max().unwrap_or(0);
        for fact in &self.facts {
            let (before, after) = (said(fact.before.as_deref()), said(fact.after.as_deref()));
            let _ =
                writeln!(out, "{:<width$}  {before} -> {after}{}", fact.what, fact.how.behind());
        }
        for (what, served) in [("lost", &self.gpus.lost), ("gained", &self.gpus.gained)] {
            for row in served {
                let _ = writeln!(out, "GPUs {what}: {}", row.line());
            }
        }
        if let (Some(why), false) = (&self.gpus.unknown, self.facts.is_empty()) {
            let _ = writeln!(out, "GPUs lost or gained: can't tell, {why}");
        }
        for kind in [Kind::Python, Kind::Debian] {
            let rows: Vec<&PackageChange> = self.of(kind).collect();
            if rows.is_empty() {
                continue;
            }
            let _ = writeln!(out, "{}:", kind.heading());
            for row in rows {
                let _ = writeln!(out, "  {}", row.line());
            }
        }
        let differs = self.verdict == Change::Differs;
        if let Some(all) = self.download.as_ref().filter(|all| differs && all.before != all.after) {
            let [before, after] = [all.before, all.after].map(in_words);
            let _ = writeln!(out, "To download: {before} -> {after}");
        }
        if let Some(layers) = self.layers.as_ref().filter(|_| differs) {
            let [before, after, new] = [layers.before, layers.after, layers.new].map(in_words);
            let _ = writeln!(out, "Layers: {before} -> {after}, of which {new} are new:");
            for row in layers.rows.iter().filter(|row| !row.same) {
                let size = |size: Option<u64>| size.map_or_else(|| "-".to_owned(), in_words);
                let _ =
                    writeln!(out, "  {}  {} -> {}", row.name, size(row.before), size(row.after));
            }
        }
        out
    }

    /// The packages of one kind.
    pub(crate) fn of(&self, kind: Kind) -> impl Iterator<Item = &PackageChange> {
        self.packages.iter().filter(move |row| row.kind == kind)
    }
}

impl Kind {
    pub(crate) const fn heading(self) -> &'static str {
        match self {
            Self::Python => "Python packages",
            Self::Debian => "Debian packages",
        }
    }
}

impl PackageChange {
    /// As `sconce lock` says it, with what is not plain behind it.
    fn line(&self) -> String {
        let Self { name, how, .. } = self;
        let (before, after) = (said(self.before.as_deref()), said(self.after.as_deref()));
        match how {
            How::Added => format!("+ {name} {after}"),
            How::Removed => format!("- {name} {before}"),
            How::OtherFile => format!("{name} {after}{}", how.behind()),
            _ => format!("{name} {before} -> {after}{}", how.behind()),
        }
    }
}

impl How {
    /// What is said behind two versions: that the second is higher needs no words.
    const fn behind(self) -> &'static str {
        match self {
            Self::Older => " (older)",
            Self::OtherFile => " (the same version from another file)",
            Self::Added | Self::Removed | Self::Newer | Self::Changed => "",
        }
    }

    /// A word for a table.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Removed => "removed",
            Self::Newer => "newer",
            Self::Older => "older",
            Self::OtherFile => "other file",
            Self::Changed => "changed",
        }
    }
}

impl Served {
    /// `7.0 (V100, TITAN V and 3 more)`.
    #[must_use]
    pub fn line(&self) -> String {
        let named = self.gpus.iter().take(NAMED).copied().collect::<Vec<_>>().join(", ");
        match self.gpus.len() {
            0 => self.capability.to_string(),
            count if count > NAMED => {
                format!("{} ({named} and {} more)", self.capability, count - NAMED)
            }
            _ => format!("{} ({named})", self.capability),
        }
    }
}

fn said(value: Option<&str>) -> &str {
    value.unwrap_or("none")
}

/// `1.5 GiB`.
pub(crate) fn in_words(bytes: u64) -> String {
    sconce_inspect::bytes(bytes)
}
