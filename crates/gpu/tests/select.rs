//! The grammar of `--gpus`, and locks between processes.

mod world;

use std::time::Duration;

use expect_test::{Expect, expect};
use sconce_gpu::driver::{self, Driver};
use sconce_gpu::job::Job;
use sconce_gpu::select::{Selection, choose, parse};
use sconce_gpu::{Error, Given, Machine, Opening};
use world::{World, world};

/// A machine with its driver.
struct Host {
    world: World,
    driver: Driver,
}

impl Host {
    fn choose(&self, request: &str, job: &Job) -> Result<Selection, Error> {
        choose(&parse(request)?, &self.world.machine, &self.driver, job)
    }

    /// The same machine under a device cgroup that closes some of its nodes, so that NVML and CUDA
    /// count the others.
    fn closed(mut self, nodes: &[&str]) -> Self {
        let mut given: Given = self.world.machine.given().unwrap().clone();
        for node in
            given.node.iter_mut().filter(|node| nodes.iter().any(|n| node.path.ends_with(n)))
        {
            node.open = Some(Opening::Forbidden);
        }
        self.world.machine = Machine::described(&self.world.root, given);
        self.driver = found(&self.world);
        self
    }
}

fn found(world: &World) -> Driver {
    let mut driver = driver::find(&world.machine).unwrap();
    driver::with_nvml(&world.machine, &mut driver.survey, Duration::from_secs(1));
    driver
}

fn host(name: &str) -> Host {
    let world = world(name);
    Host { driver: found(&world), world }
}

/// Parses and chooses, alone on the machine.
fn check(host: &Host, request: &str, says: Expect) {
    check_job(host, request, &[], says);
}

/// The same inside a job with these variables.
fn check_job(host: &Host, request: &str, variables: &[(&str, &str)], says: Expect) {
    let value = |name: &str| variables.iter().find(|(of, _)| *of == name).map(|(_, v)| (*v).into());
    says.assert_eq(&match host.choose(request, &Job::of(&value)) {
        Ok(selection) => selection.cdi_names().join(" "),
        Err(error) => error.to_string(),
    });
}

#[test]
fn every_way_to_say_it() {
    let two = &host("prefix");
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
    let two = &host("prefix");
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
    let mig = &host("a100-mig");
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
    let two = host("prefix");
    let take = |request: &str| two.choose(request, &Job::default());
    let first = take("1").unwrap();
    let second = take("1").unwrap();
    assert_eq!(
        (first.cdi_names(), second.cdi_names()),
        (vec!["nvidia.com/gpu=0".to_owned()], vec!["nvidia.com/gpu=1".to_owned()])
    );
    let third = take("1").unwrap_err().to_string();
    let me = format!("another sconce container has it (process {}, ", std::process::id());
    assert!(
        third.starts_with("1 GPUs were asked for; of 2 here 0 are idle (0: another"),
        "{third}"
    );
    assert_eq!(third.matches(&me).count(), 2, "{third}");
    // Who names one shares it on purpose, and hears of it.
    let named = take("device=0").unwrap();
    assert_eq!(named.notes.len(), 1);
    drop(first);
    let named = take("device=0").unwrap();
    let also = take("device=0").unwrap();
    assert!(named.notes.is_empty() && also.notes.is_empty());
    assert!(take("1").is_err(), "a named GPU is not idle");
    drop((named, also));
    // The lock is with whoever has the descriptor.
    let guard = take("1").unwrap().guard;
    assert_eq!(guard.len(), 1);
    let descriptors = guard.into_descriptors();
    assert!(take("1").is_err());
    drop(descriptors);
    assert!(take("1").is_ok());
}

#[test]
fn instances_have_locks_of_their_own() {
    let mig = host("a100-mig");
    let take = |request: &str| mig.choose(request, &Job::default());
    let first = take("1").unwrap();
    let second = take("1").unwrap();
    assert_ne!(first.cdi_names(), second.cdi_names());
    assert_eq!(first.devices[0].gpu.index, second.devices[0].gpu.index);
}

/// A GPU on which something else computes is not idle either.
#[test]
fn a_count_passes_by_what_nvml_sees_busy() {
    let mut two = host("prefix");
    two.driver.survey.gpus[0].nvml.as_mut().unwrap().processes = Some(3);
    check(&two, "1", expect!["nvidia.com/gpu=1"]);
    check(
        &two,
        "2",
        expect!["2 GPUs were asked for; of 2 here 1 are idle (0: 3 processes compute on it)"],
    );
}

/// Nothing is made on the machine: what is locked belongs to the kernel.
#[test]
fn locks_leave_nothing_behind() {
    let one = host("h100");
    let files = |host: &Host| {
        let mut folders = vec![host.world.root.clone()];
        let mut found = Vec::new();
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                found.push(path.clone());
                folders.extend(path.is_dir().then_some(path));
            }
        }
        found.sort();
        found
    };
    let before = files(&one);
    let selection = one.choose("1", &Job::default()).unwrap();
    assert_eq!(files(&one), before);
    drop(selection);
    // Where nothing of the kernel's is to be seen, that is said.
    std::fs::remove_dir_all(one.world.root.join("sys")).unwrap();
    assert!(one.choose("1", &Job::default()).is_ok(), "by its folder in /proc");
    std::fs::remove_dir_all(one.world.root.join("proc")).unwrap();
    let error = one.choose("1", &Job::default()).unwrap_err();
    assert!(matches!(error, Error::Lock { .. }), "{error}");
    assert!(one.choose("none", &Job::default()).unwrap().is_none());
}

const CUDA: &str = "CUDA_VISIBLE_DEVICES";

/// CUDA's own reading of its variable.
#[test]
fn cuda_visible_devices_is_read_as_cuda_does() {
    let two = &host("prefix");
    let all = |value: &str, says: Expect| check_job(two, "all", &[(CUDA, value)], says);
    all("0", expect!["nvidia.com/gpu=0"]);
    all("1,0", expect!["nvidia.com/gpu=1 nvidia.com/gpu=0"]);
    all(" 1 , 0", expect!["nvidia.com/gpu=1 nvidia.com/gpu=0"]);
    all("1,-1,0", expect!["nvidia.com/gpu=1"]);
    all("1,7,0", expect!["nvidia.com/gpu=1"]);
    all("1,1,0", expect!["nvidia.com/gpu=1"]);
    all("1,x,0", expect!["nvidia.com/gpu=1"]);
    all("GPU-1d5a7d1c-0002,0", expect!["nvidia.com/gpu=1 nvidia.com/gpu=0"]);
    all("GPU-1d5a7d1c", expect!["this job has no GPU: CUDA_VISIBLE_DEVICES=GPU-1d5a7d1c"]);
    all("", expect!["this job has no GPU: CUDA_VISIBLE_DEVICES="]);
    all("-1", expect!["this job has no GPU: CUDA_VISIBLE_DEVICES=-1"]);
    all("NoDevFiles", expect!["this job has no GPU: CUDA_VISIBLE_DEVICES=NoDevFiles"]);
    let mig = &host("a100-mig");
    let all = |value: &str, says: Expect| check_job(mig, "all", &[(CUDA, value)], says);
    all("MIG-aa100000-1111-4000-8000-000000000001", expect!["nvidia.com/gpu=0:1"]);
    all(
        "MIG-aa100000-1111",
        expect!["this job has no GPU: CUDA_VISIBLE_DEVICES=MIG-aa100000-1111"],
    );
    all("0", expect!["nvidia.com/gpu=0:0"]);
    all("1,0", expect!["nvidia.com/gpu=1 nvidia.com/gpu=0:0"]);
}

#[test]
fn a_request_stays_within_what_the_job_has() {
    let two = &host("prefix");
    let one = [(CUDA, "1")];
    check_job(two, "1", &one, expect!["nvidia.com/gpu=1"]);
    check_job(two, "device=1", &one, expect!["nvidia.com/gpu=1"]);
    check_job(two, "none", &one, expect![""]);
    check_job(
        two,
        "device=0",
        &one,
        expect![
            "GPU `0` is not this job's: CUDA_VISIBLE_DEVICES=1 gives it 1 (GPU-1d5a7d1c-0002-4a7e-9c1c-00000000000b)"
        ],
    );
    check_job(
        two,
        "2",
        &one,
        expect![
            "2 GPUs were asked for; of 1 here 1 are idle (CUDA_VISIBLE_DEVICES=1; there are no others)"
        ],
    );
    check_job(
        two,
        "GPU-1d5a7d1c-0001",
        &one,
        expect![
            "GPU `GPU-1d5a7d1c-0001` is not this job's: CUDA_VISIBLE_DEVICES=1 gives it 1 (GPU-1d5a7d1c-0002-4a7e-9c1c-00000000000b)"
        ],
    );
}

/// In this machine the minor numbers are not in the order of the buses: GPU 0 is /dev/nvidia1.
#[test]
fn slurm_counts_device_files() {
    let two = &host("prefix");
    let all = |variables: &[(&str, &str)], says: Expect| check_job(two, "all", variables, says);
    all(&[("SLURM_STEP_GPUS", "1")], expect!["nvidia.com/gpu=0"]);
    all(&[("SLURM_JOB_GPUS", "0-1")], expect!["nvidia.com/gpu=0 nvidia.com/gpu=1"]);
    all(&[("SLURM_STEP_GPUS", "0"), ("SLURM_JOB_GPUS", "0,1")], expect!["nvidia.com/gpu=1"]);
    all(&[("SLURM_STEP_GPUS", ""), ("SLURM_JOB_GPUS", "0")], expect!["nvidia.com/gpu=1"]);
    // Slurm's own pair, without a device cgroup: the same numbers, of the same files.
    all(&[("SLURM_STEP_GPUS", "1"), (CUDA, "1")], expect!["nvidia.com/gpu=0"]);
    // Narrowed by the job itself.
    all(&[("SLURM_STEP_GPUS", "0,1"), (CUDA, "1")], expect!["nvidia.com/gpu=1"]);
    all(
        &[("SLURM_STEP_GPUS", "1"), (CUDA, "GPU-1d5a7d1c-0002")],
        expect![
            "`CUDA_VISIBLE_DEVICES=GPU-1d5a7d1c-0002` can't be followed: none of them is among SLURM_STEP_GPUS=1"
        ],
    );
    all(
        &[("SLURM_STEP_GPUS", "4")],
        expect![
            "`SLURM_STEP_GPUS=4` can't be followed: there is no /dev/nvidia4 that can be opened"
        ],
    );
    all(
        &[("SLURM_STEP_GPUS", "a")],
        expect!["`SLURM_STEP_GPUS=a` can't be followed: it is not a list of numbers"],
    );
    all(
        &[("GPU_DEVICE_ORDINAL", "0"), ("ROCR_VISIBLE_DEVICES", "0")],
        expect!["nvidia.com/gpu=0 nvidia.com/gpu=1"],
    );
}

/// `ConstrainDevices=yes`: the job sees one GPU, as number 0, whichever it is.
#[test]
fn a_device_cgroup_counts_anew() {
    let closed = &host("prefix").closed(&["nvidia1"]);
    check(closed, "all", expect!["nvidia.com/gpu=1"]);
    check(closed, "device=0", expect!["nvidia.com/gpu=1"]);
    check(
        closed,
        "2",
        expect!["2 GPUs were asked for; of 1 here 1 are idle (there are no others)"],
    );
    check_job(closed, "all", &[(CUDA, "0"), ("SLURM_STEP_GPUS", "0")], expect!["nvidia.com/gpu=1"]);
    check_job(
        closed,
        "all",
        &[(CUDA, "1")],
        expect!["this job has no GPU: CUDA_VISIBLE_DEVICES=1"],
    );
    check_job(
        closed,
        "all",
        &[("SLURM_STEP_GPUS", "1")],
        expect![
            "`SLURM_STEP_GPUS=1` can't be followed: there is no /dev/nvidia1 that can be opened"
        ],
    );
    // Nothing can be opened: what is wrong is for others to say.
    let none = &host("prefix").closed(&["nvidia0", "nvidia1"]);
    check(none, "all", expect!["nvidia.com/gpu=0 nvidia.com/gpu=1"]);
}

/// CUDA's default order is by speed, which only CUDA knows.
#[test]
fn an_index_among_unlike_gpus_needs_an_order() {
    let mut two = host("prefix");
    two.driver.survey.gpus[1].model = "NVIDIA T400".into();
    check_job(
        &two,
        "all",
        &[(CUDA, "0")],
        expect![
            "`CUDA_VISIBLE_DEVICES=0` can't be followed: CUDA counts by speed where GPUs differ, and that order is not known here"
        ],
    );
    check_job(
        &two,
        "all",
        &[(CUDA, "0"), ("CUDA_DEVICE_ORDER", "PCI_BUS_ID")],
        expect!["nvidia.com/gpu=0"],
    );
    check_job(&two, "all", &[(CUDA, "GPU-1d5a7d1c-0001")], expect!["nvidia.com/gpu=0"]);
    check_job(&two, "all", &[(CUDA, "1,0")], expect!["nvidia.com/gpu=1 nvidia.com/gpu=0"]);
}
