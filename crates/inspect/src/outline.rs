//! What was kept of a layer, as bytes: so that a layer which passed by once need not pass again.
//!
//! One record an entry, all of it a gzip member: path, kind, and what was kept of a file. Numbers are
//! `u64`, little-endian; texts have their length in front. It is a store's own note about a layer
//! whose digest was right, so it has a version in its first bytes and no other promise.

use std::io::{self, Read, Write};
use std::sync::Arc;

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;

use crate::archive::Kind;
use crate::read::ReadAt;
use crate::skeleton::{Holes, Scraps, Skeleton};
use crate::stream::{Layer, MAX_ENTRIES};

const MAGIC: &[u8; 8] = b"OUTLINE5";
const MAX_TEXT: u64 = 1 << 20;
/// Parts of one file, and bytes of one part; far above what [`Layer::read`] keeps.
const MAX_PARTS: u64 = 1 << 21;
const MAX_PART: u64 = 256 << 20;

impl Layer {
    /// The outline of this layer.
    ///
    /// # Errors
    /// Those of reading what was kept.
    pub fn to_bytes(&self) -> io::Result<Vec<u8>> {
        let mut out = GzEncoder::new(Vec::new(), Compression::fast());
        out.write_all(MAGIC)?;
        for (path, kind, kept) in &self.entries {
            text(&mut out, path)?;
            match kind {
                Kind::File { offset, size } => numbers(&mut out, &[0, *offset, *size])?,
                Kind::Directory => numbers(&mut out, &[1])?,
                Kind::Symlink(target) => {
                    numbers(&mut out, &[2])?;
                    text(&mut out, target)?;
                }
                Kind::Hardlink(target) => {
                    numbers(&mut out, &[3])?;
                    text(&mut out, target)?;
                }
                Kind::Special => numbers(&mut out, &[4])?,
            }
            let Some(kept) = kept else {
                numbers(&mut out, &[u64::MAX])?;
                continue;
            };
            let parts: Vec<(u64, u64)> = kept.parts().collect();
            numbers(&mut out, &[parts.len() as u64])?;
            for (offset, len) in parts {
                numbers(&mut out, &[offset, len])?;
                let mut bytes = vec![0; len as usize];
                kept.read_at(&mut bytes, offset)?;
                out.write_all(&bytes)?;
            }
        }
        out.finish()
    }

    /// The layer whose outline this is, what was kept of it in `scraps`; `None` for bytes that are
    /// none of this version.
    pub fn from_bytes(bytes: &[u8], scraps: &Arc<Scraps>) -> Option<Self> {
        let mut rest = io::BufReader::with_capacity(1 << 16, GzDecoder::new(bytes));
        let mut magic = [0; 8];
        rest.read_exact(&mut magic).ok()?;
        (magic == *MAGIC).then_some(())?;
        let mut layer = Self::default();
        loop {
            let mut len = [0; 8];
            match rest.read(&mut len[..1]).ok()? {
                0 => return Some(layer),
                _ => rest.read_exact(&mut len[1..]).ok()?,
            }
            let path = exactly(&mut rest, u64::from_le_bytes(len), MAX_TEXT)?;
            let kind = match number(&mut rest)? {
                0 => Kind::File { offset: number(&mut rest)?, size: number(&mut rest)? },
                1 => Kind::Directory,
                2 => Kind::Symlink(string(&mut rest)?),
                3 => Kind::Hardlink(string(&mut rest)?),
                4 => Kind::Special,
                _ => return None,
            };
            let kept = match number(&mut rest)? {
                u64::MAX => None,
                parts => Some(Arc::new(skeleton(&mut rest, &kind, parts, scraps)?)),
            };
            (layer.entries.len() < MAX_ENTRIES).then_some(())?;
            layer.entries.push((String::from_utf8(path).ok()?.into(), kind, kept));
        }
    }
}

fn skeleton(
    rest: &mut impl Read,
    kind: &Kind,
    count: u64,
    scraps: &Arc<Scraps>,
) -> Option<Skeleton> {
    let Kind::File { size, .. } = *kind else { return None };
    (count <= MAX_PARTS).then_some(())?;
    let (mut parts, mut bytes, mut end) = (Vec::new(), Vec::new(), 0);
    for _ in 0..count {
        let (offset, len) = (number(rest)?, number(rest)?);
        (offset >= end).then_some(())?;
        end = offset.checked_add(len).filter(|end| *end <= size)?;
        bytes.extend(exactly(rest, len, MAX_PART)?);
        parts.push((offset, len));
    }
    let at = scraps.append(&bytes).ok()?;
    let kept = Arc::clone(scraps) as Arc<dyn ReadAt>;
    Some(Skeleton::new(size, parts, kept, at, Holes::Error))
}

fn numbers(out: &mut impl Write, all: &[u64]) -> io::Result<()> {
    all.iter().try_for_each(|n| out.write_all(&n.to_le_bytes()))
}

fn text(out: &mut impl Write, text: &str) -> io::Result<()> {
    numbers(out, &[text.len() as u64])?;
    out.write_all(text.as_bytes())
}

fn number(rest: &mut impl Read) -> Option<u64> {
    let mut bytes = [0; 8];
    rest.read_exact(&mut bytes).ok()?;
    Some(u64::from_le_bytes(bytes))
}

fn exactly(rest: &mut impl Read, len: u64, limit: u64) -> Option<Vec<u8>> {
    (len <= limit).then_some(())?;
    let mut bytes = Vec::new();
    // Grows with what is there, not with what is claimed.
    rest.take(len).read_to_end(&mut bytes).ok()?;
    (bytes.len() as u64 == len).then_some(bytes)
}

fn string(rest: &mut impl Read) -> Option<String> {
    let len = number(rest)?;
    String::from_utf8(exactly(rest, len, MAX_TEXT)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forge;
    use crate::report::{Options, inspect};
    use crate::source::tests::{entry, tar};
    use crate::tree::Tree;

    fn layer() -> Vec<u8> {
        let library = forge::Library::new("libx.so.1")
            .needs(&["liby.so"])
            .exports("f", None)
            .data(&[7; 200_000])
            .code(&[forge::fatbin(&[forge::cubin(90)])])
            .build();
        tar(&[
            entry("opt/", b'5', "", b""),
            entry("opt/libx.so.1", b'0', "", &library),
            entry("opt/libx.so", b'2', "libx.so.1", b""),
            entry("opt/hard", b'1', "opt/libx.so.1", b""),
            entry("opt/a-1.dist-info/METADATA", b'0', "", b"Name: a\nVersion: 1\n\n"),
            entry("opt/a.py", b'0', "", b"print()"),
            entry("opt/.wh.gone", b'0', "", b""),
        ])
    }

    fn report(layer: Layer) -> String {
        let mut tree = Tree::new();
        layer.put(&mut tree);
        let options = Options { skip_copies: true, ..Options::default() };
        inspect("x", &tree, &options, &|_, _| {}).to_json().unwrap()
    }

    #[test]
    fn a_layer_that_passed_by_is_like_the_layer_itself() {
        let scraps = Arc::new(Scraps::new().unwrap());
        let bytes = layer();
        let passed = || Layer::read("layer", bytes.as_slice(), &scraps).unwrap();
        let outline = passed().to_bytes().unwrap();
        assert!(outline.len() < bytes.len() / 20, "{} of {}", outline.len(), bytes.len());
        let again = Layer::from_bytes(&outline, &scraps).unwrap();
        let mut tree = Tree::new();
        let whole: Arc<dyn ReadAt> = Arc::new(bytes.clone());
        crate::archive::add_layer(&mut tree, "layer", &whole, 4).unwrap();
        let options = Options { skip_copies: true, ..Options::default() };
        let whole = inspect("x", &tree, &options, &|_, _| {}).to_json().unwrap();
        assert!(whole.contains("sm_90") && whole.contains("liby.so"));
        assert_eq!(report(passed()), whole);
        assert_eq!(report(again), whole);
    }

    #[test]
    fn cut_off_or_changed() {
        let scraps = Arc::new(Scraps::new().unwrap());
        let outline =
            Layer::read("layer", layer().as_slice(), &scraps).unwrap().to_bytes().unwrap();
        for len in 0..outline.len() {
            assert!(Layer::from_bytes(&outline[..len], &scraps).is_none(), "{len}");
        }
        let mut plain = Vec::new();
        GzDecoder::new(outline.as_slice()).read_to_end(&mut plain).unwrap();
        for at in (0..plain.len()).step_by(3) {
            let mut bad = plain.clone();
            bad[at] ^= 0xff;
            let mut packed = GzEncoder::new(Vec::new(), Compression::none());
            packed.write_all(&bad).unwrap();
            let _ = Layer::from_bytes(&packed.finish().unwrap(), &scraps);
        }
    }
}
