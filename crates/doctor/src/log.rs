//! Reading the driver's lines of the kernel's log: error numbers, and the messages that name a cause.

use crate::snapshot::Snapshot;

/// An Xid or SXid line.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry<'a> {
    /// Whether an NVSwitch reports it (SXid).
    pub switch: bool,
    /// Domain, bus and device: `0000:18:00`.
    pub bus: &'a str,
    /// The number.
    pub code: u32,
    /// What follows it.
    pub rest: &'a str,
    /// The whole line.
    pub line: &'a str,
    /// When, in seconds since the machine started.
    pub seconds: Option<u64>,
}

/// All of them, oldest first. A snapshot of schema 1 has them among its lines only.
pub(crate) fn entries(snapshot: &Snapshot) -> Vec<Entry<'_>> {
    if !snapshot.errors.is_empty() {
        let errors = snapshot.errors.iter();
        return errors.filter_map(|error| entry(&error.line, error.seconds)).collect();
    }
    snapshot.kernel_log.iter().flatten().filter_map(|line| entry(line, None)).collect()
}

/// `NVRM: Xid (PCI:0000:04:00): 79, pid=…`, `nvidia-nvswitch3: SXid (PCI:0000:c1:00.0): 20034, Fatal, …`.
fn entry(line: &str, seconds: Option<u64>) -> Option<Entry<'_>> {
    let (before, rest) = line.split_once("Xid (")?;
    let (bus, rest) = rest.split_once("): ")?;
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    let (code, rest) = rest.split_at(digits);
    let bus = bus.strip_prefix("PCI:").unwrap_or(bus);
    // Of a MIG instance: `PCI:0000:01:00 GPU-I:05`.
    let bus = bus.split_once(' ').map_or(bus, |(bus, _)| bus);
    Some(Entry {
        switch: before.ends_with('S'),
        bus: bus.split_once('.').map_or(bus, |(bus, _)| bus),
        code: code.parse().ok()?,
        rest: rest.trim_start_matches([',', ' ']),
        line,
        seconds,
    })
}

/// Whether a line has the form of an error's and a number that is none: the driver's have 32 bits.
pub(crate) fn is_beyond(line: &str) -> bool {
    let number = line.split_once("Xid (").and_then(|(_, rest)| Some(rest.split_once("): ")?.1));
    let digits = number.map(|rest| &rest[..rest.bytes().take_while(u8::is_ascii_digit).count()]);
    digits.is_some_and(|digits| !digits.is_empty() && digits.parse::<u32>().is_err())
}

/// The recovery that a line of Xid 154 says the driver asks for: `0x2` and `Node Reboot Required` of
/// `GPU recovery action changed from 0x0 (None) to 0x2 (Node Reboot Required)`.
pub(crate) fn recovery<'a>(entry: &Entry<'a>) -> Option<(&'a str, &'a str)> {
    let (_, action) = entry.rest.rsplit_once(" to ")?;
    let (code, words) = action.split_once(' ')?;
    let digits = code.strip_prefix("0x").unwrap_or(code);
    let is_code = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_code.then(|| (code, words.trim_matches(['(', ')', '.'])))
}

/// Whether a line is about the device at this bus id (`0000:18:00.0`).
pub(crate) fn names(line: &str, bus_id: &str) -> bool {
    let device = bus_id.split_once('.').map_or(bus_id, |(device, _)| device);
    let mut rest = line;
    while let Some((_, after)) = rest.split_once(device) {
        // `0000:18:00` of `0000:18:001` is none.
        if !after.starts_with(|char: char| char.is_ascii_hexdigit()) {
            return true;
        }
        rest = after;
    }
    false
}

/// Lines with one of `says` about the device: the line names it, or one of the two before does, or none of them
/// names any (the driver writes some messages over several lines).
pub(crate) fn about<'a>(snapshot: &'a Snapshot, bus_id: &str, says: &[&str]) -> Vec<&'a str> {
    let lines: Vec<&str> = snapshot.kernel_log.iter().flatten().map(String::as_str).collect();
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        if !says.iter().any(|words| line.contains(words)) {
            continue;
        }
        let near = lines.get(at.saturating_sub(2)..=at).unwrap_or_default();
        let named = near.iter().rev().find(|line| any_device(line));
        if named.is_none_or(|line| names(line, bus_id)) && !found.contains(line) {
            found.push(*line);
        }
    }
    found
}

/// Whether a line names any device: `0000:18:00` somewhere.
fn any_device(line: &str) -> bool {
    let bytes = line.as_bytes();
    let shape = |window: &[u8]| {
        window.iter().enumerate().all(|(at, byte)| match at {
            4 | 7 => *byte == b':',
            _ => byte.is_ascii_hexdigit(),
        })
    };
    bytes.windows(10).any(shape)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read() {
        let line = "NVRM: Xid (PCI:0000:33:00): 79, pid=…, name=…, GPU has fallen off the bus.";
        let found = entry(line, Some(7)).unwrap();
        assert_eq!((found.switch, found.bus, found.code), (false, "0000:33:00", 79));
        let line =
            "nvidia-nvswitch3: SXid (PCI:0000:c1:00.0): 20034, Fatal, Link 30 LTSSM Fault Up";
        let found = entry(line, None).unwrap();
        assert_eq!((found.switch, found.bus, found.code), (true, "0000:c1:00", 20034));
        assert!(found.rest.starts_with("Fatal"));
        let line = "NVRM: Xid (PCI:0000:01:00 GPU-I:05): 94, pid=…, name=…, Contained: SM (0x1). RST: No, D-RST: No";
        assert_eq!(
            entry(line, None).map(|entry| (entry.bus, entry.code)),
            Some(("0000:01:00", 94))
        );
        for none in ["Xid", "Xid (", "Xid (a): ", "Xid (a): x", "Xid (a): 99999999999,"] {
            assert!(entry(none, None).is_none(), "{none}");
        }
        assert!(names("GPU 0000:18:00.0: RmInitAdapter failed!", "0000:18:00.0"));
        assert!(!names("GPU 0000:18:01.0: RmInitAdapter failed!", "0000:18:00.0"));
        assert!(any_device("NVRM: The NVIDIA GPU 0000:18:00.0 (PCI ID: 10de:2b85)"));
        assert!(!any_device("NVRM: RmInitAdapter: Cannot initialize GSP firmware RM"));
    }
}
