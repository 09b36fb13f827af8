//! Whom limits count for: who logged in, else an address.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::net::IpAddr;

use sconce_listen::network;

/// One client.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Client {
    /// By the name of the login, from wherever it comes.
    Named(String),
    /// By the address.
    At(IpAddr),
}

impl Client {
    pub(crate) fn at(address: IpAddr) -> Self {
        Self::At(network(address))
    }
}

impl fmt::Display for Client {
    /// No login is spelt like an address.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Named(name) => write!(out, "login {name}"),
            Self::At(address) => write!(out, "from {address}"),
        }
    }
}

/// How many of something each has: so many at most, and so many together.
#[derive(Debug)]
pub(crate) struct Shares<K> {
    all: usize,
    each: usize,
    taken: usize,
    by: HashMap<K, usize>,
}

/// Why there is no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    /// For this one.
    Own,
    /// For anybody.
    All,
}

impl<K: Clone + Eq + Hash> Shares<K> {
    pub(crate) fn new(all: usize, each: usize) -> Self {
        Self { all, each, taken: 0, by: HashMap::new() }
    }

    pub(crate) fn take(&mut self, who: &K) -> Result<(), Full> {
        let own = self.by.get(who).copied().unwrap_or(0);
        if own >= self.each {
            return Err(Full::Own);
        }
        if self.taken >= self.all {
            return Err(Full::All);
        }
        self.by.insert(who.clone(), own + 1);
        self.taken += 1;
        Ok(())
    }

    pub(crate) fn give_back(&mut self, who: &K) {
        if let Some(own) = self.by.get_mut(who) {
            *own -= 1;
            self.taken -= 1;
            if *own == 0 {
                self.by.remove(who);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_one_client() {
        let at = |text: &str| Client::at(text.parse().unwrap());
        assert_eq!(at("2001:db8::1"), at("2001:db8::ffff:1"));
        assert_ne!(at("2001:db8::1"), at("2001:db8:0:1::1"));
        assert_ne!(at("192.0.2.1"), at("192.0.2.2"));
        // As a socket of both versions names a client of IPv4.
        assert_eq!(at("::ffff:192.0.2.1"), at("192.0.2.1"));
        assert_ne!(at("::ffff:192.0.2.1"), at("::ffff:192.0.2.2"));
    }

    #[test]
    fn shares() {
        let mut shares = Shares::new(3, 2);
        assert_eq!([shares.take(&1), shares.take(&1)], [Ok(()), Ok(())]);
        assert_eq!(shares.take(&1), Err(Full::Own));
        assert_eq!([shares.take(&2), shares.take(&2)], [Ok(()), Err(Full::All)]);
        shares.give_back(&1);
        shares.give_back(&7);
        assert_eq!([shares.take(&2), shares.take(&2)], [Ok(()), Err(Full::Own)]);
        for who in [1, 2, 2] {
            shares.give_back(&who);
        }
        assert!(shares.by.is_empty() && shares.taken == 0);
    }
}
