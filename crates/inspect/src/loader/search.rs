//! Where one library is looked for, folder by folder.

use std::rc::Rc;

use super::{Found, Loaded, Loader, MAX_FOLDERS, Process};

impl Loader<'_> {
    /// What the entry `by` of `process` gets when it asks for `name`: the library's number, the
    /// path it is opened by, and how it was found.
    pub fn find(&self, process: &Process, by: usize, name: &str) -> Option<(usize, String, Found)> {
        let asking = process.loaded.get(by)?;
        let dynamic = |loaded: &Loaded| self.scan.libraries.get(loaded.library)?.dynamic.as_ref();
        if name.contains('/') {
            let path = self.expand(name, folder_of(&asking.opened));
            return self.at(&path).map(|library| (library, path, Found::Path));
        }
        let search = |path: &str, opened: &str, found: Found| {
            self.searched_folders(path, opened).iter().find_map(|folder| {
                if !self.look() {
                    return None;
                }
                let library = self.inside(folder, name)?;
                Some((library, format!("{folder}{name}"), found))
            })
        };
        let own = dynamic(asking)?;
        if !self.file_names.contains(name) {
            return None;
        }
        if own.runpath.is_none() {
            let mut next = Some(by);
            while let Some(loaded) = next.and_then(|at| process.loaded.get(at)) {
                if let Some(dynamic) = dynamic(loaded).filter(|dynamic| dynamic.runpath.is_none())
                    && let Some(rpath) = &dynamic.rpath
                    && let Some(found) = search(rpath, &loaded.opened, Found::Rpath)
                {
                    return Some(found);
                }
                next = loaded.by;
            }
            // The program's comes last, whoever opened the library (`_dl_map_new_object`): so a Python of conda finds
            // what lies in its lib/.
            let program = self.program.get().and_then(|at| self.scan.libraries.get(at));
            if let Some((program, dynamic)) = program.zip(program.and_then(|p| p.dynamic.as_ref()))
                && let (Some(rpath), None) = (&dynamic.rpath, &dynamic.runpath)
                && let Some(found) = search(rpath, &program.path, Found::Rpath)
            {
                return Some(found);
            }
        }
        for folder in &self.library_path {
            if let Some(found) = search(folder, &asking.opened, Found::Environment) {
                return Some(found);
            }
        }
        if let Some(runpath) = &own.runpath
            && let Some(found) = search(runpath, &asking.opened, Found::Runpath)
        {
            return Some(found);
        }
        if let Some(path) = self.cache.get(name)
            && let Some(library) = self.at(path)
        {
            return Some((library, path.clone(), Found::Cache));
        }
        let folders = self.default_folders();
        folders.iter().find_map(|folder| search(folder, "", Found::Default))
    }

    /// The folders that are searched last.
    pub(super) fn default_folders(&self) -> [String; 6] {
        let triplet = format!("{}-linux-gnu", self.machine.name());
        [
            format!("lib/{triplet}"),
            format!("usr/lib/{triplet}"),
            "lib64".to_owned(),
            "usr/lib64".to_owned(),
            "lib".to_owned(),
            "usr/lib".to_owned(),
        ]
    }

    /// The folders of a search path, each with a `/` at its end, in their order. `opened` is the path of the library that
    /// has the search path; all it needs are looked for in the same folders.
    pub(super) fn searched_folders(&self, path: &str, opened: &str) -> Rc<[String]> {
        let origin = match path.contains('$') {
            true => folder_of(opened),
            false => "",
        };
        let mut searched = self.searched.borrow_mut();
        if let Some(folders) = searched.get(path).and_then(|of| of.get(origin)) {
            return folders.clone();
        }
        let folders: Rc<[String]> = path
            .split(':')
            .filter(|part| !part.is_empty())
            .map(|part| self.expand(part, origin).trim_end_matches('/').to_owned())
            // What any processor takes first, then what only newer ones would take instead.
            .flat_map(|folder| {
                let belows = [""].iter().chain(self.hwcaps);
                belows.map(|below| format!("{folder}/{below}")).collect::<Vec<_>>()
            })
            .collect();
        // Those of hostile libraries differ all and are long.
        let kept = self.searched_count.get() + folders.len() + 1;
        self.searched_count.set(kept);
        if kept > MAX_FOLDERS {
            searched.clear();
            self.searched_count.set(folders.len() + 1);
        }
        let of = searched.entry(path.to_owned()).or_default();
        of.insert(origin.to_owned(), folders.clone());
        folders
    }

    /// The loadable library at `path`, links followed, if it is for this processor: the loader goes
    /// on behind one that is not.
    pub(super) fn at(&self, path: &str) -> Option<usize> {
        // One that lies outside has the path it has on the machine.
        let outside = path.starts_with('/').then(|| self.by_path.get(path)).flatten();
        let at = match outside {
            Some(at) => *at,
            None => *self.by_path.get(self.tree.resolve(path)?.as_str())?,
        };
        self.fitting(at)
    }

    /// The same of the file `name` in `folder`, whose real path is kept: many are searched for many names.
    pub(super) fn inside(&self, folder: &str, name: &str) -> Option<usize> {
        if folder.starts_with('/')
            && let Some(at) = self.by_path.get(format!("{folder}{name}").as_str())
        {
            return self.fitting(*at);
        }
        let mut folders = self.folders.borrow_mut();
        if folders.len() > MAX_FOLDERS {
            folders.clear();
        }
        let real = match folders.get(folder) {
            Some(real) => real,
            None => folders.entry(folder.to_owned()).or_insert_with(|| self.tree.directory(folder)),
        };
        let real = real.as_deref()?;
        let path = if real.is_empty() { name.to_owned() } else { format!("{real}/{name}") };
        match self.by_path.get(path.as_str()) {
            Some(at) => self.fitting(*at),
            None if self.links.contains(path.as_str()) => self.at(&path),
            None => None,
        }
    }

    fn fitting(&self, at: usize) -> Option<usize> {
        (self.scan.libraries.get(at)?.machine == self.machine).then_some(at)
    }

    /// `$ORIGIN`, `$LIB` and `$PLATFORM` (ld.so(8), "Dynamic string tokens").
    fn expand(&self, path: &str, origin: &str) -> String {
        if !path.contains('$') {
            return path.to_owned();
        }
        let lib = format!("lib/{}-linux-gnu", self.machine.name());
        [("ORIGIN", origin), ("LIB", lib.as_str()), ("PLATFORM", self.machine.name())].iter().fold(
            path.to_owned(),
            |path, (token, value)| {
                path.replace(&format!("${{{token}}}"), value).replace(&format!("${token}"), value)
            },
        )
    }
}

fn folder_of(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}
