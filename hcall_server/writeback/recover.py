"""Recovery: from the records in NVRAM to partitions, refusing what does not open.

A record that is damaged, swapped, truncated, foreign or missing takes its own partition out of
service with a reason that names it; every other partition is brought back.  Nothing is deleted.
"""

from __future__ import annotations

from collections.abc import Mapping

from hcall_abi.errors import OperatorError, StorageError, SwpksError
from hcall_abi.rules import storage as rules
from hcall_server.keystore.image import StoreImage
from hcall_server.nvram.names import SYSTEM, image_name, parse_name, profile_name
from hcall_server.platform.partition import Partition
from hcall_server.platform.power import OFF, PowerState, refused
from hcall_server.platform.profile import PartitionProfile
from hcall_server.platform.system import ManagedSystem
from hcall_server.sealing import (
    Sealer,
    SealingError,
    SystemRecord,
    open_image,
    open_profile,
    open_system,
)

Records = Mapping[str, bytes]


def recover_system(records: Records, sealer: Sealer) -> SystemRecord | None:
    """Return the system's own record, None where there is none yet; SealingError when it is damaged."""
    blob = records.get(SYSTEM)
    return None if blob is None else open_system(sealer, blob)


def recover_partitions(system: ManagedSystem, records: Records, sealer: Sealer) -> list[Partition]:
    """Bring every stored partition into `system`; return those with `refused` set."""
    numbers = sorted({found.partition for name in records if (found := parse_name(name))} - {0})
    recovery = _Recovery(system, records, sealer, numbers)
    for number in numbers:
        recovery.bring_back(number)
    return [partition for partition in system.partitions.values() if partition.refused]


class _Recovery:
    """One run over the records of all partitions."""

    def __init__(self, system: ManagedSystem, records: Records, sealer: Sealer, numbers: list[int]) -> None:
        self._system = system
        self._records = records
        self._sealer = sealer
        self._numbers = numbers

    def bring_back(self, number: int) -> None:
        """Bring one partition back, whole or refused."""
        try:
            profile = self._profile(number)
        except StorageError as error:
            self._stand_in(number, self._explained(error, profile_name(number)))
            return
        self._system.adopt(profile, *self._store(profile))

    def _store(self, profile: PartitionProfile) -> tuple[StoreImage | None, PowerState]:
        """Return the image that belongs to a profile, or the state of a partition without one."""
        try:
            self._check_size(profile)
            return self._image(profile), OFF
        except SwpksError as error:
            return None, refused(self._explained(error, image_name(profile.number)))

    def _profile(self, number: int) -> PartitionProfile:
        blob = self._records.get(profile_name(number))
        if blob is None:
            raise _missing(f"partition {number}", "profile")
        return open_profile(self._sealer, number, blob)

    def _image(self, profile: PartitionProfile) -> StoreImage | None:
        if not profile.attributes.keystore_kbytes:
            return None
        blob = self._records.get(image_name(profile.number))
        if blob is None:
            raise _missing(f"partition {profile.name}", "image")
        image = open_image(self._sealer, profile.number, blob)
        if image.generation != profile.image_generation:
            raise StorageError(
                rules.RECORDS_TOGETHER,
                f"the image of partition {profile.name} is of generation {image.generation} "
                f"and its profile goes with {profile.image_generation}: one of them is an old copy",
            )
        return image

    def _check_size(self, profile: PartitionProfile) -> None:
        level, kbytes = self._system.level, profile.attributes.keystore_kbytes
        if kbytes > level.max_kbytes:
            message = f"partition {profile.name} has {kbytes} KiB stored"
            limit = f"{level.name} allows {level.max_kbytes} KiB"
            raise OperatorError(rules.RECORDS_LEVEL, f"{message}, {limit}")

    def _stand_in(self, number: int, reason: SwpksError) -> None:
        """Keep the number of a partition whose profile is lost taken, under a name that says so.

        No partition can be given such a name, so it never hides another one.
        """
        profile = PartitionProfile(number=number, name=f"unreadable:{number}", auto_start=False)
        self._system.adopt(profile, state=refused(reason, name_unknown=True))

    def _explained(self, error: SwpksError, name: str) -> SwpksError:
        """Return the most telling error: a blob of another partition is named as such."""
        if isinstance(error, SealingError):
            return self._sealer.explain(error, self._records[name], self._numbers)
        return error


def _missing(whose: str, what: str) -> StorageError:
    return StorageError(rules.RECORDS_WHOLE, f"the {what} of {whose} is missing")
