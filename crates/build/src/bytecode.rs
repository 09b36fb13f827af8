//! Bytecode layers: every `.py` of the base and the wheels compiled in a container without
//! network, by the Python of the image. One layer for the base and one for each layer of wheels.
//!
//! Without them `import torch` takes three times as long in a fresh container. The invalidation
//! mode is `unchecked-hash` (PEP 552): the bytes depend on the source, its path and the Python
//! version, on no clock and no processor, and (see `compile.py`) on no file of another layer.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use sconce_blob::{Digest, Hasher};
use sconce_facts::Machine;
use sconce_layer::{Content, Entry, Kind, LayerPlan, Meta};
use sconce_lock::{DebPin, Lock, PythonPin};
use sconce_run::{Container, Exit, Network, Volume};
use sconce_store::Layer;

use crate::builder::{Builder, NamedLayer, Trees};
use crate::error::{Error, at};
use crate::image::architecture;
use crate::python;
use crate::resolve::debian_pins;
use crate::trees::{Sources, scratch};
use crate::venv::site_packages;

/// The memo that leads from a unit's key to its layer, or to [`NOTHING`].
const MEMO: &str = "bytecode-layer";

/// What is remembered of a unit without Python.
const NOTHING: &[u8] = b"nothing";

/// How much of the compiler's words is kept, bytes.
const OUTPUT_LIMIT: usize = 64 << 10;

/// The program that compiles, inside.
const COMPILER: &str = include_str!("bytecode/compile.py");

/// Where the program and its list lie inside.
const WORK: &str = "/run/sconce";

/// Where inside the bytecode comes to lie, a folder for each layer.
const OUT: &str = ".bytecode";

/// What is compiled into a layer of its own.
pub(crate) struct Unit {
    /// `bytecode of torch 2.15.0`.
    name: String,
    key: Digest,
    /// The plan of the wheels; none is the base.
    plan: Option<usize>,
    state: State,
}

enum State {
    Missing,
    /// There is no Python in it.
    Nothing,
    Made(Layer),
}

impl Unit {
    pub(crate) fn is_missing(&self) -> bool {
        matches!(self.state, State::Missing)
    }

    /// The layer, if there is anything in it.
    pub(crate) fn into_layer(self) -> Option<NamedLayer> {
        match self.state {
            State::Made(layer) => Some(NamedLayer { name: self.name, layer }),
            State::Missing | State::Nothing => None,
        }
    }
}

impl Builder<'_> {
    /// What has bytecode in the image of a lock, with the layers that were made before.
    pub(crate) fn bytecode_units(
        &self,
        lock: &Lock,
        plans: &[LayerPlan],
    ) -> Result<Vec<Unit>, Error> {
        if !lock.facts.bytecode {
            return Ok(Vec::new());
        }
        let python = python_versions(lock);
        let unit = |name: &str, plan: Option<usize>, of: &[u8]| -> Result<Unit, Error> {
            let mut hasher = Hasher::new();
            hasher.update(b"sconce bytecode 4\n");
            hasher.update(python.as_bytes());
            hasher.update(of);
            let key = hasher.finish();
            let state = match self.store.memo(MEMO, key)?.as_deref() {
                Some(NOTHING) => State::Nothing,
                _ => self.remembered(MEMO, key)?.map_or(State::Missing, State::Made),
            };
            Ok(Unit { name: format!("bytecode of {name}"), key, plan, state })
        };
        // The standard library describes its processor (`_sysconfigdata`); wheels are told apart by their plans.
        let machine = lock.facts.machine.debian().as_bytes();
        let mut units = vec![unit(&format!("python {}", lock.facts.python), None, machine)?];
        for (at, plan) in plans.iter().enumerate() {
            units.push(unit(plan.name(), Some(at), plan.key().as_bytes())?);
        }
        Ok(units)
    }

    /// Where the sources of the wheels that are to be compiled are kept, if their trees are not,
    /// by the number of the plan.
    pub(crate) fn wanted_sources(
        &self,
        units: &[Unit],
        plans: &[LayerPlan],
    ) -> Result<BTreeMap<usize, Sources>, Error> {
        let mut wanted = BTreeMap::new();
        for at in units.iter().filter(|unit| unit.is_missing()).filter_map(|unit| unit.plan) {
            let layer = self.remembered_wheels(&plans[at])?.or(self.unpacked_wheels(&plans[at])?);
            let tree = layer.map(|layer| self.store.tree(layer.diff_id)).transpose()?;
            if tree.flatten().is_none() {
                let folder = scratch(self.store, &format!("sources/{at}"))?;
                wanted.insert(at, Sources::new(folder));
            }
        }
        Ok(wanted)
    }

    /// Compiles what is missing. `layers` are the base, a standalone Python if there is one, the skeleton and
    /// those of the wheels.
    pub(crate) fn compile(
        &self,
        lock: &Lock,
        units: &mut [Unit],
        layers: &[NamedLayer],
        sources: &BTreeMap<usize, Sources>,
        trees: Trees,
    ) -> Result<(), Error> {
        let stage = self.progress.begin("bytecode", None);
        let python = &lock.facts.python;
        let stdlib = python::library(lock);
        let debian = self.tree(layers.first())?;
        let base = self.root(lock, None, layers, sources)?;
        let missing = units.iter().filter(|unit| unit.is_missing());
        let roots = missing.map(|unit| self.root(lock, unit.plan, layers, sources));
        let mut roots = roots.collect::<Result<Vec<_>, _>>()?;
        let mut lowers = roots.clone();
        if Machine::current() == Some(lock.facts.machine) {
            lowers.retain(|root| *root != base);
            lowers.push(base.clone());
            if debian != base {
                lowers.push(debian);
            }
        } else {
            // Of the base that can't run here only the sources are shown; as everywhere in an
            // overlay, the first root that has a file wins.
            if let Some(root) = roots.iter().position(|root| *root == base) {
                let copy = scratch(self.store, "sources/base")?;
                copy_sources(&base, Path::new(&stdlib), &copy)?;
                lowers[root].clone_from(&copy);
                roots[root] = copy;
            }
            lowers.extend(self.foreign_compiler(lock)?);
        }
        let mut lists = Vec::new();
        for (unit, root) in units.iter().filter(|unit| unit.is_missing()).zip(&roots) {
            lists.push(sources_of(lock, unit, root)?);
        }
        // A base from another user's store can't be changed, not even by making a folder in it.
        if let Some(folders) = self.store.folders_over(&lowers)? {
            lowers.insert(0, folders);
        }
        let changes = self.compile_lists(lock, lowers, &lists)?;

        let mut count = 0;
        let missing = units.iter_mut().filter(|unit| unit.is_missing()).zip(&lists);
        for (number, (unit, list)) in missing.enumerate() {
            let made = changes.join(OUT).join(number.to_string());
            let entries = compiled(&made, python, list)?;
            if entries.is_empty() {
                self.store.put_memo(MEMO, unit.key, NOTHING)?;
                unit.state = State::Nothing;
                continue;
            }
            count += entries.iter().filter(|entry| matches!(entry.kind, Kind::File(_))).count();
            let layer = self.plain_layer(&unit.name, entries, trees == Trees::All)?.layer;
            self.remember(MEMO, unit.key, &layer)?;
            unit.state = State::Made(layer);
        }
        if count == 0 && lists.iter().any(|list| !list.is_empty()) {
            return Err(Error::Bytecode("Python compiled nothing".into()));
        }
        stage.end(&format!("{count} files compiled"));
        fs::remove_dir_all(&changes).map_err(at("remove", &changes))
    }

    /// The folder with the sources of a unit: where the standard library is, or the wheels of a plan.
    fn root(
        &self,
        lock: &Lock,
        plan: Option<usize>,
        layers: &[NamedLayer],
        sources: &BTreeMap<usize, Sources>,
    ) -> Result<PathBuf, Error> {
        let library = usize::from(lock.python.is_some());
        match plan {
            None => self.tree(layers.get(library)),
            Some(at) => match sources.get(&at) {
                Some(sources) => Ok(sources.root().to_owned()),
                // The skeleton is between.
                None => self.tree(layers.get(library + 2 + at)),
            },
        }
    }

    /// How many files are yet to be compiled, where `layers` have trees.
    pub(crate) fn count_missing(
        &self,
        lock: &Lock,
        units: &[Unit],
        layers: &[NamedLayer],
    ) -> Result<usize, Error> {
        let mut count = 0;
        for unit in units.iter().filter(|unit| unit.is_missing()) {
            let root = self.root(lock, unit.plan, layers, &BTreeMap::new())?;
            count += sources_of(lock, unit, &root)?.len();
        }
        Ok(count)
    }

    /// Compiles files, and returns the folder that holds what came of it.
    fn compile_lists(
        &self,
        lock: &Lock,
        lowers: Vec<PathBuf>,
        lists: &[BTreeSet<String>],
    ) -> Result<PathBuf, Error> {
        let work = scratch(self.store, "compiler")?;
        let lines = |(number, list): (usize, &BTreeSet<String>)| -> String {
            list.iter().map(|path| format!("{number} /{path}\n")).collect()
        };
        let list: String = lists.iter().enumerate().map(lines).collect();
        for (name, text) in [("compile.py", COMPILER), ("list", &list)] {
            let path = work.join(name);
            fs::write(&path, text).map_err(at("write", &path))?;
        }
        let changes = self.store.scratch_dir()?.join("bytecode");
        let command = [
            format!("/{}", python::interpreter(lock)).as_str(),
            // Python must not cache what it imports itself: such files carry the time of their
            // source. The user's packages do not count; PYTHONHASHSEED does, so not -I. The
            // program's folder, which Python before 3.11 always looks into, has nothing else.
            "-B",
            "-S",
            "-s",
            "-W",
            "ignore",
            &format!("{WORK}/compile.py"),
            &format!("{WORK}/list"),
            &format!("/{OUT}"),
            &self.threads.to_string(),
        ]
        .map(str::to_owned);
        let mut container = Container::new(lowers, scratch(self.store, "compile")?, command);
        container.env = vec![
            ("PATH".into(), "/usr/bin:/bin".into()),
            ("LANG".into(), "C.UTF-8".into()),
            // The order of sets of strings must not reach the bytes.
            ("PYTHONHASHSEED".into(), "0".into()),
        ];
        container.volumes =
            vec![Volume { source: work, target: WORK.into(), read_only: true, resolved: false }];
        container.network = Network::None;
        container.hostname = Some("sconce".into());
        container.keep_changes = Some(changes.clone());
        let progress = self.progress;
        let done =
            sconce_run::run_captured(&container, OUTPUT_LIMIT, &mut |text| progress.note(text))?;
        if done.exit != Exit::Code(0) {
            let words = String::from_utf8_lossy(&done.stderr);
            let tail: Vec<&str> = words.lines().rev().take(5).collect();
            return Err(Error::Bytecode(format!("{:?}: {}", done.exit, tail.join(" | "))));
        }
        Ok(changes)
    }

    fn tree(&self, layer: Option<&NamedLayer>) -> Result<PathBuf, Error> {
        let tree = layer.map(|named| self.store.tree(named.layer.diff_id)).transpose()?;
        tree.flatten().ok_or_else(|| Error::Bytecode("a layer was not unpacked".into()))
    }

    /// Roots with this machine's build of the very Python that the image of another processor
    /// has: bytecode depends on the version, not on the processor.
    fn foreign_compiler(&self, lock: &Lock) -> Result<Vec<PathBuf>, Error> {
        let machine = Machine::current().ok_or_else(|| {
            Error::Bytecode("this processor has no Debian to compile with".into())
        })?;
        match &lock.python {
            None => Ok(vec![self.foreign_debian(lock, architecture(machine))?]),
            Some(pin) => self.foreign_standalone(lock, pin, machine),
        }
    }

    /// The same for a standalone Python, with the C library of Debian below it.
    fn foreign_standalone(
        &self,
        lock: &Lock,
        pin: &PythonPin,
        machine: Machine,
    ) -> Result<Vec<PathBuf>, Error> {
        let python = &lock.facts.python;
        let base = sconce_facts::base_with(&lock.facts.base, python);
        let own = base.map(|base| self.standalone(base, machine)).transpose()?;
        let same = |own: &PythonPin| (&own.version, &own.build) == (&pin.version, &pin.build);
        let own = own.filter(same).ok_or_else(|| {
            Error::Bytecode(format!("the very build in {} is not known for {machine}", pin.file))
        })?;
        if self.store.blob_path(own.sha256)?.is_none() {
            self.download_all(&[self.wanted_build(&own)?])?;
        }
        let layer = self.python_layer(&own, python, true)?;
        let arch = architecture(machine);
        let pins = self.suites_pins(lock, arch, "libc6")?;
        self.download_debs(&pins)?;
        let debian = self.root_layer("C library", arch, lock, &pins)?;
        [layer, debian].iter().map(|layer| self.tree(Some(layer))).collect()
    }

    /// A package of this machine's with what it needs.
    fn suites_pins(&self, lock: &Lock, arch: &str, package: &str) -> Result<Vec<DebPin>, Error> {
        let release = &lock.facts.base;
        let suites: Vec<String> =
            ["updates", "security"].iter().map(|kind| format!("{release}-{kind}")).collect();
        debian_pins(self, release, arch, &[package.to_owned()], self.mirror, &suites)
    }

    /// The same for Debian's own Python.
    fn foreign_debian(&self, lock: &Lock, arch: &str) -> Result<PathBuf, Error> {
        let python = format!("python{}", lock.facts.python);
        // That it is the image's very version is looked at below, whatever suite has it.
        let pins = self.suites_pins(lock, arch, &python)?;
        let version = |pins: &[DebPin]| {
            pins.iter().find(|pin| pin.name == python).map(|pin| pin.version.clone())
        };
        let (wanted, found) = (version(&lock.debs), version(&pins));
        if wanted != found {
            let text = |version: Option<String>| version.unwrap_or_else(|| "none".into());
            return Err(Error::Bytecode(format!(
                "the image has {python} {}, the archive has {} for this machine",
                text(wanted),
                text(found)
            )));
        }
        self.download_debs(&pins)?;
        let layer = self.root_layer("compiler", arch, lock, &pins)?;
        self.tree(Some(&layer))
    }
}

/// Copies the `.py` files below `folder` of a tree to the same places below `to`.
fn copy_sources(tree: &Path, folder: &Path, to: &Path) -> Result<(), Error> {
    let from = tree.join(folder);
    fs::create_dir_all(to.join(folder)).map_err(at("create", to.join(folder)))?;
    for entry in fs::read_dir(&from).map_err(at("list", &from))? {
        let entry = entry.map_err(at("list", &from))?;
        let path = folder.join(entry.file_name());
        let kind = entry.file_type().map_err(at("read", entry.path()))?;
        if kind.is_dir() {
            copy_sources(tree, &path, to)?;
        } else if kind.is_file() && path.extension().is_some_and(|ending| ending == "py") {
            fs::copy(entry.path(), to.join(&path)).map_err(at("copy", entry.path()))?;
        }
    }
    Ok(())
}

/// The packages that are the image's Python, with their versions, or its standalone build: all that
/// bytecode depends on besides the sources.
fn python_versions(lock: &Lock) -> String {
    if let Some(pin) = &lock.python {
        return format!("{} {}\n", pin.file, pin.sha256);
    }
    let python = format!("python{}", lock.facts.python);
    let debs = lock.debs.iter().filter(|deb| deb.name.contains(&python));
    debs.map(|deb| format!("{} {}\n", deb.name, deb.version)).collect()
}

/// The longest name of a source that Python can write bytecode of. It writes to a file whose name has
/// `.cpython-313.pyc` for `.py` and a number of up to 20 digits behind that (`_write_atomic` in
/// importlib/_bootstrap_external.py), and names have 255 bytes (NAME_MAX).
const LONGEST_NAME: usize = 255 - ".cpython-313t".len() - "c".len() - ".".len() - 20;

/// The sources of a unit, below its root.
fn sources_of(lock: &Lock, unit: &Unit, root: &Path) -> Result<BTreeSet<String>, Error> {
    let folder = match unit.plan {
        None => python::library(lock),
        Some(_) => site_packages(&lock.facts.python),
    };
    let mut list = BTreeSet::new();
    find_sources(root, &folder, &mut list)?;
    Ok(list)
}

/// Adds the plain `.py` files below `folder` of a tree; links are not followed.
fn find_sources(tree: &Path, folder: &str, found: &mut BTreeSet<String>) -> Result<(), Error> {
    let path = tree.join(folder);
    let entries = match fs::read_dir(&path) {
        Ok(entries) => entries,
        // A layer without Python has no such folder.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(at("list", &path)(error)),
    };
    for entry in entries {
        let entry = entry.map_err(at("list", &path))?;
        let kind = entry.file_type().map_err(at("read", entry.path()))?;
        // Names were checked as UTF-8 before they came to be.
        let Ok(name) = entry.file_name().into_string() else { continue };
        let inside = format!("{folder}/{name}");
        if kind.is_dir() {
            find_sources(tree, &inside, found)?;
        } else if kind.is_file()
            && name.ends_with(".py")
            && name.len() <= LONGEST_NAME
            && !name.contains('\n')
        {
            found.insert(inside);
        }
    }
    Ok(())
}

/// Where the bytecode of a source lies: `a/b.py` has `a/__pycache__/b.cpython-313.pyc` (PEP 3147). `tag` is the
/// version in the interpreter's cache tag.
fn compiled_of(source: &str, tag: &str) -> String {
    let (folder, name) = source.rsplit_once('/').unwrap_or(("", source));
    let stem = name.strip_suffix(".py").unwrap_or(name);
    format!("{folder}/__pycache__/{stem}.cpython-{}.pyc", tag.replace('.', ""))
}

/// The bytecode that was made of a source, and its length. Without the GIL the tag may have its `t` or not.
fn made_of(made: &Path, source: &str, python: &str) -> Result<Option<(String, u64)>, Error> {
    for tag in [python, python.trim_end_matches('t')] {
        let inside = compiled_of(source, tag);
        let path = made.join(&inside);
        match fs::symlink_metadata(&path) {
            Ok(about) if about.is_file() => return Ok(Some((inside, about.len()))),
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(at("read", &path)(error)),
        }
    }
    Ok(None)
}

/// The bytecode of `sources` below a folder, and the folders it is in. A source that
/// does not compile has none: wheels ship templates and Python 2 now and then.
fn compiled(made: &Path, python: &str, sources: &BTreeSet<String>) -> Result<Vec<Entry>, Error> {
    let mut folders = BTreeSet::new();
    let mut entries = Vec::with_capacity(sources.len());
    for source in sources {
        let Some((inside, len)) = made_of(made, source, python)? else { continue };
        let path = made.join(&inside);
        folders.extend(inside.match_indices('/').map(|(end, _)| inside[..end].to_owned()));
        let kind = Kind::File(Content::Path { path, len });
        entries.push(Entry { path: inside, kind, meta: Meta::FILE });
    }
    let folders = folders.into_iter().map(|path| Entry {
        path,
        kind: Kind::Directory,
        meta: Meta::DIRECTORY,
    });
    entries.extend(folders);
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_lead_to_their_bytecode() {
        assert_eq!(compiled_of("a/b.py", "3.13"), "a/__pycache__/b.cpython-313.pyc");
        assert_eq!(compiled_of("a/b.x.py", "3.11"), "a/__pycache__/b.x.cpython-311.pyc");
    }

    /// The standard library describes its processor, so its bytecode is no other's; that of a wheel for all is one.
    #[test]
    fn a_processor_has_its_own_bytecode_of_the_library() {
        let home = tempfile::tempdir().unwrap();
        let store = sconce_store::Store::open(home.path()).unwrap();
        let client = sconce_fetch::http::Client::new(sconce_fetch::http::Options::default());
        let builder = Builder {
            project: None,
            store: &store,
            client: &client,
            progress: &crate::Silent,
            threads: 1,
            mirror: None,
        };
        let wheel = sconce_testkit::Wheel::new("a", "1.0").file("a.py", b"x");
        let facts = |machine| sconce_lock::Facts {
            bytecode: true,
            ..sconce_lock::Facts::of_base(machine, "trixie", "3.13", "2.41")
        };
        let lock = |machine| Lock {
            wheels: vec![sconce_lock::Wheel {
                name: "a".into(),
                version: "1.0".into(),
                file: wheel.file_name(),
                size: None,
                sha256: store.put_bytes(&wheel.build()).unwrap(),
                index: "pypi".into(),
                url: None,
                variant: None,
            }],
            ..Lock::of_facts(facts(machine))
        };
        let keys = |machine| {
            let lock = lock(machine);
            let wheels = builder.open_wheels(&lock).unwrap();
            let plans = crate::wheels::wheel_plans(&lock, &wheels).unwrap().layers;
            let units = builder.bytecode_units(&lock, &plans).unwrap();
            units.iter().map(|unit| unit.key).collect::<Vec<_>>()
        };
        let (amd, arm) = (keys(Machine::X86_64), keys(Machine::Aarch64));
        assert_eq!((amd.len(), arm.len()), (2, 2));
        assert!(amd[0] != arm[0] && amd[1] == arm[1]);
        assert_eq!(keys(Machine::X86_64), amd);
        // What one processor's was remembered as is not the other's.
        let made = sconce_store::Layer {
            diff_id: Digest::of(b"made"),
            digest: store.put_bytes(b"made").unwrap(),
            size: 4,
            media_type: String::new(),
        };
        store.put_layer(&made).unwrap();
        builder.remember(MEMO, amd[0], &made).unwrap();
        let found = |machine| builder.bytecode_units(&lock(machine), &[]).unwrap().remove(0);
        assert!(!found(Machine::X86_64).is_missing() && found(Machine::Aarch64).is_missing());
    }
}
