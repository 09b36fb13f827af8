//! Wheels made byte by byte, sound and unsound ones, and a tree in memory to unpack into.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex};

use sconce_blob::{Assembly, Digest, Segment};
use sconce_layer::{Error, Job, Layer, LayerPlan, Meta, Unpack, Venv, Wheel, assemble_all, plan};
use sha2::{Digest as _, Sha256};

/// One entry of a zip; every field can be made to lie.
#[derive(Clone)]
pub struct Member {
    pub name: Vec<u8>,
    pub content: Vec<u8>,
    pub method: u16,
    pub flags: u16,
    pub mode: u32,
    pub crc: u32,
    pub size: u64,
    /// The compressed bytes as they stand in the zip.
    pub packed: Vec<u8>,
    /// Writes the sizes after the bytes, not before them.
    pub descriptor: bool,
    /// Writes sizes and offset in zip64 fields.
    pub wide: bool,
    /// The name in the local header, if it is another one.
    pub local_name: Option<Vec<u8>>,
}

impl Member {
    pub fn deflated(name: &str, content: &[u8]) -> Self {
        // Pinned to one version: golden digests cover these bytes.
        let packed = miniz_oxide::deflate::compress_to_vec(content, 6);
        Self {
            name: name.into(),
            content: content.to_vec(),
            method: 8,
            flags: if name.is_ascii() { 0 } else { 1 << 11 },
            mode: 0o100_644,
            crc: crc32fast::hash(content),
            size: content.len() as u64,
            packed,
            descriptor: false,
            wide: false,
            local_name: None,
        }
    }

    pub fn stored(name: &str, content: &[u8]) -> Self {
        Self { method: 0, packed: content.to_vec(), ..Self::deflated(name, content) }
    }
}

/// Writes a zip: entries, directory, end record.
pub fn zip(members: &[Member]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut directory = Vec::new();
    for member in members {
        let offset = out.len() as u64;
        let flags = member.flags | if member.descriptor { 8 } else { 0 };
        let full = u64::from(u32::MAX);
        let known = |n: u64| if member.descriptor { 0 } else { n };
        let narrow = |n: u64| if member.wide { full as u32 } else { n as u32 };
        let packed = member.packed.len() as u64;
        let name = member.local_name.as_ref().unwrap_or(&member.name);
        out.extend(0x0403_4b50u32.to_le_bytes());
        out.extend([20, flags, member.method, 0, 0x21].map(u16::to_le_bytes).concat());
        out.extend((known(member.crc.into()) as u32).to_le_bytes());
        out.extend(narrow(known(packed)).to_le_bytes());
        out.extend(narrow(known(member.size)).to_le_bytes());
        let extra = |fields: &[u64]| -> Vec<u8> {
            if !member.wide {
                return Vec::new();
            }
            let mut extra = vec![1, 0, (8 * fields.len()) as u8, 0];
            extra.extend(fields.iter().flat_map(|field| field.to_le_bytes()));
            extra
        };
        let local = extra(&[known(member.size), known(packed)]);
        out.extend((name.len() as u16).to_le_bytes());
        out.extend((local.len() as u16).to_le_bytes());
        out.extend(name);
        out.extend(local);
        out.extend(&member.packed);
        if member.descriptor {
            out.extend(0x0807_4b50u32.to_le_bytes());
            out.extend(member.crc.to_le_bytes());
            out.extend((packed as u32).to_le_bytes());
            out.extend((member.size as u32).to_le_bytes());
        }
        let central = extra(&[member.size, packed, offset]);
        directory.extend(0x0201_4b50u32.to_le_bytes());
        directory.extend([0x314, 20, flags, member.method, 0, 0x21].map(u16::to_le_bytes).concat());
        directory.extend(member.crc.to_le_bytes());
        directory.extend(narrow(packed).to_le_bytes());
        directory.extend(narrow(member.size).to_le_bytes());
        directory.extend((member.name.len() as u16).to_le_bytes());
        directory.extend((central.len() as u16).to_le_bytes());
        directory.extend([0, 0, 0].map(u16::to_le_bytes).concat());
        directory.extend((member.mode << 16).to_le_bytes());
        directory.extend(narrow(offset).to_le_bytes());
        directory.extend(&member.name);
        directory.extend(central);
    }
    let start = out.len() as u32;
    out.extend(&directory);
    out.extend(0x0605_4b50u32.to_le_bytes());
    let count = members.len() as u16;
    out.extend([0, 0, count, count].map(u16::to_le_bytes).concat());
    out.extend((directory.len() as u32).to_le_bytes());
    out.extend(start.to_le_bytes());
    out.extend([0, 0]);
    out
}

/// `sha256=` in URL-safe base64, written apart from the code under test.
pub fn record_hash(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    let bits: String = digest.iter().map(|byte| format!("{byte:08b}")).collect();
    let alphabet: Vec<char> =
        ('A'..='Z').chain('a'..='z').chain('0'..='9').chain(['-', '_']).collect();
    let letters = bits.as_bytes().chunks(6).map(|six| {
        let six = format!("{:0<6}", std::str::from_utf8(six).unwrap());
        alphabet[usize::from_str_radix(&six, 2).unwrap()]
    });
    format!("sha256={}", letters.collect::<String>())
}

/// A wheel on its way to be written.
#[derive(Clone)]
pub struct Draft {
    pub name: String,
    pub members: Vec<Member>,
    /// Replaces the RECORD that would be right.
    pub record: Option<String>,
}

impl Draft {
    /// With METADATA and WHEEL and nothing else.
    pub fn new(name: &str) -> Self {
        let draft = Self { name: name.to_owned(), members: Vec::new(), record: None };
        let metadata = format!("Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n");
        draft
            .file("{}.dist-info/METADATA", metadata.as_bytes())
            .file("{}.dist-info/WHEEL", b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\n")
    }

    /// Adds a deflated file; `{}` stands for `name-1.0`.
    pub fn file(self, name: &str, content: &[u8]) -> Self {
        let name = name.replace("{}", &format!("{}-1.0", self.name));
        self.member(Member::deflated(&name, content))
    }

    pub fn member(mut self, member: Member) -> Self {
        self.members.push(member);
        self
    }

    /// The wheel's bytes, RECORD and all.
    pub fn bytes(&self) -> Vec<u8> {
        let path = format!("{}-1.0.dist-info/RECORD", self.name);
        let record = self.record.clone().unwrap_or_else(|| {
            let mut text = String::new();
            for member in self.members.iter().filter(|member| !member.name.ends_with(b"/")) {
                let name = String::from_utf8_lossy(&member.name);
                let hash = record_hash(&member.content);
                text.push_str(&format!("{name},{hash},{}\n", member.content.len()));
            }
            format!("{text}{path},,\n")
        });
        let mut members = self.members.clone();
        members.push(Member::deflated(&path, record.as_bytes()));
        zip(&members)
    }

    pub fn open(&self) -> Result<Opened, Error> {
        open(&self.name, self.bytes())
    }
}

/// A wheel and its bytes.
pub struct Opened {
    pub wheel: Wheel,
    pub bytes: Arc<Vec<u8>>,
}

pub fn open(name: &str, bytes: Vec<u8>) -> Result<Opened, Error> {
    let bytes = Arc::new(bytes);
    let file_name = format!("{name}-1.0-py3-none-any.whl");
    let wheel = Wheel::open(&file_name, Digest::of(&bytes), bytes.clone())?;
    Ok(Opened { wheel, bytes })
}

pub fn venv() -> Venv {
    Venv::new("/opt/venv", "3.13").unwrap()
}

/// The layers' blobs, written out.
pub struct Made {
    pub layers: Vec<Layer>,
    pub blobs: Vec<Vec<u8>>,
    pub names: Vec<String>,
    pub trees: Vec<Tree>,
}

/// Plans, assembles on so many threads, and writes the blobs out.
pub fn make(wheels: Vec<Opened>, threads: usize) -> Result<Made, Error> {
    make_preferring(&[], wheels, threads)
}

/// The same with packages whose files win.
pub fn make_preferring(
    prefer: &[&str],
    wheels: Vec<Opened>,
    threads: usize,
) -> Result<Made, Error> {
    let prefer: Vec<String> = prefer.iter().map(|name| (*name).to_owned()).collect();
    let (wheels, bytes): (Vec<Wheel>, Vec<Arc<Vec<u8>>>) =
        wheels.into_iter().map(|opened| (opened.wheel, opened.bytes)).unzip();
    let plans = plan(&wheels, &venv(), &prefer)?.layers;
    let trees: Vec<Tree> = plans.iter().map(|_| Tree::default()).collect();
    let jobs: Vec<Job<'_>> = plans
        .iter()
        .zip(&trees)
        .map(|(plan, tree)| Job { plan, unpack: Some(tree as &dyn Unpack) })
        .collect();
    let layers = assemble_all(&jobs, NonZeroUsize::new(threads).unwrap(), &())?;
    let blobs: Vec<Vec<u8>> = plans.iter().map(|plan| write_out(plan.assembly(), &bytes)).collect();
    for (layer, blob) in layers.iter().zip(&blobs) {
        assert_eq!(layer.digest, Digest::of(blob), "the digest is that of the blob");
        assert_eq!(layer.size, blob.len() as u64, "the size is that of the blob");
    }
    let names = plans.iter().map(|plan: &LayerPlan| plan.name().to_owned()).collect();
    Ok(Made { layers, blobs, names, trees })
}

fn write_out(assembly: &Assembly, blobs: &[Arc<Vec<u8>>]) -> Vec<u8> {
    let blobs: BTreeMap<Digest, &Arc<Vec<u8>>> =
        blobs.iter().map(|blob| (Digest::of(blob), blob)).collect();
    let mut out = Vec::new();
    let mut literals = &assembly.literals[..];
    for segment in &assembly.segments {
        match *segment {
            Segment::Literal { len } => {
                let (now, later) = literals.split_at(len as usize);
                out.extend_from_slice(now);
                literals = later;
            }
            Segment::Blob { digest, offset, len } => {
                out.extend_from_slice(&blobs[&digest][offset as usize..][..len as usize]);
            }
        }
    }
    assert!(literals.is_empty());
    out
}

/// What was unpacked: a line for each entry, and the files' bytes.
#[derive(Default)]
pub struct Tree {
    lines: Mutex<Vec<String>>,
    files: Mutex<BTreeMap<String, Vec<u8>>>,
}

impl Tree {
    /// One line an entry, as it came.
    pub fn listing(&self) -> String {
        self.lines.lock().unwrap().join("\n") + "\n"
    }

    pub fn files(&self) -> BTreeMap<String, Vec<u8>> {
        self.files.lock().unwrap().clone()
    }

    pub fn text(&self, path: &str) -> String {
        let files = self.files.lock().unwrap();
        String::from_utf8(files.get(path).unwrap_or_else(|| panic!("no {path}")).clone()).unwrap()
    }

    fn line(&self, line: String) {
        self.lines.lock().unwrap().push(line);
    }
}

impl Unpack for Tree {
    fn directory(&self, path: &str, meta: &Meta) -> io::Result<()> {
        self.line(format!("{:04o} {path}/", meta.mode));
        Ok(())
    }

    fn file(&self, path: &str, meta: &Meta, size: u64) -> io::Result<Box<dyn Write + Send + '_>> {
        self.line(format!("{:04o} {path} {size}", meta.mode));
        Ok(Box::new(Sink { tree: self, path: path.to_owned(), size, bytes: Vec::new() }))
    }

    fn symlink(&self, path: &str, target: &str, meta: &Meta) -> io::Result<()> {
        self.line(format!("{:04o} {path} -> {target}", meta.mode));
        Ok(())
    }

    fn hardlink(&self, path: &str, target: &str) -> io::Result<()> {
        assert!(self.files.lock().unwrap().contains_key(target), "{target} was not given before");
        self.line(format!("link {path} = {target}"));
        Ok(())
    }
}

struct Sink<'a> {
    tree: &'a Tree,
    path: String,
    size: u64,
    bytes: Vec<u8>,
}

impl Write for Sink<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        assert_eq!(self.bytes.len() as u64, self.size, "{}", self.path);
        let bytes = std::mem::take(&mut self.bytes);
        let before = self.tree.files.lock().unwrap().insert(self.path.clone(), bytes);
        assert!(before.is_none(), "{} came twice", self.path);
        Ok(())
    }
}
