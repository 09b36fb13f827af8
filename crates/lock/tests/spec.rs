//! `sconce.toml` and tags: what is understood, and what is said about what is not.

use expect_test::{Expect, expect};
use sconce_lock::{CudaWish, Flavour, GpuWish, Requirements, Spec, TorchWish};

#[track_caller]
fn wrong(text: &str, expected: Expect) {
    let error = match Spec::parse(text) {
        Ok(spec) => panic!("understood as {spec:?}"),
        Err(error) => error,
    };
    expected.assert_eq(&format!("{error}\n{}", error.hint().unwrap_or_default()));
}

#[track_caller]
fn wrong_tag(tag: &str, expected: Expect) {
    let error = match Spec::from_tag(tag) {
        Ok(spec) => panic!("understood as {spec:?}"),
        Err(error) => error,
    };
    expected.assert_eq(&format!("{error}\n{}", error.hint().unwrap_or_default()));
}

#[test]
fn the_template_is_the_defaults() {
    let template = Spec::template();
    assert_eq!(Spec::parse(&template).unwrap(), Spec::default());
    // A commented key is `#name`, a remark is `# words`.
    let live: Vec<_> = template
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(rest) if !rest.starts_with(' ') => rest,
            _ => line,
        })
        .collect();
    assert_eq!(Spec::parse(&live.join("\n")).unwrap(), Spec::default());
    assert_eq!(
        live.iter().filter(|line| line.contains(" = ") && !line.starts_with('#')).count(),
        21
    );
}

#[test]
fn every_key() {
    let spec = Spec::parse(
        r#"
        [environment]
        torch = "2.9.1"
        gpus = ["h100", "sm_80"]
        driver = "535.104.05"
        cuda = "12.6"
        python = "3.13"
        platform = "aarch64"
        requirements = ["einops>=0.8", "transformers[torch]==5.0"]
        flavour = "devel"
        bytecode = false
        indexes = [{ name = "lab", url = "https://lab.example.invalid/simple" }, { name = "here", url = "./wheels" }]
        [base]
        debian = "trixie"
        packages = ["git"]
        mirror = "https://mirror.example.invalid/debian"
        [app]
        include = ["train.py"]
        workdir = "/work"
        command = "python train.py"
        env = { A = "1" }
        [run]
        gpus = [0, "GPU-1"]
        shm = "8g"
        ports = ["6006:6006"]
        volumes = ["./data:/data"]
        "#,
    )
    .unwrap();
    assert!(matches!(spec.environment.torch, TorchWish::Versions(_)));
    assert_eq!(spec.environment.cuda, CudaWish::Version { major: 12, minor: Some(6) });
    assert_eq!(spec.app.command, ["/bin/sh", "-c", "python train.py"]);
    assert_eq!(spec.run.gpus.as_deref(), Some("0,GPU-1"));
    assert!(!spec.environment.indexes[0].is_folder() && spec.environment.indexes[1].is_folder());
}

#[test]
fn unknown_keys_and_values() {
    wrong("[environment]\ntorhc = '2.9.1'", expect![[""]]);
    wrong("torch = '2.9.1'", expect![[""]]);
    wrong("[enviroment]\n", expect![[""]]);
    wrong("[base]\ntorch = '2.9.1'", expect![[""]]);
    wrong("[environment]\n\n  gpus = ['h10']", expect![[""]]);
    wrong("[environment]\ngpus = ['9.9']", expect![[""]]);
    wrong("[environment]\nflavour = 'runtme'", expect![[""]]);
    wrong("[environment]\ndriver = 'new'", expect![[""]]);
    wrong("[environment]\ntorch = 2.9", expect![[""]]);
    wrong("[environment]\ntorch = 'two'", expect![[""]]);
    wrong("[environment]\npython = '3.12'", expect![[""]]);
    wrong("[environment]\nrequirements = ['a=1']", expect![[""]]);
    wrong("[environment]\nrequirements = 'list.csv'", expect![[""]]);
    wrong("[environment]\nindexes = [{ name = 'pypi', url = 'x' }]", expect![[""]]);
    wrong("[base]\ndebian = 'trixy'", expect![[""]]);
    wrong("[app]\nworkdir = '../x'", expect![[""]]);
    wrong("[environment\n", expect![[""]]);
    wrong("environment = 1", expect![[""]]);
}

#[test]
fn the_digest_is_of_what_is_asked_for() {
    let digest = |text: &str| Spec::parse(text).unwrap().digest();
    let all = [
        "",
        "[environment]\ntorch = false",
        "[environment]\ntorch = '2.9.1'",
        "[environment]\ngpus = ['h100']",
        "[environment]\ngpus = 'host'",
        "[environment]\ncuda = '12.6'",
        "[environment]\ndriver = '535'",
        "[environment]\nrequirements = ['a']",
        "[environment]\nrequirements = 'requirements.txt'",
        "[base]\npackages = ['git']",
        "[app]\nenv = { A = '1' }",
    ];
    let mut digests: Vec<_> = all.iter().map(|text| digest(text)).collect();
    digests.push(sconce_blob::Digest::of(b""));
    digests.sort();
    digests.dedup();
    assert_eq!(digests.len(), all.len() + 1);
    assert_eq!(
        digest(""),
        digest("# words\n[run]\nshm = '8g'\n[base]\nmirror = 'https://m.example.invalid'")
    );
}

#[test]
fn requirement_files_count_by_their_text() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("sconce.toml", "[environment]\nrequirements = 'requirements.txt'");
    let load = || Spec::load(&folder.path().join("sconce.toml"));
    let error = load().unwrap_err();
    assert!(error.to_string().contains("requirements.txt"), "{error}");
    write("requirements.txt", "einops");
    let before = load().unwrap();
    let Requirements::File(file) = &before.environment.requirements else { panic!() };
    assert_eq!(file.text.as_deref(), Some("einops"));
    write("requirements.txt", "einops==0.8");
    assert_ne!(load().unwrap().digest(), before.digest());
}

#[test]
fn tags_people_know() {
    let spec = Spec::from_tag("pytorch:2.1.0-cuda12.1-cudnn8-runtime").unwrap();
    assert_eq!(spec.environment.cuda, CudaWish::Version { major: 12, minor: Some(1) });
    assert_eq!(spec.environment.flavour, Flavour::Runtime);
    assert_eq!(spec.environment.gpus, GpuWish::Any);
    for tag in [
        "torch",
        "torch:latest",
        "torch:2.15.0",
        "torch:2.15",
        "torch:2.16.0",
        "torch:2.15.0-devel",
        "torch:2.9.1-cpu",
        "pytorch/pytorch:2.9.1-cuda12.6-cudnn9-devel",
        "pytorch/pytorch:2.1.0-cuda11.8-cudnn8-runtime",
        "pytorch:2.15.0-cuda13.2-cudnn9-runtime",
    ] {
        assert!(Spec::is_tag(tag));
        Spec::from_tag(tag).unwrap_or_else(|error| panic!("{tag}: {error}"));
    }
    assert!(!Spec::is_tag("ubuntu:24.04") && !Spec::is_tag("examples/first-steps"));
    wrong_tag("pytorch:2.1.0-cuda12.4-cudnn8-runtime", expect![[""]]);
    wrong_tag("pytorch:2.1.0-cuda12.1-cudnn9-runtime", expect![[""]]);
    wrong_tag("pytorch:2.1.0-cuda12.1-cudnn8-runtim", expect![[""]]);
    wrong_tag("pytorh:2.1.0", expect![[""]]);
    wrong_tag("torch:2.9.7", expect![[""]]);
    wrong_tag("torch:nightly", expect![[""]]);
}
