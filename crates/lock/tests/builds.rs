//! Packages that have one library for each CUDA and take the one for torch's, by its name.

mod world;

use expect_test::expect;
use sconce_lock::{Explanation, Host, Lock, Previous, Spec, resolve};
use world::World;

/// bitsandbytes 0.49.2 ends at CUDA 13.0, 0.43.1 (whose wheel is "for any platform" here, as before 0.43) at 12.4; 0.50.2
/// takes the nearest of its major.
fn world(version: &'static str) -> World {
    let mut world = World::default();
    world.versions.insert("bitsandbytes", version);
    let of = |cudas: &[&str]| {
        let mut files = vec!["bitsandbytes/__init__.py", "bitsandbytes/libbitsandbytes_rocm72.so"];
        for cuda in cudas {
            files.push(format!("bitsandbytes/libbitsandbytes_cuda{cuda}.so").leak());
            files.push(format!("bitsandbytes/libbitsandbytes_cuda{cuda}_nocublaslt.so").leak());
        }
        files
    };
    world.contents.insert("bitsandbytes 0.49.2", of(&["118", "124", "126", "130"]));
    world.contents.insert("bitsandbytes 0.43.1", of(&["117", "118", "121", "124"]));
    world.contents.insert("bitsandbytes 0.50.2", of(&["118", "126", "130"]));
    world.contents.insert("bitsandbytes 0.50.3", of(&["118", "126"]));
    world.contents.insert("bitsandbytes 0.1.0", vec!["bitsandbytes/__init__.py"]);
    world
}

fn lock(keys: &str, world: &mut World) -> Result<(Lock, Explanation), String> {
    let host = Host { machine: Some("x86_64".parse().unwrap()), ..Host::default() };
    let asked = if world.older.is_empty() { "bitsandbytes" } else { "bitsandbytes<0.50" };
    let text = format!("[environment]\n{keys}\nrequirements = ['{asked}']\n");
    let spec = Spec::parse(&text).unwrap();
    resolve(&spec, &host, Previous::NONE, world)
        .map_err(|error| format!("{error}\n{}", error.hint().unwrap_or_default()))
}

/// The torch that is taken, and the first thing that is said.
fn taken(keys: &str, version: &'static str) -> String {
    let (lock, explanation) = lock(keys, &mut world(version)).unwrap_or_else(|e| panic!("{e}"));
    let torch = lock.facts.torch.unwrap();
    let note = explanation.notes.iter().find(|note| !note.starts_with("pinned here"));
    let note = note.map(|note| format!("\n{note}")).unwrap_or_default();
    format!("torch {} of CUDA {}{note}", torch.version, torch.cuda.unwrap())
}

#[test]
fn the_newest_torch_whose_cuda_has_a_library() {
    expect![[r#"
        torch 2.14.1 of CUDA 13.0
        torch 2.15.0 was not taken: bitsandbytes 0.49.2 has no library for CUDA 13.2, which this torch has: its own are for CUDA 11.8 to 13.0"#]]
    .assert_eq(&taken("", "0.49.2"));
    expect![[r#"
        torch 2.5.1 of CUDA 12.4
        torch 2.15.0 was not taken: bitsandbytes 0.43.1 has no library for CUDA 13.2, which this torch has: its own are for CUDA 11.7 to 12.4"#]]
    .assert_eq(&taken("", "0.43.1"));
    // 2.6 has a library for it, and a triton (3.2) without the module that this release imports.
    let notes = lock("", &mut world("0.43.1")).unwrap().1.notes.join("\n");
    assert!(!notes.contains("bitsandbytes>"), "{notes}");
    // From 0.50 on one of the same major does.
    expect!["torch 2.15.0 of CUDA 13.2"].assert_eq(&taken("", "0.50.2"));
    expect![[r#"
        torch 2.10.0 of CUDA 12.8
        torch 2.15.0 was not taken: bitsandbytes 0.50.3 has no library for CUDA 13.2, which this torch has: its own are for CUDA 11.8 to 12.6"#]]
    .assert_eq(&taken("", "0.50.3"));
    // Without CUDA there is nothing to agree on.
    let (lock, _) = lock("cuda = 'cpu'", &mut world("0.49.2")).unwrap();
    assert_eq!(lock.facts.torch.unwrap().cuda, None);
}

#[test]
fn a_torch_that_was_named_is_refused_with_what_fits() {
    let said = |keys: &str, version| lock(keys, &mut world(version)).unwrap_err();
    expect![[r#"
        torch 2.15.0 and the packages beside it do not fit: bitsandbytes 0.49.2 has no library for CUDA 13.2, which this torch has: its own are for CUDA 11.8 to 13.0
        leave the version of torch open, or ask for torch = "2.14.1" (CUDA 13.0)"#]].assert_eq(&said("torch = '2.15.0'", "0.49.2"));
    expect![[r#"
        torch 2.11.0 and the packages beside it do not fit: bitsandbytes 0.43.1 has no library for CUDA 13.0, which this torch has: its own are for CUDA 11.7 to 12.4
        leave the version of torch open, or ask for torch = "2.5.1" (CUDA 12.4)"#]].assert_eq(&said("torch = '2.11.0'", "0.43.1"));
    expect![[r#"
        torch 2.14.1 and the packages beside it do not fit: bitsandbytes 0.49.2 has no library for CUDA 13.2, which this torch has: its own are for CUDA 11.8 to 13.0
        say `cuda = "13.0"`, for which there is a build of this torch"#]].assert_eq(&said("torch = '2.14.1'\ncuda = '13.2'", "0.49.2"));
    // The newest release of the package would do.
    let mut world = world("0.50.2");
    world.older.insert("bitsandbytes", "0.49.2");
    expect![[r#"
        torch 2.15.0 and the packages beside it do not fit: bitsandbytes 0.49.2 has no library for CUDA 13.2, which this torch has: its own are for CUDA 11.8 to 13.0
        leave the version of torch open, or ask for torch = "2.14.1" (CUDA 13.0); or ask for bitsandbytes 0.50.2, which fits torch 2.15.0"#]].assert_eq(&lock("torch = '2.15.0'", &mut world).unwrap_err());
}

#[test]
fn what_can_t_be_read_is_said() {
    expect![[r#"
        torch 2.15.0 of CUDA 13.2
        whether bitsandbytes 7.0 has a library for CUDA 13.2 could not be read: no ranges"#]]
    .assert_eq(&taken("", "7.0"));
    expect![[r#"
        torch 2.15.0 of CUDA 13.2
        whether bitsandbytes 0.1.0 has a library for CUDA 13.2 could not be read: none of its files has the name of one"#]]
    .assert_eq(&taken("", "0.1.0"));
}

/// A pylock.toml of the user's own is checked as well.
#[test]
fn a_pylock_that_has_both() {
    let row = |name: &str, version: &str, tag: &str| {
        format!(
            "[[packages]]\nname = \"{name}\"\nversion = \"{version}\"\nwheels = [{{ url = \
             \"https://files.example.invalid/{name}-{version}-{tag}.whl\", hashes = {{ sha256 = \"{:064x}\" }} }}]\n",
            name.len()
        )
    };
    let said = |bitsandbytes: &'static str| {
        let folder = tempfile::tempdir().unwrap();
        let toml = "[environment]\nrequirements = \"pylock.toml\"\nexclude = [\"cuda-toolkit\", \"cuda-bindings\", \
                    \"nvidia-cudnn-cu13\", \"nvidia-cusparselt-cu13\", \"nvidia-nccl-cu13\", \
                    \"nvidia-nvshmem-cu13\", \"triton\"]\n";
        std::fs::write(folder.path().join("sconce.toml"), toml).unwrap();
        let rows = [
            row("torch", "2.15.0", "cp313-cp313-manylinux_2_28_x86_64"),
            row("bitsandbytes", bitsandbytes, "py3-none-manylinux_2_24_x86_64"),
        ];
        let text = format!("lock-version = \"1.0\"\ncreated-by = \"a test\"\n{}", rows.concat());
        std::fs::write(folder.path().join("pylock.toml"), text).unwrap();
        let spec = Spec::load(&folder.path().join("sconce.toml")).unwrap();
        let host = Host { machine: Some("x86_64".parse().unwrap()), ..Host::default() };
        let locked = resolve(&spec, &host, Previous::NONE, &mut world(bitsandbytes));
        locked.map(|(lock, _)| lock.facts.torch.unwrap().version).map_err(|error| error.to_string())
    };
    let error = said("0.49.2").unwrap_err();
    assert!(
        error.contains("pylock.toml: bitsandbytes 0.49.2 has no library for CUDA 13.2"),
        "{error}"
    );
    assert_eq!(said("0.50.2").unwrap(), "2.15.0");
}
