//! What is asked of the rules before a container starts, on described machines (`crates/gpu/tests/worlds`).

#[path = "../../gpu/tests/world/mod.rs"]
mod world;

use expect_test::{Expect, expect};
use sconce_doctor::{Snapshot, Subject, before_start};
use world::world;

/// What `sconce run` asks before it starts, for the GPUs that it gives: no word of what its containers
/// never see, of the log, of GPUs that others have.
#[test]
fn before_a_start() {
    let check = |name: &str, buses: Option<&[&str]>, subject: Option<&Subject>, says: Expect| {
        let world = world(name);
        let survey = sconce_gpu::driver::survey(&world.machine);
        let mut seen = Snapshot::glance(&world.machine, &survey);
        if let Some(buses) = buses {
            seen = seen.only(buses);
        }
        let findings = before_start(&seen, subject);
        let lines = findings.iter().map(|one| format!("{:?} {}\n", one.severity, one.summary));
        says.assert_eq(&lines.collect::<String>());
    };
    let subject = Subject {
        name: "torch".into(),
        cuda_major: Some(13),
        driver_floor: None,
        architectures: vec!["sm_90".parse().unwrap()],
        ..Subject::default()
    };
    let cpu = Subject { name: "torch-cpu".into(), ..Subject::default() };
    check("h100-vm", None, None, expect![[""]]);
    check("h100-vm", None, Some(&subject), expect![[""]]);
    check("small-shm", None, None, expect![[""]]);
    check(
        "sick",
        None,
        None,
        expect![[r#"
        Warns H100 SXM5 80GB at 0000:9d:00.0 is on the bus and the driver does not show it
    "#]],
    );
    check(
        "denied",
        None,
        None,
        expect![[r#"
            Stops /dev/nvidia0, /dev/nvidiactl can't be opened
        "#]],
    );
    check(
        "no-uvm",
        None,
        None,
        expect![[r#"
        Stops /dev/nvidia-uvm is missing: CUDA can't start
    "#]],
    );
    check(
        "hgx-fabric-down",
        None,
        None,
        expect![[r#"
        Stops 4 NVSwitches are here and fabric manager is not running
    "#]],
    );
    check(
        "mig-empty",
        None,
        None,
        expect![[r#"
            Warns missing device nodes: /dev/nvidia1
        "#]],
    );
    check("mig-empty", Some(&[]), None, expect![[""]]);
    check(
        "a100-mig",
        None,
        Some(&subject),
        expect![[r#"
        Stops torch (CUDA 13) needs driver 580.65.06, this one is 535.104.05
        Stops torch has no code for GPU 0 (NVIDIA A100-SXM4-80GB, sm_80)
        Stops torch has no code for GPU 1 (NVIDIA A100-SXM4-80GB, sm_80)
    "#]],
    );
    check(
        "h100",
        None,
        Some(&cpu),
        expect![[r#"
        Warns torch-cpu has no CUDA: it leaves the GPUs alone
    "#]],
    );
}
