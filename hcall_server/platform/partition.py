"""A partition: its keystore, its power, its IPLs, and what of it outlives them.

    power     event       leads to
    OFF       power on    RUNNING, by an IPL
    RUNNING   IPL         RUNNING, with a higher IPL count
    RUNNING   power off   OFF

Every way into RUNNING is an IPL: passwords and TRANSIENT objects are gone (R-04, R-14) and the
secure-boot mode that the console has set takes effect.
"""

from __future__ import annotations

from enum import Enum

from hcall_abi.consumers import Consumer, SecureBoot
from hcall_abi.errors import OperatorError, SwpksError
from hcall_abi.levels import FirmwareLevel
from hcall_abi.policies import Policy
from hcall_server.keystore.image import StoreImage
from hcall_server.keystore.limits import limits_of
from hcall_server.keystore.signed import LatchUse
from hcall_server.keystore.store import Entropy, Keystore
from hcall_server.platform.attributes import Attributes, ConsoleAttributes, effective_level
from hcall_server.platform.profile import PartitionProfile

IPL_COUNT_LIMIT = 1 << 32

SB_VERSION = b"SB_VERSION"
"""Label of the object that tells the guest where secure boot takes its keys from; firmware's, no header."""
DYNAMIC_KEYS = b"\x01"
"""What SB_VERSION holds: keys come from the keystore."""


class Power(Enum):
    """Whether a partition runs."""

    OFF = "off"
    RUNNING = "running"


_RUNNING = Power.RUNNING  # a member looked up on its class costs twice a call


class Partition:
    """One partition of a managed system.

    `level` is what the partition has of its system's firmware level: without SIGNED_UPDATE while
    the console has signed updates off.  `attributes` are those that the console has set.

    `keystore` is None while the keystore is off (0 KiB, R-35) or refused: `refused` then says why
    what NVRAM holds could not be opened, and the partition does not start.  `name_unknown` says
    that even its profile could not be read, so that `name` only stands in for the real one.
    """

    def __init__(self, profile: PartitionProfile, level: FirmwareLevel, entropy: Entropy) -> None:
        self.number = profile.number
        self.name = profile.name
        self.kbytes = profile.kbytes
        self.ipl_count = profile.ipl_count
        self.next_secure_boot = SecureBoot(profile.secure_boot)
        self.auto_start = profile.auto_start
        self.attributes = profile.attributes
        self.level = effective_level(level, profile.attributes)
        self.power = Power.OFF
        self.secure_boot = SecureBoot.OFF
        self.strict_memory = True
        self.strict_wrapping = True
        self.keystore: Keystore | None = None
        self.refused: SwpksError | None = None
        self.name_unknown = False
        self._firmware = level
        self._entropy = entropy
        self._last_generation = profile.image_generation
        self._latch_use: LatchUse | None = None

    def __repr__(self) -> str:
        return f"Partition({self.number}, {self.name!r}, {self.kbytes} KiB, {self.power.value})"

    @property
    def running(self) -> bool:
        """Whether the partition is activated."""
        return self.power is _RUNNING

    def profile(self) -> PartitionProfile:
        """Return what is to be persisted now."""
        return PartitionProfile(
            number=self.number,
            name=self.name,
            kbytes=self.kbytes,
            ipl_count=self.ipl_count,
            secure_boot=int(self.next_secure_boot),
            auto_start=self.auto_start,
            image_generation=self.keystore.generation if self.keystore else self._last_generation,
            signed_updates=self.attributes.signed_updates,
            without_verification=self.attributes.without_verification,
            dynamic_keys=self.attributes.dynamic_keys,
        )

    def console_attributes(self) -> ConsoleAttributes:
        """Return what the console has set, under its own names."""
        updates, without_verification, dynamic = map(int, self.attributes)
        mode = int(self.next_secure_boot)
        return ConsoleAttributes(self.kbytes, updates, without_verification, dynamic, mode)

    def provide_keystore(self, image: StoreImage | None = None) -> None:
        """Make the keystore that `kbytes` asks for, empty or from what NVRAM held.

        An empty one goes on counting where the last one ended: no generation ever names two images.
        """
        if self.kbytes:
            limits = limits_of(self.level, self.kbytes)
            self.keystore = Keystore(limits, self._entropy, image, replaces=self._last_generation)
            self.keystore.secure_boot = self.secure_boot
            self.keystore.latch = _Latch(self)

    def set_kbytes(self, kbytes: int) -> None:
        """Take a new size that the system has found permissible; 0 takes the keystore away."""
        self.kbytes = kbytes
        if not kbytes:
            self._last_generation = self.profile().image_generation
            self.keystore = None
            self.set_attributes(Attributes())
        elif self.keystore:
            self.keystore.grow(limits_of(self.level, kbytes))
        else:
            self.provide_keystore()

    def set_attributes(self, attributes: Attributes) -> None:
        """Take attributes that the system has found permissible; a session that is open goes on as it is."""
        self.attributes = attributes
        self.level = effective_level(self._firmware, attributes)

    def disarm_without_verification(self, use: LatchUse) -> None:
        """Clear the one-shot latch after it has let a PK in unverified; nothing when it is not armed.

        It counts as a change of the keystore, so profile and image are committed together: a PK that
        is durable has used up its latch, also where the power fails next.
        """
        if self.attributes.without_verification:
            self.attributes = self.attributes._replace(without_verification=False)
            self._latch_use = use
            if self.keystore:
                self.keystore.touch()

    def take_latch_use(self) -> LatchUse | None:
        """Return what the latch has been used up for since the last time that somebody asked."""
        use, self._latch_use = self._latch_use, None
        return use

    def ipl(self) -> None:
        """Start the partition anew; OperatorError when its store was refused."""
        if self.refused:
            raise OperatorError(
                f"partition {self.name} cannot start: {self.refused.message}",
                rule="a partition whose stored keystore cannot be opened does not start",
                section="spec/sealed.md#refusals",
            )
        self.power = Power.RUNNING
        self.ipl_count = (self.ipl_count + 1) % IPL_COUNT_LIMIT
        self.secure_boot = self.next_secure_boot
        if self.keystore:
            self.keystore.ipl(self.secure_boot)
            self._provision(self.keystore)

    def _provision(self, keystore: Keystore) -> None:
        """Put the hypervisor's own objects into the keystore, as every IPL does anew (spec/policies.md)."""
        if self.attributes.dynamic_keys:
            keystore.provide(Consumer.FIRMWARE, SB_VERSION, int(Policy.WORLDREADABLE), DYNAMIC_KEYS)

    def power_off(self) -> None:
        """Stop the partition.  Its passwords end with it."""
        self.power = Power.OFF
        if self.keystore:
            self.keystore.ipl(SecureBoot.OFF)


class _Latch:
    """What SIGNED_UPDATE sees of the attribute that lets one PK in without verification."""

    def __init__(self, partition: Partition) -> None:
        self._partition = partition

    @property
    def armed(self) -> bool:
        """Whether it is set."""
        return self._partition.attributes.without_verification

    def disarm(self, use: LatchUse) -> None:
        """Clear it."""
        self._partition.disarm_without_verification(use)
