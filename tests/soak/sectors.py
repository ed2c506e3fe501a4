"""The content of a file whose last changes have reached the disk only in part, sector by sector."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from random import Random
from typing import NamedTuple

SECTORS = (512, 4096)


class Change(NamedTuple):
    """A write of `data` at `offset`, or with data None a truncation to `offset`. `time` counts all events."""

    time: int
    offset: int
    data: bytes | None


def replay(content: bytes, changes: Iterable[Change]) -> bytes:
    """Return a content after these changes."""
    now = bytearray(content)
    for change in changes:
        enact(now, change)
    return bytes(now)


def torn(content: bytes, changes: Sequence[Change], chance: Random, *, junk: bool = False) -> bytes:
    """Return a content in which each sector has had some of the changes that touch it.

    A truncation has happened as a whole or not at all: file systems change the size of a file in one step.
    With `junk`, a few of the sectors have noise in the bytes that were being written.
    """
    ends = [n for n, change in enumerate(changes) if change.data is None]
    happened = chance.randint(0, len(ends))
    at = 0
    for end in ends[:happened]:
        content = replay(_torn(content, changes[at:end], chance, junk=False), [changes[end]])
        at = end + 1
    last = ends[happened] if happened < len(ends) else len(changes)
    return _torn(content, changes[at:last], chance, junk=junk)


def _torn(content: bytes, writes: Sequence[Change], chance: Random, *, junk: bool) -> bytes:
    """Return a content in which each sector has some of the writes that touch it."""
    writes = [write for write in writes if write.data]
    if not writes:
        return content
    size = chance.choice(SECTORS)
    now, sizes, seen = bytearray(content), [len(content)], Counter[int]()
    chosen = _chosen(Counter(n for write in writes for n in _touched(write, size)), chance)
    kept: dict[int, bytes] = {}
    for write in writes:
        for sector in _touched(write, size):
            if not seen[sector] and not chosen[sector]:
                kept[sector] = bytes(now[sector * size : (sector + 1) * size])
        enact(now, write)
        sizes.append(len(now))
        for sector in _touched(write, size):
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
        _spoil(found, writes, size, chance)
    return bytes(found)


def enact(content: bytearray, change: Change) -> None:
    """Apply a change to a content."""
    if change.data is None:
        del content[change.offset :]
        content.extend(bytes(change.offset - len(content)))
        return
    content.extend(bytes(max(0, change.offset - len(content))))
    content[change.offset : change.offset + len(change.data)] = change.data


def _touched(write: Change, size: int) -> range:
    """Return the sectors that a write touches."""
    end = write.offset + len(write.data or b"")
    return range(write.offset // size, (end + size - 1) // size)


def _chosen(touches: Counter[int], chance: Random) -> dict[int, int]:
    """Return how many of its changes each sector has.

    Chance takes one of three ways. Each sector has any number of them; or all sectors but one have all; or
    all sectors but one have none.
    """
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
    """Put noise into one to three sectors, in bytes that were being written."""
    writes = [change for change in changes if change.data]
    for _ in range(chance.randint(1, 3) if writes else 0):
        write = chance.choice(writes)
        end = write.offset + len(write.data or b"")
        sector = chance.choice(range(write.offset // size, (end - 1) // size + 1))
        begin, stop = max(write.offset, sector * size), min(end, (sector + 1) * size, len(content))
        if begin < stop:
            content[begin:stop] = chance.choice((bytes(stop - begin), chance.randbytes(stop - begin)))
