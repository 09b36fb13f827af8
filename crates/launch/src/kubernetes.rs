//! Manifests for Kubernetes: an Indexed Job with a headless service, a JobSet, or a Kubeflow TrainJob.
//!
//! Pods find node 0 by its name in the headless service, which answers before pods are ready. They are not privileged
//! and keep to their own network; what training wants beyond the defaults is a /dev/shm of memory and IPC_LOCK where
//! RDMA is asked for.

use serde_json::{Value, json};

use crate::choices::torchrun;
use crate::settings::{Program, Settings};
use crate::yaml;

/// Where logs are in the container.
const LOGS: &str = "/logs";
/// torchrun gives its ranks 30 s to end, and then writes why; Kubernetes' own default is 30 s as well.
const GRACE_SECONDS: u32 = 60;

/// Which kind of object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `batch/v1` Job, completion mode Indexed, and a Service.
    Job,
    /// `jobset.x-k8s.io/v1alpha2`.
    JobSet,
    /// `trainer.kubeflow.org/v1alpha1`.
    TrainJob,
}

/// What is particular to Kubernetes.
#[derive(Debug, Clone)]
pub struct Objects {
    /// Their name: a DNS label.
    pub name: String,
    /// Which kind.
    pub kind: Kind,
    /// The image.
    pub image: String,
    /// Size of /dev/shm in Kubernetes' words: `64Gi`.
    pub shm: String,
    /// Memory of a pod, which /dev/shm counts to: `960Gi`.
    pub memory: Option<String>,
    /// Processors of a pod.
    pub cpus: Option<u32>,
    /// A resource of an RDMA device plugin, and how many: `rdma/hca=8`.
    pub rdma: Option<(String, u32)>,
    /// Kueue's queue.
    pub queue: Option<String>,
}

/// The manifest as YAML.
#[must_use]
pub fn manifest(settings: &Settings, objects: &Objects) -> String {
    let documents = match objects.kind {
        Kind::Job => vec![service(objects), job(settings, objects)],
        Kind::JobSet => vec![jobset(settings, objects)],
        Kind::TrainJob => vec![trainjob(settings, objects)],
    };
    documents.iter().map(yaml::document).collect::<Vec<_>>().join("---\n")
}

fn metadata(objects: &Objects) -> Value {
    let mut metadata = json!({ "name": objects.name });
    if let Some(queue) = &objects.queue {
        metadata["labels"] = json!({ "kueue.x-k8s.io/queue-name": queue });
    }
    metadata
}

fn service(objects: &Objects) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": { "name": objects.name },
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": true,
            "selector": { "batch.kubernetes.io/job-name": objects.name },
        },
    })
}

fn job(settings: &Settings, objects: &Objects) -> Value {
    let master = format!("{0}-0.{0}", objects.name);
    let id = "metadata.labels['batch.kubernetes.io/controller-uid']";
    let mut spec = job_spec(settings, objects, &master, id);
    spec["template"]["spec"]["subdomain"] = json!(objects.name);
    if let Some(limit) = settings.time_limit {
        spec["activeDeadlineSeconds"] = json!(limit.as_secs());
    }
    json!({ "apiVersion": "batch/v1", "kind": "Job", "metadata": metadata(objects), "spec": spec })
}

fn jobset(settings: &Settings, objects: &Objects) -> Value {
    let master = format!("{0}-node-0-0.{0}", objects.name);
    let id = "metadata.labels['jobset.sigs.k8s.io/jobset-uid']";
    let mut spec = job_spec(settings, objects, &master, id);
    if let Some(limit) = settings.time_limit {
        spec["activeDeadlineSeconds"] = json!(limit.as_secs());
    }
    json!({
        "apiVersion": "jobset.x-k8s.io/v1alpha2",
        "kind": "JobSet",
        "metadata": metadata(objects),
        "spec": {
            "network": { "enableDNSHostnames": true, "publishNotReadyAddresses": true },
            "failurePolicy": { "maxRestarts": settings.restarts },
            "replicatedJobs": [{ "name": "node", "replicas": 1, "template": { "spec": spec } }],
        },
    })
}

fn trainjob(settings: &Settings, objects: &Objects) -> Value {
    let command = match &settings.program {
        Program::Script(words) => [vec!["torchrun".to_owned()], words.clone()].concat(),
        Program::Module(words) => {
            [vec!["torchrun".to_owned(), "-m".to_owned()], words.clone()].concat()
        }
        Program::Other(words) => {
            [vec!["torchrun".to_owned(), "--no_python".to_owned()], words.clone()].concat()
        }
    };
    let mut trainer = json!({
        "image": objects.image,
        "command": command,
        "numNodes": settings.nodes,
        "numProcPerNode": settings.ranks_per_node,
        "resourcesPerNode": resources(settings, objects),
    });
    // The operator says itself how nodes meet, by PET_NNODES and so on, and takes none of these from here.
    let env = env(settings, objects);
    if !env.is_empty() {
        trainer["env"] = json!(env);
    }
    let shm =
        json!({ "name": "shm", "emptyDir": { "medium": "Memory", "sizeLimit": objects.shm } });
    let container =
        json!({ "name": "node", "volumeMounts": [{ "name": "shm", "mountPath": "/dev/shm" }] });
    let pod = json!({ "volumes": [shm], "containers": [container] });
    let mut made = json!({
        "apiVersion": "trainer.kubeflow.org/v1alpha1",
        "kind": "TrainJob",
        "metadata": metadata(objects),
        "spec": {
            "runtimeRef": { "name": "torch-distributed" },
            "trainer": trainer,
            "runtimePatches": [{
                "manager": "sconce.dev/launch",
                "trainingRuntimeSpec": { "template": { "spec": { "replicatedJobs": [{
                    "name": "node",
                    "template": { "spec": { "template": { "spec": pod } } },
                }] } } },
            }],
        },
    });
    if let Some(limit) = settings.time_limit {
        made["spec"]["activeDeadlineSeconds"] = json!(limit.as_secs());
    }
    made
}

/// The specification of an Indexed Job of one pod a node.
fn job_spec(settings: &Settings, objects: &Objects, master: &str, id: &str) -> Value {
    let mut args: Vec<String> = vec!["-m".into(), "torch.distributed.run".into()];
    for choice in torchrun(settings, 0, "$(LAUNCH_ID)", master) {
        let value = match choice.name.as_str() {
            // Kubernetes counts the pods of an Indexed Job.
            "--node_rank" => "$(JOB_COMPLETION_INDEX)",
            "--log_dir" => LOGS,
            _ => &choice.value,
        };
        args.push(format!("{}={value}", choice.name));
    }
    args.push("--tee=3".into());
    match &settings.program {
        Program::Script(words) => args.extend(words.iter().cloned()),
        Program::Module(words) => args.extend([vec!["-m".to_owned()], words.clone()].concat()),
        Program::Other(words) => {
            args.extend([vec!["--no_python".to_owned()], words.clone()].concat())
        }
    }
    let field = |name: &str, path: &str| json!({ "name": name, "valueFrom": { "fieldRef": { "fieldPath": path } } });
    let index = "metadata.annotations['batch.kubernetes.io/job-completion-index']";
    let mut all = vec![field("LAUNCH_ID", id), field("JOB_COMPLETION_INDEX", index)];
    all.extend(env(settings, objects));
    let mut security = json!({
        "allowPrivilegeEscalation": false,
        "capabilities": { "drop": ["ALL"] },
        "seccompProfile": { "type": "RuntimeDefault" },
    });
    if objects.rdma.is_some() {
        security["capabilities"]["add"] = json!(["IPC_LOCK"]);
    }
    let container = json!({
        "name": "node",
        "image": objects.image,
        "command": ["python3"],
        "args": args,
        "env": all,
        "ports": [{ "containerPort": settings.port }],
        "resources": resources(settings, objects),
        "securityContext": security,
        "volumeMounts": [
            { "name": "shm", "mountPath": "/dev/shm" },
            { "name": "logs", "mountPath": LOGS },
        ],
    });
    json!({
        "parallelism": settings.nodes,
        "completions": settings.nodes,
        "completionMode": "Indexed",
        "backoffLimit": 0,
        "template": { "spec": {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": GRACE_SECONDS,
            "containers": [container],
            "volumes": [
                { "name": "shm", "emptyDir": { "medium": "Memory", "sizeLimit": objects.shm } },
                { "name": "logs", "emptyDir": {} },
            ],
        } },
    })
}

fn env(settings: &Settings, objects: &Objects) -> Vec<Value> {
    let mut all = Vec::new();
    if let (Some(cpus), None) = (objects.cpus, settings.env.get("OMP_NUM_THREADS")) {
        let threads = (cpus / settings.ranks_per_node.max(1)).max(1);
        all.push(json!({ "name": "OMP_NUM_THREADS", "value": threads.to_string() }));
    }
    all.extend(settings.env.iter().map(|(name, value)| json!({ "name": name, "value": value })));
    all
}

fn resources(settings: &Settings, objects: &Objects) -> Value {
    let mut limits = json!({});
    if settings.gpus {
        limits["nvidia.com/gpu"] = json!(settings.ranks_per_node.to_string());
    }
    if let Some(memory) = &objects.memory {
        limits["memory"] = json!(memory);
    }
    if let Some((name, count)) = &objects.rdma {
        limits[name] = json!(count.to_string());
    }
    let mut resources = json!({ "limits": limits });
    if let Some(cpus) = objects.cpus {
        resources["requests"] = json!({ "cpu": cpus.to_string() });
    }
    resources
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::settings::OnHang;

    fn made(kind: Kind) -> String {
        let settings = Settings {
            nodes: 2,
            ranks_per_node: 8,
            gpus: true,
            program: Program::Script(vec!["train.py".into()]),
            port: 29500,
            master: None,
            restarts: 3,
            time_limit: None,
            hang_after: None,
            on_hang: OnHang::Abort,
            node_timeout: Duration::from_secs(5),
            preflight: None,
            env: Default::default(),
        };
        let objects = Objects {
            name: "train".into(),
            kind,
            image: "registry.example/train@sha256:00".into(),
            shm: "64Gi".into(),
            memory: Some("960Gi".into()),
            cpus: Some(96),
            rdma: Some(("rdma/hca".into(), 8)),
            queue: Some("gpu".into()),
        };
        manifest(&settings, &objects)
    }

    #[test]
    fn pods_find_node_0_by_its_own_name() {
        let job = made(Kind::Job);
        assert!(
            job.contains("\"--master_addr=train-0.train\"") && job.contains("subdomain: train"),
            "{job}"
        );
        assert!(made(Kind::JobSet).contains("\"--master_addr=train-node-0-0.train\""));
        assert!(!made(Kind::TrainJob).contains("--master_addr"));
    }

    #[test]
    fn all_kinds_have_shared_memory_and_gpus() {
        for kind in [Kind::Job, Kind::JobSet, Kind::TrainJob] {
            let text = made(kind);
            for words in [
                "medium: Memory",
                "nvidia.com/gpu: \"8\"",
                "kueue.x-k8s.io/queue-name: gpu",
                "rdma/hca: \"8\"",
            ] {
                assert!(text.contains(words), "{words}\n{text}");
            }
        }
    }
}
