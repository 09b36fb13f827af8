//! A store of its own, and a tiny image made of this machine's own shell and tools.

#[allow(dead_code)]
pub mod detached;
pub mod listener;
pub mod served;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use sconce_blob::Digest;

const PROGRAMS: [&str; 21] = [
    "sh", "cat", "echo", "env", "id", "ls", "ln", "pwd", "rm", "true", "sleep", "stty", "mkdir",
    "touch", "chmod", "chown", "stat", "readlink", "head", "wc", "mkfifo",
];

/// `nobody` on every Linux.
const NOBODY: u32 = 65534;

/// Where a test works.
pub struct World {
    folder: tempfile::TempDir,
    nobody: bool,
}

impl World {
    pub fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), nobody: false }
    }

    /// One whose `sconce` an ordinary user calls; needs root to become that user.
    #[allow(dead_code)]
    pub fn of_nobody() -> Self {
        use std::os::unix::fs::{PermissionsExt, chown};
        let mut world = Self::new();
        world.nobody = true;
        sconce_testkit::copy_program(env!("CARGO_BIN_EXE_sconce").as_ref(), &world.path("sconce"));
        let folder = world.folder.path();
        fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).unwrap();
        chown(folder, Some(NOBODY), Some(NOBODY))
            .expect("tests that become nobody are run by root");
        world
    }

    /// A path in its folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// `sconce`, called in its folder, with a store there.
    pub fn sconce(&self, words: &[&str]) -> Command {
        let mut command = match self.nobody {
            false => Command::new(env!("CARGO_BIN_EXE_sconce")),
            true => {
                let mut command = Command::new("setpriv");
                command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
                command.arg(self.path("sconce"));
                command
            }
        };
        command.current_dir(self.folder.path()).args(words);
        command.env("SCONCE_HOME", self.path("store")).env("HOME", self.path("home"));
        command.env_remove("XDG_CONFIG_HOME");
        command.stdin(std::process::Stdio::null());
        command
    }

    /// What `sconce` answers: exit code, standard output, standard error.
    #[allow(dead_code)]
    pub fn says(&self, words: &[&str]) -> (i32, String, String) {
        texts(&self.sconce(words).output().unwrap())
    }

    /// An OCI layout in the folder `image`, its configuration's `config` as given.
    pub fn image(&self, config: &str) {
        self.image_for(if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" }, config);
    }

    /// [`World::image`] that says it is for a processor.
    pub fn image_for(&self, arch: &str, config: &str) {
        let root = self.path("root");
        if !root.exists() {
            make_root(&root);
            let tar = Command::new("tar")
                .args(["--create", "--numeric-owner", "--owner=0", "--group=0", "--file"])
                .arg(self.path("layer.tar"))
                .arg("--directory")
                .arg(&root)
                .arg(".")
                .status();
            assert!(tar.unwrap().success());
        }
        let layer = fs::read(self.path("layer.tar")).unwrap();
        let layer_digest = Digest::of(&layer);
        let config = format!(
            r#"{{"architecture": "{arch}", "os": "linux", "config": {config},
                "rootfs": {{"type": "layers", "diff_ids": ["{layer_digest}"]}}}}"#
        );
        let descriptor = |kind: &str, bytes: &[u8]| {
            format!(
                r#"{{"mediaType": "application/vnd.oci.image.{kind}", "digest": "{}", "size": {}}}"#,
                Digest::of(bytes),
                bytes.len()
            )
        };
        let manifest = format!(
            r#"{{"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "config": {}, "layers": [{}]}}"#,
            descriptor("config.v1+json", config.as_bytes()),
            descriptor("layer.v1.tar", &layer)
        );
        let index = format!(
            r#"{{"schemaVersion": 2, "manifests": [{}]}}"#,
            descriptor("manifest.v1+json", manifest.as_bytes())
        );
        let image = self.path("image");
        drop(fs::remove_dir_all(&image));
        let blobs = image.join("blobs/sha256");
        fs::create_dir_all(&blobs).unwrap();
        for bytes in [&layer[..], config.as_bytes(), manifest.as_bytes()] {
            fs::write(blobs.join(Digest::of(bytes).hex()), bytes).unwrap();
        }
        fs::write(image.join("index.json"), index).unwrap();
        fs::write(image.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    }
}

/// A test that failed must leave no container behind.
impl Drop for World {
    fn drop(&mut self) {
        let running =
            || fs::read_dir(self.path("store/containers")).into_iter().flatten().flatten();
        let ids: Vec<String> =
            running().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        if !ids.is_empty() {
            let mut words = vec!["rm", "--force"];
            words.extend(ids.iter().map(String::as_str));
            let _ = self.sconce(&words).output();
        }
    }
}

#[allow(dead_code)]
pub fn texts(output: &Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
}

fn make_root(root: &Path) {
    for folder in ["etc", "tmp", "usr/bin", "root"] {
        fs::create_dir_all(root.join(folder)).unwrap();
    }
    std::os::unix::fs::symlink("usr/bin", root.join("bin")).unwrap();
    fs::write(root.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n").unwrap();
    fs::write(root.join("etc/group"), "root:x:0:\nusers:x:100:\n").unwrap();
    let mut files = BTreeSet::new();
    for program in PROGRAMS {
        let found = ["/usr/bin", "/bin"].iter().map(|dir| Path::new(dir).join(program));
        let found = found.into_iter().find(|path| path.exists()).unwrap();
        fs::copy(&found, root.join("usr/bin").join(program)).unwrap();
        let output = Command::new("ldd").arg(&found).output().unwrap();
        for word in String::from_utf8_lossy(&output.stdout).split_whitespace() {
            if word.starts_with('/') {
                files.insert(PathBuf::from(word));
            }
        }
    }
    for file in files {
        let place = root.join(file.strip_prefix("/").unwrap());
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        fs::copy(&file, place).unwrap();
    }
}
