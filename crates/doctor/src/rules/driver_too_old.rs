//! Driver floors, from the facts.

use super::Rule;
use crate::{Finding, Severity, Snapshot, Subject};

/// The rule.
pub const RULE: Rule = Rule {
    id: "driver-too-old",
    title: "The driver is older than the CUDA of the image needs",
    why: "Each CUDA major starts on no driver below its floor (`CUDA driver version is insufficient`, error 35); a newer driver runs any older CUDA",
    fix: "install a newer driver, or take an image with an older CUDA: `driver = \"…\"` in sconce.toml makes sconce choose it",
    references: &["lllyasviel/Fooocus#1313"],
    check,
};

fn check(snapshot: &Snapshot, subject: Option<&Subject>) -> Vec<Finding> {
    let Some(driver) = snapshot.driver_version() else { return Vec::new() };
    if let Some(subject) = subject {
        let own = subject.driver_floor.as_deref().and_then(|text| text.parse().ok());
        let of_cuda =
            subject.cuda_major.and_then(sconce_facts::floor).map(|row| row.driver.clone());
        let Some(floor) = own.into_iter().chain(of_cuda).max() else { return Vec::new() };
        if driver >= floor {
            return Vec::new();
        }
        let cuda = subject.cuda_major.map_or_else(String::new, |major| format!(" (CUDA {major})"));
        let summary = format!("{}{cuda} needs driver {floor}, this one is {driver}", subject.name);
        return vec![Finding::new(&RULE, Severity::Stops, summary)];
    }
    // Without an image in view: which CUDA this driver can't start.
    let out_of_reach: Vec<String> = sconce_facts::floors()
        .iter()
        .filter(|row| driver < row.driver)
        .map(|row| format!("CUDA {} starts at driver {}", row.major, row.driver))
        .collect();
    if out_of_reach.is_empty() {
        return Vec::new();
    }
    let summary = format!("the driver {driver} is too old for the newest CUDA");
    let finding = Finding::new(&RULE, Severity::Notes, summary);
    vec![out_of_reach.into_iter().fold(finding, Finding::seen)]
}
