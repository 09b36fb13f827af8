//! What is shown inside of this machine's files: `-v`, `--mount`, `--tmpfs`, `--device`.

use std::path::{Component, Path, PathBuf};

use sconce_run::{Tmpfs, Volume, parse_size};
use serde::{Deserialize, Serialize};

use crate::env::Environment;
use crate::error::Error;

/// A folder or file of this machine that is mounted into the container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bind {
    /// What and where.
    pub volume: Volume,
    /// A missing source is made as a folder. Docker does so for `-v`; not for `--mount`, and here
    /// not for `:ro`, where an empty folder is never what was meant.
    pub create: bool,
}

/// One `--mount`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mount {
    /// `type=bind`.
    Bind(Bind),
    /// `type=tmpfs`.
    Tmpfs(Tmpfs),
}

/// One `--device`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Device {
    /// A node, or a folder of nodes.
    Node(sconce_run::Device),
    /// A CDI name of GPUs, `nvidia.com/gpu=0`: what `--gpus` takes.
    Gpus(String),
}

/// Reads `-v HOST:CONTAINER[:OPTIONS]`; a leading `~/` is the home folder, which a shell does not
/// see behind `--volume=`.
///
/// # Errors
/// What `-v` can't be.
pub fn volume(given: &str, env: &Environment<'_>) -> Result<Bind, Error> {
    let mut volume: Volume = given.parse()?;
    volume.source = env.home("-v", given, &volume.source)?;
    Ok(Bind { create: !volume.read_only, volume })
}

/// Reads `--mount type=bind,source=…,target=…`, in Docker's words.
///
/// # Errors
/// Unknown keys, types other than bind and tmpfs, a missing source or target.
pub fn mount(given: &str, env: &Environment<'_>) -> Result<Mount, Error> {
    let wrong = |why: String| Error::option("--mount", given, why);
    let (mut kind, mut source, mut target) = (None, None, None);
    let (mut read_only, mut size, mut mode) = (false, None, None);
    for field in fields(given).ok_or_else(|| wrong("a quote is not closed".into()))? {
        let (key, value) = match field.split_once('=') {
            Some((key, value)) => (key.to_ascii_lowercase(), value),
            None => (field.to_ascii_lowercase(), "true"),
        };
        match key.as_str() {
            "type" => kind = Some(value.to_ascii_lowercase()),
            "source" | "src" => source = Some(value.to_owned()),
            "target" | "destination" | "dst" => target = Some(value.to_owned()),
            "readonly" | "ro" => {
                read_only =
                    truth(value).ok_or_else(|| wrong(format!("`{key}` is true or false")))?
            }
            "tmpfs-size" => size = Some(parse_size("--mount tmpfs-size", value)?),
            "tmpfs-mode" => {
                mode = Some(
                    octal(value)
                        .ok_or_else(|| wrong(format!("`{value}` is not a mode such as 1777")))?,
                )
            }
            "consistency" => {}
            "bind-propagation" if matches!(value, "private" | "rprivate") => {}
            "bind-propagation" => {
                return Err(wrong(
                    "mounts made later are not passed on; leave bind-propagation out".into(),
                ));
            }
            "bind-recursive" if value == "enabled" => {}
            "bind-nonrecursive" if truth(value) == Some(false) => {}
            "bind-recursive" | "bind-nonrecursive" => {
                return Err(wrong("what is mounted below the source is always shown; leave it out, or name a folder without".into()));
            }
            _ => {
                return Err(wrong(format!(
                    "`{key}` is not a key of it; there are type, source, target, readonly, tmpfs-size and tmpfs-mode"
                )));
            }
        }
    }
    let target = target.ok_or_else(|| wrong("target=DIR is missing".into()))?;
    let target = place("--mount", given, &target)?;
    match kind.as_deref() {
        Some("bind") => {
            let source = source.filter(|source| !source.is_empty());
            let source = source.ok_or_else(|| wrong("source=DIR is missing".into()))?;
            let source = env.home("--mount", given, Path::new(&source))?;
            Ok(Mount::Bind(Bind {
                volume: Volume { source, target, read_only, resolved: false },
                create: false,
            }))
        }
        Some("tmpfs") if source.is_some() => Err(wrong("a tmpfs has no source".into())),
        Some("tmpfs") => Ok(Mount::Tmpfs(Tmpfs { size, mode, read_only, ..Tmpfs::new(target) })),
        None | Some("volume") => Err(wrong(
            "there are no named volumes; type=bind,source=DIR,target=DIR shows a folder".into(),
        )),
        Some(other) => Err(wrong(format!("type {other} is not there; there are bind and tmpfs"))),
    }
}

/// Reads `--tmpfs DIR[:OPTIONS]`.
///
/// # Errors
/// A relative folder, an option other than size, mode, uid, gid and the flags of mount(8) that hold anyway.
pub fn tmpfs(given: &str) -> Result<Tmpfs, Error> {
    let wrong = |why: String| Error::option("--tmpfs", given, why);
    let (target, options) = given.split_once(':').unwrap_or((given, ""));
    let target = place("--tmpfs", given, target)?;
    let mut tmpfs = Tmpfs::new(target);
    let id = |value: &str| {
        value
            .parse()
            .map(Some)
            .map_err(|_| wrong(format!("`{value}` is not a number of a user or group")))
    };
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option.split_once('=') {
            Some(("size", size)) => {
                tmpfs.size = Some(match size.strip_suffix('%') {
                    Some(share) => share_of_memory(share).ok_or_else(|| {
                        wrong(format!("{option} is not a share of the memory such as 50%"))
                    })?,
                    None => parse_size("--tmpfs size", size)?,
                });
            }
            Some(("uid", uid)) => tmpfs.uid = id(uid)?,
            Some(("gid", gid)) => tmpfs.gid = id(gid)?,
            Some(("mode", mode)) => {
                let mode = octal(mode);
                tmpfs.mode = Some(
                    mode.ok_or_else(|| wrong(format!("{option} is not a mode such as 1777")))?,
                );
            }
            None if option == "exec" => tmpfs.exec = true,
            None if option == "noexec" => tmpfs.exec = false,
            None if option == "ro" => tmpfs.read_only = true,
            None if matches!(option, "rw" | "nosuid" | "nodev" | "async" | "relatime") => {}
            _ => {
                return Err(wrong(format!(
                    "`{option}` is not an option of it; there are size, mode, uid, gid, exec, noexec, ro and rw"
                )));
            }
        }
    }
    Ok(tmpfs)
}

/// `50` of `size=50%`, in bytes: a share of the machine's memory, as the kernel takes it
/// (Documentation/filesystems/tmpfs.rst).
fn share_of_memory(percent: &str) -> Option<u64> {
    let percent = percent.parse::<u64>().ok().filter(|percent| (1..=100).contains(percent))?;
    Some(sconce_run::machine_memory()? / 100 * percent)
}

/// Folders of nodes that a container has of its own, and why none of this machine's goes there.
const OWN_FOLDERS: [(&str, &str); 4] = [
    (
        "/dev",
        "a container has a /dev of its own; name the nodes that it needs, as in --device /dev/fuse",
    ),
    ("/dev/pts", "a container has terminals of its own; -t gives its command one"),
    (
        "/dev/shm",
        "a container has one of its own; --shm-size gives its size, -v /dev/shm:/dev/shm shows this machine's",
    ),
    ("/dev/mqueue", "a container has message queues of its own"),
];

/// Reads `--device NODE[:TARGET[:rwm]]`, or a CDI name.
///
/// # Errors
/// Relative paths, rights that can't be taken away, CDI names of other vendors.
pub fn device(given: &str) -> Result<Device, Error> {
    let wrong = |why: &str| Error::option("--device", given, why);
    if !given.starts_with('/') && given.contains('=') {
        return match given.strip_prefix("nvidia.com/gpu=") {
            Some(name) if !name.is_empty() => Ok(Device::Gpus(name.to_owned())),
            _ => {
                Err(wrong("of CDI names nvidia.com/gpu=… is known; name the nodes in /dev instead"))
            }
        };
    }
    let rights = |text: &str| !text.is_empty() && text.chars().all(|c| "rwm".contains(c));
    let parts: Vec<&str> = given.split(':').collect();
    let (source, target, wanted) = match parts.as_slice() {
        [source] => (*source, *source, "rwm"),
        [source, last] if rights(last) => (*source, *source, *last),
        [source, target] => (*source, *target, "rwm"),
        [source, target, wanted] if rights(wanted) => (*source, *target, *wanted),
        _ => return Err(wrong("write NODE, NODE:TARGET or NODE:TARGET:rwm")),
    };
    if !(wanted.contains('r') && wanted.contains('w')) {
        return Err(wrong("a device is given for reading and writing; leave the rights out"));
    }
    let is_own = |(folder, _): &&(&str, &str)| Path::new(source) == Path::new(folder);
    if let Some((_, why)) = OWN_FOLDERS.iter().find(is_own) {
        return Err(wrong(why));
    }
    if !source.starts_with('/') {
        return Err(wrong("the node is an absolute path, as in /dev/fuse"));
    }
    let target = place("--device", given, target)?;
    Ok(Device::Node(sconce_run::Device { source: source.into(), target }))
}

/// A place in the container: absolute, without `..`, not the root itself, and in one spelling.
pub(crate) fn place(option: &str, given: &str, path: &str) -> Result<PathBuf, Error> {
    let path = Path::new(path);
    if !path.is_absolute() {
        return Err(Error::option(option, given, "the path in the container must start with /"));
    }
    if path.components().any(|part| part == Component::ParentDir) {
        return Err(Error::option(option, given, "the path in the container must not hold '..'"));
    }
    if path == Path::new("/") {
        return Err(Error::option(option, given, "the whole root cannot be replaced"));
    }
    Ok(path.components().collect())
}

/// Refuses two mounts in one place. In which order they are made is `sconce_run`'s to decide, which knows
/// all of them.
pub(crate) fn check_places(binds: &[Bind], tmpfs: &[Tmpfs]) -> Result<(), Error> {
    let sources = binds
        .iter()
        .map(|bind| (&bind.volume.target, bind.volume.source.display().to_string()))
        .chain(tmpfs.iter().map(|tmpfs| (&tmpfs.target, "a tmpfs".to_owned())));
    let mut seen: Vec<(&PathBuf, String)> = Vec::new();
    for (target, source) in sources {
        let target_path: &Path = target;
        if target_path == Path::new("/dev") || target_path.starts_with("/proc") {
            let why = "/dev and /proc are the container's own; --device brings single devices";
            let target = target.display();
            return Err(match binds.iter().any(|bind| bind.volume.target == target_path) {
                true => Error::option("-v", format!("{source}:{target}"), why),
                false => Error::option("--tmpfs", target.to_string(), why),
            });
        }
        // Paths are compared by their parts: `/data/` is `/data`.
        if let Some((_, first)) = seen.iter().find(|(known, _)| *known == target) {
            let (first, second) = (first.clone(), source);
            return Err(Error::SameTarget { target: target.components().collect(), first, second });
        }
        seen.push((target, source));
    }
    Ok(())
}

/// Refuses sources that must be there and are not. Nothing is made: that is `sconce_run`'s work.
pub(crate) fn check_sources(binds: &[Bind], devices: &[sconce_run::Device]) -> Result<(), Error> {
    let missing = |path: &Path| path.symlink_metadata().is_err();
    for bind in binds.iter().filter(|bind| !bind.create) {
        let source = &bind.volume.source;
        if missing(source) {
            let target = bind.volume.target.display();
            let given = format!("{}:{target}", source.display());
            return Err(Error::option("volume", given, "the source is not there; make it first"));
        }
    }
    for device in devices {
        if missing(&device.source) {
            let given = device.source.display().to_string();
            return Err(Error::option("--device", given, "this machine has no such node"));
        }
        let kind = device.source.metadata().map(|about| about.file_type());
        if kind.is_ok_and(|kind| kind.is_file()) {
            let given = device.source.display().to_string();
            let why = "it is neither a device node nor a folder of them";
            return Err(Error::option("--device", given, why));
        }
    }
    Ok(())
}

/// Refuses what is in the store, whose folders are given: its trees are what containers run from, and beside them are the sockets
/// by which running ones are reached. Of a folder above one it is hidden.
pub(crate) fn check_outside(binds: &[Bind], store: &[PathBuf]) -> Result<(), Error> {
    for Bind { volume, .. } in binds {
        let source = &volume.source;
        let real = source.canonicalize().unwrap_or_else(|_| source.clone());
        if store.iter().any(|folder| real.starts_with(folder) && real != *folder) {
            let given = format!("{}:{}", source.display(), volume.target.display());
            let why = "it is in sconce's store, which no container may see; `sconce cp` copies files out of one";
            return Err(Error::option("volume", given, why));
        }
    }
    Ok(())
}

/// Where the kernel takes its settings.
const SETTINGS: [&str; 2] = ["/proc", "/sys"];

/// A word on volumes that show this machine's kernel settings to root, who can change them there. Docker allows
/// them as well.
pub(crate) fn settings_in_words(binds: &[Bind]) -> Option<String> {
    let shows = |bind: &&Bind| {
        let real = bind.volume.source.canonicalize().unwrap_or_default();
        let of_kernel =
            |folder: &&str| real.starts_with(folder) || Path::new(folder).starts_with(&real);
        !bind.volume.read_only && !real.as_os_str().is_empty() && SETTINGS.iter().any(of_kernel)
    };
    let Volume { source, target, .. } = &binds.iter().find(shows)?.volume;
    let (source, target) = (source.display(), target.display());
    Some(format!(
        "-v {source}:{target} shows the kernel's settings of this machine, and programs in the container can change \
         them; add `:ro` unless that is meant"
    ))
}

/// The fields of one line of CSV (RFC 4180), as Docker reads `--mount`; nothing if a quote is left open.
fn fields(line: &str) -> Option<Vec<String>> {
    let mut fields = vec![String::new()];
    let mut quoted = false;
    let mut chars = line.chars().peekable();
    while let Some(char) = chars.next() {
        match char {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                fields.last_mut()?.push('"');
            }
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(String::new()),
            _ => fields.last_mut()?.push(char),
        }
    }
    (!quoted).then_some(fields)
}

fn truth(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" => Some(true),
        "false" | "0" => Some(false),
        _ => None,
    }
}

fn octal(text: &str) -> Option<u32> {
    u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o7777)
}

#[cfg(test)]
mod tests;
