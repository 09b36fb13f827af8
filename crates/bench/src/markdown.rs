//! A run as a page of Markdown.

use crate::answer::plain;
use crate::comparison::Comparison;
use crate::report::{Report, about, cells, number};

impl Report {
    /// A Markdown page.
    pub fn markdown(&self) -> String {
        let mut page = format!("# {}\n\n{}\n", words(&self.target), words(&self.verdict()));
        for gpu in &self.gpus {
            page.push_str(&format!("\n- {}", words(&about(gpu))));
        }
        for (what, value) in [("image", &self.image), ("torch", &self.torch)] {
            if let Some(value) = value {
                page.push_str(&format!("\n- {what} {}", words(value)));
            }
        }
        page.push_str("\n\n| figure | GPU | value | spread | clock | of its peak at that clock | compared with | verdict |\n|---|---|---|---|---|---|---|---|\n");
        for one in &self.figures {
            let cells: Vec<String> = cells(one).iter().map(|cell| words(cell)).collect();
            row(&mut page, &cells);
        }
        if let Some(comparison) = &self.comparison {
            beside(&mut page, comparison);
        }
        if !self.advice.is_empty() {
            page.push_str("\n## Advice\n\n");
            self.advice.iter().for_each(|one| page.push_str(&format!("- {}\n", words(&one.en))));
        }
        page.push_str("\n## How\n\n");
        for one in &self.figures {
            let error = one.figure.error.map_or(String::new(), |(worst, allowed)| {
                format!("; error at most {worst:.1e}, {allowed:.0e} allowed")
            });
            let method = words(&one.figure.method);
            page.push_str(&format!("- {}: {method}{error}\n", one.figure.figure));
        }
        for (title, all) in [("Wrong", &self.wrong), ("Not measured", &self.unavailable)] {
            if !all.is_empty() {
                page.push_str(&format!("\n## {title}\n\n"));
                for one in all {
                    let (named, reason) = (words(&one.named()), words(&one.reason));
                    page.push_str(&format!("- {named}: {reason}\n"));
                }
            }
        }
        if !self.remarks.is_empty() {
            page.push_str("\n## Not an answer\n\n");
            self.remarks.iter().for_each(|one| page.push_str(&format!("- {}\n", words(one))));
        }
        page
    }
}

fn row(page: &mut String, cells: &[String]) {
    page.push_str(&format!("| {} |\n", cells.join(" | ")));
}

/// An earlier run beside this one.
fn beside(page: &mut String, comparison: &Comparison) {
    page.push_str(&format!("\n## Since {}\n\n", words(&comparison.since)));
    for one in &comparison.differences {
        page.push_str(&format!("- {}\n", words(&one.en)));
    }
    page.push_str("\n| figure | before | now | change | verdict |\n|---|---|---|---|---|\n");
    for one in &comparison.figures {
        let cells = [
            one.named().to_owned(),
            format!("{} {}", number(one.before), one.unit),
            format!("{} {}", number(one.now), one.unit),
            one.percent().unwrap_or_else(|| "-".to_owned()),
            one.verdict.words().en,
        ];
        row(page, &cells.map(|cell| words(&cell)));
    }
}

/// Text as Markdown has it. Much of it came out of a container: it brings no HTML, links, images or columns along.
fn words(text: &str) -> String {
    let mut text = text.to_owned();
    plain(&mut text);
    let mut out = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' => out.extend(['\\', char]),
            char => out.push(char),
        }
    }
    out
}
