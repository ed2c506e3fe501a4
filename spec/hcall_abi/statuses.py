"""The statuses of h-calls: the values of r3 when a call returns.

The numbers are those of the public kernel header (spec/choices.md#statuses). Public documentation names
H_INVALID_KEY but gives no number, so its number is our choice.
"""

from __future__ import annotations

from enum import IntEnum


class Status(IntEnum):
    """An h-call's return code, a signed 64-bit number in r3."""

    H_SUCCESS = 0
    H_BUSY = 1
    H_NOT_AVAILABLE = 3
    H_PARTIAL = 5
    H_IN_PROGRESS = 14
    H_CONTINUE = 18
    H_LONG_BUSY_ORDER_1_MSEC = 9900
    H_LONG_BUSY_ORDER_10_MSEC = 9901
    H_LONG_BUSY_ORDER_100_MSEC = 9902
    H_LONG_BUSY_ORDER_1_SEC = 9903
    H_LONG_BUSY_ORDER_10_SEC = 9904
    H_LONG_BUSY_ORDER_100_SEC = 9905
    H_HARDWARE = -1
    H_FUNCTION = -2
    H_PRIVILEGE = -3
    H_PARAMETER = -4
    H_NOT_FOUND = -7
    H_NO_MEM = -9
    H_AUTHORITY = -10
    H_PERMISSION = -11
    H_RESOURCE = -16
    H_R_STATE = -45
    H_ABORTED = -54
    H_P2 = -55
    H_P3 = -56
    H_P4 = -57
    H_P5 = -58
    H_P6 = -59
    H_P7 = -60
    H_P8 = -61
    H_P9 = -62
    H_NOOP = -63
    H_TOO_BIG = -64
    H_UNSUPPORTED = -67
    H_OVERLAP = -68
    H_BAD_DATA = -70
    H_NOT_ACTIVE = -71
    H_STATE = -75
    H_IN_USE = -77
    # The number is our choice (C-13): papr_hcalls.rst has the name, and no public header has a number.
    H_INVALID_KEY = -78


FIRST_ARGUMENT_REGISTER = 4
LAST_ARGUMENT_REGISTER = 12
REGISTERS = LAST_ARGUMENT_REGISTER - FIRST_ARGUMENT_REGISTER + 1
"""How many registers go into an h-call besides r3, and come back."""

# The list is in the order of the registers. A computed number would be wrong, because H_PARAMETER is not next
# to H_P2.
_POSITIONAL = (
    Status.H_PARAMETER,
    Status.H_P2,
    Status.H_P3,
    Status.H_P4,
    Status.H_P5,
    Status.H_P6,
    Status.H_P7,
    Status.H_P8,
    Status.H_P9,
)

_KNOWN = frozenset(int(status) for status in Status)
_REGISTER_OF = {status: FIRST_ARGUMENT_REGISTER + n for n, status in enumerate(_POSITIONAL)}


def positional(register: int) -> Status:
    """Return the status with which the argument in `register` (4 to 12) is refused.

    r4 is H_PARAMETER, r5 is H_P2 and so on to r12, which is H_P9.
    """
    return _POSITIONAL[register - FIRST_ARGUMENT_REGISTER]


def blamed_register(status: int) -> int | None:
    """Return the register (4 to 12) of a positional `status`, or None for any other status."""
    return _REGISTER_OF.get(Status(status)) if status in _KNOWN else None


def status_name(status: int) -> str:
    """Return the name of a status, or its number for a status that no table has."""
    return Status(status).name if status in _KNOWN else f"status {status}"
