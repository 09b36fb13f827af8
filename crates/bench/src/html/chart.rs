//! Curves of a page as SVG.

use std::fmt::Write;

use crate::report::number;

/// Pixels of a chart of curves.
const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 240.0;
/// Room for the numbers beside it.
const MARGIN: f64 = 48.0;

/// Colours of curves, one after another.
const COLOURS: &[&str] = &["#1668b8", "#c4501b", "#3a8a3a", "#7a4fb0", "#a07800", "#117a8b"];

/// Curves over a logarithmic scale (linear where it begins at 0), from 0 up.
pub(super) fn chart(page: &mut String, curves: &[(&str, &[(f64, f64)])], unit: &str, across: &str) {
    let points = || curves.iter().flat_map(|(_, curve)| curve.iter());
    let most = points().map(|(_, value)| *value).fold(0.0, f64::max).max(1e-9);
    let (first, last) =
        points().fold((f64::MAX, 0.0f64), |(first, last), (at, _)| (first.min(*at), last.max(*at)));
    let scale = |at: f64| if first > 0.0 { at.log2() } else { (at + 1.0).log2() };
    let (low, high) = (scale(first), scale(last).max(scale(first) + 1e-9));
    let x = |at: f64| MARGIN + (scale(at) - low) / (high - low) * (WIDTH - 2.0 * MARGIN);
    let y = |value: f64| HEIGHT - 24.0 - value / most * (HEIGHT - 40.0);
    _ = writeln!(
        page,
        "<svg viewBox=\"0 0 {WIDTH} {:.0}\" role=\"img\">",
        HEIGHT + 20.0 * curves.len() as f64
    );
    for part in [0.0, 0.5, 1.0] {
        let (at, value) = (y(most * part), number(most * part));
        let right = WIDTH - MARGIN;
        _ = writeln!(
            page,
            "<path class=\"grid\" d=\"M{MARGIN} {at:.1}H{right}\"/><text x=\"{:.0}\" y=\"{:.1}\" text-anchor=\"end\">{value}</text>",
            MARGIN - 4.0,
            at + 4.0
        );
    }
    for at in [first, last] {
        _ = writeln!(
            page,
            "<text x=\"{:.1}\" y=\"{:.0}\" text-anchor=\"middle\">{}</text>",
            x(at),
            HEIGHT - 6.0,
            size(at)
        );
    }
    for (number, (name, curve)) in curves.iter().enumerate() {
        let colour = COLOURS[number % COLOURS.len()];
        let path: Vec<String> =
            curve.iter().map(|(at, value)| format!("{:.1} {:.1}", x(*at), y(*value))).collect();
        _ = writeln!(
            page,
            "<path class=\"curve\" stroke=\"{colour}\" d=\"M{}\"/><text x=\"{MARGIN}\" y=\"{:.0}\" fill=\"{colour}\">{name}</text>",
            path.join("L"),
            HEIGHT + 16.0 + 20.0 * number as f64
        );
    }
    _ = writeln!(page, "</svg><p class=\"axes\">{unit} / {across}</p>");
}

/// `8 KiB`, `16`.
fn size(at: f64) -> String {
    const UNITS: &[(f64, &str)] = &[(1073741824.0, "GiB"), (1048576.0, "MiB"), (1024.0, "KiB")];
    let unit = UNITS.iter().find(|(bytes, _)| at >= *bytes);
    unit.map_or_else(|| format!("{at:.0}"), |(bytes, name)| format!("{:.0} {name}", at / bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!([8192.0, 1073741824.0, 16.0].map(size), ["8 KiB", "1 GiB", "16"]);
    }
}
