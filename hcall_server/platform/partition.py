"""A partition: its profile, its keystore and its power.

A partition is made complete, from its profile and its stored image.  Afterwards the system changes it by
`change` (attributes), `set_auto_start`, `rename`, and the events of power.  The guest changes its keystore,
and uses up the permission for an update without verification.
"""

from __future__ import annotations

from collections.abc import Set
from typing import TYPE_CHECKING

from hcall_abi.calls import Opcode
from hcall_abi.console import ConsoleAttributes
from hcall_abi.consumers import Consumer, SecureBoot
from hcall_abi.errors import OperatorError, SwpksError
from hcall_abi.levels import FirmwareLevel
from hcall_abi.policies import Policy
from hcall_abi.rules import migration
from hcall_abi.rules.rule import Rule
from hcall_server.keystore.image import StoreImage
from hcall_server.keystore.limits import limits_of
from hcall_server.keystore.signed import LatchUse
from hcall_server.keystore.store import Entropy, Keystore
from hcall_server.platform.custody import OWNING, SERVES, UNSURE, Custody, mode_after_start
from hcall_server.platform.power import OFF, RUNNING, TABLE, Objection, Power, PowerEvent, PowerState
from hcall_server.platform.profile import IPL_COUNT_LIMIT, LATCH, PartitionProfile, effective_level

if TYPE_CHECKING:
    from hcall_server.keystore.used import UsedState
    from hcall_server.platform.saved import PartitionSnapshot

SB_VERSION = b"SB_VERSION"
"""Label of an object of the consumer firmware: it names the source of secure-boot keys for the guest."""
DYNAMIC_KEYS = b"\x01"
"""The data of SB_VERSION: keys come from the keystore."""


class Partition:
    """One partition of a managed system.

    The parameter `firmware` is the firmware level of the system.  `image` is the stored image, None for an
    empty store.  The parameter `state` is OFF, or `power.refused(...)` if the records could not be opened.
    Later a power event may change the attribute `state`, also to RUNNING.

    `level` is the firmware level for this partition.  It lacks SIGNED_UPDATE while the console has signed
    updates switched off.  `keystore` is None if the keystore is off (0 KiB, R-35), or if the records could
    not be opened.  `secure_boot` is the mode of this IPL; while the partition is off, of the last IPL.
    """

    def __init__(
        self,
        profile: PartitionProfile,
        firmware: FirmwareLevel,
        entropy: Entropy,
        *,
        image: StoreImage | None = None,
        state: PowerState = OFF,
        strict_memory: bool = True,
        strict_wrapping: bool = True,
        strict_updates: bool = False,
    ) -> None:
        self._profile = profile
        self._shown = self._shown_of = profile
        self._ipl_count = profile.ipl_count
        self._firmware = firmware
        self._entropy = entropy
        self.state = state
        self.mode = mode_after_start(profile.custody, asks=False)
        """The mode of its custody, which is in memory only (`hcall_server.platform.custody`)."""
        self.gone = False
        """Whether it has left the system: deleted, or a restored store has taken its place."""
        self._latch_use: LatchUse | None = None
        self.level = effective_level(firmware, profile.attributes)
        self.strict_memory = strict_memory
        self.strict_wrapping = strict_wrapping
        self._strict_updates = strict_updates
        self.secure_boot = SecureBoot.OFF
        self.keystore = None if state.reason else self._new_keystore(image)

    def __repr__(self) -> str:
        return f"Partition({self.number}, {self.name!r}, {self.kbytes} KiB, {self.power.value})"

    # Power: each change is an event of `power.TABLE`, except `leave`, which nothing may refuse

    @property
    def power(self) -> Power:
        """The partition's state in the power table."""
        return self.state.power

    @property
    def running(self) -> bool:
        """Whether the partition is activated."""
        return self.state is RUNNING

    @property
    def switched_off(self) -> Set[Opcode]:
        """The h-calls that the firmware has, and that an attribute of the partition switches off."""
        return self._firmware.calls - self.level.calls

    @property
    def refused(self) -> SwpksError | None:
        """Why the partition's records could not be opened; None if they were opened."""
        return self.state.reason

    @property
    def name_unknown(self) -> bool:
        """Whether the profile could not be read: then `name` is a substitute for the real name."""
        return self.state.name_unknown

    def next_power(self, event: PowerEvent) -> Power:
        """Return the state that an event leads to; OperatorError if custody or the table refuses it."""
        self.demand_owned()
        # Custody is checked before the power table.  A partition that another system may serve must not
        # start here, whatever its power is.
        if self.mode not in SERVES:
            raise self._stands(migration.CUSTODY_CONFIRMED)
        found = TABLE[self.power, event]
        if isinstance(found, Objection):
            raise OperatorError(found.rule, found.message.format(it=self))
        return found

    def count_ipl(self) -> None:
        """Count the next IPL in advance.  So its number can be durable before the IPL begins.

        A second call before that IPL changes nothing.  If the IPL never begins, the next one takes its
        number.
        """
        # If the two counts differ, the next IPL is counted already and has not begun.
        if self._profile.ipl_count == self._ipl_count:
            self._profile = self._profile._replace(ipl_count=(self._ipl_count + 1) % IPL_COUNT_LIMIT)

    def count_on(self, missing: int) -> None:
        """Go on with an older store: skip `missing` IPL counts, and clear the latch.

        The partition may have used the skipped counts after the older store was written.
        """
        self._profile = self._profile._replace(ipl_count=self._ipl_count).counted_on(missing)
        self._ipl_count = self._profile.ipl_count
        if self.keystore:
            self.keystore.contents.touch()

    def power_on(self) -> None:
        """Activate the partition, which is an IPL."""
        self._take(PowerEvent.POWER_ON)

    def ipl(self) -> None:
        """Restart the running partition."""
        self._take(PowerEvent.IPL)

    def power_off(self) -> None:
        """Stop the running partition.  Its passwords end with it."""
        self._take(PowerEvent.POWER_OFF)

    def arrive(self, used: UsedState | None, secure_boot: SecureBoot) -> None:
        """Go on in the state that the partition had on another system.  This is no IPL.

        `used` is the state of its keystore there, None without a keystore.  `secure_boot` is the mode of the
        IPL that goes on.
        """
        self.next_power(PowerEvent.ARRIVE)
        self.state = RUNNING
        self.secure_boot = secure_boot
        if self.keystore:
            # Do not call `_provision`: the hypervisor's objects have arrived with the volatile ones.
            self.keystore.access.ipl(secure_boot)
            if used is not None:
                self.keystore.take_used(used)

    def leave(self) -> None:
        """Stop, because another system owns the partition now.  No effect if it does not run."""
        if self.running:
            self._stop()

    def _take(self, event: PowerEvent) -> None:
        """Perform an operator's event of the power table; every way into RUNNING is an IPL."""
        if self.next_power(event) is Power.RUNNING:
            self.state = RUNNING
            self._load()
        else:
            self._stop()

    def _stop(self) -> None:
        self.state = OFF
        if self.keystore:
            self.keystore.ipl(SecureBoot.OFF)

    def _load(self) -> None:
        """Begin an IPL: count it, set the console's mode, unset passwords, drop volatile objects."""
        self.count_ipl()
        self._ipl_count = self._profile.ipl_count
        self.secure_boot = self.next_secure_boot
        if self.keystore:
            self.keystore.ipl(self.secure_boot)
            # `ipl` drops all volatile objects, so the hypervisor's objects are put in after it.
            self._provision(self.keystore)

    def _provision(self, keystore: Keystore) -> None:
        """Put the hypervisor's own objects into the keystore; every IPL does it (spec/policies.md)."""
        if self.attributes.linux_dynamic_key_secure_boot:
            keystore.contents.provide(Consumer.FIRMWARE, SB_VERSION, int(Policy.WORLDREADABLE), DYNAMIC_KEYS)

    # Custody: the custodian decides and commits, and the partition only stores the result

    @property
    def owned(self) -> bool:
        """Whether this system owns the partition now.  False while another system may own it."""
        return self._profile.custody in OWNING and self.mode not in UNSURE

    @property
    def may_serve(self) -> bool:
        """Whether this system may run and serve the partition now."""
        return self.owned and self.mode in SERVES

    def demand_owned(self) -> None:
        """OperatorError unless this system owns it; the message has the present custody."""
        if not self.owned:
            raise self._stands(migration.CUSTODY_OWNED)

    def _stands(self, rule: Rule) -> OperatorError:
        """Return an error that states the custody: record, mode, attempt, the other system, the remedy."""
        custody, epoch, peer = self._profile.custody, self._profile.epoch, self._profile.peer.hex()
        attempt = f" since attempt {epoch}" if epoch else ""
        other = f", with the system {peer}" if peer else ""
        from hcall_abi.standstills import standstill  # imported here, because only an error needs it

        state = standstill(custody.name.lower(), self.mode.value, self.name)
        remedy = f": it {state.words}; {state.remedy}" if state else ""
        message = f"{self.name} is {custody.name} ({self.mode.value}){attempt}{other}{remedy}"
        return OperatorError(rule, message, advised=state is not None)

    def set_custody(self, custody: Custody, epoch: int, peer: bytes) -> None:
        """Set the custody of an attempt.  The caller commits it before any word or view shows it."""
        self._profile = self._profile._replace(custody=custody, epoch=epoch, peer=peer)

    # Profile: it is immutable, so a snapshot of it never changes during a commit

    @property
    def profile(self) -> PartitionProfile:
        """The profile as a commit stores it now."""
        if self.keystore is None:
            return self._profile
        generation = self.keystore.contents.generation
        # Views and snapshots read the profile often.  So it is copied once for each change, not for each
        # reader.
        if self._shown.image_generation != generation or self._shown_of is not self._profile:
            self._shown_of = self._profile
            self._shown = self._profile._replace(image_generation=generation)
        return self._shown

    @property
    def number(self) -> int:
        """The partition id."""
        return self._profile.number

    @property
    def name(self) -> str:
        """The name of the partition."""
        return self._profile.name

    @property
    def access_key(self) -> bytes:
        """The key by which clients prove themselves over TCP, 32 bytes; with b"" no proof is right."""
        return self._profile.access_key

    @property
    def ipl_count(self) -> int:
        """The number of the present or last IPL, modulo 2^32.  The profile may have the next number."""
        return self._ipl_count

    @property
    def auto_start(self) -> bool:
        """Whether the partition is activated when the system starts."""
        return self._profile.auto_start

    @property
    def attributes(self) -> ConsoleAttributes:
        """The attributes that the console has set."""
        return self._profile.attributes

    @property
    def kbytes(self) -> int:
        """The size of the partition's keystore in KiB; 0: off."""
        return self._profile.attributes.keystore_kbytes

    @property
    def next_secure_boot(self) -> SecureBoot:
        """The secure-boot mode of the next IPL."""
        return self._profile.attributes.next_mode

    def set_auto_start(self, auto_start: bool) -> None:
        """Set whether the partition is activated when the system starts."""
        self._profile = self._profile._replace(auto_start=auto_start)

    def rename(self, name: str) -> None:
        """Set another name, which the system has checked."""
        self._profile = self._profile._replace(name=name)

    def set_access_key(self, key: bytes) -> None:
        """Set another access key.  Sessions go on; the next OPEN needs the new key."""
        self._profile = self._profile._replace(access_key=key)

    def change(self, attributes: ConsoleAttributes) -> None:
        """Set attributes that the system has checked; open sessions go on.

        A size of 0 removes the keystore.  A new keystore is empty.
        """
        resized = attributes.keystore_kbytes != self.kbytes
        # Read `self.profile`, because `self._profile` may lack the last generation of the keystore.  The
        # keystore may be removed below.  A later one continues from its generation.
        self._profile = self.profile._replace(attributes=attributes)
        self.level = effective_level(self._firmware, attributes)
        if resized and self.keystore and attributes.keystore_kbytes:
            self.keystore.contents.grow(limits_of(self.level, attributes.keystore_kbytes))
        elif resized:
            self.keystore = self._new_keystore()

    def _new_keystore(self, image: StoreImage | None = None) -> Keystore | None:
        """Return a keystore of `kbytes` KiB, empty or with the stored image; None for 0 KiB.

        An empty keystore continues the generations of the previous one.  So no generation names two images.
        """
        if not self.kbytes:
            return None
        limits, last = limits_of(self.level, self.kbytes), self._profile.image_generation
        return Keystore(
            limits,
            self._entropy,
            image,
            replaces=last,
            secure_boot=self.secure_boot,
            latch=_Latch(self),
            strict_updates=self._strict_updates,
        )

    def saved(self) -> PartitionSnapshot:
        """Return the present state of a running partition for `restore`, in memory only."""
        from hcall_server.platform import saved  # only tests need the module, so a start does not load it

        store = self.keystore.saved() if self.keystore else None
        return saved.PartitionSnapshot(self._profile.uuid, self.attributes, self.secure_boot, store)

    def restore(self, saved: PartitionSnapshot) -> None:
        """Put a saved state of this running partition back: attributes with the latch, IPL mode, keystore.

        Generation and IPL count, name, custody and access key stay.
        """
        self.change(saved.attributes)
        self.secure_boot = saved.secure_boot
        if self.keystore and saved.keystore:
            self.keystore.restore(saved.keystore)

    # The permission to update PK without verification

    def disarm_without_verification(self, use: LatchUse) -> None:
        """Clear the one-shot latch after a PK without verification.  No effect if it is not armed.

        This counts as a change of the keystore, so one commit has profile and image.  A durable PK has a
        durable cleared latch, even if the power fails.
        """
        if self.attributes.keystore_signed_updates_without_verification:
            disarmed = self.attributes.with_numbers({LATCH: 0})
            self._profile = self._profile._replace(attributes=disarmed)
            self._latch_use = use
            if self.keystore:
                self.keystore.contents.touch()

    def take_latch_use(self) -> LatchUse | None:
        """Return the pending use of the latch, if there is one, and clear it."""
        use, self._latch_use = self._latch_use, None
        return use


class _Latch:
    """The `UpdateLatch` of a partition: the attribute that permits one PK without verification."""

    def __init__(self, partition: Partition) -> None:
        self._partition = partition

    @property
    def armed(self) -> bool:
        """Whether the latch is set."""
        return bool(self._partition.attributes.keystore_signed_updates_without_verification)

    def disarm(self, use: LatchUse) -> None:
        """Clear the latch."""
        self._partition.disarm_without_verification(use)
