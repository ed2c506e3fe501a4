"""The reactions of Linux's PLPKS driver to the keystore's answers, as data and pure functions.

`hcall_client.guests.kernel` uses them. Facts: spec/linux.md. Numbers are errno values as the Linux driver
returns them: 0 or negative.
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
# The driver's sanity tests of GET_CONFIG (spec/structures.md#config-block).
MIN_PASSWORD_SIZE = 32
MIN_LABEL_SIZE = 255
MAX_LABEL_SIZE = 0x7FFF
MIN_TOTAL_SIZE = 4096
LARGE_OBJECT_SIZE = 0x10000

_INVALID = -errno.EINVAL
# The driver's function maps each of the six long-busy statuses alike.
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
"""`pseries_status_to_err`: the errno of each status; any other is -EINVAL."""


@dataclass(frozen=True)
class Driver:
    """The points in which versions of the driver differ.

    `poll_interval` and `poll_limit` are in seconds. The result of the flush poll is an errno. With
    `converts_twice`, WRITE and REMOVE convert it again, as if it were a status. `knows_continue` adds
    H_CONTINUE -> -EAGAIN, as drivers that list labels have it.
    """

    name: str
    config_size: int = 520
    poll_interval: float = 0.010
    poll_limit: float = 5.0
    converts_twice: bool = True
    knows_continue: bool = False

    def to_errno(self, status: int) -> int:
        """Return the errno of a status: 0 or a negative number."""
        if self.knows_continue and status == Status.H_CONTINUE:
            return -errno.EAGAIN
        return ERRNO.get(status, _INVALID)

    def poll_result(self, error: int) -> int:
        """Return the result of WRITE and REMOVE for the errno with which their flush poll ended.

        With `converts_twice`, a timeout becomes -EINVAL, -ENOENT becomes -ENXIO, and -EBUSY becomes
        -EEXIST.
        """
        # Statuses and errno values are both small negative numbers, so an errno may equal a status. -ENOENT
        # is -2, the number of H_FUNCTION. -ETIMEDOUT is no status, so it becomes -EINVAL.
        return self.to_errno(error) if self.converts_twice else error


LINUX_7_0 = Driver("Linux 7.0")
"""The driver as of Linux 7.0."""
LINUX_6_19 = replace(LINUX_7_0, name="Linux 6.19", config_size=512)
"""The driver as of early 2023 to Linux 6.19: the same, with the older length of the config block."""
WITHOUT_WARTS = replace(LINUX_7_0, name="Linux without warts", converts_twice=False)
"""The driver as it is meant: the errno of the flush poll is returned as it is."""


def poll_step(status: int, flushed: int) -> int | None:
    """Return the status with which the flush poll ends after this answer, or None to ask again.

    `status` and `flushed` (r4, of which the low byte counts) are those of CONFIRM_OBJECT_FLUSHED.
    H_NOT_FOUND with r4 = 1 is the normal end of a removal.
    """
    # The public driver reads the result as a byte.
    done = flushed & 0xFF == 1
    if status == Status.H_SUCCESS:
        return Status.H_SUCCESS if done else None
    if status == Status.H_NOT_FOUND and done:
        return Status.H_SUCCESS
    return status


def broken_limit(config: Config) -> str | None:
    """Return the text of the first sanity test that a config block fails.

    Return None if the block passes all tests.
    """
    if config.max_password_size < MIN_PASSWORD_SIZE:
        return f"max password size {config.max_password_size} is below {MIN_PASSWORD_SIZE}"
    if not MIN_LABEL_SIZE <= config.max_label_size <= MAX_LABEL_SIZE:
        return f"max label size {config.max_label_size} is not {MIN_LABEL_SIZE} to {MAX_LABEL_SIZE}"
    if config.total_size < MIN_TOTAL_SIZE:
        return f"total size {config.total_size} is below {MIN_TOTAL_SIZE}"
    # Only version 3 has the field; in older blocks its bytes are 0.
    large = config.version >= 3 and config.max_large_object_size >= LARGE_OBJECT_SIZE
    if large and config.max_object_size != LARGE_OBJECT_SIZE - 1:
        return f"max object size {config.max_object_size} is not 65535 though objects can be larger"
    return None


class LinuxError(OSError):
    """An error as the driver's callers see it; `errno` is positive, as in every OSError.

    `status` is the status of the refused h-call; None if no h-call was refused.
    """

    def __init__(self, error: int, doing: str, status: int | None = None) -> None:
        super().__init__(-error, f"{doing}: {errno.errorcode.get(-error, -error)}")
        self.status = status
