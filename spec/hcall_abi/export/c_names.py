"""The names and numbers of the contract as C macros.

Macros and not enumerations: firmware also reads them from assembler files, and a wrap flag needs 64 bits.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from enum import IntEnum, IntFlag

from hcall_abi import frames, structures, variables, wrapping
from hcall_abi.calls import Opcode
from hcall_abi.consumers import Consumer, SecureBoot
from hcall_abi.policies import CALLER_BITS, KNOWN_BITS, STATUS_BITS, Policy
from hcall_abi.statuses import FIRST_ARGUMENT_REGISTER, REGISTERS, Status

_ENUMERATIONS: tuple[tuple[str, str, type[IntEnum] | type[IntFlag], str], ...] = (
    ("Opcodes of h-calls: r3 of a call", "OPCODE_", Opcode, "x"),
    ("Statuses: r3 of an answer, signed", "", Status, "d"),
    ("Consumers of a keystore", "CONSUMER_", Consumer, "d"),
    ("Modes of OS secure boot", "SECURE_BOOT_", SecureBoot, "d"),
    ("Bits of a policy word, 32 bits", "POLICY_", Policy, "08x"),
    ("Flags of WRAP_OBJECT, 64 bits", "WRAP_", wrapping.WrapFlag, "016x"),
    ("Frame types of the data channel", "FRAME_", frames.FrameType, "d"),
    ("Statuses of OPENED", "OPEN_", frames.OpenStatus, "d"),
    ("Reasons of GOODBYE", "GOODBYE_", frames.GoodbyeReason, "d"),
    ("Proof kinds of OPEN", "PROOF_", frames.ProofKind, "d"),
    ("Access of an h-call to a segment", "ACCESS_", frames.Access, "d"),
)

_NUMBERS: Mapping[str, Mapping[str, int | str]] = {
    "Sizes and fixed values of the data channel": {
        "VERSION": frames.VERSION,
        "NONCE_SIZE": frames.NONCE_SIZE,
        "PROOF_SIZE": frames.PROOF_SIZE,
        "MAX_BODY": frames.MAX_BODY,
        "MAX_TEXT": 255,
        "FIRST_REGISTER": FIRST_ARGUMENT_REGISTER,
        "REGISTERS": REGISTERS,
    },
    "Policy words: all known bits, those of a caller, those that the hypervisor reports": {
        "POLICY_KNOWN": f"0x{KNOWN_BITS:08x}",
        "POLICY_CALLER": f"0x{CALLER_BITS:08x}",
        "POLICY_STATUS": f"0x{STATUS_BITS:08x}",
    },
    "Flags of the config block": {
        "CONFIG_WRAPPING": f"0x{structures.FLAG_WRAPPING:02x}",
        "CONFIG_REVOKING": f"0x{structures.FLAG_REVOKING:02x}",
    },
    "The byte `os` of a label header": {
        "OS_LINUX": f"0x{structures.OS_LINUX:02x}",
        "OS_COMMON": f"0x{structures.OS_COMMON:02x}",
    },
    "Signed updates and key wrapping": {
        "UPDATE_APPEND": variables.FLAG_APPEND,
        "WRAPPING_KEY_SIZE": wrapping.WRAPPING_KEY_SIZE,
        "WRAP_OVERHEAD": wrapping.WRAP_OVERHEAD,
        "MAX_WRAP_INPUT": wrapping.MAX_WRAP_INPUT,
        "WRAP_AES_256_GCM": wrapping.AES_256_GCM,
        "WRAP_DEFAULT": f"UINT64_C(0x{wrapping.DEFAULT_WRAP_FLAGS:016x})",
    },
}


def macros() -> Iterator[str]:
    """Yield the macros in groups, each with a comment before it."""
    for comment, prefix, members, form in _ENUMERATIONS:
        yield _group(comment, ((f"{prefix}{member.name}", _number(member, form)) for member in members))
    for comment, numbers in _NUMBERS.items():
        yield _group(comment, ((name, str(number)) for name, number in numbers.items()))


def _number(value: int, form: str) -> str:
    """Return a C constant; a negative number gets parentheses."""
    if form == "016x":
        return f"UINT64_C(0x{value:{form}})"
    text = format(int(value), form)
    if "x" in form:
        return f"0x{text}"
    return f"({text})" if value < 0 else text


def _group(comment: str, named: Iterable[tuple[str, str]]) -> str:
    lines = [f"#define PKS_{name} {number}" for name, number in named]
    return "\n".join([f"/* {comment} */", *lines, ""])
