#!/bin/sh
# Do engines pull from `sconce serve` and push to it, and does an image that was never built come by its specification?
#
#     sudo SCONCE=target/release/sconce scripts/check-serve.sh examples/hello [TAG]
#
# The image of the folder must print something and exit with 0. TAG (pytorch:2.15.0) is asked for by
# specification by two clients at once in a home of its own, over that of SCONCE_HOME, where its wheels may be
# but not its image; without TAG that part is left out. Starts servers and engines of its own on loopback, and
# ends them. Needs skopeo, podman, runc, docker.io, containerd and curl.
set -eu

[ $# -ge 1 ] || { sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2; exit 2; }
project=$1 tag=${2:-}
sconce=${SCONCE:-sconce}
scratch=$(mktemp -d)
started=
finish() {
    for pid in $started; do
        kill "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
    done
    umount "$scratch/exec/netns/default" 2>/dev/null || true
    podman --root "$scratch/podman" --runroot "$scratch/podman-run" system reset --force >/dev/null 2>&1 || true
    # What finishes images beside their first run may still be at it.
    tries=0
    until rm -rf "$scratch" 2>/dev/null || [ $tries -ge 60 ]; do
        tries=$((tries + 1))
        sleep 1
    done
}
trap finish EXIT
trap 'exit 130' INT TERM

say() { printf '%s\n' "check-serve: $*"; }
fail() { say "$*" >&2; exit 1; }
same() { [ "$1" = "$2" ] || fail "$3 printed something else: $1"; }

# No login and no certificate of this machine's may help.
HOME=$scratch/home
export HOME DOCKER_CONFIG="$scratch/home/.docker"
mkdir -p "$DOCKER_CONFIG"
printf '{}' >"$DOCKER_CONFIG/config.json"

until_it() { # SECONDS COMMAND...: until it succeeds
    tries=$(($1 * 10))
    shift
    until "$@" >/dev/null 2>&1; do
        tries=$((tries - 1))
        [ $tries -gt 0 ] || fail "this does not come to succeed: $*"
        sleep 0.1
    done
}

serve() { # NAME WORDS...: serves on a free port; the address is in NAME.at
    name=$1
    shift
    "$sconce" serve --listen 127.0.0.1:0 "$@" >"$scratch/$name.at" 2>"$scratch/$name.log" &
    started="$started $!"
    until_it 20 test -s "$scratch/$name.at"
    sed 's,^http://,,' "$scratch/$name.at"
}

number() { python3 -c 'import json,sys; print(json.load(sys.stdin)[sys.argv[1]])' "$1"; }
elsewhere() { SCONCE_HOME="$scratch/elsewhere" SCONCE_STORES='' "$sconce" "$@"; }
in_podman() { podman --root "$scratch/podman" --runroot "$scratch/podman-run" --runtime runc "$@"; }

said=$("$sconce" run -q --gpus none "$project")
[ -n "$said" ] || fail "the image of $project prints nothing"
digest=$("$sconce" build -q --tag check/hello:1 "$project")
serve plain --no-build >/dev/null
at=$(sed 's,^http://,,' "$scratch/plain.at")

say "skopeo sees it, copies it and checks every digest"
found=$(skopeo inspect --tls-verify=false "docker://$at/check/hello:1" | number Digest)
[ "$found" = "$digest" ] || fail "skopeo sees $found, sconce built $digest"
skopeo copy --quiet --insecure-policy --src-tls-verify=false "docker://$at/check/hello:1" "dir:$scratch/copy"
rm -rf "$scratch/copy"

say "podman runs it"
in_podman pull --quiet --tls-verify=false "$at/check/hello:1" >/dev/null
# Podman asks for more than a machine without CAP_SYS_RESOURCE allows.
same "$(in_podman run --rm --network host --ulimit nofile=1024 --ulimit nproc=4096 "$at/check/hello:1")" "$said" podman

say "another sconce runs it"
same "$(elsewhere run -q --gpus none "$at/check/hello:1")" "$said" "the pulled image"

say "Docker runs it"
export DOCKER_HOST="unix://$scratch/engine.sock"
dockerd --host "$DOCKER_HOST" --data-root "$scratch/data" --exec-root "$scratch/exec" \
    --pidfile "$scratch/pid" --bridge=none --iptables=false >"$scratch/dockerd.log" 2>&1 &
started="$! $started"
until_it 60 docker version
docker pull --quiet "$at/check/hello:1" >/dev/null
same "$(docker run --rm --network host "$at/check/hello:1")" "$said" Docker

say "containerd pulls it"
containerd --root "$scratch/containerd" --state "$scratch/containerd-run" --address "$scratch/containerd.sock" \
    --log-level error >"$scratch/containerd.log" 2>&1 &
started="$started $!"
in_containerd() { ctr --address "$scratch/containerd.sock" "$@"; }
until_it 30 in_containerd version
in_containerd images pull --plain-http --snapshotter native "$at/check/hello:1" >/dev/null
in_containerd images list | grep "$digest" || fail "containerd has another image"

loads() { # ENGINE
    PATH="$scratch/bin:$PATH" "$sconce" load -q check/hello:1 --into "$1" >"$scratch/said" 2>&1 ||
        fail "not loaded into $1: $(cat "$scratch/said")"
}

say "loaded into Docker, podman and containerd"
mkdir "$scratch/bin"
# Its commands take no options of where their own folders are from sconce.
printf '#!/bin/sh\nexec %s --root %s --runroot %s --runtime runc "$@"\n' "$(command -v podman)" \
    "$scratch/podman" "$scratch/podman-run" >"$scratch/bin/podman"
printf '#!/bin/sh\nexec %s --address %s "$@"\n' "$(command -v ctr)" "$scratch/containerd.sock" >"$scratch/bin/ctr"
chmod +x "$scratch/bin/podman" "$scratch/bin/ctr"
docker rmi --force "$at/check/hello:1" >/dev/null
loads docker
same "$(docker run --rm --network host check/hello:1)" "$said" "the image in Docker"
loads podman
in_podman image exists docker.io/check/hello:1 || fail "podman has no check/hello:1"
loads containerd
in_containerd images list | grep docker.io/check/hello:1 || fail "containerd has no check/hello:1"

say "an archive over standard input runs"
docker save check/hello:1 >"$scratch/saved.tar"
same "$(elsewhere run -q --gpus none - <"$scratch/saved.tar")" "$said" "the archive"

say "skopeo, podman, Docker and sconce push to it, and what they pushed runs"
SCONCE_HOME="$scratch/taken" SCONCE_STORES='' "$sconce" serve --no-build --writable --listen 127.0.0.1:0 \
    >"$scratch/taken.at" 2>"$scratch/taken.log" &
started="$started $!"
until_it 20 test -s "$scratch/taken.at"
to=$(sed 's,^http://,,' "$scratch/taken.at")
skopeo copy --quiet --insecure-policy --src-tls-verify=false --dest-tls-verify=false \
    "docker://$at/check/hello:1" "docker://$to/by/skopeo:1"
in_podman push --quiet --tls-verify=false "$at/check/hello:1" "$to/by/podman:1"
docker tag check/hello:1 "$to/by/docker:1"
docker push --quiet "$to/by/docker:1" >/dev/null
"$sconce" push -q check/hello:1 "$to/by/sconce:1" >/dev/null
for who in skopeo podman docker sconce; do
    same "$(SCONCE_HOME="$scratch/taken" SCONCE_STORES='' "$sconce" run -q --gpus none "by/$who:1")" "$said" "what $who pushed"
done

if [ -n "$tag" ]; then
    say "$tag, never built in this home, for two clients at once"
    export SCONCE_STORES="${SCONCE_HOME:-$HOME/.local/share/sconce}" SCONCE_HOME="$scratch/fresh"
    serve specification --allow "${tag%%:*}" >/dev/null
    at=$(sed 's,^http://,,' "$scratch/specification.at")
    begun=$(date +%s)
    skopeo inspect --raw --tls-verify=false "docker://$at/$tag" >"$scratch/first" &
    first=$!
    skopeo inspect --raw --tls-verify=false "docker://$at/$tag" >"$scratch/second"
    wait "$first"
    cmp "$scratch/first" "$scratch/second" || fail "two clients got two images"
    say "both had its manifest after $(($(date +%s) - begun)) s"
    [ "$(grep -c "^locking " "$scratch/specification.log")" -eq 1 ] || fail "it was not locked once"
    curl -sSf "http://$at/locks/$tag" | grep '^version' || fail "its lock is not readable"
    if skopeo inspect --tls-verify=false "docker://$at/nightly:1" 2>/dev/null; then fail "nightly:1 is there"; fi
fi

say "all of them agree"
