"""One command, timed: wall seconds, processor seconds, and the most memory its processes held together.

Memory is sampled every 0.1 s over the command's whole process tree (and over daemons
that work for it). Processor seconds are user and system time of the command and of all it waited for. `peak` sums resident pages, mapped files and shared pages included;
`anonymous` sums the pages that no file backs: what the machine must really find. `highest` is what the kernel kept of the one process
that had most resident at once (VmHWM), which no peak between two samples escapes.
"""

import os
import statistics
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

INTERVAL = 0.1


class Failed(Exception):
    """A command that had to succeed did not."""


@dataclass
class Sample:
    seconds: float
    peak: int  # bytes
    anonymous: int  # bytes
    output: str
    processor: float = 0  # seconds
    highest: int = 0  # bytes


@dataclass
class Series:
    """The samples of one row: the same work, done again from the same state."""

    name: str
    command: str
    samples: list[Sample] = field(default_factory=list)

    @property
    def seconds(self) -> list[float]:
        return [sample.seconds for sample in self.samples]

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def processor(self) -> float:
        return statistics.median(sample.processor for sample in self.samples)

    @property
    def peak(self) -> int:
        return max(sample.peak for sample in self.samples)

    @property
    def anonymous(self) -> int:
        return max(sample.anonymous for sample in self.samples)

    @property
    def highest(self) -> int:
        return max(sample.highest for sample in self.samples)


def measure(command: Sequence[str], env: dict[str, str] | None = None, cwd: Path | None = None,
            daemons: Sequence[int] = (), sampled: bool = True) -> Sample:
    """Runs `command` to its end. `env` is added to this process's; `daemons` are the
    processes whose memory counts as the command's. Raises Failed on a non-zero exit."""
    stop = threading.Event()
    most = [0, 0, 0]
    began = time.perf_counter()
    child = subprocess.Popen(list(map(str, command)), env={**os.environ, **(env or {})}, cwd=cwd,
                             stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    watcher = threading.Thread(target=_watch, args=((child.pid, *daemons), stop, most))
    if sampled:
        watcher.start()
    output = child.stdout.read().decode(errors="replace")
    _, status, used = os.wait4(child.pid, 0)
    code = child.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.perf_counter() - began
    stop.set()
    if sampled:
        watcher.join()
    if code != 0:
        tail = "\n".join(output.strip().splitlines()[-12:])
        raise Failed(f"`{' '.join(map(str, command))}` exited with {code}:\n{tail}")
    return Sample(seconds, most[0], most[1], output, used.ru_utime + used.ru_stime, most[2])


def repeat(name: str, count: int, command: Sequence[str], before: Callable[[int], None] | None = None,
           **kind) -> Series:
    """`count` samples; `before(i)` puts the state back, outside the time, and what it
    wrote is flushed so that it does not weigh on the sample."""
    series = Series(name, " ".join(map(str, command)))
    for number in range(count):
        if before:
            before(number)
            os.sync()
        series.samples.append(measure(command, **kind))
    return series


def alternate(
    count: int, warm: int, commands: dict[str, tuple[Sequence[str], dict]], pause: float = 0
) -> list[Series]:
    """Short commands in turn, so that what disturbs the machine disturbs all of them; `pause` seconds
    before each, so that none finds the kernel still busy with, or ready from, the one before."""
    rows = [Series(name, " ".join(map(str, command))) for name, (command, _) in commands.items()]
    for number in range(warm + count):
        for row, (command, kind) in zip(rows, commands.values()):
            time.sleep(pause)
            sample = measure(command, sampled=False, **kind)
            if number >= warm:
                row.samples.append(sample)
    return rows


def _watch(roots: Sequence[int], stop: threading.Event, most: list[int]) -> None:
    while True:
        resident = anonymous = 0
        for pid in _family(roots):
            fields = _status(pid)
            resident += fields.get("VmRSS", 0)
            anonymous += fields.get("RssAnon", 0)
            most[2] = max(most[2], fields.get("VmHWM", 0))
        most[0], most[1] = max(most[0], resident), max(most[1], anonymous)
        if stop.wait(INTERVAL):
            return


def _family(roots: Sequence[int]) -> set[int]:
    found, left = set(), list(roots)
    while left:
        pid = left.pop()
        if pid in found:
            continue
        found.add(pid)
        try:
            for task in os.listdir(f"/proc/{pid}/task"):
                left.extend(map(int, Path(f"/proc/{pid}/task/{task}/children").read_text().split()))
        except OSError:
            pass  # it ended while it was read
    return found


def _status(pid: int) -> dict[str, int]:
    """The kB fields of /proc/PID/status, in bytes; none when the process is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return {}
    pairs = (line.split(":", 1) for line in lines if line.endswith(" kB"))
    return {name: int(value.split()[0]) * 1024 for name, value in pairs}
