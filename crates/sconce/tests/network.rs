//! Whom `sconce` asks over the network: through which proxy, which registry, and not where a peer sends it.

mod world;

use std::fs;

use sconce_blob::Digest;
use sconce_testkit::{Fault, RegistryServer, Server};
use world::World;

const ECHO: &str = r#"{"Env": ["PATH=/usr/bin"], "Cmd": ["echo", "from the registry"]}"#;

/// What `sconce` says with these proxies set and no others.
fn with(world: &World, words: &[&str], set: &[(&str, &str)]) -> (i32, String, String) {
    let mut command = world.sconce(words);
    for name in ["http_proxy", "https_proxy", "all_proxy", "no_proxy"] {
        command.env_remove(name).env_remove(name.to_ascii_uppercase());
    }
    world::texts(&command.envs(set.iter().copied()).output().unwrap())
}

#[test]
fn this_machine_is_never_asked_through_a_proxy() {
    let (registry, proxy, world) = (RegistryServer::start(), Server::start(), World::new());
    registry.guard("Basic dTpzZWNyZXQ=");
    let (host, through) = (registry.host(), proxy.url(""));
    let port = host.rsplit_once(':').unwrap().1;
    let all = ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"]
        .map(|name| (name, through.as_str()));
    for host in [&host, &format!("localhost:{port}")] {
        let words = ["login", "-u", "u", "-p", "secret", host];
        let (code, out, err) = with(&world, &words, &all);
        assert!(code == 0 && proxy.connections() == 0, "{host}: {code} {out}{err}");
    }
    // Whether such a name leads anywhere is the machine's; it is nothing for others.
    let name = format!("registry.localhost:{port}/team/app:1");
    let _ = with(&world, &["pull", "--plain-http", &name], &all);
    assert_eq!(proxy.connections(), 0, "{:?}", proxy.requests());
}

#[test]
fn each_scheme_has_its_proxy_and_some_hosts_have_none() {
    let (registry, proxy, world) = (RegistryServer::start(), Server::start(), World::new());
    world.image(ECHO);
    let (host, through) = (registry.host(), proxy.url(""));
    let (code, _, err) = world.says(&["push", "oci:image", &format!("{host}/team/app:1")]);
    assert_eq!(code, 0, "{err}");
    // Linux takes it for this machine, and it is no loopback address.
    let (_, port) = host.split_once(':').unwrap();
    let name = format!("0.0.0.0:{port}/team/app:1");
    let pull = |set: &[(&str, &str)]| with(&world, &["pull", "--plain-http", &name], set);
    for without in ["10.0.0.0/8 , 0.0.0.0/8", &format!("0.0.0.0:{port}"), "b.invalid, *"] {
        let (code, _, err) = pull(&[("ALL_PROXY", &through), ("NO_PROXY", without)]);
        assert!(code == 0 && proxy.connections() == 0, "{without}: {err}");
    }
    let (code, _, err) = pull(&[("HTTPS_PROXY", &through)]);
    assert!(code == 0 && proxy.connections() == 0, "plain HTTP is no HTTPS: {err}");
    let (code, ..) = pull(&[("HTTP_PROXY", &through), ("NO_PROXY", "0.0.0.0:1, 10.0.0.0/8")]);
    let asked = proxy.requests();
    let first = asked.first().map(|request| (request.method.as_str(), request.path.as_str()));
    assert!(code != 0 && first == Some(("CONNECT", &name[..name.len() - 11])), "{asked:?}");
}

/// Somebody meant requests to go through a proxy: they don't go past it.
#[test]
fn a_proxy_that_cannot_be_used_is_refused() {
    let world = World::new();
    for (variable, value, shown) in [
        ("HTTPS_PROXY", "socks5://me:secret@proxy.invalid:1080", "socks5://proxy.invalid:1080"),
        ("https_proxy", "ftp://proxy.invalid", "ftp://proxy.invalid"),
        ("ALL_PROXY", "htp://me:secret@proxy.invalid:3128", "htp://proxy.invalid:3128"),
        ("HTTPS_PROXY", "http://me:secret@proxy.invalid:31x28", "http://proxy.invalid:31x28"),
    ] {
        let registry = Server::start();
        // Linux takes it for this machine, and it is no loopback address.
        let name = registry.url("/app:1").replace("http://127.0.0.1", "0.0.0.0");
        let (code, _, err) = with(&world, &["pull", &name], &[(variable, value)]);
        let says = format!("{variable} names `{shown}` as the proxy");
        assert!(code == 2 && err.contains(&says), "{code} {err}");
        assert!(err.contains("`http://HOST:PORT`") && err.contains("NO_PROXY"), "{err}");
        assert!(!err.contains("secret"), "{err}");
        assert_eq!(registry.connections(), 0, "{err}");
        // What the hint says holds.
        let without = [(variable, value), ("NO_PROXY", "0.0.0.0")];
        let (code, _, err) = with(&world, &["pull", "--plain-http", &name], &without);
        assert!(code == 5 && err.contains("has no app:1"), "{code} {err}");
        let (code, _, err) = with(&world, &["pull", "--plain-http", &name], &[(variable, "")]);
        assert!(code == 5 && err.contains("has no app:1"), "{code} {err}");
        if variable == "HTTPS_PROXY" {
            // It is for TLS alone.
            let (code, _, err) =
                with(&world, &["pull", "--plain-http", &name], &[(variable, value)]);
            assert!(code == 5 && err.contains("has no app:1"), "{code} {err}");
        }
    }
}

#[test]
fn a_peer_leads_nowhere_else() {
    let registry = RegistryServer::start();
    let name = format!("{}/lab/demo:1", registry.host());
    let (peer, victim, world) = (Server::start(), Server::start(), World::new());
    world.image(ECHO);
    assert_eq!(world.says(&["push", "oci:image", &name]).0, 0);
    let manifest = registry.manifest("lab/demo", "1").unwrap();
    let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    let layer = manifest["layers"][0]["digest"].as_str().unwrap();
    let asked = format!("/v2/sconce/blobs/{layer}");
    peer.always(&asked, Fault::Redirect(victim.url("/latest/meta-data")));
    let at = peer.url("").replace("http://", "");
    let (code, _, err) = with(&World::new(), &["--peer", &at, "pull", &name], &[]);
    assert_eq!(code, 0, "{err}");
    assert!(!peer.requests_for(&asked).is_empty(), "{:?}", peer.requests());
    assert_eq!(victim.connections(), 0, "{:?}", victim.requests());
    // Blanks are no part of an address, and what is none is a slip of who wrote it.
    let listed = format!(" {at} , {at}");
    let (code, _, err) = with(&World::new(), &["pull", &name], &[("SCONCE_PEERS", &listed)]);
    assert_eq!(code, 0, "{err}");
    let (code, _, err) = with(&World::new(), &["--peer", "node1/path", "pull", &name], &[]);
    assert!(code == 2 && err.contains("HOST:PORT"), "{code} {err}");
}

/// A name of a registry is that of what the registry has now, as for `show` and `verify-signature`, whatever was pulled before.
#[test]
fn a_copy_asks_the_registry() {
    let registry = RegistryServer::start();
    let name = |tag: &str| format!("{}/team/app:{tag}", registry.host());
    let (home, there) = (World::new(), World::new());
    let says = |world: &World, words: &[&str]| {
        let (code, out, err) = world.says(words);
        assert_eq!(code, 0, "{words:?}: {out}{err}");
        out.trim().to_owned()
    };
    let (here, other) = match cfg!(target_arch = "aarch64") {
        true => ("arm64", "amd64"),
        false => ("amd64", "arm64"),
    };
    for arch in [here, other] {
        home.image_for(arch, ECHO);
        fs::rename(home.path("image"), home.path(arch)).unwrap();
    }
    let one = format!("oci:{here}");
    says(&home, &["push", &one, &name("1")]);
    let old = says(&there, &["pull", &name("1")]);
    let both = format!("oci:{other}");
    says(&home, &["push", &one, &both, &name("1")]);
    let index = Digest::of(&registry.manifest("team/app", "1").unwrap()).to_string();

    let mine = says(&there, &["copy", "--platform", other, &name("1"), "oci:other"]);
    assert_ne!(mine, old, "the image for another platform");
    assert_eq!(says(&there, &["copy", "--all", &name("1"), &name("2")]), index);
    assert_eq!(says(&there, &["copy", "--all", &name("1"), "oci:all"]), index);
    // What `push` sends is what the store has of that name.
    assert_eq!(says(&there, &["push", &name("1")]), old);
    assert_eq!(says(&there, &["copy", &name("1"), "oci:one"]), old);
    // That is for one platform, and there is no other in the registry now.
    says(&there, &["copy", "oci:one", "store:mine"]);
    for words in [
        ["copy", "--platform", other, "mine", "oci:none"],
        ["push", "--platform", other, "mine", &name("3")],
        ["copy", "--platform", other, &name("1"), "oci:none"],
    ] {
        let (code, _, err) = there.says(&words);
        let said = format!("is for {here}, not for {other}");
        let said = err.contains(&said) || err.contains(&format!("is not for {other}"));
        assert!(code != 0 && said && !there.path("none").exists(), "{words:?}: {code} {err}");
    }
    assert!(registry.manifest("team/app", "3").is_none());
}
