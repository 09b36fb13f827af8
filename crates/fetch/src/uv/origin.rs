//! Which index each package of an answer came from.
//!
//! A pylock.toml of uv does not say; its requirements.txt does, in comments (`--emit-index-annotation`).

use std::collections::BTreeMap;

use sconce_lock::IndexRequest;

/// Package name -> the address behind `# from`.
pub(super) fn annotations(text: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut package = None;
    for line in text.lines() {
        let bare = line.trim();
        if let Some(address) = bare.strip_prefix("# from ") {
            if let Some(name) = package.take() {
                found.insert(name, address.trim().to_owned());
            }
        } else if let Some((name, _)) = bare.split_once("==") {
            package = Some(crate::pypi::normalized(name.trim()));
        }
    }
    found
}

/// What is known about indexes besides the default one.
pub(super) struct Known<'a> {
    /// Those of `sconce.toml`; folders as the addresses they were handed to uv with.
    pub requested: &'a [(IndexRequest, String)],
    /// Those of uv's or pip's configuration: name, address.
    pub configured: &'a [(Option<String>, String)],
    /// Those that files of requirements name: name, address.
    pub elsewhere: &'a [(String, String)],
    /// PyTorch's own index was asked for.
    pub backend: Option<&'a str>,
}

impl Known<'_> {
    /// The name and the address for a lock of the index at `address`; `None` is the default one.
    pub fn name(&self, address: &str) -> Option<(String, String)> {
        let plain = plain(address);
        if let Some((index, _)) = self.requested.iter().find(|(_, used)| self::plain(used) == plain)
        {
            return Some((index.name.clone(), without_login(&index.url)));
        }
        if let Some((name, used)) =
            self.elsewhere.iter().find(|(_, used)| self::plain(used) == plain)
        {
            return Some((name.clone(), without_login(used)));
        }
        if let Some(backend) = self.backend
            && plain.ends_with(&format!("/whl/{backend}"))
        {
            return Some((format!("pytorch-{backend}"), without_login(address)));
        }
        let found = self.configured.iter().position(|(_, url)| self::plain(url) == plain)?;
        let name = self.configured.get(found).and_then(|(name, _)| name.clone());
        Some((name.unwrap_or_else(|| format!("extra-{}", found + 1)), without_login(address)))
    }
}

/// An address to compare: no login, no scheme of files, no slash at the end.
fn plain(address: &str) -> String {
    let bare = without_login(address);
    let bare = bare.strip_prefix("file://").unwrap_or(&bare);
    bare.trim_end_matches('/').to_owned()
}

fn without_login(address: &str) -> String {
    let Some((scheme, rest)) = address.split_once("://") else { return address.to_owned() };
    let end = rest.find('/').unwrap_or(rest.len());
    let (host, path) = rest.split_at(end);
    format!("{scheme}://{}{path}", host.rsplit('@').next().unwrap_or(host))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_name_the_index() {
        let text = "foo-bar==1.0\n    # from https://lab.example.invalid/simple\n\
                    Numpy==2.5.5 \\\n    --hash=sha256:00\n    # from https://index.example.invalid/simple\n\
                    direct @ https://a.example.invalid/x.whl\n";
        let found = annotations(text);
        assert_eq!(found.len(), 2);
        assert_eq!(found["foo-bar"], "https://lab.example.invalid/simple");
        assert!(found.contains_key("numpy"));
    }

    #[test]
    fn names() {
        let index = |name: &str, url: &str| IndexRequest { name: name.into(), url: url.into() };
        let lab = "https://me:secret@lab.example.invalid/simple/";
        let requested = [
            (index("lab", lab), lab.to_owned()),
            (index("here", "./wheels"), "file:///home/me/wheels".to_owned()),
        ];
        let configured = [(None, "https://more.example.invalid/simple".to_owned())];
        let elsewhere = [("requirements-1".to_owned(), "file:///home/me/more".to_owned())];
        let known = Known {
            requested: &requested,
            configured: &configured,
            elsewhere: &elsewhere,
            backend: Some("cu126"),
        };
        let name = |address: &str| known.name(address);
        let pair = |name: &str, url: &str| Some((name.to_owned(), url.to_owned()));
        assert_eq!(
            name("https://lab.example.invalid/simple"),
            pair("lab", "https://lab.example.invalid/simple/")
        );
        assert_eq!(name("file:///home/me/wheels"), pair("here", "./wheels"));
        assert_eq!(name("/home/me/more"), pair("requirements-1", "file:///home/me/more"));
        let torch = "https://torch.example.invalid/whl/cu126";
        assert_eq!(name(torch), pair("pytorch-cu126", torch));
        assert!(
            name("https://more.example.invalid/simple").is_some_and(|(name, _)| name == "extra-1")
        );
        assert_eq!(name("https://index.example.invalid/simple"), None);
    }
}
