//! A systemd unit that runs the exporter without privileges.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Folders that `ProtectHome` and `PrivateTmp` keep from the service (systemd.exec(5)).
const HIDDEN: [&str; 5] = ["/home", "/root", "/run/user", "/tmp", "/var/tmp"];

/// Whether the unit's user can start this program: it lies in no folder that is hidden from the service or closed to others.
pub fn reachable(program: &Path) -> bool {
    let open = |path: &Path| path.metadata().is_ok_and(|of| of.permissions().mode() & 1 == 1);
    !HIDDEN.iter().any(|hidden| program.starts_with(hidden)) && program.ancestors().all(open)
}

/// The unit. It reads the kernel's log where `kernel.dmesg_restrict` allows that; the line for a capability is
/// there to be switched on.
pub fn unit(program: &str, options: &str) -> String {
    // systemd takes `%` for a specifier, and a quoted argument whole.
    let program = program.replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%");
    format!(
        "[Unit]\n\
         Description=GPU monitor and Prometheus exporter (sconce)\n\
         Documentation=man:sconce-monitor(1)\n\
         After=nvidia-persistenced.service network.target\n\
         \n\
         [Service]\n\
         ExecStart=\"{program}\" monitor {options}\n\
         Restart=on-failure\n\
         RestartSec=5\n\
         DynamicUser=yes\n\
         # Its history, as $STATE_DIRECTORY:\n\
         StateDirectory=sconce-monitor\n\
         CapabilityBoundingSet=\n\
         # Errors of GPUs also come by NVML. Where kernel.dmesg_restrict is 1 these two lines let it read those of NVSwitches too (an empty\n\
         # CapabilityBoundingSet= takes back those before it, so they stand behind it):\n\
         #AmbientCapabilities=CAP_SYSLOG\n\
         #CapabilityBoundingSet=CAP_SYSLOG\n\
         NoNewPrivileges=yes\n\
         ProtectSystem=strict\n\
         ProtectHome=yes\n\
         PrivateTmp=yes\n\
         ProtectKernelTunables=yes\n\
         ProtectKernelModules=yes\n\
         ProtectControlGroups=yes\n\
         RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX\n\
         RestrictNamespaces=yes\n\
         RestrictRealtime=yes\n\
         LockPersonality=yes\n\
         SystemCallArchitectures=native\n\
         DeviceAllow=char-nvidia rw\n\
         DeviceAllow=char-nvidia-frontend rw\n\
         DeviceAllow=char-nvidiactl rw\n\
         DeviceAllow=char-nvidia-caps r\n\
         DeviceAllow=/dev/kmsg r\n\
         MemoryMax=128M\n\
         TasksMax=256\n\
         \n\
         [Install]\n\
         WantedBy=multi-user.target\n"
    )
}
