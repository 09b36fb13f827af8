//! What is known of servers: logins and queries of addresses that a lock leaves out, for whoever fetches what it names, and
//! which of them have answered.

use std::collections::{HashMap, HashSet};
use std::fmt;

use url::{Origin, Url};

use super::address::{bare, login_in};
use crate::netrc::Login;

/// Logins and queries. Many of the latter are signatures or tokens.
#[derive(Default)]
pub(super) struct Known {
    /// By scheme, host and port.
    logins: Vec<(Origin, Login)>,
    /// By the address without one.
    queries: HashMap<Url, String>,
    /// Who has answered as they were asked, with TLS or without, or were asked both ways.
    answered: HashSet<Origin>,
}

impl Known {
    pub(super) fn add(&mut self, url: &Url) {
        if let Some(login) = login_in(url) {
            self.logins.push((url.origin(), login));
        }
        if let Some(query) = url.query() {
            let mut address = bare(url);
            address.set_query(None);
            self.queries.insert(address, query.to_owned());
        }
    }

    /// The login that is known for where an address leads.
    pub(super) fn login(&self, url: &Url) -> Option<Login> {
        let origin = url.origin();
        self.logins.iter().find(|(known, _)| *known == origin).map(|(_, login)| login.clone())
    }

    /// Notes that the server of an address speaks as it is asked, or was asked both ways; whether that is news.
    pub(super) fn meet(&mut self, url: &Url) -> bool {
        self.answered.insert(url.origin())
    }

    /// An address with the query that is known for it, where it has none.
    pub(super) fn whole(&self, mut url: Url) -> Url {
        if url.query().is_none() {
            url.set_query(self.queries.get(&url).map(String::as_str));
        }
        url
    }
}

/// Nothing of them is ever shown.
impl fmt::Debug for Known {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Known({} logins, {} queries)", self.logins.len(), self.queries.len())
    }
}
