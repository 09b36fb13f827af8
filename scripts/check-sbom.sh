#!/usr/bin/env bash
# Both forms of an SBOM before the validators that others use: spdx-tools, and the schema of CycloneDX as its own library has it.
#   scripts/check-sbom.sh [TARGET...]      SCONCE=path/to/sconce; targets are locked (network for the validators, from PyPI)
set -euo pipefail
sconce=${SCONCE:-target/release/sconce}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q spdx-tools 'cyclonedx-python-lib[json-validation]'
for target in "${@:-.}"; do
  "$sconce" sbom --quiet --format spdx "$target" >"$work/sbom.spdx.json"
  "$sconce" sbom --quiet "$target" >"$work/sbom.cdx.json"
  "$work/venv/bin/pyspdxtools" -i "$work/sbom.spdx.json"
  "$work/venv/bin/python" - "$work/sbom.cdx.json" <<'PYTHON'
import sys
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
fault = JsonStrictValidator(SchemaVersion.V1_6).validate_str(open(sys.argv[1]).read())
sys.exit(f"{sys.argv[1]}: {fault}" if fault else 0)
PYTHON
  # The same bytes again, in another time zone.
  TZ=Asia/Tokyo "$sconce" sbom --quiet "$target" | cmp - "$work/sbom.cdx.json"
  printf 'SBOM of %s: valid SPDX 2.3 and CycloneDX 1.6\n' "$target"
done
