#!/usr/bin/env python3
"""Measures the memory of `sconce pull` alone, nothing run: an image of gzip and zstd layers, also with the largest windows that are
taken, from Debian's docker-registry on loopback into an empty store. Writes runs/<date>-<machine>-pulling.md (see README.md).
Needs docker-registry, skopeo, gzip and zstd; no network."""

import argparse
import datetime
import hashlib
import io
import json
import os
import platform
import random
import re
import shutil
import socket
import subprocess
import tarfile
import time
from pathlib import Path

from measure import Failed, Series, measure
from report import MIB, Budget, Report, Section

HERE = Path(__file__).resolve().parent
REPO = HERE.parent
BUDGET = 512  # MiB
# How a layer is packed, and its media type. `--long=25` is a window of 32 MiB, the largest of which several are unpacked at a
# time; `--long=27` one of 128 MiB, the largest that is taken.
GZIP = (["gzip", "-1"], "application/vnd.oci.image.layer.v1.tar+gzip")
ZSTD = (["zstd", "-1", "-q"], "application/vnd.oci.image.layer.v1.tar+zstd")
WINDOW_32 = (["zstd", "-1", "-q", "--long=25"], ZSTD[1])
WINDOW_128 = (["zstd", "-1", "-q", "--long=27"], ZSTD[1])
IMAGES = {
    "gzip": [GZIP] * 8,
    "zstd": [ZSTD] * 8,
    "zstd, windows of 32 MiB": [WINDOW_32] * 8,
    "zstd, windows of 32 and 128 MiB": [WINDOW_128] * 2 + [WINDOW_32] * 6,
}


def bare(architecture: str, diff_ids: list[str]) -> bytes:
    config = {"architecture": architecture, "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": diff_ids}}
    return json.dumps(config).encode()


class Layout:
    """An OCI layout that is written blob by blob."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        shutil.rmtree(folder, ignore_errors=True)
        (folder / "blobs/sha256").mkdir(parents=True)
        (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')

    def put(self, data: bytes, kind: str) -> dict:
        digest = hashlib.sha256(data).hexdigest()
        (self.folder / "blobs/sha256" / digest).write_bytes(data)
        return {"mediaType": kind, "digest": f"sha256:{digest}", "size": len(data)}

    def layer(self, number: int, size: int, pack: list[str], kind: str) -> tuple[dict, str]:
        """A layer of files that hold some things often and others once; and its DiffID."""
        draw = random.Random(number)
        known = [draw.randbytes(64 << 10) for _ in range(64)]
        place = self.folder / "packed"
        with place.open("wb") as out:
            packer = subprocess.Popen(pack, stdin=subprocess.PIPE, stdout=out)
            plain = hashlib.sha256()

            class Both(io.RawIOBase):
                def writable(self) -> bool:
                    return True

                def write(self, data) -> int:
                    plain.update(data)
                    packer.stdin.write(data)
                    return len(data)

            with tarfile.open(fileobj=Both(), mode="w|", format=tarfile.PAX_FORMAT) as tar:
                for at in range(size >> 22):
                    row = tarfile.TarInfo(f"layer-{number}/{at}")
                    row.size = 4 << 20
                    tar.addfile(row, io.BytesIO(b"".join(
                        draw.choice(known) if draw.random() < 0.5 else draw.randbytes(64 << 10) for _ in range(64))))
            packer.stdin.close()
            if packer.wait() != 0:
                raise Failed(f"{pack[0]} failed")
        with place.open("rb") as packed:
            digest = hashlib.file_digest(packed, "sha256").hexdigest()
        place.rename(self.folder / "blobs/sha256" / digest)
        length = (self.folder / "blobs/sha256" / digest).stat().st_size
        return {"mediaType": kind, "digest": f"sha256:{digest}", "size": length}, f"sha256:{plain.hexdigest()}"

    def image(self, packings: list[tuple], size: int) -> int:
        """Writes an image of such layers; the bytes of them, packed."""
        layers = [self.layer(number, size, pack, kind) for number, (pack, kind) in enumerate(packings)]
        architecture = {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]
        config = self.put(bare(architecture, [diff_id for _, diff_id in layers]), "application/vnd.oci.image.config.v1+json")
        kind = "application/vnd.oci.image.manifest.v1+json"
        manifest = {"schemaVersion": 2, "mediaType": kind, "config": config, "layers": [blob for blob, _ in layers]}
        row = self.put(json.dumps(manifest).encode(), kind)
        row["annotations"] = {"org.opencontainers.image.ref.name": "1"}
        (self.folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [row]}))
        return sum(blob["size"] for blob, _ in layers)


class Registry:
    """Debian's docker-registry, until the end."""

    def __init__(self, work: Path) -> None:
        self.root, config = work / "pulling-registry", work / "pulling-registry.yml"
        shutil.rmtree(self.root, ignore_errors=True)
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            self.port = listener.getsockname()[1]
        config.write_text("version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\n"
                          f"storage: {{filesystem: {{rootdirectory: {self.root}}}}}\nhttp: {{addr: '127.0.0.1:{self.port}'}}\n")
        self.process = subprocess.Popen(["docker-registry", "serve", config], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def __enter__(self) -> "Registry":
        for _ in range(100):
            try:
                socket.create_connection(("127.0.0.1", self.port)).close()
                return self
            except OSError:
                time.sleep(0.1)
        raise Failed("docker-registry does not listen")

    def __exit__(self, *_) -> None:
        self.process.terminate()
        self.process.wait(timeout=30)
        shutil.rmtree(self.root, ignore_errors=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sconce", type=Path, default=REPO / "target/release/sconce")
    parser.add_argument("--work", type=Path, default=Path("/var/tmp/sconce-bench"))
    parser.add_argument("--machine", required=True, help="its name in the report, such as 2core-epyc")
    parser.add_argument("--layer", type=int, default=160, help="MiB of a layer, unpacked")
    options = parser.parse_args()
    work, sconce = options.work.resolve(), str(options.sconce.resolve())
    work.mkdir(parents=True, exist_ok=True)
    layout, node = Layout(work / "pulling-layout"), work / "pulling-node"
    section, budgets = Section("Into an empty store"), []
    section.notes += ["| image | layers, packed | VmHWM | most of RssAnon |", "|---|---|---|---|"]
    for name, packings in IMAGES.items():
        layout = Layout(layout.folder)
        packed = layout.image(packings, options.layer << 20)
        with Registry(work) as registry:
            reference = f"localhost:{registry.port}/large:1"
            measure(["skopeo", "copy", "-q", "--insecure-policy", "--dest-tls-verify=false", f"oci:{layout.folder}:1",
                     f"docker://{reference}"])
            shutil.rmtree(layout.folder)
            # Both: as many layers at a time as this machine takes by itself, and as one of many processors does.
            for threads in (None, 8):
                more = [] if threads is None else ["--threads", str(threads)]
                title = name if threads is None else f"{name}, {threads} at a time"
                series = Series(title, " ".join(["sconce pull -q", *more, "REF"]))
                shutil.rmtree(node, ignore_errors=True)
                os.sync()
                series.samples.append(measure([sconce, "pull", "-q", *more, reference], env={"SCONCE_HOME": str(node)}))
                section.rows.append(series)
                section.notes.append(f"| {title} | {len(packings)}, {packed / MIB:,.0f} MiB | {series.highest / MIB:,.0f} MiB "
                                     f"| {series.anonymous / MIB:,.0f} MiB |")
                budgets.append(Budget(f"memory of a pull: {title}", series.highest / MIB, BUDGET, "MiB"))
            shutil.rmtree(node, ignore_errors=True)
    section.notes += ["", "VmHWM is the most that was resident at once, mapped files of the program included, as the kernel kept it; RssAnon, "
                      "what no file backs, was read ten times a second. The page cache is in neither."]
    hidden = {sconce: "sconce", str(work): "$WORK"}
    programs = [[sconce, "--version"], ["skopeo", "--version"], ["zstd", "--version"]]
    page = Report(f"{options.machine}, sconce pull alone", hidden, programs).page([section], budgets, Path("/nonexistent"))
    page = page.replace("- 0 wheels, 0.00 GB\n", f"- each layer {options.layer} MiB unpacked\n")
    page = re.sub(r"- \*\*\* Zstandard CLI .* v([0-9.]+),.*", r"- zstd \1", page)
    path = HERE / "runs" / f"{datetime.date.today()}-{options.machine}-pulling.md"
    path.write_text(page)
    print(page)


if __name__ == "__main__":
    main()
