"""What Linux's PLPKS driver makes of the keystore's answers, as data and pure functions.

`hcall_client.guests.kernel` acts by these.  Facts: spec/linux.md; numbers are Linux's errno
values as the driver returns them, 0 or negative.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from hcall_abi.statuses import Status
from hcall_abi.structures import Config

MAX_NAME_SIZE = 239
"""Most bytes of an object's name: a label of 255 without its header."""
MAX_DATA_SIZE = 4000
"""Most bytes that the driver writes; a limit of Linux, not of the keystore."""
MIN_PASSWORD_SIZE = 32
MIN_LABEL_SIZE = 255
MAX_LABEL_SIZE = 0x7FFF
MIN_TOTAL_SIZE = 4096
LARGE_OBJECT_SIZE = 0x10000

_INVALID = -errno.EINVAL
_BUSY: dict[int, int] = {
    int(status): -errno.EBUSY for status in Status if status.name.startswith("H_LONG_BUSY")
}

ERRNO: Mapping[int, int] = MappingProxyType(
    {
        Status.H_SUCCESS: 0,
        Status.H_FUNCTION: -errno.ENXIO,
        Status.H_PARAMETER: _INVALID,
        Status.H_P2: _INVALID,
        Status.H_P3: _INVALID,
        Status.H_P4: _INVALID,
        Status.H_P5: _INVALID,
        Status.H_P6: _INVALID,
        Status.H_NOT_FOUND: -errno.ENOENT,
        Status.H_BUSY: -errno.EBUSY,
        **_BUSY,
        Status.H_AUTHORITY: -errno.EPERM,
        Status.H_NO_MEM: -errno.ENOMEM,
        Status.H_RESOURCE: -errno.EEXIST,
        Status.H_TOO_BIG: -errno.EFBIG,
        Status.H_STATE: -errno.EIO,
        Status.H_R_STATE: -errno.EIO,
        Status.H_ABORTED: -errno.EIO,
        Status.H_IN_USE: -errno.EEXIST,
    }
)
"""`pseries_status_to_err`: what becomes of each status; any other is -EINVAL."""


@dataclass(frozen=True)
class Driver:
    """How one version of the driver behaves where versions differ.

    `poll_interval` and `poll_limit` are in seconds.  `converts_twice` is a wart: WRITE and REMOVE
    convert the result of the flush poll, already an errno, as if it were a status again.
    `knows_continue` adds H_CONTINUE -> -EAGAIN, which came with the listing of labels.
    """

    name: str
    config_size: int = 520
    poll_interval: float = 0.010
    poll_limit: float = 5.0
    converts_twice: bool = True
    knows_continue: bool = False

    def to_errno(self, status: int) -> int:
        """Return what a status becomes: 0 or a negative errno."""
        if self.knows_continue and status == Status.H_CONTINUE:
            return -errno.EAGAIN
        return ERRNO.get(status, _INVALID)

    def poll_result(self, error: int) -> int:
        """Return what WRITE and REMOVE make of the errno with which their flush poll ended.

        With the wart a timeout becomes -EINVAL, -ENOENT becomes -ENXIO and -EBUSY -EEXIST,
        because their numbers are those of other statuses.
        """
        return self.to_errno(error) if self.converts_twice else error


LINUX_7_0 = Driver("Linux 7.0")
"""The driver as of Linux 7.0."""
LINUX_6_19 = replace(LINUX_7_0, name="Linux 6.19", config_size=512)
"""The driver as of early 2023 to Linux 6.19: the same, with the older length of the config block."""
WITHOUT_WARTS = replace(LINUX_7_0, name="Linux without warts", converts_twice=False)
"""What the driver means to do."""


def poll_step(status: int, flushed: int) -> int | None:
    """Say what one answer to CONFIRM_OBJECT_FLUSHED means for the flush poll.

    `flushed` is r4, of which the low byte counts.  Returns the status with which the poll ends, or
    None to ask again.  "Not found" is the normal end of a removal when r4 says that it is flushed.
    """
    done = flushed & 0xFF == 1
    if status == Status.H_SUCCESS:
        return Status.H_SUCCESS if done else None
    if status == Status.H_NOT_FOUND and done:
        return Status.H_SUCCESS
    return status


def broken_limit(config: Config) -> str | None:
    """Return which of the driver's sanity tests a config block fails, or None when it passes all."""
    if config.max_password_size < MIN_PASSWORD_SIZE:
        return f"max password size {config.max_password_size} is below {MIN_PASSWORD_SIZE}"
    if not MIN_LABEL_SIZE <= config.max_label_size <= MAX_LABEL_SIZE:
        return f"max label size {config.max_label_size} is not {MIN_LABEL_SIZE} to {MAX_LABEL_SIZE}"
    if config.total_size < MIN_TOTAL_SIZE:
        return f"total size {config.total_size} is below {MIN_TOTAL_SIZE}"
    large = config.version >= 3 and config.max_large_object_size >= LARGE_OBJECT_SIZE
    if large and config.max_object_size != LARGE_OBJECT_SIZE - 1:
        return f"max object size {config.max_object_size} is not 65535 though objects can be larger"
    return None


class LinuxError(OSError):
    """An error as the driver's callers see it; `errno` is positive, as in every OSError.

    `status` is the h-call's status where one is behind it, else None.
    """

    def __init__(self, error: int, doing: str, status: int | None = None) -> None:
        super().__init__(-error, f"{doing}: {errno.errorcode.get(-error, -error)}")
        self.status = status
