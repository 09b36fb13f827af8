//! The words before a place of an image, as skopeo has them (containers-transports(5)): `oci:DIR`, `store:NAME`.

/// What kind of place such a word stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// A registry.
    Registry,
    /// An OCI layout.
    Layout,
    /// An image in a tar.
    Archive,
    /// The store, which is sconce's own word.
    Store,
    /// A folder as skopeo alone writes it.
    Folder,
}

/// Each word, without the `:` behind it.
const WORDS: [(&str, Transport); 6] = [
    ("docker", Transport::Registry),
    ("oci", Transport::Layout),
    ("oci-archive", Transport::Archive),
    ("docker-archive", Transport::Archive),
    ("store", Transport::Store),
    ("dir", Transport::Folder),
];

impl Transport {
    /// What a word stands for.
    #[must_use]
    pub fn of_word(word: &str) -> Option<Self> {
        WORDS.iter().find(|(known, _)| *known == word).map(|(_, transport)| *transport)
    }

    /// The kind of place that `text` says it is, and what stands behind that. `docker:24` says nothing: it is an
    /// image of that name; a registry's place begins with `docker://`.
    #[must_use]
    pub fn split(text: &str) -> Option<(Self, &str)> {
        let (word, rest) = text.split_once(':')?;
        match Self::of_word(word)? {
            Self::Registry => rest.strip_prefix("//").map(|rest| (Self::Registry, rest)),
            other => Some((other, rest)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Transport;

    #[test]
    fn words_before_a_place() {
        for (text, expected) in [
            ("oci:some/dir:v1", Some((Transport::Layout, "some/dir:v1"))),
            ("docker-archive:-", Some((Transport::Archive, "-"))),
            ("oci-archive:", Some((Transport::Archive, ""))),
            ("store:lab/x:1", Some((Transport::Store, "lab/x:1"))),
            ("dir:x", Some((Transport::Folder, "x"))),
            ("docker://alpine:3", Some((Transport::Registry, "alpine:3"))),
            ("docker:24", None),
            ("oci", None),
            ("torch:2.15.0", None),
            ("registry:5000/oci:1", None),
        ] {
            assert_eq!(Transport::split(text), expected, "{text}");
        }
    }
}
