"""NVRAM that fails by plan or on demand: trouble that real disks give too seldom (R-23, R-75).

Simulations plan it; the management console asks for it at a server that runs (spec/faults.md#nvram).
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

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


class Lasting(NamedTuple):
    """A trouble that goes on: for so many more operations, or (None) until somebody heals it."""

    trouble: Fail | Stall
    left: int | None


class FaultyNvram:
    """Another NVRAM with planned troubles, and any that `trouble` asks for until it is over or healed.

    It is asked by one thread and told by another.
    """

    def __init__(self, inner: Nvram, plan: Iterable[Planned] = ()) -> None:
        self.inner = inner
        self.counts: dict[Operation, int] = {"load": 0, "commit": 0}
        """How many operations of each sort were begun."""
        self._plan = {(planned.operation, planned.nth): planned.trouble for planned in plan}
        self._lasting: dict[Operation, Lasting] = {}
        self._lock = threading.Lock()

    def trouble(
        self, trouble: Fail | Stall, operation: Operation = "commit", times: int | None = None
    ) -> None:
        """Meet later operations of this sort with `trouble`: the next `times`, or all until `heal`."""
        with self._lock:
            self._lasting[operation] = Lasting(trouble, times)

    def heal(self) -> None:
        """End what `trouble` began, and let go what hangs; what is planned stays planned."""
        with self._lock:
            troubles = [lasting.trouble for lasting in self._lasting.values()]
            self._lasting.clear()
        for trouble in troubles:
            if isinstance(trouble, Stall):
                trouble.release.set()

    def lasting(self, operation: Operation = "commit") -> Lasting | None:
        """Return what `trouble` has begun and is not over."""
        with self._lock:
            return self._lasting.get(operation)

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
        trouble = self._plan.get((operation, self.counts[operation])) or self._next(operation)
        match trouble:
            case Stall(release, entered):
                entered.set()
                release.wait()
            case Fail(kind, after=False):
                raise _planned_error(kind)
        return trouble

    def _next(self, operation: Operation) -> Fail | Stall | None:
        """Return the lasting trouble, if there is one, and count it."""
        with self._lock:
            lasting = self._lasting.get(operation)
            if lasting is None:
                return None
            if lasting.left is not None:
                self._lasting[operation] = lasting._replace(left=lasting.left - 1)
                if lasting.left <= 1:
                    del self._lasting[operation]
            return lasting.trouble


def _fail_after(trouble: Fail | Stall | None) -> None:
    if isinstance(trouble, Fail):
        raise _planned_error(trouble.kind)


def _planned_error(kind: Trouble) -> NvramError:
    return NvramError(kind, f"NVRAM: {kind} (a planned fault)")
