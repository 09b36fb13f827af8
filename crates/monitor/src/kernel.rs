//! The kernel's log as it grows: the driver's error lines.

use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::sample::{Event, EventKind};

/// The most records that are read at once.
const MOST: usize = 4096;
/// Characters kept of a line.
const LONGEST: usize = 400;

/// The log, from now on.
pub struct KernelLog {
    file: File,
}

impl KernelLog {
    /// Opens `/dev/kmsg` at its end.
    ///
    /// # Errors
    /// It can't be read: where `kernel.dmesg_restrict` is set that takes CAP_SYSLOG.
    pub fn open(path: &Path) -> std::io::Result<Self> {
        let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
        let mut file = File::options().read(true).custom_flags(flags).open(path)?;
        file.seek(SeekFrom::End(0))?;
        Ok(Self { file })
    }

    /// What came since the last call.
    pub fn news(&mut self, now_ms: u64) -> Vec<Event> {
        let mut events = Vec::new();
        let mut record = [0u8; 8192];
        for _ in 0..MOST {
            match self.file.read(&mut record) {
                Ok(0) => break,
                Ok(length) => {
                    let record = String::from_utf8_lossy(record.get(..length).unwrap_or_default());
                    let text = record.split_once(';').map_or(&*record, |(_, text)| text);
                    let text = text.lines().next().unwrap_or_default();
                    // A line end within a record is written so.
                    events.extend(text.split("\\x0a").filter_map(|line| event(line, now_ms)));
                }
                // Records were overwritten before they were read.
                Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
                Err(_) => break,
            }
        }
        events
    }
}

/// An error line of the driver: `NVRM: Xid (PCI:0000:04:00): 79, pid=…`,
/// `nvidia-nvswitch3: SXid (PCI:0000:c1:00.0): 20034, Fatal, …`, `NVRM: GPU 0000:04:00.0: GPU has fallen off the bus.`.
pub fn event(line: &str, at_ms: u64) -> Option<Event> {
    let kept = || line.chars().take(LONGEST).collect::<String>();
    if let Some((before, rest)) = line.split_once("Xid (") {
        let (place, rest) = rest.split_once("): ")?;
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let code = rest.get(..digits)?.parse().ok()?;
        let kind = if before.ends_with('S') { EventKind::Sxid } else { EventKind::Xid };
        let place = place.strip_prefix("PCI:").unwrap_or(place);
        let place = place.split([' ', '.']).next().unwrap_or(place);
        return Some(Event {
            at_ms,
            kind,
            bus_id: if is_place(place) { place.to_ascii_lowercase() } else { String::new() },
            code: Some(code),
            line: kept(),
            ..Event::default()
        });
    }
    if !line.contains("fallen off the bus") {
        return None;
    }
    let place = line.split([' ', '(', ')', ',']).find_map(|word| {
        let word = word.strip_prefix("PCI:").unwrap_or(word).trim_end_matches(':');
        let word = word.split('.').next()?;
        is_place(word).then(|| word.to_ascii_lowercase())
    });
    Some(Event {
        at_ms,
        kind: EventKind::LeftTheBus,
        bus_id: place.unwrap_or_default(),
        line: kept(),
        ..Event::default()
    })
}

/// `0000:18:00`.
fn is_place(text: &str) -> bool {
    let mut parts = text.split(':');
    let mut hex = |length: std::ops::RangeInclusive<usize>| {
        parts.next().is_some_and(|part| {
            length.contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_hexdigit())
        })
    };
    hex(4..=8) && hex(2..=2) && hex(2..=2) && parts.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_driver() {
        let read = |line: &str| {
            event(line, 0).map(|event| (event.kind, event.bus_id, event.code.unwrap_or(0)))
        };
        let bus = |text: &str| text.to_owned();
        assert_eq!(
            read("NVRM: Xid (PCI:0000:33:00): 79, pid=1, GPU has fallen off the bus."),
            Some((EventKind::Xid, bus("0000:33:00"), 79))
        );
        assert_eq!(
            read("nvidia-nvswitch3: SXid (PCI:0000:c1:00.0): 20034, Fatal, Link 30"),
            Some((EventKind::Sxid, bus("0000:c1:00"), 20034))
        );
        assert_eq!(
            read("NVRM: Xid (PCI:0000:01:00 GPU-I:05): 94, pid=3"),
            Some((EventKind::Xid, bus("0000:01:00"), 94))
        );
        assert_eq!(
            read("NVRM: GPU 0000:4A:00.0: GPU has fallen off the bus."),
            Some((EventKind::LeftTheBus, bus("0000:4a:00"), 0))
        );
        assert_eq!(
            read("NVRM: The NVIDIA GPU 0000:8b:00.0 has fallen off the bus and is not responding"),
            Some((EventKind::LeftTheBus, bus("0000:8b:00"), 0))
        );
        for none in ["Xid", "Xid (", "Xid (a): ", "Xid (a): x", "Xid (a): 99999999999,", "usb 1-1"]
        {
            assert_eq!(read(none), None, "{none}");
        }
    }
}
