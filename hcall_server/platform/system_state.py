"""The state of a managed system (spec/recovery.md#states)."""

from __future__ import annotations

from enum import Enum


class SystemState(Enum):
    """The state of a managed system; the value is the word that the console shows.

    OPERATING: it serves partitions.  RECOVERY: its records were cleared, and it waits for copies or for
    the operator (R-48).  RESET_PENDING: Clear All was done, and reset-settings has to follow.
    """

    OPERATING = "Operating"
    RECOVERY = "Recovery"
    RESET_PENDING = "Reset pending"
