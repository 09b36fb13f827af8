//! What is known by name, from `data/names.toml`: libraries opened at run time, libraries that come
//! from the driver or the system, and the CUDA that a PTX version needs.

mod rows;

use std::borrow::Cow;
use std::sync::LazyLock;

use sconce_facts::{Capability, CudaVersion, DriverVersion, toolkits};

pub use rows::{
    Alternative, Checked, Choice, Clash, Compiler, Component, Files, FirstUse, Import, Loads,
    Local, OneRelease, Package, Plugin, Preload, Together, When,
};
use rows::{Names, Table};

const TABLE: &str = include_str!("../data/names.toml");

impl Component {
    /// Whether a package of this (normalised) name brings it.
    pub fn is_brought_by(&self, package: &str) -> bool {
        self.packages.iter().any(|name| is_like(name, package))
    }
}

/// What a report names first, in its order.
pub fn components() -> &'static [Component] {
    &ROWS.component
}

/// Whether `name` is `pattern`, whose `*` at the end stands for any ending.
pub fn is_like(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => name == pattern,
    }
}

/// # Panics
/// When the embedded text is malformed: a mistake in this crate, which its tests find.
static ROWS: LazyLock<Table> = LazyLock::new(|| match toml::from_str(TABLE) {
    Ok(table) => table,
    Err(error) => panic!("an embedded table is malformed: {error}"),
});

fn starts(names: &Names, name: &str) -> bool {
    names.names.iter().any(|start| name.starts_with(start.as_str()))
}

/// Packages that must be of one release.
pub fn together() -> &'static [Together] {
    &ROWS.together
}

/// Libraries that must be of one release.
pub fn of_one_release() -> &'static [OneRelease] {
    &ROWS.one_release
}

/// Packages that install the same files.
pub fn clashes() -> &'static [Clash] {
    &ROWS.clash
}

/// How local parts of versions name the torch that a package was built for.
pub fn locals() -> &'static [Local] {
    &ROWS.local
}

/// Packages that compile their code for the GPU at first use.
pub fn first_uses() -> &'static [FirstUse] {
    &ROWS.first_use
}

/// What the library with this SONAME opens by name.
pub fn plugins(soname: &str) -> Option<&'static Plugin> {
    let soname = unmangled(soname);
    // What auditwheel bundles has the name of the file: `libcudnn-08d5c2cb.so.8.1.0` is libcudnn.so.8.
    let is = |of: &String| {
        let behind = || soname.strip_prefix(of.as_str()).is_some_and(|rest| rest.starts_with('.'));
        is_like(of, &soname) || behind()
    };
    ROWS.plugin.iter().find(|row| row.of.iter().any(is))
}

/// Whether only the driver's installation brings this library.
pub fn from_driver(name: &str) -> bool {
    starts(&ROWS.driver, name)
}

/// Whether any Linux with glibc has this library.
pub fn from_system(name: &str) -> bool {
    ROWS.system.names.iter().any(|known| known == name)
}

/// Whether the library is for special machines only.
pub fn is_optional(name: &str) -> bool {
    starts(&ROWS.optional, name)
}

/// Whether one process must have one copy of this library.
pub fn is_single(name: &str) -> bool {
    starts(&ROWS.single, name)
}

/// A SONAME as it was before auditwheel (or torchvision's own script) put a hash into it:
/// `libcudart.so.12` of `libcudart-9335f6a2.so.12` and `libcudart.9335f6a2.so.12`.
pub fn unmangled(soname: &str) -> Cow<'_, str> {
    let hashed = soname.find(".so").and_then(|end| {
        let (stem, hash) = soname[..end].rsplit_once(['-', '.'])?;
        let hex = hash.len() == 8 && hash.bytes().all(|b| b.is_ascii_hexdigit());
        hex.then(|| format!("{stem}{}", &soname[end..]))
    });
    hashed.map_or(Cow::Borrowed(soname), Cow::Owned)
}

/// The part of a SONAME before `.so`, without auditwheel's hash: `libcudnn`.
pub fn stem(soname: &str) -> String {
    let soname = unmangled(soname);
    soname.split_once(".so").map_or(&*soname, |(stem, _)| stem).to_owned()
}

/// Whether this text in a library's data is the name of a library that it may open: of NVIDIA's, and
/// with a version behind `.so`.
pub fn is_opened(text: &str) -> bool {
    let Some((stem, version)) = text.split_once(".so.") else { return false };
    let plain = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'_' | b'-');
    stem.bytes().all(plain)
        && version.starts_with(|c: char| c.is_ascii_digit())
        && version.bytes().all(|c| c.is_ascii_digit() || c == b'.')
        && ROWS.opened.names.iter().any(|start| text.starts_with(start.as_str()))
}

/// Whether a program does without this library when it can't be opened.
pub fn is_spare(name: &str) -> bool {
    ROWS.opened.spare.iter().any(|start| name.starts_with(start.as_str()))
}

/// The row of builds that the library of this file name is one of.
pub fn alternative(name: &str) -> Option<&'static Alternative> {
    let fits = |row: &&Alternative| !row.numbered || unnumbered(name).is_some();
    ROWS.alternative.iter().filter(fits).find(|row| is_like(&row.names, name))
}

/// What stands before and behind the number in which the builds of one library differ: `libtorchcodec` and `.so` of
/// `libtorchcodec4.so`.
pub fn unnumbered(name: &str) -> Option<(&str, &str)> {
    let (whole, rest) = name.split_at(name.find(".so")?);
    let stem = whole.trim_end_matches(|c: char| c.is_ascii_digit());
    (stem.len() < whole.len() && !stem.is_empty()).then_some((stem, rest))
}

impl Alternative {
    /// What stands in the name for which build it is: `124` of `libbitsandbytes_cuda124.so`.
    pub fn build<'a>(&self, name: &'a str) -> &'a str {
        let rest = name.strip_prefix(self.names.trim_end_matches('*')).unwrap_or("");
        &rest[..rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len())]
    }
}

/// Whether the version of this (normalised) package begins with the major of the CUDA that it is of.
pub fn is_of_one_cuda(package: &str) -> bool {
    ROWS.cuda_version.names.iter().any(|name| name == package)
}

/// Whether this library is there for GPUs of other makers.
pub fn is_of_other_gpus(name: &str) -> bool {
    starts(&ROWS.other_gpus, name)
}

/// Whether each GPU uses only the kernels of this library that are made for it.
pub fn is_per_gpu(soname: &str) -> bool {
    starts(&ROWS.per_gpu, soname)
}

/// The first capability that this library is for, where it is not for all.
pub fn from_capability(soname: &str) -> Option<Capability> {
    let is = |row: &&rows::FromCapability| {
        row.names.iter().any(|start| soname.starts_with(start.as_str()))
    };
    ROWS.from.iter().find(is).map(|row| row.capability)
}

/// Whether this is one of the libraries that NVIDIA brings and others only use.
pub fn is_of_nvidia(soname: &str) -> bool {
    let soname = unmangled(soname);
    is_single(&soname) || is_per_gpu(&soname)
}

/// The CUDA major that a library of this SONAME belongs to.
pub fn cuda_major(soname: &str) -> Option<u16> {
    let soname = unmangled(soname);
    let is = |known: &String| {
        soname
            .strip_prefix(known.as_str())
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    ROWS.cuda.iter().find(|row| row.names.iter().any(is)).map(|row| row.major)
}

/// What each release of torch loads by full path when it is imported.
pub fn preloads() -> &'static [Preload] {
    &ROWS.preload
}

/// The packages that bring the same modules as this one, itself among them.
pub fn same(package: &str) -> &'static [String] {
    let row = ROWS.same.iter().find(|row| row.names.iter().any(|name| name == package));
    row.map_or(&[], |row| &row.names)
}

/// What packages load by full path before their modules ask for it.
pub fn loads() -> &'static [Loads] {
    &ROWS.loads
}

/// Whether a symbol without a version may come from the library called `library`, which is not in
/// what is inspected.
pub fn may_bring(library: &str, symbol: &str) -> bool {
    ROWS.symbols.iter().filter(|row| library.starts_with(row.library.as_str())).any(|row| {
        let begins = |names: &[String]| names.iter().any(|name| symbol.starts_with(name.as_str()));
        begins(&row.starts) && !begins(&row.but)
    })
}

/// Whether the program of Python brings this symbol.
pub fn is_of_python(symbol: &str) -> bool {
    ROWS.python.names.iter().any(|start| symbol.starts_with(start.as_str()))
}

/// A symbol that every program of Python which brings its API has.
pub fn python_has() -> &'static str {
    &ROWS.python.has
}

/// How to get the library called `name`, for this CUDA major where it matters.
pub fn how_to_get(name: &str, cuda: Option<u16>) -> Option<String> {
    let row = package(name)?;
    let package = row.cuda_13.as_ref().filter(|_| cuda == Some(13)).unwrap_or(&row.name);
    Some(match row.debian {
        true => format!("install the Debian package {package}"),
        false => format!("install {package} (pip install {package})"),
    })
}

/// The Debian package that has the library called `name`.
pub fn debian_package(name: &str) -> Option<&'static str> {
    package(name).filter(|row| row.debian).map(|row| row.name.as_str())
}

/// The package on PyPI that has the library called `name`.
pub fn pypi_package(name: &str) -> Option<&'static str> {
    package(name).filter(|row| !row.debian).map(|row| row.name.as_str())
}

/// The package on PyPI that has the library called `name` for this CUDA major.
pub fn pypi_package_for(name: &str, cuda: Option<u16>) -> Option<&'static str> {
    let row = package(name).filter(|row| !row.debian)?;
    Some(row.cuda_13.as_ref().filter(|_| cuda == Some(13)).unwrap_or(&row.name))
}

fn package(name: &str) -> Option<&'static Package> {
    ROWS.package.iter().find(|row| row.libraries.iter().any(|start| name.starts_with(start)))
}

/// What a Debian package that has the library of this SONAME is called: `libp11-kit0` of `libp11-kit.so.0`, `libusb-1.0-0`
/// of `libusb-1.0.so.0`. Debian Policy 8.1: the library's name and its version, with a hyphen between two digits. Nothing
/// where there is no version: that is no library which other programs are linked with.
pub fn debian_name(soname: &str) -> Option<String> {
    let (stem, version) = soname.split_once(".so.")?;
    let plain = |text: &str| text.chars().all(|c| c.is_ascii_alphanumeric() || "+-._".contains(c));
    let is_soname = stem.starts_with("lib") && plain(stem) && plain(version) && !version.is_empty();
    let hyphen = if stem.ends_with(|c: char| c.is_ascii_digit()) { "-" } else { "" };
    is_soname.then(|| format!("{stem}{hyphen}{version}").to_lowercase().replace('_', "-"))
}

/// Whether a file of this name is a module that Python imports.
pub fn is_module(name: &str) -> bool {
    name.ends_with(".so") && !name.starts_with("lib")
}

/// The beginnings of the names of functions that a module of Python has, of which `import` calls one.
///
/// Source: PEP 489, "Export Hook Name", and PEP 793; CPython, `Python/importdl.c`. Without it `import` ends with
/// "dynamic module does not define module export function": a program that has such a file loads it by its path.
pub const HOOKS: [&str; 2] = ["PyInit", "PyModExport"];

/// Whether the name says for which Pythons it is: `_C.abi3.so`, `_C.cpython-313-x86_64-linux-gnu.so`.
pub fn has_tag(name: &str) -> bool {
    is_module(name) && (name.ends_with(".abi3.so") || name.contains(".cpython-3"))
}

/// Whether a file of this name is a library or a module: `x.so`, `libx.so.12`.
pub fn is_native(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    let version = name.split_once(".so.").map(|(_, version)| version);
    name.ends_with(".so")
        || version.is_some_and(|version| {
            version.split('.').all(|part| part.bytes().all(|byte| byte.is_ascii_digit()))
        })
}

/// The SONAMEs of what is there for all when the library in a file of this name is opened.
pub fn opened_before(name: &str) -> impl Iterator<Item = &'static str> {
    let rows = ROWS.after.iter().filter(move |row| is_like(&row.library, name));
    rows.map(|row| row.opened.as_str())
}

/// Whether a program of this name is there for tests.
pub fn is_program_of_tests(name: &str) -> bool {
    ROWS.tests.programs.iter().any(|program| program == name)
}

/// Whether the file at `path` is there for tests.
pub fn is_of_tests(path: &str) -> bool {
    path.split('/').rev().skip(1).any(|folder| ROWS.tests.names.iter().any(|name| name == folder))
}

/// What the package of this name takes when it is imported.
pub fn import(package: &str) -> Option<&'static Import> {
    ROWS.import.iter().find(|row| row.package == package)
}

/// Whether the package of this name has libraries and nothing else that matters: they are looked for themselves.
pub fn has_libraries_only(package: &str) -> bool {
    starts(&ROWS.libraries_only, package)
}

/// Whether a file of this name that a package lists is of no use when it runs.
pub fn is_spare_file(name: &str) -> bool {
    let row = &ROWS.recorded;
    row.spare.iter().any(|end| name.ends_with(end.as_str()))
        || row.spare_starts.iter().any(|start| name.starts_with(start.as_str()))
}

/// Whether a file of this name is there for compilers alone.
pub fn is_for_compilers(name: &str) -> bool {
    ROWS.recorded.compiled.iter().any(|end| name.ends_with(end.as_str()))
}

/// Files that packages must have.
pub fn files() -> &'static [Files] {
    &ROWS.files
}

/// The compilers for GPUs that packages have inside, each package's oldest first.
pub fn compilers() -> &'static [Compiler] {
    &ROWS.compiler
}

/// What torch does when the package called `name` is older than it was built with.
pub fn checked(name: &str) -> Option<&'static Checked> {
    ROWS.checked.iter().find(|row| row.package.iter().any(|package| package == name))
}

/// Whether a file of this name may use NumPy's C API.
pub fn may_use_numpy(name: &str) -> bool {
    is_module(name) || ROWS.numpy.also.iter().any(|known| known == name)
}

/// The texts by which a module asks for NumPy's C API, and the major release of NumPy that has each.
pub fn numpy_apis() -> &'static [(u16, String)] {
    &ROWS.numpy.apis
}

/// Whether this is one of torch's own libraries.
pub fn is_of_torch(name: &str) -> bool {
    starts(&ROWS.torch, name)
}

/// Whether this is torch's own GPU code.
pub fn is_core(name: &str) -> bool {
    ROWS.core.names.iter().any(|known| known == name)
}

/// The first CUDA that knows this PTX ISA.
pub fn ptx_cuda(isa: (u16, u16)) -> Option<CudaVersion> {
    let wanted = format!("{}.{}", isa.0, isa.1);
    ROWS.ptx.rows.iter().find(|(known, _)| *known == wanted).map(|(_, cuda)| *cuda)
}

/// The first driver that compiles this PTX ISA, where it is known.
pub fn ptx_driver(isa: (u16, u16)) -> Option<&'static DriverVersion> {
    let cuda = ptx_cuda(isa)?;
    toolkits()
        .iter()
        .filter(|toolkit| toolkit.version.parse().is_ok_and(|version: CudaVersion| version == cuda))
        .filter_map(|toolkit| toolkit.driver.as_ref())
        .min()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the packages of trixie that have them are called; one with `t64` behind it provides the name without.
    #[test]
    fn debian_names_of_libraries() {
        for (soname, name) in [
            ("libp11-kit.so.0", Some("libp11-kit0")),
            ("libusb-1.0.so.0", Some("libusb-1.0-0")),
            ("libOpenGL.so.0", Some("libopengl0")),
            ("libX11.so.6", Some("libx11-6")),
            ("libgcc_s.so.1", Some("libgcc-s1")),
            ("libstdc++.so.6", Some("libstdc++6")),
            ("libasound.so.2", Some("libasound2")),
            ("libfoo.so", None),
            ("libfoo.so.", None),
            ("ld-linux-x86-64.so.2", None),
            ("lib \x1b.so.1", None),
        ] {
            assert_eq!(debian_name(soname).as_deref(), name, "{soname}");
        }
    }

    #[test]
    fn every_table_has_a_source() {
        let table: toml::Table = TABLE.parse().unwrap();
        for (name, value) in &table {
            let rows: Vec<&toml::Value> = match value {
                toml::Value::Array(rows) => rows.iter().collect(),
                toml::Value::Table(_) => vec![value],
                _ => continue,
            };
            for row in rows {
                let source = row.get("source").and_then(toml::Value::as_str);
                assert!(source.is_some_and(|text| !text.is_empty()), "{name}: {row}");
            }
        }
        assert!(table.contains_key("date"));
    }

    #[test]
    fn names_with_a_hash_and_names_in_data() {
        assert_eq!(unmangled("libcudart-9335f6a2.so.12.1.105"), "libcudart.so.12.1.105");
        assert_eq!(unmangled("libnvjpeg.f00ca762.so.12"), "libnvjpeg.so.12");
        for plain in ["libcudart.so.12", "libnvrtc-builtins.so.12.4", "libtorch-builtin1.so", "x"] {
            assert_eq!(unmangled(plain), plain);
        }
        assert!(is_opened("libcublas.so.12") && is_opened("libcudnn_ops.so.9.1.0"));
        for text in ["libcublas.so", "libcublas.so.12 missing", "libfoo.so.1", "libcuda.so.1", ""] {
            assert!(!is_opened(text), "{text}");
        }
        assert_eq!(cuda_major("libcudart-9335f6a2.so.11.0"), Some(11));
        assert_eq!(
            (cuda_major("libcufft.so.11"), cuda_major("libcufft.so.12")),
            (Some(12), Some(13))
        );
        assert_eq!((cuda_major("libcurand.so.10"), cuda_major("libcudart.so.123")), (None, None));
        let row = alternative("libbitsandbytes_cuda124.so").unwrap();
        assert_eq!((row.build("libbitsandbytes_cuda124.so"), row.by), ("124", Choice::Cuda));
        assert_eq!(
            how_to_get("libcudnn.so.9", Some(13)).unwrap(),
            "install nvidia-cudnn-cu13 (pip install nvidia-cudnn-cu13)"
        );
    }

    #[test]
    fn ptx_needs_a_driver() {
        assert_eq!(ptx_driver((8, 2)).unwrap().as_str(), "535.54.03");
        assert_eq!(ptx_cuda((9, 5)).unwrap().to_string(), "13.5");
        assert_eq!(ptx_cuda((8, 6)), None);
    }
}
