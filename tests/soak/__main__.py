"""`make soak`: the long attacks on the server (docs/evidence.md).

python -m tests.soak [PART ...] [--seed SEED] [--scale SCALE] [--keep FOLDER]

For each part it prints one line of JSON: figures, seconds, seed, commit. The first failure ends the run, with
the seed and the command that repeats it.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

from tests.memory import in_memory
from tests.soak.parts import PARTS, Place
from tests.spec.markdown import ROOT


def parsed(arguments: list[str]) -> argparse.Namespace:
    """Return the options in a command line. A wrong one raises SystemExit."""
    parser = argparse.ArgumentParser(prog="make soak", description="the attack on the server, in full")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"any of {', '.join(PARTS)}; all by default")
    parser.add_argument(
        "--seed", default=str(int.from_bytes(os.urandom(4), "big")), help="repeats the choices"
    )
    parser.add_argument("--scale", type=float, default=1.0, help="1 for the full figures")
    parser.add_argument("--keep", type=Path, help="a folder for what a failure leaves (default: a new one)")
    given = parser.parse_args(arguments)
    unknown = set(given.parts) - PARTS.keys()
    if unknown:
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    return given


def main(arguments: list[str]) -> int:
    """Run the named parts, or all parts if none is named; stop at the first failure."""
    given = parsed(arguments)
    keep = given.keep or Path(tempfile.mkdtemp(prefix="swpks-soak-", dir=in_memory()))
    places = {name: Place(keep / name, given.seed, given.scale) for name in given.parts or PARTS}
    return 0 if all(run(name, place) for name, place in places.items()) else 1


def commit_of(folder: Path) -> str:
    """Return the short id of a work tree's commit, with -dirty if files differ from the commit.

    Return "unknown" without git, or where `folder` is not the top of a work tree, as in an unpacked archive.
    """
    try:
        top = _git(folder, "rev-parse", "--show-toplevel")
        if not Path(top).samefile(folder):
            return "unknown"
        changed = _git(folder, "status", "--porcelain")
        return _git(folder, "rev-parse", "--short=12", "HEAD") + ("-dirty" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def run(name: str, place: Place) -> bool:
    """Run one part and print its line; return whether it has passed."""
    # The commit is read first, because the working tree may change while the part runs.
    commit = commit_of(ROOT)
    place.folder.mkdir(parents=True)
    begun = time.monotonic()
    try:
        figures = PARTS[name](place)
    except Exception:
        traceback.print_exc()
        again = f"make soak SOAK_ARGS='{name} --seed {place.seed}' SOAK_SCALE={place.scale:g}"
        print(f"{name} FAILED; what it left is in {place.folder}; again: {again}", file=sys.stderr)
        return False
    seconds = round(time.monotonic() - begun)
    head = {"part": name, "commit": commit, "seed": place.seed, "scale": place.scale, "seconds": seconds}
    output = {**head, **figures}
    print(json.dumps(output), flush=True)
    shutil.rmtree(place.folder)
    return True


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
