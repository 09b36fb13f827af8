//! Symbols of a shared library: what it takes from others, what it offers, as ld.so looks them up.
//!
//! Source: System V ABI, "Symbol Table" and "Hash Table"; the GNU hash table as in glibc's
//! `dl-lookup.c` (bloom filter, buckets, chains whose last value is odd).

use crate::Error;
use crate::dynamic::Dynamic;
use crate::read::{Fields, Named, text_at};

const SYMBOL: usize = 24;
/// libtorch_cpu has some 250,000 symbols and 40 MiB of names.
const MAX_TABLE: u64 = 96 << 20;

/// A symbol that another library must have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Import<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its version's number; 0 and 1 mean any.
    pub version: u16,
}

/// The symbol tables of one library, held in memory while its closure is checked.
pub struct Symbols {
    strings: Vec<u8>,
    symbols: Vec<u8>,
    versions: Vec<u8>,
    hash: Vec<u8>,
    first_hashed: usize,
}

impl Symbols {
    /// Reads the tables; `None` for a library without a GNU hash table.
    ///
    /// # Errors
    /// [`Error::Malformed`] or [`Error::Truncated`] with the offset.
    pub fn read(file: Named<'_>, dynamic: &Dynamic) -> Result<Option<Self>, Error> {
        let tables = dynamic.symbols;
        let (Some(hash_at), Some(symbols_at)) = (tables.gnu_hash, tables.symbols) else {
            return Ok(None);
        };
        const WHAT: &str = "symbol hash table";
        let head: [u8; 16] = file.array(hash_at, WHAT)?;
        let head = Fields(&head);
        let (buckets, first, bloom) = (head.u32(0), head.u32(4), head.u32(8));
        let fixed = 16 + u64::from(bloom) * 8 + u64::from(buckets) * 4;
        let table = file.range(hash_at, fixed, MAX_TABLE, WHAT)?;
        let bucket = |at: u32| {
            Fields(&table).u32((fixed - u64::from(buckets) * 4) as usize + at as usize * 4)
        };
        // The last symbol: the end of the chain that starts furthest.
        let furthest = (0..buckets).map(bucket).max().unwrap_or(0);
        let chains = hash_at + fixed;
        let count = if furthest < first || furthest == 0 {
            u64::from(first)
        } else {
            chain_end(file, chains, furthest, first)? + 1
        };
        let hash_len = fixed + (count - u64::from(first)).saturating_mul(4);
        let symbols =
            file.range(symbols_at, count.saturating_mul(SYMBOL as u64), MAX_TABLE, "symbols")?;
        let versions = match tables.versions {
            Some(at) => file.range(at, count.saturating_mul(2), MAX_TABLE, "symbol versions")?,
            None => Vec::new(),
        };
        Ok(Some(Self {
            strings: file.range(tables.strings, tables.strings_size, MAX_TABLE, "symbol names")?,
            symbols,
            versions,
            hash: file.range(hash_at, hash_len, MAX_TABLE, WHAT)?,
            first_hashed: first as usize,
        }))
    }

    /// Global symbols it takes from others; weak ones, which may stay away, are left out.
    pub fn imports(&self) -> impl Iterator<Item = Import<'_>> {
        self.symbols
            .chunks_exact(SYMBOL)
            .enumerate()
            .take(self.first_hashed)
            .skip(1)
            .map(|(at, row)| (at, row[4], Fields(row)))
            .filter(|(_, info, row)| info >> 4 == 1 && row.u16(6) == 0)
            .map(|(at, _, row)| Import {
                name: text_at(&self.strings, row.u32(0) as usize),
                version: self.version(at),
            })
            .filter(|import| !import.name.is_empty())
    }

    /// Bytes the tables take in memory.
    pub fn bytes(&self) -> usize {
        self.strings.len() + self.symbols.len() + self.versions.len() + self.hash.len()
    }

    /// The version number of symbol `at`, its "hidden" bit left out.
    fn version(&self, at: usize) -> u16 {
        if self.versions.is_empty() { 1 } else { Fields(&self.versions).u16(at * 2) & 0x7fff }
    }

    /// Version numbers under which it offers `name`; `hash` is [`gnu_hash`] of it.
    pub fn exports(&self, name: &str, hash: u32) -> Vec<u16> {
        let table = Fields(&self.hash);
        let (buckets, first, bloom, shift) =
            (table.u32(0), table.u32(4), table.u32(8), table.u32(12));
        if buckets == 0 {
            return Vec::new();
        }
        if bloom > 0 {
            let word = table.u64(16 + ((hash / 64) % bloom) as usize * 8);
            let other = hash.checked_shr(shift).unwrap_or(0);
            if word >> (hash % 64) & word >> (other % 64) & 1 == 0 {
                return Vec::new();
            }
        }
        let start = 16 + bloom as usize * 8;
        let mut at = table.u32(start + (hash % buckets) as usize * 4);
        let mut found = Vec::new();
        while at >= first && at != 0 {
            let place = start + (buckets as usize + (at - first) as usize) * 4;
            if place + 4 > self.hash.len() {
                break;
            }
            let value = table.u32(place);
            if value | 1 == hash | 1 {
                let row = at as usize * SYMBOL;
                let Some(row) = self.symbols.get(row..row + SYMBOL).map(Fields) else { break };
                if row.u16(6) != 0 && text_at(&self.strings, row.u32(0) as usize) == name {
                    found.push(self.version(at as usize));
                }
            }
            if value & 1 == 1 {
                break;
            }
            at += 1;
        }
        found
    }
}

/// The number of the last symbol in the chain that starts with `symbol`.
fn chain_end(file: Named<'_>, chains: u64, symbol: u32, first: u32) -> Result<u64, Error> {
    const PIECE: u64 = 256;
    let mut at = u64::from(symbol);
    loop {
        let place = chains.saturating_add((at - u64::from(first)) * 4);
        let len = PIECE.min(file.size().saturating_sub(place)) & !3;
        if len == 0 || at > u64::from(symbol) + (1 << 20) {
            return Err(file.malformed(place, "symbol hash table", "a chain without an end"));
        }
        let bytes = file.range(place, len, PIECE, "symbol hash table")?;
        match bytes.chunks_exact(4).position(|word| word[0] & 1 == 1) {
            Some(n) => return Ok(at + n as u64),
            None => at += len / 4,
        }
    }
}

/// The hash of a symbol's name in a GNU hash table.
pub fn gnu_hash(name: &str) -> u32 {
    name.bytes().fold(5381, |hash: u32, byte| hash.wrapping_mul(33).wrapping_add(u32::from(byte)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::elf::Elf;
    use crate::forge::Library;

    fn load(bytes: &[u8]) -> (Dynamic, Symbols) {
        let bytes = &bytes.to_vec();
        let file = Named::new("lib", bytes);
        let dynamic = Dynamic::parse(file, &Elf::parse(file).unwrap()).unwrap().unwrap();
        let symbols = Symbols::read(file, &dynamic).unwrap().unwrap();
        (dynamic, symbols)
    }

    #[test]
    fn finds_what_is_offered_and_what_is_taken() {
        let bytes = Library::new("libx.so.1")
            .defines(&["X_1", "X_2"])
            .exports("shared_one", Some("X_2"))
            .exports("plain_one", None)
            .imports("taken", Some(("liby.so.2", "Y_1")))
            .build();
        let (dynamic, symbols) = load(&bytes);
        let find = |name| symbols.exports(name, gnu_hash(name));
        assert_eq!(find("shared_one"), [3]);
        assert_eq!(find("plain_one"), [1]);
        assert!(find("taken").is_empty() && find("absent").is_empty());
        let imports: Vec<_> = symbols.imports().collect();
        assert_eq!(imports, [Import { name: "taken", version: 4 }]);
        assert_eq!(dynamic.versions_needed[0].index, 4);
        assert_eq!(dynamic.version_names, [(2, "X_1".to_owned()), (3, "X_2".to_owned())]);
    }

    #[test]
    fn lies_in_the_hash_table_end() {
        let good = Library::new("libx.so.1").exports("a", None).exports("b", None).build();
        let hash_at = load(&good).0.symbols.gnu_hash.unwrap() as usize;
        for at in hash_at..hash_at + 36 {
            for value in [0, 1, 0x7f, 0xff] {
                let mut bad = good.clone();
                bad[at] = value;
                let file = Named::new("lib", &bad);
                let dynamic = Dynamic::parse(file, &Elf::parse(file).unwrap()).unwrap().unwrap();
                if let Ok(Some(symbols)) = Symbols::read(file, &dynamic) {
                    symbols.exports("a", gnu_hash("a"));
                    symbols.imports().for_each(drop);
                }
            }
        }
    }
}
