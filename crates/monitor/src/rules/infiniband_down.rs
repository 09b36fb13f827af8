//! A port of InfiniBand is down that was up.

use super::{Rule, of_port, seconds};
use crate::ports::Port;
use crate::watch::{Seen, Severity};
use crate::window::Window;

/// The rule.
pub const RULE: Rule = Rule {
    id: "infiniband-down",
    title: "An InfiniBand or RoCE port is down",
    why: "The port's link has gone down since the adapter's driver was loaded, or it was active since the monitor was started, and it is not active, or not there any more: jobs over several machines hang or fail. A port that was never up is not counted",
    action: "ibstat or rdma link shows its state; seat cable and transceiver anew, look at the switch's port and at the kernel's log (mlx5_core)",
    source: "leptonai/gpud, components/infiniband: a port that is down for 25 s counts",
    severity: Severity::Critical,
    hold: seconds(25),
    clear: seconds(30),
    apart: None,
    alert: Some(
        "sconce_infiniband_port_active == 0 and (max_over_time(sconce_infiniband_port_active[1d]) > 0 or on (instance, device, port) sconce_infiniband_link_downs_total > 0)",
    ),
    check,
};

fn check(window: &Window) -> Vec<Seen> {
    // Not every adapter counts that.
    let counted = |port: &Port| port.counters.get("link_downs_total").is_some_and(|n| *n > 0);
    let went_down = |port: &&Port| counted(port) || window.was_active(port);
    let ports = window.ports().iter().filter(went_down);
    let down = ports.filter(|port| !port.state.is_empty() && !port.is_active());
    let down = down.map(|port| of_port(port, format!("{} ({})", port.state, port.physical)));
    let lost = window
        .lost_ports()
        .map(|port| of_port(port, "was active, and is not there any more".to_owned()));
    down.chain(lost).collect()
}
