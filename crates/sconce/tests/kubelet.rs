//! `sconce monitor` beside a kubelet that says which pod has which GPU: its answers as bytes of HTTP/2, good and bad.

#[allow(dead_code)]
mod world;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use sconce_testkit::FakeNvml;
use world::World;

const GPU: &str = "GPU-00000000-0000-0000-0000-000000000000";
const SECOND: &str = "GPU-00000000-0000-0000-0000-000000000001";
const WORDS: [&str; 6] =
    ["monitor", "--once", "--interval", "100ms", "--kubelet-socket", "kubelet.sock"];

/// A field of protobuf with a length.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    let mut length = bytes.len();
    while length > 127 {
        out.push(length as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
    out.extend(bytes);
    out
}

fn pod(name: &str, resource: &str, ids: &[&str]) -> Vec<u8> {
    let ids: Vec<u8> = ids.iter().flat_map(|id| field(2, id.as_bytes())).collect();
    let devices = [field(1, resource.as_bytes()), ids].concat();
    let container = [field(1, b"main"), field(2, &devices)].concat();
    field(1, &[field(1, name.as_bytes()), field(2, b"ml"), field(3, &container)].concat())
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    out.extend([kind, flags]);
    out.extend(stream.to_be_bytes());
    out.extend(payload);
    out
}

fn settings() -> Vec<u8> {
    frame(4, 0, 0, &[0, 3, 0, 0, 0, 100])
}

fn prefixed(message: &[u8]) -> Vec<u8> {
    [&[0][..], &(message.len() as u32).to_be_bytes(), message].concat()
}

/// `:status 200` of the table, `content-type: application/grpc`.
fn head() -> Vec<u8> {
    let kind = [&[0x88, 0x0f, 0x10, 16][..], b"application/grpc"].concat();
    frame(1, 4, 1, &kind)
}

fn status(code: &str, message: &str) -> Vec<u8> {
    let mut block = vec![0, 11];
    block.extend(b"grpc-status");
    block.push(code.len() as u8);
    block.extend(code.bytes());
    block.extend([0, 12]);
    block.extend(b"grpc-message");
    block.push(message.len() as u8);
    block.extend(message.bytes());
    block
}

fn trailers() -> Vec<u8> {
    frame(1, 5, 1, &status("0", ""))
}

/// A whole answer, its message in frames of so many bytes.
fn answer(message: &[u8], size: usize) -> Vec<u8> {
    let mut out = [settings(), frame(4, 1, 0, &[]), head()].concat();
    for part in prefixed(message).chunks(size) {
        out.extend(frame(0, 0, 1, part));
    }
    out.extend(trailers());
    out
}

/// What a kubelet does with those who ask.
#[derive(Clone)]
struct Script {
    bytes: Vec<u8>,
    /// Bytes that are written at once.
    piece: usize,
    /// It leaves after them; else the connection stays open.
    ends: bool,
}

fn says(bytes: Vec<u8>) -> Script {
    Script { bytes, piece: usize::MAX, ends: false }
}

/// A kubelet on this socket for as long as the test; what it was told is in the answer.
fn kubelet(socket: &Path, script: &Arc<Mutex<Script>>) -> Arc<Mutex<Vec<u8>>> {
    let listener = UnixListener::bind(socket).unwrap();
    let (script, heard) = (Arc::clone(script), Arc::new(Mutex::new(Vec::new())));
    let ears = Arc::clone(&heard);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, script) = (stream.unwrap(), script.lock().unwrap().clone());
            let ears = Arc::clone(&ears);
            thread::spawn(move || {
                let mut bytes = [0; 4096];
                // The end of the request: DATA with an empty message, its stream ended.
                let request = frame(0, 1, 1, &[0; 5]);
                let mut all: Vec<u8> = Vec::new();
                while !all.ends_with(&request) {
                    let count = stream.read(&mut bytes).unwrap_or(0);
                    if count == 0 {
                        return;
                    }
                    all.extend(&bytes[..count]);
                }
                for piece in script.bytes.chunks(script.piece) {
                    if stream.write_all(piece).is_err() {
                        break;
                    }
                }
                loop {
                    if script.ends {
                        break;
                    }
                    let count = stream.read(&mut bytes).unwrap_or(0);
                    if count == 0 {
                        break;
                    }
                    all.extend(&bytes[..count]);
                }
                ears.lock().unwrap().extend(all);
            });
        }
    });
    heard
}

fn with(world: &World, fake: &FakeNvml, words: &[&str]) -> Command {
    let mut command = world.sconce(words);
    command.env("LD_LIBRARY_PATH", fake.folder()).env("FAKE_NVML_WORLD", fake.world());
    command
}

fn output(command: &mut Command) -> (i32, String, String) {
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

const MINE: &str = ",container=\"main\",namespace=\"ml\",pod=\"train-0\"} ";

/// The labels of dcgm-exporter, and the row to join on: of GPUs, of instances, of replicas.
#[test]
fn pods_on_metrics() {
    let world = World::new();
    let mig = "gpu.1.mig_mode 1\ngpu.1.mig_most 7\ngpu.1.mig.0.uuid MIG-a\ngpu.1.mig.0.gi 9\ngpu.1.mig.0.ci 0\n\
        gpu.1.mig.0.name NVIDIA H100 MIG 1g.10gb\ngpu.1.mig.0.memory_total 10000000000\ngpu.1.mig.0.memory_used 0\n";
    let fake = FakeNvml::new(&world.path("nvml"), &(FakeNvml::h100s(4) + mig));
    let third = "GPU-00000000-0000-0000-0000-000000000002";
    let (one, two) = (format!("{third}::0"), format!("{third}::1"));
    let message = [
        pod("train-0", "nvidia.com/gpu", &[GPU, "GPU-of-another-machine", "gke3", "3"]),
        pod("sliced", "nvidia.com/mig-1g.10gb", &["MIG-a"]),
        pod("shared-a", "nvidia.com/gpu.shared", &[&one]),
        pod("shared-b", "nvidia.com/gpu.shared", &[&two]),
        pod("other", "intel.com/gpu", &[GPU]),
        pod("evil\"\n\\", "nvidia.com/gpu", &["GPU-00000000-0000-0000-0000-000000000003::7"]),
    ];
    let script = Arc::new(Mutex::new(says(answer(&message.concat(), 16_384))));
    drop(kubelet(&world.path("kubelet.sock"), &script));
    let (code, out, err) = output(&mut with(&world, &fake, &WORDS));
    assert_eq!((code, err.as_str()), (0, ""));
    let line = |name: &str, of: &str| {
        let start = format!("{name}{{gpu=\"{of}\"");
        out.lines().filter(|line| line.starts_with(&start)).collect::<Vec<_>>().join("\n")
    };
    assert!(line("DCGM_FI_DEV_GPU_TEMP", "0").contains(MINE), "{out}");
    let used = line("DCGM_FI_DEV_FB_USED", "1");
    let (whole, sliced): (Vec<_>, Vec<_>) =
        used.lines().partition(|line| !line.contains("GPU_I_ID=\"9\""));
    assert!(whole.len() == 1 && !whole[0].contains("pod="), "{used}");
    assert!(sliced.len() == 1 && sliced[0].contains("pod=\"sliced\""), "{used}");
    // Several pods: the metric is of none alone.
    assert!(!line("DCGM_FI_DEV_GPU_TEMP", "2").contains("pod="), "{out}");
    assert!(line("DCGM_FI_DEV_GPU_TEMP", "3").contains("pod=\"evil\\\"\\n\\\\\""), "{out}");
    let of = |gpu: &str, pod: &str| {
        let rows = line("sconce_workload_info", gpu);
        let row =
            format!("runtime=\"kubernetes\",name=\"main\",pod=\"{pod}\",namespace=\"ml\"}} 1");
        rows.contains(&row)
    };
    for (gpu, pod) in [("0", "train-0"), ("1", "sliced"), ("2", "shared-a"), ("2", "shared-b")] {
        assert!(of(gpu, pod), "{gpu} {pod}\n{out}");
    }
    assert!(!out.contains("other") && !out.contains("another-machine"), "{out}");
    let (_, plain, _) = output(&mut with(&world, &fake, &["monitor", "--once"]));
    assert!(!plain.contains("pod="), "{plain}");
    let (code, _, err) = output(&mut with(&world, &fake, &[&WORDS[..5], &["none.sock"]].concat()));
    assert!(code == 0 && err.contains("no such socket: in a pod, mount its folder"), "{err}");
}

/// However the bytes of a good answer come, they are the same answer.
#[test]
fn frames_of_all_kinds() {
    let world = World::new();
    let fake = FakeNvml::new(&world.path("nvml"), &FakeNvml::h100s(1));
    let message = pod("train-0", "nvidia.com/gpu", &[GPU]);
    let whole = answer(&message, 16_384);
    let padded = {
        let body = [&[7][..], &prefixed(&message), &[0; 7]].concat();
        // HEADERS with padding and a priority.
        let block = [&[3][..], &[0, 0, 0, 0, 15], &[0x88], &[0; 3]].concat();
        [settings(), frame(1, 4 | 8 | 0x20, 1, &block), frame(0, 8, 1, &body), trailers()].concat()
    };
    let continued = {
        let block = status("0", "");
        let (a, b) = block.split_at(5);
        let ends = [frame(1, 1, 1, a), frame(9, 0, 1, &[]), frame(9, 4, 1, b)].concat();
        [settings(), head(), frame(0, 0, 1, &prefixed(&message)), ends].concat()
    };
    // `grpc-status` and `0` in Huffman's code, as grpc's own servers write them; a smaller table first.
    let coded = {
        let name = [0x9a, 0xca, 0xc8, 0xb2, 0x12, 0x34, 0xda, 0x8f];
        let block = [&[0x20, 0x40, 0x88][..], &name, &[0x81, 0x07]].concat();
        [settings(), head(), frame(0, 0, 1, &prefixed(&message)), frame(1, 5, 1, &block)].concat()
    };
    let ping = [settings(), frame(6, 0, 0, b"pingpong"), whole.clone()].concat();
    // One that lets calls end, and frames of kinds that nobody knows.
    let leaving = [frame(7, 0, 0, &[0x7f, 255, 255, 255, 0, 0, 0, 0]), frame(0xfa, 0, 0, b"?")];
    let many = {
        let mut all: Vec<u8> = Vec::new();
        for at in 0..10_000 {
            all.extend(pod(&format!("pod-{at}"), "nvidia.com/gpu", &[&format!("GPU-{at:0100}")]));
        }
        answer(&[all, message.clone()].concat(), 16_384)
    };
    let script = Arc::new(Mutex::new(says(Vec::new())));
    let heard = kubelet(&world.path("kubelet.sock"), &script);
    for (name, bytes, piece) in [
        ("whole", whole.clone(), usize::MAX),
        ("a byte at a time", whole.clone(), 1),
        ("frames of a byte", answer(&message, 1), usize::MAX),
        ("padded", padded, 3),
        ("continued", continued, usize::MAX),
        ("coded", coded, usize::MAX),
        ("ping", ping, usize::MAX),
        ("leaving", [leaving.concat(), whole].concat(), usize::MAX),
        ("many", many, usize::MAX),
    ] {
        *script.lock().unwrap() = Script { bytes, piece, ends: false };
        let (code, out, err) = output(&mut with(&world, &fake, &WORDS));
        assert_eq!((code, err.as_str()), (0, ""), "{name}");
        assert!(out.contains(MINE), "{name}\n{out}");
    }
    let heard = heard.lock().unwrap().clone();
    let has = |bytes: &[u8]| heard.windows(bytes.len()).any(|window| window == bytes);
    assert!(has(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n") && has(b"/v1.PodResourcesLister/List"));
    assert!(has(&frame(6, 1, 0, b"pingpong")) && has(&frame(4, 1, 0, &[])));
}

/// A kubelet that does not say: metrics without pods, a note with the cause, and nobody waits.
#[test]
fn a_kubelet_that_does_not_tell() {
    let world = World::new();
    let fake = FakeNvml::new(&world.path("nvml"), &FakeNvml::h100s(1));
    let message = pod("train-0", "nvidia.com/gpu", &[GPU]);
    let begun = [settings(), head()].concat();
    let then = |more: Vec<u8>| [begun.clone(), more].concat();
    let gone = [&[0, 0, 0, 0, 0, 0, 0, 11][..], b"too_many_\x1b[31m"].concat();
    let script = Arc::new(Mutex::new(says(Vec::new())));
    drop(kubelet(&world.path("kubelet.sock"), &script));
    for (bytes, ends, words) in [
        (
            then(frame(7, 0, 0, &gone)),
            false,
            "ends the connection: ENHANCE_YOUR_CALM: too_many_ [31m",
        ),
        (then(frame(3, 0, 1, &[0, 0, 0, 7])), false, "took the call back: REFUSED_STREAM"),
        (
            frame(1, 5, 1, &status("12", "unknown service")),
            false,
            "gRPC status 12 (unimplemented): unknown service (pods are listed by Kubernetes 1.20",
        ),
        (frame(1, 5, 1, &[0x8d]), false, "HTTP status 404"),
        (then(frame(0, 0, 1, &[0, 0x40, 0, 0, 0])), false, "a message of 1073741824 bytes"),
        (then(frame(0, 0, 1, &[1, 0, 0, 0, 9])), false, "a compressed message"),
        (
            then([&[0xff, 0xff, 0xff, 0, 0][..], &[0, 0, 0, 1]].concat()),
            false,
            "a frame of 16777215 bytes",
        ),
        (then(frame(0, 8, 1, &[9, 0])), false, "less than its padding"),
        (then(frame(0, 0, 3, &[0])), false, "a frame of a stream that was not asked for"),
        (
            then([frame(1, 0, 1, &[]), frame(6, 0, 0, &[0; 8])].concat()),
            false,
            "headers that are not continued",
        ),
        (then(frame(0, 1, 1, &prefixed(&message)[..20])), false, "the message is not whole"),
        (
            then([frame(0, 0, 1, &prefixed(&[0x0a, 0x7f])), trailers()].concat()),
            false,
            "it is no list of pods",
        ),
        (then(frame(9, 4, 1, &[])), false, "not asked for"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(), false, "it speaks HTTP/1"),
        (begun.clone(), true, "the connection ended before the answer did"),
        (then(frame(0xfa, 0, 0, &[]).repeat(70_000)), false, "more frames than are read"),
        (Vec::new(), false, "no answer within 2 s"),
    ] {
        *script.lock().unwrap() = Script { bytes, piece: usize::MAX, ends };
        let began = Instant::now();
        let (code, out, err) = output(&mut with(&world, &fake, &WORDS));
        assert!(code == 0 && out.contains("DCGM_FI_DEV_GPU_TEMP"), "{words}\n{err}");
        let start = "note: the kubelet at kubelet.sock does not name the pods: ";
        assert!(err.starts_with(start) && err.contains(words), "{words}\n{err}");
        assert!(err.lines().count() == 1 && !err.contains('\u{1b}'), "{words}\n{err}");
        assert!(!out.contains("pod=") && began.elapsed() < Duration::from_secs(15), "{words}");
    }
}

/// A kubelet that hangs holds up no sample and no scrape; it is said once, and asked again.
#[test]
fn a_kubelet_that_hangs_and_comes_back() {
    let world = World::new();
    let fake = FakeNvml::new(&world.path("nvml"), &FakeNvml::h100s(2));
    let script = Arc::new(Mutex::new(says(Vec::new())));
    drop(kubelet(&world.path("kubelet.sock"), &script));
    let words = ["monitor", "--listen", "127.0.0.1:0", "--interval", "100ms", "--no-history"];
    let words = [&words[..], &WORDS[4..]].concat();
    let mut command = with(&world, &fake, &words);
    command.stdout(Stdio::piped()).stderr(fs::File::create(world.path("said")).unwrap());
    let mut child = command.spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    let host = line.trim().trim_start_matches("http://").trim_end_matches("/metrics").to_owned();
    let scrape = || {
        let began = Instant::now();
        let mut stream = TcpStream::connect(&host).unwrap();
        stream
            .write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            .unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        assert!(began.elapsed() < Duration::from_millis(1500), "a scrape waits");
        text
    };
    let until = |holds: &dyn Fn(&str) -> bool| {
        let end = Instant::now() + Duration::from_secs(40);
        loop {
            let text = scrape();
            if holds(&text) {
                break;
            }
            assert!(Instant::now() < end, "{text}");
            thread::sleep(Duration::from_millis(100));
        }
    };
    let said = || fs::read_to_string(world.path("said")).unwrap();
    until(&|text| text.contains("sconce_gpu_up") && said().contains("no answer within 2 s"));
    let samples = |text: &str| {
        let line = text.lines().find(|line| line.starts_with("sconce_monitor_samples_total"));
        line.and_then(|line| line.split(' ').nth(1)?.parse::<u64>().ok()).unwrap_or(0)
    };
    assert!(samples(&scrape()) > 10, "samples waited for the kubelet");
    *script.lock().unwrap() = says(answer(&pod("train-0", "nvidia.com/gpu", &[SECOND]), 100));
    until(&|text| text.contains(MINE));
    // Another process: asked at once, not after 15 seconds, and the new answer counts.
    *script.lock().unwrap() = says(answer(&pod("train-1", "nvidia.com/gpu", &[SECOND]), 100));
    fake.becomes(&(FakeNvml::h100s(2) + &format!("gpu.1.processes {}:1000\n", std::process::id())));
    let began = Instant::now();
    until(&|text| text.contains("pod=\"train-1\""));
    assert!(began.elapsed() < Duration::from_secs(12), "{:?}", began.elapsed());
    drop(child.kill());
    drop(child.wait());
    assert_eq!(said().matches("does not name the pods").count(), 1, "{}", said());
}

/// The pod of a process by its control group and the folder of its logs, where there is no kubelet to ask.
#[test]
fn pods_by_their_logs() {
    let world = World::new();
    let id = std::process::id();
    let processes = format!("gpu.0.processes {id}:1000\n");
    let fake = FakeNvml::new(&world.path("nvml"), &(FakeNvml::h100s(1) + &processes));
    let uid = "0123abcd-0123-4567-89ab-0123456789ab";
    let container = "a".repeat(64);
    let group = format!("0::/kubepods/burstable/pod{uid}/{container}\n");
    fs::write(world.path("cgroup"), group).unwrap();
    let script = format!(
        "mount -t tmpfs none /var/log && mkdir -p '/var/log/pods/ml_tr\"ain_{uid}' && mount --bind {} /proc/{id}/cgroup && exec \"$@\"",
        world.path("cgroup").display()
    );
    let inner = with(&world, &fake, &["monitor", "--once", "--interval", "100ms"]);
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", &script, "sh"]);
    command.arg(inner.get_program()).args(inner.get_args()).current_dir(world.path("."));
    command.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let (code, out, err) = output(&mut command);
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    let row = format!(
        "runtime=\"kubernetes\",container=\"{container}\",pod_uid=\"{uid}\",pod=\"tr\\\"ain\",namespace=\"ml\"}} 1\n"
    );
    assert!(out.contains(&row), "{out}");
    assert!(out.contains(",namespace=\"ml\",pod=\"tr\\\"ain\"} 31\n"), "{out}");
}

/// A socket that is root's is said once, with what to do.
#[test]
fn a_socket_without_rights() {
    let world = World::of_nobody();
    let fake = FakeNvml::new(&world.path("nvml"), &FakeNvml::h100s(1));
    fs::create_dir(world.path("root")).unwrap();
    let script = Arc::new(Mutex::new(says(Vec::new())));
    drop(kubelet(&world.path("root/kubelet.sock"), &script));
    fs::set_permissions(world.path("root"), fs::Permissions::from_mode(0o700)).unwrap();
    let words = [&WORDS[..5], &["root/kubelet.sock"]].concat();
    let (code, out, err) = output(&mut with(&world, &fake, &words));
    assert!(code == 0 && out.contains("DCGM_FI_DEV_GPU_TEMP"), "{err}");
    assert!(err.contains("run the monitor as root, or as a DaemonSet"), "{err}");
    assert_eq!(err.lines().count(), 1, "{err}");
}
