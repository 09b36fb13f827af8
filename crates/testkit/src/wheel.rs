//! Small wheels, right ones and wrong ones, byte by byte.

use std::io::Write;

use base64::Engine;
use flate2::{Compression, Crc, write::DeflateEncoder};

/// One entry of a zip file (APPNOTE.TXT 4.3.7 and 4.3.12). Every field can be made to lie.
#[derive(Clone, Debug)]
pub struct ZipEntry {
    /// Name in the central directory.
    pub name: Vec<u8>,
    /// Name in the local header.
    pub local_name: Vec<u8>,
    /// Compression method: 0 stored, 8 deflate.
    pub method: u16,
    /// General purpose flags.
    pub flags: u16,
    /// CRC-32 of the content.
    pub crc: u32,
    /// The bytes that stand in the file.
    pub data: Vec<u8>,
    /// Length that is said for `data`.
    pub compressed_size: u32,
    /// Length that is said for the content.
    pub size: u32,
    /// External attributes: Unix mode in the upper half.
    pub external: u32,
    /// Offset of the local header; `None`: the true one.
    pub offset: Option<u32>,
}

impl ZipEntry {
    /// A deflated file, 0644.
    pub fn deflated(name: &str, content: &[u8]) -> Self {
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::new(6));
        encoder.write_all(content).expect("writing to memory");
        let data = encoder.finish().expect("writing to memory");
        Self { method: 8, ..Self::with(name, content, data) }
    }

    /// A stored file, 0644.
    pub fn stored(name: &str, content: &[u8]) -> Self {
        Self::with(name, content, content.to_vec())
    }

    /// The same with other permissions.
    pub fn mode(self, mode: u32) -> Self {
        Self { external: (0o100_000 | mode) << 16, ..self }
    }

    fn with(name: &str, content: &[u8], data: Vec<u8>) -> Self {
        let mut crc = Crc::new();
        crc.update(content);
        Self {
            name: name.into(),
            local_name: name.into(),
            method: 0,
            flags: 0x800,
            crc: crc.sum(),
            compressed_size: data.len() as u32,
            size: content.len() as u32,
            data,
            external: 0o100_644 << 16,
            offset: None,
        }
    }
}

/// A zip file of these entries.
pub fn zip(entries: &[ZipEntry]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut central = Vec::new();
    for entry in entries {
        let offset = entry.offset.unwrap_or(out.len() as u32);
        let mut common = Vec::new();
        common.extend(20_u16.to_le_bytes());
        common.extend(entry.flags.to_le_bytes());
        common.extend(entry.method.to_le_bytes());
        // 1 January 1980, midnight.
        common.extend([0, 0, 0x21, 0]);
        for number in [entry.crc, entry.compressed_size, entry.size] {
            common.extend(number.to_le_bytes());
        }
        out.extend(b"PK\x03\x04");
        out.extend(&common);
        out.extend((entry.local_name.len() as u16).to_le_bytes());
        out.extend(0_u16.to_le_bytes());
        out.extend(&entry.local_name);
        out.extend(&entry.data);
        // Made by version 2.0 on Unix, which is what makes the mode count.
        central.extend(b"PK\x01\x02\x14\x03");
        central.extend(&common);
        central.extend((entry.name.len() as u16).to_le_bytes());
        central.extend([0; 8]);
        central.extend(entry.external.to_le_bytes());
        central.extend(offset.to_le_bytes());
        central.extend(&entry.name);
    }
    let (start, count) = (out.len() as u32, entries.len() as u16);
    out.extend(&central);
    out.extend(b"PK\x05\x06\0\0\0\0");
    out.extend(count.to_le_bytes());
    out.extend(count.to_le_bytes());
    out.extend((central.len() as u32).to_le_bytes());
    out.extend(start.to_le_bytes());
    out.extend([0, 0]);
    out
}

/// A wheel that is being put together.
#[derive(Clone, Debug)]
pub struct Wheel {
    name: String,
    version: String,
    tag: String,
    metadata: String,
    entry_points: Option<String>,
    entries: Vec<ZipEntry>,
    record: Vec<String>,
}

impl Wheel {
    /// An empty wheel for `py3-none-any`.
    pub fn new(name: &str, version: &str) -> Self {
        Self {
            name: name.to_owned(),
            version: version.to_owned(),
            tag: "py3-none-any".to_owned(),
            metadata: String::new(),
            entry_points: None,
            entries: Vec::new(),
            record: Vec::new(),
        }
    }

    /// Another compatibility tag, such as `cp313-cp313-manylinux_2_28_x86_64`.
    pub fn tag(mut self, tag: &str) -> Self {
        self.tag = tag.to_owned();
        self
    }

    /// A line of METADATA, such as `Requires-Dist: numpy`.
    pub fn metadata(mut self, line: &str) -> Self {
        self.metadata.push_str(&format!("{line}\n"));
        self
    }

    /// The content of entry_points.txt.
    pub fn entry_points(mut self, text: &str) -> Self {
        self.entry_points = Some(text.to_owned());
        self
    }

    /// A file, deflated, 0644.
    pub fn file(self, path: &str, content: &[u8]) -> Self {
        self.entry(ZipEntry::deflated(path, content), content)
    }

    /// A file that may be executed.
    pub fn program(self, path: &str, content: &[u8]) -> Self {
        self.entry(ZipEntry::deflated(path, content).mode(0o755), content)
    }

    /// An entry as it is, with the line of RECORD for this content.
    pub fn entry(mut self, entry: ZipEntry, content: &[u8]) -> Self {
        let path = String::from_utf8_lossy(&entry.name).into_owned();
        self.record.push(record_line(&path, content));
        self.entries.push(entry);
        self
    }

    /// An entry that RECORD doesn't know.
    pub fn unrecorded(mut self, entry: ZipEntry) -> Self {
        self.entries.push(entry);
        self
    }

    /// A line of RECORD without a file.
    pub fn record_line(mut self, line: &str) -> Self {
        self.record.push(line.to_owned());
        self
    }

    /// `NAME-VERSION-TAG.whl`.
    pub fn file_name(&self) -> String {
        let name = self.name.replace('-', "_");
        format!("{name}-{}-{}.whl", self.version, self.tag)
    }

    /// The project's name as it was given.
    pub fn project(&self) -> &str {
        &self.name
    }

    /// METADATA (core metadata 2.1).
    pub fn metadata_text(&self) -> String {
        let Self { name, version, metadata, .. } = self;
        format!("Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{metadata}")
    }

    /// The wheel's bytes.
    pub fn build(&self) -> Vec<u8> {
        let info = format!("{}-{}.dist-info", self.name.replace('-', "_"), self.version);
        let wheel = format!(
            "Wheel-Version: 1.0\nGenerator: testkit\nRoot-Is-Purelib: true\nTag: {}\n",
            self.tag
        );
        let mut all = self.clone();
        let mut generated = vec![("METADATA", self.metadata_text()), ("WHEEL", wheel)];
        generated.extend(self.entry_points.clone().map(|text| ("entry_points.txt", text)));
        for (file, text) in generated {
            all = all.file(&format!("{info}/{file}"), text.as_bytes());
        }
        let record = format!("{info}/RECORD");
        all.record.push(format!("{record},,"));
        let text = all.record.join("\n") + "\n";
        all.entries.push(ZipEntry::deflated(&record, text.as_bytes()));
        zip(&all.entries)
    }
}

/// A line of RECORD (binary distribution format, "The .dist-info directory").
fn record_line(path: &str, content: &[u8]) -> String {
    let digest = sconce_blob::Digest::of(content);
    let coded = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(digest.as_bytes());
    format!("{path},sha256={coded},{}", content.len())
}
