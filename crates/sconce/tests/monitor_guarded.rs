//! `sconce monitor --web-config`: TLS and logins as Prometheus's own exporters have them, asked with curl as Prometheus asks.

#[allow(dead_code)]
mod world;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use sconce_testkit::FakeNvml;
use world::World;

const FILES: [(&str, &str); 6] = [
    ("ca.pem", include_str!("../../serve/tests/tls/ca.pem")),
    ("server.pem", include_str!("../../serve/tests/tls/server.pem")),
    ("server.key", include_str!("../../serve/tests/tls/server.key")),
    ("clients-ca.pem", include_str!("monitor_tls/clients-ca.pem")),
    ("client.pem", include_str!("monitor_tls/client.pem")),
    ("client.key", include_str!("monitor_tls/client.key")),
];
const TLS: &str = "tls_server_config:\n  cert_file: server.pem\n  key_file: server.key\n";
/// `htpasswd -nbB -C 5 u secret`.
const USERS: &str =
    "basic_auth_users:\n  u: $2y$05$S8.ks7lcwInJ6sk1kcKLYOpPYFFFSA2iDrBQen3Enevv5Koo93Ca2\n";
const LOGIN: [&str; 2] = ["-u", "u:secret"];
const CA: [&str; 2] = ["--cacert", "ca.pem"];
const CLIENT: [&str; 4] = ["--cert", "client.pem", "--key", "client.key"];

/// A monitor that ends with the test.
struct Monitor {
    world: World,
    _fake: FakeNvml,
    child: Child,
    address: String,
}

fn command(world: &World, fake: &FakeNvml, config: &str) -> Command {
    for (name, text) in FILES {
        fs::write(world.path(name), text).unwrap();
    }
    fs::create_dir_all(world.path("etc")).unwrap();
    // Its paths lead from its own folder.
    let below = config.replace("_file: ", "_file: ../");
    fs::write(world.path("etc/web.yml"), below).unwrap();
    let words = ["monitor", "--no-history", "--listen", "127.0.0.1:0", "--interval", "100ms"];
    let mut command = world.sconce(&[&words[..], &["--web-config", "etc/web.yml"]].concat());
    command.env("LD_LIBRARY_PATH", fake.folder()).env("FAKE_NVML_WORLD", fake.world());
    command
}

impl Monitor {
    fn start(config: &str) -> Self {
        let world = World::new();
        let fake = FakeNvml::new(&world.path("nvml"), &FakeNvml::h100s(1));
        let mut command = command(&world, &fake, config);
        command.stdout(Stdio::piped()).stderr(fs::File::create(world.path("said")).unwrap());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let said = fs::read_to_string(world.path("said")).unwrap();
        let address = line.trim().strip_suffix("/metrics").expect(&said).to_owned();
        let monitor = Self { world, _fake: fake, child, address };
        let end = Instant::now() + Duration::from_secs(30);
        // Until the first sample; whoever may not ask is told so at once.
        while monitor.curl(&[&CA[..], &LOGIN, &CLIENT].concat(), "/health").0 != 200 {
            assert!(Instant::now() < end, "no sample came");
            std::thread::sleep(Duration::from_millis(50));
        }
        monitor
    }

    /// The status, 0 where there is no answer, and what came.
    fn curl(&self, options: &[&str], path: &str) -> (u32, String) {
        let mut command = Command::new("curl");
        command.args(["-sS", "-i", "--max-time", "20"]).args(options);
        command.arg(format!("{}{path}", self.address)).current_dir(self.world.path(""));
        let output = command.output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let status = text.split(' ').nth(1).and_then(|word| word.parse().ok()).unwrap_or(0);
        (status, text + &String::from_utf8_lossy(&output.stderr))
    }

    fn host(&self) -> &str {
        self.address.rsplit_once("//").unwrap().1
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[test]
fn logins_over_tls() {
    let monitor = Monitor::start(&format!("{TLS}{USERS}"));
    assert!(monitor.address.starts_with("https://"), "{}", monitor.address);
    let with = |more: &[&str], path: &str| monitor.curl(&[&CA[..], more].concat(), path);
    let (status, text) = with(&LOGIN, "/metrics");
    assert!(status == 200 && text.contains("\nDCGM_FI_DEV_GPU_TEMP{gpu=\"0\""), "{text}");
    for wrong in
        [&[][..], &["-u", "u:Secret"], &["-u", "x:secret"], &["-H", "Authorization: Bearer x"]]
    {
        for path in ["/metrics", "/", "/api/live", "/nowhere"] {
            let (status, text) = with(wrong, path);
            assert_eq!(status, 401, "{wrong:?} {path}: {text}");
            assert!(text.contains("\r\nWWW-Authenticate: Basic realm="), "{text}");
            assert!(!text.contains("DCGM"), "{text}");
        }
    }
    let (status, _) = with(&[&LOGIN[..], &["-X", "POST"]].concat(), "/metrics");
    assert_eq!(status, 405);
    // A stream goes on until its client leaves.
    let live = [&LOGIN[..], &["-N", "--max-time", "2"]].concat();
    let (status, text) = with(&live, "/api/live");
    assert!(status == 200 && text.matches("\ndata: ").count() > 2, "{text}");
    // Two requests of one connection.
    let again = format!("{}/health", monitor.address);
    let (status, text) = with(&[&LOGIN[..], &["-v", &again]].concat(), "/health");
    assert!(status == 200 && text.contains("Re-using existing"), "{text}");
    // Whoever does not trust it, and who speaks no TLS, gets nothing.
    assert_eq!(monitor.curl(&LOGIN, "/metrics").0, 0);
    let mut stream = TcpStream::connect(monitor.host()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes);
    assert!(!String::from_utf8_lossy(&bytes).contains("DCGM"));
}

/// Those who say nothing keep nobody out.
#[test]
fn idle_connections_give_way() {
    let monitor = Monitor::start(&format!("{TLS}{USERS}"));
    let all: Vec<_> = (0..300).map(|_| TcpStream::connect(monitor.host()).unwrap()).collect();
    std::thread::sleep(Duration::from_millis(1200));
    let begun = Instant::now();
    let (status, text) = monitor.curl(&[&CA[..], &LOGIN].concat(), "/metrics");
    assert!(status == 200 && begun.elapsed() < Duration::from_secs(8), "{text}");
    drop(all);
}

#[test]
fn logins_without_tls_and_certificates_of_clients() {
    let monitor = Monitor::start(USERS);
    assert!(monitor.address.starts_with("http://"));
    assert_eq!(monitor.curl(&LOGIN, "/metrics").0, 200);
    assert_eq!(monitor.curl(&[], "/metrics").0, 401);
    drop(monitor);

    let of = |kind: &str| {
        format!(
            "{TLS}  client_auth_type: {kind}\n  client_ca_file: clients-ca.pem\n  min_version: TLS13\n"
        )
    };
    let monitor = Monitor::start(&of("RequireAndVerifyClientCert"));
    let with = |more: &[&str]| monitor.curl(&[&CA[..], more].concat(), "/metrics").0;
    assert_eq!((with(&CLIENT), with(&[])), (200, 0));
    // One of another authority.
    assert_eq!(with(&["--cert", "server.pem", "--key", "server.key"]), 0);
    assert_eq!(with(&[&CLIENT[..], &["--tls-max", "1.2"]].concat()), 0);
    drop(monitor);

    let monitor = Monitor::start(&of("VerifyClientCertIfGiven"));
    let with = |more: &[&str]| monitor.curl(&[&CA[..], more].concat(), "/metrics").0;
    assert_eq!((with(&CLIENT), with(&[])), (200, 200));
    assert_eq!(with(&["--cert", "server.pem", "--key", "server.key"]), 0);
}

/// A certificate as `openssl req -x509` makes it is an authority's, which no server may show as its own: what is said leads to one that works.
#[test]
fn a_certificate_that_signs_itself() {
    const AUTHORITY: [&str; 2] =
        [include_str!("monitor_tls/self.pem"), include_str!("monitor_tls/self.key")];
    const OWN: [&str; 2] =
        [include_str!("monitor_tls/own.pem"), include_str!("monitor_tls/own.key")];
    let asked = |files: [&str; 2]| {
        let world = World::new();
        let fake = FakeNvml::new(&world.path("nvml"), &FakeNvml::h100s(1));
        let config = "tls_server_config:\n  cert_file: s.pem\n  key_file: s.key\n";
        let mut command = command(&world, &fake, config);
        fs::write(world.path("s.pem"), files[0]).unwrap();
        fs::write(world.path("s.key"), files[1]).unwrap();
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_suffix("/metrics").expect(&line).to_owned();
        let end = Instant::now() + Duration::from_secs(30);
        let said = loop {
            let said = world.says(&["top", "--once", "--ca", "s.pem", &address]);
            // 503 until the first sample.
            if !said.2.contains("503") || Instant::now() > end {
                break said;
            }
            std::thread::sleep(Duration::from_millis(100));
        };
        drop((child.kill(), child.wait()));
        said
    };
    let (code, _, err) = asked(AUTHORITY);
    assert!(code == 8 && err.contains("authority's certificate as its own"), "{code} {err}");
    assert!(err.contains("-addext basicConstraints=critical,CA:FALSE"), "{err}");
    let (code, out, err) = asked(OWN);
    assert!(code == 0 && out.contains("H100"), "{code} {out}{err}");
}

/// `sconce top` of a monitor behind TLS, certificates and logins: a login comes from a file or from netrc, and goes nowhere else.
#[test]
fn top_with_tls_and_logins() {
    let monitor = Monitor::start(&format!(
        "{TLS}  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: clients-ca.pem\n{USERS}"
    ));
    let world = &monitor.world;
    let (https, host) = (monitor.address.as_str(), monitor.host());
    fs::write(world.path("login"), "u:secret\n").unwrap();
    fs::write(world.path("wrong"), "u:Secret\n").unwrap();
    fs::write(world.path("none"), "secret\n").unwrap();
    let top = |words: &[&str]| world.says(&[&["top", "--once"], words].concat());
    let ca = ["--ca", "ca.pem"];
    let shown = [&ca[..], &["--cert", "client.pem", "--key", "client.key"]].concat();
    let login = ["--login", "login"];
    let (code, out, err) = top(&[&shown[..], &login, &[https]].concat());
    assert!(code == 0 && out.contains("NVIDIA H100") && out.contains(host), "{code} {out}{err}");
    assert_eq!(err, "");
    for (words, says, hint) in [
        ([&shown[..], &[https]].concat(), "answered 401: log in", "`--login FILE`"),
        (
            [&shown[..], &["--login", "wrong", https]].concat(),
            "the name or the password is wrong",
            "`--login FILE`",
        ),
        ([&ca[..], &login, &[https]].concat(), "wants a certificate", "`--cert FILE --key FILE`"),
        (vec![https], "of no authority that is trusted here", "`--ca FILE`"),
        (vec![host], "the server speaks TLS there", &format!("`sconce top {https}`")),
    ] {
        let (code, out, err) = top(&words);
        let told = code == 8 && err.contains(says) && err.contains(hint);
        assert!(told && !out.contains("H100") && !err.contains("ecret"), "{words:?}: {code} {err}");
    }
    for (words, expected, says) in [
        (vec!["--login", "none", https], 3, "is not a line USER:PASSWORD"),
        (vec!["--ca", "none.pem", https], 7, "--ca: "),
        (vec!["--ca", "ca.pem", host], 2, "write https:// before them"),
        (vec!["--cert", "client.pem", https], 2, "--key"),
        (vec!["--cert", "client.pem", "--key", "server.key", https], 3, "--cert: "),
        (vec!["https://u:secret@localhost:1"], 2, "a login has no place on a command line"),
    ] {
        let (code, _, err) = top(&words);
        let told = code == expected && err.contains(says);
        assert!(told && !err.contains("secret"), "{words:?}: {code} {err}");
    }
    // Netrc's, over TLS.
    let name = host.rsplit_once(':').unwrap().0;
    fs::write(world.path("netrc"), format!("machine {name} login u password secret\n")).unwrap();
    let mut command = world.sconce(&[&["top", "--once"], &shown[..], &[https]].concat());
    let (code, out, err) =
        world::texts(&command.env("NETRC", world.path("netrc")).output().unwrap());
    assert!(code == 0 && out.contains("NVIDIA H100"), "{code} {err}");
    drop(monitor);

    // Without TLS only the login that was named for it is sent.
    let monitor = Monitor::start(USERS);
    let world = &monitor.world;
    fs::write(world.path("netrc"), "default login u password secret\n").unwrap();
    fs::write(world.path("login"), "u:secret\n").unwrap();
    let mut command = world.sconce(&["top", "--once", monitor.host()]);
    let (code, _, err) = world::texts(&command.env("NETRC", world.path("netrc")).output().unwrap());
    assert!(code == 8 && err.contains("answered 401"), "{code} {err}");
    let (code, out, err) = world.says(&["top", "--once", "--login", "login", monitor.host()]);
    assert!(code == 0 && out.contains("NVIDIA H100") && err.is_empty(), "{code} {err}");
}

/// What is not known, or can't be used, is not passed over: whoever wrote it relies on it.
#[test]
fn files_that_cant_be_used() {
    let world = World::new();
    let fake = FakeNvml::new(&world.path("nvml"), &FakeNvml::h100s(1));
    for (config, code, says) in [
        (
            "http_server_config:\n  http2: false\n",
            3,
            "etc/web.yml: line 1: `http_server_config` is not known",
        ),
        (
            &format!("{TLS}  cipher_suites: x\n"),
            3,
            "etc/web.yml: line 4: `cipher_suites` is not known",
        ),
        (
            &format!("{TLS}  min_version: TLS11\n"),
            3,
            "line 4: min_version is `TLS11`, and TLS12 and TLS13 are spoken",
        ),
        (&TLS.replace("server.key", "none.key"), 7, "none.key: No such file"),
        (&TLS.replace("server.key", "client.key"), 3, "TLS: certificate and key can't be used"),
        (
            "basic_auth_users:\n  \"\": $2y$05$S8.ks7lcwInJ6sk1kcKLYOpPYFFFSA2iDrBQen3Enevv5Koo93Ca2\n",
            3,
            "line 2: the user has no name",
        ),
        ("basic_auth_users:\n  u: s3cret\n", 3, "line 2: its password is not hashed with bcrypt"),
    ] {
        let output = command(&world, &fake, config).output().unwrap();
        let (came, out, err) = world::texts(&output);
        assert!(came == code && err.contains(says), "{config}: {came} {err}");
        assert!(
            out.is_empty() && !err.contains("s3cret") && err.contains("hint: ") == (code == 3),
            "{err}"
        );
    }
    let words = ["monitor", "--web-config", "etc/web.yml", "--textfile", "x.prom"];
    let (code, _, err) = world.says(&words);
    assert!(code == 2 && err.contains("give --listen"), "{code} {err}");
}
