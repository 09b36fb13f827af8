//! GPU code for tests: fatbins, cubins, and compressed ones.

use crate::fatbin::MAGIC;

/// One entry of a forged fatbin.
#[derive(Clone, Copy)]
pub struct Code {
    pub kind: u16,
    pub sm: u32,
    pub flags: u64,
    pub version: (u16, u16),
    pub size: u32,
}

pub fn cubin(sm: u32) -> Code {
    Code { kind: 2, sm, flags: 0x8011, version: (1, 8), size: 24 }
}

pub fn ptx(sm: u32, isa: (u16, u16)) -> Code {
    Code { kind: 1, sm, flags: 0x8011, version: isa, size: 40 }
}

/// One container with these entries, each with an 80-byte header.
pub fn fatbin(codes: &[Code]) -> Vec<u8> {
    let mut body = Vec::new();
    for code in codes {
        let padded = u64::from(code.size).next_multiple_of(8);
        let mut head = vec![0; 80];
        head[0..2].copy_from_slice(&code.kind.to_le_bytes());
        head[2..4].copy_from_slice(&0x101u16.to_le_bytes());
        head[4..8].copy_from_slice(&80u32.to_le_bytes());
        head[8..16].copy_from_slice(&padded.to_le_bytes());
        head[16..20].copy_from_slice(&code.size.to_le_bytes());
        head[24..26].copy_from_slice(&code.version.1.to_le_bytes());
        head[26..28].copy_from_slice(&code.version.0.to_le_bytes());
        head[28..32].copy_from_slice(&code.sm.to_le_bytes());
        head[40..48].copy_from_slice(&code.flags.to_le_bytes());
        head[56..64].copy_from_slice(&1000u64.to_le_bytes());
        body.extend(head);
        body.extend(vec![0xab; padded as usize]);
    }
    let mut out = Vec::new();
    out.extend(MAGIC.to_le_bytes());
    out.extend(1u16.to_le_bytes());
    out.extend(16u16.to_le_bytes());
    out.extend((body.len() as u64).to_le_bytes());
    out.extend(body);
    out
}

/// A cubin as a file: sections of these names, one of them with a tool note, and `e_flags`.
pub fn cubin_file(sections: &[&str], note: &str, abi: u8, flags: u32) -> Vec<u8> {
    let mut file = vec![0; 64];
    let mut names = vec![0];
    let mut rows = Vec::new();
    let mut table = vec![0; 64];
    for name in sections.iter().chain(&[".shstrtab"]) {
        let at = names.len() as u32;
        names.extend(name.as_bytes());
        names.push(0);
        rows.push((at, *name));
    }
    for (at, name) in &rows {
        let bytes = match *name {
            ".note.nv.tkinfo" => [b"\x0c\0\0\0".as_slice(), note.as_bytes(), b"\0"].concat(),
            ".shstrtab" => names.clone(),
            _ => vec![1; 64],
        };
        let mut row = vec![0; 64];
        row[0..4].copy_from_slice(&at.to_le_bytes());
        row[4] = if *name == ".shstrtab" { 3 } else { 1 };
        row[24..32].copy_from_slice(&(file.len() as u64).to_le_bytes());
        row[32..40].copy_from_slice(&(bytes.len() as u64).to_le_bytes());
        table.extend(row);
        file.extend(bytes);
    }
    let at = file.len() as u64;
    file.extend(table);
    file[..9].copy_from_slice(&[0x7f, b'E', b'L', b'F', 2, 1, 1, 0x41, abi]);
    file[16..20].copy_from_slice(&[2, 0, 190, 0]);
    file[40..48].copy_from_slice(&at.to_le_bytes());
    file[48..52].copy_from_slice(&flags.to_le_bytes());
    file[58..60].copy_from_slice(&64u16.to_le_bytes());
    file[60..62].copy_from_slice(&(rows.len() as u16 + 1).to_le_bytes());
    file[62..64].copy_from_slice(&(rows.len() as u16).to_le_bytes());
    file
}

/// One container with these cubins of sm_90, packed as `flags` says (0x2000 LZ4, 0x8000 zstd).
pub fn packed(cubins: &[Vec<u8>], flags: u64) -> Vec<u8> {
    let pack = |bytes: &[u8]| match flags {
        0x2000 => {
            // Literals only: a token, the rest of the length, the bytes.
            let mut out = vec![0xf0];
            out.extend(vec![255; (bytes.len() - 15) / 255]);
            out.push(((bytes.len() - 15) % 255) as u8);
            [out, bytes.to_vec()].concat()
        }
        0x8000 => {
            let level = ruzstd::encoding::CompressionLevel::Fastest;
            ruzstd::encoding::compress_to_vec(bytes, level)
        }
        _ => bytes.to_vec(),
    };
    let mut body = Vec::new();
    for cubin in cubins {
        let mut payload = pack(cubin);
        let mut head = [0; 64];
        head[0] = 2;
        head[4] = 64;
        let compressed = if flags == 0 { 0 } else { payload.len() as u32 };
        payload.resize(payload.len().next_multiple_of(8), 0);
        head[8..16].copy_from_slice(&(payload.len() as u64).to_le_bytes());
        head[16..20].copy_from_slice(&compressed.to_le_bytes());
        head[28] = 90;
        head[40..48].copy_from_slice(&flags.to_le_bytes());
        head[56..64].copy_from_slice(&(cubin.len() as u64).to_le_bytes());
        body.extend(head);
        body.extend(payload);
    }
    let mut out = fatbin(&[]);
    out[8..16].copy_from_slice(&(body.len() as u64).to_le_bytes());
    out.extend(body);
    out
}
