#!/usr/bin/env bash
# A command that starts before its image is whole: what it says, what becomes of the image beside it, after a kill,
# and after a failure. With real packages, and in a store of its own.
#
#   SCONCE=target/release/sconce scripts/check-early.sh
set -euo pipefail
sconce=$(realpath "${SCONCE:-target/release/sconce}")
home=$(mktemp -d)
# What finishes an image and what checks imports outlive the command beside which they work.
leave() {
  for _ in $(seq 120); do
    env -u SCONCE_HOME grep -qsz "^SCONCE_HOME=$home" /proc/[0-9]*/environ || break
    sleep 0.5
  done
  rm -rf "$home"
}
trap leave EXIT
export SCONCE_HOME="$home/store"
project="$home/early"
mkdir "$project"
cat >"$project/sconce.toml" <<'TOML'
[environment]
torch = false
requirements = ["sympy"]
TOML

fail() {
  echo "$*" >&2
  exit 1
}

# Ends what finishes the image of the project, if it has not ended by itself.
kill_finisher() {
  for process in /proc/[0-9]*; do
    if tr '\0' ' ' <"$process/cmdline" 2>/dev/null | grep "finish --quiet -- $project" >/dev/null; then
      kill -9 "${process#/proc/}" || true
    fi
  done
}

# One thread leaves time to kill what finishes the image.
run() {
  "$sconce" run --threads 1 --gpus none "$@" "$project" python -c 'print(4)' 2>"$home/said"
}

test "$(run)" = 4 || fail "$(cat "$home/said")"
grep -q 'bytecode is compiled and its image sealed beside the command' "$home/said" || fail 'it did not start early'
kill_finisher
test "$("$sconce" images --json | grep -c '"early:latest"')" = 0 || fail 'an image that is not whole has a name'

# From what the kill left, early again, with the state in `ps`.
"$sconce" run -q --gpus none -d --name early-one "$project" sleep 20 >/dev/null
"$sconce" ps | grep '(early)' || fail 'ps does not say that it started early'
digest=$("$sconce" build -q "$project")
"$sconce" run -q --gpus none "$project" python -c 'import os, sympy; print(os.path.exists(sympy.__cached__))' |
  grep True || fail 'no bytecode'
"$sconce" stop early-one >/dev/null
grep -q "$digest" "$project/sconce.lock" || fail 'the lock is not sealed'

# What a power cut may leave of a memo is made again.
for memo in "$SCONCE_HOME"/memo/environment-* "$SCONCE_HOME"/memo/b*-layer-*; do
  truncate -s 20 "$memo"
done
test "$("$sconce" build -q "$project")" = "$digest" || fail 'damaged memos made another image'

# A start that waits for all of it makes the same image, with bytecode.
export SCONCE_HOME="$home/whole"
test "$(run --whole)" = 4
if grep -q 'beside the command' "$home/said"; then
  fail '--whole did not wait'
fi
test "$("$sconce" build -q "$project")" = "$digest" || fail 'another image'

# Where the rest failed once, the next start waits for it, and shows its error.
export SCONCE_HOME="$home/failed"
run >/dev/null
kill_finisher
ls "$SCONCE_HOME"/memo/early-environment-* >/dev/null || fail 'the image was whole before it could be killed'
for memo in "$SCONCE_HOME"/memo/early-environment-*; do
  echo 'it failed' >"${memo/early-environment/unfinished}"
done
test "$(run)" = 4
if grep -q 'beside the command' "$home/said"; then
  fail 'it did not wait after a failure'
fi
test "$("$sconce" build -q "$project")" = "$digest" || fail 'another image'
echo "early starts: image $digest"
