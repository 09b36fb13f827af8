#!/bin/sh
# Does `sconce launch` train a real torch through Gloo: on this machine, and on three machines behind ssh? Does it name the machine
# whose line is slow before the first step, and take the spare?
#
#     sudo SCONCE=target/release/sconce scripts/check-launch.sh
#
# The torch is Debian bookworm's, on the CPU, in an image that sconce builds from apt's mirror. The machines are network
# namespaces with a veth each on one bridge, with stores of their own; `ssh` is a program on PATH that enters them. Needs root
# and iproute2. Each launch may take 100 s; all of it took 195 s with a debug build on two busy cores, most of it three copies
# of an image of 414 MiB. The first run fetches 260 MB of packages.
set -eu

sconce=$(command -v "${SCONCE:-sconce}") || { echo "check-launch: no sconce" >&2; exit 2; }
sconce=$(readlink -f "$sconce")
here=$(cd "$(dirname "$0")/.." && pwd)
scratch=$(mktemp -d)
bridge=scb$$
finish() {
    for at in 1 2 3 4; do ip netns del "sc$$-$at" 2>/dev/null || true; done
    ip link del "$bridge" 2>/dev/null || true
    rm -rf "$scratch"
}
trap finish EXIT
trap 'exit 130' INT TERM
say() { printf '%s\n' "check-launch: $*"; }
fail() { say "$*" >&2; exit 1; }
has() { grep -q -- "$2" "$1" || { cat "$1" >&2; fail "it does not say: $2"; }; }
# Far longer than it takes: a run that hangs fails.
launch() { timeout 100 "$sconce" launch "$@" >"$scratch/said" 2>&1; }

project=$scratch/project
mkdir "$project"
cp "$here/examples/ddp/train.py" "$project"
cat >"$project/hang.py" <<'PY'
import time
import torch
import torch.distributed as dist

dist.init_process_group("gloo")
x = torch.ones(4)
print("begin", flush=True)
for step in range(1000):
    if dist.get_rank() == 1 and step == 5:
        def fetch_batch():
            time.sleep(1000)
        fetch_batch()
    dist.all_reduce(x)
PY
api=/usr/lib/python3/dist-packages/torch/distributed/elastic/multiprocessing/api.py
cat >"$project/sconce.toml" <<TOML
[environment]
torch = false
[base]
debian = "bookworm"
packages = ["python3-torch"]
[app]
include = ["train.py", "hang.py"]
env = { PYTHONPATH = "/usr/lib/python3/dist-packages" }
TOML
"$sconce" build -q "$project" >/dev/null
# Debian has torch 1.13 with Python 3.11, which it was not made for: its enum no longer counts 3 (both streams).
"$sconce" run -q "$project" cat "$api" | sed 's/for s in Std:/for s in (Std.NONE, Std.OUT, Std.ERR, Std.ALL):/' >"$scratch/api.py"
mend="$scratch/api.py:$api:ro"

say "two ranks here"
launch --ranks 2 -v "$mend" -v "$scratch/c1:/app/checkpoints" "$project" -- train.py || { cat "$scratch/said"; fail "exit $?"; }
has "$scratch/said" "2 ranks on cpu, step 80"

say "a rank dies, and all go on from the checkpoint"
launch --ranks 2 --restarts 1 -e DIE_AT=1:50 -v "$mend" -v "$scratch/c2:/app/checkpoints" "$project" -- train.py ||
    { cat "$scratch/said"; fail "exit $?"; }
has "$scratch/said" "rank 1 on .* failed; starting all ranks again"
has "$scratch/said" "goes on from step 48"

say "a rank that does not come is named"
launch --ranks 3 --hang-after 15s -v "$mend" "$project" -- hang.py && fail "exit 0"
has "$scratch/said" "rank 1 is not where the others are"
has "$scratch/said" "rank 1 is at hang.py:11 in fetch_batch"
has "$scratch/said" "ranks 0, 2 wait in all_reduce"

say "three machines behind ssh"
ip link add "$bridge" type bridge
ip link set "$bridge" up
for at in 1 2 3 4; do
    space=sc$$-$at
    ip netns add "$space"
    ip link add "$bridge$at" type veth peer name eth0 netns "$space"
    ip link set "$bridge$at" master "$bridge" up
    ip -n "$space" addr add "10.213.7.$at/24" dev eth0
    ip -n "$space" link set eth0 up
    ip -n "$space" link set lo up
    mkdir -p "$scratch/node$at/tmp"
done
mkdir "$scratch/bin"
cat >"$scratch/bin/ssh" <<SH
#!/bin/sh
while [ "\$1" != -- ]; do shift; done
shift
at=\${1#node}; shift
export SCONCE_HOME=$scratch/node\$at/store TMPDIR=$scratch/node\$at/tmp PATH=/usr/sbin:/usr/bin:/sbin:/bin
cd /
exec ip netns exec sc$$-\$at unshare --uts sh -c "hostname node\$at; \$*"
SH
chmod 755 "$scratch/bin/ssh"
PATH=$scratch/bin:$PATH
launch --hosts 'node[1-3]' --ranks 1 --explain -v "$mend" "$project" -- train.py || { cat "$scratch/said"; fail "exit $?"; }
has "$scratch/said" "3 ranks on cpu"
has "$scratch/said" "--master_addr=10.213.7.1"
has "$scratch/said" "GLOO_SOCKET_IFNAME=eth0"
for at in 1 2 3; do
    [ -z "$(ls "$scratch/node$at/tmp")" ] || fail "node$at still has its folder"
done

say "what they measure before the first step"
launch --hosts 'node[1-3]' --ranks 2 --preflight -v "$mend" "$project" -- train.py || { cat "$scratch/said"; fail "exit $?"; }
has "$scratch/said" "all-reduce of 8 MiB over 6 ranks at .*, and all sums are right"
has "$scratch/said" "within each machine: "
has "$scratch/said" "between neighbours, one way: "
grep "^note: " "$scratch/said"

say "a machine whose line is slow, and a spare"
# A gigabit's eighth one way: all of node2's edges have it.
ip netns exec "sc$$-2" tc qdisc add dev eth0 root tbf rate 120mbit burst 64kb latency 400ms
launch --hosts 'node[1-4]' --spares 1 --ranks 1 --preflight -v "$mend" "$project" -- train.py || { cat "$scratch/said"; fail "exit $?"; }
has "$scratch/said" "node2 is left out, node4 takes its place: .* to and from its neighbours"
has "$scratch/said" "3 ranks on cpu"
grep "^note: " "$scratch/said"

say "all is well"
