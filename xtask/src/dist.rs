//! The packages of a release, made from a built program: a wheel, a .deb, a tarball, their checksums.
//!
//! The same program and commit give the same bytes: files are sorted, owners and modes are fixed, and times are
//! `SOURCE_DATE_EPOCH` or else the commit's.

mod deb;
mod program;
mod sbom;
mod tarball;
mod wheel;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use sconce_blob::Digest;

/// A file of a package: its path there, mode and bytes.
struct File {
    path: String,
    mode: u32,
    bytes: Vec<u8>,
    /// Where it leads, if it is a link.
    link: Option<&'static str>,
}

impl File {
    fn new(path: impl Into<String>, bytes: impl Into<Vec<u8>>) -> Self {
        Self { path: path.into(), mode: 0o644, bytes: bytes.into(), link: None }
    }

    fn program(path: impl Into<String>, bytes: Vec<u8>) -> Self {
        Self { mode: 0o755, ..Self::new(path, bytes) }
    }

    fn link(path: impl Into<String>, target: &'static str) -> Self {
        Self { mode: 0o777, link: Some(target), ..Self::new(path, Vec::new()) }
    }
}

/// All that goes into packages.
struct Release {
    version: &'static str,
    /// Seconds since 1970 that all files are from.
    time: u64,
    program: program::Program,
    /// Manual pages by file name: `sconce-run.1`.
    manual: Vec<(String, Vec<u8>)>,
    completions: Vec<Completion>,
    licence: Vec<u8>,
    readme: String,
    readme_zh: Vec<u8>,
    sbom: Vec<u8>,
}

/// A shell's completion script, and where below `/usr/share` the shell looks for it.
struct Completion {
    place: &'static str,
    script: Vec<u8>,
}

/// Source: bash-completion's README ("where should I install my completions"), zsh's `$fpath` as Debian sets it,
/// fish's documentation ("Where to put completions").
const SHELLS: [(&str, &str); 3] = [
    ("bash", "bash-completion/completions/sconce"),
    ("fish", "fish/vendor_completions.d/sconce.fish"),
    ("zsh", "zsh/vendor-completions/_sconce"),
];

/// The folder of the workspace.
pub fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_owned).unwrap_or_default()
}

/// Makes all packages of `binary` in the folder `out`.
///
/// # Errors
/// What kept one from being made, in words.
pub fn make(binary: &Path, out: &Path) -> Result<Vec<PathBuf>, String> {
    let release = Release::collect(binary)?;
    let packages = [wheel::make(&release)?, deb::make(&release)?, tarball::make(&release)?];
    fs::create_dir_all(out).map_err(|why| failed(out, &why))?;
    let mut sums = String::new();
    let mut made = Vec::new();
    let sbom = (format!("sconce-{}.spdx.json", release.version), release.sbom);
    for (name, bytes) in packages.into_iter().chain([sbom]) {
        sums += &format!("{}  {name}\n", Digest::of(&bytes).hex());
        made.push(write(&out.join(name), &bytes)?);
    }
    made.push(write(&out.join("SHA256SUMS"), sums.as_bytes())?);
    Ok(made)
}

impl Release {
    fn collect(binary: &Path) -> Result<Self, String> {
        let root = workspace();
        let file = |name: &str| {
            let path = root.join(name);
            fs::read(&path).map_err(|why| failed(&path, &why))
        };
        let program = program::Program::read(binary)?;
        let mut completions = Vec::new();
        for (shell, place) in SHELLS {
            completions
                .push(Completion { place, script: output(binary, &["completions", shell])? });
        }
        Ok(Self {
            version: env!("CARGO_PKG_VERSION"),
            time: time(&root)?,
            manual: manual(binary)?,
            completions,
            licence: file("LICENSE")?,
            readme: String::from_utf8_lossy(&file("README.md")?).into_owned(),
            readme_zh: file("README.zh.md")?,
            sbom: sbom::make(&root, program.arch)?,
            program,
        })
    }

    /// Manual pages and completions as they lie below `/usr/share`.
    fn share(&self, root: &str) -> Vec<File> {
        let pages = self
            .manual
            .iter()
            .map(|(name, bytes)| File::new(format!("{root}/man/man1/{name}"), bytes.clone()));
        let scripts = self
            .completions
            .iter()
            .map(|shell| File::new(format!("{root}/{}", shell.place), shell.script.clone()));
        pages.chain(scripts).collect()
    }
}

/// When a release is from.
fn time(root: &Path) -> Result<u64, String> {
    let text = match std::env::var("SOURCE_DATE_EPOCH") {
        Ok(text) => text,
        Err(_) => {
            let mut git = Command::new("git");
            git.arg("-C").arg(root).args(["log", "-1", "--format=%ct"]);
            let said =
                git.output().map_err(|why| format!("git log: {why}; set SOURCE_DATE_EPOCH"))?;
            String::from_utf8_lossy(&said.stdout).into_owned()
        }
    };
    text.trim()
        .parse()
        .map_err(|_| format!("{:?} is no time in seconds; set SOURCE_DATE_EPOCH", text.trim()))
}

fn manual(binary: &Path) -> Result<Vec<(String, Vec<u8>)>, String> {
    let folder = tempfile::tempdir().map_err(|why| why.to_string())?;
    let place = folder.path().to_str().ok_or("the folder for temporary files has no UTF-8 name")?;
    output(binary, &["man", place])?;
    let mut pages = Vec::new();
    for entry in fs::read_dir(folder.path()).map_err(|why| failed(folder.path(), &why))? {
        let path = entry.map_err(|why| failed(folder.path(), &why))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        pages.push((name, fs::read(&path).map_err(|why| failed(&path, &why))?));
    }
    pages.sort();
    Ok(pages)
}

/// What a program prints; its failure is one.
fn output(program: &Path, args: &[&str]) -> Result<Vec<u8>, String> {
    let words = || format!("{} {}", program.display(), args.join(" "));
    let done =
        Command::new(program).args(args).output().map_err(|why| format!("{}: {why}", words()))?;
    match done.status.success() {
        true => Ok(done.stdout),
        false => {
            Err(format!("{}: {}\n{}", words(), done.status, String::from_utf8_lossy(&done.stderr)))
        }
    }
}

fn write(path: &Path, bytes: &[u8]) -> Result<PathBuf, String> {
    fs::write(path, bytes).map_err(|why| failed(path, &why))?;
    Ok(path.to_owned())
}

fn failed(path: &Path, why: &std::io::Error) -> String {
    format!("{}: {why}", path.display())
}
