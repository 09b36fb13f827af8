//! Which objects of a store nothing needs: mark and sweep.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use sconce_blob::{Assembly, Digest, Segment};

use crate::Store;
use crate::disk::bytes_below;
use crate::error::{Error, at, shell};
use crate::files::list;
use crate::folders::folders_key;
use crate::images::Image;
use crate::lock::{TryLock, try_exclusive};
use crate::own;
use crate::pins;
use crate::prune::{Policy, Pruned, Which};

/// What kind of thing a file or folder of the store is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Blob,
    Tree,
    /// The record of a layer.
    Layer,
    /// A download that was cut off.
    Partial,
    Memo,
}

#[derive(Debug)]
pub(crate) struct Object {
    pub(crate) kind: Kind,
    /// None when its name isn't one of ours.
    digest: Option<Digest>,
    pub(crate) path: PathBuf,
}

/// What is to be done with an image that goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    /// See whether somebody uses it.
    Look,
    /// Remove its record and names unless somebody uses it, so that nobody can begin to.
    Remove,
}

#[derive(Default)]
pub(crate) struct Plan {
    pub(crate) pruned: Pruned,
    pub(crate) objects: Vec<Object>,
}

/// What is needed by those that stay.
#[derive(Default)]
struct Needed {
    blobs: HashSet<Digest>,
    layers: HashSet<Digest>,
}

pub(crate) struct Sweep<'a> {
    store: &'a Store,
    /// The blobs that virtual ones are made of: read once, since that takes longest.
    parts: HashMap<Digest, HashSet<Digest>>,
    sizes: HashMap<PathBuf, u64>,
}

impl<'a> Sweep<'a> {
    pub(crate) fn new(store: &'a Store) -> Self {
        Self { store, parts: HashMap::new(), sizes: HashMap::new() }
    }

    /// What other processes use.
    pub(crate) fn others(&self) -> Result<HashSet<Digest>, Error> {
        pins::of_others(&self.store.place().folder("tmp"), self.store.scratch())
    }

    /// Chooses what goes, and deals with images that do.
    pub(crate) fn plan(
        &mut self,
        policy: &Policy,
        keep: &[Digest],
        claim: Claim,
    ) -> Result<Plan, Error> {
        let store = self.store;
        let others = self.others()?;
        let objects = self.objects(policy.images == Which::All)?;
        let mut plan = Plan::default();
        if let Some(keep) = policy.keep_bytes
            && policy.images == Which::Unnamed
        {
            let sizes = objects.iter().map(|object| self.size(&object.path));
            if sizes.sum::<Result<u64, Error>>()? <= keep {
                return Ok(plan);
            }
        }
        let names = store.names()?;
        let (mut staying, mut known) = (Vec::new(), true);
        for digest in store.place().images()? {
            let image = match store.load(digest, &names) {
                Err(damage @ Error::Corrupt { .. }) => {
                    let goes = policy.images == Which::All
                        || !names.values().any(|named| *named == digest);
                    let claim = if goes { claim } else { Claim::Look };
                    let free = !others.contains(&digest) && self.claim(digest, &names, claim)?;
                    store.note_unreadable(digest, &damage, (free, goes));
                    known &= free;
                    if free && goes {
                        plan.pruned.images.push(digest.to_string());
                    }
                    continue;
                }
                image => image?,
            };
            let Some(image) = image else { continue };
            let chosen = goes(&image, &policy.images);
            if chosen && !others.contains(&digest) && self.claim(digest, &names, claim)? {
                plan.pruned.images.push(self.shown(&image));
                continue;
            }
            if chosen {
                plan.pruned.in_use.push(self.shown(&image));
            }
            staying.push((image, chosen));
        }
        // The one used longest ago is the last.
        staying.sort_by_key(|(image, _)| std::cmp::Reverse((image.last_used, image.manifest)));
        let needed = loop {
            let needed = self.needed(staying.iter().map(|(image, _)| image), &others, keep)?;
            let Some(keep) = policy.keep_bytes else { break needed };
            let stay = objects.iter().filter(|object| needed.needs(object));
            let bytes: u64 = stay.map(|object| self.size(&object.path)).sum::<Result<_, _>>()?;
            let oldest = staying.iter().rposition(|(_, in_use)| !in_use);
            let Some(oldest) = oldest.filter(|_| bytes > keep) else { break needed };
            let digest = staying[oldest].0.manifest;
            if !others.contains(&digest) && self.claim(digest, &names, claim)? {
                plan.pruned.images.push(self.shown(&staying.remove(oldest).0));
            } else {
                plan.pruned.in_use.push(self.shown(&staying[oldest].0));
                staying[oldest].1 = true;
            }
        };
        plan.objects = objects.into_iter().filter(|object| !needed.needs(object)).collect();
        if !known {
            // What is in use may need any of them.
            plan.objects.clear();
        }
        Ok(plan)
    }

    /// Says whether an image can go: no container uses it, nor a process that reads this store from
    /// above.
    pub(crate) fn claim(
        &self,
        image: Digest,
        names: &BTreeMap<String, Digest>,
        claim: Claim,
    ) -> Result<bool, Error> {
        let record = self.store.place().image(image);
        let _lock = match try_exclusive(&record) {
            Ok(TryLock::Held(lock)) => Some(lock),
            Ok(TryLock::Busy) => return Ok(false),
            Ok(TryLock::Gone) => return Ok(true),
            // Nobody can hold what is no file.
            Err(Error::Corrupt { .. }) => None,
            Err(error) => return Err(error),
        };
        if claim == Claim::Remove {
            // Whoever pushes it right now goes by its record.
            let Some(_pushing) = self.store.try_lock("pushed", image)? else { return Ok(false) };
            for (name, _) in names.iter().filter(|(_, of)| **of == image) {
                self.store.remove_name(name)?;
            }
            match self.store.discard(&record) {
                // It says nothing of any image, and is in nobody's way.
                Err(error @ Error::Unremovable { .. }) => self.store.note_leftover(&error),
                discarded => discarded?,
            }
            self.store.forget_pushed_image(image)?;
        }
        Ok(true)
    }

    /// What only this image needs, which has no record any more.
    pub(crate) fn only_of(
        &mut self,
        image: &Image,
        others: &HashSet<Digest>,
    ) -> Result<Vec<Object>, Error> {
        let mut staying = Vec::new();
        for digest in self.store.place().images()? {
            match self.store.load(digest, &BTreeMap::new()) {
                // What it needs is not known: all stays until it is dealt with.
                Err(Error::Corrupt { .. }) => return Ok(Vec::new()),
                image => staying.extend(image?),
            }
        }
        let needed = self.needed(&staying, others, &[])?;
        let own = self.needed([image], &HashSet::new(), &[])?;
        let mut objects = self.objects(false)?;
        objects.retain(|object| own.needs(object) && !needed.needs(object));
        Ok(objects)
    }

    /// Moves objects away. Returns where they are now.
    pub(crate) fn move_away(&self, objects: Vec<Object>) -> Result<Vec<(Kind, PathBuf)>, Error> {
        let mut moved = Vec::new();
        for Object { kind, digest, path } in objects {
            // Whoever downloads it holds this.
            let _lock = match (kind, digest) {
                (Kind::Partial, Some(digest)) => match self.store.try_lock("partial", digest)? {
                    None => continue,
                    lock => lock,
                },
                _ => None,
            };
            let trash = self.store.scratch_path();
            match own::rename(&path, &trash) {
                Ok(()) => moved.push((kind, trash)),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => self.store.note(&left(&path, error)),
            }
        }
        Ok(moved)
    }

    /// All that images can need, and what none does.
    fn objects(&self, memos: bool) -> Result<Vec<Object>, Error> {
        let place = self.store.place();
        let mut objects = Vec::new();
        let add = |objects: &mut Vec<Object>, kind, folder: &Path| -> Result<(), Error> {
            objects.extend(list(folder)?.into_iter().map(|path| Object {
                kind,
                digest: digest_in(&path),
                path,
            }));
            Ok(())
        };
        for parent in ["blobs/sha256", "virtual"] {
            let (folders, strange): (Vec<PathBuf>, Vec<PathBuf>) = list(&place.folder(parent))?
                .into_iter()
                .partition(|path| path.symlink_metadata().is_ok_and(|about| about.is_dir()));
            folders.iter().try_for_each(|folder| add(&mut objects, Kind::Blob, folder))?;
            let strange = strange.into_iter();
            objects.extend(strange.map(|path| Object { kind: Kind::Blob, digest: None, path }));
        }
        add(&mut objects, Kind::Tree, &place.folder("trees"))?;
        add(&mut objects, Kind::Layer, &place.folder("layers"))?;
        add(&mut objects, Kind::Partial, &place.folder("partial"))?;
        // Memos are small, and whoever reads one looks whether what it names is still there.
        // Without them all that stays would have to be made again to be known.
        if memos {
            add(&mut objects, Kind::Memo, &place.folder("memo"))?;
        }
        Ok(objects)
    }

    fn needed<'i>(
        &mut self,
        images: impl IntoIterator<Item = &'i Image>,
        others: &HashSet<Digest>,
        keep: &[Digest],
    ) -> Result<Needed, Error> {
        let mut needed = Needed { blobs: others.clone(), layers: others.clone() };
        needed.blobs.extend(keep);
        for image in images {
            needed.blobs.extend([image.manifest, image.config]);
            needed.blobs.extend(image.layers.iter().map(|layer| layer.digest));
            needed.layers.extend(image.layers.iter().map(|layer| layer.diff_id));
            needed.layers.insert(folders_key(image.manifest));
        }
        let place = self.store.place();
        for diff_id in others {
            let layer = self.or_none(place.read_layer(*diff_id))?;
            needed.blobs.extend(layer.map(|layer| layer.digest));
        }
        for digest in needed.blobs.clone() {
            let read = match self.parts.contains_key(&digest) {
                true => None,
                false => self.or_none(place.assembly(digest))?,
            };
            let parts = match self.parts.entry(digest) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(unknown) => match read {
                    Some(assembly) => unknown.insert(parts_of(&assembly)),
                    None => continue,
                },
            };
            needed.blobs.extend(parts.iter());
        }
        Ok(needed)
    }

    /// What was read of a description. One that is damaged names nothing.
    fn or_none<T>(&self, read: Result<Option<T>, Error>) -> Result<Option<T>, Error> {
        match read {
            Err(damage @ Error::Corrupt { .. }) => {
                let hint = damage.hint().map_or(String::new(), |hint| format!(": {hint}"));
                self.store.note_damaged(&damage, &format!("what only it was made of goes{hint}"));
                Ok(None)
            }
            read => read,
        }
    }

    fn shown(&self, image: &Image) -> String {
        let mut shown = match &image.names[..] {
            [] => image.manifest.to_string(),
            names => names.join(", "),
        };
        if image.store != self.store.root() {
            shown.push_str(" (its parts in this store)");
        }
        shown
    }

    pub(crate) fn size(&mut self, path: &Path) -> Result<u64, Error> {
        if let Some(size) = self.sizes.get(path) {
            return Ok(*size);
        }
        let size = bytes_below(path)?;
        self.sizes.insert(path.to_owned(), size);
        Ok(size)
    }
}

/// What can't be moved away. A tree of another user of a group's store may be closed to this one, as those that an
/// older sconce made.
fn left(path: &Path, error: std::io::Error) -> String {
    let you = rustix::process::geteuid().as_raw();
    let owner = fs::symlink_metadata(path).map_or(you, |meta| meta.uid());
    match error.kind() == std::io::ErrorKind::PermissionDenied && owner != you {
        true => format!(
            "left: {0} belongs to uid {owner}, and only they can remove it: by `sconce prune`, or `chmod g+w {0}` lets all of the group",
            shell(path)
        ),
        false => format!("left: {}", at("remove", path)(error)),
    }
}

impl Needed {
    fn needs(&self, object: &Object) -> bool {
        match (object.kind, object.digest) {
            (Kind::Blob, Some(digest)) => self.blobs.contains(&digest),
            (Kind::Tree | Kind::Layer, Some(digest)) => self.layers.contains(&digest),
            (Kind::Partial | Kind::Memo, _) | (_, None) => false,
        }
    }
}

impl Pruned {
    pub(crate) fn count(&mut self, kind: Kind) {
        match kind {
            Kind::Blob => self.blobs += 1,
            Kind::Tree => self.trees += 1,
            Kind::Layer | Kind::Partial | Kind::Memo => {}
        }
    }
}

fn goes(image: &Image, which: &Which) -> bool {
    let unused = SystemTime::now().duration_since(image.last_used).unwrap_or_default();
    match which {
        Which::Unnamed => image.names.is_empty(),
        Which::UnusedFor(time) => image.names.is_empty() || unused >= *time,
        Which::All => true,
    }
}

/// The blobs that a virtual one is made of.
pub(crate) fn parts_of(assembly: &Assembly) -> HashSet<Digest> {
    let parts = assembly.segments.iter().filter_map(|segment| match segment {
        Segment::Blob { digest, .. } => Some(*digest),
        Segment::Literal { .. } => None,
    });
    parts.collect()
}

fn digest_in(path: &Path) -> Option<Digest> {
    path.file_stem()?.to_str()?.parse().ok()
}
