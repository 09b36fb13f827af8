//! The one text of a lock.

use std::fmt::Write;

use sconce_blob::Digest;

use crate::document::{DebPin, Lock, PythonPin, Sealed, VERSION, Wheel};
use crate::source::{FIRST_RECIPE, OwnProject, Rebuilt, Source};
use crate::spec::Flavour;

/// The lines before the digest.
pub(crate) const HEADER: &str = "# What sconce.toml is, exactly. Written by `sconce lock`: change sconce.toml, not this file.\n";

pub(crate) fn text(lock: &Lock) -> String {
    let mut body = body(lock);
    if let Some(sealed) = &lock.sealed {
        seal(&mut body, sealed);
    }
    let (version, digest) = (version(lock), Digest::of(body.as_bytes()));
    format!("{HEADER}version = {version}\ndigest = \"{digest}\"\n{body}")
}

/// The lowest version that has all that is in this lock, so that older readers take what they can.
fn version(lock: &Lock) -> i64 {
    let facts = &lock.facts;
    let has_install = lock.app.install || lock.project.is_some();
    let has_more = !lock.sources.is_empty() || !facts.prefer.is_empty();
    match (&lock.inputs, facts.gpus.is_empty()) {
        _ if lock.sources.iter().any(|source| source.recipe != FIRST_RECIPE) => VERSION,
        _ if has_install || lock.python.is_some() => 5,
        _ if has_more || !lock.app.exclude.is_empty() => 4,
        _ if lock.wheels.iter().any(|wheel| wheel.variant.is_some()) => 4,
        (Some(_), _) => 3,
        (None, false) => 2,
        (None, true) => 1,
    }
}

pub(crate) fn unsealed_digest(lock: &Lock) -> Digest {
    Digest::of(body(lock).as_bytes())
}

fn body(lock: &Lock) -> String {
    let mut out = Text::default();
    out.string("spec", &lock.spec.to_string());
    if let Some(inputs) = &lock.inputs {
        out.section("[inputs]");
        out.string("wheels", &inputs.wheels.to_string());
        out.string("debs", &inputs.debs.to_string());
    }

    out.section("[environment]");
    let facts = &lock.facts;
    out.string("platform", facts.machine.as_str());
    out.string("base", &facts.base);
    out.string("python", &facts.python);
    out.string("glibc", &facts.glibc);
    out.string("flavour", facts.flavour.as_str());
    out.line("bytecode", facts.bytecode);
    if !facts.gpus.is_empty() {
        out.list("gpus", facts.gpus.iter().map(ToString::to_string));
    }
    if !facts.prefer.is_empty() {
        out.list("prefer", facts.prefer.iter());
    }

    if let Some(python) = &lock.python {
        python_rows(&mut out, python);
    }
    if let Some(torch) = &facts.torch {
        out.section("[torch]");
        out.string("version", &torch.version);
        out.optional("cuda", torch.cuda.map(|cuda| cuda.to_string()).as_deref());
        out.optional("driver", torch.driver.as_ref().map(|driver| driver.as_str()));
        out.list("architectures", torch.architectures.iter().map(ToString::to_string));
        out.optional("cudnn", torch.cudnn.as_deref());
        out.optional("nccl", torch.nccl.as_deref());
        out.optional("triton", torch.triton.as_deref());
    }

    out.section("[app]");
    out.list("include", lock.app.include.iter());
    if !lock.app.exclude.is_empty() {
        out.list("exclude", lock.app.exclude.iter());
    }
    if lock.app.install {
        out.line("install", true);
    }
    out.string("workdir", &lock.app.workdir);
    out.list("command", lock.app.command.iter());
    let env =
        lock.app.env.iter().map(|(name, value)| format!("{} = {}", quoted(name), quoted(value)));
    let env: Vec<_> = env.collect();
    out.line(
        "env",
        if env.is_empty() { "{}".to_owned() } else { format!("{{ {} }}", env.join(", ")) },
    );

    for index in &lock.indexes {
        out.section("[[index]]");
        out.string("name", &index.name);
        out.string("kind", index.kind.as_str());
        out.optional("url", index.url.as_deref());
    }
    for wheel in &lock.wheels {
        wheel_rows(&mut out, "[[wheel]]", wheel);
    }
    for source in &lock.sources {
        source_rows(&mut out, source, lock);
    }
    if let Some(project) = &lock.project {
        project_rows(&mut out, project, lock);
    }
    for deb in &lock.debs {
        deb_rows(&mut out, "[[deb]]", deb);
    }
    for deb in &lock.build_debs {
        deb_rows(&mut out, "[[build-deb]]", deb);
    }
    out.0
}

fn python_rows(out: &mut Text, python: &PythonPin) {
    out.section("[python]");
    out.string("version", &python.version);
    out.optional("build", python.build.as_deref());
    out.string("file", &python.file);
    if let Some(size) = python.size {
        out.line("size", size);
    }
    out.string("sha256", &python.sha256.hex());
    out.optional("url", python.url.as_deref());
}

fn source_rows(out: &mut Text, source: &Source, lock: &Lock) {
    out.section("[[source]]");
    out.string("name", &source.name);
    out.string("file", &source.file);
    if let Some(size) = source.size {
        out.line("size", size);
    }
    out.string("sha256", &source.sha256.hex());
    out.string("index", &source.index);
    container_keys(out, source.flavour, &source.architectures);
    if source.recipe != FIRST_RECIPE {
        out.line("recipe", source.recipe);
    }
    out.optional("rebuilt", source.rebuilt.map(Rebuilt::as_str));
    container_wheels(out, "[[source.wheel]]", &source.wheels, lock);
}

fn project_rows(out: &mut Text, project: &OwnProject, lock: &Lock) {
    out.section("[project]");
    out.string("name", &project.name);
    out.list("requires", project.requires.iter());
    container_keys(out, project.flavour, &project.architectures);
    container_wheels(out, "[[project.wheel]]", &project.wheels, lock);
}

fn container_keys(out: &mut Text, flavour: Flavour, architectures: &[String]) {
    out.string("flavour", flavour.as_str());
    if !architectures.is_empty() {
        out.list("architectures", architectures.iter());
    }
}

/// The wheels of a container: by name those that are the image's own.
fn container_wheels(out: &mut Text, section: &str, wheels: &[Wheel], lock: &Lock) {
    let (shared, own): (Vec<&Wheel>, Vec<&Wheel>) =
        wheels.iter().partition(|wheel| lock.wheel(&wheel.name) == Some(*wheel));
    out.list("with", shared.iter().map(|wheel| &wheel.name));
    for wheel in own {
        wheel_rows(out, section, wheel);
    }
}

fn wheel_rows(out: &mut Text, section: &str, wheel: &Wheel) {
    out.section(section);
    out.string("name", &wheel.name);
    out.string("version", &wheel.version);
    out.string("file", &wheel.file);
    if let Some(size) = wheel.size {
        out.line("size", size);
    }
    out.string("sha256", &wheel.sha256.hex());
    out.string("index", &wheel.index);
    out.optional("url", wheel.url.as_deref());
    out.optional("variant", wheel.variant.as_deref());
}

fn deb_rows(out: &mut Text, section: &str, deb: &DebPin) {
    out.section(section);
    out.string("name", &deb.name);
    out.string("version", &deb.version);
    out.string("arch", &deb.arch);
    out.string("path", &deb.path);
    out.line("size", deb.size);
    out.string("sha256", &deb.sha256.hex());
    out.string("index", &deb.index);
}

fn seal(body: &mut String, sealed: &Sealed) {
    let mut out = Text(std::mem::take(body));
    out.section("[sealed]");
    out.string("image", &sealed.image.to_string());
    for layer in &sealed.layers {
        out.section("[[sealed.layer]]");
        out.string("name", &layer.name);
        out.string("diff_id", &layer.diff_id.to_string());
        out.string("digest", &layer.digest.to_string());
        out.line("size", layer.size);
    }
    *body = out.0;
}

#[derive(Default)]
struct Text(String);

impl Text {
    fn line(&mut self, key: &str, value: impl std::fmt::Display) {
        let _ = writeln!(self.0, "{key} = {value}");
    }

    fn section(&mut self, name: &str) {
        let _ = writeln!(self.0, "\n{name}");
    }

    fn string(&mut self, key: &str, value: &str) {
        self.line(key, quoted(value));
    }

    fn optional(&mut self, key: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.string(key, value);
        }
    }

    fn list(&mut self, key: &str, values: impl Iterator<Item = impl AsRef<str>>) {
        let values: Vec<_> = values.map(|value| quoted(value.as_ref())).collect();
        self.line(key, format!("[{}]", values.join(", ")));
    }
}

/// A TOML basic string: `"`, `\` and control characters escaped, the rest as it is.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() => {
                let _ = write!(out, "\\u{:04X}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
