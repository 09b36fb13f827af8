"""Reads a source distribution, or builds a wheel of it (PEP 517). Runs in a container without network.

    sdist.py look SDIST ANSWER
    sdist.py build SDIST OUT REQUIRES
    sdist.py nvcc ARGUMENT...

`look` writes what pyproject.toml says of the build, as JSON, and runs nothing of it. `build` leaves the wheel in
OUT/wheel, all output in OUT/log and what came of it in OUT/answer. `nvcc` runs it for the GPUs that are asked for.
"""

import json
import os
import re
import sys
import tarfile
import tomllib
import zipfile

LARGEST = 16 << 30
MOST = 500_000
PYPROJECT_LIMIT = 4 << 20

# A wheel is a zip archive, whose times begin in 1980 (APPNOTE.TXT 4.4.6).
FIRST_TIME = 315_532_800

COMPILED = (".c", ".cc", ".cpp", ".cxx", ".cu", ".pyx", ".f", ".f90", ".s", ".asm", ".m4")
CUDA = (".cu", ".cuh")

# What stands for a missing [build-system] (PEP 517, "Source trees") and a missing `build-backend`.
LEGACY = ["setuptools>=40.8.0"]
LEGACY_BACKEND = "setuptools.build_meta:__legacy__"

SOURCES = "/build/source"


class Refused(Exception):
    pass


class Tar:
    def __init__(self, path):
        self.archive = tarfile.open(path)

    def members(self):
        for member in self.archive:
            kind = "file" if member.isreg() else "folder" if member.isdir() else "other"
            if member.issym():
                kind = "link"
            yield member.name, kind, member.size, int(member.mtime), member

    def read(self, member):
        return self.archive.extractfile(member)

    def mode(self, member):
        return member.mode


class Zip:
    def __init__(self, path):
        self.archive = zipfile.ZipFile(path)

    def members(self):
        import calendar

        for info in self.archive.infolist():
            time = calendar.timegm((*info.date_time, 0, 0, 0))
            yield info.filename, "folder" if info.is_dir() else "file", info.file_size, time, info

    def read(self, info):
        return self.archive.open(info)

    def mode(self, info):
        return info.external_attr >> 16


def members(path):
    """What is to be unpacked: path below the one top folder, kind, size, time. Bounded, and beneath it."""
    archive = Zip(path) if path.endswith(".zip") else Tar(path)
    total = count = 0
    for name, kind, size, time, member in archive.members():
        count += 1
        total += size
        if count > MOST or total > LARGEST:
            raise Refused(f"it has more than {MOST} files or {LARGEST >> 30} GiB")
        parts = [part for part in name.split("/") if part not in ("", ".")]
        if name.startswith("/") or ".." in parts or "\0" in name or "\\" in name:
            raise Refused(f"it has a file that leads out of its folder: {name!r}")
        if kind == "other":
            raise Refused(f"it has a member that is no file, folder or link: {name!r}")
        yield archive, parts, kind, size, max(time, 0), member


def limited(archive, member, size):
    with archive.read(member) as file:
        data = file.read(size + 1)
    if len(data) > size:
        raise Refused("a file in it is larger than it says")
    return data


def look(path):
    """What is known without running anything."""
    pyproject = {}
    suffixes = set()
    for archive, parts, kind, size, _, member in members(path):
        if kind != "file" or not parts:
            continue
        suffixes.add(os.path.splitext(parts[-1])[1].lower())
        if len(parts) == 2 and parts[1] == "pyproject.toml":
            if size > PYPROJECT_LIMIT:
                raise Refused("its pyproject.toml is too large")
            text = limited(archive, member, size).decode("utf-8")
            pyproject = tomllib.loads(text).get("build-system", {})
    requires = pyproject.get("requires", LEGACY)
    if not isinstance(requires, list) or not all(isinstance(text, str) for text in requires):
        raise Refused("[build-system] requires in its pyproject.toml is no list of strings")
    return {
        "requires": requires,
        "compiles": bool(suffixes & set(COMPILED)),
        "cuda": bool(suffixes & set(CUDA)),
    }


def unpack(path):
    """The folder it was unpacked to, and the newest time in it."""
    top, newest = None, 0
    for archive, parts, kind, size, time, member in members(path):
        if not parts:
            continue
        if top is None:
            top = parts[0]
        if parts[0] != top:
            raise Refused("it has more than one folder at its top (PEP 625)")
        newest = max(newest, time)
        target = os.path.join(SOURCES, *parts)
        # A link that came before must not lead what follows elsewhere.
        walked = SOURCES
        for part in parts[:-1]:
            walked = os.path.join(walked, part)
            if os.path.islink(walked):
                raise Refused(f"it has a file behind a link: {'/'.join(parts)!r}")
        os.makedirs(target if kind == "folder" else os.path.dirname(target), exist_ok=True)
        if kind == "link":
            inside = os.path.normpath(os.path.join(*parts[:-1], member.linkname))
            if member.linkname.startswith("/") or inside.split("/")[0] != top:
                raise Refused(f"it has a link that leads out of its folder: {'/'.join(parts)!r}")
            os.symlink(member.linkname, target)
        elif kind == "file":
            left = size
            with archive.read(member) as source, open(target, "xb") as file:
                while chunk := source.read(min(1 << 20, left + 1)):
                    left -= len(chunk)
                    if left < 0:
                        raise Refused("a file in it is larger than it says")
                    file.write(chunk)
            os.chmod(target, 0o755 if archive.mode(member) & 0o111 else 0o644)
            os.utime(target, (max(time, FIRST_TIME),) * 2)
    if top is None:
        raise Refused("it is empty")
    return os.path.join(SOURCES, top), max(newest, FIRST_TIME)


def backend_of(folder):
    """The backend's object (PEP 517, "Build backend interface")."""
    import importlib

    system = {}
    path = os.path.join(folder, "pyproject.toml")
    if os.path.exists(path):
        with open(path, "rb") as file:
            system = tomllib.load(file).get("build-system", {})
    for part in reversed(system.get("backend-path", [])):
        inside = os.path.realpath(os.path.join(folder, part))
        if os.path.commonpath([inside, folder]) != folder:
            raise Refused("`backend-path` in its pyproject.toml leads out of its folder")
        sys.path.insert(0, inside)
    module, _, attributes = system.get("build-backend", LEGACY_BACKEND).partition(":")
    found = importlib.import_module(module)
    for attribute in filter(None, attributes.split(".")):
        found = getattr(found, attribute)
    return found


def for_gpus(arguments, asked):
    """nvcc's arguments with code for no other GPUs than TORCH_CUDA_ARCH_LIST has: there are setup.py that don't read
    it and name all there are (causal-conv1d, mamba-ssm). All stay where one of those asked for would be left without
    code: that of its own architecture, or of one before it with the same major runs on it."""
    option = re.compile(r"(?:-gencode|--generate-code)(?:=(.*))?")
    codes, at = [], 0
    while at < len(arguments):
        found = option.fullmatch(arguments[at])
        words = arguments[at : at + 2] if found and found[1] is None else arguments[at : at + 1]
        # 90a and 100f are for one architecture, 90 for those after it as well.
        of = re.search(r"arch=compute_(\d+)([af]?)", words[-1]) if found else None
        codes.append((words, of and (int(of[1]), of[2])))
        at += len(words)
    keep, there = set(), {of for _, of in codes if of}
    for major, minor in re.findall(r"(\d+)\.(\d)", asked):
        wanted = int(major) * 10 + int(minor)
        runs = [n for n, only in there if n == wanted or (not only and n // 10 == int(major) and n < wanted)]
        if not runs:
            return arguments
        keep.add(max(runs))
    return [word for words, of in codes if not keep or of is None or of[0] in keep for word in words]


def nvcc(arguments):
    program = os.path.join(os.environ["CUDA_HOME"], "bin", "nvcc")
    os.execv(program, [program, *for_gpus(arguments, os.environ.get("TORCH_CUDA_ARCH_LIST", ""))])


def put_nvcc():
    """Has torch/utils/cpp_extension.py run nvcc by way of this program."""
    path = os.path.join(os.environ["TMPDIR"], "nvcc")
    with open(path, "w") as file:
        file.write(f'#!/bin/sh\nexec {sys.executable} -B -I {os.path.abspath(__file__)} nvcc "$@"\n')
    os.chmod(path, 0o755)
    os.environ["PYTORCH_NVCC"] = path


def build(path, out, requires):
    folder, newest = unpack(path)
    os.environ["SOURCE_DATE_EPOCH"] = str(newest)
    for name in ("HOME", "TMPDIR"):
        os.makedirs(os.environ[name], exist_ok=True)
    if "CUDA_HOME" in os.environ and "TORCH_CUDA_ARCH_LIST" in os.environ:
        put_nvcc()
    os.chdir(folder)
    os.umask(0o022)
    sys.argv = ["-c"]
    sys.path[:] = [part for part in sys.path if part and part != os.path.dirname(__file__)]
    backend = backend_of(folder)
    if requires is not None and hasattr(backend, "get_requires_for_build_wheel"):
        more = [text for text in backend.get_requires_for_build_wheel() if text not in requires]
        if more:
            return {"requires": more}
    wheel = os.path.join(out, "wheel")
    os.makedirs(wheel)
    return {"wheel": backend.build_wheel(wheel)}


def write(path, answer):
    with open(path, "w") as file:
        json.dump(answer, file)


def main():
    if sys.argv[1] == "nvcc":
        return nvcc(sys.argv[2:])
    command, path, out, *rest = sys.argv[1:]
    if command == "look":
        try:
            answer = look(path)
        except Exception as error:
            # Nothing of it was run: whatever it is, it comes from what was read.
            answer = {"refused": str(error)}
        write(out, answer)
        return 0
    with open(rest[0]) as file:
        requires = json.load(file)
    log = os.open(os.path.join(out, "log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for number in (1, 2):
        os.dup2(log, number)
    try:
        answer = build(path, out, requires)
    except (Refused, tarfile.TarError, zipfile.BadZipFile) as error:
        answer = {"refused": str(error)}
    # Of the backend's own errors the traceback is in the log.
    sys.stdout.flush()
    write(os.path.join(out, "answer"), answer)
    return 0


if __name__ == "__main__":
    sys.exit(main())
