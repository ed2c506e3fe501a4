"""Names and numbers as programs in C have them, for `swpks explain`.

PKS_H_IN_USE            the status H_IN_USE; also PKS_POLICY_PWSET, PKS_OPCODE_WRAP_OBJECT
ffffffffffffffb3        a number in hexadecimal without 0x, as printf prints it by %lx
434                     an opcode in hexadecimal without 0x
"""

from __future__ import annotations

import re

from swpks.cli import policy_words, subjects

_PREFIXES = ("PKS_POLICY_", "PKS_OPCODE_", "PKS_FRAME_", "PKS_OPEN_", "PKS_GOODBYE_", "PKS_")
"""Beginnings of the names in swpks/pks.h; the longer ones come first."""
_DIGITS = re.compile(r"[0-9a-f]{3,16}", re.IGNORECASE)
_HEADER = ("c-header", "pks.h", "swpks/pks.h", "pks_client.h", "swpks/pks_client.h")


def meant(name: str) -> str:
    """Return the subject that a text of a C program means, as `explain` knows it; "" for none.

    The caller has found no subject by the text itself.  So a decimal number of the tables keeps its meaning.
    """
    for prefix in _PREFIXES:
        rest = name.upper().removeprefix(prefix)
        if rest != name.upper() and subjects.found(rest):
            return rest
    if not _DIGITS.fullmatch(name):
        return ""
    number = f"0x{name}"
    found = subjects.found(number) or subjects.of_32_bits(number) or policy_words.bits_of(number)
    return number if found else ""


def command_for(name: str) -> str:
    """Return the command that shows the header for C, if a name is that of the header; "" for others."""
    if name.lower() not in _HEADER:
        return ""
    return "`swpks c-header` prints the folder of the header, and spec/protocol.md describes the frames"
