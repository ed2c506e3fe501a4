"""The kinds of sealed records (spec/sealed.md#the-envelope)."""

from __future__ import annotations

from enum import IntEnum


class SealedKind(IntEnum):
    """What a sealed blob holds, one byte of its header and part of what is authenticated."""

    PARTITION_IMAGE = 1
    PARTITION_PROFILE = 2
    SYSTEM_RECORD = 3
    PARTITION = 4
