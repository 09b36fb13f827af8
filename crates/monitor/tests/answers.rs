//! A kubelet's answer with bytes changed by chance: read or refused, never a panic. `fuzz` does the same for longer.

use sconce_monitor::answers::{answer, headers, pods};

fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    [&[number << 3 | 2, bytes.len() as u8], bytes].concat()
}

/// A list of two pods with three devices.
fn message() -> Vec<u8> {
    let devices = [field(1, b"nvidia.com/gpu"), field(2, b"GPU-1"), field(2, b"GPU-2::0")].concat();
    let container = [field(1, b"main"), field(2, &devices)].concat();
    let pod = |name: &[u8]| [field(1, name), field(2, b"ml"), field(3, &container)].concat();
    [field(1, &pod(b"train")), field(1, &pod(b"eval"))].concat()
}

/// `:status 200`, `grpc-status: 0`, and `grpc-message` in words.
fn block() -> Vec<u8> {
    let literal = |name: &[u8], value: &[u8]| {
        [&[0x10, name.len() as u8], name, &[value.len() as u8], value].concat()
    };
    [vec![0x88], literal(b"grpc-status", b"0"), literal(b"grpc-message", b"well done")].concat()
}

fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    [&length[1..], &[kind, flags, 0, 0, 0, stream], payload].concat()
}

/// SETTINGS, PING, HEADERS in two frames, DATA with padding, and the trailers.
fn sent() -> Vec<u8> {
    let message = message();
    let body = [&[0], &(message.len() as u32).to_be_bytes()[..], &message].concat();
    let padded = [&[3], &body[..], &[0; 3]].concat();
    let block = block();
    let (first, second) = block.split_at(4);
    [
        frame(4, 0, 0, &[0, 3, 0, 0, 0, 100]),
        frame(6, 0, 0, &[7; 8]),
        frame(1, 0, 1, first),
        frame(9, 4, 1, second),
        frame(0, 8, 1, &padded),
        frame(1, 5, 1, &block),
    ]
    .concat()
}

/// So many variants of these bytes, each with a few changed, gone, twice or cut off.
fn mutations(bytes: &[u8], count: usize, mut each: impl FnMut(&[u8])) {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % below.max(1) as u64).unwrap()
    };
    for _ in 0..count {
        let mut bytes = bytes.to_vec();
        for _ in 0..=random(4) {
            let at = random(bytes.len());
            match random(5) {
                _ if bytes.is_empty() => {}
                0 => bytes[at] = random(256) as u8,
                1 => bytes[at] ^= 1 << random(8),
                2 => drop(bytes.remove(at)),
                3 => bytes.extend_from_within(at..),
                _ => bytes.truncate(at),
            }
        }
        each(&bytes);
    }
}

#[test]
fn mutations_never_panic() {
    assert_eq!(pods(&message()), Some(4));
    assert_eq!(answer(&sent()).as_deref(), Ok(&message()[..]));
    mutations(&message(), 20_000, |bytes| {
        assert!(pods(bytes).is_none_or(|count| count <= bytes.len() / 6));
    });
    mutations(&block(), 20_000, headers);
    let mut whole = 0;
    mutations(&sent(), 3000, |bytes| whole += usize::from(answer(bytes).is_ok()));
    assert!((10..3000).contains(&whole), "{whole}");
}
