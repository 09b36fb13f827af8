//! `sconce monitor` and `sconce top` as a user starts them, beside a fake NVML that answers what a world file says.

#[allow(dead_code)]
mod world;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use sconce_testkit::FakeNvml;
use world::World;

/// A monitor that ends with the test.
struct Monitor {
    child: Child,
    host: String,
}

impl Monitor {
    fn start(world: &World, fake: &FakeNvml, words: &[&str]) -> Self {
        Self::every("100ms", world, fake, words)
    }

    fn every(interval: &str, world: &World, fake: &FakeNvml, words: &[&str]) -> Self {
        let mut words = words.to_vec();
        words.splice(0..0, ["monitor", "--listen", "127.0.0.1:0", "--interval", interval]);
        let mut command = with(world, fake, &words);
        command.stdout(Stdio::piped()).stderr(fs::File::create(world.path("said")).unwrap());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let host =
            line.trim().strip_prefix("http://").and_then(|line| line.strip_suffix("/metrics"));
        Self { host: host.expect("its address").to_owned(), child }
    }

    fn ask(&self, request: &str) -> String {
        ask(&self.host, request)
    }

    fn get(&self, path: &str) -> String {
        self.ask(&format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"))
    }

    /// The metrics, once they hold that.
    fn until(&self, path: &str, holds: impl Fn(&str) -> bool) -> String {
        let end = Instant::now() + Duration::from_secs(30);
        loop {
            let text = self.get(path);
            if holds(&text) {
                return text;
            }
            assert!(Instant::now() < end, "never came; the last was\n{text}");
            thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn ask(host: &str, request: &str) -> String {
    let mut stream = TcpStream::connect(host).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

fn with(world: &World, fake: &FakeNvml, words: &[&str]) -> Command {
    let mut command = world.sconce(words);
    command.env("LD_LIBRARY_PATH", fake.folder()).env("FAKE_NVML_WORLD", fake.world());
    command
}

fn says(world: &World, fake: &FakeNvml, words: &[&str]) -> (i32, String, String) {
    let output = with(world, fake, words).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

fn fake(world: &World, text: &str) -> FakeNvml {
    FakeNvml::new(&world.path("nvml"), text)
}

/// The line of a metric of GPU 0, its labels left out.
fn value<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let of = |line: &&str| line.starts_with(&format!("{name}{{gpu=\"0\""));
    text.lines().find(of).and_then(|line| line.rsplit_once(' ')).map(|(_, value)| value)
}

#[test]
fn metrics_as_dcgm_exporter_has_them() {
    let world = World::new();
    let busy = "gpu.0.util 100\ngpu.0.power_mw 699000\ngpu.0.sm_mhz 1380\ngpu.0.memory_used 1073741824\n\
        gpu.0.gpm.5 93.8\ngpu.0.energy_mj 5000\n";
    let fake = fake(&world, &(FakeNvml::h100s(2) + busy));
    let (code, out, err) = says(&world, &fake, &["monitor", "--once"]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.contains(
        "# HELP DCGM_FI_DEV_GPU_TEMP GPU temperature (in C).\n# TYPE DCGM_FI_DEV_GPU_TEMP gauge\n"
    ));
    let host = String::from_utf8(Command::new("uname").arg("-n").output().unwrap().stdout).unwrap();
    let line = format!(
        "DCGM_FI_DEV_GPU_TEMP{{gpu=\"0\",UUID=\"GPU-00000000-0000-0000-0000-000000000000\",pci_bus_id=\"00000000:18:00.0\",\
         device=\"nvidia0\",modelName=\"NVIDIA H100 80GB HBM3\",hostname=\"{}\",DCGM_FI_DRIVER_VERSION=\"580.159.04\"}} 31\n",
        host.trim()
    );
    assert!(out.contains(&line), "{out}");
    for (name, expected) in [
        ("DCGM_FI_DEV_GPU_UTIL", "100"),
        ("DCGM_FI_DEV_SM_CLOCK", "1380"),
        ("DCGM_FI_DEV_POWER_USAGE", "699"),
        ("DCGM_FI_DEV_FB_USED", "1024"),
        ("DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION", "5000"),
        ("DCGM_FI_DEV_XID_ERRORS", "0"),
        ("DCGM_FI_PROF_PIPE_TENSOR_ACTIVE", "0.938"),
        ("sconce_gpu_energy_joules_total", "5"),
        ("sconce_gpu_memory_used_bytes", "1073741824"),
        ("sconce_gpu_up", "1"),
    ] {
        assert_eq!(value(&out, name), Some(expected), "{name}\n{out}");
    }
    let (_, new, _) = says(&world, &fake, &["monitor", "--once", "--names", "dcgm-4.9"]);
    assert_eq!(value(&new, "DCGM_FI_DEV_GPU_UTIL_RATIO"), Some("1"));
    assert!(value(&new, "DCGM_FI_DEV_GPU_UTIL").is_none() && new.contains("SYSTEM_DRIVER_VERSION"));
    let (_, both, _) = says(&world, &fake, &["monitor", "--once", "--names", "both"]);
    assert_eq!(value(&both, "DCGM_FI_DEV_GPU_UTIL"), Some("100"));
    assert_eq!(value(&both, "DCGM_FI_DEV_BOARD_POWER_WATTS"), Some("699"));
    let (_, none, _) = says(&world, &fake, &["monitor", "--once", "--names", "none"]);
    assert!(!none.contains("DCGM_") && none.contains("sconce_gpu_power_watts"));
}

/// The kernel's files as those of an adapter, in a mount namespace of the monitor's own.
#[test]
fn ports_of_infiniband() {
    let world = World::new();
    let fake = fake(&world, &FakeNvml::h100s(1));
    let port = world.path("class/infiniband/mlx5_0/ports/1");
    fs::create_dir_all(port.join("counters")).unwrap();
    for (name, text) in [
        ("state", "4: ACTIVE"),
        ("phys_state", "5: LinkUp"),
        ("rate", "400 Gb/sec (4X NDR)"),
        ("link_layer", "InfiniBand"),
        ("counters/port_xmit_data", "250"),
        ("counters/link_downed", "1"),
    ] {
        fs::write(port.join(name), format!("{text}\n")).unwrap();
    }
    let script =
        format!("mount --bind {} /sys/class && exec \"$@\"", world.path("class").display());
    let within = |words: &[&str]| {
        let inner = with(&world, &fake, words);
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c", &script, "sh"]);
        command.arg(inner.get_program()).args(inner.get_args());
        command.current_dir(world.path("."));
        command.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let output = command.output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    let (code, out, err) = within(&["monitor", "--once"]);
    assert_eq!((code, err.as_str()), (Some(0), ""), "{out}");
    for line in [
        "sconce_infiniband_port_active{device=\"mlx5_0\",port=\"1\"} 1\n",
        "sconce_infiniband_rate_bytes_per_second{device=\"mlx5_0\",port=\"1\"} 50000000000\n",
        "sconce_infiniband_transmit_bytes_total{device=\"mlx5_0\",port=\"1\"} 1000\n",
        "sconce_infiniband_port_info{device=\"mlx5_0\",port=\"1\",link_layer=\"InfiniBand\",state=\"ACTIVE\",physical_state=\"LinkUp\"} 1\n",
    ] {
        assert!(out.contains(line), "{line}{out}");
    }
    fs::write(port.join("state"), "1: DOWN\n").unwrap();
    let words = ["monitor", "--record", "r.gz", "--for", "3s", "--hold", "1s"];
    let (code, _, err) = within(&words);
    assert!(code == Some(0) && err.contains("critical: infiniband-down: "), "{err}");
    assert!(err.contains("mlx5_0 port 1: DOWN (LinkUp)"), "{err}");
    let (_, out, _) = says(&world, &fake, &["monitor", "--replay", "r.gz", "--once"]);
    assert!(
        out.contains("sconce_infiniband_port_active{device=\"mlx5_0\",port=\"1\"} 0\n"),
        "{out}"
    );
}

/// A site's own file, as it was written for dcgm-exporter.
#[test]
fn a_file_of_counters_as_dcgm_exporter_takes_it() {
    let world = World::new();
    let fake = fake(&world, &FakeNvml::h100s(1));
    let text = "# ours\nDCGM_FI_DEV_GPU_TEMP, counter, Heat\nDCGM_FI_DEV_BOARD_POWER_WATTS, gauge, Draw\n\
        DCGM_FI_DRIVER_VERSION, label, Driver\nDCGM_FI_DEV_VGPU_LICENSE_STATUS, gauge, vGPU\n";
    fs::write(world.path("ours.csv"), text).unwrap();
    let (code, out, err) = says(&world, &fake, &["monitor", "--once", "-f", "ours.csv"]);
    assert!(code == 0 && err.contains("left out: DCGM_FI_DEV_VGPU_LICENSE_STATUS"), "{err}");
    assert!(
        out.contains("# HELP DCGM_FI_DEV_GPU_TEMP Heat\n# TYPE DCGM_FI_DEV_GPU_TEMP counter\n")
    );
    assert!(out.contains("DCGM_FI_DRIVER_VERSION=") && !out.contains("SYSTEM_DRIVER_VERSION"));
    let families = out.lines().filter(|line| line.starts_with("# TYPE DCGM_")).count();
    assert_eq!(families, 2, "{out}");
    assert!(out.contains("sconce_gpu_power_watts"));
    for (text, says_so) in [
        ("DCGM_FI_DEV_GPU_TEMP\n", "ours.csv, line 1: it is not"),
        ("", "ours.csv, it asks for nothing"),
    ] {
        fs::write(world.path("ours.csv"), text).unwrap();
        let (code, _, err) = says(&world, &fake, &["monitor", "--once", "-f", "ours.csv"]);
        assert!(code == 2 && err.contains(says_so), "{code} {err}");
    }
    let words = ["monitor", "--once", "-f", "ours.csv", "--names", "both"];
    assert_eq!(says(&world, &fake, &words).0, 2);
}

/// What a GPU does not have is absent: no 0, no sentinel.
#[test]
fn what_is_not_supported_is_absent() {
    let world = World::new();
    let fake = fake(&world, "driver 580.1\ngpus 1\n");
    let (code, out, err) = says(&world, &fake, &["monitor", "--once"]);
    assert_eq!(code, 0, "{err}");
    let families: Vec<_> = out.lines().filter(|line| line.starts_with("# TYPE")).collect();
    // With the kernel's log it is known that there was no error.
    let log = out.contains("sconce_monitor_kernel_log_readable 1");
    assert_eq!(families.len(), if log { 8 } else { 7 }, "{families:#?}");
    assert_eq!(out.contains("DCGM_FI_DEV_XID_ERRORS"), log);
    assert!(out.contains("sconce_gpu_up{gpu=\"0\",UUID=\"unknown-0\"} 1"), "{out}");
    let none = World::new();
    let nothing = FakeNvml::new(&none.path("nvml"), "init 9\n");
    let (code, _, err) = says(&none, &nothing, &["monitor", "--once"]);
    assert!(code == 8 && err.contains("Driver Not Loaded"), "{code} {err}");
}

#[test]
fn both_formats_and_odd_requests() {
    let world = World::new();
    let hostile = "gpu.0.name NVIDIA \"evil\\ \u{1}\u{7f}\n";
    let fake = fake(&world, &(FakeNvml::h100s(8) + hostile));
    let monitor = Monitor::start(&world, &fake, &[]);
    let plain = monitor.until("/metrics", |text| text.contains("DCGM_FI_DEV_GPU_TEMP{"));
    assert!(plain.contains("Content-Type: text/plain; version=0.0.4"), "{plain}");
    assert!(plain.contains("modelName=\"NVIDIA \\\"evil\\\\ \u{fffd}\u{fffd}\""), "{plain}");
    let open = monitor.ask(
        "GET /metrics HTTP/1.1\r\nHost: localhost\r\nAccept: application/openmetrics-text;version=1.0.0\r\nConnection: close\r\n\r\n",
    );
    assert!(
        open.contains("application/openmetrics-text; version=1.0.0") && open.ends_with("# EOF\n")
    );
    assert!(
        open.contains("# TYPE sconce_gpu_energy_joules counter")
            && open.contains("# TYPE DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION unknown")
    );
    assert!(monitor.get("/health").contains("200 OK"));
    for (request, status) in [
        ("POST /metrics HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc", "405"),
        ("GET /../../etc/passwd HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", "404"),
        ("GET /%2e%2e/metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", "404"),
        ("HEAD /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", "200"),
        ("GET /health HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n", "400"),
        ("nonsense\r\n\r\n", "400"),
    ] {
        let answer = monitor.ask(request);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{request}: {answer}");
    }
    assert!(monitor.ask("POST / HTTP/1.1\r\n\r\n").contains("Allow: GET, HEAD"));
    let huge = format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "a".repeat(100_000));
    assert!(monitor.ask(&huge).starts_with("HTTP/1.1 431 "));
    // Two requests in one piece, as a pipeline.
    let two = "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\nGET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    assert_eq!(monitor.ask(two).matches("200 OK").count(), 2);
}

/// A thousand at once, beside clients that never finish.
#[test]
fn a_thousand_scrapes_beside_slow_clients() {
    let world = World::new();
    let fake = fake(&world, &FakeNvml::h100s(8));
    let monitor = Monitor::start(&world, &fake, &[]);
    monitor.until("/metrics", |text| text.contains("DCGM_FI_DEV_GPU_TEMP{"));
    let slow: Vec<TcpStream> = (0..300)
        .map(|_| {
            let mut stream = TcpStream::connect(&monitor.host).unwrap();
            stream.write_all(b"GET /metrics HT").unwrap();
            stream
        })
        .collect();
    let mut clients: Vec<TcpStream> = Vec::new();
    for _ in 0..1000 {
        let mut stream = TcpStream::connect(&monitor.host).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream
            .write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            .unwrap();
        clients.push(stream);
    }
    for mut client in clients {
        let mut text = String::new();
        client.read_to_string(&mut text).unwrap();
        assert!(text.starts_with("HTTP/1.1 200 ") && text.contains("sconce_monitor_samples_total"));
    }
    drop(slow);
}

/// A call that does not come back stops neither scrapes nor the other GPUs, and the age is said.
#[test]
fn a_gpu_that_blocks_and_one_that_falls_away() {
    let world = World::new();
    let fake = fake(&world, &FakeNvml::h100s(3));
    let monitor = Monitor::start(&world, &fake, &[]);
    monitor.until("/metrics", |text| text.matches("\nsconce_gpu_up{").count() == 3);
    fake.becomes(
        &(FakeNvml::h100s(3) + "gpu.1.block_ms 60000\ngpu.0.temperature_c 77\ngpu.2.lost 15\n"),
    );
    let text = monitor.until("/metrics", |text| {
        value(text, "DCGM_FI_DEV_GPU_TEMP") == Some("77")
            && text.contains("sconce_anomaly{rule=\"gpu-lost\",severity=\"critical\",gpu=\"2\"")
    });
    let begun = Instant::now();
    assert!(monitor.get("/health").contains("200 OK"));
    assert!(begun.elapsed() < Duration::from_secs(2));
    assert!(!text.contains("DCGM_FI_DEV_GPU_TEMP{gpu=\"2\""), "{text}");
    let up = |text: &str, gpu: u32| {
        let line = format!("sconce_gpu_up{{gpu=\"{gpu}\"");
        text.lines().find(|row| row.starts_with(&line)).map(|row| row.ends_with(" 1"))
    };
    assert_eq!((up(&text, 0), up(&text, 2)), (Some(true), Some(false)));
    // Ten seconds later its last values are no longer given out.
    let text = monitor.until("/metrics", |text| up(text, 1) == Some(false));
    assert!(text.contains("sconce_anomaly{rule=\"gpu-silent\""), "{text}");
    assert_eq!(up(&text, 0), Some(true));
    let said = fs::read_to_string(world.path("said")).unwrap();
    assert!(
        said.contains("critical: gpu-lost on GPU 2: A GPU is lost: GPU is lost (15)\n  hint: "),
        "{said}"
    );
}

/// What happened in it is told at the moment it is played, however old the recording is.
#[test]
fn an_old_recording_tells_of_its_errors() {
    let world = World::new();
    let fake = fake(&world, &FakeNvml::h100s(1));
    let gpu = r#""gpus":[{"index":0,"uuid":"GPU-1","values":{"power_watts":70}}]"#;
    let mut lines = "{\"sconce_recording\":1,\"host\":\"a\"}\n".to_owned();
    for second in 0..40 {
        let at = 1_700_000_000_000_u64 + second * 100;
        let event = match second {
            5 => format!(r#","events":[{{"at_ms":{at},"kind":"xid","uuid":"GPU-1","code":79}}]"#),
            _ => String::new(),
        };
        lines += &format!("{{\"at_ms\":{at},\"xid_events\":true,{gpu}{event}}}\n");
    }
    let mut gzip = Command::new("gzip");
    let gzip = gzip.stdin(Stdio::piped()).stdout(fs::File::create(world.path("old.gz")).unwrap());
    let mut gzip = gzip.spawn().unwrap();
    gzip.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    assert!(gzip.wait().unwrap().success());
    let words = ["monitor", "--replay", "old.gz", "--textfile", "out.prom"];
    let (_, _, err) = says(&world, &fake, &words);
    assert!(err.contains("critical: xid on GPU 0") && err.contains("Xid 79"), "{err}");
}

#[test]
fn an_xid_by_nvmls_events() {
    let world = World::new();
    let fake = fake(&world, &FakeNvml::h100s(2));
    let monitor = Monitor::start(&world, &fake, &[]);
    monitor.until("/metrics", |text| text.contains("DCGM_FI_DEV_XID_ERRORS{"));
    fake.becomes(&(FakeNvml::h100s(2) + "xid.0 1 94\nxid.1 1 94\n"));
    let text = monitor.until("/metrics", |text| text.contains("xid=\"94\"} 2"));
    assert!(text.contains("sconce_gpu_xid_errors_total{gpu=\"1\",UUID=\"GPU-00000000-0000-0000-0000-000000000001\",xid=\"94\"} 2"));
    let last = text.lines().find(|line| line.starts_with("DCGM_FI_DEV_XID_ERRORS{gpu=\"1\""));
    assert!(last.is_some_and(|line| line.ends_with(" 94")), "{text}");
    let findings = monitor.get("/api/findings");
    assert!(findings.contains("\"rule\":\"xid\"") && findings.contains("Xid 94"), "{findings}");
}

/// However far samples are apart, an error is told of when it comes, counted once, and in the recording.
#[test]
fn an_xid_between_samples() {
    let world = World::new();
    let fake = fake(&world, &FakeNvml::h100s(2));
    let mut monitor = Monitor::every("10m", &world, &fake, &["--no-history", "--record", "r.gz"]);
    monitor.until("/metrics", |text| text.contains("DCGM_FI_DEV_XID_ERRORS{"));
    fake.becomes(&(FakeNvml::h100s(2) + "xid.0 1 79\n"));
    monitor.until("/api/findings", |text| text.contains("Xid 79"));
    let text = monitor.get("/metrics");
    assert!(text.contains("xid=\"79\"} 1") && text.contains("monitor_samples_total 1\n"), "{text}");
    let said = fs::read_to_string(world.path("said")).unwrap();
    assert!(said.contains("critical: xid on GPU 1"), "{said}");
    let pid = monitor.child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    assert_eq!(monitor.child.wait().unwrap().code(), Some(0));
    let said = fs::read_to_string(world.path("said")).unwrap();
    assert_eq!(said.matches("critical: xid").count(), 1, "{said}");
    let (_, out, _) = says(&world, &fake, &["monitor", "rules", "--replay", "r.gz", "--json"]);
    let judged: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(judged["findings"].as_array().unwrap().len(), 1, "{judged}");
    assert!(judged["torn"] == false && judged["findings"][0]["rule"] == "xid", "{judged}");
}

/// A recording is played again, also one that was cut off; what is no recording, or of a later version, is refused.
#[test]
fn record_and_replay() {
    let world = World::new();
    let hang = "gpu.0.util 100\ngpu.0.gpm.1 100\ngpu.0.gpm.2 18.2\ngpu.0.gpm.3 4.83\ngpu.0.power_mw 125000\n\
        gpu.0.memory_used 4000000000\n";
    let fake = fake(&world, &(FakeNvml::h100s(8) + hang));
    let words =
        ["monitor", "--record", "r.gz", "--interval", "100ms", "--for", "9s", "--hold", "2s"];
    let (code, out, err) = says(&world, &fake, &words);
    assert_eq!((code, out.as_str()), (0, ""), "{err}");
    assert!(err.contains("critical: nccl-hang on GPU 0: A rank waits for others"), "{err}");
    let (code, out, _) =
        says(&world, &fake, &["monitor", "rules", "--replay", "r.gz", "--hold", "2s"]);
    assert!(code == 0 && out.contains("critical: nccl-hang on GPU 0"), "{out}");
    let (_, out, _) = says(&world, &fake, &["monitor", "rules", "--replay", "r.gz"]);
    assert!(out.contains("nothing was wrong"), "not for two minutes yet: {out}");
    let (_, out, _) = says(&world, &fake, &["monitor", "--replay", "r.gz", "--once"]);
    assert_eq!(value(&out, "sconce_gpu_sm_active_ratio"), Some("0.182"));

    let whole = fs::read(world.path("r.gz")).unwrap();
    assert!(whole.len() < 60_000, "{} bytes for 90 samples of 8 GPUs", whole.len());
    fs::write(world.path("torn.gz"), &whole[..whole.len() / 2]).unwrap();
    let (code, out, _) =
        says(&world, &fake, &["monitor", "rules", "--replay", "torn.gz", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert!(code == 0 && json["torn"] == true && json["samples"].as_u64() > Some(10), "{out}");

    let (code, _, err) = says(&world, &fake, &words);
    assert!(code == 7 && err.contains("not written over"), "{code} {err}");
    // Ctrl-C ends one whole.
    let mut monitor = Monitor::start(&world, &fake, &["--record", "ended.gz"]);
    monitor.until("/metrics", |text| text.contains("DCGM_FI_DEV_GPU_TEMP{"));
    let pid = monitor.child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    assert_eq!(monitor.child.wait().unwrap().code(), Some(0));
    let (_, out, _) = says(&world, &fake, &["monitor", "rules", "--replay", "ended.gz", "--json"]);
    assert!(out.contains("\"torn\": false"), "{out}");
    fs::write(world.path("later"), "{\"sconce_recording\":2}\n").unwrap();
    assert!(Command::new("gzip").arg(world.path("later")).status().unwrap().success());
    let (code, _, err) = says(&world, &fake, &["monitor", "--replay", "later.gz", "--once"]);
    assert!(code == 3 && err.contains("of version 2; this sconce reads up to 1"), "{code} {err}");
    fs::write(world.path("none.gz"), b"\x1f\x8b nothing").unwrap();
    let (code, _, err) = says(&world, &fake, &["monitor", "--replay", "none.gz", "--once"]);
    assert!(code == 3 && err.contains("no recording"), "{code} {err}");
}

#[test]
fn files_units_and_wrong_arguments() {
    let world = World::new();
    let fake = fake(&world, &FakeNvml::h100s(1));
    let (code, out, err) = says(&world, &fake, &["monitor", "--once", "--textfile", "gpu.prom"]);
    assert_eq!((code, out.as_str()), (0, ""), "{err}");
    assert!(fs::read_to_string(world.path("gpu.prom")).unwrap().contains("DCGM_FI_DEV_GPU_TEMP{"));
    let left: Vec<_> =
        fs::read_dir(world.path(".")).unwrap().flatten().map(|one| one.file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().ends_with(".part")), "{left:?}");
    std::os::unix::fs::symlink("gpu.prom", world.path("link.prom")).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, world.path("fifo"), rustix::fs::Mode::RWXU).unwrap();
    for name in ["link.prom", "fifo", "."] {
        let (code, _, err) = says(&world, &fake, &["monitor", "--once", "--textfile", name]);
        assert!(code != 0 && !err.is_empty(), "{name}: {code} {err}");
    }
    assert!(world.path("link.prom").is_symlink());
    let (code, _, err) = says(&world, &fake, &["monitor", "--once", "--textfile", "no/gpu.prom"]);
    assert!(code == 7 && err.contains("no/gpu.prom"), "{code} {err}");

    let words = ["monitor", "--textfile", "no/gpu.prom", "--for", "5s"];
    let (code, _, err) = says(&world, &fake, &words);
    assert!(code == 7 && err.contains("no/gpu.prom"), "{code} {err}");
    // Beside a port it goes on, and writes once it can.
    let monitor = Monitor::start(&world, &fake, &["--textfile", "later/gpu.prom"]);
    monitor.until("/metrics", |text| text.contains("DCGM_FI_DEV_GPU_TEMP{"));
    fs::create_dir(world.path("later")).unwrap();
    let end = Instant::now() + Duration::from_secs(20);
    while !world.path("later/gpu.prom").exists() {
        assert!(Instant::now() < end, "never written");
        thread::sleep(Duration::from_millis(50));
    }
    let said = fs::read_to_string(world.path("said")).unwrap();
    assert_eq!(said.matches("can't write later/gpu.prom").count(), 1, "{said}");

    let (code, unit, _) = says(&world, &fake, &["monitor", "--print-unit", "--listen", ":9400"]);
    assert!(code == 0 && unit.contains("DynamicUser=yes") && unit.contains("--listen [::]:9400"));
    // Lines that are switched on do something: an empty set takes back those before it (systemd.exec(5)).
    let place = |line: &str| unit.lines().position(|one| one == line).expect(line);
    assert!(place("CapabilityBoundingSet=") < place("#CapabilityBoundingSet=CAP_SYSLOG"), "{unit}");
    if let Ok(output) = Command::new("systemd-analyze").arg("--version").output()
        && output.status.success()
    {
        // Where the tests' own program lies out of a service's reach.
        let unit = unit.replace("/usr/local/bin/sconce", env!("CARGO_BIN_EXE_sconce"));
        fs::write(world.path("sconce-monitor.service"), &unit).unwrap();
        let verify = Command::new("systemd-analyze")
            .args(["verify", "--man=no"])
            .arg(world.path("sconce-monitor.service"))
            .output()
            .unwrap();
        assert!(verify.status.success(), "{}", String::from_utf8_lossy(&verify.stderr));
    }
    for (words, needle) in [
        (&["monitor", "--interval", "1"][..], "with its unit"),
        (&["monitor", "--interval", "1ms"], "50ms"),
        (&["monitor", "--listen", "localhost"], "ADDRESS:PORT"),
        (&["monitor", "--names", "all"], "all"),
    ] {
        let (code, _, err) = says(&world, &fake, words);
        assert!(code == 2 && err.contains(needle), "{words:?}: {code} {err}");
    }
    let monitor = Monitor::start(&world, &fake, &[]);
    let (code, _, err) = says(&world, &fake, &["monitor", "--listen", &monitor.host]);
    assert!(code == 8 && err.contains("another program listens there"), "{code} {err}");
    let (code, out, _) = says(&world, &fake, &["monitor", "rules"]);
    assert!(code == 0 && out.lines().count() >= 20 && out.contains("nccl-hang"));
}

/// As large as a machine is: 16 GPUs of 7 instances and 200 processes each.
#[test]
fn a_very_large_machine() {
    let world = World::new();
    let mut text = FakeNvml::h100s(16) + "gpu.*.mig_mode 1\ngpu.*.mig_most 7\n";
    for gpu in 0..16 {
        let pids: Vec<String> =
            (0..200).map(|one| format!("{}:1000", 4_194_305 + gpu * 200 + one)).collect();
        text += &format!("gpu.{gpu}.processes {}\n", pids.join(" "));
        for one in 0..7 {
            let key = format!("gpu.{gpu}.mig.{one}");
            text += &format!(
                "{key}.uuid MIG-{gpu}-{one}\n{key}.gi {one}\n{key}.ci 0\n{key}.name H100 MIG 1g.10gb\n\
                 {key}.memory_total 10000000000\n{key}.memory_used 4000000000\n{key}.gpm.2 {one}\n"
            );
        }
    }
    let fake = fake(&world, &text);
    let (code, out, err) = says(&world, &fake, &["monitor", "--once"]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert_eq!(out.matches("\nDCGM_FI_DEV_FB_USED{").count(), 16 * 8, "GPUs and instances");
    assert_eq!(out.matches("GPU_I_PROFILE=\"1g.10gb\",GPU_I_ID=\"3\"").count() % 16, 0);
    assert_eq!(out.matches("\nsconce_process_memory_bytes{").count(), 16 * 200);
}

/// A GPU that is gone is told of, and one that comes back with the driver is seen again.
#[test]
fn the_driver_goes_and_comes_back() {
    let world = World::new();
    // One is lost from the beginning, and says who it is only when it is back.
    let fake = fake(&world, &(FakeNvml::h100s(2) + "gpu.1.lost 15\n"));
    let monitor = Monitor::start(&world, &fake, &[]);
    monitor.until("/metrics", |text| {
        text.contains("rule=\"gpu-lost\",severity=\"critical\",gpu=\"1\"")
    });
    fake.becomes(&FakeNvml::h100s(2));
    let rows = |text: &str| text.matches("\nDCGM_FI_DEV_GPU_TEMP{").count();
    // At first under its number alone; under its own name soon, and only so.
    monitor.until("/metrics", |text| rows(text) == 2 && !text.contains("unknown-"));
    fake.becomes(&FakeNvml::h100s(1));
    let gone = "sconce_anomaly{rule=\"gpu-lost\",severity=\"critical\",gpu=\"1\"";
    let text = monitor.until("/metrics", |text| text.contains(gone));
    assert_eq!(rows(&text), 1, "{text}");
    fake.becomes("init 9\nlost 9\n");
    monitor.until("/metrics", |text| rows(text) == 0);
    monitor.until("/health", |text| text.contains("200 OK") && text.contains("Driver Not Loaded"));
    fake.becomes(&FakeNvml::h100s(2));
    let text = monitor.until("/metrics", |text| rows(text) == 2);
    assert_eq!(text.matches("} 1\nsconce_gpu_up").count(), 1, "{text}");
    monitor.until("/metrics", |text| !text.contains("rule=\"gpu-lost\""));
}

/// At the usual interval, right after the start: a GPU that is listed no more is seen within two samples, and told of after three seconds.
#[test]
fn a_gpu_that_vanishes_is_seen_at_once() {
    let world = World::new();
    let fake = fake(&world, &FakeNvml::h100s(3));
    let monitor = Monitor::every("1s", &world, &fake, &["--no-history"]);
    let gone = |text: &str, count: usize| text.matches("\"lost\":6").count() == count;
    monitor.until("/api/sample", |text| text.matches("\"power_watts\"").count() == 3);
    fake.becomes(&FakeNvml::h100s(2));
    let begun = Instant::now();
    monitor.until("/api/sample", |text| gone(text, 1));
    let first = begun.elapsed();
    fake.becomes(&FakeNvml::h100s(1));
    monitor.until("/api/sample", |text| gone(text, 2));
    let both = begun.elapsed();
    monitor.until("/api/findings", |text| text.matches("\"gpu-lost\"").count() == 2);
    let told = begun.elapsed();
    // With room for a machine that is busy: it was half a minute.
    let seconds = Duration::from_secs;
    let soon = first < seconds(5) && both < seconds(10) && told < seconds(16);
    assert!(soon, "{first:?} {both:?} {told:?}");
}

/// What runs on a GPU: a container of ours by its layers, its image and its name.
#[test]
fn whose_work_it_is() {
    let world = World::new();
    world.image(r#"{"Env": ["PATH=/usr/bin"], "Cmd": ["sleep", "300"]}"#);
    let done = |words: &[&str]| {
        let (code, out, err) = world.says(words);
        assert_eq!(code, 0, "{words:?}\n{out}{err}");
        out
    };
    done(&["copy", "oci:image", "store:lab/demo:1"]);
    let id = done(&["run", "-d", "-q", "--gpus", "none", "--name", "training", "lab/demo:1"]);
    let listed: serde_json::Value = serde_json::from_str(&done(&["ps", "--json"])).unwrap();
    let first = listed[0]["pid"].as_u64().unwrap();
    // The command, below the container's first process.
    let children = fs::read_to_string(format!("/proc/{first}/task/{first}/children")).unwrap();
    let pid = children.split_whitespace().next().unwrap();
    let images: serde_json::Value = serde_json::from_str(&done(&["images", "--json"])).unwrap();
    let digest = images.to_string();
    let used = format!("gpu.0.processes {pid}:1000000000\n");
    let fake = fake(&world, &(FakeNvml::h100s(1) + &used));
    let (_, out, _) = says(&world, &fake, &["monitor", "--once"]);
    let line = out.lines().find(|line| line.starts_with("sconce_workload_info{")).unwrap();
    for part in ["runtime=\"sconce\"", "name=\"training\"", id.trim(), "image=\"lab/demo:1\""] {
        assert!(line.contains(part), "{part}: {line}");
    }
    let named = line.split("image_digest=\"").nth(1).and_then(|rest| rest.split('"').next());
    assert!(
        named.is_some_and(|named| named.starts_with("sha256:") && digest.contains(named)),
        "{line}"
    );
    let (_, out, _) = says(&world, &fake, &["top", "--once"]);
    assert!(
        out.contains("training") && out.contains("lab/demo:1") && out.contains("sleep"),
        "{out}"
    );
    // The tag means another image now; what runs is still what it was.
    world.image(r#"{"Env": ["PATH=/usr/bin"], "Cmd": ["true"]}"#);
    done(&["kill", "training"]);
}

#[test]
fn top_once() {
    let world = World::new();
    let own = std::process::id();
    let used = format!(
        "gpu.0.processes {own}:2000000000\ngpu.0.memory_used 2000000000\ngpu.1.mig_mode 1\ngpu.1.mig_most 7\n\
         gpu.1.mig.0.uuid MIG-a\ngpu.1.mig.0.gi 9\ngpu.1.mig.0.ci 0\ngpu.1.mig.0.name NVIDIA H100 MIG 1g.10gb\n\
         gpu.1.mig.0.memory_total 10000000000\ngpu.1.mig.0.memory_used 4000000000\ngpu.1.mig.0.gpm.2 55\n"
    );
    let fake = fake(&world, &(FakeNvml::h100s(2) + &used));
    let (code, out, err) = says(&world, &fake, &["top", "--once"]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.contains("NVIDIA H100 80GB HBM3") && out.contains("1g.10gb"), "{out}");
    assert!(
        out.contains(&own.to_string()) && out.contains("root") && out.contains("1.9 GiB"),
        "{out}"
    );
    let (_, json, _) = says(&world, &fake, &["top", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["gpus"][0]["processes"][0]["pid"], own);
    assert_eq!(json["gpus"][1]["instances"][0]["profile"], "1g.10gb");
    assert_eq!(json["gpus"][1]["instances"][0]["values"]["sm_active_ratio"], 0.55);
    let old = World::new();
    let aged = FakeNvml::old(&old.path("nvml"), &FakeNvml::h100s(1));
    let (code, out, err) = says(&old, &aged, &["top", "--once"]);
    assert!(code == 0 && out.contains("72 W"), "{out}{err}");
}

/// A library in which two threads in GPM at once, or a process that ends inside a call, are the end: as was seen on real GPUs.
#[test]
fn nothing_is_inside_nvml_that_must_not_be() {
    let world = World::new();
    let strict = "gpm_alone 1\ngpm_us 2000\nwhole_end 1\n";
    let fake = fake(&world, &(FakeNvml::h100s(4) + strict));
    for _ in 0..3 {
        for words in [&["monitor", "--once"][..], &["top", "--once"], &["top", "--json"]] {
            let output = with(&world, &fake, words).output().unwrap();
            let err = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success(), "{words:?}: {:?} {err}", output.status);
        }
    }
    let words = ["monitor", "--for", "2s", "--interval", "100ms", "--record", "whole.gz"];
    let output = with(&world, &fake, &words).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    // A GPU that stops to answer while it is watched: the program ends all the same, whole.
    let words = ["monitor", "--for", "4s", "--interval", "100ms", "--record", "blocked.gz"];
    let child = with(&world, &fake, &words).stderr(Stdio::piped()).spawn().unwrap();
    thread::sleep(Duration::from_secs(2));
    fake.becomes(&(FakeNvml::h100s(4) + strict + "gpu.1.block_ms 60000\n"));
    let begun = Instant::now();
    let output = child.wait_with_output().unwrap();
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    assert!(output.status.success(), "{output:?}");
}

/// What the calls cost, for who looks for it.
#[test]
fn times_of_calls() {
    let world = World::new();
    let fake = fake(&world, &FakeNvml::h100s(2));
    let words = ["monitor", "--for", "1s", "--interval", "100ms", "--record", "t.gz", "--times"];
    let (code, _, err) = says(&world, &fake, &words);
    assert_eq!(code, 0, "{err}");
    let row = |name: &str| err.lines().find(|line| line.starts_with(name)).map(str::to_owned);
    for name in
        ["nvmlDeviceGetPowerUsage", "nvmlGpmSampleGet", "(metrics and history)", "(recording)"]
    {
        assert!(row(name).is_some(), "{name}\n{err}");
    }
    let calls = |name| row(name)?.split_whitespace().nth(1)?.parse::<u32>().ok();
    assert!(calls("nvmlDeviceGetPowerUsage") > Some(10), "{err}");
    assert_eq!(calls("nvmlDeviceGetTotalEnergyConsumption"), Some(2), "every ten seconds\n{err}");
}

/// The page needs nobody but its server; its history is there again after a kill.
#[test]
fn a_page_with_a_history() {
    let world = World::new();
    let fake = fake(&world, &FakeNvml::h100s(2));
    let kept = world.path("kept");
    let kept = kept.to_str().unwrap();
    let begun = now_ms();
    let mut first = Monitor::start(&world, &fake, &["--history", kept]);
    let page = first.get("/");
    assert!(page.contains("Content-Security-Policy: default-src 'none'"), "{page}");
    assert!(page.contains("text/html") && page.contains("id=\"chart\"") && page.contains("显存"));
    for outside in ["http://", "https://", "src=", "@import", "url("] {
        assert!(!page.contains(outside), "{outside}");
    }
    let asked = |monitor: &Monitor| {
        let path = format!("/api/history?from={begun}&points=2000");
        let text = monitor.until(&path, |text| text.contains("\"power_watts\""));
        let body = text.split_once("\r\n\r\n").unwrap().1;
        serde_json::from_str::<serde_json::Value>(body).unwrap()
    };
    let end = Instant::now() + Duration::from_secs(20);
    let points = loop {
        let span = asked(&first);
        let points = span["at_ms"].as_array().unwrap().len();
        if points >= 5 {
            assert_eq!(span["gpus"][1]["uuid"], "GPU-00000000-0000-0000-0000-000000000001");
            assert!(span["values"]["temperature_celsius"][0][0].is_number());
            break points;
        }
        assert!(Instant::now() < end, "{span}");
        thread::sleep(Duration::from_millis(100));
    };
    // Another one has no business in this folder.
    let (code, _, err) =
        says(&world, &fake, &["monitor", "--listen", "127.0.0.1:0", "--history", kept]);
    assert_eq!(code, 7, "{err}");
    assert!(err.contains("another monitor writes its history") && err.contains("hint: "), "{err}");
    first.child.kill().unwrap();
    first.child.wait().unwrap();
    let second = Monitor::start(&world, &fake, &["--history", kept]);
    let span = asked(&second);
    assert!(span["at_ms"].as_array().unwrap().len() >= points, "{span}");
    for query in ["", "?", "?from=5&to=5&points=2", "?to=5", "?from=0&to=253402300799999"] {
        let answer = second.get(&format!("/api/history{query}"));
        assert!(answer.starts_with("HTTP/1.1 200 OK"), "{query}: {answer}");
    }
    // Who asks oddly is told so, and gets no other span.
    for (query, says) in [
        ("?from=-5", "from: `-5` is not a time in milliseconds since 1970"),
        ("?from=+5", "from: `+5` is not a time"),
        ("?to=NaN", "to: `NaN` is not a time"),
        ("?from=1e3", "from: `1e3` is not a time"),
        ("?from=", "from: `` is not a time"),
        ("?from", "from: `` is not a time"),
        ("?from=18446744073709551615", "is not a time"),
        ("?to=99999999999999999999999", "is not a time"),
        ("?from=5&to=1", "from: 5 is later than `to`"),
        ("?from=253402300799999", "is later than now"),
        ("?from=1&from=2", "from stands there twice"),
        ("?step=60", "`step` is not known: there are from, to and points"),
        ("?points=0", "points: a number from 2 to 2000"),
        ("?points=99999999999", "points: `99999999999` is not a number from 2 to 2000"),
        ("?points=x", "points: `x` is not a number"),
    ] {
        let answer = second.get(&format!("/api/history{query}"));
        assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains(says), "{query}: {answer}");
    }
    let none = Monitor::start(&world, &fake, &["--no-history"]);
    assert!(none.get("/api/history").starts_with("HTTP/1.1 404"));
}

/// A page that is open hears of each sample, and one that does not listen is let go.
#[test]
fn news_for_pages_that_are_open() {
    let world = World::new();
    let fake = fake(&world, &FakeNvml::h100s(1));
    let monitor = Monitor::start(&world, &fake, &["--no-history"]);
    let mut streams = Vec::new();
    for _ in 0..70 {
        let mut stream = TcpStream::connect(&monitor.host).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.write_all(b"GET /api/live HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        streams.push(stream);
    }
    let mut lines = BufReader::new(&streams[0]).lines().map(Result::unwrap);
    assert_eq!(lines.next().unwrap(), "HTTP/1.1 200 OK");
    let mut news = lines.filter_map(|line| line.strip_prefix("data: ").map(str::to_owned));
    let mut times = Vec::new();
    for _ in 0..4 {
        let now: serde_json::Value = serde_json::from_str(&news.next().unwrap()).unwrap();
        assert!(now["findings"].is_array() && now["host"].is_string());
        times.push(now["sample"]["at_ms"].as_u64().unwrap());
    }
    assert!(times.is_sorted_by(|a, b| a < b), "{times:?}");
    // Of 70 the last ones were let go; scrapes go on.
    let mut last = String::new();
    let _ = streams[69].read_to_string(&mut last);
    assert!(!last.contains("data: "), "{last}");
    assert!(monitor.get("/metrics").contains("sconce_gpu_up"));
}

#[test]
fn alerts_for_prometheus() {
    let world = World::new();
    let fake = fake(&world, &FakeNvml::h100s(1));
    let (code, out, _) = says(&world, &fake, &["monitor", "rules", "--format", "prometheus"]);
    assert_eq!(code, 0);
    let of = |name: &str| {
        let mut alerts = out.split("- alert: ");
        alerts.find(|one| one.starts_with(&format!("{name}\n"))).unwrap_or(&out)
    };
    let links = of("GpuNvlinkDown");
    assert!(links.contains("sconce_gpu_nvlinks_up < sconce_gpu_nvlinks"), "{links}");
    assert!(links.contains("for: 75s") && links.contains("severity: critical"), "{links}");
    // Which GPUs are of one job the rule alone knows.
    let hang = of("GpuNcclHang");
    assert!(hang.contains(r#"expr: "sconce_anomaly{rule=\"nccl-hang\"} == 1""#), "{hang}");
    // An Xid is as bad as its finding says, which is in the series.
    let xid = out.split("- alert: ").find(|one| one.starts_with("GpuXid\n")).unwrap();
    assert!(!xid.contains("severity:"), "{xid}");
}

fn now_ms() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    u64::try_from(now.as_millis()).unwrap()
}

/// What stands beside `sconce run`: it tells of its own GPUs, and ends with who started it.
#[test]
fn errors_beside_a_run() {
    let world = World::new();
    let fake = fake(&world, &(FakeNvml::h100s(2) + "xid.0 1 31\n"));
    let told = |bus: &str| {
        let mut command = with(&world, &fake, &["monitor", "--tell", bus, "--hold", "0s"]);
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        thread::sleep(Duration::from_secs(8));
        child.kill().unwrap();
        let output = child.wait_with_output().unwrap();
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let bus = |gpu: usize| ["0000:18:00.0", "0000:19:00.0"][gpu];
    let (own, others) = (told(bus(1)), told(bus(0)));
    assert!(own.contains("sconce: note: xid on GPU 1:") && own.contains("Xid 31"), "{own}");
    assert!(own.contains("  hint: "), "{own}");
    assert_eq!(others, "");
}

/// On a terminal, and of other machines: keys, a machine that is silent, and the terminal as it was.
#[test]
fn top_live() {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

    let world = World::new();
    let own = std::process::id();
    // GPM's figure takes the place of the other with its second sample.
    let busy = "gpu.0.util 97\ngpu.0.gpm.1 97\n";
    let used = format!("gpu.0.processes {own}:2000000000\n{busy}xid.0 1 79\n");
    let fake = fake(&world, &(FakeNvml::h100s(2) + &used));
    let monitor = Monitor::start(&world, &fake, &["--no-history", "--hold", "0s"]);
    monitor.until("/api/now", |text| text.contains("Xid 79"));

    let (code, out, err) = says(&world, &fake, &["top", "--once", &monitor.host, "127.0.0.1:1"]);
    assert!(out.contains(&monitor.host) && out.contains("NVIDIA H100"), "{out}");
    assert!(out.contains("critical: xid on GPU 1: ") && out.contains("Xid 79"), "{out}");
    assert!(code != 0 && err.contains("127.0.0.1:1") && err.contains("hint: "), "{code} {err}");
    let (_, json, _) = says(&world, &fake, &["top", "--json", &monitor.host]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json[&monitor.host]["findings"][0]["rule"], "xid");

    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let size = rustix::termios::Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
    rustix::termios::tcsetwinsize(&master, size).unwrap();
    let path = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
    let terminal = || fs::File::options().read(true).write(true).open(&path).unwrap();
    let before = rustix::termios::tcgetattr(terminal()).unwrap();
    let mut command = with(&world, &fake, &["top", &monitor.host, "127.0.0.1:1"]);
    command.stdin(terminal()).stdout(terminal()).stderr(terminal());
    let mut child = command.spawn().unwrap();
    let (send, shown) = std::sync::mpsc::channel();
    let mut reader = fs::File::from(rustix::io::dup(&master).unwrap());
    thread::spawn(move || {
        let mut bytes = [0; 65536];
        while let Ok(count @ 1..) = reader.read(&mut bytes) {
            let _ = send.send(String::from_utf8_lossy(&bytes[..count]).into_owned());
        }
    });
    let mut screen = String::new();
    let mut until = |wanted: &[&str]| {
        let end = Instant::now() + Duration::from_secs(30);
        while !wanted.iter().all(|word| screen.contains(word)) {
            let left = end.saturating_duration_since(Instant::now());
            match shown.recv_timeout(left) {
                // Only what is shown since the last whole screen counts.
                Ok(text) if text.contains("\u{1b}[H") => screen = text,
                Ok(text) => screen += &text,
                Err(_) => panic!("never came: {wanted:?}\n{screen:?}"),
            }
        }
        screen.clone()
    };
    let press = |keys: &[u8]| rustix::io::write(&master, keys).unwrap();
    let first =
        until(&["H100 80GB", "97%", "Xid 79", "127.0.0.1:1", &own.to_string(), "sort: GPU"]);
    let widest = first.split("\r\n").map(|line| {
        let mut inside = false;
        line.chars()
            .filter(|c| {
                inside |= *c == '\u{1b}';
                let counts = !inside;
                inside &= !c.is_ascii_alphabetic();
                counts
            })
            .count()
    });
    assert!(widest.max().unwrap() <= 80 && first.matches("\r\n").count() < 24, "{first:?}");
    press(b"s");
    until(&["sort: memory"]);
    press(b"/no such thing\r");
    until(&["filter: no such thing", " 0 processes"]);
    press(b"k");
    until(&["get no signal from here"]);
    press(b"q");
    let status = child.wait().unwrap();
    assert!(status.success());
    let after = rustix::termios::tcgetattr(terminal()).unwrap();
    assert_eq!(before.local_modes, after.local_modes);
}
