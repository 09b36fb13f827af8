//! The torch releases that are still to be tried.

use sconce_facts::{Base, Machine};

use super::companions::Wants;
use crate::candidate::Candidate;

/// Candidates, best first, and what was learned from those that did not fit.
pub(super) struct Left {
    next: Vec<Candidate>,
    /// Those that most likely do not fit: tried when nothing else is left.
    unlikely: Vec<Candidate>,
    /// Files that did not fit their torch.
    files: Vec<String>,
    /// Pythons that lack what is asked for whatever the torch.
    closed: Vec<&'static Base>,
}

impl Left {
    /// All of them.
    pub fn new(candidates: Vec<Candidate>) -> Self {
        Self { next: candidates, unlikely: Vec::new(), files: Vec::new(), closed: Vec::new() }
    }

    /// The candidates in the order in which they are tried.
    pub fn next(&self) -> &[Candidate] {
        &self.next
    }

    /// Takes the first ones out.
    pub fn remove_first(&mut self, count: usize) {
        self.next.drain(..count.min(self.next.len()));
        self.refill();
    }

    /// Takes a release out.
    pub fn remove(&mut self, version: &str) {
        self.next.retain(|other| other.release.version != version);
        self.unlikely.retain(|other| other.release.version != version);
        self.refill();
    }

    /// Takes a release out that a file beside it does not fit. Where the very file was asked for
    /// (`fixed`), only what the file wants is left. A file that comes beside two releases comes beside
    /// others as well: next is a release that it fits, and those between are tried last. One that comes whatever
    /// the torch (`always`) comes with all releases on that Python.
    pub fn remove_misfit(
        &mut self,
        version: &str,
        (file, wants): (&str, &Wants),
        (fixed, always): (bool, Option<&'static Base>),
        machine: Machine,
    ) {
        self.next.retain(|other| other.release.version != version);
        self.unlikely.retain(|other| other.release.version != version);
        let again = self.files.iter().any(|known| known == file);
        if let Some(base) = always {
            let may = |other: &Candidate| other.base != base || wants.met_by(other, machine);
            self.next.retain(may);
            self.unlikely.retain(may);
        }
        // No torch helps a file that comes again and again.
        let fixed = fixed || (again && *wants == Wants::NoTorch);
        if fixed || again || always.is_some() {
            let (fitting, others) = std::mem::take(&mut self.next)
                .into_iter()
                .partition(|other| wants.met_by(other, machine));
            self.next = fitting;
            let others: Vec<Candidate> = others;
            self.unlikely.extend(others.into_iter().filter(|_| !fixed));
        }
        self.files.push(file.to_owned());
        self.refill();
    }

    fn refill(&mut self) {
        if self.next.is_empty() {
            self.next.append(&mut self.unlikely);
        }
    }

    /// Notes that a group was refused. uv's words are the whole derivation: a torch that is not in them is no
    /// part of the reason, and no other torch changes it.
    pub fn refused(&mut self, group: &[Candidate], words: &str) {
        let Some(head) = group.first() else { return };
        let plain = head.channel.backend().is_none() && head.constraints().is_empty();
        let whole = !words.is_empty() && !words.ends_with('…');
        // What torch pins moves with it, as torch itself does.
        let moves = ["torch", "cuda-toolkit", "triton", "nvidia-"];
        let ours = moves.iter().any(|name| words.contains(name));
        if plain && whole && !ours {
            self.closed.push(head.base);
        }
    }

    /// Whether a group can't be met whatever its torch.
    pub fn is_closed(&self, group: &[Candidate]) -> bool {
        group.first().is_some_and(|head| self.closed.contains(&head.base))
    }
}
