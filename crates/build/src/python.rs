//! A standalone build of Python as a layer of its own, below [`PREFIX`].
//!
//! Source: python-build-standalone, "Distributions" (`install_only` archives hold one folder, `python`, with
//! `bin`, `include`, `lib` and `share`) and "Behavior Quirks" (it was built for the prefix `/install`).

use std::fs::File;
use std::io::{self, Read, Write};
use std::sync::Arc;

use sconce_blob::{Digest, Hasher};
use sconce_debian::{Compression, EntryKind, Tar, TarEntry};
use sconce_fetch::downloads::Wanted;
use sconce_fetch::pythons;
use sconce_layer::{Content, Entry, Kind, Meta};
use sconce_lock::{Base, Leads, Lock, Machine, PythonPin};
use sconce_store::Layer;

use crate::builder::{Builder, NamedLayer};
use crate::error::{Error, at};
use crate::trees::scratch;

/// Where the build lies in an image, without the leading `/`.
pub(crate) const PREFIX: &str = "opt/python";

/// The prefix that it was built for.
const BUILT_FOR: &str = "/install";

/// The memo that leads from a build to its layer.
const MEMO: &str = "python-layer";

/// The most bytes of an archive, and of all its files: the largest unpacks to some 150 MB.
const ARCHIVE_LIMIT: u64 = 1 << 30;
const UNPACKED_LIMIT: u64 = 4 << 30;
/// The most entries of an archive; there are some 5,000.
const MOST_ENTRIES: usize = 100_000;
/// The largest file whose text is changed, bytes.
const TEXT_LIMIT: u64 = 4 << 20;

/// Compilers that a build of Python names in its sysconfig, and what they are called in an image (uv,
/// `sysconfig/generated_mappings.rs`, which has them from python-build-standalone's targets).
const PROGRAMS: &[(&str, &str)] = &[
    ("clang", "cc"),
    ("clang++", "c++"),
    ("musl-clang", "cc"),
    ("/usr/bin/x86_64-linux-gnu-gcc", "cc"),
    ("/usr/bin/x86_64-linux-gnu-g++", "c++"),
    ("/usr/bin/aarch64-linux-gnu-gcc", "cc"),
    ("/usr/bin/aarch64-linux-gnu-g++", "c++"),
    ("llvm-ar", "ar"),
    ("/tools/llvm/bin/llvm-ar", "ar"),
];

/// PEP 668: packages belong into the environment, not beside the standard library.
const EXTERNALLY_MANAGED: &str = "[externally-managed]\nError=This Python is part of the image. Packages are installed into \
     /opt/venv, which comes first on PATH, or into an environment of your own:\n python -m venv DIR\n";

/// The folder of the image's own interpreter, without the leading `/`.
pub(crate) fn folder(lock: &Lock) -> &'static str {
    if lock.python.is_some() { "opt/python/bin" } else { "usr/bin" }
}

/// The image's own interpreter, without the leading `/`.
pub(crate) fn interpreter(lock: &Lock) -> String {
    format!("{}/python{}", folder(lock), lock.facts.python)
}

/// The folder of its standard library, without the leading `/`.
pub(crate) fn library(lock: &Lock) -> String {
    let prefix = if lock.python.is_some() { PREFIX } else { "usr" };
    format!("{prefix}/lib/python{}", lock.facts.python)
}

impl Builder<'_> {
    /// The layer of a lock's standalone Python, if it was made before.
    pub(crate) fn remembered_python(&self, lock: &Lock) -> Result<Option<Layer>, Error> {
        match &lock.python {
            Some(pin) => self.remembered(MEMO, key(pin, &lock.facts.python)),
            None => Ok(None),
        }
    }

    /// The layer of a standalone build of Python; with its tree if one is wanted.
    pub(crate) fn python_layer(
        &self,
        pin: &PythonPin,
        python: &str,
        tree: bool,
    ) -> Result<NamedLayer, Error> {
        let name = format!("python {}", pin.version);
        let key = key(pin, python);
        if let Some(layer) = self.remembered(MEMO, key)? {
            if tree && self.store.tree(layer.diff_id)?.is_none() {
                self.store.extract(layer.diff_id, &|_| ())?;
            }
            return Ok(NamedLayer { name, layer });
        }
        let path = self.store.blob_path(pin.sha256)?;
        let path = path.ok_or(sconce_store::Error::MissingBlob(pin.sha256))?;
        let archive = File::open(&path).map_err(at("open", &path))?;
        let scratch = scratch(self.store, "python")?;
        let content = tempfile::tempfile_in(&scratch).map_err(at("write", &scratch))?;
        let entries = read(archive, python, content)
            .map_err(|why| Error::Python { file: pin.file.clone(), why: why.0 })?;
        let layer = self.plain_layer(&name, entries, tree)?;
        self.remember(MEMO, key, &layer.layer)?;
        Ok(layer)
    }

    /// The build of Python for a base and a processor: of the list that uv is set to, else of the facts.
    pub(crate) fn standalone(&self, base: &Base, machine: Machine) -> Result<PythonPin, Error> {
        let setting =
            pythons::setting(&|name| std::env::var_os(name), self.project.map(Leads::folder))?;
        match setting.list {
            Some(list) => Ok(pythons::listed(self.client, &list, base, machine)?),
            None => PythonPin::known(base, machine).ok_or_else(|| Error::Python {
                file: format!("Debian {}", base.release),
                why: format!("there is no standalone build of Python {}", base.python),
            }),
        }
    }

    /// What is to be downloaded of a lock's standalone Python.
    pub(crate) fn wanted_python(&self, lock: &Lock) -> Result<Option<Wanted>, Error> {
        let Some(pin) = &lock.python else { return Ok(None) };
        if self.store.blob_path(pin.sha256)?.is_some() || self.remembered_python(lock)?.is_some() {
            return Ok(None);
        }
        self.wanted_build(pin).map(Some)
    }

    /// Where a standalone Python is.
    pub(crate) fn wanted_build(&self, pin: &PythonPin) -> Result<Wanted, Error> {
        let setting =
            pythons::setting(&|name| std::env::var_os(name), self.project.map(Leads::folder))?;
        Ok(Wanted {
            name: pin.file.clone(),
            url: setting.address(pin),
            others: Vec::new(),
            digest: pin.sha256,
            size: pin.size,
            within: None,
        })
    }
}

/// What the layer is a function of.
fn key(pin: &PythonPin, python: &str) -> Digest {
    let mut hasher = Hasher::new();
    hasher.update(b"sconce python 1\n");
    hasher.update(python.as_bytes());
    hasher.update(b"\n");
    hasher.update(pin.sha256.as_bytes());
    hasher.finish()
}

/// Why an archive is not taken.
#[derive(Debug)]
struct Fault(String);

impl<E: std::error::Error> From<E> for Fault {
    fn from(error: E) -> Self {
        Self(error.to_string())
    }
}

/// The entries of an archive's layer; `content` gets the bytes of its files. Owners, times and all permissions
/// but that of running are not the archive's to say.
fn read(archive: File, python: &str, content: File) -> Result<Vec<Entry>, Fault> {
    if archive.metadata()?.len() > ARCHIVE_LIMIT {
        return Err(Fault(format!("it has more than {ARCHIVE_LIMIT} bytes")));
    }
    let source = Arc::new(content.try_clone()?);
    let mut out = Out { file: content, len: 0 };
    let mut tar = Tar::new(Compression::Gzip.reader(io::BufReader::new(archive))?, "archive");
    let mut entries = Vec::new();
    while let Some(entry) = tar.next_entry()? {
        let Some(inside) = beneath(&entry.path)? else { continue };
        if entries.len() >= MOST_ENTRIES {
            return Err(Fault(format!("it has more than {MOST_ENTRIES} entries")));
        }
        let path = format!("{PREFIX}/{inside}");
        let meta = match entry.kind {
            EntryKind::Directory => Meta::DIRECTORY,
            EntryKind::Symlink => Meta::SYMLINK,
            _ if entry.mode & 0o111 != 0 => Meta::PROGRAM,
            _ => Meta::FILE,
        };
        let kind = match entry.kind {
            EntryKind::Directory => Kind::Directory,
            EntryKind::Symlink => Kind::Symlink { target: within(&entry, inside)? },
            EntryKind::Hardlink => match beneath(&entry.link)? {
                Some(target) => Kind::Hardlink { target: format!("{PREFIX}/{target}") },
                None => return Err(Fault(format!("{} is a link to a folder", entry.path))),
            },
            EntryKind::File if names_its_prefix(inside) && entry.size <= TEXT_LIMIT => {
                let mut text = vec![0; entry.size as usize];
                fill(&mut tar, &mut text)?;
                Kind::File(Content::bytes(moved(&text)))
            }
            EntryKind::File => {
                let offset = out.len;
                out.take(&mut tar)?;
                let source = Arc::clone(&source);
                Kind::File(Content::Range { source, offset, len: out.len - offset })
            }
        };
        entries.push(Entry { path, kind, meta });
    }
    let has = |inside: &str| {
        let path = format!("{PREFIX}/{inside}");
        entries.iter().any(|entry| entry.path == path && !matches!(entry.kind, Kind::Directory))
    };
    for needed in [format!("bin/python{python}"), format!("lib/python{python}/os.py")] {
        if !has(&needed) {
            return Err(Fault(format!("it is no Python {python}: there is no python/{needed}")));
        }
    }
    let mark = format!("lib/python{python}/EXTERNALLY-MANAGED");
    if !has(&mark) {
        let kind = Kind::File(Content::bytes(EXTERNALLY_MANAGED.as_bytes().to_vec()));
        entries.push(Entry { path: format!("{PREFIX}/{mark}"), kind, meta: Meta::FILE });
    }
    Ok(entries)
}

/// The path inside the archive's one folder; nothing for that folder itself.
fn beneath(path: &str) -> Result<Option<&str>, Fault> {
    match path.strip_prefix("python") {
        _ if path.is_empty() => Ok(None),
        Some("") => Ok(None),
        Some(rest) if rest.starts_with('/') => Ok(Some(&rest[1..])),
        _ => Err(Fault(format!("{path:?} is not in its folder `python`"))),
    }
}

/// The target of a symbolic link, which must stay in the archive's folder.
fn within(entry: &TarEntry, inside: &str) -> Result<String, Fault> {
    let mut depth = inside.matches('/').count();
    for part in entry.link.split('/') {
        let next = match part {
            "." => Some(depth),
            "" => None,
            ".." => depth.checked_sub(1),
            _ => Some(depth + 1),
        };
        let out = || Fault(format!("{} is a link out of it: {:?}", entry.path, entry.link));
        depth = next.ok_or_else(out)?;
    }
    Ok(entry.link.clone())
}

/// Files in which the prefix stands that Python was built for.
fn names_its_prefix(inside: &str) -> bool {
    let (folder, name) = inside.rsplit_once('/').unwrap_or(("", inside));
    let library = folder.strip_prefix("lib/").is_some_and(|rest| !rest.contains('/'));
    (library && name.starts_with("_sysconfigdata_") && name.ends_with(".py"))
        || (folder == "lib/pkgconfig" && name.ends_with(".pc"))
}

/// The text of such a file for [`PREFIX`], with compilers that images have. Words are what stands between
/// blanks, quotes and `=`.
fn moved(text: &[u8]) -> Vec<u8> {
    let ends = |byte: &u8| byte.is_ascii_whitespace() || b"'\"=".contains(byte);
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        let len = rest.iter().position(ends).unwrap_or(rest.len());
        let (word, after) = rest.split_at(len);
        let inner = word.strip_prefix(BUILT_FOR.as_bytes());
        let program = PROGRAMS.iter().find(|(name, _)| name.as_bytes() == word);
        match (inner, program) {
            (Some(inner), _) if inner.first().is_none_or(|byte| *byte == b'/') => {
                out.push(b'/');
                out.extend(PREFIX.as_bytes());
                out.extend(inner);
            }
            (_, Some((_, name))) => out.extend(name.as_bytes()),
            _ => out.extend(word),
        }
        let (end, after) = after.split_at(after.len().min(1));
        out.extend(end);
        rest = after;
    }
    out
}

fn fill(tar: &mut Tar<impl Read>, mut buf: &mut [u8]) -> Result<(), Fault> {
    while !buf.is_empty() {
        let n = tar.read(buf)?;
        if n == 0 {
            return Err(Fault("it is cut off".into()));
        }
        buf = &mut buf[n..];
    }
    Ok(())
}

/// The bytes of all files, one after the other.
struct Out {
    file: File,
    len: u64,
}

impl Out {
    /// Takes what the entry that the tar stands at holds.
    fn take(&mut self, tar: &mut Tar<impl Read>) -> Result<(), Fault> {
        let mut buffer = [0; 64 << 10];
        loop {
            let n = tar.read(&mut buffer)?;
            if n == 0 {
                return Ok(());
            }
            self.len += n as u64;
            if self.len > UNPACKED_LIMIT {
                return Err(Fault(format!("it unpacks to more than {UNPACKED_LIMIT} bytes")));
            }
            self.file.write_all(&buffer[..n])?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sysconfig_names_where_python_lies_in_the_image() {
        let text = b"build_time_vars = {'CC': 'clang -pthread',\n 'CXX': 'clang++ -pthread',\n 'prefix': '/install',\n \
            'LDFLAGS': '-L/install/lib /install/lib/x /installed /tools/install',\n 'AR': '/tools/llvm/bin/llvm-ar'}";
        let expected = "build_time_vars = {'CC': 'cc -pthread',\n 'CXX': 'c++ -pthread',\n 'prefix': '/opt/python',\n \
            'LDFLAGS': '-L/install/lib /opt/python/lib/x /installed /tools/install',\n 'AR': 'ar'}";
        assert_eq!(String::from_utf8(moved(text)).unwrap(), expected);
        assert_eq!(
            moved(b"prefix=/install\nexec=${prefix}"),
            b"prefix=/opt/python\nexec=${prefix}"
        );
        assert!(names_its_prefix("lib/python3.9/_sysconfigdata__linux_x86_64-linux-gnu.py"));
        assert!(names_its_prefix("lib/pkgconfig/python-3.9.pc"));
        assert!(!names_its_prefix("lib/python3.9/test/_sysconfigdata_x.py"));
    }
}
