#!/usr/bin/env python3
"""Measures what a container costs beside crun, runc and Docker: its start, its memory, its output, a
thousand in a row and fifty at once. Writes runs/<date>-<machine>-runtime.md (see README.md)."""

import argparse
import contextlib
import datetime
import json
import os
import re
import shutil
import subprocess
import time
from pathlib import Path

import peers
from measure import alternate, measure
from report import Budget, Report, Section, run_sections

HERE = Path(__file__).resolve().parent
REPO = HERE.parent
GB = 1_000_000_000
WRITES = "head -c 1000000000 /dev/zero"


def left_behind(home: Path) -> dict[str, int]:
    """Counts of all that a container could leave on this machine."""
    names = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            # The dead that nobody has waited for yet are no processes any more.
            if "\nState:\tZ" not in (process / "status").read_text():
                names.append((process / "comm").read_text())
    return {
        "processes": sum(name.startswith("sconce") for name in names),
        "mounts": len(Path("/proc/self/mountinfo").read_text().splitlines()),
        "cgroups": sum(len(folders) for _, folders, _ in os.walk("/sys/fs/cgroup")),
        "folders of containers": len(list((home / "containers").glob("*"))),
        "scratch folders": len(list((home / "tmp").glob("*"))),
    }


def held(pid: int) -> tuple[int, int]:
    """A process's own memory with its share of what others have mapped as well, and all that it has mapped (proc(5), Pss
    and Rss)."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    of = lambda key: int(re.search(rf"^{key}:\s+(\d+)", rollup, re.MULTILINE)[1]) * 1024
    return of("Pss"), of("Rss")


def in_words(sizes: tuple[int, int]) -> str:
    return " of ".join(f"{size / 1e6:.2f} MB" for size in sizes)


def parent(pid: int) -> int:
    return int(re.search(r"^PPid:\s+(\d+)", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)[1])


class Bench:
    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.work: Path = options.work.resolve()
        self.sconce = str(options.sconce.resolve())
        self.home = self.work / "runtime"
        self.env = {"SCONCE_HOME": str(self.home)}
        built = measure([self.sconce, "build", "-q", str(REPO / "examples/hello")], env=self.env)
        self.image = re.findall(r"sha256:[0-9a-f]{64}", built.output)[-1]
        self.budgets: list[Budget] = []

    def run(self, *words: str) -> list[str]:
        return [self.sconce, "run", "--gpus", "none", "-q", *words]

    def crun(self, program: str, *command: str) -> list[str]:
        """A runtime on a ready bundle whose config says `command`."""
        bundle = peers.crun_bundle(self.work)
        config = json.loads((bundle / "config.json").read_text())
        config["process"]["args"] = list(command)
        named = self.work / f"bundle-{program}-{len(command)}"
        shutil.rmtree(named, ignore_errors=True)
        named.mkdir()
        (named / "config.json").write_text(json.dumps(config))
        return [*peers.crun_wrapper(), program, "run", "--bundle", str(named), f"sconce-{program}-{os.getpid()}"]

    @contextlib.contextmanager
    def docker(self, out: Section):
        if not (peers.have("dockerd") and peers.have("docker")):
            out.notes.append("No Docker on this machine.")
            yield None
            return
        with peers.docker_engine(self.work) as docker:
            if not docker("image", "ls", "--quiet", peers.BASE).strip():
                root = peers.debian_root(self.work)
                measure(["sh", "-ec", f"tar -C '{root}' -c . | docker import - {peers.BASE}"], env=docker.env, sampled=False)
            yield docker

    # The sections

    def start(self, out: Section) -> None:
        # As after a boot. Right after a build the same program took 40 ms to start, with caches dropped 32, and crun, which
        # is small, the same in both; probably for how a file that was just linked lies in the page cache.
        measure(["sh", "-c", "sync; echo 3 > /proc/sys/vm/drop_caches"])
        commands = {"sconce run IMAGE true": (self.run(self.image, "true"), {"env": self.env})}
        for program in ("crun", "runc"):
            if peers.have(program):
                commands[f"{program} run, its config says true"] = (self.crun(program, "true"), {})
        if wrapper := peers.crun_wrapper():
            commands["of which the wrapper"] = ([*wrapper, "true"], {})
        with self.docker(out) as docker:
            if docker:
                commands["docker run true"] = (["docker", "run", "--rm", "--network", "host", peers.BASE, "true"], {"env": docker.env})
            # People start one, and not sixty in a row: who changes cgroups within some 20 ms of another
            # who did does not wait for an RCU grace period of 10 ms.
            out.rows = alternate(60, 5, commands, pause=0.1)
        times = {row.name: row.median * 1e3 for row in out.rows}
        self.budgets.append(Budget("`sconce run IMAGE true`", times["sconce run IMAGE true"], 60, "ms"))
        bare = times.get("crun run, its config says true")
        if bare:
            bare -= times.get("of which the wrapper", 0)
            self.budgets.append(Budget("`sconce run IMAGE true` against crun, less its wrapper",
                                       times["sconce run IMAGE true"] / bare, 1.3, "x"))

    def thousand(self, out: Section) -> None:
        measure(self.run(self.image, "true"), env=self.env)
        before, began = left_behind(self.home), time.perf_counter()
        for _ in range(1000):
            subprocess.run(self.run(self.image, "true"), env={**os.environ, **self.env}, check=True)
        seconds = time.perf_counter() - began
        after = left_behind(self.home)
        out.notes += [f"1,000 starts in a row: {seconds:.1f} s.", "", "| | before | after |", "|---|---|---|"]
        out.notes += [f"| {what} | {before[what]} | {after[what]} |" for what in before]
        self.budgets.append(Budget("left behind by 1,000 starts", sum(max(0, after[w] - before[w]) for w in before), 0, "things"))

    def fifty(self, out: Section) -> None:
        sconce = {"env": {**os.environ, **self.env}, "stdout": subprocess.PIPE, "text": True}
        before, began = left_behind(self.home), time.perf_counter()
        starts = [subprocess.Popen(self.run("-d", self.image, "sleep", "600"), **sconce) for _ in range(50)]
        ids = [start.communicate()[0].strip() for start in starts]
        seconds = time.perf_counter() - began
        rows = json.loads(subprocess.run([self.sconce, "ps", "--json"], check=True, **sconce).stdout)
        running = [row for row in rows if row["id"] in ids and row["status"] == "running"]
        memory = []
        for row in running:
            init = row["pid"]
            memory.append((held(parent(init))[0], held(init)[0]))
        began = time.perf_counter()
        subprocess.run([self.sconce, "rm", "--force", *ids], check=True, **sconce)
        ending = time.perf_counter() - began
        time.sleep(0.5)  # the shims have said the end, and are about to be gone
        after = left_behind(self.home)
        shims, firsts = (sorted(part)[len(part) // 2] for part in zip(*memory))
        out.notes += [
            f"50 detached containers started at once in {seconds:.2f} s, {len(running)} of them running; "
            f"`sconce rm --force` of all took {ending:.2f} s.",
            f"Median Pss beside the command's own: shim {shims / 1e6:.2f} MB, first process {firsts / 1e6:.2f} MB.",
            f"Left behind: {sum(max(0, after[what] - before[what]) for what in before)}.",
        ]
        self.budgets.append(Budget("50 at once, running", len(running), 50, "containers", at_least=True))
        self.budgets.append(Budget("memory of a sleeping container, of 50", (shims + firsts) / 1e6, 5, "MB"))

    def one(self, out: Section) -> None:
        """A container alone shares its program's pages with nobody."""
        name = f"sconce-{os.getpid()}"
        out.notes += ["What waits beside the command of one container: Pss of Rss.", "", "| container | shim | first process |", "|---|---|---|"]
        most = 0
        for what, command, executed in [
            ("sleeps", "exec sleep 600", False),
            ("sleeps, after an `exec`", "exec sleep 600", True),
            ("writes ten lines a second", "while :; do echo line; sleep 0.1; done", False),
        ]:
            measure(self.run("-d", "--name", name, self.image, "sh", "-c", command), env=self.env)
            try:
                if executed:
                    measure([self.sconce, "exec", name, "true"], env=self.env)
                init = json.loads(measure([self.sconce, "inspect", "--json", name], env=self.env).output)["pid"]
                time.sleep(2)  # what only the start needed is given back
                shim, first = held(parent(init)), held(init)
            finally:
                measure([self.sconce, "rm", "--force", name], env=self.env)
            out.notes.append(f"| {what} | {in_words(shim)} | {in_words(first)} |")
            most = max(most, shim[0] + first[0])
        out.notes.append("")
        self.budgets.append(Budget("memory of a sleeping container, alone", most / 1e6, 5, "MB"))
        if peers.have("podman") and peers.have("conmon"):
            root = peers.debian_root(self.work)
            asked = ["podman", "run", "-d", "--rm", "--name", name, "--network", "host", "--cgroups", "disabled", "--rootfs", str(root), "sleep", "600"]
            started = subprocess.run(asked, capture_output=True, text=True)
            if started.returncode == 0:
                conmon = subprocess.run(["podman", "inspect", "--format", "{{.State.ConmonPid}}", name], capture_output=True, text=True, check=True)
                out.notes.append(f"Podman's conmon for the same: {in_words(held(int(conmon.stdout)))}.")
                subprocess.run(["podman", "kill", name], capture_output=True, check=False)
            else:
                out.notes.append(f"Podman starts nothing here: {started.stderr.strip().splitlines()[-1:]}")
        with self.docker(out) as docker:
            if docker:
                docker("run", "-d", "--rm", "--name", name, "--network", "host", peers.BASE, "sleep", "600")
                pid = int(docker("inspect", "--format", "{{.State.Pid}}", name))
                out.notes.append(f"Docker's containerd-shim for the same: {in_words(held(parent(pid)))}, beside dockerd and containerd.")
                docker("kill", name)

    def output(self, out: Section) -> None:
        target = Path("/dev/shm/sconce-bench-output")
        ways = {"into a pipe": "| cat > /dev/null", "into a file": f"> {target}"}
        fresh = f"rm -f {target};"
        for way, end in ways.items():
            quoted = " ".join(f"'{word}'" for word in self.run(self.image, "sh", "-c", WRITES))
            commands = {
                f"sconce run, 1 GB {way}": (["sh", "-ec", f"{fresh} {quoted} {end}"], {"env": self.env}),
                f"no container, 1 GB {way}": (["sh", "-ec", f"{fresh} {WRITES} {end}"], {}),
            }
            if peers.have("crun"):
                bare = " ".join(f"'{word}'" for word in self.crun("crun", "sh", "-c", WRITES))
                commands[f"crun run, 1 GB {way}"] = (["sh", "-ec", f"{fresh} {bare} {end}"], {})
            with self.docker(out) as docker:
                if docker:
                    asked = f"docker run --rm --log-driver none --network host {peers.BASE} sh -c '{WRITES}'"
                    commands[f"docker run, 1 GB {way}"] = (["sh", "-ec", f"{fresh} {asked} {end}"], {"env": docker.env})
                rows = alternate(5, 1, commands)
            out.rows += rows
            self.budgets.append(Budget(f"1 GB {way}", GB / 1e6 / rows[0].median, 500, "MB/s", at_least=True))
        target.unlink(missing_ok=True)


SECTIONS = {
    "start": "A start: `true`",
    "thousand": "A thousand in a row",
    "fifty": "Fifty at once",
    "one": "Memory of a container that sleeps",
    "output": "1 GB of output",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sconce", type=Path, default=REPO / "target/release/sconce")
    parser.add_argument("--work", type=Path, default=Path("/var/tmp/sconce-bench"))
    parser.add_argument("--machine", required=True, help="its name in the report, such as 2core-epyc")
    parser.add_argument("sections", nargs="*", choices=[[], *SECTIONS])
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    bench = Bench(options)
    sections = run_sections(bench, SECTIONS, options.sections)
    hidden = {bench.sconce: "sconce", str(bench.work): "$WORK", str(REPO): "$REPO", bench.image: "IMAGE"}
    programs = [[bench.sconce, "--version"], ["crun", "--version"], ["runc", "--version"], ["docker", "--version"]]
    report = Report(f"{options.machine}, the runtime", hidden, programs)
    page = report.page(sections, bench.budgets, Path("/nonexistent"))
    page = page.replace("- 0 wheels, 0.00 GB\n", f"- load average at the end: {os.getloadavg()[0]:.2f}\n")
    path = HERE / "runs" / f"{datetime.date.today()}-{options.machine}-runtime.md"
    path.write_text(page)
    print(page)


if __name__ == "__main__":
    main()
