//! `from-source`: what is built, in what, when again, and what is refused.

mod world;

use sconce_lock::{Error, Explanation, Host, Lock, Previous, Rebuilt, Spec, Upgrade, resolve};
use world::{Source, World};

fn host() -> Host {
    let machine =
        sconce_facts::Machine::current().expect("tests run on a machine that is built for");
    Host { machine: Some(machine), ..Host::default() }
}

fn tried(
    spec: &str,
    before: Option<&Lock>,
    upgrade: &Upgrade,
    world: &mut World,
) -> Result<(Lock, Explanation), Error> {
    let spec = Spec::parse(spec).unwrap();
    let (lock, explanation) = resolve(&spec, &host(), Previous { lock: before, upgrade }, world)?;
    assert_eq!(Lock::parse(&lock.to_text()).unwrap(), lock);
    Ok((lock, explanation))
}

fn lock(spec: &str, before: Option<&Lock>, world: &mut World) -> Lock {
    let tried = tried(spec, before, &Upgrade::Nothing, world);
    tried.unwrap_or_else(|error| panic!("{error}")).0
}

fn names(lock: &Lock) -> Vec<&str> {
    lock.wheels.iter().map(|wheel| wheel.name.as_str()).collect()
}

/// deepspeed, with CUDA code; and antlr4, plain Python.
fn world() -> World {
    let mut world = World::default();
    world.files.insert(
        "deepspeed",
        vec![("deepspeed-0.19.7.tar.gz", "2026-09-01"), ("deepspeed-0.19.8.tar.gz", "2026-10-01")],
    );
    world.files.insert(
        "antlr4-python3-runtime",
        vec![("antlr4-python3-runtime-4.9.3.tar.gz", "2021-11-01")],
    );
    let source = Source {
        requires: vec!["setuptools>=64"],
        compiles: true,
        needs: vec!["hjson"],
        ..Source::default()
    };
    world.sources.insert("deepspeed", source);
    let source = Source { requires: vec!["setuptools>=40.8.0"], ..Source::default() };
    world.sources.insert("antlr4-python3-runtime", source);
    world
}

const DEEPSPEED: &str =
    "[environment]\ngpus = ['h100']\nrequirements = ['deepspeed']\nfrom-source = ['DeepSpeed']\n";
const ANTLR: &str = "[environment]\ntorch = false\nrequirements = ['antlr4-python3-runtime']\nfrom-source = ['antlr4-python3-runtime']\n";

#[test]
fn a_package_is_built_and_the_set_has_what_it_needs() {
    let mut world = world();
    let lock = lock(DEEPSPEED, None, &mut world);
    assert!(names(&lock).contains(&"hjson"), "what the wheel needs is known once it is built");
    let wheel = lock.wheel("deepspeed").unwrap();
    assert_eq!((wheel.version.as_str(), wheel.index.as_str()), ("0.19.8", "source"));
    assert_eq!(wheel.file, "deepspeed-0.19.8-cp313-cp313-linux_x86_64.whl");
    let source = &lock.sources[0];
    assert_eq!(source.file, "deepspeed-0.19.8.tar.gz");
    assert_eq!((source.flavour.as_str(), source.rebuilt), ("devel", None));
    assert_eq!(source.architectures, ["9.0"]);
    // The very torch of the lock, nvcc for it, and what setup.py imports without saying so.
    let within: Vec<&str> = source.wheels.iter().map(|wheel| wheel.name.as_str()).collect();
    for name in ["torch", "setuptools", "ninja", "packaging", "nvidia-nvcc"] {
        assert!(within.contains(&name), "{name} is not in {within:?}");
    }
    let torch = source.wheels.iter().find(|wheel| wheel.name == "torch");
    assert_eq!(torch, lock.wheel("torch"));
    assert!(!names(&lock).contains(&"setuptools"), "build requirements are not in the image");
    let variables = source.variables();
    assert!(variables.contains(&("TORCH_CUDA_ARCH_LIST".into(), "9.0".into())), "{variables:?}");
    assert!(variables.contains(&("FORCE_CUDA".into(), "1".into())), "{variables:?}");
    assert!(!lock.to_text().contains("/tmp"), "paths of scratch folders");
}

#[test]
fn plain_python_needs_no_compiler_and_no_torch() {
    let mut world = world();
    let lock = lock(ANTLR, None, &mut world);
    let source = &lock.sources[0];
    assert_eq!((source.flavour.as_str(), source.rebuilt), ("runtime", Some(Rebuilt::Same)));
    let within: Vec<&str> = source.wheels.iter().map(|wheel| wheel.name.as_str()).collect();
    assert_eq!(within, ["setuptools"]);
    assert!(source.architectures.is_empty() && lock.build_debs.is_empty());
    // What it is built in is what the image stands on.
    assert_eq!(world.built[0].1.debs, lock.debs);
}

#[test]
fn it_is_built_once() {
    let mut world = world();
    let before = lock(DEEPSPEED, None, &mut world);
    assert_eq!(world.built.len(), 1);
    world.versions.insert("setuptools", "99.0");
    let more = DEEPSPEED.replace("['deepspeed']", "['deepspeed', 'einops']");
    let after = lock(&more, Some(&before), &mut world);
    assert_eq!(world.built.len(), 1, "another requirement changes nothing of it");
    assert_eq!(after.sources, before.sources);
    assert_eq!(after.wheel("deepspeed"), before.wheel("deepspeed"));
    // Asked for anew, it is built with what is there now.
    let (anew, _) = tried(&more, Some(&after), &Upgrade::All, &mut world).unwrap();
    assert_eq!(world.built.len(), 2);
    assert_ne!(anew.wheel("deepspeed"), before.wheel("deepspeed"));
    // And for other GPUs.
    lock(&DEEPSPEED.replace("h100", "a100"), Some(&before), &mut world);
    assert_eq!(world.built.len(), 3);
}

#[test]
fn another_torch_is_another_wheel() {
    let mut world = world();
    let before = lock(DEEPSPEED, None, &mut world);
    let older = DEEPSPEED.replace("gpus", "torch = '2.12.0'\ngpus");
    let after = lock(&older, Some(&before), &mut world);
    assert_eq!(world.built.len(), 2);
    let torch = after.sources[0].wheels.iter().find(|wheel| wheel.name == "torch").unwrap();
    assert_eq!(torch.version, "2.12.0");
}

#[test]
fn a_backend_may_ask_for_more() {
    let mut world = world();
    let antlr = world.sources.get_mut("antlr4-python3-runtime").unwrap();
    antlr.more = vec!["cython", "numpy>=2"];
    let lock = lock(ANTLR, None, &mut world);
    let within: Vec<&str> = lock.sources[0].wheels.iter().map(|w| w.name.as_str()).collect();
    assert_eq!(within, ["cython", "numpy", "setuptools"]);
}

#[test]
fn what_a_source_distribution_may_not_ask_for() {
    for (bad, why) in [
        ("x @ file:///etc/passwd", "an address"),
        ("--index-url=https://example.invalid", "not a requirement"),
        ("x\n--index-url=https://example.invalid", "not a requirement"),
    ] {
        for dynamic in [false, true] {
            let mut world = world();
            let antlr = world.sources.get_mut("antlr4-python3-runtime").unwrap();
            match dynamic {
                true => antlr.more = vec![bad],
                false => antlr.requires = vec![bad],
            }
            let error = tried(ANTLR, None, &Upgrade::Nothing, &mut world).unwrap_err().to_string();
            assert!(error.starts_with("antlr4-python3-runtime-4.9.3.tar.gz: "), "{error}");
            assert!(error.contains(why), "{error}");
            assert!(world.built.is_empty());
        }
    }
}

#[test]
fn names_that_cannot_be_meant() {
    let parsed =
        |key: &str| Spec::parse(&format!("[environment]\n{key}\n")).unwrap_err().to_string();
    assert!(parsed("from-source = ['torch']").contains("torch is never built"));
    assert!(parsed("from-source = ['deepspeed==1']").contains("versions stand in `requirements`"));
    assert!(parsed("indexes = [{ name = 'source', url = './w' }]").contains("or `source`"));
    let mut world = world();
    let unknown = ANTLR.replace("from-source = ['", "from-source = ['deepsped', '");
    let error = tried(&unknown, None, &Upgrade::Nothing, &mut world).unwrap_err();
    assert_eq!(
        error.to_string(),
        "`from-source` names deepsped, and the index has no source distribution of it"
    );
    // What nothing asks for is not a fault, and is not built.
    let more = ANTLR.replace("from-source = ['", "from-source = ['deepspeed', '");
    let (lock, explanation) = tried(&more, None, &Upgrade::Nothing, &mut world).unwrap();
    assert_eq!(lock.sources.len(), 1);
    assert!(explanation.notes.iter().any(|note| note.contains("which nothing asks for")));
}

#[test]
fn what_is_there_as_source_only_names_the_way() {
    let hint = |relics: &[&str]| {
        let relics = relics.iter().map(|relic| (*relic).to_owned()).collect();
        Error::Relics { relics, python: None, built: vec!["a".into()] }.hint().unwrap()
    };
    let found = hint(&[
        "deepspeed 0.3.1.dev3 (a pre-release that nobody asked for) is all that there is as a wheel: its \
         newest release, 0.19.8, is there as source only",
        "hydra-core 0.1 its newest release, 1.3.2, needs antlr4-python3-runtime, which is there as source only",
    ]);
    let way =
        "`from-source = [\"a\", \"antlr4-python3-runtime\", \"deepspeed\"]` under [environment]";
    assert!(found.contains(way), "{found}");
    // A release with wheels for other Pythons alone need not have a source distribution.
    let found = hint(&["a 1.0: its newest release, 2.0, has no wheel for Python 3.13 on x86_64"]);
    assert!(!found.contains("from-source"), "{found}");
    let sources = vec!["a".to_owned(), "b".to_owned()];
    let error = Error::Unsatisfiable {
        words: String::new(),
        sources,
        built: Vec::new(),
        refused: Vec::new(),
    };
    assert!(error.hint().unwrap().contains("`from-source = [\"a\", \"b\"]`"));
}

#[test]
fn what_can_not_be_built_is_not_advised_to_be() {
    let words = "Because vllm-nccl-cu12 has no usable wheels, your requirements are unsatisfiable.\n\n\
                 hint: Wheels are required for `vllm-nccl-cu12` because building from source is disabled";
    let mut world = World {
        unmet: ["3.9", "3.10", "3.11", "3.12", "3.13", "3.14"]
            .map(|python| ("vllm-nccl-cu12", python, words))
            .into(),
        ..World::default()
    };
    world
        .files
        .insert("vllm-nccl-cu12", vec![("vllm-nccl-cu12-2.18.1.0.4.0.tar.gz", "2024-04-01")]);
    let spec = "[environment]\ntorch = false\nrequirements = ['vllm-nccl-cu12']\n";
    let error = tried(spec, None, &Upgrade::Nothing, &mut world).unwrap_err();
    let (words, hint) = (error.to_string(), error.hint().unwrap());
    assert!(
        words.contains("vllm-nccl-cu12 can't be built here: its setup.py downloads"),
        "{words}"
    );
    assert!(hint.contains("`exclude = [\"vllm-nccl-cu12\"]`"), "{hint}");
    assert!(!hint.contains("from-source"), "{hint}");
}
