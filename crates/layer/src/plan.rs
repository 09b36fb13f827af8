//! Which wheel goes into which layer, and what every byte of those layers will be.
//!
//! A plan is all of a layer but its digests: the tar's entries in order and the gzip blob as an
//! [`Assembly`] of literals and pieces of wheels. See docs/format/wheel-layer.md.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use sconce_blob::{Assembly, Digest, Hasher, Segment};

use crate::Error;
use crate::entry::Meta;
use crate::gzip::{self, Piece};
use crate::install::{Installed, Source, Venv, install};
use crate::overlap::{Clash, Found, Owner, overlaps};
use crate::record::{RecordHash, cut};
use crate::tar::{self, Type};
use crate::wheel::{Wheel, WheelBlob};
use crate::zip::Method;

/// A wheel of this many bytes or more has a layer of its own.
pub const OWN_LAYER: u64 = 1 << 20;
/// While more wheels than this would have one, the bound doubles: engines stop at 125 layers, and each of
/// these may have one of bytecode beside it.
pub const MAX_OWN_LAYERS: usize = 48;

/// So many layers share the wheels that have none of their own: one more wheel changes a part of them only.
pub const SHARED_LAYERS: u8 = 4;
/// As many small wheels as this are in one layer.
pub const FEW_WHEELS: usize = 8;

/// The layers of an environment.
#[derive(Default)]
pub struct Planned {
    /// In the order of the image.
    pub layers: Vec<LayerPlan>,
    /// Files that two wheels put in one place by mistake.
    pub strays: Vec<Stray>,
}

/// A file with two contents that nothing is likely to read, such as a LICENSE at the top of
/// site-packages: an image has one of the two.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stray {
    /// One of them, below site-packages.
    pub path: String,
    /// How many more the two wheels have.
    pub more: usize,
    /// The file name of a wheel.
    pub first: String,
    /// And of another.
    pub second: String,
}

/// A layer of wheels, ready to be assembled.
pub struct LayerPlan {
    name: String,
    wheels: Vec<Digest>,
    assembly: Assembly,
    unpacked: u64,
    pub(crate) nodes: Vec<Node>,
}

/// One entry of the tar.
pub(crate) struct Node {
    pub path: String,
    pub meta: Meta,
    /// Nothing for a directory.
    pub file: Option<File>,
}

pub(crate) struct File {
    pub size: u64,
    pub hash: Option<RecordHash>,
    pub source: Source,
}

/// What comes next in the tar.
pub(crate) enum Step<'a> {
    /// This entry begins.
    Entry(&'a Node),
    /// Padding and headers: one gzip member of stored blocks.
    Frame(&'a [u8]),
    /// The bytes of a file that is not empty: one gzip member.
    Content(&'a Node, &'a File),
}

impl LayerPlan {
    /// What to call the layer: `torch 2.15.0`, or `12 wheels (2 of 4)` for a shared one.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The digests of the wheels in it.
    pub fn wheels(&self) -> &[Digest] {
        &self.wheels
    }

    /// The layer's blob (tar+gzip) as literals and pieces of the wheels.
    pub fn assembly(&self) -> &Assembly {
        &self.assembly
    }

    /// How many bytes its files have, unpacked.
    pub fn unpacked(&self) -> u64 {
        self.unpacked
    }

    /// Names the layer before it is assembled: plans with the same key make the same layer. Not
    /// a digest of the layer, but one of how it is put together, so it takes milliseconds.
    pub fn key(&self) -> Digest {
        let mut hasher = Hasher::new();
        hasher.update(b"sconce wheel layer 1\n");
        for segment in &self.assembly.segments {
            match segment {
                Segment::Literal { len } => {
                    hasher.update(&[0]);
                    hasher.update(&len.to_le_bytes());
                }
                Segment::Blob { digest, offset, len } => {
                    hasher.update(&[1]);
                    hasher.update(digest.as_bytes());
                    hasher.update(&offset.to_le_bytes());
                    hasher.update(&len.to_le_bytes());
                }
            }
        }
        hasher.update(&self.assembly.literals);
        hasher.finish()
    }

    /// The wheels that the assembly takes pieces of.
    pub(crate) fn blobs(&self) -> HashMap<Digest, &WheelBlob> {
        let files = self.nodes.iter().filter_map(|node| node.file.as_ref());
        files
            .filter_map(|file| match &file.source {
                Source::Wheel(wheel, _) => Some((wheel.digest, &**wheel)),
                Source::Bytes(_) => None,
            })
            .collect()
    }

    /// Plans one layer from installed files, each path once, sorted by path.
    fn new(name: String, wheels: Vec<Digest>, files: Vec<Installed>) -> Self {
        let mut sorted: BTreeMap<String, (Meta, Option<File>)> = BTreeMap::new();
        for Installed { path, meta, size, hash, source } in files {
            for (end, _) in path.match_indices('/') {
                if !sorted.contains_key(&path[..end]) {
                    sorted.insert(path[..end].to_owned(), (Meta::DIRECTORY, None));
                }
            }
            sorted.insert(path, (meta, Some(File { size, hash, source })));
        }
        let nodes: Vec<Node> =
            sorted.into_iter().map(|(path, (meta, file))| Node { path, meta, file }).collect();
        let unpacked =
            nodes.iter().filter_map(|node| node.file.as_ref()).map(|file| file.size).sum();
        let mut plan = Self { name, wheels, assembly: Assembly::default(), unpacked, nodes };
        plan.assembly = plan.assemble();
        plan
    }

    /// Goes through the tar from the first byte to the last.
    pub(crate) fn walk<E>(&self, mut step: impl FnMut(Step<'_>) -> Result<(), E>) -> Result<(), E> {
        let mut frame = Vec::new();
        for node in &self.nodes {
            step(Step::Entry(node))?;
            let kind = node.file.as_ref().map_or(Type::Directory, |file| Type::File(file.size));
            tar::header(&mut frame, &node.path, kind, &node.meta);
            if let Some(file) = node.file.as_ref().filter(|file| file.size > 0) {
                step(Step::Frame(&frame))?;
                step(Step::Content(node, file))?;
                frame.clear();
                frame.resize(tar::padding(file.size), 0);
            }
        }
        frame.extend_from_slice(&tar::END);
        step(Step::Frame(&frame))
    }

    fn assemble(&self) -> Assembly {
        let mut out = Assembly::default();
        let done: Result<(), std::convert::Infallible> = self.walk(|step| {
            match step {
                Step::Entry(_) => {}
                Step::Frame(bytes) => gzip::stored(&mut out, bytes),
                Step::Content(_, File { source: Source::Bytes(bytes), .. }) => {
                    gzip::stored(&mut out, bytes);
                }
                Step::Content(_, File { source: Source::Wheel(wheel, entry), .. }) => {
                    let piece = Piece {
                        blob: wheel.digest,
                        offset: entry.data,
                        len: entry.compressed,
                        crc: entry.crc,
                        size: entry.size,
                    };
                    match entry.method {
                        Method::Deflate => gzip::deflated(&mut out, &piece),
                        Method::Stored => gzip::stored_piece(&mut out, &piece),
                    }
                }
            }
            Ok(())
        });
        match done {
            Ok(()) => out,
        }
    }
}

/// Plans the layers of an environment: one for each large wheel by name, then those that the small
/// ones share; which of them depends on the wheel's name alone. The order in which the wheels are given
/// does not matter.
///
/// Files of the same path and content may come from several wheels, and stray ones of any content. A
/// layer of its own has all files of its wheel, so that it depends on nothing but that wheel; in
/// shared layers the first wheel by name keeps the file. Of files that differ, that of the wheel that
/// `prefer` names first is installed, and no other.
pub fn plan(wheels: &[Wheel], venv: &Venv, prefer: &[String]) -> Result<Planned, Error> {
    let mut wheels: Vec<&Wheel> = wheels.iter().collect();
    wheels.sort_by_key(|wheel| (wheel.name(), wheel.file_name()));
    let all = BTreeSet::new();
    let mut installed: Vec<Vec<Installed>> =
        wheels.iter().map(|wheel| install(wheel, venv, &all)).collect::<Result<_, _>>()?;
    let Found { clashes, strays, lost } = overlaps(&owners(&wheels, &installed), venv, prefer);
    if let Some(Clash { path, first, second }) = clashes.first() {
        return Err(Error::Conflict {
            path: cut(path),
            first: wheels[*first].file_name().to_owned(),
            second: wheels[*second].file_name().to_owned(),
        });
    }
    let strays = strays_of(&strays, &wheels, venv);
    for (wheel, lost) in lost {
        installed[wheel] = install(wheels[wheel], venv, &lost)?;
    }

    let own = own_layer(&wheels.iter().map(|wheel| wheel.size()).collect::<Vec<_>>());
    let mut plans = Vec::new();
    let (large, small): (Vec<_>, Vec<_>) =
        wheels.into_iter().zip(installed).partition(|(wheel, _)| wheel.size() >= own);
    plans.extend(large.into_iter().map(|(wheel, files)| alone(wheel, files)));
    plans.extend(shared(small));
    Ok(Planned { layers: plans, strays })
}

/// From how many bytes on a wheel has a layer of its own, in a set of wheels of these sizes.
pub fn own_layer(sizes: &[u64]) -> u64 {
    let mut own = OWN_LAYER;
    while sizes.iter().filter(|&&size| size >= own).count() > MAX_OWN_LAYERS {
        own *= 2;
    }
    own
}

/// Plans the layer of a wheel that has one of its own: as [`plan`] does of every set without a preference.
pub fn plan_own(wheel: &Wheel, venv: &Venv) -> Result<LayerPlan, Error> {
    Ok(alone(wheel, install(wheel, venv, &BTreeSet::new())?))
}

fn alone(wheel: &Wheel, files: Vec<Installed>) -> LayerPlan {
    LayerPlan::new(title(wheel), vec![wheel.digest()], files)
}

/// The layers that wheels share, which come sorted by name: of equal paths the first wheel's file is there.
fn shared(wheels: Vec<(&Wheel, Vec<Installed>)>) -> Vec<LayerPlan> {
    let few = wheels.len() <= FEW_WHEELS;
    let mut groups: BTreeMap<u8, (Vec<&Wheel>, Vec<Installed>)> = BTreeMap::new();
    let mut taken = BTreeSet::new();
    for (wheel, files) in wheels {
        let group = if few { 0 } else { group_of(wheel.name()) };
        let (wheels, shared) = groups.entry(group).or_default();
        wheels.push(wheel);
        shared.extend(files.into_iter().filter(|file| taken.insert(file.path.clone())));
    }
    let plan = |(group, (wheels, files)): (u8, (Vec<&Wheel>, Vec<Installed>))| {
        let name = match &wheels[..] {
            [wheel] => title(wheel),
            wheels if few => format!("{} wheels", wheels.len()),
            wheels => format!("{} wheels ({} of {SHARED_LAYERS})", wheels.len(), group + 1),
        };
        LayerPlan::new(name, wheels.iter().map(|wheel| wheel.digest()).collect(), files)
    };
    groups.into_iter().map(plan).collect()
}

/// Which shared layer a wheel is in: by the first byte of its name's SHA-256.
fn group_of(name: &str) -> u8 {
    Digest::of(name.as_bytes()).as_bytes()[0] % SHARED_LAYERS
}

fn title(wheel: &Wheel) -> String {
    format!("{} {}", wheel.name(), wheel.version())
}

/// What is compared of the installed files.
fn owners<'a>(wheels: &[&'a Wheel], installed: &'a [Vec<Installed>]) -> Vec<Owner<'a, Installed>> {
    let files = |files: &'a [Installed]| files.iter().map(|f| (f.path.as_str(), f)).collect();
    let owner = |(wheel, list): (&&'a Wheel, &'a Vec<Installed>)| Owner {
        name: wheel.name(),
        files: files(list),
    };
    wheels.iter().zip(installed).map(owner).collect()
}

/// One stray for each pair of wheels.
fn strays_of(clashes: &[Clash], wheels: &[&Wheel], venv: &Venv) -> Vec<Stray> {
    let mut strays: BTreeMap<(usize, usize), Stray> = BTreeMap::new();
    for Clash { path, first, second } in clashes {
        let known = strays.entry((*first, *second));
        known.and_modify(|stray| stray.more += 1).or_insert_with(|| Stray {
            path: cut(venv.inside(path)),
            more: 0,
            first: wheels[*first].file_name().to_owned(),
            second: wheels[*second].file_name().to_owned(),
        });
    }
    strays.into_values().collect()
}
