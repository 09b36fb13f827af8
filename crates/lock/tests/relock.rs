//! What a second lock changes of the first, and what it refuses to fall back to.

mod world;

use expect_test::{Expect, expect};
use sconce_lock::{
    Error, Explanation, Host, Lock, Native, Overlap, Previous, Spec, Upgrade, changes, resolve,
};
use world::World;

fn host() -> Host {
    Host { machine: Some("x86_64".parse().unwrap()), ..Host::default() }
}

fn lock(
    spec: &str,
    before: Option<&Lock>,
    upgrade: &Upgrade,
    world: &mut World,
) -> (Lock, Explanation) {
    let spec = Spec::parse(spec).unwrap();
    let previous = Previous { lock: before, upgrade };
    let (lock, explanation) =
        resolve(&spec, &host(), previous, world).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(Lock::parse(&lock.to_text()).unwrap(), lock);
    (lock, explanation)
}

fn first(spec: &str, world: &mut World) -> Lock {
    lock(spec, None, &Upgrade::Nothing, world).0
}

#[track_caller]
fn changed(before: &Lock, now: &Lock, expected: Expect) {
    let lines: Vec<String> =
        changes(before, now).iter().map(|change| format!("{change}\n")).collect();
    expected.assert_eq(&lines.concat());
}

const FEW: &str = "[environment]\ngpus = ['h100']\nrequirements = ['einops', 'numpy']\n";

#[test]
fn an_edit_elsewhere_moves_no_wheel_and_asks_no_index() {
    let mut world = World::default();
    let before = first(FEW, &mut world);
    world.versions.insert("einops", "2.0");
    let (asked, debian) = (world.asked.len(), world.debian);
    for edit in ["[app]\ncommand = ['true']\n", "[run]\nshm = '8g'\n", ""] {
        let (now, _) = lock(&format!("{FEW}{edit}"), Some(&before), &Upgrade::Nothing, &mut world);
        changed(&before, &now, expect![""]);
        assert_eq!((world.asked.len(), world.debian), (asked, debian), "{edit}");
    }
    // More Debian packages: Debian alone is asked.
    let (now, _) = lock(
        &format!("{FEW}[base]\npackages = ['git']\n"),
        Some(&before),
        &Upgrade::Nothing,
        &mut world,
    );
    changed(
        &before,
        &now,
        expect![[r#"
        + git (Debian) 1.0-1
    "#]],
    );
    assert_eq!((world.asked.len(), world.debian), (asked, debian + 1));
    let (now, _) = lock(
        &FEW.replace("gpus", "bytecode = false\ngpus"),
        Some(&before),
        &Upgrade::Nothing,
        &mut world,
    );
    assert!(!now.facts.bytecode && world.asked.len() == asked);
}

#[test]
fn what_is_locked_stays() {
    let mut world = World { allowed: Some("<2.15".parse().unwrap()), ..World::default() };
    let before = first(FEW, &mut world);
    let torch = before.facts.torch.as_ref().unwrap().version.clone();
    assert_eq!(torch, "2.14.1");
    // Newer releases of everything are there now.
    world.allowed = None;
    world.versions = [("einops", "2.0"), ("numpy", "3.0"), ("rich", "9.0")].into();
    let more = FEW.replace("'numpy'", "'numpy', 'rich'");
    let debian = world.debian;
    let (now, explanation) = lock(&more, Some(&before), &Upgrade::Nothing, &mut world);
    changed(
        &before,
        &now,
        expect![[r#"
        + rich 9.0
    "#]],
    );
    assert_eq!(world.debian, debian, "Debian's packages stay as well");
    let torch = explanation.choices.iter().find(|choice| choice.subject == "torch").unwrap();
    assert!(torch.why.contains("the lock has it"), "{torch:?}");

    let (now, _) =
        lock(&more, Some(&before), &Upgrade::Packages(vec!["Einops".into()]), &mut world);
    changed(
        &before,
        &now,
        expect![[r#"
        einops 1.0 -> 2.0
        + rich 9.0
    "#]],
    );
    let (now, _) = lock(&more, Some(&before), &Upgrade::Packages(vec!["torch".into()]), &mut world);
    assert_eq!(now.facts.torch.as_ref().unwrap().version, "2.15.0");
    assert_eq!(now.wheel("einops").unwrap().version, "1.0");
    let (now, _) = lock(&more, Some(&before), &Upgrade::All, &mut world);
    assert_eq!(now.facts.torch.as_ref().unwrap().version, "2.15.0");
    assert_eq!(now.wheel("numpy").unwrap().version, "3.0");
    assert_eq!(world.debian, debian + 1);

    // What was asked for another version moves, and what is no more wanted goes.
    let (now, _) = lock(
        &FEW.replace("'einops', 'numpy'", "'einops>=1.5'"),
        Some(&before),
        &Upgrade::Nothing,
        &mut world,
    );
    changed(
        &before,
        &now,
        expect![[r#"
        einops 1.0 -> 2.0
        - numpy 1.0
    "#]],
    );
}

/// The torch of a lock goes where it no longer fits.
#[test]
fn a_torch_that_no_longer_fits_moves() {
    let mut world = World { allowed: Some("<2.15".parse().unwrap()), ..World::default() };
    let before = first("", &mut world);
    world.allowed = None;
    let (now, _) =
        lock("[environment]\ntorch = '2.13.0'", Some(&before), &Upgrade::Nothing, &mut world);
    assert_eq!(now.facts.torch.unwrap().version, "2.13.0");
    // One made on another Python stays there.
    let before = first("[environment]\npython = '3.11'\n", &mut world);
    let (now, _) =
        lock("[environment]\nrequirements = ['x']", Some(&before), &Upgrade::Nothing, &mut world);
    assert_eq!(now.facts.python, "3.11");
    let (now, _) =
        lock("[environment]\nrequirements = ['x']", Some(&before), &Upgrade::All, &mut world);
    assert_eq!(now.facts.python, "3.13");
}

const NUMPY: &str =
    "And because you require numpy<2, we can conclude that your requirements are unsatisfiable.";

/// A requirement that has no wheels for the newest Python does not send torch back four years.
#[test]
fn another_python_before_an_older_torch() {
    let mut world = World { unmet: vec![("numpy<2", "3.13", NUMPY)], ..World::default() };
    let spec = "[environment]\ngpus = ['h100']\nrequirements = ['numpy<2']\n";
    let (now, explanation) = lock(spec, None, &Upgrade::Nothing, &mut world);
    let torch = now.facts.torch.as_ref().unwrap();
    assert_eq!((torch.version.as_str(), now.facts.python.as_str()), ("2.15.0", "3.11"));
    expect!["torch 2.15.0 on Python 3.13 was not taken: numpy<2 does not allow it"]
        .assert_eq(&explanation.notes[0]);
    assert!(explanation.render().contains(
        "not torch 2.15.0 on Python 3.13, torch 2.14.1 on Python 3.13, torch 2.14.0 on Python 3.13"
    ), "{}", explanation.render());
    assert!(world.asked.len() < 4, "{}", world.asked.len());
}

/// What does not fit on one Python is there in another release on the next.
#[test]
fn another_python_before_an_older_torch_where_one_does_not_fit() {
    let mut world = World {
        unmet: vec![("numpy<2", "3.13", NUMPY)],
        versions_on: [(("x", "3.11"), "1.0+cu118"), (("x", "3.12"), "2.0")].into(),
        native: [("x", Ok(Native::default()))].into(),
        requires: [("x", vec!["nvidia-nccl-cu12"])].into(),
        ..World::default()
    };
    let spec = "[environment]\ngpus = ['h100']\nrequirements = ['numpy<2', 'x']\n";
    let (now, explanation) = lock(spec, None, &Upgrade::Nothing, &mut world);
    let torch = now.facts.torch.as_ref().unwrap();
    assert_eq!((torch.version.as_str(), now.facts.python.as_str()), ("2.15.0", "3.12"));
    assert_eq!(now.wheel("x").unwrap().version, "2.0");
    let untrue = |note: &&String| note.starts_with("torch 2.15.0 was not taken");
    assert_eq!(explanation.notes.iter().find(untrue), None);
}

/// So are packages that can't be installed together.
#[test]
fn another_python_where_two_packages_own_the_same_files() {
    let overlap = |package: &str| Overlap {
        packages: ["nvidia-nccl-cu12".into(), package.into()],
        path: "nvidia/nccl/include/nccl.h".into(),
        more: 49,
    };
    let mut world = World {
        unmet: vec![("numpy<2", "3.13", "numpy<2 has no wheels with a matching Python ABI tag")],
        brings_on: [(("x", "3.11"), ("nvidia-nccl-cu12", "2.32.3"))].into(),
        overlaps: vec![overlap("nvidia-nccl-cu13")],
        ..World::default()
    };
    let spec = "[environment]\ngpus = ['h100']\nrequirements = ['numpy<2', 'x']\n";
    let (now, _) = lock(spec, None, &Upgrade::Nothing, &mut world);
    assert_ne!(now.facts.python, "3.11");
    assert_eq!(now.facts.torch.unwrap().version, "2.15.0");
    let pinned = spec.replace("[environment]", "[environment]\npython = '3.11'");
    let spec = Spec::parse(&pinned).unwrap();
    let error = resolve(&spec, &host(), Previous::NONE, &mut world).unwrap_err();
    assert!(matches!(error, Error::Overlap { .. }), "{error}");
}

/// A package that is made to replace files of another does, unless somebody says otherwise.
#[test]
fn packages_made_to_replace_files_of_another() {
    let (base, cuda) = ("nvidia-cutlass-dsl-libs-base", "nvidia-cutlass-dsl-libs-cu13");
    let pair = Overlap { packages: [base.into(), cuda.into()], path: "a.py".into(), more: 98 };
    let mut world = World {
        brings: [("x", vec![(base, "4.5.2"), (cuda, "4.5.2")])].into(),
        overlaps: vec![pair],
        ..World::default()
    };
    let spec = "[environment]\nrequirements = ['x']\n";
    let (now, _) = lock(spec, None, &Upgrade::Nothing, &mut world);
    assert_eq!(now.facts.prefer, [cuda]);
    let spec = format!("{spec}prefer = ['{base}']\n");
    let (now, _) = lock(&spec, None, &Upgrade::Nothing, &mut world);
    assert_eq!(now.facts.prefer, [base]);
}

fn relics(spec: &str, world: &mut World, expected: Expect) {
    let spec = Spec::parse(spec).unwrap();
    let error = resolve(&spec, &host(), Previous::NONE, world).unwrap_err();
    assert!(matches!(error, Error::Relics { .. }), "{error}");
    expected.assert_eq(&format!("{error}\n{}", error.hint().unwrap()));
}

#[test]
fn no_release_that_nobody_can_want() {
    let mut world = World {
        versions: [("deepspeed", "0.3.1.dev3"), ("old", "1.0")].into(),
        ..World::default()
    };
    world.files.insert(
        "deepspeed",
        vec![
            ("deepspeed-0.3.1.dev3-py3-none-any.whl", "2020-09-10"),
            ("deepspeed-0.19.8.tar.gz", "2026-10-01"),
        ],
    );
    world.files.insert(
        "old",
        vec![("old-1.0-py3-none-any.whl", "2020-09-10"), ("old-2.0.tar.gz", "2026-10-01")],
    );
    let both = "[environment]\ngpus = ['h100']\nrequirements = ['deepspeed', 'old', 'einops']";
    relics(
        both,
        &mut world,
        expect![[r#"
            no release that fits can be meant:
              deepspeed 0.3.1.dev3 (a pre-release that nobody asked for) is all that there is as a wheel: its newest release, 0.19.8, is there as source only
              old 1.0 (years older) is all that there is as a wheel: its newest release, 2.0, is there as source only
            name the version that you want (`name==1.2`), or have it built where you trust its code: `from-source = ["deepspeed", "old"]` under [environment]"#]],
    );
    relics(
        "[environment]\ntorch = false\nrequirements = ['deepspeed']",
        &mut world,
        expect![[r#"
            no release that fits can be meant:
              deepspeed 0.3.1.dev3 (a pre-release that nobody asked for) is all that there is as a wheel: its newest release, 0.19.8, is there as source only
            name the version that you want (`name==1.2`), or have it built where you trust its code: `from-source = ["deepspeed"]` under [environment]"#]],
    );
    // Asked for, they are meant; and what is locked is not asked about again.
    let named = both.replace("'deepspeed', 'old'", "'deepspeed==0.3.1.dev3', 'old<2'");
    let before = first(&named, &mut world);
    lock(both, Some(&before), &Upgrade::Nothing, &mut world);
}

/// One that nobody asked for by name is refused as well where facts know that it falls back.
#[test]
fn no_relic_that_another_package_needs() {
    let mut world = World {
        unmet: ["3.9", "3.10", "3.11", "3.12", "3.13", "3.14"]
            .map(|python| ("hydra-core==1.3.8", python, ANTLR))
            .to_vec(),
        brings: [("verl", vec![("hydra-core", "0.11.3")])].into(),
        ..World::default()
    };
    let files = vec![
        ("hydra_core-0.11.3-py3-none-any.whl", "2019-12-10"),
        ("hydra_core-1.3.8-py3-none-any.whl", "2026-02-23"),
    ];
    world.files.insert("hydra-core", files);
    relics(
        "[environment]\nrequirements = ['verl']",
        &mut world,
        expect![[r#"
        no release that fits can be meant:
          hydra-core 0.11.3: its newest release, 1.3.8, needs antlr4-python3-runtime, which is there as source only
        name the version that you want (`name==1.2`), or have it built where you trust its code: `from-source = ["antlr4-python3-runtime"]` under [environment]"#]],
    );
}

const ANTLR: &str = "Because antlr4-python3-runtime==4.9.3 has no wheels, your requirements are unsatisfiable.\n\nhint: Wheels are required for `antlr4-python3-runtime` because building from source is disabled for all packages";

/// A newest release that only another Python has is taken there.
#[test]
fn another_python_before_a_relic() {
    let mut world = World {
        versions_on: [(("fast", "3.13"), "1.0"), (("fast", "3.11"), "2.0")].into(),
        ..World::default()
    };
    world.files.insert(
        "fast",
        vec![
            ("fast-1.0-py3-none-any.whl", "2020-09-10"),
            ("fast-2.0-cp311-cp311-manylinux_2_17_x86_64.whl", "2026-10-01"),
        ],
    );
    let spec = "[environment]\nrequirements = ['fast']";
    let (now, explanation) = lock(spec, None, &Upgrade::Nothing, &mut world);
    assert_eq!(
        (now.facts.python.as_str(), now.wheel("fast").unwrap().version.as_str()),
        ("3.11", "2.0")
    );
    assert_eq!(now.facts.torch.unwrap().version, "2.15.0");
    expect!["torch 2.15.0 on Python 3.13 was not taken: fast 1.0 (years older) is all that there is as a wheel: its newest release, 2.0, has no wheel for Python 3.13 on x86_64"].assert_eq(&explanation.notes[0]);
    relics(
        "[environment]\npython = '3.13'\nrequirements = ['fast']",
        &mut world,
        expect![[r#"
            no release that fits can be meant:
              fast 1.0 (years older) is all that there is as a wheel: its newest release, 2.0, has no wheel for Python 3.13 on x86_64
            name the version that you want (`name==1.2`); or leave `python = "3.13"` out: another may have the newest"#]],
    );
}

/// An older torch for one package, with which another is years older, is nothing that anybody asked for.
#[test]
fn no_relic_for_the_sake_of_another() {
    let mut world = World {
        versions: [("unsloth", "2026.10.9"), ("torchaudio", "2.11.0")].into(),
        beside: vec![("unsloth", "2.14.1", "2024.8")],
        ..World::default()
    };
    let files = vec![
        ("unsloth-2024.8-py3-none-any.whl", "2024-08-10"),
        ("unsloth-2026.10.9-py3-none-any.whl", "2026-10-09"),
    ];
    world.files.insert("unsloth", files);
    let spec = "[environment]\nrequirements = ['unsloth', 'torchaudio']";
    let error =
        resolve(&Spec::parse(spec).unwrap(), &host(), Previous::NONE, &mut world).unwrap_err();
    expect![[r#"
        torch 2.15.0 and the packages beside it do not fit: torchaudio 2.11.0 is built for CUDA 13.0, and this torch has CUDA 13.2; with a torch that it fits, unsloth 2024.8 is years older than its newest release, 2026.10.9
        do without it (`exclude = ["torchaudio"]` under [environment]), or name the older versions that you want"#]]
    .assert_eq(&format!("{error}\n{}", error.hint().unwrap()));
    // What would be as old beside the newest torch does not count.
    let older = World {
        versions: [("unsloth", "2024.8"), ("torchaudio", "2.11.0")].into(),
        files: world.files.clone(),
        ..World::default()
    };
    let (now, _) =
        resolve(&Spec::parse(spec).unwrap(), &host(), Previous::NONE, &mut { older }).unwrap();
    assert_eq!(now.facts.torch.unwrap().version, "2.14.1");
    // Each alone is fine; and what is named is meant.
    for requirements in ["'unsloth'", "'torchaudio'", "'unsloth<2025', 'torchaudio'"] {
        let spec = format!("[environment]\nrequirements = [{requirements}]");
        first(&spec, &mut world);
    }
}

/// torchaudio refuses at import a torch of another CUDA release: the facts know it.
#[test]
fn what_stands_beside_torch_agrees_with_it() {
    let mut world = World::default();
    world.versions.insert("torchaudio", "2.11.0");
    let spec = "[environment]\ngpus = ['h100']\nrequirements = ['torchaudio']";
    let (now, explanation) = lock(spec, None, &Upgrade::Nothing, &mut world);
    assert_eq!(now.facts.torch.unwrap().version, "2.14.1");
    expect!["torch 2.15.0 was not taken: torchaudio 2.11.0 is built for CUDA 13.0, and this torch has CUDA 13.2"]
        .assert_eq(&explanation.notes[0]);
    let spec = Spec::parse(&spec.replace("gpus", "torch = '2.15.0'\ngpus")).unwrap();
    let error = resolve(&spec, &host(), Previous::NONE, &mut world).unwrap_err();
    expect!["torch 2.15.0 and the packages beside it do not fit: torchaudio 2.11.0 is built for CUDA 13.0, and this torch has CUDA 13.2"]
        .assert_eq(&error.to_string());
    expect![[r#"leave the version of torch open, or ask for torch = "2.14.1" (CUDA 13.0)"#]]
        .assert_eq(&error.hint().unwrap());
}

/// A wheel that says in its version which torch it is built for gets that torch, at once.
#[test]
fn a_wheel_names_its_torch_in_its_version() {
    let mut world = World::default();
    world.versions.insert("flash-attn", "2.8.3+cu12torch2.8cxx11abiTRUE");
    world.native.insert("flash-attn", Ok(sconce_lock::Native::default()));
    let spec = "[environment]\nrequirements = ['flash-attn']";
    let (now, explanation) = lock(spec, None, &Upgrade::Nothing, &mut world);
    assert_eq!(now.facts.torch.unwrap().version, "2.8.0");
    expect!["torch 2.15.0 was not taken: flash-attn 2.8.3+cu12torch2.8cxx11abitrue is built for torch 2.8, and this is torch 2.15.0"]
        .assert_eq(&explanation.notes[0]);
    let refused = |spec: &str, world: &mut World| {
        let spec = Spec::parse(spec).unwrap();
        let error = resolve(&spec, &host(), Previous::NONE, world).unwrap_err();
        format!("{error}\n{}", error.hint().unwrap_or_default())
    };
    let pinned = "[environment]\ntorch = '2.9.1'\nrequirements = ['flash-attn']";
    expect![[r#"
        torch 2.9.1 and the packages beside it do not fit: flash-attn 2.8.3+cu12torch2.8cxx11abitrue is built for torch 2.8, and this is torch 2.9.1
        leave the version of torch open, or ask for torch = "2.8.0""#]]
    .assert_eq(&refused(pinned, &mut world));
    // The other C++ ABI, which PyPI's torch has up to 2.6.
    world.versions.insert("flash-attn", "2.8.3+cu12torch2.8cxx11abiFALSE");
    let pinned = "[environment]\ntorch = '2.8.0'\nrequirements = ['flash-attn']";
    expect![[r#"
        torch 2.8.0 and the packages beside it do not fit: flash-attn 2.8.3+cu12torch2.8cxx11abifalse is built for the old C++ ABI (_GLIBCXX_USE_CXX11_ABI), and torch 2.8.0 has the new one
        no release of flash-attn is known that fits torch 2.8.0; `exclude = ["flash-attn"]` under [environment] leaves it out"#]]
    .assert_eq(&refused(pinned, &mut world));
}

/// A package whose name is its CUDA major needs no look at its bytes.
#[test]
fn a_package_of_one_cuda_major() {
    let mut world = World::default();
    world.native.insert("transformer-engine-cu12", Err("not to be asked".into()));
    let spec = "[environment]\nrequirements = ['transformer-engine-cu12']";
    let (now, explanation) = lock(spec, None, &Upgrade::Nothing, &mut world);
    assert_eq!(now.facts.torch.unwrap().version, "2.10.0");
    expect!["torch 2.15.0 was not taken: transformer-engine-cu12 1.0 is built for CUDA 12, and this torch has CUDA 13.2"]
        .assert_eq(&explanation.notes[0]);
    assert!(!explanation.render().contains("not to be asked"), "{}", explanation.render());
}

/// Where the facts are silent the wheel's own bytes are asked.
#[test]
fn the_bytes_decide_where_the_facts_are_silent() {
    let mut world = World::default();
    let needs = |major: u16| sconce_lock::Native {
        major: Some(major),
        why: Some(format!("fast/_C.so needs libcudart.so.{major}")),
        ..Default::default()
    };
    world.native.insert("fast", Ok(needs(12)));
    let spec = "[environment]\nrequirements = ['fast']";
    let (now, explanation) = lock(spec, None, &Upgrade::Nothing, &mut world);
    assert_eq!(now.facts.torch.unwrap().version, "2.10.0");
    assert!(explanation.notes[0].ends_with(
        "fast 1.0 is built for CUDA 12 (fast/_C.so needs libcudart.so.12), and this torch has CUDA 13.2"
    ), "{:?}", explanation.notes);
    world.native.insert("fast", Ok(needs(13)));
    let (now, _) = lock(spec, None, &Upgrade::Nothing, &mut world);
    assert_eq!(now.facts.torch.unwrap().version, "2.15.0");
    // What can't be asked is said, for a package that is known to be for torch.
    world.native.insert("xformers", Err("no ranges".into()));
    let spec = "[environment]\nrequirements = ['xformers']";
    let (_, explanation) = lock(spec, None, &Upgrade::Nothing, &mut world);
    assert!(
        explanation.notes.contains(
            &"whether xformers 1.0 is built for CUDA 13.2 could not be read: no ranges".to_owned()
        ),
        "{:?}",
        explanation.notes
    );
}

/// A name that no index has is not loosened.
#[test]
fn a_name_that_is_nowhere() {
    let hint = |words: &'static str| {
        let unmet = ["3.13", "3.11"].map(|python| ("nosuch", python, words)).into();
        let spec = "[environment]\ntorch = false\nrequirements = ['nosuch']\n";
        let mut world = World { unmet, ..World::default() };
        let error = resolve(&Spec::parse(spec).unwrap(), &host(), Previous::NONE, &mut world);
        error.unwrap_err().hint().unwrap()
    };
    expect!["no index has `nosuch`: is the name right? `indexes` under [environment] names further indexes"].assert_eq(&hint("Because nosuch was not found in the package registry and you require nosuch, we can conclude."));
    expect!["loosen the requirement named above"].assert_eq(&hint(
        "Because nosuch<=1 is available and you require nosuch>2, we can conclude.",
    ));
    expect!["loosen the requirement named above, or ask for another torch"].assert_eq(&hint(
        "Because nosuch depends on torch<1 and you require nosuch, we can conclude.",
    ));
}
