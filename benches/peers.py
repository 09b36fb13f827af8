"""The peers, made ready before any clock starts: a Debian root, Docker, a crun bundle,
and the same wheels installed for a Python without a container.

Everything lies in one work folder and is made once; a second run of the benches finds it.
"""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

from measure import Failed, measure

SUITE = "trixie"  # the Debian release that sconce takes for Python 3.13
PACKAGES = "python3-venv,python3-pip,python3-dev,g++,ca-certificates"
BASE, WHEELS, IMAGE = "sconce-bench-base", "wheels", "sconce-bench-pip"


def have(program: str) -> bool:
    return shutil.which(program) is not None


def debian_root(work: Path) -> Path:
    """The root file system that Docker, crun and the host's own Python start from."""
    root = work / "root"
    if not (root / "usr/bin/python3").exists():
        shutil.rmtree(root, ignore_errors=True)
        measure(["debootstrap", "--variant=minbase", f"--include={PACKAGES}", SUITE, str(root), _mirror()])
    return root


def _mirror() -> str:
    """Where this machine's own apt gets Debian from."""
    listed = subprocess.run(["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"],
                            capture_output=True, text=True, check=True).stdout.split()
    mirrors = [uri for uri in listed if uri.rstrip("/").endswith("debian")]
    if not mirrors:
        raise Failed("apt names no Debian mirror, so debootstrap has none to use.")
    return mirrors[0]


def host_python(work: Path, wheels: Path) -> list[str]:
    """The same interpreter build and wheels as in the images, bytecode written, run from
    the host's disk with nothing but a chroot between: the command up to its arguments."""
    root = work / "host"
    python = root / "opt/venv/bin/python"
    if not (root / "opt/venv/ready").exists():
        shutil.rmtree(root, ignore_errors=True)
        subprocess.run(["cp", "-a", debian_root(work), root], check=True)
        (root / "wheels").mkdir()
        inside = "python3 -m venv /opt/venv && /opt/venv/bin/pip install --no-cache-dir --no-index --find-links /wheels torch numpy"
        measure(["unshare", "--mount", "sh", "-ec",
                 f"mount --bind '{wheels}' '{root}/wheels'; exec chroot '{root}' sh -ec '{inside}'"])
        (root / "opt/venv/ready").touch()
    if not (root / "dev/null").exists():
        raise Failed(f"{python} has no /dev/null beside it.")
    return ["chroot", str(root), "/opt/venv/bin/python"]


def crun_bundle(work: Path) -> Path:
    """What a runtime costs when nothing is left to decide: `true` over a ready root."""
    bundle = work / "bundle"
    bundle.mkdir(parents=True, exist_ok=True)
    (bundle / "config.json").unlink(missing_ok=True)
    subprocess.run(["crun", "spec"], cwd=bundle, check=True, capture_output=True)
    config = json.loads((bundle / "config.json").read_text())
    config["process"].update(terminal=False, args=["true"])
    config["root"] = {"path": str(debian_root(work)), "readonly": True}
    (bundle / "config.json").write_text(json.dumps(config))
    return bundle


def crun_wrapper() -> list[str]:
    """crun refuses a hybrid machine whose cgroup 2 side still has controllers: there it must
    not see that side. The wrapper's own time is a row of the report."""
    controllers = Path("/sys/fs/cgroup/unified/cgroup.controllers")
    if not (controllers.exists() and controllers.read_text().strip()):
        return []
    return ["unshare", "--mount", "sh", "-ec", 'umount /sys/fs/cgroup/unified; exec "$@"', "sh"]


class Docker:
    """A Docker engine of our own: its data in the work folder, no bridge, no firewall rules."""

    def __init__(self, client: str, work: Path, pid: int) -> None:
        self.client, self.pid = client, pid
        self.env = {"DOCKER_HOST": f"unix://{work}/docker/engine.sock", "DOCKER_BUILDKIT": self.buildkit()}

    def __call__(self, *arguments: str) -> str:
        return measure([self.client, *arguments], env=self.env, sampled=False).output

    def buildkit(self) -> str:
        """From Docker 23 on BuildKit is a plugin (Debian's docker-buildx): without it only the old builder is there."""
        said = subprocess.run([self.client, "--version"], capture_output=True, text=True).stdout
        major = re.search(r"version (\d+)", said)
        plugin = subprocess.run([self.client, "buildx", "version"], capture_output=True).returncode == 0
        return "1" if plugin or (major and int(major[1]) < 23) else "0"

    def load_base(self, work: Path, wheels: Path) -> None:
        """Images of the Debian root and of the wheels, so that neither is sent while timed."""
        for name, folder in ((BASE, debian_root(work)), (WHEELS, wheels)):
            if not self("image", "ls", "--quiet", name).strip():
                pipe = f"tar -C '{folder}' -c . | {self.client} import - {name}"
                measure(["sh", "-ec", pipe], env=self.env, sampled=False)


@contextlib.contextmanager
def docker_engine(work: Path, client: str = "docker"):
    """Starts `dockerd`, waits until it answers, and ends it by its process id."""
    home = work / "docker"
    home.mkdir(parents=True, exist_ok=True)
    (home / "engine.pid").unlink(missing_ok=True)
    with open(home / "log", "wb") as log:
        daemon = subprocess.Popen(
            ["dockerd", "--data-root", str(home / "data"), "--exec-root", str(home / "exec"), "--host",
             f"unix://{home}/engine.sock", "--pidfile", str(home / "engine.pid"), "--bridge=none", "--iptables=false"],
            stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
    docker = Docker(client, work, daemon.pid)
    try:
        for _ in range(60):
            time.sleep(0.5)
            if daemon.poll() is not None:
                raise Failed(f"dockerd ended with {daemon.returncode}; its words are in {home}/log.")
            with contextlib.suppress(Failed):
                docker("version")
                break
        else:
            raise Failed(f"dockerd does not answer after 30 s; its words are in {home}/log.")
        yield docker
    finally:
        if daemon.poll() is None:
            os.kill(daemon.pid, signal.SIGTERM)
            daemon.wait(timeout=60)
        subprocess.run(["umount", str(home / "exec/netns/default")], capture_output=True)  # dockerd leaves it
