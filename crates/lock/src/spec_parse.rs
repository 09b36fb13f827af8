//! Reading `sconce.toml`, with the place and the nearest right spelling of whatever is wrong.

mod values;

use std::ops::Range;

use sconce_facts::nearest;
use toml_edit::{Document, Item, TableLike};

pub(crate) use self::values::torch_versions;
use crate::error::{Error, Place};
use crate::local;
use crate::spec::{Flavour, Spec};
use crate::spec_keys::{KEYS, SECTIONS};

/// `run.network`; the host's is the default.
const NETWORKS: [(&str, Option<&str>); 3] =
    [("host", None), ("none", Some("none")), ("private", Some("private"))];

pub(crate) fn parse(text: &str) -> Result<Spec, Error> {
    let document = Document::parse(text).map_err(|error| Error::Spec {
        place: Place::at(text, error.span().map_or(0, |span| span.start)),
        message: error.message().trim().replace('\n', "; "),
        hint: None,
    })?;
    let reader = Reader { text };
    let mut spec = Spec::default();
    for (section, item) in document.as_table() {
        let span = document.as_table().key(section).and_then(|key| key.span());
        if !SECTIONS.iter().any(|(name, _)| *name == section) {
            return Err(reader.unknown_section(section, span));
        }
        let Some(table) = item.as_table_like() else {
            return Err(reader.wrong(item.span(), section, "a table"));
        };
        for (name, item) in table.iter() {
            let key = reader.known_key(section, name, table)?;
            if item.is_none() {
                continue;
            }
            Field { reader: &reader, key, span: item.span(), item }.put(&mut spec)?;
        }
    }
    local::take(&mut spec.environment)?;
    Ok(spec)
}

struct Reader<'a> {
    text: &'a str,
}

impl Reader<'_> {
    fn error(&self, span: Option<Range<usize>>, message: String, hint: Option<String>) -> Error {
        Error::Spec {
            place: Place::at(self.text, span.map_or(0, |span| span.start)),
            message,
            hint,
        }
    }

    fn wrong(&self, span: Option<Range<usize>>, what: &str, expected: &str) -> Error {
        self.error(span, format!("`{what}` must be {expected}"), None)
    }

    fn unknown_section(&self, name: &str, span: Option<Range<usize>>) -> Error {
        let homes: Vec<_> = KEYS.iter().filter(|key| key.name == name).map(|k| k.section).collect();
        let hint = match homes.as_slice() {
            [section] => Some(format!("`{name}` belongs under [{section}]")),
            _ => nearest(name, SECTIONS.iter().map(|(name, _)| *name))
                .map(|near| format!("did you mean [{near}]?")),
        };
        self.error(span, format!("unknown section or key `{}`", cut(name)), hint)
    }

    /// `section.name` of a known key, for messages.
    fn known_key(
        &self,
        section: &str,
        name: &str,
        table: &dyn TableLike,
    ) -> Result<(&'static str, &'static str), Error> {
        if let Some(key) = KEYS.iter().find(|key| key.section == section && key.name == name) {
            return Ok((key.section, key.name));
        }
        let span = table.key(name).and_then(|key| key.span());
        let here = KEYS.iter().filter(|key| key.section == section).map(|key| key.name);
        let called = CALLED.iter().find(|row| row.0 == section && row.1 == name);
        let hint = match (called, KEYS.iter().find(|key| key.name == name)) {
            (Some((_, _, ours)), _) => Some((*ours).to_owned()),
            (None, Some(key)) => Some(format!("`{name}` belongs under [{}]", key.section)),
            (None, None) => nearest(name, here).map(|near| format!("did you mean `{near}`?")),
        };
        Err(self.error(span, format!("unknown key `{}` in [{section}]", cut(name)), hint))
    }
}

/// What other tools call a key of ours: section, their word, what to write.
const CALLED: &[(&str, &str, &str)] = &[
    (
        "environment",
        "packages",
        "Python packages are `requirements` here; `packages` under [base] are Debian's",
    ),
    ("environment", "dependencies", "Python packages are `requirements` here"),
];

/// One key's value on its way into the specification.
struct Field<'a> {
    reader: &'a Reader<'a>,
    key: (&'static str, &'static str),
    span: Option<Range<usize>>,
    item: &'a Item,
}

impl Field<'_> {
    fn put(&self, spec: &mut Spec) -> Result<(), Error> {
        let environment = &mut spec.environment;
        match self.key {
            ("environment", "torch") => {
                let (torch, cuda) = self.torch()?;
                environment.torch = torch;
                if let Some(cuda) = cuda {
                    self.cuda_of_version(environment, cuda)?;
                }
            }
            ("environment", "gpus") => environment.gpus = self.gpus()?,
            ("environment", "driver") => environment.driver = self.driver()?,
            ("environment", "cuda") => {
                let cuda = self.cuda()?;
                self.cuda_of_version(environment, cuda)?;
            }
            ("environment", "python") => environment.python = self.python()?,
            ("environment", "platform") => {
                environment.platform = match self.auto()? {
                    Some(text) => Some(text.parse().map_err(|e| self.because(&e))?),
                    None => None,
                };
            }
            ("environment", "requirements") => environment.requirements = self.requirements()?,
            ("environment", "extras") => environment.extras = self.strings()?,
            ("environment", "groups") => environment.groups = self.strings()?,
            ("environment", "from-source") => environment.from_source = self.sources()?,
            ("environment", "exclude") => environment.exclude = self.exclude()?,
            ("environment", "prefer") => environment.prefer = self.packages()?,
            ("environment", "indexes") => environment.indexes = self.indexes()?,
            ("environment", "flavour") => {
                environment.flavour = self.one_of(&[
                    (Flavour::Runtime.as_str(), Flavour::Runtime),
                    (Flavour::Devel.as_str(), Flavour::Devel),
                ])?;
            }
            ("environment", "bytecode") => environment.bytecode = self.bool()?,
            ("base", "debian") => {
                spec.base.debian = self.auto()?;
                if let Some(release) = &spec.base.debian {
                    sconce_facts::base(release).map_err(|error| self.because(&error))?;
                }
            }
            ("base", "packages") => spec.base.packages = self.strings()?,
            ("base", "mirror") => spec.base.mirror = self.auto()?,
            ("base", "allow-missing") => spec.base.allow_missing = self.strings()?,
            ("image", "name") => spec.image.name = self.image_name()?,
            ("app", "include") => spec.app.include = self.strings()?,
            ("app", "exclude") => spec.app.exclude = self.strings()?,
            ("app", "install") => spec.app.install = self.bool()?,
            ("app", "workdir") => spec.app.workdir = self.workdir()?,
            ("app", "command") => spec.app.command = self.command()?,
            ("app", "env") => spec.app.env = self.variables()?,
            ("run", "gpus") => spec.run.gpus = self.run_gpus()?,
            ("run", "shm") => spec.run.shm = self.auto()?,
            ("run", "ports") => spec.run.ports = self.strings()?,
            ("run", "volumes") => spec.run.volumes = self.strings()?,
            ("run", "tmpfs") => spec.run.tmpfs = self.strings()?,
            ("run", "devices") => spec.run.devices = self.strings()?,
            ("run", "env") => spec.run.env = self.variables()?,
            ("run", "user") => spec.run.user = self.auto()?,
            ("run", "workdir") => spec.run.workdir = self.auto()?,
            ("run", "network") => {
                spec.run.network = self.one_of(&NETWORKS)?.map(str::to_owned);
            }
            ("run", "hostname") => spec.run.hostname = self.auto()?,
            ("run", "memory") => spec.run.memory = self.auto()?,
            ("run", "cpus") => spec.run.cpus = self.auto()?,
            ("run", "ulimits") => spec.run.ulimits = self.strings()?,
            ("run", "read-only") => spec.run.read_only = self.bool()?,
            ("run", "import-check") => spec.run.no_import_check = !self.bool()?,
            ("launch", "nodes") => spec.launch.nodes = self.number(1, 4096)?,
            ("launch", "hosts") => spec.launch.hosts = self.strings()?,
            ("launch", "gpus-per-node") => spec.launch.gpus_per_node = self.number(0, 1024)?,
            ("launch", "command") => spec.launch.command = self.words()?,
            ("launch", "port") => {
                let port = self.number(1, u16::MAX.into())?;
                spec.launch.port = port.and_then(|port| u16::try_from(port).ok());
            }
            ("launch", "restarts") => {
                spec.launch.restarts = self.number(0, 1000)?.unwrap_or_default();
            }
            ("launch", "preflight") => spec.launch.preflight = self.auto()?,
            ("launch", "spares") => {
                spec.launch.spares = self.number(0, 4096)?.unwrap_or_default();
            }
            ("launch", "time-limit") => spec.launch.time_limit = self.auto()?,
            ("launch", "hang-after") => {
                // The default is the launcher's: the file that says it says nothing.
                let given = self.string()?;
                spec.launch.hang_after = (given != "10m").then(|| given.to_owned());
            }
            ("launch", "env") => spec.launch.env = self.variables()?,
            ("launch", "evidence") => {
                let given = self.below()?;
                spec.launch.evidence = (given != "launches").then_some(given);
            }
            // A row of KEYS without a line here: the template's test reads every key and fails.
            _ => return Err(self.must_be("left out: this sconce does not read it")),
        }
        Ok(())
    }
}

fn cut(text: &str) -> String {
    text.chars().take(80).collect()
}
