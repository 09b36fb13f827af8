//! The checks as a page of the manual: `docs/verify.md` is generated from their rows.

use std::fmt::Write;

use crate::checks::{By, CHECKS};

/// The text of `docs/verify.md`.
pub fn page() -> String {
    let mut out = String::from(
        "# What `sconce verify` proves\n\n\
         Generated from the rows in `crates/verify/src/checks.rs`; a test fails when they differ \
         (`UPDATE_EXPECT=1 cargo test -p sconce-verify` writes it anew).\n\n\
         `sconce verify [DIR|TAG|IMAGE]` starts the container as `sconce run` would, with the same \
         options, and checks from inside what people do there. Each check passes, fails with a reason, or \
         is not applicable with a reason. Exit codes: 0 nothing failed, 1 a check failed. `--json` gives \
         the [document](format/verify.md).\n\n\
         The checks of the driver are made by sconce itself, mounted into the container: they need no \
         Python. Those of torch are made by a Python program, mounted as well; `--python PATH` names the \
         interpreter inside, by default `python`, else `python3`. torch is imported once; each check is a \
         process of its own with a time limit, so a crash or a hang fails one check and the others are \
         still made. Where no GPU was given, checks of a GPU are not applicable and the others run on the \
         processor.\n\n\
         Errors are relative: |got - wanted| / |wanted| over all elements (Frobenius).\n\n\
         | check | made by | needs a GPU | at most |\n|---|---|---|---|\n",
    );
    for check in CHECKS {
        let by = match check.by {
            By::Probe => "sconce",
            By::Torch => "Python",
        };
        let gpu = if check.gpu { "yes" } else { "no" };
        _ = writeln!(out, "| [`{0}`](#{0}) | {by} | {gpu} | {1} s |", check.name, check.limit);
    }
    for check in CHECKS {
        _ = write!(
            out,
            "\n## {}\n\nProves: {}.\n\nBound: {}.\n",
            check.name, check.proves, check.bound
        );
    }
    out
}
