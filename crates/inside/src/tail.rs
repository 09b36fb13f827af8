//! A file that is read while it is written.

use std::fs::File;
use std::io::{self, Read};
use std::time::Duration;

/// How often is looked for more.
pub(crate) const LOOK: Duration = Duration::from_millis(40);

/// Reads what has been written since. A program that writes faster than is read here does not keep this from ending.
pub(crate) fn read(file: &mut File, take: &mut dyn FnMut(&[u8])) -> io::Result<()> {
    let mut bytes = [0; 16 << 10];
    for _ in 0..256 {
        let count = file.read(&mut bytes)?;
        if count == 0 {
            break;
        }
        take(&bytes[..count]);
    }
    Ok(())
}
