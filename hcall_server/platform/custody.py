"""Custody: whether this system may serve a partition (spec/sealed.md#partition-record).

Every system owns its partitions as long as nothing migrates; a record of any other custody is refused.
"""

from __future__ import annotations

from enum import IntEnum


class Custody(IntEnum):
    """The custody of a partition, one byte of its record."""

    OWN = 1
