"""What each rank runs first: it makes its stacks askable, then becomes the program.

    rank.py train.py ARGUMENTS    or    rank.py -m package.module ARGUMENTS

A signal of the real-time range writes the stacks of all threads to a file, from C and without the GIL
(faulthandler), so that a rank which waits in a collective can still be asked. An exception is written to
TORCHELASTIC_ERROR_FILE in torchrun's form, which only scripts with @record would do otherwise.
"""


def main():
    """All names are in here: the program gets the module's own for itself."""
    import faulthandler
    import json
    import os
    import runpy
    import signal
    import sys
    import threading
    import time
    import traceback

    here = os.path.dirname(os.path.abspath(__file__))
    own = (os.path.abspath(__file__), runpy.__file__, "<frozen runpy>")
    # Programs use SIGUSR1 and SIGUSR2 themselves (Slurm's requeue, for one).
    ask = signal.SIGRTMAX - 3

    def failed(kind, error, trace):
        # From the program's first frame on.
        while trace is not None and trace.tb_frame.f_code.co_filename in own:
            trace = trace.tb_next
        name = os.environ.get("TORCHELASTIC_ERROR_FILE")
        if name and not os.path.exists(name) and not issubclass(kind, KeyboardInterrupt):
            words = "".join(traceback.format_exception(kind, error, trace))
            about = {"py_callstack": words[-16384:], "timestamp": str(int(time.time()))}
            message = f"{kind.__name__}: {error}"[:2000]
            try:
                with open(name, "w") as file:
                    json.dump({"message": {"message": message, "extraInfo": about}}, file)
            except OSError:
                pass
        # What is printed is the traceback of the exception itself.
        error.__traceback__ = trace
        sys.__excepthook__(kind, error, trace)

    try:
        stacks = open(os.path.join(here, "stacks", os.environ.get("RANK", "0") + ".txt"), "a")
        faulthandler.register(ask, file=stacks, all_threads=True, chain=False)
        # One thread takes the signal. In any other it would end system calls of the program early (poll never goes
        # on by itself), which libraries take for an error: torch's store did.
        signal.pthread_sigmask(signal.SIG_BLOCK, {ask})

        def take():
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {ask})
            while True:
                threading.Event().wait()

        threading.Thread(target=take, name="sconce-launch", daemon=True).start()
    except (OSError, ValueError, AttributeError, RuntimeError) as error:
        print(f"sconce launch: this rank can't be asked for its stacks: {error}", file=sys.stderr)
    sys.excepthook = failed
    words = sys.argv[1:]
    if words[0] == "-m":
        sys.argv = words[1:]
        sys.path[0] = os.getcwd()
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
        return
    sys.argv = words
    path = os.path.abspath(words[0])
    sys.path[0] = os.path.dirname(path)
    with open(path, "rb") as file:
        code = compile(file.read(), words[0], "exec")
    # The program is __main__ itself, not a module beside it: what it pickles is found again.
    inside = sys.modules["__main__"].__dict__
    for name in [name for name in inside if not name.startswith("__")]:
        del inside[name]
    inside.update(__file__=words[0], __spec__=None, __doc__=None, __cached__=None)
    exec(code, inside)


main()
