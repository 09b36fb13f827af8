//! Which rank failed first, of what all nodes say of their ends.

use crate::event::End;
use crate::group::Outcome;

/// The rank that failed first: one killed by a signal that was not torchrun's own, else the one that wrote its
/// exception first.
pub(crate) fn first(names: &[String], ends: &[Option<&End>]) -> Outcome {
    let failing = || {
        let ends = ends.iter().enumerate().filter_map(|(at, end)| Some((at, (*end)?)));
        ends.filter(|(_, end)| end.code != 0)
    };
    let shell =
        |code: i32| u8::try_from(if code < 0 { 128 - code } else { code }).unwrap_or(1).max(1);
    let killed = failing().find_map(|(at, end)| {
        let excused = |rank: u32| end.failures.iter().any(|failure| failure.rank == rank);
        let found =
            end.codes.iter().find(|code| code.code < 0 && code.code != -15 && !excused(code.rank));
        found.map(|code| (at, *code))
    });
    let first = failing()
        .flat_map(|(at, end)| end.failures.iter().map(move |failure| (at, end, failure)))
        .min_by(|(_, _, a), (_, _, b)| a.written.total_cmp(&b.written));
    let name = |at: usize| names[at].clone();
    if let Some((at, code)) = killed {
        let why = format!("killed by signal {}", -code.code);
        return Outcome::Failed {
            rank: Some(code.rank),
            node: name(at),
            code: shell(code.code),
            why,
        };
    }
    if let Some((at, end, failure)) = first {
        let code =
            end.codes.iter().find(|code| code.rank == failure.rank).map_or(1, |code| code.code);
        let why = match failure.trace.trim_end() {
            "" => failure.message.clone(),
            trace => trace.to_owned(),
        };
        return Outcome::Failed {
            rank: Some(failure.rank),
            node: name(at),
            code: shell(code),
            why,
        };
    }
    let coded = failing().find_map(|(at, end)| {
        end.codes.iter().find(|code| code.code != -15).map(|code| (at, *code))
    });
    if let Some((at, code)) = coded {
        let why = format!("it ended with exit code {}", code.code);
        return Outcome::Failed {
            rank: Some(code.rank),
            node: name(at),
            code: shell(code.code),
            why,
        };
    }
    let (at, end) = failing().next().unwrap_or((0, &NO_END));
    let lines: Vec<&str> = end.words.lines().rev().take(30).collect();
    let why = lines.into_iter().rev().collect::<Vec<_>>().join("\n");
    Outcome::Failed { rank: None, node: name(at), code: shell(end.code), why }
}

static NO_END: End = End { code: 1, failures: Vec::new(), codes: Vec::new(), words: String::new() };
