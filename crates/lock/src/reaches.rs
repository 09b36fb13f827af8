//! What a project's own files reach for outside its folder.
//!
//! A project that was cloned is not trusted: `volumes = ["/:/host"]` in its sconce.toml would give
//! its code the machine. What is here is a list of such reaches, with the file and the line of each;
//! whether a person accepts them is for others to ask. Options of a command line are the person's
//! own and none of this. `include` under [app] is not either: it never leads out.
//!
//! Only paths are looked up, by [`Leads`] (links are followed, so that a link inside to something outside
//! is a reach); nothing is opened.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use sconce_blob::{Digest, Hasher};

use crate::addresses::direct;
use crate::document::Lock;
use crate::leads::Leads;
use crate::place::{Place, place, scheme, variables};
use crate::pylock::{Pylock, Source};
use crate::pyproject::Project;
use crate::requirements::{FileKind, RequirementsFile};
use crate::requirements_txt::{Ask, Line};
use crate::spec::{Requirements, Spec};
use crate::wheel_name::without_credentials;

/// When a reach is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// While the environment is locked or built.
    Lock,
    /// When the container is started.
    Run,
}

/// One thing outside its folder that a project's files ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reach {
    /// When it is made.
    pub when: When,
    /// The file that asks, and the line or key: `requirements.txt, line 3`.
    pub asks: String,
    /// What is done: `reads /data/wheels`.
    pub what: String,
    /// The file or folder that is read, where it is that.
    pub reads: Option<PathBuf>,
}

impl fmt::Display for Reach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.what, self.asks)
    }
}

/// The digest of a list of reaches, by which a person's trust in it is remembered. Where the asking
/// lines stand does not matter.
pub fn digest(reaches: &[Reach]) -> Digest {
    let mut all: Vec<&str> = reaches.iter().map(|reach| reach.what.as_str()).collect();
    all.sort_unstable();
    let mut hasher = Hasher::new();
    for what in all {
        hasher.update(what.as_bytes());
        hasher.update(b"\0");
    }
    hasher.finish()
}

/// What the files of a project reach for: a specification that was loaded from its folder, and the lock
/// beside it if there is one. `env` looks a variable up: some logins in it go by the name of an index, and a
/// project gives names.
pub fn reaches(
    spec: &Spec,
    lock: Option<&Lock>,
    env: &dyn Fn(&str) -> Option<OsString>,
) -> Vec<Reach> {
    let leads = &spec.leads;
    let folder = leads.folder();
    let mut list = List { leads, folder, env, found: Vec::new() };
    list.environment(spec);
    list.volumes(spec);
    list.container(spec);
    list.machines(spec);
    list.name(spec);
    if let Some(lock) = lock {
        let urls = lock.wheels.iter().filter_map(|wheel| wheel.url.as_deref());
        let urls = urls.chain(lock.python.iter().filter_map(|python| python.url.as_deref()));
        for url in urls.chain(lock.indexes.iter().filter_map(|row| row.url.as_deref())) {
            list.place("sconce.lock", folder, url);
        }
    }
    list.found
}

/// A character of a line.
fn one_line(c: char) -> Vec<char> {
    match c.is_control() {
        true => c.escape_default().collect(),
        false => vec![c],
    }
}

struct List<'a> {
    leads: &'a Leads,
    folder: &'a Path,
    env: &'a dyn Fn(&str) -> Option<OsString>,
    found: Vec<Reach>,
}

impl List<'_> {
    fn add(&mut self, when: When, asks: &str, what: String) {
        // One line each, whatever a project writes: a line break in it would be a line of its own in the question.
        let [what, asks] =
            [&*what, asks].map(|text| text.chars().flat_map(one_line).collect::<String>());
        if !self.found.iter().any(|reach| reach.what == what) {
            self.found.push(Reach { when, asks, what, reads: None });
        }
    }

    fn environment(&mut self, spec: &Spec) {
        let environment = &spec.environment;
        match &environment.requirements {
            Requirements::List(list) => {
                for text in list {
                    self.requirement("sconce.toml, requirements", text);
                }
            }
            Requirements::File(file) => self.file(file),
        }
        for index in &environment.indexes {
            let asks = format!("sconce.toml, index `{}`", index.name);
            self.place(&asks, self.folder, &index.url);
            self.login(&asks, &index.name, &index.url);
        }
        if let Some(mirror) = spec.base.mirror.as_deref().filter(|url| scheme(url) == Some("file"))
        {
            self.place("sconce.toml, mirror", self.folder, mirror);
        }
    }

    fn file(&mut self, file: &RequirementsFile) {
        self.path("sconce.toml, requirements", &file.path);
        for included in &file.included {
            self.path(&name(&file.path), &included.path);
        }
        for line in file.lines.iter().chain(&file.constraints) {
            self.line(line);
        }
        let folder = file.path.parent().unwrap_or(Path::new("")).to_owned();
        let text = file.text.as_deref().unwrap_or_default();
        for project in &file.projects {
            self.project(project);
        }
        // What is no such file has been refused, or will be when it is read as one.
        match file.kind {
            FileKind::Pylock => {
                let asks = name(&file.path);
                let packages = Pylock::parse(text).map(|lock| lock.packages).unwrap_or_default();
                for package in packages {
                    let direct = package.wheels.iter().filter_map(|wheel| match &wheel.source {
                        Source::Direct(url) | Source::Index(Some(url)) => Some(url.as_str()),
                        Source::Index(None) => None,
                    });
                    for url in direct.chain(package.index.as_deref()) {
                        self.place(&asks, &folder, url);
                    }
                }
            }
            // A uv.lock that takes anything from this machine is refused.
            FileKind::Requirements | FileKind::Pyproject | FileKind::UvLock | FileKind::Conda => {}
        }
    }

    fn project(&mut self, project: &Project) {
        let Project { path, sources, .. } = project;
        let folder = path.parent().unwrap_or(Path::new("")).to_owned();
        for direct in &sources.direct {
            let asks = format!("{}, line {}", name(path), direct.number);
            self.variables(&asks, &direct.text);
            if let Place::Local(local) = &direct.place {
                self.path(&asks, &folder.join(local));
            }
        }
        for (number, index, url) in &sources.indexes {
            let asks = format!("{}, line {number}", name(path));
            self.place(&asks, &folder, url);
            self.login(&asks, index, url);
        }
        for (number, option) in &sources.options {
            self.option(&format!("{}, line {number}", name(path)), option);
        }
    }

    fn line(&mut self, line: &Line) {
        let asks = format!("{}, line {}", name(&line.file), line.number);
        match &line.ask {
            Ask::Requirement(text) => self.requirement(&asks, text),
            Ask::Option(text) => self.option(&asks, text),
            Ask::RequireHashes | Ask::File { .. } => {}
        }
    }

    /// An option in the form in which uv gets it.
    fn option(&mut self, asks: &str, text: &str) {
        self.variables(asks, text);
        if let Some((_, value)) = text.split_once(' ') {
            self.place(asks, self.folder, value);
        }
    }

    /// A requirement in the form in which uv gets it.
    fn requirement(&mut self, asks: &str, text: &str) {
        self.variables(asks, text);
        if let Some(target) = direct(text) {
            self.place(asks, self.folder, &target);
        }
    }

    fn variables(&mut self, asks: &str, text: &str) {
        for variable in variables(text) {
            let what = format!("puts your variable {variable} into `{text}`");
            self.add(When::Lock, asks, what);
        }
    }

    /// A path or address; what is on the network is asked as any index is.
    fn place(&mut self, asks: &str, folder: &Path, text: &str) {
        if variables(text).next().is_some() {
            return;
        }
        if let Place::Local(path) = place(text) {
            self.path(asks, &folder.join(path));
        }
    }

    fn path(&mut self, asks: &str, path: &Path) {
        let Some(outside) = self.outside(path) else { return };
        let count = self.found.len();
        self.add(When::Lock, asks, format!("reads {}", outside.display()));
        if let Some(added) = self.found.get_mut(count) {
            added.reads = Some(outside);
        }
    }

    /// uv sends `UV_INDEX_<NAME>_USERNAME` and `…_PASSWORD` to the index of that name (uv, "Providing
    /// credentials directly"), whatever its address.
    fn login(&mut self, asks: &str, index: &str, url: &str) {
        let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
        let name: String = index.chars().map(plain).collect();
        for part in ["USERNAME", "PASSWORD"] {
            let variable = format!("UV_INDEX_{name}_{part}");
            if (self.env)(&variable).is_some_and(|value| !value.is_empty()) {
                let what = format!("sends your {variable} to {}", without_credentials(url));
                self.add(When::Lock, asks, what);
            }
        }
    }

    fn volumes(&mut self, spec: &Spec) {
        for volume in &spec.run.volumes {
            let mut parts = volume.split(':');
            let (source, target) = (parts.next().unwrap_or(""), parts.next().unwrap_or(""));
            let read_only = parts.any(|options| options.split(',').any(|option| option == "ro"));
            let mode = if read_only { "read-only" } else { "writable" };
            let outside = match has_signs(source) {
                // Where the shell's signs lead is not for here to say: not inside, to be sure.
                true => Some(PathBuf::from(source)),
                false => self.outside(Path::new(source)),
            };
            if let Some(outside) = outside {
                let what = format!("mounts {} at {target}, {mode}", outside.display());
                self.add(When::Run, "sconce.toml, [run] volumes", what);
            }
        }
    }

    /// Devices, and variables that go into the container.
    fn container(&mut self, spec: &Spec) {
        // Another path than an absolute one is refused at the start.
        for device in spec.run.devices.iter().filter(|device| device.starts_with('/')) {
            let node = Path::new(device.split(':').next().unwrap_or(device));
            let node = self.leads.real(node).unwrap_or_else(|| node.to_owned());
            let what = format!("gives the container {}", node.display());
            self.add(When::Run, "sconce.toml, [run] devices", what);
        }
        for (name, value) in &spec.run.env {
            for variable in dollars(value) {
                let asks = format!("sconce.toml, [run] env, {name}");
                let what = format!("gives the container your variable {variable}");
                self.add(When::Run, &asks, what);
            }
        }
    }

    /// Machines that ranks are started on.
    fn machines(&mut self, spec: &Spec) {
        if !spec.launch.hosts.is_empty() {
            let what = format!("starts ranks over ssh on {}", spec.launch.hosts.join(" "));
            self.add(When::Run, "sconce.toml, [launch] hosts", what);
        }
    }

    /// A name that a person takes for somebody else's image: what is run by it later would be the project's.
    fn name(&mut self, spec: &Spec) {
        let Some(name) = &spec.image.name else { return };
        let whose = match Spec::is_tag(name) {
            true => "which sconce makes images of itself",
            // Without a host before it, it is Docker Hub's: `run nvidia/cuda:12.4` asks there.
            false if name.contains('/') => "which is of a registry",
            false => return,
        };
        let what = format!("gives its image the name `{name}`, {whose}");
        self.add(When::Lock, "sconce.toml, [image] name", what);
    }

    /// The path, links followed, if it leads out of the project's folder.
    fn outside(&self, path: &Path) -> Option<PathBuf> {
        let Some(real) = self.leads.real(path) else { return Some(self.folder.join(path)) };
        (!real.starts_with(self.folder)).then_some(real)
    }
}

/// Whether a shell would put something else in its place.
pub fn has_signs(source: &str) -> bool {
    source.starts_with('~') || source.contains('$')
}

/// The variables that a value under [run] stands on: `$NAME` and `${NAME}`; `$$` is a dollar sign.
fn dollars(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            rest = after;
            continue;
        }
        let braced = rest.strip_prefix('{').unwrap_or(rest);
        let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let name = &braced[..braced.find(|c| !word(c)).unwrap_or(braced.len())];
        if !name.is_empty() {
            found.push(name);
        }
    }
    found
}

/// A file's name, for messages.
fn name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

#[cfg(test)]
#[path = "reaches_tests.rs"]
mod tests;
