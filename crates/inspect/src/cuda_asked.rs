//! For which CUDA the packages of an environment are: those of NVIDIA that are installed, or that others ask for, belong to one.

use std::collections::BTreeSet;

use crate::names;
use crate::packages::markers::{Place, Requirement};
use crate::packages::{Contents, Origin, Package};

/// The CUDA majors that fit all that packages say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CudaAsked {
    /// Not empty.
    pub majors: BTreeSet<u16>,
    /// The first package that says so: `x 1.0 asks for nvidia-cublas-cu13`.
    pub who: String,
}

/// What packages say of the CUDA they want; nothing where none says it, or they contradict each other.
pub fn of(contents: &Contents, machine: &str) -> Option<CudaAsked> {
    let place = Place { python: contents.python.clone(), machine: machine.to_owned() };
    let all: BTreeSet<u16> = sconce_facts::floors().iter().map(|floor| floor.major).collect();
    let (mut majors, mut who) = (all.clone(), None);
    let python = contents.packages.iter().filter(|package| package.origin == Origin::Python);
    for (said, allowed) in python.flat_map(|package| says(package, &place, &all)) {
        if allowed.len() < all.len() {
            majors.retain(|major| allowed.contains(major));
            who.get_or_insert(said);
        }
    }
    who.filter(|_| !majors.is_empty()).map(|who| CudaAsked { majors, who })
}

/// What a package is itself, and what it asks for: in words, and the majors that it leaves.
fn says(package: &Package, place: &Place, all: &BTreeSet<u16>) -> Vec<(String, BTreeSet<u16>)> {
    let Package { name, version, .. } = package;
    let whole = format!("=={version}");
    let itself = (format!("{name} {version} is there"), allowed(name, &whole, all));
    let lines = package.requires.iter().filter_map(|line| Requirement::read(line));
    let held = lines.filter(|line| !line.is_extra() && line.holds(place));
    let asked = held.map(|line| {
        let extras = match line.extras.is_empty() {
            true => String::new(),
            false => format!("[{}]", line.extras.join(",")),
        };
        let said = format!("{name} {version} asks for {}{extras}{}", line.name, line.bounds);
        let mut left = allowed(&line.name, line.bounds, all);
        // `cuda-core[cu13]`.
        let of_extras: BTreeSet<u16> =
            line.extras.iter().filter_map(|extra| major_in(extra)).collect();
        if !of_extras.is_empty() {
            left.retain(|major| of_extras.contains(major));
        }
        (said, left)
    });
    std::iter::once(itself).chain(asked).collect()
}

/// The CUDA majors for which a package of this name within these bounds may be.
fn allowed(name: &str, bounds: &str, all: &BTreeSet<u16>) -> BTreeSet<u16> {
    // `nvidia-cublas-cu12`, `cupy-cuda13x`, `jax-cuda13-plugin`; `torch==2.9.0+cu130`.
    let local = bounds.split_once('+').map(|(_, local)| local).filter(|_| name == "torch");
    let parts = name.split('-').skip(1).chain(local);
    if let Some(major) = parts.filter_map(major_in).find(|major| all.contains(major)) {
        return [major].into();
    }
    let mut left = all.clone();
    if names::is_of_one_cuda(name) {
        for bound in bounds.split(',').map(str::trim) {
            left.retain(|major| fits(*major, bound));
        }
    }
    left
}

/// The major in `cu12`, `cuda13`, `cuda12x`, `cu128`.
fn major_in(part: &str) -> Option<u16> {
    let rest = part.strip_prefix("cu")?;
    let rest = rest.strip_prefix("da").unwrap_or(rest);
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    (2..=3).contains(&digits).then(|| rest[..2].parse().ok()).flatten()
}

/// Whether some release of a major is within a bound such as `>=13` or `==13.*`.
fn fits(major: u16, bound: &str) -> bool {
    let operators = ["===", "==", "!=", "~=", "<=", ">=", "<", ">"];
    let Some(operator) = operators.into_iter().find(|operator| bound.starts_with(operator)) else {
        return true;
    };
    let version = bound[operator.len()..].trim();
    let mut parts = version.split(['.', '*']).filter(|part| !part.is_empty());
    let Some(Ok(wanted)) = parts.next().map(str::parse::<u16>) else { return true };
    let is_whole = version.ends_with(".*") && version.matches('.').count() == 1;
    let is_first = parts.all(|part| part.bytes().all(|digit| digit == b'0'));
    match operator {
        ">=" | ">" => major >= wanted,
        "<=" => major <= wanted,
        "<" => major < wanted || (major == wanted && !is_first),
        "!=" => !(is_whole && major == wanted),
        _ => major == wanted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_leave_majors() {
        let all: BTreeSet<u16> = [11, 12, 13].into();
        for (name, bounds, left) in [
            ("nvidia-cublas-cu12", "", &[12][..]),
            ("nvidia-cublas-cu12", ">=12.1", &[12]),
            ("nvidia-cublas", ">=13", &[13]),
            ("cuda-toolkit", "==13.*", &[13]),
            ("cuda-toolkit", "==13.0.2", &[13]),
            ("cuda-bindings", ">=12,<13", &[12]),
            ("cuda-bindings", "<13.1", &[11, 12, 13]),
            ("cuda-bindings", "~=12.9", &[12]),
            ("cuda-bindings", "", &[11, 12, 13]),
            ("cuda-bindings", "!=12.8", &[11, 12, 13]),
            ("cuda-bindings", "!=12.*", &[11, 13]),
            ("nvidia-cufft", "==12.0", &[11, 12, 13]),
            ("torch", "==2.9.0+cu130", &[13]),
            ("torch", "==2.9.0", &[11, 12, 13]),
            ("cupy-cuda13x", "", &[13]),
            ("jax-cuda12-plugin", ">=0.4", &[12]),
            ("nvidia-dali-cuda130", "", &[13]),
            ("x-cuda", "", &[11, 12, 13]),
            ("x-cup12", "", &[11, 12, 13]),
            ("pycu12", "", &[11, 12, 13]),
            ("cuda-python", "==x", &[11, 12, 13]),
        ] {
            assert_eq!(
                allowed(name, bounds, &all),
                left.iter().copied().collect(),
                "{name}{bounds}"
            );
        }
    }
}
