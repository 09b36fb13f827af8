//! What really happens in environments that people reported, against what inspect says of them.
//!
//! The environments are rows in `tests/predictions/*.toml`, built from stand-ins with the same ELF
//! facts as the real libraries. No false yes is allowed, and at most two false noes.

#[path = "../src/forge.rs"]
mod forge;

use std::collections::BTreeMap;
use std::sync::Arc;

use sconce_inspect::{Options, Says, Tree, fatbin, inspect};
use serde::Deserialize;

const WORLDS: &str = include_str!("predictions/worlds.toml");
const REPORTS: &str = include_str!("predictions/reports.toml");
const SITE: &str = "opt/venv/lib/python3.12/site-packages";
const FALSE_NOES: usize = 2;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Worlds {
    world: BTreeMap<String, World>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct World {
    /// The world whose files it has too.
    like: Option<String>,
    torch: Option<String>,
    cuda: Option<String>,
    #[serde(default)]
    file: Vec<File>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    path: String,
    #[serde(default)]
    needs: Vec<String>,
    rpath: Option<String>,
    runpath: Option<String>,
    #[serde(default)]
    defines: Vec<String>,
    /// `library@version` each: versions it needs without a symbol.
    #[serde(default)]
    wants: Vec<String>,
    /// `symbol`, or `symbol@version`.
    #[serde(default)]
    exports: Vec<String>,
    #[serde(default)]
    imports: Vec<String>,
    /// Names of libraries in its data.
    #[serde(default)]
    opens: Vec<String>,
    /// One entry for each container, or `40 x sm_80` for so many alike.
    #[serde(default)]
    code: Vec<String>,
    /// With the older hash table of symbols only.
    #[serde(default)]
    old_hash: bool,
    /// `aarch64`, or `x86_64` where it is not said.
    machine: Option<String>,
    /// Without any hash table of symbols.
    #[serde(default)]
    no_hash: bool,
    /// Further files of the same kind in the same folder.
    #[serde(default)]
    also: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Reports {
    prediction: Vec<Prediction>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Prediction {
    name: String,
    world: String,
    happens: String,
    source: String,
    gpu: String,
    driver: String,
    says: String,
    has: String,
    #[serde(default)]
    without: Vec<String>,
    /// `torch=2.5.1+cpu`: torch's own word instead of the world's.
    #[serde(default)]
    packages: Vec<String>,
    library_path: Option<String>,
    /// What a package asks for, by its name.
    #[serde(default)]
    requires: BTreeMap<String, Vec<String>>,
    #[serde(default)]
    file: Vec<File>,
    /// Symbolic links, each with what it leads to.
    #[serde(default)]
    links: BTreeMap<String, String>,
}

/// `sm_90a`, `compute_90:8.4`, `nvvm_90`.
fn code(text: &str) -> forge::Code {
    let (name, isa) = text.split_once(':').unwrap_or((text, "8.0"));
    let (major, minor) = isa.split_once('.').unwrap();
    let (kind, target) = name.split_once('_').unwrap();
    let digits = target.trim_end_matches(['a', 'f']);
    let sm = digits.parse().unwrap();
    let mut code = match kind {
        "sm" => forge::cubin(sm),
        "compute" => forge::ptx(sm, (major.parse().unwrap(), minor.parse().unwrap())),
        "nvvm" => forge::Code { kind: 8, ..forge::cubin(sm) },
        other => panic!("{other}"),
    };
    code.flags |= match target.strip_prefix(digits) {
        Some("a") => 0x10_0000,
        Some("f") => 0x20_0000,
        _ => 0,
    };
    code
}

fn library(file: &File, name: &str) -> Vec<u8> {
    let mut library = forge::Library::new(name);
    let needs: Vec<&str> = file.needs.iter().map(String::as_str).collect();
    let defines: Vec<&str> = file.defines.iter().map(String::as_str).collect();
    library = library.needs(&needs).defines(&defines);
    library = file.rpath.iter().fold(library, |library, path| library.rpath(path));
    library = file.runpath.iter().fold(library, |library, path| library.runpath(path));
    for want in &file.wants {
        let (from, version) = want.split_once('@').unwrap();
        library = library.version(from, version);
    }
    for export in &file.exports {
        library = match export.split_once('@') {
            Some((symbol, version)) => library.exports(symbol, Some(version)),
            None => library.exports(export, None),
        };
    }
    for import in &file.imports {
        library = match import.split_once('@') {
            // NVIDIA's libraries name their versions after themselves.
            Some((symbol, version)) => library.imports(symbol, Some((version, version))),
            None => library.imports(import, None),
        };
    }
    for text in &file.opens {
        library = library.data(format!("\0{text}\0").as_bytes());
    }
    for container in &file.code {
        let (times, codes) = container.split_once(" x ").unwrap_or(("1", container));
        let codes: Vec<_> = codes.split(' ').map(code).collect();
        let times: usize = times.parse().unwrap();
        library = library.code(&vec![forge::fatbin(&codes); times]);
    }
    library = match file.machine.as_deref() {
        None | Some("x86_64") => library,
        Some("aarch64") => library.machine(183),
        Some(other) => panic!("{other}"),
    };
    if file.old_hash {
        library = library.old_hash();
    }
    if file.no_hash {
        library = library.no_hash();
    }
    library.build()
}

fn place(path: &str) -> String {
    path.strip_prefix('/').map_or_else(|| format!("{SITE}/{path}"), str::to_owned)
}

fn tree(worlds: &Worlds, prediction: &Prediction) -> Tree {
    let mut tree = Tree::new();
    let world = &worlds.world[&prediction.world];
    let like = world.like.iter().flat_map(|like| &worlds.world[like].file);
    for file in like.chain(&world.file).chain(&prediction.file) {
        let (folder, name) = file.path.rsplit_once('/').unwrap_or(("", &file.path));
        for name in std::iter::once(name).chain(file.also.iter().map(String::as_str)) {
            let path = if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") };
            if !prediction.without.contains(&path) || prediction.file.iter().any(|f| f.path == path)
            {
                tree.add_file(&place(&path), Arc::new(library(file, name)));
            }
        }
    }
    for (name, version) in prediction.packages.iter().filter_map(|text| text.split_once('=')) {
        let info = format!("{}-{version}.dist-info", name.replace('-', "_"));
        let text = |text: String| Arc::new(text.into_bytes());
        let requires = prediction.requires.get(name).into_iter().flatten();
        let requires: String =
            requires.map(|requirement| format!("Requires-Dist: {requirement}\n")).collect();
        tree.add_file(
            &place(&format!("{info}/METADATA")),
            text(format!("Name: {name}\nVersion: {version}\n{requires}")),
        );
        let record = format!("{info}/METADATA,,\n");
        tree.add_file(&place(&format!("{info}/RECORD")), text(record));
    }
    for (path, target) in &prediction.links {
        tree.add_link(&place(path), target);
    }
    let own = prediction.packages.iter().find_map(|package| package.strip_prefix("torch="));
    if let Some(version) = own.or(world.torch.as_deref()) {
        let of_version = own.and_then(|version| version.split_once("+cu"));
        let cuda = match (&world.cuda, own, of_version) {
            (Some(cuda), None, _) => format!("'{cuda}'"),
            (_, _, Some((_, cuda))) => format!("'{}.{}'", &cuda[..2], &cuda[2..]),
            _ => "None".to_owned(),
        };
        let text = format!("__version__ = '{version}'\ncuda: Optional[str] = {cuda}\n");
        tree.add_file(&place("torch/version.py"), Arc::new(text.into_bytes()));
    }
    tree
}

#[test]
fn what_is_said_is_what_happens() {
    let worlds: Worlds = toml::from_str(WORLDS).unwrap();
    let reports: Reports = toml::from_str(REPORTS).unwrap();
    assert!(reports.prediction.len() >= 40, "{} predictions", reports.prediction.len());
    let (mut false_yes, mut false_no, mut other) = (Vec::new(), Vec::new(), Vec::new());
    for prediction in &reports.prediction {
        assert!(!prediction.source.is_empty() && !prediction.happens.is_empty());
        let options =
            Options { library_path: prediction.library_path.clone(), ..Options::default() };
        let tree = tree(&worlds, prediction);
        let report = inspect(&prediction.name, &tree, &options, &|_, _| {});
        let driver = prediction.driver.parse().unwrap();
        let answer = report.answer(&prediction.gpu, Some(&driver)).unwrap();
        let said = match answer.says {
            Says::Yes => "yes",
            Says::InPart => "in-part",
            Says::No => "no",
            Says::CantTell => "cant-tell",
        };
        let line = format!(
            "{}: {} was expected ({}), and it says: {}",
            prediction.name, prediction.says, prediction.happens, answer.sentence
        );
        match (prediction.says.as_str(), said) {
            (expected, said) if expected == said => {
                if !answer.sentence.contains(&prediction.has) {
                    other.push(line);
                }
            }
            (_, "yes") => false_yes.push(line),
            ("yes" | "in-part", "no") => false_no.push(line),
            _ => other.push(line),
        }
    }
    assert!(false_yes.is_empty(), "false yes:\n{}", false_yes.join("\n"));
    assert!(false_no.len() <= FALSE_NOES, "false no:\n{}", false_no.join("\n"));
    assert!(other.is_empty(), "{}", other.join("\n"));
}
