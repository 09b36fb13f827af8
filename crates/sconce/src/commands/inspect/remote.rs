//! An image in a registry as the subject: its layers pass by, and only an outline of each is stored.

use std::io::{self, BufReader, Read};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use sconce_build::{Progress, Stage};
use sconce_inspect::archive;
use sconce_inspect::skeleton::Scraps;
use sconce_inspect::source::Subject;
use sconce_inspect::stream::Layer;
use sconce_inspect::{Moved, Tree};
use sconce_oci::Descriptor;
use sconce_registry::{Image, Reference, Registry, Rights};
use sconce_store::Store;

use crate::cli::Global;
use crate::context::Context;
use crate::error::{Failure, Kind};

/// Connections to one registry at a time.
const MAX_CONNECTIONS: usize = 8;
/// Bytes taken from the network at a time.
const PIECE: usize = 256 << 10;

/// The memo that leads from a layer's digest to the blob with its outline.
const MEMO: &str = "outline-1";
/// No outline is larger; the largest of torch 2.15.0's set takes 6 MB.
const MAX_OUTLINE: u64 = 512 << 20;

/// Where the files of a layer come from.
enum Files {
    /// A tree of the store.
    Tree(PathBuf),
    /// The outline of a layer that passed by before.
    Outline(Layer),
    /// What was kept of it as it passed by.
    Passed(Layer),
}

impl Files {
    const fn are_here(&self) -> bool {
        matches!(self, Self::Tree(_) | Self::Outline(_))
    }
}

/// Reads the image that `text` names, for `architecture` as OCI calls it.
pub fn subject(
    global: &Global,
    text: &str,
    architecture: &str,
) -> Result<(Subject, Moved), Failure> {
    let context = Context::open(global)?;
    let reference = Reference::parse(text)?;
    let registry = Registry::new(&context.access(), reference, &Rights::Pull)?;
    let image = registry.image(architecture)?;
    let files = layers(&context, &registry, &image)?;
    let here = files.iter().filter(|files| files.are_here()).count();
    let mut tree = Tree::new();
    for files in files {
        match files {
            Files::Tree(path) => tree.add_folder(&path, "")?,
            Files::Outline(layer) | Files::Passed(layer) => layer.put(&mut tree),
        }
    }
    let env = archive::environment(&image.digest.to_string(), &image.config)?;
    let moved = Moved {
        bytes: registry.moved(),
        of: image.layers.iter().map(|layer| layer.size).sum(),
        layers_here: here,
        layers: image.layers.len(),
    };
    Ok((Subject::image("image in a registry", archive::Image { tree, env }), moved))
}

/// The files of all layers, several at a time, the base first.
fn layers(context: &Context, registry: &Registry, image: &Image) -> Result<Vec<Files>, Failure> {
    let scraps = Scraps::new().map_err(|error| {
        Failure::of(Kind::Storage, &error, Some("TMPDIR names another folder".into()))
    })?;
    let scraps = Arc::new(scraps);
    let mut found: Vec<Option<Files>> = Vec::new();
    for (diff_id, layer) in image.diff_ids.iter().zip(&image.layers) {
        found.push(match context.store.tree(*diff_id)? {
            Some(tree) => Some(Files::Tree(tree)),
            None => outline(&context.store, layer, &scraps)?.map(Files::Outline),
        });
    }
    let mut missing: Vec<usize> = (0..found.len()).filter(|&at| found[at].is_none()).collect();
    // The largest first.
    missing.sort_by_key(|&at| std::cmp::Reverse(image.layers[at].size));
    let total = missing.iter().map(|&at| image.layers[at].size).sum();
    let stage = context.display.begin("reading", Some(total));
    let next = AtomicUsize::new(0);
    let results = Mutex::new(Vec::new());
    let failure = Mutex::new(None);
    let threads = context.threads.clamp(2, MAX_CONNECTIONS).min(missing.len());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(&at) = missing.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if locked(&failure).is_some() {
                        return;
                    }
                    match pass(context, registry, &image.layers[at], &scraps, &*stage) {
                        Ok(layer) => locked(&results).push((at, layer)),
                        Err(error) => {
                            locked(&failure).get_or_insert(error);
                        }
                    }
                }
            });
        }
    });
    if let Some(failure) = failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(failure);
    }
    for (at, layer) in results.into_inner().unwrap_or_else(PoisonError::into_inner) {
        found[at] = Some(Files::Passed(layer));
    }
    stage.end(&format!("{} layers", missing.len()));
    Ok(found.into_iter().flatten().collect())
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Lets one layer pass by, and believes it only when its digest is right.
fn pass(
    context: &Context,
    registry: &Registry,
    layer: &Descriptor,
    scraps: &Arc<Scraps>,
    stage: &dyn Stage,
) -> Result<Layer, Failure> {
    let name = layer.digest.to_string();
    let mut blob = registry.blob(layer)?;
    let watched = BufReader::with_capacity(PIECE, Watched { inner: &mut blob, stage });
    let files = Layer::read(&name, watched, scraps);
    // Bytes with another digest explain whatever else is wrong with them.
    blob.verify()?;
    let files = files?;
    let bytes = files.to_bytes().map_err(|error| Failure::of(Kind::Storage, &error, None))?;
    let outline = context.store.put_bytes(&bytes)?;
    context.store.put_memo(MEMO, layer.digest, outline.to_string().as_bytes())?;
    Ok(files)
}

/// The outline of a layer, if it has passed by here before and was not pruned since.
fn outline(
    store: &Store,
    layer: &Descriptor,
    scraps: &Arc<Scraps>,
) -> Result<Option<Layer>, Failure> {
    let Some(memo) = store.memo(MEMO, layer.digest)? else { return Ok(None) };
    let digest = str::from_utf8(&memo).ok().and_then(|text| text.parse().ok());
    match digest {
        Some(digest) if store.has_blob(digest)? => {
            Ok(Layer::from_bytes(&store.read_blob(digest, MAX_OUTLINE)?, scraps))
        }
        _ => Ok(None),
    }
}

/// Tells what passes.
struct Watched<'a, R> {
    inner: R,
    stage: &'a dyn Stage,
}

impl<R: Read> Read for Watched<'_, R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buf)?;
        self.stage.advance(n as u64);
        Ok(n)
    }
}
