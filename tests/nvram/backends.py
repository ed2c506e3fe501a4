"""The back ends of NVRAM, for batteries of faults: memory, SQLite, and an etcd in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from hcall_server.nvram import Nvram
from hcall_server.nvram.etcd.nvram import EtcdNvram
from hcall_server.nvram.mark import MemoryMark
from hcall_server.nvram.memory import MemoryNvram
from hcall_server.nvram.sqlite import SqliteNvram
from tests.nvram.test_etcd_model import Lab

BACKENDS = ("memory", "sqlite", "etcd")
"""The names for `backend_of`."""


class Backend(Protocol):
    """A store of records that survives a power cut."""

    def opened(self) -> Nvram:
        """Return the NVRAM for a new life; the former life ends without a close, as in a power cut."""

    def records(self) -> dict[str, bytes]:
        """Return the records that are durable now."""


class MemoryBackend:
    def __init__(self) -> None:
        self.nvram = MemoryNvram()

    def opened(self) -> Nvram:
        return self.nvram

    def records(self) -> dict[str, bytes]:
        return self.nvram.records  # a new object after each commit


class SqliteBackend:
    """A database.  One object stays open: in this process, a second one would find the lock of the first."""

    def __init__(self, path: Path) -> None:
        self._nvram = SqliteNvram(path)

    def opened(self) -> Nvram:
        return self._nvram

    def records(self) -> dict[str, bytes]:
        return self._nvram.load()


class EtcdBackend:
    """A cluster in memory.  Each life has a new owner; etcd has ended the lease of the former one."""

    def __init__(self) -> None:
        self.lab = Lab()
        self.nvram: EtcdNvram | None = None
        self._mark = MemoryMark()
        self._records: tuple[int, dict[str, bytes]] = 0, {}

    def opened(self) -> EtcdNvram:
        if self.nvram is not None:
            self.lab.model.expire_lease(self.nvram.lease.id)
        self.nvram = self.lab.opened(b"owner %d" % len(self.lab.networks))
        self.nvram.mark = self._mark
        return self.nvram

    def records(self) -> dict[str, bytes]:
        """Return the records in the cluster: the same object, if no request has changed them."""
        if self._records[0] != self.lab.model.revision:
            begin = b"p/record/"
            values = self.lab.model.values().items()
            found = {key[len(begin) :].decode(): each for key, each in values if key.startswith(begin)}
            same = found == self._records[1]
            self._records = self.lab.model.revision, self._records[1] if same else found
        return self._records[1]


def backend_of(name: str, folder: Path) -> Backend:
    """Return a new back end; one with files has them in `folder`."""
    if name == "sqlite":
        return SqliteBackend(folder / "nvram.db")
    return EtcdBackend() if name == "etcd" else MemoryBackend()
