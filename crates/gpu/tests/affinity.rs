//! Which processors are near GPUs, on machines described in `worlds`.

mod world;

use std::fs;

use sconce_gpu::affinity::near;
use world::world;

#[test]
fn two_nodes() {
    let world = world("cluster");
    let first = near(&world.machine, &["0000:04:00.0"]).unwrap();
    assert_eq!((first.node, first.processors.len(), first.online.len()), (0, 32, 64));
    assert!(first.processors.contains(&47) && !first.processors.contains(&16));
    let second = near(&world.machine, &["0000:0b:00.0"]).unwrap();
    assert_eq!((second.node, second.processors.first()), (1, Some(&16)));
    // GPUs in both nodes, none at all, one that sysfs does not know.
    assert_eq!(near(&world.machine, &["0000:04:00.0", "0000:0b:00.0"]), None);
    assert_eq!(near(&world.machine, &[]), None);
    assert_eq!(near(&world.machine, &["0000:ff:00.0"]), None);
    assert_eq!(near(&world.machine, &["../0000:04:00.0"]), None);
}

/// The recorded virtual machine tells no node, and all processors are near.
#[test]
fn nothing_to_choose() {
    let world = world("h100-vm");
    assert_eq!(near(&world.machine, &["0000:00:06.0"]), None);
    fs::write(world.root.join("sys/bus/pci/devices/0000:00:06.0/numa_node"), "0\n").unwrap();
    assert_eq!(near(&world.machine, &["0000:00:06.0"]), None);
}

/// Processors that are switched off are not near.
#[test]
fn processors_switched_off() {
    let world = world("cluster");
    fs::write(world.root.join("sys/devices/system/cpu/online"), "0-7,16-23\n").unwrap();
    let near = near(&world.machine, &["0000:04:00.0"]).unwrap();
    assert_eq!(near.processors, (0..8).collect::<Vec<_>>());
}
