#!/usr/bin/env bash
# Measures a machine with GPUs by `sconce bench`, and what PyTorch reaches beside it. Writes all to the folder $OUT (./gpu-bench
# if not set); benches/runs holds what it said. Changes no setting of any GPU.
#
#     scripts/gpu-bench.sh SCONCE PYTHON
#
# PYTHON is an interpreter of this machine that has torch: its CUDA libraries are those that are measured.
set -uo pipefail
sconce=$(realpath "$1") python=$2
out=${OUT:-gpu-bench}
here=$(dirname "$0")
mkdir -p "$out"
export LC_ALL=C NCCL_NVLS_ENABLE=0
bench() { "$sconce" bench --host --python "$python" "$@"; }
bench --advise --json >"$out/bench.json"
echo "first run, with --advise: exit code $?"
bench --html --only latency,memory >"$out/bench.html"
echo "a page: exit code $?"
bench --quick
echo "quick: exit code $?"
"$python" "$here/../benches/torch_figures.py" >"$out/torch.json"
echo "torch: exit code $?"
bench --baseline "$out/bench.json"
echo "second run: exit code $?"
bench --burn 30s
echo "burn: exit code $?"
# A burn must find one wrong byte: a library in front of the real one makes it.
real=$("$python" -c 'import glob, torch; print(glob.glob(torch.__path__[0] + "/../nvidia/**/libcublasLt.so.1[23]", recursive=True)[0])')
if command -v cc >/dev/null && [ -n "$real" ]; then
    liar=$(mktemp -d)
    cc -shared -fPIC -O1 -o "$liar/$(basename "$real")" "$here/../benches/liar/cublaslt.c"
    LD_LIBRARY_PATH=$liar REAL=$real LIES_AT=2000 bench --burn 10s
    echo "a burn with one wrong byte (1 is right): exit code $?"
    rm -r "$liar"
else
    echo "no compiler: a burn with one wrong byte was not tried"
fi
python3 - "$out" <<'PYTHON'
import json, sys
ours, torch = (json.load(open(f"{sys.argv[1]}/{name}.json")) for name in ("bench", "torch"))
values = {}
for one in ours["figures"]:
    values.setdefault(one["figure"], one["value"])
print(f"beside torch {torch['torch']} on {torch['gpu']}:")
for one in torch["figures"]:
    mine = values.get(one["figure"])
    if mine:
        print(f"{one['figure']:<16} {mine:9.1f} torch {one['value']:9.1f} {one['unit']}: {mine / one['value']:.3f}")
PYTHON
