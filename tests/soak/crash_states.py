"""Crash states of a system's files: record a run, leave the disk as a power cut may leave it, and start.

The check opens each state by the server's own assembly. It fails if the start is refused, or if a partition
is refused or missing. It also fails if the state of a partition never existed, or is older than the last
confirmed one.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import NamedTuple

from tests.soak.disk import Disk, Tree
from tests.soak.history import Whole, difference
from tests.soak.recording import events
from tests.soak.scenario import NAMES, Scenario
from tests.soak.stored import stored

ABSENT = Whole({}, "off")
"""The state of a missing partition, which is right if it was never confirmed."""
TRIES = 1.25
"""Number of states made for each new one: between two syncs, only a few states differ."""


class Crash(NamedTuple):
    """A disk after a power cut that follows `event`.

    A start may find nothing older than `floors` and `ipls`.
    """

    event: int
    tree: Tree
    floors: dict[str, int]
    ipls: dict[str, int]


def crashes(scenario: Scenario, count: int, chance: Random) -> Iterator[Crash]:
    """Yield at least `count` different crash states, at places all over a recording."""
    recorded = list(events(scenario.log))
    places = Counter(chance.choices(range(len(recorded)), k=round(count * TRIES)))
    disk, floors, ipls = Disk(chance), dict.fromkeys(NAMES, 0), dict.fromkeys(NAMES, 0)
    seen = set[bytes]()
    for first in scenario.first:
        disk.hold(*first)
    for number, event in enumerate(recorded):
        if event.kind != "N":
            disk.apply(event)
        elif "life" in event.note:
            disk.restarted()
        else:
            floors[event.note["name"]], ipls[event.note["name"]] = event.note["floor"], event.note["ipls"]
        for _ in range(places[number]):
            tree = next((each for _ in range(8) if _print(each := disk.crash(), floors) not in seen), None)
            if tree is not None:
                seen.add(_print(tree, floors))
                yield Crash(number, tree, dict(floors), dict(ipls))
    assert disk.seen() == tree_of(scenario.root), "the recording is not faithful"


def tree_of(root: Path) -> Tree:
    """Return the files below a folder, except those that a recording leaves out."""
    found: Tree = {}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if not path.is_socket() and "/run/" not in name and not name.endswith(".log"):
            found[name] = path.read_bytes() if path.is_file() else None
    return found


def judge(crash: Crash, scenario: Scenario, folder: Path) -> str:
    """Start on a crash state; return "lost news" or "whole". If a promise is broken, raise AssertionError."""
    lay_out(crash.tree, folder)
    found = stored(folder / "state")
    for name, (whole, ipls) in scenario.kept.items():
        assert name in found, f"partition {name} of the old state is gone"
        assert found[name][0] == whole, f"{name} of the old state: {difference(found[name][0], [whole])}"
        assert found[name][1] >= ipls, f"{name} of the old state counts from {ipls} IPLs on"
    lost = False
    for name, chronicle in scenario.chronicles.items():
        known, floor = chronicle.everything, crash.floors[name]
        whole, count = found.get(name, (ABSENT, 0))
        assert count >= crash.ipls[name], f"{name}: IPL {count}, and the guest has seen {crash.ipls[name]}"
        assert name in found or not floor, f"partition {name} is gone"
        assert whole in known, f"{name}: a state that never was: {difference(whole, known)}"
        assert whole in known[floor:], f"{name}: older than state {floor}, which was confirmed"
        lost |= whole != known[-1]
    return "lost news" if lost else "whole"


def lay_out(tree: Tree, folder: Path) -> None:
    """Write the files of a tree into a new folder."""
    for name, content in tree.items():
        path = folder / name
        if content is None:
            path.mkdir(mode=0o700, parents=True)
        else:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            os.write(descriptor, content)
            os.close(descriptor)


def _print(tree: Tree, floors: dict[str, int]) -> bytes:
    found = hashlib.blake2b(repr(sorted(floors.items())).encode())
    for name, content in tree.items():
        found.update(f"{name}:{content is None}:{len(content or b'')}:".encode() + (content or b""))
    return found.digest()
