#!/bin/sh
# Does a cluster download an image once? Eight nodes that reach nothing but one other machine build and run a
# sealed lock from what that machine has.
#
#     sudo SCONCE=target/release/sconce scripts/check-nodes.sh examples/hello [NODES]
#
# The image of the folder must print something and exit with 0. Each node is a network namespace with a home of
# its own and a link to a namespace in which `sconce serve` runs over SCONCE_HOME; none has a way out, so
# whatever one needs and its peer has not would fail it. Says how many bytes came over each link. Needs ip
# (iproute2).
set -eu

[ $# -ge 1 ] || { sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2; exit 2; }
project=$1 nodes=${2:-8}
sconce=${SCONCE:-sconce}
scratch=$(mktemp -d)
mark=sconce-$$
server=
finish() {
    [ -z "$server" ] || { kill "$server" 2>/dev/null || true; wait "$server" 2>/dev/null || true; }
    node=0
    while [ $node -le "$nodes" ]; do
        ip netns delete "$mark-$node" 2>/dev/null || true
        node=$((node + 1))
    done
    # What finishes images beside their first run may still be at it.
    tries=0
    until rm -rf "$scratch" 2>/dev/null || [ $tries -ge 60 ]; do
        tries=$((tries + 1))
        sleep 1
    done
}
trap finish EXIT
trap 'exit 130' INT TERM

say() { printf '%s\n' "check-nodes: $*"; }
fail() { say "$*" >&2; exit 1; }
within() { # NODE COMMAND...
    inside=$mark-$1
    shift
    ip netns exec "$inside" "$@"
}

said=$("$sconce" run -q --gpus none "$project")
[ -n "$said" ] || fail "the image of $project prints nothing"
"$sconce" build -q "$project" >/dev/null
grep -q '^\[sealed\]' "$project/sconce.lock" || fail "the lock of $project is not sealed"

# Namespace 0 serves; a bridge in it joins the links of the others.
ip netns add "$mark-0"
within 0 ip link set lo up
within 0 ip link add hub type bridge
within 0 ip address add 10.77.0.1/24 dev hub
within 0 ip link set hub up
node=1
while [ $node -le "$nodes" ]; do
    ip netns add "$mark-$node"
    within 0 ip link add "to$node" type veth peer name uplink netns "$mark-$node"
    within 0 ip link set "to$node" master hub up
    within $node ip link set lo up
    within $node ip address add "10.77.0.$((node + 1))/24" dev uplink
    within $node ip link set uplink up
    node=$((node + 1))
done
# Not by the function: its shell would be what is ended, and the server live on.
ip netns exec "$mark-0" "$sconce" serve --no-build --listen 10.77.0.1:5000 >"$scratch/at" 2>"$scratch/serve.log" &
server=$!
tries=0
until [ -s "$scratch/at" ]; do
    tries=$((tries + 1))
    [ $tries -lt 200 ] || fail "it does not listen: $(cat "$scratch/serve.log")"
    sleep 0.1
done

say "$nodes nodes with empty homes, all at once"
begun=$(date +%s)
node=1
while [ $node -le "$nodes" ]; do
    SCONCE_HOME="$scratch/home$node" SCONCE_STORES='' SCONCE_PEERS=10.77.0.1:5000 \
        within $node "$sconce" run --locked --gpus none "$project" >"$scratch/out$node" 2>"$scratch/err$node" &
    eval "pid$node=\$!"
    node=$((node + 1))
done
node=1
while [ $node -le "$nodes" ]; do
    eval "wait \$pid$node" || fail "node $node: $(tail -n 5 "$scratch/err$node")"
    [ "$(cat "$scratch/out$node")" = "$said" ] || fail "node $node printed something else"
    node=$((node + 1))
done
say "all of them ran it after $(($(date +%s) - begun)) s; bytes over the link of each:"
node=1
while [ $node -le "$nodes" ]; do
    within $node cat /sys/class/net/uplink/statistics/rx_bytes
    node=$((node + 1))
done | sort -n | sed -n '1p;$p' | paste -sd- -
