"""Compiles lists of Python files. Runs in a container, with the Python of the image.

    compile.py LIST OUT WORKERS

LIST has a line for each file: the number of its layer, a space, its path. The bytecode goes below
OUT/NUMBER, where it would lie beside its source: layers may share a file, and each has its own
bytecode of it. Every CHUNK files of a layer are compiled in a process of their own, forked from
this one before it has compiled anything: marshal marks an object as shared by its reference count,
so what a process compiled before reaches the bytes. This way they depend on the layer alone: on no
other layer, and not on the number of workers.

A file that is no Python, or larger than any that people write, is left out without a word; one that can't be read or written (a full disk)
is an error, and so is a process that dies.
"""

import gc
import importlib.util
import os
import py_compile
import resource
import sys

CHUNK = 64
# A source of more bytes has no bytecode: the compiler takes a hundred times as much memory.
MAX_SOURCE = 8 << 20
# The memory of one process, bytes; a source that takes more is an error and not a machine without memory.
MAX_MEMORY = 4 << 30
MODE = py_compile.PycInvalidationMode.UNCHECKED_HASH


def compile_chunk(out, paths):
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY, MAX_MEMORY))
    for path in paths:
        try:
            if os.stat(path).st_size > MAX_SOURCE:
                continue
            compiled = out + importlib.util.cache_from_source(path)
            py_compile.compile(path, compiled, doraise=True, invalidation_mode=MODE)
        except py_compile.PyCompileError:
            pass
        except MemoryError:
            raise MemoryError(f"{path} takes more than {MAX_MEMORY >> 30} GiB to compile") from None


def main(list_path, out, workers):
    layers = {}
    with open(list_path, encoding="utf-8", newline="\n") as file:
        for line in file:
            number, path = line.rstrip("\n").split(" ", 1)
            layers.setdefault(number, []).append(path)
    chunks = []
    for number, paths in layers.items():
        folder = os.path.join(out, number)
        chunks += [(folder, paths[at : at + CHUNK]) for at in range(0, len(paths), CHUNK)]
    gc.disable()
    running = 0
    failed = 0
    for folder, chunk in chunks:
        if running >= workers:
            failed |= os.wait()[1]
            running -= 1
        if os.fork() == 0:
            try:
                compile_chunk(folder, chunk)
            except BaseException as error:
                sys.stderr.write(f"{chunk[0]} and what follows: {error!r}\n")
                sys.stderr.flush()
                os._exit(2)
            os._exit(0)
        running += 1
    while running:
        failed |= os.wait()[1]
        running -= 1
    if failed:
        sys.stderr.write("compiling failed; is there enough disk and memory?\n")
        sys.exit(2)


main(sys.argv[1], sys.argv[2], max(1, int(sys.argv[3])))
