//! A registry on 127.0.0.1 that keeps what it is sent in memory, and takes uploads badly when told to.
//!
//! It keeps to distribution-spec 1.1 where nothing else is said: digests are checked, chunks must
//! follow each other, a manifest needs its blobs.

use std::collections::{HashMap, HashSet, VecDeque};
use std::io::{self, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sconce_blob::Digest;

use crate::server::{Request, read_request};

/// How a request that brings bytes of a blob goes wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The connection closes after so many bytes of the body, which are kept.
    Cut(usize),
    /// The same, and the session is gone.
    CutAndForget(usize),
    /// This status instead of an answer.
    Status(u16),
}

#[derive(Default)]
struct World {
    blobs: HashMap<(String, String), Vec<u8>>,
    manifests: HashMap<(String, String), (String, Vec<u8>)>,
    sessions: HashMap<String, Vec<u8>>,
    troubles: VecDeque<Trouble>,
    refusals: VecDeque<u16>,
    login: Option<String>,
    no_chunks: bool,
    no_mounts: bool,
    elsewhere: Option<String>,
    log: Vec<String>,
    authorized_elsewhere: bool,
    lists_referrers: bool,
    page: Option<usize>,
    lost: usize,
    no_artifacts: bool,
    count: usize,
}

/// The registry; it stops when the process does.
pub struct RegistryServer {
    address: SocketAddr,
    world: Arc<Mutex<World>>,
}

struct Reply {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
}

fn reply(status: u16) -> Reply {
    Reply { status, headers: Vec::new(), body: Vec::new() }
}

impl Reply {
    fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

impl RegistryServer {
    /// Starts an empty one on a free port.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port on the loopback interface");
        let address = listener.local_addr().expect("its address");
        let world = Arc::new(Mutex::new(World::default()));
        let shared = world.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let world = shared.clone();
                // A client that goes away in the middle is part of many tests.
                std::thread::spawn(move || stream.and_then(|stream| converse(stream, &world)));
            }
        });
        Self { address, world }
    }

    /// `127.0.0.1:PORT`.
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// The next upload begins with this status.
    pub fn refuse_once(&self, status: u16) {
        self.world().refusals.push_back(status);
    }

    /// The next request with bytes of a blob that has no trouble yet gets this one.
    pub fn once(&self, trouble: Trouble) {
        self.world().troubles.push_back(trouble);
    }

    /// Only who sends this `Authorization` is answered from now on.
    pub fn guard(&self, authorization: &str) {
        self.world().login = Some(authorization.to_owned());
    }

    /// Uploads go in one request, or not at all.
    pub fn take_no_chunks(&self) {
        self.world().no_chunks = true;
    }

    /// A mount begins an upload instead (202).
    pub fn mount_nothing(&self) {
        self.world().no_mounts = true;
    }

    /// Uploads go on at this address: `http://localhost:PORT`.
    pub fn upload_elsewhere(&self, base: &str) {
        self.world().elsewhere = Some(base.to_owned());
    }

    /// Whether a login came to where uploads go on.
    pub fn was_authorized_elsewhere(&self) -> bool {
        self.world().authorized_elsewhere
    }

    /// From now on it lists artifacts by their subject (distribution-spec 1.1, "Listing Referrers").
    pub fn list_referrers(&self) {
        self.world().lists_referrers = true;
    }

    /// Lists of artifacts come in pages of so many rows, and have only those of the type that is asked for.
    pub fn list_in_pages(&self, rows: usize) {
        let mut world = self.world();
        world.lists_referrers = true;
        world.page = Some(rows);
    }

    /// Manifests with a type of artifact are refused.
    pub fn take_no_artifacts(&self) {
        self.world().no_artifacts = true;
    }

    /// The next manifests are answered with 201, and not kept.
    pub fn lose_manifests(&self, count: usize) {
        self.world().lost = count;
    }

    /// Puts a manifest under a tag and its digest; what it names need not be there.
    pub fn put_manifest(&self, repository: &str, tag: &str, kind: &str, bytes: &[u8]) -> Digest {
        let digest = Digest::of(bytes);
        let mut world = self.world();
        for name in [tag, &digest.to_string()] {
            let key = (repository.to_owned(), name.to_owned());
            world.manifests.insert(key, (kind.to_owned(), bytes.to_owned()));
        }
        digest
    }

    /// The tags of a repository, sorted.
    pub fn tags(&self, repository: &str) -> Vec<String> {
        let world = self.world();
        let names = world.manifests.keys().filter(|(of, _)| of == repository);
        let mut tags: Vec<String> =
            names.map(|(_, name)| name.clone()).filter(|name| !name.contains(':')).collect();
        tags.sort();
        tags
    }

    /// The bytes of a blob of a repository.
    pub fn blob(&self, repository: &str, digest: Digest) -> Option<Vec<u8>> {
        self.world().blobs.get(&(repository.to_owned(), digest.to_string())).cloned()
    }

    /// Puts a blob.
    pub fn put_blob(&self, repository: &str, bytes: &[u8]) -> Digest {
        let digest = Digest::of(bytes);
        let key = (repository.to_owned(), digest.to_string());
        self.world().blobs.insert(key, bytes.to_owned());
        digest
    }

    /// A manifest's bytes by its tag or digest.
    pub fn manifest(&self, repository: &str, name: &str) -> Option<Vec<u8>> {
        let world = self.world();
        let found = world.manifests.get(&(repository.to_owned(), name.to_owned()));
        found.map(|(_, bytes)| bytes.clone())
    }

    /// What was asked so far: `METHOD path`, queries and ids of sessions left out.
    pub fn log(&self) -> Vec<String> {
        self.world().log.clone()
    }

    /// How many requests of this method there were.
    pub fn count(&self, method: &str) -> usize {
        self.log().iter().filter(|line| line.starts_with(method)).count()
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn converse(stream: TcpStream, world: &Mutex<World>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut out = stream;
    while let Some(request) = read_request(&mut reader)? {
        let len: usize =
            request.header("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
        let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
        let uploads = path.contains("/blobs/uploads/");
        let trouble = match (uploads && len > 0, request.method.as_str()) {
            (true, _) => lock(world).troubles.pop_front(),
            (false, "POST") => lock(world).refusals.pop_front().map(Trouble::Status),
            (false, _) => None,
        };
        let cut = match trouble {
            Some(Trouble::Cut(n) | Trouble::CutAndForget(n)) => Some(n.min(len)),
            _ => None,
        };
        let mut body = vec![0; cut.unwrap_or(len)];
        reader.read_exact(&mut body)?;
        let reply = {
            let mut world = lock(world);
            let session = path.rsplit('/').next().unwrap_or_default().to_owned();
            let plain = path.replace(&session, if uploads { "" } else { &session });
            world.log.push(format!("{} {plain}", request.method));
            if let Some(n) = cut {
                let kept = matches!(trouble, Some(Trouble::Cut(_)));
                match world.sessions.get_mut(&session) {
                    Some(bytes) if kept => bytes.extend_from_slice(&body[..n]),
                    _ => drop(world.sessions.remove(&session)),
                }
                out.shutdown(Shutdown::Both)?;
                return Ok(());
            }
            match trouble {
                Some(Trouble::Status(status)) => reply(status),
                _ => answer(&mut world, &request, path, query, &body),
            }
        };
        write!(out, "HTTP/1.1 {} X\r\nContent-Length: {}\r\n", reply.status, reply.body.len())?;
        for (name, value) in &reply.headers {
            write!(out, "{name}: {value}\r\n")?;
        }
        out.write_all(b"\r\n")?;
        if request.method != "HEAD" {
            out.write_all(&reply.body)?;
        }
    }
    Ok(())
}

fn answer(world: &mut World, request: &Request, path: &str, query: &str, body: &[u8]) -> Reply {
    let method = request.method.as_str();
    let elsewhere = request.header("host").is_some_and(|host| host.starts_with("localhost"));
    if elsewhere && request.header("authorization").is_some() {
        world.authorized_elsewhere = true;
    }
    if let Some(login) = &world.login
        && !elsewhere
        && request.header("authorization") != Some(login)
    {
        return reply(401).with("WWW-Authenticate", "Basic realm=\"r\"");
    }
    let Some(rest) = path.strip_prefix("/v2/") else { return reply(404) };
    if rest.is_empty() {
        return reply(200);
    }
    if let Some((repository, session)) = rest.split_once("/blobs/uploads/") {
        return upload(world, request, repository, session, query, body);
    }
    if let Some((repository, digest)) = rest.split_once("/blobs/") {
        return match (method, world.blobs.get(&(repository.to_owned(), digest.to_owned()))) {
            ("GET" | "HEAD", Some(bytes)) => Reply { body: bytes.clone(), ..reply(200) },
            _ => reply(404),
        };
    }
    if let Some((repository, image)) = rest.split_once("/referrers/") {
        return match (world.lists_referrers, method) {
            (true, "GET") => referrers(world, repository, image, query),
            _ => reply(404),
        };
    }
    let Some((repository, name)) = rest.split_once("/manifests/") else { return reply(404) };
    let key = (repository.to_owned(), name.to_owned());
    match method {
        "PUT" => {
            // An index names manifests, an artifact its subject.
            let there: HashSet<&str> = world
                .blobs
                .keys()
                .chain(world.manifests.keys())
                .filter(|(of, _)| of == repository)
                .map(|(_, digest)| digest.as_str())
                .collect();
            let text = String::from_utf8_lossy(body);
            let named = text.split('"').filter(|word| word.starts_with("sha256:"));
            if let Some(missing) = named.into_iter().find(|word| !there.contains(word)) {
                let body = format!(
                    r#"{{"errors":[{{"code":"MANIFEST_BLOB_UNKNOWN","message":"{missing} is not here"}}]}}"#
                );
                return Reply { body: body.into_bytes(), ..reply(400) }
                    .with("Content-Type", "application/json");
            }
            let digest = Digest::of(body).to_string();
            let kind = request.header("content-type").unwrap_or_default().to_owned();
            let value = (kind, body.to_owned());
            if world.no_artifacts && !artifact_type(body).is_empty() {
                return reply(400);
            }
            if world.lost > 0 {
                world.lost -= 1;
                return reply(201).with("Docker-Content-Digest", digest);
            }
            world.manifests.insert((repository.to_owned(), digest.clone()), value.clone());
            world.manifests.insert(key, value);
            let reply = reply(201).with("Docker-Content-Digest", digest);
            match subject(body).filter(|_| world.lists_referrers) {
                Some(subject) => reply.with("OCI-Subject", subject),
                None => reply,
            }
        }
        _ => match world.manifests.get(&key) {
            Some((kind, bytes)) => {
                Reply { body: bytes.clone(), ..reply(200) }.with("Content-Type", kind.as_str())
            }
            None => reply(404),
        },
    }
}

/// The digest that a manifest says it is about.
fn subject(manifest: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(manifest).into_owned();
    let (_, rest) = text.split_once("\"subject\"")?;
    let digest = rest.split('"').find(|word| word.starts_with("sha256:"))?;
    Some(digest.to_owned())
}

/// The type that a manifest says it has.
fn artifact_type(manifest: &[u8]) -> String {
    let text = String::from_utf8_lossy(manifest);
    let rest = text.split_once("\"artifactType\":\"").map_or("", |(_, rest)| rest);
    rest.split('"').next().unwrap_or_default().to_owned()
}

fn referrers(world: &World, repository: &str, image: &str, query: &str) -> Reply {
    let value = |name: &str| {
        let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        let found = pairs.find(|(known, _)| *known == name)?.1;
        Some(found.replace("%2F", "/").replace("%2B", "+"))
    };
    let wanted = value("artifactType").filter(|_| world.page.is_some());
    let mut rows: Vec<String> = world
        .manifests
        .iter()
        .filter(|((of, name), (_, bytes))| {
            of == repository && name.contains(':') && subject(bytes).as_deref() == Some(image)
        })
        .filter(|(_, (_, bytes))| wanted.as_ref().is_none_or(|kind| artifact_type(bytes) == *kind))
        .map(|((_, digest), (kind, bytes))| {
            let (size, artifact) = (bytes.len(), artifact_type(bytes));
            format!(
                r#"{{"mediaType":"{kind}","digest":"{digest}","size":{size},"artifactType":"{artifact}"}}"#
            )
        })
        .collect();
    rows.sort();
    let start: usize = value("from").and_then(|from| from.parse().ok()).unwrap_or(0);
    let count = world.page.unwrap_or(usize::MAX);
    let more = rows.len() > start.saturating_add(count);
    let rows: Vec<String> = rows.into_iter().skip(start).take(count).collect();
    let kind = "application/vnd.oci.image.index.v1+json";
    let body =
        format!(r#"{{"schemaVersion":2,"mediaType":"{kind}","manifests":[{}]}}"#, rows.join(","));
    let mut reply = Reply { body: body.into_bytes(), ..reply(200) }.with("Content-Type", kind);
    if more {
        let kind =
            value("artifactType").map_or(String::new(), |kind| format!("&artifactType={kind}"));
        let kind = kind.replace('+', "%2B");
        let next = format!("</v2/{repository}/referrers/{image}?from={}{kind}>", start + count);
        reply = reply.with("Link", format!("{next}; rel=\"next\""));
    }
    if wanted.is_some() {
        reply = reply.with("OCI-Filters-Applied", "artifactType");
    }
    reply
}

fn upload(
    world: &mut World,
    request: &Request,
    repository: &str,
    session: &str,
    query: &str,
    body: &[u8],
) -> Reply {
    let value = |name: &str| {
        let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        let found = pairs.find(|(known, _)| *known == name)?;
        Some(found.1.replace("%3A", ":").replace("%2F", "/"))
    };
    let base = world.elsewhere.clone().unwrap_or_default();
    let place = |session: &str| format!("{base}/v2/{repository}/blobs/uploads/{session}");
    let range = |len: usize| format!("0-{}", len.saturating_sub(1));
    if session.is_empty() {
        if let (Some(digest), Some(from), false) = (value("mount"), value("from"), world.no_mounts)
            && let Some(bytes) = world.blobs.get(&(from, digest.clone())).cloned()
        {
            world.blobs.insert((repository.to_owned(), digest), bytes);
            return reply(201);
        }
        world.count += 1;
        let session = format!("session-{}", world.count);
        world.sessions.insert(session.clone(), Vec::new());
        return reply(202).with("Location", place(&session));
    }
    let no_chunks = world.no_chunks;
    let Some(bytes) = world.sessions.get_mut(session) else { return reply(404) };
    match request.method.as_str() {
        "GET" => reply(204).with("Range", range(bytes.len())).with("Location", place(session)),
        "PATCH" if no_chunks => reply(405),
        "PATCH" => {
            let start = request.header("content-range").and_then(|range| range.split('-').next());
            if start != Some(&bytes.len().to_string()) {
                return reply(416).with("Range", range(bytes.len()));
            }
            bytes.extend_from_slice(body);
            let range = range(bytes.len());
            reply(202).with("Range", range).with("Location", place(session))
        }
        "PUT" => {
            bytes.extend_from_slice(body);
            let (bytes, digest) = (std::mem::take(bytes), value("digest"));
            world.sessions.remove(session);
            if digest != Some(Digest::of(&bytes).to_string()) {
                return reply(400);
            }
            world.blobs.insert((repository.to_owned(), digest.unwrap_or_default()), bytes);
            reply(201)
        }
        _ => reply(405),
    }
}

fn lock(world: &Mutex<World>) -> MutexGuard<'_, World> {
    world.lock().unwrap_or_else(PoisonError::into_inner)
}
