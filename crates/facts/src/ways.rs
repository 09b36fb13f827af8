//! Commands that a system has another way for: another init, a configuration that makes /etc.

use std::sync::LazyLock;

use serde::Deserialize;

use crate::Distribution;
use crate::table;

#[derive(Deserialize)]
struct Table {
    way: Vec<Row>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    family: String,
    systemd: Option<bool>,
    command: String,
    first: Option<String>,
    #[serde(default)]
    run: Vec<String>,
    #[serde(rename = "source")]
    _source: String,
}

/// What stands in the place of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Way {
    /// What is to be written or done before the commands.
    pub first: Option<String>,
    /// The commands; none where words are all there is.
    pub run: Vec<String>,
}

static TABLE: LazyLock<Table> = LazyLock::new(|| table::read(table::WAYS));

/// What a distribution, with or without systemd, has in place of a command; nothing where the command is right there.
pub fn way(distribution: Distribution<'_>, systemd: bool, command: &str) -> Option<Way> {
    let like = distribution.like.iter().map(String::as_str);
    let mut families = std::iter::once(distribution.id).chain(like);
    families.find_map(|family| {
        let mut rows = TABLE
            .way
            .iter()
            .filter(|row| row.family == family && row.systemd.is_none_or(|only| only == systemd));
        rows.find_map(|row| {
            let words = words(&row.command, command)?;
            let fill = |text: &String| {
                let text = text.replace("{x}", words[0].unwrap_or_default());
                text.replace("{y}", words[1].unwrap_or_default())
            };
            Some(Way {
                first: row.first.as_ref().map(fill),
                run: row.run.iter().map(fill).collect(),
            })
        })
    })
}

/// What stands for {x} and {y}, where a command is of that form, word for word.
fn words<'a>(form: &str, command: &'a str) -> Option<[Option<&'a str>; 2]> {
    let mut found = [None; 2];
    let (mut forms, mut words) = (form.split(' '), command.split(' '));
    loop {
        let (form, word) = match (forms.next(), words.next()) {
            (None, None) => return Some(found),
            (form, word) => (form?, word?),
        };
        let named = ["{x}", "{y}"].iter().enumerate();
        let Some((at, (before, after))) =
            named.filter_map(|(at, name)| Some((at, form.split_once(name)?))).next()
        else {
            if form != word {
                return None;
            }
            continue;
        };
        let word = word.strip_prefix(before)?.strip_suffix(after)?;
        let is_name = !word.is_empty() && !word.starts_with('-');
        if !is_name || found[at].is_some_and(|known| known != word) {
            return None;
        }
        found[at] = Some(word);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        let of = |form: &str, command: &'static str| words(form, command);
        assert_eq!(of("a {x} b", "a c b"), Some([Some("c"), None]));
        assert_eq!(of("a {x} {y}", "a c d"), Some([Some("c"), Some("d")]));
        assert_eq!(of("a {x} {x}.conf", "a c c.conf"), Some([Some("c"), None]));
        assert_eq!(of("a", "a"), Some([None, None]));
        for (form, command) in [
            ("a {x} {x}.conf", "a b c.conf"),
            ("a {x} {x}", "a b c"),
            ("a {x}", "a"),
            ("a {x}", "a --now b"),
            ("a {x}", "a b c"),
            ("a", "a b"),
        ] {
            assert_eq!(of(form, command), None, "{form}: {command}");
        }
    }

    #[test]
    fn a_system_s_own_way() {
        let of = |id: &str, systemd: bool, command: &str| {
            let distribution = Distribution { id, like: &[], major: None, kernel: None };
            let way = way(distribution, systemd, command)?;
            Some((way.first.unwrap_or_default(), way.run.join("; ")))
        };
        let blacklist =
            "sh -c 'echo blacklist nova_core > /etc/modprobe.d/blacklist-nova_core.conf'";
        let words = "write `boot.blacklistedKernelModules = [ \"nova_core\" ];` into /etc/nixos/configuration.nix";
        assert_eq!(
            of("nixos", true, blacklist),
            Some((words.into(), "nixos-rebuild switch".into()))
        );
        assert_eq!(of("debian", true, blacklist), None);
        let enable = "systemctl enable --now nvidia-imex";
        assert_eq!(of("gentoo", true, enable), None);
        let openrc = "rc-update add nvidia-imex default; rc-service nvidia-imex start";
        assert_eq!(of("gentoo", false, enable), Some((String::new(), openrc.into())));
        let stop = "systemctl stop nvidia-persistenced";
        assert_eq!(of("void", false, stop).unwrap().1, "sv stop nvidia-persistenced");
        assert_eq!(of("alpine", false, stop).unwrap().1, "rc-service nvidia-persistenced stop");
        // Where no row says so it is what it was, with or without systemd.
        assert_eq!(of("ubuntu", false, stop), None);
    }
}
