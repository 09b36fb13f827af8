//! Where a wheel's files go: the paths, modes and generated files of an installed wheel.
//!
//! Follows PyPA's "Binary distribution format" and, where that is silent, pip: see each rule.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::Error;
use crate::content::Inflater;
use crate::entry::{Meta, check_path};
use crate::metadata::MetadataFault;
use crate::record::{self, RecordHash, cut};
use crate::wheel::{MAX_TEXT, Wheel, WheelBlob};
use crate::zip::ZipEntry;

/// The virtual environment that wheels are installed into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Venv {
    prefix: String,
    python: String,
}

impl Venv {
    /// At an absolute path such as `/opt/venv`, for a Python such as `3.13`.
    pub fn new(prefix: &str, python: &str) -> Result<Self, Error> {
        let bad = |path: &str, fault| Error::Path { path: cut(path), fault };
        let relative = prefix.strip_prefix('/').unwrap_or("");
        check_path(relative).map_err(|fault| bad(prefix, fault))?;
        check_path(python).map_err(|fault| bad(python, fault))?;
        Ok(Self { prefix: relative.to_owned(), python: python.to_owned() })
    }

    /// `opt/venv`, as paths in layers are written.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// `opt/venv/bin`.
    pub fn bin(&self) -> String {
        format!("{}/bin", self.prefix)
    }

    /// `opt/venv/lib/python3.13/site-packages`, as paths in layers are written.
    pub fn site_packages(&self) -> String {
        format!("{}/lib/python{}/site-packages", self.prefix, self.python)
    }

    /// `/opt/venv/bin/python`, as it stands in scripts.
    pub fn interpreter(&self) -> String {
        format!("/{}/bin/python", self.prefix)
    }

    /// What makes the environment and must not come from a wheel.
    fn reserves(&self, path: &str) -> bool {
        let inside = path.strip_prefix(&self.prefix).and_then(|rest| rest.strip_prefix('/'));
        let versioned = format!("bin/python{}", self.python);
        let reserved = ["pyvenv.cfg", "lib64", "bin/python", "bin/python3", versioned.as_str()];
        // Nor may it be a folder in which something lies.
        inside.is_some_and(|inside| {
            let below = |name: &str| inside.strip_prefix(name).is_some_and(|r| r.starts_with('/'));
            reserved.iter().any(|name| inside == *name || below(name))
        })
    }

    /// A path as messages have it: below site-packages, or below the prefix.
    pub(crate) fn inside<'a>(&self, path: &'a str) -> &'a str {
        let site = self.site_packages();
        let inside = path.strip_prefix(&site).or_else(|| path.strip_prefix(&self.prefix));
        inside.unwrap_or(path).trim_matches('/')
    }

    /// `path` as RECORD has it: relative to site-packages.
    fn relative(&self, path: &str) -> String {
        let site = self.site_packages();
        if let Some(inside) = path.strip_prefix(&site).and_then(|rest| rest.strip_prefix('/')) {
            return inside.to_owned();
        }
        // Everything else lies elsewhere under the prefix: lib, python3.X, site-packages up.
        let inside = path.strip_prefix(&self.prefix).unwrap_or(path);
        format!("../../..{inside}")
    }
}

/// A file where it is installed.
#[derive(Clone)]
pub(crate) struct Installed {
    pub path: String,
    pub meta: Meta,
    pub size: u64,
    /// Nothing for signatures of RECORD and for RECORD itself.
    pub hash: Option<RecordHash>,
    pub source: Source,
}

/// Where an installed file's bytes are.
#[derive(Clone)]
pub(crate) enum Source {
    /// In a wheel.
    Wheel(Arc<WheelBlob>, ZipEntry),
    /// Generated.
    Bytes(Arc<[u8]>),
}

impl Installed {
    fn generated(path: String, meta: Meta, bytes: Vec<u8>) -> Self {
        let (size, hash) = (bytes.len() as u64, Some(RecordHash::of(&bytes)));
        Self { path, meta, size, hash, source: Source::Bytes(bytes.into()) }
    }
}

/// All files of the installed wheel, sorted by path, RECORD among them;
/// but for those at paths that are `lost` to another wheel.
pub(crate) fn install(
    wheel: &Wheel,
    venv: &Venv,
    lost: &BTreeSet<String>,
) -> Result<Vec<Installed>, Error> {
    let mut inflater = Inflater::new();
    let site = venv.site_packages();
    let installer = format!("{}/INSTALLER", wheel.dist_info);
    let mut files = Vec::with_capacity(wheel.files.len() + 3);
    for file in &wheel.files {
        let entry = &file.entry;
        if entry.name == installer {
            continue;
        }
        let place = place(wheel.file_name(), &wheel.dist_info, venv, &entry.name)?;
        if place.script && replaced_by_entry_point(wheel, &place.path) {
            continue;
        }
        let rewritten =
            if place.script { rewritten(wheel, venv, &mut inflater, file)? } else { None };
        let program = place.script || entry.executable;
        let meta = if program { Meta::PROGRAM } else { Meta::FILE };
        files.push(match rewritten {
            Some(bytes) => Installed::generated(place.path, meta, bytes),
            None => Installed {
                path: place.path,
                meta,
                size: entry.size,
                hash: file.hash.clone(),
                source: Source::Wheel(wheel.blob.clone(), entry.clone()),
            },
        });
    }
    for point in &wheel.entry_points {
        let path = format!("{}/{}", venv.bin(), point.name);
        let script = point.script(&venv.interpreter());
        files.push(Installed::generated(path, Meta::PROGRAM, script.into_bytes()));
    }
    files.push(Installed::generated(
        format!("{site}/{installer}"),
        Meta::FILE,
        b"sconce\n".to_vec(),
    ));
    let record = format!("{site}/{}/RECORD", wheel.dist_info);
    files.retain(|file| !lost.contains(&file.path));
    files.sort_by(|a, b| a.path.cmp(&b.path));
    let bytes = new_record(venv, &files, &record);
    files.push(Installed { hash: None, ..Installed::generated(record, Meta::FILE, bytes) });
    files.sort_by(|a, b| a.path.cmp(&b.path));

    for file in &files {
        check_path(&file.path).map_err(|fault| Error::Path { path: cut(&file.path), fault })?;
        if venv.reserves(&file.path) {
            let wheel = wheel.file_name().to_owned();
            return Err(Error::Reserved { wheel, path: cut(&file.path) });
        }
    }
    if let Some(pair) = files.windows(2).find(|pair| pair[0].path == pair[1].path) {
        let name = wheel.file_name().to_owned();
        let path = cut(&pair[0].path);
        return Err(Error::Conflict { path, first: name.clone(), second: name });
    }
    Ok(files)
}

/// RECORD of the installed files, sorted as they are, and of itself, last.
fn new_record(venv: &Venv, files: &[Installed], record: &str) -> Vec<u8> {
    let mut text = String::new();
    for file in files {
        let row = file.hash.as_ref().map(|hash| (hash, file.size));
        record::write(&mut text, &venv.relative(&file.path), row);
    }
    record::write(&mut text, &venv.relative(record), None);
    text.into_bytes()
}

pub(crate) struct Place {
    pub path: String,
    pub script: bool,
}

/// `*.data/SCHEME/` is spread over the environment, everything else goes to site-packages
/// ("Spread"). Headers go where pip puts them in a virtual environment.
pub(crate) fn place(
    file_name: &str,
    dist_info: &str,
    venv: &Venv,
    name: &str,
) -> Result<Place, Error> {
    let site = venv.site_packages();
    let data = name.split_once('/').filter(|(top, _)| top.ends_with(".data"));
    let Some((top, rest)) = data else {
        return Ok(Place { path: format!("{site}/{name}"), script: false });
    };
    let (scheme, rest) = rest.split_once('/').unwrap_or((rest, ""));
    let prefix = &venv.prefix;
    let folder = match scheme {
        "purelib" | "platlib" => site,
        "scripts" => venv.bin(),
        "data" => prefix.clone(),
        "headers" => {
            let project = dist_info.split('-').next().unwrap_or_default();
            format!("{prefix}/include/site/python{}/{project}", venv.python)
        }
        _ => String::new(),
    };
    if folder.is_empty() || rest.is_empty() {
        return Err(Error::Metadata {
            wheel: file_name.to_owned(),
            file: cut(name),
            fault: MetadataFault::Scheme(cut(&format!("{top}/{scheme}"))),
        });
    }
    Ok(Place { path: format!("{folder}/{rest}"), script: scheme == "scripts" })
}

/// pip leaves out scripts that are wrappers of an entry point, as old setuptools wrote them.
fn replaced_by_entry_point(wheel: &Wheel, path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    let plain = ["-script.py", ".exe", ".pya"]
        .iter()
        .find_map(|suffix| name.strip_suffix(suffix))
        .unwrap_or(name);
    wheel.entry_points.iter().any(|point| point.name == plain)
}

/// The script with its first line replaced, if that begins with exactly `#!python`
/// ("Recommended installer features"; the whole line goes, as in pip).
fn rewritten(
    wheel: &Wheel,
    venv: &Venv,
    inflater: &mut Inflater,
    file: &crate::wheel::WheelFile,
) -> Result<Option<Vec<u8>>, Error> {
    const MARK: &[u8] = b"#!python";
    let entry = &file.entry;
    let content = |fault| Error::Content {
        wheel: wheel.file_name().to_owned(),
        entry: cut(&entry.name),
        offset: entry.data,
        fault,
    };
    let mut start = [0; MARK.len()];
    let n = inflater.open(&*wheel.blob.source, entry).fill(&mut start).map_err(content)?;
    if &start[..n] != MARK {
        return Ok(None);
    }
    let bytes = wheel.blob.whole(inflater, entry, MAX_TEXT)?;
    check_hash(wheel.file_name(), file, &bytes)?;
    let rest = match bytes.iter().position(|&byte| byte == b'\n') {
        Some(end) => &bytes[end + 1..],
        None => &[],
    };
    Ok(Some([b"#!", venv.interpreter().as_bytes(), b"\n", rest].concat()))
}

/// A file that does not reach the layer as it is must still be what RECORD says.
fn check_hash(wheel: &str, file: &crate::wheel::WheelFile, bytes: &[u8]) -> Result<(), Error> {
    let Some(listed) = &file.hash else { return Ok(()) };
    let mut hasher = listed.hasher();
    hasher.update(bytes);
    let real = hasher.finish();
    if real == *listed {
        return Ok(());
    }
    Err(Error::Hash {
        wheel: wheel.to_owned(),
        entry: cut(&file.entry.name),
        real: real.to_string(),
        listed: listed.to_string(),
    })
}
