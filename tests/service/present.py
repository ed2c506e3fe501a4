"""Common parts of the tests of physical presence: a clock, and readers of the request."""

from __future__ import annotations

import json
from pathlib import Path

from hcall_server.service.presence import TRIES, Presence

ACTION = "clear-all"


class Clock:
    """A wall clock that a test sets."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        """Return the seconds since 1970."""
        return self.now


def request(presence: Presence) -> Path:
    """Return the path of the request."""
    return presence.path.parent / "asmi" / "request"


def tries(presence: Presence) -> int:
    """Return the number of tries in the request, or TRIES if the request is gone."""
    try:
        content = request(presence).read_bytes()
    except FileNotFoundError:
        return TRIES
    return int(json.loads(content)["tries"])
