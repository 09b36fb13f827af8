//! Names that people give to images: `refs/<encoded name>` holds a manifest digest.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::PathBuf;

use rustix::io::Errno;
use sconce_blob::Digest;
use sconce_oci::name::{meaning, other_spelling, plain_name};

use crate::Store;
use crate::error::{Error, at};
use crate::files::{list, open_regular};
use crate::own::{remove_file, sync_parent};
use crate::place::Place;

/// The most that is read of a name's file, bytes: a digest has 71.
const LONGEST: u64 = 4096;

impl Store {
    /// Gives an image another name, taking it from the image that had it. That is the word of whoever uses this store, also where a client
    /// has pushed the same image under that name before.
    pub fn put_name(&self, name: &str, image: Digest) -> Result<(), Error> {
        self.write_name(name, image)?;
        self.forget_pushed(name, image)
    }

    pub(crate) fn write_name(&self, name: &str, image: Digest) -> Result<(), Error> {
        check_name(name)?;
        self.pin(image)?;
        if !self.places().chain(self.untrusted()).any(|place| place.image(image).exists()) {
            return Err(Error::NoImage { name: image.to_string(), nearest: None });
        }
        self.write_small(&self.place().name(name), format!("{image}\n").as_bytes())?;
        match self.place().other_name(name) {
            Some(other) => remove_file(&other).map(drop),
            None => Ok(()),
        }
    }

    /// Takes a name away; the image stays until it is pruned. Says whether it was there.
    pub fn remove_name(&self, name: &str) -> Result<bool, Error> {
        if name.is_empty() {
            return Ok(false);
        }
        let path = self.place().name(name);
        let mut was_there = remove_file(&path)?;
        if let Some(other) = self.place().other_name(name) {
            was_there |= remove_file(&other)?;
        }
        if was_there {
            sync_parent(&path)?;
            self.forget_mark(name)?;
        }
        Ok(was_there)
    }

    /// All names and the images they mean. A name of this store hides one of a store below.
    pub fn names(&self) -> Result<BTreeMap<String, Digest>, Error> {
        let mut names = BTreeMap::new();
        for place in self.places() {
            for (name, image) in self.or_skip(place, place.names())?.unwrap_or_default() {
                names.entry(name).or_insert(image);
            }
        }
        for place in self.untrusted() {
            let all = self.or_skip(place, place.names())?.unwrap_or_default();
            for (name, image) in all.into_iter().filter(|(name, image)| is_proved(name, *image)) {
                names.entry(name).or_insert(image);
            }
        }
        if self.is_first_look_at_names() {
            for path in self.place().no_names()? {
                self.note(&format!("{path:?} is not the name of an image, and is left out"));
            }
            for name in names.keys().filter(|name| self.place().has_both(name)) {
                let (older, newer) = self.place().both(name);
                self.note(&format!(
                    "`{name}` is in {} twice, with and without `:latest`, which is one name: {newer:?} counts, which was written last, and not {older:?}. Whoever gives the name anew removes that",
                    self.root().display()
                ));
            }
        }
        Ok(names)
    }

    /// The image that a name means.
    pub(crate) fn named(&self, name: &str) -> Result<Option<Digest>, Error> {
        if check_name(name).is_err() {
            return Ok(None);
        }
        for place in self.places() {
            if let Some(image) = self.or_skip(place, place.named(name))?.flatten() {
                return Ok(Some(image));
            }
        }
        for place in self.untrusted() {
            let found = self.or_skip(place, place.named(name))?.flatten();
            if let Some(image) = found.filter(|image| is_proved(name, *image)) {
                return Ok(Some(image));
            }
        }
        Ok(None)
    }
}

impl Place {
    /// The file of a name.
    pub(crate) fn name(&self, name: &str) -> PathBuf {
        self.spelt(&plain_name(name))
    }

    /// The file that an older program may have written for the same name.
    fn other_name(&self, name: &str) -> Option<PathBuf> {
        other_spelling(&plain_name(name)).map(|other| self.spelt(&other))
    }

    fn spelt(&self, name: &str) -> PathBuf {
        self.folder("refs").join(encode(name))
    }

    /// A name is here in both spellings.
    fn has_both(&self, name: &str) -> bool {
        let other = self.other_name(name);
        other.is_some_and(|other| other.exists() && self.name(name).exists())
    }

    /// The files of a name that is here in both spellings, the one that counts last: that was written last.
    fn both(&self, name: &str) -> (PathBuf, PathBuf) {
        let path = self.name(name);
        let other = self.other_name(name).unwrap_or_else(|| path.clone());
        let written =
            |path: &PathBuf| path.symlink_metadata().and_then(|about| about.modified()).ok();
        if written(&other) > written(&path) { (path, other) } else { (other, path) }
    }

    /// The names in this store.
    pub(crate) fn names(&self) -> Result<BTreeMap<String, Digest>, Error> {
        let mut names = BTreeMap::new();
        for path in list(&self.folder("refs"))? {
            let file = path.file_name().and_then(|file| file.to_str());
            let Some(name) = file.and_then(decode).filter(|name| check_name(name).is_ok()) else {
                continue;
            };
            let name = plain_name(&name);
            if !names.contains_key(&name)
                && let Some(digest) = self.named(&name)?
            {
                names.insert(name, digest);
            }
        }
        Ok(names)
    }

    /// The image that a name means in this store.
    pub(crate) fn named(&self, name: &str) -> Result<Option<Digest>, Error> {
        // Its file would be the folder of all names.
        if name.is_empty() {
            return Ok(None);
        }
        let path = match self.other_name(name).filter(|other| other.exists()) {
            None => self.name(name),
            Some(other) if !self.name(name).exists() => other,
            Some(_) => self.both(name).1,
        };
        let bad = |why: String| Error::BadReference { path: path.clone(), why };
        let mut file = match open_regular(&path) {
            Ok(file) => file.take(LONGEST),
            Err(error) => {
                return match error.raw_os_error().map(Errno::from_raw_os_error) {
                    Some(Errno::NOENT) => Ok(None),
                    // What O_NOFOLLOW makes of it speaks of too many links (open(2)).
                    Some(Errno::LOOP) => Err(bad("it is a link".to_owned())),
                    Some(Errno::NXIO) => Err(bad("it is not a regular file".to_owned())),
                    Some(Errno::ACCESS) => Err(bad("you may not read it".to_owned())),
                    Some(_) => Err(at("open", &path)(error)),
                    None => Err(bad(format!("it is {error}"))),
                };
            }
        };
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(at("read", &path))?;
        let digest = String::from_utf8_lossy(&bytes).trim().parse();
        digest.map(Some).map_err(|_| match bytes.is_empty() {
            true => bad("it is empty".to_owned()),
            false => bad("it holds no SHA-256 digest".to_owned()),
        })
    }

    /// What lies among the names and is none: another program's file, or one that somebody renamed.
    fn no_names(&self) -> Result<Vec<PathBuf>, Error> {
        let is_name = |path: &PathBuf| {
            let file = path.file_name().and_then(|file| file.to_str()).unwrap_or_default();
            let is_written = |name: &String| check_name(name).is_ok() && encode(name) == file;
            Self::is_pushed_mark(file) || decode(file).as_ref().is_some_and(is_written)
        };
        let all = list(&self.folder("refs"))?.into_iter();
        Ok(all.filter(|path| !is_name(path)).collect())
    }
}

/// Whether a name with a digest, `app@sha256:…`, is that of the image with it. That of an index, which only who pulled it
/// has compared, leads to an image of another digest: from others that is not believed.
fn is_proved(name: &str, image: Digest) -> bool {
    name.split_once('@')
        .is_none_or(|(_, digest)| digest.parse::<Digest>().is_ok_and(|digest| digest == image))
}

/// Anything a person can type as one word: file name encoding makes it safe.
pub(crate) fn check_name(name: &str) -> Result<(), Error> {
    let bad = |why: &str| Err(Error::BadName { name: name.to_owned(), why: why.to_owned() });
    if name.is_empty() {
        return bad("it is empty");
    }
    if name.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return bad("it has white space or control characters");
    }
    if encode(name).len() > 255 {
        return bad("it is too long");
    }
    // It would be taken where something else is meant.
    match meaning(name) {
        Some(means) => Err(Error::BadName { name: name.to_owned(), why: format!("it is {means}") }),
        None => Ok(()),
    }
}

/// A file name for an image name: bytes that mean something in a path become `%XX`.
fn encode(name: &str) -> String {
    let mut out = String::new();
    for (index, byte) in name.bytes().enumerate() {
        let plain = byte.is_ascii_alphanumeric() || b"-_:+@".contains(&byte);
        if plain || (byte == b'.' && index > 0) {
            out.push(byte as char);
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

fn decode(file: &str) -> Option<String> {
    let mut out = Vec::new();
    let mut bytes = file.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let digit = |byte: Option<u8>| (byte? as char).to_digit(16);
            let (high, low) = (digit(bytes.next())?, digit(bytes.next())?);
            out.push((high << 4 | low) as u8);
        } else {
            out.push(byte);
        }
    }
    String::from_utf8(out).ok()
}
