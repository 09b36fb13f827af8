//! What makes nobody believe a figure, whatever it is compared with: its timer, its repeats, or that nobody has seen as much.

use sconce_facts::beyond;

use crate::answer::{Figure, Gpu};
use crate::bound::product;
use crate::figures::{Group, Row, figure};
use crate::judge::{Expected, HELD, HIGHEST, REASONS, best_known, instance, reached};
use crate::measure::clock::CLOSE;
use crate::report::number;
use crate::sentence::Sentence;

/// Repeats whose middle half lies further apart than this share of the median are two kinds of repeats, and their middle says
/// little: of healthy GPUs it is below a twentieth.
const UNSTEADY: f64 = 0.25;

/// Why a figure is not known to be what was reached, whatever it is compared with: its timer, its repeats, or more than anybody
/// has seen.
pub(crate) fn doubtful(gpus: &[Gpu], one: &Figure) -> Option<Sentence> {
    let row = figure(&one.figure)?;
    let too_good = || {
        let gpu = one.gpus.first().and_then(|first| gpus.iter().find(|gpu| gpu.gpu == *first))?;
        let product = product(gpu)?;
        let compared = instance(gpu, product).is_none() || row.group == Group::Products;
        let with = best_known(gpu, product, one).filter(|_| compared)?;
        (reached(row, one, &with) > beyond()).then(|| too_good(row, one, &with))
    };
    let far_apart = || unsteady(gpus, row, one).map(|causes| apart(one, causes.is_empty()));
    unheld(one).or_else(far_apart).or_else(too_good)
}

/// What was seen to hold a figure down now and then, where its repeats are far apart; `None` where they are not. What the host's own
/// work is part of is never steady on a busy one.
pub(crate) fn unsteady(gpus: &[Gpu], row: &Row, one: &Figure) -> Option<Vec<Sentence>> {
    let by_host = matches!(row.group, Group::Latency | Group::Small | Group::Loader);
    if by_host || one.spread <= UNSTEADY {
        return None;
    }
    let seen = one.evidence.as_ref();
    let gpu = one.gpus.first().and_then(|first| gpus.iter().find(|gpu| gpu.gpu == *first));
    let most = gpu.and_then(|gpu| gpu.board?.sm_max_mhz).map(f64::from);
    let least = seen.and_then(|seen| seen.sm_mhz).map(|(least, ..)| least);
    // A reason that was there while the clock never fell held nothing.
    let fell = least.zip(most).is_none_or(|(least, most)| least < most * HIGHEST);
    let held = |bit: u64| {
        let its = |(known, share): &(u64, f64)| *known == bit && *share >= HELD;
        seen.is_some_and(|seen| seen.reasons.iter().any(its))
    };
    let cause =
        |(bit, en, zh): &(u64, &str, &str)| (fell && held(*bit)).then(|| Sentence::new(*en, *zh));
    Some(REASONS.iter().filter_map(cause).collect())
}

/// Why the timer that a figure rests on is not known to be right, where it is so.
pub(crate) fn unheld(one: &Figure) -> Option<Sentence> {
    let share = one.timer_within.filter(|share| *share > CLOSE)? * 100.0;
    let allowed = CLOSE * 100.0;
    Some(Sentence::new(
        format!(
            "the host's clock is {share:.0} % away from CUDA's timer, where {allowed:.0} % is allowed: a host that is slow or busy, or a timer that is wrong"
        ),
        format!(
            "主机时钟与 CUDA 计时器相差 {share:.0} %，允许 {allowed:.0} %：主机慢或繁忙，或者计时器有误"
        ),
    ))
}

/// Nobody has seen as much.
pub(crate) fn too_good(row: &Row, one: &Figure, with: &Expected) -> Sentence {
    let (unit, best, times) = (row.unit, number(with.value), beyond());
    let value = number(one.value);
    Sentence::new(
        format!(
            "{value} {unit} is more than {times} times the {} ({best}): nobody is known to have seen as much",
            with.what
        ),
        format!("{value} {unit} 超过已知最好值（{best}）的 {times} 倍：没有人公布过这么高的数值"),
    )
}

/// Its repeats are of two kinds, with or without a cause.
pub(crate) fn apart(one: &Figure, without: bool) -> Sentence {
    let share = one.spread * 100.0;
    let (en, zh) =
        if without { (", and nothing says why", "，没有说明原因") } else { ("", "") };
    Sentence::new(
        format!(
            "its repeats are far apart (the middle half of them by {share:.0} % of the median){en}"
        ),
        format!("各次重复相差很大（中间一半相差中位数的 {share:.0} %）{zh}"),
    )
}
