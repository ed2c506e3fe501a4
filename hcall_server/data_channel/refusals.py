"""Log lines of refused h-calls; their number is bounded, because a guest can cause any number.

Each partition has its own bound (`hcall_server.machine.noise`).  Lines are counted by h-call and rule, so a
refusal that repeats hides no other.
"""

from __future__ import annotations

from hcall_abi.calls import Opcode
from hcall_server.hcalls.refusals import Refusal
from hcall_server.machine import logs
from hcall_server.machine.noise import PeerLog, left_out

OTHER = "other"
"""The kind of every opcode that is unknown: a guest must not make the table of kinds grow."""

EVENT = "hcall.refused"

_NAMES = {int(opcode): opcode.name for opcode in Opcode}


def log_refusal(log: PeerLog, refusal: Refusal, opcode: int) -> None:
    """Write a refusal to the log, within the bound of its partition."""
    kind = _NAMES.get(opcode, OTHER), refusal.rule.id
    # This check comes first, so that a line that is left out costs no formatting.
    missing = log.missing("info", EVENT, kind)
    if missing is None:
        return
    argument = {"argument": refusal.argument} if refusal.argument else {}
    fields = argument | logs.explained(refusal)
    log.log.info(EVENT, hcall=call_name(opcode), status=refusal.status.name, **fields, **left_out(missing))


def call_name(opcode: int) -> str:
    """Return the name of an h-call, or its number in hex if it is unknown."""
    return _NAMES.get(opcode) or f"0x{opcode:X}"
