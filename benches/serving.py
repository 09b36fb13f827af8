#!/usr/bin/env python3
"""Measures `docker pull` from `sconce serve` of an image that was never built, beside `sconce build` of the same tag alone, each with
an empty home, in turn; then the same pull of the image that is there by then. Writes runs/<date>-<machine>-serving.md (see README.md).
Needs dockerd and the network."""

import argparse
import contextlib
import datetime
import os
import shutil
import subprocess
from pathlib import Path

import peers
from measure import Failed, Series, measure
from report import Report, Section

HERE = Path(__file__).resolve().parent
REPO = HERE.parent
MIB = 1 << 20


def on_disk(folder: Path) -> int:
    """What a folder takes of its disk, bytes; a file of several names once."""
    seen, total = set(), 0
    for root, folders, files in os.walk(folder):
        for name in [*folders, *files]:
            about = os.lstat(os.path.join(root, name))
            if (about.st_dev, about.st_ino) not in seen:
                seen.add((about.st_dev, about.st_ino))
                total += about.st_blocks * 512
    return total


def by_folder(home: Path) -> str:
    sizes = {entry.name: on_disk(entry) for entry in home.iterdir() if entry.is_dir()}
    return ", ".join(f"{name} {size / MIB:,.0f}" for name, size in sorted(sizes.items()) if size >= MIB) or "nothing"


@contextlib.contextmanager
def serve(sconce: str, home: Path):
    """`sconce serve` with a store, until the end; gives its address."""
    child = subprocess.Popen([sconce, "serve", "--listen", "127.0.0.1:0"], env={**os.environ, "SCONCE_HOME": str(home)},
                             stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        address = child.stdout.readline().strip().removeprefix("http://")
        if not address:
            raise Failed("`sconce serve` said no address")
        yield child.pid, address
    finally:
        child.terminate()
        child.wait(timeout=60)


def write(options: argparse.Namespace, rows: list[Series], sizes: list[tuple], folders: tuple[str, str]) -> None:
    """The page, after each round: what was measured until then is not lost."""
    built, pulled, again = rows
    section = Section(f"{options.tag}, never built before", rows)
    section.notes += [f"docker pull, against sconce build alone: {pulled.median / built.median:.2f} x; "
                      f"against build and then pull: {pulled.median / (built.median + again.median):.2f} x", "",
                      "| round | serve's store before, MiB | a store after `sconce build` | serve's after the pull | after the second pull "
                      "| load average at the start |", "|---|---|---|---|---|---|"]
    section.notes += [f"| {number} | " + " | ".join(f"{size / MIB:,.0f}" for size in row[:4]) + f" | {row[4]:.2f} |"
                      for number, row in enumerate(sizes, 1)]
    section.notes += ["", f"By folder, MiB: after `sconce build`: {folders[0]}; serve's, while it runs: {folders[1]}."]
    sconce = str(options.sconce.resolve())
    hidden = {sconce: "sconce", str(options.work.resolve()): "$WORK"}
    programs = [[sconce, "--version"], ["docker", "--version"], ["dockerd", "--version"]]
    page = Report(f"{options.machine}, docker pull from sconce serve", hidden, programs).page([section], [], Path("/nonexistent"))
    page = page.replace("- 0 wheels, 0.00 GB\n", "")
    path = HERE / "runs" / f"{datetime.date.today()}-{options.machine}-serving.md"
    path.write_text(page)
    print(page)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sconce", type=Path, default=REPO / "target/release/sconce")
    parser.add_argument("--work", type=Path, default=Path("/var/tmp/sconce-bench"))
    parser.add_argument("--machine", required=True, help="its name in the report, such as 2core-epyc")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tag", default="torch:2.15.0")
    options = parser.parse_args()
    work, sconce, tag = options.work.resolve(), str(options.sconce.resolve()), options.tag
    work.mkdir(parents=True, exist_ok=True)
    alone, served = work / "built-alone", work / "served"
    built = Series("sconce build, empty home", f"sconce build -q {tag}")
    pulled = Series("docker pull, empty home behind sconce serve", f"docker pull -q ADDRESS/{tag}")
    again = Series("docker pull, the image built by then", f"docker pull -q ADDRESS/{tag}")
    sizes = []
    with peers.docker_engine(work) as docker:
        def forget() -> None:
            for image in docker("image", "ls", "--quiet").split():
                docker("rmi", "--force", image)
            os.sync()

        for _ in range(options.rounds):
            shutil.rmtree(alone, ignore_errors=True)
            os.sync()
            load = os.getloadavg()[0]
            built.samples.append(measure([sconce, "build", "-q", tag], env={"SCONCE_HOME": str(alone)}))
            shutil.rmtree(served, ignore_errors=True)
            forget()
            with serve(sconce, served) as (pid, address):
                pull = ["docker", "pull", "-q", f"{address}/{tag}"]
                before = on_disk(served)
                pulled.samples.append(measure(pull, env=docker.env, daemons=[docker.pid, pid]))
                once = on_disk(served)
                forget()
                again.samples.append(measure(pull, env=docker.env, daemons=[docker.pid, pid]))
                sizes.append((before, on_disk(alone), once, on_disk(served), load))
                folders = (by_folder(alone), by_folder(served))
            write(options, [built, pulled, again], sizes, folders)
        forget()
    for folder in (alone, served):
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
