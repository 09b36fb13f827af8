//! A sample as Prometheus's text format 0.0.4 and as OpenMetrics 1.0.0.

use std::collections::BTreeSet;
use std::fmt::Write;

use crate::counters::Counters;
use crate::metric::{Kind, METRICS, Metric, Values};
use crate::names::{DRIVER_VERSION, Names, ROWS, XID};
use crate::ports::{COUNTERS, Port};
use crate::sample::{Gpu, Instance, Sample};
use crate::watch::Finding;
use crate::workloads::{holder, workloads};

/// Characters kept of a label's value.
const LONGEST: usize = 256;
/// Processes of a GPU that are given out one by one.
pub(crate) const MOST_PROCESSES: usize = 256;

/// The two formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `text/plain; version=0.0.4`.
    Prometheus,
    /// `application/openmetrics-text; version=1.0.0`.
    OpenMetrics,
}

impl Format {
    /// The one that a client asks for: OpenMetrics where its `Accept` prefers it.
    pub fn of_accept(accept: &str) -> Self {
        let weight = |kind: &str| {
            let mut all = accept.split(',').filter_map(|part| {
                let mut words = part.split(';').map(str::trim);
                let name = words.next()?;
                if !name.eq_ignore_ascii_case(kind) {
                    return None;
                }
                let weight = words.find_map(|word| word.strip_prefix("q="));
                weight.map_or(Some(1.0), |weight| weight.parse::<f32>().ok())
            });
            all.next()
        };
        let open = weight("application/openmetrics-text").unwrap_or(0.0);
        let plain = weight("text/plain").or_else(|| weight("*/*")).unwrap_or(0.0);
        if open > 0.0 && open >= plain { Self::OpenMetrics } else { Self::Prometheus }
    }

    /// Its content type.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// Reasons that hold clocks down (nvml.h, `nvmlClocksEventReasons`), as values of a label.
pub const REASONS: &[(u64, &str)] = &[
    (0x1, "idle"),
    (0x2, "applications_clocks_setting"),
    (0x4, "sw_power_cap"),
    (0x8, "hw_slowdown"),
    (0x10, "sync_boost"),
    (0x20, "sw_thermal_slowdown"),
    (0x40, "hw_thermal_slowdown"),
    (0x80, "hw_power_brake_slowdown"),
    (0x100, "display_clock_setting"),
];

/// What is rendered.
pub struct Page<'a> {
    /// The moment.
    pub sample: &'a Sample,
    /// What the rules found.
    pub findings: &'a [Finding],
    /// The last error of each GPU, by UUID.
    pub last_xid: &'a [(String, u32)],
    /// Errors so far, by UUID and number.
    pub xids: &'a [(String, u32, u64)],
    /// Which names.
    pub names: Names,
    /// Which of dcgm-exporter's metrics, instead of those that the names stand for.
    pub counters: Option<&'a Counters>,
    /// This machine's name, for the label that dcgm-exporter has.
    pub host: &'a str,
    /// A GPU's values older than this are not given out.
    pub stale_ms: u64,
}

pub(crate) struct Out {
    text: String,
    format: Format,
}

impl Out {
    /// HELP and TYPE. OpenMetrics names a counter's family without `_total`; a counter without that ending
    /// (dcgm-exporter's) is `unknown` there.
    pub(crate) fn family(&mut self, name: &str, kind: &str, help: &str) {
        let (name, kind) = match (self.format, kind, name.strip_suffix("_total")) {
            (Format::OpenMetrics, "counter", Some(family)) => (family, kind),
            (Format::OpenMetrics, "counter", None) => (name, "unknown"),
            // There is an `info` type for names that end so.
            (Format::OpenMetrics, "info", _) => (name.strip_suffix("_info").unwrap_or(name), kind),
            (Format::Prometheus, "info", _) => (name, "gauge"),
            _ => (name, kind),
        };
        let help = match self.format {
            Format::Prometheus => help.replace('\\', "\\\\").replace('\n', "\\n"),
            Format::OpenMetrics => escaped(help),
        };
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    pub(crate) fn row(&mut self, name: &str, labels: &str, value: f64) {
        let _ = writeln!(self.text, "{name}{{{labels}}} {value}");
    }
}

/// A label's value: escaped, bounded, without control characters.
fn escaped(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    for char in value.chars().take(LONGEST) {
        match char {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            char if char.is_control() => out.push('\u{fffd}'),
            char => out.push(char),
        }
    }
    out
}

/// `name="value",…` of those that are not empty.
pub(crate) fn labels(pairs: &[(&str, &str)]) -> String {
    let mut out = String::new();
    for (name, value) in pairs.iter().filter(|(_, value)| !value.is_empty()) {
        if !out.is_empty() {
            out.push(',');
        }
        let _ = write!(out, "{name}=\"{}\"", escaped(value));
    }
    out
}

/// The text, without what an exporter says of itself and without an end.
pub fn render(page: &Page<'_>, format: Format) -> String {
    let mut out = Out { text: String::with_capacity(64 << 10), format };
    let gpus: Vec<&Gpu> = page.sample.gpus.iter().collect();
    let fresh: Vec<&Gpu> = gpus
        .iter()
        .filter(|gpu| gpu.lost.is_none() && gpu.age_ms <= page.stale_ms)
        .copied()
        .collect();
    dcgm(page, &mut out, &fresh);
    own(page, &mut out, &gpus, &fresh);
    out.text
}

/// The labels of dcgm-exporter (its render_metrics.go), in its order.
fn dcgm_labels(page: &Page<'_>, gpu: &Gpu, instance: Option<&Instance>) -> String {
    let bus = match gpu.bus_id.split_once(':') {
        Some((domain, rest)) => format!("{domain:0>8}:{}", rest.to_ascii_uppercase()),
        None => String::new(),
    };
    let device = gpu.minor.map(|minor| format!("nvidia{minor}")).unwrap_or_default();
    let (profile, id) = match instance {
        Some(one) => (one.profile.as_str(), one.gpu_instance.to_string()),
        None => ("", String::new()),
    };
    let driver = page.sample.driver.as_deref().unwrap_or("");
    let mut pairs = vec![
        ("gpu", gpu.index.to_string()),
        ("UUID", gpu.uuid.clone()),
        ("pci_bus_id", bus),
        ("device", device),
        ("modelName", gpu.model.clone()),
        ("GPU_I_PROFILE", profile.to_owned()),
        ("GPU_I_ID", id),
        ("hostname", page.host.to_owned()),
    ];
    for (name, wanted) in DRIVER_VERSION.iter().zip(page.names.both()) {
        if page.counters.map_or(wanted, |counters| counters.get(name).is_some()) {
            pairs.push((name, driver.to_owned()));
        }
    }
    if let Some(pod) = holder(gpu, instance) {
        pairs.push(("container", pod.name.clone()));
        pairs.push(("namespace", pod.namespace.clone()));
        pairs.push(("pod", pod.pod.clone()));
    }
    let pairs: Vec<_> = pairs.iter().map(|(name, value)| (*name, value.as_str())).collect();
    labels(&pairs)
}

/// A GPU, or an instance of it, as dcgm-exporter lists them.
fn entities<'a>(page: &Page<'_>, fresh: &[&'a Gpu]) -> Vec<(String, &'a Values)> {
    let mut all = Vec::new();
    for gpu in fresh {
        all.push((dcgm_labels(page, gpu, None), &gpu.values));
        for instance in &gpu.instances {
            all.push((dcgm_labels(page, gpu, Some(instance)), &instance.values));
        }
    }
    all
}

fn dcgm(page: &Page<'_>, out: &mut Out, fresh: &[&Gpu]) {
    if page.names == Names::None && page.counters.is_none() {
        return;
    }
    // Type and HELP of a metric that is wanted.
    let wanted = |name: &str, by_names: bool, kind: &str, help: &str| match page.counters {
        None => by_names.then(|| (kind.to_owned(), help.to_owned())),
        Some(counters) => counters.get(name).map(|one| (one.kind.clone(), one.help.clone())),
    };
    let entities = entities(page, fresh);
    let mut family =
        |name: &str, kind: &str, help: &str, value: &dyn Fn(&Values) -> Option<f64>| {
            let rows =
                entities.iter().filter_map(|(labels, values)| Some((labels, value(values)?)));
            let rows: Vec<_> = rows.collect();
            if !rows.is_empty() {
                out.family(name, kind, help);
                rows.into_iter().for_each(|(labels, value)| out.row(name, labels, value));
            }
        };
    for (row, metric) in ROWS.iter() {
        let scaled = |times: f64| {
            move |values: &Values| {
                let value = values.get(*metric)? * times;
                // A product of a whole number and of a hundred has no digits that it did not have.
                Some(if row.whole { value.floor() } else { (value * 1e9).round() / 1e9 })
            }
        };
        let [legacy, new_ones] = page.names.both();
        if let Some((kind, help)) = wanted(&row.name, legacy, &row.kind, &row.help) {
            family(&row.name, &kind, &help, &scaled(row.times));
        }
        let help = row.help.replace("(in %)", "(0 to 1)");
        if let Some(name) = &row.v4_9
            && let Some((kind, help)) = wanted(name, new_ones, &row.kind, &help)
        {
            family(name, &kind, &help, &scaled(row.v4_9_times.unwrap_or(row.times)));
        }
    }
    for (name, by_names) in XID.iter().zip(page.names.both()) {
        let help = "Value of the last XID error encountered.";
        let Some((kind, help)) = wanted(name, by_names, "gauge", help) else { continue };
        // Where errors are not heard of, that there was none is not known.
        if fresh.is_empty() || !(page.sample.xid_events || page.sample.kernel_log) {
            continue;
        }
        out.family(name, &kind, &help);
        for gpu in fresh {
            let last = page.last_xid.iter().find(|(uuid, _)| *uuid == gpu.uuid);
            let code = last.map_or(0, |(_, code)| *code);
            out.row(name, &dcgm_labels(page, gpu, None), f64::from(code));
        }
    }
}

fn own(page: &Page<'_>, out: &mut Out, gpus: &[&Gpu], fresh: &[&Gpu]) {
    let key = |gpu: &Gpu| {
        let index = gpu.index.to_string();
        labels(&[("gpu", &index), ("UUID", &gpu.uuid)])
    };
    out.family(
        "sconce_gpu_up",
        "gauge",
        "1 where the GPU answers; 0 where it is lost or does not answer",
    );
    for gpu in gpus {
        let up = fresh.iter().any(|fresh| fresh.uuid == gpu.uuid);
        out.row("sconce_gpu_up", &key(gpu), f64::from(u8::from(up)));
    }
    out.family("sconce_gpu_info", "info", "What a GPU is");
    for gpu in gpus {
        let index = gpu.index.to_string();
        let minor = gpu.minor.map(|minor| minor.to_string()).unwrap_or_default();
        let labels = labels(&[
            ("gpu", &index),
            ("UUID", &gpu.uuid),
            ("model", &gpu.model),
            ("pci_bus_id", &gpu.bus_id),
            ("minor", &minor),
            ("driver", page.sample.driver.as_deref().unwrap_or("")),
        ]);
        out.row("sconce_gpu_info", &labels, 1.0);
    }
    // Labels are the same for all metrics: made once.
    let mut entities: Vec<(String, &Values)> = Vec::new();
    for gpu in fresh {
        entities.push((key(gpu), &gpu.values));
        for one in &gpu.instances {
            let (index, id) = (gpu.index.to_string(), one.gpu_instance.to_string());
            let pairs = [
                ("gpu", index.as_str()),
                ("UUID", &gpu.uuid),
                ("instance_uuid", &one.uuid),
                ("profile", &one.profile),
                ("gpu_instance", &id),
            ];
            entities.push((labels(&pairs), &one.values));
        }
    }
    for metric in METRICS.iter().filter(|metric| **metric != Metric::ClockReasons) {
        let known = |(_, values): &&(String, &Values)| values.get(*metric).is_some();
        if !entities.iter().any(|entity| known(&entity)) {
            continue;
        }
        let name = format!("sconce_gpu_{}", metric.key());
        let kind = if metric.kind() == Kind::Counter { "counter" } else { "gauge" };
        out.family(&name, kind, metric.help());
        for (labels, values) in &entities {
            if let Some(value) = values.get(*metric) {
                out.row(&name, labels, value);
            }
        }
    }
    reasons(out, fresh);
    processes(out, fresh);
    workloads(out, fresh);
    infiniband(out, &page.sample.ports);
    if !page.xids.is_empty() {
        out.family(
            "sconce_gpu_xid_errors_total",
            "counter",
            "Errors of a GPU since this monitor started",
        );
        for (uuid, code, count) in page.xids {
            let code = code.to_string();
            let gpu = page.sample.gpus.iter().find(|gpu| gpu.uuid == *uuid);
            let index = gpu.map(|gpu| gpu.index.to_string()).unwrap_or_default();
            let labels = labels(&[("gpu", &index), ("UUID", uuid), ("xid", &code)]);
            out.row("sconce_gpu_xid_errors_total", &labels, *count as f64);
        }
    }
    let name = "sconce_monitor_kernel_log_readable";
    out.family(name, "gauge", "1 where the kernel's log is read, and errors of switches with it");
    let _ = writeln!(out.text, "{name} {}", u8::from(page.sample.kernel_log));
    out.family(
        "sconce_anomaly",
        "gauge",
        "1 for each rule of `sconce monitor rules` that holds now",
    );
    // Two Xids of one GPU are one row, as are two ports.
    let mut anomalies = BTreeSet::new();
    for finding in page.findings {
        let index = finding.gpu.map(|gpu| gpu.to_string()).unwrap_or_default();
        let labels = labels(&[
            ("rule", finding.rule),
            ("severity", finding.severity.word()),
            ("gpu", &index),
            ("UUID", &finding.uuid),
        ]);
        anomalies.insert(labels);
    }
    anomalies.iter().for_each(|labels| out.row("sconce_anomaly", labels, 1.0));
}

fn infiniband(out: &mut Out, ports: &[Port]) {
    if ports.is_empty() {
        return;
    }
    let key = |port: &Port, more: &[(&str, &str)]| {
        let number = port.port.to_string();
        labels(&[&[("device", &*port.device), ("port", &number)], more].concat())
    };
    let name = "sconce_infiniband_port_info";
    out.family(name, "info", "What a port of an InfiniBand or RoCE adapter is, and its state");
    for port in ports {
        let more = [
            ("link_layer", &*port.link_layer),
            ("state", &port.state),
            ("physical_state", &port.physical),
        ];
        out.row(name, &key(port, &more), 1.0);
    }
    let mut family = |name: &str, kind: &str, help: &str, value: &dyn Fn(&Port) -> Option<f64>| {
        let name = format!("sconce_infiniband_{name}");
        let rows: Vec<_> = ports.iter().filter_map(|port| Some((port, value(port)?))).collect();
        if !rows.is_empty() {
            out.family(&name, kind, help);
            rows.into_iter().for_each(|(port, value)| out.row(&name, &key(port, &[]), value));
        }
    };
    let known = |port: &Port| !port.state.is_empty();
    let active = |port: &Port| known(port).then(|| f64::from(u8::from(port.is_active())));
    family("port_active", "gauge", "1 where a port takes packets", &active);
    let rate = |port: &Port| port.rate.map(|bits| bits / 8.0);
    family("rate_bytes_per_second", "gauge", "What a port's link carries each way", &rate);
    for counter in COUNTERS {
        let count = |port: &Port| port.counters.get(counter.name).map(|count| *count as f64);
        family(counter.name, "counter", counter.help, &count);
    }
}

fn reasons(out: &mut Out, fresh: &[&Gpu]) {
    let known = |gpu: &&&Gpu| gpu.values.get(Metric::ClockReasons).is_some();
    if !fresh.iter().any(|gpu| known(&gpu)) {
        return;
    }
    let name = "sconce_gpu_clocks_held";
    out.family(name, "gauge", "1 where this reason holds the clocks down");
    for gpu in fresh.iter().filter(known) {
        let bits = gpu.values.get(Metric::ClockReasons).unwrap_or(0.0) as u64;
        for (bit, reason) in REASONS {
            let index = gpu.index.to_string();
            let labels = labels(&[("gpu", &index), ("UUID", &gpu.uuid), ("reason", reason)]);
            out.row(name, &labels, f64::from(u8::from(bits & bit != 0)));
        }
    }
}

fn processes(out: &mut Out, fresh: &[&Gpu]) {
    let listed: Vec<_> =
        fresh.iter().filter_map(|gpu| Some((gpu, gpu.processes.as_ref()?))).collect();
    if listed.is_empty() {
        return;
    }
    out.family("sconce_gpu_processes", "gauge", "Processes on a GPU");
    for (gpu, processes) in &listed {
        let index = gpu.index.to_string();
        let labels = labels(&[("gpu", &index), ("UUID", &gpu.uuid)]);
        out.row("sconce_gpu_processes", &labels, processes.len() as f64);
    }
    let name = "sconce_process_memory_bytes";
    out.family(name, "gauge", "Memory of a GPU that a process holds");
    for (gpu, processes) in &listed {
        for process in processes.iter().take(MOST_PROCESSES) {
            let Some(memory) = process.memory else { continue };
            let (index, pid) = (gpu.index.to_string(), process.pid.to_string());
            let instance = process.gpu_instance.map(|one| one.to_string()).unwrap_or_default();
            let labels = labels(&[
                ("gpu", &index),
                ("UUID", &gpu.uuid),
                ("gpu_instance", &instance),
                ("pid", &pid),
                ("process", &process.name),
                ("user", process.user.as_deref().unwrap_or("")),
                ("container", &process.workload.container),
            ]);
            out.row(name, &labels, memory as f64);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_labels() {
        assert_eq!(escaped("a\"b\\c\nd\r\u{1b}[31m"), "a\\\"b\\\\c\\nd\u{fffd}\u{fffd}[31m");
        assert_eq!(escaped(&"ä".repeat(1000)).chars().count(), LONGEST);
    }

    #[test]
    fn what_a_client_accepts() {
        let prometheus = "application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        assert_eq!(Format::of_accept(prometheus), Format::OpenMetrics);
        for plain in [
            "",
            "*/*",
            "text/plain",
            "text/html",
            "application/openmetrics-text;q=0.1,text/plain;q=0.9",
            ";;,q==",
        ] {
            assert_eq!(Format::of_accept(plain), Format::Prometheus, "{plain}");
        }
    }
}
