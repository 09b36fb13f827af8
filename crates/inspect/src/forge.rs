//! Makes small ELF files and fatbins for tests: the bytes a linker would write, and lies.
#![allow(dead_code, unused_imports, reason = "no test file uses all of it")]

// The path is the same for a test that names this file by one.
#[path = "forge/code.rs"]
mod code;

pub use code::{Code, cubin, cubin_file, fatbin, packed, ptx};

/// A library to be forged.
#[derive(Default, Clone)]
pub struct Library {
    soname: Option<String>,
    needed: Vec<String>,
    rpath: Option<String>,
    runpath: Option<String>,
    interpreter: Option<String>,
    needs: Vec<(String, String)>,
    defines: Vec<String>,
    exports: Vec<(String, Option<String>)>,
    imports: Vec<(String, Option<(String, String)>)>,
    code: Vec<u8>,
    data: Vec<u8>,
    stripped: bool,
    old_hash: bool,
    no_hash: bool,
    static_tls: Option<(u64, u64)>,
    machine: u16,
}

impl Library {
    pub fn new(soname: &str) -> Self {
        Self {
            soname: (!soname.is_empty()).then(|| soname.to_owned()),
            machine: 62,
            ..Self::default()
        }
    }

    /// With `.hash` in place of `.gnu.hash`.
    pub fn old_hash(mut self) -> Self {
        self.old_hash = true;
        self
    }

    /// Without a hash table.
    pub fn no_hash(mut self) -> Self {
        self.no_hash = true;
        self
    }

    pub fn needs(mut self, names: &[&str]) -> Self {
        self.needed.extend(names.iter().map(|name| (*name).to_owned()));
        self
    }

    pub fn rpath(mut self, path: &str) -> Self {
        self.rpath = Some(path.to_owned());
        self
    }

    pub fn runpath(mut self, path: &str) -> Self {
        self.runpath = Some(path.to_owned());
        self
    }

    pub fn interpreter(mut self, path: &str) -> Self {
        self.interpreter = Some(path.to_owned());
        self
    }

    pub fn version(mut self, library: &str, version: &str) -> Self {
        self.needs.push((library.to_owned(), version.to_owned()));
        self
    }

    pub fn defines(mut self, versions: &[&str]) -> Self {
        self.defines.extend(versions.iter().map(|version| (*version).to_owned()));
        self
    }

    pub fn exports(mut self, symbol: &str, version: Option<&str>) -> Self {
        self.exports.push((symbol.to_owned(), version.map(str::to_owned)));
        self
    }

    pub fn imports(mut self, symbol: &str, from: Option<(&str, &str)>) -> Self {
        let from = from.map(|(library, version)| (library.to_owned(), version.to_owned()));
        if let Some(need) = from.clone().filter(|need| !self.needs.contains(need)) {
            self.needs.push(need);
        }
        self.imports.push((symbol.to_owned(), from));
        self
    }

    pub fn code(mut self, fatbins: &[Vec<u8>]) -> Self {
        for fatbin in fatbins {
            self.code.extend(fatbin);
        }
        self
    }

    /// Bytes for `.rodata`.
    pub fn data(mut self, bytes: &[u8]) -> Self {
        self.data.extend(bytes);
        self
    }

    /// With thread-local variables of this size and alignment in the block of the process's start.
    pub fn static_tls(mut self, memory: u64, align: u64) -> Self {
        self.static_tls = Some((memory, align));
        self
    }

    pub fn stripped(mut self) -> Self {
        self.stripped = true;
        self
    }

    pub fn machine(mut self, code: u16) -> Self {
        self.machine = code;
        self
    }

    /// The file: headers, tables at addresses equal to their offsets, sections at the end.
    pub fn build(&self) -> Vec<u8> {
        let mut strings = vec![0];
        let mut text = |name: &str| {
            let at = strings.len() as u32;
            strings.extend(name.as_bytes());
            strings.push(0);
            at
        };
        let soname = self.soname.as_deref().map(&mut text);
        let needed: Vec<u32> = self.needed.iter().map(|name| text(name)).collect();
        let rpath = self.rpath.as_deref().map(&mut text);
        let runpath = self.runpath.as_deref().map(&mut text);

        // Version numbers: 0 local, 1 global, then definitions, then needs.
        let define = |version: &str| 2 + self.defines.iter().position(|v| v == version).unwrap();
        let first_need = 2 + self.defines.len();
        let mut verdef = Vec::new();
        for (at, version) in self.defines.iter().enumerate() {
            let last = at + 1 == self.defines.len();
            for field in [1u16, 0, (2 + at) as u16, 1] {
                verdef.extend(field.to_le_bytes());
            }
            for field in [0u32, 20, if last { 0 } else { 28 }, text(version), 0] {
                verdef.extend(field.to_le_bytes());
            }
        }
        let mut verneed = Vec::new();
        for (at, (library, version)) in self.needs.iter().enumerate() {
            let last = at + 1 == self.needs.len();
            for field in [1u16, 1] {
                verneed.extend(field.to_le_bytes());
            }
            for field in [text(library), 16, if last { 0 } else { 32 }, 0] {
                verneed.extend(field.to_le_bytes());
            }
            for field in [0u16, (first_need + at) as u16] {
                verneed.extend(field.to_le_bytes());
            }
            for field in [text(version), 0] {
                verneed.extend(field.to_le_bytes());
            }
        }

        let mut symbols = vec![0; 24];
        let mut versions = vec![0; 2];
        let mut symbol = |name: &str, section: u16, version: u16| {
            symbols.extend(text(name).to_le_bytes());
            symbols.extend([0x12, 0]);
            symbols.extend(section.to_le_bytes());
            symbols.extend([0; 16]);
            versions.extend(version.to_le_bytes());
        };
        for (name, from) in &self.imports {
            let number = from
                .as_ref()
                .map_or(1, |need| first_need + self.needs.iter().position(|n| n == need).unwrap());
            symbol(name, 0, number as u16);
        }
        for (name, version) in &self.exports {
            symbol(name, 1, version.as_deref().map_or(1, define) as u16);
        }
        // One bucket: the chain holds every export.
        let offset = 1 + self.imports.len() as u32;
        let mut hash = Vec::new();
        let first = if self.exports.is_empty() { 0 } else { offset };
        for field in [1u32, offset, 1, 6, u32::MAX, u32::MAX, first] {
            hash.extend(field.to_le_bytes());
        }
        for (at, (name, _)) in self.exports.iter().enumerate() {
            let value = name
                .bytes()
                .fold(5381u32, |h, byte| h.wrapping_mul(33).wrapping_add(u32::from(byte)));
            let end = u32::from(at + 1 == self.exports.len());
            hash.extend(((value & !1) | end).to_le_bytes());
        }

        if self.old_hash {
            // One bucket: its chain goes from the last symbol to the first.
            let count = symbols.len() as u32 / 24;
            let fields = [1, count, count - 1, 0].into_iter().chain(0..count - 1);
            hash = fields.flat_map(u32::to_le_bytes).collect();
        }

        let mut file = vec![0; 64 + (3 + usize::from(self.static_tls.is_some())) * 56];
        let mut put = |bytes: &[u8]| {
            file.resize(file.len().next_multiple_of(8), 0);
            let at = file.len() as u64;
            file.extend(bytes);
            at
        };
        let interp = self.interpreter.as_ref().map(|path| {
            let bytes = [path.as_bytes(), b"\0"].concat();
            (put(&bytes), bytes.len() as u64)
        });
        let strings_at = put(&strings);
        let (symbols_at, versions_at, hash_at) = (put(&symbols), put(&versions), put(&hash));
        let (verdef_at, verneed_at) = (put(&verdef), put(&verneed));
        let code_at = put(&self.code);
        let data_at = put(&self.data);
        let mut rows: Vec<(u64, u64)> = needed.iter().map(|at| (1, u64::from(*at))).collect();
        rows.extend(soname.map(|at| (14, u64::from(at))));
        rows.extend(rpath.map(|at| (15, u64::from(at))));
        rows.extend(runpath.map(|at| (29, u64::from(at))));
        rows.extend([(5, strings_at), (10, strings.len() as u64), (6, symbols_at)]);
        let hash_tag = if self.old_hash { 4 } else { 0x6fff_fef5 };
        rows.extend((!self.no_hash).then_some((hash_tag, hash_at)));
        rows.extend(self.static_tls.map(|_| (30, 0x10)));
        rows.extend([(0x6fff_fff0, versions_at)]);
        rows.extend([(0x6fff_fffc, verdef_at), (0x6fff_fffd, self.defines.len() as u64)]);
        rows.extend([(0x6fff_fffe, verneed_at), (0x6fff_ffff, self.needs.len() as u64), (0, 0)]);
        let dynamic: Vec<u8> = rows
            .iter()
            .flat_map(|(tag, value)| [tag.to_le_bytes(), value.to_le_bytes()].concat())
            .collect();
        let dynamic_at = put(&dynamic);
        let names = b"\0.nv_fatbin\0.rodata\0.shstrtab\0";
        let names_at = put(names);
        let sections: [(u32, u32, u64, u64); 3] = [
            (1, 1, code_at, self.code.len() as u64),
            (12, 1, data_at, self.data.len() as u64),
            (20, 3, names_at, names.len() as u64),
        ];
        let mut table = vec![0; 64];
        for (name, kind, offset, size) in sections {
            let mut row = vec![0; 64];
            row[0..4].copy_from_slice(&name.to_le_bytes());
            row[4..8].copy_from_slice(&kind.to_le_bytes());
            row[24..32].copy_from_slice(&offset.to_le_bytes());
            row[32..40].copy_from_slice(&size.to_le_bytes());
            table.extend(row);
        }
        let sections_at = if self.stripped { 0 } else { put(&table) };

        let total = file.len() as u64;
        let mut segments = vec![(1u32, 0u64, total), (2, dynamic_at, dynamic.len() as u64)];
        segments.extend(interp.map(|(at, len)| (3, at, len)));
        segments.extend(self.static_tls.map(|_| (7, 0, 0)));
        for (at, (kind, offset, size)) in segments.iter().enumerate() {
            let row = &mut file[64 + at * 56..64 + (at + 1) * 56];
            row[0..4].copy_from_slice(&kind.to_le_bytes());
            row[8..16].copy_from_slice(&offset.to_le_bytes());
            row[16..24].copy_from_slice(&offset.to_le_bytes());
            row[32..40].copy_from_slice(&size.to_le_bytes());
            if let Some((memory, align)) = self.static_tls.filter(|_| *kind == 7) {
                row[40..48].copy_from_slice(&memory.to_le_bytes());
                row[48..56].copy_from_slice(&align.to_le_bytes());
            }
        }
        file[..7].copy_from_slice(&[0x7f, b'E', b'L', b'F', 2, 1, 1]);
        file[16..18].copy_from_slice(&3u16.to_le_bytes());
        file[18..20].copy_from_slice(&self.machine.to_le_bytes());
        file[32..40].copy_from_slice(&64u64.to_le_bytes());
        file[40..48].copy_from_slice(&sections_at.to_le_bytes());
        file[54..56].copy_from_slice(&56u16.to_le_bytes());
        file[56..58].copy_from_slice(&(segments.len() as u16).to_le_bytes());
        file[58..60].copy_from_slice(&64u16.to_le_bytes());
        file[60..62].copy_from_slice(&if self.stripped { 0 } else { 4u16 }.to_le_bytes());
        file[62..64].copy_from_slice(&if self.stripped { 0 } else { 3u16 }.to_le_bytes());
        file
    }
}
