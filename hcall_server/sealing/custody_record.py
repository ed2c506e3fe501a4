"""The custody record: partitions without a store on this system (spec/sealed.md#custody-record).

A partition that has left stays in this record, for two reasons.  Its last epoch shows the system which
messages are old and must be ignored.  Its name keeps a start from making another partition of this name.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from uuid import UUID

from construct import ConstructError

from hcall_abi.console import SWITCH
from hcall_abi.rules import migration as rules
from hcall_server.platform.custody import LEFT, Custody
from hcall_server.platform.departed import Departed
from hcall_server.platform.identity import SYSTEM_ID_SIZE
from hcall_server.sealing.custody_formats import CUSTODY, CUSTODY_LEVEL
from hcall_server.sealing.errors import PlaintextError, UndecodableError
from hcall_server.sealing.fields import CUSTODY_TAGS, later_fields, layout_error
from hcall_server.sealing.kinds import SealedKind
from hcall_server.sealing.sealer import SYSTEM_OWNER, Sealer
from hcall_server.sealing.text import decoded_text

CustodyRecord = tuple[Departed, ...]
"""The partitions that took part in an attempt to move them and have no store here, in the order of UUIDs."""

_NOBODY = bytes(SYSTEM_ID_SIZE)
"""Stands for no other system."""


def custody_record(departed: Iterable[Departed]) -> CustodyRecord:
    """Return the custody record of these departed partitions, in the order of their UUIDs."""
    return tuple(sorted(departed, key=lambda each: each.uuid))


def encode_custody(record: CustodyRecord) -> bytes:
    """Return the plaintext of the custody record."""
    departed = [
        each._asdict()
        | {"uuid": each.uuid.bytes, "name": each.name.encode(), "peer": each.peer or _NOBODY}
        | {"custody": int(each.custody), "reserves_name": int(each.reserves_name)}
        for each in record
    ]
    return bytes(CUSTODY.build({"departed": departed, "later": []}))


def decode_custody(plaintext: bytes) -> CustodyRecord:
    """Return the record that `plaintext` holds; raises PlaintextError for anything else."""
    try:
        found = CUSTODY.parse(plaintext)
    except ConstructError as error:
        raise layout_error(plaintext, CUSTODY_LEVEL, rules.CUSTODY_RECORD, error) from None
    later_fields(found.later, CUSTODY_TAGS)
    record = tuple(map(_departed, found.departed))
    uuids = [each.uuid for each in record]
    if uuids != sorted(set(uuids)):
        raise PlaintextError(rules.CUSTODY_RECORD, "has partitions that are not in the order of their UUIDs")
    return record


def seal_custody(sealer: Sealer, departed: Iterable[Departed]) -> bytes:
    """Return the sealed blob of the custody record of these partitions; its generation is 0."""
    return sealer.seal(SealedKind.CUSTODY, SYSTEM_OWNER, 0, encode_custody(custody_record(departed)))


def open_custody(sealer: Sealer, blob: bytes) -> CustodyRecord:
    """Return the custody record in a sealed blob; raises SealingError with the reason."""
    _, plaintext = sealer.open(SealedKind.CUSTODY, SYSTEM_OWNER, blob)
    try:
        return decode_custody(plaintext)
    except PlaintextError as error:
        raise UndecodableError(SealedKind.CUSTODY, SYSTEM_OWNER, error) from None


def _departed(found: Any) -> Departed:
    # A system writes only GONE and NONE here.  In every other custody the partition has a store, and its
    # own record.  With an epoch of 0, no message would be old.  An empty name cannot be reserved.
    nameless = found.reserves_name and not found.name
    if found.custody not in LEFT or found.reserves_name not in SWITCH or not found.epoch or nameless:
        raise PlaintextError(rules.CUSTODY_RECORD, "a field has a value outside its range")
    return Departed(
        uuid=UUID(bytes=found.uuid),
        name=decoded_text(found.name, rules.CUSTODY_RECORD),
        custody=Custody(found.custody),
        epoch=found.epoch,
        peer=b"" if found.peer == _NOBODY else found.peer,
        reserves_name=bool(found.reserves_name),
    )
