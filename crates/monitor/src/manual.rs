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
         seen for a while.\n\n| rule | looks for | how bad | seen for | over after |\n|---|---|---|---|---|\n",
    );
    for rule in RULES {
        let (hold, clear) = (time(rule.hold), time(rule.clear));
        let word = rule.severity.word();
        _ = writeln!(
            out,
            "| [`{0}`](#{0}) | {1} | {word} | {hold} | {clear} |",
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
    match time.as_secs() {
        0 => "at once".to_owned(),
        seconds if seconds % 60 == 0 => format!("{} min", seconds / 60),
        seconds => format!("{seconds} s"),
    }
}
