//! Bytes as a .deb: whatever they are, it is read to its end or refused.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sconce_debian::Deb;

/// Bytes read of one package at most, so that a good compressor doesn't make a slow input.
const ENOUGH: usize = 1 << 24;

fn read(bytes: &[u8]) -> Result<(), sconce_debian::DebError> {
    let source = bytes.to_vec();
    let deb = Deb::open(&source)?;
    let _ = deb.control();
    let mut tar = deb.data()?;
    let (mut buffer, mut total) = ([0; 4096], 0);
    while let Some(entry) = tar.next_entry()? {
        assert!(entry.path.is_empty() || sconce_layer::check_path(&entry.path).is_ok());
        assert!(!entry.link.contains('\0'));
        loop {
            let n = tar.read(&mut buffer)?;
            total += n;
            if n == 0 || total > ENOUGH {
                break;
            }
        }
        if total > ENOUGH {
            break;
        }
    }
    Ok(())
}

fuzz_target!(|bytes: &[u8]| {
    let _ = read(bytes);
});
