"""The message for an unknown partition name: similar names, or all names of the system."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from hcall_abi.near import did_you_mean, near_names
from hcall_server.platform.custody import Custody

if TYPE_CHECKING:
    from hcall_server.platform.departed import Departed
    from hcall_server.platform.partition import Partition

_MOST = 10
"""Most names in a refusal: a system may have a thousand partitions."""

_LONGEST = 64
"""Characters of a name that is compared with the others; a name has 31 at most."""


def no_partition(name: str, partitions: Mapping[str, Partition], departed: Iterable[Departed] = ()) -> str:
    """Return the message for an unknown partition name.

    If the operator has given the id of a partition, the message has the name of this partition.  If the
    partition is in `departed`, it says where to ask.
    """
    told = f"there is no partition {name!r}"
    left = [each for each in departed if each.name == name and each.custody is Custody.GONE]
    if left:
        # No similar name follows: the operator would change the wrong partition.
        newest = max(left, key=lambda each: each.epoch)
        peer = f"the system with the id {newest.peer.hex()}" if newest.peer else "another system"
        return f"{told}; it has left this system by a migration: ask {peer}, or the console"
    owner = next((each.name for each in partitions.values() if str(each.number) == name), "")
    if owner:
        return f"{told}; {name} is the id of {owner}: give its name"
    # A request may have a name of any length, and the time of the search grows with it.
    near = near_names(name, partitions, 3) if len(name) <= _LONGEST else []
    if question := did_you_mean(near):
        return f"{told}; {question}"
    more = len(partitions) - _MOST
    known = ", ".join(list(partitions)[:_MOST]) + (f" and {more} more" if more > 0 else "")
    return f"{told}; the system has {known or 'no partition'}"
