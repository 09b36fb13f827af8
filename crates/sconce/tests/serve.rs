//! `sconce serve` as a user starts it, and other homes that pull from it.

mod world;

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};

use world::World;

const ECHO: &str = r#"{"Env": ["PATH=/usr/bin"], "Cmd": ["echo", "from the store"]}"#;

/// A server that ends with the test.
struct Served {
    child: Child,
    host: String,
}

impl Served {
    fn start(world: &World, words: &[&str]) -> Self {
        let mut words = words.to_vec();
        words.splice(0..0, ["serve", "--listen", "127.0.0.1:0"]);
        let mut command = world.sconce(&words);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let host = line.trim().strip_prefix("http://").expect("its address").to_owned();
        Self { child, host }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn done(world: &World, words: &[&str]) -> String {
    let (code, out, err) = world.says(words);
    assert_eq!(code, 0, "{words:?}\n{out}{err}");
    out
}

#[test]
fn what_one_store_has_another_runs() {
    let (here, there) = (World::new(), World::new());
    here.image(ECHO);
    done(&here, &["copy", "oci:image", "store:lab/demo:1"]);
    let served = Served::start(&here, &["--no-build"]);
    let name = format!("{}/lab/demo:1", served.host);
    assert_eq!(done(&there, &["run", "-q", "--gpus", "none", &name]), "from the store\n");
    let digest = done(&there, &["pull", &name]);
    assert!(done(&here, &["images", "--json"]).contains(digest.trim()));
    let by_digest = format!("{}/lab/demo@{}", served.host, digest.trim());
    assert_eq!(done(&World::new(), &["pull", &by_digest]), digest);
    let (code, _, err) = there.says(&["pull", &format!("{}/lab/none:1", served.host)]);
    assert!(code == 5 && err.contains("has no lab/none:1"), "{code} {err}");
    let (code, _, err) = there.says(&["push", "oci:image", &format!("{}/lab/new:1", served.host)]);
    assert_ne!(code, 0, "{err}");
    let (code, _, err) = here.says(&["serve", "--listen", &served.host]);
    assert!(code == 8 && err.contains("another program listens there"), "{code} {err}");
}
