"""The content of a file whose last changes have reached the disk sector by sector."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from random import Random
from typing import NamedTuple

SECTORS = (512, 4096)


class Change(NamedTuple):
    """A write of `data` at `offset`, or (None) a truncation to `offset`; `time` counts all events."""

    time: int
    offset: int
    data: bytes | None


def replay(content: bytes, changes: Iterable[Change]) -> bytes:
    """Return the content after some changes."""
    now = bytearray(content)
    for change in changes:
        enact(now, change)
    return bytes(now)


def torn(content: bytes, changes: Sequence[Change], chance: Random, *, junk: bool = False) -> bytes:
    """Return a content of which each sector is as it was after some of the changes that touch it.

    With `junk`, a few of the sectors hold noise in the bytes that were being written.
    """
    size = chance.choice(SECTORS)
    touches = _touches(content, changes, size)
    if not touches:
        return replay(content, changes)
    now, sizes, seen = bytearray(content), [len(content)], Counter[int]()
    chosen = _chosen(touches, chance)
    kept: dict[int, bytes] = {}
    for change in changes:
        touched = _touched(len(now), change, size)
        for sector in touched:
            if not seen[sector] and not chosen[sector]:
                kept[sector] = bytes(now[sector * size : (sector + 1) * size])
        enact(now, change)
        sizes.append(len(now))
        for sector in touched:
            seen[sector] += 1
            if seen[sector] == chosen[sector]:
                kept[sector] = bytes(now[sector * size : (sector + 1) * size])
    length = len(now) if chance.random() < 0.5 else chance.choice(sizes)
    found = bytearray(content[:length].ljust(length, b"\0"))
    for sector, piece in kept.items():
        at = sector * size
        whole = piece.ljust(size, b"\0")[: max(0, length - at)]
        found[at : at + len(whole)] = whole
    if junk:
        _spoil(found, changes, size, chance)
    return bytes(found)


def enact(content: bytearray, change: Change) -> None:
    """Make a change."""
    if change.data is None:
        del content[change.offset :]
        content.extend(bytes(change.offset - len(content)))
        return
    content.extend(bytes(max(0, change.offset - len(content))))
    content[change.offset : change.offset + len(change.data)] = change.data


def _touched(length: int, change: Change, size: int) -> range:
    """The sectors that a change of a file of `length` bytes touches."""
    if change.data is None:
        begin, end = sorted((change.offset, length))
    else:
        begin, end = change.offset, change.offset + len(change.data)
    return range(begin // size, (end + size - 1) // size)


def _touches(content: bytes, changes: Iterable[Change], size: int) -> Counter[int]:
    """How many changes touch each sector."""
    length, touches = len(content), Counter[int]()
    for change in changes:
        touches.update(_touched(length, change, size))
        end = change.offset + len(change.data or b"")
        length = change.offset if change.data is None else max(length, end)
    return touches


def _chosen(touches: Counter[int], chance: Random) -> dict[int, int]:
    """How many of its changes each sector has seen: any number, or all and none but for one sector."""
    match chance.randrange(3):
        case 0:
            return {sector: chance.randint(0, count) for sector, count in touches.items()}
        case 1:
            chosen = dict(touches)
            odd = chance.choice(list(touches))
            return chosen | {odd: chance.randint(0, touches[odd] - 1)}
    odd = chance.choice(list(touches))
    return dict.fromkeys(touches, 0) | {odd: touches[odd]}


def _spoil(content: bytearray, changes: Sequence[Change], size: int, chance: Random) -> None:
    """Put noise where a write was under way, in one to three sectors."""
    writes = [change for change in changes if change.data]
    for _ in range(chance.randint(1, 3) if writes else 0):
        write = chance.choice(writes)
        end = write.offset + len(write.data or b"")
        sector = chance.choice(range(write.offset // size, (end - 1) // size + 1))
        begin, stop = max(write.offset, sector * size), min(end, (sector + 1) * size, len(content))
        if begin < stop:
            content[begin:stop] = chance.choice((bytes(stop - begin), chance.randbytes(stop - begin)))
