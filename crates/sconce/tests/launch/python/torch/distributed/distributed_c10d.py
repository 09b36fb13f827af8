"""One collective, which waits for ever where there is no group."""
import time

from .group import GROUP


def all_reduce(tensor=None, group=None):
    while GROUP.base is None:
        time.sleep(60)
    GROUP.add(tensor, group or list(range(GROUP.world)))
