//! Opening what a person names: a wheel, a folder, a virtual environment, an image on disk.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::Error;
use crate::archive::{self, Image};
use crate::read::{OnDisk, ReadAt};
use crate::tree::Tree;
use crate::{fatbin, ptx, zip};

const VENV: &str = "virtual environment";
const FOLDER: &str = "folder";
const LIBRARY: &str = "library";

/// Something to inspect.
pub struct Subject {
    /// What kind of thing it is, in words.
    pub what: &'static str,
    /// Its files.
    pub tree: Tree,
    /// `LD_LIBRARY_PATH` as its configuration sets it.
    pub library_path: Option<String>,
    /// Whether it is a part of an environment only: a wheel, a layer, a library.
    pub partial: bool,
    /// Whether it runs on the machine itself and not as an image: folders that LD_LIBRARY_PATH names
    /// are the machine's.
    pub on_machine: bool,
}

impl Subject {
    /// Whether it is installed where it will run; a wheel may go to another machine.
    pub fn is_installed(&self) -> bool {
        self.on_machine && matches!(self.what, VENV | FOLDER)
    }

    /// Whether it is one file by itself: a library, or a file of GPU code.
    pub fn is_single(&self) -> bool {
        matches!(self.what, LIBRARY | "fatbin" | "PTX")
    }

    /// Opens `path`: a wheel, the tar of `docker save`, a single layer, an OCI layout, a library, a
    /// cubin, fatbin or PTX file, a folder of wheels (all of them as one environment), or any other
    /// folder.
    ///
    /// `architecture` is OCI's name (`amd64`, `arm64`) of the one wanted where an image has several.
    ///
    /// # Errors
    /// [`Error::Open`], [`Error::Unknown`] for a file that is none of these, and those of the
    /// archives.
    pub fn open(path: &Path, architecture: &str) -> Result<Self, Error> {
        let error = |source| Error::Open { path: path.to_owned(), source };
        if fs::metadata(path).map_err(error)?.is_dir() {
            return Self::folder(path, architecture);
        }
        let name = path.display().to_string();
        let bytes: Arc<dyn ReadAt> = Arc::new(OnDisk::open(path).map_err(error)?);
        let mut head = vec![0; 512];
        let n = bytes.read_at(&mut head, 0).map_err(error)?;
        let head = head.get(..n).unwrap_or_default();
        if zip::sniff(head) {
            let mut tree = Tree::new();
            zip::add_wheel(&mut tree, &name, &bytes, "")?;
            return Ok(Self {
                what: "wheel",
                tree,
                library_path: None,
                partial: true,
                on_machine: true,
            });
        }
        let packed = head.starts_with(&[0x1f, 0x8b]) || head.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]);
        if packed || archive::sniff(head) {
            return match archive::docker_archive(&name, &bytes) {
                Ok(image) => Ok(Self::image("docker-archive", image)),
                // Without a manifest it is one layer.
                Err(Error::Malformed { what: "docker-archive", .. }) => {
                    let mut tree = Tree::new();
                    archive::add_layer(&mut tree, &name, &bytes, 256)?;
                    Ok(Self {
                        what: "layer",
                        tree,
                        library_path: None,
                        partial: true,
                        on_machine: false,
                    })
                }
                Err(error) => Err(error),
            };
        }
        let what = match () {
            () if head.starts_with(b"\x7fELF") => Some(LIBRARY),
            () if head.starts_with(&fatbin::MAGIC.to_le_bytes()) => Some("fatbin"),
            () if ptx::is_named(&name) => Some("PTX"),
            () => None,
        };
        if let Some(what) = what {
            let mut tree = Tree::new();
            let file = path.file_name().and_then(|name| name.to_str()).unwrap_or("library");
            tree.add_file(file, bytes);
            return Ok(Self { what, tree, library_path: None, partial: true, on_machine: true });
        }
        Err(Error::Unknown { path: path.to_owned() })
    }

    fn folder(path: &Path, architecture: &str) -> Result<Self, Error> {
        if path.join("oci-layout").is_file() || path.join("index.json").is_file() {
            return Ok(Self::image("OCI layout", archive::oci_layout(path, architecture)?));
        }
        let wheels = wheels(path)?;
        if !wheels.is_empty() {
            let named = wheels.into_iter().map(|path| (path.display().to_string(), path));
            let tree = Self::wheels(&named.collect::<Vec<_>>(), "")?;
            return Ok(Self {
                what: "wheels",
                tree,
                library_path: None,
                partial: false,
                on_machine: true,
            });
        }
        let what = if path.join("pyvenv.cfg").is_file() { VENV } else { FOLDER };
        let tree = Tree::folder(path)?;
        Ok(Self { what, tree, library_path: None, partial: false, on_machine: true })
    }

    /// Wheels (their names, and where they lie) as one environment, their packages in the directory
    /// `site` of the tree.
    ///
    /// # Errors
    /// [`Error::Open`], and those of the zip reader.
    pub fn wheels(wheels: &[(String, PathBuf)], site: &str) -> Result<Tree, Error> {
        let mut tree = Tree::new();
        for (name, path) in wheels {
            let error = |source| Error::Open { path: path.clone(), source };
            let bytes: Arc<dyn ReadAt> = Arc::new(OnDisk::open(path).map_err(error)?);
            zip::add_wheel(&mut tree, name, &bytes, site)?;
        }
        Ok(tree)
    }

    /// An image's files with the environment of its configuration.
    pub fn image(what: &'static str, image: Image) -> Self {
        let library_path = image.env("LD_LIBRARY_PATH").map(str::to_owned);
        Self { what, tree: image.tree, library_path, partial: false, on_machine: false }
    }
}

/// The wheels directly in a folder, sorted.
fn wheels(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let error = |source| Error::Open { path: folder.to_owned(), source };
    let mut out = Vec::new();
    for entry in fs::read_dir(folder).map_err(error)? {
        let path = entry.map_err(error)?.path();
        if path.extension().is_some_and(|ending| ending == "whl") && path.is_file() {
            out.push(path);
        }
    }
    out.sort();
    Ok(out)
}

#[cfg(test)]
pub(crate) mod tests {
    use expect_test::expect;
    use sconce_blob::Digest;

    use super::*;
    use crate::zip::tests::forge as wheel;

    /// One tar entry: a header in the old GNU way and the bytes.
    pub fn entry(name: &str, kind: u8, link: &str, bytes: &[u8]) -> Vec<u8> {
        let mut head = vec![0; 512];
        head[..name.len()].copy_from_slice(name.as_bytes());
        head[100..107].copy_from_slice(b"0000644");
        head[124..135].copy_from_slice(format!("{:011o}", bytes.len()).as_bytes());
        head[156] = kind;
        head[157..157 + link.len()].copy_from_slice(link.as_bytes());
        head[257..263].copy_from_slice(b"ustar\0");
        head[148..156].fill(b' ');
        let sum: u64 = head.iter().map(|byte| u64::from(*byte)).sum();
        head[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        head.extend(bytes);
        head.resize(head.len().next_multiple_of(512), 0);
        head
    }

    pub fn tar(entries: &[Vec<u8>]) -> Vec<u8> {
        [entries.concat(), vec![0; 1024]].concat()
    }

    fn layers() -> [Vec<u8>; 2] {
        let long = format!("{}/x", "d".repeat(90));
        let pax = format!("{} path={long}\n", long.len() + 10);
        assert_eq!(pax.len(), long.len() + 10);
        [
            tar(&[
                entry("usr/lib/old", b'0', "", b"old"),
                entry("usr/lib/kept", b'0', "", b"kept"),
                entry("lib", b'2', "usr/lib", b""),
                entry("hard", b'1', "usr/lib/kept", b""),
            ]),
            tar(&[
                entry("usr/lib/.wh.old", b'0', "", b""),
                entry("pax", b'x', "", pax.as_bytes()),
                entry("short", b'0', "", b"long"),
                entry("../evil", b'0', "", b"evil"),
            ]),
        ]
    }

    fn names(subject: &Subject) -> Vec<String> {
        subject.tree.files().map(|(path, _)| path.chars().take(14).collect()).collect()
    }

    #[test]
    fn an_oci_layout() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = dir.path().join("blobs/sha256");
        fs::create_dir_all(&blobs).unwrap();
        let put = |bytes: &[u8]| {
            let digest = Digest::of(bytes);
            fs::write(blobs.join(digest.hex()), bytes).unwrap();
            format!(r#"{{"digest":"{digest}","size":{}}}"#, bytes.len())
        };
        let layers: Vec<String> = layers().iter().map(|layer| put(layer)).collect();
        let config = put(br#"{"config":{"Env":["PATH=/bin","LD_LIBRARY_PATH=/a:/b"]}}"#);
        let manifest =
            put(format!(r#"{{"config":{config},"layers":[{}]}}"#, layers.join(",")).as_bytes());
        fs::write(dir.path().join("index.json"), format!(r#"{{"manifests":[{manifest}]}}"#))
            .unwrap();
        let subject = Subject::open(dir.path(), "amd64").unwrap();
        assert_eq!(names(&subject), ["dddddddddddddd", "hard", "usr/lib/kept"]);
        assert_eq!(subject.tree.text("lib/kept", 10).unwrap(), "kept");
        assert_eq!(subject.library_path.as_deref(), Some("/a:/b"));
        assert_eq!(subject.tree.hidden(), [("usr/lib/old".to_owned(), 3)]);
    }

    #[test]
    fn a_docker_archive_and_a_single_layer() {
        let dir = tempfile::tempdir().unwrap();
        let [bottom, top] = layers();
        let archive = tar(&[
            entry("a/layer.tar", b'0', "", &bottom),
            entry("b/layer.tar", b'0', "", &top),
            entry("c.json", b'0', "", br#"{"config":{}}"#),
            entry(
                "manifest.json",
                b'0',
                "",
                br#"[{"Config":"c.json","RepoTags":null,"Layers":["a/layer.tar","b/layer.tar"]}]"#,
            ),
        ]);
        let path = dir.path().join("image.tar");
        fs::write(&path, &archive).unwrap();
        let subject = Subject::open(&path, "amd64").unwrap();
        assert_eq!((subject.what, names(&subject).len()), ("docker-archive", 3));
        fs::write(&path, &bottom).unwrap();
        let subject = Subject::open(&path, "amd64").unwrap();
        assert_eq!((subject.what, names(&subject).len()), ("layer", 3));
        fs::write(&path, b"neither").unwrap();
        assert!(matches!(Subject::open(&path, "amd64"), Err(Error::Unknown { .. })));
        // An array is not an object, whatever the order of its fields.
        let archive = tar(&[
            entry("a/layer.tar", b'0', "", &bottom),
            entry("c.json", b'0', "", br#"{"config":{}}"#),
            entry("manifest.json", b'0', "", br#"[["c.json",["a/layer.tar"]]]"#),
        ]);
        fs::write(&path, &archive).unwrap();
        let error = Subject::open(&path, "amd64").err().unwrap().to_string();
        assert!(error.contains("an array, expected an object"), "{error}");
    }

    #[test]
    fn files_of_gpu_code() {
        use crate::forge::{cubin, fatbin};
        let dir = tempfile::tempdir().unwrap();
        let look = |name: &str, bytes: &[u8]| {
            let path = dir.path().join(name);
            fs::write(&path, bytes).unwrap();
            let subject = Subject::open(&path, "amd64").unwrap();
            let options = crate::Options { partial: true, ..crate::Options::default() };
            let report = crate::inspect(name, &subject.tree, &options, &|_, _| {});
            let says = |gpu| report.answer(gpu, None).unwrap().sentence;
            format!("{} {} / {}", subject.what, says("h100"), says("gb10"))
        };
        let code = fatbin(&[cubin(90)]);
        expect!["fatbin Yes: it has machine code for H100 SXM5 80GB from driver 525.85.05 on. / No: k.fatbin has no code for GB10 (compute capability 12.1); it has sm_90."].assert_eq(&look("k.fatbin", &code));
        let ptx = "//\n// Generated by NVIDIA NVVM Compiler\n//\n.version 8.0\n.target sm_80\n.address_size 64\n.visible .entry k()\n// and so on\n";
        expect!["PTX Yes: it runs on H100 SXM5 80GB from driver 525.85.05 on; the driver compiles 1 of its libraries when they are first used. / Yes: it runs on GB10 from driver 580.95.05 on; the driver compiles 1 of its libraries when they are first used."].assert_eq(&look("k.ptx", ptx.as_bytes()));
        fs::write(
            dir.path().join("x.ptx"),
            "none at all, and longer than sixty-four bytes, as every real one is",
        )
        .unwrap();
    }

    #[test]
    fn a_folder_of_wheels_is_one_environment() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a.whl"), wheel(&[("a/x.py", b"1")])).unwrap();
        fs::write(dir.path().join("b.whl"), wheel(&[("b/x.py", b"1")])).unwrap();
        let subject = Subject::open(dir.path(), "amd64").unwrap();
        assert_eq!(names(&subject), ["a/x.py", "b/x.py"]);
    }

    #[test]
    fn broken_tars_end() {
        let good = layers().concat();
        for at in (0..good.len()).step_by(3) {
            for bytes in [good[..at].to_vec(), {
                let mut bad = good.clone();
                bad[at] ^= 0xff;
                bad
            }] {
                let layer: Arc<dyn ReadAt> = Arc::new(bytes);
                let _ = archive::add_layer(&mut Tree::new(), "layer", &layer, 4);
            }
        }
    }
}
