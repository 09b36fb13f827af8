//! `/etc/ld.so.cache`: which library is where, as the dynamic linker reads it.
//!
//! What `ldconfig` writes in its current format, `glibc-ld.so.cache1.1`. Source: glibc 2.36 and
//! 2.41, `sysdeps/generic/dl-cache.h` (the structures), `elf/cache.c` (the order),
//! `elf/dl-cache.c` (`_dl_cache_libcmp`), `elf/ldconfig.c` (which files count); System V ABI,
//! "Dynamic Section" (the SONAME).

use std::cmp::Ordering;
use std::collections::BTreeMap;

use sconce_layer::{Content, Kind, Meta};

use super::tree::{Tree, read_at};
use crate::{Arch, Error};

const MAGIC: &[u8; 20] = b"glibc-ld.so.cache1.1";
const HEADER: usize = 48;
const ENTRY: usize = 24;
/// `cache_file_new.flags`: little-endian.
const LITTLE_ENDIAN: u8 = 2;
const MAX_CONF: u64 = 1 << 20;
/// The most lines of ld.so.conf and the files it includes.
const MAX_CONF_LINES: usize = 10_000;
/// The largest dynamic section and the longest SONAME looked at, bytes.
const MAX_DYNAMIC: u64 = 1 << 20;
const MAX_SONAME: u64 = 256;

/// `FLAG_ELF_LIBC6` with the architecture's required flag, and ELF's number of the machine.
fn flags_and_machine(arch: Arch) -> (i32, u16) {
    match arch {
        Arch::Amd64 => (0x0303, 62),
        Arch::Arm64 => (0x0a03, 183),
    }
}

/// A line of the cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Library {
    /// What a program asks for, such as `libz.so.1`.
    pub name: String,
    /// Where it is, absolute.
    pub path: String,
}

/// Adds the cache, and links by SONAME that a package didn't ship itself.
pub(super) fn add(tree: &mut Tree, arch: Arch) -> Result<(), Error> {
    if tree.get("etc/ld.so.conf").is_none() {
        return Ok(());
    }
    let mut libraries = Vec::new();
    let mut links = Vec::new();
    let mut seen = Vec::new();
    for folder in folders(tree, arch)? {
        let Some(real) = tree.follow(folder.trim_start_matches('/')) else { continue };
        if !tree.is_directory(&real) || seen.contains(&real) {
            continue;
        }
        for (name, found) in scan(tree, &real, arch) {
            let file = if found.is_link { &found.file } else { &name };
            libraries.push(Library { path: format!("{folder}/{file}"), name: name.clone() });
            let path = format!("{real}/{name}");
            if !found.is_link && name != found.file && tree.get(&path).is_none() {
                links.push((path, found.file));
            }
        }
        seen.push(real);
    }
    for (path, target) in links {
        tree.add(&path, Kind::Symlink { target }, Meta::SYMLINK)?;
    }
    let cache = Content::bytes(write(libraries, arch));
    tree.add("etc/ld.so.cache", Kind::File(cache), Meta::FILE)
}

/// The folders of ld.so.conf in its order, then the system's own.
fn folders(tree: &Tree, arch: Arch) -> Result<Vec<String>, Error> {
    let mut folders = Vec::new();
    let mut files = vec!["etc/ld.so.conf".to_owned()];
    let mut lines = 0;
    while let Some(file) = files.pop() {
        let text = tree.read(&file, MAX_CONF)?;
        for line in String::from_utf8_lossy(&text).lines() {
            lines += 1;
            if lines > MAX_CONF_LINES {
                let reason = "it and what it includes are longer than is sensible".into();
                return Err(Error::Compose { path: "etc/ld.so.conf".into(), reason });
            }
            let line = line.split('#').next().unwrap_or_default().trim();
            if let Some(pattern) = line.strip_prefix("include ").map(str::trim) {
                // Debian's own has one include, of all of a folder.
                let Some(folder) = pattern.strip_suffix("/*.conf") else { continue };
                let folder = folder.trim_start_matches('/');
                let mut found: Vec<_> = tree
                    .children(folder)
                    .filter(|(name, _)| name.ends_with(".conf"))
                    .map(|(name, _)| format!("{folder}/{name}"))
                    .collect();
                found.sort_by(|a, b| b.cmp(a));
                files.extend(found);
            } else if line.starts_with('/') {
                folders.push(line.trim_end_matches('/').to_owned());
            }
        }
    }
    // Debian's glibc is built with these (`slibdir`, `libdir`), then the bare ones.
    let triplet = arch.triplet();
    folders.extend([format!("/lib/{triplet}"), format!("/usr/lib/{triplet}")]);
    folders.extend(["/lib".to_owned(), "/usr/lib".to_owned()]);
    Ok(folders)
}

struct Found {
    file: String,
    is_link: bool,
}

/// The libraries of one folder, by the name they are asked for; `search_dir` of ldconfig.
fn scan(tree: &Tree, folder: &str, arch: Arch) -> BTreeMap<String, Found> {
    let mut all: BTreeMap<String, Found> = BTreeMap::new();
    for (file, node) in tree.children(folder) {
        let library = file.starts_with("lib") || file.starts_with("ld-");
        if !library || !file.contains(".so") || file.ends_with("-gdb.py") {
            continue;
        }
        let mut is_link = matches!(node.kind, Kind::Symlink { .. });
        // What isn't an ELF library (libc.so is a text) is passed over, as ldconfig does.
        let Some(content) = tree.file(&format!("{folder}/{file}")) else { continue };
        let Some(soname) = soname(content, arch) else { continue };
        let soname = soname.unwrap_or_else(|| file.to_owned());
        let for_the_linker = file.ends_with(".so") && soname.starts_with(file);
        is_link &= file == soname || for_the_linker;
        let name = if is_link { file.to_owned() } else { soname };
        let found = Found { file: file.to_owned(), is_link };
        match all.get(&name) {
            // A file before a link, else the later version.
            Some(known)
                if (is_link && !known.is_link)
                    || (is_link == known.is_link && compare(&known.file, file).is_ge()) => {}
            _ => drop(all.insert(name, found)),
        }
    }
    all
}

/// The SONAME of a shared library of this architecture (`None` if it has none), or nothing if
/// the file is something else.
fn soname(content: &Content, arch: Arch) -> Option<Option<String>> {
    let read = |offset: u64, len: u64| {
        let mut bytes = vec![0; usize::try_from(len).ok()?];
        read_at(content, &mut bytes, offset).ok().map(|()| bytes)
    };
    let header = read(0, 64)?;
    let (_, machine) = flags_and_machine(arch);
    // ELF, 64 bits, little-endian; ET_DYN.
    if !header.starts_with(b"\x7fELF\x02\x01") || u16_at(&header, 16)? != 3 {
        return None;
    }
    if u16_at(&header, 18)? != machine || u16_at(&header, 54)? != 56 {
        return None;
    }
    let segments = read(u64_at(&header, 32)?, u64::from(u16_at(&header, 56)?) * 56)?;
    let of_kind = |kind: u32| {
        segments.chunks_exact(56).filter(move |segment| u32_at(segment, 0) == Some(kind))
    };
    // PT_DYNAMIC
    let dynamic = of_kind(2).next()?;
    let dynamic = read(u64_at(dynamic, 8)?, u64_at(dynamic, 32)?.min(MAX_DYNAMIC))?;
    let value = |tag: u64| {
        let entries = dynamic.chunks_exact(16).take_while(|entry| u64_at(entry, 0) != Some(0));
        let mut entries = entries.filter(|entry| u64_at(entry, 0) == Some(tag));
        entries.next().and_then(|entry| u64_at(entry, 8))
    };
    // DT_SONAME, DT_STRTAB; the latter is an address, which a PT_LOAD maps to an offset.
    let Some(name) = value(14) else { return Some(None) };
    let table = value(5)?;
    let offset = of_kind(1).find_map(|load| {
        let (offset, address, size) = (u64_at(load, 8)?, u64_at(load, 16)?, u64_at(load, 32)?);
        let within = table.checked_sub(address).filter(|&within| within < size)?;
        offset.checked_add(within)
    })?;
    let start = offset.checked_add(name)?;
    let text = read(start, content.len().checked_sub(start)?.min(MAX_SONAME))?;
    let text = text.split(|&byte| byte == 0).next()?;
    let text = String::from_utf8(text.to_vec()).ok()?;
    // It becomes a file's name.
    (!text.is_empty() && !text.contains('/') && text != "." && text != "..").then_some(Some(text))
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

/// `_dl_cache_libcmp`: bytewise, but stretches of digits as numbers, and digits after all else.
fn compare(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a.as_bytes(), b.as_bytes());
    loop {
        let digit = |bytes: &[u8]| bytes.first().is_some_and(u8::is_ascii_digit);
        match (digit(a), digit(b)) {
            (true, true) => {
                let (x, rest) = number(a);
                let (y, rest2) = number(b);
                if x != y {
                    return x.cmp(&y);
                }
                (a, b) = (rest, rest2);
            }
            (true, false) => return Ordering::Greater,
            (false, true) => return Ordering::Less,
            (false, false) => match (a.split_first(), b.split_first()) {
                (Some((x, rest)), Some((y, rest2))) if x == y => (a, b) = (rest, rest2),
                // `char` is signed on amd64 and not on arm64; names are ASCII.
                (x, y) => return x.map(|(x, _)| x).cmp(&y.map(|(y, _)| y)),
            },
        }
    }
}

fn number(bytes: &[u8]) -> (u64, &[u8]) {
    let len = bytes.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (digits, rest) = bytes.split_at(len);
    let digit = |n: u64, &byte: &u8| n.saturating_mul(10).saturating_add(u64::from(byte - b'0'));
    (digits.iter().fold(0, digit), rest)
}

/// The file's bytes. The linker searches it by halves, so the names stand in descending order;
/// of one name in several folders, the first folder's comes first.
pub fn write(mut libraries: Vec<Library>, arch: Arch) -> Vec<u8> {
    libraries.sort_by(|a, b| compare(&b.name, &a.name));
    let (flags, _) = flags_and_machine(arch);
    let mut strings = Vec::new();
    let mut entries = Vec::new();
    let base = HEADER + libraries.len() * ENTRY;
    let mut place = |text: &str| {
        let at = (base + strings.len()) as u32;
        strings.extend_from_slice(text.as_bytes());
        strings.push(0);
        at
    };
    for Library { name, path } in &libraries {
        // The name is the end of the path where they agree, and needs no bytes of its own.
        let value = place(path);
        let key = match path.strip_suffix(name.as_str()) {
            Some(folder) => value + folder.len() as u32,
            None => place(name),
        };
        entries.extend_from_slice(&flags.to_le_bytes());
        entries.extend_from_slice(&key.to_le_bytes());
        entries.extend_from_slice(&value.to_le_bytes());
        // osversion and hwcap: for any kernel and any processor.
        entries.extend_from_slice(&[0; 12]);
    }
    let mut file = MAGIC.to_vec();
    file.extend_from_slice(&(libraries.len() as u32).to_le_bytes());
    file.extend_from_slice(&(strings.len() as u32).to_le_bytes());
    file.extend_from_slice(&[LITTLE_ENDIAN, 0, 0, 0]);
    // No extensions, and three words unused.
    file.extend_from_slice(&[0; 16]);
    file.extend(entries);
    file.extend(strings);
    file
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_of_the_linker() {
        // Each ascends in `_dl_cache_libcmp`; a digit comes after any other character.
        for pair in [
            ["libc.so.6", "libc.so.10"],
            ["libc.so", "libc.so.1"],
            ["liba.so", "libb.so"],
            ["libz.so.1", "lib1.so"],
            ["libgcc_s.so.1", "libgcc1.so"],
        ] {
            assert_eq!(compare(pair[0], pair[1]), Ordering::Less, "{pair:?}");
            assert_eq!(compare(pair[1], pair[0]), Ordering::Greater, "{pair:?}");
        }
        assert_eq!(compare("lib007.so", "lib7.so"), Ordering::Equal);
    }

    #[test]
    fn bytes_of_the_file() {
        let library = |name: &str, path: &str| Library { name: name.into(), path: path.into() };
        let bytes = write(
            vec![library("libc.so.6", "/lib/libc.so.6"), library("libz.so.1", "/lib/z/libx")],
            Arch::Arm64,
        );
        assert_eq!(bytes.len(), 48 + 2 * 24 + 15 + 12 + 10);
        assert!(bytes.starts_with(b"glibc-ld.so.cache1.1\x02\0\0\0\x25\0\0\0\x02\0\0\0"));
        // libz first: descending. Its name isn't the end of its path, libc's is.
        let strings = "/lib/z/libx\0libz.so.1\0/lib/libc.so.6\0";
        assert_eq!(&bytes[96..], strings.as_bytes());
        let entry =
            |at: usize| [0, 4, 8].map(|field| u32_at(&bytes, 48 + at * 24 + field).unwrap());
        assert_eq!(entry(0), [0x0a03, 96 + 12, 96]);
        assert_eq!(entry(1), [0x0a03, 96 + 22 + 5, 96 + 22]);
    }

    /// A shared library of nothing but a dynamic section.
    fn library(soname: &str) -> Vec<u8> {
        let mut elf = vec![0u8; 64 + 2 * 56 + 48];
        elf[..6].copy_from_slice(b"\x7fELF\x02\x01");
        let mut put = |at: usize, bytes: &[u8]| elf[at..at + bytes.len()].copy_from_slice(bytes);
        put(16, &[3, 0, 62, 0]);
        put(32, &64u64.to_le_bytes());
        put(54, &[56, 0, 2, 0]);
        // PT_LOAD maps the file to address 0x1000; PT_DYNAMIC is at 176, the names at 224.
        put(64, &1u32.to_le_bytes());
        put(64 + 16, &0x1000u64.to_le_bytes());
        put(64 + 32, &512u64.to_le_bytes());
        put(120, &2u32.to_le_bytes());
        put(120 + 8, &176u64.to_le_bytes());
        put(120 + 32, &48u64.to_le_bytes());
        for (at, value) in [14u64, 1, 5, 0x1000 + 224, 0, 0].into_iter().enumerate() {
            put(176 + at * 8, &value.to_le_bytes());
        }
        elf.push(0);
        elf.extend(soname.as_bytes());
        elf.push(0);
        elf
    }

    #[test]
    fn files_links_and_links_for_the_linker() {
        let mut tree = Tree::default();
        tree.owner(super::super::tree::Owner::sconce());
        let file = |bytes: Vec<u8>| Kind::File(Content::bytes(bytes));
        let link = |target: &str| Kind::Symlink { target: target.into() };
        let folder = "usr/lib/x86_64-linux-gnu";
        let mut add = |path: &str, kind| tree.add(path, kind, Meta::FILE).unwrap();
        add("etc/ld.so.conf", file(b"include /etc/ld.so.conf.d/*.conf\n".to_vec()));
        add("etc/ld.so.conf.d/a.conf", file(b"# x\n/usr/lib/x86_64-linux-gnu\n/no\n".to_vec()));
        add("lib", link("usr/lib"));
        add(&format!("{folder}/liba.so.1.2"), file(library("liba.so.1")));
        add(&format!("{folder}/liba.so.1"), link("liba.so.1.2"));
        add(&format!("{folder}/liba.so"), link("liba.so.1"));
        add(&format!("{folder}/libb.so.2.0"), file(library("libb.so.2")));
        add(&format!("{folder}/libtext.so"), file(b"/* GNU ld script */".to_vec()));
        add(&format!("{folder}/libbad.so"), file(library("../x")));
        super::add(&mut tree, Arch::Amd64).unwrap();
        // The link that no package shipped is made, as ldconfig does.
        let made = tree.get(&format!("{folder}/libb.so.2")).unwrap();
        assert!(matches!(&made.kind, Kind::Symlink { target } if target == "libb.so.2.0"));
        let cache = tree.read("etc/ld.so.cache", 1 << 20).unwrap();
        let count = u32_at(&cache, 20).unwrap() as usize;
        let strings = String::from_utf8_lossy(&cache[48 + count * 24..]).into_owned();
        assert_eq!(
            strings.split_terminator('\0').collect::<Vec<_>>(),
            ["libb.so.2", "liba.so.1", "liba.so"].map(|name| format!("/{folder}/{name}"))
        );
    }

    #[test]
    fn no_bytes_make_it_panic() {
        let whole = library("liba.so.1");
        let read = |bytes: &[u8]| soname(&Content::bytes(bytes.to_vec()), Arch::Amd64);
        assert_eq!(read(&whole), Some(Some("liba.so.1".into())));
        for at in 0..whole.len() {
            let _ = read(&whole[..at]);
            for value in [0x00, 0x01, 0x7f, 0x80, 0xff] {
                let mut changed = whole.clone();
                changed[at] = value;
                let _ = read(&changed);
            }
        }
    }
}
