#!/usr/bin/env python3
"""Locks what real projects ask for and compares the verdicts with those in corpus/projects.toml.

    scripts/check-corpus.py [--sconce PROGRAM] [--jobs N] [--only NAME ...] [--rotate N] [--write]

A verdict is `torch VERSION`, `no torch`, or `refused: WORDS`, where the words are a part of what sconce says.
`takes` names more that the lock must have: `python 3.11`, `sglang 0.5.23`.
Exit code 1 when one is another. Needs the package index and a Debian mirror that this machine is set to.
"""

import argparse
import concurrent.futures
import datetime
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time
import tomllib

HERE = pathlib.Path(__file__).resolve().parent.parent
CORPUS = HERE / "corpus" / "projects.toml"
# No project takes longer with a cold cache, seconds.
LONGEST = 600


def lock(sconce, project, day):
    """The verdict on a project, all that was said, and the seconds it took."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.monotonic()
        found, said = lock_in(sconce, project, day, pathlib.Path(folder))
        return found, said, time.monotonic() - start


def lock_in(sconce, project, day, folder):
    rows = "".join(f"    {requirement!r},\n" for requirement in project["requirements"])
    # A Python string with one kind of quotes is a TOML string too: none here has both.
    keys = project.get("environment", "")
    text = f"[environment]\nplatform = 'x86_64'\ndriver = 'any'\n{keys}requirements = [\n{rows}]\n"
    (folder / "sconce.toml").write_text(text)
    environment = {**os.environ, "UV_EXCLUDE_NEWER": day, "NO_COLOR": "1"}
    done = subprocess.run(
        [sconce, "lock", folder],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LONGEST,
    )
    said = done.stderr + done.stdout
    if done.returncode == 0:
        locked = tomllib.loads((folder / "sconce.lock").read_text())
        torch = locked.get("torch", {}).get("version")
        found = f"torch {torch}" if torch else "no torch"
        has = {wheel["name"]: wheel["version"] for wheel in locked.get("wheel", [])}
        has["python"] = locked["environment"]["python"]
        wanted = [taken.split() for taken in project.get("takes", [])]
        other = [f"{name} {has.get(name)}" for name, version in wanted if has.get(name) != version]
        return ", ".join([found, *other]), said
    if done.returncode in (3, 4):
        words = said.partition("error: ")[2].partition("\n  hint: ")[0]
        return "refused: " + " ".join(words.split()), said
    return f"failed with {done.returncode}", said


def agrees(verdict, found):
    """Of a refusal the words that stand in the file must be in what was said."""
    if verdict.startswith("refused: "):
        return found.startswith("refused: ") and verdict.removeprefix("refused: ") in found
    return verdict == found


def write(verdicts):
    """Puts verdicts into the file, in place of those that stand there."""
    out, name = [], None
    for line in CORPUS.read_text().splitlines():
        if found := re.fullmatch(r'name = "(.*)"', line):
            name = found[1]
        if line.startswith("verdict = ") and name in verdicts:
            line = "verdict = " + repr(verdicts[name][:160]).replace("\\'", "'")
        out.append(line)
    CORPUS.write_text("\n".join(out) + "\n")


def main():
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--sconce", default=HERE / "target/release/sconce")
    options.add_argument("--jobs", type=int, default=4)
    options.add_argument("--only", nargs="+", metavar="NAME")
    options.add_argument("--rotate", type=int, metavar="N")
    options.add_argument("--write", action="store_true")
    options = options.parse_args()
    corpus = tomllib.loads(CORPUS.read_text())
    projects = corpus["project"]
    if options.only:
        known = {project["name"] for project in projects}
        if unknown := set(options.only) - known:
            sys.exit(f"not in the corpus: {', '.join(sorted(unknown))}")
        projects = [project for project in projects if project["name"] in options.only]
    if options.rotate:
        day = datetime.date.today().toordinal()
        at = [(day * options.rotate + n) % len(projects) for n in range(options.rotate)]
        projects = [projects[n] for n in dict.fromkeys(at)]
    verdicts, wrong = {}, 0
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        locks = pool.map(lambda one: lock(options.sconce, one, corpus["exclude-newer"]), projects)
        for project, (found, said, taken) in zip(projects, locks):
            right = agrees(project["verdict"], found)
            print(f"{'ok' if right else 'WRONG':5} {taken:5.1f} s  {project['name']}: {found[:200]}", flush=True)
            if not right:
                wrong += 1
                verdicts[project["name"]] = found
                if project["verdict"]:
                    print(f"      expected: {project['verdict']}\n{said}", flush=True)
    print(f"{len(projects) - wrong} of {len(projects)} verdicts are right")
    if options.write:
        write(verdicts)
        return
    sys.exit(wrong > 0)


main()
