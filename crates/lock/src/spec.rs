//! `sconce.toml`: what a person wants.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use pep440_rs::VersionSpecifiers;
use sconce_blob::Digest;
use sconce_facts::{CudaVersion, Machine};
use serde::Serialize;

use crate::error::Error;
use crate::leads::Leads;
use crate::pyproject::Project;
pub use crate::requests::{
    CudaRequest, DriverRequest, Flavour, GpuRequest, IndexRequest, Requirements, TorchRequest,
};
use crate::requirements::FileKind;
use crate::wheel_name::normalise;
use crate::{on_disk, spec_keys, spec_parse};

/// The whole of `sconce.toml`. [`Spec::default`] is the empty file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Spec {
    /// `[environment]`.
    pub environment: Environment,
    /// `[base]`.
    pub base: BaseRequest,
    /// `[app]`.
    pub app: App,
    /// The project itself, where `app.install` asks for it; read beside `sconce.toml` by [`Spec::load`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub project: Option<ProjectRequest>,
    /// `[image]`: what the image is called, which does not change it.
    #[serde(skip)]
    pub image: ImageRequest,
    /// `[run]`; none of it changes the image.
    #[serde(skip)]
    pub run: Run,
    /// `[launch]`; none of it changes the image.
    #[serde(skip)]
    pub launch: Launch,
    /// What a person should know of how it came about, where that was a tag.
    #[serde(skip)]
    pub remarks: Vec<String>,
    /// Its text, for the lines of what is wrong; empty where it was not loaded from a folder.
    #[serde(skip)]
    pub text: String,
    /// Where its paths lead, once loaded from a folder.
    #[serde(skip)]
    pub leads: Leads,
    /// The processor that it was made for besides its own, which is then `environment.platform`: it has a lock of its
    /// own.
    #[serde(skip)]
    pub beside: Option<Machine>,
}

/// `[environment]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Environment {
    /// Which torch.
    pub torch: TorchRequest,
    /// Which GPUs it must run on.
    pub gpus: GpuRequest,
    /// The oldest driver it must run on.
    pub driver: DriverRequest,
    /// Which CUDA.
    pub cuda: CudaRequest,
    /// Which Python: "3.13".
    pub python: Option<String>,
    /// Which processor.
    pub platform: Option<Machine>,
    /// Python packages besides torch.
    pub requirements: Requirements,
    /// Extras of a pyproject.toml among the requirements.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub extras: Vec<String>,
    /// Dependency groups of it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// Packages that are built from their source distribution, normalised and sorted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub from_source: Vec<String>,
    /// Packages that are left out though something requires them; normalised.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<String>,
    /// Packages whose files win over those of others, the first before the rest; normalised.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub prefer: Vec<String>,
    /// Indexes besides the default one.
    pub indexes: Vec<IndexRequest>,
    /// What it is for.
    pub flavour: Flavour,
    /// Whether .pyc files are in the image.
    pub bytecode: bool,
}

impl Default for Environment {
    fn default() -> Self {
        Self {
            torch: TorchRequest::default(),
            gpus: GpuRequest::default(),
            driver: DriverRequest::default(),
            cuda: CudaRequest::default(),
            python: None,
            platform: None,
            requirements: Requirements::default(),
            extras: Vec::new(),
            groups: Vec::new(),
            from_source: Vec::new(),
            exclude: Vec::new(),
            prefer: Vec::new(),
            indexes: Vec::new(),
            flavour: Flavour::default(),
            bytecode: true,
        }
    }
}

impl Environment {
    /// The projects among the requirements.
    pub(crate) fn projects(&self) -> &[Project] {
        match &self.requirements {
            Requirements::List(_) => &[],
            Requirements::File(file) => &file.projects,
        }
    }

    /// The Pythons that files among the requirements allow: the file, its word for that, the versions.
    pub(crate) fn pythons(
        &self,
    ) -> impl Iterator<Item = (&Path, &'static str, &VersionSpecifiers)> {
        let file = match &self.requirements {
            Requirements::List(_) => None,
            Requirements::File(file) => Some(file),
        };
        let of_projects = self
            .projects()
            .iter()
            .map(|project| (project.path.as_path(), "requires-python", project.python.as_ref()));
        let of_file = file.map(|file| (file.path.as_path(), "python", file.conda.python.as_ref()));
        of_projects.chain(of_file).filter_map(|(path, word, python)| Some((path, word, python?)))
    }

    /// Extras and groups must be those of a project.
    fn check_extras(&self) -> Result<(), Error> {
        if let Requirements::File(file) = &self.requirements
            && file.kind == FileKind::UvLock
        {
            // uv says which there are.
            return Ok(());
        }
        let extras = (&self.extras, "extras", "[project.optional-dependencies]");
        let groups = (&self.groups, "groups", "[dependency-groups]");
        for (asked, key, section) in [extras, groups] {
            for name in asked {
                let of = |project: &Project| match key {
                    "extras" => project.extras.clone(),
                    _ => project.groups.clone(),
                };
                let known: Vec<String> = self.projects().iter().flat_map(of).collect();
                if !known.contains(&normalise(name)) {
                    let near = sconce_facts::nearest(name, known.iter().map(String::as_str));
                    return Err(Error::Edit {
                        message: format!(
                            "`{key}`: no pyproject.toml among the requirements has `{name}` under {section}"
                        ),
                        hint: near.map(|near| format!("did you mean `{near}`?")),
                    });
                }
            }
        }
        Ok(())
    }
}

/// `[base]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct BaseRequest {
    /// The Debian release.
    pub debian: Option<String>,
    /// Packages besides what the flavour needs.
    pub packages: Vec<String>,
    /// The mirror's address. Where packages come from does not change what they are.
    #[serde(skip)]
    pub mirror: Option<String>,
    /// Suites of fixes that a mirror may lack.
    #[serde(skip)]
    pub allow_missing: Vec<String>,
}

/// A project that is to be installed: what its pyproject.toml says of its build (PEP 517, PEP 621).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ProjectRequest {
    /// Its name, normalised.
    pub name: String,
    /// Its `[build-system]`, as it is written.
    pub system: String,
}

/// `[app]`: the user's own code, and the image's configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct App {
    /// Files and folders, relative to the folder of `sconce.toml`.
    pub include: Vec<String>,
    /// Patterns, as .gitignore has them, of what is left out of that.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<String>,
    /// Whether the folder is installed as a Python package.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub install: bool,
    /// An absolute path.
    pub workdir: String,
    /// Program and arguments; empty when the image has no command of its own.
    pub command: Vec<String>,
    /// Environment variables.
    pub env: BTreeMap<String, String>,
}

impl Default for App {
    fn default() -> Self {
        Self {
            include: Vec::new(),
            exclude: Vec::new(),
            install: false,
            workdir: "/app".to_owned(),
            command: Vec::new(),
            env: BTreeMap::new(),
        }
    }
}

/// `[image]`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImageRequest {
    /// Its name, such as `lab/demo:1.2`; `None` is one made of the folder's.
    pub name: Option<String>,
}

/// `[run]`: how the container is started.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Run {
    /// "all", "none", or indexes and UUIDs joined by commas; `None` is all there are.
    pub gpus: Option<String>,
    /// Size of /dev/shm as the user wrote it.
    pub shm: Option<String>,
    /// `host:container`.
    pub ports: Vec<String>,
    /// `host:container[:ro]`.
    pub volumes: Vec<String>,
    /// `dir[:options]`.
    pub tmpfs: Vec<String>,
    /// `node[:target]`.
    pub devices: Vec<String>,
    /// Variables that do not change the image.
    pub env: BTreeMap<String, String>,
    /// `name`, `uid`, `name:group` or `uid:gid`.
    pub user: Option<String>,
    /// Where the command starts.
    pub workdir: Option<String>,
    /// "none" or "private"; the host's if not given.
    pub network: Option<String>,
    /// The container's host name.
    pub hostname: Option<String>,
    /// Memory limit as the user wrote it.
    pub memory: Option<String>,
    /// Processors as the user wrote them.
    pub cpus: Option<String>,
    /// `name=soft[:hard]`.
    pub ulimits: Vec<String>,
    /// The root cannot be written to.
    pub read_only: bool,
    /// Packages with native code are not imported beside the first run.
    pub no_import_check: bool,
}

/// `[launch]`: how it is started on several GPUs or machines. Whatever is `None` was not said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Launch {
    /// Machines.
    pub nodes: Option<u32>,
    /// Names of machines, with brackets.
    pub hosts: Vec<String>,
    /// GPUs of each machine.
    pub gpus_per_node: Option<u32>,
    /// What each rank runs.
    pub command: Vec<String>,
    /// Where ranks meet.
    pub port: Option<u16>,
    /// How long ranks may meet and measure before the first step, as the user wrote it.
    pub preflight: Option<String>,
    /// How many of the hosts, the last ones, only take others' places.
    pub spares: u32,
    /// How often all ranks are started again.
    pub restarts: u32,
    /// When it is ended, as the user wrote it.
    pub time_limit: Option<String>,
    /// When silence is looked into, as the user wrote it.
    pub hang_after: Option<String>,
    /// Variables of the ranks.
    pub env: BTreeMap<String, String>,
    /// The folder of logs and evidence, below the project's.
    pub evidence: Option<String>,
}

impl Spec {
    /// Reads `sconce.toml`'s text. A requirements file that it names is not read; [`Spec::load`] does.
    ///
    /// # Errors
    /// Not TOML, an unknown key or value; with its place and the nearest right one.
    pub fn parse(text: &str) -> Result<Self, Error> {
        spec_parse::parse(text)
    }

    /// Reads a `sconce.toml` and the requirements file that it names, relative to its folder.
    ///
    /// # Errors
    /// As [`Spec::parse`], or a file can't be read.
    pub fn load(path: &Path) -> Result<Self, Error> {
        let leads = Leads::of(path.parent().unwrap_or(Path::new("")));
        let name = Path::new(path.file_name().unwrap_or_default());
        Self::of_leads(&crate::requirements::read_text(&leads, name)?, leads)
    }

    /// The text of the `sconce.toml` in a folder.
    ///
    /// # Errors
    /// It can't be read.
    pub fn text(folder: &Path) -> Result<String, Error> {
        crate::requirements::read_text(&Leads::of(folder), Path::new("sconce.toml"))
    }

    /// As [`Spec::load`], of this text in place of the `sconce.toml` in `folder`.
    ///
    /// # Errors
    /// As [`Spec::load`].
    pub fn of_text(text: &str, folder: &Path) -> Result<Self, Error> {
        Self::of_leads(text, Leads::of(folder))
    }

    fn of_leads(text: &str, leads: Leads) -> Result<Self, Error> {
        let mut spec = Self::parse(text)?;
        if let Requirements::File(file) = &mut spec.environment.requirements {
            let named = file.path.clone();
            file.load(&leads, !spec.environment.groups.is_empty()).map_err(
                |error| match error {
                    // Where it stands for a sconce.toml, there is no line that names it.
                    Error::Read { path, source }
                        if path == leads.folder().join(&named)
                            && text != Self::stand_in(&named.to_string_lossy()) =>
                    {
                        on_disk::unreadable(text, &path, &source)
                    }
                    error => error,
                },
            )?;
            if let (CudaRequest::Auto, Some(CudaVersion { major, minor })) =
                (&spec.environment.cuda, file.conda.cuda)
            {
                spec.environment.cuda = CudaRequest::Version { major, minor: Some(minor) };
            }
        }
        spec.environment.check_extras()?;
        if spec.app.install {
            spec.project = Some(crate::pyproject::to_install(&leads)?);
        }
        crate::local::take(&mut spec.environment)?;
        spec.text = text.to_owned();
        spec.leads = leads;
        Ok(spec)
    }

    /// The text that stands for the `sconce.toml` of a folder that has none, but this file of requirements.
    pub fn stand_in(requirements: &str) -> String {
        spec_keys::stand_in(requirements)
    }

    /// The annotated file that `sconce init` writes: every key, commented out, with its default; but for
    /// `requirements`, where there is a file of them.
    pub fn template(requirements: Option<&str>) -> String {
        spec_keys::template(requirements)
    }

    /// The digest of all that decides a lock: equal for two files that ask for the same thing, whatever their
    /// comments and order; the text of a requirements file counts, `[run]` and the mirror do not.
    pub fn digest(&self) -> Digest {
        // Plain structs with string keys: there is nothing in them that TOML can't hold.
        let text = toml::to_string(self).unwrap_or_default();
        Digest::of(text.as_bytes())
    }

    /// The files that say what is needed: "sconce.toml and requirements.txt".
    pub(crate) fn files(&self) -> String {
        let mut files: Vec<String> = Vec::new();
        if let Requirements::File(file) = &self.environment.requirements {
            let all = [&file.path].into_iter().chain(file.included.iter().map(|one| &one.path));
            let folder = self.leads.folder();
            let named = all.map(|path| path.strip_prefix(folder).unwrap_or(path));
            files.extend(named.map(|path| path.display().to_string()));
        }
        // One file of requirements alone stands for a sconce.toml.
        if files.first().is_none_or(|first| self.text != Self::stand_in(first)) {
            files.insert(0, "sconce.toml".to_owned());
        }
        let mut seen = BTreeSet::new();
        files.retain(|file| seen.insert(file.clone()));
        let last = files.pop().unwrap_or_default();
        match files.is_empty() {
            true => last,
            false => format!("{} and {last}", files.join(", ")),
        }
    }

    /// The digest of what decides the wheels of a lock: `[environment]` and the Debian release.
    pub fn wheels_digest(&self) -> Digest {
        let environment = Environment { bytecode: true, ..self.environment.clone() };
        let base = BaseRequest { debian: self.base.debian.clone(), ..BaseRequest::default() };
        Self { environment, base, ..Self::default() }.digest()
    }
}
