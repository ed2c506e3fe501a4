"""Label and flags of an update: the rules that need the arguments only."""

from __future__ import annotations

from construct import ConstructError

from hcall_abi.consumers import Consumer
from hcall_abi.rules import updates as rules
from hcall_abi.rules.rule import Rule
from hcall_abi.structures import LABEL_HEADER, LABEL_HEADER_SIZE, OS_LINUX
from hcall_abi.variables import FLAG_APPEND, PK

_NO_PREFIX = bytes(8)
_PLATFORM_KEY = LABEL_HEADER.build({"prefix": _NO_PREFIX, "os": OS_LINUX}) + PK


def broken_by_label(label: bytes) -> Rule | None:
    """Return the rule that a label breaks, None if it is a right label of a variable."""
    try:
        header = LABEL_HEADER.parse(label)
    except ConstructError:
        return rules.UPDATE_LABEL
    if header.prefix != _NO_PREFIX:
        return rules.UPDATE_LABEL
    name = name_of(label)
    if not name or len(name) % 2:
        return rules.UPDATE_NAME_WIDE
    if any(not name[n] and not name[n + 1] for n in range(0, len(name), 2)):
        return rules.UPDATE_NAME_NUL
    return None


def broken_by_flags(flags: int, label: bytes) -> Rule | None:
    """Return the rule that the flags of an update break, None if the variable `label` permits these flags."""
    if flags & ~FLAG_APPEND:
        return rules.UPDATE_FLAGS
    # PK holds exactly one certificate, so nothing can be added to it.
    return rules.UPDATE_PK_APPEND if flags and name_of(label) == PK else None


def name_of(label: bytes) -> bytes:
    """Return the name of a variable, in UTF-16, from its label."""
    return label[LABEL_HEADER_SIZE:]


def is_platform_key(consumer: Consumer, label: bytes) -> bool:
    """Whether this is the PK that Linux uses.  No other variable may be updated without verification.

    A PK of another consumer, or with another flag in its label's header, is an ordinary object.
    """
    # A boot loader may have a PK of its own.  It must not use up the permission that the console gave to
    # Linux.
    return consumer is Consumer.OPERATING_SYSTEM and label == _PLATFORM_KEY


def sibling(label: bytes, name: bytes) -> bytes:
    """Return the label of another variable of the same operating system."""
    return label[:LABEL_HEADER_SIZE] + name
