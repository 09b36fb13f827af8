//! Against a real archive: not run by default, for it needs the network.
//!
//! `SCONCE_DEBIAN_MIRROR=... SCONCE_DEBIAN_TEST_DIR=... cargo test -p sconce-debian --test live
//! -- --ignored` resolves each flavour of each release; packages fetched stay in the folder.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use sconce_blob::Digest;
use sconce_debian::{
    Arch, Fetch, FetchError, InRelease, Keyring, Packages, Pin, Release, Source, Target, omissions,
    resolve, roots,
};

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
                let roots = roots(flavour, target).unwrap();
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
