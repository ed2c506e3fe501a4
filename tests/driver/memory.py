"""The memory of the process as the guest's: what the driver's addresses point to."""

import os

ADDRESSES = 1 << 47
"""Addresses of user space end here."""
LARGEST_BUFFER = 1 << 28
"""No buffer of a kernel is larger; who names one like that has no memory behind it."""


class ProcessMemory:
    """Guest memory that is the memory of this process; where there is none is an answer, not a crash."""

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
