//! The grammar of `--gpus`, and locks between processes.

mod world;

use std::path::Path;
use std::time::Duration;

use expect_test::{Expect, expect};
use sconce_gpu::driver::{self, Driver};
use sconce_gpu::select::{choose, parse};
use world::world;

fn driver(name: &str) -> Driver {
    let world = world(name);
    let mut driver = driver::find(&world.machine).unwrap();
    driver::with_nvml(&world.machine, &mut driver.survey, Duration::from_secs(1));
    driver
}

/// Parses and chooses, alone on the machine.
fn check(driver: &Driver, wish: &str, says: Expect) {
    let locks = tempfile::tempdir().unwrap();
    let chosen = parse(wish).and_then(|wish| choose(&wish, driver, locks.path()));
    says.assert_eq(&match chosen {
        Ok(selection) => selection.cdi_names().join(" "),
        Err(error) => error.to_string(),
    });
}

#[test]
fn every_way_to_say_it() {
    let two = &driver("prefix");
    check(two, "all", expect!["nvidia.com/gpu=0 nvidia.com/gpu=1"]);
    check(two, "none", expect![""]);
    check(two, "1", expect!["nvidia.com/gpu=0"]);
    check(two, "2", expect!["nvidia.com/gpu=0 nvidia.com/gpu=1"]);
    check(two, "1,0", expect!["nvidia.com/gpu=1 nvidia.com/gpu=0"]);
    check(two, "device=1", expect!["nvidia.com/gpu=1"]);
    check(two, "\"device=0,1\"", expect!["nvidia.com/gpu=0 nvidia.com/gpu=1"]);
    check(two, "device=0,0", expect!["nvidia.com/gpu=0"]);
    check(two, "device=nvidia.com/gpu=1", expect!["nvidia.com/gpu=1"]);
    check(two, "nvidia.com/gpu=all", expect!["nvidia.com/gpu=0 nvidia.com/gpu=1"]);
    check(two, "GPU-1d5a7d1c-0002", expect!["nvidia.com/gpu=1"]);
    check(two, "count=1", expect!["nvidia.com/gpu=0"]);
    check(two, "all,capabilities=utility", expect!["nvidia.com/gpu=0 nvidia.com/gpu=1"]);
    check(
        two,
        "count=2,\"capabilities=compute,utility\"",
        expect!["nvidia.com/gpu=0 nvidia.com/gpu=1"],
    );
    check(two, "driver=nvidia,count=all", expect!["nvidia.com/gpu=0 nvidia.com/gpu=1"]);
    check(two, "capabilities=gpu", expect!["nvidia.com/gpu=0"]);
}

#[test]
fn what_can_not_be_met_says_what_there_is() {
    let two = &driver("prefix");
    check(two, "3", expect!["3 GPUs were asked for; of 2 here 2 are idle (there are no others)"]);
    check(
        two,
        "device=2",
        expect![
            "there is no GPU `2` on this machine; there is: 0 (NVIDIA H100 80GB HBM3, GPU-1d5a7d1c-0001-4a7e-9c1c-00000000000a); 1 (NVIDIA H100 80GB HBM3, GPU-1d5a7d1c-0002-4a7e-9c1c-00000000000b)"
        ],
    );
    check(
        two,
        "GPU-1d5a7d1c",
        expect![
            "there is no GPU `GPU-1d5a7d1c` on this machine; there is: 0 (NVIDIA H100 80GB HBM3, GPU-1d5a7d1c-0001-4a7e-9c1c-00000000000a); 1 (NVIDIA H100 80GB HBM3, GPU-1d5a7d1c-0002-4a7e-9c1c-00000000000b)"
        ],
    );
    check(
        two,
        "0",
        expect!["`--gpus 0`: 0 GPUs; `none` says that, and `device=0` is the first GPU"],
    );
    check(two, "", expect!["`--gpus `: it is empty"]);
    check(two, "first", expect!["`--gpus first`: `first` is neither an index nor GPU-… nor MIG-…"]);
    check(two, "-3", expect!["`--gpus -3`: `-3` is neither an index nor GPU-… nor MIG-…"]);
    check(
        two,
        "99999999999999999999",
        expect!["`--gpus 99999999999999999999`: `99999999999999999999` is not a count of GPUs"],
    );
    check(two, "all,device=0", expect!["`--gpus all,device=0`: it says both how many and which"]);
    check(two, "count=1,count=2", expect!["`--gpus count=1,count=2`: it says how many twice"]);
    check(
        two,
        "driver=amd",
        expect!["`--gpus driver=amd`: driver `amd`: sconce knows NVIDIA's only"],
    );
    check(two, "gpu=1", expect!["`--gpus gpu=1`: `gpu=` is not a field of it"]);
    check(
        two,
        "GPU-../../x",
        expect!["`--gpus GPU-../../x`: `GPU-../../x` is neither an index nor GPU-… nor MIG-…"],
    );
}

#[test]
fn mig_instances_stand_for_their_gpu() {
    let mig = &driver("a100-mig");
    check(mig, "all", expect!["nvidia.com/gpu=0:0 nvidia.com/gpu=0:1 nvidia.com/gpu=1"]);
    check(mig, "0:1", expect!["nvidia.com/gpu=0:1"]);
    check(mig, "MIG-aa100000-1111-4000-8000-000000000000", expect!["nvidia.com/gpu=0:0"]);
    check(mig, "2", expect!["nvidia.com/gpu=0:0 nvidia.com/gpu=0:1"]);
    check(
        mig,
        "device=0",
        expect![
            "GPU 0 is in MIG mode with these instances: 0:0 (MIG-aa100000-1111-4000-8000-000000000000), 0:1 (MIG-aa100000-1111-4000-8000-000000000001)"
        ],
    );
    check(
        mig,
        "1:0",
        expect![
            "there is no GPU `1:0` on this machine; there is: 0:0 (NVIDIA A100-SXM4-80GB, MIG-aa100000-1111-4000-8000-000000000000); 0:1 (NVIDIA A100-SXM4-80GB, MIG-aa100000-1111-4000-8000-000000000001); 1 (NVIDIA A100-SXM4-80GB, GPU-aa100000-0000-4000-8000-000000000001)"
        ],
    );
}

/// flock belongs to the open file, so two choices in one process meet as two processes would.
#[test]
fn a_count_passes_by_what_others_hold() {
    let two = driver("prefix");
    let dir = tempfile::tempdir().unwrap();
    let locks = &dir.path().join("locks");
    let first = choose(&parse("1").unwrap(), &two, locks).unwrap();
    let second = choose(&parse("1").unwrap(), &two, locks).unwrap();
    assert_eq!(
        (first.cdi_names(), second.cdi_names()),
        (vec!["nvidia.com/gpu=0".to_owned()], vec!["nvidia.com/gpu=1".to_owned()])
    );
    let third = choose(&parse("1").unwrap(), &two, locks).unwrap_err().to_string();
    expect!["1 GPUs were asked for; of 2 here 0 are idle (0: another sconce container has it; 1: another sconce container has it)"].assert_eq(&third);
    // Who names one shares it on purpose, and hears of it.
    let named = choose(&parse("device=0").unwrap(), &two, locks).unwrap();
    assert_eq!(named.notes.len(), 1);
    drop(first);
    let named = choose(&parse("device=0").unwrap(), &two, locks).unwrap();
    let also = choose(&parse("device=0").unwrap(), &two, locks).unwrap();
    assert!(named.notes.is_empty() && also.notes.is_empty());
    assert!(choose(&parse("1").unwrap(), &two, locks).is_err(), "a named GPU is not idle");
    drop((named, also));
    assert_eq!(choose(&parse("1").unwrap(), &two, locks).unwrap().guard.len(), 1);
}

/// A GPU on which something else computes is not idle either.
#[test]
fn a_count_passes_by_what_nvml_sees_busy() {
    let mut two = driver("prefix");
    two.survey.gpus[0].nvml.as_mut().unwrap().processes = Some(3);
    check(&two, "1", expect!["nvidia.com/gpu=1"]);
    check(
        &two,
        "2",
        expect!["2 GPUs were asked for; of 2 here 1 are idle (0: 3 processes compute on it)"],
    );
}

/// The folder of locks is everyone's: a link planted there is not followed.
#[test]
fn a_planted_link_is_not_followed() {
    let one = driver("h100");
    let dir = tempfile::tempdir().unwrap();
    let victim = dir.path().join("victim");
    std::os::unix::fs::symlink(&victim, dir.path().join("gpu-0000-04-00.0.lock")).unwrap();
    let error = choose(&parse("1").unwrap(), &one, dir.path()).unwrap_err();
    assert!(matches!(error, sconce_gpu::Error::Lock { .. }), "{error}");
    assert!(!victim.exists());
    assert!(choose(&parse("none").unwrap(), &one, Path::new("/proc/none")).unwrap().is_none());
}
