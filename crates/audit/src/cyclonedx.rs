//! CycloneDX 1.6, JSON.
//!
//! Source: its schema, bom-1.6.schema.json. Trivy matches Debian's packages only beside a component `operating-system`.

use std::collections::BTreeSet;

use sconce_blob::Digest;
use serde_json::{Map, Value, json};

use crate::bill::{Bill, Licence, Part, Sort};

impl Bill {
    /// As CycloneDX 1.6.
    #[must_use]
    pub fn cyclonedx(&self) -> Value {
        let subject = format!("image@{}", self.digest);
        let mut components: Vec<Value> = Vec::new();
        if let Some((number, release)) = self.debian.as_ref().filter(|_| self.has_debs()) {
            components.push(json!({
                "type": "operating-system",
                "bom-ref": format!("debian@{number}"),
                "name": "debian",
                "version": number,
                "description": format!("Debian {number} ({release})"),
            }));
        }
        // An image can have the same package twice; a reference is one thing's.
        let mut named = BTreeSet::new();
        for (at, part) in self.parts.iter().enumerate() {
            let name = part.purl.clone().unwrap_or_else(|| format!("app:{}", part.name));
            let name = if named.insert(name.clone()) { name } else { format!("{name}#{at}") };
            components.push(component(&name, part));
        }
        let inside: Vec<&Value> = components.iter().map(|row| &row["bom-ref"]).collect();
        let mut metadata = json!({
            "tools": {"components": [{
                "type": "application", "name": "sconce", "version": env!("CARGO_PKG_VERSION"),
            }]},
            "component": {
                "type": "container",
                "bom-ref": subject,
                "name": self.name,
                "version": self.digest,
            },
        });
        if self.built {
            metadata["component"]["hashes"] = hashes(self.digest);
        }
        if let Some(date) = &self.date {
            metadata["timestamp"] = json!(date);
        }
        let contents = json!({
            "metadata": metadata,
            "components": components,
            "dependencies": [{"ref": subject, "dependsOn": inside}],
        });
        let mut document = json!({
            "bomFormat": "CycloneDX",
            "specVersion": "1.6",
            "serialNumber": format!("urn:uuid:{}", self.uuid(&contents)),
            "version": 1,
        });
        if let (Some(document), Value::Object(contents)) = (document.as_object_mut(), contents) {
            document.extend(contents);
        }
        document
    }

    pub(crate) fn has_debs(&self) -> bool {
        self.parts.iter().any(|part| part.sort == Sort::Deb)
    }
}

fn hashes(digest: Digest) -> Value {
    json!([{"alg": "SHA-256", "content": digest.hex()}])
}

fn component(name: &str, part: &Part) -> Value {
    let mut row = Map::new();
    let mut say = |key: &str, value: Option<Value>| {
        row.extend(value.map(|value| (key.to_owned(), value)));
    };
    say("type", Some(json!(if part.sort == Sort::App { "application" } else { "library" })));
    say("bom-ref", Some(json!(name)));
    say("supplier", part.supplier.map(|name| json!({"name": name})));
    say("author", part.maker.as_ref().map(|name| json!(name)));
    say("name", Some(json!(part.name)));
    say("version", part.version.as_ref().map(|version| json!(version)));
    if part.sort == Sort::App {
        say("description", Some(json!("the project's own files, whose bytes no lock has")));
    }
    say("hashes", part.sha256.map(hashes));
    say(
        "licenses",
        part.licence.as_ref().map(|licence| match licence {
            Licence::Expression(text, _) => json!([{"expression": text}]),
            Licence::Words(words) => json!([{"license": {"name": words}}]),
        }),
    );
    say("purl", part.purl.as_ref().map(|purl| json!(purl)));
    let from = |url: &String| json!([{"type": "distribution", "url": url}]);
    say("externalReferences", part.from.as_ref().map(from));
    Value::Object(row)
}
