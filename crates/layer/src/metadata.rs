//! The small text files in `*.dist-info`: WHEEL, METADATA and entry_points.txt.

use crate::record::cut;

/// What is wrong with one of them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum MetadataFault {
    #[error("the file name is not `name-version(-build)-python-abi-platform.whl`")]
    FileName,
    #[error("the wheel has no such file, or more than one")]
    Missing,
    #[error("it is larger than {0} bytes")]
    TooLarge(u64),
    #[error("it is not UTF-8")]
    Encoding,
    #[error("it has no `{0}`")]
    NoField(&'static str),
    #[error("it is of wheel format `{0}`; version 1 is known")]
    Format(String),
    #[error("it describes `{found}`, not `{expected}`")]
    OtherName {
        /// What it says.
        found: String,
        /// What the file is called.
        expected: String,
    },
    #[error("the folder `{0}` is not a part of the wheel format")]
    Scheme(String),
    #[error("line {line}: `{text}` is not `name = module:function`")]
    EntryPoint {
        /// Which line, from 1.
        line: usize,
        /// The line.
        text: String,
    },
}

/// The first value of a header (RFC 822 as METADATA and WHEEL use it), names in any case.
pub fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines()
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.split_once(':'))
        .find(|(key, _)| key.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.trim())
}

/// A project's name as indexes compare it (PyPA, "Names and normalization").
pub fn normalized(name: &str) -> String {
    let parts: Vec<_> = name.split(['-', '_', '.']).filter(|part| !part.is_empty()).collect();
    parts.join("-").to_ascii_lowercase()
}

/// A command that a wheel brings: calls `module:function`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryPoint {
    /// The command.
    pub name: String,
    /// Where the function is.
    pub module: String,
    /// The function, perhaps of a class: dots allowed.
    pub function: String,
}

impl EntryPoint {
    /// The script that is installed for it, run by the interpreter at `python`.
    pub fn script(&self, python: &str) -> String {
        let Self { module, function, .. } = self;
        let import = function.split('.').next().unwrap_or(function);
        format!(
            "#!{python}\nimport sys\n\nfrom {module} import {import}\n\n\
             if __name__ == \"__main__\":\n    sys.exit({function}())\n"
        )
    }
}

/// The console and gui scripts of an entry_points.txt (PyPA, "Entry points specification").
pub fn entry_points(text: &str) -> Result<Vec<EntryPoint>, MetadataFault> {
    let mut points: Vec<EntryPoint> = Vec::new();
    let mut scripts = false;
    for (number, raw) in text.lines().enumerate() {
        let line = raw.trim();
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        if let Some(section) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            scripts = matches!(section.trim(), "console_scripts" | "gui_scripts");
            continue;
        }
        if !scripts {
            continue;
        }
        let point = entry_point(line)
            .ok_or_else(|| MetadataFault::EntryPoint { line: number + 1, text: cut(line) })?;
        points.retain(|other| other.name != point.name);
        points.push(point);
    }
    points.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(points)
}

/// `name = module:function [extra]`. What ends up in a script must be identifiers and dots.
fn entry_point(line: &str) -> Option<EntryPoint> {
    let (name, object) = line.split_once('=')?;
    let object = object.split('[').next()?;
    let (module, function) = object.split_once(':')?;
    let [name, module, function] = [name, module, function].map(str::trim);
    let identifier = |part: &str| {
        let mut chars = part.chars();
        chars.next().is_some_and(|first| first == '_' || first.is_alphabetic())
            && chars.all(|c| c == '_' || c.is_alphanumeric())
    };
    let plain = !name.is_empty()
        && !name.starts_with(['.', '-'])
        && name.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '+'));
    (plain && module.split('.').all(identifier) && function.split('.').all(identifier)).then(|| {
        EntryPoint {
            name: name.to_owned(),
            module: module.to_owned(),
            function: function.to_owned(),
        }
    })
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn script_of_an_entry_point() {
        let text = "[console_scripts]\ntorchrun = torch.distributed.run:Main.go [x]\n\n[other]\n!=";
        let points = entry_points(text).unwrap();
        expect![[r##"
            #!/opt/venv/bin/python
            import sys

            from torch.distributed.run import Main

            if __name__ == "__main__":
                sys.exit(Main.go())
        "##]]
        .assert_eq(&points[0].script("/opt/venv/bin/python"));
        assert_eq!(points.len(), 1);
    }

    #[test]
    fn what_could_become_code_or_leave_bin_is_refused() {
        for line in [
            "../x = a:b",
            "x = a;import os:b",
            "x = a:b()",
            "x = a",
            ".. = a:b",
            "x=:b",
            "a/b = c:d",
            "x = a..b:c",
        ] {
            let error = entry_points(&format!("[gui_scripts]\n{line}")).unwrap_err();
            assert!(matches!(error, MetadataFault::EntryPoint { line: 2, .. }), "{line}");
        }
    }

    #[test]
    fn names_compare_as_indexes_do() {
        assert_eq!(normalized("Foo_.-Bar"), "foo-bar");
        let text = "Metadata-Version: 2.1\nname:  Foo \n\nName: Body\n";
        assert_eq!(field(text, "Name"), Some("Foo"));
        assert_eq!(field(text, "Version"), None);
    }
}
