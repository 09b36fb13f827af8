//! Fatbins made here, whole and damaged.

use expect_test::{Expect, expect};

use super::*;
use crate::forge::{cubin, fatbin, ptx};

fn check(bytes: &[u8], expect: Expect) {
    let mut found = Fatbin::default();
    found.walk(Named::new("lib", &bytes.to_vec()), 0, bytes.len() as u64).unwrap();
    let mut text = format!("{} containers\n", found.containers);
    for (code, tally) in &found.codes {
        text += &format!("{code} x{} {} bytes", tally.entries, tally.bytes);
        text += &tally.ptx_isa.map_or(String::new(), |(x, y)| format!(" ISA {x}.{y}"));
        text += "\n";
    }
    for flaw in &found.flaws {
        text += &format!("at {}: {}\n", flaw.offset, flaw.what);
    }
    expect.assert_eq(&text);
}

fn sample() -> Vec<u8> {
    let mut hopper = cubin(90);
    hopper.flags |= FLAG_SPECIFIC;
    let mut family = cubin(100);
    family.flags |= FLAG_FAMILY;
    let mut bytes = fatbin(&[cubin(75), hopper, family, ptx(120, (9, 2))]);
    bytes.extend([0; 24]);
    bytes.extend(fatbin(&[cubin(75)]));
    bytes
}

#[test]
fn variants_padding_and_isa() {
    check(
        &sample(),
        expect![[r#"
        2 containers
        sm_75 x2 208 bytes
        sm_90a x1 104 bytes
        sm_100f x1 104 bytes
        compute_120 x1 120 bytes ISA 9.2
    "#]],
    );
}

#[test]
fn an_entry_that_lies_is_named_and_the_walk_goes_on() {
    let mut bytes = sample();
    bytes[16 + 8..16 + 16].copy_from_slice(&u64::MAX.to_le_bytes());
    check(
        &bytes,
        expect![[r#"
        2 containers
        sm_75 x1 104 bytes
        at 16: entry with a header of 80 bytes and 18446744073709551615 of payload does not fit its fatbin
    "#]],
    );
    let mut bytes = sample();
    bytes[8..16].copy_from_slice(&(1u64 << 50).to_le_bytes());
    bytes[16 + 4..16 + 8].copy_from_slice(&0u32.to_le_bytes());
    check(
        &bytes,
        expect![[r#"
        2 containers
        sm_75 x1 104 bytes
        at 0: fatbin of 1125899906842624 bytes ends beyond its section
        at 16: entry with a header of 0 bytes and 24 of payload does not fit its fatbin
    "#]],
    );
}

#[test]
fn cut_off_anywhere_and_any_byte_changed() {
    let good = sample();
    for len in 0..good.len() {
        let mut found = Fatbin::default();
        found.walk(Named::new("lib", &good[..len].to_vec()), 0, good.len() as u64).unwrap();
    }
    for at in 0..good.len() {
        for value in [0, 1, 0x80, 0xff] {
            let mut bad = good.clone();
            bad[at] = value;
            let mut found = Fatbin::default();
            found.walk(Named::new("lib", &bad), 0, bad.len() as u64).unwrap();
        }
    }
}

/// The header of a concat entry that nvcc 13.5 wrote for sm_100f and sm_120 (`--concat`,
/// compressed for size); its payload is left out.
#[test]
fn members_of_a_concat_entry() {
    const RECORDS: &str = "02000000f8000000\
        0200010100000000f04c000000000000000000004000000008000100640000000000000000000000\
        110020010000000000000000000000000000000000000000\
        48000000280000000002090000020c000002020100030d01010307010102030000040b0800090000\
        0000000000030e4004000000\
        0000000002000101f04c0000f84d0000000000000000000040000000080001007800000000000000\
        00000000110000010000000000000000000000000000000000000000\
        48000000280000000002090000020c000002020100030d01010307010102030000040b0800500000\
        0000000000030e400400000000000000";
    let records: Vec<u8> = RECORDS
        .as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect();
    let mut entry = vec![0; 64];
    entry[0..4].copy_from_slice(&[0, 1, 1, 1]);
    entry[4..8].copy_from_slice(&312u32.to_le_bytes());
    entry[8..16].copy_from_slice(&6024u64.to_le_bytes());
    entry[40..48].copy_from_slice(&0x8011u64.to_le_bytes());
    entry.extend(&records);
    assert_eq!(entry.len(), 312);
    entry.extend(vec![0; 6024]);
    let mut bytes = fatbin(&[]);
    bytes[8..16].copy_from_slice(&(entry.len() as u64).to_le_bytes());
    bytes.extend(entry);
    check(
        &bytes,
        expect![[r#"
            1 containers
            sm_100f x1 3146 bytes
            sm_120 x1 3189 bytes
        "#]],
    );
    // A count that the table can't hold.
    bytes[16 + 64] = 200;
    check(
        &bytes,
        expect![[r#"
            1 containers
            sm_100f x1 3146 bytes
            sm_120 x1 3189 bytes
            at 16: concat entry of 200 members has records of 2
        "#]],
    );
}
