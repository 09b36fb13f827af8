//! Volumes as people write them.

use super::*;

fn env() -> Environment<'static> {
    Environment(&|name| (name == "HOME").then(|| "/home/ann".to_owned()))
}

fn bind(source: &str, target: &str, read_only: bool, create: bool) -> Bind {
    let volume =
        Volume { source: source.into(), target: target.into(), read_only, resolved: false };
    Bind { volume, create }
}

#[test]
fn volumes_are_made_unless_read_only() {
    let read = |given| volume(given, &env()).unwrap();
    assert_eq!(read("./data:/data"), bind("./data", "/data", false, true));
    assert_eq!(read("/data:/data:ro"), bind("/data", "/data", true, false));
    assert_eq!(read("~/data:/data"), bind("/home/ann/data", "/data", false, true));
    assert!(volume("~bob/x:/data", &env()).is_err());
}

#[test]
fn mounts_in_dockers_words() {
    let read = |given| mount(given, &env());
    let same = |given, expected| match read(given).unwrap() {
        Mount::Bind(found) => assert_eq!(found, expected, "{given}"),
        Mount::Tmpfs(found) => panic!("{given}: {found:?}"),
    };
    same("type=bind,source=/a,target=/b", bind("/a", "/b", false, false));
    same("type=bind,src=~/a,dst=/b,readonly", bind("/home/ann/a", "/b", true, false));
    same("\"type=bind\",\"src=/a,b\",destination=/b/,ro=false", bind("/a,b", "/b", false, false));
    let Mount::Tmpfs(found) = read("type=tmpfs,dst=/t,tmpfs-size=1g,tmpfs-mode=700").unwrap()
    else {
        panic!()
    };
    assert_eq!((found.size, found.mode), (Some(1 << 30), Some(0o700)));
    for (bad, word) in [
        ("source=/a,target=/b", "type=bind"),
        ("type=volume,source=data,target=/b", "no named volumes"),
        ("type=bind,target=/b", "source=DIR"),
        ("type=bind,source=/a", "target=DIR"),
        ("type=bind,source=/a,target=b", "start with /"),
        ("type=bind,source=/a,target=/b,volume-opt=x", "volume-opt"),
        ("type=npipe,source=/a,target=/b", "npipe"),
        ("type=bind,\"source=/a,target=/b", "quote"),
        ("type=bind,source=/a,target=/b,bind-propagation=shared", "propagation"),
    ] {
        let words = read(bad).unwrap_err().to_string();
        assert!(words.contains(word), "{bad}: {words}");
    }
}

#[test]
fn folders_in_memory() {
    let found = tmpfs("/run:rw,size=64m,mode=755,exec").unwrap();
    assert_eq!((found.size, found.mode, found.exec), (Some(64 << 20), Some(0o755), true));
    assert_eq!(
        tmpfs("/run:uid=5,gid=6,size=50%").map(|made| (made.uid, made.gid)).unwrap(),
        (Some(5), Some(6))
    );
    for bad in ["nr_inodes=5", "uid=x", "size=0%", "size=101%"] {
        assert!(tmpfs(&format!("/run:{bad}")).unwrap_err().to_string().contains(bad));
    }
    assert!(tmpfs("run").is_err());
}

#[test]
fn devices() {
    let node = |given| match device(given).unwrap() {
        Device::Node(node) => {
            (node.source.display().to_string(), node.target.display().to_string())
        }
        Device::Gpus(name) => (String::new(), name),
    };
    assert_eq!(node("/dev/fuse"), ("/dev/fuse".into(), "/dev/fuse".into()));
    assert_eq!(node("/dev/fuse:rwm"), ("/dev/fuse".into(), "/dev/fuse".into()));
    assert_eq!(node("/dev/a:/dev/b:rw"), ("/dev/a".into(), "/dev/b".into()));
    assert_eq!(node("nvidia.com/gpu=all"), (String::new(), "all".into()));
    for bad in ["/dev/a:/dev/b:r", "dev/a", "vendor.com/net=0", "/dev/a:/b:/c:rwm"] {
        assert!(device(bad).is_err(), "{bad}");
    }
}

#[test]
fn each_place_once() {
    let mut binds = vec![bind("/a", "/data/in//x", false, true), bind("/b", "/data", false, true)];
    check_places(&binds, &[]).unwrap();
    binds.push(bind("/c", "/data/", false, true));
    let words = check_places(&binds, &[]).unwrap_err().to_string();
    assert_eq!(words, "two mounts at /data: /b and /c");
    let tmp = [tmpfs("/data").unwrap()];
    assert!(check_places(&binds[..2], &tmp).is_err());
}
