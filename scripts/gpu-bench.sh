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
"$sconce" bench --host --python "$python" --json >"$out/bench.json"
echo "first run: exit code $?"
"$sconce" bench --host --python "$python" --quick
echo "quick: exit code $?"
"$python" "$here/../benches/torch_figures.py" >"$out/torch.json"
echo "torch: exit code $?"
"$sconce" bench --host --python "$python" --baseline "$out/bench.json"
echo "second run: exit code $?"
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
