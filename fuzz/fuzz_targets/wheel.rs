//! Any bytes as a wheel: refused, or a layer whose blob unpacks to exactly its DiffID.
#![no_main]

use std::io::{Read, Write};
use std::num::NonZeroUsize;
use std::sync::Arc;

use flate2::read::MultiGzDecoder;
use libfuzzer_sys::fuzz_target;
use sconce_blob::{Digest, Hasher, Segment};
use sconce_layer::{Job, Venv, Wheel, assemble_all, plan};

/// Wheels that unpack to more are assembled but not compared.
const COMPARED: u64 = 4 << 20;

fuzz_target!(|bytes: &[u8]| {
    let bytes = Arc::new(bytes.to_vec());
    let digest = Digest::of(&bytes);
    let name = "demo-1.0-py3-none-any.whl";
    let Ok(wheel) = Wheel::open(name, digest, bytes.clone()) else { return };
    let venv = Venv::new("/opt/venv", "3.13").unwrap();
    let Ok(planned) = plan(&[wheel], &venv, &[]) else { return };
    let jobs: Vec<Job<'_>> = planned.layers.iter().map(|plan| Job { plan, unpack: None }).collect();
    let Ok(layers) = assemble_all(&jobs, NonZeroUsize::MIN, &()) else { return };
    assert_eq!(layers.len(), planned.layers.len());
    for (plan, layer) in planned.layers.iter().zip(layers) {
        if plan.unpacked() > COMPARED {
            continue;
        }
        let mut blob = Vec::new();
        let mut literals = &plan.assembly().literals[..];
        for segment in &plan.assembly().segments {
            match *segment {
                Segment::Literal { len } => {
                    let (now, later) = literals.split_at(len as usize);
                    blob.write_all(now).unwrap();
                    literals = later;
                }
                Segment::Blob { offset, len, .. } => {
                    blob.write_all(&bytes[offset as usize..][..len as usize]).unwrap();
                }
            }
        }
        assert_eq!(layer.digest, Digest::of(&blob));
        let mut tar = Vec::new();
        MultiGzDecoder::new(&blob[..]).read_to_end(&mut tar).unwrap();
        let mut hasher = Hasher::new();
        hasher.update(&tar);
        assert_eq!(layer.diff_id, hasher.finish());
    }
});
