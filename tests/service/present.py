"""What the tests of physical presence share: a clock, and a look into the request."""

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
    """The file of the request."""
    return presence.path.parent / "asmi" / "request"


def tries(presence: Presence) -> int:
    """The number of tries in the request; all of them if it is gone."""
    try:
        content = request(presence).read_bytes()
    except FileNotFoundError:
        return TRIES
    return int(json.loads(content)["tries"])
