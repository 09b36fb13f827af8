//! Logins from a netrc file, the format of ftp(1) that pip, uv and curl read.

use std::fmt;
use std::path::Path;

use crate::error::Error;

/// The largest file that is read, bytes.
const LIMIT: u64 = 1 << 20;

/// A user name and password. Its `Debug` shows neither.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    /// User name; for tokens often `__token__`.
    pub user: String,
    /// Password or token.
    pub password: String,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Login(..)")
    }
}

/// The logins of a netrc file.
#[derive(Clone, Debug, Default)]
pub struct Netrc {
    /// Host (`None`: `default`) and login, in the file's order.
    machines: Vec<(Option<String>, Login)>,
}

impl Netrc {
    /// Reads `path`; a file that isn't there has no logins.
    pub fn read(path: &Path) -> Result<Self, Error> {
        match sconce_open::read_to_string(path, LIMIT) {
            Ok(text) => Ok(Self::parse(&text)),
            Err(error) if sconce_open::is_missing(&error) => Ok(Self::default()),
            Err(source) => Err(Error::File { action: "read", path: path.to_owned(), source }),
        }
    }

    /// Parses a netrc file. Words it doesn't know are passed over, as others do.
    pub fn parse(text: &str) -> Self {
        let mut machines = Vec::new();
        let mut in_macro = false;
        let mut words = Vec::new();
        for line in text.lines() {
            // A macro definition goes on to the next empty line.
            in_macro &= !line.trim().is_empty();
            let line = line.split(" #").next().unwrap_or_default();
            if in_macro || line.trim_start().starts_with('#') {
                continue;
            }
            in_macro = line.trim_start().starts_with("macdef");
            if !in_macro {
                words.extend(line.split_whitespace());
            }
        }
        let mut words = words.into_iter();
        while let Some(word) = words.next() {
            let login = || Login { user: String::new(), password: String::new() };
            match word {
                "machine" => {
                    let Some(host) = words.next() else { break };
                    machines.push((Some(host.to_owned()), login()));
                }
                "default" => machines.push((None, login())),
                "login" | "password" => {
                    let Some((value, (_, login))) = words.next().zip(machines.last_mut()) else {
                        continue;
                    };
                    match word {
                        "login" => login.user = value.to_owned(),
                        _ => login.password = value.to_owned(),
                    }
                }
                _ => {}
            }
        }
        Self { machines }
    }

    /// The login for a host.
    pub fn login(&self, host: &str) -> Option<Login> {
        let for_host = |known: &Option<String>| known.as_deref().is_none_or(|name| name == host);
        self.machines.iter().find(|(known, _)| for_host(known)).map(|(_, login)| login.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_login_of_a_host() {
        let netrc = Netrc::parse(
            "# work\nmachine a.example.invalid login me password s#cret\n\
             macdef init\nmachine no login no\n\nmachine b.example.invalid\n  login you # who\n  password p\n\
             default login anyone password x\n",
        );
        let found = |host| netrc.login(host).map(|login| (login.user, login.password));
        assert_eq!(found("a.example.invalid"), Some(("me".into(), "s#cret".into())));
        assert_eq!(found("b.example.invalid"), Some(("you".into(), "p".into())));
        assert_eq!(found("no"), Some(("anyone".into(), "x".into())));
        assert_eq!(Netrc::parse("login x machine").login("x"), None);
        assert_eq!(format!("{:?}", netrc.login("no")), "Some(Login(..))");
    }
}
