//! The folder of a launch: logs of all ranks, stacks, dumps, and the pages that sum them up. It can be sent to someone.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use base64::Engine;

use crate::error::Error;
use crate::event::Stack;

/// Most bytes of files that nodes send.
const MOST_BYTES: usize = 256 << 20;
/// Most logs: one for each rank.
const MOST_LOGS: u32 = 65536;

/// The program of a node, what each rank runs first, and what ranks do before the first step.
const PROGRAMS: [(&str, &str); 3] = [
    ("node.py", include_str!("../python/node.py")),
    ("rank.py", include_str!("../python/rank.py")),
    ("preflight.py", include_str!("../python/preflight.py")),
];

/// Where a launch writes.
#[derive(Debug)]
pub struct Evidence {
    folder: PathBuf,
    received: usize,
}

impl Evidence {
    /// Makes a folder for a launch called `id` below `parent`. Git does not see it: what a project includes leaves out
    /// what Git does not see, and a launch must not change the image of the next.
    ///
    /// # Errors
    /// It can't be made.
    pub fn make(parent: &Path, id: &str) -> Result<Self, Error> {
        let fault = |path: &Path| {
            let path = path.to_owned();
            |source| Error::Write { path, source }
        };
        let folder = parent.join(id);
        fs::create_dir_all(parent).map_err(fault(parent))?;
        let ignore = parent.join(".gitignore");
        match OpenOptions::new().write(true).create_new(true).open(&ignore) {
            Ok(mut file) => file.write_all(b"*\n").map_err(fault(&ignore))?,
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(fault(&ignore)(error)),
        }
        // Logs may hold what nobody else is to read.
        DirBuilder::new().mode(0o700).create(&folder).map_err(fault(&folder))?;
        let logs = folder.join("logs");
        fs::create_dir(&logs).map_err(fault(&logs))?;
        Ok(Self { folder, received: 0 })
    }

    /// A folder that is there already, for one look.
    #[must_use]
    pub fn of(folder: PathBuf) -> Self {
        Self { folder, received: 0 }
    }

    /// Writes a file under a name of ours.
    ///
    /// # Errors
    /// It can't be written.
    pub fn keep(&self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        let path = self.folder.join(name);
        fs::write(&path, bytes).map_err(|source| Error::Write { path, source })
    }

    /// Where it is.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Makes the folder that is shown in the container of a node.
    ///
    /// # Errors
    /// It can't be made.
    pub fn node(&self, node: u32) -> Result<PathBuf, Error> {
        let folder = self.folder.join(format!("node-{node}"));
        let made = || -> std::io::Result<()> {
            fs::create_dir(&folder)?;
            for (name, text) in PROGRAMS {
                fs::write(folder.join(name), text)?;
            }
            // Whoever the image runs as writes its logs.
            fs::set_permissions(&folder, Permissions::from_mode(0o777))
        };
        made().map_err(|source| Error::Write { path: folder.clone(), source })?;
        Ok(folder)
    }

    /// Removes what was shown in containers: all of it that matters has been passed on.
    pub fn remove_nodes(&self, nodes: u32) {
        for node in 0..nodes {
            let _ = fs::remove_dir_all(self.folder.join(format!("node-{node}")));
        }
    }

    /// The shell's words that make the same folder on a machine behind ssh, `folder` being its name there.
    #[must_use]
    pub fn script(folder: &str) -> String {
        let mut script = format!("set -e\nmkdir -m 777 {folder}\n");
        for (name, text) in PROGRAMS {
            let end = "END_OF_SCONCE_LAUNCH";
            script += &format!("cat > {folder}/{name} <<'{end}'\n{text}{end}\n");
        }
        script
    }

    /// Adds a line to a log of a rank: `rank`, or `preflight-rank`.
    pub(crate) fn log(&self, name: &str, rank: u32, text: &str) -> Result<(), Error> {
        if rank >= MOST_LOGS {
            return Ok(());
        }
        let path = self.folder.join("logs").join(format!("{name}-{rank}.log"));
        let file = OpenOptions::new().append(true).create(true).open(&path);
        file.and_then(|mut file| file.write_all(format!("{text}\n").as_bytes()))
            .map_err(|source| Error::Write { path, source })
    }

    /// Writes a page.
    pub(crate) fn page(&self, name: &str, text: &str) -> Result<PathBuf, Error> {
        let path = self.folder.join(name);
        File::create(&path)
            .and_then(|mut file| file.write_all(text.as_bytes()))
            .map_err(|source| Error::Write { path: path.clone(), source })?;
        Ok(path)
    }

    /// Writes where a rank is.
    pub(crate) fn stack(&self, prefix: &str, stack: &Stack) -> Result<(), Error> {
        let Stack { rank, pid, state, wchan, syscall, cpu, why, python, kernel, .. } = stack;
        let text = format!(
            "rank {rank}, process {pid} in its container\nstate: {state}\nwaits in the kernel at: {wchan}\n\
             system call: {syscall}\nprocessors kept busy: {cpu}\n{why}\n\nPython, all threads:\n{python}\n\
             kernel:\n{kernel}\n"
        );
        self.page(&format!("{prefix}-rank-{rank}.txt"), &text).map(drop)
    }

    /// Takes a file from a node; a name that is a path, and more than is reasonable, is left out.
    pub(crate) fn file(&mut self, name: &str, data: &str) -> Result<(), Error> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        let legal = !name.is_empty()
            && name.len() <= 100
            && !name.starts_with('.')
            && name.chars().all(plain);
        self.received += data.len();
        if !legal || self.received > MOST_BYTES {
            return Ok(());
        }
        let Ok(bytes) = base64::engine::general_purpose::STANDARD.decode(data) else {
            return Ok(());
        };
        let folder = self.folder.join("files");
        let path = folder.join(name);
        fs::create_dir_all(&folder)
            .and_then(|()| fs::write(&path, bytes))
            .map_err(|source| Error::Write { path, source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_from_inside_lead_nowhere() {
        let parent = tempfile::tempdir().unwrap();
        let mut evidence = Evidence::make(parent.path(), "one").unwrap();
        for name in ["../x", "/tmp/x", "a/b", ".x", "", "a\0b"] {
            evidence.file(name, "eA==").unwrap();
        }
        assert!(!evidence.folder().join("files").exists());
        evidence.file("fr_0", "eA==").unwrap();
        assert_eq!(fs::read(evidence.folder().join("files/fr_0")).unwrap(), b"x");
        assert_eq!(fs::read(parent.path().join(".gitignore")).unwrap(), b"*\n");
        assert!(Evidence::make(parent.path(), "one").is_err());
    }

    #[test]
    fn the_script_makes_the_same_folder() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("there");
        let script = Evidence::script(&folder.display().to_string());
        let status = std::process::Command::new("sh").args(["-c", &script]).status().unwrap();
        assert!(status.success());
        for (name, text) in PROGRAMS {
            assert_eq!(fs::read_to_string(folder.join(name)).unwrap(), text);
        }
    }
}
