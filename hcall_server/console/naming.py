"""Names in place of ids in messages: a system has only the ids of others, the console has the names.

names = Names(systems, entries)
names.put(error)      # "lpar1 is RELEASED, with the system 5e1f..." becomes "..., with the system sys2"
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from hcall_abi.errors import SwpksError
from hcall_abi.rules import console, migration

if TYPE_CHECKING:
    from hcall_server.console.entries import Entry
    from hcall_server.console.systems import KnownSystem

_ID = re.compile(r"(?<![\w(-])(?:[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9a-f]{32})(?![\w-])")
"""The UUID of a partition, or the id of a system.  An id in brackets already follows its name."""
_ABOUT_IDS = (migration.CUSTODY_UUID.id, console.CONSOLE_COPY.id)
"""Rules of refusals that compare two UUIDs: both partitions may have the same name."""


class Names:
    """The names that the console knows; `entries` returns its register."""

    def __init__(
        self, systems: Callable[[], Iterable[KnownSystem]], entries: Callable[[], Iterable[Entry]]
    ) -> None:
        self._systems = systems
        self._entries = entries

    def __repr__(self) -> str:
        return f"Names({len(list(self._systems()))} systems)"

    def put(self, error: SwpksError) -> None:
        """Put names in place of the ids in the text of an error; an unknown id stays."""
        if error.rule.id not in _ABOUT_IDS:
            error.message = self.named(error.message)
            error.args = (error.message,)

    def named(self, text: str) -> str:
        """Return a text with names in place of the ids that the console knows."""
        return _ID.sub(lambda found: self.of(found[0]) or found[0], text)

    def of(self, known_id: str) -> str:
        """Return the name of a system or a partition, "" for an unknown one."""
        if len(known_id) == 32:
            return self._of_system(known_id)
        return next((name for uuid, name in self._partitions() if uuid == known_id), "")

    def partition(self, uuid: str) -> str:
        """Return the name of a partition for a message, or "the partition UUID" if its name is unknown."""
        return self.of(uuid) or f"the partition {uuid}"

    def _of_system(self, system_id: str) -> str:
        systems = list(self._systems())
        present = next((each.name for each in systems if each.system_id == system_id), "")
        return present or next((each.name for each in systems if system_id in each.former_ids), "")

    def _partitions(self) -> Iterable[tuple[str, str]]:
        """Yield UUIDs and names of partitions, those of present views first."""
        for system in self._systems():
            if system.view:
                yield from ((each.uuid, each.name) for each in system.view.partitions)
        # Stored names come last, because the present view of any system is newer than all of them.
        for system in self._systems():
            if system.view:
                yield from ((each.uuid, each.name) for each in system.view.custody)
            yield from (system.last.partitions if system.last else {}).items()
            yield from ((each.uuid, each.name) for each in system.copies)
        yield from ((each.uuid, each.name) for each in self._entries())
