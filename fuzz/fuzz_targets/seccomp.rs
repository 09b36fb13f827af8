//! Any bytes as a seccomp profile: refused with words, or compiled to a program that the kernel
//! takes. Any bytes as a filter from another process.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sconce_run::seccomp::{Arch, Context, Filter, Profile, SeccompError};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(filter) = Filter::from_bytes(bytes) {
        assert!(filter.to_bytes() == bytes);
    }
    let Ok(profile) = Profile::parse(bytes) else { return };
    for arch in [Arch::X86_64, Arch::Aarch64] {
        for capabilities in [&[][..], &["CAP_SYS_ADMIN"]] {
            let filter = match profile.compile(&Context { capabilities, kernel: (6, 1), arch }) {
                Ok(filter) => filter,
                Err(SeccompError::TooLong) => continue,
                Err(error) => panic!("{error}"),
            };
            check(&filter);
            let again = Filter::from_bytes(&filter.to_bytes()).expect("what is written can be read");
            assert!(again.program() == filter.program() && again.flags() == filter.flags());
        }
    }
});

/// What the kernel asks of a program (kernel/seccomp.c, net/core/filter.c).
fn check(filter: &Filter) {
    let program = filter.program();
    assert!(program.len() <= Filter::MAX_INSTRUCTIONS);
    for (at, one) in program.iter().enumerate() {
        let furthest = match one.code {
            0x20 => {
                assert!(one.k < 64 && one.k % 4 == 0);
                0
            }
            0x54 => 0,
            0x05 => one.k as usize,
            0x15 | 0x25 | 0x35 => usize::from(one.jt.max(one.jf)),
            0x06 => continue,
            code => panic!("{code:#x}"),
        };
        assert!(at + 1 + furthest < program.len());
    }
    assert!(program.last().is_some_and(|last| last.code == 0x06));
}
