"""What outlives the IPLs of a partition besides its store (spec/sealed.md#partition-profile)."""

from __future__ import annotations

from typing import NamedTuple

from hcall_server.platform.attributes import Attributes


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
    signed_updates: bool = False
    without_verification: bool = False
    dynamic_keys: bool = False

    @property
    def attributes(self) -> Attributes:
        """What the console has set about signed updates."""
        return Attributes(self.signed_updates, self.without_verification, self.dynamic_keys)
