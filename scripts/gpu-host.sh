#!/usr/bin/env bash
# What only a host with several GPUs can show: who gets which, what lies between them, a job over all of them. Writes all
# to the folder $OUT (./gpu-host if not set). Changes no setting of any GPU.
#
#     scripts/gpu-host.sh SCONCE IMAGE PYTHON [PART...]
#
# IMAGE is in the store and holds a shell. A store that is carried to the host must be written out first: of an image that a start
# began, layers are blobs only when it is finished (docs/decision/0026), so make it by `sconce build` or `sconce run --whole`, and carry
# the folder with links, modes and times (`cp -a`, `tar`), or the image alone: `sconce copy NAME oci:DIR` here and, at the host,
# `sconce copy oci:DIR store:NAME`. PYTHON is an interpreter of this machine that has torch, shown to the image as its
# own. Parts: doctor selection verify launch bench monitor; all of them if none is named (about fifteen minutes on four GPUs).
set -uo pipefail
sconce=$(realpath "$1") image=$2 python=$3
shift 3
parts=" ${*:-doctor selection verify launch bench monitor} "
out=$(realpath -m "${OUT:-gpu-host}")
here=$(realpath "$(dirname "$0")") root=$(realpath "$(dirname "$0")/..")
mkdir -p "$out"
export LC_ALL=C NCCL_NVLS_ENABLE=0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failures=0
count=$(nvidia-smi --query-gpu=index --format=csv,noheader | wc -l)

part() { printf '\n## %s\n' "$*"; }
wanted() { case $parts in *" $1 "*) part "$1" ;; *) return 1 ;; esac; }
failed() { printf 'FAILED: %s\n' "$*"; failures=$((failures + 1)); }
# Runs a command that must succeed.
must() { printf '$ %s\n' "$*"; timeout 300 "$@" || failed "exit code $?"; }
seconds() { python3 -c 'import time; print(f"{time.monotonic():.2f}")'; }
since() { python3 -c "print(f'{$(seconds) - $1:.1f} s')"; }

# The interpreter, its standard library and its packages, where they are outside.
mounts=$("$python" -c '
import os, sys, sysconfig
places = {sys.prefix, os.path.realpath(sys.executable), sysconfig.get_path("stdlib"), sysconfig.get_config_var("INCLUDEPY"),
          "/usr/include/%s/python%d.%d" % (sysconfig.get_config_var("MULTIARCH"), *sys.version_info[:2])}
print(" ".join("-v %s:%s:ro" % (p, p) for p in sorted(places) if os.path.exists(p)))')
# As the image's own.
mkdir "$work/bin" "$work/project"
printf '#!/bin/sh\nexec %s "$@"\n' "$python" | tee "$work/bin/python3" >"$work/bin/python"
chmod +x "$work"/bin/*

{
  part machine
  nvidia-smi --query-gpu=index,name,driver_version,memory.total,power.limit --format=csv
  nvidia-smi topo -m
  must "$sconce" --version

  if wanted doctor; then
    must "$sconce" doctor
    must "$sconce" doctor --save "$out/snapshot.json"
    must "$sconce" doctor --from "$out/snapshot.json" >/dev/null
    must "$sconce" cdi generate --output "$out/cdi.json"
    echo "CDI: $(wc -c <"$out/cdi.json") bytes, $(grep -c '"name"' "$out/cdi.json") devices"
  fi

  if wanted selection; then
    each=$((count / 4 > 0 ? count / 4 : 1))
    users=$((count / each))
    echo "$users users at once, $each each:"
    for user in $(seq "$users"); do
      home=$work/user$user
      mkdir "$home"
      cp -a "${SCONCE_HOME:-$HOME/.local/share/sconce}" "$home/store"
      install -m 755 "$sconce" "$home/sconce"
      chown -R "$((70000 + user)):$((70000 + user))" "$home"
    done
    chmod 755 "$work"
    inside='nvidia-smi -L; echo "processors $(grep Cpus_allowed_list /proc/self/status | cut -f2)"; sleep 6'
    as() { local user=$1; shift; setpriv --reuid $((70000 + user)) --regid $((70000 + user)) --clear-groups \
      env HOME="$work/user$user" SCONCE_HOME="$work/user$user/store" "$work/user$user/sconce" "$@"; }
    running=()
    for user in $(seq "$users"); do
      as "$user" run --gpus "$each" "$image" sh -c "$inside" >"$work/got$user" 2>&1 &
      running+=($!)
    done
    sleep 3
    echo 'one more, while they run:'
    if as 1 run --gpus 1 "$image" true; then failed 'it got a GPU that another has'; else echo "(exit code $?)"; fi
    wait "${running[@]}"
    for user in $(seq "$users"); do sed "s/^/user $user: /" "$work/got$user"; done
    got=$(cat "$work"/got* | grep -o 'GPU-[0-9a-f-]*' | sort | uniq | wc -l)
    [ "$got" = $((users * each)) ] || failed "$got GPUs in the hands of $users users"
    rm -rf "$work"/user*

    echo 'a program outside of sconce on the first GPU:'
    "$python" -c '
import time, torch
a = torch.randn(8192, 8192, device="cuda:0", dtype=torch.bfloat16)
end = time.time() + 25
while time.time() < end: (a @ a); torch.cuda.synchronize()' &
    busy=$!
    sleep 12
    first=$(nvidia-smi --query-gpu=uuid --format=csv,noheader -i 0)
    took=$("$sconce" run --gpus 1 "$image" nvidia-smi -L)
    echo "$took"
    case $took in *"$first"*) failed 'the busy one was taken' ;; *GPU-*) ;; *) failed 'none was taken' ;; esac
    wait "$busy"
    echo 'each GPU, the processors near it, and those that its container gets:'
    for gpu in $(seq 0 $((count - 1))); do
      bus=$(nvidia-smi --query-gpu=pci.bus_id --format=csv,noheader -i "$gpu" | tr '[:upper:]' '[:lower:]' | sed 's/^0000//')
      near=$(cat "/sys/bus/pci/devices/$bus/local_cpulist")
      node=$(cat "/sys/bus/pci/devices/$bus/numa_node")
      gets=$("$sconce" run --gpus "device=$gpu" "$image" sh -c 'grep Cpus_allowed_list /proc/self/status | cut -f2')
      echo "GPU $gpu, node $node: near $near, its container $gets"
    done
  fi

  if wanted verify; then
    # $mounts is words, on purpose.
    # shellcheck disable=SC2086
    must "$sconce" verify --gpus all $mounts --python "$python" "$image"
  fi

  if wanted launch; then
    cp "$root/examples/ddp/train.py" "$work/project/"
    cat >"$work/project/busbw.py" <<'PYTHON'
import os, time, torch, torch.distributed as dist
rank = int(os.environ["LOCAL_RANK"])
torch.cuda.set_device(rank)
dist.init_process_group("nccl", device_id=torch.device("cuda", rank))
data = torch.ones(1 << 28, device="cuda")
for _ in range(3): dist.all_reduce(data)
torch.cuda.synchronize()
begun = time.time()
for _ in range(20): dist.all_reduce(data)
torch.cuda.synchronize()
seconds, world = (time.time() - begun) / 20, dist.get_world_size()
if rank == 0: print("busbw %.1f GB/s over %d ranks" % (data.nbytes / seconds / 1e9 * 2 * (world - 1) / world, world), flush=True)
dist.destroy_process_group()
PYTHON
    alone=("$python" -m torch.distributed.run --standalone --nproc-per-node "$count")
    launch() { timeout 200 "$sconce" launch "$image" -v "$work/bin:/opt/venv/bin:ro" -v "$work/project:/project" $mounts \
      -e NCCL_NVLS_ENABLE=0 --evidence "$work/evidence" --gpus-per-node "$count" "$@"; }
    for round in 1 2 3; do
      echo "round $round: torchrun alone, then sconce launch"
      begun=$(seconds)
      OMP_NUM_THREADS=1 timeout 200 "${alone[@]}" "$work/project/busbw.py" || failed torchrun
      echo "torchrun took $(since "$begun")"
      begun=$(seconds)
      launch -- /project/busbw.py || failed launch
      echo "launch took $(since "$begun")"
    done
    echo "examples/ddp, torchrun alone:"
    CHECKPOINTS=$work/alone OMP_NUM_THREADS=1 timeout 200 "${alone[@]}" "$work/project/train.py" || failed torchrun
    echo "examples/ddp, rank 1 dies at step 5, once:"
    launch -e DIE_AT=1:5 -e CHECKPOINTS=/project/died --restarts 1 -- /project/train.py || failed 'a restart'
    echo "examples/ddp, rank $((count - 1)) is killed, and nothing is started again (exit code 137 is right):"
    cat >"$work/project/killed.py" <<'PYTHON'
import os, signal, torch, torch.distributed as dist
rank = int(os.environ["LOCAL_RANK"])
torch.cuda.set_device(rank)
dist.init_process_group("nccl", device_id=torch.device("cuda", rank))
data = torch.ones(1 << 20, device="cuda")
for step in range(1000):
    dist.all_reduce(data)
    torch.cuda.synchronize()
    if step == 50 and rank == dist.get_world_size() - 1: os.kill(os.getpid(), signal.SIGKILL)
PYTHON
    begun=$(seconds)
    launch -- /project/killed.py
    code=$?
    echo "exit code $code after $(since "$begun")"
    [ "$code" = 137 ] || failed "exit code $code"
    echo "a hang: rank $((count - 1)) waits for its data"
    cat >"$work/project/hang.py" <<'PYTHON'
import os, time, torch, torch.distributed as dist
rank = int(os.environ["LOCAL_RANK"])
torch.cuda.set_device(rank)
dist.init_process_group("nccl", device_id=torch.device("cuda", rank))
data = torch.ones(1 << 20, device="cuda")
dist.all_reduce(data)
torch.cuda.synchronize()
print("first step", flush=True)
def fetch_batch(): time.sleep(3600)
if rank == dist.get_world_size() - 1: fetch_batch()
dist.all_reduce(data)
torch.cuda.synchronize()
PYTHON
    launch --hang-after 15s -- /project/hang.py
    code=$?
    [ "$code" = 1 ] || failed "exit code $code"
    echo "left: $("$sconce" ps -q | wc -l) containers, $(nvidia-smi --query-compute-apps=pid --format=csv,noheader | wc -l) processes on GPUs"
  fi

  if wanted bench; then
    bench() { timeout 280 "$sconce" bench --host --python "$python" "$@"; }
    bench --quick
    bench --only peers,collectives --json >"$out/bench-all.json" || failed "bench of all: $?"
    must "$python" "$root/benches/torch_collectives.py" "$out/bench-all.json"
    if [ "$count" -gt 2 ]; then
      bench --gpus 0,1 --only collectives --json >"$out/bench-two.json" || failed "bench of two: $?"
      must env CUDA_VISIBLE_DEVICES=0,1 "$python" "$root/benches/torch_collectives.py" "$out/bench-two.json"
    fi
  fi

  if wanted monitor; then
    OUT=$out/monitor "$here/gpu-monitor.sh" "$sconce" "$python" ranks || failed 'a load was told wrongly'
  fi
  part "end: $failures failed"
# What is this machine's alone does not belong into a report.
} 2>&1 | sed -u -E "s#$out#OUT#g; s#$work#WORK#g; s#$root/##g; s#${sconce%/*}/##g; s#${python%/bin/*}#VENV#g; s#GPU-([0-9a-f]{4})[0-9a-f]{4}(-[0-9a-f]{4}){3}-[0-9a-f]{12}#GPU-\1#g" |
  tee "$out/report.txt"
tail -n 1 "$out/report.txt" | grep -q '^## end: 0 failed'
