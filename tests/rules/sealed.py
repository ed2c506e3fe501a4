"""Rules of what is at rest: sealed records that were damaged, and the system or partition that meets them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from hcall_abi.faults import NvramFault
from hcall_abi.rules.rule import Rule
from hcall_server.nvram.names import SYSTEM, image_name, profile_name
from hcall_server.sealing import SealedKind, SystemRecord, seal_system
from tests.rules.breaking import Break, Breaks, refused, rule_of, run
from tests.writeback.rig import Rig, first_records, make_sealer

IMAGE, PROFILE = image_name(2), profile_name(2)
KINDS = {
    IMAGE: (SealedKind.PARTITION_IMAGE, 2),
    PROFILE: (SealedKind.PARTITION_PROFILE, 2),
    SYSTEM: (SealedKind.SYSTEM_RECORD, 0),
}
Change = Callable[[bytes], bytes]
LABELLED = b"\3\0\0\5" + bytes(7) + b"\4" + b"labeldata"
"""An object of the system as it is stored in an image."""


def sealed(record: str, change: Change, *, later: int = 0) -> Callable[[dict[str, bytes]], bytes]:
    """Change what a record holds, and seal it again as an honest release would, so many generations later."""
    kind, partition = KINDS[record]

    def blob(records: dict[str, bytes]) -> bytes:
        generation, plaintext = make_sealer().open(kind, partition, records[record])
        return make_sealer().seal(kind, partition, generation + later, change(plaintext))

    return blob


def image(plaintext: bytes) -> Callable[[dict[str, bytes]], bytes]:
    """An authentic image with this plaintext."""
    return sealed(IMAGE, lambda _: plaintext)


def put(at: int, data: bytes) -> Change:
    """A change of the bytes from an offset on; one below 0 counts from the end."""
    return lambda old: old[: at % len(old)] + data + old[at % len(old) + len(data) :]


def recovered(record: str, make: Callable[[dict[str, bytes]], bytes | None], kbytes: int = 8) -> Break:
    """The rule for which partition 2 does not come back, while partition 1 does."""

    def broken(_: Path) -> Rule:
        records = first_records(2, kbytes)
        blob = make(records)
        rest = {name: found for name, found in records.items() if name != record}
        (partition,) = Rig(0, records=rest if blob is None else {**rest, record: blob}).refused
        assert partition.number == 2
        assert partition.refused is not None
        return rule_of(partition.refused)

    return broken


def damaged(change: Change, record: str = IMAGE) -> Break:
    """The rule for which a partition does not come back when the bytes of a record are changed."""
    return recovered(record, lambda records: change(records[record]))


def started(make: Callable[[dict[str, bytes]], bytes | None]) -> Break:
    """The rule for which a whole system does not start with another system record."""

    def broken(_: Path) -> Rule:
        records = first_records(1, 8)
        blob = make(records)
        rest = {name: found for name, found in records.items() if name != SYSTEM}
        return refused(Rig, 0, records=rest if blob is None else {**rest, SYSTEM: blob})

    return broken


def _of_a_larger_level(_: Path) -> Rule:
    small = seal_system(make_sealer(), SystemRecord("FW950", 16384))
    (partition,) = Rig(0, records={**first_records(1, 128), SYSTEM: small}).refused
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
    "sealed.kind": recovered(IMAGE, lambda records: records[PROFILE]),
    "sealed.authentic": damaged(lambda blob: blob[:-1] + bytes([blob[-1] ^ 1])),
    "sealed.owner": recovered(IMAGE, lambda records: records[image_name(1)]),
    "image.header": recovered(IMAGE, image(bytes(7))),
    "image.level": recovered(IMAGE, image(b"\0\2" + bytes(6))),
    "image.reserved": recovered(IMAGE, image(b"\0\1\0\1" + bytes(4))),
    "image.objects": recovered(IMAGE, image(b"\0\1\0\0\0\0\0\1")),
    "image.consumer": recovered(IMAGE, image(b"\0\1\0\0\0\0\0\1" + b"\4" + LABELLED[1:])),
    "image.lengths": recovered(IMAGE, image(b"\0\1\0\0\0\0\0\1" + LABELLED[:-1])),
    "image.labels": recovered(IMAGE, image(b"\0\1\0\0\0\0\0\2" + LABELLED * 2)),
    "image.end": recovered(IMAGE, image(b"\0\1\0\0\0\0\0\0" + b"x")),
    "profile.layout": recovered(PROFILE, sealed(PROFILE, lambda old: old + b"x")),
    "profile.ranges": recovered(PROFILE, sealed(PROFILE, put(6, b"\3"))),
    "profile.name": recovered(PROFILE, sealed(PROFILE, put(-1, b"\xff"))),
    "profile.owner": recovered(PROFILE, sealed(PROFILE, put(4, b"\0\1"))),
    "system.layout": started(sealed(SYSTEM, lambda old: old + b"x")),
    "system.name": started(sealed(SYSTEM, put(-1, b"\xff"))),
    "system.firmware": started(sealed(SYSTEM, put(-1, b"?"))),
    "system.keys": started(lambda _: None),
    "records.whole": recovered(IMAGE, lambda _: None),
    "records.together": recovered(IMAGE, sealed(IMAGE, lambda old: old, later=1)),
    "records.level": _of_a_larger_level,
    "nvram.commit": lambda _: run(_refused_commit),
}
