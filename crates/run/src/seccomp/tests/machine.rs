//! Classic BPF as the kernel runs it for seccomp (kernel/seccomp.c, net/core/filter.c).

use crate::seccomp::Instruction;

/// What the kernel's `seccomp_check_filter` demands of a program.
pub(super) fn check(program: &[Instruction]) {
    assert!((1..=4096).contains(&program.len()));
    for (at, instruction) in program.iter().enumerate() {
        let targets = match instruction.code {
            0x20 => {
                assert!(instruction.k < 64 && instruction.k % 4 == 0, "{at}: {instruction:?}");
                vec![at + 1]
            }
            0x54 => vec![at + 1],
            0x05 => vec![at + 1 + instruction.k as usize],
            0x15 | 0x25 | 0x35 => {
                [instruction.jt, instruction.jf].map(|skip| at + 1 + usize::from(skip)).to_vec()
            }
            0x06 => vec![],
            _ => panic!("{at}: {instruction:?}"),
        };
        assert!(targets.iter().all(|target| *target < program.len()), "{at}: {instruction:?}");
    }
    assert_eq!(program.last().unwrap().code, 0x06, "the last instruction returns");
}

/// What the program returns for one call.
pub(super) fn run(program: &[Instruction], arch: u32, number: u32, arguments: &[u64; 6]) -> u32 {
    steps(program, arch, number, arguments).0
}

/// What it returns, and after how many instructions.
pub(super) fn steps(
    program: &[Instruction],
    arch: u32,
    number: u32,
    arguments: &[u64; 6],
) -> (u32, usize) {
    // struct seccomp_data: number, architecture, instruction pointer, arguments.
    let mut data = Vec::with_capacity(64);
    data.extend(number.to_le_bytes());
    data.extend(arch.to_le_bytes());
    data.extend(0xdead_beef_dead_beef_u64.to_le_bytes());
    data.extend(arguments.iter().flat_map(|argument| argument.to_le_bytes()));
    let (mut accumulator, mut at, mut steps) = (0_u32, 0, 0);
    loop {
        let Instruction { code, jt, jf, k } = program[at];
        at += 1;
        steps += 1;
        let holds = match code {
            0x20 => {
                let word = data[k as usize..][..4].try_into().unwrap();
                accumulator = u32::from_le_bytes(word);
                continue;
            }
            0x54 => {
                accumulator &= k;
                continue;
            }
            0x05 => {
                at += k as usize;
                continue;
            }
            0x06 => return (k, steps),
            0x15 => accumulator == k,
            0x25 => accumulator > k,
            0x35 => accumulator >= k,
            _ => panic!("{code:#x}"),
        };
        at += usize::from(if holds { jt } else { jf });
    }
}
