"""Firmware levels as data: the calls of each emulated level, and its limits (R-74).

No code depends on a level's name.  Dispatch refuses the calls that a level lacks.  GET_CONFIG and the
management rules use these numbers.  spec/choices.md#levels says which numbers are public and which are our
choice.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from hcall_abi.calls import Opcode

KIB = 1024


class FirmwareLevel(NamedTuple):
    """The calls, limits and masks of one firmware level.

    Sizes of passwords, labels and objects are in bytes, those of stores in KiB. `max_object_size` is an
    upper bound. If `config_version` is below 3, GET_CONFIG returns the smaller of this bound and the size
    of the whole store. A `max_large_object_size` of 0 means that the level has no objects of 64 KiB or
    more.
    """

    name: str
    calls: frozenset[Opcode]
    config_version: int
    max_password_size: int
    max_label_size: int
    max_object_size: int
    max_large_object_size: int
    object_overhead: int
    supported_policies: int
    signed_update_algorithms: int
    wrapping_features: int
    min_kbytes: int
    max_kbytes: int
    system_total_kbytes: int

    @property
    def has_keystore(self) -> bool:
        """Whether a partition can have a keystore at all."""
        return self.max_kbytes > 0

    @property
    def sizes(self) -> str:
        """The allowed sizes of a keystore, as text."""
        if not self.has_keystore:
            return f"0 alone on {self.name}, which has no keystore"
        return f"0, or {self.min_kbytes} to {self.max_kbytes} KiB on {self.name}"


_FIRST_CALLS = frozenset(
    {
        Opcode.GET_CONFIG,
        Opcode.SET_PASSWORD,
        Opcode.GEN_PASSWORD,
        Opcode.GET_OBJECTLABELS,
        Opcode.WRITE_OBJECT,
        Opcode.GEN_KEY,
        Opcode.READ_OBJECT,
        Opcode.REMOVE_OBJECT,
        Opcode.CONFIRM_OBJECT_FLUSHED,
    }
)
_WRAPPING_CALLS = frozenset({Opcode.WRAP_OBJECT, Opcode.UNWRAP_OBJECT})
_REVOKING_CALLS = frozenset({Opcode.REVOKE_OBJECT, Opcode.UNREVOKE_OBJECT})

# This level exists for migrations: a target of this level must refuse a partition with a keystore
# (`arrival.level`).
FW940 = FirmwareLevel(
    name="FW940",
    calls=frozenset(),
    config_version=0,
    max_password_size=0,
    max_label_size=0,
    max_object_size=0,
    max_large_object_size=0,
    object_overhead=0,
    supported_policies=0,
    signed_update_algorithms=0,
    wrapping_features=0,
    min_kbytes=0,
    max_kbytes=0,
    system_total_kbytes=0,
)
"""The last level without a keystore (POWER9, 2019): every h-call of it is answered with H_FUNCTION."""

FW950 = FirmwareLevel(
    name="FW950",
    calls=_FIRST_CALLS,
    config_version=1,
    max_password_size=32,
    max_label_size=255,
    # The field in the config block has 16 bits. On later levels, with larger objects, Linux refuses any other
    # number (spec/structures.md).
    max_object_size=0xFFFF,
    max_large_object_size=0,
    object_overhead=32,
    # Bits 1 to 7, without the status bits (C-10).
    supported_policies=0x7F000000,
    signed_update_algorithms=0,
    wrapping_features=0,
    min_kbytes=4,
    max_kbytes=64,
    system_total_kbytes=1024,
)
"""The first level with a keystore (POWER9, 2020)."""

FW1010 = FW950._replace(name="FW1010", config_version=2, max_password_size=64, system_total_kbytes=4 * KIB)
"""The first level of Power10: GET_CONFIG has the object overhead, and passwords may be longer."""

FW1030 = FW1010._replace(
    name="FW1030",
    calls=FW1010.calls | {Opcode.SIGNED_UPDATE},
    config_version=3,
    # Bits 0 and 1: RSA-2048 and RSA-4096. RSA-3072 counts too, but has no public bit (C-Y).
    signed_update_algorithms=0xC000000000000000,
)
"""Signed updates, and the fields of config version 3."""

FW1050 = FW1030._replace(name="FW1050", max_large_object_size=64 * KIB)
"""Objects of 64 KiB, as far as a store of 64 KiB has room."""

FW1060 = FW1050._replace(name="FW1060")
"""The last level of Power10 alone.  A guest sees no difference from FW1050."""

FW1110 = FW1060._replace(
    name="FW1110",
    calls=FW1060.calls | _WRAPPING_CALLS,
    max_large_object_size=128 * KIB,
    # Bit 8, WRAPPINGKEY, is new.
    supported_policies=0x7F800000,
    wrapping_features=0x8000000000000000,
    max_kbytes=128,
    system_total_kbytes=16 * KIB,
)
"""Power11, with key wrapping and stores of up to 128 KiB."""

NEXT = FW1110._replace(name="NEXT", calls=FW1110.calls | _REVOKING_CALLS)
"""The level after FW1110, with revocation.  No release of real firmware has this name."""

LEVELS: Mapping[str, FirmwareLevel] = MappingProxyType(
    {level.name: level for level in (FW940, FW950, FW1010, FW1030, FW1050, FW1060, FW1110, NEXT)}
)
"""Every emulated firmware level by name, oldest first."""

KEYSTORE_LEVELS: Mapping[str, FirmwareLevel] = MappingProxyType(
    {name: level for name, level in LEVELS.items() if level.has_keystore}
)
"""The levels on which a partition can have a keystore, by name, oldest first."""

DEFAULT_LEVEL = FW1110
