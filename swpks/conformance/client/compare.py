"""Comparisons of the client's calls and reports with the right values; a difference raises Deviation."""

from __future__ import annotations

from collections.abc import Iterable

from hcall_abi.frames import Access, HCall, Write
from hcall_abi.statuses import REGISTERS
from swpks.conformance.case import Deviation
from swpks.conformance.client.lines import Report


def demand_returned(came: Report, status: int, registers: tuple[int, ...], writes: Iterable[Write]) -> None:
    """Raise Deviation unless a report has this status, these registers (the rest 0) and these writes."""
    if came.number != status:
        raise Deviation(f"status {status}", f"status {came.number}")
    values = registers + (0,) * (REGISTERS - len(registers))
    if came.registers != values:
        raise Deviation(f"r4 to r12 = {_words(values)}", _words(came.registers))
    expected, written = _memory(writes), _memory(came.writes)
    if written != expected:
        raise Deviation(f"writes {_memory_text(expected)}", _memory_text(written))


def _memory(writes: Iterable[Write]) -> list[tuple[int, bytes]]:
    """Return writes in ascending order; adjacent writes are joined, empty writes are left out."""
    joined: list[tuple[int, bytes]] = []
    for address, data in sorted(write for write in writes if write.data):
        if joined and joined[-1][0] + len(joined[-1][1]) == address:
            start, before = joined.pop()
            joined.append((start, before + data))
        else:
            joined.append((address, data))
    return joined


def demand_call(made: HCall, came: HCall) -> None:
    """Raise Deviation unless the HCALL that came is the call that the judge asked for."""
    if came.opcode != made.opcode:
        raise Deviation(f"HCALL with opcode 0x{made.opcode:X}", f"0x{came.opcode:X}")
    if came.registers != made.registers:
        raise Deviation(f"r4 to r12 = {_words(made.registers)}", _words(came.registers))
    # The client may send the segments in any order, so they are sorted.  A segment of length 0 names no
    # memory, so it is left out.
    expected, found = (sorted(each for each in call.segments if each[1]) for call in (made, came))
    if [each[:3] for each in found] != [each[:3] for each in expected]:
        raise Deviation(f"segments {_segments(expected)}", _segments(found))
    if found != expected:
        raise Deviation("the bytes of the segments as in the command", "other bytes")


def _segments(pieces: Iterable[tuple[int, int, int, bytes]]) -> str:
    names = {int(each): each.name.lower() for each in Access}
    return (
        ", ".join(f"0x{address:X}:{names[access]}:{length}" for address, length, access, _ in pieces)
        or "none"
    )


def _words(values: Iterable[int]) -> str:
    return " ".join(f"0x{value:x}" for value in values)


def _memory_text(writes: Iterable[tuple[int, bytes]]) -> str:
    shown = ", ".join(f"0x{address:X}: {len(data)} bytes {data[:8].hex()}" for address, data in writes)
    return shown or "none"


def opened_text(report: Report) -> str:
    """Return the line of a report `opened`."""
    return f"`opened partition={report.number} ipl={report.ipl_count} level={report.text}`"


def line_of(report: Report) -> str:
    """Return the line of a report, without registers and writes."""
    number = f" {report.number}" if report.kind in ("refused", "ended", "returned") else ""
    text = f" {report.text}" if report.text else ""
    return f"`{report.kind}{number}{text}`"
