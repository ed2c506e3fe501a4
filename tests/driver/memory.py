"""Guest memory that is the memory of the process, so the driver's addresses are valid."""

import os

ADDRESSES = 1 << 47
"""The end of the addresses of user space."""
LARGEST_BUFFER = 1 << 28
"""No buffer of a kernel is larger; an address range above this size is not mapped."""


class ProcessMemory:
    """Guest memory that is the memory of this process.

    An address without memory gives an error status, and no crash.
    """

    def __init__(self) -> None:
        self._memory = os.open("/proc/self/mem", os.O_RDWR)

    def close(self) -> None:
        os.close(self._memory)

    def holds(self, address: int, length: int) -> bool:
        if length > LARGEST_BUFFER or address + length > ADDRESSES:
            return False
        try:
            return len(os.pread(self._memory, length, address)) == length
        except OSError:
            return False

    def read(self, address: int, length: int) -> bytes:
        return os.pread(self._memory, length, address)

    def write(self, address: int, data: bytes) -> None:
        assert os.pwrite(self._memory, data, address) == len(data)
