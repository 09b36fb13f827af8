#!/bin/sh
# Do the engines people have accept what `sconce build` writes, and does it run there?
#
#     sconce build examples/hello --output oci:/tmp/hello.oci
#     sconce build examples/hello --output docker-archive:/tmp/hello.tar
#     sudo scripts/check-peers.sh /tmp/hello.oci /tmp/hello.tar [COMMAND...]
#
# skopeo reads the layout and checks each digest, Docker runs what skopeo hands it, Docker
# runs what it loads from the archive, and both must be the same image. COMMAND (default: the
# image's own) must exit with 0. Podman's part is in check-runtimes.sh.
# Needs skopeo and docker.io. Starts an engine of its own, and ends it, unless DOCKER_HOST
# names one.
set -eu

[ $# -ge 2 ] || { sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2; exit 2; }
layout=$1 archive=$2
shift 2

scratch=$(mktemp -d)
engine=
finish() {
    if [ -n "$engine" ]; then
        kill "$engine" 2>/dev/null || true
        wait "$engine" 2>/dev/null || true
        umount "$scratch/exec/netns/default" 2>/dev/null || true
    fi
    rm -rf "$scratch"
}
trap finish EXIT
trap 'exit 130' INT TERM

say() { printf '%s\n' "check-peers: $*"; }

if [ -z "${DOCKER_HOST:-}" ]; then
    export DOCKER_HOST="unix://$scratch/engine.sock"
    dockerd --host "$DOCKER_HOST" --data-root "$scratch/data" --exec-root "$scratch/exec" \
        --pidfile "$scratch/pid" --bridge=none --iptables=false >"$scratch/log" 2>&1 &
    engine=$!
    tries=0
    until docker version >/dev/null 2>&1; do
        tries=$((tries + 1))
        if [ $tries -gt 60 ] || ! kill -0 "$engine" 2>/dev/null; then
            say "dockerd does not answer:" >&2
            tail -n 5 "$scratch/log" >&2
            exit 1
        fi
        sleep 0.5
    done
fi

run() { # IMAGE [COMMAND...]
    docker run --rm --network host "$@"
}

image() { # IMAGE: what it is, whichever way it came (its id is not: skopeo may rewrite the JSON)
    docker image inspect --format '{{json .RootFS.Layers}} {{json .Config}}' "$1"
}

say "skopeo reads the layout"
skopeo inspect "oci:$layout" >/dev/null
skopeo copy --quiet --insecure-policy "oci:$layout" "dir:$scratch/copy"
rm -rf "$scratch/copy"

say "Docker runs what skopeo copies from it"
skopeo copy --quiet --insecure-policy --dest-daemon-host "$DOCKER_HOST" "oci:$layout" docker-daemon:sconce-check:layout
run sconce-check:layout "$@"
copied=$(image sconce-check:layout)

say "Docker runs what it loads from the archive"
loaded=$(docker load --quiet --input "$archive" | sed -n 's/^Loaded image[^:]*: //p' | tail -n 1)
[ -n "$loaded" ] || { say "docker load named no image" >&2; exit 1; }
run "$loaded" "$@"
if [ "$(image "$loaded")" != "$copied" ]; then
    say "the layout and the archive are two different images:" >&2
    printf '%s\n' "$copied" "$(image "$loaded")" >&2
    exit 1
fi

say "all of them agree"
