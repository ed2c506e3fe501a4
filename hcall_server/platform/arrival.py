"""The rules whether a partition of another system fits here, as rows (spec/migration.md#validation).

`needs` makes the needs of a partition, and `demand_fit` checks them against a system.  The console requests
both before an attempt.  The target repeats the check with the partition that has arrived.  A start does not
load this module.
"""

# Why the same check runs three times
#
# A console checks before it begins an attempt (`migrlpar -o v`).  The source checks again, over the channel,
# while it still serves.  Between this check and the freeze a guest may set a longer password or write a
# larger object.  So the target computes the needs of the partition that has arrived, and checks them a third
# time before PREPARED.  If they do not fit then, the attempt is aborted, and the source serves on.
#
# One check after the freeze would be simpler.  But then the calls of a partition that does not fit would be
# held for nothing.
#
# The order is from the whole to the part: custody, name, format, level, sizes, and then the contents.  So the
# first refusal is the refusal that the operator can mend best.

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID

from hcall_abi.calls import Opcode
from hcall_abi.console import AT_FIRST
from hcall_abi.counts import counted
from hcall_abi.levels import KIB, FirmwareLevel
from hcall_abi.policies import Policy
from hcall_abi.rules import migration as rules
from hcall_server.keystore.contents import PROVIDED
from hcall_server.platform.custody import OWNING, Custody
from hcall_server.platform.demands import Demand, check

if TYPE_CHECKING:
    from hcall_server.keystore.image import StoredObject
    from hcall_server.platform.partition import Partition
    from hcall_server.platform.profile import PartitionProfile
    from hcall_server.platform.system import ManagedSystem

MAKERS: Mapping[Policy, Opcode] = {
    Policy.SIGNEDUPDATE: Opcode.SIGNED_UPDATE,
    Policy.WRAPPINGKEY: Opcode.WRAP_OBJECT,
    Policy.REVOKED: Opcode.REVOKE_OBJECT,
}
"""For each policy bit whose objects are of no use without an h-call, that h-call."""
_STATUS = int(Policy.HVPROVISIONED | Policy.REVOKED)
"""Bits that no level lists: the hypervisor sets them."""


class Needs(NamedTuple):
    """The needs of a partition at its target; the fields are those of `control_bodies.ArrivalCheck`.

    `used_bytes` are those of labels and data, without any overhead.  `policies` are all policy bits of
    all objects, without the bits that the hypervisor sets.  `calls` are h-calls without which some objects
    are of no use, by name.
    """

    uuid: UUID
    name: str
    epoch: int
    level: str
    formats: Sequence[int]
    kbytes: int
    used_bytes: int
    objects: int
    longest_label: int
    largest_object: int
    longest_password: int
    policies: int
    calls: Sequence[str]
    attributes: Mapping[str, int]


def needs(
    profile: PartitionProfile,
    level: str,
    objects: Iterable[StoredObject],
    passwords: Iterable[bytes] = (),
    formats: Sequence[int] = (),
) -> Needs:
    """Return the needs of a partition with these objects and passwords, from a system of this `level`."""
    own = [each for each in objects if not each.policy & PROVIDED]
    every = 0
    for each in own:
        every |= each.policy
    return Needs(
        uuid=profile.uuid,
        name=profile.name,
        epoch=profile.epoch,
        level=level,
        formats=list(formats),
        kbytes=profile.attributes.keystore_kbytes,
        used_bytes=sum(len(each.label) + len(each.data) for each in own),
        objects=len(own),
        longest_label=max((len(each.label) for each in own), default=0),
        largest_object=max((len(each.data) for each in own), default=0),
        longest_password=max(map(len, passwords), default=0),
        policies=every & ~_STATUS,
        calls=[call.name for bit, call in MAKERS.items() if every & bit],
        attributes=profile.attributes.numbers,
    )


def needs_of(partition: Partition, level: FirmwareLevel, formats: Sequence[int] = ()) -> Needs:
    """Return what a partition needs at another system; `level` is the firmware level of this system."""
    keystore = partition.keystore
    if keystore is None:
        return needs(partition.profile, level.name, (), (), formats)
    passwords = [secret for _, secret in keystore.access.passwords.items()]
    return needs(partition.profile, level.name, keystore.contents.objects(), passwords, formats)


class Candidate(NamedTuple):
    """A partition that may come, and the facts of the system that the rules need.

    `custody` and `epoch` are those of this system for the partition.  `taken_name`: another
    partition has the name here, or had it and has left.  `unreadable`: the name of some partition here is
    not known.  `taken` and `total` are the system's space in KiB.  `formats` are those that it reads.
    """

    needs: Needs
    level: FirmwareLevel
    custody: Custody
    epoch: int
    live: bool
    taken_name: bool
    unreadable: bool
    taken: int
    total: int
    formats: Collection[int]

    @property
    def known(self) -> str:
        """The formats that this system reads, in words."""
        return ", ".join(map(str, self.formats)) or "none"

    @property
    def sent(self) -> str:
        """The formats that the source writes, in words."""
        return ", ".join(map(str, self.needs.formats)) or "none"

    @property
    def resized(self) -> bool:
        """Whether the size is outside of the range of the level."""
        size = self.needs.kbytes
        return size > 0 and not self.level.min_kbytes <= size <= self.level.max_kbytes

    @property
    def counted_objects(self) -> str:
        """The number of its objects, as text: "1 object", "2 objects"."""
        return counted(self.needs.objects, "object")

    @property
    def needed_bytes(self) -> int:
        """The space of the objects in bytes, with the overhead of this level."""
        return self.needs.used_bytes + self.needs.objects * self.level.object_overhead

    @property
    def largest(self) -> int:
        """The largest object that a keystore of this size holds on this system."""
        level = self.level
        return level.max_large_object_size or min(level.max_object_size, self.needs.kbytes * KIB)

    @property
    def lacking(self) -> str:
        """The h-calls that its objects need and this level lacks, in words; "" if there is none."""
        served = {call.name for call in self.level.calls}
        return ", ".join(name for name in self.needs.calls if name not in served)


ARRIVALS: tuple[Demand[Candidate], ...] = (
    Demand(
        lambda it: it.custody in OWNING or it.custody is Custody.FROZEN,
        rules.ARRIVAL_CUSTODY,
        "this system has {it.needs.name} itself: {it.custody.name} since attempt {it.epoch}",
    ),
    Demand(
        # This rule is for a live move only.  A remote restart opens a copy of the console, which replaces a
        # released store (row 16).
        lambda it: it.live and it.custody is Custody.RELEASED,
        rules.ARRIVAL_CUSTODY,
        "this system has not heard yet that {it.needs.name} serves elsewhere since attempt {it.epoch}",
    ),
    Demand(
        lambda it: it.custody is Custody.PREPARED and it.epoch > it.needs.epoch,
        rules.ARRIVAL_CUSTODY,
        "this system has a copy of {it.needs.name} of attempt {it.epoch}, later than {it.needs.epoch}",
    ),
    Demand(lambda it: it.taken_name, rules.ARRIVAL_NAME, "the name {it.needs.name} is taken here"),
    Demand(
        lambda it: it.unreadable,
        rules.ARRIVAL_NAME,
        "the name of a partition here is not known, and may be {it.needs.name}",
    ),
    Demand(
        lambda it: it.live and not set(it.formats) & set(it.needs.formats),
        rules.ARRIVAL_FORMAT,
        "the source writes the formats {it.sent}, and this system reads {it.known}",
    ),
    Demand(
        lambda it: it.needs.kbytes > 0 and not it.level.has_keystore,
        rules.ARRIVAL_LEVEL,
        "{it.needs.name} has a keystore of {it.needs.kbytes} KiB, and {it.level.name} has none",
    ),
    Demand(
        lambda it: it.resized,
        rules.ARRIVAL_SIZE,
        "{it.needs.name} has a keystore of {it.needs.kbytes} KiB; the sizes here are {it.level.sizes}",
    ),
    Demand(
        lambda it: it.needs.kbytes > 0 and it.taken + it.needs.kbytes > it.total,
        rules.ARRIVAL_SIZE,
        "{it.needs.name} has a keystore of {it.needs.kbytes} KiB; {it.taken} of {it.total} KiB are taken",
    ),
    Demand(
        lambda it: it.needed_bytes > it.needs.kbytes * KIB,
        rules.ARRIVAL_SIZE,
        "{it.needs.name} needs {it.needed_bytes} bytes for its {it.counted_objects} on {it.level.name}, "
        "and its keystore has {it.needs.kbytes} KiB",
    ),
    Demand(
        lambda it: it.needs.longest_label > it.level.max_label_size,
        rules.ARRIVAL_OBJECTS,
        "a label of {it.needs.name} has {it.needs.longest_label} bytes; "
        "{it.level.name} allows {it.level.max_label_size}",
    ),
    Demand(
        lambda it: it.needs.largest_object > it.largest,
        rules.ARRIVAL_OBJECTS,
        "an object of {it.needs.name} has {it.needs.largest_object} bytes; "
        "{it.level.name} allows {it.largest}",
    ),
    Demand(
        lambda it: it.needs.longest_password > it.level.max_password_size,
        rules.ARRIVAL_PASSWORD,
        "a password of {it.needs.name} has {it.needs.longest_password} bytes; "
        "{it.level.name} allows {it.level.max_password_size}",
    ),
    Demand(
        lambda it: it.lacking != "",
        rules.ARRIVAL_CALLS,
        "the keystore of {it.needs.name} has objects for {it.lacking}, which {it.level.name} lacks",
    ),
    Demand(
        lambda it: it.needs.policies & ~it.level.supported_policies != 0,
        rules.ARRIVAL_OBJECTS,
        "objects of {it.needs.name} have the policies 0x{it.needs.policies:08X}; "
        "{it.level.name} allows 0x{it.level.supported_policies:08X}",
    ),
)
"""In the order of the checks; the first broken rule decides."""


def demand_fit(
    system: ManagedSystem, wanted: Needs, formats: Collection[int] = (), *, live: bool = False
) -> None:
    """OperatorError if a partition does not fit on a system.  The first broken rule decides.

    `formats` are those that the system reads.  A live migration needs a format that both systems know.  It
    is refused as long as this system still has a released store of the partition.
    """
    from hcall_server.platform import attributes

    system.demand_operating()
    check(ARRIVALS, _candidate(system, wanted, formats, live=live))
    after = attributes.wished(AT_FIRST, wanted.attributes)
    change = attributes.Change(wanted.name, system.level, AT_FIRST, after, 0, wanted.kbytes)
    check(attributes.UPDATES, change)
    if system.by_uuid(wanted.uuid) is None:
        system.free_number()


def _candidate(system: ManagedSystem, wanted: Needs, formats: Collection[int], *, live: bool) -> Candidate:
    before, left = system.by_uuid(wanted.uuid), system.departed.get(wanted.uuid)
    custody, epoch = (left.custody, left.epoch) if left else (Custody.NONE, 0)
    if before is not None:
        custody, epoch = before.profile.custody, before.profile.epoch
    # The arriving store replaces a store of the same partition here.  So neither the name nor the space of
    # that store counts as taken.
    others = [each for each in system.places.values() if each is not before]
    kept = system.reserving(wanted.name)
    return Candidate(
        needs=wanted,
        level=system.level,
        custody=custody,
        epoch=epoch,
        live=live,
        taken_name=any(each.name == wanted.name for each in others) or kept not in (None, left),
        unreadable=any(each.name_unknown for each in others),
        taken=sum(each.kbytes for each in others),
        total=system.total_kbytes,
        formats=formats,
    )
