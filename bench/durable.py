"""The ceiling of confirmed writes: durable commits to the same kind of NVRAM, one after the other."""

from __future__ import annotations

import os
import time
from pathlib import Path

from bench.loadgen import Measured
from bench.programs import filled_partition
from hcall_server.nvram.sqlite import SqliteNvram
from hcall_server.platform.identity import SystemIdentity
from hcall_server.sealing import PartitionRecord, Sealer, seal_partition

BLOBS = 8
"""Blobs to commit in turn, so that each commit changes the stored record."""


def image_size() -> int:
    """Return the size in bytes of the sealed record that the measured server commits."""
    partition = filled_partition()
    keystore = partition.keystore
    if keystore is None:
        raise RuntimeError("the benchmark's partition has a keystore")
    sealer = Sealer(SystemIdentity(bytes(16), bytes(32)), os.urandom)
    record = PartitionRecord(partition.profile, keystore.contents.snapshot())
    return len(seal_partition(sealer, record))


class BareCommits:
    """Durable commits to a new NVRAM, which no server uses."""

    def __init__(self, folder: Path) -> None:
        self._nvram = SqliteNvram(folder / "bare.sqlite")
        # Random bytes, as sealed records are: no file system or disk can compress them.
        self._blobs = [os.urandom(image_size()) for _ in range(BLOBS)]

    def run(self, seconds: float) -> Measured:
        """Commit for some seconds in this process, and return the figures."""
        took: list[float] = []
        cpu = time.process_time()
        began = now = time.perf_counter()
        while now - began < seconds:
            self._nvram.commit({"partition": self._blobs[len(took) % BLOBS]})
            before, now = now, time.perf_counter()
            took.append(1e6 * (now - before))
        count = len(took)
        took.sort()
        cpu = 1e6 * (time.process_time() - cpu) / count
        p50, p99 = took[count // 2], took[int(0.99 * (count - 1))]
        return Measured(count / (now - began), p50, p99, cpu, 0.0, 0.0)

    def close(self) -> None:
        """Close the NVRAM."""
        self._nvram.close()
