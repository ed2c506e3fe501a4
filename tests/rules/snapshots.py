"""Breaks of the rules of named snapshots."""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from hcall_abi import snapshot_requests as requests
from hcall_abi.rules.rule import Rule
from hcall_server.control_channel.performing import Call
from hcall_server.control_channel.snapshot_verbs import list_snapshots
from hcall_server.sealing import snapshots
from hcall_server.sealing.snapshots import (
    Passphrase,
    SnapshotContents,
    SnapshotKey,
    open_snapshot,
    seal_snapshot,
)
from hcall_server.snapshots import shelf_files
from hcall_server.snapshots.shelf_files import SnapshotFiles
from swpks.cli.passphrases import _of_file
from swpks.cli.snapshot_outside import _place
from tests.control_channel.rig import make_machine
from tests.rules.breaking import Break, Breaks, breaks, refused, refused_late
from tests.snapshots.world import World

KEY = SnapshotKey(bytes(32))
EMPTY = SnapshotContents("", 0, ())


def _sealed(key: SnapshotKey | Passphrase = KEY) -> bytes:
    options: dict[str, Any] = {"system_id": bytes(16), "firmware": "FW1110", "name": "a", "time": 0}
    return seal_snapshot(key, EMPTY, entropy=os.urandom, **options)


def opened(
    change: Callable[[bytes], bytes], key: SnapshotKey = KEY, words: Passphrase | None = None
) -> Break:
    """Return a function that breaks a rule: the bytes of a snapshot are changed before a key opens it."""
    return lambda _: refused(open_snapshot, change(_sealed()), key, None)


def put(at: int, data: bytes) -> Callable[[bytes], bytes]:
    """Return a function that writes `data` over bytes, from the offset `at` on."""
    return lambda old: old[:at] + data + old[at + len(data) :]


def _unreadable(_: Path) -> Rule:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(snapshots, "_encoded", lambda contents, portable: b"\0\1")
        blob = _sealed()
    return refused(open_snapshot, blob, KEY, None)


def _taken(folder: Path) -> Rule:
    files = SnapshotFiles(folder / "snapshots")
    files.write("a", b"", portable=False)
    return refused(files.demand_new, "a")


def _bound(name: str) -> Break:
    """Return a function that breaks a bound of `shelf_files`, which is 0 meanwhile."""

    def broken(folder: Path) -> Rule:
        files = SnapshotFiles(folder / "snapshots")
        files.write("a", b"12", portable=False)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(shelf_files, name, 1)
            if name == "LARGEST_SNAPSHOT":
                return refused(files.read, "a")
            return refused(files.write, "b", b"", portable=False)

    return broken


def _link(folder: Path) -> Rule:
    files = SnapshotFiles(folder / "snapshots")
    files.write("b", b"", portable=False)
    (files.folder / "a.snapshot").symlink_to(folder)
    return refused(files.read, "a")


def _open_file(folder: Path) -> Rule:
    (folder / "words").write_text("correct horse battery\n")
    (folder / "words").chmod(0o644)
    return refused(_of_file, folder / "words")


def _loaded(folder: Path, *, running: bool) -> Rule:
    async def load() -> Rule:
        world = World(folder)
        machine = world.start()
        await world.of(machine).save("a")
        if running:
            machine.start()
        return await refused_late(world.of(machine).load("a", keep_uuid=not running))

    return trio.run(load)


def _no_folder(_: Path) -> Rule:
    async def ask() -> Rule:
        return await refused_late(list_snapshots(Call(make_machine(), "", None)))

    return trio.run(ask)


BREAKS: Breaks = {
    "snapshot.name": breaks(requests.save_snapshot, "../a"),
    "snapshot.new": _taken,
    "snapshot.exists": lambda folder: refused(SnapshotFiles(folder).read, "a"),
    "snapshot.count": _bound("MOST_SNAPSHOTS"),
    "snapshot.size": _bound("LARGEST_SNAPSHOT"),
    "snapshot.stored": _no_folder,
    "snapshot.file": _link,
    "snapshot.place": breaks(_place, Namespace(verb="show"), Path("./a"), None),
    "snapshot.passphrase": breaks(requests.save_snapshot, "a", "too short"),
    "snapshot.secret": _open_file,
    "snapshot.idle": lambda folder: _loaded(folder, running=True),
    "snapshot.keep-uuid": lambda folder: _loaded(folder, running=False),
    "snapshot.header": opened(put(0, b"T")),
    "snapshot.level": opened(put(4, b"\2")),
    "snapshot.length": opened(lambda old: old[:-1]),
    "snapshot.parameters": opened(put(42, b"\x14")),
    "snapshot.system": opened(bytes, SnapshotKey(b"k" * 32)),
    "snapshot.authentic": opened(lambda old: old[:-1] + bytes([old[-1] ^ 1])),
    "snapshot.contents": _unreadable,
}
