"""A managed system: its partitions, and the console's rules about them (R-30 to R-36).

The rules are functions from what is asked to an OperatorError or nothing; a refusal changes
nothing.  Where the real console has a message number for a refusal, the error carries it.
"""

from __future__ import annotations

from collections.abc import Mapping

from hcall_abi.console import IN_USE_CODE, NAME_RULE, is_partition_name
from hcall_abi.consumers import SecureBoot
from hcall_abi.levels import FirmwareLevel
from hcall_server.keystore.store import Entropy
from hcall_server.platform import attributes
from hcall_server.platform.attributes import Change
from hcall_server.platform.partition import Partition
from hcall_server.platform.profile import PartitionProfile
from hcall_server.platform.refusal import ConsoleRefusal

SIZES = "spec/control.md#sizes"
POWER = "spec/control.md#power"
NAMES = "spec/control.md#names"

_MAX_NUMBER = 0xFFFF


def check_name(name: str) -> None:
    """Refuse what no partition can be called, with ConsoleRefusal (spec/control.md#names)."""
    if not is_partition_name(name):
        raise ConsoleRefusal(f"{name!r} is no name for a partition", rule=NAME_RULE, section=NAMES)


class ManagedSystem:
    """The partitions of one system on one firmware level.

    `total_kbytes` bounds the sizes of all keystores together, in KiB; None takes the level's own
    figure.  `entropy` is handed to every keystore.
    """

    def __init__(
        self,
        level: FirmwareLevel,
        system_id: bytes,
        entropy: Entropy,
        *,
        total_kbytes: int | None = None,
        strict_memory: bool = True,
        strict_wrapping: bool = True,
    ) -> None:
        self.level = level
        self.system_id = system_id
        self.total_kbytes = level.system_total_kbytes if total_kbytes is None else total_kbytes
        self.strict_memory = strict_memory
        self.strict_wrapping = strict_wrapping
        self.partitions: dict[str, Partition] = {}
        self._entropy = entropy

    def __repr__(self) -> str:
        return f"ManagedSystem({self.level.name}, {len(self.partitions)} partitions)"

    def find(self, name: str) -> Partition:
        """Return the partition called `name`; ConsoleRefusal when there is none."""
        if name not in self.partitions:
            raise ConsoleRefusal(f"no partition {name!r}", rule="the partition exists", section=NAMES)
        return self.partitions[name]

    def by_number(self, number: int) -> Partition | None:
        """Return the partition with a partition id, or None."""
        return next((found for found in self.partitions.values() if found.number == number), None)

    def adopt(self, profile: PartitionProfile) -> Partition:
        """Take in a partition as it was stored, without asking the rules, and without its keystore."""
        partition = Partition(profile, self.level, self._entropy)
        partition.strict_memory = self.strict_memory
        partition.strict_wrapping = self.strict_wrapping
        self.partitions[profile.name] = partition
        return partition

    def create(self, name: str, kbytes: int = 0, *, auto_start: bool = True) -> Partition:
        """Make a partition, powered off; its keystore is off unless `kbytes` says otherwise (R-30)."""
        check_name(name)
        if name in self.partitions:
            raise ConsoleRefusal(f"there is a partition {name!r}", rule="names differ", section=NAMES)
        if any(partition.name_unknown for partition in self.partitions.values()):
            rule = "no partition is made while the name of a stored one cannot be read: it may be this one"
            raise ConsoleRefusal(f"{name} may exist already", rule=rule, section=NAMES)
        self.check_size(kbytes, before=0)
        profile = PartitionProfile(self._free_number(), name, kbytes, 0, SecureBoot.OFF, auto_start, 0)
        partition = self.adopt(profile)
        partition.provide_keystore()
        return partition

    def set_attributes(self, name: str, changes: Mapping[str, int]) -> Partition:
        """Change console attributes by their names, all of them or none (R-36).

        Attributes that have their value already are no change and never refused.
        """
        partition = self.find(name)
        before = partition.console_attributes()
        after = attributes.wished(before, changes)
        if after == before:
            return partition
        self._check_stored(partition)
        if after.keystore_kbytes != before.keystore_kbytes:
            self._check_change(partition, after.keystore_kbytes)
        signed = partition.keystore.signed_count if partition.keystore else 0
        attributes.check(Change(self.level, partition.running, signed, before, after))
        if after.keystore_kbytes != before.keystore_kbytes:
            partition.set_kbytes(after.keystore_kbytes)
        partition.set_attributes(after.signed)
        partition.next_secure_boot = SecureBoot(after.secure_boot)
        return partition

    def power_on(self, name: str) -> Partition:
        """Activate a partition, which is an IPL."""
        partition = self.find(name)
        if partition.running:
            raise ConsoleRefusal(f"{name} is running", rule="only a stopped partition starts", section=POWER)
        partition.ipl()
        return partition

    def power_off(self, name: str) -> Partition:
        """Stop a running partition."""
        partition = self._running(name)
        partition.power_off()
        return partition

    def ipl(self, name: str) -> Partition:
        """Restart a running partition."""
        partition = self._running(name)
        partition.ipl()
        return partition

    def check_size(self, kbytes: int, *, before: int) -> None:
        """Hold a size against level and system total; `before` is what the partition has now."""
        level = self.level
        if kbytes and not level.min_kbytes <= kbytes <= level.max_kbytes:
            raise ConsoleRefusal(
                f"{kbytes} KiB is no size for a keystore",
                rule=f"0, or {level.min_kbytes} to {level.max_kbytes} KiB on {level.name}",
                section=SIZES,
            )
        taken = sum(partition.kbytes for partition in self.partitions.values()) - before
        if taken + kbytes > self.total_kbytes:
            raise ConsoleRefusal(
                f"{kbytes} KiB do not fit: {taken} of {self.total_kbytes} KiB are taken",
                rule="all keystores of a system stay within its total",
                section=SIZES,
            )

    def _running(self, name: str) -> Partition:
        partition = self.find(name)
        if not partition.running:
            rule = "only a running partition is stopped or restarted"
            raise ConsoleRefusal(f"{name} is powered off", rule=rule, section=POWER)
        return partition

    def _check_stored(self, partition: Partition) -> None:
        if partition.refused:
            rule = "a partition whose stored keystore could not be opened stays as it was stored"
            message = f"the keystore of {partition.name} was refused"
            raise ConsoleRefusal(message, rule=rule, section=POWER)

    def _check_change(self, partition: Partition, kbytes: int) -> None:
        keystore, name = partition.keystore, partition.name
        if not kbytes:
            if keystore and keystore.object_count:
                message, rule = f"the keystore of {name} is in use", "only an empty keystore is disabled"
                raise ConsoleRefusal(message, rule=rule, section=SIZES, code=IN_USE_CODE)
            return
        if kbytes < partition.kbytes:
            rule = "a keystore never shrinks, except to 0"
            raise ConsoleRefusal(f"{kbytes} KiB is less than it has", rule=rule, section=SIZES)
        if partition.running:
            rule = "a keystore is enabled or grown while the partition is powered off"
            raise ConsoleRefusal(f"{name} is running", rule=rule, section=SIZES)
        self.check_size(kbytes, before=partition.kbytes)

    def _free_number(self) -> int:
        taken = {partition.number for partition in self.partitions.values()}
        number = next((n for n in range(1, _MAX_NUMBER + 1) if n not in taken), None)
        if number is None:
            raise ConsoleRefusal("no partition id is left", rule="65535 partitions at most", section=NAMES)
        return number
