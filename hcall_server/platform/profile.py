"""What outlives the IPLs of a partition besides its store (spec/sealed.md#partition-profile)."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

from hcall_abi.calls import Opcode
from hcall_abi.console import AT_FIRST, CALLS_OF, ConsoleAttributes
from hcall_abi.levels import FirmwareLevel


class PartitionProfile(NamedTuple):
    """What is persisted of a partition besides its store; immutable, changed by `_replace`.

    `attributes` are those that the console has set.  `image_generation` is the generation of the image
    that is committed with the profile, so that an older image in its place is noticed; while the
    keystore is off, that of the last image there was.
    """

    number: int
    name: str
    attributes: ConsoleAttributes = AT_FIRST
    auto_start: bool = True
    ipl_count: int = 0
    image_generation: int = 0


def effective_level(level: FirmwareLevel, attributes: ConsoleAttributes) -> FirmwareLevel:
    """Return the level as a partition sees it: without the h-calls that an attribute switches off."""
    off = {call for name, call in CALLS_OF.items() if not getattr(attributes, name)}
    if not off:
        return level
    algorithms = 0 if Opcode.SIGNED_UPDATE in off else level.signed_update_algorithms
    return dataclasses.replace(level, calls=level.calls - off, signed_update_algorithms=algorithms)
