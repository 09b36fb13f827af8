//! Whether a device is the GPU that was listed under its number: CUDA numbers anew in each process, and where one has fallen
//! off the bus meanwhile, the others have its number.

use sconce_cuda::Device;

use crate::answer::Gpu;

/// A UUID as NVML and `nvidia-smi -L` write it, without `GPU-`.
pub(super) fn text(uuid: &[u8; 16]) -> String {
    let hex: String = uuid.iter().map(|byte| format!("{byte:02x}")).collect();
    let parts = [0..8, 8..12, 12..16, 16..20, 20..32].map(|part| hex.get(part).unwrap_or_default());
    parts.join("-")
}

/// The devices that are what was listed, and of the listed ones that are not there the number and what is there instead. Where
/// nothing was listed, all are.
pub(super) fn as_listed(devices: Vec<Device>, listed: &[Gpu]) -> (Vec<Device>, Vec<(u32, String)>) {
    if listed.is_empty() {
        return (devices, Vec::new());
    }
    let at = |number: u32| {
        devices.iter().find(|device| u32::try_from(device.ordinal).ok() == Some(number))
    };
    let (mut same, mut others) = (Vec::new(), Vec::new());
    for gpu in listed {
        match at(gpu.gpu).map(|device| (device, difference(gpu, device))) {
            Some((device, None)) => same.push(device.clone()),
            Some((_, Some(why))) => others.push((gpu.gpu, why)),
            None => {
                let all = devices.len();
                let why = format!("CUDA does not show it any more: {all} of {} GPUs", listed.len());
                others.push((gpu.gpu, why));
            }
        }
    }
    (same, others)
}

/// What makes a device another GPU than the one that was listed.
fn difference(gpu: &Gpu, device: &Device) -> Option<String> {
    let is = [
        ("UUID", &gpu.uuid, &device.uuid.map(|uuid| text(&uuid))),
        ("place on the bus", &gpu.bus_id, &device.bus_id),
    ];
    let none = || "not said".to_owned();
    let (what, was, is) = is.into_iter().find(|(_, was, is)| was != is)?;
    let (was, is) = (was.clone().unwrap_or_else(none), is.clone().unwrap_or_else(none));
    Some(format!(
        "CUDA's GPU of this number is another one than was listed: its {what} was {was}, and is {is}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(ordinal: i32, last: u8) -> Device {
        let mut uuid = [0; 16];
        uuid[15] = last;
        Device {
            ordinal,
            name: "A".to_owned(),
            capability: (9, 0),
            memory_bytes: 1,
            sm_count: 1,
            l2_bytes: 1,
            uuid: Some(uuid),
            bus_id: Some(format!("0000:{last:02X}:00.0")),
        }
    }

    #[test]
    fn a_device_is_the_one_that_was_listed() {
        let all = [device(0, 0x1b), device(1, 0x1c)];
        let listed = |one: &Device| Gpu {
            gpu: one.ordinal as u32,
            uuid: one.uuid.map(|uuid| text(&uuid)),
            bus_id: one.bus_id.clone(),
            ..Gpu::default()
        };
        let listed: Vec<Gpu> = all.iter().map(listed).collect();
        assert_eq!(listed[0].uuid.as_deref(), Some("00000000-0000-0000-0000-00000000001b"));
        assert_eq!(as_listed(all.to_vec(), &listed), (all.to_vec(), Vec::new()));
        assert_eq!(as_listed(all.to_vec(), &[]).0.len(), 2);
        // The first is gone, and the second has its number.
        let (same, others) = as_listed(vec![device(0, 0x1c)], &listed);
        assert!(same.is_empty() && others.len() == 2, "{others:?}");
        assert!(others[0].1.contains("its UUID was 00000000-0000-0000-0000-00000000001b, and is"));
        assert!(others[1].1.contains("does not show it any more: 1 of 2 GPUs"), "{others:?}");
        let (same, others) = as_listed(vec![device(0, 0x1b)], &listed);
        assert!(same.len() == 1 && others.len() == 1, "{others:?}");
    }
}
