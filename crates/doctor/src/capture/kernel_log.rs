//! The kernel's log: the driver's newest lines, and every error number in it.

use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;

use sconce_gpu::Machine;

use crate::snapshot::LogError;

/// Lines kept of the kernel's log.
const MOST_LINES: usize = 200;
/// Error lines kept, the newest.
const MOST_ERRORS: usize = 4096;
/// Bytes read of the kernel's log.
const LONGEST_LOG: usize = 8 << 20;

/// What makes a line one of the driver's, or about why it did not load. All words of a row are needed.
const OURS: &[&[&str]] = &[
    &["NVRM"],
    &["nvidia"],
    &["Xid"],
    &["fallen off the bus"],
    &["nouveau"],
    &["vfio-pci"],
    &["Lockdown:", "module"],
    &["unavailable key"],
    &["unsigned module"],
    &["BAR ", "no space"],
];

/// The log as a snapshot keeps it.
#[derive(Default)]
pub(super) struct Log {
    /// The driver's lines, newest last; absent when it could not be read.
    pub lines: Option<Vec<String>>,
    /// Every Xid and SXid.
    pub errors: Vec<LogError>,
}

/// Reads it.
pub(super) fn read(machine: &Machine) -> Log {
    let records = match machine.given() {
        Some(given) => given.kernel_log.as_deref().map(|text| text.lines().map(dated).collect()),
        None => kmsg(),
    };
    let Some(records) = records else { return Log::default() };
    let mut records: Vec<LogError> = records;
    records.retain(|record| ours(&record.line));
    let lines = records.iter().rev().take(MOST_LINES).rev();
    let lines = Some(lines.map(|record| record.line.clone()).collect());
    records.retain(|record| record.line.contains("Xid ("));
    let surplus = records.len().saturating_sub(MOST_ERRORS);
    Log { lines, errors: records.split_off(surplus) }
}

fn ours(line: &str) -> bool {
    OURS.iter().any(|words| words.iter().all(|word| line.contains(word)))
}

/// A line of dmesg(1), `[   12.345678] text`, or one without a time.
fn dated(line: &str) -> LogError {
    let dated = line.strip_prefix('[').and_then(|rest| rest.split_once("] "));
    let dated = dated.and_then(|(time, text)| {
        Some((time.trim().split('.').next()?.parse().ok()?, text.to_owned()))
    });
    match dated {
        Some((seconds, line)) => LogError { seconds: Some(seconds), line },
        None => LogError { seconds: None, line: line.to_owned() },
    }
}

/// The lines of a record: /dev/kmsg writes a line end within it as `\\x0a`.
fn lines(record: &str) -> impl Iterator<Item = &str> {
    record.split("\\x0a")
}

/// `/dev/kmsg`: one record a read, `priority,sequence,microseconds,flags;text` (the kernel's
/// Documentation/ABI/testing/dev-kmsg).
fn kmsg() -> Option<Vec<LogError>> {
    let flags = rustix::fs::OFlags::NONBLOCK.bits() as i32;
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.read(true).custom_flags(flags).open("/dev/kmsg").ok()?;
    let mut records = Vec::new();
    let mut bytes = 0;
    let mut record = vec![0u8; 8192];
    while bytes < LONGEST_LOG {
        match file.read(&mut record) {
            Ok(0) => break,
            Ok(length) => {
                bytes += length;
                let record = String::from_utf8_lossy(record.get(..length)?);
                let (head, line) = record.split_once(';').unwrap_or(("", &record));
                let text = line.lines().next().unwrap_or("");
                let seconds = head.split(',').nth(2).and_then(|time| time.parse::<u64>().ok());
                let seconds = seconds.map(|micros| micros / 1_000_000);
                let lines = lines(text).filter(|line| ours(line));
                records.extend(lines.map(|line| LogError { seconds, line: line.to_owned() }));
            }
            // EPIPE: records were overwritten while reading; the next read goes on after them.
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {}
            Err(_) => break,
        }
    }
    Some(records)
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_record_of_several_lines() {
        let record = r"NVRM: The NVIDIA GPU 0000:01:00.0 (PCI ID: 10de:1b06)\x0aNVRM: installed in this system is not supported by open\x0aNVRM: nvidia.ko";
        let lines: Vec<&str> = super::lines(record).collect();
        assert_eq!(lines.len(), 3);
        assert_eq!(lines.last(), Some(&"NVRM: nvidia.ko"));
    }
}
