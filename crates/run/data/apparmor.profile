# The AppArmor profile of sconce's containers, modelled on moby's docker-default
# (github.com/moby/profiles, apparmor/template.go; Apache-2.0, Copyright The Moby Authors).
# ABI 3.0: from 4.0 on, "network" no longer covers unix sockets.
{{abi}}
{{tunables}}

profile sconce-default flags=(attach_disconnected,mediate_deleted) {
  {{base}}

  network,
  # The kernel's crypto API, which a container has no use for.
  deny network alg,
  capability,
  file,
  umount,
  deny mount,

  # Whoever starts a container may end it; processes inside may signal and trace each other.
  signal (receive) peer=unconfined,
  {{caller}}
  signal (send,receive) peer=sconce-default,
  ptrace (trace,tracedby,read,readby) peer=sconce-default,

  # Of /proc, processes' own folders may be written, and the shm* settings in /proc/sys/kernel.
  deny @{PROC}/* w,
  deny @{PROC}/{[^1-9/],[^1-9/][^0-9/],[^1-9s/][^0-9y/][^0-9s/],[^1-9/][^0-9/][^0-9/][^0-9/]*}/** w,
  deny @{PROC}/sys/[^k]** w,
  deny @{PROC}/sys/kernel/{?,??,[^s][^h][^m]**} w,
  deny @{PROC}/sysrq-trigger rwklx,
  deny @{PROC}/kcore rwklx,

  # Of /sys, cgroups only.
  deny /sys/[^f]*/** wklx,
  deny /sys/f[^s]*/** wklx,
  deny /sys/fs/[^c]*/** wklx,
  deny /sys/fs/c[^g]*/** wklx,
  deny /sys/fs/cg[^r]*/** wklx,
  deny /sys/firmware/** rwklx,
  deny /sys/devices/virtual/powercap/** rwklx,
  deny /sys/kernel/security/** rwklx,
}
