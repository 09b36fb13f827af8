#!/usr/bin/env python3
"""Measures sconce beside its peers and writes runs/<date>-<machine>.md (see README.md)."""

import argparse
import contextlib
import datetime
import os
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import peers
from measure import Failed, Sample, Series, alternate, measure, repeat
from report import Budget, Report, Section

HERE = Path(__file__).resolve().parent
REPO = HERE.parent
GIB = 1 << 30


class Bench:
    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.work: Path = options.work.resolve()
        self.wheels: Path = options.wheels.resolve()
        self.sconce = str(options.sconce.resolve())
        self.home = self.work / "primed"
        self.project = self.work / "project"
        self.image_digest = ""
        self.budgets: list[Budget] = []

    def budget(self, *promise, at_least: bool = False) -> None:
        self.budgets.append(Budget(*promise, at_least))

    def store(self, home: Path) -> dict:
        return {"env": {"SCONCE_HOME": str(home)}}

    def prime(self) -> None:
        """The project, its lock, and one home in which everything was downloaded and built."""
        if not (self.project / "sconce.lock").exists():
            shutil.rmtree(self.project, ignore_errors=True)
            shutil.copytree(HERE / "project", self.project)
            measure([self.sconce, "lock", str(self.project)], **self.store(self.home))
        built = measure([self.sconce, "build", str(self.project)], **self.store(self.home))
        digests = re.findall(r"sha256:[0-9a-f]{64}", built.output)
        if not digests:
            raise Failed(f"`sconce build` printed no digest:\n{built.output}")
        self.image_digest = digests[-1]

    def seed(self, home: Path) -> None:
        """A home that holds the downloads that the lock names, and nothing made from them."""
        shutil.rmtree(home, ignore_errors=True)
        lock = (self.project / "sconce.lock").read_text()
        packages = lock.split("\n[sealed]")[0]
        digests = re.findall(r'^sha256 = "([0-9a-f]{64})"', packages, re.MULTILINE)
        if not digests:
            raise Failed("sconce.lock names no file by its SHA-256: a build would download, not build.")
        for digest in digests:
            blob = Path("blobs/sha256", digest[:2], digest)
            (home / blob).parent.mkdir(parents=True, exist_ok=True)
            os.link(self.home / blob, home / blob)
        shutil.copy(self.home / "version", home / "version")

    # The sections

    def image(self, out: Section) -> None:
        fresh, app = self.work / "fresh", self.project / "main.py"
        build = [self.sconce, "build", str(self.project)]
        kind = self.store(fresh)
        self.prime()

        def changed(number: int) -> None:
            app.write_text(app.read_text() + f"# change {number}\n")

        cold = repeat("sconce build", self.options.repeat, build, lambda _: self.seed(fresh), **kind)
        again = repeat("sconce build, unchanged", 5, build, **kind)
        edited = repeat("sconce build, one line of the app changed", 5, build, changed, **kind)
        out.rows += [cold, again, edited]
        self.budget("image again, unchanged", again.median, 0.5, "s")
        self.budget("image, one line of the app changed", edited.median, 0.5, "s")
        self.budget("memory of `sconce build`, resident", max(r.peak for r in out.rows) / GIB, 1, "GiB")
        floor, layers = self.floor()
        wheels = self.wheels_alone()
        out.rows += [wheels, floor, layers]
        self.budget("image from wheels, against the floor", wheels.median / floor.median, 1.3, "x")
        self.docker_build(out, cold, wheels, changed)
        if self.options.gzip:
            venv = Path(peers.host_python(self.work, self.wheels)[1]) / "opt"
            out.rows.append(repeat("`tar \\| gzip -6` of the installed environment", 1,
                                   ["sh", "-c", f"tar -C '{venv}' -c venv | gzip -6 >/dev/null"]))

    def variant(self, name: str, wishes: str) -> str:
        """A project of other wishes, locked and built once in the primed home."""
        folder = self.work / name
        folder.mkdir(exist_ok=True)
        (folder / "sconce.toml").write_text(f"[environment]\npython = \"3.13\"\nbytecode = false\n{wishes}\n")
        measure([self.sconce, "build", str(folder)], **self.store(self.home))
        return str(folder)

    def wheels_alone(self) -> Series:
        """What the floor does, as a command: the base is there from another image, and nothing is compiled."""
        # Without torch no compiler is in the base: named, it is the same base.
        compilers = '["gcc", "g++", "libc6-dev", "libpython3.13-dev"]'
        base = self.variant("base-only", f"torch = false\n[base]\npackages = {compilers}")
        folder = self.variant("wheels-only", 'torch = "2.15.0"\nrequirements = ["numpy"]')
        fresh = self.work / "fresh"

        def before(_: int) -> None:
            self.seed(fresh)
            measure([self.sconce, "build", base], sampled=False, **self.store(fresh))

        return repeat("sconce build, base there, no bytecode", self.options.repeat,
                      [self.sconce, "build", folder], before, **self.store(fresh))

    def floor(self) -> tuple[Series, Series]:
        """What can't be left out, and sconce's layers alone, from the bench of their crate."""
        command = ["cargo", "bench", "--quiet", "--package", "sconce-layer", "--bench", "wheels", "--", str(self.wheels)]
        sample = measure(command, cwd=REPO)
        rounds = re.findall(r"round \d+: floor ([\d.]+) s .*?layers ([\d.]+) s", sample.output)
        if not rounds:
            raise Failed(f"the bench of the layers printed no rounds:\n{sample.output}")
        names = ("floor: inflate and hash, all cores", "sconce's wheel layers alone")
        return tuple(Series(name, " ".join(command), [Sample(float(seconds), 0, 0, "") for seconds in column])
                     for name, column in zip(names, zip(*rounds)))

    def docker_build(self, out: Section, cold: Series, wheels: Series, changed: Callable[[int], None]) -> None:
        with self.docker(out) as docker:
            if not docker:
                return
            command = [docker.client, "build", "--network", "host", "--tag", peers.IMAGE, str(self.project)]
            kind = {"env": docker.env, "daemons": [docker.pid]}
            from_nothing = repeat("docker build, empty cache", 1, command,
                                  lambda _: docker("builder", "prune", "--all", "--force"), **kind)
            out.rows += [from_nothing,
                         repeat("docker build, unchanged", 5, command, **kind),
                         repeat("docker build, one line of the app changed", 5, command, changed, **kind)]
        self.budget("`docker build`, against sconce build", from_nothing.median / cold.median, 10, "x", at_least=True)
        self.budget("`docker build` (which compiles bytecode), against sconce build, base there and no bytecode",
                    from_nothing.median / wheels.median, 10, "x", at_least=True)

    def trees(self, out: Section) -> None:
        run = [self.sconce, "run", str(self.project), "true"]
        self.prime()
        measure(run, **self.store(self.home))

        def no_trees(_: int) -> None:
            shutil.rmtree(self.home / "trees")
            (self.home / "trees").mkdir()

        extract = repeat("sconce run true, nothing extracted", self.options.repeat, run, no_trees, **self.store(self.home))
        fresh = self.work / "fresh"
        both = repeat("sconce run true, neither built nor extracted", self.options.repeat, run,
                      lambda _: self.seed(fresh), **self.store(fresh))
        out.rows += [extract, both]
        uv = self.uv()
        if not uv:
            out.notes.append("No uv was found (--uv).")
            return
        wheels = sorted(map(str, self.wheels.glob("*.whl")))
        venv, cache = self.work / "venv", self.work / "uv-cache"
        for mode in ("copy", "hardlink"):
            def empty(_: int) -> None:
                shutil.rmtree(cache, ignore_errors=True)
                measure([uv, "venv", "--quiet", "--clear", "--python", self.options.python, str(venv)], sampled=False)

            row = repeat(f"uv pip install --link-mode {mode}, empty cache", self.options.repeat,
                         [uv, "pip", "install", "--offline", "--no-deps", "--link-mode", mode, *wheels], empty,
                         env={"VIRTUAL_ENV": str(venv), "UV_CACHE_DIR": str(cache)})
            row.command = f"uv pip install --offline --no-deps --link-mode {mode} $WHEELS/*.whl"
            out.rows.append(row)
        self.budget("extraction, against uv pip install --link-mode copy", extract.median / out.rows[2].median, 1, "x")
        out.notes.append("sconce's trees hold the Debian root and bytecode too; uv's environment holds neither.")

    def start(self, out: Section) -> None:
        self.prime()
        commands = {
            "sconce run IMAGE true": ([self.sconce, "run", self.image_digest, "true"], self.store(self.home)),
            "sconce run FOLDER true": ([self.sconce, "run", str(self.project), "true"], self.store(self.home)),
        }
        if peers.have("crun"):
            bundle = peers.crun_bundle(self.work)
            wrapper = peers.crun_wrapper()
            commands["crun run, its config says true"] = (
                [*wrapper, "crun", "run", "--bundle", str(bundle), f"sconce-bench-{os.getpid()}"], {})
            if wrapper:
                commands["of which the wrapper"] = ([*wrapper, "true"], {})
        with self.docker(out) as docker:
            if docker:
                commands["docker run true"] = (
                    [docker.client, "run", "--rm", "--network", "host", peers.BASE, "true"], {"env": docker.env})
            out.rows = alternate(30, 3, commands)
        self.budget("`sconce run IMAGE true`, warm", out.rows[0].median * 1e3, 60, "ms")

    def imports(self, out: Section) -> None:
        self.prime()
        code = "import torch; print(torch.__version__)"
        host = peers.host_python(self.work, self.wheels)
        commands = {
            "in a fresh sconce container": (
                [self.sconce, "run", self.image_digest, "python", "-c", code], self.store(self.home)),
            "on the host's disk": ([*host, "-c", code], {}),
        }
        with self.docker(out) as docker:
            if docker and docker("image", "ls", "--quiet", peers.IMAGE).strip():
                commands["in a fresh Docker container"] = (
                    [docker.client, "run", "--rm", "--network", "host", peers.IMAGE, "python", "-c", code], {"env": docker.env})
            out.rows = alternate(10, 2, commands)
        self.budget("import torch, against the host", out.rows[0].median / out.rows[1].median, 1.1, "x")
        out.notes.append("The whole command is timed: the container's start is in it.")

    def first(self, out: Section) -> None:
        home, example = self.work / "empty", self.work / "first-steps"
        for folder in (home, example):
            shutil.rmtree(folder, ignore_errors=True)
        keep = shutil.ignore_patterns("runs", "sconce.lock", "__pycache__")
        shutil.copytree(REPO / "examples/first-steps", example, ignore=keep)
        run = [self.sconce, "run", str(example)]
        out.rows.append(repeat("sconce run, empty home", 1, run, lambda _: None, **self.store(home)))
        out.rows.append(repeat("sconce run, the second time", 1, run, **self.store(home)))
        printed = out.rows[-1].samples[-1].output.splitlines()
        out.notes += ["What the second run printed:", "", *("    " + line for line in printed), ""]
        if uv := self.uv():
            venv, cache = self.work / "venv", self.work / "uv-cache"
            for folder in (venv, cache):
                shutil.rmtree(folder, ignore_errors=True)
            steps = (f"'{uv}' venv --quiet --python '{self.options.python}' '{venv}'; "
                     f"'{uv}' pip install --quiet torch==2.15.0 tensorboard; "
                     f"'{venv}/bin/python' '{example}/train.py'")
            env = {"VIRTUAL_ENV": str(venv), "UV_CACHE_DIR": str(cache), "TORCHINDUCTOR_CACHE_DIR": str(self.work / "inductor")}
            shutil.rmtree(self.work / "inductor", ignore_errors=True)
            out.rows.append(repeat("uv venv, uv pip install, the script", 1, ["sh", "-ec", steps], lambda _: None, env=env))
            out.rows.append(repeat("the script alone, the second time", 1, [str(venv / "bin/python"), str(example / "train.py")],
                                   env=env))
        out.notes.append("Both download 3 GB, so the network is in both; the script compiles with g++ on its first run.")

    def uv(self) -> str | None:
        return shutil.which(self.options.uv)

    @contextlib.contextmanager
    def docker(self, out: Section):
        """An engine that holds the base images, or None, with a note, where there is none."""
        if not (peers.have("dockerd") and peers.have("debootstrap")):
            out.notes.append("No Docker on this machine (docker.io and debootstrap are both needed).")
            yield None
            return
        with peers.docker_engine(self.work, self.options.docker) as docker:
            docker.load_base(self.work, self.wheels)
            yield docker


def main() -> int:
    options = arguments()
    bench = Bench(options)
    bench.work.mkdir(parents=True, exist_ok=True)
    sections, failed = [], False
    for name in options.only or list(SECTIONS):
        print(f"{name} ...", flush=True)
        title, work = SECTIONS[name]
        section = Section(title)
        try:
            work(bench, section)
        except (Failed, OSError) as error:  # what was measured before it stays in the report
            section.notes.append(f"**Not all was measured:** {' '.join(str(error).splitlines())}")
            print(f"{name} failed: {error}", file=sys.stderr)
            failed = True
        sections.append(section)
    hidden = {bench.sconce: "sconce", bench.wheels: "$WHEELS", bench.work: "$WORK", REPO: ".",
              bench.uv() or "uv": "uv", Path.home(): "~"}
    programs = [[bench.sconce, "--version"], ["git", "-C", str(REPO), "log", "-1", "--format=sconce's commit %h"],
                [options.uv, "--version"], [options.docker, "--version"], ["crun", "--version"]]
    report = Report(options.machine, {str(path): name for path, name in hidden.items()}, programs)
    folder = options.out
    folder.mkdir(parents=True, exist_ok=True)
    page = folder / f"{datetime.date.today()}-{options.machine}.md"
    page.write_text(report.page(sections, bench.budgets, bench.wheels))
    print(page)
    return 1 if failed else 0


SECTIONS = {
    "image": ("Image from wheels on disk", Bench.image),
    "trees": ("Wheels on disk to files on disk", Bench.trees),
    "start": ("Starting a container that does nothing", Bench.start),
    "import": ("import torch", Bench.imports),
    "first": ("From nothing to the last line of examples/first-steps", Bench.first),
}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--wheels", type=Path, required=True, help="folder with the wheels of torch 2.15.0 and numpy, cp313")
    parser.add_argument("--machine", required=True, help="a short neutral name for the report, such as 2core-epyc")
    parser.add_argument("--work", type=Path, default=Path("/var/tmp/sconce-bench"), help="scratch, 60 GB, kept between runs")
    parser.add_argument("--out", type=Path, default=HERE / "runs", help="where the report goes")
    parser.add_argument("--sconce", type=Path, default=REPO / "target/release/sconce")
    parser.add_argument("--docker", default="docker", help="the client; one with BuildKit")
    parser.add_argument("--uv", default="uv")
    parser.add_argument("--python", default="python3.13", help="the Python that uv makes its environments with")
    parser.add_argument("--repeat", type=int, default=3, help="samples of each long piece of work")
    parser.add_argument("--gzip", action="store_true", help="measure tar and gzip too (minutes)")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, help="some sections instead of all")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
