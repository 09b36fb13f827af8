//! A torch that the requirements themselves name, and packages that are too new for it or too old for what is beside them.

mod world;

use sconce_lock::{Error, Explanation, Host, Lock, Previous, Spec, resolve};
use world::World;

fn lock(spec: &str, world: &mut World) -> Result<(Lock, Explanation), Error> {
    let host = Host { machine: Some(sconce_facts::Machine::X86_64), ..Host::default() };
    resolve(&Spec::parse(spec).unwrap(), &host, Previous::NONE, world)
}

/// What is said of choices, but for what torch leaves open.
fn notes(explanation: &Explanation) -> Vec<&str> {
    let notes = explanation.notes.iter().map(String::as_str);
    notes.filter(|note| !note.starts_with("pinned here")).collect()
}

fn version<'l>(lock: &'l Lock, name: &str) -> &'l str {
    lock.wheel(name).map_or("none", |wheel| &wheel.version)
}

/// No other torch is asked about, and nothing is said of one.
#[test]
fn no_other_torch_is_asked_about() {
    for asked in ["torch==2.4.1", "torch>=2.3,<2.5"] {
        let mut world = World::default();
        let spec = format!("[environment]\nrequirements = ['{asked}', 'a']");
        let (now, explanation) = lock(&spec, &mut world).unwrap();
        assert_eq!(version(&now, "torch"), "2.4.1");
        assert_eq!(notes(&explanation), [] as [&str; 0]);
        assert_eq!(world.asked.len(), 1);
    }
}

/// Where something else can't be had, the refusal speaks of that.
#[test]
fn a_name_that_no_index_has_beside_a_torch() {
    let words = "Because pytorch3d was not found in the package registry and you require pytorch3d, we can conclude that \
                 your requirements are unsatisfiable.";
    let mut world = World {
        unmet: ["3.9", "3.10", "3.11", "3.12", "3.13"]
            .map(|python| ("pytorch3d", python, words))
            .into(),
        ..World::default()
    };
    let spec = "[environment]\nrequirements = ['torch==2.1.0', 'pytorch3d']";
    let error = lock(spec, &mut world).unwrap_err();
    let (text, hint) = (error.to_string(), error.hint().unwrap());
    assert!(!text.contains("torch>="), "{text}");
    assert!(hint.contains("no index has `pytorch3d`"), "{hint}");
}

/// A package that needs an old torch beside a torch that is named: the refusal names the package.
#[test]
fn a_package_for_an_old_torch_beside_a_newer_one() {
    let words = "Because torchvision==0.15.2 depends on torch==2.0.1 and you require torch==2.5.1, we can conclude that \
                 torchvision==0.15.2 cannot be used.";
    let mut world = World {
        unmet: ["3.9", "3.10", "3.11", "3.12", "3.13"]
            .map(|python| ("torchvision==0.15.2", python, words))
            .into(),
        ..World::default()
    };
    let spec = "[environment]\nrequirements = ['torch==2.5.1', 'torchvision==0.15.2']";
    let error = lock(spec, &mut world).unwrap_err().to_string();
    assert!(error.contains("torchvision==0.15.2 depends on torch==2.0.1"), "{error}");
    let asked = world.asked.iter().flat_map(|asked| &asked.requirements);
    assert!(asked.into_iter().all(|asked| asked != "torch==2.0.1"));
}

const OWN_EXTRAS: &[&str] = &[
    "numpy>=1.17",
    "torch>=2.6; extra == 'all'",
    "torch>=2.6; extra == 'torch'",
    "accelerate>=1.1; extra == 'torch'",
    "torch>=2.0; extra == 'dev'",
];

fn own_extras() -> World {
    World {
        versions: [("transformers", "5.24.0")].into(),
        older: [("transformers", "4.57.6")].into(),
        requires: [
            ("transformers 5.24.0", OWN_EXTRAS.to_vec()),
            ("transformers 4.57.6", vec!["torch>=2.2; extra == 'torch'"]),
        ]
        .into(),
        with_extra: vec![("transformers", "torch", "4.57.6")],
        ..World::default()
    }
}

/// What a package asks of torch under an extra of its own holds where torch is there, whoever asked for it.
#[test]
fn own_extras_ask_for_a_newer_torch() {
    let spec =
        |torch: &str| format!("[environment]\nrequirements = ['torch=={torch}', 'transformers']");
    let (now, explanation) = lock(&spec("2.4.1"), &mut own_extras()).unwrap();
    assert_eq!(version(&now, "transformers"), "4.57.6");
    // The extra brings nothing into the lock.
    assert_eq!(version(&now, "nvidia-torch"), "none");
    assert_eq!(
        notes(&explanation),
        [
            "transformers 4.57.6 was taken: transformers 5.24.0 wants torch>=2.6 (its extra `torch`), and torch is 2.4.1"
        ]
    );
    for torch in ["2.6.0", "2.15.0"] {
        let (now, explanation) = lock(&spec(torch), &mut own_extras()).unwrap();
        assert_eq!(version(&now, "transformers"), "5.24.0", "{torch}");
        assert_eq!(notes(&explanation), [] as [&str; 0], "{torch}");
    }
    // Where there is none that fits it is said.
    let mut world = World { with_extra: Vec::new(), ..own_extras() };
    let (now, explanation) = lock(&spec("2.4.1"), &mut world).unwrap();
    assert_eq!(version(&now, "transformers"), "5.24.0");
    assert_eq!(
        notes(&explanation),
        [
            "transformers 5.24.0 wants torch>=2.6 (its extra `torch`), and torch is 2.4.1: it may do without torch"
        ]
    );
}

/// pkg_resources is in no setuptools from 82 on.
#[test]
fn setuptools_for_what_imports_pkg_resources() {
    let world = || World {
        versions: [
            ("tensorboard", "2.15.2"),
            ("librosa", "0.9.2"),
            ("pytorch-lightning", "2.4.0"),
            ("setuptools", "84.2.1"),
        ]
        .into(),
        older: [("setuptools", "81.0.0")].into(),
        ..World::default()
    };
    let locked = |names: &str| {
        let spec = format!("[environment]\ntorch = false\nrequirements = [{names}]");
        let (now, explanation) = lock(&spec, &mut world()).unwrap();
        (version(&now, "setuptools").to_owned(), notes(&explanation).join("\n"))
    };
    let needs = "needs setuptools<82, which its metadata does not say";
    assert_eq!(
        locked("'tensorboard', 'setuptools'"),
        (
            "81.0.0".into(),
            format!("setuptools 81.0.0 was taken, not 84.2.1: tensorboard 2.15.2 {needs}")
        )
    );
    // It is brought where nobody asks for it.
    assert_eq!(
        locked("'librosa'"),
        ("81.0.0".into(), format!("setuptools 81.0.0 was taken: librosa 0.9.2 {needs}"))
    );
    assert_eq!(locked("'pytorch-lightning', 'setuptools'"), ("84.2.1".into(), String::new()));
}

/// dgl 2.1.0 imports torchdata.datapipes, which is in no torchdata from 0.10 on; its metadata names torchdata without that end.
#[test]
fn torchdata_with_datapipes_for_dgl() {
    let locked = |names: &str, older: &'static str| {
        let mut world = World {
            versions: [("dgl", "2.1.0"), ("torchdata", "0.11.0")].into(),
            older: [("torchdata", older)].into(),
            ..World::default()
        };
        let spec = format!("[environment]\ntorch = false\nrequirements = [{names}]");
        lock(&spec, &mut world)
    };
    let (now, explanation) = locked("'dgl', 'torchdata'", "0.9.0").unwrap();
    assert_eq!(version(&now, "torchdata"), "0.9.0");
    assert_eq!(
        notes(&explanation),
        [
            "torchdata 0.9.0 was taken, not 0.11.0: dgl 2.1.0 needs torchdata<0.10, which its metadata does not say"
        ]
    );
    // Its metadata brings it: where it was left out, the project said so.
    let (now, explanation) = locked("'dgl'", "0.9.0").unwrap();
    assert!(now.wheels.iter().all(|wheel| wheel.name != "torchdata"), "{now:?}");
    assert_eq!(notes(&explanation), [""; 0]);
}

/// The version in a row is that of the package that needs it: jaxlib is no newer than jax.
#[test]
fn jaxlib_is_no_newer_than_an_old_jax() {
    let locked = |jax: &'static str| {
        let mut world = World {
            versions: [("jax", jax), ("jaxlib", "0.10.2")].into(),
            older: [("jaxlib", "0.4.20")].into(),
            ..World::default()
        };
        let spec = "[environment]\ntorch = false\nrequirements = ['jax', 'jaxlib']";
        let (now, explanation) = lock(spec, &mut world).unwrap();
        (version(&now, "jaxlib").to_owned(), notes(&explanation).join("\n"))
    };
    let (taken, said) = locked("0.4.20");
    assert_eq!(taken, "0.4.20", "{said}");
    assert!(
        said.contains("jax 0.4.20 needs jaxlib<=0.4.20, which its metadata does not say"),
        "{said}"
    );
    assert_eq!(locked("0.4.30").0, "0.10.2");
}

/// What a dependency no longer has is taken from the time when it had it.
#[test]
fn a_dependency_that_lost_what_an_old_release_imports() {
    let mut world = World {
        versions: [("diffusers", "0.20.0"), ("huggingface-hub", "0.36.2")].into(),
        older: [("huggingface-hub", "0.25.2")].into(),
        ..World::default()
    };
    let spec = "[environment]\nrequirements = ['diffusers', 'huggingface-hub']";
    let (now, explanation) = lock(spec, &mut world).unwrap();
    assert_eq!(version(&now, "huggingface-hub"), "0.25.2");
    assert_eq!(
        notes(&explanation),
        [
            "huggingface-hub 0.25.2 was taken, not 0.36.2: diffusers 0.20.0 needs huggingface-hub<0.26, which its metadata does not say"
        ]
    );
}

/// The resolver may give way at what was asked for by name: that is not taken years old where all can be had with a newer
/// one.
#[test]
fn what_was_named_is_not_years_old_for_what_was_not() {
    let files =
        vec![("a-1.0-py3-none-any.whl", "2020-01-01"), ("a-3.0-py3-none-any.whl", "2026-10-01")];
    let mut world =
        World { older: [("a", "2.0")].into(), files: [("a", files)].into(), ..World::default() };
    let (now, explanation) = lock("[environment]\nrequirements = ['a']", &mut world).unwrap();
    assert_eq!(version(&now, "a"), "2.0", "{:?}", notes(&explanation));
    // What was found is what is advised.
    let files =
        vec![("a-1.0-py3-none-any.whl", "2026-01-01"), ("a-3.0-py3-none-any.whl", "2026-10-01")];
    let mut world =
        World { older: [("a", "2.0")].into(), files: [("a", files)].into(), ..World::default() };
    let (now, explanation) = lock("[environment]\nrequirements = ['a']", &mut world).unwrap();
    assert_eq!(version(&now, "a"), "1.0");
    assert_eq!(
        notes(&explanation),
        ["a 1.0 was taken, not 3.0: name `a>=2.0` to have 2.0 at least"]
    );
}

/// An index without pip is no reason to refuse: the image has none then.
#[test]
fn an_index_without_pip() {
    let words = "Because pip was not found in the package registry and you require pip, we can conclude that your \
                 requirements are unsatisfiable.";
    let mut world = World {
        unmet: ["3.11", "3.13"].map(|python| ("pip", python, words)).into(),
        ..World::default()
    };
    let spec = "[environment]\nrequirements = ['a']";
    let (now, explanation) = lock(spec, &mut world).unwrap();
    assert_eq!((version(&now, "a"), version(&now, "pip")), ("1.0", "none"));
    assert_eq!(notes(&explanation), ["no index has pip, so the image has none"]);
    // Asked for by a person it is.
    assert!(lock("[environment]\nrequirements = ['a', 'pip']", &mut world).is_err());
}

/// No building is advised of what is not what its name says.
#[test]
fn a_name_that_stands_for_something_else() {
    let words = "Because all versions of sklearn have no usable wheels and you require sklearn, we can conclude that your \
                 requirements are unsatisfiable.\n\nhint: Wheels are required for `sklearn` because building from source \
                 is disabled";
    let world = || World {
        unmet: ["3.9", "3.10", "3.11", "3.12", "3.13", "3.14"]
            .map(|python| ("sklearn", python, words))
            .into(),
        files: [
            ("sklearn", vec![("sklearn-0.0.post12.tar.gz", "2023-12-01")]),
            ("evdev", vec![("evdev-1.0.tar.gz", "2023-12-01")]),
        ]
        .into(),
        ..World::default()
    };
    let error = lock("[environment]\nrequirements = ['sklearn']", &mut world()).unwrap_err();
    let (text, hint) = (error.to_string(), error.hint().unwrap());
    assert!(text.contains("`sklearn` there is not what you mean, but an empty package"), "{text}");
    assert!(text.contains("ask for `scikit-learn`"), "{text}");
    assert_eq!(hint, "ask for what you mean instead, or leave it out");
    let error =
        lock("[environment]\nrequirements = ['sklearn', 'evdev']", &mut world()).unwrap_err();
    assert!(error.hint().unwrap().contains("`from-source = [\"evdev\"]`"), "{error}");
}

/// What is years old is given up for what is not, though that makes something else older.
#[test]
fn fewer_packages_are_years_old() {
    let a =
        vec![("a-1.0-py3-none-any.whl", "2020-01-01"), ("a-3.0-py3-none-any.whl", "2026-10-01")];
    let mut world =
        World { older: [("a", "3.0")].into(), files: [("a", a)].into(), ..World::default() };
    let (now, explanation) = lock("[environment]\nrequirements = ['a', 'c']", &mut world).unwrap();
    assert_eq!(version(&now, "a"), "3.0");
    assert_eq!(notes(&explanation), [] as [&str; 0]);
}

/// A torch is named as the first that fits also where it is taken only if it is asked for.
#[test]
fn the_first_torch_that_fits() {
    let spec = "[environment]\ngpus = ['a100']\ntorch = '1.12.1'\n";
    let error = lock(spec, &mut World::default()).unwrap_err();
    assert!(
        error.hint().unwrap().contains("the first torch that fits is 1.13.0,"),
        "{:?}",
        error.hint()
    );
    // PyTorch's own index has builds for other CUDAs.
    let spec = "[environment]\ngpus = ['a100']\ntorch = '2.0.1'\ncuda = '11.8'\n";
    let (now, _) = lock(spec, &mut World::default()).unwrap();
    assert_eq!(version(&now, "torch"), "2.0.1+cu118");
}

/// torchao takes names from torch that older ones do not have, and its metadata does not name torch.
#[test]
fn a_torchao_that_an_old_torch_can_import() {
    let locked = |torch: &str, asked: &str, older: &'static str| {
        let mut world = World {
            versions: [("torchao", "0.18.0")].into(),
            older: [("torchao", older)].into(),
            ..World::default()
        };
        let spec = format!("[environment]\nrequirements = ['torch=={torch}', '{asked}']");
        lock(&spec, &mut world)
    };
    let needs = "which its metadata does not say, and torch is";
    for (torch, bound, older) in
        [("2.7.1", "2.10", "0.17.0"), ("2.6.0", "2.7", "0.16.0"), ("2.5.1", "2.6", "0.12.0")]
    {
        let (now, explanation) = locked(torch, "torchao", older).unwrap();
        assert_eq!(version(&now, "torchao"), older);
        let words =
            format!("torchao 0.18.0 was not taken: it needs torch>={bound}, {needs} {torch}");
        assert_eq!(notes(&explanation), [words]);
    }
    let (now, explanation) = locked("2.10.0", "torchao", "0.17.0").unwrap();
    assert_eq!(version(&now, "torchao"), "0.18.0");
    assert_eq!(notes(&explanation), [""; 0]);
}
