"""The model of a disk: the states that a power cut may leave, and those that it may not."""

from __future__ import annotations

from random import Random

import pytest

from tests.soak.disk import Disk, Tree
from tests.soak.recording import Event
from tests.soak.sectors import SECTORS, Change, replay, torn

OLD, NEW = b"o" * 8192, b"n" * 8192


def event(kind: str, path: str, inode: int = 1, offset: int = 0, data: bytes = b"", flag: int = 1) -> Event:
    return Event(kind, path, inode, offset, data, flag)


def synced(path: str, inode: int, *, good: bool = True) -> list[Event]:
    return [event("S", path, inode), event("E", path, inode, flag=int(good))]


FILE = [event("C", "f"), event("W", "f", data=OLD), *synced("f", 1), *synced("", 0)]


def left(events: list[Event], times: int = 400) -> list[Tree]:
    """Return crash states that are possible after these events."""
    disk = Disk(Random(1))
    for each in events:
        disk.apply(each)
    return [disk.crash() for _ in range(times)]


def contents(events: list[Event]) -> set[bytes | None]:
    """Return each content that the file `f` has in a crash state after these events."""
    return {tree.get("f") for tree in left(events)}


def test_what_was_synced_stays() -> None:
    assert contents(FILE) == {OLD}


def test_a_file_is_lost_without_its_entry() -> None:
    """A synced file is lost if its folder was not synced, because its name is not durable."""
    assert contents(FILE[:4]) == {OLD, None}


def test_a_write_without_a_sync_may_be_torn_between_sectors() -> None:
    found = contents([*FILE, event("W", "f", data=NEW)])
    assert {OLD, NEW} < found
    halves = {content[:4096] + content[4096:] for content in found if content}
    assert OLD[:4096] + NEW[4096:] in halves, "the second sector may overtake the first"
    assert any(content and content[:512] == NEW[:512] and content[512:] == OLD[512:] for content in found)


def test_sizes_and_holes() -> None:
    """A file may have its new size without its new bytes. These are zero then."""
    found = contents([*FILE, event("W", "f", offset=8192, data=NEW)])
    assert OLD + bytes(8192) in found
    assert contents([*FILE, event("T", "f", offset=0), *synced("f", 1)]) == {b""}


def test_a_truncation_is_there_as_a_whole_or_not() -> None:
    """A truncation is on the disk as a whole or not.

    A write after the truncation is there only if the truncation is.
    """
    assert contents([*FILE, event("T", "f")]) == {OLD, b""}
    found = contents([*FILE, event("T", "f"), event("W", "f", data=NEW[:512])])
    assert {OLD, b"", NEW[:512], bytes(512)} <= found


def test_a_rename_is_there_or_not() -> None:
    found = left([*FILE, event("R", "f\ng")])
    assert {tuple(tree) for tree in found} == {("f",), ("g",)}
    assert {tuple(tree) for tree in left([*FILE, event("R", "f\ng"), *synced("", 0)])} == {("g",)}


def test_a_rename_between_folders_is_there_or_not() -> None:
    """After a rename between folders, the file is in exactly one of them.

    A sync of one folder makes the rename durable in both.
    """
    moved = [*FILE, event("D", "d"), *synced("", 0), event("R", "f\nd/g")]
    assert {tuple(tree) for tree in left(moved)} == {("f", "d"), ("d", "d/g")}
    for folder in ("d", ""):
        assert {tuple(tree) for tree in left([*moved, *synced(folder, 0)])} == {("d", "d/g")}


def test_entries_appear_in_order() -> None:
    made = [event("D", "d"), event("C", "e", 5)]
    assert {tuple(tree) for tree in left([*FILE, *made])} == {("f",), ("f", "d"), ("f", "d", "e")}


def test_a_failed_sync_promises_nothing() -> None:
    """After a failed sync, a later sync that succeeds does not repeat the writes."""
    failed = [*FILE, event("W", "f", data=NEW), *synced("f", 1, good=False)]
    disk = Disk(Random(3))
    for each in [*failed, *synced("f", 1)]:
        disk.apply(each)
    assert disk.seen() == {"f": NEW}, "processes see their own writes"
    assert disk.crash() != {"f": NEW}


def test_a_sync_covers_only_what_came_before_its_start() -> None:
    late = [*FILE, event("S", "f"), event("W", "f", data=NEW), event("E", "f")]
    assert OLD in contents(late)


@pytest.mark.parametrize("seed", range(40))
def test_a_sector_holds_one_of_its_contents(seed: int) -> None:
    """After any writes, each sector is as it was after some of them."""
    chance = Random(seed)
    changes = [Change(n, chance.randrange(9000), chance.randbytes(chance.randrange(3000))) for n in range(6)]
    versions = [replay(OLD, changes[:n]).ljust(16384, b"\0") for n in range(7)]
    found = torn(OLD, changes, chance)
    for at in range(0, len(found), SECTORS[0]):
        end = min(len(found), at + SECTORS[0])
        assert found[at:end] in {version[at:end] for version in versions}


@pytest.mark.parametrize("seed", range(40))
def test_junk_is_only_where_something_was_written(seed: int) -> None:
    """Junk is only in bytes that were being written. The other bytes of a sector stay, as SQLite expects."""
    chance = Random(seed)
    write = Change(0, chance.randrange(6000), chance.randbytes(chance.randrange(1, 2000)))
    end = write.offset + len(write.data or b"")
    found = torn(OLD, [write], chance, junk=True)
    assert found[: write.offset] == OLD[: write.offset]
    assert found[end:] == OLD[end:]
