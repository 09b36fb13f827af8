//! A package index on a [`Server`]: the simple repository API over wheels made for the test.

use std::collections::BTreeMap;

use sconce_blob::Digest;

use crate::{Server, Wheel};

/// An index under `/simple/`, its files under `/files/`.
pub struct PackageIndex {
    /// Where it is served, to make it misbehave.
    pub server: Server,
    projects: BTreeMap<String, Vec<(String, Digest)>>,
    json: bool,
}

impl PackageIndex {
    /// An empty index that speaks JSON (PEP 691).
    pub fn json() -> Self {
        Self { server: Server::start(), projects: BTreeMap::new(), json: true }
    }

    /// An empty index that speaks HTML (PEP 503).
    pub fn html() -> Self {
        Self { json: false, ..Self::json() }
    }

    /// Its address.
    pub fn url(&self) -> String {
        self.server.url("/simple")
    }

    /// The path of a file on the server.
    pub fn path(&self, file: &str) -> String {
        format!("/files/{file}")
    }

    /// Adds a wheel (with its metadata beside it, PEP 658) and returns its digest.
    pub fn add(&mut self, wheel: &Wheel) -> Digest {
        let (name, bytes) = (wheel.file_name(), wheel.build());
        let digest = Digest::of(&bytes);
        self.server.put(&self.path(&name), bytes);
        self.server.put(&format!("{}.metadata", self.path(&name)), wheel.metadata_text());
        let project = wheel.project().to_lowercase().replace(['_', '.'], "-");
        self.projects.entry(project.clone()).or_default().push((name, digest));
        self.publish(&project);
        digest
    }

    fn publish(&self, project: &str) {
        let files = &self.projects[project];
        let (content_type, body) = if self.json {
            let files: Vec<_> = files
                .iter()
                .map(|(name, digest)| {
                    let url = self.server.url(&self.path(name));
                    let hex = digest.hex();
                    format!(
                        r#"{{"filename":"{name}","url":"{url}","hashes":{{"sha256":"{hex}"}},"core-metadata":true}}"#
                    )
                })
                .collect();
            let body = format!(
                r#"{{"meta":{{"api-version":"1.1"}},"name":"{project}","versions":[],"files":[{}]}}"#,
                files.join(",")
            );
            ("application/vnd.pypi.simple.v1+json", body)
        } else {
            let lines: String = files
                .iter()
                .map(|(name, digest)| {
                    format!(
                        "<a href=\"../../files/{name}#sha256={}\" data-core-metadata=\"true\">{name}</a><br>\n",
                        digest.hex()
                    )
                })
                .collect();
            (
                "text/html; charset=utf-8",
                format!("<!DOCTYPE html><html><body>\n{lines}</body></html>"),
            )
        };
        self.server.put_as(&format!("/simple/{project}/"), content_type, body);
    }
}
