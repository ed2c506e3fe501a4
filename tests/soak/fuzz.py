"""Run atheris on one target, in a process of its own that stops at the first broken promise.

    python -m tests.soak.fuzz TARGET RUNS SEED FOLDER

FOLDER gets the inputs that reached new code, and the input that broke a promise. atheris is Google's fuzzer
for Python: it measures the coverage of the code under test and keeps inputs that increase it. It comes with
`requirements-soak.lock`, which `make soak` installs.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
LONGEST = 4096
"""Most bytes of an input."""
PACKAGES = ["hcall_abi", "hcall_server"]


class Fuzzed(NamedTuple):
    """The number of runs of a target, and of the places in the code that these runs reached."""

    runs: int
    reached: int


def fuzz(name: str, runs: int, seed: int, folder: Path) -> Fuzzed:
    """Fuzz a target in a new process. If a promise is broken, raise AssertionError with the output."""
    command = [sys.executable, "-m", __name__, name, str(runs), str(seed), str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    ended = re.search(r"Done (\d+) runs", done.stderr)
    reached = re.findall(r"cov: (\d+)", done.stderr)
    assert done.returncode == 0, done.stderr[-4000:]
    assert ended, done.stderr[-4000:]
    return Fuzzed(int(ended[1]), int(reached[-1]))


def main(name: str, runs: int, seed: int, folder: Path) -> None:
    """Fuzz for a number of runs, after which atheris ends the process."""
    import atheris

    with atheris.instrument_imports(include=PACKAGES):
        from tests.soak.fuzz_targets import TARGETS
    target = TARGETS[name]
    corpus = folder / name
    corpus.mkdir(parents=True, exist_ok=True)
    for number, data in enumerate(target.seeds()):
        (corpus / f"seed-{number}").write_bytes(data)
    options = [f"-runs={runs}", f"-seed={seed}", f"-max_len={LONGEST}", f"-artifact_prefix={folder}/"]
    atheris.Setup([name, *options, str(corpus)], target.run)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
