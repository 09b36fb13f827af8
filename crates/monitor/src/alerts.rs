//! The rules for Prometheus: an alert for each.
//!
//! Where a rule can be asked of the metrics, it is: such an alert also holds while the monitor is down and up again. The
//! others rest on `sconce_anomaly`, which is the rule itself, and have its label `severity`: those of clocks among them,
//! of which a scrape sees one moment in many. `promtool check rules` takes the file.

use std::fmt::Write;

use crate::rules::RULES;

/// The file.
pub fn alerts() -> String {
    let mut out = String::from(
        "# From `sconce monitor rules --format prometheus`.\ngroups:\n  - name: sconce\n    rules:\n",
    );
    let own = [
        (
            "SconceMonitorSilent",
            "sconce_monitor_sample_age_seconds > 60 unless sconce_monitor_sample_age_seconds <= 3 * sconce_monitor_interval_seconds",
            "The monitor takes no samples",
            "look at its journal: a driver that hangs holds it up",
        ),
        (
            "SconceMonitorDown",
            "up == 0 and on (instance) max_over_time(sconce_monitor_sample_age_seconds[7d])",
            "A machine whose GPUs were watched does not answer",
            "look whether the machine is up, and the service on it",
        ),
    ];
    for (name, query, title, action) in own {
        alert(&mut out, name, query, "1m", Some("critical"), title, action);
    }
    for rule in RULES {
        let by_itself = format!("sconce_anomaly{{rule=\"{}\"}} == 1", rule.id);
        let (query, wait) = match rule.alert {
            Some(query) => (query, format!("{}s", rule.hold.as_secs())),
            // It has been held already.
            None => (by_itself.as_str(), "0s".to_owned()),
        };
        // What rests on `sconce_anomaly` is as bad as that says: an Xid may be any.
        let word = rule.alert.map(|_| rule.severity.word());
        alert(&mut out, &name(rule.id), query, &wait, word, rule.title, rule.action);
    }
    out
}

fn alert(
    out: &mut String,
    name: &str,
    query: &str,
    wait: &str,
    severity: Option<&str>,
    title: &str,
    action: &str,
) {
    // Strings of JSON are strings of YAML; `{{` begins a template of Prometheus.
    let text = |text: &str| serde_json::Value::from(text.replace("{{", "{ {")).to_string();
    let labels = severity
        .map_or(String::new(), |word| format!("        labels:\n          severity: {word}\n"));
    _ = write!(
        out,
        "      - alert: {name}\n        expr: {}\n        for: {wait}\n{labels}        \
         annotations:\n          summary: {}\n          description: {}\n",
        serde_json::Value::from(query),
        text(title),
        text(action),
    );
}

/// `nccl-hang` as alerts are called: `GpuNcclHang`.
fn name(id: &str) -> String {
    let word = |word: &str| {
        let (first, rest) = word.split_at(word.len().min(1));
        first.to_ascii_uppercase() + rest
    };
    let bare = id.strip_prefix("gpu-").unwrap_or(id);
    format!("Gpu{}", bare.split('-').map(word).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::METRICS;

    #[test]
    fn names_and_what_they_ask_for() {
        assert_eq!(name("nccl-hang"), "GpuNcclHang");
        assert_eq!(name("gpu-lost"), "GpuLost");
        let known = |word: &str| {
            ["up", "clocks_held"].contains(&word)
                || METRICS.iter().any(|metric| metric.key() == word)
        };
        for rule in RULES {
            for word in rule.alert.unwrap_or_default().split("sconce_gpu_").skip(1) {
                let end = word.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
                let word = word.get(..end.unwrap_or(word.len())).unwrap_or_default();
                assert!(known(word), "{}: {word}", rule.id);
            }
        }
        let text = alerts();
        assert_eq!(text.matches("- alert: ").count(), RULES.len() + 2);
        assert!(text.contains("expr: \"sconce_anomaly{rule=\\\"xid\\\"} == 1\""), "{text}");
    }
}
