"""A step in which an attacker changes one bit of a stored record; later the bit is put back."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path
from uuid import UUID

from hcall_client.channel import open_channel
from hcall_client.errors import OpenRefused
from hcall_client.guests.kernel import LinuxKernel
from hcall_server.nvram.names import partition_name
from swpks.demo.first_ipl import NEIGHBOURS_DATA, NEIGHBOURS_OBJECT
from swpks.demo.play import NEIGHBOUR, PARTITION, Play


async def tamper(play: Play) -> None:
    """Flip a bit in the partition's record: the next start must refuse only this partition.

    Then flip the bit back: the next start must serve the partition again.
    """
    shows = "The server is stopped. The demo flips one bit of one partition's record in the NVRAM file."
    with play.stage.step("One bit of NVRAM is flipped", shows):
        record = partition_name(UUID(play.partition(PARTITION).uuid))
        await play.power_off()
        place = flip_bit(play.nvram, record)
        play.stage.say(f"record {record}, {place}")
        play.server.start()
        named = list(play.server.ready["refused"])
        play.stage.check(f"the next start refuses {' and '.join(named) or 'nothing'}", named == [PARTITION])
        refused = play.partition(PARTITION).refused
        play.stage.check(f"the reason: {refused and refused.detail}", bool(refused))
        play.stage.check(f"{PARTITION} is not served", not await _answers(play, PARTITION))
        whole = await _neighbours_data(play) == NEIGHBOURS_DATA
        play.stage.check(f"{NEIGHBOUR} is served as before and has its object", whole)
        await play.power_off()
        flip_bit(play.nvram, record)
        play.server.start()
        play.stage.check(
            f"the bit is put back: {PARTITION} is served again",
            not play.server.ready["refused"] and await _answers(play, PARTITION),
        )


def flip_bit(nvram: Path, record: str) -> str:
    """Flip the lowest bit of the middle byte of a record in an NVRAM file; return its position as text."""
    # The record is changed by SQLite: a changed byte of the file could damage SQLite's own structures.
    with contextlib.closing(sqlite3.connect(nvram)) as connection, connection:
        row, size = connection.execute(
            "SELECT rowid, length(blob) FROM record WHERE name = ?", (record,)
        ).fetchone()
        # The bit is in the middle of the record.  A changed header could be refused for another reason, such
        # as an unknown format.
        middle = size // 2
        with connection.blobopen("record", "blob", row) as blob:
            blob[middle] ^= 1
    return f"bit 0 of byte {middle} of {size}"


async def _answers(play: Play, name: str) -> bool:
    """Return whether a session with this partition can be opened."""
    try:
        async with open_channel(play.server.socket(name), name="demo"):
            return True
    except (OSError, OpenRefused):
        return False


async def _neighbours_data(play: Play) -> bytes:
    async with open_channel(play.server.socket(NEIGHBOUR), name="demo") as channel:
        kernel = LinuxKernel(channel)
        await kernel.init()
        return (await kernel.read(NEIGHBOURS_OBJECT)).data
