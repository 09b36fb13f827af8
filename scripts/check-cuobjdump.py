#!/usr/bin/env python3
"""Compares the GPU code that `sconce inspect` finds in wheels with what NVIDIA's cuobjdump lists.

    scripts/check-cuobjdump.py [--sconce target/release/sconce] [--large] [--only NAME] [--cache DIR]

Downloads the wheels of scripts/cuobjdump-wheels.txt and nvidia-cuda-cuobjdump with pip, each wheel while the one
before it is compared, and deletes it afterwards unless `--cache` names a folder that keeps it; `--large` takes the large
ones too. Exits with 1 when the two disagree about a library, or when a wheel has none to compare.
"""

import argparse
import collections
import concurrent.futures
import json
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

HERE = Path(__file__).parent
JUDGE = "nvidia-cuda-cuobjdump==13.5.37"
LISTED = re.compile(r"\.(sm_\d+[af]?)\.(cubin|ptx)$")
# Wheels are for this Python and platform whatever runs the script.
TARGET = ["--python-version", "3.12", "--only-binary=:all:", "--platform", "manylinux_2_28_x86_64",
          "--platform", "manylinux_2_17_x86_64", "--platform", "manylinux2014_x86_64",
          "--platform", "manylinux_2_12_x86_64", "--platform", "manylinux_2_27_x86_64",
          "--platform", "manylinux_2_24_x86_64", "--platform", "manylinux1_x86_64"]


def wheels(large: bool) -> list[str]:
    """The rows of the list: `small NAME==VERSION` or `large NAME==VERSION`."""
    rows = [line.split("#")[0].split() for line in (HERE / "cuobjdump-wheels.txt").read_text().splitlines()]
    return [row[1] for row in rows if row and (row[0] == "small" or large)]


def download(requirement: str, folder: Path) -> Path:
    name = re.sub(r"[-.]+", "_", requirement.split("==")[0])
    version = requirement.split("==")[1]
    found = list(folder.glob(f"{name}-{version}-*.whl"))
    if not found:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--disable-pip-version-check"]
        subprocess.run([*command, *TARGET, "-d", str(folder), requirement], check=True, timeout=600)
        found = list(folder.glob(f"{name}-{version}-*.whl"))
    return found[0]


def listed(cuobjdump: Path, library: Path) -> collections.Counter | None:
    """What cuobjdump lists of one library; None when it refuses the file."""
    counts: collections.Counter = collections.Counter()
    for option in ("--list-elf", "--list-ptx"):
        ran = subprocess.run([str(cuobjdump), option, str(library)], capture_output=True, text=True, timeout=900)
        if ran.returncode and "does not contain device code" not in ran.stderr + ran.stdout:
            return None
        for line in ran.stdout.splitlines():
            if match := LISTED.search(line):
                prefix = "sm_" if match[2] == "cubin" else "compute_"
                # Family code (sm_100f) is listed under its plain name.
                counts[prefix + match[1].removeprefix("sm_").removesuffix("f")] += 1
    return counts


def ours(entry: dict) -> collections.Counter:
    counts: collections.Counter = collections.Counter()
    for code in entry["codes"]:
        if code["code"].startswith(("sm_", "compute_")):
            counts[code["code"].removesuffix("f")] += code["entries"]
    return counts


def compare(sconce: Path, cuobjdump: Path, wheel: Path) -> tuple[int, list[str], list[str]]:
    """How many libraries agree, which do not, and which cuobjdump refuses."""
    report = json.loads(subprocess.run([str(sconce), "inspect", str(wheel), "--json"], check=True,
                                       capture_output=True, text=True, timeout=900).stdout)
    same, different, refused = 0, [], []
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(wheel) as archive:
        for entry in report["libraries"]:
            if not entry["codes"]:
                continue
            file = Path(archive.extract(entry["path"], folder))
            theirs, mine = listed(cuobjdump, file), ours(entry)
            file.unlink()
            if theirs is None:
                refused.append(entry["path"])
            elif theirs == mine:
                same += 1
            else:
                different.append(f"{entry['path']}: {dict(mine)} here, {dict(theirs)} there")
    return same, different, refused


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sconce", type=Path, default=HERE.parent / "target/release/sconce")
    parser.add_argument("--large", action="store_true", help="compare the large wheels too")
    parser.add_argument("--only", help="compare only wheels whose name has this in it")
    parser.add_argument("--cache", type=Path, help="folder that keeps the downloads")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.cache or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(download(JUDGE, folder)) as archive:
            name = next(name for name in archive.namelist() if name.endswith("/cuobjdump"))
            cuobjdump = Path(archive.extract(name, scratch))
            cuobjdump.chmod(0o755)
        rows = [row for row in wheels(options.large) if not options.only or options.only in row]
        total, wrong, empty = 0, 0, []
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            coming = pool.submit(download, rows[0], folder) if rows else None
            for at, row in enumerate(rows):
                wheel = coming.result()
                if at + 1 < len(rows):
                    coming = pool.submit(download, rows[at + 1], folder)
                same, different, refused = compare(options.sconce, cuobjdump, wheel)
                if not options.cache:
                    wheel.unlink()
                total += same
                wrong += len(different)
                if not same and not different:
                    empty.append(row)
                note = f", cuobjdump refuses {', '.join(refused)}" if refused else ""
                print(f"{row}: {same} agree, {len(different)} do not{note}", flush=True)
                for line in different:
                    print(f"  {line}", flush=True)
    print(f"{len(rows) - len(empty)} wheels compared, {total} libraries agree, {wrong} do not")
    for row in empty:
        print(f"{row} has nothing to compare: take it off the list")
    return 1 if wrong or empty or not total else 0


if __name__ == "__main__":
    sys.exit(main())
