"""The state of a running keystore besides its stored image; it moves with the partition.

A live migration is no IPL (R-51).  So passwords, volatile objects and open label lists go on at the target.
They travel in memory and are never stored (R-04, R-14).
"""

from __future__ import annotations

from typing import NamedTuple

from hcall_server.keystore.image import StoredObject


class Password(NamedTuple):
    """The password of a consumer in this IPL."""

    consumer: int
    secret: bytes

    def __repr__(self) -> str:
        return f"Password(consumer={self.consumer}, <{len(self.secret)} bytes>)"


class Placed(NamedTuple):
    """A volatile object, and its place in the list of all objects.  A list of labels has the same order."""

    place: int
    object: StoredObject


class Listing(NamedTuple):
    """An open list of labels: its token, its consumer, and the labels that are left."""

    token: int
    consumer: int
    labels: tuple[bytes, ...]

    def __repr__(self) -> str:
        return f"Listing(consumer={self.consumer}, {len(self.labels)} labels)"


class UsedState(NamedTuple):
    """Passwords, volatile objects, and open lists, the oldest list first."""

    passwords: tuple[Password, ...] = ()
    objects: tuple[Placed, ...] = ()
    listings: tuple[Listing, ...] = ()

    def __repr__(self) -> str:
        return (
            f"UsedState({len(self.passwords)} passwords, {len(self.objects)} objects, "
            f"{len(self.listings)} lists)"
        )
