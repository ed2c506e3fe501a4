"""The golden vectors of the contract: frames and wrapped objects (spec/vectors).

Their bytes do not come from the tables of `hcall_abi`.  So they also find a mistake in these tables.
"""

from __future__ import annotations

from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Literal

import msgspec


class FrameVector(msgspec.Struct, rename={"sender": "from", "receiver": "to"}):
    """A frame, valid or invalid.

    An invalid frame breaks the rule `rule` when `receiver` receives it in the session state `state`.
    """

    name: str
    valid: bool
    hex: str
    sender: Literal["client", "server", ""] = ""
    receiver: Literal["client", "server", ""] = ""
    state: str = ""
    rule: str = ""
    rule_id: str = ""
    section: str = ""

    @property
    def data(self) -> bytes:
        """The bytes of the frame."""
        return bytes.fromhex(self.hex)


FRAME_FILES = ("header", "hello", "open", "opened", "hcall", "hreturn", "goodbye", "states")


def frames(*files: str) -> list[FrameVector]:
    """Return the vectors of frames in the named files of spec/vectors/frames; without names, in all files."""
    found: list[FrameVector] = []
    for name in files or FRAME_FILES:
        text = (_folder() / "frames" / f"{name}.json").read_bytes()
        found += msgspec.json.decode(text, type=list[FrameVector])
    return found


def wrong_frames(receiver: Literal["client", "server"]) -> list[FrameVector]:
    """Return every frame that breaks a rule when this end receives it."""
    return [each for each in frames() if not each.valid and each.receiver == receiver]


def _folder() -> Traversable:
    """Return the folder of the vectors: inside the installed package, or in a checkout."""
    installed = resources.files("swpks") / "spec" / "vectors"
    return installed if installed.is_dir() else Path(str(resources.files("hcall_abi"))).parent / "vectors"
