#!/bin/sh
# Does cosign verify what sconce signs, and sconce what cosign signs?
#
#     SCONCE=target/release/sconce COSIGN=cosign scripts/check-signatures.sh examples/hello [REGISTRY COMMAND]
#
# The folder's image is built (network) and its lock, SBOM and provenance are attested.
# COSIGN is one of 3.x (Debian's); it makes keys in a scratch folder and asks nothing of the internet. Starts
# Debian's docker-registry on loopback, which lists no artifacts (fallback tag), and ends it. With a command,
# that is started too, with an address behind it, and must list artifacts itself: for instance a program of
# ten lines around go-containerregistry's pkg/registry, `WithReferrersSupport(true)`. Needs openssl, tar and
# python3.
set -eu

[ $# -ge 1 ] || { sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2; exit 2; }
project=$(mktemp -d)
cp -r "$1/." "$project"
shift
sconce=${SCONCE:-sconce}
cosign=${COSIGN:-cosign}
docker_registry=${DOCKER_REGISTRY:-docker-registry}
scratch=$(mktemp -d)
registries=
finish() {
    for pid in $registries; do
        kill "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
    done
    rm -rf "$scratch" "$project"
}
trap finish EXIT
trap 'exit 130' INT TERM

say() { printf '%s\n' "check-signatures: $*"; }
fail() { say "$*" >&2; exit 1; }

# No login, key, trust root or store of this machine's may help.
HOME=$scratch/home
mkdir -p "$HOME"
export HOME DOCKER_CONFIG="$HOME/.docker" SCONCE_HOME="$scratch/store" SCONCE_STORES='' COSIGN_PASSWORD=secret
unset XDG_CONFIG_HOME || true
cd "$scratch"

free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

wait_for() { # PORT
    tries=0
    until python3 -c "import socket; socket.create_connection(('127.0.0.1', $1))" 2>/dev/null; do
        tries=$((tries + 1))
        [ $tries -lt 100 ] || fail "the registry does not listen"
        sleep 0.1
    done
}

exit_code() { # runs a command whose exit code is the answer
    set +e
    "$@" >"$scratch/said" 2>&1
    code=$?
    set -e
    echo $code
}

expect() { # CODE COMMAND...
    wanted=$1
    shift
    got=$(exit_code "$@")
    [ "$got" = "$wanted" ] || fail "exit code $got and not $wanted: $* : $(cat "$scratch/said")"
}

cosign_sign() { # IMAGE [OPTIONS]: as far as cosign goes without a transparency log
    "$cosign" sign --yes --key cosign.key --tlog-upload=false --use-signing-config=false \
        --allow-http-registry "$@" >/dev/null 2>&1 || fail "cosign does not sign $*"
}

cosign_verifies() { # EXPECTED KEY IMAGE
    expect "$1" "$cosign" verify --key "$2" --insecure-ignore-tlog=true --allow-http-registry "$3"
}

"$cosign" generate-key-pair >/dev/null 2>&1
openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out plain.key 2>/dev/null
openssl pkey -in plain.key -pubout -out plain.pub 2>/dev/null
openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-384 -out p384.key 2>/dev/null
openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-521 -out p521.key 2>/dev/null
openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out rsa.key 2>/dev/null
openssl genpkey -algorithm ed25519 -out ed25519.key
for key in p384 p521 rsa ed25519; do
    openssl pkey -in $key.key -pubout -out $key.pub 2>/dev/null
    "$cosign" import-key-pair --key $key.key --output-key-prefix $key-cosign >/dev/null 2>&1
done
openssl ecparam -name prime256v1 -genkey -out sec1.key 2>/dev/null
openssl pkey -in sec1.key -pubout -out sec1.pub 2>/dev/null

# An image of one empty file; nothing is started.
python3 - <<'PY'
import hashlib, io, json, os, tarfile
os.makedirs("image/blobs/sha256")
def blob(data):
    digest = hashlib.sha256(data).hexdigest()
    open("image/blobs/sha256/" + digest, "wb").write(data)
    return {"digest": "sha256:" + digest, "size": len(data)}
arch = {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine]
layer = io.BytesIO()
with tarfile.open(fileobj=layer, mode="w") as tar:
    tar.addfile(tarfile.TarInfo("file"))
layer = blob(layer.getvalue())
config = {"architecture": arch, "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": [layer["digest"]]}}
kind = "application/vnd.oci.image."
manifest = {"schemaVersion": 2, "mediaType": kind + "manifest.v1+json",
            "config": {"mediaType": kind + "config.v1+json", **blob(json.dumps(config).encode())},
            "layers": [{"mediaType": kind + "layer.v1.tar", **layer}]}
row = {"mediaType": kind + "manifest.v1+json", **blob(json.dumps(manifest).encode())}
json.dump({"schemaVersion": 2, "manifests": [row]}, open("image/index.json", "w"))
json.dump({"imageLayoutVersion": "1.0.0"}, open("image/oci-layout", "w"))
PY

"$sconce" build "$project" >/dev/null

both_ways() { # HOST:PORT
    say "$1: what a lock says, as cosign verifies it"
    "$sconce" push "$project" "$1/ours/project:1" >/dev/null 2>&1
    "$sconce" sign "$1/ours/project:1" --key cosign.key --with "$project" >/dev/null
    for type in cyclonedx slsaprovenance1 urn:x-sconce:lock:v1; do
        expect 0 "$cosign" verify-attestation --key cosign.pub --insecure-ignore-tlog=true \
            --allow-http-registry --type "$type" "$1/ours/project:1"
    done
    "$sconce" show "$1/ours/project:1" --key cosign.pub --print lock | cmp - "$project/sconce.lock" ||
        fail "the lock that comes back is another one"

    say "$1: cosign verifies what sconce signed"
    for key in cosign plain sec1; do
        name=$1/ours/$key:1
        "$sconce" push oci:image "$name" >/dev/null 2>&1
        cosign_verifies 10 "$key.pub" "$name"
        "$sconce" sign "$name" --key "$key.key" >/dev/null 2>&1
        cosign_verifies 0 "$key.pub" "$name"
        expect 0 "$sconce" verify-signature "$name" --key "$key.pub"
        other=plain
        [ $key != plain ] || other=cosign
        expect 1 "$sconce" verify-signature "$name" --key "$other.pub"
        [ "$(exit_code "$cosign" verify --key "$other.pub" --insecure-ignore-tlog=true --allow-http-registry "$name")" != 0 ] ||
            fail "cosign takes another key"
    done

    say "$1: keys of other kinds, both ways and in both forms"
    for key in p384 p521 rsa ed25519; do
        case $key in
            p384) hash=sha384 ;;
            p521) hash=sha512 ;;
            *) hash=sha256 ;;
        esac
        for form in true false; do
            name=$1/theirs/$key-$form:1
            "$sconce" push oci:image "$name" >/dev/null 2>&1
            "$cosign" sign --yes --key "$key-cosign.key" --tlog-upload=false --use-signing-config=false \
                --allow-http-registry --new-bundle-format=$form "$name" >/dev/null 2>&1 ||
                fail "cosign does not sign $name"
            expect 0 "$sconce" verify-signature "$name" --key $key.pub
            expect 1 "$sconce" verify-signature "$name" --key plain.pub
        done
        name=$1/ours/$key:1
        "$sconce" push oci:image "$name" >/dev/null 2>&1
        # Its signatures would be other ones each time.
        [ $key != p521 ] || { expect 3 "$sconce" sign "$name" --key $key.key; continue; }
        "$sconce" sign "$name" --key $key.key --form both >/dev/null 2>&1
        for form in true false; do
            expect 0 "$cosign" verify --key $key.pub --insecure-ignore-tlog=true --allow-http-registry \
                --signature-digest-algorithm $hash --new-bundle-format=$form "$name"
        done
        expect 0 "$sconce" verify-signature "$name" --key $key.pub
    done

    say "$1: what is beside an image goes with it"
    "$sconce" copy "$1/ours/plain:1" "$1/copied/plain:1" >/dev/null 2>&1
    cosign_verifies 0 plain.pub "$1/copied/plain:1"
    expect 0 "$sconce" verify-signature "$1/copied/plain:1" --key plain.pub
    "$sconce" show "$1/ours/project:1" | grep -q '^  lock: .*not signed' || fail "push brought no lock"

    say "$1: the older form"
    "$sconce" push oci:image "$1/ours/tag:1" >/dev/null 2>&1
    "$sconce" sign "$1/ours/tag:1" --key plain.key --form sig-tag >/dev/null 2>&1
    expect 0 "$cosign" verify --key plain.pub --insecure-ignore-tlog=true --allow-http-registry \
        --new-bundle-format=false "$1/ours/tag:1"
    expect 0 "$sconce" verify-signature "$1/ours/tag:1" --key plain.pub
    cosign_sign "$1/ours/tag:1" --new-bundle-format=false
    for key in plain cosign; do
        expect 0 "$sconce" verify-signature "$1/ours/tag:1" --key $key.pub
        expect 0 "$cosign" verify --key $key.pub --insecure-ignore-tlog=true --allow-http-registry \
            --new-bundle-format=false "$1/ours/tag:1"
    done

    say "$1: sconce verifies what cosign signed, beside a signature of its own"
    for form in true false; do
        name=$1/theirs/$form:1
        "$sconce" push oci:image "$name" >/dev/null 2>&1
        cosign_sign "$name" --new-bundle-format=$form
        expect 0 "$sconce" verify-signature "$name" --key cosign.pub
        expect 1 "$sconce" verify-signature "$name" --key plain.pub
    done
    "$sconce" sign "$1/theirs/true:1" --key plain.key >/dev/null 2>&1
    for key in cosign plain; do
        expect 0 "$sconce" verify-signature "$1/theirs/true:1" --key $key.pub
        cosign_verifies 0 $key.pub "$1/theirs/true:1"
    done

    say "$1: an attestation is not a signature"
    "$sconce" push oci:image "$1/theirs/attested:1" >/dev/null 2>&1
    echo '{"bomFormat": "CycloneDX", "specVersion": "1.6"}' >bom.json
    "$cosign" attest --yes --key cosign.key --tlog-upload=false --use-signing-config=false \
        --allow-http-registry --predicate bom.json --type cyclonedx "$1/theirs/attested:1" >/dev/null 2>&1
    expect 1 "$sconce" verify-signature "$1/theirs/attested:1" --key cosign.pub
    "$sconce" show "$1/theirs/attested:1" --key cosign.pub --print sbom | grep -q CycloneDX ||
        fail "the SBOM is not shown"
}

port=$(free_port)
{
    printf 'version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\n'
    printf 'storage: {filesystem: {rootdirectory: %s}}\n' "$scratch/registry"
    printf 'http:\n  addr: 127.0.0.1:%s\n' "$port"
} >registry.yml
"$docker_registry" serve registry.yml >registry.log 2>&1 &
registries=$!
wait_for "$port"
both_ways "127.0.0.1:$port"

if [ $# -gt 0 ]; then
    port=$(free_port)
    "$@" "127.0.0.1:$port" >lists.log 2>&1 &
    registries="$registries $!"
    wait_for "$port"
    both_ways "127.0.0.1:$port"
    python3 - "http://127.0.0.1:$port/v2/ours/plain/tags/list" <<'PY'
import json, sys, urllib.request
tags = json.load(urllib.request.urlopen(sys.argv[1]))["tags"]
assert tags == ["1"], f"a list under a tag where the registry keeps one: {tags}"
PY
fi

say "both agree"
