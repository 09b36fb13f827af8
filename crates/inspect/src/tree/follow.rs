//! What a path leads to, links followed inside the tree.

use super::{Node, Tree};

/// As many links as Linux follows (`MAXSYMLINKS`).
const MAX_LINKS: usize = 40;

impl Tree {
    /// The real path of the regular file at `path`, links followed inside the tree.
    pub fn resolve(&self, path: &str) -> Option<String> {
        let real = self.walk(path)?;
        matches!(self.get(real.as_str()), Some(Node::File { .. })).then_some(real)
    }

    /// The real path of the directory at `path`, links followed inside the tree.
    pub fn directory(&self, path: &str) -> Option<String> {
        self.walk(path).filter(|real| {
            real.is_empty() || matches!(self.get(real.as_str()), Some(Node::Directory))
        })
    }

    /// Whether there is a directory at `path`, links followed.
    pub fn is_directory(&self, path: &str) -> bool {
        self.directory(path).is_some()
    }

    /// The real path of what is at `path`, links followed inside the tree; none where `..` leads above its root, which
    /// is only the root of a machine where the tree is an image.
    pub fn beneath(&self, path: &str) -> Option<String> {
        let mut above = false;
        self.follow(path, &mut above).filter(|_| !above)
    }

    /// Follows links in every part of `path`; `..` stops at the root.
    fn walk(&self, path: &str) -> Option<String> {
        self.follow(path, &mut false)
    }

    /// As [`Tree::walk`]; `above` is set where `..` would lead above the root.
    fn follow(&self, path: &str, above: &mut bool) -> Option<String> {
        let mut links = 0;
        let mut todo: Vec<String> = path.split('/').rev().map(str::to_owned).collect();
        let mut done: Vec<String> = Vec::new();
        while let Some(part) = todo.pop() {
            match part.as_str() {
                "" | "." => {}
                ".." => *above |= done.pop().is_none(),
                _ => {
                    done.push(part);
                    let here = done.join("/");
                    match self.get(here.as_str())? {
                        Node::Link(target) => {
                            links += 1;
                            if links > MAX_LINKS {
                                return None;
                            }
                            if target.starts_with('/') {
                                done.clear();
                            } else {
                                done.pop();
                            }
                            todo.extend(target.split('/').rev().map(str::to_owned));
                        }
                        Node::File { .. } if todo.iter().any(|part| !part.is_empty()) => {
                            return None;
                        }
                        Node::File { .. } | Node::Directory => {}
                    }
                }
            }
        }
        Some(done.join("/"))
    }
}
