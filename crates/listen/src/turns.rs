//! Whose turn it is to have a password looked at: one at a time, one party after the other.
//!
//! A party is the logins of one address under names of one kind, of which there are [`KINDS`]: whoever guesses at a name keeps few but himself
//! waiting, and by how long others wait nobody learns which names there are.

use std::collections::VecDeque;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::net::IpAddr;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::error::No;
use crate::network::network;

/// The most logins of one party that wait.
pub(crate) const MAX_WAITING: usize = 8;
/// The most parties that wait.
const MAX_PARTIES: usize = 512;
/// Into how many kinds names fall.
const KINDS: u64 = 64;

/// Whose login it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Party(IpAddr, u64);

impl Party {
    fn of(client: IpAddr, kind: u64) -> Self {
        Self(network(client), kind)
    }
}

/// Who waits, each party's in their order; the first party is the next.
#[derive(Default)]
struct Line {
    waiting: VecDeque<(Party, VecDeque<u64>)>,
    next_ticket: u64,
    taken: bool,
}

/// All who wait.
#[derive(Default)]
pub(crate) struct Turns {
    line: Mutex<Line>,
    changed: Condvar,
    kinds: RandomState,
}

/// The turn, until it is dropped.
pub(crate) struct Turn<'a>(&'a Turns);

impl Turns {
    /// Waits for the turn of a login.
    ///
    /// # Errors
    /// Too many of its party wait already.
    pub(crate) fn take(&self, client: IpAddr, name: &[u8]) -> Result<Turn<'_>, No> {
        let party = Party::of(client, self.kind(name));
        let mut line = self.line();
        let ticket = line.enter(party)?;
        while line.taken || !line.is_next(party, ticket) {
            line = self.changed.wait(line).unwrap_or_else(PoisonError::into_inner);
        }
        line.begin();
        Ok(Turn(self))
    }

    /// The kind that a name falls into.
    pub(crate) fn kind(&self, name: &[u8]) -> u64 {
        self.kinds.hash_one(name) % KINDS
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.line().taken = false;
        self.0.changed.notify_all();
    }
}

impl Line {
    fn enter(&mut self, party: Party) -> Result<u64, No> {
        let ticket = self.next_ticket;
        let parties = self.waiting.len();
        match self.waiting.iter_mut().find(|(known, _)| *known == party) {
            Some((_, tickets)) if tickets.len() >= MAX_WAITING => return Err(No::Busy),
            Some((_, tickets)) => tickets.push_back(ticket),
            None if parties >= MAX_PARTIES => return Err(No::Busy),
            None => self.waiting.push_back((party, VecDeque::from([ticket]))),
        }
        self.next_ticket += 1;
        Ok(ticket)
    }

    fn is_next(&self, party: Party, ticket: u64) -> bool {
        self.waiting
            .front()
            .is_some_and(|(first, tickets)| *first == party && tickets.front() == Some(&ticket))
    }

    /// The first has its turn, and its party goes to the end.
    fn begin(&mut self) {
        self.taken = true;
        if let Some((party, mut tickets)) = self.waiting.pop_front() {
            tickets.pop_front();
            if !tickets.is_empty() {
                self.waiting.push_back((party, tickets));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn party(ip: &str, kind: u64) -> Party {
        Party::of(ip.parse().unwrap(), kind)
    }

    #[test]
    fn parties_have_their_turns_one_after_the_other() {
        let mut line = Line::default();
        let (guesser, other) = (party("192.0.2.7", 1), party("192.0.2.7", 2));
        let guesses: Vec<u64> =
            (0..MAX_WAITING).map(|_| line.enter(guesser).unwrap_or_default()).collect();
        assert_eq!(line.enter(guesser), Err(No::Busy), "no more of one party");
        let right = line.enter(other).unwrap_or_default();
        assert!(line.is_next(guesser, guesses[0]));
        line.begin();
        assert!(line.is_next(other, right) && line.taken);
        line.begin();
        for guess in &guesses[1..] {
            assert!(line.is_next(guesser, *guess));
            line.begin();
        }
        assert!(line.waiting.is_empty());
        for number in 0..MAX_PARTIES {
            assert!(line.enter(party("192.0.2.7", number as u64)).is_ok());
        }
        assert!(line.enter(party("192.0.2.8", 0)).is_err());
    }

    #[test]
    fn one_after_the_other_has_it() {
        let turns = Turns::default();
        let inside = Mutex::new(());
        std::thread::scope(|scope| {
            for number in 0..40_u8 {
                let (turns, inside) = (&turns, &inside);
                scope.spawn(move || {
                    let client = IpAddr::from([192, 0, 2, number % 8]);
                    let turn = turns.take(client, &[number]);
                    let alone = inside.try_lock().is_ok();
                    drop(turn);
                    assert!(alone);
                });
            }
        });
        assert!(turns.line().waiting.is_empty() && !turns.line().taken);
        // All of a /64 is one party's.
        let mut line = Line::default();
        for number in 0..MAX_WAITING {
            assert!(line.enter(party(&format!("2001:db8::{number}"), 1)).is_ok());
        }
        assert!(line.enter(party("2001:db8::9", 1)).is_err());
        assert!(line.enter(party("2001:db8:0:1::9", 1)).is_ok());
    }
}
