//! `[run]` of a project: what is asked where the command line asks nothing.

use std::path::{Path, PathBuf};

use sconce_build::Project;
use sconce_lock::reaches::has_signs;
use sconce_lock::{Leads, Run};
use sconce_run::{Volume, parse_cpus, parse_size};

use crate::env::Environment;
use crate::error::Error;
use crate::request::Request;
use crate::volumes::{Bind, Device, device, place, tmpfs};
use crate::{limits, network};

impl Request {
    /// Adds what `[run]` of the project says. The command line comes first: its volumes at the same
    /// place, its variables of the same name, its ports where it has any.
    ///
    /// # Errors
    /// What `[run]` says can't be read, or names a variable that is not set.
    pub fn add_project(&mut self, project: &Project, env: &Environment<'_>) -> Result<(), Error> {
        let run = &project.spec().run;
        let leads = &project.spec().leads;
        self.gpus = self.gpus.take().or_else(|| run.gpus.clone());
        self.add_limits(run)?;
        self.add_files(run, leads, env)?;
        let mut variables = Vec::new();
        for (name, value) in &run.env {
            variables.push((name.clone(), Some(env.expand(&format!("run.env.{name}"), value)?)));
        }
        self.env.splice(0..0, variables);
        if self.ports.is_empty() {
            for port in &run.ports {
                self.ports.extend(network::ports(port)?);
            }
        }
        if let (None, Some(mode)) = (self.network, &run.network) {
            self.network = Some(network::network(mode)?);
        }
        self.hostname = self.hostname.take().or_else(|| run.hostname.clone());
        self.user = self.user.take().or_else(|| run.user.clone());
        self.workdir = self.workdir.take().or_else(|| run.workdir.clone().map(PathBuf::from));
        self.read_only |= run.read_only;
        self.no_import_check |= run.no_import_check;
        Ok(())
    }

    fn add_limits(&mut self, run: &Run) -> Result<(), Error> {
        let size = |key, given: &Option<String>| {
            given.as_deref().map(|given| parse_size(key, given)).transpose()
        };
        if self.shm_bytes.is_none() {
            self.shm_bytes = size("run.shm", &run.shm)?;
        }
        if self.memory_bytes.is_none() {
            self.memory_bytes = size("run.memory", &run.memory)?;
        }
        if let (None, Some(cpus)) = (self.cpus, &run.cpus) {
            self.cpus = Some(parse_cpus(cpus)?);
        }
        let mut more = Vec::new();
        for given in &run.ulimits {
            let limit = limits::ulimit(given)?;
            if !self.ulimits.iter().any(|known| known.name == limit.name) {
                more.push(limit);
            }
        }
        self.ulimits.extend(more);
        Ok(())
    }

    fn add_files(&mut self, run: &Run, leads: &Leads, env: &Environment<'_>) -> Result<(), Error> {
        let taken = |request: &Self, target: &Path| {
            let binds = request.binds.iter().map(|bind| bind.volume.target.as_path());
            let tmpfs = request.tmpfs.iter().map(|tmpfs| tmpfs.target.as_path());
            binds.chain(tmpfs).any(|known| known.components().eq(target.components()))
        };
        let mut binds = Vec::new();
        for given in &run.volumes {
            let key = "run.volumes";
            let mut volume: Volume = env.expand(key, given)?.parse()?;
            let source = given.split(':').next().unwrap_or_default();
            if has_signs(source) {
                volume.source = env.home(key, given, &volume.source)?;
            } else if let Some(real) = leads.real(Path::new(source)) {
                (volume.source, volume.resolved) = (real, true);
            }
            // Relative to the project, wherever sconce is called from.
            volume.source = leads.folder().join(&volume.source);
            volume.target = place(key, given, &volume.target.to_string_lossy())?;
            if !taken(self, &volume.target) {
                binds.push(Bind { create: !volume.read_only, volume });
            }
        }
        let mut memory = Vec::new();
        for given in &run.tmpfs {
            let tmpfs = tmpfs(given)?;
            if !taken(self, &tmpfs.target) {
                memory.push(tmpfs);
            }
        }
        self.binds.extend(binds);
        self.tmpfs.extend(memory);
        for given in &run.devices {
            match device(given)? {
                Device::Node(mut node) => {
                    node.source = leads.real(&node.source).unwrap_or(node.source);
                    if !self.devices.contains(&node) {
                        self.devices.push(node);
                    }
                }
                Device::Gpus(_) => {
                    let why = "GPUs are chosen with `gpus`";
                    return Err(Error::option("run.devices", given, why));
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use sconce_lock::Spec;

    use super::*;
    use crate::volumes::volume;

    fn host(name: &str) -> Option<String> {
        match name {
            "HOME" => Some("/home/ann".into()),
            "TOKEN" => Some("secret".into()),
            _ => None,
        }
    }

    fn add(run: &str, request: &mut Request) -> Result<(), Error> {
        let folder = PathBuf::from("/nonexistent/project");
        let spec = Box::new(Spec::of_text(&format!("[run]\n{run}"), &folder)?);
        let project = Project::Folder { folder, spec };
        request.add_project(&project, &Environment(&host))
    }

    #[test]
    fn the_command_line_comes_first() {
        let env = Environment(&host);
        let mut request = Request {
            binds: vec![volume("/mine:/data/", &env).unwrap()],
            env: vec![("A".into(), Some("mine".into()))],
            ports: network::ports("1:1").unwrap(),
            user: Some("0".into()),
            ulimits: vec![limits::ulimit("nofile=5").unwrap()],
            ..Request::default()
        };
        let run = r#"
            volumes = ["./data:/data", "~/cache:/cache", "$HOME/x:/x:ro", "out:/out"]
            env = { A = "theirs", B = "$TOKEN", C = "$$5" }
            ports = ["2:2"]
            user = "1000"
            workdir = "/srv"
            network = "none"
            hostname = "h"
            memory = "1g"
            cpus = "2"
            read-only = true
            ulimits = ["nofile=6", "core=0"]
            tmpfs = ["/t:size=1m"]
            devices = ["/dev/null"]
            import-check = false
        "#;
        let refused = add(run, &mut request.clone()).unwrap_err().to_string();
        assert!(refused.contains("./out"), "{refused}");
        add(&run.replace("\"out:", "\"./out:"), &mut request).unwrap();
        let sources: Vec<String> =
            request.binds.iter().map(|bind| bind.volume.source.display().to_string()).collect();
        assert_eq!(
            sources,
            ["/mine", "/home/ann/cache", "/home/ann/x", "/nonexistent/project/out"]
        );
        assert!(!request.binds[2].create);
        let made = request.container(sconce_oci::Process::default(), 0, None).unwrap();
        let value = |name: &str| {
            made.env.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
        };
        assert_eq!(
            (value("A"), value("B"), value("C")),
            (Some("mine"), Some("secret"), Some("$5"))
        );
        assert_eq!((made.ports.len(), made.ports[0].host), (1, 1));
        assert_eq!(
            (made.user.as_deref(), made.memory_bytes, made.cpus),
            (Some("0"), Some(1 << 30), Some(2.0))
        );
        assert_eq!((made.network, made.read_only), (sconce_run::Network::None, true));
        let limits: Vec<_> =
            made.ulimits.iter().map(|limit| (limit.name.as_str(), limit.soft)).collect();
        assert_eq!(limits, [("nofile", Some(5)), ("core", Some(0))]);
        assert_eq!((made.tmpfs.len(), made.devices.len()), (1, 1));
        assert!(request.no_import_check);
    }

    #[test]
    fn what_was_resolved_is_what_is_mounted() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().canonicalize().unwrap();
        std::fs::create_dir(folder.join("d")).unwrap();
        let text =
            "[run]\nvolumes = [\"./d:/d:ro\", \"$HOME/x:/x\"]\ndevices = [\"/dev/fd:/dev/x\"]";
        let spec = Box::new(Spec::of_text(text, &folder).unwrap());
        let mut request = Request::default();
        let resolved = spec.leads.real(Path::new("d"));
        std::os::unix::fs::symlink("/etc", folder.join("e")).unwrap();
        std::fs::rename(folder.join("d"), folder.join("old")).unwrap();
        std::fs::rename(folder.join("e"), folder.join("d")).unwrap();
        let project = Project::Folder { folder: folder.clone(), spec };
        request.add_project(&project, &Environment(&host)).unwrap();
        let volume = |at: usize| &request.binds[at].volume;
        assert_eq!(Some(&volume(0).source), resolved.as_ref());
        assert_eq!((volume(0).source.as_path(), volume(0).resolved), (&*folder.join("d"), true));
        let home = Path::new("/home/ann/x");
        assert_eq!((volume(1).source.as_path(), volume(1).resolved), (home, false));
        assert_ne!(request.devices[0].source, Path::new("/dev/fd"));
    }

    #[test]
    fn two_volumes_of_the_document_in_one_place_are_refused() {
        let mut request = Request::default();
        add(r#"volumes = ["./a:/data", "./b:/data/"]"#, &mut request).unwrap();
        assert!(request.check().unwrap_err().to_string().contains("two mounts at /data"));
        let undefined = add(r#"volumes = ["$NOWHERE/a:/data"]"#, &mut Request::default());
        assert!(undefined.unwrap_err().to_string().contains("NOWHERE is not set"));
    }
}
