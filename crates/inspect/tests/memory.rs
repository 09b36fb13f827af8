//! An archive of two million files, made while it is read: memory stays bounded, however it is opened.
//!
//! Alone in its process, since the most memory a process ever held is measured.

use std::io::{self, Read};
use std::sync::Arc;

use sconce_inspect::read::ReadAt;
use sconce_inspect::skeleton::Scraps;
use sconce_inspect::stream::Layer;
use sconce_inspect::{Options, Tree, archive, inspect};

const FILES: u64 = 1_999_000;
const BLOCK: u64 = 512;
/// What issue and README promise, bytes.
const LIMIT: u64 = 512 << 20;

/// A header and one block of content for each file; names as long as real ones.
struct Million;

impl Million {
    fn block(at: u64) -> [u8; BLOCK as usize] {
        let mut block = [0; BLOCK as usize];
        if at >= FILES * 2 {
            return block;
        }
        if at % 2 == 1 {
            block[..12].copy_from_slice(b"#!/bin/sh\n:\n");
            return block;
        }
        let name = format!("opt/venv/lib/python3.13/site-packages/{:04}/{at:07}", at / 2000);
        block[..name.len()].copy_from_slice(name.as_bytes());
        block[100..107].copy_from_slice(b"0000644");
        block[124..135].copy_from_slice(b"00000001000");
        block[156] = b'0';
        block[257..263].copy_from_slice(b"ustar\0");
        block[148..156].fill(b' ');
        let sum: u64 = block.iter().map(|byte| u64::from(*byte)).sum();
        block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        block
    }
}

impl ReadAt for Million {
    fn size(&self) -> u64 {
        (FILES * 2 + 2) * BLOCK
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let wanted = self.size().saturating_sub(offset).min(buf.len() as u64) as usize;
        let mut filled = 0;
        while filled < wanted {
            let at = offset + filled as u64;
            let block = Self::block(at / BLOCK);
            let rest = &block[(at % BLOCK) as usize..];
            let n = rest.len().min(wanted - filled);
            buf[filled..filled + n].copy_from_slice(&rest[..n]);
            filled += n;
        }
        Ok(filled)
    }
}

struct Stream(u64);

impl Read for Stream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = Million.read_at(buf, self.0)?;
        self.0 += n as u64;
        Ok(n)
    }
}

/// The most memory this process ever held, bytes (proc_pid_status(5), `VmHWM`).
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

#[test]
fn two_million_files() {
    let options = Options { partial: true, skip_copies: true, threads: 2, ..Options::default() };
    for passing in [true, false] {
        let mut tree = Tree::new();
        if passing {
            let scraps = Arc::new(Scraps::new().unwrap());
            let stream = io::BufReader::with_capacity(64 << 10, Stream(0));
            Layer::read("layer", stream, &scraps).unwrap().put(&mut tree);
        } else {
            let archive: Arc<dyn ReadAt> = Arc::new(Million);
            archive::add_layer(&mut tree, "layer", &archive, 4).unwrap();
        }
        let report = inspect("million", &tree, &options, &|_, _| {});
        assert_eq!(report.weight.files, FILES);
        let peak = peak();
        assert!(peak < LIMIT, "{} MiB, passing: {passing}", peak >> 20);
        println!("{} MiB, passing: {passing}", peak >> 20);
    }
}
