#!/usr/bin/env python3
"""Holds the rows of crates/inspect/data/names.toml that name libraries of packages to every release of those packages.

    scripts/check-names.py [--only PACKAGE]

A row that says which `package` it is about must fit a library of one or more of its releases, and every release (from
the row's `since` up to its `until`) must have a library that one of its rows fits: a row keyed on the names of one release
would silently say nothing of the others. Compilers inside packages: each release has the program of its row, and the
CUDA in the program of a row's first and last release is the row's. NumPy's C API: each release has the module of its
major number's row. Packages that rows only name must have a release. Reads the list of files at the end of one Linux wheel of each release, by range,
from the index that pip is set to. Exits with 1 when a release or a row has none.
"""

import argparse
import concurrent.futures
import json
import re
import sys
import tomllib
import urllib.request
import zipfile
from pathlib import Path

from pip._internal.models.index import PyPI

TABLE = Path(__file__).parent.parent / "crates/inspect/data/names.toml"
# Of the end of a wheel so much is read at once; the longest list of files here has 1 MB.
PIECE = 128 << 10
HASH = re.compile(r"[-.][0-9a-f]{8}(?=\.so)")


class Remote:
    """A file of the index, as much as zipfile asks for."""

    def __init__(self, url: str, size: int):
        self.url, self.size, self.at, self.pieces = url, size, 0, {}

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.at

    def seek(self, offset: int, whence: int = 0) -> int:
        self.at = offset + (0, self.at, self.size)[whence]
        return self.at

    def read(self, count: int = -1) -> bytes:
        end = self.size if count < 0 else min(self.size, self.at + count)
        start, self.at = self.at, end
        for (first, last), piece in self.pieces.items():
            if first <= start and end <= last:
                return piece[start - first:end - first]
        first = min(start, max(0, end - PIECE))
        self.pieces[first, end] = piece = open_url(self.url, {"Range": f"bytes={first}-{end - 1}"})
        return piece[start - first:]


def open_url(url: str, headers: dict[str, str]) -> bytes:
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=60) as answer:
        return answer.read()


def wheels(package: str) -> dict[str, dict]:
    """One wheel for Linux on x86-64 of each release."""
    headers = {"Accept": "application/vnd.pypi.simple.v1+json"}
    files = json.loads(open_url(f"{PyPI.simple_url}/{package}/", headers))["files"]
    found: dict[str, dict] = {}
    for file in files:
        parts = file["filename"].removesuffix(".whl").split("-")
        fits = parts[-1] == "any" or ("linux" in parts[-1] and "x86_64" in parts[-1])
        if file["filename"].endswith(".whl") and fits:
            found.setdefault(parts[1], file)
    return found


def names(file: dict) -> list[str]:
    with zipfile.ZipFile(Remote(file["url"], file["size"])) as wheel:
        return wheel.namelist()


def order(version: str) -> list[int]:
    # What comes before a release (`rc1`, `a0`, `dev3`) counts as that release.
    return [int(part) for part in re.match(r"[0-9.]*", version)[0].rstrip(".").split(".") if part]


def applies(row: dict, version: str) -> bool:
    since, until = row.get("since", "0"), row.get("until")
    return order(since) <= order(version) and (until is None or order(version) <= order(until))


def fits(row: dict, path: str) -> bool:
    """Whether the row is about the file of this path, by the same rules as crates/inspect/src/names.rs."""
    if "one_of" in row:
        return path in row["one_of"]
    name = HASH.sub("", path.rsplit("/", 1)[-1])
    if row.get("numbered") and not re.search(r"[^0-9][0-9]+\.so", name):
        return False
    patterns = row["of"] if "of" in row else [row["names"]]
    like = lambda pattern: name.startswith(pattern[:-1]) if pattern.endswith("*") else name == pattern
    return any(like(pattern) for pattern in patterns)


def rows() -> dict[str, list[dict]]:
    """The rows of each package."""
    table = tomllib.loads(TABLE.read_text())
    found: dict[str, list[dict]] = {}
    for row in [*table["plugin"], *table["alternative"], *table["files"]]:
        packages = row.get("package", [])
        if isinstance(packages, str):
            packages = [packages]
        # Files of another package, which this one only opens.
        if "one_of" in row:
            own = lambda package: any(path.startswith(f"{package}/") for path in row["one_of"])
            packages = [package for package in packages if own(package)]
        for package in packages:
            found.setdefault(package, []).append(row)
    return found


# What the program says with --version.
RELEASE = re.compile(rb"release ([0-9]+\.[0-9]+), V")


def program(row: dict, paths: list[str]) -> str | None:
    """The compiler of a row in a wheel; of two the one for Blackwell, as the table counts it."""
    for name in (f"{row['program']}-blackwell", row["program"]):
        for path in paths:
            if path.endswith(f"/bin/{name}"):
                return path
    return None


def check_compilers(package: str, own: list[dict]) -> bool:
    releases, right = wheels(package), True
    own = sorted(own, key=lambda row: order(row["since"]))
    of_row: dict[int, list[str]] = {}
    for version in sorted(releases, key=order):
        at = max((at for at, row in enumerate(own) if order(row["since"]) <= order(version)), default=None)
        if at is not None:
            of_row.setdefault(at, []).append(version)
    for at, row in enumerate(own):
        versions = of_row.get(at, [])
        if not versions:
            right = False
            print(f"{package}: no release is of the row since {row['since']}")
        for version in versions:
            with zipfile.ZipFile(Remote(releases[version]["url"], releases[version]["size"])) as wheel:
                path = program(row, wheel.namelist())
                if path is None:
                    right = False
                    print(f"{package} {version}: no {row['program']}")
                elif version in (versions[0], versions[-1]):
                    says = RELEASE.search(wheel.read(path))
                    cuda = says[1].decode() if says else "unknown"
                    # The version of a package that is the compiler is that of its CUDA.
                    expected = row.get("cuda") or ".".join(version.split(".")[:2])
                    if cuda != expected:
                        right = False
                        print(f"{package} {version}: {path} is of CUDA {cuda}, and not {expected}")
    print(f"{package}: {sum(map(len, of_row.values()))} releases, {len(own)} rows of compilers")
    return right


def check_numpy(table: dict) -> bool:
    releases, right = wheels("numpy"), True
    module = {major: name.replace(".", "/") + "." for major, name in table["apis"]}
    since = order(table["since"])
    versions = [version for version in releases if order(version)[0] in module and order(version) >= since]
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        files = dict(zip(versions, pool.map(lambda version: names(releases[version]), versions)))
    for version, paths in files.items():
        start = module[order(version)[0]]
        if not any(path.startswith(start) and path.endswith(".so") for path in paths):
            right = False
            print(f"numpy {version}: no {start}*.so")
    newer = sorted({order(version)[0] for version in releases} - set(module))
    if any(major > max(module) for major in newer):
        right = False
        print(f"numpy: no row for the C API of {newer}")
    print(f"numpy: {len(files)} releases, {len(module)} rows of its C API")
    return right


def check_there(package: str) -> bool:
    """Whether the index has the package, as a wheel or as source."""
    try:
        headers = {"Accept": "application/vnd.pypi.simple.v1+json"}
        right = bool(json.loads(open_url(f"{PyPI.simple_url}/{package}/", headers))["files"])
    except OSError as error:
        print(f"{package}: {error}")
        return False
    print(f"{package}: {'is there' if right else 'has no release'}")
    return right


def label(row: dict) -> str:
    return str(row.get("of") or row.get("names") or row["one_of"])


def check(package: str, own: list[dict]) -> bool:
    releases = wheels(package)
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        files = dict(zip(releases, pool.map(names, releases.values())))
    right, used = True, set()
    for version, paths in files.items():
        # A release without any library is a place-holder.
        if not any(".so" in path for path in paths):
            continue
        here = [at for at, row in enumerate(own) if applies(row, version)]
        fit = {at for at in here if any(fits(own[at], path) for path in paths)}
        used |= fit
        for at in here:
            # Rows without bounds stand in for each other: each is of some releases.
            alone = "since" in own[at] or "until" in own[at]
            others = {other for other in here if "since" not in own[other] and "until" not in own[other]}
            if not fit & ({at} if alone else others):
                right = False
                print(f"{package} {version}: no library for {label(own[at])}")
    for at in set(range(len(own))) - used:
        right = False
        print(f"{package}: no release has a library for {label(own[at])}")
    print(f"{package}: {len(files)} releases, {len(own)} rows")
    return right


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", metavar="PACKAGE")
    only = parser.parse_args().only
    wanted = lambda name: only in (None, name)
    table = tomllib.loads(TABLE.read_text())
    checks = [lambda name=name, own=own: check(name, own) for name, own in rows().items() if wanted(name)]
    compilers: dict[str, list[dict]] = {}
    for row in table["compiler"]:
        compilers.setdefault(row["package"], []).append(row)
    checks += [lambda n=n, own=own: check_compilers(n, own) for n, own in compilers.items() if wanted(n)]
    if wanted("numpy"):
        checks.append(lambda: check_numpy(table["numpy"]))
    named = {name for row in table["checked"] for name in row["package"]}
    named |= {name for row in [*table["together"], *table["clash"]] for name in row["packages"]}
    # `unless` names packages of other indexes too.
    named |= {row["package"] for row in table["first_use"]}
    checks += [lambda name=name: check_there(name) for name in sorted(named) if wanted(name)]
    if not checks:
        parser.error(f"no row is about {only}")
    right = [check() for check in checks]
    return 0 if all(right) else 1


if __name__ == "__main__":
    sys.exit(main())
