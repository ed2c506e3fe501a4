"""The meaning of a TPM's response code: the blob belongs to another TPM, or nothing is known.  Pure."""

# Which codes are about the blob
#
# A start treats two failures of a TPM in opposite ways.  A blob that another TPM made is replaced: the root
# key is wrapped again.  A TPM that can't work now keeps its blob.  So a code that is about the TPM must never
# count as a foreign blob, or a busy TPM would cost the system its wrapped copy.
#
# A code of format one (bit 0x080) names a wrong handle, session or parameter of the command.  As the answer
# to LOAD or UNSEAL it is about the blob: this server makes the rest of the command always in the same way.
# For example, 0x1df says that the integrity of the blob is wrong: another TPM made it, or it is damaged.
# Every other code is about the TPM: not started, in failure mode, testing, out of memory, locked.

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from hcall_abi.errors import StorageError
from hcall_server.components.seam import TpmRefusedError, TpmSilentError
from hcall_server.components.tpm.commands import TpmCommand

FORMAT_ONE = 0x080
OF_BLOB = frozenset({TpmCommand.LOAD, TpmCommand.UNSEAL})

_RESTART = "restart the TPM"
_LATER = "start the server again in a few seconds"
_PASSWORD = (
    "its owner hierarchy has a password",
    "remove the password (tpm2_changeauth -c owner -p PASSWORD)",
)
MEANINGS: Mapping[int, tuple[str, str]] = MappingProxyType(
    {
        0x100: ("it was not started up", "start swtpm with --flags startup-clear"),
        0x101: ("it is in failure mode", _RESTART),
        0x120: ("it is disabled", "enable it in its firmware"),
        0x185: ("its owner hierarchy is disabled", _RESTART),
        0x902: ("its memory for objects is full", f"end the programs that left objects in it, or {_RESTART}"),
        0x903: (
            "its memory for sessions is full",
            f"end the programs that left sessions in it, or {_RESTART}",
        ),
        0x908: ("it was interrupted", _LATER),
        0x909: ("it gave the command up", _LATER),
        0x90A: ("it tests itself", _LATER),
        0x920: ("it limits its writes", _LATER),
        0x921: ("it is locked after wrong passwords", "wait, or reset its lockout (tpm2_dictionarylockout)"),
        0x922: ("it asks for another try", _LATER),
        0x98E: _PASSWORD,
        0x9A2: _PASSWORD,
        0x923: ("its own store does not work", "look at the log and the disk of the TPM"),
    }
)
"""Meaning and advice of the codes that operators meet; TPM 2.0 Library, part 2, has all of them."""


def error_of(name: str, command: TpmCommand, code: int) -> StorageError:
    """Return the error for a response code other than 0."""
    # A code above 0xfff comes from a layer between this program and the TPM.  There bit 0x080 has another
    # meaning.
    if code & FORMAT_ONE and command in OF_BLOB and code <= 0xFFF:
        return TpmRefusedError(
            f"{name}: the TPM answers {command.name} with {code:#05x}: "
            "another TPM has wrapped this root key, or the copy is damaged"
        )
    meaning, advice = MEANINGS.get(code, ("it can't work now", "look at the log of the TPM"))
    return TpmSilentError(f"{name}: the TPM answers {command.name} with {code:#05x}: {meaning}; {advice}")
