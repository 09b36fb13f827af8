//! Against a real archive: not run by default, for it needs the network.
//!
//! `SCONCE_DEBIAN_MIRROR=... SCONCE_DEBIAN_TEST_DIR=... cargo test -p sconce-debian --test live
//! -- --ignored` resolves each flavour of each release; packages fetched stay in the folder.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use sconce_blob::Digest;
use sconce_debian::{
    Arch, DebFile, Fetch, FetchError, InRelease, Keyring, Options, Packages, Pin, Release, Source,
    Target, compose, omissions, resolve, roots,
};
use sconce_layer::{Content, Entry, Kind};

struct Curl;

impl Fetch for Curl {
    fn get(&self, url: &str, limit: u64) -> Result<Option<Vec<u8>>, FetchError> {
        let limit = limit.to_string();
        let output =
            Command::new("curl").args(["-sSfL", "--max-filesize", &limit, url]).output()?;
        match output.status.code() {
            Some(0) => Ok(Some(output.stdout)),
            Some(22) => Ok(None),
            _ => Err(String::from_utf8_lossy(&output.stderr).into()),
        }
    }
}

fn mirror() -> String {
    std::env::var("SCONCE_DEBIAN_MIRROR").expect("SCONCE_DEBIAN_MIRROR names a mirror")
}

fn folder() -> PathBuf {
    std::env::var_os("SCONCE_DEBIAN_TEST_DIR").expect("SCONCE_DEBIAN_TEST_DIR is set").into()
}

fn archive(suite: &str) -> String {
    let security = suite.ends_with("-security");
    format!("{}{}", mirror(), if security { "-security" } else { "" })
}

fn load(target: Target) -> Packages {
    let keyring = Keyring::debian().unwrap();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let mut packages = Packages::new();
    let release = target.release;
    for suite in release.updates.iter().chain([&release.codename, &release.security]) {
        let source = Source { url: archive(suite), suite: suite.clone(), check_valid_until: true };
        let started = Instant::now();
        let signed = InRelease::fetch(&source, &keyring, now, &Curl).unwrap().unwrap();
        eprintln!(
            "{} of {} by {}: {:?}",
            source.suite,
            signed.date,
            signed.signer,
            started.elapsed()
        );
        signed.add_packages(&source, target, &Curl, &mut packages).unwrap();
        eprintln!("  {} packages, {:?}", packages.len(), started.elapsed());
    }
    packages.finish();
    packages
}

/// The .debs of the pins, fetched once.
fn debs(pins: &[Pin]) -> Vec<PathBuf> {
    let folder = folder().join("debs");
    std::fs::create_dir_all(&folder).unwrap();
    let fetch = |pin: &Pin| {
        let path = folder.join(pin.filename.rsplit('/').next().unwrap());
        if !path.exists() {
            let url = format!("{}/{}", archive(&pin.suite), pin.filename);
            let bytes = Curl.get(&url, pin.size).unwrap().unwrap();
            assert_eq!(Digest::of(&bytes), pin.sha256);
            std::fs::write(&path, bytes).unwrap();
        }
        path
    };
    pins.iter().map(fetch).collect()
}

#[test]
#[ignore = "needs a mirror: see above"]
fn flavours_resolve() {
    for release in Release::all() {
        for arch in Arch::ALL {
            let target = Target { release, arch };
            let packages = load(target);
            for flavour in ["runtime", "devel"] {
                let roots = roots(flavour, target, true).unwrap();
                let pins = resolve(&roots, omissions(), &packages, target).unwrap();
                let size: u64 = pins.iter().map(|pin| pin.size).sum();
                let names: Vec<_> = pins.iter().map(|pin| pin.name.as_str()).collect();
                eprintln!(
                    "{} {arch} {flavour}: {} packages, {size} bytes\n{}",
                    release.codename,
                    pins.len(),
                    names.join(" ")
                );
                debs(&pins);
            }
        }
    }
}

/// Writes entries to disk, as root, for a look at them from inside.
fn write(entries: &[Entry], root: &Path) {
    let _ = fs::remove_dir_all(root);
    fs::create_dir_all(root).unwrap();
    for entry in entries {
        let path = root.join(&entry.path);
        match &entry.kind {
            Kind::Directory => fs::create_dir(&path).unwrap(),
            Kind::Symlink { target } => symlink(target, &path).unwrap(),
            Kind::Hardlink { target } => fs::hard_link(root.join(target), &path).unwrap(),
            Kind::File(Content::Bytes(bytes)) => fs::write(&path, bytes).unwrap(),
            Kind::File(Content::Range { source, offset, len }) => {
                let mut bytes = vec![0; *len as usize];
                source.read_exact_at(&mut bytes, *offset).unwrap();
                fs::write(&path, bytes).unwrap();
            }
            Kind::File(Content::Path { .. }) => unreachable!(),
        }
        lchown(&path, Some(entry.meta.uid), Some(entry.meta.gid)).unwrap();
        if !matches!(entry.kind, Kind::Symlink { .. }) {
            fs::set_permissions(&path, Permissions::from_mode(entry.meta.mode)).unwrap();
        }
    }
}

fn peak_memory() -> String {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    status.lines().find(|line| line.starts_with("VmHWM")).unwrap().to_owned()
}

#[test]
#[ignore = "needs a mirror: see above"]
fn roots_compose() {
    let wanted = std::env::var("SCONCE_DEBIAN_ROOTS")
        .unwrap_or("trixie-amd64-runtime bookworm-amd64-runtime trixie-arm64-runtime".into());
    for name in wanted.split(' ') {
        let mut parts = name.split('-');
        let (release, arch) = (parts.next().unwrap(), parts.next().unwrap());
        let target = Target::new(release, arch).unwrap();
        let mut roots = roots(parts.next().unwrap(), target, true).unwrap();
        roots.extend(parts.map(str::to_owned));
        let pins = resolve(&roots, omissions(), &load(target), target).unwrap();
        let open = |(pin, path): (&Pin, PathBuf)| DebFile {
            name: pin.name.clone(),
            version: pin.version.clone(),
            source: Arc::new(File::open(path).unwrap()),
        };
        let packages: Vec<_> = pins.iter().zip(debs(&pins)).map(open).collect();
        eprintln!("before: {}", peak_memory());
        fs::write("/proc/self/clear_refs", "5").unwrap();
        let folder = folder();
        let mut threads = 1;
        while threads <= 2 {
            let options = Options { target, scratch: &folder, threads, progress: &|_| {} };
            let started = Instant::now();
            let entries = compose(&packages, &options).unwrap();
            let spent = started.elapsed();
            let size: u64 = entries
                .iter()
                .map(|entry| match &entry.kind {
                    Kind::File(content) => content.len(),
                    _ => 0,
                })
                .sum();
            let (count, peak) = (packages.len(), peak_memory());
            eprintln!(
                "{name}: {count} packages, {} paths, {size} bytes, {threads} threads, {spent:?}, {peak}",
                entries.len()
            );
            if threads == 2 {
                write(&entries, &folder.join(name));
            }
            threads += 1;
        }
    }
}
