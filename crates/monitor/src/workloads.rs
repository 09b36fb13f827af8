//! What runs on a GPU and what holds one, as labels.

use std::collections::BTreeSet;

use crate::sample::{Gpu, Instance, Workload};
use crate::text::{MOST_PROCESSES, Out, labels};

/// All that were given a GPU or an instance of it.
fn held(gpu: &Gpu) -> impl Iterator<Item = &Workload> {
    gpu.holders.iter().chain(gpu.instances.iter().flat_map(|one| &one.holders))
}

/// Whether a holder is a pod of which a process is on the GPU, and in the list by that.
fn runs(gpu: &Gpu, holder: &Workload) -> bool {
    let mut processes = gpu.processes.iter().flatten().map(|process| &process.workload);
    !holder.pod.is_empty()
        && processes.any(|one| (&one.namespace, &one.pod) == (&holder.namespace, &holder.pod))
}

/// The pod that has a GPU, or an instance: by the kubelet, else by the processes on it. Of a GPU that several pods
/// share none: a metric of it is of all of them.
pub(crate) fn holder<'a>(gpu: &'a Gpu, instance: Option<&'a Instance>) -> Option<&'a Workload> {
    let holders = instance.map_or(&gpu.holders, |one| &one.holders);
    let on = gpu.processes.iter().flatten().filter(|process| {
        instance.is_none_or(|one| process.gpu_instance == Some(one.gpu_instance))
    });
    let mut given: Vec<&Workload> = holders.iter().filter(|one| !one.pod.is_empty()).collect();
    if given.is_empty() && (instance.is_some() || !gpu.mig) {
        given = on.map(|process| &process.workload).filter(|one| !one.pod.is_empty()).collect();
        given.dedup_by(|a, b| (&a.namespace, &a.pod) == (&b.namespace, &b.pod));
    }
    if given.len() == 1 { given.pop() } else { None }
}

/// One row for each workload on each GPU, to join on: its labels on every series would multiply them.
pub(crate) fn workloads(out: &mut Out, fresh: &[&Gpu]) {
    let mut seen: BTreeSet<(u32, &str, &Workload)> = BTreeSet::new();
    for gpu in fresh {
        let processes = gpu.processes.iter().flatten().take(MOST_PROCESSES);
        let running = processes.map(|process| &process.workload);
        let all = running.chain(held(gpu).filter(|holder| !runs(gpu, holder)));
        for workload in all.filter(|workload| !workload.is_none()) {
            seen.insert((gpu.index, &gpu.uuid, workload));
        }
    }
    if seen.is_empty() {
        return;
    }
    let name = "sconce_workload_info";
    out.family(name, "info", "What runs on a GPU: container, image and lock, pod, job");
    for (index, uuid, workload) in seen {
        let index = index.to_string();
        let labels = labels(&[
            ("gpu", &index),
            ("UUID", uuid),
            ("runtime", &workload.runtime),
            ("container", &workload.container),
            ("name", &workload.name),
            ("image", &workload.image),
            ("image_digest", &workload.image_digest),
            ("lock", &workload.lock),
            ("pod_uid", &workload.pod_uid),
            ("pod", &workload.pod),
            ("namespace", &workload.namespace),
            ("slurm_job", &workload.slurm_job),
        ]);
        out.row(name, &labels, 1.0);
    }
}
