"""An attribute that is added in one place appears everywhere."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

PLACES = (
    "option", "file", "start", "bit", "restart", "view", "output", "command", "body", "range", "needs",
    "description",
    "page",
)  # fmt: skip


@pytest.fixture(scope="module")
def found() -> dict[str, bool]:
    """The report of a process with one more field in `hcall_abi.console`."""
    script = Path(__file__).with_name("one_more_attribute.py")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    places: dict[str, bool] = json.loads(done.stdout)
    return places


@pytest.mark.parametrize("place", PLACES)
def test_one_more_attribute_is_everywhere(found: dict[str, bool], place: str) -> None:
    """R-36: settings, sealed profile, views, bodies, command, OpenAPI and page are made from its row."""
    assert found[place]


def test_no_place_is_left_out(found: dict[str, bool]) -> None:
    """A test names each place that the script checks."""
    assert found.keys() == set(PLACES)
