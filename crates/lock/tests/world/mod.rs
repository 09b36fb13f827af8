//! A package index in memory: torch as the facts describe it, and what a test adds.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;

use pep440_rs::{Version, VersionSpecifiers};
use pep508_rs::{Requirement, VerbatimUrl, VersionOrUrl};
use sconce_lock::{
    DebPin, DebianAnswer, DebianRequest, Flavour, FolderRequest, Index, IndexError, ListedFile,
    Lock, Native, Order, Outcome, Overlap, OverlapQuestion, Overlaps, PythonAnswer, PythonRequest,
    Rebuilt, SOURCE, Sdist, SourceRequest, Target, UvLockRequest, Wheel, placeholder,
};

/// Newest versions of packages that torch pins with a range.
const NEWEST: &[(&str, &str)] = &[("cuda-bindings", "13.5.0"), ("triton", "3.9.0")];

#[derive(Default)]
pub struct World {
    /// Torch releases besides those of the facts, with what they bring.
    pub newer: Vec<(&'static str, Vec<(&'static str, &'static str)>)>,
    /// The only torch versions that the user's requirements allow.
    pub allowed: Option<VersionSpecifiers>,
    /// Packages whose version is another than torch pins.
    pub swapped: BTreeMap<&'static str, &'static str>,
    /// Requirements that the index of one Python cannot meet, with that Python and uv's words.
    pub unmet: Vec<(&'static str, &'static str, &'static str)>,
    /// Constraints that the index cannot meet, with uv's words.
    pub refused: Vec<(&'static str, &'static str)>,
    /// The version that a package gets, where that is not 1.0.
    pub versions: BTreeMap<&'static str, &'static str>,
    /// The same where it depends on the Python.
    pub versions_on: BTreeMap<(&'static str, &'static str), &'static str>,
    /// A package, a torch, and the version that the package gets beside it.
    pub beside: Vec<(&'static str, &'static str, &'static str)>,
    /// The version that a package gets where a constraint or the requirement itself shuts out that one.
    pub older: BTreeMap<&'static str, &'static str>,
    /// A package, its extra, and the version that the package gets where that is asked for as well.
    pub with_extra: Vec<(&'static str, &'static str, &'static str)>,
    /// What a package brings without that anybody names it.
    pub brings: BTreeMap<&'static str, Vec<(&'static str, &'static str)>>,
    /// The same on one Python.
    pub brings_on: BTreeMap<(&'static str, &'static str), (&'static str, &'static str)>,
    /// All files of a package: name and day.
    pub files: BTreeMap<&'static str, Vec<(&'static str, &'static str)>>,
    /// What the wheel of a package is built for; its file is then one for a platform.
    pub native: BTreeMap<&'static str, Result<Native, String>>,
    /// The files in the wheel of a release: "bitsandbytes 0.49.2".
    pub contents: BTreeMap<&'static str, Vec<&'static str>>,
    /// What is said by the source distributions of a package.
    pub sources: BTreeMap<&'static str, Source>,
    /// Every wheel that was built: its package, and the lock of the container.
    pub built: Vec<(String, Lock)>,
    /// What uv makes of a uv.lock.
    pub uv_lock: &'static str,
    /// Which packages own the same files.
    pub overlaps: Vec<Overlap>,
    /// What the METADATA of packages requires.
    pub requires: BTreeMap<&'static str, Vec<&'static str>>,
    /// How often the Debian archive was asked.
    pub debian: usize,
    /// Every question that was asked.
    pub asked: Vec<PythonRequest>,
}

/// A package that is built from source.
#[derive(Default)]
pub struct Source {
    /// What its pyproject.toml requires.
    pub requires: Vec<&'static str>,
    /// What its backend asks for besides.
    pub more: Vec<&'static str>,
    /// It has C and CUDA sources.
    pub compiles: bool,
    /// What its wheel needs.
    pub needs: Vec<&'static str>,
}

impl World {
    fn set(&self, request: &PythonRequest) -> Result<Vec<(String, String)>, IndexError> {
        let target = Target { machine: request.machine, base: request.base };
        let markers = target.markers().unwrap();
        let no = |words: &str| IndexError::NoSolution { words: words.to_owned() };
        let mut set: Vec<(String, String)> = Vec::new();
        let unmet = self.unmet.iter().find(|(requirement, python, _)| {
            *python == request.base.python && request.requirements.iter().any(|r| r == requirement)
        });
        if let Some((_, _, words)) = unmet {
            return Err(no(words));
        }
        let constrained =
            |text: &str| request.constraints.iter().any(|constraint| constraint == text);
        if let Some((_, words)) = self.refused.iter().find(|(text, _)| constrained(text)) {
            return Err(no(words));
        }
        let preferred = |name: &str| {
            let found = request.preferences.iter().find(|(of, _)| of == name)?;
            Some(found.1.clone())
        };
        let needs = request.built.iter().filter_map(|built| self.sources.get(built.name.as_str()));
        let needs = needs.flat_map(|source| source.needs.iter().map(|need| (*need).to_owned()));
        for text in request.requirements.iter().cloned().chain(needs) {
            let text = text.split(" --hash").next().unwrap();
            let wanted: Requirement<VerbatimUrl> = text.parse().unwrap();
            let specifiers = match wanted.version_or_url {
                Some(VersionOrUrl::VersionSpecifier(specifiers)) => specifiers,
                _ => VersionSpecifiers::empty(),
            };
            if wanted.name.as_ref() != "torch" {
                if wanted.name.as_ref() != "cuda-toolkit" {
                    let name = wanted.name.as_ref();
                    let here = self.versions_on.get(&(name, request.base.python.as_str()));
                    let newest = here.or(self.versions.get(name)).map_or("1.0", |version| version);
                    let mut offered = request.offers.iter().filter(|offer| offer.name == name);
                    let newest = offered.next_back().map_or(newest, |offer| &offer.version);
                    let built = request.built.iter().find(|built| built.name == name);
                    let newest =
                        built.and_then(|built| built.file.split('-').nth(1)).unwrap_or(newest);
                    let shut_out = |version: &str| {
                        let version: Version = version.parse().unwrap();
                        request.constraints.iter().any(|text| {
                            let held: Requirement<VerbatimUrl> = text.parse().unwrap();
                            let Some(VersionOrUrl::VersionSpecifier(s)) = held.version_or_url
                            else {
                                return false;
                            };
                            held.name.as_ref() == name && !s.contains(&version)
                        })
                    };
                    let asked = || specifiers.contains(&newest.parse().unwrap());
                    let out = shut_out(newest) || (self.older.contains_key(name) && !asked());
                    let newest = match (out, self.older.get(name)) {
                        (false, _) => newest,
                        (true, Some(older)) => older,
                        (true, None) => return Err(no(&format!("no {name} is allowed"))),
                    };
                    let kept = preferred(name).filter(|v| specifiers.contains(&v.parse().unwrap()));
                    set.push((name.to_owned(), kept.unwrap_or_else(|| newest.into())));
                }
                for extra in &wanted.extras {
                    set.push((format!("nvidia-{extra}"), "13.2.1".into()));
                }
                continue;
            }
            let fits = |version: &str| {
                let version: Version = version.parse().unwrap();
                specifiers.contains(&version)
                    && self.allowed.as_ref().is_none_or(|allowed| allowed.contains(&version))
            };
            let tag = request.base.python_tag();
            if let Some((version, brings)) = self.newer.iter().find(|(version, _)| fits(version)) {
                set.push(("torch".into(), (*version).into()));
                set.extend(brings.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())));
                continue;
            }
            let release = sconce_facts::releases().iter().rev().find(|release| {
                fits(&release.version) && release.build(request.machine).python.contains(&tag)
            });
            let release = release.ok_or_else(|| no(&format!("there is no {text}")))?;
            let local = request.torch_backend.as_ref().map(|b| format!("+{b}")).unwrap_or_default();
            set.push(("torch".into(), format!("{}{local}", release.version)));
            for pin in &release.build(request.machine).requires {
                let pin: Requirement<VerbatimUrl> = pin.parse().unwrap();
                if !pin.evaluate_markers(&markers, &[]) {
                    continue;
                }
                let name = pin.name.to_string();
                let version = match NEWEST.iter().find(|(of, _)| *of == name) {
                    Some((_, version)) if !pin.to_string().contains("==") => (*version).to_owned(),
                    _ => {
                        let Some(VersionOrUrl::VersionSpecifier(s)) = &pin.version_or_url else {
                            panic!("{pin}")
                        };
                        s.iter().next().unwrap().version().to_string()
                    }
                };
                set.push((name, version));
            }
        }
        let brought = set.iter().filter_map(|(name, _)| self.brings.get(name.as_str()));
        let python = request.base.python.as_str();
        let here = set.iter().filter_map(|(name, _)| self.brings_on.get(&(name.as_str(), python)));
        let brought = brought.flatten().chain(here);
        let brought: Vec<_> = brought.map(|(n, v)| ((*n).into(), (*v).into())).collect();
        set.extend(brought);
        // torch may be asked for twice: by the user, and by a lock's own candidate.
        let mut seen = std::collections::BTreeSet::new();
        set.retain(|(name, _)| seen.insert(name.clone()));
        let torch =
            set.iter().find(|(name, _)| name == "torch").map(|(_, version)| version.clone());
        for (name, version) in &mut set {
            let beside =
                |row: &&(&str, &str, &str)| row.0 == name && Some(row.1) == torch.as_deref();
            if let Some((.., other)) = self.beside.iter().find(beside) {
                *version = (*other).to_owned();
            }
            let asked = |row: &&(&str, &str, &str)| {
                row.0 == name && request.requirements.contains(&format!("{}[{}]", row.0, row.1))
            };
            if let Some((.., other)) = self.with_extra.iter().find(asked) {
                *version = (*other).to_owned();
            }
            if let Some(other) = self.swapped.get(name.as_str()) {
                *version = (*other).to_owned();
            }
        }
        Ok(set)
    }
}

impl Index for World {
    fn python(&mut self, request: &PythonRequest) -> Result<PythonAnswer, IndexError> {
        self.asked.push(request.clone());
        let mut pylock = String::from("lock-version = \"1.0\"\ncreated-by = \"a test\"\n");
        let mut answer = PythonAnswer::default();
        for (name, version) in self.set(request)? {
            let native = self.native.contains_key(name.as_str()) || name == "torchaudio";
            let platform = if native { "manylinux_2_28_x86_64" } else { "any" };
            let mut file = format!("{}-{version}-py3-none-{platform}.whl", name.replace('-', "_"));
            if request.offers.iter().any(|offer| offer.name == name) {
                let target = Target { machine: request.machine, base: request.base };
                file = placeholder(&name, &version, target);
                answer.indexes.insert(name.clone(), SOURCE.to_owned());
            }
            if let Some(built) = request.built.iter().find(|built| built.name == name) {
                let _ = write!(
                    pylock,
                    "[[packages]]\nname = \"{name}\"\narchive = {{ path = \"/tmp/x/{}\", \
                     hashes = {{ sha256 = \"{:064x}\" }} }}\n",
                    built.file, 1
                );
                continue;
            }
            let _ = write!(
                pylock,
                "[[packages]]\nname = \"{name}\"\nversion = \"{version}\"\n\
                 wheels = [{{ url = \"https://files.example.invalid/{}\", size = 1000, \
                 hashes = {{ sha256 = \"{:064x}\" }} }}]\n",
                file.replace('+', "%2B"),
                name.len() + version.len(),
            );
            if let (Some(backend), "torch") = (&request.torch_backend, name.as_str()) {
                let index = format!("pytorch-{backend}");
                answer
                    .addresses
                    .insert(index.clone(), format!("https://torch.example.invalid/{backend}"));
                answer.indexes.insert(name, index);
            }
        }
        answer.pylock = pylock;
        Ok(answer)
    }

    fn releases(
        &mut self,
        packages: &[String],
    ) -> Result<BTreeMap<String, Vec<ListedFile>>, IndexError> {
        let file = |(name, day): &(&str, &str)| ListedFile {
            name: (*name).to_owned(),
            uploaded: Some(format!("{day}T00:00:00Z")),
            requires_python: None,
            yanked: false,
        };
        let of = |name: &String| {
            let files = self.files.get(name.as_str())?;
            Some((name.clone(), files.iter().map(file).collect()))
        };
        Ok(packages.iter().filter_map(of).collect())
    }

    fn source(&mut self, request: &SourceRequest<'_>) -> Result<Sdist, IndexError> {
        assert!(request.container.wheels.is_empty(), "nothing runs where it is read");
        let source = &self.sources[request.name];
        Ok(Sdist {
            size: 7,
            sha256: sconce_blob::Digest::of(request.file.as_bytes()),
            index: "pypi".into(),
            requires: source.requires.iter().map(|text| (*text).to_owned()).collect(),
            compiles: source.compiles,
            cuda: source.compiles,
        })
    }

    fn folder(&mut self, request: &FolderRequest<'_>) -> Result<Sdist, IndexError> {
        assert!(request.container.wheels.is_empty(), "nothing runs where it is read");
        let source = &self.sources[request.name];
        Ok(Sdist {
            size: 7,
            sha256: sconce_blob::Digest::of(request.name.as_bytes()),
            index: "project".into(),
            requires: source.requires.iter().map(|text| (*text).to_owned()).collect(),
            compiles: source.compiles,
            cuda: source.compiles,
        })
    }

    fn build(&mut self, order: &Order<'_>) -> Result<Outcome, IndexError> {
        let name = &order.source.name;
        let source = &self.sources[name.as_str()];
        let missing: Vec<String> = source
            .more
            .iter()
            .map(|text| (*text).to_owned())
            .filter(|text| order.requires.is_some_and(|requires| !requires.contains(text)))
            .collect();
        if !missing.is_empty() {
            return Ok(Outcome::Requires(missing));
        }
        self.built.push((name.clone(), order.container.clone()));
        let (tag, rebuilt) = match source.compiles {
            true => ("cp313-cp313-linux_x86_64", None),
            false => ("py3-none-any", Some(Rebuilt::Same)),
        };
        let version = order.version.unwrap_or("0.1");
        let wheel = Wheel {
            name: name.clone(),
            version: version.to_owned(),
            file: format!("{}-{version}-{tag}.whl", name.replace('-', "_")),
            size: Some(9),
            sha256: order.container.digest(),
            index: SOURCE.to_owned(),
            url: None,
            variant: None,
        };
        Ok(Outcome::Wheel { wheel, path: "/nowhere".into(), rebuilt })
    }

    fn built(&mut self, _: &Wheel) -> Option<PathBuf> {
        Some("/nowhere".into())
    }

    fn native(&mut self, wheels: &[(Wheel, bool)]) -> Vec<Result<Native, String>> {
        let of = |(wheel, _): &(Wheel, bool)| {
            self.native.get(wheel.name.as_str()).cloned().unwrap_or_else(|| Ok(Native::default()))
        };
        wheels.iter().map(of).collect()
    }

    fn files(&mut self, wheel: &Wheel) -> Result<Vec<String>, String> {
        let release = format!("{} {}", wheel.name, wheel.version);
        let files = self.contents.get(release.as_str()).ok_or("no ranges")?;
        Ok(files.iter().map(|file| (*file).to_owned()).collect())
    }

    fn requires(&mut self, wheels: &[Wheel]) -> Vec<Result<Vec<String>, String>> {
        let of = |wheel: &Wheel| {
            let release = format!("{} {}", wheel.name, wheel.version);
            let lines = self.requires.get(release.as_str());
            let lines =
                lines.or_else(|| self.requires.get(wheel.name.as_str())).ok_or("no ranges")?;
            Ok(lines.iter().map(|line| (*line).to_owned()).collect())
        };
        wheels.iter().map(of).collect()
    }

    fn uv_lock(&mut self, request: &UvLockRequest<'_>) -> Result<String, IndexError> {
        assert!(request.lock.contains("version = 1") && request.pyproject.contains("[project]"));
        Ok(self.uv_lock.replace("EXTRAS", &request.extras.join(" ")))
    }

    fn overlaps(&mut self, question: &OverlapQuestion<'_>) -> Overlaps {
        let preferred = |overlap: &&Overlap| {
            !overlap.packages.iter().any(|name| question.prefer.contains(name))
        };
        // What one Python alone brings must be there; other tests name packages of no set.
        let there = |overlap: &&Overlap| {
            let brought = |name: &String| self.brings_on.values().any(|(own, _)| own == name);
            let has = |name: &String| question.wheels.iter().any(|wheel| wheel.name == *name);
            overlap.packages.iter().all(|name| !brought(name) || has(name))
        };
        let found = self.overlaps.iter().filter(preferred).filter(there).cloned().collect();
        let texts = |texts: &Vec<&str>| texts.iter().map(|text| (*text).to_owned()).collect();
        let requires =
            self.requires.iter().map(|(name, lines)| ((*name).to_owned(), texts(lines))).collect();
        Overlaps { found, requires, ..Overlaps::default() }
    }

    fn debian(&mut self, request: &DebianRequest) -> Result<DebianAnswer, IndexError> {
        self.debian += 1;
        let mut names = vec![format!("python{}", request.base.python)];
        names.extend(request.packages.iter().cloned());
        names.extend((request.flavour == Flavour::Devel).then(|| "g++".to_owned()));
        let deb = |name: &String| DebPin {
            name: name.clone(),
            version: "1.0-1".into(),
            arch: request.machine.debian().into(),
            path: format!("pool/main/x/{name}_1.0-1_{}.deb", request.machine.debian()),
            size: 10,
            sha256: sconce_blob::Digest::of(name.as_bytes()),
            index: request.base.release.clone(),
        };
        Ok(DebianAnswer { debs: names.iter().map(deb).collect() })
    }
}
