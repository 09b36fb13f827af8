#!/usr/bin/env bash
# Starts jobs that get stuck in known ways on all GPUs of this machine (NCCL) and on four CPUs (Gloo), and says what `sconce hang` says of each.
# The jobs on CPUs take two and a half minutes; writes all to the folder $OUT (./gpu-hang if not set). Changes no setting of any GPU.
#
#     scripts/gpu-hang.sh SCONCE PYTHON
#
# PYTHON is an interpreter of this machine that has torch. Exit code: 0 where each job was told for what it is, else 1.
set -uo pipefail
sconce=$(realpath "$1") python=$2
out=${OUT:-gpu-hang}
here=$(dirname "$0")
mkdir -p "$out"
export LC_ALL=C NCCL_NVLS_ENABLE=0 OMP_NUM_THREADS=1
gpus=$(nvidia-smi --list-gpus | grep -c .)
wrong=0

# KIND BACKEND RANKS CODE WORDS: `sconce hang` ends with CODE, and its page has WORDS.
tell() {
    local kind=$1 backend=$2 ranks=$3 code=$4 words=$5 name="$1-$2" rc job
    "$python" -m torch.distributed.run --nproc-per-node "$ranks" "$here/gpu_hangs.py" "$kind" "$backend" >"$out/$name.job" 2>&1 &
    job=$!
    for _ in $(seq 60); do
        [ "$(grep -c here "$out/$name.job")" -ge "$ranks" ] && break
        sleep 1
    done
    sleep 3
    timeout 60 "$sconce" hang "$job" --output "$out/$name" >"$out/$name.page" 2>&1
    rc=$?
    if [ "$rc" = "$code" ] && grep -qF -- "$words" "$out/$name.page"; then
        echo "ok     $name: $rc, $(head -1 "$out/$name.page")"
    else
        echo "WRONG  $name: $rc (not $code, or without \"$words\")"
        sed 's/^/       /' "$out/$name.page"
        wrong=1
    fi
    # Ranks that wait for a GPU do not end by themselves.
    pkill -KILL -P "$job"
    kill "$job" 2>/dev/null
    wait "$job" 2>/dev/null
}

if [ "$gpus" -ge 2 ]; then
    last=$((gpus - 1))
    tell healthy nccl "$gpus" 0 "They do not hang"
    tell asleep nccl "$gpus" 1 "gpu_hangs.py:30 in fetch_batch"
    tell busy nccl "$gpus" 1 "rank $last is at"
    # Of two ranks in two collectives nobody knows which is wrong: both places are named.
    if [ "$gpus" = 2 ]; then
        tell missing nccl 2 12 "rank 1 waits in barrier"
    else
        tell missing nccl "$gpus" 1 "rank $last waits in barrier"
    fi
fi
tell healthy gloo 4 0 "They do not hang"
tell asleep gloo 4 1 "gpu_hangs.py:30 in fetch_batch"
tell busy gloo 4 1 "rank 3 is at"
exit "$wrong"
