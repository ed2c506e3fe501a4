"""Copies on the console: which copies stay, and in which order a recovery tries them.  Pure.

    gone = superfluous(copies, stores, key_id, keep)

The console can't open a copy (R-44).  It orders the copies of a store by two counters in the header:
`restores`, then `generation`.  Each restore of a store adds one to `restores`.  So later copies rank above
all copies from before the restore.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime
from typing import NamedTuple

from hcall_abi.control_views import CopyView
from hcall_abi.counts import counted
from hcall_abi.errors import OperatorError
from hcall_abi.rules import backup as rules
from hcall_server.sealing.copies import read_copy


class CopyFacts(NamedTuple):
    """The clear facts of a stored copy; `number` is its key in the store.

    `name` is the partition's name when the copy was taken.  Both times are in seconds since 1970.  `time` is
    when the system made the copy, by the system's clock.  `received` is when the copy arrived, by the
    console's clock.
    """

    number: int
    uuid: str
    name: str
    restores: int
    generation: int
    time: int
    kbytes: int
    firmware: str
    trusted_key_id: str
    received: float

    @property
    def rank(self) -> tuple[int, int]:
        """The rank of a copy among the copies of its store: restores, then generation."""
        return self.restores, self.generation


def arrived(view: CopyView, name: str, received: float) -> CopyFacts:
    """Return the facts of a copy that has just arrived; their `number` is 0.

    CopyError if the clear header does not parse.  OperatorError if the header differs from the answer.
    """
    header = read_copy(view.copy)
    # The console uses the facts in the answer, but no seal protects the answer.  The header is sealed with
    # the copy, so both must be equal.
    found = (str(header.uuid), *header.age, header.time, header.tsk_id.hex())
    if found != (view.uuid, view.restores, view.generation, view.time, view.trusted_key_id):
        raise OperatorError(rules.COPY_HEADER, f"the copy of {name} has another header than its answer says")
    return CopyFacts(
        0,
        view.uuid,
        name,
        view.restores,
        view.generation,
        view.time,
        view.keystore_kbytes,
        view.firmware_level,
        view.trusted_key_id,
        received,
    )


def by_store(copies: Iterable[CopyFacts]) -> dict[str, list[CopyFacts]]:
    """Return the copies of each store, by its UUID, the newest first."""
    found: dict[str, list[CopyFacts]] = {}
    for each in sorted(copies, key=lambda copy: (copy.rank, copy.number), reverse=True):
        found.setdefault(each.uuid, []).append(each)
    return found


def superfluous(copies: Iterable[CopyFacts], stores: Collection[str], key_id: str, keep: int) -> set[int]:
    """Return the numbers of the copies that may be dropped.

    For each store and each trusted system key, the `keep` newest copies stay.  If two copies have equal
    `restores` and `generation`, their contents are equal, and only the last one stays.

    Copies under other keys than `key_id` are dropped late.  First each of the `stores` must have a copy under
    `key_id`.  Then a store with such a copy needs no others.
    """
    copies = list(copies)
    renewed = {each.uuid for each in copies if each.trusted_key_id == key_id}
    # Until every store has a copy under the new key, the old copies stay.  An operator who brings the old key
    # as a file can then restore all stores with this one key.
    complete = renewed >= set(stores)
    gone = set[int]()
    for uuid, found in by_store(copies).items():
        taken: dict[str, list[tuple[int, int]]] = {}
        for each in found:
            ranks = taken.setdefault(each.trusted_key_id, [])
            old = complete and uuid in renewed and each.trusted_key_id != key_id
            if old or each.rank in ranks or len(ranks) >= keep:
                gone.add(each.number)
            else:
                ranks.append(each.rank)
    return gone


_UNITS: Mapping[str, int] = {"days": 86400, "hours": 3600, "minutes": 60}


def age_text(seconds: float) -> str:
    """Return an age for people: ``12 seconds``, ``5 minutes``, ``3 hours``, ``9 days``."""
    for unit, size in _UNITS.items():
        if seconds >= 2 * size:
            return f"{int(seconds // size)} {unit}"
    return counted(max(0, int(seconds)), "second")


def time_text(time: float) -> str:
    """Return a time in seconds since 1970 as UTC, such as ``2026-08-01 12:00:00 UTC``."""
    try:
        return datetime.fromtimestamp(int(time), UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    # The clock of the system may be wrong by any amount, and the line must still be printed.
    except (OverflowError, OSError, ValueError):
        return f"{int(time)} s since 1970"


def origin_text(copy: CopyFacts, now: float) -> str:
    """Return the time, the age and the generation of a copy as text for a line."""
    age = age_text(now - copy.time)
    return f"from {time_text(copy.time)}, {age} ago, generation {copy.generation}"
