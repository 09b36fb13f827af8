//! What installs the driver and its parts, by distribution.

use std::sync::LazyLock;

use serde::Deserialize;

use crate::table;

/// A distribution, as os-release(5) names it.
#[derive(Debug, Clone, Copy)]
pub struct Distribution<'a> {
    /// `ID`.
    pub id: &'a str,
    /// The words of `ID_LIKE`.
    pub like: &'a [String],
    /// The major number of `VERSION_ID`.
    pub major: Option<u32>,
    /// The release of the running kernel (`uname -r`).
    pub kernel: Option<&'a str>,
}

#[derive(Deserialize)]
struct Table {
    branch: u32,
    package: Vec<Row>,
}

#[derive(Deserialize)]
struct Row {
    family: String,
    from: Option<u32>,
    below: Option<u32>,
    what: String,
    first_branch: Option<u32>,
    last_branch: Option<u32>,
    kernel: Option<String>,
    #[serde(flatten)]
    install: Install,
}

/// How something is installed.
#[derive(Debug, Deserialize, PartialEq, Eq)]
pub struct Install {
    /// Commands, with `{branch}`, `{version}` and `{kernel}` to be filled in; none where words are all there is.
    #[serde(default)]
    pub run: Vec<String>,
    /// Where the packages come from, where the distribution's own sources lack them.
    pub repository: Option<String>,
    /// What is to be written or done before the commands, with `{branch}` and `{next}`, the branch after it.
    pub first: Option<String>,
    /// What the step is there, in place of the rule's own words.
    pub instead: Option<String>,
}

static TABLE: LazyLock<Table> = LazyLock::new(|| table::read(table::PACKAGES));

/// The driver branch to install where nothing else decides.
pub fn driver_branch() -> u32 {
    TABLE.branch
}

/// How `what` (`driver-open`, `driver-proprietary`, `fabric-manager`, `kernel-headers`, `firmware`, `libraries`, `initramfs`, `module-key`) of a
/// driver branch is installed; none where the facts know of no way.
pub fn install(
    distribution: Distribution<'_>,
    what: &str,
    branch: u32,
) -> Option<&'static Install> {
    let fits = |row: &&Row, family: &str| {
        let major =
            |holds: fn(u32, u32) -> bool, bound: Option<u32>| match (bound, distribution.major) {
                (None, _) => true,
                (Some(bound), Some(major)) => holds(major, bound),
                (Some(_), None) => false,
            };
        row.what == what
            && row.family == family
            && row.first_branch.is_none_or(|first| branch >= first)
            && row.last_branch.is_none_or(|last| branch <= last)
            && row
                .kernel
                .as_ref()
                .is_none_or(|part| distribution.kernel.is_some_and(|kernel| kernel.contains(part)))
            && major(|major, from| major >= from, row.from)
            && major(|major, below| major < below, row.below)
    };
    let like = distribution.like.iter().map(String::as_str);
    // What a distribution is like stands nearest first (os-release(5)).
    let mut families = std::iter::once(distribution.id).chain(like);
    families
        .find_map(|family| TABLE.package.iter().find(|row| fits(row, family)))
        .map(|row| &row.install)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn driver(id: &str, like: &[&str], major: u32) -> Option<&'static Install> {
        let like: Vec<String> = like.iter().map(|word| (*word).to_owned()).collect();
        install(
            Distribution { id, like: &like, major: Some(major), kernel: None },
            "driver-open",
            580,
        )
    }

    #[test]
    fn a_distribution_or_what_it_is_like() {
        let ubuntu = driver("ubuntu", &["debian"], 24).unwrap();
        assert!(ubuntu.run.concat().contains("nvidia-driver-{branch}-server-open"));
        assert_eq!(driver("pop", &["ubuntu", "debian"], 22).unwrap(), ubuntu);
        let debian = Distribution { id: "debian", like: &[], major: Some(13), kernel: None };
        assert!(driver("debian", &[], 13).unwrap().run.concat().contains("nvidia-open"));
        assert!(install(debian, "driver-proprietary", 580).is_some());
        assert!(install(debian, "driver-proprietary", 470).is_none(), "its 550 serves no Kepler");
        // The pins of a package hold from the next call on.
        let calls = &driver("debian", &[], 13).unwrap().run;
        assert!(!calls.iter().any(|call| call.contains("pinning") && call.contains("nvidia-open")));
        let rocky = driver("rocky", &["rhel", "centos", "fedora"], 9).unwrap();
        assert!(rocky.run.concat().contains("nvidia-driver:{branch}-open"));
        assert_eq!(driver("almalinux", &["rhel", "centos", "fedora"], 10).unwrap().run.len(), 1);
        assert!(driver("nixos", &[], 25).unwrap().first.is_some());
        assert!(driver("slackware", &[], 15).is_none());
        assert!(driver("arch", &[], 1).unwrap().run.is_empty(), "by the kernel alone");
    }

    /// A V100 needs the proprietary modules: packages, or words where there are none.
    #[test]
    fn every_distribution_has_a_way_for_a_volta() {
        for (id, like, major) in [
            ("ubuntu", &["debian"][..], 24),
            ("debian", &[], 13),
            ("rocky", &["rhel", "centos", "fedora"], 9),
            ("almalinux", &["rhel", "centos", "fedora"], 10),
            ("opensuse-leap", &["suse", "opensuse"], 16),
            ("sles", &["suse"], 15),
            ("arch", &[], 1),
            ("gentoo", &[], 2),
            ("nixos", &[], 26),
        ] {
            let like: Vec<String> = like.iter().map(|word| (*word).to_owned()).collect();
            let of = Distribution { id, like: &like, major: Some(major), kernel: None };
            let found = install(of, "driver-proprietary", 580);
            let found = found.unwrap_or_else(|| panic!("{id} has none"));
            assert!(found.first.is_some() || !found.run.is_empty(), "{id}");
        }
    }

    #[test]
    fn headers_are_those_of_the_kernel() {
        let headers = |id: &str, like: &[&str], major, kernel| {
            let like: Vec<String> = like.iter().map(|word| (*word).to_owned()).collect();
            let of = Distribution { id, like: &like, major: Some(major), kernel };
            install(of, "kernel-headers", 580).unwrap().run.concat()
        };
        for (kernel, package) in [
            (Some("6.8.12-4-pve"), "proxmox-headers-"),
            (Some("6.1.0-41-amd64"), " linux-headers-"),
            (None, " linux-headers-"),
        ] {
            assert!(headers("debian", &[], 12, kernel).contains(package), "{kernel:?}");
        }
        assert!(headers("debian", &[], 11, Some("5.15.158-2-pve")).contains(" pve-headers-"));
        let uek = Some("6.12.0-100.28.2.el9uek.x86_64");
        assert!(headers("ol", &["fedora"], 9, uek).contains("kernel-uek-devel-"));
        let el = Some("5.14.0-611.el9_7.x86_64");
        assert!(headers("ol", &["fedora"], 9, el).contains(" kernel-devel-"));
    }
}
