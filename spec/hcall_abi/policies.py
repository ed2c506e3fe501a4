"""Policy words: the 32 bits that say how an object may be used.

Bits are numbered as IBM does, from the most significant: bit 0 is 0x80000000.  Bits that no
public text names are refused, never dropped (spec/policies.md).
"""

from __future__ import annotations

from enum import IntFlag


class Policy(IntFlag):
    """The policy bits of an object, a 32-bit word."""

    OSSECBOOTAUDIT = 0x40000000
    """Accessible only while OS secure boot is in audit or enforce mode (R-10)."""
    OSSECBOOTENFORCE = 0x20000000
    """Accessible only while OS secure boot is in enforce mode (R-10)."""
    PWSET = 0x10000000
    """No access before the owner's password has been set (R-13)."""
    WORLDREADABLE = 0x08000000
    """Readable by every consumer without authentication (R-11)."""
    IMMUTABLE = 0x04000000
    """Once written it is neither overwritten nor removed (R-12)."""
    TRANSIENT = 0x02000000
    """Gone at the next IPL; never reaches NVRAM (R-14)."""
    SIGNEDUPDATE = 0x01000000
    """Changed only by H_PKS_SIGNED_UPDATE (R-15)."""
    WRAPPINGKEY = 0x00800000
    """The object is a wrapping key, made by H_PKS_GEN_KEY and never readable (R-16)."""
    HVPROVISIONED = 0x00000008
    """Status, not a request: the hypervisor put the object there."""
    REVOKED = 0x00000002
    """Status, not a request: the object is revoked."""


KNOWN_BITS: int = sum(int(bit) for bit in Policy)
"""Every bit that a public text names."""

STATUS_BITS: int = int(Policy.HVPROVISIONED | Policy.REVOKED)
"""Bits that the hypervisor reports and that no caller may ask for."""

CALLER_BITS: int = KNOWN_BITS & ~STATUS_BITS
"""The bits that a caller may ask for, where its firmware level supports them."""


def describe(policy: int) -> str:
    """Return a policy word as text: names for known bits, hexadecimal for unknown ones."""
    names = [bit.name or "" for bit in Policy if policy & bit]
    # Unknown bits are shown too: a word in a log or an error must be complete.
    unknown = policy & ~KNOWN_BITS
    if unknown:
        names.append(f"0x{unknown:08X}")
    return "|".join(names) or "0"
