//! Where cgroups are, as /proc says it.

use super::*;

const V1: &str = "30 25 0:26 / /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory\n\
                  31 25 0:27 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
                  32 25 0:28 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";

#[test]
fn quotas_are_cores() {
    assert_eq!(cores("400000 100000\n"), Some(4.0));
    assert_eq!(cores("50000 100000"), Some(0.5));
    for none in ["max 100000", "-1 100000", "", "1", "1 0"] {
        assert_eq!(cores(none), None, "{none}");
    }
}

#[test]
fn each_layout_is_read() {
    let hybrid = parse("4:memory:/job/7\n2:cpu,cpuacct:/\n0::/\n", V1);
    assert_eq!(
        hybrid,
        Some(Place::Split(vec![
            ("memory".into(), "/sys/fs/cgroup/memory/job/7".into()),
            ("cpu".into(), "/sys/fs/cgroup/cpu,cpuacct".into()),
        ]))
    );
    let v2 = "30 25 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
    assert_eq!(
        parse("0::/user.slice/a.scope\n", v2),
        Some(Place::Unified {
            mount: "/sys/fs/cgroup".into(),
            own: "/sys/fs/cgroup/user.slice/a.scope".into(),
        })
    );
    let part = "30 25 0:26 /docker/x /sys/fs/cgroup ro - cgroup2 cgroup rw\n";
    assert_eq!(
        parse("0::/docker/x/y\n", part),
        Some(Place::Unified { mount: "/sys/fs/cgroup".into(), own: "/sys/fs/cgroup/y".into() })
    );
    assert_eq!(parse("", ""), None);
    assert_eq!(parse("0::/\n", "broken\n"), None);
}
