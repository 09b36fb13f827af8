//! A dashboard for Grafana, over our own names and dcgm-exporter's, up to 4.8 and since 4.9: whichever of them a Prometheus has.
//!
//! Source: Grafana, "Dashboard JSON model", schema 39. The names of dcgm-exporter are the rows of `data/dcgm.toml`.

use serde_json::{Value, json};

use crate::metric::{Kind, Metric};
use crate::names::ROWS;

/// What a panel's variables choose.
const CHOSEN: &str = "instance=~\"$instance\", gpu=~\"$gpu\"";
/// Wide of a whole row, and of a panel.
const WIDE: u32 = 24;
const HALF: u32 = 12;
const HIGH: u32 = 8;

/// Panels of one metric: title, metric, Grafana's unit.
const METRICS: &[(&str, Metric, &str)] = &[
    ("Utilization (1 in a hang too)", Metric::Utilization, "percentunit"),
    ("Multiprocessors with work", Metric::SmActive, "percentunit"),
    ("Tensor cores", Metric::Tensor, "percentunit"),
    ("Memory bandwidth", Metric::Dram, "percentunit"),
    ("Memory in use", Metric::MemoryUsed, "bytes"),
    ("Power", Metric::Power, "watt"),
    ("Temperature", Metric::Temperature, "celsius"),
    ("Clock of the multiprocessors", Metric::SmClock, "hertz"),
    ("PCIe, received", Metric::PcieRx, "Bps"),
    ("PCIe, sent", Metric::PcieTx, "Bps"),
    ("Memory rows replaced for uncorrectable errors", Metric::RemappedUncorrectable, "none"),
    ("PCIe packets sent again, in an hour", Metric::PcieReplays, "none"),
];

/// Panels of our own metrics alone: title, query, legend, unit.
const OWN: &[(&str, &str, &str, &str)] = &[
    (
        "NVLink, sent",
        "max by (instance, gpu) (sconce_gpu_nvlink_transmit_bytes_per_second{instance=~\"$instance\", gpu=~\"$gpu\"})",
        "{{instance}} GPU {{gpu}}",
        "Bps",
    ),
    (
        "What holds the clocks down",
        "max by (instance, gpu, reason) (sconce_gpu_clocks_held{instance=~\"$instance\", gpu=~\"$gpu\", reason!=\"idle\"}) > 0",
        "{{instance}} GPU {{gpu}} {{reason}}",
        "none",
    ),
    (
        "InfiniBand, sent",
        "rate(sconce_infiniband_transmit_bytes_total{instance=~\"$instance\"}[$__rate_interval])",
        "{{instance}} {{device}} port {{port}}",
        "Bps",
    ),
    (
        "InfiniBand, received",
        "rate(sconce_infiniband_receive_bytes_total{instance=~\"$instance\"}[$__rate_interval])",
        "{{instance}} {{device}} port {{port}}",
        "Bps",
    ),
];

/// The dashboard, as Grafana imports it.
pub fn board() -> String {
    let mut panels = vec![
        table(
            "What is wrong",
            "max by (instance, gpu, rule, severity) (sconce_anomaly{instance=~\"$instance\"})",
        ),
        table(
            "What runs",
            "max by (instance, gpu, runtime, name, image, image_digest, slurm_job, namespace, pod, pod_uid) (sconce_workload_info{instance=~\"$instance\", gpu=~\"$gpu\"})",
        ),
    ];
    for (title, metric, unit) in METRICS {
        panels.push(graph(title, &query(*metric), "{{instance}} GPU {{gpu}}", unit));
    }
    for (title, query, legend, unit) in OWN {
        panels.push(graph(title, query, legend, unit));
    }
    let mut below = 0;
    for (at, panel) in panels.iter_mut().enumerate() {
        let is_wide = panel["type"] == "table";
        // Tables come first, each a row; then two graphs a row.
        let x = if is_wide || at % 2 == 0 { 0 } else { HALF };
        panel["id"] = json!(at + 1);
        panel["gridPos"] =
            json!({"x": x, "y": below, "w": if is_wide { WIDE } else { HALF }, "h": HIGH});
        if is_wide || x == HALF {
            below += HIGH;
        }
    }
    let known = "{__name__=~\"sconce_gpu_up|DCGM_FI_DEV_GPU_TEMP|DCGM_FI_DEV_GPU_TEMP_CELSIUS\"}";
    let instances = format!("label_values({known}, instance)");
    let gpus = known.replace('}', ", instance=~\"$instance\"}");
    let board = json!({
        "title": "GPUs (sconce)",
        "uid": "sconce-gpus",
        "tags": ["gpu", "nvidia"],
        "schemaVersion": 39,
        "editable": true,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": [
            {"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Prometheus"},
            variable("instance", &instances),
            variable("gpu", &format!("label_values({gpus}, gpu)")),
        ]},
        "panels": panels,
    });
    format!("{board:#}\n")
}

/// A metric by whichever name there is; one series for each GPU, so that two names of one value are one.
fn query(metric: Metric) -> String {
    let name = format!("sconce_gpu_{}", metric.key());
    let mut names = vec![(name, 1.0)];
    for (row, _) in ROWS.iter().filter(|(_, of)| *of == metric) {
        names.push((row.name.clone(), row.times));
        let newer = row.v4_9.iter().map(|name| (name.clone(), row.v4_9_times.unwrap_or(row.times)));
        names.extend(newer);
    }
    let one = |(name, times): &(String, f64)| {
        let series = match metric.kind() {
            Kind::Gauge => format!("{name}{{{CHOSEN}}}"),
            Kind::Counter => format!("increase({name}{{{CHOSEN}}}[1h])"),
        };
        let scaled = if *times == 1.0 { series } else { format!("{series} / {times}") };
        format!("max by (instance, gpu) ({scaled})")
    };
    names.iter().map(one).collect::<Vec<_>>().join(" or ")
}

fn target(query: &str, more: Value) -> Value {
    let mut target = json!({"refId": "A", "datasource": {"type": "prometheus", "uid": "${datasource}"}, "expr": query});
    if let (Some(target), Value::Object(more)) = (target.as_object_mut(), more) {
        target.extend(more);
    }
    target
}

fn graph(title: &str, query: &str, legend: &str, unit: &str) -> Value {
    json!({
        "type": "timeseries",
        "title": title,
        "datasource": {"type": "prometheus", "uid": "${datasource}"},
        "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
        "options": {"legend": {"displayMode": "table", "placement": "right", "calcs": ["lastNotNull", "max"]}},
        "targets": [target(query, json!({"legendFormat": legend}))],
    })
}

fn table(title: &str, query: &str) -> Value {
    json!({
        "type": "table",
        "title": title,
        "datasource": {"type": "prometheus", "uid": "${datasource}"},
        "fieldConfig": {"defaults": {}, "overrides": []},
        "transformations": [{"id": "organize", "options": {"excludeByName": {"Time": true, "Value": true}}}],
        "targets": [target(query, json!({"format": "table", "instant": true}))],
    })
}

fn variable(name: &str, query: &str) -> Value {
    json!({
        "name": name,
        "type": "query",
        "datasource": {"type": "prometheus", "uid": "${datasource}"},
        "query": {"query": query, "refId": name},
        "definition": query,
        "multi": true,
        "includeAll": true,
        "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
        "refresh": 2,
        "sort": 3,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_asked_for_by_all_its_names() {
        assert_eq!(
            query(Metric::Utilization),
            "max by (instance, gpu) (sconce_gpu_utilization_ratio{instance=~\"$instance\", gpu=~\"$gpu\"}) or \
             max by (instance, gpu) (DCGM_FI_DEV_GPU_UTIL{instance=~\"$instance\", gpu=~\"$gpu\"} / 100) or \
             max by (instance, gpu) (DCGM_FI_DEV_GPU_UTIL_RATIO{instance=~\"$instance\", gpu=~\"$gpu\"})"
        );
        let board: Value = serde_json::from_str(&board()).unwrap();
        let panels = board["panels"].as_array().unwrap();
        assert_eq!(panels.len(), 2 + METRICS.len() + OWN.len());
        let mut places: Vec<_> = panels.iter().map(|one| one["gridPos"].to_string()).collect();
        places.sort();
        places.dedup();
        assert_eq!(places.len(), panels.len(), "no two lie in one place");
    }
}
