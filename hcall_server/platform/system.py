"""A managed system: its partitions, and the console's requests about them (R-30 to R-36).

The rules are rows of `attributes`, `names` and `power`; a refusal is an OperatorError and changes nothing.
Where the real console has a message number for a refusal, the error carries it.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING
from uuid import UUID

from hcall_abi.bounds import ACCESS_KEY_SIZE
from hcall_abi.console import AT_FIRST, LARGEST_PARTITION_ID, ConsoleAttributes, is_system_name
from hcall_abi.errors import OperatorError
from hcall_abi.levels import FirmwareLevel
from hcall_abi.rules import console as rules
from hcall_abi.rules import migration, service
from hcall_server.keystore.image import StoreImage
from hcall_server.keystore.store import Entropy
from hcall_server.platform import attributes, names
from hcall_server.platform.attributes import Change
from hcall_server.platform.custody import Custody, Mode
from hcall_server.platform.demands import check
from hcall_server.platform.names import NewName
from hcall_server.platform.partition import Partition
from hcall_server.platform.power import OFF, PowerState
from hcall_server.platform.profile import PartitionProfile, new_uuid
from hcall_server.platform.system_state import SystemState

if TYPE_CHECKING:
    from hcall_server.platform.departed import Departed
    from hcall_server.platform.whole import PartitionWish

NOTHING: Mapping[str, int] = MappingProxyType({})


class ManagedSystem:
    """The partitions of one system on one firmware level.

    `total_kbytes` bounds the sizes of all keystores together, in KiB; None means the level's own
    figure.  Every keystore gets `entropy`.  `name` is the console's name of the system, "" for none.
    """

    def __init__(
        self,
        level: FirmwareLevel,
        system_id: bytes,
        entropy: Entropy,
        *,
        name: str = "",
        total_kbytes: int | None = None,
        strict_memory: bool = True,
        strict_wrapping: bool = True,
        strict_updates: bool = False,
    ) -> None:
        self.level = level
        self.system_id = system_id
        self.name = name
        self.total_kbytes = level.system_total_kbytes if total_kbytes is None else total_kbytes
        self.strict_memory = strict_memory
        self.strict_wrapping = strict_wrapping
        self.strict_updates = strict_updates
        self.state = SystemState.OPERATING
        self.partitions: dict[str, Partition] = {}
        self.restored: dict[str, Partition] = {}
        """Stores that came back in the state Recovery; they become partitions when it ends."""
        self.departed: dict[UUID, Departed] = {}
        """Partitions that have left, or whose copies were dropped (`sealing.custody_record`)."""
        self._entropy = entropy

    def __repr__(self) -> str:
        return f"ManagedSystem({self.level.name}, {len(self.partitions)} partitions)"

    @property
    def assigned_kbytes(self) -> int:
        """The sum of its partitions' sizes, in KiB."""
        return sum(partition.kbytes for partition in self.places.values())

    @property
    def places(self) -> dict[str, Partition]:
        """The stores of the system by name: its partitions, or in the state Recovery the restored ones."""
        return self.restored if self.state is SystemState.RECOVERY else self.partitions

    def demand_identity(self, system_id: str) -> None:
        """OperatorError if a request names another system; "" names none."""
        own = self.system_id.hex()
        if system_id not in ("", own):
            message = f"the request is for the system {system_id}, and this one is {self.name} ({own})"
            raise OperatorError(rules.SYSTEM_IDENTITY, message)

    def demand_operating(self) -> None:
        """OperatorError if the system is in another state than Operating."""
        if self.state is not SystemState.OPERATING:
            raise OperatorError(rules.SYSTEM_OPERATING, self._idle, advised=True)

    def demand_not_pending(self) -> None:
        """OperatorError after Clear All, until reset-settings was done."""
        if self.state is SystemState.RESET_PENDING:
            raise OperatorError(rules.SYSTEM_OPERATING, self._idle, advised=True)

    @property
    def _idle(self) -> str:
        """Return words for an error: the state in which the system serves nothing, and the way out."""
        from hcall_abi.standstills import not_operating  # imported here, because only an error needs it

        return not_operating(self.state.value)

    def begin_recovery(self) -> None:
        """Enter the state Recovery: the present stores are set aside, and no partition is served."""
        self.restored, self.partitions = self.partitions, {}
        self.state = SystemState.RECOVERY

    def end_recovery(self) -> None:
        """Leave the state Recovery: the restored stores become partitions, powered off."""
        self.partitions, self.restored = self.restored, {}
        self.state = SystemState.OPERATING

    def find(self, name: str) -> Partition:
        """Return the partition called `name`; OperatorError when there is none."""
        if name not in self.partitions:
            raise OperatorError(rules.NAME_EXISTS, self._absent(name))
        return self.partitions[name]

    def _absent(self, name: str) -> str:
        if self.state is not SystemState.OPERATING:
            return f"there is no partition {name!r}: {self._idle}"
        from hcall_server.platform.absent import no_partition  # imported here, because only an error needs it

        return no_partition(name, self.partitions, self.departed.values())

    def owned(self, name: str) -> Partition:
        """Return a partition that this system owns now, and so may change; OperatorError for any other."""
        partition = self.find(name)
        partition.demand_owned()
        return partition

    def reserving(self, name: str) -> Departed | None:
        """Return the partition that has left and still reserves this name, None if there is none."""
        return next(
            (each for each in self.departed.values() if each.reserves_name and each.name == name), None
        )

    def demand_not_left(self, uuid: UUID) -> None:
        """OperatorError for a partition that has moved away.  A restore would give it a second owner."""
        found = self.departed.get(uuid)
        if found is not None and found.custody is Custody.GONE:
            message = f"{found.name} has moved to the system {found.peer.hex()} by attempt {found.epoch}"
            raise OperatorError(migration.CUSTODY_OWNED, message)

    def by_uuid(self, uuid: UUID) -> Partition | None:
        """Return the partition with a UUID, None if there is none.

        In the state Recovery, restored partitions are found too.
        """
        return next((each for each in self.places.values() if each.profile.uuid == uuid), None)

    def by_number(self, number: int) -> Partition | None:
        """Return the partition with a partition id, or None."""
        return next((found for found in self.partitions.values() if found.number == number), None)

    def adopt(
        self, profile: PartitionProfile, image: StoreImage | None = None, state: PowerState = OFF
    ) -> Partition:
        """Add a partition as it was stored, without the checks of a new one."""
        partition = self.made(profile, image, state)
        self.partitions[profile.name] = partition
        return partition

    def made(
        self, profile: PartitionProfile, image: StoreImage | None = None, state: PowerState = OFF
    ) -> Partition:
        """Make a partition of this system, and return it without adding it."""
        return Partition(
            profile,
            self.level,
            self._entropy,
            image=image,
            state=state,
            strict_memory=self.strict_memory,
            strict_wrapping=self.strict_wrapping,
            strict_updates=self.strict_updates,
        )

    def demand_room(self, profile: PartitionProfile, before: Partition | None) -> None:
        """OperatorError if the name, the size, or a needed h-call of a stored profile does not fit here."""
        name, taken = profile.name, self.assigned_kbytes
        if before is None:
            reserving = self.reserving(name)
            reserved = reserving is not None and reserving.uuid != profile.uuid
            check(names.RULES, NewName(name, name in self.places, unreadable=False, reserved=reserved))
        else:
            taken -= before.kbytes
        self._demand_fit(profile, taken, self.total_kbytes)

    def demand_level(self, profile: PartitionProfile) -> None:
        """OperatorError if the firmware level lacks a size or an h-call that a stored profile needs."""
        self._demand_fit(profile, 0, max(self.total_kbytes, profile.attributes.keystore_kbytes))

    def _demand_fit(self, profile: PartitionProfile, taken: int, total: int) -> None:
        change = Change(profile.name, self.level, AT_FIRST, profile.attributes, taken, total)
        check((*attributes.SIZES, *attributes.UPDATES), change)

    def create(
        self,
        name: str,
        kbytes: int = 0,
        *,
        auto_start: bool = True,
        number: int | None = None,
        further: Mapping[str, int] = NOTHING,
        frees_name: bool = False,
    ) -> Partition:
        """Make a partition, powered off.  If `kbytes` is 0, its keystore is off (R-30).

        Without a `number` it gets the lowest free partition id.  `further` are attributes by their names.
        If `frees_name` is true, it may take a name that is reserved for a partition that has left.  The
        custody record changes then.
        """
        self.demand_operating()
        self._demand_new(name, frees_name=frees_name)
        first = attributes.first(kbytes, further)
        taken, total = self.assigned_kbytes, self.total_kbytes
        check(attributes.RULES, Change(name, self.level, AT_FIRST, first, taken, total))
        if number is not None:
            self._demand_number(number)
        profile = PartitionProfile(
            number=self.free_number() if number is None else number,
            name=name,
            uuid=new_uuid(self._entropy),
            access_key=self._entropy(ACCESS_KEY_SIZE),
            attributes=first,
            auto_start=auto_start,
        )
        # The reserved name is freed after all checks.  A refused request must not change the custody
        # record.
        if reserving := self.reserving(name):
            self.departed[reserving.uuid] = reserving._replace(reserves_name=False)
        return self.adopt(profile)

    def set_attributes(self, name: str, changes: Mapping[str, int]) -> Partition:
        """Set console attributes by their names, all of them or none (R-36).

        A value that is already in force is no change, and is never refused.
        """
        partition = self.owned(name)
        after = self._checked(partition, changes)
        if after != partition.attributes:
            partition.change(after)
        return partition

    def demand_change(self, name: str, wish: PartitionWish) -> None:
        """OperatorError if these changes of a partition are refused.

        A value that is already in force is no change, and is never refused.
        """
        from hcall_server.platform import whole

        partition = self.owned(name)
        renamed = wish.new_name not in (None, name)
        started = wish.auto_start not in (None, partition.auto_start)
        if partition.refused and (renamed or started):
            raise OperatorError(rules.POWER_STORED, f"the keystore of {name} was refused")
        if wish.new_name is not None and renamed:
            check(whole.RENAMES, whole.standing(partition))
            self._demand_new(wish.new_name)
        self._checked(partition, wish.further)

    def change(self, name: str, wish: PartitionWish) -> Partition:
        """Change name, start and attributes of a partition, all of them or none."""
        self.demand_change(name, wish)
        partition = self.set_attributes(name, wish.further)
        if wish.auto_start is not None:
            partition.set_auto_start(wish.auto_start)
        if wish.new_name is not None:
            partition.rename(wish.new_name)
            # The dict is rebuilt, so the partition keeps its position in lists.  If it were removed and
            # inserted, it would become the last one.
            self.partitions = {each.name: each for each in self.partitions.values()}
        return partition

    def demand_deletable(self, name: str, *, destroy: bool = False) -> Partition:
        """Return a partition that may be deleted; OperatorError for any other."""
        from hcall_server.platform import whole

        partition = self.owned(name)
        check(whole.DELETIONS, whole.standing(partition, destroy=destroy))
        return partition

    def delete(self, name: str, *, destroy: bool = False) -> Partition:
        """Delete a partition that is powered off; `destroy`: also if its keystore holds objects.

        Its name and its number are free afterwards.
        """
        partition = self.demand_deletable(name, destroy=destroy)
        del self.partitions[name]
        partition.gone = True
        return partition

    def set_name(self, name: str) -> None:
        """Set the console's name of the system; OperatorError if its form is wrong."""
        self.demand_not_pending()
        if not is_system_name(name):
            raise OperatorError(service.SYSTEM_NAME_FORM, f"{name!r} is no name for a system")
        self.name = name

    def set_access_key(self, name: str, key: bytes) -> Partition:
        """Give a partition another access key; OperatorError where its records could not be opened."""
        partition = self.owned(name)
        if partition.refused:
            raise OperatorError(rules.POWER_STORED, f"the keystore of {name} was refused")
        partition.set_access_key(key)
        return partition

    def power_on(self, name: str) -> Partition:
        """Activate a partition, which is an IPL."""
        partition = self.find(name)
        partition.power_on()
        return partition

    def power_off(self, name: str) -> Partition:
        """Stop a running partition."""
        partition = self.find(name)
        partition.power_off()
        return partition

    def ipl(self, name: str) -> Partition:
        """Restart a running partition."""
        partition = self.find(name)
        partition.ipl()
        return partition

    def _demand_new(self, name: str, *, frees_name: bool = False) -> None:
        # A stored partition with an unreadable profile may have this name.  A new partition would take the
        # name from it.
        unreadable = any(partition.name_unknown for partition in self.partitions.values())
        reserved = not frees_name and self.reserving(name) is not None
        check(names.RULES, NewName(name, name in self.partitions, unreadable, reserved))

    def _demand_number(self, number: int) -> None:
        from hcall_server.platform import whole

        check(whole.NUMBERS, whole.NewNumber(number, self.number_taken(number)))

    def _checked(self, partition: Partition, changes: Mapping[str, int]) -> ConsoleAttributes:
        """Return the attributes of a partition after changes that the rules allow."""
        after = attributes.wished(partition.attributes, changes)
        if after != partition.attributes:
            # The partition waits for the console's answer.  Meanwhile the console may restart it elsewhere,
            # from an older copy that permits a restart.  If this change stopped the question, two systems
            # could serve it.
            if partition.mode is Mode.ASKING and _asks_no_more(partition.attributes, after):
                message = f"{partition.name} waits for its console, which has to agree before this change"
                raise OperatorError(migration.CUSTODY_CONFIRMED, message)
            check(attributes.RULES, self._change(partition, after))
        return after

    def _change(self, partition: Partition, after: ConsoleAttributes) -> Change:
        """Return a change with the facts that the rules need."""
        keystore = partition.keystore
        return Change(
            name=partition.name,
            level=self.level,
            before=partition.attributes,
            after=after,
            taken=self.assigned_kbytes - partition.kbytes,
            total=self.total_kbytes,
            refused=partition.refused is not None,
            running=partition.running,
            objects=keystore.contents.object_count if keystore else 0,
            signed_objects=keystore.signed.count if keystore else 0,
        )

    def number_taken(self, number: int) -> bool:
        """Return whether a store has this partition id, also one that was restored."""
        return any(each.number == number for each in self.places.values())

    def free_number(self) -> int:
        """Return the smallest partition id that is not taken; OperatorError if none is left."""
        taken = {partition.number for partition in self.places.values()}
        number = next((n for n in range(1, LARGEST_PARTITION_ID + 1) if n not in taken), None)
        if number is None:
            raise OperatorError(rules.PARTITION_ID, "no partition id is left")
        return number


def _asks_no_more(before: ConsoleAttributes, after: ConsoleAttributes) -> bool:
    """Whether a change switches remote restart off.  A start would then not ask the console any more."""
    return before.simplified_remote_restart_capable > after.simplified_remote_restart_capable
