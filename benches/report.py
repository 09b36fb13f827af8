"""The page that a run writes: the machine, the budgets, one table for each section."""

import datetime
import os
import platform
import re
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from measure import Failed, Series

MIB = 1 << 20


@dataclass
class Section:
    title: str
    rows: list[Series] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def run_sections(bench: object, titles: dict[str, str], chosen: list[str]) -> list[Section]:
    """Calls the methods of `bench` that the chosen sections (all where none is chosen) are named after."""
    sections = []
    for name in chosen or titles:
        section = Section(titles[name])
        print(section.title, flush=True)
        try:
            getattr(bench, name)(section)
        except Failed as error:
            section.notes.append(f"Not measured: {error}")
        sections.append(section)
    return sections


@dataclass
class Budget:
    """One promise: `value` in `unit` is at most `limit`, or at least it."""

    what: str
    value: float
    limit: float
    unit: str
    at_least: bool = False

    @property
    def met(self) -> bool:
        return self.value >= self.limit if self.at_least else self.value <= self.limit


@dataclass
class Report:
    machine: str
    hidden: dict[str, str]  # paths of this machine, which stand in no report, and their names
    programs: list[list[str]]  # commands that print a version

    def page(self, sections: list[Section], budgets: list[Budget], wheels: Path) -> str:
        lines = [f"# {datetime.date.today()}, {self.machine}", "", *self.head(wheels)]
        if budgets:
            lines += ["", "## Budgets", "", "| what | measured | budget | |", "|---|---|---|---|"]
            for b in budgets:
                bound = "at least" if b.at_least else "at most"
                verdict = "met" if b.met else "**missed**"
                lines.append(f"| {b.what} | {b.value:.2f} {b.unit} | {bound} {b.limit:g} {b.unit} | {verdict} |")
        for section in sections:
            lines += ["", f"## {section.title}", ""]
            if section.rows:
                lines += ["| work | median | samples, s | processor | resident | anonymous |", "|---|---|---|---|---|---|"]
                lines += [row(series) for series in section.rows]
                lines += ["", *(f"    {series.command}" for series in section.rows), ""]
            lines += section.notes
        return self.neutral("\n".join(lines)).rstrip() + "\n"

    def head(self, wheels: Path) -> list[str]:
        cpu = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
        memory = re.search(r"MemTotal:\s*(\d+)", Path("/proc/meminfo").read_text())
        sizes = [wheel.stat().st_size for wheel in wheels.glob("*.whl")]
        lines = [
            f"- {os.cpu_count()} CPUs ({cpu[1] if cpu else platform.machine()}), "
            f"{int(memory[1]) / MIB:.0f} GiB of memory, Linux {platform.release().split('-')[0]}",
            f"- {len(sizes)} wheels, {sum(sizes) / 1e9:.2f} GB",
        ]
        for command in self.programs:
            if shutil.which(command[0]):
                said = subprocess.run(command, capture_output=True, text=True).stdout.splitlines()
                lines += [f"- {said[0]}"] if said else []
        return lines

    def neutral(self, text: str) -> str:
        # The longest first, and whole names alone: /a/wheels is not a beginning of /a/wheels-old.
        for path, name in sorted(self.hidden.items(), key=lambda item: -len(item[0])):
            text = re.sub(rf"(?<![\w.-]){re.escape(path)}(?![\w.-])", lambda _: name, text)
        return text


def row(series: Series) -> str:
    times = sorted(series.seconds)
    shown = " ".join(f"{t:.3g}" for t in times) if len(times) <= 5 else f"{times[0]:.3g} to {times[-1]:.3g}, {len(times)} samples"
    median = f"{series.median * 1e3:.0f} ms" if series.median < 1 else f"{series.median:.1f} s"
    memory = [f"{size / MIB:,.0f} MiB" if size else "" for size in (series.peak, series.anonymous)]
    processor = f"{series.processor:.2f} s" if series.processor else ""
    return f"| {series.name} | {median} | {shown} | {processor} | {memory[0]} | {memory[1]} |"
