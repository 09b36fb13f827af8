"""One node of a launch: starts torchrun when told, and says what its ranks do.

Lines of JSON go out, one an event; lines of words come in: `beat`, `listen PORT`, `reach ADDRESS PORT`,
`check JSON`, `go JSON`, `stacks NUMBER`, `stop`. The launcher is the node's lease: when its lines end, or none comes for a while,
everything started here ends, whatever became of the launcher.
"""

import base64
import fcntl
import glob
import json
import os
import re
import resource
import signal
import socket
import struct
import subprocess
import sys
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
LOGS = os.path.join(HERE, "logs")
STACKS = os.path.join(HERE, "stacks")
ASK = signal.SIGRTMAX - 3
LONGEST_LINE = 16384
LONGEST_FILE = 4 << 20
# NCCL's own answers about a job, on by default since 2.24 (nccl src/ras/client_support.cc).
RAS = ("127.0.0.1", 28028)
# From the first look at the ranks to the second, and how often they are glanced at meanwhile.
BETWEEN = 2.0
GLANCES = 0.1
# How often a rank is said to be elsewhere.
MOST_GLANCES = 5
LONGEST_GLANCE = 16384

STOPPED = "told to stop"
# The exit code where the lease has ended.
NO_LAUNCHER = 3

out_lock = threading.Lock()


def say(kind, **about):
    about["t"] = kind
    line = (json.dumps(about) + "\n").encode()
    with out_lock:
        try:
            os.write(1, line) if len(line) <= 4096 else write_all(line)
        except OSError:
            pass


def write_all(line):
    while line:
        line = line[os.write(1, line):]


def torch_folder():
    """Where torch is, without importing it, which takes seconds."""
    import importlib.util

    spec = importlib.util.find_spec("torch")
    return os.path.dirname(spec.origin) if spec and spec.origin else None


def read(path, limit=65536):
    try:
        with open(path, "rb") as file:
            return file.read(limit).decode(errors="replace")
    except OSError:
        return ""


def addresses():
    """This machine's IPv4 addresses by interface, the default route's first."""
    found = []
    default = [line.split()[0] for line in read("/proc/net/route").splitlines()[1:] if line.split()[1:2] == ["00000000"]]
    probe = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    for _, name in socket.if_nameindex():
        try:
            ask = struct.pack("256s", name.encode()[:15])
            reply = fcntl.ioctl(probe, 0x8915, ask)  # SIOCGIFADDR
        except OSError:
            continue
        found.append((name, socket.inet_ntoa(reply[20:24])))
    probe.close()
    found = [(name, address) for name, address in found if not address.startswith("127.")]
    return sorted(found, key=lambda pair: pair[0] not in default)


def hello(node):
    folder = torch_folder()
    version = re.search(r"__version__ = '([^']+)'", read(os.path.join(folder, "version.py"))) if folder else None
    shm = os.statvfs("/dev/shm") if os.path.isdir("/dev/shm") else None
    disk = os.statvfs(HERE)
    say(
        "hello",
        node=node,
        host=socket.gethostname(),
        time=time.time(),
        python=sys.version.split()[0],
        torch=version.group(1) if version else None,
        gpus=len([name for name in os.listdir("/dev") if re.fullmatch(r"nvidia\d+", name)]),
        cpus=len(os.sched_getaffinity(0)),
        shm=shm.f_frsize * shm.f_bavail if shm else 0,
        disk=disk.f_frsize * disk.f_bavail,
        memlock=resource.getrlimit(resource.RLIMIT_MEMLOCK)[0],
        addresses=[address for _, address in addresses()],
    )


class Node:
    def __init__(self, rank, limit):
        self.rank = rank
        self.limit = limit
        self.heard = time.monotonic()
        self.orders = []
        self.gone = None
        self.process = None
        self.env = {}
        self.checking = False
        self.listener = None
        self.per_node = 0
        self.offsets = {}
        self.rest = {}
        self.errors = b""

    # What comes in, and the two threads that keep up the lease.

    def listen_to_launcher(self):
        for line in sys.stdin:
            self.heard = time.monotonic()
            if line.strip() == "stop":
                self.gone = self.gone or STOPPED
            elif line.strip() != "beat":
                self.orders.append(line.strip())
        self.gone = self.gone or "the launcher has gone"

    def beat(self):
        while True:
            say("beat")
            time.sleep(1)
            if time.monotonic() - self.heard > self.limit:
                self.gone = self.gone or f"no word of the launcher for {self.limit} s"

    def run(self):
        for work in (self.listen_to_launcher, self.beat):
            threading.Thread(target=work, daemon=True).start()
        hello(self.rank)
        while not self.gone:
            for order in self.orders[:]:
                self.orders.remove(order)
                word, _, rest = order.partition(" ")
                if word == "listen":
                    self.listen(int(rest))
                elif word == "reach":
                    self.reach(*rest.split())
                elif word in ("check", "go"):
                    self.start(json.loads(rest), checking=word == "check")
                elif word == "stacks":
                    self.stacks(int(rest))
            if self.process:
                ended = self.process.poll()
                self.follow(ended is not None)
                if ended is not None:
                    self.end(ended)
                    if not self.checking:
                        return 0 if ended == 0 else 1
                    self.process = None
            time.sleep(0.02)
        self.stop()
        # Whoever started this may clean up then: no launcher will.
        return 1 if self.gone == STOPPED else NO_LAUNCHER

    # Before the first step.

    def listen(self, port):
        try:
            self.listener = socket.create_server(("", port), backlog=128)
            say("listening", ok=True, why="")
        except OSError as error:
            say("listening", ok=False, why=f"port {port}: {error.strerror}")

    def reach(self, address, port):
        try:
            socket.create_connection((address, int(port)), timeout=3).close()
            say("reached", ok=True, address=address, why="")
        except OSError as error:
            say("reached", ok=False, address=address, why=f"{address} port {port}: {error}")

    def interface(self, master):
        """The interface of the route to node 0, and this machine's address there."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect((master, 9))
            mine = probe.getsockname()[0]
        for name, address in addresses():
            if address == mine:
                return name, mine
        return "lo", mine

    def start(self, order, checking):
        if self.listener:
            self.listener.close()
        self.checking = checking
        self.errors = b""
        # Each attempt has its own: nothing of an earlier one is read again.
        self.logs = os.path.join(LOGS, order["id"])
        for folder in (self.logs, STACKS):
            os.makedirs(folder, exist_ok=True)
        self.env = env = dict(os.environ)
        env.update(order["env"])
        words = list(order["words"])
        self.per_node = order["per_node"]
        folder = torch_folder()
        knows = read(os.path.join(folder, "distributed", "run.py"), 1 << 20) if folder else ""
        if order.get("master"):
            name, mine = self.interface(order["master"])
            why = f"the interface of the route to node 0, {order['master']}"
            for variable, value in (("NCCL_SOCKET_IFNAME", "=" + name), ("GLOO_SOCKET_IFNAME", name)):
                if variable not in env:
                    env[variable] = value
                    say("choice", name=variable, value=value, why=why)
            local = mine
        else:
            local = "127.0.0.1"
        if "local_addr" in knows:
            words.insert(0, f"--local_addr={local}")
        env["TORCHELASTIC_ERROR_FILE"] = os.path.join(HERE, "error.json")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "torch.distributed.run", *words],
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        os.set_blocking(self.process.stdout.fileno(), False)
        say("started", pid=self.process.pid)

    # While it runs.

    def follow(self, last):
        for path in glob.glob(os.path.join(glob.escape(self.logs), "*", "attempt_*", "*", "std*.log")):
            parts = path.split(os.sep)
            if not parts[-2].isdigit():
                continue
            rank = self.rank * self.per_node + int(parts[-2])
            stream = "err" if parts[-1] == "stderr.log" else "out"
            try:
                with open(path, "rb") as file:
                    file.seek(self.offsets.get(path, 0))
                    data = file.read(1 << 20)
            except OSError:
                continue
            self.offsets[path] = self.offsets.get(path, 0) + len(data)
            self.lines(path, data, last, lambda text: say("line", rank=rank, stream=stream, text=text))
        while True:
            try:
                data = self.process.stdout.read(65536)
            except OSError:
                data = None
            if not data:
                break
            self.errors = (self.errors + data)[-65536:]

    def lines(self, key, data, last, tell):
        text = self.rest.pop(key, b"") + data
        # A progress bar draws its line again and again: the last of them counts.
        *whole, rest = text.split(b"\n")
        for line in whole:
            tell(line.rstrip(b"\r").split(b"\r")[-1][:LONGEST_LINE].decode(errors="replace"))
        if rest and (last or len(rest) > LONGEST_LINE):
            tell(rest.split(b"\r")[-1][:LONGEST_LINE].decode(errors="replace"))
            rest = b""
        if rest:
            self.rest[key] = rest

    def ranks(self):
        """The processes of the ranks: torchrun's children that have a RANK."""
        found = {}
        for name in os.listdir("/proc"):
            if not name.isdigit():
                continue
            parent = re.search(r"^PPid:\s*(\d+)", read(f"/proc/{name}/status"), re.M)
            if not parent or int(parent.group(1)) != self.process.pid:
                continue
            env = dict(item.split("=", 1) for item in read(f"/proc/{name}/environ", 1 << 20).split("\0") if "=" in item)
            if env.get("RANK", "").isdigit():
                found[int(env["RANK"])] = int(name)
        return found

    def stacks(self, order):
        """Looks at the ranks twice, and between the looks at where they are and no longer; asks NCCL before and after."""
        ranks = self.ranks() if self.process else {}
        self.nccl(order, 1)
        before = self.look(order, 1, ranks)
        self.glances(order, ranks, before)
        self.look(order, 2, ranks)
        self.nccl(order, 2)
        for rank in ranks:
            try:
                os.truncate(stacks_of(rank), 0)
            except OSError:
                pass
        self.recorders(ranks)
        say("asked", order=order, ranks=sorted(ranks))

    def look(self, order, look, ranks):
        sizes, ticks, texts = {}, {}, {}
        for rank, pid in ranks.items():
            ticks[rank] = cpu_ticks(pid)
            sizes[rank] = ask(rank, pid)
        time.sleep(0.6)
        for rank, pid in sorted(ranks.items()):
            python, why = "", ""
            if sizes[rank] is None:
                why = "it has not registered its stacks: it was not started as a Python program, or has not come so far"
            else:
                python = since(rank, sizes[rank], 65536)
                why = "" if python else "it did not answer within 0.6 s"
            texts[rank] = python
            state = re.search(r"^State:\s*(\S+)", read(f"/proc/{pid}/status"), re.M)
            say(
                "stack",
                order=order,
                look=look,
                rank=rank,
                pid=pid,
                state=state.group(1) if state else "gone",
                wchan=read(f"/proc/{pid}/wchan", 200),
                syscall=read(f"/proc/{pid}/syscall", 200).strip(),
                kernel=read(f"/proc/{pid}/stack", 4096),
                cpu=round((cpu_ticks(pid) - ticks[rank]) / os.sysconf("SC_CLK_TCK") / 0.6, 2),
                python=python,
                why=why,
            )
        return texts

    def glances(self, order, ranks, before):
        """Says which ranks are elsewhere than at the first look; whether they moved is judged where all is known."""
        said = dict.fromkeys(ranks, 0)
        end = time.monotonic() + BETWEEN
        while time.monotonic() < end and not self.gone:
            sizes = {rank: ask(rank, pid) for rank, pid in ranks.items() if before[rank] and said[rank] < MOST_GLANCES}
            time.sleep(GLANCES)
            for rank, size in sizes.items():
                now = main_thread(since(rank, size, 1 << 20)) if size is not None else ""
                if now and now != main_thread(before[rank]):
                    said[rank] += 1
                    say("glance", order=order, rank=rank, python=now[:LONGEST_GLANCE])
            # A line that comes meanwhile is a sign of life.
            self.follow(False)

    def nccl(self, order, look):
        answer = ask_ras(self.env.get("NCCL_RAS_ADDR"))
        if answer:
            say("nccl", order=order, look=look, answer=answer.decode(errors="replace"))
            say("file", name=f"nccl-ras-node{self.rank}.json", data=base64.b64encode(answer).decode())

    def recorders(self, ranks):
        """Has torch dump its flight recorder where it listens for that, and passes the dumps on."""
        pipes = [path for rank in ranks for path in glob.glob(os.path.join(HERE, f"fr_pipe_{rank}.pipe"))]
        for path in pipes:
            try:
                fd = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
                os.write(fd, b"1\n")
                os.close(fd)
            except OSError:
                pass
        if pipes:
            time.sleep(2)
        for path in glob.glob(os.path.join(HERE, "fr_*")):
            if os.path.isfile(path) and os.path.getsize(path) <= LONGEST_FILE:
                with open(path, "rb") as file:
                    data = base64.b64encode(file.read()).decode()
                say("file", name=os.path.basename(path), data=data)

    # The end.

    def end(self, code):
        failures = []
        for path in glob.glob(os.path.join(glob.escape(self.logs), "*", "attempt_*", "*", "error.json")):
            local = path.split(os.sep)[-2]
            try:
                message = json.loads(read(path, 1 << 20))["message"]
                about = message if isinstance(message, dict) else {"message": message}
                extra = about.get("extraInfo") or {}
                failures.append(
                    {
                        "rank": self.rank * self.per_node + int(local),
                        "message": str(about.get("message"))[:2000],
                        "trace": str(extra.get("py_callstack", ""))[-16384:],
                        "time": float(extra.get("timestamp") or os.path.getmtime(path)),
                        "written": os.path.getmtime(path),
                    }
                )
            except (ValueError, KeyError, TypeError, OSError, AttributeError):
                continue
        failures.sort(key=lambda failure: failure["written"])
        words = self.errors.decode(errors="replace")
        say("checked" if self.checking else "end", code=code, failures=failures, codes=exit_codes(words), words=words[-16384:])

    def stop(self):
        say("stopping", why=self.gone)
        if not self.process:
            return
        pid = self.process.pid
        ranks = self.ranks()
        try:
            os.kill(pid, signal.SIGTERM)
        except OSError:
            pass
        end = time.monotonic() + 5
        while self.process.poll() is None and time.monotonic() < end:
            self.follow(False)
            time.sleep(0.05)
        self.follow(True)
        for group in [pid, *ranks.values()]:
            try:
                os.killpg(group, signal.SIGKILL)
            except OSError:
                pass


def exit_codes(words):
    """Exit codes by rank, of torchrun's words, the root cause first: it has no other place for them."""
    found = []
    root = words.rfind("Root Cause")
    parts = (words[root:], words[:root]) if root >= 0 else (words,)
    for part in parts:
        for match in re.finditer(r"rank\s*:\s*(\d+) \(local_rank: \d+\)\s*\n\s*exitcode\s*:\s*(-?\d+)", part):
            if int(match.group(1)) not in [rank for rank, _ in found]:
                found.append((int(match.group(1)), int(match.group(2))))
    return [{"rank": rank, "code": code} for rank, code in found]


def cpu_ticks(pid):
    fields = read(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12]) if len(fields) > 12 else 0


def stacks_of(rank):
    return os.path.join(STACKS, f"{rank}.txt")


def ask(rank, pid):
    """Has a rank write its stacks behind what its file has: how much that is, or nothing where it can't be asked."""
    try:
        size = os.path.getsize(stacks_of(rank))
        caught = re.search(r"^SigCgt:\s*([0-9a-f]+)", read(f"/proc/{pid}/status"), re.M)
        # Without a handler the signal would end the process.
        if caught and int(caught.group(1), 16) >> (ASK - 1) & 1:
            os.kill(pid, ASK)
            return size
    except OSError:
        pass
    return None


def since(rank, size, limit):
    try:
        with open(stacks_of(rank), "rb") as file:
            file.seek(size)
            return file.read(limit).decode(errors="replace")
    except OSError:
        return ""


def main_thread(text):
    """The last thread of a dump is the main one (CPython, `_Py_DumpTracebackThreads`)."""
    at = max(text.rfind("Thread 0x"), text.rfind("Current thread 0x"))
    return text[at:] if at >= 0 else ""


def ras_address(given):
    """Where NCCL listens: numbers, or localhost; a name is not looked up."""
    host, _, port = (given or "").replace("localhost:", "127.0.0.1:").rpartition(":")
    host = host.strip("[]")
    if not given:
        return RAS
    return (host, int(port)) if port.isdigit() and re.fullmatch(r"[0-9.]+|[0-9a-fA-F:]+", host) else None


def ask_ras(given):
    address = ras_address(given)
    if not address:
        return None
    try:
        with socket.create_connection(address, timeout=1) as ras:
            ras.settimeout(5)
            answers = ras.makefile("rb")
            ras.sendall(b"CLIENT PROTOCOL 2\n")
            if not answers.readline().startswith(b"SERVER PROTOCOL"):
                return None
            for order in (b"TIMEOUT 3\n", b"SET FORMAT json\n"):
                ras.sendall(order)
                answers.readline()
            ras.sendall(b"STATUS\n")
            return answers.read(LONGEST_FILE)
    except OSError:
        return None


def main():
    rank, limit = int(sys.argv[1]), float(sys.argv[2])
    # Ctrl-C at the terminal is the launcher's: it tells.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    node = Node(rank, limit)

    def ended(number, _):
        node.gone = node.gone or f"signal {number}"

    signal.signal(signal.SIGTERM, ended)
    signal.signal(signal.SIGHUP, ended)
    sys.exit(node.run())


if __name__ == "__main__":
    main()
