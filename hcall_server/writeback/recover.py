"""Recovery: from the records in NVRAM to partitions, refusing what does not open.

A record that is damaged, swapped, truncated, foreign or missing takes its own partition out of
service with a reason that names it; every other partition is brought back.  Nothing is deleted.
"""

from __future__ import annotations

from collections.abc import Mapping

from hcall_abi.errors import OperatorError, StorageError, SwpksError
from hcall_server.keystore.image import StoreImage
from hcall_server.nvram.names import SYSTEM, image_name, parse_name, profile_name
from hcall_server.platform.partition import Partition
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

_SECTION = "spec/sealed.md#refusals"

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
        partition = self._system.adopt(profile)
        try:
            self._check_size(partition)
            partition.provide_keystore(self._image(partition, profile.image_generation))
        except SwpksError as error:
            partition.refused = self._explained(error, image_name(number))

    def _profile(self, number: int) -> PartitionProfile:
        blob = self._records.get(profile_name(number))
        if blob is None:
            raise _missing(f"partition {number}", "profile")
        return open_profile(self._sealer, number, blob)

    def _image(self, partition: Partition, generation: int) -> StoreImage | None:
        if not partition.kbytes:
            return None
        blob = self._records.get(image_name(partition.number))
        if blob is None:
            raise _missing(f"partition {partition.name}", "image")
        image = open_image(self._sealer, partition.number, blob)
        if image.generation != generation:
            raise StorageError(
                f"the image of partition {partition.name} is of generation {image.generation} "
                f"and its profile goes with {generation}: one of them is an old copy",
                rule="profile and image of a partition are committed together",
                section=_SECTION,
            )
        return image

    def _check_size(self, partition: Partition) -> None:
        level = self._system.level
        if partition.kbytes > level.max_kbytes:
            raise OperatorError(
                f"partition {partition.name} has {partition.kbytes} KiB stored",
                rule=f"a keystore has at most {level.max_kbytes} KiB on {level.name}",
                section=_SECTION,
            )

    def _stand_in(self, number: int, reason: SwpksError) -> None:
        """Keep the number of a partition whose profile is lost taken, under a name that says so.

        No partition can be given such a name, so it never hides another one.
        """
        profile = PartitionProfile(number, f"unreadable:{number}", 0, 0, 0, False, 0)
        partition = self._system.adopt(profile)
        partition.name_unknown = True
        partition.refused = reason

    def _explained(self, error: SwpksError, name: str) -> SwpksError:
        """Return the most telling error: a blob of another partition is named as such."""
        if isinstance(error, SealingError):
            return self._sealer.explain(error, self._records[name], self._numbers)
        return error


def _missing(whose: str, what: str) -> StorageError:
    return StorageError(
        f"the {what} of {whose} is missing",
        rule="a partition has a profile and, with its keystore on, an image",
        section=_SECTION,
    )
