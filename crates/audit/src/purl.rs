//! Package URLs.
//!
//! Source: purl-spec, "Character encoding"; types `pypi`, `deb`, `generic`, `oci`.

/// A wheel: its name is normalised in a lock.
pub(crate) fn pypi(name: &str, version: &str) -> String {
    format!("pkg:pypi/{}@{}", coded(name), coded(version))
}

/// A Debian package; `upstream` is its source package where that is another name or version, as Syft and Grype have it.
pub(crate) fn deb(
    name: &str,
    version: &str,
    arch: Option<&str>,
    distro: Option<&str>,
    upstream: Option<&(String, String)>,
) -> String {
    let mut qualifiers = Vec::new();
    qualifiers.extend(arch.map(|arch| format!("arch={}", coded(arch))));
    qualifiers.extend(distro.map(|distro| format!("distro={}", coded(distro))));
    qualifiers.extend(upstream.and_then(|(source, of)| match (source == name, of == version) {
        (true, true) => None,
        (_, true) => Some(format!("upstream={}", coded(source))),
        _ => Some(format!("upstream={}", coded(&format!("{source}@{of}")))),
    }));
    let end =
        if qualifiers.is_empty() { String::new() } else { format!("?{}", qualifiers.join("&")) };
    format!("pkg:deb/debian/{}@{}{end}", coded(name), coded(version))
}

/// A standalone build of Python.
pub(crate) fn cpython(version: &str) -> String {
    format!("pkg:generic/cpython@{}", coded(version))
}

/// A part of a purl: what is not a letter, digit or `.-_~` is written by its bytes; a colon stays.
fn coded(text: &str) -> String {
    let mut coded = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'-' | b'_' | b'~' | b':' => {
                coded.push(char::from(byte));
            }
            _ => coded.push_str(&format!("%{byte:02X}")),
        }
    }
    coded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn purls_are_coded() {
        for (text, expected) in [
            ("2.36-9+deb12u14", "2.36-9%2Bdeb12u14"),
            ("1:2.3~rc1", "1:2.3~rc1"),
            ("a b/c@d", "a%20b%2Fc%40d"),
        ] {
            assert_eq!(coded(text), expected);
        }
        let upstream = ("glibc".to_owned(), "2.36-9".to_owned());
        let deb = |version: &str, upstream: &(String, String)| {
            deb("libc6", version, Some("amd64"), Some("debian-12"), Some(upstream))
        };
        let start = "pkg:deb/debian/libc6@2.36-9?arch=amd64&distro=debian-12";
        assert_eq!(deb("2.36-9", &upstream), format!("{start}&upstream=glibc"));
        assert_eq!(deb("2.36-9", &("libc6".to_owned(), "2.36-9".to_owned())), start);
        assert!(deb("2.36-9+b1", &upstream).ends_with("&upstream=glibc%402.36-9"));
    }
}
