"""Reads sealed level 1: the records that earlier releases left in NVRAM (spec/sealed.md#level-1).

A partition had two records, its image and its profile, named by its number.  Nothing is sealed at this
level any more: a state is converted at its first start (`hcall_server.writeback.convert`).
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from typing import Any, NamedTuple

from construct import ConstructError
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from hcall_abi.console import AT_FIRST, SWITCH, ConsoleAttributes
from hcall_abi.layout import FixedLayout, LayoutMismatch
from hcall_abi.rules import storage as rules
from hcall_abi.rules.rule import Rule
from hcall_server.keystore.image import StoreImage
from hcall_server.platform.identity import SystemIdentity
from hcall_server.sealing.attributes import numbers_of, out_of_range
from hcall_server.sealing.envelope import Unsealed, explained, opened
from hcall_server.sealing.errors import PlaintextError, SealingError, UndecodableError
from hcall_server.sealing.formats import KEY_SIZE, NONCE_SIZE
from hcall_server.sealing.images import decode_image
from hcall_server.sealing.kinds import SealedKind
from hcall_server.sealing.level_1_formats import MARK_1, PROFILE_1, PROFILE_2, SYSTEM_1
from hcall_server.sealing.system import SystemRecord
from hcall_server.sealing.text import decoded_text

LEVEL = 1
PARTITION_KEY_INFO = b"swpks partition key 1"
SEALING_INFO = b"swpks sealing 1"
_SHA256 = SHA256()
_MARK = FixedLayout(MARK_1)
_CHECK_SIZE = 4
_SWITCHES = 7
"""The bits of switches that these profiles had; later attributes have later bits."""
_PROFILE_1_START = (1).to_bytes(2, "big")


class OldProfile(NamedTuple):
    """The fields of a profile of level 1: no UUID, no access key."""

    number: int
    name: str
    attributes: ConsoleAttributes
    auto_start: bool
    ipl_count: int
    image_generation: int


class OldSealer:
    """Opens the level-1 records of one managed system; the records of the system have partition 0."""

    def __init__(self, identity: SystemIdentity) -> None:
        self._identity = identity

    def __repr__(self) -> str:
        return f"OldSealer(system_id={self._identity.system_id.hex()}, keys hidden)"

    def open(self, kind: int, partition: int, blob: bytes) -> Unsealed:
        """Return the content of `blob`; SealingError if it is not of this kind, partition and system."""
        number = partition.to_bytes(2, "big")

        def keys_for(salt: bytes) -> tuple[bytes, bytes]:
            system_id, root_key = self._identity.system_id, self._identity.root_key
            # No key is cached: each record of this level is opened once, by the conversion.
            key = HKDF(_SHA256, KEY_SIZE, system_id, PARTITION_KEY_INFO + number).derive(root_key)
            material = HKDF(_SHA256, KEY_SIZE + NONCE_SIZE, salt, SEALING_INFO).derive(key)
            return material[:KEY_SIZE], material[KEY_SIZE:]

        return opened(LEVEL, kind, partition, blob, keys_for, self._identity.system_id + number)

    def explain(self, error: SealingError, blob: bytes, others: Iterable[int]) -> SealingError:
        """Return the most precise error, as `Sealer.explain` does."""
        return explained(self.open, error, blob, others)


def open_image(sealer: OldSealer, partition: int, blob: bytes) -> StoreImage:
    """Return the image in a blob; raises SealingError with the reason."""
    generation, plaintext = sealer.open(SealedKind.PARTITION_IMAGE, partition, blob)
    try:
        return decode_image(plaintext, generation)
    except PlaintextError as error:
        raise UndecodableError(SealedKind.PARTITION_IMAGE, partition, error) from None


def open_profile(sealer: OldSealer, partition: int, blob: bytes) -> OldProfile:
    """Return the profile in a blob; raises SealingError with the reason."""
    kind = SealedKind.PARTITION_PROFILE
    _, plaintext = sealer.open(kind, partition, blob)
    try:
        profile = decode_profile(plaintext)
        # The seal already authenticates the number.  If the numbers differ, the writer has sealed the wrong
        # profile.
        if profile.number != partition:
            raise PlaintextError(rules.PROFILE_OWNER, f"is the profile of partition {profile.number}")
    except PlaintextError as error:
        raise UndecodableError(kind, partition, error) from None
    return profile


def open_system(sealer: OldSealer, blob: bytes) -> SystemRecord:
    """Return the system record in a blob; raises SealingError with the reason."""
    _, plaintext = sealer.open(SealedKind.SYSTEM_RECORD, 0, blob)
    try:
        found = _parsed(SYSTEM_1, plaintext, rules.SYSTEM_LAYOUT)
        return SystemRecord(decoded_text(found.firmware, rules.SYSTEM_NAME), found.total_kbytes)
    except PlaintextError as error:
        raise UndecodableError(SealedKind.SYSTEM_RECORD, 0, error) from None


def decode_profile(plaintext: bytes) -> OldProfile:
    """Return the profile in `plaintext`; raises PlaintextError for anything else.

    Sealed level 1 had two layouts of profiles, PROFILE_1 and PROFILE_2.  PROFILE_1 has no switches, so each
    switch gets its first value.
    """
    oldest = plaintext.startswith(_PROFILE_1_START)
    found = _parsed(PROFILE_1 if oldest else PROFILE_2, plaintext, rules.PROFILE_LAYOUT)
    header = found.header
    switches = 0 if oldest else header.attributes
    numbers = numbers_of(header, switches)
    # Releases of sealed level 1 knew only these switches.  Any other bit in such a profile is damage, even
    # if this release has an attribute for that bit.
    if header.auto_start not in SWITCH or not found.name or switches & ~_SWITCHES:
        raise out_of_range()
    return OldProfile(
        number=header.number,
        name=decoded_text(found.name, rules.PROFILE_NAME),
        attributes=AT_FIRST.with_numbers(numbers),
        auto_start=bool(header.auto_start),
        ipl_count=header.ipl_count,
        image_generation=header.image_generation,
    )


def old_marked(slot: bytes) -> int | None:
    """Return the number in a high-water mark of sealed level 1, None for anything else."""
    try:
        number, check = _MARK.unpack(slot)
    except LayoutMismatch:
        return None
    # At sealed level 1 the file contains the mark alone, so a longer file is damaged.  The codec does not
    # check that: at level 2 the file has bytes after the mark.
    whole = len(slot) == _MARK.size and zlib.crc32(slot[:-_CHECK_SIZE]) == check
    return int(number) if whole else None


def _parsed(definition: Any, plaintext: bytes, rule: Rule) -> Any:
    """Return the parsed fields of the whole `plaintext`; PlaintextError with `rule` if it does not parse."""
    try:
        return definition.parse(plaintext)
    except ConstructError as error:
        message = f"does not have the layout of its level ({type(error).__name__})"
        raise PlaintextError(rule, message) from None
