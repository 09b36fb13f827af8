//! The kubelet's pod resources: which pod was given which device.
//!
//! Source: kubernetes/kubelet `pkg/apis/podresources/v1/api.proto`, service `v1.PodResourcesLister`, and protobuf's
//! "Encoding". Of the messages only names of pods, containers and devices are read.

use std::path::Path;
use std::time::Duration;

use crate::grpc::{self, Failed};

/// The method that lists all pods.
const LIST: &str = "/v1.PodResourcesLister/List";
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// Resources of NVIDIA's device plugin: `nvidia.com/gpu`, `nvidia.com/mig-1g.10gb`, and what a cluster renamed them to.
const NVIDIA: &str = "nvidia.com/";
/// The most devices of GPUs that are kept, and fields of a message that are read.
const MOST: usize = 65_536;
/// Bytes kept of a name: those of Kubernetes have 253 at most.
pub(crate) const LONGEST: usize = 256;

/// A device that a container of a pod was given.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Given {
    /// What the device plugin calls it, without the number of a replica: `GPU-…`, `MIG-…`.
    pub(crate) device: String,
    pub(crate) namespace: String,
    pub(crate) pod: String,
    pub(crate) container: String,
}

/// Asks a kubelet.
pub(crate) fn ask(socket: &Path) -> Result<Vec<Given>, Failed> {
    let message = grpc::call(socket, LIST, PATIENCE)?;
    let wrong = || Failed::Malformed("it is no list of pods".to_owned());
    read(&message).ok_or_else(wrong)
}

/// `ListPodResourcesResponse`.
pub(crate) fn read(message: &[u8]) -> Option<Vec<Given>> {
    let mut all = Vec::new();
    for (number, pod) in fields(message)? {
        if number == 1 {
            pod_resources(pod, &mut all)?;
        }
    }
    all.sort();
    all.dedup();
    Some(all)
}

/// `PodResources`: name, namespace, containers.
fn pod_resources(message: &[u8], all: &mut Vec<Given>) -> Option<()> {
    let fields = fields(message)?;
    let (pod, namespace) = (text(&fields, 1), text(&fields, 2));
    for (_, container) in fields.iter().filter(|(number, _)| *number == 3) {
        // `ContainerResources`: name, devices.
        let fields = self::fields(container)?;
        let container = text(&fields, 1);
        for (_, devices) in fields.iter().filter(|(number, _)| *number == 2) {
            // `ContainerDevices`: resource_name, device_ids.
            let fields = self::fields(devices)?;
            if !text(&fields, 1).starts_with(NVIDIA) {
                continue;
            }
            for (_, id) in fields.iter().filter(|(number, _)| *number == 2) {
                let id = String::from_utf8_lossy(id);
                // `GPU-…::3` is one of the replicas of a GPU that is shared.
                let device = short(id.split("::").next().unwrap_or_default());
                // Other plugins count; a number does not say whose.
                let named = device.starts_with("GPU-") || device.starts_with("MIG-");
                if named && all.len() < MOST {
                    all.push(Given {
                        device,
                        namespace: namespace.clone(),
                        pod: pod.clone(),
                        container: container.clone(),
                    });
                }
            }
        }
    }
    Some(())
}

fn text(fields: &[(u64, &[u8])], wanted: u64) -> String {
    let last = fields.iter().rev().find(|(number, _)| *number == wanted);
    last.map_or_else(String::new, |(_, bytes)| short(&String::from_utf8_lossy(bytes)))
}

fn short(text: &str) -> String {
    text.chars().take(LONGEST).collect()
}

/// The fields of a message that have a length, by their numbers; nothing where it is no message. Numbers are passed over.
fn fields(mut at: &[u8]) -> Option<Vec<(u64, &[u8])>> {
    let mut found = Vec::new();
    while !at.is_empty() {
        let tag = varint(&mut at)?;
        let skip = match tag & 7 {
            0 => {
                varint(&mut at)?;
                continue;
            }
            1 => 8,
            5 => 4,
            2 => usize::try_from(varint(&mut at)?).ok()?,
            // Groups, which nobody writes any more.
            _ => return None,
        };
        let (bytes, rest) = at.split_at_checked(skip)?;
        at = rest;
        if tag >> 3 == 0 {
            return None;
        }
        if tag & 7 == 2 {
            // Each takes memory, also one without a byte.
            if found.len() >= MOST {
                return None;
            }
            found.push((tag >> 3, bytes));
        }
    }
    Some(found)
}

fn varint(at: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = at.split_first()?;
        *at = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
        assert!(bytes.len() < 128);
        [&[number << 3 | 2, bytes.len() as u8], bytes].concat()
    }

    #[test]
    fn messages() {
        let devices = |resource: &str, ids: &[&str]| {
            let ids = ids.iter().flat_map(|id| field(2, id.as_bytes()));
            // The topology, and a number that a later version has.
            let more = [&field(3, &[8, 1])[..], &[0x20, 0x96, 0x01]].concat();
            [field(1, resource.as_bytes()), ids.collect(), more].concat()
        };
        let container = [
            field(1, b"main"),
            field(2, &devices("nvidia.com/gpu", &["GPU-1", "GPU-2::0", "GPU-2::1"])),
            field(2, &devices("nvidia.com/gpu", &["nvidia7", "3"])),
            field(2, &devices("intel.com/gpu", &["GPU-9"])),
        ];
        let pod = [field(1, b"train"), field(2, b"ml"), field(3, &container.concat())].concat();
        // Longer than a byte says.
        let mut message = vec![0x0a, (pod.len() & 0x7f | 0x80) as u8, (pod.len() >> 7) as u8];
        message.extend(pod);
        let found = read(&message).unwrap();
        let names: Vec<_> = found.iter().map(|given| &*given.device).collect();
        assert_eq!(names, ["GPU-1", "GPU-2"]);
        let given = &found[0];
        assert_eq!((&*given.namespace, &*given.pod, &*given.container), ("ml", "train", "main"));
        for end in 1..message.len() {
            assert_eq!(read(&message[..end]), None, "{end}");
        }
        assert_eq!(read(&[]), Some(Vec::new()));
        for wrong in [&[0x0b][..], &[0xff; 11], &[0x02, 0], &[0x0a, 0xff, 0xff, 0xff, 0x7f]] {
            assert_eq!(read(wrong), None, "{wrong:x?}");
        }
    }
}
