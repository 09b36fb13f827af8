#!/usr/bin/env python3
"""Measures push, pull and "from a registry to the first line" beside docker and skopeo, all with one registry on loopback.
Writes runs/<date>-<machine>-registry.md (see README.md). Needs docker-registry, dockerd, skopeo and the network once."""

import argparse
import datetime
import json
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

import peers
from measure import Failed, Series, measure
from report import Budget, Report, Section, run_sections

HERE = Path(__file__).resolve().parent
REPO = HERE.parent
LINE = "import torch; print(torch.__version__)"
PROJECT = '[environment]\ntorch = "2.15.0"\nrequirements = [{}]\n'


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Bench:
    def __init__(self, options: argparse.Namespace) -> None:
        self.options, self.work = options, options.work.resolve()
        self.sconce, self.budgets = str(options.sconce.resolve()), []
        self.home = {"SCONCE_HOME": str(self.work / "registry-home")}
        self.node = {"SCONCE_HOME": str(self.work / "registry-node")}
        self.port = free_port()
        self.project("one", "")
        self.project("two", '"requests"')
        for name in ("one", "two"):
            measure([self.sconce, "build", "-q", str(self.work / name)], env=self.home)

    def project(self, name: str, requirements: str) -> None:
        folder = self.work / name
        folder.mkdir(exist_ok=True)
        (folder / "sconce.toml").write_text(PROJECT.format(requirements))

    def reference(self, name: str) -> str:
        return f"localhost:{self.port}/{name}:1"

    def registry(self) -> subprocess.Popen:
        root = self.work / "registry"
        shutil.rmtree(root, ignore_errors=True)
        config = self.work / "registry.yml"
        config.write_text("version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\n"
                          f"storage: {{filesystem: {{rootdirectory: {root}}}}}\nhttp: {{addr: '127.0.0.1:{self.port}'}}\n")
        started = subprocess.Popen(["docker-registry", "serve", config], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(100):
            try:
                socket.create_connection(("127.0.0.1", self.port)).close()
                return started
            except OSError:
                time.sleep(0.1)
        raise Failed("docker-registry does not listen")

    def end(self, registry: subprocess.Popen) -> None:
        registry.terminate()
        registry.wait(timeout=30)

    def push(self, out: Section) -> None:
        """Into an empty registry each time."""
        layout = self.work / "layout"
        shutil.rmtree(layout, ignore_errors=True)
        measure([self.sconce, "copy", "-q", str(self.work / "one"), f"oci:{layout}:1"], env=self.home)
        rows = {"sconce push": [self.sconce, "push", "-q", str(self.work / "one"), self.reference("one")],
                "skopeo copy, from a layout": ["skopeo", "copy", "-q", "--dest-tls-verify=false", f"oci:{layout}:1",
                                               f"docker://{self.reference('one')}"]}
        with peers.docker_engine(self.work) as docker:
            archive = self.work / "image.tar"
            measure(["skopeo", "copy", "-q", f"oci:{layout}:1", f"docker-archive:{archive}:{self.reference('one')}"])
            docker("load", "-q", "-i", str(archive))
            archive.unlink()
            rows["docker push"] = ["docker", "push", "-q", self.reference("one")]
            series = [Series(name, " ".join(command)) for name, command in rows.items()]
            for _ in range(self.options.rounds):
                for row in series:
                    registry = self.registry()
                    os.sync()
                    env = self.home if row.name.startswith("sconce") else docker.env
                    row.samples.append(measure(row.command.split(" "), env=env))
                    self.end(registry)
            docker("rmi", "-f", self.reference("one"))
        out.rows += series
        self.budgets.append(Budget("memory of a push", series[0].peak / 2**20, 512, "MiB"))
        shutil.rmtree(layout)

    def pull(self, out: Section) -> None:
        """From the registry to a line of a running container, nothing there before."""
        registry = self.registry()
        try:
            for name in ("one", "two"):
                measure([self.sconce, "push", "-q", str(self.work / name), self.reference(name)], env=self.home)
            ours, theirs, skopeo = (Series(name, command) for name, command in (
                ("sconce run", f"sconce run --gpus none -q REF python -c '{LINE}'"),
                ("docker pull and docker run", f"docker pull -q REF; docker run --rm --network host REF python -c '{LINE}'"),
                ("skopeo copy, to a layout that nothing runs", "skopeo copy -q docker://REF oci:DIR:1")))
            reference = self.reference("one")
            with peers.docker_engine(self.work) as docker:
                for _ in range(self.options.rounds):
                    shutil.rmtree(self.node["SCONCE_HOME"], ignore_errors=True)
                    os.sync()
                    run = [self.sconce, "run", "--gpus", "none", "-q", reference, "python", "-c", LINE]
                    ours.samples.append(measure(run, env=self.node))
                    subprocess.run(["docker", "rmi", "-f", reference], env={**os.environ, **docker.env}, capture_output=True)
                    os.sync()
                    both = f"docker pull -q {reference} && docker run --rm --network host {reference} python -c '{LINE}'"
                    theirs.samples.append(measure(["sh", "-ec", both], env=docker.env, daemons=[docker.pid]))
                    shutil.rmtree(self.work / "pulled", ignore_errors=True)
                    os.sync()
                    copy = ["skopeo", "copy", "-q", "--src-tls-verify=false", f"docker://{reference}"]
                    skopeo.samples.append(measure([*copy, f"oci:{self.work}/pulled:1"]))
                docker("rmi", "-f", reference)
            shutil.rmtree(self.work / "pulled", ignore_errors=True)
            # The memory of `run` has the command's own torch in it, which dockerd's does not: a pull alone says what a pull takes.
            alone = Series("sconce pull, alone", "sconce pull -q REF")
            shutil.rmtree(self.node["SCONCE_HOME"], ignore_errors=True)
            os.sync()
            alone.samples.append(measure([self.sconce, "pull", "-q", reference], env=self.node))
            out.rows += [ours, alone, theirs, skopeo]
            self.budgets.append(Budget("docker pull and run, against sconce", theirs.median / ours.median, 3, "x", True))
            self.budgets.append(Budget("memory of a pull", alone.highest / 2**20, 512, "MiB"))
            self.second(out)
        finally:
            self.end(registry)

    def second(self, out: Section) -> None:
        """What a node that has the image takes of one with a package more."""
        said = measure([self.sconce, "pull", "--json", self.reference("two")], env=self.node)
        # What it says of its progress stands beside it.
        moved, _ = json.JSONDecoder().raw_decode(said.output[said.output.index("{"):])
        out.notes.append(f"One package more (requests), the first image there: {said.seconds:.2f} s, and it says: "
                         f"`{json.dumps({key: moved[key] for key in moved if isinstance(moved[key], int)})}`.")


SECTIONS = {"push": "Push: torch 2.15.0 into an empty registry", "pull": "From a registry to `import torch`"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sconce", type=Path, default=REPO / "target/release/sconce")
    parser.add_argument("--work", type=Path, default=Path("/var/tmp/sconce-bench"))
    parser.add_argument("--machine", required=True, help="its name in the report, such as 2core-epyc")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("sections", nargs="*", choices=[[], *SECTIONS])
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    bench = Bench(options)
    sections = run_sections(bench, SECTIONS, options.sections)
    hidden = {bench.sconce: "sconce", str(bench.work): "$WORK", f"localhost:{bench.port}": "$REGISTRY"}
    programs = [[bench.sconce, "--version"], ["docker", "--version"], ["skopeo", "--version"]]
    report = Report(f"{options.machine}, a registry on loopback", hidden, programs)
    page = report.page(sections, bench.budgets, Path("/nonexistent"))
    page = page.replace("- 0 wheels, 0.00 GB\n", f"- load average at the end: {os.getloadavg()[0]:.2f}\n")
    path = HERE / "runs" / f"{datetime.date.today()}-{options.machine}-registry.md"
    path.write_text(page)
    print(page)


if __name__ == "__main__":
    main()
