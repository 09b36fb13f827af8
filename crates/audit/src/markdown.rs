//! A difference as Markdown, for a pull request.
//!
//! Names and versions are whoever's who made the package or the image: each stands in a code span, where GitHub reads no link,
//! no HTML and no `@name`.

use std::fmt::Write;

use crate::contents::Kind;
use crate::difference::{Change, Difference};
use crate::page::in_words;

impl Difference {
    /// A section with tables; one sentence where nothing differs.
    #[must_use]
    pub fn markdown(&self) -> String {
        let mut out = format!("### {} → {}\n\n", code(&self.before.name), code(&self.after.name));
        match self.verdict {
            Change::Same => out.push_str("Nothing differs.\n"),
            Change::Unknown => {
                out.push_str("Nothing was found that differs; not all could be read.\n")
            }
            Change::Differs => {}
        }
        let cell = |value: &Option<String>| value.as_deref().map_or_else(|| "-".to_owned(), code);
        if !self.facts.is_empty() {
            out.push_str("| | before | after | |\n|---|---|---|---|\n");
            for fact in &self.facts {
                let (before, after) = (cell(&fact.before), cell(&fact.after));
                let _ = writeln!(
                    out,
                    "| {} | {before} | {after} | {} |",
                    code(&fact.what),
                    fact.how.word()
                );
            }
            out.push('\n');
        }
        for (what, served) in [("lost", &self.gpus.lost), ("gained", &self.gpus.gained)] {
            if !served.is_empty() {
                let lines: Vec<String> = served.iter().map(|row| code(&row.line())).collect();
                let _ = writeln!(out, "**GPUs {what}:** {}\n", lines.join(", "));
            }
        }
        if let (Some(why), false) = (&self.gpus.unknown, self.facts.is_empty()) {
            let _ = writeln!(out, "GPUs lost or gained: can't tell, {}\n", code(why));
        }
        for kind in [Kind::Python, Kind::Debian] {
            let count = self.of(kind).count();
            if count == 0 {
                continue;
            }
            let _ = writeln!(
                out,
                "| {} ({count}) | before | after | |\n|---|---|---|---|",
                kind.heading()
            );
            for row in self.of(kind) {
                let (before, after) = (cell(&row.before), cell(&row.after));
                let _ = writeln!(
                    out,
                    "| {} | {before} | {after} | {} |",
                    code(&row.name),
                    row.how.word()
                );
            }
            out.push('\n');
        }
        if let Some(layers) = self.layers.as_ref().filter(|_| self.verdict == Change::Differs) {
            let [before, after, new] = [layers.before, layers.after, layers.new].map(in_words);
            let _ = writeln!(out, "| layer | before | after |\n|---|---|---|");
            for row in layers.rows.iter().filter(|row| !row.same) {
                let size = |size: Option<u64>| size.map_or_else(|| "-".to_owned(), in_words);
                let (before, after) = (size(row.before), size(row.after));
                let _ = writeln!(out, "| {} | {before} | {after} |", code(&row.name));
            }
            let _ = writeln!(out, "| all, of which {new} are new | {before} | {after} |\n");
        }
        let all = self.download.as_ref().filter(|all| all.before != all.after);
        if let Some(all) = all.filter(|_| self.verdict == Change::Differs) {
            let [before, after] = [all.before, all.after].map(in_words);
            let _ = writeln!(out, "To download: {before} → {after}\n");
        }
        for note in &self.notes {
            let _ = writeln!(out, "{}\n", code(note));
        }
        out.truncate(out.trim_end().len());
        out.push('\n');
        out
    }
}

/// Any text as a code span, in a table too.
fn code(text: &str) -> String {
    let plain = |c: char| {
        !c.is_control()
            && !matches!(c, '`' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    let text: String = text.chars().map(|c| if plain(c) { c } else { '?' }).take(200).collect();
    match text.trim() {
        "" => "-".to_owned(),
        text => format!("`{}`", text.replace('|', "\\|")),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn nothing_gets_out_of_a_code_span() {
        for (text, expected) in [
            ("a|b", "`a\\|b`"),
            ("x` <img src=y> @all `", "`x? <img src=y> @all ?`"),
            ("a\nb", "`a?b`"),
            (" ", "-"),
        ] {
            assert_eq!(super::code(text), expected);
        }
    }
}
