//! `sconce top` on a small terminal: what does not fit is reached by scrolling, and nothing is cut off that says what a row is.

#[allow(dead_code)]
mod world;

use std::fs;
use std::io::Read;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fd::OwnedFd;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use sconce_testkit::FakeNvml;
use world::World;

/// `sconce top` on a terminal of 80 columns and 24 rows.
struct Top {
    child: std::process::Child,
    master: OwnedFd,
    shown: Receiver<String>,
    screen: String,
}

impl Top {
    fn start(world: &World, fake: &FakeNvml) -> Self {
        Self::with(world, fake, &["top"])
    }

    fn with(world: &World, fake: &FakeNvml, words: &[&str]) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let size = rustix::termios::Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
        rustix::termios::tcsetwinsize(&master, size).unwrap();
        let path = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
        let terminal = || fs::File::options().read(true).write(true).open(&path).unwrap();
        let mut command = world.sconce(words);
        command.env("LD_LIBRARY_PATH", fake.folder()).env("FAKE_NVML_WORLD", fake.world());
        command.stdin(terminal()).stdout(terminal()).stderr(terminal());
        let child = command.spawn().unwrap();
        let (send, shown) = channel();
        let mut reader = fs::File::from(rustix::io::dup(&master).unwrap());
        thread::spawn(move || {
            let mut bytes = [0; 65536];
            while let Ok(count @ 1..) = reader.read(&mut bytes) {
                let _ = send.send(String::from_utf8_lossy(&bytes[..count]).into_owned());
            }
        });
        Self { child, master, shown, screen: String::new() }
    }

    fn press(&self, keys: &[u8]) {
        rustix::io::write(&self.master, keys).unwrap();
    }

    /// The screen, once all of that is on it.
    fn until(&mut self, wanted: &[&str]) -> String {
        let end = Instant::now() + Duration::from_secs(30);
        while !wanted.iter().all(|word| self.screen.contains(word)) {
            match self.shown.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(text) if text.contains("\u{1b}[H") => self.screen = text,
                Ok(text) => self.screen += &text,
                Err(_) => panic!("never came: {wanted:?}\n{:?}", self.screen),
            }
        }
        self.screen.clone()
    }
}

impl Drop for Top {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Sixteen GPUs and an instance of MIG: clocks are whole, and the processes below are reached.
#[test]
fn more_gpus_than_rows() {
    let world = World::new();
    let own = std::process::id();
    let mut text = FakeNvml::h100s(16) + &format!("gpu.15.processes {own}:2000000000\n");
    for gpu in 0..16 {
        text += &format!("gpu.{gpu}.sm_mhz 1980\n");
    }
    for instance in 0..7 {
        text += &format!(
            "gpu.1.mig.{instance}.uuid MIG-{instance}\ngpu.1.mig.{instance}.gi {}\ngpu.1.mig.{instance}.ci 0\n\
             gpu.1.mig.{instance}.name NVIDIA H100 MIG 1g.10gb\ngpu.1.mig.{instance}.memory_total 10000000000\n\
             gpu.1.mig.{instance}.memory_used 4000000000\n",
            instance + 7
        );
    }
    text += "gpu.1.mig_mode 1\ngpu.1.mig_most 7\n";
    let fake = FakeNvml::new(&world.path("nvml"), &text);
    let mut top = Top::start(&world, &fake);
    // End, and back to the beginning.
    top.until(&["lines 1-23 of "]);
    top.press(b"\x1b[F");
    top.until(&[&format!(" {own} "), "PROGRAM"]);
    top.press(b"\x1b[1~");
    let first = top.until(&["1:7 1g.10gb", "1:13 1g.10gb", "  1980", "CLOCK", "lines 1-23 of "]);
    let row = format!(" {own} ");
    assert!(!first.contains(&row), "{first:?}");
    for _ in 0..5 {
        top.press(b"\x1b[6~");
    }
    let name = fs::read_to_string("/proc/self/comm").unwrap();
    top.until(&[&row, name.trim(), "PROGRAM"]);
    // Pressed beyond the end it comes back at once.
    for _ in 0..5 {
        top.press(b"\x1b[5~");
    }
    top.until(&["lines 1-23 of ", "this machine"]);
}

/// A GPU that is gone has no values and no processes any more, one that hangs none of now.
#[test]
fn gpus_that_are_not_there() {
    let world = World::new();
    let own = std::process::id();
    let busy = "gpu.1.util 97\ngpu.1.power_mw 699000\n";
    let text = FakeNvml::h100s(2) + busy + &format!("gpu.1.processes {own}:2000000000\n");
    let fake = FakeNvml::new(&world.path("nvml"), &text);
    let mut top = Top::start(&world, &fake);
    top.until(&["699/", &own.to_string()]);
    fake.becomes(&FakeNvml::h100s(1));
    let gone = top.until(&["it is no longer listed", " 0 processes"]);
    assert!(!gone.contains("699/") && !gone.contains(&own.to_string()), "{gone:?}");
    fake.becomes(&(FakeNvml::h100s(1) + "gpu.0.block_ms 60000\n"));
    top.until(&["no answer for 1"]);
}

/// What is called busy is the same live and once, and a version that says nothing is none.
#[test]
fn the_same_live_and_once() {
    let world = World::new();
    let gpu = r#""gpus":[{"index":0,"uuid":"GPU-1","model":"NVIDIA H100 80GB HBM3","values":{"utilization_ratio":1,"graphics_active_ratio":0.37}}]"#;
    let line = |at: u64| {
        format!("{{\"at_ms\":{},\"driver\":\"\",{gpu}}}\n", 1_700_000_000_000 + at * 1000)
    };
    let lines: String = (0..60).map(line).collect();
    let lines = format!("{{\"sconce_recording\":1,\"host\":\"node7\"}}\n{lines}");
    fs::write(world.path("r"), lines).unwrap();
    assert!(std::process::Command::new("gzip").arg(world.path("r")).status().unwrap().success());
    let (code, out, err) = world.says(&["top", "--replay", "r.gz", "--once"]);
    assert!(code == 0 && out.contains("37%") && !out.contains("100%"), "{out}{err}");
    let (_, out, _) = world.says(&["monitor", "--replay", "r.gz", "--once"]);
    assert!(!out.contains("DRIVER_VERSION=\"\""), "{out}");
    let fake = FakeNvml::new(&world.path("nvml"), &FakeNvml::h100s(1));
    let mut top = Top::with(&world, &fake, &["top", "--replay", "r.gz"]);
    top.until(&["node7, recorded  driver unknown", "37%"]);
    top.press(b"q");
    assert!(top.child.wait().unwrap().success());
}

/// With few GPUs they stay where they are, beside their processes.
#[test]
fn few_gpus_stay() {
    let world = World::new();
    let own = std::process::id();
    let text = FakeNvml::h100s(2) + &format!("gpu.0.processes {own}:2000000000\n");
    let fake = FakeNvml::new(&world.path("nvml"), &text);
    let mut top = Top::start(&world, &fake);
    top.until(&["this machine", &own.to_string()]);
    top.press(b"\x1b[6~\x1b[6~s");
    top.until(&["sort: memory", "this machine", "PROGRAM", &own.to_string()]);
}
