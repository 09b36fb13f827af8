//! The rules as a page of the manual (`docs/monitor-rules.md`), and as a list.

use std::fmt::Write;
use std::time::Duration;

use crate::rules::RULES;

/// The text of `docs/monitor-rules.md`.
pub fn page() -> String {
    let mut out = String::from(
        "# What `sconce monitor` looks for\n\n\
         Generated from the rules in `crates/monitor/src/rules`; a test fails when they differ \
         (`UPDATE_EXPECT=1 cargo test --workspace --test rules` writes it anew).\n\n\
         A rule is **critical** (work is lost or about to be), a **warning** (it will hurt, or does hurt a part) or a **note** (work is \
         slower or dearer than it need be). It is told of once it was seen for a while without a gap, and is over once it was not \
         seen for a while. Where samples are further apart than it can bear (`--interval`) it can't be told, and `sconce monitor` \
         and `sconce monitor rules --replay` say so.\n\n| rule | looks for | how bad | seen for | over after | samples apart |\n|---|---|---|---|---|---|\n",
    );
    for rule in RULES {
        let (hold, clear) = (time(rule.hold), time(rule.clear));
        let word = rule.severity.word();
        let apart = rule.apart.map_or("any".to_owned(), in_words);
        _ = writeln!(
            out,
            "| [`{0}`](#{0}) | {1} | {word} | {hold} | {clear} | {apart} |",
            rule.id, rule.title
        );
    }
    for rule in RULES {
        _ = write!(
            out,
            "\n## {}\n\n**{}.** {}.\n\nTo do: {}.\n\nSource: {}.\n",
            rule.id, rule.title, rule.why, rule.action, rule.source
        );
    }
    out
}

/// `2 min`, `30 s`, `at once`.
pub fn time(time: Duration) -> String {
    if time.as_secs() == 0 { "at once".to_owned() } else { in_words(time) }
}

/// `1 h`, `2 min`, `30 s`, `0.5 s`.
pub fn in_words(time: Duration) -> String {
    match time.as_millis() {
        ms if ms < 950 => format!("{:.1} s", time.as_secs_f64()),
        // Some milliseconds more or less are no other time.
        ms => match (ms + 500) / 1000 {
            seconds if seconds % 3600 == 0 => format!("{} h", seconds / 3600),
            seconds if seconds % 60 == 0 => format!("{} min", seconds / 60),
            seconds if seconds > 600 => format!("{} min", seconds / 60),
            seconds => format!("{seconds} s"),
        },
    }
}
