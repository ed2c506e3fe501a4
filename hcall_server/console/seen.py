"""The largest counters of each store that the console has seen, on any of its systems (R-45).

A system does not know the counters of a store that it has lost or deleted.  The target of a migration does
not know them either.  Without them an older copy could count as newer than the restored store, and the next
recovery would use it.  So the console sends the counters with each restore, and with each copy for a new
owner.
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
    """Stores the largest counters from views of partitions.

    The counters of a copy are stored with the copy.  While the console's disk is full, counters stay in
    memory and are stored later.  So no answer fails because of them.
    """

    def __init__(self, store: ConsoleStore) -> None:
        self._store = store
        self._noted: dict[str, StoreCounters] = {}
        self._unsaved: dict[str, StoreCounters] = {}

    def __repr__(self) -> str:
        return f"SeenStores({len(self._noted)} noted, {len(self._unsaved)} unsaved)"

    def note(self, *views: PartitionView) -> None:
        """Remember the counters in these views, if they are larger than before."""
        for view in views:
            counters = view.restores, view.generation, view.ipl_count
            larger = _larger(counters, self._noted.get(view.uuid, (0, 0, 0)))
            if larger != self._noted.get(view.uuid):
                self._noted[view.uuid] = self._unsaved[view.uuid] = larger
        if self._unsaved:
            try:
                self._store.note_seen(self._unsaved)
            # The disk is full.  The counters stay in memory, and the next call tries again.
            except SwpksError:
                return
            self._unsaved = {}

    def completed(self, request: ConsoleRequest[T]) -> ConsoleRequest[T]:
        """Return the request, with the largest counters of its store if it carries a copy."""
        body = request.body
        if not isinstance(body, CopyToRestore | ArrivingCopy):
            return request
        try:
            uuid = str(read_copy(body.copy).uuid)
        # The copy is unreadable.  The request stays as it is, and the system refuses the copy.
        except SwpksError:
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
