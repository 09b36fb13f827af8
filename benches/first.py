#!/usr/bin/env python3
"""Measures how long a first line takes: from an empty home to `import torch`, in turn with uv's virtual
environment, and from one more package in a project to its first line. Both download 3 GB each round, so the
network is in it. Writes runs/<date>-<machine>-first.md (see README.md)."""

import argparse
import datetime
import re
import shutil
import statistics
from collections.abc import Iterator
from pathlib import Path

from measure import Series, measure
from report import Budget, Report, Section, run_sections

HERE = Path(__file__).resolve().parent
REPO = HERE.parent
IMPORT = "import torch; print(torch.__version__)"
# Added to the project one after the other; none is in torch's own set.
PACKAGES = ["humanize", "tabulate", "loguru", "click", "toolz", "einops", "tqdm"]
# A stage that ended, as `sconce` prints it: its name, what it did, its time.
STAGE = re.compile(r"^(locking|downloading debs|downloading|unpacking|base|building)\s.*\((\d+\.\d) s\)$", re.MULTILINE)


class Bench:
    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.work: Path = options.work.resolve() / "first"
        self.sconce = str(options.sconce.resolve())
        self.uv = str(options.uv.resolve())
        self.budgets: list[Budget] = []

    def fresh(self) -> Path:
        """An empty folder; what this machine remembers of the disk is dropped where root may do so."""
        shutil.rmtree(self.work, ignore_errors=True)
        self.work.mkdir(parents=True)
        measure(["sh", "-c", "sync; echo 3 > /proc/sys/vm/drop_caches || true"], sampled=False)
        return self.work

    def store(self, folder: Path) -> dict[str, str]:
        return {"SCONCE_HOME": str(folder / "store"), "UV_CACHE_DIR": str(folder / "uv"), "SCONCE_UV": self.uv}

    def nothing(self, out: Section) -> None:
        target = "torch:2.15.0"
        run = [self.sconce, "run", "--gpus", "none", "--no-import-check", target, "python", "-c", IMPORT]
        steps = (f"'{self.uv}' venv -q --python '{self.options.python}' '{self.work}/venv'; "
                 f"'{self.uv}' pip install -q torch==2.15.0; '{self.work}/venv/bin/python' -c '{IMPORT}'")
        ours = Series("sconce run, empty home, to the line", " ".join(run))
        whole = Series("then the whole image, sealed", f"{self.sconce} build -q {target}")
        theirs = Series("uv venv, uv pip install, python", f"sh -ec {steps}")
        stages: dict[str, list[float]] = {}
        for _ in range(self.options.rounds):
            env = self.store(self.fresh())
            ours.samples.append(measure(run, env=env))
            for name, seconds in STAGE.findall(ours.samples[-1].output):
                stages.setdefault(name, []).append(float(seconds))
            whole.samples.append(measure([self.sconce, "build", "-q", target], env=env))
            folder = self.fresh()
            env = {"VIRTUAL_ENV": str(folder / "venv"), "UV_CACHE_DIR": str(folder / "uv")}
            theirs.samples.append(measure(["sh", "-ec", steps], env=env))
        out.rows = [ours, whole, theirs]
        out.notes += ["", "| stage, some beside others | median, s |", "|---|---|"]
        out.notes += [f"| {name} | {statistics.median(times):.1f} |" for name, times in stages.items()]
        self.budgets.append(Budget("an empty home to `import torch`, against uv", ours.median / theirs.median, 1.0, "x"))
        out.notes += ["", f"Processor time to the line, against uv: {ours.processor / theirs.processor:.2f}"]

    def edit(self, out: Section) -> None:
        folder = self.fresh()
        env = {**self.store(folder), "UV_CACHE_DIR": str(folder / "uv")}
        project = folder / "project"
        project.mkdir()
        run = [self.sconce, "run", "--gpus", "none", "--no-import-check", str(project), "python", "-c", "print('line')"]
        row = Series("one package more, to the line", " ".join(run))
        for number, names in enumerate(self.grown()):
            listed = ", ".join(f'"{name}"' for name in names)
            (project / "sconce.toml").write_text(
                f'[environment]\ngpus = ["h100"]\ndriver = "any"\nrequirements = [{listed}]\n')
            sample = measure(run, env=env)
            if number:
                row.samples.append(sample)
            # What is finished beside one is not beside the next.
            measure([self.sconce, "build", "-q", str(project)], env=env)
        out.rows = [row]
        self.budgets.append(Budget("one package more in a torch project, to its first line", row.median, 4, "s"))

    def grown(self) -> Iterator[list[str]]:
        for count in range(1 + len(PACKAGES)):
            yield ["numpy", *PACKAGES[:count]]


SECTIONS = {"nothing": "From nothing to `import torch`", "edit": "One package more"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sconce", type=Path, default=REPO / "target/release/sconce")
    parser.add_argument("--uv", type=Path, required=True, help="the uv that both use")
    parser.add_argument("--python", default="3.13", help="the Python that uv makes its environment with")
    parser.add_argument("--work", type=Path, default=Path("/var/tmp/sconce-bench"))
    parser.add_argument("--machine", required=True, help="its name in the report, such as 2core-epyc")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("sections", nargs="*", choices=[[], *SECTIONS])
    options = parser.parse_args()
    bench = Bench(options)
    sections = run_sections(bench, SECTIONS, options.sections)
    hidden = {bench.sconce: "sconce", bench.uv: "uv", str(bench.work): "$WORK", str(REPO): "$REPO"}
    report = Report(f"{options.machine}, the first line", hidden, [[bench.sconce, "--version"], [bench.uv, "--version"]])
    page = report.page(sections, bench.budgets, Path("/nonexistent")).replace("- 0 wheels, 0.00 GB\n", "")
    (HERE / "runs" / f"{datetime.date.today()}-{options.machine}-first.md").write_text(page)
    print(page)
    shutil.rmtree(bench.work, ignore_errors=True)


if __name__ == "__main__":
    main()
