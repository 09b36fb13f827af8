"""All ranks meet before the first step: sums over all of them, within each machine, and bytes between neighbouring machines.

    preflight.py gpu|cpu

Each rank says on standard output, a line of JSON a stage, how far it has come: the rank that hangs is the one that has not come
as far as the others. Bandwidths are those of nccl-tests' PERFORMANCE.md, bytes a second; sums are compared, as a link or a GPU that
alters numbers is worse than a slow one.
"""

import datetime
import json
import os
import sys
import time

# Much longer than the launcher waits: it is the one who judges, and has the stages of all ranks then.
TIMEOUT = datetime.timedelta(hours=1)
# Bytes, and how often after the first time. Large enough that latency is little of it.
SUMMED = {"gpu": (256 << 20, 5), "cpu": (8 << 20, 3)}
SENT = {"gpu": (64 << 20, 4), "cpu": (8 << 20, 2)}


def say(stage, **about):
    print(json.dumps({"stage": stage, **about}), flush=True)


class Ranks:
    def __init__(self, kind):
        self.kind = kind
        self.rank = int(os.environ["RANK"])
        self.world = int(os.environ["WORLD_SIZE"])
        self.local = int(os.environ["LOCAL_RANK"])
        self.per_node = int(os.environ["LOCAL_WORLD_SIZE"])
        self.node = self.rank // self.per_node
        self.nodes = self.world // self.per_node

        import torch
        import torch.distributed

        self.torch, self.dist = torch, torch.distributed
        say("imported")
        self.device = torch.device("cuda", self.local) if kind == "gpu" else torch.device("cpu")
        if kind == "gpu":
            torch.cuda.set_device(self.device)
            say("device", gpu=torch.cuda.get_device_name(self.device))
        else:
            say("device")

    def ready(self):
        """Until what was asked of the GPU is done: calls return before."""
        if self.kind == "gpu":
            self.torch.cuda.synchronize(self.device)

    def together(self):
        """All ranks have come as far as this."""
        self.dist.all_reduce(self.torch.ones(1, device=self.device))
        self.ready()

    def sums(self, stage, group, members):
        """One sum and how fast it comes back. Each rank adds its number in the group plus one."""
        count, again = SUMMED[self.kind]
        expected = len(members) * (len(members) + 1) // 2
        mine = members.index(self.rank) + 1
        numbers = self.torch.full((count // 4,), float(mine), device=self.device)
        self.dist.all_reduce(numbers, group=group)
        wrong = int((numbers != expected).sum())
        numbers.fill_(0.0)
        self.dist.all_reduce(numbers, group=group)
        self.ready()
        began = time.perf_counter()
        for _ in range(again):
            self.dist.all_reduce(numbers, group=group)
        self.ready()
        each = (time.perf_counter() - began) / again
        ranks = len(members)
        say(stage, wrong=wrong, bytes=count, rate=2 * (ranks - 1) / ranks * count / each)

    def exchange(self, other):
        """Bytes go both ways between this rank and another; how fast one way is."""
        count, again = SENT[self.kind]
        out = self.torch.full((count // 4,), float(self.rank + 1), device=self.device)
        come = self.torch.zeros(count // 4, device=self.device)

        def once():
            both = [self.dist.P2POp(self.dist.isend, out, other), self.dist.P2POp(self.dist.irecv, come, other)]
            for work in self.dist.batch_isend_irecv(both):
                work.wait()

        once()
        wrong = int((come != other + 1).sum())
        self.ready()
        began = time.perf_counter()
        for _ in range(again):
            once()
        self.ready()
        rate = count * again / (time.perf_counter() - began)
        say("pair", node=self.node, other=other // self.per_node, wrong=wrong, bytes=count, rate=rate)

    def run(self):
        self.dist.init_process_group("nccl" if self.kind == "gpu" else "gloo", timeout=TIMEOUT)
        say("met")
        self.together()
        say("together")
        self.sums("all", None, list(range(self.world)))
        if self.nodes > 1 and self.per_node > 1:
            own = None
            for node in range(self.nodes):
                # Each rank has to make the groups of all others as well.
                members = list(range(node * self.per_node, (node + 1) * self.per_node))
                group = self.dist.new_group(members, timeout=TIMEOUT)
                own = group if node == self.node else own
            mine = self.node * self.per_node
            self.sums("inside", own, list(range(mine, mine + self.per_node)))
        for pairs in rounds(self.nodes):
            self.together()
            for one, two in pairs:
                if self.local == 0 and self.node in (one, two):
                    self.exchange((two if self.node == one else one) * self.per_node)
        self.together()
        say("done")
        self.dist.destroy_process_group()


def rounds(nodes):
    """Neighbours on a ring, so that each machine has two: who is slow with both of them is slow itself."""
    if nodes < 2:
        return []
    if nodes == 2:
        return [[(0, 1)]]
    ring = [(node, (node + 1) % nodes) for node in range(nodes)]
    last = [ring.pop()] if nodes % 2 else []
    return [part for part in (ring[0::2], ring[1::2], last) if part]


Ranks(sys.argv[1]).run()
