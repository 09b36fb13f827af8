//! Packages that go with each torch, beside a torch that is given: the newest release that fits is taken.

mod world;

use sconce_lock::{Explanation, Host, Lock, Native, Previous, Spec, resolve};
use world::World;

const FILES: [(&str, &str); 2] = [
    ("torchaudio-2.10.0-cp313-cp313-manylinux_2_28_x86_64.whl", "2026-01-21"),
    ("torchaudio-2.11.0-cp313-cp313-manylinux_2_28_x86_64.whl", "2026-03-23"),
];

/// torchaudio 2.11.0, which the facts know to be for CUDA 13.0; of 2.10.0 the wheel says which CUDA it is for.
fn world(older: &str) -> World {
    let native = Native { cuda: older.parse().ok(), ..Native::default() };
    World {
        versions: [("torchaudio", "2.11.0")].into(),
        older: [("torchaudio", "2.10.0")].into(),
        files: [("torchaudio", FILES.to_vec())].into(),
        native: [("torchaudio", Ok(native))].into(),
        ..World::default()
    }
}

fn lock(requirement: &str, world: &mut World) -> Result<(Lock, Explanation), String> {
    let host = Host { machine: Some("x86_64".parse().unwrap()), ..Host::default() };
    let text = format!("[environment]\ntorch = '2.15.0'\nrequirements = ['{requirement}']\n");
    resolve(&Spec::parse(&text).unwrap(), &host, Previous::NONE, world)
        .map_err(|error| format!("{error}\n{}", error.hint().unwrap_or_default()))
}

#[test]
fn an_older_release_that_fits_the_torch_that_was_named() {
    let (locked, explanation) = lock("torchaudio", &mut world("13.2")).unwrap();
    let version = |name: &str| locked.wheel(name).unwrap().version.clone();
    assert_eq!((version("torch"), version("torchaudio")), ("2.15.0".into(), "2.10.0".into()));
    let notes = explanation.notes.join("\n");
    let words = "torchaudio 2.10.0 was taken: torchaudio 2.11.0 is built for CUDA 13.0, and this torch has CUDA 13.2";
    assert!(notes.contains(words), "{notes}");
    assert!(!notes.contains("to have it"), "{notes}");
}

#[test]
fn a_release_that_was_named_and_one_that_does_not_fit_either() {
    let refused = "torch 2.15.0 and the packages beside it do not fit: torchaudio 2.11.0 is built for CUDA 13.0";
    let said = lock("torchaudio==2.11.0", &mut world("13.2")).unwrap_err();
    assert!(said.contains(refused), "{said}");
    let said = lock("torchaudio", &mut world("12.8")).unwrap_err();
    assert!(said.contains(refused), "{said}");
}
