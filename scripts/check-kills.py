#!/usr/bin/env python3
"""Kills `sconce run` at random instants of a first run, and sees whether the next run goes on.

Wheels come from an index on loopback, the base from Debian's packages, which are downloaded once. Each round has a home of
its own; in it one to eight runs are killed with SIGKILL, every other time with all that they started. Then a run must give
the right line and a build the image that an undisturbed one gave; each blob must have its digest, each tree the bytes
that it has without kills.

    scripts/check-kills.py --sconce target/release/sconce --kills 500
"""

import argparse
import base64
import collections
import functools
import hashlib
import http.server
import io
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from pathlib import Path

LINE = "import large, many, small; print(large.SIZE, many.COUNT, small.NAME)"
MIB = 1 << 20


def wheel(name: str, files: dict[str, bytes]) -> tuple[str, bytes]:
    """A wheel with these files: its name and its bytes, the same each time."""
    info = f"{name}-1.0.dist-info"
    files = {**files, f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n".encode(),
             f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: check\nRoot-Is-Purelib: true\nTag: py3-none-any\n"}
    rows = []
    for path, data in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        rows.append(f"{path},sha256={digest},{len(data)}\n")
    files[f"{info}/RECORD"] = ("".join(rows) + f"{info}/RECORD,,\n").encode()
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for path, data in files.items():
            archive.writestr(zipfile.ZipInfo(path, (1980, 1, 1, 0, 0, 0)), data, zipfile.ZIP_DEFLATED)
    return f"{name}-1.0-py3-none-any.whl", out.getvalue()


def wheels() -> dict[str, bytes]:
    """A few: one of large files, two of middling ones, one of more modules than are compiled before a start, a small one."""
    chance = random.Random(1)
    words = [chance.randbytes(6).hex() for _ in range(5000)]
    text = " ".join(chance.choices(words, k=3 * MIB)).encode()
    large = {"large/__init__.py": b"SIZE = 1\n", "large/noise.bin": chance.randbytes(48 * MIB),
             "large/text.bin": text, "large/zero.bin": bytes(32 * MIB)}
    many = {"many/__init__.py": b"COUNT = 700\n"}
    many |= {f"many/m{number:03}.py": f"NAME = {words[number]!r}\n".encode() * 40 for number in range(700)}
    made = [wheel("large", large), wheel("many", many), wheel("small", {"small.py": b"NAME = 'small'\n"})]
    made += [wheel(name, {f"{name}/data.bin": chance.randbytes(9 * MIB)}) for name in ("middling", "other")]
    # In every environment (`sconce.toml` asks for it, as `python -m venv` does).
    return dict([*made, wheel("pip", {"pip/__init__.py": b""})])


class Index(http.server.BaseHTTPRequestHandler):
    """Pages of a package index (PEP 503) and its files, whole or from a byte on."""

    protocol_version = "HTTP/1.1"

    def __init__(self, files: dict[str, bytes], rate: float, *rest) -> None:
        self.files, self.rate = files, rate
        super().__init__(*rest)

    def do_HEAD(self) -> None:
        self.answer(False)

    def do_GET(self) -> None:
        self.answer(True)

    def answer(self, body: bool) -> None:
        parts = self.path.split("?")[0].strip("/").split("/")
        if parts[0] == "files" and parts[-1] in self.files:
            data = self.files[parts[-1]]
            asked = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
            first, last = 0, len(data) - 1
            if asked and asked[1]:
                first, last = int(asked[1]), min(int(asked[2] or last), last)
            elif asked and asked[2]:
                first = max(len(data) - int(asked[2]), 0)
            if first > last:
                return self.send(416, "text/plain", b"", {"Content-Range": f"bytes */{len(data)}"}, body)
            headers = {"Accept-Ranges": "bytes", "ETag": f'"{len(data)}"'}
            if asked:
                headers["Content-Range"] = f"bytes {first}-{last}/{len(data)}"
            return self.send(206 if asked else 200, "application/octet-stream", memoryview(data)[first:last + 1], headers, body)
        if parts[0] == "simple" and len(parts) == 2:
            rows = [f'<a href="/files/{name}#sha256={hashlib.sha256(data).hexdigest()}">{name}</a><br>'
                    for name, data in self.files.items() if name.split("-")[0] == parts[1]]
            if rows:
                return self.send(200, "text/html", f"<!DOCTYPE html><html><body>{''.join(rows)}</body></html>".encode(), {}, body)
        return self.send(404, "text/plain", b"not here", {}, body)

    def send(self, status: int, kind: str, data: bytes | memoryview, headers: dict[str, str], body: bool) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(data)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if not body:
            return
        try:
            for at in range(0, len(data), MIB):
                self.wfile.write(data[at:at + MIB])
                time.sleep(min(MIB, len(data) - at) / self.rate)
        except OSError:
            self.close_connection = True  # it was killed

    def log_message(self, *_: object) -> None:
        pass


class Server(http.server.ThreadingHTTPServer):
    def handle_error(self, *_: object) -> None:
        pass  # whoever asked was killed


class Campaign:
    def __init__(self, options: argparse.Namespace, work: Path, index: str) -> None:
        self.sconce = str(options.sconce.resolve())
        self.work, self.project = work, work / "project"
        self.chance = random.Random(options.seed)
        self.env = {**os.environ, "UV_DEFAULT_INDEX": f"{index}/simple", "UV_CACHE_DIR": str(work / "uv")}
        for name in ("UV_INDEX", "UV_INDEX_URL", "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "UV_EXTRA_INDEX_URL"):
            self.env.pop(name, None)
        for name in ("NO_PROXY", "no_proxy"):
            self.env[name] = "127.0.0.1," + self.env.get(name, "")
        self.seen: collections.Counter[str] = collections.Counter()
        self.faults: list[str] = []

    def command(self, home: Path, *words: str) -> subprocess.Popen:
        return subprocess.Popen([self.sconce, *words], env={**self.env, "SCONCE_HOME": str(home)}, cwd=self.work, text=True,
                                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def done(self, home: Path, *words: str) -> str:
        child = self.command(home, *words)
        out, err = child.communicate(timeout=600)
        if child.returncode != 0:
            raise RuntimeError(f"`sconce {' '.join(words)}` exited with {child.returncode}:\n{out}{err}")
        return out

    def run(self) -> tuple[str, ...]:
        return "run", "--gpus", "none", "--no-import-check", str(self.project), "python", "-c", LINE

    def prepare(self) -> None:
        """The lock, Debian's packages, and what an undisturbed run and build give."""
        self.project.mkdir()
        (self.project / "sconce.toml").write_text(
            '[environment]\ntorch = false\nrequirements = ["large", "many", "small", "middling", "other"]\n')
        seed = self.work / "seed"
        self.done(seed, "lock", str(self.project))
        self.lock = (self.project / "sconce.lock").read_text()
        self.image = self.done(seed, "build", "-q", str(self.project)).strip()
        digests = re.findall(r'^sha256 = "([0-9a-f]{64})"', self.lock, re.MULTILINE)
        ours = {hashlib.sha256(data).hexdigest() for data in wheels().values()}
        self.debs = [digest for digest in digests if digest not in ours]
        self.seed = seed
        home = self.fresh()
        began = time.monotonic()
        self.line = self.done(home, *self.run())
        self.seconds = time.monotonic() - began
        # Before there is bytecode, of which a build for elsewhere makes no trees.
        self.trees = self.digests_of_trees(home)
        # What finishes the image beside the command makes the same one.
        for _ in range(1800):
            if not self.living(home):
                break
            time.sleep(0.1)
        if self.image not in (self.project / "sconce.lock").read_text() or self.state(home) != "whole image":
            raise RuntimeError(f"the image was not finished beside the command: {self.state(home)}")
        self.check(home)
        self.remove(home)

    def fresh(self) -> Path:
        """A home that has Debian's packages and nothing else, and the lock without its seal."""
        home = Path(tempfile.mkdtemp(prefix="home-", dir=self.work))
        for digest in self.debs:
            blob = Path("blobs/sha256", digest[:2], digest)
            (home / blob).parent.mkdir(parents=True, exist_ok=True)
            os.link(self.seed / blob, home / blob)
        shutil.copy(self.seed / "version", home / "version")
        (self.project / "sconce.lock").write_text(self.lock)
        return home

    def living(self, home: Path) -> list[int]:
        """Our processes of a home: those that were started with it."""
        found, mark = [], f"SCONCE_HOME={home}".encode()
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if mark in (folder / "environ").read_bytes().split(b"\0"):
                    found.append(int(folder.name))
            except OSError:
                pass  # it has ended, or is not ours
        return found

    def remove(self, home: Path) -> None:
        for _ in range(5):
            for pid in self.living(home):
                os.kill(pid, signal.SIGKILL)
            time.sleep(0.1)
            if not self.living(home):
                break
        subprocess.run(["chmod", "-R", "u+rwX", str(home)], capture_output=True)
        shutil.rmtree(home, ignore_errors=True)

    def state(self, home: Path) -> str:
        """What a kill left, in words."""
        has = lambda pattern: any(home.glob(pattern))
        if has("memo/environment-*"):
            return "whole image"
        if has("memo/early-environment-*"):
            return "early image"
        if has("memo/wheel-*") and has("memo/base-*"):
            return "base and layers of wheels"
        if has("memo/wheel-*"):
            return "layers of wheels"
        if has("memo/base-*"):
            return "base"
        return "parts of downloads" if has("partial/*") else "nothing"

    def kill(self, home: Path, everything: bool) -> None:
        child = self.command(home, *self.run())
        # Some outlive the command: the instants behind it are of what finishes the image.
        time.sleep(self.chance.uniform(0, 1.3 * self.seconds))
        before = "running" if child.poll() is None else "ended"
        for pid in self.living(home) if everything else []:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        if child.poll() is None:
            child.kill()
        child.stdout.close()
        child.stderr.close()
        child.wait()
        self.seen[f"{'all of it' if everything else 'sconce run'} killed, {before}: left {self.state(home)}"] += 1

    def round(self, kills: int, everything: bool) -> None:
        home = self.fresh()
        for _ in range(kills):
            self.kill(home, everything)
        try:
            line = self.done(home, *self.run())
            if line != self.line:
                raise RuntimeError(f"it printed {line!r}")
            image = self.done(home, "build", "-q", str(self.project)).strip()
            if image != self.image:
                raise RuntimeError(f"it built {image}, not {self.image}")
            self.check(home)
        except (RuntimeError, subprocess.TimeoutExpired) as error:
            self.faults.append(str(error))
            print(error, file=sys.stderr)
        self.remove(home)

    def check(self, home: Path) -> None:
        for path in home.glob("blobs/sha256/*/*"):
            with path.open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != path.name:
                    raise RuntimeError(f"blob {path.name} has other bytes")
        trees = self.digests_of_trees(home)
        for name in trees.keys() & self.trees.keys():
            if trees[name] != self.trees[name]:
                raise RuntimeError(f"tree {name} has other bytes")
        if missing := self.trees.keys() - trees.keys():
            raise RuntimeError(f"no tree {missing}")

    def digests_of_trees(self, home: Path) -> dict[str, str]:
        """Of each tree one digest over names, modes, sizes, links and bytes."""
        found = {}
        for tree in (home / "trees").iterdir():
            digest = hashlib.sha256()
            for folder, folders, files in os.walk(tree):
                folders.sort()
                for name in sorted(files + folders):
                    path = Path(folder, name)
                    about = path.lstat()
                    size = 0 if path.is_dir() else about.st_size
                    digest.update(f"{path.relative_to(tree)} {about.st_mode:o} {size}\n".encode())
                    if path.is_symlink():
                        digest.update(os.readlink(path).encode())
                    elif path.is_file():
                        with path.open("rb") as file:
                            digest.update(hashlib.file_digest(file, "sha256").digest())
            found[tree.name] = digest.hexdigest()
        return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sconce", type=Path, default=Path("target/release/sconce"))
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--minutes", type=float, default=600, help="begin no other round after so long")
    parser.add_argument("--seed", type=int, default=1, help="of the instants")
    parser.add_argument("--rate", type=float, default=60, help="MB/s of each download")
    parser.add_argument("--work", type=Path, default=Path("/var/tmp"), help="where a folder of 2 GB is made")
    options = parser.parse_args()
    work = Path(tempfile.mkdtemp(prefix="sconce-kills-", dir=options.work))
    handler = functools.partial(Index, wheels(), options.rate * 1e6)
    server = Server(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    campaign = Campaign(options, work, f"http://127.0.0.1:{server.server_port}")
    killed = rounds = 0
    try:
        campaign.prepare()
        print(f"undisturbed: {campaign.seconds:.1f} s to {campaign.line.strip()!r}, {campaign.image}", flush=True)
        until = time.monotonic() + 60 * options.minutes
        while killed < options.kills and time.monotonic() < until:
            kills = min(campaign.chance.choice([1, 2, 3, 5, 8]), options.kills - killed)
            campaign.round(kills, everything=rounds % 2 == 1)
            killed, rounds = killed + kills, rounds + 1
            if rounds % 10 == 0:
                print(f"{killed} kills in {rounds} homes, {len(campaign.faults)} faults", flush=True)
    finally:
        for home in work.glob("home-*"):
            campaign.remove(home)
        shutil.rmtree(work, ignore_errors=True)
    for what, count in sorted(campaign.seen.items()):
        print(f"{count:5}  {what}")
    print(f"{killed} kills in {rounds} homes: {rounds - len(campaign.faults)} went on to the right image, {len(campaign.faults)} did not")
    return 1 if campaign.faults else 0


if __name__ == "__main__":
    sys.exit(main())
