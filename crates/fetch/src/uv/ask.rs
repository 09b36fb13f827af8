//! One question to uv, and its answer.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use sconce_lock::{
    IndexError, IndexRequest, Package, ProjectText, Pylock, PylockSource as Source, PythonAnswer,
    PythonRequest, SOURCE,
};

use super::error::{is_login, met_network};
use super::folder;
use super::offers;
use super::origin::{Known, annotations};
use super::{Uv, UvError, process};
use crate::indexes::{self, Configured};

/// Where folders of wheels are made into indexes.
pub(super) const INDEXES: &str = "indexes";

/// No honest answer is larger, bytes.
const LIMIT: u64 = 16 << 20;

/// A question: its indexes with their addresses, its projects and its constraints.
type Question<'a> =
    (&'a PythonRequest, &'a [(IndexRequest, String)], (&'a [PathBuf], &'a [String]));

/// What uv is told beyond its own configuration, and which indexes it will ask besides the default one.
#[derive(Debug)]
pub(super) struct Setting {
    pub variables: Vec<(&'static str, OsString)>,
    pub extra: Vec<(Option<String>, String)>,
    /// Whether only what was uploaded by some day is to be seen.
    pub dated: bool,
}

/// Where uv has no index configured, what is configured for pip is handed over; so are pip's certificates.
pub(super) fn setting(env: &dyn Fn(&str) -> Option<OsString>) -> Result<Setting, UvError> {
    let mut variables: Vec<(&'static str, OsString)> = Vec::new();
    let config = |error| UvError::Config(Box::new(error));
    let own = |name: &str| match name {
        "PIP_CONFIG_FILE" => Some("/dev/null".into()),
        name if name.starts_with("PIP_") => None,
        name => env(name),
    };
    let mut used = indexes::configured(&own).map_err(config)?;
    if used == Configured::default() {
        used = indexes::configured(env).map_err(config)?;
        used.find_links.retain(|place| place.contains("://") || Path::new(place).is_dir());
        if let Some(default) = &used.default {
            variables.push(("UV_DEFAULT_INDEX", default.into()));
        }
        if !used.extra.is_empty() {
            let extra: Vec<_> = used.extra.iter().map(|(_, url)| url.as_str()).collect();
            variables.push(("UV_INDEX", extra.join(" ").into()));
        }
        if !used.find_links.is_empty() {
            variables.push(("UV_FIND_LINKS", used.find_links.join(",").into()));
        }
    }
    if env("SSL_CERT_FILE").is_none()
        && let Some(bundle) = env("PIP_CERT").or_else(|| env("REQUESTS_CA_BUNDLE"))
    {
        variables.push(("SSL_CERT_FILE", bundle));
    }
    // The machine's certificates, by the names that older and newer versions know.
    for name in ["UV_SYSTEM_CERTS", "UV_NATIVE_TLS"] {
        if env(name).is_none() {
            variables.push((name, "true".into()));
        }
    }
    variables.push(("UV_PYTHON_DOWNLOADS", "never".into()));
    variables.push(("NO_COLOR", "1".into()));
    let mut extra = used.extra;
    extra.extend(used.find_links.into_iter().map(|place| (None, place)));
    let dated = env("UV_EXCLUDE_NEWER").is_some_and(|day| !day.is_empty());
    Ok(Setting { variables, extra, dated })
}

impl Uv {
    /// Resolves Python requirements for a target, wheels only. A request holds nothing that would have
    /// to be built ([`sconce_lock::Spec::load`] refuses it): `--only-binary` and
    /// `--no-build` keep uv from building all but what is editable. What `Index::python` asks for.
    ///
    /// # Errors
    /// [`IndexError::NoSolution`] or [`IndexError::Refused`] with uv's words, or a [`UvError`] in
    /// [`IndexError::Failed`].
    pub fn python(&mut self, request: &PythonRequest) -> Result<PythonAnswer, IndexError> {
        let scratch = tempfile::Builder::new()
            .prefix("sconce-uv-")
            .tempdir()
            .map_err(|source| failed(UvError::io("create", std::env::temp_dir(), source)))?;
        let mut indexes = Vec::new();
        for index in &request.indexes {
            let address = match self.leads.local(&index.url) {
                None => index.url.clone(),
                Some(folder) => {
                    folder::index(&folder, &scratch.path().join(INDEXES).join(&index.name))
                        .map_err(failed)?
                }
            };
            indexes.push((index.clone(), address));
        }
        indexes.extend(offers::placeholders(request, scratch.path()).map_err(failed)?);
        let output = scratch.path().join("pylock.toml");
        if !request.preferences.is_empty() {
            // uv keeps what its output file has already, where that still fits.
            fs::write(&output, pylock_of(&request.preferences))
                .map_err(|source| failed(UvError::io("create", &output, source)))?;
        }
        if request.base.is_free_threaded() {
            free_threaded(scratch.path()).map_err(failed)?;
        }
        let mut command = self.command(request, &indexes, scratch.path());
        command.arg("--output-file").arg(&output);
        let projects = projects(&request.files, scratch.path()).map_err(failed)?;
        let mut constraints = request.constraints.clone();
        constraints.extend(offers::built(request, scratch.path()).map_err(failed)?);
        let files = (projects.as_slice(), constraints.as_slice());
        with_files(&mut command, request, files, scratch.path())?;
        command.arg("-");
        let answered = self.run(command, &request.options, &request.requirements);
        answered.map_err(|error| named(error, &projects, &request.files))?;
        let pylock = read(&output).map_err(failed)?;
        let pylock = absolute(&pylock, scratch.path());
        let folder = Some(self.leads.folder().to_owned());
        let mut answer = PythonAnswer { pylock, folder, ..PythonAnswer::default() };
        // What does not parse here is said by whoever takes the answer.
        if let Ok(parsed) = Pylock::parse(&answer.pylock) {
            self.remember(&parsed, scratch.path());
            self.origins((request, &indexes, files), &parsed, &mut answer, scratch.path())?;
        }
        // That of placeholders is gone with this question.
        answer.addresses.remove(SOURCE);
        Ok(answer)
    }

    /// `uv pip compile` for a target, without input and output.
    fn command(
        &self,
        request: &PythonRequest,
        indexes: &[(IndexRequest, String)],
        scratch: &Path,
    ) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(["pip", "compile", "--quiet", "--no-progress", "--no-header"])
            .args(["--only-binary", ":all:"])
            .args(["--python-version", request.base.python_version()])
            .arg("--python-platform")
            .arg(format!("{}-{}", request.machine, request.base.uv_platform))
            .current_dir("/")
            .envs(self.setting.variables.iter().cloned())
            // Where we run and what we ask for is ours to say.
            .env_remove("UV_WORKING_DIR")
            .env_remove("UV_PROJECT")
            .env_remove("UV_TORCH_BACKEND");
        for (index, address) in indexes {
            command.arg("--index").arg(format!("{}={address}", index.name));
        }
        if self.setting.dated {
            // A folder does not say when its files came, and uv would see none of them.
            for name in folder::projects(&scratch.join(INDEXES)) {
                command.arg("--exclude-newer-package").arg(format!("{name}=false"));
            }
        }
        if request.base.is_free_threaded() {
            command.arg("--python").arg(scratch.join(FREE_THREADED));
        } else if let Some(python) = &self.python {
            command.arg("--python").arg(python);
        }
        if let Some(backend) = &request.torch_backend {
            command.args(["--torch-backend", backend]);
        }
        if self.offline {
            command.arg("--offline");
        }
        command
    }

    /// An address for a lock: a folder in the project is named from there, so that it builds anywhere.
    fn beneath(&self, address: &str) -> String {
        let path = address.strip_prefix("file://").map(Path::new);
        match path.and_then(|path| path.strip_prefix(self.leads.folder()).ok()) {
            Some(inner) => format!("./{}", inner.display()),
            None => address.to_owned(),
        }
    }

    fn run(
        &self,
        mut command: Command,
        options: &[String],
        requirements: &[String],
    ) -> Result<String, IndexError> {
        let lines = options.iter().chain(requirements);
        let input = lines.map(|line| format!("{line}\n")).collect::<String>();
        let output = process::output(&mut command, &input, self.stop.as_ref());
        let output = output.map_err(|error| failed(UvError::not_run(&self.program, error)))?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let words = words(&String::from_utf8_lossy(&output.stderr));
        let offline = self.offline || words.contains("the network was disabled");
        // 1 is "no solution", 2 everything else; without the network a solution may only be out of reach.
        let no = output.status.code() == Some(1) && words.contains("No solution found");
        if no && !offline && !is_login(&words) {
            return Err(IndexError::NoSolution { words: without_preamble(&words) });
        }
        let error = UvError::Failed { words, offline };
        match error {
            UvError::Failed { words, offline: false } if !met_network(&words) => {
                Err(IndexError::Refused { words: words.trim_start_matches("error: ").to_owned() })
            }
            error => Err(failed(error)),
        }
    }

    /// Which index each package came from. Asked only where it can be another than the default one.
    fn origins(
        &self,
        (request, indexes, files): Question<'_>,
        parsed: &Pylock,
        answer: &mut PythonAnswer,
        scratch: &Path,
    ) -> Result<(), IndexError> {
        // What a folder of wheels has is in the answer by its path; with no such path all is from the
        // default index.
        let only_folders = self.setting.extra.iter().all(|(_, place)| !is_remote(place));
        if indexes.is_empty()
            && (only_folders && !parsed.packages.iter().any(is_local))
            && request.elsewhere.is_empty()
            && request.torch_backend.is_none()
        {
            return Ok(());
        }
        let pins: Vec<String> = parsed
            .packages
            .iter()
            .filter(|package| package.wheels.iter().all(|w| matches!(w.source, Source::Index(_))))
            .filter_map(|package| Some(format!("{}=={}", package.name, package.version.as_ref()?)))
            .collect();
        let mut command = self.command(request, indexes, scratch);
        // An index that is `explicit` has only what a project takes from it: without the project it is asked for nothing.
        with_files(&mut command, request, files, scratch)?;
        command.args(["--no-deps", "--no-annotate", "--emit-index-annotation", "-"]);
        let text = self.run(command, &request.options, &pins)?;
        let backend = request.torch_backend.as_deref();
        let (configured, elsewhere) = (&self.setting.extra, &request.elsewhere);
        let known = Known { requested: indexes, configured, elsewhere, backend };
        let named: BTreeMap<String, (String, String)> = annotations(&text)
            .into_iter()
            .filter_map(|(package, address)| Some((package, known.name(&address)?)))
            .collect();
        for (package, (name, address)) in named {
            answer.addresses.insert(name.clone(), self.beneath(&address));
            answer.indexes.insert(package, name);
        }
        Ok(())
    }

    fn remember(&mut self, parsed: &Pylock, scratch: &Path) {
        let scratch = scratch.to_string_lossy();
        for wheel in parsed.packages.iter().flat_map(|package| &package.wheels) {
            let (Source::Index(Some(place)) | Source::Direct(place)) = &wheel.source else {
                continue;
            };
            if place.contains(&*scratch) {
                continue;
            }
            self.locations.insert(wheel.sha256, place.clone());
        }
    }
}

/// Adds the projects of a question, and what holds for all packages of it.
fn with_files(
    command: &mut Command,
    request: &PythonRequest,
    (projects, constraints): (&[PathBuf], &[String]),
    scratch: &Path,
) -> Result<(), IndexError> {
    command.args(projects);
    if !constraints.is_empty() {
        let path = scratch.join("constraints.txt");
        fs::write(&path, constraints.join("\n"))
            .map_err(|source| failed(UvError::io("create", &path, source)))?;
        command.arg("--constraints").arg(path);
    }
    if !request.overrides.is_empty() {
        let path = scratch.join("overrides.txt");
        fs::write(&path, request.overrides.join("\n"))
            .map_err(|source| failed(UvError::io("create", &path, source)))?;
        command.arg("--overrides").arg(path);
    }
    for extra in &request.extras {
        command.arg("--extra").arg(extra);
    }
    for (file, group) in &request.groups {
        let Some(file) = projects.get(*file) else { continue };
        command.arg("--group").arg(format!("{}:{group}", file.display()));
    }
    Ok(())
}

/// Writes the projects of a request below `scratch`; gives their paths.
fn projects(texts: &[ProjectText], scratch: &Path) -> Result<Vec<PathBuf>, UvError> {
    let write = |(number, project): (usize, &ProjectText)| {
        let folder = scratch.join(format!("project-{}", number + 1));
        let path = folder.join("pyproject.toml");
        fs::create_dir(&folder)
            .and_then(|()| fs::write(&path, &project.text))
            .map_err(|source| UvError::io("create", &path, source))?;
        Ok(path)
    };
    texts.iter().enumerate().map(write).collect()
}

/// An error that names the person's files, and not ours.
fn named(error: IndexError, ours: &[PathBuf], theirs: &[ProjectText]) -> IndexError {
    let put = |mut words: String| {
        for (ours, theirs) in ours.iter().zip(theirs) {
            let theirs = theirs.path.to_string_lossy();
            words = words.replace(&*ours.to_string_lossy(), &theirs);
            // uv names the project by its folder as well.
            if let Some(folder) = ours.parent() {
                words = words.replace(&*folder.to_string_lossy(), &theirs);
            }
        }
        words
    };
    match error {
        IndexError::NoSolution { words } => IndexError::NoSolution { words: put(words) },
        IndexError::Refused { words } => IndexError::Refused { words: put(words) },
        other => other,
    }
}

/// Whether a place of wheels is not a folder of this machine.
fn is_remote(place: &str) -> bool {
    place.contains("://") && !place.starts_with("file://")
}

/// Whether a wheel of a package is on this machine.
fn is_local(package: &Package) -> bool {
    package.wheels.iter().any(|wheel| match &wheel.source {
        Source::Index(Some(place)) | Source::Direct(place) => !is_remote(place),
        Source::Index(None) => false,
    })
}

/// The program that stands for a Python without the GIL where uv asks.
const FREE_THREADED: &str = "python3";

/// Makes [`FREE_THREADED`]: `--python-version` has no way to say that there is no GIL. uv takes that from the
/// interpreter which it finds, so it finds this machine's own with that one answer changed
/// (uv, `get_interpreter_info.py`, `gil_disabled`).
fn free_threaded(folder: &Path) -> Result<(), UvError> {
    let path = folder.join(FREE_THREADED);
    let text =
        "#!/bin/sh\npython3 \"$@\" | sed 's/\"gil_disabled\": false/\"gil_disabled\": true/'\n";
    fs::write(&path, text).map_err(|source| UvError::io("create", &path, source))?;
    fs::set_permissions(&path, Permissions::from_mode(0o755))
        .map_err(|source| UvError::io("create", &path, source))
}

/// A pylock.toml of uv's with absolute paths: it counts them from the folder of its own file.
fn absolute(text: &str, folder: &Path) -> String {
    let Ok(mut document) = text.parse::<toml::Table>() else { return text.to_owned() };
    let mut changed = false;
    let packages = document.get_mut("packages").and_then(toml::Value::as_array_mut);
    for package in packages.into_iter().flatten() {
        let mut files: Vec<&mut toml::Value> = Vec::new();
        let Some(package) = package.as_table_mut() else { continue };
        for (key, value) in package.iter_mut() {
            match (key.as_str(), value) {
                ("wheels", toml::Value::Array(wheels)) => files.extend(wheels),
                ("archive" | "sdist", value) => files.push(value),
                _ => {}
            }
        }
        for file in files.into_iter().filter_map(toml::Value::as_table_mut) {
            let Some(path) = file.get("path").and_then(toml::Value::as_str) else { continue };
            let path = folder.join(path);
            let path = fs::canonicalize(&path).unwrap_or(path);
            file.remove("path");
            let url = format!("file://{}", path.display());
            file.insert("url".to_owned(), toml::Value::String(url));
            changed = true;
        }
    }
    if changed { document.to_string() } else { text.to_owned() }
}

/// The least pylock.toml that says which versions there are (PEP 751).
fn pylock_of(versions: &[(String, String)]) -> String {
    let mut text = String::from("lock-version = \"1.0\"\ncreated-by = \"sconce\"\n");
    for (name, version) in versions {
        let package: toml::Table = [("name", name), ("version", version)]
            .map(|(key, value)| (key.to_owned(), toml::Value::String(value.clone())))
            .into_iter()
            .collect();
        text += &format!("[[packages]]\n{package}");
    }
    text
}

pub(super) fn failed(error: UvError) -> IndexError {
    IndexError::failed(error)
}

pub(super) fn read(path: &Path) -> Result<String, UvError> {
    sconce_open::read_to_string(path, LIMIT).map_err(|source| UvError::io("read", path, source))
}

/// uv's words, bounded.
pub(super) fn words(text: &str) -> String {
    const START: usize = 6000;
    const END: usize = 2000;
    let text = text.trim();
    // What it concludes, and its hints of packages without wheels, stand at the end.
    let cut = text.char_indices().nth(START).zip(text.char_indices().nth_back(END));
    match cut.filter(|((start, _), (end, _))| start < end) {
        Some(((start, _), (end, _))) => {
            let (first, last) = (text.get(..start), text.get(end..));
            let last = last.and_then(|last| last.split_once('\n')).map_or("", |(_, rest)| rest);
            format!("{}…\n{last}", first.unwrap_or(text))
        }
        None => text.to_owned(),
    }
}

/// Without "error: No solution found …": the error that carries the words says so.
fn without_preamble(words: &str) -> String {
    let lines = words
        .lines()
        .filter(|line| !line.contains("No solution found when resolving"))
        .map(|line| line.trim().trim_start_matches("cause: ").trim_start_matches("╰─▶ "));
    lines.collect::<Vec<_>>().join("\n").trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_many_words_is_kept() {
        let hint = "hint: Wheels are required for `deepspeed` because";
        let said = format!("{}\n{hint}\n", "Because é\n".repeat(2000));
        let kept = words(&said);
        assert!(kept.starts_with("Because é\n") && kept.ends_with(&format!("\n{hint}")), "{kept}");
        assert!(kept.chars().count() <= 8002, "{}", kept.chars().count());
        assert_eq!(words(" short "), "short");
        assert_eq!(words(&"x".repeat(9000)).chars().count(), 6002);
    }

    #[test]
    fn the_python_that_uv_finds_has_no_gil() {
        let folder = tempfile::tempdir().unwrap();
        free_threaded(folder.path()).unwrap();
        let says = r#"import json; print(json.dumps({"gil_disabled": False, "a": "b"}))"#;
        let output =
            Command::new(folder.path().join(FREE_THREADED)).args(["-I", "-c", says]).output();
        let said = String::from_utf8(output.unwrap().stdout).unwrap();
        assert_eq!(said.trim(), r#"{"gil_disabled": true, "a": "b"}"#);
    }
}
