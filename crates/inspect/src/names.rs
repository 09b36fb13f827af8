//! What is known by name, from `data/names.toml`: libraries opened at run time, libraries that come
//! from the driver or the system, and the CUDA that a PTX version needs.

use std::sync::LazyLock;

use sconce_facts::{CudaVersion, DriverVersion, toolkits};
use serde::Deserialize;

const TABLE: &str = include_str!("../data/names.toml");

#[derive(Deserialize)]
struct Table {
    ptx: Ptx,
    plugin: Vec<Plugin>,
    component: Vec<Component>,
    driver: Names,
    system: Names,
    optional: Names,
    single: Names,
    core: Names,
}

#[derive(Deserialize)]
struct Ptx {
    rows: Vec<(String, CudaVersion)>,
}

#[derive(Deserialize)]
struct Names {
    names: Vec<String>,
}

/// Libraries that a library opens by name.
#[derive(Debug, Deserialize)]
pub struct Plugin {
    /// The SONAME of the one that opens them.
    pub of: String,
    /// Their names; `*` at the end stands for any ending.
    pub names: Vec<String>,
    /// What is seen when one is not there.
    pub fails: String,
}

/// Something a report names first.
#[derive(Debug, Deserialize)]
pub struct Component {
    /// Its name for people.
    pub name: String,
    /// Packages that bring it, the likeliest first; `*` at the end stands for any ending.
    packages: Vec<String>,
    /// How the file name of its library starts.
    pub library: Option<String>,
}

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

/// What the library with this SONAME opens by name.
pub fn plugins(soname: &str) -> Option<&'static Plugin> {
    ROWS.plugin.iter().find(|row| row.of == soname)
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
    fn ptx_needs_a_driver() {
        assert_eq!(ptx_driver((8, 2)).unwrap().as_str(), "535.54.03");
        assert_eq!(ptx_cuda((9, 5)).unwrap().to_string(), "13.5");
        assert_eq!(ptx_cuda((8, 6)), None);
    }
}
