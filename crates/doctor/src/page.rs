//! The rules as a page of the manual: `docs/doctor.md` is generated from them.

use std::fmt::Write;

use crate::rules::RULES;

/// The text of `docs/doctor.md`.
pub fn page() -> String {
    let mut out = String::from(
        "# What `sconce doctor` looks for\n\n\
         Generated from the rules in `crates/doctor/src/rules`; a test fails when they differ \
         (`UPDATE_EXPECT=1 cargo test --workspace --test doctor` writes it anew).\n\n\
         A finding **stops** (it can't work), leaves it open (**can't tell**), **warns** (it works until something common is \
         done, or at a part of its speed) or **notes**. Exit codes: 0 it can run, 1 something stops it, 12 that can't be told, \
         10 there is no NVIDIA GPU. A fix is written for any machine here; the report fills in numbers, package names of the \
         distribution, and where it is to be done.\n\n| rule | looks for |\n|---|---|\n",
    );
    for rule in RULES {
        _ = writeln!(out, "| [`{0}`](#{0}) | {1} |", rule.id, rule.title);
    }
    for rule in RULES {
        _ = write!(
            out,
            "\n## {}\n\n**{}.** {}.\n\nFix: {}.\n",
            rule.id, rule.title, rule.why, rule.fix
        );
        if !rule.references.is_empty() {
            _ = write!(out, "\nSeen in: {}.\n", rule.references.join(", "));
        }
    }
    out
}
