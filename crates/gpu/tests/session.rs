//! A session of NVML that lasts, beside a library that answers what a world file says (`FakeNvml`).
//!
//! Each test has a process of its own, as the library finds its world in the environment.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use sconce_gpu::nvml::events::{Events, XidEvent};
use sconce_gpu::nvml::gpm::Gpm;
use sconce_gpu::nvml::reading::{Dear, MemoryUse, Reading, Slow, State};
use sconce_gpu::nvml::session::Session;
use sconce_gpu::nvml::{self, Silence};
use sconce_testkit::FakeNvml;

/// In the process that the test starts: the folder of its library. In the test itself: nothing.
fn alone(name: &str, library: fn(&Path, &str) -> FakeNvml, world: &str) -> Option<FakeNvml> {
    if let Some(folder) = std::env::var_os("FAKE_NVML_FOLDER") {
        return Some(FakeNvml::at(folder.as_ref()));
    }
    let dir = tempfile::tempdir().unwrap();
    let fake = library(dir.path(), world);
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name])
        .env("FAKE_NVML_FOLDER", dir.path())
        .env("FAKE_NVML_WORLD", fake.world())
        .status();
    assert!(status.unwrap().success());
    None
}

/// Whichever call it is that says so: none is asked in vain.
#[test]
fn any_call_may_say_that_a_gpu_is_lost() {
    let Some(fake) = alone("any_call_may_say_that_a_gpu_is_lost", FakeNvml::new, "") else {
        return;
    };
    let working = FakeNvml::h100s(1) + "gpu.0.mig_most 7\ngpu.0.mig.0.uuid MIG-1\n";
    fake.becomes(&working);
    let session = Arc::new(Session::open(&fake.library()).unwrap());
    let gpu = session.by_index(0).unwrap();
    let ask_all = || {
        _ = (session.driver(), session.count(), session.by_index(0));
        _ = (session.by_bus_id("0000:18:00.0"), session.presence(gpu), session.identity(gpu));
        _ = (session.reading(gpu), session.utilization(gpu), session.mig(gpu), session.dear(gpu));
        _ = (session.slow(gpu), session.state(gpu), session.pcie_bytes(gpu));
        _ = (session.instances(gpu), session.limits(gpu), session.processes(gpu));
        _ = Gpm::open(&session, gpu, None).map(|mut gpm| (gpm.activity(), gpm.activity()));
        _ = Events::open(&session, &[gpu]).map(|events| events.wait(Duration::ZERO));
    };
    ask_all();
    assert_eq!(Session::lost(), None);
    let names = [
        "nvmlSystemGetDriverVersion",
        "nvmlDeviceGetCount_v2",
        "nvmlDeviceGetHandleByIndex_v2",
        "nvmlDeviceGetHandleByPciBusId_v2",
        "nvmlDeviceGetUUID",
        "nvmlDeviceGetName",
        "nvmlDeviceGetMinorNumber",
        "nvmlDeviceGetPciInfo_v3",
        "nvmlDeviceGetUtilizationRates",
        "nvmlDeviceGetClockInfo",
        "nvmlDeviceGetMaxClockInfo",
        "nvmlDeviceGetPowerUsage",
        "nvmlDeviceGetEnforcedPowerLimit",
        "nvmlDeviceGetPowerManagementDefaultLimit",
        "nvmlDeviceGetTemperature",
        "nvmlDeviceGetTemperatureThreshold",
        "nvmlDeviceGetCurrentClocksEventReasons",
        "nvmlDeviceGetMemoryInfo_v2",
        "nvmlDeviceGetCurrPcieLinkGeneration",
        "nvmlDeviceGetMaxPcieLinkWidth",
        "nvmlDeviceGetPcieReplayCounter",
        "nvmlDeviceGetPcieThroughput",
        "nvmlDeviceGetTotalEnergyConsumption",
        "nvmlDeviceGetEncoderUtilization",
        "nvmlDeviceGetTotalEccErrors",
        "nvmlDeviceGetRemappedRows",
        "nvmlDeviceGetNvLinkState",
        "nvmlDeviceGetNvLinkErrorCounter",
        "nvmlDeviceGetGpuFabricInfo",
        "nvmlDeviceGetMigMode",
        "nvmlDeviceGetMaxMigDeviceCount",
        "nvmlDeviceGetMigDeviceHandleByIndex",
        "nvmlDeviceGetMarginTemperature",
        "nvmlDeviceGetFieldValues",
        "nvmlDeviceGetComputeRunningProcesses_v3",
        "nvmlDeviceGetGraphicsRunningProcesses_v3",
        "nvmlGpmQueryDeviceSupport",
        "nvmlGpmSampleAlloc",
        "nvmlGpmSampleGet",
        "nvmlGpmMetricsGet",
        "nvmlEventSetCreate",
        "nvmlDeviceRegisterEvents",
        "nvmlEventSetWait_v2",
    ];
    let silent = names.iter().filter(|name| {
        fake.becomes(&format!("{working}lost_call {name}\n"));
        ask_all();
        Session::lost() != Some(15)
    });
    let silent: Vec<_> = silent.collect();
    assert!(silent.is_empty(), "nothing is heard of {silent:?}");
    // And so it is where all GPUs are asked at once.
    for name in ["nvmlDeviceGetMigMode", "nvmlDeviceGetName"] {
        fake.becomes(&format!("{working}lost_call {name}\n"));
        let answers = nvml::ask(&fake.library(), Duration::from_secs(10)).unwrap();
        assert_eq!(answers.gpus[0].silence, Some(15), "{name}");
        assert!(answers.gpus[0].uuid.is_some(), "{name}");
    }
}

#[test]
fn what_a_gpu_says_over_time() {
    let busy = "gpu.1.gpm.5 93.8\ngpu.1.gpm.2 96.7\ngpu.1.gpm.60 322500\ngpu.1.util 100\n\
        gpu.1.processes 4242:1024 4300:18446744073709551615\ngpu.1.nvlinks_up 17\ngpu.1.nvlink_crc 9\n";
    let world = FakeNvml::h100s(2) + busy;
    let Some(fake) = alone("what_a_gpu_says_over_time", FakeNvml::new, &world) else { return };
    let session = Arc::new(Session::open(&fake.library()).unwrap());
    assert_eq!(session.count(), Ok(2));
    let gpu = session.by_index(1).unwrap();
    assert_eq!(session.by_index(1), Ok(gpu), "a handle has one number");
    assert!(session.by_index(2).is_err());
    let identity = session.identity(gpu);
    assert_eq!(identity.bus_id.as_deref(), Some("0000:19:00.0"));

    let reading = session.reading(gpu);
    assert_eq!((session.utilization(gpu), session.mig(gpu)), (Some((100, 0)), false));
    let (total, reserved) = (85_520_809_984, 618_659_840);
    let memory = MemoryUse { total, reserved: Some(reserved), free: total - reserved, used: 0 };
    assert_eq!(reading.memory, Some(memory));
    let slow = session.slow(gpu);
    assert_eq!((slow.memory_temperature_c, slow.margin_c), (Some(38), Some(55)));
    assert_eq!((slow.memory_mhz, slow.pcie), (Some(2619), Some((5, 16))));
    assert_eq!(session.dear(gpu).energy_mj, Some(123_456_789));
    assert_eq!((slow.nvlink_tx_kib, slow.nvlink_rx_kib), (Some(1000), Some(2000)));
    let state = session.state(gpu);
    assert_eq!((state.nvlinks, state.nvlink_errors[2]), (Some((17, 18)), Some(9)));
    assert_eq!(state.remapped, Some((0, 0, false, false)));

    let processes = session.processes(gpu).unwrap();
    let listed: Vec<_> = processes.iter().map(|one| (one.pid, one.memory)).collect();
    assert_eq!(listed, [(4242, Some(1024)), (4300, None)]);

    let mut gpm = Gpm::open(&session, gpu, None).unwrap();
    assert_eq!(gpm.activity(), None, "one sample says nothing");
    let activity = gpm.activity().unwrap();
    assert_eq!((activity.tensor, activity.nvlink_rx), (Some(93.8), Some(322_500.0)));

    let events = Events::open(&session, &[0, gpu]).unwrap();
    assert_eq!(events.wait(Duration::from_millis(1)), Ok(None));
    fake.becomes(&(FakeNvml::h100s(2) + "xid.0 1 79\n"));
    let xid = events.wait(Duration::from_secs(5));
    assert_eq!(xid, Ok(Some(XidEvent { gpu, code: Some(79), gpu_instance: None })));

    // The GPU falls away; the others stay.
    fake.becomes(&(FakeNvml::h100s(2) + "gpu.1.lost 15\n"));
    assert_eq!(session.presence(gpu), Err(15));
    assert_eq!(session.presence(session.by_index(0).unwrap()), Ok(()));
    assert_eq!(session.reading(gpu), Reading::default());

    // The driver comes anew: this session has ended, a new one answers.
    session.close();
    assert_eq!(session.presence(gpu), Err(1));
    fake.becomes(&FakeNvml::h100s(1));
    let session = Session::open(&fake.library()).unwrap();
    assert_eq!(session.count(), Ok(1));

    nothing_is_supported(&fake);
    values_that_are_none(&fake);
    instances_of_mig(&fake);
}

/// Absent, never 0.
fn nothing_is_supported(fake: &FakeNvml) {
    fake.becomes("gpus 1\n");
    let session = Arc::new(Session::open(&fake.library()).unwrap());
    let gpu = session.by_index(0).unwrap();
    assert_eq!(session.presence(gpu), Ok(()));
    assert_eq!(session.reading(gpu), Reading::default());
    assert_eq!(session.slow(gpu), Slow::default());
    assert_eq!((session.dear(gpu), session.utilization(gpu)), (Dear::default(), None));
    assert_eq!(session.state(gpu), State::default());
    assert_eq!((session.processes(gpu), session.pcie_bytes(gpu)), (None, (None, None)));
    assert!(Gpm::open(&session, gpu, None).is_none());
    assert!(Events::open(&session, &[gpu]).is_none());
}

/// Sentinels and numbers that can't be are absent too.
fn values_that_are_none(fake: &FakeNvml) {
    let wrong = "gpu.0.util 4000000000\ngpu.0.ecc_corrected 18446744073709551615\n\
        gpu.0.nvlink_tx_kib 18446744073709551615\ngpu.0.memory_used 99999999999999\ngpu.0.gpm.5 nan\n\
        gpu.0.gpm.10 -1\ngpu.0.gpm.2 4e9\ngpu.0.memory_temperature_c 0\n";
    fake.becomes(&(FakeNvml::h100s(1) + wrong));
    let session = Arc::new(Session::open(&fake.library()).unwrap());
    let gpu = session.by_index(0).unwrap();
    let reading = session.reading(gpu);
    assert_eq!((session.utilization(gpu), reading.memory), (None, None));
    let slow = session.slow(gpu);
    assert_eq!((slow.nvlink_tx_kib, slow.memory_temperature_c), (None, None));
    assert_eq!(session.state(gpu).ecc, (None, Some(0)));
    let mut gpm = Gpm::open(&session, gpu, None).unwrap();
    let _ = gpm.activity();
    let activity = gpm.activity().unwrap();
    assert_eq!((activity.tensor, activity.dram, activity.sm), (None, None, None));
}

fn instances_of_mig(fake: &FakeNvml) {
    let mig = "gpu.0.mig_mode 1\ngpu.0.mig_most 7\ngpu.0.mig.0.uuid MIG-a\ngpu.0.mig.0.gi 9\ngpu.0.mig.0.ci 0\n\
        gpu.0.mig.0.name NVIDIA H100 80GB HBM3 MIG 1g.10gb\ngpu.0.mig.0.memory_total 10000\n\
        gpu.0.mig.0.memory_used 400\ngpu.0.mig.0.gpm.2 55\n";
    fake.becomes(&(FakeNvml::h100s(1) + mig));
    let session = Arc::new(Session::open(&fake.library()).unwrap());
    let gpu = session.by_index(0).unwrap();
    let instances = session.instances(gpu);
    let one = &instances[0];
    assert_eq!((instances.len(), one.gpu_instance, one.compute_instance), (1, 9, 0));
    assert_eq!(one.profile.as_deref(), Some("1g.10gb"));
    assert_eq!(session.instance_memory(one).map(|memory| memory.used), Some(400));
    let mut gpm = Gpm::open(&session, gpu, Some(9)).unwrap();
    let _ = gpm.activity();
    assert_eq!(gpm.activity().unwrap().sm, Some(55.0));
}

#[test]
fn an_old_library_lacks_newer_symbols() {
    let name = "an_old_library_lacks_newer_symbols";
    let Some(fake) = alone(name, FakeNvml::old, &FakeNvml::h100s(1)) else { return };
    let session = Arc::new(Session::open(&fake.library()).unwrap());
    let gpu = session.by_index(0).unwrap();
    let reading = session.reading(gpu);
    assert_eq!(reading.reasons, Some(1), "the older name of the function");
    assert_eq!(reading.memory.and_then(|memory| memory.reserved), None);
    assert_eq!(reading.memory.map(|memory| memory.total), Some(85_520_809_984));
    let slow = session.slow(gpu);
    assert_eq!(session.dear(gpu).energy_mj, Some(123_456_789));
    assert_eq!((slow.margin_c, slow.nvlink_tx_kib), (None, None));
    assert!(Gpm::open(&session, gpu, None).is_none());
    assert_eq!(session.processes(gpu), None);
}

/// The library aborts the process where two threads are in GPM: none is, and one GPU that blocks in it leaves the others
/// their other values.
#[test]
fn one_thread_at_a_time_in_gpm() {
    let world = FakeNvml::h100s(4) + "gpm_alone 1\ngpm_us 500\n";
    let Some(fake) = alone("one_thread_at_a_time_in_gpm", FakeNvml::new, &world) else { return };
    let session = Arc::new(Session::open(&fake.library()).unwrap());
    let gpus: Vec<usize> = (0..4).map(|index| session.by_index(index).unwrap()).collect();
    let all = |rounds: usize| {
        thread::scope(|scope| {
            for gpu in &gpus {
                let session = &session;
                scope.spawn(move || {
                    for _ in 0..rounds {
                        let mut gpm = Gpm::open(session, *gpu, None).unwrap();
                        let _ = gpm.activity();
                        assert!(gpm.activity().is_some());
                    }
                });
            }
        });
    };
    all(20);
    let mut blocked = Gpm::open(&session, gpus[0], None).unwrap();
    let mut other = Gpm::open(&session, gpus[1], None).unwrap();
    fake.becomes(&(world + "gpu.0.gpm_block_ms 3000\n"));
    thread::scope(|scope| {
        scope.spawn(move || blocked.activity());
        thread::sleep(Duration::from_millis(300));
        let begun = Instant::now();
        for _ in 0..10 {
            assert_eq!(other.activity(), None);
        }
        // Waited for once.
        assert!(begun.elapsed() < Duration::from_millis(1500), "{:?}", begun.elapsed());
        assert!(session.reading(gpus[1]).power_mw.is_some());
    });
    assert_eq!(other.activity(), None, "the first sample");
    assert!(other.activity().is_some());
}

/// Who no longer waits for an answer, and ends: the library's destructors do not run beside the thread that is inside.
#[test]
fn a_process_ends_while_a_call_is_under_way() {
    let name = "a_process_ends_while_a_call_is_under_way";
    let world = FakeNvml::h100s(1) + "whole_end 1\ngpu.0.block_ms 60000\n";
    let Some(fake) = alone(name, FakeNvml::new, &world) else { return };
    let asked = sconce_gpu::nvml::ask(&fake.library(), Duration::from_millis(300));
    assert!(matches!(asked, Err(Silence::Late { .. })), "{asked:?}");
}
