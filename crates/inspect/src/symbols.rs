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
/// Bytes of names that are looked at in one table; names may lie on one another.
const MAX_NAMES: usize = 2 * MAX_TABLE as usize;

/// A symbol that another library must have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Import<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its version's number; 0 and 1 mean any.
    pub version: u16,
}

/// The GNU hash table of one library: which names it may offer, without the names.
#[derive(Default)]
pub struct GnuHash {
    /// The table; empty where the library has the older one only.
    bytes: Vec<u8>,
    /// Symbols there are, as far as the table tells.
    count: u64,
    /// Without the table: hashes, with their last bit set, and numbers of what it offers, sorted.
    listed: Vec<(u32, u32)>,
}

impl GnuHash {
    /// Reads the table, or makes it from the symbols. Without any hash table it is empty: ld.so finds no symbol of such
    /// a library (glibc, `do_lookup_x`).
    ///
    /// # Errors
    /// [`Error::Malformed`] or [`Error::Truncated`] with the offset.
    pub fn read(file: Named<'_>, dynamic: &Dynamic) -> Result<Self, Error> {
        const WHAT: &str = "symbol hash table";
        let Some(start) = dynamic.symbols.gnu_hash else { return Self::list(file, dynamic) };
        let head: [u8; 16] = file.array(start, WHAT)?;
        let head = Fields(&head);
        let (buckets, first, bloom) = (head.u32(0), head.u32(4), head.u32(8));
        let fixed = 16 + u64::from(bloom) * 8 + u64::from(buckets) * 4;
        let table = file.range(start, fixed, MAX_TABLE, WHAT)?;
        let bucket = |at: u32| {
            Fields(&table).u32((fixed - u64::from(buckets) * 4) as usize + at as usize * 4)
        };
        // The last symbol: the end of the chain that starts furthest.
        let furthest = (0..buckets).map(bucket).max().unwrap_or(0);
        let count = if furthest < first || furthest == 0 {
            u64::from(first)
        } else {
            chain_end(file, start + fixed, furthest, first)? + 1
        };
        let len = fixed + (count - u64::from(first)).saturating_mul(4);
        let bytes = file.range(start, len, MAX_TABLE, WHAT)?;
        Ok(Self { bytes, count, listed: Vec::new() })
    }

    /// The same of a library with `.hash` alone, as libnvJitLink.so.12 and libnvrtc.so.12 of CUDA 12.4: its second
    /// number is how many symbols there are (System V ABI, "Hash Table").
    fn list(file: Named<'_>, dynamic: &Dynamic) -> Result<Self, Error> {
        let tables = dynamic.symbols;
        let Some((hash, symbols)) = tables.hash.zip(tables.symbols) else {
            return Ok(Self::default());
        };
        let head: [u8; 8] = file.array(hash, "symbol hash table")?;
        let count = u64::from(Fields(&head).u32(4));
        let len = count.saturating_mul(SYMBOL as u64);
        let symbols = file.range(symbols, len, MAX_TABLE, "symbols")?;
        let strings = file.range(tables.strings, tables.strings_size, MAX_TABLE, "symbol names")?;
        let offered = symbols.chunks_exact(SYMBOL).zip(0u32..);
        let offered = offered.filter(|(row, _)| row[4] >> 4 != 0 && Fields(row).u16(6) != 0);
        let named = offered.map(|(row, at)| (text_at(&strings, Fields(row).u32(0) as usize), at));
        let named = within(named, |(name, _)| name.len());
        let mut listed: Vec<(u32, u32)> =
            named.map(|(name, at)| (gnu_hash(name) | 1, at)).collect();
        listed.sort_unstable();
        Ok(Self { bytes: Vec::new(), count, listed })
    }

    /// The number of the first symbol that is in the table; what is taken from others stands before it, without the
    /// table anywhere.
    fn first(&self) -> usize {
        match self.bytes.is_empty() {
            true => self.count as usize,
            false => Fields(&self.bytes).u32(4) as usize,
        }
    }

    /// Bytes it takes in memory.
    pub fn bytes(&self) -> usize {
        self.bytes.len() + self.listed.len() * size_of::<(u32, u32)>()
    }

    /// Whether it offers a name with this [`gnu_hash`]. Two names have the same hash once in two
    /// thousand million.
    pub fn has(&self, hash: u32) -> bool {
        self.symbols(hash).next().is_some()
    }

    /// Numbers of the symbols whose names have this hash but for its last bit.
    fn symbols(&self, hash: u32) -> impl Iterator<Item = usize> + '_ {
        let table = Fields(&self.bytes);
        let (buckets, first, bloom, shift) =
            (table.u32(0), table.u32(4), table.u32(8), table.u32(12));
        let filtered = bloom > 0 && {
            let word = table.u64(16 + ((hash / 64) % bloom) as usize * 8);
            let other = hash.checked_shr(shift).unwrap_or(0);
            word >> (hash % 64) & word >> (other % 64) & 1 == 0
        };
        let start = 16 + bloom as usize * 8;
        let mut next = match buckets {
            0 => None,
            _ if filtered => None,
            _ => Some(table.u32(start + (hash % buckets) as usize * 4)),
        };
        let chain = std::iter::from_fn(move || {
            let at = next.take().filter(|at| *at >= first && *at != 0)?;
            let place = start + (buckets as usize + (at - first) as usize) * 4;
            (place + 4 <= self.bytes.len()).then_some(())?;
            let value = table.u32(place);
            // The last value of a chain is odd.
            next = (value & 1 == 0).then(|| at.checked_add(1)).flatten();
            Some((at as usize, value))
        });
        let chain = chain.filter(move |(_, value)| value | 1 == hash | 1).map(|(at, _)| at);
        let from = self.listed.partition_point(|(own, _)| *own < hash | 1);
        let listed = self.listed.get(from..).unwrap_or_default().iter();
        let listed = listed.take_while(move |(own, _)| *own == hash | 1);
        chain.chain(listed.map(|(_, at)| *at as usize))
    }
}

/// The symbol tables of one library, held in memory while its closure is checked.
#[derive(Default)]
pub struct Symbols {
    strings: Vec<u8>,
    symbols: Vec<u8>,
    versions: Vec<u8>,
    hash: GnuHash,
}

impl Symbols {
    /// Reads the tables; they are empty without a hash table, which alone tells how many symbols there are.
    ///
    /// # Errors
    /// [`Error::Malformed`] or [`Error::Truncated`] with the offset.
    pub fn read(file: Named<'_>, dynamic: &Dynamic) -> Result<Self, Error> {
        let tables = dynamic.symbols;
        let Some(symbols_at) = tables.symbols else { return Ok(Self::default()) };
        let hash = GnuHash::read(file, dynamic)?;
        let (count, strings) = (hash.count, tables.strings_size);
        let symbols =
            file.range(symbols_at, count.saturating_mul(SYMBOL as u64), MAX_TABLE, "symbols")?;
        let versions = match tables.versions {
            Some(at) => file.range(at, count.saturating_mul(2), MAX_TABLE, "symbol versions")?,
            None => Vec::new(),
        };
        let strings = file.range(tables.strings, strings, MAX_TABLE, "symbol names")?;
        Ok(Self { strings, symbols, versions, hash })
    }

    /// Global symbols it takes from others; weak ones, which may stay away, are left out.
    pub fn imports(&self) -> impl Iterator<Item = Import<'_>> {
        let imports = self
            .symbols
            .chunks_exact(SYMBOL)
            .enumerate()
            .take(self.hash.first())
            .skip(1)
            .map(|(at, row)| (at, row[4], Fields(row)))
            .filter(|(_, info, row)| info >> 4 == 1 && row.u16(6) == 0)
            .map(|(at, _, row)| Import {
                name: text_at(&self.strings, row.u32(0) as usize),
                version: self.version(at),
            })
            .filter(|import| !import.name.is_empty());
        within(imports, |import| import.name.len())
    }

    /// Names it offers to others.
    pub fn offered(&self) -> impl Iterator<Item = &str> {
        let rows = self.symbols.chunks_exact(SYMBOL).skip(1);
        let rows = rows.filter(|row| row[4] >> 4 != 0 && Fields(row).u16(6) != 0);
        let names = rows.map(|row| text_at(&self.strings, Fields(row).u32(0) as usize));
        within(names.filter(|name| !name.is_empty()), |name| name.len())
    }

    /// Bytes the tables take in memory.
    pub fn bytes(&self) -> usize {
        self.strings.len() + self.symbols.len() + self.versions.len() + self.hash.bytes()
    }

    /// The version number of symbol `at`, its "hidden" bit left out.
    fn version(&self, at: usize) -> u16 {
        if self.versions.is_empty() { 1 } else { Fields(&self.versions).u16(at * 2) & 0x7fff }
    }

    /// Version numbers under which it offers `name`; `hash` is [`gnu_hash`] of it.
    pub fn exports(&self, name: &str, hash: u32) -> Vec<u16> {
        let is = |at: &usize| {
            let row = at.checked_mul(SYMBOL).and_then(|at| self.symbols.get(at..at + SYMBOL));
            row.map(Fields).is_some_and(|row| {
                row.u16(6) != 0 && text_at(&self.strings, row.u32(0) as usize) == name
            })
        };
        self.hash.symbols(hash).filter(is).map(|at| self.version(at)).collect()
    }
}

/// As many as have [`MAX_NAMES`] bytes of names together.
fn within<T>(items: impl Iterator<Item = T>, len: impl Fn(&T) -> usize) -> impl Iterator<Item = T> {
    items.scan(0usize, move |bytes, item| {
        *bytes = bytes.saturating_add(len(&item));
        (*bytes <= MAX_NAMES).then_some(item)
    })
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
        let symbols = Symbols::read(file, &dynamic).unwrap();
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
    fn a_library_with_the_older_hash_table_only() {
        let bytes = Library::new("libx.so.1")
            .exports("one", None)
            .exports("two", None)
            .imports("taken", None)
            .old_hash()
            .build();
        let (dynamic, symbols) = load(&bytes);
        assert!(dynamic.symbols.gnu_hash.is_none());
        let has = |name: &str| !symbols.exports(name, gnu_hash(name)).is_empty();
        assert!(has("one") && has("two") && !has("taken") && !has("absent"));
        assert_eq!(symbols.imports().map(|import| import.name).collect::<Vec<_>>(), ["taken"]);
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
                if let Ok(symbols) = Symbols::read(file, &dynamic) {
                    symbols.exports("a", gnu_hash("a"));
                    symbols.imports().for_each(drop);
                }
            }
        }
    }
}
