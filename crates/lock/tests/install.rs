//! `app.install`: the project itself, and what its wheel is built in.

mod world;

use std::fs;
use std::path::Path;

use sconce_lock::{Error, Explanation, Host, Lock, Previous, Spec, Upgrade, resolve};
use world::{Source, World};

const PYPROJECT: &str = "[project]\nname = 'My_Tool'\nversion = '0.1'\ndependencies = ['einops']\n\n[build-system]\nrequires = ['hatchling']\n";

fn host() -> Host {
    let machine =
        sconce_facts::Machine::current().expect("tests run on a machine that is built for");
    Host { machine: Some(machine), ..Host::default() }
}

fn tried(
    folder: &Path,
    spec: &str,
    before: Option<&Lock>,
    world: &mut World,
) -> Result<(Lock, Explanation), Error> {
    let spec = Spec::of_text(spec, folder)?;
    let previous = Previous { lock: before, upgrade: &Upgrade::Nothing };
    let (lock, explanation) = resolve(&spec, &host(), previous, world)?;
    assert_eq!(Lock::parse(&lock.to_text()).unwrap(), lock);
    Ok((lock, explanation))
}

fn world(compiles: bool) -> World {
    let mut world = World::default();
    let requires = vec!["hatchling"];
    let more = vec!["hatch-vcs"];
    world.sources.insert("my-tool", Source { requires, more, compiles, ..Source::default() });
    world
}

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("pyproject.toml"), PYPROJECT).unwrap();
    folder
}

const SPEC: &str =
    "[environment]\ntorch = false\nrequirements = 'pyproject.toml'\n[app]\ninstall = true\n";

fn within(lock: &Lock) -> Vec<&str> {
    lock.project.iter().flat_map(|own| &own.wheels).map(|wheel| wheel.name.as_str()).collect()
}

#[test]
fn the_container_of_its_wheel_is_locked_and_its_bytes_are_not() {
    let (folder, mut world) = (folder(), world(false));
    let (lock, _) = tried(folder.path(), SPEC, None, &mut world).unwrap();
    // What its backend asked for is there as well.
    assert_eq!(within(&lock), ["hatch-vcs", "hatchling"]);
    assert!(lock.wheel("my-tool").is_none() && lock.wheel("hatchling").is_none());
    assert!(lock.build_debs.is_empty());
    let text = lock.to_text();
    assert!(text.contains("\nversion = 5\n") && text.contains("\n[project]\nname = \"my-tool\"\n"));

    // Another edit asks nothing again, and keeps it.
    let (built, asked) = (world.built.len(), world.asked.len());
    let spec = format!("{SPEC}command = ['my-tool']\n");
    let (again, _) = tried(folder.path(), &spec, Some(&lock), &mut world).unwrap();
    assert_eq!(again.project, lock.project);
    assert_eq!((world.built.len(), world.asked.len()), (built, asked));

    // It goes when it is no longer asked for.
    let spec = SPEC.replace("install = true", "install = false");
    let (without, explanation) = tried(folder.path(), &spec, Some(&lock), &mut world).unwrap();
    assert_eq!(without.project, None);
    assert!(!without.to_text().contains("hatchling"));
    let text = explanation.render();
    assert!(text.contains("My_Tool itself is not installed"), "{text}");
}

#[test]
fn another_build_system_makes_the_lock_stale() {
    let (folder, mut world) = (folder(), world(false));
    let (lock, _) = tried(folder.path(), SPEC, None, &mut world).unwrap();
    let path = folder.path().join("pyproject.toml");
    // Also where the requirements are not those of pyproject.toml.
    let spec = SPEC.replace("'pyproject.toml'", "['einops']");
    let fits = |lock: &Lock| lock.check_spec(&Spec::of_text(&spec, folder.path()).unwrap()).is_ok();
    let (lock, _) = tried(folder.path(), &spec, Some(&lock), &mut world).unwrap();
    assert!(fits(&lock));
    fs::write(&path, PYPROJECT.replace("'hatchling'", "'hatchling>=1'")).unwrap();
    assert!(!fits(&lock));
}

#[test]
fn code_is_compiled_against_the_torch_of_the_image() {
    let (folder, mut world) = (folder(), world(true));
    let spec = SPEC.replace("torch = false", "gpus = ['h100']");
    let (lock, _) = tried(folder.path(), &spec, None, &mut world).unwrap();
    let own = lock.project.as_ref().unwrap();
    assert_eq!(
        (own.flavour.as_str(), own.architectures.as_slice()),
        ("devel", &["9.0".into()][..])
    );
    let torch = own.wheels.iter().find(|wheel| wheel.name == "torch");
    assert_eq!(torch, lock.wheel("torch"));
    assert!(!lock.build_debs.is_empty(), "a compiler");
}

#[test]
fn what_cannot_be_installed_is_refused() {
    let folder = folder();
    let error = |text: &str, spec: &str| {
        fs::write(folder.path().join("pyproject.toml"), text).unwrap();
        let error = tried(folder.path(), spec, None, &mut world(false)).unwrap_err();
        error.to_string()
    };
    let spec = SPEC.replace("'pyproject.toml'", "['einops']");
    assert!(error("[tool.ruff]\n", &spec).contains("no `name` under [project]"));
    assert!(error("[project]\nname = '../x'\n", &spec).contains("no `name` under [project]"));
    assert!(error("[project\n", &spec).contains("pyproject.toml"));
    let twice = SPEC.replace("'pyproject.toml'", "['my.tool']");
    assert!(error(PYPROJECT, &twice).contains("among the requirements as well"));
    let address = PYPROJECT.replace("'hatchling'", "'x @ file:///etc/passwd'");
    let mut world = world(false);
    world.sources.get_mut("my-tool").unwrap().requires = vec!["x @ file:///etc/passwd"];
    fs::write(folder.path().join("pyproject.toml"), address).unwrap();
    let error = tried(folder.path(), SPEC, None, &mut world).unwrap_err().to_string();
    assert!(error.contains("which is an address"), "{error}");

    fs::remove_file(folder.path().join("pyproject.toml")).unwrap();
    let error = Spec::of_text(&spec, folder.path()).unwrap_err().to_string();
    assert!(error.contains("needs a pyproject.toml"), "{error}");
}
