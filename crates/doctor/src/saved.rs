//! A snapshot as a file: JSON, private text cut; versions of the format.

use std::borrow::Cow;
use std::fs;
use std::path::Path;

use sconce_facts::DriverVersion;
use serde::Deserialize;

use crate::Error;
use crate::log;
use crate::snapshot::{SCHEMA, Snapshot};

/// Bytes of a snapshot file.
pub(crate) const LONGEST: u64 = 4 << 20;

impl Snapshot {
    /// As JSON, private text cut.
    pub fn json(&self) -> String {
        let mut redacted = self.clone();
        let driver = &mut redacted.driver;
        let variables = redacted.environment.values_mut();
        let errors = redacted.errors.iter_mut().map(|error| &mut error.line);
        let lines = redacted.kernel_log.iter_mut().flatten().chain(errors);
        let documents = redacted.cdi.iter_mut();
        let said = documents.flat_map(|cdi| cdi.stale.iter_mut().chain(&mut cdi.problem));
        let options = driver.excluding.iter_mut();
        let texts = variables.chain(lines).chain(said).chain(options);
        let texts = texts.chain(&mut driver.nvml_silence);
        texts.for_each(|text| *text = redact(text));
        let paths = driver.folder.iter_mut().chain(&mut redacted.compat_libcuda);
        paths.for_each(|path| *path = redact(&path.to_string_lossy()).into());
        // Serialising plain data has no way to fail.
        let value = serde_json::to_value(&redacted).unwrap_or_default();
        format!("{value:#}\n")
    }

    /// Saves it, private text cut.
    pub fn save(&self, path: &Path) -> Result<(), Error> {
        fs::write(path, self.json()).map_err(|source| Error::Write { path: path.into(), source })
    }

    /// Reads a saved one.
    pub fn load(path: &Path) -> Result<Self, Error> {
        let read = |source| Error::Read { path: path.into(), source };
        let damaged = |reason: String| Error::Damaged { path: path.into(), reason };
        let length = fs::metadata(path).map_err(read)?.len();
        if length > LONGEST {
            return Err(damaged(format!("it has {length} bytes, more than {LONGEST}")));
        }
        let text = sconce_open::read_argument(path, LONGEST).map_err(read)?;
        Self::parse(&text, path)
    }

    /// Reads the text of a saved one; `path` is what an error calls it.
    pub fn parse(text: &str, path: &Path) -> Result<Self, Error> {
        let damaged = |reason: String| Error::Damaged { path: path.into(), reason };
        // Editors of Windows put a mark of the byte order before text.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        #[derive(Deserialize)]
        struct Schema {
            schema: u32,
        }
        let schema = sconce_open::json::<Schema>(text.as_bytes());
        let schema = schema.map_err(|error| damaged(error.to_string()))?;
        if schema.schema > SCHEMA {
            return Err(Error::Newer { path: path.into(), schema: schema.schema, newest: SCHEMA });
        }
        if schema.schema == 0 {
            return Err(damaged(format!("no sconce writes schema 0: 1 to {SCHEMA} are read")));
        }
        let snapshot: Self =
            sconce_open::json(text.as_bytes()).map_err(|error| damaged(error.to_string()))?;
        let odd = snapshot.in_commands().find(|name| !is_plain(name)).map(Cow::into_owned);
        if let Some(name) = odd {
            return Err(damaged(format!("`{}` is not a name of a machine", name.escape_debug())));
        }
        if let Some(version) = snapshot.odd_version() {
            return Err(damaged(format!(
                "`{version}` is not a driver's version, as 580.159.04 is"
            )));
        }
        if let Some(line) = snapshot.log_lines().find(|line| log::is_beyond(line)) {
            let line = line.escape_debug();
            return Err(damaged(format!("`{line}` is not of the driver: an Xid has 32 bits")));
        }
        let pci = snapshot.pci.iter().map(|pci| &pci.bus_id);
        let mut buses = pci.chain(snapshot.gpus.iter().map(|gpu| &gpu.bus_id));
        match buses.find(|bus| !is_bus(bus)) {
            Some(bus) => {
                Err(damaged(format!("`{bus}` is not an address on PCI's bus, as 0000:18:00.0 is")))
            }
            None => Ok(snapshot),
        }
    }

    /// A version of the driver's that is none: what it can't be compared with would pass for new enough.
    fn odd_version(&self) -> Option<&str> {
        let versions = [&self.driver.module, &self.driver.libraries].into_iter().flatten();
        let mut versions = versions.map(String::as_str);
        versions.find(|version| version.parse::<DriverVersion>().is_err())
    }

    fn log_lines(&self) -> impl Iterator<Item = &str> {
        let lines = self.kernel_log.iter().flatten().map(String::as_str);
        lines.chain(self.errors.iter().map(|error| error.line.as_str()))
    }

    /// Names that fixes put into their commands.
    fn in_commands(&self) -> impl Iterator<Item = Cow<'_, str>> {
        let driver = [&self.kernel, &self.driver.module, &self.driver.libraries];
        let driver = driver.into_iter().flatten();
        let pci = self.pci.iter().flat_map(|pci| [Some(&pci.bus_id), pci.driver.as_ref()]);
        let gpus = self.gpus.iter().map(|gpu| &gpu.bus_id);
        let names = driver.chain(pci.flatten()).chain(gpus).chain(&self.modules);
        let names =
            names.chain(self.acs_bridges.iter().flatten()).map(|name| Cow::from(name.as_str()));
        let nodes = self.nodes.iter().map(|node| &node.path);
        let paths = nodes.chain(self.cdi.iter().map(|cdi| &cdi.path));
        names.chain(paths.map(|path| path.to_string_lossy()))
    }
}

/// Whether a shell takes a name as it stands.
fn is_plain(name: &str) -> bool {
    !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/._+~:@%-".contains(&byte))
}

/// Whether this is `domain:bus:device.function`, in hexadecimal digits.
fn is_bus(text: &str) -> bool {
    let hex = |text: &str, most: usize| {
        (1..=most).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    let mut parts = text.splitn(3, ':');
    let (Some(domain), Some(bus), Some(device)) = (parts.next(), parts.next(), parts.next()) else {
        return false;
    };
    let (device, function) = device.split_once('.').unwrap_or((device, "0"));
    hex(domain, 8) && hex(bus, 2) && hex(device, 2) && hex(function, 1)
}

/// What stands before a private word, and which bytes end that word. Processes and serial numbers
/// stand in the driver's log lines, UUIDs there and in variables.
const PRIVATE: &[(&str, &str)] = &[
    ("/home/", "/:, ')"),
    ("name=", ",)"),
    ("pid=", ", )"),
    ("GPU-", ", ):/"),
    ("MIG-", ", )"),
    ("Serial Number: ", ","),
    ("Serial Number:", ","),
    ("serial number is ", " ,"),
];

/// Cuts what names a person, a process or a card, and who built a module on which machine
/// (`(user@host)`).
fn redact(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    let first = |rest: &str| {
        let found = PRIVATE.iter().filter_map(|row| Some((rest.find(row.0)?, row)));
        found.min_by_key(|(at, (word, _))| (*at, std::cmp::Reverse(word.len())))
    };
    while let Some((start, (word, ends))) = first(rest) {
        let after = start + word.len();
        out += rest.get(..after).unwrap_or("");
        out.push('…');
        rest = rest.get(after..).unwrap_or("");
        let end = rest.find(|char| ends.contains(char)).unwrap_or(rest.len());
        rest = rest.get(end..).unwrap_or("");
    }
    out += rest;
    let words = out.split(' ').map(|word| match word.starts_with('(') && word.contains('@') {
        true => "…",
        false => word,
    });
    words.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::{Snapshot, redact};

    /// Whoever pastes a fix into a root shell runs what stands in it.
    #[test]
    fn a_name_that_is_a_command_is_refused() {
        let text = include_str!("../tests/snapshots/cases/not-built-and-another-refused.json");
        let load = |text: &str| Snapshot::parse(text, "x".as_ref());
        assert!(load(text).is_ok());
        for (name, bad) in [
            ("6.8.0-60-generic", "6.8; reboot"),
            ("0000:18:00.0", "0000:18:00.0'; reboot #"),
            ("580.159.04", "$(reboot)"),
            ("580.159.04", ""),
        ] {
            let error = load(&text.replace(name, bad)).unwrap_err().to_string();
            assert!(error.contains("is not a name of a machine"), "{error}");
        }
        let error = load(&text.replace("0000:18:00.0", "zz")).unwrap_err().to_string();
        assert!(error.contains("`zz` is not an address on PCI's bus"), "{error}");
    }

    #[test]
    fn odd_snapshots_are_damaged() {
        let text = include_str!("../tests/snapshots/cases/not-built-and-another-refused.json");
        let load = |text: &str| Snapshot::parse(text, "x".as_ref());
        let schema = format!("\"schema\": {}", load(text).unwrap().schema);
        let xid = "\"kernel_log\": [\"NVRM: Xid (PCI:0000:18:00): 4294967296, GPU\",";
        for (from, to, says) in [
            (schema.as_str(), "\"schema\": 0", "no sconce writes schema 0: 1 to 2 are read"),
            ("580.159.04", "foo", "`foo` is not a driver's version, as 580.159.04 is"),
            ("\"kernel_log\": [", xid, "an Xid has 32 bits"),
        ] {
            assert!(text.contains(from), "{from}");
            let error = load(&text.replace(from, to)).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
        let most = xid.replace("4294967296", "4294967295");
        assert!(load(&text.replace("\"kernel_log\": [", &most)).is_ok());
    }

    #[test]
    fn an_array_is_no_machine() {
        let text = include_str!("../tests/snapshots/cases/not-built-and-another-refused.json");
        let start = text.find("\"driver\": {").unwrap();
        let end = start + text[start..].find('}').unwrap() + 1;
        let nested = format!(
            "{}\"driver\": [null, null, null, null, false, null, null, null, null, []]{}",
            &text[..start],
            &text[end..]
        );
        for bad in ["[2]", nested.as_str()] {
            let error = Snapshot::parse(bad, "x".as_ref()).unwrap_err().to_string();
            assert!(error.contains("expected an object") || error.contains("elements"), "{error}");
        }
    }

    #[test]
    fn names_are_cut() {
        for (text, cut) in [
            ("/home/ada/lib:/opt:/home/bob", "/home/…/lib:/opt:/home/…"),
            (
                "NVRM: Xid (PCI:0000:04:00): 31, pid=4711, name=secret model, Ch 8",
                "NVRM: Xid (PCI:0000:04:00): 31, pid=…, name=…, Ch 8",
            ),
            (
                "NVRM: GPU at PCI:0000:04:00: GPU-24b5e5dc-83d9-2bf3-da09-4969bbcbf529",
                "NVRM: GPU at PCI:0000:04:00: GPU-…",
            ),
            ("NVRM: GPU Board Serial Number: 1652923004711", "NVRM: GPU Board Serial Number: …"),
            ("/data/a@b/cuda", "/data/a@b/cuda"),
            ("GPU-1d5a,MIG-77,0", "GPU-…,MIG-…,0"),
            ("x86_64  580.1  Release Build  (ada@desk)  ", "x86_64  580.1  Release Build  …  "),
        ] {
            assert_eq!(redact(text), cut);
        }
    }
}
