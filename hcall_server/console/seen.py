"""The largest counters of each store that the console has seen, on any of its systems (R-45).

A system that has lost or deleted a store does not know its counters any more.  The target of a migration has
never known them.  So the console sends them with each restore, and with each copy that a system has to own.
Otherwise an older copy could have larger counters than the restored store.  The next recovery would use it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

import msgspec

from hcall_abi.control_bodies import ArrivingCopy, CopyToRestore
from hcall_abi.control_views import PartitionView
from hcall_abi.errors import SwpksError
from hcall_abi.requests import ConsoleRequest
from hcall_server.sealing.copies import read_copy

if TYPE_CHECKING:
    from hcall_server.console.store import ConsoleStore

T = TypeVar("T")
StoreCounters = tuple[int, int, int]
"""Restores, generation and IPL count."""


class SeenStores:
    """Stores counters from views of partitions; counters of copies are stored with the copy.

    While the disk of the console is full, counters stay in memory and are stored later.  No answer fails
    because of that.
    """

    def __init__(self, store: ConsoleStore) -> None:
        self._store = store
        self._noted: dict[str, StoreCounters] = {}
        self._unsaved: dict[str, StoreCounters] = {}

    def __repr__(self) -> str:
        return f"SeenStores({len(self._noted)} noted, {len(self._unsaved)} unsaved)"

    def note(self, *views: PartitionView) -> None:
        """Remember the counters in views of partitions, where they are larger than before."""
        for view in views:
            counters = view.restores, view.generation, view.ipl_count
            larger = _larger(counters, self._noted.get(view.uuid, (0, 0, 0)))
            if larger != self._noted.get(view.uuid):
                self._noted[view.uuid] = self._unsaved[view.uuid] = larger
        if self._unsaved:
            try:
                self._store.note_seen(self._unsaved)
            except SwpksError:  # the next note tries again
                return
            self._unsaved = {}

    def completed(self, request: ConsoleRequest[T]) -> ConsoleRequest[T]:
        """Return the request; a request to restore or take a copy gets the largest counters of its store."""
        body = request.body
        if not isinstance(body, CopyToRestore | ArrivingCopy):
            return request
        try:
            uuid = str(read_copy(body.copy).uuid)
        except SwpksError:  # the system will refuse the copy, with a reason
            return request
        stored = _larger(self._store.seen(uuid), self._noted.get(uuid, (0, 0, 0)))
        restores, generation, ipl_count = _larger(
            stored, (body.seen_restores, body.seen_generation, body.seen_ipl_count)
        )
        changed = msgspec.structs.replace(
            body, seen_restores=restores, seen_generation=generation, seen_ipl_count=ipl_count
        )
        return replace(request, body=changed)


def is_check(request: ConsoleRequest[T]) -> bool:
    """Return whether a request only checks a copy: its answer does not show the present store."""
    return isinstance(request.body, CopyToRestore | ArrivingCopy) and request.body.check


def _larger(one: StoreCounters, other: StoreCounters) -> StoreCounters:
    return max(one[0], other[0]), max(one[1], other[1]), max(one[2], other[2])
