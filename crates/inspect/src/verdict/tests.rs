//! How libraries serve GPUs.

use super::*;
use crate::forge::{self, cubin, fatbin, ptx};
use crate::read::Named;

fn code(fatbins: &[Vec<u8>]) -> Fatbin {
    let bytes = fatbins.concat();
    let mut found = Fatbin::default();
    found.walk(Named::new("lib", &bytes), 0, bytes.len() as u64).unwrap();
    found
}

fn on(code: &Fatbin, capability: &str) -> Option<Service> {
    service(code, capability.parse().unwrap(), false)
}

#[test]
fn cubins_serve_their_generation_and_ptx_what_comes_later() {
    let specific = forge::Code { flags: 0x10_0000, ..cubin(90) };
    let code = code(&[fatbin(&[cubin(80), specific, ptx(80, (8, 2))])]);
    assert_eq!(on(&code, "8.0"), Some(Service::Native));
    assert_eq!(on(&code, "8.9"), Some(Service::Native));
    assert_eq!(on(&code, "9.0"), Some(Service::Native));
    assert_eq!(on(&code, "10.3"), Some(Service::Jit { isa: (8, 2) }));
    assert_eq!(on(&code, "7.5"), Some(Service::Nothing));
    assert_eq!(on(&Fatbin::default(), "8.0"), None);
}

#[test]
fn the_linalg_gap_on_turing() {
    // libtorch_cuda_linalg.so of torch 2.15.0: 32 containers without sm_75, one with.
    let list: Vec<_> = [80, 86, 90, 100, 120].map(cubin).into();
    let mut all = vec![fatbin(&list); 32];
    all.push(fatbin(&[vec![cubin(75)], list].concat()));
    let linalg = code(&all);
    assert_eq!(on(&linalg, "7.5"), Some(Service::Partial { served: 1, of: 33 }));
    assert_eq!(on(&linalg, "12.1"), Some(Service::Native));
}

#[test]
fn kernels_chosen_per_gpu_are_no_gap() {
    // Like cuBLASLt: most containers are made for one GPU.
    let mut all = vec![fatbin(&[cubin(90)]); 6];
    all.extend(vec![fatbin(&[cubin(100)]); 6]);
    all.push(fatbin(&[cubin(75)]));
    let few = code(&all);
    assert_eq!(service(&few, "7.5".parse().unwrap(), true), Some(Service::Native));
    // cuBLASLt 12.6.4.1: all of its containers have code for sm_90, a tenth for sm_75, one of 1753 for sm_72.
    let mut all = vec![fatbin(&[cubin(90)]); 90];
    all.extend(vec![fatbin(&[cubin(75), cubin(90)]); 10]);
    let lt = code(&all);
    assert_eq!(service(&lt, "7.5".parse().unwrap(), true), Some(Service::Native));
    all.extend(vec![fatbin(&[cubin(90)]); 100]);
    all.push(fatbin(&[cubin(60), cubin(90)]));
    let lt = code(&all);
    assert_eq!(
        service(&lt, "6.0".parse().unwrap(), true),
        Some(Service::Partial { served: 1, of: 201 })
    );
    // In a library that is not known to choose so, one part among many is not a service.
    assert_eq!(on(&few, "7.5"), Some(Service::Partial { served: 1, of: 13 }));
}

#[test]
fn one_part_among_seventy_is_no_service() {
    // Most of it for Hopper alone, so that no GPU has nine tenths of it.
    let mut all = vec![fatbin(&[cubin(90)]); 55];
    all.extend(vec![fatbin(&[cubin(100)]); 14]);
    all.push(fatbin(&[cubin(80)]));
    assert_eq!(on(&code(&all), "8.0"), Some(Service::Partial { served: 1, of: 70 }));
}

#[test]
fn nvvm_alone_is_for_the_device_linker() {
    let nvvm = forge::Code { kind: 8, ..cubin(90) };
    assert_eq!(on(&code(&[fatbin(&[nvvm])]), "9.0"), None);
    let both = code(&[fatbin(&[nvvm]), fatbin(&[cubin(90)])]);
    assert_eq!(on(&both, "9.0"), Some(Service::Native));
    assert_eq!(on(&both, "8.0"), Some(Service::Nothing));
}

#[test]
fn a_number_that_is_no_capability_serves_nobody() {
    let lies = code(&[fatbin(&[cubin(0), cubin(5), cubin(u32::MAX)])]);
    assert_eq!(on(&lies, "8.0"), Some(Service::Nothing));
}
