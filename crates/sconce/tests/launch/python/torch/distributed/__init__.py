"""Collectives that wait for ever, and those of a group."""
from .distributed_c10d import all_reduce
from .group import P2POp, batch_isend_irecv, destroy_process_group, init_process_group, irecv, isend, new_group
