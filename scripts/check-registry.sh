#!/bin/sh
# Does a real registry take what sconce pushes, do other engines run it from there, and does sconce
# run what they push?
#
#     sudo SCONCE=target/release/sconce scripts/check-registry.sh examples/hello
#
# The image of the folder must print something and exit with 0. Starts Debian's docker-registry on
# loopback: open, with passwords, and with TLS; and ends it. Needs docker-registry, htpasswd
# (apache2-utils), openssl, skopeo, podman and runc.
set -eu

[ $# -eq 1 ] || { sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2; exit 2; }
project=$1
sconce=${SCONCE:-sconce}
scratch=$(mktemp -d)
registries=
finish() {
    for pid in $registries; do
        kill "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
    done
    podman --root "$scratch/podman" --runroot "$scratch/podman-run" system reset --force >/dev/null 2>&1 || true
    rm -rf "$scratch"
}
trap finish EXIT
trap 'exit 130' INT TERM

say() { printf '%s\n' "check-registry: $*"; }
fail() { say "$*" >&2; exit 1; }

# No login and no certificate of this machine's may help.
HOME=$scratch/home
export HOME DOCKER_CONFIG="$scratch/home/.docker"
mkdir -p "$DOCKER_CONFIG"
printf "{}" >"$DOCKER_CONFIG/config.json"

free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

registry() { # NAME PORT [LINES OF CONFIGURATION]: starts one and waits until it listens
    mkdir -p "$scratch/$1"
    {
        printf 'version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\n'
        printf 'storage: {filesystem: {rootdirectory: %s}, delete: {enabled: true}}\n' "$scratch/$1"
        printf 'http:\n  addr: 127.0.0.1:%s\n' "$2"
        printf '%s\n' "${3:-}"
    } >"$scratch/$1.yml"
    docker-registry serve "$scratch/$1.yml" >"$scratch/$1.log" 2>&1 &
    registries="$registries $!"
    tries=0
    until python3 -c "import socket; socket.create_connection(('127.0.0.1', $2))" 2>/dev/null; do
        tries=$((tries + 1))
        [ $tries -lt 100 ] || { cat "$scratch/$1.log" >&2; fail "the registry does not listen"; }
        sleep 0.1
    done
}

number() { python3 -c 'import json,sys; print(json.load(sys.stdin)[sys.argv[1]])' "$1"; }
elsewhere() { SCONCE_HOME="$scratch/elsewhere" SCONCE_STORES='' "$sconce" "$@"; }
in_podman() { podman --root "$scratch/podman" --runroot "$scratch/podman-run" --runtime runc "$@"; }

said=$("$sconce" run -q --gpus none "$project")
[ -n "$said" ] || fail "the image of $project prints nothing"

port=$(free_port)
registry open "$port"
at=127.0.0.1:$port

say "pushed, and pushed again: the second time only the manifest moves"
digest=$("$sconce" push "$project" "$at/sconce/hello:1")
again=$("$sconce" push --json "$project" "$at/sconce/hello:1" | number moved)
[ "$again" -lt 10000 ] || fail "$again bytes moved where nothing was missing"

say "another repository takes its blobs from the first"
mounted=$("$sconce" push --json "$project" "$at/other/hello:1")
# What is beside an image (lock, SBOM, provenance) is put anew: some 100 KB.
[ "$(echo "$mounted" | number moved)" -lt 200000 ] || fail "blobs were sent that could be mounted: $mounted"
[ "$(echo "$mounted" | number mounted)" -gt 0 ] || fail "nothing was mounted: $mounted"

say "a machine with nothing but the sealed project builds and downloads nothing; a changed file moves its layer alone"
cp -r "$project" "$scratch/sealed"
empty() { SCONCE_HOME="$scratch/empty" SCONCE_STORES='' UV_CACHE_DIR="$scratch/no-uv" "$sconce" "$@"; }
from_nothing=$(empty push --json "$scratch/sealed" "$at/sconce/hello:2")
[ "$(echo "$from_nothing" | number image)" = "$digest" ] || fail "another image: $from_nothing"
[ "$(echo "$from_nothing" | number moved)" -lt 10000 ] || fail "more than documents moved: $from_nothing"
printf '\nprint("changed")\n' >>"$scratch/sealed/hello.py"
changed=$(empty push --json "$scratch/sealed" "$at/sconce/hello:3")
[ "$(echo "$changed" | number moved)" -lt 200000 ] || fail "more than the layer of one file moved: $changed"
kept=$(du -sk "$scratch/empty" | cut -f1)
[ "$kept" -lt 1000 ] || fail "$kept KiB lie in a store that needed none"
say "moved $(echo "$from_nothing" | number moved) bytes, and $(echo "$changed" | number moved) with a changed file; $kept KiB in the store"
"$sconce" build "$scratch/sealed" >"$scratch/built"
[ "$(cat "$scratch/built")" = "$(echo "$changed" | number image)" ] || fail "built it is another image"
ran=$(elsewhere run -q --gpus none "$at/sconce/hello:3")
[ "$ran" = "$(printf '%s\nchanged' "$said")" ] || fail "the changed image printed: $ran"

say "skopeo reads it, podman runs it"
found=$(skopeo inspect --tls-verify=false "docker://$at/sconce/hello:1" | number Digest)
[ "$found" = "$digest" ] || fail "skopeo sees $found, sconce pushed $digest"
in_podman pull --quiet --tls-verify=false "$at/sconce/hello:1" >/dev/null
# Podman asks for more than a machine without CAP_SYS_RESOURCE allows.
ran=$(in_podman run --rm --network host --ulimit nofile=1024 --ulimit nproc=4096 "$at/sconce/hello:1")
[ "$ran" = "$said" ] || fail "podman's container printed something else: $ran"

say "another store pulls and runs it"
ran=$(elsewhere run -q --gpus none "$at/sconce/hello:1")
[ "$ran" = "$said" ] || fail "the pulled image printed something else: $ran"
elsewhere images | grep "$at/sconce/hello:1"

say "what skopeo pushes runs: Docker's format, zstd layers"
"$sconce" build "$project" --output "oci:$scratch/layout" >/dev/null
skopeo copy --quiet --insecure-policy --dest-tls-verify=false --format v2s2 \
    "oci:$scratch/layout" "docker://$at/skopeo/docker:1"
skopeo copy --quiet --insecure-policy --dest-tls-verify=false --dest-compress-format zstd \
    "oci:$scratch/layout" "docker://$at/skopeo/zstd:1"
for name in docker zstd; do
    ran=$(elsewhere run -q --gpus none "$at/skopeo/$name:1")
    [ "$ran" = "$said" ] || fail "what skopeo pushed as $name printed something else: $ran"
done

say "with passwords"
port=$(free_port)
htpasswd -Bbn user secret >"$scratch/htpasswd" 2>/dev/null
registry closed "$port" "auth: {htpasswd: {realm: r, path: $scratch/htpasswd}}"
closed=127.0.0.1:$port
if "$sconce" push "$project" "$closed/hello:1" 2>"$scratch/said"; then fail "pushed without a login"; fi
grep -q "sconce login $closed" "$scratch/said" || fail "no word of how to log in: $(cat "$scratch/said")"
if echo wrong | "$sconce" login -u user --password-stdin "$closed" 2>"$scratch/said"; then fail "a wrong password was taken"; fi
if grep -q wrong "$scratch/said"; then fail "the password stands in the error"; fi
echo secret | "$sconce" login -u user --password-stdin "$closed"
"$sconce" push "$project" "$closed/hello:1" >/dev/null
skopeo inspect --tls-verify=false --authfile "$DOCKER_CONFIG/config.json" "docker://$closed/hello:1" >/dev/null
elsewhere copy "$at/sconce/hello:1" "$closed/copied:1" >/dev/null
"$sconce" logout "$closed"
if elsewhere pull "$closed/hello:1" 2>/dev/null; then fail "pulled after logout"; fi

say "with TLS of an authority of our own, and with a client's certificate"
signed() { # NAME EXTENSION: a key and a certificate of our authority
    printf 'basicConstraints=CA:FALSE\n%s\n' "$2" >"$scratch/$1.ext"
    openssl req -newkey rsa:2048 -nodes -subj "/CN=$1" \
        -keyout "$scratch/$1.key" -out "$scratch/$1.csr" 2>/dev/null
    openssl x509 -req -in "$scratch/$1.csr" -CA "$scratch/ca.pem" -CAkey "$scratch/ca.key" \
        -CAcreateserial -days 2 -extfile "$scratch/$1.ext" -out "$scratch/$1.pem" 2>/dev/null
}
authority() { # NAME
    openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj "/CN=$1" \
        -keyout "$scratch/$1.key" -out "$scratch/$1.pem" 2>/dev/null
}
authority ca
authority other
signed server 'subjectAltName=DNS:localhost,IP:127.0.0.1'
signed client 'extendedKeyUsage=clientAuth'
port=$(free_port)
registry tls "$port" "  tls: {certificate: $scratch/server.pem, key: $scratch/server.key}"
tls=127.0.0.1:$port
"$sconce" push --ca "$scratch/ca.pem" "$project" "$tls/hello:1" >/dev/null
if "$sconce" push --ca "$scratch/other.pem" "$project" "$tls/hello:2" 2>/dev/null; then
    fail "a certificate of somebody else's was taken"
fi
mkdir -p "$DOCKER_CONFIG/certs.d/$tls"
cp "$scratch/ca.pem" "$DOCKER_CONFIG/certs.d/$tls/ca.crt"
ran=$(elsewhere run -q --gpus none "$tls/hello:1")
[ "$ran" = "$said" ] || fail "what came over TLS printed something else: $ran"
port=$(free_port)
registry mutual "$port" "  tls: {certificate: $scratch/server.pem, key: $scratch/server.key, clientcas: [$scratch/ca.pem]}"
mutual=127.0.0.1:$port
if "$sconce" push --ca "$scratch/ca.pem" "$project" "$mutual/hello:1" 2>/dev/null; then
    fail "pushed without a client's certificate"
fi
mkdir -p "$DOCKER_CONFIG/certs.d/$mutual"
cp "$scratch/ca.pem" "$DOCKER_CONFIG/certs.d/$mutual/ca.crt"
cp "$scratch/client.pem" "$DOCKER_CONFIG/certs.d/$mutual/client.cert"
cp "$scratch/client.key" "$DOCKER_CONFIG/certs.d/$mutual/client.key"
"$sconce" push "$project" "$mutual/hello:1" >/dev/null

say "all of them agree"
