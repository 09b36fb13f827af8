//! Libraries that are not there when a package is imported: which of them matter, and what brings them.

use sconce_inspect::names::{debian_name, debian_package, is_opened, pypi_package};

/// Those of a package that was imported which Debian may have: what it looked for of the driver and of CUDA's libraries
/// (TensorRT, say) it may well do without.
pub(super) fn that_debian_may_have(libraries: &[String]) -> Vec<String> {
    let may = |name: &&String| {
        pypi_package(name).is_none()
            && !is_opened(name)
            && sconce_facts::import_wants(name).is_none()
    };
    libraries.iter().filter(may).cloned().collect()
}

/// What to do where an import ended with glibc's words for a library that is not there (dlerror(3)).
pub(super) fn of_error(error: &str, libraries: &[String]) -> Option<String> {
    let (before, _) = error.split_once(": cannot open shared object file")?;
    let first = before.rsplit(' ').next().filter(|name| name.contains(".so"))?;
    let others: Vec<String> = libraries.iter().filter(|name| *name != first).cloned().collect();
    let mut all = vec![first.to_owned()];
    all.extend(others.iter().cloned());
    let more = match others.as_slice() {
        [] => String::new(),
        more => format!("; it lacks {} as well", more.join(", ")),
    };
    Some(more + &what_brings(&all))
}

/// How to get these libraries, as a person writes it in sconce.toml.
pub(super) fn what_brings(libraries: &[String]) -> String {
    let (mut known, mut ruled, mut wheels, mut unknown) = (vec![], vec![], vec![], vec![]);
    for library in libraries {
        match (debian_package(library), pypi_package(library), debian_name(library)) {
            (Some(package), ..) => known.push(format!("{package:?}")),
            // Torch is there: what wants another part of it is built for another one.
            (None, Some("torch"), _) => {}
            (None, Some(package), _) => wheels.push(format!("; {package} on PyPI has {library}")),
            (None, None, Some(package)) => ruled.push((library.as_str(), format!("{package:?}"))),
            (None, None, None) => unknown.push(library.as_str()),
        }
    }
    known.sort();
    known.dedup();
    let mut text = String::new();
    if !known.is_empty() {
        let brings = if known.len() == 1 { "brings it" } else { "brings them" };
        text.push_str(&format!("; `packages = [{}]` under [base] {brings}", known.join(", ")));
    }
    if !ruled.is_empty() {
        let (of, packages): (Vec<&str>, Vec<String>) = ruled.into_iter().unzip();
        let brings = if of.len() == 1 { "brings it" } else { "bring them" };
        text.push_str(&format!(
            "; if Debian has {}, {} under [base] packages {brings}",
            of.join(", "),
            packages.join(", ")
        ));
    }
    text.extend(wheels);
    if !unknown.is_empty() {
        let what = if libraries.len() == 1 { "it".to_owned() } else { unknown.join(", ") };
        text.push_str(&format!("; a Debian package that has {what} goes under [base] packages"));
    }
    text
}

/// Whether this can be the name of a library: what is shown of an answer.
pub(super) fn is_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.+".contains(c);
    name.len() < 80 && name.contains(".so") && name.chars().all(plain)
}
