//! Wheel file names: `name-version[-build]-python-abi-platform.whl` (binary distribution format specification).

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
}

/// A text that is no wheel's file name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no wheel's file name")]
pub struct BadWheelName(pub String);

impl FromStr for WheelName {
    type Err = BadWheelName;

    fn from_str(file: &str) -> Result<Self, Self::Err> {
        let bad = || BadWheelName(file.chars().take(120).collect());
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-+!".contains(c);
        if file.len() > 255 || file.starts_with('.') || !file.chars().all(plain) {
            return Err(bad());
        }
        let parts: Vec<&str> = file.strip_suffix(".whl").ok_or_else(bad)?.split('-').collect();
        let (name, version, build, python, abi, platform) = match *parts.as_slice() {
            [name, version, python, abi, platform] => (name, version, "", python, abi, platform),
            [name, version, build, python, abi, platform]
                if build.starts_with(|c: char| c.is_ascii_digit()) =>
            {
                (name, version, build, python, abi, platform)
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
        })
    }
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
        for bad in [
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
        assert_eq!(normalise("Foo__Bar.baz"), "foo-bar-baz");
    }
}
