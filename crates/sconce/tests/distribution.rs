//! What the conformance suite of OCI's distribution-spec 1.1 asks of a registry, asked of `sconce serve --writable`: a row for each of its
//! expectations in its four workflows, written for this test. `docs/registry.md` has the counts.
//!
//! The suite's own image would not do: its configuration has no DiffIDs for its layer, which no engine could run. Here it is one that can.

mod world;

use sconce_blob::Digest;
use world::World;
use world::served::Served;

const ECHO: &str = r#"{"Env": ["PATH=/usr/bin"], "Cmd": ["echo", "from the store"]}"#;
const MANIFEST: &str = "Content-Type: application/vnd.oci.image.manifest.v1+json\r\n";
const OCTETS: &str = "Content-Type: application/octet-stream\r\n";

/// What came of one expectation.
struct Row {
    workflow: &'static str,
    what: &'static str,
    holds: bool,
    /// What was answered, where it does not hold.
    said: String,
}

struct Table(Vec<Row>);

impl Table {
    fn add(
        &mut self,
        workflow: &'static str,
        what: &'static str,
        reply: &world::served::Reply,
        statuses: &[u16],
        and: bool,
    ) {
        let holds = statuses.contains(&reply.status) && and;
        let said = format!("{} {}", reply.status, reply.body);
        self.0.push(Row { workflow, what, holds, said });
    }
}

/// Those that are refused on purpose, with what the answer says.
const REFUSED: [(&str, &str); 7] = [
    ("an artifact about what is not there yet", "push it first"),
    ("an artifact about nothing", "artifact of type"),
    ("a manifest without layers", "DiffIDs"),
    ("an index", "an index of several platforms"),
    ("a tag is deleted", "nothing is deleted"),
    ("a manifest is deleted", "nothing is deleted"),
    ("a blob is deleted", "nothing is deleted"),
];

#[test]
fn expectations_of_the_conformance_suite() {
    let (here, there) = (World::new(), World::new());
    there.image(ECHO);
    let served = Served::start(&here, &["--writable"]);
    let name = format!("{}/lab/demo:1", served.host);
    let (code, out, err) = there.says(&["copy", "--image-only", "oci:image", &name]);
    assert_eq!(code, 0, "{out}{err}");
    let ask = |method: &str, path: &str| served.ask(method, &format!("/v2/{path}"), "", b"");
    let with = |method: &str, path: &str, headers: &str, body: &[u8]| {
        served.ask(method, path, headers, body)
    };
    let manifest = ask("GET", "lab/demo/manifests/1").body;
    let digest = Digest::of(manifest.as_bytes());
    let parsed: serde_json::Value = serde_json::from_str(&manifest).unwrap();
    let layer = parsed["layers"][0]["digest"].as_str().unwrap().to_owned();
    let config = parsed["config"]["digest"].as_str().unwrap().to_owned();
    let absent = Digest::of(b"absent");
    let mut t = Table(Vec::new());

    // Pull.
    let w = "pull";
    for method in ["HEAD", "GET"] {
        t.add(
            w,
            "a blob that is not there",
            &ask(method, &format!("lab/demo/blobs/{absent}")),
            &[404],
            true,
        );
        let reply = ask(method, &format!("lab/demo/blobs/{config}"));
        let length = reply.header("content-length").is_some();
        t.add(w, "a blob", &reply, &[200], length);
        t.add(w, "a layer", &ask(method, &format!("lab/demo/blobs/{layer}")), &[200], true);
        t.add(
            w,
            "a manifest that is not there",
            &ask(method, "lab/demo/manifests/none"),
            &[404],
            true,
        );
        t.add(
            w,
            "a digest that is not there",
            &ask(method, &format!("lab/demo/manifests/{absent}")),
            &[404],
            true,
        );
        for reference in ["1".to_owned(), digest.to_string()] {
            let reply = ask(method, &format!("lab/demo/manifests/{reference}"));
            let said = reply.header("docker-content-digest") == Some(&digest.to_string());
            t.add(w, "a manifest by tag and digest", &reply, &[200], said);
        }
    }
    let reply = with("PUT", "/v2/lab/demo/manifests/2", MANIFEST, b"blablabla");
    let code = reply.body.contains(r#""errors":[{"code":"MANIFEST_INVALID""#);
    t.add(w, "an error is JSON of its form", &reply, &[400], code);

    // Push.
    let w = "push";
    let begin = || {
        let reply = ask("POST", "lab/demo/blobs/uploads/");
        let place = reply.header("location").unwrap_or_default().to_owned();
        (reply, place)
    };
    let (reply, place) = begin();
    t.add(w, "a session begins", &reply, &[202], !place.is_empty());
    t.add(w, "a streamed piece", &with("PATCH", &place, OCTETS, b"streamed"), &[202], true);
    let put = |place: &str, bytes: &[u8], all: &[u8]| {
        with("PUT", &format!("{place}?digest={}", Digest::of(all)), OCTETS, bytes)
    };
    let reply = put(&place, b"", b"streamed");
    t.add(w, "a streamed blob ends", &reply, &[201], reply.header("location").is_some());
    let path = format!("/v2/lab/demo/blobs/uploads/?digest={}", Digest::of(b"at once"));
    t.add(w, "a blob in one request", &with("POST", &path, OCTETS, b"at once"), &[201, 202], true);
    let path = format!("lab/demo/blobs/{}", Digest::of(b"at once"));
    t.add(w, "and is there", &ask("GET", &path), &[200], true);
    let (_, place) = begin();
    let reply = put(&place, b"in a session", b"in a session");
    let there = reply.header("location").map(|place| with("GET", place, "", b"").status);
    t.add(w, "a blob in a session", &reply, &[201], there == Some(200));
    // In pieces.
    let (_, place) = begin();
    let patch = |range: &str, bytes: &[u8]| {
        with("PATCH", &place, &format!("{OCTETS}Content-Range: {range}\r\n"), bytes)
    };
    t.add(w, "a piece out of order", &patch("3-5", b"def"), &[416], true);
    let reply = patch("0-2", b"abc");
    t.add(w, "the first piece", &reply, &[202], reply.header("range") == Some("0-2"));
    t.add(w, "the same again", &patch("0-2", b"abc"), &[416], true);
    let reply = with("GET", &place, "", b"");
    let told = reply.header("range") == Some("0-2") && reply.header("location").is_some();
    t.add(w, "where it stands", &reply, &[204], told);
    let reply = patch("3-5", b"def");
    t.add(w, "the second piece", &reply, &[202], reply.header("range") == Some("0-5"));
    t.add(w, "the last with the digest", &put(&place, b"", b"abcdef"), &[201], true);
    // From other repositories.
    let mount = |what: &str, from: &str| {
        ask("POST", &format!("lab/mounted/blobs/uploads/?mount={what}{from}"))
    };
    t.add(w, "mounted without a source", &mount(&layer, ""), &[201, 202], true);
    let reply = mount(&layer, "&from=lab/demo");
    let location = reply.header("location").is_some_and(|place| place.contains("lab/mounted"));
    t.add(w, "mounted", &reply, &[201, 202], location);
    t.add(w, "and is there", &ask("GET", &format!("lab/mounted/blobs/{layer}")), &[200], true);
    t.add(w, "mounted, and not there", &mount(&absent.to_string(), "&from=lab/demo"), &[202], true);
    // Manifests.
    let manifests = |reference: &str| format!("/v2/lab/demo/manifests/{reference}");
    let put_manifest =
        |reference: &str, text: &str| with("PUT", &manifests(reference), MANIFEST, text.as_bytes());
    for tag in ["test0", "test1", "test2", "test3"] {
        let reply = put_manifest(tag, &manifest);
        t.add(w, "a manifest by tag", &reply, &[201], reply.header("location").is_some());
        let got = with("GET", &manifests(tag), "", b"");
        let same = got.body == manifest;
        t.add(w, "and is there", &got, &[200], same);
    }
    t.add(w, "a manifest by digest", &put_manifest(&digest.to_string(), &manifest), &[201], true);
    let mut empty = parsed.clone();
    empty["layers"] = serde_json::json!([]);
    t.add(w, "a manifest without layers", &put_manifest("empty", &empty.to_string()), &[201], true);
    let index = format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"{digest}","size":{}}}]}}"#,
        manifest.len()
    );
    let kind = "Content-Type: application/vnd.oci.image.index.v1+json\r\n";
    t.add(w, "an index", &with("PUT", &manifests("index"), kind, index.as_bytes()), &[201], true);

    // Content discovery.
    let w = "content discovery";
    for text in ["{}", "a text", "another"] {
        let path = format!("/v2/lab/demo/blobs/uploads/?digest={}", Digest::of(text.as_bytes()));
        with("POST", &path, OCTETS, text.as_bytes());
    }
    let about = |kind: &str, text: &str, subject: Option<Digest>| {
        let subject = subject.map(|digest| {
            format!(r#","subject":{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"{digest}","size":1}}"#)
        });
        format!(
            r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","artifactType":"{kind}","config":{{"mediaType":"application/vnd.oci.empty.v1+json","digest":"{}","size":2}},"layers":[{{"mediaType":"text/plain","digest":"{}","size":{}}}]{}}}"#,
            Digest::of(b"{}"),
            Digest::of(text.as_bytes()),
            text.len(),
            subject.unwrap_or_default()
        )
    };
    for (kind, text) in [("application/x.a", "a text"), ("application/x.b", "another")] {
        let text = about(kind, text, Some(digest));
        let reply = put_manifest(&Digest::of(text.as_bytes()).to_string(), &text);
        let told = reply.header("oci-subject") == Some(&digest.to_string());
        t.add(w, "an artifact about an image", &reply, &[201], told);
    }
    let text = about("application/x.a", "a text", Some(absent));
    let reply = put_manifest(&Digest::of(text.as_bytes()).to_string(), &text);
    t.add(w, "an artifact about what is not there yet", &reply, &[201], true);
    let text = about("application/x.a", "a text", None);
    t.add(w, "an artifact about nothing", &put_manifest("artifact", &text), &[201], true);
    let tags = |query: &str| {
        let reply = ask("GET", &format!("lab/demo/tags/list{query}"));
        let list: serde_json::Value = serde_json::from_str(&reply.body).unwrap_or_default();
        let tags: Vec<String> = serde_json::from_value(list["tags"].clone()).unwrap_or_default();
        (reply, tags)
    };
    let (reply, all) = tags("");
    t.add(w, "all tags", &reply, &[200], all == ["1", "test0", "test1", "test2", "test3"]);
    let (reply, some) = tags("?n=2");
    t.add(w, "so many tags", &reply, &[200], some == all[..2]);
    let (reply, some) = tags("?n=2&last=test0");
    t.add(w, "so many tags after one", &reply, &[200], some == all[2..4]);
    let listed = |of: &str| {
        let reply = ask("GET", &format!("lab/demo/referrers/{of}"));
        let list: serde_json::Value = serde_json::from_str(&reply.body).unwrap_or_default();
        let count = list["manifests"].as_array().map(Vec::len);
        let is_index =
            reply.header("content-type") == Some("application/vnd.oci.image.index.v1+json");
        (reply, count.filter(|_| is_index))
    };
    let (reply, count) = listed(&absent.to_string());
    t.add(w, "what is about nothing that is there", &reply, &[200], count == Some(0));
    let (reply, count) = listed(&digest.to_string());
    t.add(w, "what is about an image", &reply, &[200], count == Some(2));
    let (reply, count) = listed(&format!("{digest}?artifactType=application%2Fx.a"));
    let told = reply.header("oci-filters-applied") == Some("artifactType");
    t.add(w, "of one kind", &reply, &[200], count == Some(1) && told);

    // Content management.
    let w = "content management";
    let told = [202];
    t.add(w, "a tag is deleted", &with("DELETE", &manifests("test0"), "", b""), &told, true);
    t.add(
        w,
        "a manifest is deleted",
        &with("DELETE", &manifests(&digest.to_string()), "", b""),
        &told,
        true,
    );
    t.add(w, "a blob is deleted", &ask("DELETE", &format!("lab/demo/blobs/{layer}")), &told, true);
    t.add(w, "all is there as before", &with("GET", &manifests("test0"), "", b""), &[200], true);

    for row in t.0.iter().filter(|row| !row.holds) {
        let refused =
            REFUSED.iter().any(|(what, says)| *what == row.what && row.said.contains(says));
        assert!(refused, "{}: {}: {}", row.workflow, row.what, row.said);
    }
    let count = |workflow: &str| {
        let rows: Vec<&Row> = t.0.iter().filter(|row| row.workflow == workflow).collect();
        (rows.iter().filter(|row| row.holds).count(), rows.len())
    };
    let page = include_str!("../../../docs/registry.md");
    for workflow in ["pull", "push", "content discovery", "content management"] {
        let (holds, of) = count(workflow);
        let line = format!("| {workflow} | {holds} of {of} |");
        assert!(page.contains(&line), "docs/registry.md has not: {line}");
    }
}
