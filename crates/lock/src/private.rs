//! What of a lock is nobody else's business: it is not put beside an image in a registry.

use std::path::{Component, Path};

use crate::document::Lock;
use crate::place::{Place, place};
use crate::wheel_name::in_lock;

impl Lock {
    /// What of this lock is not for others, in words: addresses with a login or a query, which locks of older
    /// versions of sconce have, and paths of this machine outside the project.
    pub fn private(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut look = |what: String, address: &str| match place(address) {
            Place::Network(url) if in_lock(&url) != url => {
                found.push(format!("{what} has a login or a query"));
            }
            Place::Local(path) if leaves(&path) => {
                found.push(format!("{what} is a path of this machine"));
            }
            Place::Network(_) | Place::Local(_) => {}
        };
        let sources = self.sources.iter().flat_map(|source| &source.wheels);
        let project = self.project.iter().flat_map(|project| &project.wheels);
        for wheel in self.wheels.iter().chain(sources).chain(project) {
            if let Some(url) = &wheel.url {
                look(format!("the address of {}", wheel.name), url);
            }
        }
        for row in &self.indexes {
            if let Some(url) = &row.url {
                look(format!("the address of the index `{}`", row.name), url);
            }
        }
        if let Some(url) = self.python.as_ref().and_then(|python| python.url.as_ref()) {
            look("the address of Python".to_owned(), url);
        }
        for text in self.project.iter().flat_map(|project| &project.requires) {
            if let Some((name, address)) = text.split_once('@') {
                let address = address.trim().split([' ', ';']).next().unwrap_or_default();
                look(format!("the address of {}", name.trim()), address);
            }
        }
        found
    }

    /// The same without logins and queries in its addresses, as a lock is written today; nothing where it has none. Whoever
    /// fetches from them takes both from where the project names the address.
    pub fn without_queries(&self) -> Option<Self> {
        let mut lock = self.clone();
        let sources = lock.sources.iter_mut().flat_map(|source| &mut source.wheels);
        let project = lock.project.iter_mut().flat_map(|project| &mut project.wheels);
        let wheels = lock.wheels.iter_mut().chain(sources).chain(project);
        let urls = wheels
            .map(|wheel| &mut wheel.url)
            .chain(lock.indexes.iter_mut().map(|row| &mut row.url))
            .chain(lock.python.iter_mut().map(|python| &mut python.url));
        for url in urls.flatten() {
            if matches!(place(url), Place::Network(_)) {
                *url = in_lock(url);
            }
        }
        (lock != *self).then_some(lock)
    }
}

/// Whether a path says something of the machine that it is on.
fn leaves(path: &str) -> bool {
    let inner = |part| matches!(part, Component::Normal(_) | Component::CurDir);
    path.starts_with('~') || !Path::new(path).components().all(inner)
}

#[cfg(test)]
mod tests {
    use super::leaves;

    #[test]
    fn paths_within_the_project_say_nothing() {
        for (path, expected) in [
            ("./a/b.whl", false),
            ("wheels", false),
            ("/srv/wheels", true),
            ("../wheels", true),
            ("a/../../b", true),
            ("~/wheels", true),
        ] {
            assert_eq!(leaves(path), expected, "{path}");
        }
    }
}
