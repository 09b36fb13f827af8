//! A folder of wheels as an index of its own: uv asks indexes in their order and takes a package from the
//! first that has it, while it mixes what `--find-links` names with all the others.
//!
//! The index is the simple repository API as files (PEP 503): `NAME/index.html` with a link for each file.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use sconce_lock::WheelName;
use sconce_open::Folder;
use url::Url;

use super::UvError;
use crate::pypi::normalized;

/// The most projects that are named on a command line.
const MOST_NAMED: usize = 2000;

/// The most files of a folder.
const MOST: usize = 100_000;

/// Writes the index of a folder below `into`, which is not there yet; gives its address.
pub(super) fn index(folder: &Path, into: &Path) -> Result<String, UvError> {
    let fault = |what, path: &Path| {
        let path = path.to_owned();
        move |source| UvError::io(what, path, source)
    };
    let mut pages: BTreeMap<String, Vec<Url>> = BTreeMap::new();
    // A project's folder was resolved when it was judged; others follow no link either by now.
    let names = Folder::open_unfollowed(folder).and_then(|open| open.names(Path::new("")));
    for name in names.map_err(fault("list", folder))?.into_iter().take(MOST) {
        let Some(name) = name.to_str() else { continue };
        if let (Some(project), Ok(url)) = (project(name), Url::from_file_path(folder.join(name))) {
            pages.entry(project).or_default().push(url);
        }
    }
    fs::create_dir_all(into).map_err(fault("create", into))?;
    for (project, mut files) in pages {
        files.sort();
        let link = |url: &Url| format!("<a href=\"{url}\">{}</a><br>\n", name_in(url));
        let links: String = files.iter().map(link).collect();
        let page = into.join(project);
        fs::create_dir(&page).map_err(fault("create", &page))?;
        let page = page.join("index.html");
        let text = format!("<!DOCTYPE html>\n<html><body>\n{links}</body></html>\n");
        fs::write(&page, text).map_err(fault("create", &page))?;
    }
    let address = Url::from_directory_path(into).map(String::from);
    Ok(address.unwrap_or_else(|()| format!("file://{}", into.display())))
}

/// The projects of all indexes below a folder, as many as fit on a command line.
pub(super) fn projects(indexes: &Path) -> Vec<String> {
    let folders = |path: &Path| fs::read_dir(path).into_iter().flatten().flatten();
    let inner = folders(indexes).flat_map(|index| folders(&index.path()));
    let names = inner.filter_map(|project| project.file_name().into_string().ok());
    let mut names: Vec<String> = names.take(MOST_NAMED).collect();
    names.sort();
    names.dedup();
    names
}

/// The project of a wheel or source distribution, by its file name. It becomes the name of a folder.
fn project(file: &str) -> Option<String> {
    let name = match file.parse::<WheelName>() {
        Ok(wheel) => wheel.name,
        // uv says of these that there is only source.
        Err(_) => {
            let stem = file.strip_suffix(".tar.gz").or_else(|| file.strip_suffix(".zip"))?;
            normalized(stem.rsplit_once('-')?.0)
        }
    };
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    (name.starts_with(|c: char| c.is_ascii_alphanumeric()) && name.chars().all(plain))
        .then_some(name)
}

/// The last part of an address, which has neither quotes nor brackets.
fn name_in(url: &Url) -> &str {
    url.path().rsplit('/').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_for_each_project() {
        let world = tempfile::tempdir().unwrap();
        let (folder, into) = (world.path().join("my wheels"), world.path().join("index"));
        fs::create_dir(&folder).unwrap();
        for name in [
            "Foo_Bar-1.0-py3-none-any.whl",
            "foo.bar-2.0+cu1-py3-none-any.whl",
            "old-0.1.tar.gz",
            "notes.txt",
            "..-1.zip",
            "\"<x>-1.zip",
        ] {
            fs::write(folder.join(name), "").unwrap();
        }
        let address = index(&folder, &into).unwrap();
        assert_eq!(address, format!("file://{}/", into.display()));
        let mut pages: Vec<_> =
            fs::read_dir(&into).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        pages.sort();
        assert_eq!(pages, ["foo-bar", "old"]);
        let page = fs::read_to_string(into.join("foo-bar/index.html")).unwrap();
        let begin = format!("<a href=\"file://{}/my%20wheels/Foo_Bar-1.0", world.path().display());
        assert!(page.contains(&begin) && page.matches("<a ").count() == 2, "{page}");
        assert!(index(&world.path().join("none"), &world.path().join("i")).is_err());
    }
}
