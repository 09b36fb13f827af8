//! What the program is made of: the crates that `cargo` links into it.
//!
//! Source: SPDX 2.3, clauses 6, 7 and 11; package-url's type `cargo`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use sconce_blob::Digest;
use serde_json::{Value, json};

/// Of the program for `arch`.
pub(super) fn make(root: &Path, arch: &str) -> Result<Vec<u8>, String> {
    let manifest = root.join("Cargo.toml");
    let manifest = manifest.to_str().ok_or("the workspace has no UTF-8 path")?;
    let platform = format!("{arch}-unknown-linux-gnu");
    let args = [
        "metadata",
        "--format-version",
        "1",
        "--locked",
        "--filter-platform",
        &platform,
        "--manifest-path",
        manifest,
    ];
    let said = super::output(Path::new(env!("CARGO")), &args)?;
    let metadata: Value =
        serde_json::from_slice(&said).map_err(|why| format!("cargo metadata: {why}"))?;
    let lock = root.join("Cargo.lock");
    let lock = fs::read_to_string(&lock).map_err(|why| super::failed(&lock, &why))?;
    let text = document(&metadata, &sums(&lock)?)?;
    Ok(text.into_bytes())
}

/// SHA-256 of the packages of a `Cargo.lock`, by name and version.
fn sums(lock: &str) -> Result<BTreeMap<(String, String), String>, String> {
    let lock: toml::Table = lock.parse().map_err(|why| format!("Cargo.lock: {why}"))?;
    let rows = lock.get("package").and_then(toml::Value::as_array).into_iter().flatten();
    let text = |row: &toml::Value, key: &str| row.get(key)?.as_str().map(str::to_owned);
    Ok(rows
        .filter_map(|row| {
            Some(((text(row, "name")?, text(row, "version")?), text(row, "checksum")?))
        })
        .collect())
}

fn document(metadata: &Value, sums: &BTreeMap<(String, String), String>) -> Result<String, String> {
    let odd = || "cargo metadata has another form than is known here".to_owned();
    let rows = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let packages: BTreeMap<String, Value> = rows(&metadata["packages"])
        .into_iter()
        .map(|package| (text(&package["id"]), package))
        .collect();
    let nodes: BTreeMap<String, Value> = rows(&metadata["resolve"]["nodes"])
        .into_iter()
        .map(|node| (text(&node["id"]), node))
        .collect();
    let start =
        packages.iter().find(|(_, package)| package["name"] == "sconce").ok_or_else(odd)?.0.clone();
    // What builds need, and tests, is not in the program.
    let linked = |dep: &Value| rows(&dep["dep_kinds"]).iter().any(|kind| kind["kind"].is_null());
    let (mut found, mut next) = (BTreeSet::from([start.clone()]), vec![start.clone()]);
    let mut relations = Vec::new();
    while let Some(id) = next.pop() {
        for dep in rows(&nodes.get(&id).ok_or_else(odd)?["deps"]).iter().filter(|dep| linked(dep)) {
            let other = text(&dep["pkg"]);
            relations.push((id.clone(), other.clone()));
            if found.insert(other.clone()) {
                next.push(other);
            }
        }
    }
    let key = |id: &str| {
        let package = &packages[id];
        let name = format!("{}-{}", text(&package["name"]), text(&package["version"]));
        format!(
            "SPDXRef-{}",
            name.replace(|c: char| !c.is_ascii_alphanumeric() && c != '.' && c != '-', "-")
        )
    };
    let mut listed: Vec<Value> = Vec::new();
    for id in &found {
        let package = packages.get(id).ok_or_else(odd)?;
        let (name, version) = (text(&package["name"]), text(&package["version"]));
        // Some crates still write the form of before SPDX: MIT/Apache-2.0.
        let licence = text(&package["license"]).replace('/', " OR ");
        let mut row = json!({
            "SPDXID": key(id),
            "name": name,
            "versionInfo": version,
            "downloadLocation": "NOASSERTION",
            "filesAnalyzed": false,
            "licenseConcluded": "NOASSERTION",
            "licenseDeclared": if licence.is_empty() { "NOASSERTION" } else { &licence },
            "copyrightText": "NOASSERTION",
            "externalRefs": [{
                "referenceCategory": "PACKAGE-MANAGER",
                "referenceType": "purl",
                "referenceLocator": format!("pkg:cargo/{name}@{}", version.replace('+', "%2B")),
            }],
        });
        if let Some(sum) = sums.get(&(name, version)) {
            row["checksums"] = json!([{ "algorithm": "SHA256", "checksumValue": sum }]);
        }
        listed.push(row);
    }
    listed.sort_by_key(|row| text(&row["SPDXID"]));
    let mut related: BTreeSet<[String; 3]> =
        relations.iter().map(|(from, to)| [key(from), "DEPENDS_ON".to_owned(), key(to)]).collect();
    related.insert(["SPDXRef-DOCUMENT".to_owned(), "DESCRIBES".to_owned(), key(&start)]);
    let related: Vec<Value> = related
        .iter()
        .map(|[from, how, to]| json!({ "spdxElementId": from, "relationshipType": how, "relatedSpdxElement": to }))
        .collect();
    let version = text(&packages[&start]["version"]);
    let rows = Digest::of(Value::from(listed.clone()).to_string().as_bytes()).hex();
    let document = json!({
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": format!("sconce-{version}"),
        "documentNamespace": format!("urn:sconce:{version}:{rows}"),
        // A clock would make each build another one.
        "creationInfo": { "created": "1980-01-01T00:00:00Z", "creators": ["Tool: xtask"] },
        "packages": listed,
        "relationships": related,
    });
    serde_json::to_string_pretty(&document).map(|text| text + "\n").map_err(|why| why.to_string())
}
