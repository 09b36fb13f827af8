//! The CDI documents on a machine: found, judged against the machine, and used where they fit.
//!
//! Folders: `/etc/cdi`, then `/var/run/cdi`; a device in the later one wins, the same device twice in
//! one folder is used from neither (SPEC.md, "Container Runtime"). A document that a driver upgrade
//! made stale is never used: file paths, device majors and the driver's version are compared with
//! the machine (nvidia-container-toolkit#856 is what happens otherwise).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::document::{ContainerEdits, Document, Hook};
use super::{Edits, Link, Mount, generate};
use crate::driver::{Driver, Survey};
use crate::linker::Entry;
use crate::machine::Machine;
use crate::select::{KIND, Selection};
use crate::{Error, driver};

/// Where documents lie, the later winning.
pub const FOLDERS: &[&str] = &["/etc/cdi", "/var/run/cdi"];
/// Documents looked at in one folder.
const MOST: usize = 256;

/// All documents of a machine.
#[derive(Debug, Default)]
pub struct Registry {
    /// The valid ones, in the order of winning less to winning more.
    pub documents: Vec<Found>,
    /// What is wrong with the others, and which devices conflict.
    pub problems: Vec<Error>,
}

/// A document with its place.
#[derive(Debug)]
pub struct Found {
    /// The file.
    pub path: PathBuf,
    /// Which of [`FOLDERS`].
    pub folder: usize,
    /// What it says.
    pub document: Document,
}

/// How a document differs from the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stale {
    /// A host file or node it names is not there.
    Missing(PathBuf),
    /// It names a library of another version than the driver's.
    Version {
        /// The file.
        path: PathBuf,
        /// The machine's version.
        driver: String,
    },
    /// A node's number has changed.
    Number {
        /// The node.
        path: PathBuf,
        /// Major and minor in the document.
        says: (u32, u32),
        /// Major and minor on the machine.
        is: (u32, u32),
    },
}

impl std::fmt::Display for Stale {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Missing(path) => write!(out, "{} is not there", path.display()),
            Self::Version { path, driver } => {
                write!(out, "{} is not of the driver {driver}", path.display())
            }
            Self::Number { path, says, is } => write!(
                out,
                "{} is {}:{} now, not {}:{}",
                path.display(),
                is.0,
                is.1,
                says.0,
                says.1
            ),
        }
    }
}

/// Reads all documents of the machine.
pub fn load(machine: &Machine) -> Registry {
    let mut registry = Registry::default();
    for (folder, path) in FOLDERS.iter().enumerate() {
        for name in machine.names(Path::new(path)).into_iter().take(MOST) {
            if !["json", "yaml", "yml"].iter().any(|ending| name.ends_with(&format!(".{ending}"))) {
                continue;
            }
            let path = Path::new(path).join(name);
            let parsed = match machine.read(&path) {
                Ok(Some(bytes)) => Document::parse(&bytes, &path),
                Ok(None) => continue,
                Err(source) => Err(Error::Read { path: path.clone(), source }),
            };
            match parsed {
                Ok(document) => registry.documents.push(Found { path, folder, document }),
                Err(error) => registry.problems.push(error),
            }
        }
    }
    registry
}

impl Registry {
    /// The document that has this device of this kind; an error if two of one folder have it.
    pub fn device(&self, kind: &str, name: &str) -> Result<Option<&Found>, Error> {
        let has = |found: &&Found| {
            found.document.kind == kind
                && found.document.devices.iter().any(|device| device.name == name)
        };
        let with: Vec<&Found> = self.documents.iter().filter(has).collect();
        let Some(last) = with.last() else { return Ok(None) };
        match with.iter().rev().nth(1).filter(|other| other.folder == last.folder) {
            Some(other) => Err(Error::Cdi {
                path: last.path.clone(),
                reason: format!("device {kind}={name} stands in {} as well", other.path.display()),
            }),
            None => Ok(Some(last)),
        }
    }
}

/// How this document differs from the machine; nothing means that it fits.
pub fn stale(document: &Document, machine: &Machine, survey: &Survey) -> Vec<Stale> {
    let mut stale = Vec::new();
    for path in document.host_paths() {
        if !machine.exists(path) && !machine.is_socket(path) {
            stale.push(Stale::Missing(path.to_owned()));
            continue;
        }
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("");
        let version = name.split_once(".so.").map(|(_, version)| version);
        let ours = name.starts_with("libcuda.") || name.starts_with("libnvidia-ml.");
        if let (Some(version), Some(driver), true) = (version, &survey.module, ours)
            && driver::is_version(version)
            && version != driver
        {
            stale.push(Stale::Version { path: path.to_owned(), driver: driver.clone() });
        }
    }
    let devices = document.devices.iter().map(|device| &device.container_edits);
    for node in devices.chain([&document.container_edits]).flat_map(|edits| &edits.device_nodes) {
        let (Some(major), Some(minor)) = (node.major, node.minor) else { continue };
        let Some(now) = machine.node(node.on_host()) else { continue };
        if (now.major, now.minor) != (major, minor) {
            let number = Stale::Number {
                path: node.on_host().to_owned(),
                says: (major, minor),
                is: (now.major, now.minor),
            };
            if !stale.contains(&number) {
                stale.push(number);
            }
        }
    }
    stale
}

/// Where edits come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Made from the machine as it is.
    Generated,
    /// Read from these documents.
    Documents(Vec<PathBuf>),
}

/// Edits, where they come from, and why a document was passed over.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What to apply.
    pub edits: Edits,
    /// Where it comes from.
    pub origin: Origin,
    /// Documents that were not used, and why.
    pub notes: Vec<String>,
}

/// What the container needs for the selected devices: by the machine's own documents where they
/// have the devices, fit the machine and need no hook that sconce can't do; generated otherwise.
pub fn plan(machine: &Machine, driver: &Driver, selection: &Selection) -> Result<Plan, Error> {
    let mut notes = Vec::new();
    if !selection.is_none() {
        match from_documents(machine, driver, selection, &mut notes) {
            Ok(Some((edits, paths))) => {
                return Ok(Plan { edits, origin: Origin::Documents(paths), notes });
            }
            Ok(None) => {}
            Err(error) => notes.push(error.to_string()),
        }
    }
    let edits = generate::edits(driver, selection)?;
    Ok(Plan { edits, origin: Origin::Generated, notes })
}

fn from_documents(
    machine: &Machine,
    driver: &Driver,
    selection: &Selection,
    notes: &mut Vec<String>,
) -> Result<Option<(Edits, Vec<PathBuf>)>, Error> {
    let registry = load(machine);
    notes.extend(registry.problems.iter().map(|problem| crate::error::in_full(problem)));
    let mut chosen: BTreeMap<&Path, (&Document, Vec<&ContainerEdits>)> = BTreeMap::new();
    for device in &selection.devices {
        let names = [Some(device.name()), device.uuid().map(str::to_owned)];
        let mut found = None;
        for name in names.into_iter().flatten() {
            if let Some(at) = registry.device(KIND, &name)? {
                found = Some((at, name));
                break;
            }
        }
        let Some((found, name)) = found else { return Ok(None) };
        let (_, edits) = chosen.entry(&found.path).or_insert_with(|| (&found.document, Vec::new()));
        let devices = found.document.devices.iter();
        edits.extend(devices.filter(|one| one.name == name).map(|one| &one.container_edits));
    }
    let mut edits = Edits::default();
    for (path, (document, parts)) in &chosen {
        if let Some(first) = stale(document, machine, &driver.survey).first() {
            notes.push(format!("{} is stale: {first}", path.display()));
            return Ok(None);
        }
        let parts = || parts.iter().copied().chain([&document.container_edits]);
        // Hooks come last: they work on what the mounts have brought.
        let added = parts().try_for_each(|part| add(part, machine, &mut edits));
        let mut hooks = parts().flat_map(|part| &part.hooks);
        let added = added
            .and_then(|()| hooks.try_for_each(|hook| effect(hook, &driver.survey, &mut edits)));
        if let Err(reason) = added {
            notes.push(format!("{} is not used: {reason}", path.display()));
            return Ok(None);
        }
    }
    Ok(Some((edits, chosen.keys().map(|path| path.to_path_buf()).collect())))
}

/// Adds a document's edits; an error names what sconce can't do.
fn add(part: &ContainerEdits, machine: &Machine, edits: &mut Edits) -> Result<(), String> {
    if !part.net_devices.is_empty() || part.intel_rdt.is_some() {
        return Err("it moves network devices or sets cache allocation".into());
    }
    for mount in &part.mounts {
        if mount.kind.as_deref().is_some_and(|kind| !matches!(kind, "" | "bind" | "none")) {
            return Err(format!("it mounts a file system at {}", mount.container_path.display()));
        }
        let mount = Mount {
            host: mount.host_path.clone(),
            container: mount.container_path.clone(),
            read_only: mount.options.iter().any(|option| option == "ro"),
        };
        if !edits.mounts.contains(&mount) {
            edits.mounts.push(mount);
        }
    }
    for node in &part.device_nodes {
        let on_host = machine.node(node.on_host());
        let on_host = on_host
            .ok_or_else(|| format!("{} is not a character device", node.on_host().display()))?;
        let node = super::Node {
            path: node.path.clone(),
            mode: node.file_mode.unwrap_or(on_host.mode),
            ..generate::node(&on_host)
        };
        if !edits.nodes.contains(&node) {
            edits.nodes.push(node);
        }
    }
    for variable in &part.env {
        if let Some((name, value)) = variable.split_once('=') {
            edits.env.retain(|(known, _)| known != name);
            edits.env.push((name.to_owned(), value.to_owned()));
        }
    }
    for group in &part.additional_gids {
        if !edits.groups.contains(group) {
            edits.groups.push(*group);
        }
    }
    Ok(())
}

/// What NVIDIA's own hooks do, done as data. Arguments as `nvidia-cdi-hook --help` lists them;
/// `nvidia-ctk hook …` is the older spelling.
fn effect(hook: &Hook, survey: &Survey, edits: &mut Edits) -> Result<(), String> {
    let name = hook.path.file_name().and_then(|name| name.to_str()).unwrap_or("");
    if !matches!(name, "nvidia-cdi-hook" | "nvidia-ctk" | "nvidia-container-toolkit") {
        return Err(format!("it runs the hook {}", hook.path.display()));
    }
    let mut words = hook.args.iter().skip(1).map(String::as_str).filter(|word| *word != "hook");
    let command = words.next().unwrap_or("");
    let words: Vec<&str> = words.collect();
    let values = |flag: &str| {
        let mut values = Vec::new();
        for (at, word) in words.iter().enumerate() {
            if word.trim_start_matches('-') == flag && word.starts_with("--") {
                values.extend(words.get(at + 1).copied());
            } else if let Some((name, value)) = word.split_once('=')
                && name.starts_with("--")
                && name.trim_start_matches('-') == flag
            {
                values.push(value);
            }
        }
        values
    };
    match command {
        "create-symlinks" => {
            for pair in values("link") {
                let (target, path) = pair.split_once("::").ok_or("a link without `::`")?;
                let path = PathBuf::from(path);
                let up = path.components().any(|part| part.as_os_str() == "..");
                if !path.is_absolute() || up {
                    return Err(format!("it links {}", path.display()));
                }
                add_link(edits, Link { path, target: target.to_owned() })?;
            }
        }
        // ldconfig makes the SONAME links and writes the cache.
        "update-ldcache" => {
            let folders: Vec<&Path> = values("folder").into_iter().map(Path::new).collect();
            for mount in edits.mounts.clone() {
                let Some(folder) = mount.container.parent().filter(|at| folders.contains(at))
                else {
                    continue;
                };
                let Some(library) = survey.libraries.iter().find(|one| one.path == mount.host)
                else {
                    continue;
                };
                for link in library.links.iter().filter(|link| !link.ends_with(".so")) {
                    let path = folder.join(link);
                    edits.linker.push(Entry::new(link, path.clone(), &survey.arch));
                    add_link(edits, Link { path, target: library.name.clone() })?;
                }
            }
        }
        "disable-device-node-modification" => edits.files.extend(generate::keep_nodes(survey)),
        // Modes of folders matter to rootless containers of podman's only; forward compatibility
        // is never switched on: it is legal on some GPUs only.
        "chmod" | "enable-cuda-compat" => {}
        other => return Err(format!("it runs the hook `{other}` of {}", hook.path.display())),
    }
    Ok(())
}

/// Adds a link; the first of one path stays. Whoever makes the links writes what lies below one
/// through it, so no link may lie above another or above the linker's cache.
fn add_link(edits: &mut Edits, link: Link) -> Result<(), String> {
    let nested = |one: &Link| one.path.starts_with(&link.path) || link.path.starts_with(&one.path);
    if edits.links.iter().any(|one| one.path == link.path) {
        return Ok(());
    }
    if edits.links.iter().any(nested) || Path::new("/etc/ld.so.cache").starts_with(&link.path) {
        return Err(format!("it links {}, a folder", link.path.display()));
    }
    edits.links.push(link);
    Ok(())
}
