//! Wheel file names: `name-version[-build]-python-abi-platform[-variant].whl` (binary distribution format
//! specification; the label of a variant: PEP 825, draft).

use std::fmt;
use std::str::FromStr;

use pep440_rs::Version;

/// The parts of a wheel's file name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WheelName {
    /// The whole file name.
    pub file: String,
    /// The package, normalised (PEP 503).
    pub name: String,
    /// Its version.
    pub version: Version,
    /// The build tag, empty when there is none.
    pub build: String,
    /// Python tags, joined by dots.
    pub python: String,
    /// ABI tags, joined by dots.
    pub abi: String,
    /// Platform tags, joined by dots.
    pub platform: String,
    /// The label of a variant, such as `cu13`; "null" is the one for machines that no other fits.
    pub variant: Option<String>,
}

/// A text that is not a wheel's file name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a wheel's file name")]
pub struct BadWheelName(pub String);

impl WheelName {
    /// Whether a package and a version, as METADATA writes them, are those of this name; `None` where the version is
    /// none.
    pub fn is_of(&self, package: &str, version: &str) -> Option<bool> {
        let version: Version = version.parse().ok()?;
        Some(normalise(package) == self.name && version == self.version)
    }
}

impl FromStr for WheelName {
    type Err = BadWheelName;

    fn from_str(file: &str) -> Result<Self, Self::Err> {
        let bad = || BadWheelName(file.chars().take(120).collect());
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-+!".contains(c);
        if file.len() > 255 || file.starts_with('.') || !file.chars().all(plain) {
            return Err(bad());
        }
        let parts: Vec<&str> = file.strip_suffix(".whl").ok_or_else(bad)?.split('-').collect();
        // No Python tag begins with a digit, and every build tag does.
        let is_python = |part: &str| part.contains(|c: char| c.is_ascii_digit());
        let has_build = |part: &str| part.starts_with(|c: char| c.is_ascii_digit());
        let (name, version, build, python, abi, platform, variant) = match *parts.as_slice() {
            [name, version, python, abi, platform] => {
                (name, version, "", python, abi, platform, None)
            }
            [name, version, build, python, abi, platform] if has_build(build) => {
                (name, version, build, python, abi, platform, None)
            }
            [name, version, python, abi, platform, label]
                if is_python(python) && is_label(label) =>
            {
                (name, version, "", python, abi, platform, Some(label))
            }
            [name, version, build, python, abi, platform, label]
                if has_build(build) && is_label(label) =>
            {
                (name, version, build, python, abi, platform, Some(label))
            }
            _ => return Err(bad()),
        };
        if [name, version, python, abi, platform].iter().any(|part| part.is_empty()) {
            return Err(bad());
        }
        // In file names `_` stands for the `-` of a local version's separators.
        let version = version.replace('_', "-").parse().map_err(|_| bad())?;
        Ok(Self {
            file: file.to_owned(),
            name: normalise(name),
            version,
            build: build.to_owned(),
            python: python.to_owned(),
            abi: abi.to_owned(),
            platform: platform.to_owned(),
            variant: variant.map(str::to_owned),
        })
    }
}

/// Whether a text is the label of a variant: `[0-9a-z_.]{1,16}`.
fn is_label(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_digit() || c.is_ascii_lowercase() || "_.".contains(c);
    (1..=16).contains(&text.len()) && text.chars().all(plain)
}

impl fmt::Display for WheelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)
    }
}

/// A package name as indexes compare it: lower case, runs of `-`, `_` and `.` one dash (PEP 503).
pub(crate) fn normalise(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for c in name.chars() {
        match c {
            '-' | '_' | '.' if out.ends_with('-') => {}
            '-' | '_' | '.' => out.push('-'),
            c => out.extend(c.to_lowercase()),
        }
    }
    out
}

/// The file name at the end of an address: without query and fragment, percent-decoded.
pub(crate) fn file_of_url(url: &str) -> Option<String> {
    let path = url.split(['?', '#']).next()?;
    let last = path.rsplit('/').next()?;
    let mut bytes = Vec::with_capacity(last.len());
    let mut rest = last.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || rest.next().and_then(|d| (d as char).to_digit(16));
        let (high, low) = (digit()?, digit()?);
        bytes.push((high << 4 | low) as u8);
    }
    String::from_utf8(bytes).ok().filter(|file| !file.is_empty())
}

/// An address without its user and password.
pub(crate) fn without_credentials(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let host = authority.rsplit('@').next().unwrap_or(authority);
    format!("{scheme}://{host}{path}")
}

/// An address as a lock has it: without user and password, and without a query, which may be a token or a
/// signature. Whoever fetches it takes them from where the project names the address ([`crate::Spec::addresses`]).
pub(crate) fn in_lock(url: &str) -> String {
    let bare = without_credentials(url);
    match bare.contains("://").then(|| bare.find(['?', '#'])).flatten() {
        Some(end) => bare[..end].to_owned(),
        None => bare,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts() {
        let wheel: WheelName =
            "nvidia_cuda_cccl-13.3.5.0.6-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl"
                .parse()
                .unwrap();
        assert_eq!(
            (wheel.name.as_str(), wheel.version.to_string().as_str()),
            ("nvidia-cuda-cccl", "13.3.5.0.6")
        );
        let wheel: WheelName = "torch-2.9.1+cu126-1-cp313-cp313-linux_x86_64.whl".parse().unwrap();
        assert_eq!(
            (wheel.version.to_string().as_str(), wheel.build.as_str()),
            ("2.9.1+cu126", "1")
        );
        let variant = |file: &str| file.parse::<WheelName>().ok().map(|w| (w.build, w.variant));
        let is = |build: &str, label: &str| Some((build.to_owned(), Some(label.to_owned())));
        assert_eq!(variant("foo-1.0-py3-none-any-cu13.whl"), is("", "cu13"));
        assert_eq!(variant("foo-1.0-2-py3-none-any-null.whl"), is("2", "null"));
        assert_eq!(variant("foo-1.0-cp313-cp313-linux_x86_64-x86_64_v3.whl"), is("", "x86_64_v3"));
        for bad in [
            "foo-1.0-py3-none-any-CU13.whl",
            "foo-1.0-py3-none-any-.whl",
            "foo-1.0-py3-none-any-seventeen_letters.whl",
            "foo-1.0-x-py3-none-any-cu13.whl",
            "foo-1.0-2-py3-none-any-cu13-cu12.whl",
            "",
            ".whl",
            "a.whl",
            "a-1-py3-none.whl",
            "../a-1-py3-none-any.whl",
            "a/b-1-py3-none-any.whl",
            "a-1-x-py3-none-any.whl",
            "a-one-py3-none-any.whl",
            "a-1-py3-none-any.zip",
            "a--py3-none-any.whl",
            "a-1-py3-none-any.whl\n",
        ] {
            assert!(bad.parse::<WheelName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn addresses() {
        assert_eq!(
            file_of_url("https://h.invalid/a/t-2%2Bcu1.whl#sha256=1").unwrap(),
            "t-2+cu1.whl"
        );
        assert_eq!(file_of_url("https://h.invalid/a/t%2"), None);
        assert_eq!(file_of_url("https://h.invalid/a/"), None);
        assert_eq!(without_credentials("https://u:p@h.invalid/x@y"), "https://h.invalid/x@y");
        assert_eq!(without_credentials("/wheels"), "/wheels");
        assert_eq!(in_lock("https://u:p@h.invalid/x?a=b#c"), "https://h.invalid/x");
        assert_eq!(in_lock("./a#b"), "./a#b");
        assert_eq!(normalise("Foo__Bar.baz"), "foo-bar-baz");
    }
}
