"""The console record: a system's facts about its management console (spec/sealed.md#console-record).

It is separate from the system record, because in the state Recovery there is no system record.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple
from uuid import UUID

from construct import ConstructError

from hcall_abi.layout import FixedLayout
from hcall_abi.rules import backup as rules
from hcall_server.sealing.console_formats import CONSOLE, CONSOLE_HEADER, CONSOLE_LEVEL, KEPT
from hcall_server.sealing.errors import PlaintextError, UndecodableError
from hcall_server.sealing.fields import CONSOLE_TAGS, NO_FIELDS, later_fields, layout_error
from hcall_server.sealing.kinds import SealedKind
from hcall_server.sealing.sealer import SYSTEM_OWNER, Sealer
from hcall_server.sealing.text import decoded_text

COUNT_SIZE = 4
"""Bytes of each of the two counts: of copies, and of forgotten UUIDs."""
_KEPT = FixedLayout(KEPT)


class Kept(NamedTuple):
    """The last copy of a store that the console holds.

    `restores` and `generation` order the copies of a store, `time` is in seconds since the epoch (UTC).
    `profile` is a fingerprint of the profile in the copy, zeros if it is not known.
    """

    restores: int
    generation: int
    time: int
    profile: bytes


class ConsoleRecord(NamedTuple):
    """The attached console: its id (16 bytes), its name, and its copies.

    `kept` has the last copy of each store by UUID.  `forgotten` are deleted partitions: the
    console has not yet put their copies aside.
    """

    id: bytes
    name: str
    kept: Mapping[UUID, Kept]
    forgotten: tuple[UUID, ...] = ()


def encode_console(record: ConsoleRecord) -> bytes:
    """Return the plaintext of the console record (1,000 copies take about a millisecond)."""
    # The record is renewed on the event loop each time that the console holds a new copy. So a derived
    # codec packs the entries: it is faster than Construct.
    header = CONSOLE_HEADER.build({"id": record.id, "name": record.name.encode()})
    kept = [_KEPT.pack(uuid.bytes, *each) for uuid, each in sorted(record.kept.items())]
    forgotten = [uuid.bytes for uuid in record.forgotten]
    return bytes(header) + _counted(kept) + _counted(forgotten) + NO_FIELDS


def decode_console(plaintext: bytes) -> ConsoleRecord:
    """Return the console record that `plaintext` holds; raises PlaintextError for anything else."""
    try:
        found = CONSOLE.parse(plaintext)
    except ConstructError as error:
        raise layout_error(plaintext, CONSOLE_LEVEL, rules.CONSOLE_LAYOUT, error) from None
    later_fields(found.later, CONSOLE_TAGS)
    kept = {UUID(bytes=each.uuid): _kept(each) for each in found.kept}
    # Each content must have one form only. If a UUID had two entries, two readers could take different
    # copies for the last one.
    if len(kept) < len(found.kept) or list(kept) != sorted(kept):
        raise PlaintextError(rules.CONSOLE_LAYOUT, "has copies that are not in the order of their UUIDs")
    forgotten = tuple(UUID(bytes=each) for each in found.forgotten)
    name = decoded_text(found.header.name, rules.CONSOLE_LAYOUT)
    return ConsoleRecord(found.header.id, name, kept, forgotten)


def seal_console(sealer: Sealer, record: ConsoleRecord) -> bytes:
    """Return the sealed blob of the record; its generation is 0."""
    return sealer.seal(SealedKind.CONSOLE, SYSTEM_OWNER, 0, encode_console(record))


def open_console(sealer: Sealer, blob: bytes) -> ConsoleRecord:
    """Return the console record in a sealed blob; raises SealingError with the reason."""
    _, plaintext = sealer.open(SealedKind.CONSOLE, SYSTEM_OWNER, blob)
    try:
        return decode_console(plaintext)
    except PlaintextError as error:
        raise UndecodableError(SealedKind.CONSOLE, SYSTEM_OWNER, error) from None


def _kept(found: Any) -> Kept:
    return Kept(found.restores, found.generation, found.time, found.profile)


def _counted(entries: list[bytes]) -> bytes:
    return len(entries).to_bytes(COUNT_SIZE, "big") + b"".join(entries)
