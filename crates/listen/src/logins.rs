//! Who may ask: users and the hashes of their passwords, as `htpasswd -B` writes them.
//!
//! Source: apache's `htpasswd`; Provos and Mazieres, "A Future-Adaptable Password Scheme" (bcrypt); RFC 7617
//! (`Basic`). Nothing of a password is kept or shown: a SHA-256 is remembered of those that were right, since
//! an engine sends its login with each of hundreds of requests, and of those that were wrong last, since one with an old password does so too.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::fmt;
use std::hint::black_box;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::{GeneralPurpose, NO_PAD, STANDARD};
use blowfish::Blowfish;
use sconce_blob::Digest;

use crate::error::{Error, No};
use crate::turns::Turns;

/// The letters that bcrypt writes bytes with; the last one of a text has bits that mean nothing.
const LETTERS: GeneralPurpose =
    GeneralPurpose::new(&base64::alphabet::BCRYPT, NO_PAD.with_decode_allow_trailing_bits(true));
/// The work of a hash, as a power of two: bcrypt's least, and what takes seconds.
const COST: std::ops::RangeInclusive<u32> = 4..=15;
/// bcrypt reads so much of a password, with the zero behind it, bytes.
const MAX_PASSWORD: usize = 72;
/// The most users of a file, and the most logins that are remembered.
const MAX_USERS: usize = 10_000;
const MAX_KNOWN: usize = 10_000;
/// The most logins that are remembered as wrong.
const MAX_WRONG: usize = 1000;

/// Those who may ask.
pub struct Logins {
    users: BTreeMap<String, Hashed>,
    /// What is compared where there is no such user.
    nobody: Hashed,
    /// The highest cost of the file: each comparison takes as long, so that none tells whose it was.
    cost: u32,
    /// Hashes of what was sent and was right.
    known: Mutex<HashSet<Digest>>,
    /// Hashes of what was sent and was wrong, the last first.
    wrong: Mutex<VecDeque<Digest>>,
    /// One password at a time is hashed: guesses don't take all cores.
    turns: Turns,
}

/// A password's bcrypt.
#[derive(Clone)]
struct Hashed {
    cost: u32,
    salt: [u8; 16],
    hash: [u8; 23],
}

impl Logins {
    /// Reads a file of lines `NAME:HASH`, all of them bcrypt.
    ///
    /// # Errors
    /// [`Error::Logins`], with the number of the line and nothing that stands in it.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let lines = text.lines().enumerate().map(|(at, line)| (at + 1, line.trim()));
        let lines = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
        Self::of(lines.map(|(at, line)| (at, line.split_once(':'))))
    }

    /// Names with their hashes, each with the number of its line.
    ///
    /// # Errors
    /// As [`Logins::parse`].
    pub fn of<'a>(
        lines: impl IntoIterator<Item = (usize, Option<(&'a str, &'a str)>)>,
    ) -> Result<Self, Error> {
        let mut users = BTreeMap::new();
        for (number, user) in lines {
            let wrong = |why: &str| Error::Logins { why: format!("line {number}: {why}") };
            let (name, hash) = user.ok_or_else(|| wrong("it is not a NAME:HASH"))?;
            let hash = Hashed::parse(hash).map_err(|why| wrong(&why))?;
            if users.insert(name.to_owned(), hash).is_some() {
                return Err(wrong("its name stands there twice"));
            }
            if users.len() > MAX_USERS {
                return Err(wrong("there are too many users"));
            }
        }
        let cost = users.values().map(|hash| hash.cost).max();
        let Some(cost) = cost else {
            return Err(Error::Logins { why: "there is no user in it".to_owned() });
        };
        let nobody = Hashed { cost, salt: [7; 16], hash: [0; 23] };
        let (known, wrong, turns) = (Mutex::default(), Mutex::default(), Turns::default());
        Ok(Self { users, nobody, cost, known, wrong, turns })
    }

    /// Whether a request with this `Authorization` from this address is answered, and the name that logged in. Where a password is
    /// hashed for it, it waits its turn.
    ///
    /// # Errors
    /// Nobody is logged in.
    pub fn check(&self, authorization: Option<&str>, client: IpAddr) -> Result<String, No> {
        let Some(sent) = authorization else { return Err(No::Absent) };
        let key = Digest::of(sent.as_bytes());
        let known = || self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let wrong = || self.wrong.lock().unwrap_or_else(PoisonError::into_inner);
        let no = || No::Wrong;
        let remembered = || match (known().contains(&key), wrong().contains(&key)) {
            (true, _) => Some(true),
            (false, true) => Some(false),
            (false, false) => None,
        };
        if remembered() == Some(false) {
            return Err(no());
        }
        let (scheme, coded) = sent.split_once(' ').ok_or_else(no)?;
        if !scheme.eq_ignore_ascii_case("basic") {
            return Err(no());
        }
        let text = STANDARD.decode(coded.trim()).map_err(|_| no())?;
        let at = text.iter().position(|byte| *byte == b':').ok_or_else(no)?;
        let (name, password) = (&text[..at], &text[at + 1..]);
        let user = str::from_utf8(name).ok().and_then(|name| self.users.get(name));
        let answer = |right| match right {
            true => Ok(String::from_utf8_lossy(name).into_owned()),
            false => Err(no()),
        };
        if let Some(right) = remembered() {
            return answer(right);
        }
        let hashed = user.unwrap_or(&self.nobody);
        let turn = self.turns.take(client, name)?;
        // Engines log in on several connections at once: it may have been this one's turn before.
        if let Some(right) = remembered() {
            return answer(right);
        }
        let right = hashed.is_of(password) & user.is_some();
        self.nobody.waste(hashed.cost, self.cost);
        if right {
            let mut known = known();
            if known.len() < MAX_KNOWN {
                known.insert(key);
            }
        } else {
            let mut wrong = wrong();
            wrong.push_front(key);
            wrong.truncate(MAX_WRONG);
        }
        drop(turn);
        answer(right)
    }
}

/// No hash is ever shown.
impl fmt::Debug for Logins {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Logins({} users)", self.users.len())
    }
}

impl Hashed {
    /// Reads `$2y$05$` and 22 letters of salt with 31 of the hash.
    fn parse(text: &str) -> Result<Self, String> {
        let other = || {
            "its password is not hashed with bcrypt: `htpasswd -B` (or `-nB`) does that".to_owned()
        };
        let rest = ["$2y$", "$2b$", "$2a$"].iter().find_map(|kind| text.strip_prefix(kind));
        let (cost, letters) = rest.and_then(|rest| rest.split_once('$')).ok_or_else(other)?;
        let cost = cost.parse().ok().filter(|_| cost.len() == 2).ok_or_else(other)?;
        if !COST.contains(&cost) {
            let (least, most) = (COST.start(), COST.end());
            return Err(format!("a cost of {cost}, where {least} to {most} are taken"));
        }
        if letters.len() != 53 || !letters.is_ascii() {
            return Err(other());
        }
        let (salt, hash) = letters.split_at(22);
        let read = |letters: &str| LETTERS.decode(letters).ok();
        let salt = read(salt).and_then(|salt| salt.try_into().ok()).ok_or_else(other)?;
        let hash = read(hash).and_then(|hash| hash.try_into().ok()).ok_or_else(other)?;
        Ok(Self { cost, salt, hash })
    }

    /// Whether it is this password's.
    fn is_of(&self, password: &[u8]) -> bool {
        // A zero would end it for others, and what bcrypt does not read would not be asked for.
        let odd = password.is_empty() || password.contains(&0) || password.len() >= MAX_PASSWORD;
        let made = bcrypt(if odd { b"?" } else { password }, &self.salt, 1 << self.cost);
        // As long as it is, whichever byte differs.
        let pairs = made.iter().zip(&self.hash);
        let difference = pairs.fold(0, |all, (made, wanted)| all | black_box(made ^ wanted));
        !odd && difference == 0
    }

    /// The work by which a hash of `cost` is less than one of `most`.
    fn waste(&self, cost: u32, most: u32) {
        black_box(bcrypt(b"?", &self.salt, (1 << most) - (1 << cost)));
    }
}

/// bcrypt of a password of at most 71 bytes.
fn bcrypt(password: &[u8], salt: &[u8; 16], rounds: u64) -> [u8; 23] {
    let mut key = password.to_vec();
    key.push(0);
    let mut state: Blowfish = Blowfish::bc_init_state();
    state.salted_expand_key(salt, &key);
    for _ in 0..rounds {
        state.bc_expand_key(&key);
        state.bc_expand_key(salt);
    }
    key.fill(0);
    black_box(&key);
    let mut hash = [0; 24];
    for (block, out) in b"OrpheanBeholderScryDoubt".chunks_exact(8).zip(hash.chunks_exact_mut(8)) {
        let word = |at: usize| {
            u32::from_be_bytes([block[at], block[at + 1], block[at + 2], block[at + 3]])
        };
        let mut words = [word(0), word(4)];
        for _ in 0..64 {
            words = state.bc_encrypt(words);
        }
        out[..4].copy_from_slice(&words[0].to_be_bytes());
        out[4..].copy_from_slice(&words[1].to_be_bytes());
    }
    let mut short = [0; 23];
    short.copy_from_slice(&hash[..23]);
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `htpasswd -nbB -C 5 u secret`, and glibc's crypt(3) of the same password.
    const HTPASSWD: &str = "u:$2y$05$S8.ks7lcwInJ6sk1kcKLYOpPYFFFSA2iDrBQen3Enevv5Koo93Ca2";
    const CRYPT: &str = "v:$2b$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a";

    fn check(logins: &Logins, login: &str) -> bool {
        let sent = format!("Basic {}", STANDARD.encode(login));
        logins.check(Some(&sent), HERE).is_ok()
    }

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    #[test]
    fn a_comparison_takes_as_long_whoever_is_named() {
        // 2^5 and 2^9 rounds.
        let dear = CRYPT.replace("$05$", "$09$");
        let logins = Logins::parse(&format!("{HTPASSWD}\n{dear}\n")).unwrap();
        let rounds = |name: &str| {
            let cost = logins.users.get(name).unwrap_or(&logins.nobody).cost;
            (1_u64 << cost) + ((1 << logins.cost) - (1 << cost))
        };
        assert_eq!((rounds("u"), rounds("v"), rounds("x")), (512, 512, 512));
        assert!(check(&logins, "u:secret") && !check(&logins, "x:secret"));
    }

    /// 50 wrong logins at once, all of one kind or each of another, and a right one of the same address among them.
    #[test]
    fn wrong_logins_do_not_keep_a_right_one_of_their_address() {
        let dear = CRYPT.replace("$05$", "$09$");
        // Whose names fall into one kind do wait for each other: one pair in 64.
        let apart = |logins: &Logins| logins.turns.kind(b"u") != logins.turns.kind(b"v");
        let text = format!("{HTPASSWD}\n{dear}\n");
        let mut tries = (0..100).map(|_| Logins::parse(&text).unwrap());
        let logins = &tries.find(apart).unwrap();
        let kinds: [fn(u8) -> String; 2] = [|_| "v:old".to_owned(), |n| format!("v:guess {n}")];
        for wrong in kinds {
            std::thread::scope(|scope| {
                let guess = |n| scope.spawn(move || check(logins, &wrong(n)));
                let guesses: Vec<_> = (0..50).map(guess).collect();
                let right = scope.spawn(|| check(logins, "u:secret"));
                assert!(right.join().unwrap(), "it is not refused for them");
                assert!(guesses.into_iter().all(|guess| !guess.join().unwrap()));
            });
            logins.known.lock().unwrap().clear();
        }
        assert!(logins.wrong.lock().unwrap().len() < MAX_WRONG);
        // The same one once more takes no time at all.
        let begun = std::time::Instant::now();
        assert!((0..1000).all(|_| !check(logins, "v:old")));
        assert!(begun.elapsed().as_secs() < 2);
    }

    #[test]
    fn passwords_of_htpasswd() {
        let logins = Logins::parse(&format!("# users\n\n{HTPASSWD}\r\n{CRYPT}\n")).unwrap();
        // Twice: the second time from memory.
        for _ in 0..2 {
            for (login, right) in [
                ("u:secret", true),
                ("v:secret", true),
                ("u:Secret", false),
                ("u:secret ", false),
                ("u:", false),
                ("u", false),
                ("x:secret", false),
                (":secret", false),
                ("u:secret\0", false),
            ] {
                assert_eq!(check(&logins, login), right, "{login}");
            }
        }
        assert!(!check(&logins, &format!("u:{}", "x".repeat(100))));
        let other = |text: &str| logins.check(Some(text), HERE).is_err();
        assert!(other("Bearer dTpzZWNyZXQ=") && other("Basic") && other("Basic !") && other(""));
        assert!(logins.check(None, HERE).is_err());
        assert_eq!(format!("{logins:?}"), "Logins(2 users)");
    }

    #[test]
    fn other_files_are_refused_and_not_shown() {
        for (text, says) in [
            ("", "no user"),
            ("secret", "NAME:HASH"),
            ("u:secret", "bcrypt"),
            ("u:$apr1$abcdefgh$secretsecretsecretsecr", "bcrypt"),
            ("u:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=secret", "bcrypt"),
            (&HTPASSWD.replace("$05$", "$31$"), "a cost of 31"),
            (&HTPASSWD.replace("$05$", "$5$"), "bcrypt"),
            (&HTPASSWD[..60], "bcrypt"),
            (&format!("{HTPASSWD}\n{HTPASSWD}"), "line 2: its name stands there twice"),
        ] {
            let error = Logins::parse(text).unwrap_err().to_string();
            assert!(error.contains(says) && !error.contains("secret"), "{text}: {error}");
        }
    }
}
