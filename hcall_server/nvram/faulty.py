"""NVRAM that fails by plan: the twin for trouble that real disks give too seldom (R-23)."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from hcall_server.nvram.seam import Nvram, NvramError, Trouble

Operation = Literal["load", "commit"]


@dataclass(frozen=True)
class Fail:
    """Raise NvramError of this kind: before the operation takes effect, or after it (the answer is lost)."""

    kind: Trouble = "io"
    after: bool = False


@dataclass(frozen=True)
class Stall:
    """Hang until `release` is set, then go on; `entered` is set once the operation hangs."""

    release: threading.Event = field(default_factory=threading.Event)
    entered: threading.Event = field(default_factory=threading.Event)


@dataclass(frozen=True)
class Planned:
    """One trouble for the `nth` operation (from 1) of its sort."""

    operation: Operation
    nth: int
    trouble: Fail | Stall


class FaultyNvram:
    """Another NVRAM with planned troubles, and any that `trouble` asks for until `heal`."""

    def __init__(self, inner: Nvram, plan: Iterable[Planned] = ()) -> None:
        self.inner = inner
        self.counts: dict[Operation, int] = {"load": 0, "commit": 0}
        """How many operations of each sort were begun."""
        self._plan = {(planned.operation, planned.nth): planned.trouble for planned in plan}
        self._always: dict[Operation, Fail | Stall] = {}

    def trouble(self, trouble: Fail | Stall, operation: Operation = "commit") -> None:
        """Meet every later operation of this sort with `trouble`, until `heal`."""
        self._always[operation] = trouble

    def heal(self) -> None:
        """End what `trouble` began; what is planned stays planned."""
        self._always.clear()

    def load(self) -> dict[str, bytes]:
        """Return the inner NVRAM's records, if the plan lets it."""
        trouble = self._begin("load")
        records = self.inner.load()
        _fail_after(trouble)
        return records

    def commit(self, changes: Mapping[str, bytes | None]) -> None:
        """Commit to the inner NVRAM, if the plan lets it."""
        trouble = self._begin("commit")
        self.inner.commit(changes)
        _fail_after(trouble)

    def close(self) -> None:
        """Close the inner NVRAM."""
        self.inner.close()

    def _begin(self, operation: Operation) -> Fail | Stall | None:
        """Count the operation, meet the trouble that comes before it, and return what it met."""
        self.counts[operation] += 1
        trouble = self._plan.get((operation, self.counts[operation])) or self._always.get(operation)
        match trouble:
            case Stall(release, entered):
                entered.set()
                release.wait()
            case Fail(kind, after=False):
                raise _planned_error(kind)
        return trouble


def _fail_after(trouble: Fail | Stall | None) -> None:
    if isinstance(trouble, Fail):
        raise _planned_error(trouble.kind)


def _planned_error(kind: Trouble) -> NvramError:
    return NvramError(kind, f"NVRAM: {kind} (a planned fault)")
