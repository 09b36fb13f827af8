//! Where a release's archives are, and their lists put together.
//!
//! A release is three suites: itself, its updates, and security, which has an archive of its own.
//! Several mirrors may be known for each; the first that serves what is asked, signed by a key
//! that is trusted for it, is taken.

use std::fmt;

use crate::archive::{Fetch, InRelease, Source};
use crate::openpgp::Keyring;
use crate::{Error, Packages, Target};

/// A copy of one of Debian's archives.
#[derive(Clone, Debug)]
pub struct Mirror {
    /// Its address; `dists/` and `pool/` are below it.
    pub url: String,
    /// Whose signatures count for it.
    pub keyring: Keyring,
    /// Whether a `Valid-Until` that has passed is an error.
    pub check_valid_until: bool,
    /// Whether it must say that it is Debian's: apt's sources name other archives too.
    pub must_be_debian: bool,
}

/// The mirrors of both archives, the best first.
#[derive(Clone, Debug, Default)]
pub struct Mirrors {
    /// Of the main archive.
    pub main: Vec<Mirror>,
    /// Of the security archive; where there are none, the main archive's address with
    /// `-security` at its end is tried, which is how Debian's own and most mirrors name it.
    pub security: Vec<Mirror>,
    /// Suites that may be missing: updates and security, by name.
    pub allow_missing: Vec<String>,
}

/// The lists of a release, and where they come from.
#[derive(Debug)]
pub struct Lists {
    /// All packages of all suites.
    pub packages: Packages,
    /// The suites that were read.
    pub suites: Vec<InRelease>,
    /// What is not as good as it should be.
    pub notices: Vec<Notice>,
}

/// Something a person should hear of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// A suite that no mirror has: its fixes are missing.
    MissingSuite {
        /// The suite, such as `trixie-security`.
        suite: String,
        /// The addresses that were asked.
        asked: Vec<String>,
    },
    /// A mirror that was passed over.
    PassedOver {
        /// Its address.
        mirror: String,
        /// Why, with what was below it.
        reason: String,
    },
    /// What was read of a list can't be kept: it is read again the next time.
    NotKept {
        /// Its suite.
        suite: String,
        /// Why.
        reason: String,
    },
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MissingSuite { suite, asked } => {
                let asked = asked.join(", ");
                write!(
                    f,
                    "no mirror has {suite}: the image goes without its fixes (asked: {asked})"
                )
            }
            Self::PassedOver { mirror, reason } => {
                write!(f, "{mirror} was passed over: {reason}")
            }
            Self::NotKept { suite, reason } => {
                write!(f, "the list of {suite} is not kept for another time: {reason}")
            }
        }
    }
}

impl Mirrors {
    /// Reads the lists of a release. `now` is in seconds since 1970.
    pub fn load(&self, target: Target, now: u64, fetch: &dyn Fetch) -> Result<Lists, Error> {
        let mut lists =
            Lists { packages: Packages::new(), suites: Vec::new(), notices: Vec::new() };
        let release = target.release;
        let mut work = Work { target, now, fetch, lists: &mut lists };
        let main = work.suite(&self.main, &release.codename)?;
        let Some(main) = main else {
            let url = self.main.first().map(|mirror| mirror.url.clone()).unwrap_or_default();
            return Err(Error::Missing { url: inrelease(&url, &release.codename) });
        };
        for suite in &release.updates {
            // The mirror of the release first: what it has goes together.
            let mut mirrors = vec![main.clone()];
            mirrors.extend(self.main.iter().filter(|mirror| mirror.url != main.url).cloned());
            work.fixes(&mirrors, suite, &self.allow_missing)?;
        }
        let mut security = self.security.clone();
        security.push(sibling(main));
        security.extend(self.main.iter().filter(|mirror| mirror.url != main.url).map(sibling));
        work.fixes(&security, &release.security, &self.allow_missing)?;
        lists.packages.finish();
        Ok(lists)
    }

    /// The addresses a package's file may be had from, the best first. What comes is checked
    /// against the lock, so any of them is as good as its word.
    pub fn urls(&self, suite: &str, filename: &str) -> Vec<String> {
        let security = suite.ends_with("-security");
        let own = if security { &self.security } else { &self.main };
        let mut mirrors: Vec<String> = own.iter().map(|mirror| mirror.url.clone()).collect();
        if security {
            mirrors.extend(self.main.iter().map(|mirror| sibling(mirror).url));
        }
        let mut urls = Vec::new();
        for mirror in mirrors {
            let url = format!("{}/{filename}", mirror.trim_end_matches('/'));
            if !urls.contains(&url) {
                urls.push(url);
            }
        }
        urls
    }
}

fn inrelease(url: &str, suite: &str) -> String {
    format!("{}/dists/{suite}/InRelease", url.trim_end_matches('/'))
}

/// The security archive beside a main one. In a dated snapshot the date comes after the
/// archive's name: `.../archive/debian/20260101T000000Z`.
fn sibling(main: &Mirror) -> Mirror {
    let url = main.url.trim_end_matches('/');
    let url = match url.rsplit_once("/debian/") {
        Some((before, date)) if date.starts_with(|c: char| c.is_ascii_digit()) => {
            format!("{before}/debian-security/{date}")
        }
        _ => format!("{url}-security"),
    };
    Mirror { url, ..main.clone() }
}

struct Work<'a> {
    target: Target,
    now: u64,
    fetch: &'a dyn Fetch,
    lists: &'a mut Lists,
}

impl Work<'_> {
    /// A suite of fixes to the release: that it is missing must be allowed.
    fn fixes(&mut self, mirrors: &[Mirror], suite: &str, allowed: &[String]) -> Result<(), Error> {
        if self.suite(mirrors, suite)?.is_some() {
            return Ok(());
        }
        let asked: Vec<String> = mirrors.iter().map(|mirror| mirror.url.clone()).collect();
        let suite = suite.to_owned();
        if !allowed.contains(&suite) {
            return Err(Error::MissingSuite { suite, asked });
        }
        self.lists.notices.push(Notice::MissingSuite { suite, asked });
        Ok(())
    }

    /// Adds a suite from the first mirror that serves it, and says which one it was; nothing if
    /// they all say that they don't have it. The first error counts if none serves it.
    fn suite<'m>(
        &mut self,
        mirrors: &'m [Mirror],
        suite: &str,
    ) -> Result<Option<&'m Mirror>, Error> {
        let mut failures = Vec::new();
        for mirror in mirrors {
            match self.read_suite(mirror, suite) {
                Ok(true) => {
                    // A mirror that failed is worth a word when another one made up for it.
                    self.lists.notices.extend(failures.into_iter().map(passed_over));
                    return Ok(Some(mirror));
                }
                Ok(false) => {}
                Err(error) => failures.push((mirror.url.clone(), error)),
            }
        }
        match failures.into_iter().next() {
            Some((_, error)) => Err(error),
            None => Ok(None),
        }
    }

    fn read_suite(&mut self, mirror: &Mirror, suite: &str) -> Result<bool, Error> {
        let source = Source {
            url: mirror.url.clone(),
            suite: suite.to_owned(),
            check_valid_until: mirror.check_valid_until,
        };
        let signed = InRelease::fetch(&source, &mirror.keyring, self.now, self.fetch)?;
        let Some(signed) = signed else { return Ok(false) };
        if mirror.must_be_debian && signed.origin != "Debian" {
            let reason = format!("its origin is `{}`, not `Debian`", signed.origin);
            return Err(Error::Release { url: signed.url, reason });
        }
        let packages = &mut self.lists.packages;
        if let Some(error) = signed.add_packages(&source, self.target, self.fetch, packages)? {
            let (suite, reason) = (suite.to_owned(), error.to_string());
            self.lists.notices.push(Notice::NotKept { suite, reason });
        }
        self.lists.suites.push(signed);
        Ok(true)
    }
}

fn passed_over((mirror, error): (String, Error)) -> Notice {
    let mut reason = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(below) = source {
        reason = format!("{reason}: {below}");
        source = below.source();
    }
    Notice::PassedOver { mirror, reason }
}
