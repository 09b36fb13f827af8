"""What torch makes of this machine: `python PROGRAM [--effort EFFORT] [--seed N] GROUP FIGURE...`.

For each figure two lines on standard output: `{"begin": NAME}`, and a figure or the reason why there is none, in the form
that sconce's `bench` reads. What libraries print goes to standard error.
"""

import argparse
import ctypes
import json
import os
import signal
import sys
import tempfile

from sconce_figures import GROUPS, Unavailable, Wrong, load


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--effort", default="usual")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("group", choices=sorted(GROUPS))
    parser.add_argument("figures", nargs="+")
    args = parser.parse_args()
    # Whoever waits for this may be killed, and then nobody would end it: PR_SET_PDEATHSIG is 1 (prctl(2)).
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    with tempfile.TemporaryDirectory(prefix="sconce-bench-") as folder:
        # What torch.compile made before would be no compilation, and what it makes here is nobody else's.
        os.environ.update(TORCHINDUCTOR_CACHE_DIR=folder, TRITON_CACHE_DIR=os.path.join(folder, "triton"))
        measure(args, answers)


def measure(args, answers):

    def say(line):
        answers.write(json.dumps(line) + "\n")
        answers.flush()

    def reason(name, error):
        words = " ".join(str(error).split()) or type(error).__name__
        # What loads data needs no GPU.
        return {"figure": name, "gpus": [] if args.group == "loader" else [0], "reason": words[:400]}

    try:
        group = load(args.group)(args)
    except Exception as error:
        for name in args.figures:
            say({"unavailable": reason(name, error)})
        return
    for name in args.figures:
        say({"begin": name})
        try:
            say({"figure": group.measure(name)})
        except Wrong as error:
            say({"wrong": reason(name, error)})
        except Unavailable as error:
            say({"unavailable": reason(name, error)})
        except Exception as error:  # One that fails is no reason not to measure the next.
            say({"unavailable": reason(name, "%s: %s" % (type(error).__name__, error))})


if __name__ == "__main__":
    sys.exit(main())
