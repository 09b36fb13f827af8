//! For `sconce monitor` and `top`: where NVML is, and the containers of our own that run.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use sconce_gpu::{Machine, driver};
use sconce_monitor::owner::OwnContainer;
use sconce_monitor::sample::Workload;
use sconce_monitor::sampler::FindOwn;
use sconce_run::Listed;

use crate::context::open_store;

/// The driver's NVML, with all links followed: a driver that is replaced has another name then, and the new one is
/// loaded. Where `LD_LIBRARY_PATH` or no driver says otherwise, the linker's.
pub fn library() -> PathBuf {
    let name = PathBuf::from("libnvidia-ml.so.1");
    if std::env::var_os("LD_LIBRARY_PATH").is_some_and(|paths| !paths.is_empty()) {
        return name;
    }
    let folder = driver::survey(&Machine::host()).folder;
    let found = folder.and_then(|folder| folder.join(&name).canonicalize().ok());
    found.unwrap_or(name)
}

/// Finds our own containers that run. The store is opened only to look up the image of a new one, and closed again:
/// an open store keeps what it has looked at from being pruned.
pub fn finder() -> FindOwn {
    let mut images: HashMap<String, (String, String)> = HashMap::new();
    let mut folder: Option<PathBuf> = None;
    Box::new(move || {
        if folder.is_none() {
            // A store that is not there is not made by who only looks.
            let root = sconce_store::default_root(|name| std::env::var_os(name)).ok();
            let there = root.filter(|root| root.join("containers").is_dir());
            folder = there.and_then(|_| open_store().ok()?.containers().ok());
        }
        let Some(folder) = &folder else { return Vec::new() };
        let mut listed = sconce_run::list(folder).unwrap_or_default();
        listed.retain(|one| one.alive);
        images.retain(|id, _| listed.iter().any(|one| one.id == *id));
        for one in &listed {
            if !images.contains_key(&one.id) {
                images.insert(one.id.clone(), image(one).unwrap_or_default());
            }
        }
        listed.iter().filter_map(|one| container(one, images.get(&one.id)?)).collect()
    })
}

/// The image whose trees the container stands on, and the environment that it was built from. A name alone proves
/// nothing: it may mean another image by now.
fn image(one: &Listed) -> Option<(String, String)> {
    let store = open_store().ok()?;
    let found = store.images().ok()?.into_iter().find(|image| {
        let mut trees = image.layers.iter().rev().map(|layer| store.tree(layer.diff_id));
        let lowers = &one.container.lowers;
        // Above the image's own there may be one that puts a driver's libraries in front.
        let own = lowers.len().checked_sub(image.layers.len()).and_then(|at| lowers.get(at..));
        own.is_some_and(|own| {
            !own.is_empty()
                && own.iter().all(|lower| {
                    trees.next().and_then(|tree| tree.ok().flatten()).as_deref()
                        == Some(Path::new(lower))
                })
        })
    })?;
    let lock = found.labels.get("dev.sconce.environment").cloned().unwrap_or_default();
    Some((found.manifest.to_string(), lock))
}

fn container(one: &Listed, (image_digest, lock): &(String, String)) -> Option<OwnContainer> {
    let workload = Workload {
        runtime: "sconce".to_owned(),
        container: one.id.clone(),
        name: one.container.name.clone().unwrap_or_default(),
        image: one.container.image.clone(),
        image_digest: image_digest.clone(),
        lock: lock.clone(),
        ..Workload::default()
    };
    // `0 NVIDIA H100 …`, or `0:1 …` for an instance of MIG.
    let numbers = one.container.gpus.iter().filter_map(|name| name.split([' ', ':']).next());
    let gpus = numbers.filter_map(|number| number.parse().ok()).collect();
    Some(OwnContainer { pid: u32::try_from(one.state.pid?).ok()?, workload, gpus })
}
