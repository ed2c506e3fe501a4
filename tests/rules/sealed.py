"""Rules about stored records: damaged sealed records, and the system or partition that cannot start then."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from hcall_abi.faults import NvramFault
from hcall_abi.rules.rule import Rule
from hcall_server.nvram.names import COMMIT, SYSTEM, parse_partition
from hcall_server.sealing import SYSTEM_OWNER, SealedKind, open_partition, seal_partition
from tests.rules.breaking import Break, Breaks, refused, rule_of, run
from tests.writeback.rig import Rig, committed, first_records, make_sealer, nth_record

Change = Callable[[bytes], bytes]
EMPTY_IMAGE = b"\0\1\0\0\0\0\0\0"
LABELLED = b"\3\0\0\5" + bytes(7) + b"\4" + b"labeldata"
"""An object of the system in the form of an image."""


def recovered(make: Callable[[dict[str, bytes], str], bytes | None]) -> Break:
    """Return a function that breaks a rule: the record of partition 2 is changed; partition 1 still opens.

    `make` gets all records and the name of this record, and returns its new bytes.
    """

    def broken(_: Path) -> Rule:
        records = first_records(2, 8)
        name = nth_record(records, 2)
        blob = make(records, name)
        rest = {each: found for each, found in records.items() if each != name}
        (partition,) = Rig(0, records=rest if blob is None else {**rest, name: blob}).refused
        assert partition.number == 2
        assert partition.refused is not None
        return rule_of(partition.refused)

    return broken


def damaged(change: Change) -> Break:
    """Return a function that breaks a rule: the bytes of a partition's record are changed."""
    return recovered(lambda records, name: change(records[name]))


def sealed(change: Change) -> Break:
    """Return a function that breaks a rule: the plaintext of a partition's record is changed, and sealed."""

    def blob(records: dict[str, bytes], name: str) -> bytes:
        uuid = parse_partition(name)
        assert uuid is not None
        generation, plaintext = make_sealer().open(SealedKind.PARTITION, uuid, records[name])
        return make_sealer().seal(SealedKind.PARTITION, uuid, generation, change(plaintext))

    return recovered(blob)


def image(content: bytes) -> Break:
    """Return a function that breaks a rule: these bytes replace the empty image in a partition's record."""
    return sealed(lambda plaintext: plaintext.removesuffix(EMPTY_IMAGE) + content)


def put(at: int, data: bytes) -> Change:
    """Return a function that writes `data` over bytes, from the offset `at` on."""
    return lambda old: old[:at] + data + old[at + len(data) :]


def _an_older_copy(records: dict[str, bytes], name: str) -> bytes:
    """Return the record of partition 2, sealed a second time.

    It is genuine, but the commit record has another one.
    """
    uuid = parse_partition(name)
    assert uuid is not None
    return seal_partition(make_sealer(), open_partition(make_sealer(), uuid, records[name]))


def started(name: str, make: Change | None) -> Break:
    """Return a function that breaks a rule: a system starts with a missing or a changed record."""

    def broken(_: Path) -> Rule:
        records = first_records(1, 8)
        blob = records.pop(name)
        return refused(Rig, 0, records={**records, name: make(blob)} if make else records)

    return broken


def system(change: Change) -> Break:
    """Return a function that breaks a rule: a system starts with a changed plaintext of its record."""

    def blob(old: bytes) -> bytes:
        _, plaintext = make_sealer().open(SealedKind.SYSTEM_RECORD, SYSTEM_OWNER, old)
        return make_sealer().seal(SealedKind.SYSTEM_RECORD, SYSTEM_OWNER, 0, change(plaintext))

    return started(SYSTEM, blob)


def _of_an_unknown_level(_: Path) -> Rule:
    records = first_records(0, 0)
    plaintext = make_sealer().open(SealedKind.SYSTEM_RECORD, SYSTEM_OWNER, records[SYSTEM]).plaintext
    other = plaintext.replace(b"FW1110", b"FW111?")
    blob = make_sealer().seal(SealedKind.SYSTEM_RECORD, SYSTEM_OWNER, 0, other)
    return refused(Rig, 0, records=committed({SYSTEM: blob}))


def _of_a_larger_level(_: Path) -> Rule:
    records = first_records(1, 128)
    plaintext = make_sealer().open(SealedKind.SYSTEM_RECORD, SYSTEM_OWNER, records[SYSTEM]).plaintext
    small = plaintext.replace(b"\6FW1110", b"\5FW950")
    blob = make_sealer().seal(SealedKind.SYSTEM_RECORD, SYSTEM_OWNER, 0, small)
    (partition,) = Rig(0, records=committed({**records, SYSTEM: blob})).refused
    assert partition.refused is not None
    return partition.refused.rule


async def _refused_commit() -> Rule:
    rig = Rig(plan=[NvramFault("io")])
    rig.write(b"label")
    assert not await rig.encryptor.flush()
    (trouble,) = rig.told
    assert trouble is not None
    return trouble.rule


BREAKS: Breaks = {
    "sealed.magic": damaged(put(0, b"HCAL")),
    "sealed.level": damaged(put(4, b"\3")),
    "sealed.length": damaged(lambda blob: blob[:-1]),
    "sealed.kind": recovered(lambda records, _: records[SYSTEM]),
    "sealed.authentic": damaged(lambda blob: blob[:-1] + bytes([blob[-1] ^ 1])),
    "sealed.owner": recovered(lambda records, _: records[nth_record(records, 1)]),
    "sealed.field": sealed(lambda old: old.removesuffix(b"\0" + EMPTY_IMAGE) + b"\1\0\7\0\1x" + EMPTY_IMAGE),
    "state.level": sealed(put(0, b"\0\2")),
    "image.header": image(bytes(7)),
    "image.level": image(b"\0\2" + bytes(6)),
    "image.reserved": image(b"\0\1\0\1" + bytes(4)),
    "image.objects": image(b"\0\1\0\0\0\0\0\1"),
    "image.consumer": image(b"\0\1\0\0\0\0\0\1" + b"\4" + LABELLED[1:]),
    "image.lengths": image(b"\0\1\0\0\0\0\0\1" + LABELLED[:-1]),
    "image.labels": image(b"\0\1\0\0\0\0\0\2" + LABELLED * 2),
    "image.end": image(EMPTY_IMAGE + b"x"),
    "profile.layout": sealed(lambda old: old[:40]),
    "profile.ranges": sealed(put(6, b"\3")),
    "profile.name": sealed(lambda old: old.replace(b"lpar2", b"lpar\xff")),
    "system.layout": system(lambda old: old + b"x"),
    "system.name": system(lambda old: old.replace(b"FW1110", b"FW111\xff")),
    "system.firmware": _of_an_unknown_level,
    "system.keys": started(SYSTEM, None),
    "commit.record": started(COMMIT, put(20, b"other")),
    "records.committed": recovered(_an_older_copy),
    "records.whole": image(b""),
    "records.level": _of_a_larger_level,
    "nvram.commit": lambda _: run(_refused_commit),
}
