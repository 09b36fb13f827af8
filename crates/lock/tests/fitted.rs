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

/// A world where `x` up to 1.0 is for CUDA 11, which no torch has, and 2.0 for CUDA 12; torchaudio 2.11.0 is for 13.0.
fn two(asked: &str) -> Result<(Lock, Explanation), String> {
    let mut world = world("12.8");
    world.versions.insert("x", "2.0+cu126");
    world.older.insert("x", "1.0+cu118");
    world.native.insert("x", Ok(Native::default()));
    world.requires.insert("on-x", vec!["x>=1.0"]);
    let host = Host { machine: Some("x86_64".parse().unwrap()), ..Host::default() };
    let text = format!("[environment]\nrequirements = [{asked}]\n");
    resolve(&Spec::parse(&text).unwrap(), &host, Previous::NONE, &mut world)
        .map_err(|error| format!("{error}\n{}", error.hint().unwrap_or_default()))
}

/// A package that goes with each torch keeps away no torch that another package needs.
#[test]
fn a_torch_that_one_package_needs_and_the_release_of_another_that_goes_with_it() {
    let (locked, explanation) = two("'x', 'torchaudio'").unwrap();
    let version = |name: &str| locked.wheel(name).unwrap().version.clone();
    assert_eq!(version("torch"), "2.10.0");
    assert_eq!((version("torchaudio"), version("x")), ("2.10.0".into(), "2.0+cu126".into()));
    let notes = explanation.notes.join("\n");
    let words = "torchaudio 2.10.0 was taken: torchaudio 2.11.0 is built for CUDA 13.0, and this torch has CUDA 12.8";
    assert!(notes.contains(words) && !notes.contains("torch 2.10.0 was not taken"), "{notes}");
}

/// A way out that loosens what the user asks for comes before doing without the package.
#[test]
fn a_bound_of_the_user_s_own() {
    let said = two("'x<2', 'torchaudio', 'on-x'").unwrap_err();
    assert!(said.contains("x 1.0+cu118 is built for CUDA 11.8"), "{said}");
    assert!(said.ends_with("\nloosen `x<2`: x 2.0+cu126 fits torch 2.10.0"), "{said}");
    // Where none is known it is said who needs what would be left out.
    let mut world = world("12.8");
    world.versions.insert("x", "1.0+cu118");
    world.native.insert("x", Ok(Native::default()));
    world.requires.insert("on-x", vec!["numpy", "x>=1.0"]);
    world.requires.insert("not-on-x", vec!["x>=1.0; python_version < '3'", "xx"]);
    let host = Host { machine: Some("x86_64".parse().unwrap()), ..Host::default() };
    let text = "[environment]\nrequirements = ['x', 'on-x', 'not-on-x']\n";
    let error =
        resolve(&Spec::parse(text).unwrap(), &host, Previous::NONE, &mut world).unwrap_err();
    let hint = error.hint().unwrap_or_default();
    assert!(hint.ends_with("under [environment] leaves it out, and on-x 1.0 needs it"), "{hint}");
}
