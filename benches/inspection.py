#!/usr/bin/env python3
"""Times `sconce inspect` of an image in the store beside `cuobjdump --list-elf` over the same
libraries, in turns, and compares what both count. Prints Markdown.

    benches/inspection.py --image torch:2.15.0 --cuobjdump PATH [--sconce PATH] [--repeat 3]

The image must be built (SCONCE_HOME or the default home); the first, uncounted round extracts it and
warms the page cache for both. cuobjdump is NVIDIA's: `pip install nvidia-cuda-cuobjdump -t DIR`.
"""

import argparse
import collections
import json
import os
import re
import sys
from pathlib import Path

from measure import Failed, Sample, Series, measure

BUDGET_SECONDS = 3.0
BUDGET_RATIO = 20.0


def home() -> Path:
    if "SCONCE_HOME" in os.environ:
        return Path(os.environ["SCONCE_HOME"])
    data = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local/share"
    return Path(data) / "sconce"


def on_disk(path: str) -> Path:
    """Where a file of the image lies in the store's extracted trees."""
    for tree in sorted((home() / "trees").iterdir()):
        if (tree / path).is_file():
            return tree / path
    raise Failed(f"{path} lies in no extracted tree of {home()}")


def listed(text: str) -> collections.Counter:
    return collections.Counter(re.findall(r"\.(sm_\d+[af]?)\.cubin", text))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--image", required=True)
    parser.add_argument("--cuobjdump", type=Path, required=True)
    parser.add_argument("--sconce", type=Path, default=Path(__file__).parent.parent / "target/release/sconce")
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args()

    inspect = [str(options.sconce), "inspect", options.image, "--json"]
    report = json.loads(measure(inspect).output)
    libraries = {
        library["path"]: on_disk(library["path"])
        for library in report["libraries"]
        if library["codes"] or library["relocatable_bytes"]
    }

    refused: dict[str, str] = {}

    def dump() -> tuple[Sample, dict[str, collections.Counter]]:
        samples, counts = [], {}
        for path, file in libraries.items():
            try:
                sample = measure([str(options.cuobjdump), "--list-elf", str(file)], sampled=False)
            except Failed as failure:
                refused[path] = str(failure).splitlines()[-1].split(" in '")[0]
                continue
            samples.append(sample)
            counts[path] = listed(sample.output)
        return Sample(sum(sample.seconds for sample in samples), 0, 0, ""), counts

    ours = Series("sconce inspect, the whole image", " ".join(inspect))
    theirs = Series("cuobjdump --list-elf, its libraries with GPU code", "cuobjdump --list-elf LIBRARY")
    counts: dict[str, collections.Counter] = {}
    for number in range(options.repeat + 1):
        mine = measure(inspect)
        sample, counts = dump()
        if number > 0:  # the first round warms the page cache
            ours.samples.append(mine)
            theirs.samples.append(sample)

    different = []
    for library in report["libraries"]:
        if library["path"] not in counts:
            continue
        mine = collections.Counter()
        for code in library["codes"]:
            if code["code"].startswith("sm_"):
                # cuobjdump lists family code (sm_100f) under its plain name.
                mine[code["code"].removesuffix("f")] += code["entries"]
        if mine != counts[library["path"]]:
            different.append(f"{library['path']}: {dict(mine)} here, {dict(counts[library['path']])} there")

    total = sum(file.stat().st_size for file in libraries.values())
    ratio = theirs.median / ours.median
    print(f"{len(libraries)} libraries with GPU code, {total / 1e9:.2f} GB; the image has {report['weight']['bytes'] / 1e9:.2f} GB\n")
    print("| | median s | all |\n|---|---|---|")
    for series in (ours, theirs):
        print(f"| {series.name} | {series.median:.2f} | {' '.join(f'{s:.2f}' for s in series.seconds)} |")
    print(f"\n{ratio:.0f} times faster (promised: {BUDGET_RATIO:.0f}); at most {BUDGET_SECONDS:.0f} s were promised.")
    print(f"Cubins counted by both, library by library: {len(counts) - len(different)} of {len(counts)} agree.")
    for path, why in refused.items():
        print(f"- cuobjdump refuses {path} ({why}); its time is not counted")
    for line in different:
        print(f"- {line}")
    return 0 if ratio >= BUDGET_RATIO and ours.median <= BUDGET_SECONDS else 1


if __name__ == "__main__":
    sys.exit(main())
