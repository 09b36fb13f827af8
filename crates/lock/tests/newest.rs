//! A requirement whose newest release can be had on another Python only.

mod world;

use expect_test::expect;
use sconce_lock::{Error, Explanation, Host, Lock, Previous, Spec, Upgrade, resolve};
use world::World;

const WORDS: &str = "b==1 has no wheels with a matching Python ABI tag (e.g., `cp313`)";

fn lock(spec: &str, world: &mut World) -> Result<(Lock, Explanation), Error> {
    let host = Host { machine: Some(sconce_facts::Machine::X86_64), ..Host::default() };
    resolve(&Spec::parse(spec).unwrap(), &host, Previous::NONE, world)
}

/// The newest release of `a` has a wheel for any Python, and needs something that Python 3.13 lacks.
fn held_back() -> World {
    let files =
        vec![("a-1.0-py3-none-any.whl", "2026-09-10"), ("a-2.0-py3-none-any.whl", "2026-10-01")];
    World {
        versions_on: [(("a", "3.11"), "2.0"), (("a", "3.12"), "2.0")].into(),
        unmet: vec![("a>=1.0,!=1.0", "3.13", WORDS), ("a[x]>=1.0,!=1.0,<3", "3.13", WORDS)],
        files: [("a", files)].into(),
        ..World::default()
    }
}

/// What is said of choices, but for what torch leaves open.
fn notes(explanation: &Explanation) -> Vec<&str> {
    let notes = explanation.notes.iter().map(String::as_str);
    notes.filter(|note| !note.starts_with("pinned here")).collect()
}

fn taken(lock: &Lock) -> (&str, &str) {
    (lock.facts.python.as_str(), lock.wheel("a").unwrap().version.as_str())
}

const TORCH: &str = "[environment]\nrequirements = ['a']";
const NO_TORCH: &str = "[environment]\ntorch = false\nrequirements = ['a']";

#[test]
fn another_python_before_an_older_release() {
    let note = "Python 3.11 was taken for a 2.0: on Python 3.13 the newest that can be had is 1.0";
    let extra = "[environment]\nrequirements = ['a[x]<3']";
    for spec in [TORCH, NO_TORCH, extra] {
        let (now, explanation) = lock(spec, &mut held_back()).unwrap();
        assert_eq!(taken(&now), ("3.11", "2.0"), "{spec}");
        assert_eq!(notes(&explanation), [note], "{spec}");
        let said = explanation.render();
        assert!(said.contains("the newest of your requirements"), "{said}");
    }
    // Two questions decide that, one is for the set of the other Python.
    let mut world = held_back();
    let (now, _) = lock(TORCH, &mut world).unwrap();
    assert_eq!(world.asked.len(), 4);
    assert_eq!(now.facts.torch.unwrap().version, "2.15.0");
}

/// What has no wheel for this Python itself is the same.
#[test]
fn a_release_without_a_wheel_here() {
    let mut world = held_back();
    let wheel = "a-2.0-cp312-cp312-manylinux_2_17_x86_64.whl";
    world.files.insert("a", vec![("a-1.0-py3-none-any.whl", "2026-09-10"), (wheel, "2026-10-01")]);
    world.versions_on.remove(&("a", "3.11"));
    world.unmet.push(("a>=1.0,!=1.0", "3.11", WORDS));
    let (now, explanation) = lock(TORCH, &mut world).unwrap();
    assert_eq!(taken(&now), ("3.12", "2.0"));
    assert_eq!(
        notes(&explanation),
        ["Python 3.12 was taken for a 2.0: on Python 3.13 the newest that can be had is 1.0"]
    );
}

/// A Python that was named, a lock that is there, and what other requirements hold back are no matter of Pythons.
#[test]
fn what_no_other_python_is_asked_for() {
    for spec in [TORCH, NO_TORCH] {
        let named = spec.replace("]\n", "]\npython = '3.13'\n");
        let mut world = held_back();
        let (now, explanation) = lock(&named, &mut world).unwrap();
        // One question is for the set, the other for why it is not the newest: that is said all the same.
        assert_eq!((taken(&now), world.asked.len()), (("3.13", "1.0"), 2));
        assert_eq!(notes(&explanation), [format!("a 1.0 was taken, not 2.0: {WORDS}")]);

        let mut world = held_back();
        world.unmet.clear();
        world.older.insert("a", "2.0");
        let (now, explanation) = lock(spec, &mut world).unwrap();
        assert_eq!((taken(&now), world.asked.len()), (("3.13", "1.0"), 3));
        assert_eq!(notes(&explanation), ["a 1.0 was taken, not 2.0: name `a>=2.0` to have it"]);

        let previous = Previous { lock: Some(&now), upgrade: &Upgrade::Nothing };
        let more = Spec::parse(&spec.replace("'a'", "'a', 'c'")).unwrap();
        let host = Host { machine: Some(sconce_facts::Machine::X86_64), ..Host::default() };
        let (again, _) = resolve(&more, &host, previous, &mut held_back()).unwrap();
        assert_eq!(taken(&again), ("3.13", "1.0"));
    }
    // What another Python makes older is not given for it.
    let mut world = held_back();
    world.versions_on.insert(("c", "3.13"), "2.0");
    let (now, explanation) = lock(&TORCH.replace("'a'", "'a', 'c'"), &mut world).unwrap();
    assert_eq!(taken(&now), ("3.13", "1.0"));
    assert_eq!(notes(&explanation), [format!("a 1.0 was taken, not 2.0: {WORDS}")]);
}

/// What keeps the newest release away is named: a requirement of its own that is there as source only, or another of
/// the user's.
#[test]
fn why_it_is_not_the_newest() {
    let named = TORCH.replace("]\n", "]\npython = '3.13'\n");
    let said = |spec: &str, world: &mut World| {
        let (_, explanation) = lock(spec, world).unwrap();
        notes(&explanation).join("\n")
    };
    let mut world = held_back();
    world.unmet = vec![(
        "a>=1.0,!=1.0",
        "3.13",
        "Because core==0.1 has no usable wheels and a==2.0 depends on core==0.1, we can conclude that a>=2.0 cannot \
         be used.\n\nhint: Wheels are required for `core` because building from source is disabled",
    )];
    expect!["a 1.0 was taken, not 2.0: it needs core, which is there as source only"]
        .assert_eq(&said(&named, &mut world));
    world
        .files
        .insert("core", vec![("core-0.2-cp311-cp311-manylinux_2_17_x86_64.whl", "2026-09-10")]);
    expect![
        "a 1.0 was taken, not 2.0: it needs core, in a release that has no wheel for Python 3.13"
    ]
    .assert_eq(&said(&named, &mut world));
    // Another requirement, by its name.
    let mut world = held_back();
    world.older.insert("a", "1.0");
    world.unmet = vec![("a>=1.0,!=1.0", "3.14", "")];
    world.refused = vec![(
        "a>=1.0,!=1.0",
        "Because c==1.0 depends on a<2 and you require a>=1.0,!=1.0 and c, we can conclude that your requirements are \
         unsatisfiable.",
    )];
    expect!["a 1.0 was taken, not 2.0: c does not allow it"]
        .assert_eq(&said(&named.replace("'a'", "'a', 'c'"), &mut world));
}

/// What is years older, or was never meant to be taken, is refused where this Python can't have anything newer.
#[test]
fn relics_that_the_python_decides() {
    let named = TORCH.replace("]\n", "]\npython = '3.13'\n");
    let world = |picked: &'static str, day: &'static str| {
        let wheel: &'static str = format!("a-{picked}-py3-none-any.whl").leak();
        let above: &'static str = format!("a>={picked},!={picked}").leak();
        World {
            versions: [("a", picked)].into(),
            unmet: vec![("a==2.0", "3.13", WORDS), (above, "3.13", WORDS)],
            files: [("a", vec![(wheel, day), ("a-2.0-py3-none-any.whl", "2026-10-01")])].into(),
            ..World::default()
        }
    };
    let refused = |spec: &str, mut world: World| {
        let error = lock(spec, &mut world).unwrap_err();
        format!("{error}\n{}", error.hint().unwrap_or_default())
    };
    expect![[r#"
        no release that fits can be meant:
          a 1.0 (years older): its newest release, 2.0, can't be had on Python 3.13: b==1 has no wheels with a matching Python ABI tag (e.g., `cp313`)
        name the version that you want (`name==1.2`); or leave `python = "3.13"` out: another may have the newest"#]].assert_eq(&refused(&named, world("1.0", "2020-01-01")));
    expect![[r#"
        no release that fits can be meant:
          a 0.0.0 (an empty release): its newest release, 2.0, can't be had on Python 3.13: b==1 has no wheels with a matching Python ABI tag (e.g., `cp313`)
        name the version that you want (`name==1.2`); or leave `python = "3.13"` out: another may have the newest"#]].assert_eq(&refused(&named, world("0.0.0", "2026-09-01")));
    let no_torch = NO_TORCH.replace("]\n", "]\npython = '3.13'\n");
    expect![[r#"
        no release that fits can be meant:
          a 1.0.dev3 (a pre-release that nobody asked for): its newest release, 2.0, can't be had on Python 3.13: b==1 has no wheels with a matching Python ABI tag (e.g., `cp313`)
        name the version that you want (`name==1.2`); or leave `python = "3.13"` out: another may have the newest"#]].assert_eq(&refused(&no_torch, world("1.0.dev3", "2026-09-01")));
    // Named, it is meant.
    let meant = named.replace("'a'", "'a<2'");
    assert_eq!(taken(&lock(&meant, &mut world("1.0", "2020-01-01")).unwrap().0), ("3.13", "1.0"));
}

/// One file that wants another CUDA is asked about beside two torches, not beside all between.
#[test]
fn a_file_that_no_torch_changes() {
    let mut world = World::default();
    world.versions.insert("xformers", "9.0");
    let needs = sconce_lock::Native { major: Some(12), ..Default::default() };
    world.native.insert("xformers", Ok(needs));
    let spec = "[environment]\nrequirements = ['xformers']";
    let (now, _) = lock(spec, &mut world).unwrap();
    assert_eq!(now.facts.torch.unwrap().cuda.unwrap().major, 12);
    assert_eq!(world.asked.len(), 3);
}

/// A requirement that a Python lacks whatever the torch is not asked about again with each older torch.
#[test]
fn what_is_refused_for_any_torch() {
    let words = "Because b==1 has no usable wheels and you require b==1, we can conclude that your \
                 requirements are unsatisfiable.";
    let refused = |words| {
        let unmet = ["3.13", "3.11"].map(|python| ("b==1", python, words)).into();
        let mut world = World { unmet, ..World::default() };
        let spec = "[environment]\nrequirements = ['b==1']";
        assert!(matches!(lock(spec, &mut world), Err(Error::Unsatisfiable { .. })));
        world.asked.len()
    };
    assert_eq!(refused(words), 2);
    let with_torch = "Because b==1 depends on torch==2.0 and you require b==1, we can conclude that your \
                      requirements are unsatisfiable.";
    assert!(refused(with_torch) > 2);
}

/// The refusal that is shown is that of the Python that has most, and what could be built is named, also what
/// nobody asked for by name.
#[test]
fn the_refusal_of_the_python_that_decides() {
    let lacks = |requirement: &str, name: &str| {
        format!(
            "Because {name} has no usable wheels and you require {requirement}, we can conclude that your \
             requirements are unsatisfiable.\n\nhint: Wheels are required for `{name}` because building \
             from source is disabled"
        )
    };
    let here: &'static str = lacks("old==1.0", "old").leak();
    let there: &'static str = lacks("more", "evdev").leak();
    let day = "2026-01-01";
    let world = || World {
        unmet: vec![("old==1.0", "3.13", here), ("old==1.0", "3.11", there)],
        files: [
            (
                "old",
                vec![
                    ("old-1.0.tar.gz", day),
                    ("old-1.0-cp311-cp311-manylinux_2_17_x86_64.whl", day),
                ],
            ),
            ("evdev", vec![("evdev-1.0.tar.gz", day)]),
            ("more", vec![("more-1.0-py3-none-any.whl", day)]),
            ("source", vec![("source-1.0.tar.gz", day), ("source-0.1-cp27-none-any.whl", day)]),
        ]
        .into(),
        ..World::default()
    };
    for torch in ["", "torch = false\n"] {
        let spec = format!("[environment]\n{torch}requirements = ['old==1.0', 'more', 'source']\n");
        let error = lock(&spec, &mut world()).unwrap_err();
        let (text, hint) = (error.to_string(), error.hint().unwrap());
        let on = "on Python 3.11 (there is no wheel of old for 3.13):\nBecause evdev has no usable wheels";
        assert!(text.contains(on), "{text}");
        assert!(hint.contains("`from-source = [\"evdev\", \"source\"]`"), "{hint}");
    }
}
