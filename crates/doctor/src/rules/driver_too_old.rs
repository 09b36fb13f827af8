//! Driver floors, from the facts.

use super::Rule;
use crate::causes;
use crate::state::Device;
use crate::{Finding, Severity, Snapshot, Step, Subject};
use sconce_facts::DriverVersion;

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
        let finding = Finding::new(&RULE, Severity::Stops, summary);
        return vec![finding.fix(older_image(snapshot, &floor))];
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
    let finding = out_of_reach.into_iter().fold(finding, Finding::seen);
    let newest = sconce_facts::floors().iter().map(|row| &row.driver).max();
    let steps = newest.map_or_else(Vec::new, |floor| older_image(snapshot, floor));
    vec![finding.fix(steps)]
}

/// What is left where a driver new enough would no longer support a GPU of this machine; else nothing but the rule's
/// own advice.
fn older_image(snapshot: &Snapshot, floor: &DriverVersion) -> Vec<Step> {
    let devices = snapshot.devices().into_iter();
    let lost: Vec<Device<'_>> = devices.filter(|device| device.dropped_by(floor)).collect();
    if lost.is_empty() {
        return Vec::new();
    }
    let words = format!(
        "take an image with an older CUDA (`driver = \"…\"` in sconce.toml makes sconce choose it): drivers that new no longer support {}",
        causes::list(&lost)
    );
    vec![Step::container(words, &[])]
}
