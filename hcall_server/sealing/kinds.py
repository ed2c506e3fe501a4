"""The kinds of sealed records (spec/sealed.md#the-envelope)."""

from __future__ import annotations

from enum import IntEnum


class SealedKind(IntEnum):
    """The kind of a sealed record: one byte of its header, and authenticated."""

    PARTITION_IMAGE = 1
    PARTITION_PROFILE = 2
    SYSTEM_RECORD = 3
    PARTITION = 4
    TRUSTED_KEY = 5
    CONSOLE = 6
    CUSTODY = 7
