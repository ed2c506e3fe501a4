"""The account of a start: its steps of the procedure that gives access to the stores.

The procedure is public (2020); ARCHITECTURE.md maps its nine steps to the code.  Steps 1 to 4 are about the
root key, 5 to 7 about the records.  Steps 8 and 9, the write-behind and the copies, happen later.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from hcall_abi.counts import counted
from hcall_server.platform.root_key import AccessAccount, AccessStep, PartReport, RootKeyRow, StartOutcome
from hcall_server.platform.system import ManagedSystem
from hcall_server.service.key_copies import KeyCopies, WrappedCopy

_READY = {
    StartOutcome.NEW_SYSTEM: "the keystores are ready",
    StartOutcome.OPERATE: "the keystores are ready",
    StartOutcome.RECOVERY: "state Recovery: no keystore is served until stores are restored or given up",
    StartOutcome.RESET_PENDING: "state Reset pending: no keystore is served until reset-settings",
}


def steps_of(
    copies: KeyCopies, row: RootKeyRow, parts: Sequence[PartReport], records: int
) -> tuple[AccessStep, ...]:
    """Return steps 1 to 5 of a start."""
    return (
        AccessStep(1, f"anchor card: {copies.card_finding.value}"),
        *(AccessStep(2, _read(copy)) for copy in copies.wrapped),
        *(AccessStep(3, text) for text in _unwrapped(copies)),
        AccessStep(4, f"copies compared: {row.id}; {row.outcome.value}"),
        *(AccessStep(4, f"{part.name}: {part.copy}: {part.detail}") for part in parts if _is_news(part)),
        AccessStep(5, f"NVRAM: {counted(records, 'record')} {'was' if records == 1 else 'were'} read"),
    )


def accounted(access: AccessAccount, system: ManagedSystem, commit: int) -> AccessAccount:
    """Return the account with steps 6 and 7, once the partitions were recovered."""
    partitions = system.partitions.values()
    refused = [each.name for each in partitions if each.refused]
    count = len(partitions) - len(refused)
    opened = f"{counted(count, 'partition')} decrypted"
    opened += f", of commit {commit}" if commit else ""
    step_6 = AccessStep(6, f"{opened}; refused: {', '.join(refused)}" if refused else opened)
    return access._replace(steps=(*access.steps, step_6, AccessStep(7, _READY[access.outcome])))


def _read(copy: WrappedCopy) -> str:
    return f"NVRAM: {copy.record_name}: {'read' if copy.present else 'none'}"


def _unwrapped(copies: KeyCopies) -> Iterator[str]:
    for copy, finding in zip(copies.wrapped, copies.findings, strict=True):
        if copy.present:
            trouble = f": {copy.trouble.message}" if copy.trouble else ""
            yield f"{copy.tpm.name} ({copy.tpm.kind}): {finding.value}{trouble}"


def _is_news(part: PartReport) -> bool:
    return part.copy in {"restored", "silent"}
