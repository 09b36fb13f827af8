//! Each command of each fix: it splits into words as a shell does it, its program is one that `programs.toml` knows, with
//! options that it has.

#[path = "../../gpu/tests/world/mod.rs"]
mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use sconce_doctor::{Os, Snapshot, examine, rules};
use serde::Deserialize;
use world::world;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Program {
    #[serde(default)]
    words: Vec<String>,
    #[serde(default)]
    options: Vec<String>,
    #[serde(default)]
    arguments: bool,
    #[serde(default)]
    placeholders: bool,
    source: String,
    /// The Debian package to whose manual pages `scripts/check-programs.py` holds this row.
    package: Option<String>,
    /// Why it can't be held to one.
    unchecked: Option<String>,
    #[serde(default)]
    command: Vec<Command>,
}

/// A command of a program that has options for each of its commands.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Command {
    words: Vec<String>,
    options: Vec<String>,
    #[serde(default)]
    arguments: bool,
    source: String,
}

fn programs() -> BTreeMap<String, Program> {
    toml::from_str(include_str!("programs.toml")).unwrap()
}

/// All snapshots of the tests, on each distribution with its init, in a container and outside of one, in a cluster or none.
fn snapshots() -> Vec<Snapshot> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let files = |folder: &str| {
        let entries = fs::read_dir(root.join(folder)).unwrap();
        entries.map(|entry| entry.unwrap().path()).collect::<Vec<_>>()
    };
    let mut machines: Vec<Snapshot> = files("../gpu/tests/worlds")
        .iter()
        .map(|path| Snapshot::capture(&world(path.file_stem().unwrap().to_str().unwrap()).machine))
        .collect();
    let cases = files("tests/snapshots/cases");
    machines.extend(cases.iter().map(|path| Snapshot::load(path).unwrap()));
    let os = |id: &str, like: &[&str], version: &str| {
        let like = like.iter().map(|word| (*word).to_owned()).collect();
        Some(Os { id: id.into(), like, version: Some(version.into()) })
    };
    let distributions = [
        None,
        os("ubuntu", &["debian"], "24.04"),
        os("debian", &[], "13"),
        os("rocky", &["rhel", "centos", "fedora"], "9.6"),
        os("almalinux", &["rhel", "centos", "fedora"], "10.0"),
        os("fedora", &[], "44"),
        os("sles", &["suse"], "15.7"),
        os("opensuse-leap", &["suse", "opensuse"], "16.0"),
        os("nixos", &[], "26.05"),
        os("arch", &[], "20261101"),
        os("gentoo", &[], "2.18"),
        os("alpine", &[], "3.23"),
        os("void", &[], "1"),
        os("devuan", &["debian"], "6"),
    ];
    let mut all = Vec::new();
    for machine in machines {
        for os in &distributions {
            let systemd = match os.as_ref().map(|os| os.id.as_str()) {
                Some("alpine" | "void" | "devuan") => [false].as_slice(),
                Some("gentoo") => &[true, false],
                _ => &[true],
            };
            let places = [(false, None), (true, Some("kubernetes")), (false, Some("slurm"))];
            let each = |systemd: &bool| places.map(|(inside, cluster)| (*systemd, inside, cluster));
            for (systemd, container, cluster) in systemd.iter().flat_map(each) {
                let mut seen = machine.clone();
                seen.os.clone_from(os);
                seen.systemd = systemd;
                seen.container |= container;
                seen.cluster = cluster.map(str::to_owned);
                all.push(seen);
            }
        }
    }
    all
}

/// The words of a command: quotes group and go, nothing else is special.
fn split(command: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let (mut word, mut open, mut begun) = (String::new(), None, false);
    for char in command.chars() {
        match (char, open) {
            (quote @ ('\'' | '"'), None) => (open, begun) = (Some(quote), true),
            (quote, Some(other)) if quote == other => open = None,
            (' ', None) if begun => {
                words.push(std::mem::take(&mut word));
                begun = false;
            }
            (' ', None) => {}
            (char, _) => {
                word.push(char);
                begun = true;
            }
        }
    }
    if open.is_some() {
        return Err(format!("a quote is open in `{command}`"));
    }
    if begun {
        words.push(word);
    }
    Ok(words)
}

fn check(programs: &BTreeMap<String, Program>, command: &str) -> Result<(), String> {
    let words = split(command)?;
    let (name, rest) = words.split_first().ok_or("no program")?;
    let program = programs
        .get(name.trim_end_matches(".sh"))
        .ok_or_else(|| format!("`{name}` of `{command}` is in no table"))?;
    if name == "sh" {
        let script = rest.get(1).ok_or("no script")?;
        for part in script.split("; ").flat_map(|part| part.split(" || ")) {
            check(programs, part.split(" > ").next().unwrap())?;
        }
        return Ok(());
    }
    let mut rest = rest.iter();
    let (mut options, mut arguments) = (&program.options, program.arguments);
    if !program.command.is_empty() {
        let own = program.command.iter().find(|own| rest.as_slice().starts_with(&own.words));
        let own = own.ok_or_else(|| format!("{name} has no such command: `{command}`"))?;
        rest = rest.as_slice()[own.words.len()..].iter();
        (options, arguments) = (&own.options, own.arguments);
    }
    if !program.words.is_empty() {
        let first = rest.next().ok_or_else(|| format!("`{command}` does nothing"))?;
        if !program.words.contains(first) {
            return Err(format!("`{first}` is not a word of {name}: `{command}`"));
        }
    }
    for word in rest {
        let option = word.split('=').next().unwrap();
        let placeholder = word.contains('<') || word.contains('…') || word.contains('{');
        if placeholder && !program.placeholders {
            return Err(format!("`{word}` can't be typed: `{command}`"));
        }
        if word.starts_with('-') && !options.iter().any(|known| known == option) {
            return Err(format!("`{word}` is not an option of {name}: `{command}`"));
        }
        if !word.starts_with('-') && !arguments && !placeholder {
            return Err(format!("{name} takes no arguments: `{command}`"));
        }
    }
    Ok(())
}

#[test]
fn commands_can_be_typed() {
    let programs = programs();
    let mut met = BTreeSet::new();
    for seen in snapshots() {
        for finding in examine(&seen, None).findings {
            for command in finding.steps.iter().flat_map(|step| &step.commands) {
                if met.insert(command.clone()) {
                    check(&programs, command)
                        .unwrap_or_else(|why| panic!("{}: {why}", finding.rule.id));
                }
            }
        }
    }
    assert!(met.len() > 60, "{} commands were met", met.len());
    for wanted in [
        "apt-get install -y nvidia-driver-570-server-open",
        "apt-get install -y nvidia-driver-pinning-570",
        "dnf module switch-to -y --allowerasing nvidia-driver:570-open",
        "nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml",
        "apt-get install -y nvidia-open",
    ] {
        assert!(met.contains(wanted), "{wanted} is missing of {met:#?}");
    }
}

/// No distribution is told to use another's package manager, whatever else is not known of it.
#[test]
fn each_distribution_has_its_own_package_manager() {
    // SUSE has no dkms.
    const MANAGERS: [&str; 12] = [
        "apt-get",
        "dnf",
        "zypper",
        "update-initramfs",
        "dracut",
        "dkms",
        "pacman",
        "mkinitcpio",
        "emerge",
        "nixos-rebuild",
        "systemctl",
        "journalctl",
    ];
    for seen in snapshots().iter().filter(|seen| !seen.container) {
        let os = seen.os.as_ref().map(|os| os.id.as_str());
        let own: &[&str] = match os {
            Some("ubuntu" | "debian" | "devuan") => &["apt-get", "update-initramfs", "dkms"],
            Some("rocky" | "almalinux" | "fedora") => &["dnf", "dracut", "dkms"],
            Some("sles" | "opensuse-leap") => &["zypper", "dracut"],
            Some("arch") => &["pacman", "mkinitcpio", "dkms"],
            Some("gentoo") => &["emerge"],
            Some("nixos") => &["nixos-rebuild"],
            _ => &["dkms"],
        };
        let is_systemd = |program: &str| seen.systemd && program.ends_with("ctl");
        for finding in examine(seen, None).findings {
            for command in finding.steps.iter().flat_map(|step| &step.commands) {
                let program = command.split(' ').next().unwrap();
                assert!(
                    !MANAGERS.contains(&program) || own.contains(&program) || is_systemd(program),
                    "{os:?}: `{command}` of {}",
                    finding.rule.id
                );
            }
        }
    }
}

/// What a system is told that has its own place for what is set.
#[test]
fn a_system_is_told_its_own_way() {
    let said = |id: &str, rule: &str| -> BTreeSet<String> {
        let of =
            |seen: &&Snapshot| seen.os.as_ref().is_some_and(|os| os.id == id) && !seen.container;
        let all = snapshots();
        let findings = all.iter().filter(of).flat_map(|seen| examine(seen, None).findings);
        let findings = findings.filter(|finding| finding.rule.id == rule);
        findings.flat_map(|finding| finding.advice(false)).collect()
    };
    for (id, rule, words) in [
        ("nixos", "driver-not-loaded", "`boot.blacklistedKernelModules = [ \"nouveau\" ];`"),
        ("nixos", "uvm-missing", "`boot.kernelModules = [ \"nvidia-uvm\" ];`"),
        ("nixos", "module-not-built", "`nixos-rebuild switch`"),
        ("nixos", "needs-proprietary-module", "nvidiaPackages.legacy_580;`"),
        ("gentoo", "module-not-built", "`emerge @module-rebuild`"),
        ("gentoo", "driver-missing", "`reboot`"),
        ("void", "driver-missing", "`reboot`"),
        ("arch", "driver-missing", "nvidia-open"),
        ("opensuse-leap", "needs-proprietary-module", "nvidia-driver-G06-kmp-default"),
        ("almalinux", "needs-proprietary-module", "`dnf versionlock add '*nvidia*580*'`"),
        ("debian", "driver-missing", "cuda-keyring"),
    ] {
        let found = said(id, rule);
        assert!(found.iter().any(|line| line.contains(words)), "{id} {rule}: {found:#?}");
    }
    for line in said("nixos", "module-not-built").iter().chain(&said("gentoo", "module-not-built"))
    {
        assert!(!line.contains("dkms"), "{line}");
    }
}

/// The manual's advice has placeholders for numbers; its programs and options are known as well.
#[test]
fn advice_names_programs_that_exist() {
    let programs = programs();
    for rule in rules::RULES {
        let quoted = rule.fix.split('`').skip(1).step_by(2);
        for command in quoted.filter(|text| text.contains(' ')) {
            let typed = command.replace("<index>", "0").replace("<watts>", "300");
            let typed = typed.replace("<minor>", "0").replace("<bridge>", "0");
            let name = typed.split(' ').next().unwrap();
            if programs.contains_key(name) {
                check(&programs, &typed).unwrap_or_else(|why| panic!("{}: {why}", rule.id));
            }
        }
    }
}

#[test]
fn the_check_finds_what_it_is_for() {
    let programs = programs();
    for (name, program) in &programs {
        assert!(!program.source.is_empty(), "{name} has no source");
        assert!(
            program.package.is_some() != program.unchecked.is_some(),
            "{name}: package or unchecked"
        );
        for command in &program.command {
            assert!(!command.source.is_empty(), "{name} {:?} has no source", command.words);
        }
    }
    for wrong in [
        "nvidia-smi -r -i 3",
        "nvidia-smi --gpu-reset -i <index>",
        "nvidia-container-reset",
        "nvidia-ctk cdi generate --out=/etc/cdi/nvidia.yaml",
        "nvidia-ctk cdi generate --create-all",
        "nvidia-ctk cdi create-dev-char-symlinks --create-all",
        "nvidia-ctk system",
        "dcgmi diag --run-level 3",
        "dcgmi diagnose -r 3",
        "systemctl restrt nvidia-persistenced",
        "sh -c 'modprobe --remove nvidia'",
        "sh -c 'echo",
        "dkms build nvidia",
    ] {
        assert!(check(&programs, wrong).is_err(), "{wrong}");
    }
}
