//! `sconce launch`, `sconce hang` and `sconce plan` as a person starts them, with a torch that only does what torchrun does and lets ranks add up
//! numbers: needs root, or user namespaces, and python3.

mod hang;
mod local;
mod preflight;
mod ssh;
mod words;
#[allow(dead_code)]
#[path = "../world/mod.rs"]
mod world;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use world::{World, texts};

/// A world whose image has this machine's python3 and the torch of `python`.
pub(crate) struct Launch {
    pub(crate) world: World,
    options: Vec<String>,
    home: String,
}

impl Launch {
    pub(crate) fn new() -> Self {
        let world = World::new();
        let asked = Command::new("python3")
            .args([
                "-c",
                "import sys, os; print(sys.base_prefix); print(os.path.realpath(sys.executable))",
            ])
            .output()
            .unwrap();
        let said = String::from_utf8(asked.stdout).unwrap();
        let (prefix, program) = said.trim().split_once('\n').unwrap();
        let mut options = vec!["-v".to_owned(), "/usr/lib:/usr/lib:ro".to_owned()];
        let mut volume = |text: String| options.extend(["-v".to_owned(), text]);
        volume(format!("{program}:/usr/bin/python3:ro"));
        if prefix != "/usr" {
            volume(format!("{prefix}:{prefix}:ro"));
        }
        let torch = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/launch/python");
        volume(format!("{}:/fake:ro", torch.display()));
        volume(format!("{}:/work", world.path("work").display()));
        fs::create_dir(world.path("work")).unwrap();
        let home = format!("PYTHONHOME={prefix}");
        let launch = Self { world, options, home };
        launch.image("/fake");
        launch
    }

    /// The image, its Python looking for packages here.
    pub(crate) fn image(&self, packages: &str) {
        self.world.image(&format!(
            r#"{{"Env": ["PATH=/usr/bin", "PYTHONPATH={packages}", "{}"], "WorkingDir": "/work"}}"#,
            self.home
        ));
    }

    pub(crate) fn program(&self, text: &str) {
        fs::write(self.world.path("work/train.py"), text).unwrap();
    }

    pub(crate) fn command(&self, options: &[&str], command: &[&str]) -> Command {
        let mut words = vec!["launch", "--evidence", "out"];
        words.extend(self.options.iter().map(String::as_str));
        words.extend(options);
        words.extend(["oci:image", "--"]);
        words.extend(command);
        self.world.sconce(&words)
    }

    pub(crate) fn says(&self, options: &[&str]) -> (i32, String, String) {
        texts(&self.command(options, &["train.py", "an argument"]).output().unwrap())
    }

    /// The only launch's folder.
    pub(crate) fn evidence(&self) -> std::path::PathBuf {
        let folders =
            fs::read_dir(self.world.path("out")).unwrap().flatten().map(|entry| entry.path());
        let folders: Vec<_> = folders.filter(|path| path.is_dir()).collect();
        assert_eq!(folders.len(), 1);
        folders[0].clone()
    }
}

/// Processes of this machine, containers' as well, that have this in their environment.
pub(crate) fn processes_with(mark: &str) -> usize {
    let all = fs::read_dir("/proc").unwrap().flatten();
    all.filter(|entry| {
        let environ = fs::read(entry.path().join("environ")).unwrap_or_default();
        String::from_utf8_lossy(&environ).contains(mark)
    })
    .count()
}

#[track_caller]
pub(crate) fn soon(what: &str, limit: Duration, holds: impl Fn() -> bool) {
    let end = Instant::now() + limit;
    while !holds() {
        assert!(Instant::now() < end, "not within {limit:?}: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}
