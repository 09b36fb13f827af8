#!/usr/bin/env python3
"""Holds crates/doctor/tests/programs.toml, the programs and options that doctor's fixes may use, to the real tools.

    scripts/check-programs.py [--only NAME]

Downloads the Debian package that each row names (contrib and non-free too, from the archive that apt uses here) into
a temporary folder and looks for every word and option in the program's manual pages or, where it has none, in the
program itself. Prints what each row was held to. Exits with 1 when a word or an option is not found.
"""

import argparse
import gzip
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

TABLE = Path(__file__).parent.parent / "crates/doctor/tests/programs.toml"
SOURCES = Path("/etc/apt/sources.list.d/debian.sources")


class Archive:
    """Debian's archive with lists of its own, so that the machine's apt stays as it is."""

    def __init__(self, folder: Path):
        self.folder = folder
        (folder / "lists/partial").mkdir(parents=True)
        (folder / "parts").mkdir()
        text = re.sub(r"(?m)^Components:.*$", "Components: main contrib non-free non-free-firmware",
                      SOURCES.read_text())
        (folder / "parts/debian.sources").write_text(text)
        self.options = ["-o", f"Dir::Etc::SourceParts={folder / 'parts'}", "-o", "Dir::Etc::SourceList=/dev/null",
                        "-o", f"Dir::State::Lists={folder / 'lists'}", "-o", "Dir::Cache::pkgcache=",
                        "-o", "Dir::Cache::srcpkgcache=", "-o", "APT::Sandbox::User=root"]
        self.run("update", "-qq")

    def run(self, *arguments: str, cwd: Path | None = None) -> None:
        subprocess.run(["apt-get", *self.options, *arguments], check=True, cwd=cwd, timeout=600,
                       stdout=subprocess.DEVNULL)

    def unpack(self, package: str) -> tuple[Path, str]:
        """The files of a package, and its version."""
        folder = self.folder / package
        folder.mkdir()
        self.run("download", package, cwd=folder)
        deb = next(folder.glob("*.deb"))
        field = subprocess.run(["dpkg-deb", "-f", str(deb), "Version"], check=True, capture_output=True, text=True)
        subprocess.run(["dpkg-deb", "-x", str(deb), str(folder / "files")], check=True)
        return folder / "files", field.stdout.strip()


def manual(text: str) -> str:
    """Text of a troff page without its fonts, with plain hyphens."""
    text = re.sub(r"\\f(\(..|\[[^]]*\]|.)", "", text)
    # mdoc(7) writes options as `.Fl x`.
    text = re.sub(r"(?m)\bFl (\w)", r"-\1", text)
    return text.replace("\\-", "-").replace("\\(hy", "-").replace("\\&", "").replace("\\", "")


def documents(files: Path, name: str, words: list[str]) -> tuple[str, str, str]:
    """What describes a program, what kind of thing that is, and the program where that is another."""
    names = [name, *(f"{name}-{word}" for word in words)]
    # NVIDIA's alternatives lie in folders of their own.
    pages = [page for page in sorted([*files.rglob("usr/share/man/man*/*"), *files.rglob("usr/lib/nvidia/current/*")])
             if any(re.fullmatch(rf"{re.escape(known)}\.\d\w*(\.gz)?", page.name) for known in names)]
    texts = []
    for page in pages:
        # A link may lead to a page of another package.
        if page.exists():
            data = page.read_bytes()
            data = gzip.decompress(data) if page.suffix == ".gz" else data
            texts.append(manual(data.decode(errors="replace")))
    programs = [path for path in [*files.rglob(name), *files.rglob(f"{name}.sh")]
                if path.is_file() and path.parent.name in ("bin", "sbin", "current")]
    # Where a manual page is silent: what a program says of its options stands in it, `gpus` without its dashes.
    program = programs[0].read_bytes().decode("latin-1") if programs else ""
    return ("\n".join(texts), "manual page", program) if texts else (program, "program", "")


def has(text: str, word: str) -> bool:
    if re.search(rf"(?<![\w-]){re.escape(word)}(?![\w-])", text):
        return True
    # Short options may be joined: `-nnk`.
    short = re.fullmatch(r"-(\w{2,})", word)
    return bool(short) and all(has(text, f"-{letter}") for letter in short[1])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", help="the row of one program")
    options = parser.parse_args()
    rows = tomllib.loads(TABLE.read_text())
    held, missing = 0, 0
    with tempfile.TemporaryDirectory() as scratch:
        archive = Archive(Path(scratch))
        unpacked: dict[str, tuple[Path, str]] = {}
        for name, row in rows.items():
            if options.only and name != options.only:
                continue
            package = row.get("package")
            if not package:
                print(f"{name}: not held to anything: {row['unchecked']}")
                continue
            if package not in unpacked:
                unpacked[package] = archive.unpack(package)
            files, version = unpacked[package]
            text, kind, program = documents(files, name, row.get("words", []))
            lacking = [word for word in row.get("words", []) + row.get("options", []) if not has(text, word)]
            inside = [word for word in lacking if word.startswith("--") and word[2:] in program]
            if inside:
                kind += f", and the program for {', '.join(inside)}"
                lacking = [word for word in lacking if word not in inside]
            if not text:
                lacking = ["everything: the package describes no such program"]
            missing += bool(lacking)
            held += not lacking
            print(f"{name}: {kind} of {package} {version}" + (f": lacks {', '.join(lacking)}" if lacking else ""))
    print(f"{held} programs have what their rows say, {missing} do not")
    return 1 if missing or not held else 0


if __name__ == "__main__":
    sys.exit(main())
