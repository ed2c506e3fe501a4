"""Converting a state of sealed level 1, in one commit at its first start (spec/sealed.md#conversion).

Each partition gets its UUID, and one record in place of two.  Its access key is that in the file of its
clients, or a new one.  Records that do not open stay under their old names.  Their partition is refused at
this start and every later one.  Nothing is deleted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from uuid import UUID

from hcall_abi.bounds import ACCESS_KEY_SIZE
from hcall_abi.errors import StorageError
from hcall_abi.rules import storage as rules
from hcall_server.keystore.image import StoreImage
from hcall_server.nvram.names import SYSTEM, old_image_name, old_profile_name, parse_old_name, partition_name
from hcall_server.platform.power import refused
from hcall_server.platform.profile import PartitionProfile, new_uuid
from hcall_server.platform.system import ManagedSystem
from hcall_server.sealing import Listed, PartitionRecord, Sealer, SealingError, seal_partition, seal_system
from hcall_server.sealing.level_1 import OldProfile, OldSealer, open_image, open_profile, open_system
from hcall_server.writeback.recover import largest_free, loss_of, stand_in

Records = Mapping[str, bytes]
Changes = dict[str, bytes | None]
Entropy = Callable[[int], bytes]
KnownKey = Callable[[str], bytes | None]
"""Returns the access key that the clients of a partition have, None where they have none."""


def converted(
    records: Records,
    old: OldSealer,
    sealer: Sealer,
    entropy: Entropy,
    known_key: KnownKey,
    missing: int = 0,
) -> Changes:
    """Return the changes that convert a state of sealed level 1 to level 2.

    The caller must make all changes in one commit.  If older records were accepted, `missing` is added to the
    IPL count of each partition.  SealingError if the system record does not open.
    """
    if SYSTEM not in records:
        raise loss_of("the system record", records)
    reader = _Reader(records, old)
    changes: Changes = {}
    roster: list[Listed] = []
    for number in reader.numbers:
        try:
            before = reader.profile(number)
            image = reader.image(before)
        except StorageError:
            # Leave the records of this partition as they are, for a repair.  Every start shows the reason
            # by `recover_left_over`.
            continue
        key = known_key(before.name) or entropy(ACCESS_KEY_SIZE)
        profile = _renewed(before, new_uuid(entropy), key)
        record = PartitionRecord(profile.counted_on(missing) if missing else profile, image)
        roster.append(Listed(record.profile.uuid, number, profile.name))
        changes[partition_name(record.profile.uuid)] = seal_partition(sealer, record)
        # Remove only records that NVRAM has.  A partition without a keystore has no image.
        changes |= {name: None for name in _names(number) if name in records}
    system = open_system(old, records[SYSTEM])._replace(roster=tuple(roster))
    return {SYSTEM: seal_system(sealer, system), **changes}


def recover_left_over(
    system: ManagedSystem, records: Records, old: OldSealer, roster: Iterable[Listed]
) -> None:
    """Add the partitions whose records of sealed level 1 could not be converted, each refused with a reason.

    Call this function when all other partitions are in the system.  `roster` lists those other partitions.
    If the record of one of them was put in the place of a refused partition's record, the reason names it.
    """
    reader = _Reader(records, old, [each.number for each in roster])
    for number in reader.numbers:
        name = None
        try:
            profile = reader.profile(number)
            name = profile.name
            reader.image(profile)
        except StorageError as error:
            reason = error
        else:
            message = f"the records of partition {number} are of level 1, and this state is of level 2"
            reason = StorageError(rules.RECORDS_COMMITTED, message)
        _refuse(system, number, name, reason)


def _refuse(system: ManagedSystem, number: int, name: str | None, reason: StorageError) -> None:
    """Add an unreadable partition of sealed level 1 as refused, under its name or under a placeholder."""
    # Such a partition gets a UUID by the conversion.  Until then it has this substitute, which has no UUID
    # version.  By that, `records_of` knows that the records of the partition are those of sealed level 1.
    no_uuid = UUID(int=number)
    taken = system.by_number(number) is not None
    if name is None or taken or name in system.partitions:
        shown = largest_free(system) if taken else number
        stand_in(system, str(number), reason, number=shown, uuid=no_uuid)
        return
    profile = PartitionProfile(number, name, no_uuid, access_key=b"", auto_start=False)
    system.adopt(profile, state=refused(reason))


class _Reader:
    """Reads the records of sealed level 1: two for each partition."""

    def __init__(self, records: Records, sealer: OldSealer, others: Iterable[int] = ()) -> None:
        self._records = records
        self._sealer = sealer
        self.numbers = sorted({found.partition for name in records if (found := parse_old_name(name))})
        self._known = {*self.numbers, *others}

    def profile(self, number: int) -> OldProfile:
        """Return the profile of a partition; StorageError when it is missing or does not open."""
        blob = self._records.get(old_profile_name(number))
        if blob is None:
            raise StorageError(rules.RECORDS_WHOLE, f"the profile of partition {number} is missing")
        try:
            return open_profile(self._sealer, number, blob)
        except SealingError as error:
            raise self._sealer.explain(error, blob, self._known) from None

    def image(self, profile: OldProfile) -> StoreImage | None:
        """Return the image that goes with a profile; StorageError when there is none."""
        if not profile.attributes.keystore_kbytes:
            return None
        blob = self._records.get(old_image_name(profile.number))
        if blob is None:
            raise StorageError(rules.RECORDS_WHOLE, f"the image of partition {profile.name} is missing")
        try:
            image = open_image(self._sealer, profile.number, blob)
        except SealingError as error:
            raise self._sealer.explain(error, blob, self._known) from None
        # Level 1 has two records for profile and image.  An attacker can put back one of them alone.
        if image.generation != profile.image_generation:
            raise StorageError(
                rules.RECORDS_TOGETHER,
                f"the image of partition {profile.name} is of generation {image.generation} "
                f"and its profile goes with {profile.image_generation}: one of them is an old copy",
            )
        return image


def _renewed(profile: OldProfile, uuid: UUID, access_key: bytes) -> PartitionProfile:
    return PartitionProfile(uuid=uuid, access_key=access_key, **profile._asdict())


def _names(number: int) -> tuple[str, str]:
    return old_profile_name(number), old_image_name(number)
