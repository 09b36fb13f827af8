//! Drivers that are too old: for a GPU that is asked for, and for all torches that have code for it.

mod world;

use expect_test::{Expect, expect};
use sconce_facts::Machine;
use sconce_lock::{Host, Previous, Spec, resolve};
use world::World;

/// What is said of a request on this host: the error and its hint, else the torch and the notes.
#[track_caller]
fn check(host: &Host, spec: &str, expected: Expect) {
    let spec = Spec::parse(&format!("[environment]\n{spec}")).unwrap();
    let said = match resolve(&spec, host, Previous::NONE, &mut World::default()) {
        Ok((lock, explanation)) => {
            let torch = lock.facts.torch.map(|torch| torch.version).unwrap_or_default();
            let notes = explanation.notes.iter().filter(|note| !note.starts_with("pinned here"));
            let notes: Vec<&str> = notes.map(String::as_str).collect();
            format!("torch {torch}\n{}", notes.join("\n"))
        }
        Err(error) => format!("{error}\n{}", error.hint().unwrap_or_default()),
    };
    expected.assert_eq(&said);
}

fn host(driver: Option<&str>) -> Host {
    let driver = driver.map(|driver| driver.parse().unwrap());
    Host { machine: Some(Machine::X86_64), driver, ..Host::default() }
}

/// `inspect` says no to the same.
#[test]
fn a_driver_that_is_older_than_a_gpu() {
    let asked = |spec, expected| check(&host(None), spec, expected);
    asked(
        "gpus = ['b200']\ndriver = '535.104.05'",
        expect![[r#"
        B200 (sm_100) needs driver 570.26 or newer, and this is for driver 535.104.05
        take driver 570.86.15 or newer, the first that lists it, or leave that GPU out"#]],
    );
    asked(
        "gpus = ['h100']\ndriver = '470.82.01'",
        expect![[r#"
        H100 (sm_90) needs driver 520.56.06 or newer, and this is for driver 470.82.01
        take driver 525.85.05 or newer, the first that lists it, or leave that GPU out"#]],
    );
    asked(
        "gpus = ['1080ti', '9.0']\ndriver = '470.82.01'",
        expect![[r#"
        capability 9.0 (sm_90) needs driver 520.56.06 or newer, and this is for driver 470.82.01
        take driver 520.56.06 or newer, or leave that GPU out"#]],
    );
    // Of its branch, and before the first that lists it.
    asked(
        "gpus = ['b200']\ndriver = '570.26'",
        expect![[r#"
            torch 2.10.0
            driver 570.26 may not know B200: the first open driver that lists it is 570.86.15
            torch 2.15.0 was not taken: built with CUDA 13.2, which needs driver 580.65.06 or newer; the driver is 570.26"#]],
    );
    // The driver of the machine on which it is locked: the image may be for another.
    let here = host(Some("470.82.01"));
    check(
        &here,
        "gpus = ['h100']",
        expect![[r#"
        no torch fits: the newest looked at, torch 2.15.0: built with CUDA 13.2, which needs driver 580.65.06 or newer; the driver is 470.82.01
        a driver from 520.56.06 on: no older one runs H100 (sm_90), whatever the torch"#]],
    );
}

/// No torch is without code for them: those that have it are for a newer driver.
#[test]
fn a_driver_that_is_older_than_what_has_code() {
    let asked = |spec, expected| check(&host(None), spec, expected);
    asked(
        "gpus = ['1080ti']\ndriver = '470.82.01'",
        expect![[r#"
        no torch fits: torch 2.7.1, the newest with code for 1080TI (sm_61): built with CUDA 12.6, which needs driver 525.60.13 or newer; the driver is 470.82.01
        the newest torch that driver 470.82.01 runs is 2.7.1 with CUDA 11.8: torch = "2.7.1", cuda = "11.8"; or a driver from 525.60.13 on"#]],
    );
    asked(
        "gpus = ['1080ti', 'a100']\ndriver = '470.82.01'",
        expect![[r#"
        no torch fits: torch 2.7.1, the newest with code for 1080TI (sm_61) and A100 (sm_80): built with CUDA 12.6, which needs driver 525.60.13 or newer; the driver is 470.82.01
        the newest torch that driver 470.82.01 runs is 2.7.1 with CUDA 11.8: torch = "2.7.1", cuda = "11.8"; or a driver from 525.60.13 on"#]],
    );
    asked(
        "gpus = ['1080ti', 'h100']\ndriver = '520.61.05'",
        expect![[r#"
        no torch fits: torch 2.7.1, the newest with code for 1080TI (sm_61) and H100 (sm_90): built with CUDA 12.6, which needs driver 525.60.13 or newer; the driver is 520.61.05
        the newest torch that driver 520.61.05 runs is 2.7.1 with CUDA 11.8: torch = "2.7.1", cuda = "11.8"; or a driver from 525.60.13 on"#]],
    );
    asked(
        "gpus = ['a100']\ndriver = '470.82.01'",
        expect![[r#"
            no torch fits: the newest looked at, torch 2.15.0: built with CUDA 13.2, which needs driver 580.65.06 or newer; the driver is 470.82.01
            the newest torch that driver 470.82.01 runs is 2.7.1 with CUDA 11.8: torch = "2.7.1", cuda = "11.8"; or a driver from 525.60.13 on, which runs torch 2.10.0, or from 580.65.06 on for torch 2.15.0"#]],
    );
}

/// A branch alone may be older than the floor in it.
#[test]
fn a_branch_without_a_release() {
    let said = |driver: &str| {
        let text = format!("[environment]\ntorch = '2.15.0'\ndriver = '{driver}'");
        let spec = Spec::parse(&text).unwrap();
        let locked = resolve(&spec, &host(None), Previous::NONE, &mut World::default());
        locked.map_or_else(|error| error.to_string(), |_| "locked".to_owned())
    };
    let floor = "needs driver 580.65.06 or newer; the driver is";
    assert!(
        said("580").ends_with(&format!("{floor} 580, which is read as the first of its branch"))
    );
    assert!(said("580.1").ends_with(&format!("{floor} 580.1")));
    assert!(said("575").ends_with(&format!("{floor} 575")));
    assert_eq!(said("581"), "locked");
}
