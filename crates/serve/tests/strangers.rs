//! Requests by chance, from good ones with bytes changed: read or refused, never a panic, and never a name
//! that could be a path.

use sconce_serve::{Request, Route, route};

const SEEDS: [&str; 6] = [
    "GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n",
    "GET /v2/lab/demo/manifests/1.0 HTTP/1.1\r\nHost: x\r\nAccept: */*\r\n\r\n",
    "HEAD /v2/a/blobs/sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824 HTTP/1.1\r\nHost: x\r\nRange: bytes=3-7\r\n\r\n",
    "GET /v2/a/tags/list?n=5&last=%2e%2e HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    "GET /v2/_catalog?n=99999999999999999999 HTTP/1.0\r\n\r\n",
    "GET /locks/torch:2.15.0 HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello",
];
/// Bytes that mean something somewhere.
const ALPHABET: &[u8] = b"/.:%\r\n\0 \t-_aZ09?&=*\xff\x80,;#@\\";

#[test]
fn requests_by_chance() {
    // xorshift: the same requests in each run.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut chance = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    let (mut read, mut names) = (0, 0);
    for _ in 0..300_000 {
        let mut bytes = SEEDS[chance(SEEDS.len())].as_bytes().to_vec();
        for _ in 0..=chance(6) {
            let at = chance(bytes.len());
            match chance(4) {
                0 => bytes[at] = ALPHABET[chance(ALPHABET.len())],
                1 => bytes.insert(at, ALPHABET[chance(ALPHABET.len())]),
                2 => drop(bytes.remove(at)),
                _ => {
                    let piece = bytes[at..bytes.len().min(at + chance(20))].to_vec();
                    bytes.splice(at..at, piece);
                }
            }
        }
        let Ok(Some((request, length))) = Request::parse(&bytes) else { continue };
        assert!(length <= bytes.len() && request.path.starts_with('/'));
        read += 1;
        drop(request.parameter("n"));
        if let Ok(Route::Tags(name) | Route::Manifest(name, _) | Route::Lock(name)) =
            route(&request.path)
        {
            names += 1;
            let plain = |c: char| c.is_ascii_alphanumeric() || "/._-:".contains(c);
            assert!(name.chars().all(plain), "{name}");
            assert!(
                name.split('/').all(|part| !part.is_empty() && !part.starts_with('.')),
                "{name}"
            );
        }
    }
    assert!(read > 50_000 && names > 5_000, "{read} were read, {names} had names");
}
