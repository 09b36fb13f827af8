//! Python package indexes: where a file of a certain name and SHA-256 can be had.
//!
//! The simple repository API in both spellings: JSON (PEP 691) and HTML (PEP 503), whichever the
//! index speaks; and flat collections of files (`find-links`), folders or pages.

use std::path::Path;

use sconce_blob::Digest;
use serde::Deserialize;
use url::Url;

use crate::error::Error;
use crate::http::{Answer, Client, local_path, parse, shown};

/// The largest page of an index that is read, bytes. That of the largest projects has 10 MB.
const PAGE_LIMIT: u64 = 64 << 20;

/// What an index is asked for (PEP 691, "Version + Format Selection").
const ACCEPT: &str = "application/vnd.pypi.simple.v1+json, \
                      application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.1";

/// A file an index has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// File name.
    pub name: String,
    /// Its address, without fragment.
    pub url: String,
    /// Its SHA-256, where the index says it.
    pub digest: Option<Digest>,
    /// When it came (PEP 700), as the index says it.
    pub uploaded: Option<String>,
    /// The Pythons it is for, PEP 440.
    pub requires_python: Option<String>,
    /// Whether it was taken back (PEP 592).
    pub yanked: bool,
}

/// The page of a `project` in the index at `base` (`https://HOST/simple`).
pub fn files(client: &Client, base: &str, project: &str) -> Result<Vec<Listed>, Error> {
    let mut page = parse(base)?;
    if let Ok(mut path) = page.path_segments_mut() {
        path.pop_if_empty().push(&normalized(project)).push("");
    }
    listed(client.get(page.as_str(), ACCEPT, PAGE_LIMIT)?)
}

/// The files of a `find-links` place: a folder of this machine, or a page.
pub fn find_links(client: &Client, place: &str) -> Result<Vec<Listed>, Error> {
    let local = match Path::new(place).is_absolute() {
        true => Some(Path::new(place).to_owned()),
        false => local_path(&parse(place)?)?,
    };
    let Some(folder) = local.filter(|path| path.is_dir()) else {
        return listed(client.get(place, ACCEPT, PAGE_LIMIT)?);
    };
    let fault = |source| Error::File { action: "list", path: folder.clone(), source };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(&folder).map_err(fault)? {
        let path = entry.map_err(fault)?.path();
        if let (Some(name), Ok(url)) =
            (path.file_name().and_then(|name| name.to_str()), Url::from_file_path(&path))
        {
            files.push(Listed {
                name: name.to_owned(),
                url: url.into(),
                digest: None,
                uploaded: None,
                requires_python: None,
                yanked: false,
            });
        }
    }
    files.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(files)
}

/// The address of the wheel `file` with this `digest` in the index at `base`. An index that
/// doesn't say digests is believed; the download is checked in any case.
pub fn find(client: &Client, base: &str, file: &str, digest: Digest) -> Result<String, Error> {
    let project = file.split('-').next().unwrap_or(file);
    let mut other = None;
    for listed in files(client, base, project)?.into_iter().filter(|listed| listed.name == file) {
        match listed.digest {
            Some(found) if found != digest => other = Some(found),
            _ => return Ok(listed.url),
        }
    }
    let index = parse(base).map(|base| shown(&base))?;
    Err(Error::NotInIndex { index, file: file.to_owned(), digest, other })
}

/// A project's name in one spelling (PEP 503, "Normalized Names").
pub fn normalized(project: &str) -> String {
    let mut out = String::new();
    for c in project.chars() {
        match c {
            '-' | '_' | '.' if out.ends_with('-') => {}
            '-' | '_' | '.' => out.push('-'),
            c => out.extend(c.to_lowercase()),
        }
    }
    out
}

fn listed(answer: Answer) -> Result<Vec<Listed>, Error> {
    let bad = |why: String| Error::BadAnswer { url: shown(&answer.url), why };
    let files = match answer.content_type.as_str() {
        "application/vnd.pypi.simple.v1+json" | "application/json" => {
            json(&answer.bytes, &answer.url).map_err(bad)
        }
        "application/vnd.pypi.simple.v1+html" | "text/html" => {
            let text = String::from_utf8_lossy(&answer.bytes);
            Ok(html(&text, &answer.url))
        }
        other => Err(bad(format!("`{other}` is not a page of a package index"))),
    }?;
    // What another machine says must not lead to files of this one.
    let local = |file: &&Listed| answer.url.scheme() != "file" && file.url.starts_with("file:");
    match files.iter().find(local) {
        Some(file) => Err(bad(format!("it says that {} is a file of this machine", file.name))),
        None => Ok(files),
    }
}

#[derive(Deserialize)]
struct Page {
    files: Vec<PageFile>,
}

#[derive(Deserialize)]
struct PageFile {
    filename: String,
    url: String,
    #[serde(default)]
    hashes: Hashes,
    #[serde(rename = "upload-time")]
    uploaded: Option<String>,
    #[serde(rename = "requires-python")]
    requires_python: Option<String>,
    #[serde(default)]
    yanked: Yanked,
}

/// `false`, `true`, or why (PEP 691).
#[derive(Deserialize)]
#[serde(untagged)]
enum Yanked {
    Is(bool),
    Because(#[allow(dead_code, reason = "that there is one is all")] String),
}

impl Default for Yanked {
    fn default() -> Self {
        Self::Is(false)
    }
}

#[derive(Default, Deserialize)]
struct Hashes {
    sha256: Option<String>,
}

fn json(bytes: &[u8], base: &Url) -> Result<Vec<Listed>, String> {
    let page: Page = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    let files = page.files.into_iter().filter_map(|file| {
        let url = base.join(&file.url).ok()?;
        let digest = file.hashes.sha256.and_then(|text| text.to_lowercase().parse().ok());
        let yanked = match file.yanked {
            Yanked::Is(yanked) => yanked,
            Yanked::Because(_) => true,
        };
        Some(Listed {
            name: file.filename,
            url: bare(url),
            digest,
            uploaded: file.uploaded,
            requires_python: file.requires_python,
            yanked,
        })
    });
    Ok(files.collect())
}

/// The anchors of a page. HTML is far larger than this reads, but every index writes one
/// `<a href="...">name</a>` for each file.
fn html(text: &str, page: &Url) -> Vec<Listed> {
    let mut base = page.clone();
    let mut files = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find('<') {
        rest = &rest[start + 1..];
        if let Some(comment) = rest.strip_prefix("!--") {
            rest = comment.split_once("-->").map_or("", |(_, after)| after);
            continue;
        }
        let Some(end) = tag_end(rest) else { break };
        let (tag, after) = rest.split_at(end);
        rest = after;
        let (name, attributes) = tag.split_once(char::is_whitespace).unwrap_or((tag, ""));
        let href = || attribute(attributes, "href");
        match name.to_ascii_lowercase().as_str() {
            "base" => {
                if let Some(url) = href().and_then(|href| page.join(&href).ok()) {
                    base = url;
                }
            }
            "a" => {
                let Some(url) = href().and_then(|href| base.join(&href).ok()) else { continue };
                let digest = url.fragment().and_then(|fragment| {
                    let hashes = fragment.split('&').find_map(|part| part.strip_prefix("sha256="));
                    hashes?.to_lowercase().parse().ok()
                });
                // The name is the address's last part: the text may be shortened.
                let last = url.path_segments().and_then(|mut parts| parts.next_back());
                let Some(last) = last.filter(|last| !last.is_empty()) else { continue };
                let name = percent_encoding::percent_decode_str(last).decode_utf8_lossy();
                files.push(Listed {
                    name: name.into_owned(),
                    digest,
                    url: bare(url),
                    uploaded: None,
                    requires_python: attribute(attributes, "data-requires-python"),
                    yanked: attribute(attributes, "data-yanked").is_some(),
                });
            }
            _ => {}
        }
    }
    files
}

/// Where a tag ends: at the first `>` outside quotes.
fn tag_end(tag: &str) -> Option<usize> {
    let mut quote = None;
    tag.char_indices().find_map(|(at, c)| {
        match (quote, c) {
            (None, '>') => return Some(at),
            (None, '"' | '\'') => quote = Some(c),
            (Some(open), c) if open == c => quote = None,
            _ => {}
        }
        None
    })
}

/// The value of an attribute, its character references resolved.
fn attribute(mut text: &str, wanted: &str) -> Option<String> {
    loop {
        let (name, rest) = text.split_once('=')?;
        let rest = rest.trim_start();
        let (value, after) = match rest.chars().next()? {
            quote @ ('"' | '\'') => rest[1..].split_once(quote)?,
            _ => rest.split_once(char::is_whitespace).unwrap_or((rest, "")),
        };
        // Attributes without a value may stand before the name.
        let name = name.split_whitespace().next_back().unwrap_or_default();
        if name.eq_ignore_ascii_case(wanted) {
            let mut value = value.to_owned();
            for (reference, c) in
                [("&quot;", "\""), ("&#39;", "'"), ("&lt;", "<"), ("&gt;", ">"), ("&#43;", "+")]
            {
                value = value.replace(reference, c);
            }
            return Some(value.replace("&amp;", "&").trim().to_owned());
        }
        text = after;
    }
}

fn bare(mut url: Url) -> String {
    url.set_fragment(None);
    url.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHA: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn show(files: Vec<Listed>) -> String {
        let line = |file: Listed| {
            let digest = file.digest.map(|digest| digest.short()).unwrap_or_default();
            let python = file.requires_python.unwrap_or_default();
            let yanked = if file.yanked { " yanked" } else { "" };
            format!("{} {} {digest} {python}{yanked}\n", file.name, file.url)
        };
        files.into_iter().map(line).collect()
    }

    #[test]
    fn both_spellings_say_the_same() {
        let page = Url::parse("https://index.example.invalid/simple/a/").unwrap();
        let html_page = format!(
            "<!DOCTYPE html><html><!-- <a href=\"x.whl\">x</a> --><body>\
             <a data-requires-python=\"&gt;=3.9\" href=\"../../f/a-1%2Bcu12-py3-none-any.whl#sha256={SHA}\">a-1...</a>\n\
             <A HREF='https://files.example.invalid/a-2.tar.gz?x=1&amp;y=2' data-yanked=\"old\">a-2.tar.gz</A><a name=x></a>"
        );
        let json_page = format!(
            r#"{{"meta": {{"api-version": "1.1"}}, "name": "a", "files": [
              {{"filename": "a-1+cu12-py3-none-any.whl", "url": "../../f/a-1%2Bcu12-py3-none-any.whl",
                "hashes": {{"sha256": "{SHA}"}}, "yanked": false, "requires-python": ">=3.9"}},
              {{"filename": "a-2.tar.gz", "hashes": {{}}, "yanked": "old",
                "url": "https://files.example.invalid/a-2.tar.gz?x=1&y=2"}}]}}"#
        );
        let want = "a-1+cu12-py3-none-any.whl https://index.example.invalid/f/a-1%2Bcu12-py3-none-any.whl e3b0c44298fc >=3.9\n\
                    a-2.tar.gz https://files.example.invalid/a-2.tar.gz?x=1&y=2   yanked\n";
        assert_eq!(show(html(&html_page, &page)), want);
        assert_eq!(show(json(json_page.as_bytes(), &page).unwrap()), want);
    }

    #[test]
    fn broken_pages_are_no_trouble() {
        let page = Url::parse("https://index.example.invalid/simple/a/").unwrap();
        for text in
            ["<", "<a", "<a href", "<a href=", "<a href=\"", "<!--", "<a href=''>", "é<a href=é>"]
        {
            let _ = html(text, &page);
        }
        assert!(json(b"{\"files\": 1}", &page).is_err());
        assert_eq!(normalized("Foo._-Bar"), "foo-bar");
    }
}
