#!/usr/bin/env bash
# The packages of a release, installed as people install them: usage: scripts/check-dist.sh [PROGRAM]
# Needs pip with its index, dpkg and a project folder that is locked already (examples/hello): each installed program runs it.
set -euo pipefail
cd "$(dirname "$0")/.."
program=${1:-target/release/sconce}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# All of the workspace, as for its tests: with other features everything would be compiled once more.
cargo build --workspace --locked -q
target/debug/xtask dist --binary "$program" --out "$work/again" >/dev/null &
target/debug/xtask dist --binary "$program" --out "$work/dist" >/dev/null
wait $!
diff -r "$work/dist" "$work/again"
(cd "$work/dist" && sha256sum --quiet -c SHA256SUMS)
printf 'packages: the same bytes twice\n'

# An empty virtual environment.
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --no-index "$work"/dist/*.whl
"$work/venv/bin/pip" check -q
test -s "$work/venv/share/man/man1/sconce-run.1"
"$work/venv/bin/sconce" run examples/hello
printf 'wheel: %s\n' "$("$work/venv/bin/sconce" --version)"

# An empty root with dpkg's own records alone: what the package depends on is this machine's.
mkdir -p "$work/root/var/lib/dpkg"/{info,updates} "$work/root/usr/bin"
touch "$work/root/var/lib/dpkg"/{status,available}
dpkg --root="$work/root" --force-depends --force-not-root --install "$work"/dist/*.deb >"$work/dpkg" 2>&1 || { cat "$work/dpkg"; exit 1; }
dpkg --root="$work/root" --verify sconce
"$work/root/usr/bin/sconce" run examples/hello
# The name under which it is podman's runtime.
test "$(readlink "$work/root/usr/bin/sconce-oci")" = sconce
"$work/root/usr/bin/sconce-oci" features | grep ociVersionMin >/dev/null
test -s "$work/root/usr/share/man/man1/sconce-run.1.gz"
missing=$(dpkg-deb -f "$work"/dist/*.deb Depends | tr ',' '\n' | while read -r name _; do
  dpkg-query -W -f '${Status}\n' "$name" 2>/dev/null | grep -q installed || echo "$name"
done)
test -z "$missing"
dpkg --root="$work/root" --purge --force-not-root sconce >"$work/dpkg" 2>&1
test ! -e "$work/root/usr/bin/sconce"
test ! -L "$work/root/usr/bin/sconce-oci"
printf 'deb: installed, verified, removed\n'

tar -xJf "$work"/dist/*.tar.xz -C "$work"
"$work"/sconce-*-linux/bin/sconce run examples/hello
printf 'tarball: unpacked\n'

# What others think of the list of what is inside.
python3 -m venv "$work/spdx"
"$work/spdx/bin/pip" install -q spdx-tools
"$work/spdx/bin/pyspdxtools" -i "$work"/dist/*.spdx.json
printf 'SBOM: valid SPDX\n'
