#!/bin/sh
# Builds wheels from source distributions of the real index, in containers, and fails on the first thing that is
# not as docs/from-source.md says. Takes a minute, and with `torch` as argument an hour: deepspeed, and
# torch-scatter's CUDA code.
#
#   scripts/check-from-source.sh [torch]
#
# SCONCE names the program; it works in a store of its own, which is removed.
set -eu

sconce=${SCONCE:-$(dirname "$0")/../target/debug/sconce}
sconce=$(realpath "$sconce")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
SCONCE_HOME=$work/store
export SCONCE_HOME

say() { echo "ok: $*"; }
fail() { echo "failed: $*" >&2; exit 1; }

# Plain Python, needed by another package: locked, built twice, and imported.
mkdir "$work/hydra"
cd "$work/hydra"
cat >sconce.toml <<'TOML'
[environment]
torch = false
requirements = ["hydra-core==1.3.2"]
from-source = ["antlr4-python3-runtime"]
TOML
"$sconce" build >image
grep -q '^rebuilt = "same"$' sconce.lock || fail "a second build of antlr4 was not the same"
"$sconce" run . python -c 'import hydra, antlr4' || fail "antlr4 does not import"
say "antlr4-python3-runtime for hydra-core"

# In a store that has nothing, the sealed lock gives the same image.
SCONCE_HOME=$work/other "$sconce" build --frozen >again
cmp -s image again || fail "another store gives another image"
say "the same image in another store"

# The folder that `sconce wheel` fills is an index.
mkdir "$work/user"
cd "$work/user"
"$sconce" wheel --for "$work/hydra" -o wheels >/dev/null
cat >sconce.toml <<'TOML'
[environment]
torch = false
requirements = ["antlr4-python3-runtime==4.9.3"]
indexes = [{ name = "wheels", url = "./wheels" }]
TOML
"$sconce" run . python -c 'import antlr4' || fail "the wheel in a folder is not taken"
say "a folder with the wheel"

# The project itself: installed with its program, built again when a file changes, and the same everywhere.
mkdir -p "$work/own/src/my_tool"
cd "$work/own"
cat >sconce.toml <<'TOML'
[environment]
torch = false
requirements = "pyproject.toml"
[app]
install = true
command = ["my-tool"]
TOML
cat >pyproject.toml <<'TOML'
[project]
name = "My_Tool"
dynamic = ["version"]
dependencies = ["einops"]
scripts = { my-tool = "my_tool:main" }
[build-system]
requires = ["setuptools"]
[tool.setuptools.dynamic]
version = { attr = "my_tool.__version__" }
TOML
cat >src/my_tool/__init__.py <<'PY'
__version__ = "1.2"
def main():
    import einops
    print("first")
PY
test "$("$sconce" run .)" = first || fail "the project's program does not run"
before=$(sha256sum sconce.lock)
sed -i s/first/second/ src/my_tool/__init__.py
test "$("$sconce" run .)" = second || fail "a change of the project's files is not seen"
test "$before" = "$(sha256sum sconce.lock)" || fail "a change of the project's files changes the lock"
"$sconce" build --locked >image
SCONCE_HOME=$work/other "$sconce" build --frozen >again
cmp -s image again || fail "another store gives another image of the project"
say "the project itself"

# With code to compile, there is a compiler where it is built and none in the image.
cat >src/my_tool/fast.c <<'C'
#include <Python.h>
static struct PyModuleDef module = { PyModuleDef_HEAD_INIT, "fast", NULL, -1, NULL };
PyMODINIT_FUNC PyInit_fast(void) { return PyModule_Create(&module); }
C
cat >>pyproject.toml <<'TOML'
[[tool.setuptools.ext-modules]]
name = "my_tool.fast"
sources = ["src/my_tool/fast.c"]
TOML
"$sconce" run . python -c 'import my_tool.fast, shutil; assert not shutil.which("cc")' ||
  fail "the project's extension does not import"
say "a project with C"

# A build that fails shows the end of its log and where all of it is.
cd "$work"
if "$sconce" wheel flash-attn 2>error; then fail "flash-attn was built without torch"; fi
grep -q "No module named 'torch'" error || fail "the log's end is not shown: $(cat error)"
log=$(sed -n 's/.*all of it is in //p' error)
test -s "$log" || fail "the log is not kept"
say "a build that fails"

[ "${1:-}" = torch ] || exit 0

mkdir "$work/deepspeed"
cd "$work/deepspeed"
cat >sconce.toml <<'TOML'
[environment]
gpus = ["h100"]
driver = "any"
requirements = ["deepspeed"]
from-source = ["deepspeed"]
TOML
"$sconce" run . python -c 'import deepspeed' || fail "deepspeed does not import"
say "deepspeed"
"$sconce" wheel torch-scatter -o wheels
"$sconce" inspect wheels/torch_scatter-*.whl | grep sm_90 || fail "torch-scatter has no code for sm_90"
say "torch-scatter"
