//! A port of InfiniBand has errors.

use super::{Rule, of_port, seconds};
use crate::watch::{Seen, Severity};
use crate::window::Window;

/// The rule.
pub const RULE: Rule = Rule {
    id: "infiniband-errors",
    title: "An InfiniBand or RoCE port has errors",
    why: "The port's link went down three times in ten minutes, or ten errors came on it: a bad cable, transceiver or port, by which jobs over several machines become slow or fail",
    action: "clean or replace cable and transceiver; try another port of the switch; ibdiagnet, mlxlink -d DEVICE say more",
    source: "leptonai/gpud, components/infiniband: three times down are a flapping link; ten errors in ten minutes is our own threshold",
    severity: Severity::Warning,
    hold: seconds(0),
    clear: seconds(600),
    apart: Some(seconds(300)),
    alert: Some(
        "increase(sconce_infiniband_link_downs_total[10m]) >= 3 or increase(sconce_infiniband_symbol_errors_total[10m]) >= 10 or increase(sconce_infiniband_receive_errors_total[10m]) >= 10 or increase(sconce_infiniband_integrity_errors_total[10m]) >= 10",
    ),
    check,
};

/// What counts, from how many on, in words.
const COUNTED: [(&str, u64, &str); 4] = [
    ("link_downs_total", 3, "times down"),
    ("symbol_errors_total", 10, "symbol errors"),
    ("receive_errors_total", 10, "receive errors"),
    ("integrity_errors_total", 10, "integrity errors"),
];

fn check(window: &Window) -> Vec<Seen> {
    let mut all = Vec::new();
    for port in window.ports() {
        let grown = COUNTED.iter().filter_map(|(name, least, words)| {
            let grown = window.port_growth(port, name);
            (grown >= *least).then(|| format!("{grown} {words}"))
        });
        let grown: Vec<String> = grown.collect();
        if !grown.is_empty() {
            all.push(of_port(port, format!("{} in ten minutes", grown.join(", "))));
        }
    }
    all
}
