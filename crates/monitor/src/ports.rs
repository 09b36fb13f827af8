//! Ports of InfiniBand and RoCE adapters, as the kernel has them below `/sys/class/infiniband`.
//!
//! Source: Linux, `Documentation/ABI/stable/sysfs-class-infiniband`. Data is counted there in units of four octets. Counters begin anew when
//! the adapter's driver is loaded.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// Where they are.
pub const INFINIBAND: &str = "/sys/class/infiniband";
/// How often they are looked at. An adapter's firmware is asked, which takes milliseconds.
const EVERY: Duration = Duration::from_secs(5);
/// What was read longer ago is not given out: an adapter whose firmware hangs holds up whoever reads.
const STALE: Duration = Duration::from_secs(30);
/// The most adapters, and ports of one: virtual functions (SR-IOV) are adapters too.
const MOST: usize = 2048;
/// Bytes read of a file.
const LIMIT: u64 = 4096;

/// A counter: the kernel's file, our name behind `sconce_infiniband_`, what the kernel's number is multiplied by, what it means.
pub(crate) struct Counter {
    pub(crate) file: &'static str,
    pub(crate) name: &'static str,
    pub(crate) times: u64,
    pub(crate) help: &'static str,
}

const fn counter(
    file: &'static str,
    name: &'static str,
    times: u64,
    help: &'static str,
) -> Counter {
    Counter { file, name, times, help }
}

/// All of them.
pub(crate) const COUNTERS: &[Counter] = &[
    counter("port_xmit_data", "transmit_bytes_total", 4, "Sent by a port"),
    counter("port_rcv_data", "receive_bytes_total", 4, "Received by a port"),
    counter("link_downed", "link_downs_total", 1, "Times that a port's link went down"),
    counter(
        "link_error_recovery",
        "link_recoveries_total",
        1,
        "Times that a port's link recovered from errors",
    ),
    counter("symbol_error", "symbol_errors_total", 1, "Small errors on a port's lanes"),
    counter(
        "port_rcv_errors",
        "receive_errors_total",
        1,
        "Packets with errors that a port received",
    ),
    counter(
        "port_xmit_discards",
        "transmit_discards_total",
        1,
        "Packets that a port threw away, as it was down or congested",
    ),
    counter(
        "local_link_integrity_errors",
        "integrity_errors_total",
        1,
        "Times that too many errors came at once on a port's link",
    ),
];

/// A port at a moment. What its adapter does not say is absent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Port {
    /// `mlx5_0`.
    pub device: String,
    /// Its number.
    pub port: u32,
    /// `InfiniBand`, or `Ethernet` of RoCE.
    pub link_layer: String,
    /// `ACTIVE`, `DOWN`, `INIT`, `ARMED`.
    pub state: String,
    /// `LinkUp`, `Polling`, `Disabled`.
    pub physical: String,
    /// Bits a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<f64>,
    /// Counters, by our names.
    pub counters: BTreeMap<String, u64>,
}

impl Port {
    /// Whether it takes packets.
    pub fn is_active(&self) -> bool {
        self.state == "ACTIVE"
    }
}

/// What was read, and when.
type Read = Mutex<Option<(Instant, Vec<Port>)>>;

/// Looks at the ports in a thread of its own, for as long as it lives.
pub(crate) struct Ports(Arc<Read>);

impl Ports {
    /// Those of a folder; none where there is no such folder, as without an adapter.
    pub(crate) fn watch(folder: &Path) -> Option<Self> {
        if !folder.is_dir() {
            return None;
        }
        let known = Arc::new(Mutex::new(None));
        let (folder, looks) = (folder.to_owned(), Arc::downgrade(&known));
        let builder = thread::Builder::new().name("infiniband".to_owned()).stack_size(128 << 10);
        builder.spawn(move || keep(&folder, &looks)).ok()?;
        Some(Self(known))
    }

    /// What is known now.
    pub(crate) fn now(&self) -> Vec<Port> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &*known {
            Some((at, ports)) if at.elapsed() < STALE => ports.clone(),
            _ => Vec::new(),
        }
    }
}

fn keep(folder: &Path, known: &Weak<Read>) {
    loop {
        let ports = read(folder);
        let Some(known) = known.upgrade() else { return };
        *known.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), ports));
        drop(known);
        thread::sleep(EVERY);
    }
}

/// The ports below a folder, by name and number.
pub(crate) fn read(folder: &Path) -> Vec<Port> {
    let mut ports = Vec::new();
    for device in listed(folder) {
        let name = device.file_name().map(|name| name.to_string_lossy().into_owned());
        for path in listed(&device.join("ports")) {
            let number = path.file_name().and_then(|name| name.to_str()?.parse().ok());
            let (Some(device), Some(port)) = (name.clone(), number) else { continue };
            ports.push(Port { device, port, ..read_port(&path) });
        }
    }
    ports.sort_by(|a, b| (&a.device, a.port).cmp(&(&b.device, b.port)));
    ports
}

fn read_port(path: &Path) -> Port {
    let text = |name: &str| {
        let text = sconce_open::read_to_string(&path.join(name), LIMIT).ok()?;
        Some(text.trim().to_owned()).filter(|text| !text.is_empty())
    };
    // `4: ACTIVE`
    let word = |name: &str| {
        let text = text(name).unwrap_or_default();
        text.split_once(": ").map_or(String::new(), |(_, word)| word.to_owned())
    };
    // `400 Gb/sec (4X NDR)`
    let rate = text("rate").and_then(|text| text.split_once(" Gb/sec")?.0.parse::<f64>().ok());
    let counters = COUNTERS.iter().filter_map(|one| {
        let count = text(&format!("counters/{}", one.file))?.parse::<u64>().ok()?;
        Some((one.name.to_owned(), count.saturating_mul(one.times)))
    });
    Port {
        link_layer: text("link_layer").unwrap_or_default(),
        state: word("state"),
        physical: word("phys_state"),
        rate: rate.map(|gigabits| gigabits * 1e9),
        counters: counters.collect(),
        ..Port::default()
    }
}

/// What is in a folder, by name.
fn listed(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).take(MOST).collect();
    paths.sort();
    paths
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn ports_as_the_kernel_has_them() {
        let folder = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        for (name, text) in [
            ("state", "4: ACTIVE\n"),
            ("phys_state", "5: LinkUp\n"),
            ("rate", "400 Gb/sec (4X NDR)\n"),
            ("link_layer", "InfiniBand\n"),
            ("counters/port_xmit_data", "25\n"),
            ("counters/link_downed", "2\n"),
            ("counters/symbol_error", "N/A (no PMA)\n"),
            ("counters/port_rcv_data", "18446744073709551615\n"),
        ] {
            put(&format!("mlx5_1/ports/1/{name}"), text);
        }
        put("mlx5_0/ports/1/state", "1: DOWN\n");
        put("mlx5_0/ports/x/state", "1: DOWN\n");
        put("mlx5_2/node_type", "1: CA\n");
        let ports = read(folder.path());
        let names: Vec<_> = ports.iter().map(|one| (&*one.device, one.port)).collect();
        assert_eq!(names, [("mlx5_0", 1), ("mlx5_1", 1)]);
        assert!(!ports[0].is_active() && ports[0].rate.is_none() && ports[0].counters.is_empty());
        let port = &ports[1];
        assert_eq!((port.is_active(), port.rate), (true, Some(400e9)));
        assert_eq!((&*port.physical, &*port.link_layer), ("LinkUp", "InfiniBand"));
        assert_eq!(port.counters["transmit_bytes_total"], 100);
        assert_eq!(port.counters["receive_bytes_total"], u64::MAX);
        assert_eq!(port.counters.len(), 3);
        assert!(Ports::watch(&folder.path().join("none")).is_none());
    }
}
