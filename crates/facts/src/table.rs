//! The embedded tables and how they are read.

use serde::de::DeserializeOwned;

/// File name and text of every embedded table.
pub const TABLES: &[(&str, &str)] = &[
    ("base.toml", BASE),
    ("believed.toml", BELIEVED),
    ("capabilities.toml", CAPABILITIES),
    ("caveats.toml", CAVEATS),
    ("companions.toml", COMPANIONS),
    ("conda.toml", CONDA),
    ("cuda.toml", CUDA),
    ("devel.toml", DEVEL),
    ("figures.toml", FIGURES),
    ("generations.toml", GENERATIONS),
    ("gpus.toml", GPUS),
    ("imports.toml", IMPORTS),
    ("licences.toml", LICENCES),
    ("ngc.toml", NGC),
    ("overlays.toml", OVERLAYS),
    ("packages.toml", PACKAGES),
    ("pythons.toml", PYTHONS),
    ("sources.toml", SOURCES),
    ("sxid.toml", SXID),
    ("tags.toml", TAGS),
    ("torch.toml", TORCH),
    ("undeclared.toml", UNDECLARED),
    ("uv.toml", UV),
    ("ways.toml", WAYS),
    ("xid.toml", XID),
];

pub(crate) const BASE: &str = include_str!("../data/base.toml");
pub(crate) const BELIEVED: &str = include_str!("../data/believed.toml");
pub(crate) const CAPABILITIES: &str = include_str!("../data/capabilities.toml");
pub(crate) const CAVEATS: &str = include_str!("../data/caveats.toml");
pub(crate) const COMPANIONS: &str = include_str!("../data/companions.toml");
pub(crate) const CONDA: &str = include_str!("../data/conda.toml");
pub(crate) const CUDA: &str = include_str!("../data/cuda.toml");
pub(crate) const DEVEL: &str = include_str!("../data/devel.toml");
pub(crate) const FIGURES: &str = include_str!("../data/figures.toml");
pub(crate) const GENERATIONS: &str = include_str!("../data/generations.toml");
pub(crate) const GPUS: &str = include_str!("../data/gpus.toml");
pub(crate) const IMPORTS: &str = include_str!("../data/imports.toml");
pub(crate) const LICENCES: &str = include_str!("../data/licences.toml");
pub(crate) const NGC: &str = include_str!("../data/ngc.toml");
pub(crate) const OVERLAYS: &str = include_str!("../data/overlays.toml");
pub(crate) const PACKAGES: &str = include_str!("../data/packages.toml");
pub(crate) const PYTHONS: &str = include_str!("../data/pythons.toml");
pub(crate) const SOURCES: &str = include_str!("../data/sources.toml");
pub(crate) const SXID: &str = include_str!("../data/sxid.toml");
pub(crate) const TAGS: &str = include_str!("../data/tags.toml");
pub(crate) const TORCH: &str = include_str!("../data/torch.toml");
pub(crate) const UNDECLARED: &str = include_str!("../data/undeclared.toml");
pub(crate) const UV: &str = include_str!("../data/uv.toml");
pub(crate) const WAYS: &str = include_str!("../data/ways.toml");
pub(crate) const XID: &str = include_str!("../data/xid.toml");

/// Reads one embedded table.
///
/// # Panics
/// When the embedded text does not fit `T`: a mistake in this crate, which its tests find.
pub(crate) fn read<T: DeserializeOwned>(text: &str) -> T {
    match toml::from_str(text) {
        Ok(table) => table,
        Err(error) => panic!("an embedded table is malformed: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::TABLES;

    /// Every row of every table has a source and a date, its own or its table's.
    #[test]
    fn no_row_without_source_and_date() {
        for (file, text) in TABLES {
            let table: toml::Table = text.parse().unwrap();
            let given = |row: &toml::Table, key: &str| {
                let own = row.get(key).or_else(|| table.get(key)).and_then(|v| v.as_str());
                own.is_some_and(|text| !text.trim().is_empty())
            };
            let mut rows = 0;
            for (name, value) in &table {
                let Some(array) = value.as_array() else { continue };
                for row in array {
                    let row =
                        row.as_table().unwrap_or_else(|| panic!("{file}: {name} is not a table"));
                    assert!(
                        given(row, "source"),
                        "{file}: a row of [[{name}]] has no source: {row}"
                    );
                    assert!(given(row, "date"), "{file}: a row of [[{name}]] has no date: {row}");
                    for variant in
                        row.get("variants").and_then(|v| v.as_array()).into_iter().flatten()
                    {
                        let source = variant.get("source").and_then(|v| v.as_str());
                        assert!(
                            source.is_some_and(|s| !s.is_empty()),
                            "{file}: {variant} has no source"
                        );
                    }
                    rows += 1;
                }
            }
            assert!(rows > 0, "{file} holds no rows");
            let date = table.get("date").and_then(|v| v.as_str()).unwrap_or_default();
            assert!(
                date.len() == 10 && date.chars().all(|c| c.is_ascii_digit() || c == '-'),
                "{file}: `{date}` is not a date (YYYY-MM-DD)"
            );
        }
    }
}
