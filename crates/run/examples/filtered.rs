//! Puts itself under a seccomp filter and tries things:
//! `filtered [--free] [--cap CAP]... [--profile FILE] [--privileges] call NUMBER [ARGUMENT...]`.
//! `call32` makes the call as an i386 program does, `threads` starts some, `exec COMMAND...` runs
//! a command. The answer of a call is printed: `ok` or the errno.
#![allow(unsafe_code)]

use std::fs;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use sconce_run::seccomp::{Context, Filter, Profile};

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let (mut free, mut privileges) = (false, false);
    let mut capabilities = Vec::new();
    let mut profile = Profile::docker_default();
    let what = loop {
        match arguments.next().expect("what to do").as_str() {
            "--free" => free = true,
            "--privileges" => privileges = true,
            "--cap" => capabilities.push(arguments.next().expect("a capability")),
            "--profile" => {
                let bytes = fs::read(arguments.next().expect("a file")).expect("the profile");
                profile = Profile::parse(&bytes).expect("a profile");
            }
            what => break what.to_owned(),
        }
    };
    let words: Vec<String> = arguments.collect();
    if !free {
        let names: Vec<&str> = capabilities.iter().map(String::as_str).collect();
        let filter = profile.compile(&Context::host(&names)).expect("a filter");
        // As it comes from another process.
        let filter = Filter::from_bytes(&filter.to_bytes()).expect("the same filter");
        if !privileges {
            rustix::thread::set_no_new_privs(true).expect("no_new_privs");
        }
        if let Err(error) = filter.install() {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    }
    match what.as_str() {
        "call" => print(call(&numbers(&words))),
        "call32" => print(call32(&numbers(&words))),
        "threads" => {
            let threads: Vec<_> = (0..4).map(|n| std::thread::spawn(move || n)).collect();
            let sum: i32 = threads.into_iter().map(|thread| thread.join().expect("a thread")).sum();
            println!("{sum}");
        }
        "exec" => {
            let error = Command::new(&words[0]).args(&words[1..]).exec();
            panic!("{}: {error}", words[0]);
        }
        other => panic!("{other}"),
    }
    ExitCode::SUCCESS
}

fn numbers(words: &[String]) -> [u64; 7] {
    let mut numbers = [0; 7];
    for (number, word) in numbers.iter_mut().zip(words) {
        *number = word.parse::<i64>().expect("a number") as u64;
    }
    numbers
}

fn print(answer: i64) {
    if answer >= 0 { println!("ok") } else { println!("{}", -answer) }
}

fn call(&[number, a, b, c, d, e, f]: &[u64; 7]) -> i64 {
    // SAFETY: the tests pass numbers and null pointers only, which the kernel checks.
    let answer = unsafe { libc::syscall(number as i64, a, b, c, d, e, f) };
    match answer {
        -1 => -i64::from(std::io::Error::last_os_error().raw_os_error().unwrap_or(0)),
        answer => answer,
    }
}

/// The call as an i386 program makes it: with its numbers, and three arguments of 32 bits.
#[cfg(target_arch = "x86_64")]
fn call32(&[number, a, b, c, ..]: &[u64; 7]) -> i64 {
    let mut answer = number;
    // SAFETY: as in `call`. rbx is kept: it is not to be had as an operand. The upper registers
    // are lost on the way, as the clobbers say.
    unsafe {
        std::arch::asm!(
            "xchg {a}, rbx",
            "int 0x80",
            "xchg {a}, rbx",
            a = inout(reg) a => _,
            inout("rax") answer,
            in("rcx") b,
            in("rdx") c,
            out("r8") _, out("r9") _, out("r10") _, out("r11") _,
        );
    }
    i64::from(answer as i32)
}

#[cfg(not(target_arch = "x86_64"))]
fn call32(_: &[u64; 7]) -> i64 {
    -38
}
