"""Compiles lists of Python files. Runs in a container, with the Python of the image.

    compile.py LIST WORKERS

LIST has a path a line and an empty line between layers. Every CHUNK files of a layer are compiled
in a process of their own, forked from this one before it has compiled anything: marshal marks an
object as shared by its reference count, so what a process compiled before reaches the bytes. This
way they depend on the layer alone: on no other layer, and not on the number of workers.

A file that is no Python is left out without a word; one that can't be read or written (a full disk)
is an error, and so is a process that dies.
"""

import gc
import os
import py_compile
import sys

CHUNK = 64
MODE = py_compile.PycInvalidationMode.UNCHECKED_HASH


def compile_chunk(paths):
    for path in paths:
        try:
            py_compile.compile(path, doraise=True, invalidation_mode=MODE)
        except py_compile.PyCompileError:
            pass


def main(list_path, workers):
    with open(list_path, encoding="utf-8") as file:
        layers = [layer.split("\n") for layer in file.read().split("\n\n")]
    chunks = []
    for layer in layers:
        paths = [path for path in layer if path]
        chunks += [paths[at : at + CHUNK] for at in range(0, len(paths), CHUNK)]
    gc.disable()
    running = 0
    failed = 0
    for chunk in chunks:
        if running >= workers:
            failed |= os.wait()[1]
            running -= 1
        if os.fork() == 0:
            try:
                compile_chunk(chunk)
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


main(sys.argv[1], max(1, int(sys.argv[2])))
