"""The nine secure-boot variables, and the bytes that the signature of an update covers.

Facts: spec/secure-boot-variables.md#names.  A name is UTF-16, little-endian, without terminator.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from hcall_abi.policies import Policy

if TYPE_CHECKING:
    from hcall_abi.efi import EfiTime

FLAG_APPEND = 1
"""The only flag of SIGNED_UPDATE: add to the variable instead of replacing it."""

VENDOR_GLOBAL = bytes.fromhex("61dfe48bca93d211aa0d00e098032b8c")
"""8be4df61-93ca-11d2-aa0d-00e098032b8c: PK and KEK."""
VENDOR_SECURITY = bytes.fromhex("cbb219d73a3d9645a3bcdad00e67656f")
"""d719b2cb-3d3a-4596-a3bc-dad00e67656f: the databases of keys and digests."""
VENDOR_OTHER = bytes.fromhex("8375fd366a98154b8228041664342d51")
"""36fd7583-986a-4b15-8228-041664342d51: every other name."""

ATTRIBUTES = 0x27
"""EFI attributes in the signed bytes: non-volatile, boot and runtime access, time-based authentication."""
ATTRIBUTE_APPEND = 0x40

SIGNED_ONLY = int(Policy.SIGNEDUPDATE)
SIGNED_AND_READABLE = int(Policy.SIGNEDUPDATE | Policy.WORLDREADABLE)

POLICIES: Mapping[str, int] = MappingProxyType(
    {
        "PK": SIGNED_ONLY,
        "KEK": SIGNED_ONLY,
        "db": SIGNED_AND_READABLE,
        "dbx": SIGNED_AND_READABLE,
        "grubdb": SIGNED_AND_READABLE,
        "grubdbx": SIGNED_AND_READABLE,
        "sbat": SIGNED_AND_READABLE,
        "moduledb": SIGNED_ONLY,
        "trustedcadb": SIGNED_ONLY,
    }
)
"""The variables by name, each with the policy word that Linux sends."""

WIPE_SENTENCE = b"Yes, I want to delete all secure variables and reset secure boot to static keys.\n"
"""Contents of an armed update of PK that deletes everything, after the head of a signature list."""


def wide(name: str) -> bytes:
    """Return a variable's name in UTF-16, as it is in labels and in the signed bytes."""
    return name.encode("utf-16-le")


PK = wide("PK")
KEK = wide("KEK")
TRUSTED_CA = wide("trustedcadb")
_GLOBAL = frozenset({PK, KEK})
_SECURITY = frozenset(wide(name) for name in POLICIES) - _GLOBAL


def vendor_of(name: bytes) -> bytes:
    """Return the GUID under which a name (UTF-16) is signed."""
    if name in _GLOBAL:
        return VENDOR_GLOBAL
    return VENDOR_SECURITY if name in _SECURITY else VENDOR_OTHER


def signed_bytes(name: bytes, time: EfiTime, contents: bytes, *, append: bool) -> bytes:
    """Return the bytes that the signature of an update covers (spec/secure-boot-variables.md#signature)."""
    attributes = ATTRIBUTES | (ATTRIBUTE_APPEND if append else 0)
    head = name + vendor_of(name) + attributes.to_bytes(4, "little")
    from hcall_abi.efi import build_time  # a server without updates starts without it

    return head + build_time(time) + contents
