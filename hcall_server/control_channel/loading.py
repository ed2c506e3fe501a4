"""Imports in a thread beside a busy event loop."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

SWITCH_SECONDS = 0.00001
"""How long the event loop and an import wait for each other, in seconds."""


@contextmanager
def beside_the_loop() -> Iterator[None]:
    """Let the imports of a thread come forward while the event loop is busy.

    An import gives the interpreter away at each of its many file reads.  If the event loop then kept
    it for Python's usual 5 ms each time, loading the HTTP stack would take half a minute.
    """
    usual = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_SECONDS)
    try:
        yield
    finally:
        sys.setswitchinterval(usual)
