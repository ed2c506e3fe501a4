"""Rules of commands on a powered-off system: the lock of its state, and the proof of physical presence."""

from __future__ import annotations

import os
from pathlib import Path

from hcall_abi.rules.rule import Rule
from hcall_server.service.locked import LockedState
from hcall_server.service.presence import Presence
from tests.rules.breaking import Breaks, refused


def _asked(folder: Path) -> Presence:
    """Return a `Presence` that has asked for a word in this folder."""
    presence = Presence(folder, lambda: 0.0, os.urandom)
    presence.ask("clear-all")
    return presence


def _fifo(folder: Path) -> Rule:
    presence = _asked(folder)
    os.mkfifo(presence.path)
    return refused(presence.proven, "clear-all")


def _wrong(folder: Path) -> Rule:
    presence = _asked(folder)
    presence.path.write_text("another word\n")
    return refused(presence.proven, "clear-all")


BREAKS: Breaks = {
    "state.exists": lambda folder: refused(LockedState, folder / "nowhere"),
    "presence.file": _fifo,
    "presence.word": _wrong,
}
