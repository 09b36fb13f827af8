//! What `sconce monitor` writes beside what it serves: a textfile for node_exporter, and words on standard error.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sconce_gpu::nvml::times;
use sconce_monitor::exporter::Exporter;
use sconce_monitor::sample::Sample;
use sconce_monitor::text::Format;
use sconce_monitor::watch::{Change, Finding};

use crate::commands::paths;
use crate::error::{Failure, Kind};

/// The most characters of a finding in words.
const LONGEST_LINE: usize = 500;

/// A file to write, in a folder that no link of a container's volume leads to.
pub fn output(option: &str, given: &Path) -> Result<PathBuf, Failure> {
    let Some(name) = given.file_name() else { return Ok(given.to_owned()) };
    let folder = given.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = paths::of_option(option, folder.unwrap_or(Path::new(".")))?;
    Ok(folder.join(name))
}

/// Whole or not at all: node_exporter reads it at any time.
pub fn write_textfile(path: &Path, exporter: &Exporter) -> Result<(), Failure> {
    // Each time: a container may have come since.
    let path = &output("--textfile", path)?;
    let cannot = |error: std::io::Error| {
        Failure::new(Kind::Storage, format!("can't write {}: {error}", path.display()))
    };
    // A rename would take the place of what is none: /dev/null, a FIFO, a link to another file.
    if path.symlink_metadata().is_ok_and(|about| !about.is_file()) {
        let what = format!("--textfile: {} is not a regular file", path.display());
        return Err(Failure::new(Kind::Usage, what).hint("name a file that ends with .prom"));
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    // node_exporter reads what ends with .prom: the part does not.
    let mut part = tempfile::Builder::new()
        .prefix(".sconce-")
        .suffix(".part")
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))
        .tempfile_in(folder)
        .map_err(cannot)?;
    part.write_all(exporter.metrics(Format::Prometheus).as_bytes()).map_err(cannot)?;
    part.persist(path).map_err(|error| cannot(error.error))?;
    Ok(())
}

/// Prints what begins and what ends.
pub fn tell(quiet: bool, changes: &[Change]) {
    for change in changes.iter().filter(|_| !quiet) {
        match change {
            Change::Begins(finding) => {
                eprintln!("{}: {}", finding.severity.word(), line(finding));
                eprintln!("  hint: {}", finding.action);
            }
            Change::Ends(finding, _) => eprintln!("over: {}", line(finding)),
        }
    }
}

/// `nccl-hang on GPU 0: A rank waits …: busy 100%, …`.
pub fn line(finding: &Finding) -> String {
    let on = finding.gpu.map(|gpu| format!(" on GPU {gpu}")).unwrap_or_default();
    let text = format!("{}{on}: {}: {}", finding.rule, finding.title, finding.evidence);
    // The kernel's line may be anybody's, and of any length.
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(LONGEST_LINE).collect()
}

/// Says once each why the kubelet does not name the pods; it is asked again all the same.
pub fn tell_of_kubelet(sample: &Sample, told: &mut Vec<String>) {
    const MOST: usize = 16;
    if let Some(why) = sample.kubelet.as_ref().filter(|why| !told.contains(why))
        && told.len() < MOST
    {
        eprintln!("note: {why}; it is asked again");
        told.push(why.clone());
    }
}

/// What each call cost; the share is that of one core.
pub fn costs(lived: Duration) -> String {
    let mut out = format!(
        "{:<44} {:>7} {:>9} {:>9} {:>9} {:>7}\n",
        "call", "calls", "mean ms", "longest", "cpu ms", "core"
    );
    for (name, cost) in times::all() {
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        let each = cost.calls.max(1) as f64;
        let share = cost.processor.as_secs_f64() / lived.as_secs_f64() * 100.0;
        out += &format!(
            "{name:<44} {:>7} {:>9.3} {:>9.3} {:>9.3} {share:>6.3}%\n",
            cost.calls,
            ms(cost.took) / each,
            ms(cost.longest),
            ms(cost.processor) / each,
        );
    }
    out
}
