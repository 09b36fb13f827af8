//! Commands of Docker that are not here, and what to do instead.

use crate::error::{Failure, Kind};

/// Name, and what to do.
const MISSING: [(&str, &str); 21] = [
    ("start", "a container that ended is not started again: `sconce run` starts a new one"),
    (
        "restart",
        "`sconce stop NAME`, then `sconce run` again; `sconce generate systemd` restarts by itself",
    ),
    ("create", "`sconce build` makes an image, `sconce run -d` starts it"),
    ("pause", "`sconce kill -s STOP NAME` stops its processes"),
    ("unpause", "`sconce kill -s CONT NAME` lets its processes go on"),
    ("top", "`sconce exec NAME ps aux`, or `sconce stats`"),
    ("port", "`sconce ps --json` shows ports"),
    ("rename", "the name is given by `sconce run --name`"),
    ("update", "limits are given by `sconce run`"),
    ("diff", "what a container changed is not listed"),
    ("commit", "an image is made from sconce.toml by `sconce build`"),
    ("export", "`sconce exec NAME tar -c /` writes its files"),
    ("save", "`sconce copy NAME docker-archive:FILE`"),
    ("import", "`sconce run docker-archive:FILE` takes an archive"),
    ("tag", "`sconce copy NAME store:OTHER`"),
    ("history", "`sconce inspect IMAGE` shows an image's layers and packages"),
    ("info", "`sconce doctor` says what this machine is"),
    ("version", "`sconce --version`"),
    ("volume", "there are no named volumes: `-v DIR:DIR` shows a folder"),
    ("network", "networks are given by `sconce run --network host|none|private`"),
    ("compose", "there is no compose: one sconce.toml describes one environment"),
];

/// That there is no such command, if it is one of these.
pub fn command(name: &str) -> Option<Failure> {
    let (_, instead) = MISSING.iter().find(|(known, _)| *known == name)?;
    Some(Failure::new(Kind::Usage, format!("there is no `sconce {name}`")).hint(*instead))
}
