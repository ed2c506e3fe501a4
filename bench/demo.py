"""The time of the demo as a user runs it: the seconds that its last line reports."""

from __future__ import annotations

import re
import subprocess
import sys

from bench import goals
from bench.measure import Bench
from bench.results import Row, judged

LIMIT = 600
"""Seconds until a demo that hangs is ended."""
_LAST = re.compile(r"^all \d+ checks held, \d+ steps, (\d+\.\d) s$", re.MULTILINE)


def seconds_of(output: str) -> float:
    """Return the seconds in the last line of a demo; RuntimeError if a check has failed."""
    found = _LAST.search(output)
    if found is None:
        raise RuntimeError(f"the demo has failed: {output[-2000:]}")
    return float(found[1])


def demo_rows(bench: Bench) -> list[Row]:
    """Return the row of one demo."""
    bench.progress("the demo")
    done = subprocess.run(
        [sys.executable, "-m", "swpks", "demo"], capture_output=True, text=True, timeout=LIMIT, check=False
    )
    seconds = seconds_of(done.stdout + done.stderr)
    return [judged(Row("demo", "the demo", "all acts", seconds, "s"), goals.DEMO)]
