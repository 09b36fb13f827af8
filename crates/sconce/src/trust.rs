//! Whether a person accepts what a project reaches for outside its folder.
//!
//! Accepted lists are kept in `trust.json` below `$XDG_CONFIG_HOME/sconce` (`~/.config/sconce`): for
//! each project its path, device and inode, so that another folder in its place is another project,
//! and the digest of the list, so that a changed list asks again.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{BufRead, IsTerminal, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use sconce_blob::Digest;
use sconce_build::{Builder, Project};
use sconce_lock::Lock;
use sconce_lock::reaches::{self, Reach, When};
use sconce_start::Target;
use serde::{Deserialize, Serialize};

use crate::error::{Failure, Kind};

/// The largest file of trust that is read, bytes.
const LIMIT: u64 = 4 << 20;

/// What a project reaches for outside its folder; nothing for a tag.
pub fn reaches(project: &Project, lock: Option<&Lock>) -> Vec<Reach> {
    match project {
        Project::Folder { spec, .. } => {
            reaches::reaches(spec, lock, &|name| std::env::var_os(name))
        }
        Project::Tag { .. } => Vec::new(),
    }
}

/// Lets a command go on if nothing that it does for the project needs trust, or the project has it:
/// given with `--trust`, remembered, or said now by a person at a terminal. What is reached for is
/// said in any case.
pub fn check(
    project: &Project,
    lock: Option<&Lock>,
    when: When,
    given: bool,
) -> Result<(), Failure> {
    let all = reaches(project, lock);
    // Nothing is accepted yet where this ends in a refusal, and then nothing is read either.
    project.spec().leads.accept(all.iter().filter_map(|reach| reach.reads.clone()));
    // Starting a container locks and builds it first.
    let now = |reach: &&Reach| when == When::Run || reach.when == When::Lock;
    let mine: Vec<&Reach> = all.iter().filter(now).collect();
    let (Project::Folder { folder, .. }, false) = (project, mine.is_empty()) else {
        return Ok(());
    };
    if !given && !Trusted::open()?.holds(folder, &all)? {
        ask(folder, &all)?;
    }
    let what: Vec<&str> = mine.iter().map(|reach| reach.what.as_str()).collect();
    eprintln!("note: {} reaches outside its folder: {}", folder.display(), what.join("; "));
    Ok(())
}

/// [`check`] of what is to be started, where that is a project.
pub fn check_target(target: &Target, builder: &Builder<'_>, given: bool) -> Result<(), Failure> {
    let Some(project) = target.project() else { return Ok(()) };
    let lock = builder.existing_lock(project)?;
    check(project, lock.as_ref(), When::Run, given)
}

/// The reaches as lines of a message.
pub fn listed(reaches: &[Reach]) -> String {
    reaches.iter().map(|reach| format!("\n  {reach}")).collect()
}

/// Asks a person at a terminal; anything but a yes is a refusal.
fn ask(folder: &Path, all: &[Reach]) -> Result<(), Failure> {
    let what = format!(
        "{} is not trusted with what it asks for outside its folder:{}",
        folder.display(),
        listed(all)
    );
    let refused = Failure::new(Kind::Untrusted, &what).hint(format!(
        "if that is right, `sconce trust {}` remembers it; --trust allows it once",
        quoted(folder)
    ));
    if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
        return Err(refused);
    }
    eprint!("{what}\nTrust it with that? [y/N] ");
    let _ = std::io::stderr().flush();
    let mut answer = String::new();
    let read = std::io::stdin().lock().read_line(&mut answer);
    match (read, answer.trim().to_ascii_lowercase().as_str()) {
        (Ok(_), "y" | "yes") => Trusted::open()?.remember(folder, all),
        _ => Err(refused),
    }
}

/// A path as a shell takes it.
pub fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+".contains(c);
    if text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

/// The lists that a person has accepted.
pub struct Trusted {
    path: PathBuf,
    /// Held while the file is read, changed and written.
    _lock: File,
    content: Content,
}

#[derive(Default, Serialize, Deserialize)]
struct Content {
    projects: Vec<Row>,
}

#[derive(PartialEq, Eq, Serialize, Deserialize)]
struct Row {
    path: PathBuf,
    device: u64,
    inode: u64,
    reaches: Digest,
}

impl Row {
    fn new(folder: &Path, reaches: &[Reach]) -> Result<Self, Failure> {
        let fault = |error| unusable(folder, &error);
        let path = folder.canonicalize().map_err(fault)?;
        let about = fs::metadata(&path).map_err(fault)?;
        let (device, inode) = (about.dev(), about.ino());
        Ok(Self { path, device, inode, reaches: reaches::digest(reaches) })
    }
}

impl Trusted {
    /// Reads what has been accepted, and keeps others from changing it.
    pub fn open() -> Result<Self, Failure> {
        let folder = folder(&|name| std::env::var_os(name)).ok_or_else(|| {
            let what = "neither XDG_CONFIG_HOME nor HOME says where your configuration is";
            Failure::new(Kind::Untrusted, what).hint("--trust allows it once")
        })?;
        Self::at(&folder)
    }

    fn at(folder: &Path) -> Result<Self, Failure> {
        let fault = |error: std::io::Error| unusable(folder, &error);
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(fault)?;
        let lock = File::open(folder).map_err(fault)?;
        lock.lock().map_err(fault)?;
        let path = folder.join("trust.json");
        private(&lock.metadata().map_err(fault)?, folder)?;
        let content = match sconce_open::read_if_there(&path, LIMIT) {
            Ok(None) => Content::default(),
            Ok(Some(bytes)) => {
                private(&fs::metadata(&path).map_err(|error| unusable(&path, &error))?, &path)?;
                serde_json::from_slice(&bytes).map_err(|error| {
                    let what = format!("{} can't be read: {error}", path.display());
                    Failure::new(Kind::Document, what).hint("remove it: sconce asks again")
                })?
            }
            Err(error) => return Err(unusable(&path, &error)),
        };
        Ok(Self { path, _lock: lock, content })
    }

    /// Whether this very list of this very folder has been accepted.
    pub fn holds(&self, folder: &Path, reaches: &[Reach]) -> Result<bool, Failure> {
        Ok(self.content.projects.contains(&Row::new(folder, reaches)?))
    }

    /// Accepts a list; an earlier one of the same folder is forgotten.
    pub fn remember(mut self, folder: &Path, reaches: &[Reach]) -> Result<(), Failure> {
        let row = Row::new(folder, reaches)?;
        self.content.projects.retain(|known| known.path != row.path);
        self.content.projects.push(row);
        self.write()
    }

    /// Forgets a folder's list; whether there was one.
    pub fn forget(mut self, folder: &Path) -> Result<bool, Failure> {
        let path = folder.canonicalize().map_err(|error| unusable(folder, &error))?;
        let before = self.content.projects.len();
        self.content.projects.retain(|known| known.path != path);
        let known = self.content.projects.len() < before;
        self.write().map(|()| known)
    }

    fn write(&self) -> Result<(), Failure> {
        let text = serde_json::to_string_pretty(&self.content).map_err(Failure::unwritable)?;
        let next = self.path.with_extension("json.new");
        // Nobody else writes it: the folder is locked. What a kill left is replaced.
        let write = || -> std::io::Result<()> {
            let _ = fs::remove_file(&next);
            let mut file = File::create_new(&next)?;
            file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&next, &self.path)
        };
        write().map_err(|error| unusable(&self.path, &error))
    }
}

/// Where the user's own configuration is, if the environment says.
pub fn folder(env: &dyn Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let absolute = |path: OsString| Some(PathBuf::from(path)).filter(|path| path.is_absolute());
    let config = env("XDG_CONFIG_HOME").and_then(absolute);
    let config = config.or_else(|| Some(env("HOME").and_then(absolute)?.join(".config")));
    config.map(|config| config.join("sconce"))
}

/// Trust that somebody else can write is none.
fn private(about: &fs::Metadata, path: &Path) -> Result<(), Failure> {
    let me = fs::metadata("/proc/self").map_err(|error| unusable(path, &error))?.uid();
    if (about.uid() != me && about.uid() != 0) || about.mode() & 0o022 != 0 {
        let what = format!("{} can be written by somebody else", path.display());
        return Err(Failure::new(Kind::Untrusted, what).hint(format!(
            "make it yours alone: `chown $(id -u) {0}; chmod go-w {0}`",
            quoted(path)
        )));
    }
    Ok(())
}

fn unusable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(Kind::Storage, format!("can't use {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn reach(what: &str) -> Vec<Reach> {
        let (when, asks) = (When::Run, "sconce.toml".to_owned());
        vec![Reach { when, asks, what: what.to_owned(), reads: None }]
    }

    #[test]
    fn a_list_is_trusted_until_it_or_its_folder_changes() {
        let home = tempfile::tempdir().unwrap();
        let config = home.path().join("config/sconce");
        let project = home.path().join("project");
        fs::create_dir(&project).unwrap();
        let open = || Trusted::at(&config).unwrap();
        let holds = |what: &str| open().holds(&project, &reach(what)).unwrap();
        assert!(!holds("mounts /a"));
        open().remember(&project, &reach("mounts /a")).unwrap();
        assert!(holds("mounts /a") && !holds("mounts /b"));
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
        assert_eq!((mode(&config), mode(&config.join("trust.json"))), (0o700, 0o600));
        // Another folder of that name, as after a new clone. The old one keeps its inode in use.
        fs::rename(&project, home.path().join("old")).unwrap();
        fs::create_dir(&project).unwrap();
        assert!(!holds("mounts /a"));
        open().remember(&project, &reach("mounts /b")).unwrap();
        assert!(holds("mounts /b"));
        assert!(open().forget(&project).unwrap() && !open().forget(&project).unwrap());
        assert!(!holds("mounts /b"));
    }

    #[test]
    fn a_file_that_others_can_write_is_not_believed() {
        let home = tempfile::tempdir().unwrap();
        let config = home.path().join("sconce");
        let project = home.path().join("project");
        fs::create_dir(&project).unwrap();
        Trusted::at(&config).unwrap().remember(&project, &reach("x")).unwrap();
        let file = config.join("trust.json");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o622)).unwrap();
        assert!(Trusted::at(&config).is_err());
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        fs::set_permissions(&config, fs::Permissions::from_mode(0o777)).unwrap();
        assert!(Trusted::at(&config).is_err());
    }

    #[test]
    fn the_folder_is_that_of_the_person() {
        let at = |vars: &[(&str, &str)]| {
            folder(&|name| vars.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).into()))
        };
        assert_eq!(at(&[("HOME", "/h")]), Some("/h/.config/sconce".into()));
        assert_eq!(at(&[("HOME", "/h"), ("XDG_CONFIG_HOME", "/x")]), Some("/x/sconce".into()));
        assert_eq!(at(&[("XDG_CONFIG_HOME", "x")]), None);
        assert_eq!(quoted(Path::new("/a b/it's")), r"'/a b/it'\''s'");
    }
}
