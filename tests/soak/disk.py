"""A disk under a running system, and the states that a power cut may leave on it.

Writes reach the disk's cache at once and the disk at any later time, in any order, sector by sector. A sync
puts a file's earlier writes, or a folder's earlier entries, on the disk. The model promises nothing else:

- **Sectors** of 512 or 4,096 bytes. A sector holds one of the contents that it had since the last sync.
  So a write may be torn between sectors, and writes may overtake each other.
- **Subsets**. In other states, any whole writes are on the disk and the others are not. Two writes may then
  share a sector.
- **Junk**. The bytes that were being written to a sector may hold anything. The other bytes of the sector
  stay: SQLite relies on that too and calls it powersafe overwrite.
- **Sizes**. A file may have any size that it had since the last sync. Bytes that were never written are zero.
- **Entries of a folder** reach the disk in the order of the calls, up to some point. Each folder has its own
  point. If a file was synced and its entry was not, the file is lost.
- **Renames** have happened or have not, also between two folders. A journal writes both entries in one
  transaction, and a sync of one folder writes it for both.
- **A failed sync** leaves some of the writes on the disk, and no later sync repeats the others.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import NamedTuple

from tests.soak.recording import Event
from tests.soak.sectors import Change, enact, replay, torn

Tree = dict[str, "bytes | None"]
"""A disk's content: paths below the root, with a file's bytes, or None for a folder."""
PLANS = ("none", "all", "prefix", "until", "subset", "sectors", "junk", "mixed", "mixed", "mixed")


@dataclass
class File:
    """A file: its durable content, its pending changes, and the content that processes see."""

    durable: bytes = b""
    content: bytearray = field(default_factory=bytearray)
    pending: list[Change] = field(default_factory=list)
    covered: int | None = None
    """The number of pending changes that the running sync covers; None if no sync runs."""

    def change(self, change: Change) -> None:
        """Record a change."""
        self.pending.append(change)
        enact(self.content, change)


@dataclass
class Folder:
    """A folder: its durable entries, and its pending changes with their times."""

    durable: dict[str, File | Folder] = field(default_factory=dict)
    pending: list[tuple[int, dict[str, File | Folder | None]]] = field(default_factory=list)
    covered: int | None = None

    def entries(self, changes: int | None = None) -> dict[str, File | Folder]:
        """Return the entries after this number of pending changes, or after all."""
        found: dict[str, File | Folder | None] = dict(self.durable)
        for _, changed in self.pending[:changes]:
            found.update(changed)
        return {name: node for name, node in found.items() if node is not None}


class Move(NamedTuple):
    """A rename between two folders. Both entries change at this time, or neither does."""

    time: int
    left: Folder
    entered: Folder


class Disk:
    """The files below one folder. `apply` performs an event of a recording; `crash` returns a crash state."""

    def __init__(self, chance: Random) -> None:
        self.root = Folder()
        self.time = 0
        self._chance = chance
        self._files: dict[int, File] = {}
        self._moves: list[Move] = []

    def hold(self, path: str, inode: int, content: bytes | None) -> None:
        """Add a durable file, or with content None a durable folder, before the first event."""
        folder, _, name = path.rpartition("/")
        node: File | Folder = Folder() if content is None else File(content, bytearray(content))
        self._find(folder).durable[name] = node
        if isinstance(node, File):
            self._files[inode] = node

    def apply(self, event: Event) -> None:
        """Apply one event of a recording."""
        self.time += 1
        match event.kind:
            case "W" | "T":
                data = event.data if event.kind == "W" else None
                self._files[event.inode].change(Change(self.time, event.offset, data))
            case "C":
                self._files[event.inode] = File()
                self._enter(event.path, self._files[event.inode])
            case "D":
                self._enter(event.path, Folder())
            case "R":
                self._rename(*event.path.split("\n"))
            case "U":
                self._enter(event.path, None)
            case "S" | "E":
                node = self._files.get(event.inode) or self._find(event.path)
                self._sync(node, ended=event.kind == "E", good=bool(event.flag))

    def restarted(self) -> None:
        """End the process. Its running syncs promise nothing then."""
        nodes: list[File | Folder] = [*self._files.values(), *self._folders(self.root)]
        for node in nodes:
            node.covered = None

    def seen(self) -> Tree:
        """Return the files as processes see them now. A kill leaves them as they are."""
        return dict(self._tree(self.root, "", _Plan("seen", self._chance, self.time)))

    def crash(self) -> Tree:
        """Return one of the states that a power cut may leave now."""
        plan = self._chance.choice(PLANS)
        settled = _Plan(plan, self._chance, self.time)
        settled.settle(self._moves)
        return dict(self._tree(self.root, "", settled))

    def _tree(self, folder: Folder, path: str, plan: _Plan) -> Iterator[tuple[str, bytes | None]]:
        for name, node in folder.entries(plan.entries(folder)).items():
            if isinstance(node, File):
                yield path + name, plan.content(node)
            else:
                yield path + name, None
                yield from self._tree(node, f"{path}{name}/", plan)

    def _enter(self, path: str, node: File | Folder | None) -> None:
        folder, _, name = path.rpartition("/")
        self._find(folder).pending.append((self.time, {name: node}))

    def _rename(self, old: str, new: str) -> None:
        folder, _, name = old.rpartition("/")
        found, place = self._find(folder), self._find(new.rpartition("/")[0])
        node = found.entries()[name]
        if place is found:
            found.pending.append((self.time, {name: None, new.rpartition("/")[2]: node}))
            return
        found.pending.append((self.time, {name: None}))
        place.pending.append((self.time, {new.rpartition("/")[2]: node}))
        self._moves.append(Move(self.time, found, place))

    def _find(self, path: str) -> Folder:
        node: File | Folder = self.root
        for name in filter(None, path.split("/")):
            assert isinstance(node, Folder)
            node = node.entries()[name]
        assert isinstance(node, Folder)
        return node

    def _folders(self, folder: Folder) -> Iterator[Folder]:
        yield folder
        for node in folder.entries().values():
            if isinstance(node, Folder):
                yield from self._folders(node)

    def _sync(self, node: File | Folder, *, ended: bool, good: bool) -> None:
        if not ended:
            node.covered = len(node.pending)
            return
        count, node.covered = node.covered or 0, None
        if isinstance(node, Folder):
            if good:
                self._settle(node, count)
            return
        done = node.pending[:count]
        node.durable = replay(node.durable, done) if good else torn(node.durable, done, self._chance)
        node.pending = node.pending[count:]

    def _settle(self, folder: Folder, count: int) -> None:
        """Make the first changes of a folder durable, and with each move its other half."""
        times = {time for time, _ in folder.pending[:count]}
        folder.durable, folder.pending = folder.entries(count), folder.pending[count:]
        for move in [each for each in self._moves if each.time in times]:
            self._moves.remove(move)
            other = move.entered if move.left is folder else move.left
            self._settle(other, sum(time <= move.time for time, _ in other.pending))


class _Plan:
    """How many of the pending changes are on the disk after a power cut."""

    def __init__(self, plan: str, chance: Random, now: int) -> None:
        self._plan = plan
        self._chance = chance
        self._until = chance.randint(max(0, now - 40), now)
        self._counts: dict[int, int] = {}

    def settle(self, moves: Sequence[Move]) -> None:
        """Change the choice until each move is on the disk with both halves or with neither."""
        while True:
            half = [each for each in moves if self._has(each.left, each) != self._has(each.entered, each)]
            if not half:
                return
            for move in half:
                for folder in (move.left, move.entered):
                    before = sum(time < move.time for time, _ in folder.pending)
                    self._counts[id(folder)] = min(self.entries(folder), before)

    def _has(self, folder: Folder, move: Move) -> bool:
        return any(time == move.time for time, _ in folder.pending[: self.entries(folder)])

    def entries(self, folder: Folder) -> int:
        """Return the number of a folder's pending changes that are on the disk."""
        if id(folder) not in self._counts:
            self._counts[id(folder)] = self._chosen(folder)
        return self._counts[id(folder)]

    def _chosen(self, folder: Folder) -> int:
        match self._plan:
            case "none":
                return 0
            case "all" | "seen":
                return len(folder.pending)
            case "until":
                return sum(time <= self._until for time, _ in folder.pending)
        return self._chance.randint(0, len(folder.pending))

    def content(self, file: File) -> bytes:
        """Return the content that a file has after the power cut."""
        if self._plan == "seen":
            return bytes(file.content)
        if not file.pending:
            return file.durable
        plan, chance, changes = self._plan, self._chance, file.pending
        if plan == "mixed":
            plan = chance.choice(PLANS[:-3])
        match plan:
            case "none":
                return file.durable
            case "all":
                return replay(file.durable, changes)
            case "until":
                return replay(file.durable, [each for each in changes if each.time <= self._until])
            case "prefix":
                return replay(file.durable, changes[: chance.randint(0, len(changes))])
            case "subset":
                return replay(file.durable, [each for each in changes if chance.random() < 0.5])
        return torn(file.durable, changes, chance, junk=plan == "junk")
