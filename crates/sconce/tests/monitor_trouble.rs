//! `sconce monitor` and `sconce top` where something is missing: disks, machines, GPUs, what a recording does not have.

#[allow(dead_code)]
mod world;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use sconce_testkit::FakeNvml;
use world::World;

/// A recording of these samples, a second apart.
fn recording(path: &Path, samples: &[String]) {
    let mut lines = "{\"sconce_recording\":1,\"host\":\"a\"}\n".to_owned();
    for (second, sample) in samples.iter().enumerate() {
        lines += &format!("{{\"at_ms\":{},{sample}}}\n", 1_700_000_000_000 + second * 1000);
    }
    compressed(path, &lines);
}

fn compressed(path: &Path, lines: &str) {
    let mut gzip = Command::new("gzip");
    let mut gzip =
        gzip.stdin(Stdio::piped()).stdout(fs::File::create(path).unwrap()).spawn().unwrap();
    gzip.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    assert!(gzip.wait().unwrap().success());
}

fn gpus(count: usize) -> String {
    let one = |index| {
        format!(r#"{{"index":{index},"uuid":"GPU-{index}","values":{{"power_watts":70}}}}"#)
    };
    format!(r#""gpus":[{}]"#, (0..count).map(one).collect::<Vec<_>>().join(","))
}

/// A disk that is full gets no file for each sample, and keeps what it has.
#[test]
fn a_full_disk() {
    let world = World::new();
    recording(&world.path("r.gz"), &vec![gpus(2); 60]);
    fs::create_dir(world.path("history")).unwrap();
    let script = "mount -t tmpfs -o size=64k none history && mkdir history/h && echo old >history/h/sample-1600000000000.rows && \
        { head -c 1m /dev/zero >history/fill; \
        timeout 8 \"$0\" monitor --replay r.gz --listen 127.0.0.1:0 --history history/h --interval 100ms >out 2>err; \
        ls history/h; cat history/h/sample-1600000000000.rows; }";
    let mut command = Command::new("unshare");
    command.current_dir(world.path(".")).args([
        "--user",
        "--map-root-user",
        "--mount",
        "sh",
        "-c",
        script,
    ]);
    let output = command.arg(env!("CARGO_BIN_EXE_sconce")).output().unwrap();
    let listed = String::from_utf8_lossy(&output.stdout);
    let said = fs::read_to_string(world.path("err")).unwrap_or_default();
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("the history can't be written"), "{said}{err}{listed}");
    let rows = listed.lines().filter(|line| line.ends_with(".rows")).count();
    assert!(rows == 1 && listed.ends_with("old\n"), "{listed}{said}");
}

/// A recording names its file where it can't be written, and one of nothing is not left there.
#[test]
fn a_recording_on_a_full_disk() {
    let world = World::new();
    let fake = FakeNvml::new(&world.path("nvml"), &FakeNvml::h100s(8));
    fs::create_dir(world.path("disk")).unwrap();
    let script = "mount -t tmpfs -o size=64k none disk && head -c 1m /dev/zero >disk/fill; \
        \"$0\" monitor --record disk/r.gz --for 2s --interval 100ms 2>first; echo \"code $?\"; ls disk; \
        head -c 60k /dev/zero >disk/fill; \
        \"$0\" monitor --record disk/r.gz --for 20s --interval 50ms 2>second; echo \"code $?\"; \
        rm disk/r.gz; \
        \"$0\" monitor --listen 127.0.0.1:0 --no-history --record disk/r.gz --for 10s --interval 50ms >/dev/null 2>third; echo \"code $?\"; \
        \"$0\" monitor rules --replay disk/r.gz --json";
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount", "sh", "-c", script]);
    command.arg(env!("CARGO_BIN_EXE_sconce")).current_dir(world.path("."));
    command.env("LD_LIBRARY_PATH", fake.folder()).env("FAKE_NVML_WORLD", fake.world());
    let output = command.output().unwrap();
    let out = String::from_utf8_lossy(&output.stdout);
    let [first, second, third] = ["first", "second", "third"]
        .map(|name| fs::read_to_string(world.path(name)).unwrap_or_default());
    let why = "disk/r.gz: No space left on device";
    assert!(
        first.contains(why) && first.contains("nothing was recorded\n  hint: "),
        "{first}{out}"
    );
    // Who serves metrics beside goes on, tells it at once, and ends with it.
    assert!(out.starts_with("code 7\nfill\ncode 7\ncode 7\n"), "{out}{first}{second}{third}");
    assert_eq!(third.matches(why).count(), 1, "{third}");
    let hint = "disk/r.gz` judges what was recorded until then";
    assert!(second.contains(why) && second.contains(hint), "{second}{out}");
    let judged: serde_json::Value =
        serde_json::from_str(out.splitn(5, '\n').last().unwrap()).unwrap();
    assert!(judged["torn"] == true && judged["samples"].as_u64() > Some(3), "{judged}");
}

/// What was not seen was not judged.
#[test]
fn a_recording_of_nothing() {
    let world = World::new();
    let judged = |samples: &[String]| {
        recording(&world.path("r.gz"), samples);
        let (code, out, err) = world.says(&["monitor", "rules", "--replay", "r.gz"]);
        assert_eq!(code, 0, "{err}");
        out
    };
    let fine = "nothing was wrong";
    assert!(judged(&vec![gpus(2); 20]).contains(fine));
    let silent = r#""silence":"nvmlInit: Driver Not Loaded (9)""#.to_owned();
    let out = judged(&vec![silent.clone(); 20]);
    let why = "can't tell what was in 20 of 20 samples: NVML did not answer: nvmlInit: Driver Not Loaded (9)";
    assert!(out.contains(why) && !out.contains(fine), "{out}");
    let out = judged(&[vec![gpus(2); 10], vec![silent; 10]].concat());
    assert!(out.contains("in 10 of 20 samples") && !out.contains("gpu-lost"), "{out}");
    let out = judged(&vec![gpus(0); 20]);
    assert!(out.contains("can't tell: no sample has a GPU") && !out.contains(fine), "{out}");
    let out = judged(&[vec![gpus(2); 10], vec![gpus(1); 10]].concat());
    assert!(out.contains("critical: gpu-lost on GPU 1") && out.contains("listed no more"), "{out}");
}

/// A line that is no sample is told with its number: it is not the recording's end, and what was behind it was not judged.
#[test]
fn a_bad_line_in_a_recording() {
    let world = World::new();
    let bad = "\"gpus\":7".to_owned();
    recording(&world.path("r.gz"), &[vec![gpus(2); 10], vec![bad], vec![gpus(2); 10]].concat());
    let (code, out, err) = world.says(&["monitor", "rules", "--replay", "r.gz"]);
    assert!(
        code == 3 && out.contains("10 samples") && err.contains("line 12 of the"),
        "{out}{err}"
    );
    assert!(!out.contains("break off") && !out.contains("nothing was wrong"), "{out}");
    let (code, out, _) = world.says(&["monitor", "rules", "--replay", "r.gz", "--json"]);
    let judged: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert!(code == 3 && judged["bad_line"] == 12 && judged["torn"] == false, "{judged}");
    for words in [&["--once"][..], &["--textfile", "out.prom"]] {
        let (code, _, err) = world.says(&[&["monitor", "--replay", "r.gz"], words].concat());
        assert!(code == 3 && err.contains("line 12 of the recording"), "{words:?}: {code} {err}");
    }
}

/// A recording of so many samples, so many seconds apart, of a rank that waits in NCCL.
fn hang(path: &Path, count: u64, apart: u64, more: &str) {
    let values = r#""graphics_active_ratio":1,"sm_active_ratio":0.18,"tensor_active_ratio":0,"dram_active_ratio":0,"power_watts":125,"power_limit_watts":700"#;
    let mut lines = "{\"sconce_recording\":1,\"host\":\"node7\"}\n".to_owned();
    for at in 0..count {
        let at = 1_700_000_000_000 + at * apart * 1000;
        lines += &format!(
            "{{\"at_ms\":{at},\"gpus\":[{{\"uuid\":\"GPU-1\"{more},\"values\":{{{values}}}}}]}}\n"
        );
    }
    compressed(path, &lines);
}

/// What samples are too far apart for is not "nothing wrong", and an interval that is too long says so at the start.
#[test]
fn samples_that_are_far_apart() {
    let world = World::new();
    let judged = |apart: u64, more: &str| {
        hang(&world.path("r.gz"), 40, apart, more);
        let (code, out, err) = world.says(&["monitor", "rules", "--replay", "r.gz"]);
        assert_eq!(code, 0, "{err}");
        out
    };
    for apart in [1, 6, 30, 60] {
        let out = judged(apart.max(4), "");
        assert!(out.contains("critical: nccl-hang") && !out.contains("can't tell"), "{out}");
        assert!(out.contains("\n  hint: look at the ranks"), "{out}");
    }
    let out = judged(300, "");
    assert!(out.contains("samples are 5 min apart") && out.contains("nccl-hang"), "{out}");
    assert!(!out.contains("critical") && out.contains("by the other rules"), "{out}");
    // Loads of instances are judged by no rule.
    let out = judged(1, ",\"mig\":true");
    assert!(out.contains("can't tell what loads instances of MIG had"), "{out}");

    let noted = |interval: &str| world.says(&["monitor", "--print-unit", "--interval", interval]).2;
    assert!(!noted("1m").contains("apart"), "{}", noted("1m"));
    let said = noted("5m");
    assert!(said.contains("samples are 5 min apart") && said.contains("nccl-hang"), "{said}");
}

/// A replay is of the machine that was recorded.
#[test]
fn the_host_of_a_recording() {
    let world = World::new();
    hang(&world.path("r.gz"), 2, 1, "");
    let (code, out, err) = world.says(&["monitor", "--replay", "r.gz", "--once"]);
    assert!(code == 0 && out.contains("hostname=\"node7\""), "{out}{err}");
}

/// A server that is no monitor is said to be none, whatever JSON it answers.
#[test]
fn hosts_that_are_no_monitor() {
    let world = World::new();
    let sample = format!("{{\"at_ms\":1,{}}}", gpus(1));
    for body in [
        "{}".to_owned(),
        "[]".to_owned(),
        "<html></html>".to_owned(),
        r#"{"status":"success","data":{"result":[]}}"#.to_owned(),
        r#"{"host":"a","age_ms":5,"sample":{},"findings":[]}"#.to_owned(),
        format!(r#"{{"sample":{sample},"findings":[]}}"#),
        format!(r#"{{"host":"a","age_ms":5,"sample":{sample}}}"#),
        r#"{"host":"a","age_ms":5,"findings":[]}"#.to_owned(),
    ] {
        let address = server(answer(&body), Vec::new());
        for words in [&["top", "--once", &address][..], &["top", "--json", &address]] {
            let (code, out, err) = world.says(words);
            let why = format!("{address}: the host answers, but is no `sconce monitor`: ");
            assert!(
                code == 8 && err.contains(&why) && err.contains("hint: "),
                "{body}: {out}{err}"
            );
            assert!(!out.contains("GPU"), "{body}: {out}");
        }
    }
    let gone = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";
    let address = server(gone.to_vec(), Vec::new());
    let (code, _, err) = world.says(&["top", "--once", &address]);
    assert!(code == 8 && err.contains("answers, but is no `sconce monitor`"), "{code} {err}");
    // Where a redirect leads nobody has named.
    let body = format!(r#"{{"host":"a","age_ms":5,"sample":{sample},"findings":[]}}"#);
    let other = server(answer(&body), Vec::new());
    let head = format!(
        "HTTP/1.1 302 Found\r\nLocation: http://{other}/api/now\r\nContent-Length: 0\r\n\r\n"
    );
    let address = server(head.into_bytes(), Vec::new());
    let (code, out, err) = world.says(&["top", "--once", &address]);
    let why = format!("answered 302: it redirects to http://{other}/api/now");
    assert!(code == 8 && err.contains(&why) && !out.contains("70 W"), "{code} {out}{err}");
    for (word, says) in [
        ("127.0.0.1:99999", "`99999` is no port"),
        ("", "one of them is empty"),
        ("::1:9500", "`::1:9500` has no brackets"),
    ] {
        let (code, _, err) = world.says(&["top", "--once", word]);
        assert!(code == 2 && err.contains(says) && err.contains("hint: "), "{word}: {code} {err}");
    }
}

/// Each machine that does not answer is named.
#[test]
fn machines_that_do_not_answer() {
    let world = World::new();
    let (code, _, err) = world.says(&["top", "--once", "127.0.0.1:1", "127.0.0.1:2"]);
    assert!(code != 0 && err.contains("127.0.0.1:1:") && err.contains("127.0.0.1:2:"), "{err}");
}

/// A web page that gives a name of its own this machine's address reads nothing (DNS rebinding); who listens for others is asked by
/// any name: a Prometheus's, a service's in Kubernetes, a proxy's.
#[test]
fn names_of_the_host() {
    let world = World::new();
    recording(&world.path("r.gz"), &vec![gpus(1); 60]);
    let own = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let asked = |words: &[&str], requests: &[(&str, &str, &str)]| {
        let mut command = world.sconce(&[&["monitor", "--replay", "r.gz"], words].concat());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let port = line.trim().trim_end_matches("/metrics").rsplit(':').next().unwrap();
        for (host, path, expected) in requests {
            let mut stream = TcpStream::connect(format!("127.0.0.1:{port}")).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            let head = format!("GET {path} HTTP/1.1\r\nConnection: close\r\n{host}\r\n");
            stream.write_all(head.as_bytes()).unwrap();
            let mut text = String::new();
            let _ = stream.read_to_string(&mut text);
            let status = text.split(' ').nth(1).unwrap_or_default();
            assert_eq!(status, *expected, "{words:?} {host:?}: {text}");
            let hint = "`sconce monitor --host-name evil.example` makes it";
            assert!(status != "421" || text.contains(hint) || !host.contains(" evil"), "{text}");
            assert!(status == "200" || !text.contains("sconce_"), "{text}");
        }
        drop(child.kill());
        drop(child.wait());
    };
    let own = format!("Host: {own}:9400\r\n");
    let here: Vec<_> =
        ["Host: localhost:9400\r\n", "Host: 127.0.0.1\r\n", "Host: [::1]:1\r\n", &own, ""]
            .map(|host| (host, "/metrics", "200"))
            .into();
    let evil = "Host: evil.example:9400\r\n";
    let refused: Vec<_> = ["/", "/metrics", "/api/now", "/api/live", "/health"]
        .map(|path| (evil, path, "421"))
        .into();
    let odd =
        [("Host: a b\r\n", "/metrics", "400"), ("Host: localhost.evil.example\r\n", "/", "421")];
    let loopback = ["--listen", "127.0.0.1:0"];
    asked(&loopback, &[&here[..], &refused, &odd].concat());
    let named =
        [("Host: gpus.example\r\n", "/metrics", "200"), ("Host: a.gpus.example\r\n", "/", "421")];
    let named_too = [&loopback[..], &["--host-name", "gpus.example"]].concat();
    asked(&named_too, &[&here[..], &refused, &named].concat());
    // A name at another address is as good as any, unless there are names.
    let any = [(evil, "/metrics", "200"), ("Host: monitor.gpu.svc:9400\r\n", "/metrics", "200")];
    asked(&["--listen", ":0"], &[&here[..], &any].concat());
    asked(
        &["--listen", ":0", "--host-name", "gpus.example"],
        &[&here[..], &refused, &named].concat(),
    );
}

/// A server on loopback that takes the head of one request after the other and answers with these bytes, then goes on with `more`
/// every 100 ms for a minute at most.
fn server(answer: Vec<u8>, more: Vec<u8>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let (answer, more) = (answer.clone(), more.clone());
            thread::spawn(move || {
                let _ = stream.read(&mut [0; 4096]);
                let mut alive = stream.write_all(&answer).is_ok() && !more.is_empty();
                let end = Instant::now() + Duration::from_secs(60);
                while alive && Instant::now() < end {
                    thread::sleep(Duration::from_millis(100));
                    alive = stream.write_all(&more).is_ok();
                }
            });
        }
    });
    address
}

/// What a monitor says of now.
fn answer(body: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
        .into_bytes()
}

/// One whose bytes drip holds up nobody, and the others are shown.
#[test]
fn machines_that_drip() {
    let world = World::new();
    let good = server(
        answer(&format!(
            r#"{{"host":"a","age_ms":5,"sample":{{"at_ms":1,{}}},"findings":[]}}"#,
            gpus(2)
        )),
        Vec::new(),
    );
    // More than any rule about slow connections asks for, and no end in sight.
    let body =
        server(b"HTTP/1.1 200 OK\r\nContent-Length: 30000000\r\n\r\n".to_vec(), vec![b' '; 2048]);
    let head = server(b"HTTP/1.1 200 OK\r\n".to_vec(), b"X".to_vec());
    let begun = Instant::now();
    let (code, out, err) = world.says(&["top", "--once", &body, &good, &head]);
    assert!(begun.elapsed() < Duration::from_secs(25), "{:?}", begun.elapsed());
    assert!(out.contains(&good) && out.contains("70 W"), "{out}{err}");
    assert!(!out.contains(&body) && !err.contains(&good), "{out}{err}");
    assert!(err.contains(&format!("{body}: ")) && err.contains("within 10 s"), "{err}");
    assert!(code == 8 && err.contains(&format!("{head}: ")), "{code} {err}");
}

/// Addresses of IPv6 as they stand in addresses of pages.
#[test]
fn machines_by_ipv6() {
    let world = World::new();
    let Ok(listener) = TcpListener::bind("[::1]:0") else { return };
    let address = listener.local_addr().unwrap().to_string();
    let body = answer(&format!(
        r#"{{"host":"a","age_ms":5,"sample":{{"at_ms":1,{}}},"findings":[]}}"#,
        gpus(1)
    ));
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(&body);
        }
    });
    for word in [address.clone(), format!("http://{address}/")] {
        let (code, out, err) = world.says(&["top", "--once", &word]);
        assert!(code == 0 && out.contains(&address) && out.contains("70 W"), "{word}: {out}{err}");
    }
    let (code, _, err) = world.says(&["top", "--once", "::1"]);
    assert!(
        code == 2 && err.contains("hint: ") && err.contains("`sconce top '[::1]:9400'`"),
        "{err}"
    );
}

/// A unit starts what its user can reach.
#[test]
fn a_unit_of_a_program_out_of_reach() {
    let world = World::new();
    sconce_testkit::copy_program(env!("CARGO_BIN_EXE_sconce").as_ref(), &world.path("sconce"));
    let output =
        Command::new(world.path("sconce")).args(["monitor", "--print-unit"]).output().unwrap();
    let unit = String::from_utf8_lossy(&output.stdout);
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(unit.contains("ExecStart=\"/usr/local/bin/sconce\" monitor"), "{unit}");
    // What it takes along, and what a service without privileges could not use.
    let words =
        ["monitor", "--print-unit", "--listen", ":9401", "--interval", "5s", "--names", "both"];
    let (code, unit, _) = world.says(&words);
    let start = " monitor --listen [::]:9401 --interval 5000ms --names both\n";
    assert!(code == 0 && unit.contains(start), "{unit}");
    for words in
        [["--history", "h"], ["--textfile", "x.prom"], ["--record", "r.gz"], ["--for", "3s"]]
    {
        let (code, _, err) = world.says(&[&["monitor", "--print-unit"], &words[..]].concat());
        assert!(code == 2 && err.contains(words[0]), "{code} {err}");
    }
    assert!(err.contains("sudo install -m 755") && err.contains("/usr/local/bin/sconce"), "{err}");
}
