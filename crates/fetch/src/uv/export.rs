//! A project's uv.lock as a pylock.toml: `uv export --frozen`, which reads the lock and the pyproject.toml
//! beside it, and neither resolves nor builds anything (uv, "Exporting a lockfile").

use std::fs;
use std::process::{Command, Stdio};

use sconce_lock::{IndexError, UvLockRequest};

use super::ask::{failed, read, words};
use super::{Uv, UvError};

impl Uv {
    /// What `Index::uv_lock` asks for. uv works on copies in a folder of their own: no other file of the
    /// project is read.
    ///
    /// # Errors
    /// A [`UvError`] in [`IndexError::Failed`]: the two do not go together, or an extra is not there.
    pub fn export(&self, request: &UvLockRequest<'_>) -> Result<String, IndexError> {
        let scratch = tempfile::Builder::new()
            .prefix("sconce-uv-")
            .tempdir()
            .map_err(|source| failed(UvError::io("create", std::env::temp_dir(), source)))?;
        for (name, text) in [("uv.lock", request.lock), ("pyproject.toml", request.pyproject)] {
            let path = scratch.path().join(name);
            fs::write(&path, text)
                .map_err(|source| failed(UvError::io("create", &path, source)))?;
        }
        let output = scratch.path().join("pylock.toml");
        let mut command = Command::new(&self.program);
        command
            .args(["export", "--frozen", "--offline", "--quiet", "--no-header"])
            .args(["--no-emit-workspace", "--no-default-groups", "--format", "pylock.toml"])
            .arg("--project")
            .arg(scratch.path())
            .arg("--output-file")
            .arg(&output)
            .current_dir(scratch.path())
            .envs(self.setting.variables.iter().cloned())
            .env_remove("UV_WORKING_DIR")
            .env_remove("UV_PROJECT")
            .stdin(Stdio::null());
        for extra in request.extras {
            command.arg("--extra").arg(extra);
        }
        for group in request.groups {
            command.arg("--group").arg(group);
        }
        let done =
            command.output().map_err(|source| failed(UvError::io("run", &self.program, source)))?;
        if !done.status.success() {
            let words = words(&String::from_utf8_lossy(&done.stderr));
            return Err(failed(UvError::Failed { words, offline: false }));
        }
        read(&output).map_err(failed)
    }
}
