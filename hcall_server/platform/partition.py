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
from typing import NamedTuple

from hcall_abi.consumers import SecureBoot
from hcall_abi.errors import OperatorError, SwpksError
from hcall_abi.levels import FirmwareLevel
from hcall_server.keystore.image import StoreImage
from hcall_server.keystore.limits import limits_of
from hcall_server.keystore.store import Entropy, Keystore

IPL_COUNT_LIMIT = 1 << 32


class Power(Enum):
    """Whether a partition runs."""

    OFF = "off"
    RUNNING = "running"


_RUNNING = Power.RUNNING  # a member looked up on its class costs twice a call


class PartitionProfile(NamedTuple):
    """What is persisted of a partition besides its store: sizes in KiB, modes as numbers.

    `image_generation` is the generation of the image that is committed with the profile, so that an
    older image in its place is noticed; while the keystore is off, that of the last image there was.
    """

    number: int
    name: str
    kbytes: int
    ipl_count: int
    secure_boot: int
    auto_start: bool
    image_generation: int


class Partition:
    """One partition of a managed system.

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
        self.level = level
        self.power = Power.OFF
        self.secure_boot = SecureBoot.OFF
        self.strict_memory = True
        self.keystore: Keystore | None = None
        self.refused: SwpksError | None = None
        self.name_unknown = False
        self._entropy = entropy
        self._last_generation = profile.image_generation

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
        )

    def provide_keystore(self, image: StoreImage | None = None) -> None:
        """Make the keystore that `kbytes` asks for, empty or from what NVRAM held.

        An empty one goes on counting where the last one ended: no generation ever names two images.
        """
        if self.kbytes:
            limits = limits_of(self.level, self.kbytes)
            self.keystore = Keystore(limits, self._entropy, image, replaces=self._last_generation)
            self.keystore.secure_boot = self.secure_boot

    def set_kbytes(self, kbytes: int) -> None:
        """Take a new size that the system has found permissible; 0 takes the keystore away."""
        self.kbytes = kbytes
        if not kbytes:
            self._last_generation = self.profile().image_generation
            self.keystore = None
        elif self.keystore:
            self.keystore.grow(limits_of(self.level, kbytes))
        else:
            self.provide_keystore()

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

    def power_off(self) -> None:
        """Stop the partition.  Its passwords end with it."""
        self.power = Power.OFF
        if self.keystore:
            self.keystore.ipl(SecureBoot.OFF)
