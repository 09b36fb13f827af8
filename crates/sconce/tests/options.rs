//! The options of `sconce run`, as a user types them: what is refused says what to do, and no line that
//! people copy from documentation ends in a riddle. None of it needs an image.

mod world;

use std::fs;

use sconce_start::docker::{Verdict, flags};
use world::World;

/// The line was understood: what is wrong is only that there is no such image, or no GPU.
fn understood(world: &World, line: &str) {
    let words: Vec<&str> = line.split_whitespace().collect();
    let words: Vec<String> = words.iter().map(|word| word.replace('\'', "")).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let (code, out, err) = world.says(&words);
    assert_eq!((code, out.as_str()), (125, ""), "{line}\n{err}");
    let known = ["no-such-image", "no NVIDIA driver", "takes a folder with a sconce.toml"];
    assert!(known.iter().any(|known| err.contains(known)), "{line}\n{err}");
    clean(line, &err);
}

/// None of clap's guesses, which name things that nobody typed.
fn clean(line: &str, err: &str) {
    for guess in
        ["to pass '", "Usage:", "a value is required", "unexpected argument", "a similar argument"]
    {
        assert!(!err.contains(guess), "{line}\n{err}");
    }
}

#[track_caller]
fn refused(world: &World, words: &[&str], says: &[&str]) {
    let (code, out, err) = world.says(words);
    assert_eq!((code, out.as_str()), (125, ""), "{words:?}\n{err}");
    for word in says {
        assert!(err.contains(word), "{words:?}: lacks `{word}`\n{err}");
    }
    clean(&words.join(" "), &err);
}

/// Every row of the table, through the program.
#[test]
fn every_flag_of_docker_does_what_the_table_says() {
    let world = World::new();
    for flag in flags() {
        let long = format!("--{}", flag.name);
        let sentence = |words: &str| words.split([';', ':']).next().unwrap().trim().to_owned();
        let line = |value: Option<&str>| {
            let mut words = vec!["run", long.as_str()];
            words.extend(value);
            words.extend(["no-such-image", "true"]);
            words.join(" ")
        };
        match flag.verdict {
            Verdict::Works => {}
            Verdict::Refused => {
                let mut words = vec!["run", long.as_str()];
                words.extend(flag.value.as_ref().map(|_| "x"));
                words.push("no-such-image");
                refused(&world, &words, &[&long, "is refused", &sentence(&flag.words)]);
            }
            Verdict::Taken if flag.value.is_none() => understood(&world, &line(None)),
            Verdict::Taken => {
                let value = flag.values.first().map_or("x", String::as_str);
                understood(&world, &line(Some(value)));
                if let Some(otherwise) = &flag.otherwise {
                    let words = ["run", &long, "another", "no-such-image"];
                    refused(&world, &words, &[&long, "another", &sentence(otherwise)]);
                }
            }
        }
    }
}

/// Lines from the documentation of PyTorch, NGC, vLLM, TGI, Jupyter, Triton and Ray, and of drivers for
/// InfiniBand; the image is another.
#[test]
fn lines_that_people_type() {
    let world = World::new();
    fs::write(world.path("env.list"), "A=1\n").unwrap();
    for line in [
        "run --gpus all -it --rm --ipc=host --ulimit memlock=-1 --ulimit stack=67108864 no-such-image",
        "run --gpus all --rm -ti --ipc=host no-such-image bash",
        "run --runtime=nvidia --gpus all -v ~/.cache/huggingface:/root/.cache/huggingface --env HUGGING_FACE_HUB_TOKEN=x -p 8000:8000 --ipc=host no-such-image --model mistralai/Mistral-7B-v0.1",
        "run --gpus '\"device=0,1\"' --shm-size=1g no-such-image nvidia-smi",
        "run --gpus=all --shm-size 1g -p 8080:80 -v ./data:/data no-such-image --model-id x --quantize awq",
        "run --network=host --cap-add=SYS_PTRACE --security-opt seccomp=unconfined no-such-image",
        "run --net=host -e NVIDIA_VISIBLE_DEVICES=all -e NVIDIA_DRIVER_CAPABILITIES=compute,utility no-such-image",
        "run -d --name tb -p 6006:6006 -v /tmp:/logs:ro no-such-image tensorboard --logdir /logs --bind_all",
        "run -p 127.0.0.1:8888:8888 -e JUPYTER_ENABLE_LAB=yes -v ./work:/home/jovyan/work no-such-image start-notebook.py",
        "run -u 1000:1000 --group-add users -w /work --mount type=bind,src=/tmp,dst=/work no-such-image",
        "run --mount type=tmpfs,destination=/scratch,tmpfs-size=1g --tmpfs /run:rw,noexec,size=64m --tmpfs /big:size=50%,uid=1000,gid=5 no-such-image",
        "run --device=/dev/null --device /dev/zero:/dev/z:rwm --ulimit nofile=1024:2048 no-such-image",
        "run --device nvidia.com/gpu=all no-such-image",
        "run --cap-drop ALL --cap-add NET_BIND_SERVICE --security-opt no-new-privileges:true --read-only no-such-image",
        "run --memory 64g --memory-swap -1 --cpus=8 --cpuset-cpus 0 --pids-limit -1 --oom-score-adj 0 no-such-image",
        "run --init --restart no --rm=true -i=false --pull missing --platform linux no-such-image",
        "run --env-file env.list --label a=b -l c --stop-signal SIGINT --stop-timeout 30 --entrypoint  no-such-image",
        "run --add-host db:10.0.0.1 --dns 1.1.1.1 --dns-search lab --dns-opt ndots:1 -h node1 --uts host no-such-image",
        "run -P --expose 80 --sig-proxy=true -a stdout -a stderr --log-driver json-file --userns host --pid=host no-such-image",
        "run -eA=1 -p8080:80 -v/tmp:/x -w=/x -itu0 no-such-image",
        "--offline run --quiet --threads 2 no-such-image",
        "run --cpu-quota 50000 --cpu-period 100000 --cgroupns private --isolation default no-such-image",
        "run -p 8000-8002:8000-8002 -p 9000 no-such-image",
        "run -m 0 --cpus=0 --shm-size 0b --user= --name a --name b no-such-image",
    ] {
        // Without a terminal `-t` is refused, rightly; that is asked elsewhere.
        let line = line.replace("-itu0", "-iu0").replace("-it ", "-i ").replace("-ti ", "-i ");
        let line = line.replace("--entrypoint  ", "--entrypoint= ");
        understood(&world, &line);
    }
}

#[test]
fn what_is_wrong_is_said_in_a_sentence() {
    let world = World::new();
    let image = "no-such-image";
    let lines: &[(&[&str], &[&str])] = &[
        (&["run", "--privileged", image], &["--privileged is refused", "--cap-add"]),
        (&["run", "-it", "--gpu", "all", image], &["no option --gpu", "did you mean --gpus?"]),
        (&["run", "--nonsense", image], &["no option --nonsense", "after the target"]),
        (&["run", "-Z", image], &["no option -Z"]),
        (&["run", "--name"], &["--name needs a value"]),
        (&["run", "--gpus", "all"], &["needs a target"]),
        (&["run"], &["needs a target"]),
        (&["run", "--rm=maybe", image], &["--rm 'maybe'", "true or false"]),
        (
            &["run", "--restart", "unless-stopped", image],
            &["--restart unless-stopped", "sconce generate systemd"],
        ),
        (&["run", "--network", "bridge", image], &["--network 'bridge'", "private"]),
        (&["run", "--network", "container:x", image], &["localhost"]),
        (&["run", "--net", "mynet", image], &["no named networks"]),
        (&["run", "--gpus", "none", "--pull", "always", "torch:2.9.1"], &["sconce lock --upgrade"]),
        (&["run", "--pull", "sometimes", image], &["missing, always and never"]),
        (&["run", "--platform", "linux/riscv64", image], &["linux/amd64 and linux/arm64"]),
        (&["run", "--ulimit", "nofiles=1", image], &["no limit `nofiles`", "nofile"]),
        (&["run", "--cap-add", "SYS_PTRAC", image], &["SYS_PTRACE"]),
        (&["run", "--security-opt", "seccomp=/nowhere", image], &["seccomp profile", "/nowhere"]),
        (&["run", "--mount", "type=volume,src=data,dst=/d", image], &["no named volumes"]),
        (&["run", "--mount", "type=bind,src=/no/where,dst=/d", image], &["/no/where", "not there"]),
        (&["run", "-v", "data:/data", image], &["./data"]),
        (&["run", "-v", "/no/where:/data:ro", image], &["/no/where", "not there"]),
        (&["run", "-v", "/tmp:/data", "-v", "/etc:/data/", image], &["two mounts at /data"]),
        (&["run", "-v", "/tmp:/data", "--tmpfs", "/data", image], &["two mounts at /data"]),
        (&["run", "--device", "/dev/nowhere", image], &["/dev/nowhere", "no such node"]),
        (&["run", "-p", "80:80", "-p", "80:81", image], &["port 80", "twice"]),
        (&["run", "-p", "53:53/udp", image], &["UDP"]),
        (&["run", "--memory-swap", "1g", "-m", "2g", image], &["--memory"]),
        (&["run", "--stop-signal", "SIGNOTHING", image], &["no such signal"]),
        (&["run", "--name", "../x", image], &["--name '../x'"]),
        (&["run", "--env-file", "nowhere.list", image], &["nowhere.list"]),
        (&["run", "-t", image], &["standard input"]),
        (&["run", "./nowhere"], &["there is no ./nowhere"]),
        (&["run", "--pull", "never", "docker://alpine:3"], &["not in the store", "--pull never"]),
        (&["run", "--pull", "never", "docker://Alpine"], &["names no image", "small letters"]),
    ];
    for (words, says) in lines {
        refused(&world, words, says);
    }
}

/// Whatever keeps a container from starting is 125 for `run`; other commands have a code for each kind.
#[test]
fn run_has_one_code_for_all_that_comes_before_the_start() {
    let world = World::new();
    fs::create_dir(world.path("broken")).unwrap();
    fs::write(world.path("broken/sconce.toml"), "[run]\nvolums = []\n").unwrap();
    assert_eq!(world.says(&["run", "broken"]).0, 125);
    assert_eq!(world.says(&["build", "broken"]).0, 3);
    fs::create_dir(world.path("empty")).unwrap();
    assert_eq!(world.says(&["run", "./empty"]).0, 125);
    assert_eq!(world.says(&["build", "./empty"]).0, 3);
    assert_eq!(world.says(&["verify", "--nonsense", "x"]).0, 2);
    assert_eq!(world.says(&["verify", "no-such-image", "--privileged"]).0, 2);
}

#[test]
fn each_command_says_what_it_takes() {
    let world = World::new();
    world.image("{}");
    let takes = |words: &[&str], says: &[&str]| {
        let (code, _, err) = world.says(words);
        assert_ne!(code, 0, "{words:?}");
        for word in says {
            assert!(err.contains(word), "{words:?}: lacks `{word}`\n{err}");
        }
    };
    takes(
        &["build", "./image"],
        &["`sconce build` takes a folder with a sconce.toml or a tag", "an OCI layout"],
    );
    takes(&["lock", "oci:image"], &["`sconce lock` takes", "an OCI layout"]);
    takes(&["lock", "no-such-image"], &["`sconce lock` takes", "sconce init"]);
    takes(&["doctor", "docker-archive:x.tar"], &["`sconce doctor` takes", "an image archive"]);
    takes(&["build", "ghcr.io/a/b:1"], &["an image in a registry", "sconce inspect"]);
}

/// A variable of `[run]` that is not set is refused by name, before anything is locked.
#[test]
fn variables_of_a_document() {
    let world = World::new();
    fs::create_dir(world.path("project")).unwrap();
    let text = "[environment]\ntorch = false\n[run]\nvolumes = [\"$SCRATCH_X/a:/a:ro\"]\n";
    fs::write(world.path("project/sconce.toml"), text).unwrap();
    refused(&world, &["run", "--trust", "project"], &["run.volumes", "SCRATCH_X is not set"]);
    let output = world
        .sconce(&["run", "--trust", "project"])
        .env("SCRATCH_X", "/no/where")
        .output()
        .unwrap();
    let (code, _, err) = world::texts(&output);
    assert!(code == 125 && err.contains("/no/where/a"), "{err}");
}

#[test]
fn help_is_help() {
    let world = World::new();
    for words in [&["run", "--help"][..], &["run", "-h"], &["verify", "--help"]] {
        let (code, out, _) = world.says(words);
        assert!(code == 0 && out.contains("--security-opt"), "{words:?}: {code}");
    }
}

/// What Docker has and sconce has not, and options that a command has not.
#[test]
fn what_is_not_here_is_said_with_what_to_do() {
    let world = World::new();
    for (words, says) in [
        (&["start", "x"][..], "`sconce run` starts a new one"),
        (&["load", "x"], "needs --into <ENGINE>"),
        (&["top", "x"], "sconce exec x ps"),
        (&["exec", "-d", "x", "true"], "leaves it running"),
        (&["stats", "--no-stream"], "`sconce stats` takes no `--no-stream`"),
        (&["ps", "--filter", "x"], "sconce ps --json"),
        (&["rmi"], "needs <NAME|DIGEST>"),
    ] {
        let (code, out, err) = world.says(words);
        // Where the exit code is a command's, this one says that it never started.
        let expected = if words[0] == "exec" { 125 } else { 2 };
        assert_eq!((code, out.as_str()), (expected, ""), "{words:?}\n{err}");
        assert!(err.contains(says) && err.contains("hint: "), "{words:?}\n{err}");
        clean(&words.join(" "), &err);
    }
    refused(&world, &["run", "ubuntu", "true"], &["sconce pull ubuntu", "docker://ubuntu"]);
    refused(&world, &["run", "-v", "/tmp:/dev", "ubuntu", "true"], &["--device brings single"]);
    refused(&world, &["run", "-v", "/tmp:/proc/x", "ubuntu", "true"], &["--device brings single"]);
    refused(&world, &["run", "-m", "1k", "ubuntu", "true"], &["6m at the least"]);
    refused(&world, &["run", "--cpuset-cpus", "1000", "ubuntu", "true"], &["no processor 1000"]);
    refused(&world, &["run", "--hostname", "a b", "ubuntu", "true"], &["a host name has"]);
}
