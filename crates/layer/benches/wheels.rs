//! How close assembling wheel layers comes to the work that can't be left out.
//!
//! `cargo bench -p sconce-layer --bench wheels -- FOLDER [threads]` with a folder of wheels. The
//! floor inflates every entry and takes the SHA-256 of what comes out and of what goes in, with
//! the same libraries, files handed out largest first. Each runs three times in turn.

use std::fs::File;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use sconce_blob::{Digest, Hasher};
use sconce_layer::{Job, LayerPlan, ReadAt, Venv, Wheel, assemble_all, plan};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let Some(folder) = arguments.first() else {
        eprintln!("no folder of wheels given: nothing is measured");
        return Ok(());
    };
    let threads = match arguments.get(1) {
        Some(text) => text.parse()?,
        None => std::thread::available_parallelism()?,
    };
    let started = Instant::now();
    let wheels = open(Path::new(folder))?;
    let opened = started.elapsed();
    let plans = plan(&wheels, &Venv::new("/opt/venv", "3.13")?, &[])?.layers;
    let planned = started.elapsed() - opened;
    let bytes: u64 = wheels.iter().map(Wheel::size).sum();
    let unpacked: u64 = plans.iter().map(LayerPlan::unpacked).sum();
    let blobs: u64 = plans.iter().map(|plan| plan.assembly().len()).sum();
    println!(
        "{} wheels, {:.3} GB, unpacked {:.3} GB, {} layers of {:.3} GB, {threads} threads",
        wheels.len(),
        gb(bytes),
        gb(unpacked),
        plans.len(),
        gb(blobs)
    );
    let started = Instant::now();
    let keys: Vec<Digest> = plans.iter().map(LayerPlan::key).collect();
    println!("opened {opened:.3?}, planned {planned:.3?}, keys {:.3?}", started.elapsed());
    drop(keys);

    let jobs: Vec<Job<'_>> = plans.iter().map(|plan| Job { plan, unpack: None }).collect();
    let mut best = [[f64::MAX; 2]; 2];
    let mut first = None;
    for round in 1..=3 {
        let floor = timed(|| floor(&wheels, threads));
        let mut layers = Vec::new();
        let ours = timed(|| {
            layers = assemble_all(&jobs, threads, &())?;
            Ok(())
        });
        let (floor, ours) = (floor?, ours?);
        assert_eq!(first.get_or_insert(layers.clone()), &layers, "digests differ between rounds");
        println!(
            "round {round}: floor {:.2} s ({:.2} s of processor), layers {:.2} s ({:.2} s)",
            floor[0], floor[1], ours[0], ours[1]
        );
        for n in 0..2 {
            best[n] = [best[n][0].min(floor[n]), best[n][1].min(ours[n])];
        }
    }
    println!(
        "best: {:.3} times the floor on the clock, {:.3} in processor time",
        best[0][1] / best[0][0],
        best[1][1] / best[1][0]
    );
    if let Ok(status) = std::fs::read_to_string("/proc/self/status") {
        status.lines().filter(|line| line.starts_with("VmHWM")).for_each(|line| println!("{line}"));
    }
    Ok(())
}

fn gb(bytes: u64) -> f64 {
    bytes as f64 / 1e9
}

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// Seconds on the clock and seconds of processor time.
fn timed(work: impl FnOnce() -> Outcome<()>) -> Outcome<[f64; 2]> {
    let (started, before) = (Instant::now(), processor_time());
    work()?;
    Ok([started.elapsed().as_secs_f64(), processor_time() - before])
}

/// proc(5): utime and stime, in ticks of 10 ms.
fn processor_time() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
    fields.iter().skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>()
        / 100.0
}

fn open(folder: &Path) -> Outcome<Vec<Wheel>> {
    let mut wheels = Vec::new();
    for file in std::fs::read_dir(folder)? {
        let file = file?;
        let name = file.file_name().to_string_lossy().into_owned();
        if name.ends_with(".whl") {
            // Which digest stands for the wheel does not matter to the time it takes.
            let digest = Digest::of(name.as_bytes());
            wheels.push(Wheel::open(&name, digest, Arc::new(File::open(file.path())?))?);
        }
    }
    Ok(wheels)
}

/// Inflates and digests all entries; then digests what the layers are made of: the wheels.
fn floor(wheels: &[Wheel], threads: NonZeroUsize) -> Outcome<()> {
    let mut entries: Vec<(u64, usize, u64, u64)> = Vec::new();
    for (n, wheel) in wheels.iter().enumerate() {
        entries.extend(wheel.streams().map(|(offset, len, size)| (size, n, offset, len)));
    }
    entries.sort_by_key(|&(size, ..)| std::cmp::Reverse(size));
    let next = AtomicUsize::new(0);
    let failure = Mutex::new(None);
    std::thread::scope(|scope| {
        for _ in 0..threads.get() {
            scope.spawn(|| {
                let mut input = vec![0; 128 << 10];
                let mut output = vec![0; 256 << 10];
                let mut inflate = flate2::Decompress::new(false);
                while let Some(&(_, n, offset, len)) =
                    entries.get(next.fetch_add(1, Ordering::Relaxed))
                {
                    let source = wheels[n].source();
                    inflate.reset(false);
                    let done =
                        digest_entry(source, offset, len, &mut inflate, &mut input, &mut output);
                    if let Err(error) = done {
                        *failure.lock().unwrap() = Some(error.to_string());
                    }
                }
            });
        }
    });
    match failure.into_inner()? {
        Some(error) => Err(error.into()),
        None => Ok(()),
    }
}

fn digest_entry(
    source: &dyn ReadAt,
    mut offset: u64,
    mut len: u64,
    inflate: &mut flate2::Decompress,
    input: &mut [u8],
    output: &mut [u8],
) -> std::io::Result<()> {
    let (mut packed, mut unpacked) = (Hasher::new(), Hasher::new());
    while len > 0 {
        let n = len.min(input.len() as u64) as usize;
        source.read_exact_at(&mut input[..n], offset)?;
        (offset, len) = (offset + n as u64, len - n as u64);
        packed.update(&input[..n]);
        let mut rest = &input[..n];
        loop {
            let (before_in, before_out) = (inflate.total_in(), inflate.total_out());
            inflate
                .decompress(rest, output, flate2::FlushDecompress::None)
                .map_err(std::io::Error::other)?;
            rest = &rest[(inflate.total_in() - before_in) as usize..];
            let gave = (inflate.total_out() - before_out) as usize;
            unpacked.update(&output[..gave]);
            if rest.is_empty() && gave < output.len() {
                break;
            }
        }
    }
    std::hint::black_box((packed.finish(), unpacked.finish()));
    Ok(())
}
