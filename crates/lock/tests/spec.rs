//! `sconce.toml` and tags: what is understood, and what is said about what is not.

use expect_test::{Expect, expect};
use sconce_lock::{CudaRequest, Flavour, GpuRequest, Requirements, Spec, TorchRequest};

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
    let template = Spec::template(None);
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
        54
    );
}

/// What people write where a package is expected.
#[test]
fn a_file_in_a_list_is_no_package() {
    let text = |item: &str| format!("[environment]\nrequirements = [\"einops\", \"{item}\"]\n");
    wrong(
        &text("pyproject.toml"),
        expect![[r#"
            sconce.toml, line 2, column 16: `pyproject.toml`: it is a file and not a package: `requirements = ["-r pyproject.toml"]` in sconce.toml reads it
        "#]],
    );
    wrong(
        &text("./environment.yml"),
        expect![[r#"
            sconce.toml, line 2, column 16: `./environment.yml`: it is a file and not a package: it stands alone: `requirements = "./environment.yml"` in sconce.toml reads it
        "#]],
    );
    for (item, word) in [("Pipfile", "pipenv requirements"), ("setup.py", "[project] dependencies")]
    {
        let error = Spec::parse(&text(item)).unwrap_err().to_string();
        assert!(error.contains("not a package") && error.contains(word), "{error}");
    }
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
        import-check = false
        "#,
    )
    .unwrap();
    assert!(spec.run.no_import_check && !Spec::default().run.no_import_check);
    assert!(matches!(spec.environment.torch, TorchRequest::Versions(_)));
    assert_eq!(spec.environment.cuda, CudaRequest::Version { major: 12, minor: Some(6) });
    assert_eq!(spec.app.command, ["/bin/sh", "-c", "python train.py"]);
    assert_eq!(spec.run.gpus.as_deref(), Some("0,GPU-1"));
    assert!(!spec.environment.indexes[0].is_folder() && spec.environment.indexes[1].is_folder());
}

#[test]
fn unknown_keys_and_values() {
    wrong(
        "[environment]\ntorhc = '2.9.1'",
        expect![[r#"
        sconce.toml, line 2, column 1: unknown key `torhc` in [environment]
        did you mean `torch`?"#]],
    );
    wrong(
        "torch = '2.9.1'",
        expect![[r#"
        sconce.toml, line 1, column 1: unknown section or key `torch`
        `torch` belongs under [environment]"#]],
    );
    wrong(
        "[enviroment]\n",
        expect![[r#"
        sconce.toml, line 1, column 2: unknown section or key `enviroment`
        did you mean [environment]?"#]],
    );
    wrong(
        "[base]\ntorch = '2.9.1'",
        expect![[r#"
        sconce.toml, line 2, column 1: unknown key `torch` in [base]
        `torch` belongs under [environment]"#]],
    );
    wrong(
        "[environment]\n\n  gpus = ['h10']",
        expect![[r#"
        sconce.toml, line 3, column 10: `gpus`: unknown GPU `h10`; did you mean `h100`?
    "#]],
    );
    wrong(
        "[environment]\ngpus = ['9.9']",
        expect![[r#"
        sconce.toml, line 2, column 8: `gpus`: unknown compute capability `9.9`; did you mean `9.0`?
    "#]],
    );
    wrong(
        "[environment]\nflavour = 'runtme'",
        expect![[r#"
        sconce.toml, line 2, column 11: `flavour` must be "runtime" or "devel", not "runtme"
        did you mean "runtime"?"#]],
    );
    wrong(
        "[environment]\ndriver = 'new'",
        expect![[r#"
        sconce.toml, line 2, column 10: `driver`: `new` is not a driver version; it looks like `535.104.05`
    "#]],
    );
    wrong(
        "[environment]\ntorch = 2.9",
        expect![[r#"
        sconce.toml, line 2, column 9: `torch` must be a version ("2.9.1"), a range (">=2.8,<2.12"), "newest" or false
    "#]],
    );
    wrong(
        "[environment]\ntorch = 'two'",
        expect![[r#"
        sconce.toml, line 2, column 9: `torch` must be a version ("2.9.1"), a range (">=2.8,<2.12"), "newest" or false
    "#]],
    );
    wrong(
        "[environment]\npython = '3.8'",
        expect![[r#"
        sconce.toml, line 2, column 10: `python`: there is no Python 3.8 for images
        there is 3.9, 3.10, 3.11 (Debian bookworm), 3.12, 3.13 (Debian trixie), 3.13t, 3.14, 3.14t"#]],
    );
    wrong(
        "[environment]\nrequirements = ['a=1']",
        expect![[r#"
        sconce.toml, line 2, column 16: `a=1`: no such comparison operator "=", must be one of ~= == != <= >= < > ===
            a=1
             ^^
    "#]],
    );
    wrong(
        "[environment]\nrequirements = 'list.csv'",
        expect![[r#"
        sconce.toml, line 2, column 16: `requirements` must be a list, or a path of requirements.txt, pylock.toml, uv.lock, pyproject.toml or environment.yml
    "#]],
    );
    wrong(
        "[environment]\nindexes = [{ name = 'pypi', url = 'x' }]",
        expect![[r#"
            sconce.toml, line 2, column 11: `indexes` must be named with a-z, 0-9 and `-`, and not `pypi`, the default one, or `source`
        "#]],
    );
    wrong(
        "[base]\ndebian = 'trixy'",
        expect![[r#"
        sconce.toml, line 2, column 10: `debian`: unknown Debian release `trixy`; did you mean `trixie`?
    "#]],
    );
    wrong(
        "[app]\nworkdir = '../x'",
        expect![[r#"
        sconce.toml, line 2, column 11: `workdir` must be an absolute path without `..`
    "#]],
    );
    wrong(
        "[environment\n",
        expect![[r#"
        sconce.toml, line 1, column 13: unclosed table, expected `]`
    "#]],
    );
    wrong(
        "environment = 1",
        expect![[r#"
        sconce.toml, line 1, column 15: `environment` must be a table
    "#]],
    );
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

/// Tags whose parts say what they are, in any order.
#[test]
fn tags_of_short_parts() {
    let spec = Spec::from_tag("torch:py313-torch2.15-cu132");
    let spec = spec.unwrap_or_else(|error| panic!("{error}")).environment;
    assert_eq!(spec.python.as_deref(), Some("3.13"));
    assert_eq!(spec.cuda, CudaRequest::Version { major: 13, minor: Some(2) });
    let other = Spec::from_tag("torch:cu132-torch2.15-py313").unwrap().environment;
    assert_eq!((&other.python, &other.torch), (&spec.python, &spec.torch));
    assert!(Spec::from_tag("torch:2.15.0-py312-devel").is_ok());
    assert!(Spec::from_tag("torch:py313").is_ok());
    for (tag, says) in [
        ("torch:py399-torch2.15", "its Python is not a version"),
        ("torch:py3", "its Python is not a version"),
        ("torch:2.15.0-torch2.14", "its torch is not a release"),
        ("torch:torch2.x", "its torch is not a release"),
        ("torch:torch2.15-cu1x", "its CUDA is not a release"),
        ("torch:torch2.15-cu1", "its CUDA is not a release"),
        ("torch:torch2.15-cu101", "has builds for"),
        ("torch:pyx-torch2.15", "begins with no torch version"),
    ] {
        let error = Spec::from_tag(tag).unwrap_err().to_string();
        assert!(error.contains(says), "{tag}: {error}");
    }
}

#[test]
fn tags_people_know() {
    let spec = Spec::from_tag("pytorch:2.1.0-cuda12.1-cudnn8-runtime").unwrap();
    assert_eq!(spec.environment.cuda, CudaRequest::Version { major: 12, minor: Some(1) });
    assert_eq!(spec.environment.flavour, Flavour::Runtime);
    assert_eq!(spec.environment.gpus, GpuRequest::Any);
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
    let ngc = Spec::from_tag("nvcr.io/nvidia/pytorch:24.05-py3").unwrap();
    assert_eq!(
        ngc.environment,
        sconce_lock::Environment {
            requirements: Requirements::List(vec!["numpy".into()]),
            ..Spec::parse("[environment]\ntorch = '2.4.0'\npython = '3.10'").unwrap().environment
        }
    );
    expect!["NVIDIA's 24.05 has torch 2.4.0a0+07cecf4168 with CUDA 12.4 and Python 3.10; this is the public torch 2.4.0 with CUDA 12.1 and Python 3.10, without what NVIDIA adds"]
        .assert_eq(&ngc.remarks.join("\n"));
    for release in sconce_facts::ngc_releases() {
        Spec::from_tag(&format!("nvcr.io/nvidia/pytorch:{}-py3", release.name)).unwrap();
    }
    wrong_tag(
        "nvcr.io/nvidia/pytorch:24.13-py3",
        expect![[r#"
        `nvcr.io/nvidia/pytorch:24.13-py3` is not a tag that sconce knows: what is in that release is not known here
        the nearest tag that works is `nvcr.io/nvidia/pytorch:24.12-py3`"#]],
    );
    wrong_tag(
        "nvcr.io/nvidia/pytorch:26.12-py3",
        expect![[r#"
        `nvcr.io/nvidia/pytorch:26.12-py3` is not a tag that sconce knows: what is in that release is not known here
        the nearest tag that works is `nvcr.io/nvidia/pytorch:26.09-py3`"#]],
    );
    wrong_tag(
        "nvcr.io/nvidia/pytorch:24.05-py3-igpu",
        expect![[r#"
        `nvcr.io/nvidia/pytorch:24.05-py3-igpu` is not a tag that sconce knows: what is in that release is not known here
        the nearest tag that works is `nvcr.io/nvidia/pytorch:24.05-py3`"#]],
    );
    wrong_tag(
        "nvcr.io/nvidia/pytorch:23.01-py3",
        expect![[r#"
            `nvcr.io/nvidia/pytorch:23.01-py3` is not a tag that sconce knows: what is in that release is not known here
            the nearest tag that works is `nvcr.io/nvidia/pytorch:24.02-py3`"#]],
    );
    wrong_tag(
        "nvcr.io/nvidia/pytorch",
        expect![[r#"
        `nvcr.io/nvidia/pytorch:latest` is not a tag that sconce knows: what is in that release is not known here
        the nearest tag that works is `nvcr.io/nvidia/pytorch:26.09-py3`"#]],
    );
    wrong_tag(
        "pytorch:2.1.0-cuda12.4-cudnn8-runtime",
        expect![[r#"
        `pytorch:2.1.0-cuda12.4-cudnn8-runtime` is not a tag that sconce knows: torch 2.1.0 has builds for CUDA 11.8 with cuDNN 8, CUDA 12.1 with cuDNN 8
        the nearest tag that works is `pytorch:2.1.0-cuda12.1-cudnn8-runtime`"#]],
    );
    wrong_tag(
        "pytorch:2.1.0-cuda12.1-cudnn9-runtime",
        expect![[r#"
        `pytorch:2.1.0-cuda12.1-cudnn9-runtime` is not a tag that sconce knows: torch 2.1.0 has builds for CUDA 11.8 with cuDNN 8, CUDA 12.1 with cuDNN 8
        the nearest tag that works is `pytorch:2.1.0-cuda12.1-cudnn8-runtime`"#]],
    );
    wrong_tag(
        "pytorch:2.1.0-cuda12.1-cudnn8-runtim",
        expect![[r#"
        `pytorch:2.1.0-cuda12.1-cudnn8-runtim` is not a tag that sconce knows: `runtim` means nothing in it
        the nearest tag that works is `pytorch:2.1.0-cuda12.1-cudnn8-runtime`"#]],
    );
    wrong_tag(
        "pytorh:2.1.0",
        expect![[r#"
        `pytorh:2.1.0` is not a tag that sconce knows: the part before `:` is not an image with torch
        the nearest tag that works is `pytorch:2.1.0`"#]],
    );
    wrong_tag(
        "torch:2.9.7",
        expect![[r#"
        `torch:2.9.7` is not a tag that sconce knows: there is no torch ==2.9.7
        the nearest tag that works is `torch:2.9.1`"#]],
    );
    wrong_tag(
        "torch:nightly",
        expect![[r#"
            `torch:nightly` is not a tag that sconce knows: it begins with no torch version
            a tag is `latest` or begins with a release of torch, from 1.12.0 to 2.15.0: `torch:2.15.0`, `torch:2.15.0-cuda13.2-runtime`"#]],
    );
}
