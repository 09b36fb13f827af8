//! Which torch a request becomes, and what is said when it becomes none.

mod world;

use expect_test::{Expect, expect};
use sconce_facts::Machine;
use sconce_lock::{Error, Explanation, Host, HostGpu, Lock, Previous, Spec, foresee, resolve};
use world::World;

fn x86() -> Host {
    Host { machine: Some(Machine::X86_64), ..Host::default() }
}

fn with(spec: &str, host: &Host, world: &mut World) -> Result<(Lock, Explanation), Error> {
    let spec = Spec::parse(spec).unwrap_or_else(|error| panic!("{error}"));
    let (lock, explanation) = resolve(&spec, host, Previous::NONE, world)?;
    assert_eq!(Lock::parse(&lock.to_text()).unwrap(), lock);
    lock.check_spec(&spec).unwrap();
    Ok((lock, explanation))
}

/// The torch line of a lock in a row.
fn row(lock: &Lock) -> String {
    let facts = &lock.facts;
    let Some(torch) = &facts.torch else {
        return format!("no torch, {} {} {}", facts.machine, facts.base, facts.python);
    };
    let show = |value: Option<String>| value.unwrap_or_else(|| "-".into());
    let architectures: Vec<_> = torch.architectures.iter().map(ToString::to_string).collect();
    format!(
        "torch {} cuda {} driver {} on {} {} {}: {}",
        torch.version,
        show(torch.cuda.map(|cuda| cuda.to_string())),
        show(torch.driver.as_ref().map(ToString::to_string)),
        facts.machine,
        facts.base,
        facts.python,
        architectures.join(" ")
    )
}

#[track_caller]
fn check(spec: &str, expected: Expect) -> (Lock, Explanation) {
    let (lock, explanation) =
        with(spec, &x86(), &mut World::default()).unwrap_or_else(|error| panic!("{error}"));
    expected.assert_eq(&row(&lock));
    (lock, explanation)
}

/// What is said about a request that can't be met: the error, its hint.
#[track_caller]
fn refused(spec: &str, expected: Expect) -> Error {
    let error = match with(spec, &x86(), &mut World::default()) {
        Ok((lock, _)) => panic!("became {}", row(&lock)),
        Err(error) => error,
    };
    expected.assert_eq(&format!("{error}\n{}", error.hint().unwrap_or_default()));
    error
}

#[test]
fn no_request_is_the_newest() {
    let (lock, explanation) = check(
        "",
        expect![
            "torch 2.15.0 cuda 13.2 driver 580.65.06 on x86_64 trixie 3.13: sm_75 sm_80 sm_86 sm_90 sm_100 sm_120"
        ],
    );
    expect![[r#"
        platform: x86_64
          this machine's processor
        driver: any
          none on this machine and none asked for, so no floor
        torch: 2.15.0 (CUDA 13.2)
          the newest that fits; needs driver 580.65.06 or newer
        base: Debian trixie with Python 3.13
          the newest Debian, and the torch has wheels for its Python
        note: pinned here though torch leaves a range: cuda-bindings 13.0.3 (>=13.0.3, <14), triton 3.9.0 (~=3.9.0)
    "#]].assert_eq(&explanation.render());
    assert!(lock.indexes.iter().all(|index| index.url.is_none()));
}

#[test]
fn an_old_driver_with_an_h100() {
    let (_, explanation) = check(
        "[environment]\ngpus = ['h100']\ndriver = '535.104.05'",
        expect![
            "torch 2.10.0 cuda 12.8 driver 525.60.13 on x86_64 trixie 3.13: sm_70 sm_75 sm_80 sm_86 sm_90 sm_100 sm_120"
        ],
    );
    expect![[r#"
        platform: x86_64
          this machine's processor
        driver: 535.104.05
          asked for
        torch: 2.10.0 (CUDA 12.8)
          the newest that fits; has sm_90 for H100; driver 535.104.05 is enough for CUDA 12 (from 525.60.13)
          not torch 2.15.0: built with CUDA 13.2, which needs driver 580.65.06 or newer; the driver is 535.104.05
          not torch 2.14.1, torch 2.14.0, torch 2.13.0, torch 2.12.1, torch 2.12.0, torch 2.11.0: built with CUDA 13.0, which needs driver 580.65.06 or newer; the driver is 535.104.05
        base: Debian trixie with Python 3.13
          the newest Debian, and the torch has wheels for its Python
        note: torch 2.15.0 was not taken: built with CUDA 13.2, which needs driver 580.65.06 or newer; the driver is 535.104.05
    "#]].assert_eq(&explanation.render());
}

/// pyarrow 26 can't be imported beside NumPy 1 and does not say so.
#[test]
fn what_a_release_needs_and_does_not_declare() {
    let spec = "[environment]\nrequirements = ['pyarrow>=19', 'numpy<2']";
    let index = |numpy, older: &[(&'static str, &'static str)]| World {
        versions: [("pyarrow", "26.0.1"), ("numpy", numpy)].into(),
        older: older.iter().copied().collect(),
        ..World::default()
    };
    let pyarrow = |lock: &Lock| lock.wheel("pyarrow").unwrap().version.clone();
    let (lock, explanation) =
        with(spec, &x86(), &mut index("1.26.4", &[("pyarrow", "25.0.1")])).unwrap();
    assert_eq!(pyarrow(&lock), "25.0.1");
    let note = "pyarrow 26.0.1 was not taken: it needs numpy>=2, which its metadata does not say, and numpy is 1.26.4";
    assert!(explanation.notes.contains(&note.to_owned()), "{:?}", explanation.notes);
    let (lock, explanation) = with(spec, &x86(), &mut index("2.4.0", &[])).unwrap();
    assert_eq!(pyarrow(&lock), "26.0.1");
    assert!(!explanation.render().contains("metadata"));
    let error = with(spec, &x86(), &mut index("1.26.4", &[])).unwrap_err();
    assert!(error.to_string().contains("pyarrow 26.0.1 needs numpy>=2, which"), "{error}");
}

/// A driver that no longer runs a GPU that is asked for.
#[test]
fn a_driver_that_is_too_new_for_a_gpu() {
    refused(
        "[environment]\ngpus = ['v100']\ndriver = '595.45.04'",
        expect![[r#"
            branch 580 is the last driver that runs V100, and this is for driver 595.45.04
            take a driver of branch 580 or before, or leave that GPU out"#]],
    );
}

#[test]
fn a_v100() {
    check(
        "[environment]\ngpus = ['v100']",
        expect![
            "torch 2.10.0 cuda 12.8 driver 525.60.13 on x86_64 trixie 3.13: sm_70 sm_75 sm_80 sm_86 sm_90 sm_100 sm_120"
        ],
    );
}

#[test]
fn a_b200_with_a_torch_before_blackwell() {
    refused(
        "[environment]\ngpus = ['b200']\ntorch = '2.5.1'",
        expect![[r#"
        no torch fits: torch 2.5.1: its x86_64 wheel has no code for B200 (sm_100); it has sm_50, sm_60, sm_70, sm_75, sm_80, sm_86, sm_90
        the first torch that fits is 2.8.0, the newest 2.15.0"#]],
    );
}

#[test]
fn old_and_new_together() {
    check(
        "[environment]\ngpus = ['h100', 'v100']",
        expect![
            "torch 2.10.0 cuda 12.8 driver 525.60.13 on x86_64 trixie 3.13: sm_70 sm_75 sm_80 sm_86 sm_90 sm_100 sm_120"
        ],
    );
    check(
        "[environment]\ngpus = ['b200', 'v100']",
        expect![
            "torch 2.10.0 cuda 12.8 driver 525.60.13 on x86_64 trixie 3.13: sm_70 sm_75 sm_80 sm_86 sm_90 sm_100 sm_120"
        ],
    );
    refused(
        "[environment]\ngpus = ['b200', 'gtx1080']",
        expect![[r#"
            no torch fits: no release serves all of these GPUs: B200 (sm_100) is served by 2.8.0 to 2.15.0; GTX1080 (sm_61) is served by 2.1.0 to 2.7.1
            make an environment for each, or leave one out"#]],
    );
    refused(
        "[environment]\ngpus = ['h100', 'v100']\ntorch = '2.15.0'",
        expect![[r#"
        no torch fits: torch 2.15.0: its x86_64 wheel has no code for V100 (sm_70); it has sm_75, sm_80, sm_86, sm_90, sm_100, sm_120
        the first torch that fits is 2.1.0, the newest 2.10.0"#]],
    );
}

#[test]
fn gh200_is_aarch64() {
    let (_, explanation) = check(
        "[environment]\ngpus = ['gh200']",
        expect![
            "torch 2.15.0 cuda 13.2 driver 580.65.06 on aarch64 trixie 3.13: sm_80 sm_90 sm_100 sm_110 sm_120"
        ],
    );
    expect![[r#"
        platform: aarch64
          the processor beside GH200
        driver: any
          none on this machine and none asked for, so no floor
        torch: 2.15.0 (CUDA 13.2)
          the newest that fits; has sm_90 for GH200; needs driver 580.65.06 or newer
        base: Debian trixie with Python 3.13
          the newest Debian, and the torch has wheels for its Python
        note: pinned here though torch leaves a range: cuda-bindings 13.0.3 (>=13.0.3, <14), triton 3.9.0 (~=3.9.0)
    "#]].assert_eq(&explanation.render());
    check(
        "[environment]\ngpus = ['gh200']\ntorch = '<2.12'",
        expect![
            "torch 2.11.0 cuda 13.0 driver 580.65.06 on aarch64 trixie 3.13: sm_80 sm_90 sm_100 sm_110 sm_120"
        ],
    );
    refused(
        "[environment]\ngpus = ['gh200']\ntorch = '2.10.0'",
        expect![[r#"
        no torch fits: torch 2.10.0: its aarch64 wheel is a CPU build: it can't use a GPU
        the first torch that fits is 2.11.0, the newest 2.15.0"#]],
    );
    refused(
        "[environment]\ngpus = ['gh200']\ndriver = '535.104.05'",
        expect![[r#"
            no torch fits: the newest looked at, torch 2.15.0: built with CUDA 13.2, which needs driver 580.65.06 or newer; the driver is 535.104.05
            the newest torch that driver 535.104.05 runs is 2.14.1 with CUDA 12.6: torch = "2.14.1", cuda = "12.6"; or a driver from 580.65.06 on"#]],
    );
    refused(
        "[environment]\ngpus = ['gh200']\nplatform = 'x86_64'",
        expect![[r#"
        GH200 stands beside an aarch64 processor, and platform = "x86_64" is asked for
        platform = "aarch64", or leave it out"#]],
    );
}

#[test]
fn a_torch_newer_than_the_facts() {
    let brings =
        vec![("cuda-toolkit", "13.4.1.0"), ("nvidia-cudnn-cu13", "9.30.0.1"), ("triton", "4.0.0")];
    let mut world = World { newer: vec![("2.16.0", brings)], ..World::default() };
    let spec = "[environment]\ntorch = '2.16.0'\ngpus = ['h100']";
    let (lock, explanation) = with(spec, &x86(), &mut world).unwrap();
    expect!["torch 2.16.0 cuda 13.4 driver 580.65.06 on x86_64 trixie 3.13: "]
        .assert_eq(&row(&lock));
    expect![[r#"
        platform: x86_64
          this machine's processor
        driver: any
          none on this machine and none asked for, so no floor
        torch: 2.16.0
          asked for; newer than what this sconce knows (up to 2.15.0)
        base: Debian trixie with Python 3.13
          the newest Debian, and the torch has wheels for its Python
        note: torch 2.16.0: CUDA, cuDNN and NCCL are read from its dependencies; which GPUs it has code for is not known and was not checked
    "#]].assert_eq(&explanation.render());
    let spec = "[environment]\ntorch = '2.16.0'\ndriver = '535.104.05'";
    let error = with(spec, &x86(), &mut world).unwrap_err();
    expect!["no torch fits: torch 2.16.0: built with CUDA 13.4, which needs driver 580.65.06 or newer; the driver is 535.104.05"].assert_eq(&error.to_string());
    // No such release: the resolver's words.
    let error = with("[environment]\ntorch = '2.17.0'", &x86(), &mut world).unwrap_err();
    expect![[r#"
        the Python requirements cannot be met:
        there is no torch==2.17.0"#]]
    .assert_eq(&error.to_string());
}

#[test]
fn torches_that_never_were() {
    refused(
        "[environment]\ntorch = '2.9.7'",
        expect![[r#"
            no torch fits: there is no torch ==2.9.7 (known: 1.12.0 to 2.15.0)
            the nearest is torch = "2.9.1""#]],
    );
    refused(
        "[environment]\ntorch = '1.11.0'",
        expect![[r#"
            no torch fits: there is no torch ==1.11.0 (known: 1.12.0 to 2.15.0)
            the nearest is torch = "1.12.0""#]],
    );
    for asked in ["torch==1.9.0", "torch==1.9.0+cu111", "torch>=1.7,<1.12"] {
        let spec = format!("[environment]\nrequirements = ['{asked}']");
        let error = with(&spec, &x86(), &mut World::default()).unwrap_err();
        let said = error.to_string();
        assert!(said.contains("the oldest that sconce knows is 1.12.0"), "{said}");
        assert!(error.hint().unwrap().contains("torch==1.12.0"), "{error:?}");
    }
    refused(
        "[environment]\ntorch = '>=2.6,<2.6'",
        expect![[r#"
            no torch fits: there is no torch >=2.6, <2.6 (known: 1.12.0 to 2.15.0)
            the nearest is torch = "2.6.0""#]],
    );
}

#[test]
fn this_machines_driver_counts_unless_it_does_not() {
    let host = Host { driver: Some("535.104.05".parse().unwrap()), ..x86() };
    let torch = |spec: &str| row(&with(spec, &host, &mut World::default()).unwrap().0);
    expect!["torch 2.10.0 cuda 12.8 driver 525.60.13 on x86_64 trixie 3.13: sm_70 sm_75 sm_80 sm_86 sm_90 sm_100 sm_120"].assert_eq(&torch(""));
    expect!["torch 2.15.0 cuda 13.2 driver 580.65.06 on x86_64 trixie 3.13: sm_75 sm_80 sm_86 sm_90 sm_100 sm_120"].assert_eq(&torch("[environment]\ndriver = 'any'"));
    // Another processor's image says nothing about this driver.
    expect!["torch 2.15.0 cuda 13.2 driver 580.65.06 on aarch64 trixie 3.13: sm_80 sm_90 sm_100 sm_110 sm_120"].assert_eq(&torch("[environment]\nplatform = 'aarch64'"));
}

#[test]
fn this_machines_gpus() {
    let spec = "[environment]\ngpus = 'host'";
    refused(
        spec,
        expect![[r#"
        gpus = "host", and this machine has no NVIDIA GPU that can be seen
        name the GPUs instead: gpus = ["h100"]"#]],
    );
    let gpu = HostGpu { name: "Tesla V100-SXM2-16GB".into(), capability: "7.0".parse().unwrap() };
    let host = Host { gpus: vec![gpu], driver: Some("570.86.15".parse().unwrap()), ..x86() };
    let (lock, _) = with(spec, &host, &mut World::default()).unwrap();
    expect!["torch 2.10.0 cuda 12.8 driver 525.60.13 on x86_64 trixie 3.13: sm_70 sm_75 sm_80 sm_86 sm_90 sm_100 sm_120"].assert_eq(&row(&lock));
}

#[test]
fn a_cuda_that_pypi_has_and_one_that_it_has_not() {
    check(
        "[environment]\ncuda = '12.6'",
        expect![
            "torch 2.7.1 cuda 12.6 driver 525.60.13 on x86_64 trixie 3.13: sm_50 sm_60 sm_70 sm_75 sm_80 sm_86 sm_90"
        ],
    );
    check(
        "[environment]\ncuda = '12'",
        expect![
            "torch 2.10.0 cuda 12.8 driver 525.60.13 on x86_64 trixie 3.13: sm_70 sm_75 sm_80 sm_86 sm_90 sm_100 sm_120"
        ],
    );
    let (lock, explanation) = check(
        "[environment]\ncuda = '12.6'\ntorch = '2.9.1'",
        expect![
            "torch 2.9.1+cu126 cuda 12.6 driver 525.60.13 on x86_64 trixie 3.13: sm_50 sm_60 sm_70 sm_75 sm_80 sm_86 sm_90"
        ],
    );
    assert_eq!(lock.wheel("torch").unwrap().index, "pytorch-cu126");
    assert!(lock.indexes.iter().any(|index| index.name == "pytorch-cu126" && index.url.is_some()));
    assert!(explanation.render().contains("PyTorch's own index"));
    refused(
        "[environment]\ncuda = '12.3'\ntorch = '2.9.1'",
        expect![[r#"
        no torch fits: torch 2.9.1: built with CUDA 12.8, and CUDA 12.3 is wanted
        torch 2.9.1 has builds for CUDA 12.6, 12.8, 13.0"#]],
    );
    check(
        "[environment]\ncuda = 'cpu'\ntorch = '2.9.1'",
        expect!["torch 2.9.1+cpu cuda - driver - on x86_64 trixie 3.13: "],
    );
    refused(
        "[environment]\ncuda = 'cpu'\ngpus = ['h100']",
        expect![[r#"
            cuda = "cpu" is a build that can't use the GPUs asked for
            leave out one of `cuda` and `gpus`"#]],
    );
}

#[test]
fn a_volta_build_on_the_other_index_is_named() {
    refused(
        "[environment]\ntorch = '2.12.0'\ngpus = ['v100']\ndriver = '535'",
        expect![[r#"
        no torch fits: torch 2.12.0: its x86_64 wheel has no code for V100 (sm_70); it has sm_75, sm_80, sm_86, sm_90, sm_100, sm_120
        the first torch that fits is 1.12.0, the newest 2.10.0"#]],
    );
}

/// A version with a local part is a release and a CUDA.
#[test]
fn a_cuda_behind_the_version() {
    let expected = || {
        expect![
            "torch 2.3.1 cuda 12.1 driver 525.60.13 on x86_64 bookworm 3.11: sm_50 sm_60 sm_70 sm_75 sm_80 sm_86 sm_90"
        ]
    };
    check("[environment]\ngpus = ['h100']\ntorch = '2.3.1+cu121'", expected());
    check(
        "[environment]\nrequirements = ['torch==2.3.1+cu121', 'torchvision==0.18.1+cu121']",
        expected(),
    );
    check(
        "[environment]\nrequirements = ['torch==2.9.1+cu126']",
        expect![
            "torch 2.9.1+cu126 cuda 12.6 driver 525.60.13 on x86_64 trixie 3.13: sm_50 sm_60 sm_70 sm_75 sm_80 sm_86 sm_90"
        ],
    );
    check(
        "[environment]\ntorch = '2.9.1+cpu'",
        expect!["torch 2.9.1+cpu cuda - driver - on x86_64 trixie 3.13: "],
    );
    let error = Spec::parse("[environment]\ncuda = '12.6'\ntorch = '2.3.1+cu121'\n").unwrap_err();
    expect!["sconce.toml, line 3, column 9: `2.3.1+cu121` is a build for another CUDA than `cuda` asks for"].assert_eq(&error.to_string());
}

/// A driver below the floor of every build on PyPI is told what it can run.
#[test]
fn a_driver_below_every_floor() {
    refused(
        "[environment]\ngpus = ['t4']\ndriver = '470.57.02'",
        expect![[r#"
            no torch fits: the newest looked at, torch 2.15.0: built with CUDA 13.2, which needs driver 580.65.06 or newer; the driver is 470.57.02
            the newest torch that driver 470.57.02 runs is 2.7.1 with CUDA 11.8: torch = "2.7.1", cuda = "11.8"; or a driver from 525.60.13 on, which runs torch 2.10.0, or from 580.65.06 on for torch 2.15.0"#]],
    );
    refused(
        "[environment]\ndriver = '390.157'",
        expect![[r#"
            no torch fits: the newest looked at, torch 2.15.0: built with CUDA 13.2, which needs driver 580.65.06 or newer; the driver is 390.157
            no torch that is known here runs on driver 390.157: the lowest floor is 440.33, that of CUDA 10; or a driver from 525.60.13 on, which runs torch 2.10.0, or from 580.65.06 on for torch 2.15.0"#]],
    );
}

/// Below CUDA 11's floor there is what was built with CUDA 10; below that, nothing.
#[test]
fn a_driver_older_than_cuda_11() {
    refused(
        "[environment]\ndriver = '440.64'",
        expect![[r#"
            no torch fits: the newest looked at, torch 2.15.0: built with CUDA 13.2, which needs driver 580.65.06 or newer; the driver is 440.64
            the newest torch that fits is torch = "1.12.1"; or a driver from 525.60.13 on, which runs torch 2.10.0, or from 580.65.06 on for torch 2.15.0"#]],
    );
}

/// Releases before 2.1 are taken where they are asked for, in sconce.toml or by a requirement, and never else.
#[test]
fn an_old_torch_is_asked_for() {
    let old = || {
        expect![
            "torch 1.13.1 cuda 11.7 driver 450.80.02 on x86_64 bookworm 3.11: sm_37 sm_50 sm_60 sm_70 sm_75 sm_80 sm_86"
        ]
    };
    check("[environment]\ntorch = '1.13.1'", old());
    check("[environment]\ntorch = '<2'", old());
    check("[environment]\nrequirements = ['torch==1.13.1']", old());
    check("[environment]\nrequirements = ['torch>=1.12,<2.0']", old());
    check(
        "[environment]\ntorch = '2.0.1'",
        expect![
            "torch 2.0.1 cuda 11.7 driver 450.80.02 on x86_64 bookworm 3.11: sm_37 sm_50 sm_60 sm_70 sm_75 sm_80 sm_86"
        ],
    );
    check(
        "[environment]\ntorch = '>=1.12'",
        expect![
            "torch 2.15.0 cuda 13.2 driver 580.65.06 on x86_64 trixie 3.13: sm_75 sm_80 sm_86 sm_90 sm_100 sm_120"
        ],
    );
    // Debian has no Python that it has a wheel for.
    check(
        "[environment]\ntorch = '1.12.1'",
        expect![
            "torch 1.12.1 cuda 10.2 driver 440.33 on x86_64 trixie 3.10: sm_37 sm_50 sm_60 sm_70"
        ],
    );
    refused(
        "[environment]\ntorch = '1.12.1'\npython = '3.12'",
        expect![[r#"
            no torch fits: torch 1.12.1: it has no wheel for Python 3.12; it has cp37, cp38, cp39, cp310
            python = "3.10""#]],
    );
    refused(
        "[environment]\ntorch = '1.13.1'\ngpus = ['h100']",
        expect![[r#"
        no torch fits: torch 1.13.1: its x86_64 wheel has no code for H100 (sm_90); it has sm_37, sm_50, sm_60, sm_70, sm_75, sm_80, sm_86
        the first torch that fits is 2.1.0, the newest 2.15.0"#]],
    );
    let mut world = World { allowed: Some("==1.13.1".parse().unwrap()), ..World::default() };
    let error = with("[environment]\nrequirements = ['vllm']", &x86(), &mut world).unwrap_err();
    assert!(matches!(error, Error::Unsatisfiable { .. }), "{error}");
}

#[test]
fn python_and_debian_go_together() {
    check(
        "[environment]\ntorch = '2.1.0'",
        expect![
            "torch 2.1.0 cuda 12.1 driver 525.60.13 on x86_64 bookworm 3.11: sm_50 sm_60 sm_70 sm_75 sm_80 sm_86 sm_90"
        ],
    );
    check(
        "[environment]\npython = '3.11'",
        expect![
            "torch 2.15.0 cuda 13.2 driver 580.65.06 on x86_64 bookworm 3.11: sm_75 sm_80 sm_86 sm_90 sm_100 sm_120"
        ],
    );
    check(
        "[base]\ndebian = 'bookworm'",
        expect![
            "torch 2.15.0 cuda 13.2 driver 580.65.06 on x86_64 bookworm 3.11: sm_75 sm_80 sm_86 sm_90 sm_100 sm_120"
        ],
    );
    // 2.5.1 has a wheel for 3.13 and no Triton with it.
    check(
        "[environment]\ntorch = '2.5.1'",
        expect![
            "torch 2.5.1 cuda 12.4 driver 525.60.13 on x86_64 bookworm 3.11: sm_50 sm_60 sm_70 sm_75 sm_80 sm_86 sm_90"
        ],
    );
    let (_, explanation) = check(
        "[environment]\ntorch = '2.5.1'\npython = '3.13'",
        expect![
            "torch 2.5.1 cuda 12.4 driver 525.60.13 on x86_64 trixie 3.13: sm_50 sm_60 sm_70 sm_75 sm_80 sm_86 sm_90"
        ],
    );
    assert!(explanation.render().contains("torch.compile"), "{}", explanation.render());
    refused(
        "[environment]\ntorch = '2.1.0'\npython = '3.13'",
        expect![[r#"
        no torch fits: torch 2.1.0: it has no wheel for Python 3.13; it has cp38, cp39, cp310, cp311
        python = "3.11" (Debian bookworm)"#]],
    );
    // Another Python than the release's own is a standalone build.
    let (lock, explanation) = check(
        "[environment]\npython = '3.11'\n[base]\ndebian = 'trixie'",
        expect![
            "torch 2.15.0 cuda 13.2 driver 580.65.06 on x86_64 trixie 3.11: sm_75 sm_80 sm_86 sm_90 sm_100 sm_120"
        ],
    );
    assert_eq!(lock.python.unwrap().version, "3.11.16");
    assert!(explanation.render().contains("cpython-3.11.16"), "{}", explanation.render());
    check(
        "[environment]\npython = '3.14'",
        expect![
            "torch 2.15.0 cuda 13.2 driver 580.65.06 on x86_64 trixie 3.14: sm_75 sm_80 sm_86 sm_90 sm_100 sm_120"
        ],
    );
}

/// A build without the GIL is taken where it is asked for, and has no stable ABI.
#[test]
fn free_threaded_python() {
    let (lock, _) = check(
        "[environment]\npython = '3.13t'",
        expect![
            "torch 2.12.0 cuda 13.0 driver 580.65.06 on x86_64 trixie 3.13t: sm_75 sm_80 sm_86 sm_90 sm_100 sm_120"
        ],
    );
    assert!(lock.python.unwrap().file.contains("-freethreaded-"));
    refused(
        "[environment]\npython = '3.13t'\nrequirements = ['a']\nfrom-source = ['a']",
        expect![[r#"
            wheels for Python 3.13t are not built from source here
            leave out `from-source`, or take python = "3.13""#]],
    );
    refused(
        "[environment]\npython = '3.13t'\ntorch = '2.1.0'",
        expect![[r#"
        no torch fits: torch 2.1.0: it has no wheel for Python 3.13t; it has cp38, cp39, cp310, cp311
        python = "3.11" (Debian bookworm)"#]],
    );
}

/// Before an older torch is tried, the same one on a Python that Debian does not ship; but only where it is a
/// Python that the requirements lack.
#[test]
fn a_python_that_debian_lacks_is_tried_where_it_may_help() {
    let no = |why: &'static str| World {
        unmet: vec![("a", "3.13", why), ("a", "3.11", why)],
        ..World::default()
    };
    let spec = "[environment]\nrequirements = ['a']";
    let mut world = no("a==1 has no wheels with a matching Python ABI tag (e.g., `cp313`)");
    let (lock, explanation) = with(spec, &x86(), &mut world).unwrap();
    expect!["torch 2.15.0 cuda 13.2 driver 580.65.06 on x86_64 trixie 3.12: sm_75 sm_80 sm_86 sm_90 sm_100 sm_120"].assert_eq(&row(&lock));
    assert!(explanation.render().contains("cpython-3.12"), "{}", explanation.render());
    // It stays, as the rest of a lock does.
    let again = Spec::parse("[environment]\nrequirements = ['a', 'b']").unwrap();
    let upgrade = Default::default();
    let previous = Previous { lock: Some(&lock), upgrade: &upgrade };
    let (kept, _) = resolve(&again, &x86(), previous, &mut no("")).unwrap();
    assert_eq!((&kept.facts.python, &kept.python), (&lock.facts.python, &lock.python));

    let mut world = no("a==1 depends on b>2 and you require b<2");
    let error = with(spec, &x86(), &mut world).unwrap_err();
    assert!(matches!(error, Error::Unsatisfiable { .. }), "{error}");
    assert!(world.asked.iter().all(|asked| asked.base.standalone.is_none()));
    let mut world = no("a==1 depends on b>2 and you require b<2");
    let without = "[environment]\ntorch = false\nrequirements = ['a']";
    with(without, &x86(), &mut world).unwrap_err();
    assert_eq!(world.asked.len(), 2);
    let mut world = no("the requested Python version (3.13) does not satisfy Python<3.11");
    let (lock, _) = with(without, &x86(), &mut world).unwrap();
    expect!["no torch, x86_64 trixie 3.12"].assert_eq(&row(&lock));

    // Where there is a source distribution as well, the index knows the Pythons that wheels are for.
    let words = "Because a==1.0 has no usable wheels ...\n\nhint: Wheels are required for `a` because building from source is disabled";
    let lists = |files: &[&'static str]| World {
        files: [("a", files.iter().map(|file| (*file, "2021-06-22")).collect())].into(),
        ..no(words)
    };
    let wheels =
        ["a-1.0.tar.gz", "a-1.0-cp39-cp39-manylinux_2_12_x86_64.whl", "a-2.0-py3-none-any.whl"];
    let mut world = lists(&wheels);
    let spec = "[environment]\ntorch = false\nrequirements = ['a==1.0']";
    world.unmet.iter_mut().for_each(|unmet| unmet.0 = "a==1.0");
    let (lock, _) = with(spec, &x86(), &mut world).unwrap();
    assert_eq!((lock.facts.python.as_str(), world.asked.len()), ("3.9", 3));
    let mut world = lists(&wheels);
    world.unmet.iter_mut().for_each(|unmet| unmet.0 = "a==1.0");
    let spec_with = "[environment]\nrequirements = ['a==1.0']";
    let (lock, _) = with(spec_with, &x86(), &mut world).unwrap();
    expect!["torch 2.8.0 cuda 12.8 driver 525.60.13 on x86_64 trixie 3.9: sm_70 sm_75 sm_80 sm_86 sm_90 sm_100 sm_120"].assert_eq(&row(&lock));
    let mut world = lists(&wheels[..1]);
    world.unmet.iter_mut().for_each(|unmet| unmet.0 = "a==1.0");
    with(spec, &x86(), &mut world).unwrap_err();
    assert_eq!(world.asked.len(), 2);
}

#[test]
fn without_torch() {
    let mut world = World::default();
    let (lock, _) = with("[environment]\ntorch = false", &x86(), &mut world).unwrap();
    expect!["no torch, x86_64 trixie 3.13"].assert_eq(&row(&lock));
    assert!(lock.wheels.is_empty() && world.asked.is_empty());
    let spec = "[environment]\ntorch = false\nrequirements = ['pytest']";
    let (lock, _) = with(spec, &x86(), &mut world).unwrap();
    let names: Vec<_> = lock.wheels.iter().map(|wheel| wheel.name.as_str()).collect();
    assert_eq!(names, ["pip", "pytest"]);
    let spec = "[environment]\ntorch = false\nrequirements = ['torch']";
    let error = with(spec, &x86(), &mut world).unwrap_err();
    expect!["torch = false, and the requirements bring torch 2.15.0"].assert_eq(&error.to_string());
}

#[test]
fn devel_adds_nvcc_where_there_is_one() {
    let mut world = World::default();
    let spec = "[environment]\nflavour = 'devel'";
    let (lock, _) = with(spec, &x86(), &mut world).unwrap();
    assert!(lock.wheel("nvidia-nvcc").is_some());
    let asked = world.asked.last().unwrap().requirements.join(" ");
    assert!(asked.contains("==13.2.*"), "{asked}");
    refused(
        "[environment]\nflavour = 'devel'\ntorch = '2.9.1'",
        expect![[r#"
        no torch fits: torch 2.9.1: flavour "devel" needs nvcc, and NVIDIA's wheels for CUDA 12 have none
        the first torch that fits is 2.11.0, the newest 2.15.0; or flavour = "runtime""#]],
    );
}

#[test]
fn requirements_that_ask_for_an_older_torch() {
    let mut world = World { allowed: Some("==2.14.0".parse().unwrap()), ..World::default() };
    let spec = "[environment]\nrequirements = ['vllm']";
    let (lock, explanation) = with(spec, &x86(), &mut world).unwrap();
    expect!["torch 2.14.0 cuda 13.0 driver 580.65.06 on x86_64 trixie 3.13: sm_75 sm_80 sm_86 sm_90 sm_100 sm_120"].assert_eq(&row(&lock));
    expect![[r#"
        platform: x86_64
          this machine's processor
        driver: any
          none on this machine and none asked for, so no floor
        torch: 2.14.0 (CUDA 13.0)
          the newest that fits; needs driver 580.65.06 or newer
          not torch 2.15.0, torch 2.14.1: there is no torch==2.15.0
        base: Debian trixie with Python 3.13
          the newest Debian, and the torch has wheels for its Python
        note: torch 2.15.0 was not taken: there is no torch==2.15.0
        note: pinned here though torch leaves a range: cuda-bindings 13.0.3 (>=13.0.3, <14), triton 3.8.0 (~=3.8.0)
    "#]].assert_eq(&explanation.render());
    // One that only Debian's older Python can have.
    let mut world = World { allowed: Some("==2.4.1".parse().unwrap()), ..World::default() };
    let (lock, _) = with(spec, &x86(), &mut world).unwrap();
    expect!["torch 2.4.1 cuda 12.1 driver 525.60.13 on x86_64 bookworm 3.11: sm_50 sm_60 sm_70 sm_75 sm_80 sm_86 sm_90"].assert_eq(&row(&lock));
    assert!(world.asked.len() < 6, "{}", world.asked.len());
    let mut world = World { allowed: Some("==9".parse().unwrap()), ..World::default() };
    let error = with(spec, &x86(), &mut world).unwrap_err();
    assert!(matches!(error, Error::Unsatisfiable { .. }), "{error}");
}

#[test]
fn a_set_that_torch_was_not_built_with() {
    let mut world = World::default();
    world.swapped.insert("nvidia-cudnn-cu13", "9.24.0.43");
    // 2.15.0 pins another cuDNN; 2.14.1 pins this one.
    let (lock, explanation) = with("", &x86(), &mut world).unwrap();
    expect!["torch 2.14.1 cuda 13.0 driver 580.65.06 on x86_64 trixie 3.13: sm_75 sm_80 sm_86 sm_90 sm_100 sm_120"].assert_eq(&row(&lock));
    expect![[r#"
        platform: x86_64
          this machine's processor
        driver: any
          none on this machine and none asked for, so no floor
        torch: 2.14.1 (CUDA 13.0)
          the newest that fits; needs driver 580.65.06 or newer
          not torch 2.15.0: torch was built with nvidia-cudnn-cu13 ==9.26.0.51, and 9.24.0.43 came
        base: Debian trixie with Python 3.13
          the newest Debian, and the torch has wheels for its Python
        note: torch 2.15.0 was not taken: torch was built with nvidia-cudnn-cu13 ==9.26.0.51, and 9.24.0.43 came
        note: pinned here though torch leaves a range: cuda-bindings 13.0.3 (>=13.0.3, <14), triton 3.8.0 (~=3.8.0)
    "#]].assert_eq(&explanation.render());
    let error = with("[environment]\ntorch = '2.15.0'", &x86(), &mut world).unwrap_err();
    expect!["the resolved set does not fit torch 2.15.0: torch was built with nvidia-cudnn-cu13 ==9.26.0.51, and 9.24.0.43 came"].assert_eq(&error.to_string());
}

#[test]
fn turing_is_warned_about_linalg_and_old_torch_about_numpy() {
    let (_, explanation) = check(
        "[environment]\ngpus = ['t4']",
        expect![
            "torch 2.15.0 cuda 13.2 driver 580.65.06 on x86_64 trixie 3.13: sm_75 sm_80 sm_86 sm_90 sm_100 sm_120"
        ],
    );
    assert!(explanation.notes.iter().any(|note| note.contains("MAGMA")), "{explanation:?}");
    let mut world = World::default();
    with("[environment]\ntorch = '2.1.0'", &x86(), &mut world).unwrap();
    assert_eq!(world.asked.last().unwrap().constraints, ["numpy<2"]);
}

#[test]
fn a_real_answer_becomes_a_lock() {
    struct Recorded(World);
    impl sconce_lock::Index for Recorded {
        fn python(
            &mut self,
            _: &sconce_lock::PythonRequest,
        ) -> Result<sconce_lock::PythonAnswer, sconce_lock::IndexError> {
            let pylock = include_str!("data/pylock.torch-2-15-0.toml").to_owned();
            Ok(sconce_lock::PythonAnswer { pylock, ..Default::default() })
        }
        fn releases(
            &mut self,
            packages: &[String],
        ) -> Result<
            std::collections::BTreeMap<String, Vec<sconce_lock::ListedFile>>,
            sconce_lock::IndexError,
        > {
            self.0.releases(packages)
        }
        fn native(
            &mut self,
            wheels: &[(sconce_lock::Wheel, bool)],
        ) -> Vec<Result<sconce_lock::Native, String>> {
            self.0.native(wheels)
        }

        fn debian(
            &mut self,
            request: &sconce_lock::DebianRequest,
        ) -> Result<sconce_lock::DebianAnswer, sconce_lock::IndexError> {
            self.0.debian(request)
        }
    }
    let (lock, explanation) =
        resolve(&Spec::default(), &x86(), Previous::NONE, &mut Recorded(World::default())).unwrap();
    assert_eq!(lock.wheels.len(), 29);
    assert_eq!(lock.wheel("nvidia-cublas").unwrap().size, Some(404_870_805));
    expect!["torch 2.15.0 cuda 13.2 driver 580.65.06 on x86_64 trixie 3.13: sm_75 sm_80 sm_86 sm_90 sm_100 sm_120"].assert_eq(&row(&lock));
    expect!["pinned here though torch leaves a range: cuda-bindings 13.5.0 (>=13.0.3, <14), triton 3.9.0 (~=3.9.0)"].assert_eq(&explanation.notes.join("\n"));
    assert_eq!(Lock::parse(&lock.to_text()).unwrap(), lock);
}

/// What the facts alone say of a request is what its lock begins with; no index is asked.
#[test]
fn the_facts_foresee_a_lock() {
    let spec = |text: &str| Spec::parse(text).unwrap();
    let (lock, _) = check(
        "",
        expect![
            "torch 2.15.0 cuda 13.2 driver 580.65.06 on x86_64 trixie 3.13: sm_75 sm_80 sm_86 sm_90 sm_100 sm_120"
        ],
    );
    let seen = foresee(&spec(""), &x86()).unwrap().unwrap();
    let locked = lock.facts.torch.unwrap();
    assert_eq!((&seen.version, &seen.cuda), (&locked.version, &locked.cuda));
    assert_eq!((seen.driver, seen.architectures), (locked.driver, locked.architectures));
    let old = Host { driver: "470.57.02".parse().ok(), ..x86() };
    let torch = spec("[environment]\ntorch = \"2.15.0\"\n");
    assert!(matches!(foresee(&torch, &old), Err(Error::NoTorch { .. })));
    assert_eq!(foresee(&spec("[environment]\ntorch = false\n"), &x86()).unwrap(), None);
}

/// A torch from an index of the user's own is the build that its version says, and not PyPI's of that release.
#[test]
fn the_build_of_another_index() {
    let brings = vec![("nvidia-cublas-cu12", "12.6.4.1")];
    let mut world = World { newer: vec![("2.10.0+cu126", brings)], ..World::default() };
    let (lock, _) = with("[environment]\ntorch = \"2.10.0\"\n", &x86(), &mut world).unwrap();
    let torch = lock.facts.torch.unwrap();
    assert_eq!((torch.version.as_str(), torch.cuda), ("2.10.0+cu126", "12.6".parse().ok()));
}
