//! `--gpus` of `sconce bench`: checked before anything else is done, and what it is without a container.

use std::collections::BTreeSet;

use sconce_gpu::select::{Name, Request, parse};

use crate::error::{Failure, Kind};

fn usage(what: impl Into<String>) -> Failure {
    Failure::new(Kind::Usage, what)
        .hint("`--gpus device=0` is the first, `--gpus 0,1` are the first two, `--gpus 2` any two, `--gpus all` all")
}

/// Refuses what can be known to be wrong without looking at a GPU.
pub fn check(given: Option<&str>) -> Result<(), Failure> {
    let Some(given) = given else { return Ok(()) };
    parse(given)?;
    if given.split(['=', ',']).any(|word| word.trim().starts_with('-')) {
        return Err(usage(format!("`--gpus {given}`: there is no GPU of a number below 0")));
    }
    let mut words = BTreeSet::new();
    let named = given.split(',').map(|word| word.rsplit('=').next().unwrap_or(word).trim());
    match named.filter(|word| !word.is_empty()).find(|word| !words.insert(*word)) {
        Some(twice) if given.contains(',') => {
            Err(usage(format!("`--gpus {given}` names `{twice}` twice")))
        }
        _ => Ok(()),
    }
}

/// The numbers that `bench log` is to show; all, where none is given.
pub fn of_the_log(given: Option<&str>) -> Result<Vec<u32>, Failure> {
    let Some(given) = given else { return Ok(Vec::new()) };
    check(Some(given))?;
    let number = |name: Name| match name {
        Name::Index(index) => Some(index),
        _ => None,
    };
    let numbers: Option<Vec<u32>> = match parse(given)? {
        Request::All => Some(Vec::new()),
        Request::Named(names) => names.into_iter().map(number).collect(),
        Request::Count(_) | Request::None => None,
    };
    numbers.ok_or_else(|| {
        let what = format!("`sconce bench log` shows GPUs by their numbers, and `{given}` is how many, as everywhere");
        let number = if given.trim().parse::<u32>().is_ok() { given.trim() } else { "0" };
        Failure::new(Kind::Usage, what).hint(format!("`--gpus device={number}` is GPU {number}; `--gpus 0,1` are two"))
    })
}

/// What CUDA is to show of this machine's GPUs, `shown` being the numbers of all.
pub fn visible(
    given: &str,
    shown: impl FnOnce() -> Result<Vec<u32>, Failure>,
) -> Result<Option<String>, Failure> {
    const VARIABLE: &str = "CUDA_VISIBLE_DEVICES";
    let request = parse(given)?;
    if request == Request::All {
        return Ok(None);
    }
    if std::env::var_os(VARIABLE).is_some() {
        let what = format!("`--gpus {given}` and {VARIABLE} both say which GPUs are measured");
        return Err(Failure::new(Kind::Usage, what).hint("leave one of the two out"));
    }
    let names = match request {
        Request::None | Request::All => return Ok(Some(String::new())),
        Request::Count(count) => {
            let shown = shown()?;
            if shown.len() < count {
                return Err(too_few(given, &shown));
            }
            shown.iter().take(count).map(u32::to_string).collect()
        }
        Request::Named(names) => {
            let shown = shown()?;
            let mut found = Vec::new();
            for name in names {
                match name {
                    Name::Index(index) if !shown.contains(&index) => {
                        return Err(too_few(given, &shown));
                    }
                    Name::Mig(..) => {
                        let what = format!("`{name}` of `--gpus` names an instance by its numbers");
                        return Err(Failure::new(Kind::Usage, what)
                            .hint("with --host, name it as `nvidia-smi -L` does: MIG-..."));
                    }
                    name => found.push(name.to_string()),
                }
            }
            found
        }
    };
    Ok(Some(names.join(",")))
}

/// What of the GPUs that CUDA was to show (by `--gpus`, else by the environment) it does not, `count` being there: it stops at the first
/// that it does not know, and says nothing.
pub fn missing(given: Option<&str>, count: usize) -> Option<String> {
    let environment = std::env::var("CUDA_VISIBLE_DEVICES").ok();
    let named = given.or(environment.as_deref())?;
    let names = named.split(',').map(str::trim);
    let names: Vec<&str> = names.take_while(|name| !name.is_empty() && *name != "-1").collect();
    (names.len() > count).then(|| {
        let first = names.get(count).copied().unwrap_or_default();
        format!("CUDA_VISIBLE_DEVICES is `{named}`, and CUDA shows {count} of the {} that it names: there is no `{first}`", names.len())
    })
}

fn too_few(given: &str, shown: &[u32]) -> Failure {
    let shown: Vec<String> = shown.iter().map(u32::to_string).collect();
    let there = match shown.as_slice() {
        [] => "none".to_owned(),
        shown => format!("{} (number {})", shown.len(), shown.join(", ")),
    };
    let what = format!("`--gpus {given}` asks for more GPUs than there are: CUDA shows {there}");
    Failure::new(Kind::Machine, what)
}
