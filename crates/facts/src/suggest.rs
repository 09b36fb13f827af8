//! The nearest right name for a wrong one.

/// A name that no row has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown {what} `{name}`{}", near.as_ref().map(|n| format!("; did you mean `{n}`?")).unwrap_or_default())]
pub struct UnknownName {
    /// What kind of name, e.g. "GPU".
    pub what: &'static str,
    /// The name given, cut to 80 characters.
    pub name: String,
    /// The nearest right one, when one is near.
    pub near: Option<String>,
}

impl UnknownName {
    /// An unknown `what` called `name`, with the nearest of `candidates`.
    pub fn new<'a>(
        what: &'static str,
        name: &str,
        candidates: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        let name: String = name.chars().take(80).collect();
        let near = nearest(&name, candidates).map(str::to_owned);
        Self { what, name, near }
    }
}

/// The candidate most like `name`, if one is like it at all (Jaro-Winkler similarity above 0.7).
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let name = name.to_lowercase();
    candidates
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(&name, &candidate.to_lowercase()), candidate))
        .filter(|(likeness, _)| *likeness > 0.7)
        // The first of equals, so that the answer does not depend on how the iterator folds.
        .fold(None, |best: Option<(f64, &str)>, next| match best {
            Some(best) if best.0 >= next.0 => Some(best),
            _ => Some(next),
        })
        .map(|(_, candidate)| candidate)
}
