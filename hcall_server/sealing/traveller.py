"""A partition that travels to another system: FINAL of a migration (spec/sealed.md#a-partition-that-travels).

The bytes are never stored.  The channel protects them on the way, so they are not sealed.
"""

# A partition that travels
#
# It has the stored record, and the volatile state of a running keystore (`hcall_server.keystore.used`).  The
# source sends it while its calls are held, so encoding and decoding have to be quick.  So volatile objects
# have the encoding of an image, whose codec needs a microsecond for each.
#
# The size is bounded.  A store has 128 KiB at most, and the entry of an object is smaller than its space in
# the store.  The open lists of labels may be larger than the store: there are up to 16, and the objects in
# them may be removed since.  So lists that do not fit are left out, the oldest first.  The guest's next call
# with such a token is answered H_P2.  The same happens after 16 further lists.  Then the guest starts a new
# list.
#
# The other end has proven that it holds the token of this attempt.  It may still be faulty, or of another
# release.  So reading is strict: any bytes give an error, or a partition that could have been sent.

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, NoReturn
from uuid import UUID

from construct import ConstructError, Int32ub, Struct

from hcall_abi.bounds import MAX_FINAL
from hcall_abi.console import SWITCH
from hcall_abi.consumers import Consumer, SecureBoot
from hcall_abi.errors import PeerError
from hcall_abi.layout import FixedLayout
from hcall_abi.rules import migration as rules
from hcall_server.keystore.contents import VOLATILE
from hcall_server.keystore.image import StoredObject, StoreImage, object_of
from hcall_server.keystore.tokens import MAX_OPEN
from hcall_server.keystore.used import Listing, Password, Placed, UsedState
from hcall_server.sealing.errors import PlaintextError
from hcall_server.sealing.images import decode_image, encode_image
from hcall_server.sealing.partitions import PartitionRecord, decode_partition, encode_partition
from hcall_server.sealing.traveller_formats import TRAVELLER, TRAVELLER_LEVEL

FORMATS = (TRAVELLER_LEVEL,)
"""The levels of this format that this release reads and writes."""

_NOTHING = UsedState()
_PLACE = FixedLayout(Struct("place" / Int32ub))
_LENGTH = 2
"""Bytes of the length of a label."""
_CONSUMERS = frozenset(int(consumer) for consumer in Consumer)
_MODES = frozenset(int(mode) for mode in SecureBoot)


class Traveller(NamedTuple):
    """A partition in a live migration: its record, and for a running one the used state of its keystore.

    `used` is None for a partition that is powered off, or has no keystore.  `secure_boot` is the mode of its
    IPL.  The record has custody OWN and no attempt.
    """

    record: PartitionRecord
    used: UsedState | None = None
    secure_boot: SecureBoot = SecureBoot.OFF

    def __repr__(self) -> str:
        return f"Traveller({self.record.profile.name!r}, {self.record.profile.uuid})"


def encode_traveller(traveller: Traveller) -> bytes:
    """Return the bytes of a partition that travels; PeerError if it is too large for every target.

    The oldest open lists of labels are left out if they do not fit.
    """
    (profile, image), used = traveller.record, traveller.used
    body = used or _NOTHING
    values = {
        "secure_boot": int(traveller.secure_boot),
        "used": int(used is not None),
        "uuid": profile.uuid.bytes,
        "generation": profile.image_generation,
        "record": encode_partition(PartitionRecord(profile.at_home, image)),
        "passwords": [each._asdict() for each in body.passwords],
        "places": b"".join(_PLACE.pack(each.place) for each in body.objects),
        "objects": _volatile(body.objects),
        "listings": [],
    }
    room = MAX_FINAL - len(TRAVELLER.build(values))
    if room < 0:
        raise PeerError(rules.MOBILITY_SIZE, f"{profile.name} has {MAX_FINAL - room} bytes")
    return bytes(TRAVELLER.build(values | {"listings": _listings_within(room, body.listings)}))


def decode_traveller(plaintext: bytes) -> Traveller:
    """Return the partition in these bytes; PeerError for anything else, and for more than 256 KiB."""
    if len(plaintext) > MAX_FINAL:
        raise PeerError(rules.MOBILITY_SIZE, f"the partition has {len(plaintext)} bytes")
    try:
        found = TRAVELLER.parse(plaintext)
        record = decode_partition(found.record, UUID(bytes=found.uuid), found.generation)
    except ConstructError as error:
        _refuse(f"does not have the layout of its level ({type(error).__name__})")
    except PlaintextError as error:
        _refuse(f"has an unreadable record: {error.message}")
    # The target decides about custody by its own table. A record with another custody could make the target
    # own the partition before the source has released it.
    if record.profile != record.profile.at_home:
        _refuse("says something of custody")
    if found.secure_boot not in _MODES or found.used not in SWITCH:
        _refuse("has a value outside its range")
    return Traveller(record, _used_in(found, record), SecureBoot(found.secure_boot))


def _volatile(objects: Iterable[Placed]) -> bytes:
    return encode_image(StoreImage.of(0, (each.object for each in objects)))


def _listings_within(room: int, listings: Sequence[Listing]) -> list[dict[str, Any]]:
    """Return the newest lists that `room` bytes hold, the oldest first."""
    kept: list[dict[str, Any]] = []
    for token, consumer, labels in reversed(listings):
        joined = b"".join(len(label).to_bytes(_LENGTH, "big") + label for label in labels)
        room -= _LIST_SIZE + len(joined)
        if room < 0:
            break
        kept.insert(0, {"token": token, "consumer": consumer, "labels": joined})
    return kept


_LIST_SIZE = 8 + 1 + 4
"""Bytes of an open list without its labels: token, consumer, length."""


def _used_in(found: Any, record: PartitionRecord) -> UsedState | None:
    """Return the used state of a running keystore, None if the partition has none."""
    passwords = tuple(Password(each.consumer, each.secret) for each in found.passwords)
    used = UsedState(passwords, _objects_in(found, record), tuple(map(_listing, found.listings)))
    owners = [each.consumer for each in passwords]
    # No password is empty: a consumer without a password is not in the list.
    if owners != sorted(set(owners)) or not _CONSUMERS.issuperset(owners) or not all(p[1] for p in passwords):
        _refuse("has passwords that no keystore has")
    tokens = [each.token for each in used.listings]
    if len(tokens) > MAX_OPEN or len(set(tokens)) < len(tokens) or 0 in tokens:
        _refuse("has lists of labels that no keystore has")
    if found.used and record.image is None:
        _refuse("has the state of a keystore, and no keystore")
    if not found.used and used != _NOTHING:
        _refuse("has the state of a running keystore, and says that it has none")
    return used if found.used else None


def _objects_in(found: Any, record: PartitionRecord) -> tuple[Placed, ...]:
    """Return the volatile objects.

    Each object must have a place in the list of all objects, and a label of its own.  Otherwise PeerError.
    """
    if len(found.places) % _PLACE.size:
        _refuse("has half a place of an object")
    places = [place for (place,) in _PLACE.iterate(found.places)]
    try:
        objects = list(map(object_of, decode_image(found.objects, 0).entries))
    except PlaintextError as error:
        _refuse(f"has unreadable volatile objects: {error.message}")
    stored = list(map(object_of, record.image.entries)) if record.image else []
    if len(places) != len(objects) or not all(each.policy & VOLATILE for each in objects):
        _refuse("has volatile objects without a place, or objects that are none")
    if _keys(stored) & _keys(objects):
        _refuse("has a volatile object under the label of another one")
    last = -1
    # A place is an index in the list of all objects, as the guest sees it.  Before the object at index
    # `number` of `objects`, that list has `number` volatile objects and at most all stored objects.
    for number, place in enumerate(places):
        if not last < place <= len(stored) + number:
            _refuse(f"has its volatile object {number} at the place {place}")
        last = place
    return tuple(map(Placed, places, objects))


def _keys(objects: Iterable[StoredObject]) -> set[tuple[int, bytes]]:
    return {(each.consumer, each.label) for each in objects}


def _listing(found: Any) -> Listing:
    """Return an open list of labels; PeerError unless it has a consumer, and at least one label."""
    joined, labels, at = found.labels, [], 0
    while at < len(joined):
        begin = at + _LENGTH
        at = begin + int.from_bytes(joined[at:begin], "big")
        labels.append(joined[begin:at])
    if at != len(joined) or not labels or found.consumer not in _CONSUMERS:
        _refuse("has lists of labels that no keystore has")
    return Listing(found.token, found.consumer, tuple(labels))


def _refuse(reason: str) -> NoReturn:
    raise PeerError(rules.MOBILITY_FORM, f"the partition that arrives {reason}") from None
