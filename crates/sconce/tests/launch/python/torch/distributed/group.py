"""A group of ranks that meet in files of a folder that all of them see: $FAKE_GROUP.

What goes wrong is said by $FAKE_FAULT: `KIND:MACHINE`, which fails, hangs, is wrong or is slow.
"""
import os
import re
import time

SLOW = 0.4


def machine():
    """What the tests' ssh calls this machine: part of the folder that the launcher made there."""
    with open("/proc/self/mountinfo") as file:
        found = re.search(r"tmp-of-([^/]+)/\S* /run/sconce-launch ", file.read())
    return found.group(1) if found else "here"


class Group:
    def __init__(self):
        self.base = None

    def init(self):
        # Each torchrun has its own: what an earlier one left is not met again.
        run = os.environ["TORCHELASTIC_RUN_ID"]
        self.base = os.path.join(os.environ["FAKE_GROUP"], run)
        self.rank, self.world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        self.per_node = int(os.environ["LOCAL_WORLD_SIZE"])
        kind, _, where = os.environ.get("FAKE_FAULT", ":").partition(":")
        fault = kind if where == machine() else ""
        self.is_wrong, self.is_slow = fault == "wrong", fault == "slow"
        self.counts = {}
        if fault == "fails":
            raise RuntimeError("CUDA error: uncorrectable ECC error encountered")
        if fault == "hangs":
            time.sleep(600)
        os.makedirs(self.base, exist_ok=True)

    def say(self, name, value):
        path = os.path.join(self.base, f"{name}-{self.rank}")
        with open(path + ".part", "w") as file:
            file.write(str(value))
        os.rename(path + ".part", path)

    def hear(self, name, rank):
        path = os.path.join(self.base, f"{name}-{rank}")
        while not os.path.exists(path):
            time.sleep(0.005)
        with open(path) as file:
            return float(file.read())

    def add(self, tensor, members):
        key = "-".join(map(str, (members[0], members[-1], len(members))))
        self.counts[key] = self.counts.get(key, 0) + 1
        name = f"sum-{key}-{self.counts[key]}"
        self.say(name, tensor.value)
        tensor.value = sum(self.hear(name, rank) for rank in members) + (0.5 if self.is_wrong else 0)


GROUP = Group()


def init_process_group(backend, timeout=None):
    GROUP.init()


def destroy_process_group():
    pass


def new_group(members, timeout=None):
    return members


class Done:
    def wait(self):
        pass


def isend(tensor, other):
    key = f"send-{GROUP.rank}-{other}"
    GROUP.counts[key] = GROUP.counts.get(key, 0) + 1
    if GROUP.is_slow:
        time.sleep(SLOW)
    GROUP.say(f"{key}-{GROUP.counts[key]}", tensor.value)


def irecv(tensor, other):
    key = f"send-{other}-{GROUP.rank}"
    GROUP.counts[key] = GROUP.counts.get(key, 0) + 1
    tensor.value = GROUP.hear(f"{key}-{GROUP.counts[key]}", other)


class P2POp:
    def __init__(self, work, tensor, other):
        self.work, self.tensor, self.other = work, tensor, other


def batch_isend_irecv(works):
    for work in works:
        work.work(work.tensor, work.other)
    return [Done()]
