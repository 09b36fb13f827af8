//! `sconce run` of an image that somebody else made: needs root, or user namespaces.

mod world;

use std::fs;
use std::process::Command;

use world::{World, texts};

fn run(world: &World, options: &[&str], command: &[&str]) -> String {
    let words = [&["run", "--gpus", "none", "-q"], options, &["oci:image"], command].concat();
    let (code, out, err) = world.says(&words);
    assert_eq!(code, 0, "{words:?}\n{out}{err}");
    out
}

#[test]
fn after_the_target_everything_is_the_commands() {
    let world = World::new();
    world.image(r#"{"Env": ["PATH=/usr/bin"], "Entrypoint": ["echo"], "Cmd": ["from the image"]}"#);
    assert_eq!(run(&world, &[], &[]), "from the image\n");
    let words = ["-h", "--help", "--gpus", "all", "--", "--privileged", "-q"];
    assert_eq!(run(&world, &[], &words), words.join(" ") + "\n");
    assert_eq!(run(&world, &["--"], &["--rm"]), "--rm\n");
    assert_eq!(run(&world, &["--entrypoint", ""], &["echo", "x"]), "x\n");
    assert_eq!(run(&world, &["--entrypoint", "pwd", "-w", "/tmp"], &[]), "/tmp\n");
}

#[test]
fn null_in_the_configuration_is_nothing() {
    let world = World::new();
    world.image(r#"{"Cmd": null, "Entrypoint": null, "Env": null, "Labels": null}"#);
    assert_eq!(run(&world, &["-e", "A=1"], &["sh", "-c", "echo $A"]), "1\n");
    let (code, _, err) = world.says(&["run", "--gpus", "none", "oci:image"]);
    assert!(code == 125 && err.contains("names no command"), "{err}");
    assert_eq!(world.says(&["run", "--gpus", "none", "oci:image", "nowhere"]).0, 127);
    assert_eq!(world.says(&["run", "--gpus", "none", "oci:image", "/etc/passwd"]).0, 126);
}

#[test]
fn what_keeps_a_command_from_starting_is_named() {
    use std::os::unix::fs::PermissionsExt;
    let world = World::new();
    world.image(r#"{"Env": ["PATH=/usr/bin"]}"#);
    fs::write(world.path("lost"), "#!/no/such/interpreter\n").unwrap();
    fs::set_permissions(world.path("lost"), fs::Permissions::from_mode(0o755)).unwrap();
    let (code, _, err) =
        world.says(&["run", "--gpus", "none", "-v", "./lost:/lost", "oci:image", "/lost"]);
    assert!(code == 126 && err.contains("its interpreter (after `#!`)"), "{code} {err}");
    let world = World::new();
    world.image(r#"{"Env": ["PATH=/usr/bin", "BAD=x\u0000y"]}"#);
    let (code, _, err) = world.says(&["run", "--gpus", "none", "oci:image", "true"]);
    assert!(code == 125 && err.contains(r"variable 'x\0y': a NUL byte"), "{code} {err}");
    let world = World::new();
    world.image(r#"{"Env": ["PATH=/usr/bin"], "WorkingDir": "/etc/passwd/x"}"#);
    let (code, _, err) = world.says(&["run", "--gpus", "none", "oci:image", "true"]);
    assert!(code == 125 && err.contains("working folder '/etc/passwd/x'"), "{code} {err}");
    let world = World::new();
    world.image(r#"{"Env": ["PATH=/usr/bin"], "User": "nosuch"}"#);
    let start = ["run", "--gpus", "none", "oci:image", "true"];
    let (code, _, err) = world.says(&start);
    let said = "the image oci:image is to run as its USER 'nosuch': the image has no user 'nosuch'";
    assert!(code == 125 && err.contains(said) && err.contains("`--user 0`"), "{code} {err}");
    assert_eq!(world.says(&[&start[..3], &["--user", "0"], &start[3..]].concat()).0, 0);
    let (_, _, err) = world.says(&[&start[..3], &["--user", "no"], &start[3..]].concat());
    assert!(err.contains("--user 'no': the image has no user 'no'"), "{err}");
}

#[test]
fn an_image_that_is_here_alone_is_not_pulled_and_that_is_said() {
    let world = World::new();
    world.image(r#"{"Env": ["PATH=/usr/bin"]}"#);
    assert_eq!(world.says(&["copy", "oci:image", "store:hello"]).0, 0);
    for (pull, said) in [("always", true), ("missing", false)] {
        let words = ["run", "--gpus", "none", "--pull", pull, "hello", "true"];
        let (code, _, err) = world.says(&words);
        assert_eq!((code, err.contains("`hello` is an image of this store alone")), (0, said));
    }
}

#[test]
fn an_archive_is_taken_in_and_run() {
    let world = World::new();
    world.image(r#"{"Env": ["PATH=/usr/bin"], "Cmd": ["echo", "x"]}"#);
    let tar = Command::new("tar")
        .args(["--create", "--file"])
        .arg(world.path("image.tar"))
        .arg("--directory")
        .arg(world.path("image"))
        .args(["blobs", "index.json", "oci-layout"])
        .status();
    assert!(tar.unwrap().success());
    for target in ["docker-archive:image.tar", "./image.tar", "./image"] {
        let (code, out, err) = world.says(&["run", "-q", "--gpus", "none", target]);
        assert_eq!((code, out.as_str()), (0, "x\n"), "{target}\n{err}");
    }
}

#[test]
fn volumes_are_mounted_parents_first() {
    let world = World::new();
    world.image(r#"{"Env": ["PATH=/usr/bin"]}"#);
    for (folder, file) in [("a", "outer"), ("b", "inner")] {
        fs::create_dir_all(world.path(folder).join("in")).unwrap();
        fs::write(world.path(folder).join(file), "").unwrap();
    }
    let options = ["-v", "./b:/data/in", "-v", "./a:/data"];
    let seen = run(&world, &options, &["sh", "-c", "ls /data /data/in"]);
    assert!(seen.contains("outer") && seen.contains("inner"), "{seen}");
    // The home folder behind `=`, where no shell replaces it; a missing folder is made.
    run(&world, &["--volume=~/new:/new"], &["true"]);
    assert!(world.path("home/new").is_dir());
    fs::write(world.path("env.list"), "QUOTED=\"a b\"\n#no\nPLAIN=1\n").unwrap();
    let seen = run(
        &world,
        &["--env-file", "env.list", "-e", "PLAIN=2"],
        &["sh", "-c", "echo $QUOTED $PLAIN"],
    );
    assert_eq!(seen, "\"a b\" 2\n");
}

#[test]
fn a_port_that_can_not_be_kept_to_an_address_is_said() {
    let world = World::new();
    world.image(r#"{"Env": ["PATH=/usr/bin"]}"#);
    let words = ["run", "--gpus", "none", "-p", "127.0.0.1:48731:48731", "oci:image", "true"];
    let (code, _, err) = world.says(&words);
    assert_eq!(code, 0, "{err}");
    let notes: Vec<&str> = err.lines().filter(|line| line.contains("127.0.0.1:48731")).collect();
    assert!(notes.len() == 1 && notes[0].contains("--network private"), "{err}");
}

#[test]
fn volumes_of_the_image_are_there() {
    let world = World::new();
    world.image(r#"{"Env": ["PATH=/usr/bin"], "Volumes": {"/data/in": {}, "/tmp": {}}}"#);
    assert_eq!(run(&world, &[], &["sh", "-c", "echo x >/data/in/x && ls /data/in"]), "x\n");
    let nothing = run(&world, &["-v", "./here:/data"], &["sh", "-c", "ls /data"]);
    assert_eq!(nothing, "", "a volume of the caller's comes first");
}

#[test]
fn a_port_that_another_has_is_refused() {
    let world = World::new();
    world.image(r#"{"Env": ["PATH=/usr/bin"]}"#);
    let taken = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let six = std::net::TcpListener::bind("[::1]:0").unwrap();
    let of_six = six.local_addr().unwrap().port();
    let taken_ports = [(port, port), (port, 80), (of_six, of_six)];
    for (port, given) in taken_ports.map(|(host, inside)| (host, format!("{host}:{inside}"))) {
        let words = ["run", "--gpus", "none", "-p", &given, "oci:image", "true"];
        let (code, _, err) = world.says(&words);
        assert!(code == 125 && err.contains(&format!("port {port}")), "{code} {err}");
    }
}

#[test]
fn what_cannot_be_mounted_there_is_said() {
    let world = World::new();
    world.image(r#"{"Env": ["PATH=/usr/bin"]}"#);
    fs::write(world.path("file"), "").unwrap();
    std::os::unix::fs::symlink("nothing", world.path("dangling")).unwrap();
    std::os::unix::fs::symlink("round", world.path("round")).unwrap();
    run(&world, &["-v", "./file:/tmp/new/", "-v", "./folder:/new"], &["true"]);
    run(&world, &["-w", "/dev/shm"], &["true"]);
    run(&world, &["-w", "/sys/kernel"], &["true"]);
    for (volumes, words) in [
        (["./file:/a", "./folder:/a/b"], "/a is a file in the container"),
        (["./folder:/a:ro", "./file:/a/b"], "it is not there in the read-only volume at /a"),
    ] {
        let words_of_it =
            ["run", "--gpus", "none", "-v", volumes[0], "-v", volumes[1], "oci:image", "true"];
        let (code, _, err) = world.says(&words_of_it);
        assert!(code == 125 && err.contains(words), "{volumes:?}: {code} {err}");
    }
    for (option, given, words) in [
        ("-v", "./file:/tmp", "a file can't be mounted on it"),
        ("-v", "./folder:/etc/passwd", "a folder can't be mounted on it"),
        ("--tmpfs", "/etc/passwd", "a folder can't be mounted on it"),
        ("-v", "./folder:/etc/hosts", "a folder can't be mounted on it"),
        ("-v", "./folder:/etc/resolv.conf", "a folder can't be mounted on it"),
        ("-v", "./file:/dev/shm", "a file can't be mounted on it"),
        ("-v", "./folder:/dev/null", "a folder can't be mounted on it"),
        ("-v", "./file:/dev/null", "it is a device file of the container's own"),
        ("-v", "./file:/sys/kernel", "a file can't be mounted on it"),
        ("-v", "./file:/sys/new", "nothing can be made in /proc and /sys"),
        ("-v", "./folder:/etc/passwd/x", "/etc/passwd is a file in the container"),
        ("--tmpfs", "/usr/bin/sh/x", "/usr/bin/sh is a file in the container"),
        ("-v", "./dangling:/x", "it is a link to what is not there"),
        ("--device", "/dev/full:/etc", "device files are in /dev only"),
        ("--device", "/dev/full:/etc/new", "device files are in /dev only"),
        ("--device", "/dev/full:/dev/pts", "a file can't be mounted on it"),
        ("--device", "/dev/full:/dev/null/x", "/dev/null is a file in the container"),
        ("--device", "/dev/full:/etc/passwd", "device files are in /dev only"),
        ("-w", "/proc/self/fd/7", "it is a folder of one process"),
        ("--device", "/etc/hosts", "neither a device node nor a folder of them"),
        ("-v", "./round:/x", "it can't be looked at (Too many levels of symbolic links"),
        ("-w", "/etc/hosts", "/etc/hosts is a file of this machine"),
        ("-w", "/etc/passwd/x", "it is not there, and can't be made"),
        ("-w", "/proc/new", "none can be made in /proc, /sys and /dev"),
        ("-w", "/sys/new/x", "none can be made in /proc, /sys and /dev"),
        ("-w", "/dev/shm/new", "none can be made in /proc, /sys and /dev"),
        ("-w", "/dev/null", "none can be made in /proc, /sys and /dev"),
        ("-v", "./store/trees:/s:ro", "is in sconce's store"),
        ("-v", "./store/containers:/s", "is in sconce's store"),
    ] {
        let words_of_it = ["run", "--gpus", "none", option, given, "oci:image", "true"];
        let (code, _, err) = world.says(&words_of_it);
        assert!(code == 125 && err.contains(words), "{given}: {code} {err}");
    }
}

/// A store below the user's own, and a store whose folder lies elsewhere, are as much the store.
#[test]
fn every_folder_of_every_store_is_kept_from_volumes() {
    let world = World::new();
    world.image(r#"{"Env": ["PATH=/usr/bin"]}"#);
    let start = |options: &[&str], command: &str| {
        let words = ["run", "--gpus", "none"];
        let mut sconce =
            world.sconce(&[&words[..], options, &["oci:image", "sh", "-c", command]].concat());
        texts(&sconce.env("SCONCE_STORES", world.path("machine")).output().unwrap())
    };
    let made = world
        .sconce(&["run", "--gpus", "none", "oci:image", "true"])
        .env("SCONCE_HOME", world.path("machine"))
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", texts(&made).2);
    assert_eq!(start(&[], "true").0, 0);
    // The user's own copy of the tree.
    run(&world, &[], &["true"]);
    fs::rename(world.path("store/trees"), world.path("elsewhere")).unwrap();
    std::os::unix::fs::symlink("../elsewhere", world.path("store/trees")).unwrap();
    // A tree alone may lie elsewhere as well.
    let tree = fs::read_dir(world.path("machine/trees")).unwrap().next().unwrap().unwrap().path();
    fs::rename(&tree, world.path("tree")).unwrap();
    std::os::unix::fs::symlink("../../tree", &tree).unwrap();
    let inside = fs::read_dir(world.path("elsewhere")).unwrap().next().unwrap().unwrap();
    let inside = format!("./elsewhere/{}:/s", inside.file_name().display());
    for given in ["./machine/trees:/s:ro", "./machine/images:/s", "./tree/usr:/s", &inside] {
        let (code, _, err) = start(&["-v", given], "true");
        assert!(code == 125 && err.contains("is in sconce's store"), "{given}: {code} {err}");
    }
    for given in ["./machine:/s", "./elsewhere:/s", "./tree:/s"] {
        assert_eq!(start(&["-v", given], "ls /s").1, "", "{given}");
    }
    let (code, seen, err) = start(&["-v", "./:/s"], "ls /s/store /s/machine /s/elsewhere");
    assert_eq!((code, &*seen), (0, "/s/elsewhere:\n\n/s/machine:\n\n/s/store:\n"), "{err}");
}

#[test]
fn a_working_folder_that_is_gone_is_no_obstacle() {
    let world = World::new();
    world.image(r#"{"Env": ["PATH=/usr/bin"]}"#);
    run(&world, &[], &["true"]);
    let image = world.path("image");
    let script = format!(
        "mkdir gone && cd gone && rmdir ../gone && exec {} run --gpus none oci:{} echo x",
        env!("CARGO_BIN_EXE_sconce"),
        image.display()
    );
    let output = Command::new("sh")
        .args(["-c", &script])
        .current_dir(world.path(""))
        .env("SCONCE_HOME", world.path("store"))
        .output()
        .unwrap();
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && output.stdout == b"x\n", "{err}");
}

/// What a network of its own does not have is refused before anything starts.
/// Root can change the machine's kernel settings through such a volume: not without a word.
#[test]
fn a_volume_of_kernel_settings_is_said() {
    for (world, said) in [(World::new(), true), (World::of_nobody(), false)] {
        world.image(r#"{"Env": ["PATH=/usr/bin"]}"#);
        for (volume, shows) in [("/proc:/p", true), ("/proc/sys:/p", true), ("/proc:/p:ro", false)]
        {
            let words = ["run", "--gpus", "none", "-v", volume, "oci:image", "true"];
            let (code, _, err) = world.says(&words);
            assert_eq!(code, 0, "{err}");
            assert_eq!(
                err.contains("the kernel's settings of this machine"),
                shows && said,
                "{err}"
            );
        }
    }
}

#[test]
fn a_private_network_does_not_reach_this_machine() {
    let world = World::new();
    world.image(r#"{"Env": ["PATH=/usr/bin"], "ExposedPorts": {"53/udp": {}, "6006/tcp": {}}}"#);
    let seen = run(&world, &["--add-host", "me:host-gateway", "-P"], &["cat", "/etc/hosts"]);
    assert!(seen.contains("127.0.0.1\tme\n"), "{seen}");
    for (option, value, words) in [
        ("--add-host", Some("me:host-gateway"), "does not reach this machine's services"),
        ("-P", None, "only single TCP ports are forwarded"),
    ] {
        let mut line = vec!["run", "--gpus", "none", "--network", "private", option];
        line.extend(value);
        let (code, out, err) = world.says(&[&line[..], &["oci:image", "echo", "x"]].concat());
        assert_eq!((code, out.as_str()), (125, ""), "{err}");
        assert!(err.contains(option) && err.contains(words), "{err}");
    }
}

/// Each option shows inside: what the request says is what the container has.
#[test]
fn options_reach_the_container() {
    let world = World::new();
    world.image(r#"{"Env": ["PATH=/usr/bin"]}"#);
    let sees = |options: &[&str], script: &str| run(&world, options, &["sh", "-c", script]);
    let limits = ["--ulimit", "nofile=77:99", "--ulimit", "core=0"];
    assert_eq!(sees(&limits, "ulimit -n; ulimit -Hn; ulimit -c"), "77\n99\n0\n");
    assert_eq!(sees(&["--group-add", "users", "--group-add", "4242"], "id -G"), "0 100 4242\n");
    let names = ["--dns", "9.9.9.9", "--dns-search", "lab", "--dns-option", "ndots:2"];
    let resolver = sees(&names, "cat /etc/resolv.conf");
    assert_eq!(resolver, "nameserver 9.9.9.9\nsearch lab\noptions ndots:2\n");
    let hosts =
        sees(&["-h", "node7", "--add-host", "db:10.1.2.3"], "cat /etc/hosts; echo $HOSTNAME");
    assert!(hosts.contains("10.1.2.3\tdb\n") && hosts.ends_with("node7\n"), "{hosts}");
    let mounts = ["--tmpfs", "/t:size=1m,mode=700", "--mount", "type=tmpfs,dst=/u,readonly"];
    let listed = sees(&mounts, "ls -ld /t /u; : > /t/x && echo wrote; echo > /u/x || echo not");
    assert!(listed.starts_with("drwx------") && listed.ends_with("wrote\nnot\n"), "{listed}");
    let status = "while read key value; do case $key in CapEff:|NoNewPrivs:|Seccomp:) echo $key $value;; esac; done < /proc/self/status";
    let bare = sees(&["--cap-drop", "ALL", "--security-opt", "no-new-privileges"], status);
    assert_eq!(bare, "CapEff: 0000000000000000\nNoNewPrivs: 1\nSeccomp: 2\n");
    let open = sees(&["--security-opt", "seccomp=unconfined"], status);
    assert!(open.ends_with("NoNewPrivs: 0\nSeccomp: 0\n"), "{open}");
    let device =
        sees(&["--device", "/dev/null:/dev/nothing"], "echo x > /dev/nothing; ls /dev/nothing");
    assert_eq!(device, "/dev/nothing\n");
}

/// Only what is typed needs a terminal: the output of `-it` may go through a pipe.
#[test]
fn a_terminal_may_be_piped_on() {
    let world = World::new();
    world.image(r#"{"Env": ["PATH=/usr/bin"]}"#);
    let line = format!(
        "{} run -q --gpus none -it oci:image sh -c 'test -t 0 && echo typed' | cat",
        env!("CARGO_BIN_EXE_sconce")
    );
    // script(1) of util-linux gives the line a terminal.
    let mut script = Command::new("script");
    script.args(["-qec", &line, "/dev/null"]).current_dir(world.path(""));
    script.env("SCONCE_HOME", world.path("store")).stdin(std::process::Stdio::null());
    let (code, out, err) = texts(&script.output().unwrap());
    assert!(code == 0 && out.contains("typed"), "{out}{err}");
}
