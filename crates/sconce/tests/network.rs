//! Whom `sconce` asks over the network: through which proxy, and not where a peer sends it.

mod world;

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
}
