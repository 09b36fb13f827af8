"""Imports packages with native code, each in a process of its own. Runs in a container, with the Python of the image.

    imports.py FOLDER RESULTS WORKERS SECONDS BYTES

FOLDER/packages has the name of a package a line. RESULTS gets a line of JSON for each that was asked: {"package",
"outcome", "error", "libraries"}; "outcome" is "imported", "failed" (the error is an exception), "ended" (the process
did, and the error says how), "late" (not done after SECONDS) or "nothing" (no module to import). "libraries" are those
that are not there: where that is the error, or where a package that was imported printed that it could not load a part
of itself. When there is a file FOLDER/stop, this ends.

What depends on torch is imported after torch, in processes that have it already. BYTES is how much private memory
each process may have.
"""

import ctypes
import importlib
import importlib.metadata
import json
import os
import re
import resource
import signal
import subprocess
import sys
import time

# No submodule of a package, whatever lies at the top of its wheel.
NOT_PACKAGES = {"test", "tests", "doc", "docs", "example", "examples", "benchmark", "benchmarks", "scripts", "tools"}
TAIL = 2000
# How much is read of what an import printed, bytes.
PRINTED = 1 << 20
MOST_LIBRARIES = 20
# glibc's words (dlerror(3)).
MISSING = re.compile(r"([\w.+-]+\.so[\w.]*): cannot open shared object file")
LOADERS = ["/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1"]
# How long the loader is asked about the files of one package, seconds.
LISTING = 20


def files_of(name):
    try:
        return importlib.metadata.distribution(name).files or []
    except importlib.metadata.PackageNotFoundError:
        return []


def needs_torch(name):
    try:
        requires = importlib.metadata.distribution(name).requires or []
    except importlib.metadata.PackageNotFoundError:
        return False
    return any(re.match(r"torch\s*([^\w.-]|$)", line) and "extra ==" not in line for line in requires)


def modules_of(name):
    """The packages that hold native code; where none does, those beside a module at the top."""
    regular, native, extensions = set(), set(), set()
    for file in files_of(name):
        parts = file.parts
        if parts[0] == ".." or parts[0].endswith((".dist-info", ".data", ".libs")):
            continue
        shared = re.search(r"\.so(\.[\d.]+)?$", file.name)
        if file.name == "__init__.py":
            regular.add(parts[:-1])
        if shared and len(parts) == 1:
            extensions.add(file.name.split(".")[0])
        elif shared:
            native.add(parts[:-1])
    holding = set()
    for folder in native:
        above = [folder[:end] for end in range(1, len(folder) + 1) if folder[:end] in regular]
        if above:
            holding.add(".".join(above[0]))
    tops = {parts[0] for parts in regular if len(parts) == 1}
    found = holding or (tops if extensions else set()) or extensions
    plain = [name for name in found if all(part.isidentifier() for part in name.split("."))]
    return sorted(name for name in plain if name.split(".")[0] not in NOT_PACKAGES)


def is_loaded(library):
    try:
        ctypes.CDLL(library, mode=os.RTLD_NOLOAD | os.RTLD_LAZY)
    except OSError:
        return False
    return True


def libraries_missing(name, text):
    """All libraries that are not there for the files that lack those in the text: dlopen names the first alone."""
    named = sorted(set(MISSING.findall(text)))[:MOST_LIBRARIES]
    loader = next(filter(os.path.exists, LOADERS), None)
    if not named or not loader:
        return named
    until = time.monotonic() + LISTING
    lists = []
    for file in files_of(name):
        left = until - time.monotonic()
        if left <= 0 or not re.search(r"\.so(\.[\d.]+)?$", file.name):
            continue
        try:
            # With this variable nothing of the file is run (ld.so(8), ldd(1)).
            listing = subprocess.run(
                [loader, str(file.locate())],
                env={**os.environ, "LD_TRACE_LOADED_OBJECTS": "1"},
                capture_output=True,
                timeout=left,
            )
        except (OSError, subprocess.SubprocessError):
            continue
        lists.append(re.findall(r"^\s*(\S+) => not found", listing.stdout.decode(errors="replace"), re.MULTILINE))
    missing = set()
    for library in named:
        # Modules that are there for another framework lack it as well.
        missing.update(min((all for all in lists if library in all), key=len, default=[library]))
    return sorted(library for library in missing if not is_loaded(library))[:MOST_LIBRARIES]


def alone(log, limit):
    """Makes this process one that may be killed with all that it starts, and that writes to LOG alone."""
    os.setsid()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 26, 1 << 26))
    null = os.open(os.devnull, os.O_RDONLY)
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.dup2(null, 0)
    os.dup2(out, 1)
    os.dup2(out, 2)


def attempt(name, log, pipe, limit):
    """In a process of its own: imports, and says what came of it."""
    try:
        alone(log, limit)
        modules = modules_of(name)
        if not modules:
            answer = {"outcome": "nothing", "error": ""}
        else:
            for module in modules:
                importlib.import_module(module)
            # A package of plugins may go on without those that can't be loaded, and print that.
            lacks = libraries_missing(name, printed(log))
            answer = {"outcome": "imported", "error": "", "libraries": lacks}
    except BaseException as error:
        text = chain(error)
        answer = {"outcome": "failed", "error": text, "libraries": libraries_missing(name, text)}
    os.write(pipe, json.dumps(answer).encode()[:60000])
    os._exit(0)


def chain(error):
    """An exception, and the first one behind it if that is another."""
    first = error
    seen = 0
    while seen < 10 and (first.__cause__ or first.__context__) is not None:
        first = first.__cause__ or first.__context__
        seen += 1
    text = f"{type(error).__name__}: {error}"
    if first is not error and str(first) not in text:
        text += f" ({type(first).__name__}: {first})"
    return text[:TAIL]


def printed(log):
    """What this process and the libraries in it have printed so far."""
    sys.stdout.flush()
    sys.stderr.flush()
    ctypes.CDLL(None).fflush(None)
    with open(log, "rb") as file:
        return file.read(PRINTED).decode(errors="replace")


def tail(log):
    try:
        with open(log, "rb") as file:
            file.seek(max(0, os.path.getsize(log) - TAIL))
            lines = file.read().decode(errors="replace").strip().splitlines()
            return " | ".join(lines[-3:])
    except OSError:
        return ""


class Pool:
    def __init__(self, folder, results, workers, seconds, limit):
        self.folder, self.results, self.workers = folder, results, workers
        self.seconds, self.limit = seconds, limit
        self.running = {}

    def stopped(self):
        return os.path.exists(os.path.join(self.folder, "stop"))

    def say(self, name, answer):
        line = json.dumps({"package": name, **answer}) + "\n"
        file = os.open(self.results, os.O_WRONLY | os.O_APPEND)
        os.write(file, line.encode())
        os.close(file)

    def start(self, name):
        read, write = os.pipe()
        log = f"/tmp/sconce-import-{os.getpid()}-{len(self.running)}-{time.monotonic_ns()}"
        pid = os.fork()
        if pid == 0:
            attempt(name, log, write, self.limit)
        os.close(write)
        self.running[pid] = (name, read, log, time.monotonic() + self.seconds)

    def kill(self, pid):
        try:
            os.killpg(pid, signal.SIGKILL)
        except OSError:
            pass
        try:
            os.kill(pid, signal.SIGKILL)
        except OSError:
            pass

    def collect(self):
        for pid, (name, read, log, deadline) in list(self.running.items()):
            ended, status = os.waitpid(pid, os.WNOHANG)
            late = ended == 0 and time.monotonic() > deadline
            if late:
                self.kill(pid)
                os.waitpid(pid, 0)
            elif ended == 0:
                continue
            os.set_blocking(read, False)
            try:
                said = os.read(read, 65536)
            except BlockingIOError:
                said = b""
            os.close(read)
            del self.running[pid]
            if late:
                answer = {"outcome": "late", "error": ""}
            elif said:
                answer = json.loads(said)
            else:
                how = f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else f"exit code {os.WEXITSTATUS(status)}"
                answer = {"outcome": "ended", "error": f"{how}: {tail(log)}"}
            # What it started is not wanted any more.
            self.kill(pid)
            self.say(name, answer)

    def run(self, names):
        names = list(names)
        while names or self.running:
            if self.stopped():
                for pid in self.running:
                    self.kill(pid)
                return
            while names and len(self.running) < self.workers:
                self.start(names.pop(0))
            self.collect()
            time.sleep(0.02)


def main(folder, results, workers, seconds, limit):
    os.nice(19)
    with open(os.path.join(folder, "packages"), encoding="utf-8") as file:
        names = file.read().split()
    beside = [name for name in names if needs_torch(name)]
    pool = Pool(folder, results, workers, seconds, limit)
    torch = 0
    if beside:
        torch = os.fork()
        if torch == 0:
            try:
                alone("/tmp/sconce-import-torch", resource.RLIM_INFINITY)
                importlib.import_module("torch")
            except BaseException as error:
                # Each import fails for the same reason, and none of them says anything of its package.
                for name in beside:
                    pool.say(name, {"outcome": "failed", "error": f"torch itself: {chain(error)}"})
                os._exit(0)
            pool.run(beside)
            os._exit(0)
    pool.run([name for name in names if name not in beside])
    while torch and os.waitpid(torch, os.WNOHANG)[0] == 0:
        if pool.stopped():
            return
        time.sleep(0.02)


main(sys.argv[1], sys.argv[2], max(1, int(sys.argv[3])), float(sys.argv[4]), int(sys.argv[5]))
