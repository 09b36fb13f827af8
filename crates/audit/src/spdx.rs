//! SPDX 2.3, JSON.
//!
//! Source: SPDX 2.3, clauses 6, 7, 10 and 11.

use std::collections::BTreeSet;

use sconce_blob::Digest;
use serde_json::{Value, json};

use crate::bill::{Bill, Licence, Part, Sort};

const NONE: &str = "NOASSERTION";
const IMAGE: &str = "SPDXRef-image";

impl Bill {
    /// As SPDX 2.3.
    #[must_use]
    pub fn spdx(&self) -> Value {
        let mut packages = vec![json!({
            "SPDXID": IMAGE,
            "name": self.name,
            "versionInfo": self.digest,
            "primaryPackagePurpose": "CONTAINER",
            "downloadLocation": NONE,
            "filesAnalyzed": false,
            "licenseConcluded": NONE,
            "licenseDeclared": NONE,
            "copyrightText": NONE,
            "supplier": NONE,
        })];
        if self.built {
            packages[0]["checksums"] = checksums(self.digest);
        }
        if let Some((number, _)) = self.debian.as_ref().filter(|_| self.has_debs()) {
            packages.push(json!({
                "SPDXID": "SPDXRef-debian",
                "name": "debian",
                "versionInfo": number,
                "primaryPackagePurpose": "OPERATING-SYSTEM",
                "downloadLocation": NONE,
                "filesAnalyzed": false,
                "licenseConcluded": NONE,
                "licenseDeclared": NONE,
                "copyrightText": NONE,
                "supplier": "Organization: Debian",
            }));
        }
        packages.extend(self.parts.iter().enumerate().map(|(at, part)| package(at, part)));
        let mut related = vec![relation("SPDXRef-DOCUMENT", "DESCRIBES", IMAGE)];
        for row in packages.iter().skip(1) {
            related.push(relation(IMAGE, "CONTAINS", row["SPDXID"].as_str().unwrap_or_default()));
        }
        let own: BTreeSet<&String> = self.parts.iter().flat_map(own).collect();
        let own: Vec<Value> = own
            .into_iter()
            .map(|id| {
                json!({
                    "licenseId": id,
                    "extractedText": format!("{id}: its text lies with the package, in the licenses of its dist-info"),
                    "name": id.trim_start_matches("LicenseRef-"),
                })
            })
            .collect();
        let mut contents = json!({"packages": packages, "relationships": related});
        if !own.is_empty() {
            contents["hasExtractedLicensingInfos"] = json!(own);
        }
        let uuid = self.uuid(&json!([self.date, contents]));
        let mut document = json!({
            "spdxVersion": "SPDX-2.3",
            "dataLicense": "CC0-1.0",
            "SPDXID": "SPDXRef-DOCUMENT",
            "name": self.name,
            "documentNamespace": format!("urn:uuid:{uuid}"),
            "creationInfo": {
                "created": self.created(),
                "creators": [format!("Tool: sconce-{}", env!("CARGO_PKG_VERSION"))],
            },
        });
        if let (Some(document), Value::Object(contents)) = (document.as_object_mut(), contents) {
            document.extend(contents);
        }
        document
    }
}

fn checksums(digest: Digest) -> Value {
    json!([{"algorithm": "SHA256", "checksumValue": digest.hex()}])
}

fn relation(from: &str, how: &str, to: &str) -> Value {
    json!({"spdxElementId": from, "relationshipType": how, "relatedSpdxElement": to})
}

/// Names of licences that SPDX's list does not have.
fn own(part: &Part) -> impl Iterator<Item = &String> {
    let own = match &part.licence {
        Some(Licence::Expression(_, own)) => Some(own),
        _ => None,
    };
    own.into_iter().flatten()
}

fn package(at: usize, part: &Part) -> Value {
    let sort = match part.sort {
        Sort::Wheel => "wheel",
        Sort::Deb => "deb",
        Sort::Python => "python",
        Sort::App => "app",
    };
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' };
    let name: String = part.name.chars().map(plain).collect();
    let mut row = json!({
        "SPDXID": format!("SPDXRef-{sort}-{at}-{name}"),
        "name": part.name,
        "primaryPackagePurpose": if part.sort == Sort::App { "APPLICATION" } else { "LIBRARY" },
        "downloadLocation": part.from.as_deref().unwrap_or(NONE),
        "filesAnalyzed": false,
        "licenseConcluded": NONE,
        "licenseDeclared": NONE,
        "copyrightText": NONE,
        "supplier": part.supplier.map_or_else(|| NONE.to_owned(), |name| format!("Organization: {name}")),
    });
    if let Some(version) = &part.version {
        row["versionInfo"] = json!(version);
    }
    if let Some(maker) = &part.maker {
        // `originator` would have to say whether that is a person or an organisation, which nobody knows.
        row["comment"] = json!(format!("made by {maker}, as the package says"));
    }
    match &part.licence {
        Some(Licence::Expression(text, _)) => row["licenseDeclared"] = json!(text),
        Some(Licence::Words(words)) => {
            row["licenseComments"] = json!(format!("the package says: {words}"));
        }
        None => {}
    }
    if part.sort == Sort::App {
        row["comment"] = json!("the project's own files, whose bytes no lock has");
    }
    if let Some(digest) = part.sha256 {
        row["checksums"] = checksums(digest);
    }
    if let Some(purl) = &part.purl {
        row["externalRefs"] = json!([{
            "referenceCategory": "PACKAGE-MANAGER",
            "referenceType": "purl",
            "referenceLocator": purl,
        }]);
    }
    row
}
