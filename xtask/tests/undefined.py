"""Names that a Python file uses and nobody defines: they would be found where the line runs, on a machine with GPUs.

    undefined.py FILE...
"""

import builtins
import symtable
import sys


def of_module(table):
    return {one.get_name() for one in table.get_symbols() if one.is_assigned() or one.is_imported() or one.is_namespace()}

def unknown(table, known):
    for one in table.get_symbols():
        if one.is_referenced() and one.is_global() and one.get_name() not in known:
            yield one.get_name()
    for child in table.get_children():
        yield from unknown(child, known)

bad = 0
for path in sys.argv[1:]:
    text = open(path, encoding="utf-8").read()
    table = symtable.symtable(text, path, "exec")
    known = of_module(table) | set(dir(builtins)) | {"__file__", "__name__", "__path__", "__doc__", "__package__"}
    for name in sorted(set(unknown(table, known))):
        print(f"{path}: `{name}` is not defined")
        bad = 1
sys.exit(bad)
