"""Runs checks of a PyTorch environment from inside, each in a process of its own.

    python -B FOLDER --results FILE --gpus N NAME:SECONDS...

torch is imported once; each check is then a fork of this process, so that a crash, a hang or a changed
setting ends with it. CUDA is not touched before the fork: a CUDA context does not survive one. One line
of JSON for each check is appended to FILE (docs/format/verify.md); standard output and error belong to
the libraries.

Python 3.9 and later; torch 2.1 and later.
"""

import argparse
import faulthandler
import json
import math
import os
import resource
import signal
import sys
import tempfile
import time
import traceback

from sconce_checks import load
from sconce_checks.outcome import Failed, NotApplicable

# Seconds for `import torch`: from a cold network disk it is slow.
IMPORT_LIMIT = 120
# Of what a check printed, and of what it says.
MOST_OUTPUT = 1000
MOST_DETAIL = 1800
MOST_WORDS = 600


def report(results, name, verdict, detail, seconds, figures=None):
    line = {"check": name, "verdict": verdict, "detail": detail[:MOST_DETAIL], "seconds": round(seconds, 3)}
    # JSON has no infinity and no NaN.
    finite = {key: value for key, value in (figures or {}).items() if math.isfinite(value)}
    if finite:
        line["figures"] = finite
    os.write(results, (json.dumps(line) + "\n").encode())


def say(error):
    """An exception in one line: its kind and the first of its words."""
    words = " ".join(str(error).split())[:MOST_WORDS]
    return "%s: %s" % (type(error).__name__, words) if words else type(error).__name__


def where(error):
    """The innermost line of the checks' own that an exception came through: `matmul.py:40`."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if os.path.basename(os.path.dirname(frame.filename)) == "sconce_checks"]
    frame = (own or frames)[-1]
    return "%s:%d" % (os.path.basename(frame.filename), frame.lineno)


def judge(name, gpus):
    """Runs a check in this process: (verdict, detail, figures)."""
    try:
        detail, figures = load(name)(gpus)
        return "pass", detail, figures
    except NotApplicable as reason:
        return "not-applicable", str(reason), None
    except Failed as reason:
        return "fail", str(reason), None
    except BaseException as error:  # A check may raise anything, SystemExit too: it is its failure.
        return "fail", "%s (%s)" % (say(error), where(error)), None


def work(name, gpus, limit, answer, output):
    """The child's side: never returns."""
    try:
        os.setsid()
        nothing = os.open(os.devnull, os.O_RDONLY)
        for number, stream in ((0, nothing), (1, output.fileno()), (2, output.fileno())):
            os.dup2(stream, number)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        faulthandler.enable()
        # A hang tells where it hangs, just before its time is up.
        faulthandler.dump_traceback_later(max(limit - 1.0, limit * 0.8))
        result = judge(name, gpus)
        answer.write(json.dumps(result).encode())
        answer.flush()
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(0)


def wait(pid, limit):
    """The status of a child, or None when its time was up."""
    end = time.monotonic() + limit
    pause = 0.002
    while time.monotonic() < end:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return status
        time.sleep(pause)
        pause = min(pause * 1.5, 0.05)
    return None


def tail(output):
    """The last of what a check printed, in one line."""
    size = output.seek(0, os.SEEK_END)
    output.seek(max(0, size - MOST_OUTPUT))
    text = output.read().decode("utf-8", "replace")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return " | ".join(lines[-12:])


def run(results, name, gpus, limit):
    """Runs a check in a child and reports how it went."""
    begun = time.monotonic()
    with tempfile.TemporaryFile() as answer, tempfile.TemporaryFile() as output:
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid == 0:
            work(name, gpus, limit, answer, output)
        status = wait(pid, limit)
        # What the check started and left behind goes with it; a child that is gone already has none.
        try:
            os.killpg(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        if status is None:
            wait(pid, 2.0)
        seconds = time.monotonic() - begun
        answer.seek(0)
        try:
            verdict, detail, figures = json.loads(answer.read().decode())
        except ValueError:
            verdict, figures = "fail", None
            if status is None:
                detail = "no end after %g s" % limit
            elif os.WIFSIGNALED(status):
                detail = "it crashed: %s" % signal.Signals(os.WTERMSIG(status)).name
                if os.WTERMSIG(status) == signal.SIGKILL:
                    detail += " (the kernel does that when memory runs out)"
            else:
                detail = "it ended without an answer"
        # What a compiler or a library printed often is the reason.
        printed = tail(output) if verdict == "fail" else ""
        if printed:
            detail += "; last words: " + printed
        report(results, name, verdict, detail, seconds, figures)


def absent(error):
    """Whether an import failed because there is no torch, and not because torch is broken."""
    return isinstance(error, ModuleNotFoundError) and error.name == "torch"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--results", required=True)
    parser.add_argument("--gpus", type=int, required=True)
    parser.add_argument("plan", nargs="+", metavar="NAME:SECONDS")
    args = parser.parse_args()
    plan = [(name, float(limit)) for name, _, limit in (item.rpartition(":") for item in args.plan)]
    results = os.open(args.results, os.O_WRONLY | os.O_APPEND)
    # Read by the libraries when they are imported.
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")
    signal.alarm(IMPORT_LIMIT)
    try:
        import torch  # noqa: F401: the children use it
    except BaseException as error:
        verdict = "not-applicable" if absent(error) else "fail"
        reason = "there is no torch for this Python" if absent(error) else "import torch: " + say(error)
        for name, _ in plan:
            report(results, name, verdict, reason, 0.0)
        return
    signal.alarm(0)
    for name, limit in plan:
        run(results, name, args.gpus, limit)


main()
