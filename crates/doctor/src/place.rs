//! Which numbers the driver's device nodes have: a node with others leads to another device, or to none.

use crate::snapshot::Node;

/// The major number of all nodes of nvidia.ko, which is fixed.
///
/// Source: the kernel's Documentation/admin-guide/devices.txt (195 char); NVIDIA/open-gpu-kernel-modules
/// kernel-open/common/inc/nv.h, NV_MAJOR_DEVICE_NUMBER.
pub(crate) const MAJOR: u32 = 195;

/// Minor numbers of nodes that are no GPU's (ibid.; NVIDIA/nvidia-modprobe modprobe-utils/nvidia-modprobe-utils.h,
/// NV_MODESET_MINOR_DEVICE_NUM).
const MINORS: [(&str, u32); 2] = [("nvidiactl", CONTROL_MINOR), ("nvidia-modeset", 254)];

/// The minor number of /dev/nvidiactl.
pub(crate) const CONTROL_MINOR: u32 = 255;

impl Node {
    /// The minor number in the name of a GPU's node: 3 of `/dev/nvidia3`.
    pub(crate) fn of_gpu(&self) -> Option<u32> {
        let rest = self.path.to_str()?.strip_prefix("/dev/nvidia")?;
        let digits = !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| rest.parse().ok())?
    }

    /// How its numbers are not the driver's: what it has, and what it would have.
    pub(crate) fn astray(&self) -> Option<(String, String)> {
        if let Some(driver) = self.driver_major {
            let has = format!("its major number is {}", self.major);
            return Some((has, format!("/proc/devices says {driver} for the driver")));
        }
        let name = self.path.to_str()?.strip_prefix("/dev/")?;
        let fixed = MINORS.iter().find(|(known, _)| *known == name).map(|(_, minor)| *minor);
        let minor = fixed.or_else(|| self.of_gpu())?;
        match (self.major == MAJOR, self.minor == minor) {
            (true, true) => None,
            (false, _) => Some((
                format!("its major number is {}", self.major),
                format!("the driver's is always {MAJOR}"),
            )),
            (true, false) => Some((
                format!("its minor number is {}", self.minor),
                format!("{} is {MAJOR}:{minor}", self.path.display()),
            )),
        }
    }
}
