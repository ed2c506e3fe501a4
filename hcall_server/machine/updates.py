"""Logs accepted signed updates: those without verification, and those that firmware may refuse."""

from __future__ import annotations

from hcall_abi.consumers import Consumer
from hcall_abi.rules.updates import DOUBT_ADVICE
from hcall_abi.structures import LABEL_HEADER_SIZE
from hcall_abi.variables import POLICIES
from hcall_server.keystore.signed import SignedObjects
from hcall_server.machine import logs
from hcall_server.machine.noise import PeerLog
from hcall_server.platform.partition import Partition


def log_latch_use(partition: Partition, log: logs.Log) -> bool:
    """Log an update that was accepted without verification; return whether there was one."""
    use = partition.take_latch_use()
    if use is not None:
        consumer = Consumer.OPERATING_SYSTEM.name.lower()
        log.info("signed_update.unverified", what=use.value, consumer=consumer)
    return use is not None


def log_doubts(signed: SignedObjects, log: PeerLog) -> None:
    """Log accepted updates that real firmware may refuse, and forget them.

    A guest can send the same append again and again, so the lines cost its allowance.
    """
    for label, reasons in signed.doubts:
        variable = _name(label)
        log.warning(
            "signed_update.doubted",
            kind=variable,
            what="hardware may refuse this update",
            variable=variable,
            reasons=list(reasons),
            advice=f"{DOUBT_ADVICE}; swpks serve --strict-updates refuses such an update",
        )
    signed.doubts.clear()


def _name(label: bytes) -> str:
    """Return the name of one of the nine variables, or "another name"."""
    # Each name of a variable is a kind of log line, and each kind takes memory.  A guest can choose any
    # name.  So all other names are one kind.
    name = label[LABEL_HEADER_SIZE:].decode("utf-16-le", "replace")
    return name if name in POLICIES else "another name"
