//! What the value of a key of `sconce.toml` says, by the kinds of values there are.

use std::collections::BTreeMap;
use std::path::Path;

use pep440_rs::{Version, VersionSpecifiers};
use sconce_facts::{CudaVersion, nearest};
use sconce_oci::name::{check_image_name, meaning};
use toml_edit::{Item, TableLike, Value};

use super::{Field, cut};
use crate::error::{Error, NO_BUILDS, Place};
use crate::local;
use crate::place::is_place;
use crate::python::there_is;
use crate::requirements::{RequirementsFile, check_requirement, other_tool};
use crate::requirements_txt::checked;
use crate::source::SOURCE;
use crate::spec::{
    CudaRequest, DriverRequest, Environment, GpuRequest, IndexRequest, Requirements, TorchRequest,
};
use crate::wheel_name::normalise;

impl Field<'_> {
    pub(super) fn must_be(&self, expected: &str) -> Error {
        self.reader.wrong(self.span.clone(), self.key.1, expected)
    }

    pub(super) fn because(&self, error: &dyn std::error::Error) -> Error {
        self.reader.error(self.span.clone(), format!("`{}`: {error}", self.key.1), None)
    }

    /// A string of one line: what is said of it is one as well.
    pub(super) fn string(&self) -> Result<&str, Error> {
        match self.item.as_str().ok_or_else(|| self.must_be("a string"))? {
            text if text.contains(char::is_control) => {
                Err(self.must_be("a string without control characters"))
            }
            text => Ok(text),
        }
    }

    pub(super) fn bool(&self) -> Result<bool, Error> {
        self.item.as_bool().ok_or_else(|| self.must_be("true or false"))
    }

    /// A string; "auto" is none.
    pub(super) fn auto(&self) -> Result<Option<String>, Error> {
        let text = self.string()?;
        Ok((text != "auto").then(|| text.to_owned()))
    }

    /// Strings of one line each.
    pub(super) fn strings(&self) -> Result<Vec<String>, Error> {
        match self.words()? {
            texts if texts.iter().any(|text| text.contains(char::is_control)) => {
                Err(self.must_be("a list of strings without control characters"))
            }
            texts => Ok(texts),
        }
    }

    /// The words of a command, which may be whole scripts.
    pub(super) fn words(&self) -> Result<Vec<String>, Error> {
        let expected = "a list of strings";
        let array = self.item.as_array().ok_or_else(|| self.must_be(expected))?;
        let text = |value: &Value| value.as_str().map(str::to_owned);
        array.iter().map(text).collect::<Option<_>>().ok_or_else(|| self.must_be(expected))
    }

    /// Names of Python packages, normalised.
    pub(super) fn packages(&self) -> Result<Vec<String>, Error> {
        let names = self.strings()?;
        let part = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        let ends = |c: char| c.is_ascii_alphanumeric();
        let is_name =
            |name: &str| name.starts_with(ends) && name.ends_with(ends) && name.chars().all(part);
        match names.iter().find(|name| !is_name(name)) {
            None => Ok(names.iter().map(|name| normalise(name)).collect()),
            Some(_) => Err(self.must_be("a list of package names, without versions")),
        }
    }

    pub(super) fn exclude(&self) -> Result<Vec<String>, Error> {
        let names = self.packages()?;
        if names.iter().any(|name| name == "torch") {
            let message = "`exclude` has torch".to_owned();
            let hint = "`torch = false` is an environment without torch".to_owned();
            return Err(self.reader.error(self.span.clone(), message, Some(hint)));
        }
        Ok(names)
    }

    pub(super) fn variables(&self) -> Result<BTreeMap<String, String>, Error> {
        let table = self.item.as_table_like();
        let mut variables = BTreeMap::new();
        for (name, item) in table.ok_or_else(|| self.must_be("a table of strings"))?.iter() {
            let text = item.as_str().ok_or_else(|| self.must_be("a table of strings"))?;
            let nameless = name.is_empty() || name.contains('=') || name.contains(char::is_control);
            if nameless || text.contains('\0') {
                return Err(self.must_be("a table of names without `=` and values"));
            }
            variables.insert(name.to_owned(), text.to_owned());
        }
        Ok(variables)
    }

    pub(super) fn one_of<T: Copy>(&self, values: &[(&str, T)]) -> Result<T, Error> {
        let text = self.string()?;
        if let Some((_, value)) = values.iter().find(|(name, _)| *name == text) {
            return Ok(*value);
        }
        let names: Vec<_> = values.iter().map(|(name, _)| format!("\"{name}\"")).collect();
        let hint = nearest(text, values.iter().map(|(name, _)| *name))
            .map(|near| format!("did you mean \"{near}\"?"));
        let message =
            format!("`{}` must be {}, not \"{}\"", self.key.1, names.join(" or "), cut(text));
        Err(self.reader.error(self.span.clone(), message, hint))
    }

    /// `torch = "2.3.1+cu121"` and `cuda` say the same, or one of them is wrong.
    pub(super) fn cuda_of_version(
        &self,
        environment: &mut Environment,
        cuda: CudaRequest,
    ) -> Result<(), Error> {
        if cuda == CudaRequest::Auto {
            return Ok(());
        }
        local::ask_for_cuda(environment, cuda, self.item.as_str().unwrap_or_default())
            .map_err(|error| self.reader.error(self.span.clone(), error.to_string(), error.hint()))
    }

    /// A version may name its CUDA: `2.3.1+cu121`.
    pub(super) fn torch(&self) -> Result<(TorchRequest, Option<CudaRequest>), Error> {
        match self.item.as_bool() {
            Some(true) => return Ok((TorchRequest::Newest, None)),
            Some(false) => return Ok((TorchRequest::None, None)),
            None => {}
        }
        let expected = "a version (\"2.9.1\"), a range (\">=2.8,<2.12\"), \"newest\" or false";
        let text = self.item.as_str().ok_or_else(|| self.must_be(expected))?;
        match text {
            "newest" | "latest" | "auto" => Ok((TorchRequest::Newest, None)),
            text => {
                let (text, cuda) = match local::split(text.trim_start_matches('=')) {
                    Some((public, cuda)) => (public, Some(cuda)),
                    None => (text, None),
                };
                let versions = torch_versions(text).ok_or_else(|| self.must_be(expected))?;
                Ok((TorchRequest::Versions(versions), cuda))
            }
        }
    }

    pub(super) fn gpus(&self) -> Result<GpuRequest, Error> {
        let names = match self.item.as_str() {
            Some(name) => vec![name.to_owned()],
            None => self.strings()?,
        };
        match names.as_slice() {
            [] => Ok(GpuRequest::Any),
            [name] if name == "any" || name == "auto" => Ok(GpuRequest::Any),
            [name] if name == "host" => Ok(GpuRequest::Host),
            _ => {
                for name in &names {
                    crate::candidate::wanted_gpu(name).map_err(|error| self.because(&error))?;
                }
                Ok(GpuRequest::Named(names))
            }
        }
    }

    pub(super) fn driver(&self) -> Result<DriverRequest, Error> {
        match self.string()? {
            "auto" | "host" => Ok(DriverRequest::Auto),
            "any" | "none" => Ok(DriverRequest::Any),
            text => Ok(DriverRequest::Version(text.parse().map_err(|e| self.because(&e))?)),
        }
    }

    pub(super) fn cuda(&self) -> Result<CudaRequest, Error> {
        match self.string()? {
            "auto" => Ok(CudaRequest::Auto),
            "cpu" | "none" => Ok(CudaRequest::Cpu),
            text => match text.parse::<u16>() {
                Ok(major) => Ok(CudaRequest::Version { major, minor: None }),
                Err(_) => {
                    let CudaVersion { major, minor } =
                        text.parse().map_err(|e| self.because(&e))?;
                    Ok(CudaRequest::Version { major, minor: Some(minor) })
                }
            },
        }
    }

    pub(super) fn python(&self) -> Result<Option<String>, Error> {
        let Some(text) = self.auto()? else { return Ok(None) };
        if sconce_facts::pythons().contains(&text.as_str()) {
            return Ok(Some(text));
        }
        let message = format!("`python`: there is no Python {} for images", cut(&text));
        Err(self.reader.error(self.span.clone(), message, Some(there_is())))
    }

    pub(super) fn requirements(&self) -> Result<Requirements, Error> {
        let Some(path) = self.item.as_str() else {
            let list = self.strings()?;
            let named: Vec<bool> = list.iter().map(|item| names_a_file(item)).collect();
            for (line, named) in list.iter().zip(&named) {
                if line.starts_with('-') {
                    if *named {
                        continue;
                    }
                    let message = format!("`{}`: only -r and -c stand in this list", cut(line));
                    let hint = "`indexes` names where packages come from".to_owned();
                    return Err(self.reader.error(self.span.clone(), message, Some(hint)));
                }
                checked(line, Path::new("")).map_err(|(why, builds)| {
                    let message = format!("`{}`: {why}", cut(line));
                    let hint = builds.then(|| NO_BUILDS.to_owned());
                    self.reader.error(self.span.clone(), message, hint)
                })?;
                if !*named {
                    check_requirement(line).map_err(|message| {
                        let message = format!("`{}`: {message}", cut(line));
                        self.reader.error(self.span.clone(), message, None)
                    })?;
                }
            }
            if named.contains(&true) {
                let lines = self.lines();
                let items = lines.into_iter().zip(list).collect();
                return Ok(Requirements::File(RequirementsFile::of_list(items)));
            }
            return Ok(Requirements::List(list));
        };
        let expected = "a list, or a path of requirements.txt, pylock.toml, uv.lock, pyproject.toml or environment.yml";
        RequirementsFile::new(path).map(Requirements::File).ok_or_else(|| match other_tool(path) {
            Some(way) => {
                let message = format!("`requirements`: {} is not read here", cut(path));
                self.reader.error(self.span.clone(), message, Some(way.to_owned()))
            }
            None => self.must_be(expected),
        })
    }

    /// Names of packages. torch has its own key, and comes as a wheel.
    pub(super) fn sources(&self) -> Result<Vec<String>, Error> {
        let mut names = Vec::new();
        for name in self.strings()? {
            let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
            let normal = normalise(&name);
            if name.is_empty() || !name.chars().all(plain) || normal == "torch" {
                return Err(self.must_be(
                    "a list of package names ([\"deepspeed\"]); versions stand in `requirements`, and torch is never built",
                ));
            }
            names.push(normal);
        }
        names.sort();
        names.dedup();
        Ok(names)
    }

    /// The line that each value of a list begins at.
    pub(super) fn lines(&self) -> Vec<usize> {
        let values = self.item.as_array().into_iter().flat_map(|array| array.iter());
        let at = |value: &Value| value.span().or_else(|| self.span.clone()).map_or(0, |s| s.start);
        values.map(|value| Place::at(self.reader.text, at(value)).line).collect()
    }

    pub(super) fn indexes(&self) -> Result<Vec<IndexRequest>, Error> {
        let expected = "a list of { name = \"…\", url = \"…\" }";
        let tables: Vec<&dyn TableLike> =
            match (self.item.as_array(), self.item.as_array_of_tables()) {
                (Some(array), _) => array
                    .iter()
                    .map(|value| value.as_inline_table().map(|table| table as &dyn TableLike))
                    .collect::<Option<_>>()
                    .ok_or_else(|| self.must_be(expected))?,
                (_, Some(tables)) => tables.iter().map(|table| table as &dyn TableLike).collect(),
                _ => return Err(self.must_be(expected)),
            };
        let mut indexes: Vec<IndexRequest> = Vec::new();
        for table in tables {
            let text = |key: &str| table.get(key).and_then(Item::as_str).map(str::to_owned);
            let (Some(name), Some(url), 2) = (text("name"), text("url"), table.len()) else {
                return Err(self.must_be(expected));
            };
            let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
            let ours = ["pypi", SOURCE].contains(&name.as_str());
            if name.is_empty() || !name.chars().all(plain) || ours {
                return Err(self.must_be(
                    "named with a-z, 0-9 and `-`, and not `pypi`, the default one, or `source`",
                ));
            }
            if indexes.iter().any(|index| index.name == name) {
                return Err(self.must_be("a list with a name for each index of its own"));
            }
            if url.contains(char::is_control) {
                return Err(self.must_be("a list of addresses without control characters"));
            }
            indexes.push(IndexRequest { name, url });
        }
        Ok(indexes)
    }

    pub(super) fn image_name(&self) -> Result<Option<String>, Error> {
        let name = self.auto()?;
        let Some(text) = name.as_deref() else { return Ok(name) };
        match (meaning(text), check_image_name(text)) {
            (Some(means), _) => {
                Err(self.must_be(&format!("a name, such as \"demo\" or \"lab/demo:1.2\": this is {means}")))
            }
            (None, Err(_)) => Err(self.must_be(
                "a name that engines take, lower case and without blanks: \"demo\", \"lab/demo:1.2\"",
            )),
            (None, Ok(())) => Ok(name),
        }
    }

    pub(super) fn workdir(&self) -> Result<String, Error> {
        let text = self.string()?;
        if !text.starts_with('/') || text.split('/').any(|part| part == ".." || part == ".") {
            return Err(self.must_be("an absolute path without `..`"));
        }
        Ok(text.to_owned())
    }

    /// A whole number in this range; "auto" is none.
    pub(super) fn number(&self, least: u32, most: u32) -> Result<Option<u32>, Error> {
        if self.item.as_str() == Some("auto") {
            return Ok(None);
        }
        let number = self.item.as_integer().and_then(|number| u32::try_from(number).ok());
        let number = number.filter(|number| (least..=most).contains(number));
        number.map(Some).ok_or_else(|| self.must_be(&format!("a number from {least} to {most}")))
    }

    /// A folder below the project's.
    pub(super) fn below(&self) -> Result<String, Error> {
        let text = self.string()?;
        let plain = |part: &str| !part.is_empty() && part != ".." && part != ".";
        if !text.split('/').all(plain) || text.contains(['\0', ':']) {
            return Err(self.must_be("a folder below this one, as in `launches`"));
        }
        Ok(text.to_owned())
    }

    /// A list, or one string for the shell.
    pub(super) fn command(&self) -> Result<Vec<String>, Error> {
        match self.item.as_str() {
            Some(line) => Ok(["/bin/sh", "-c", line].map(str::to_owned).to_vec()),
            None => self.words(),
        }
    }

    pub(super) fn run_gpus(&self) -> Result<Option<String>, Error> {
        if self.item.as_str().is_some() {
            return self.auto();
        }
        let expected = "\"all\", \"none\", \"auto\", or a list of indexes and UUIDs";
        let array = self.item.as_array().ok_or_else(|| self.must_be(expected))?;
        let one = |value: &Value| match (value.as_integer(), value.as_str()) {
            (Some(index), _) if index >= 0 => Some(index.to_string()),
            (_, Some(uuid)) => Some(uuid.to_owned()),
            _ => None,
        };
        let devices: Option<Vec<_>> = array.iter().map(one).collect();
        let devices = devices.ok_or_else(|| self.must_be(expected))?;
        Ok(Some(if devices.is_empty() { "none".to_owned() } else { devices.join(",") }))
    }
}

/// Whether an item of a list of requirements names a file or folder: it is read from the folder of sconce.toml.
fn names_a_file(item: &str) -> bool {
    let options = ["-r", "-c", "--requirement", "--constraint"];
    let option = |name: &&str| {
        item.strip_prefix(*name).is_some_and(|rest| rest.starts_with([' ', '=', '\t']))
    };
    let target = item.split_once('@').map_or(item, |(_, target)| target.trim());
    options.iter().any(option) || (!item.starts_with('-') && is_place(target))
}

/// The versions that `torch = "…"` stands for: "2.15.0" is that one, "2.15" any of it, else PEP 440.
pub(crate) fn torch_versions(text: &str) -> Option<VersionSpecifiers> {
    let text = text.trim();
    if text.starts_with(|c: char| c.is_ascii_digit()) {
        let version: Version = text.parse().ok()?;
        let whole = version.release().len() >= 3 || !version.is_stable();
        return format!("=={text}{}", if whole { "" } else { ".*" }).parse().ok();
    }
    text.parse().ok().filter(|specifiers: &VersionSpecifiers| !specifiers.is_empty())
}
