"""The changes that mutants make in a server's answers: statuses, results, written bytes and frames."""

from __future__ import annotations

from collections.abc import Callable

from hcall_abi.calls import CALLS, Opcode
from hcall_abi.frames import Frame, Goodbye, Hello, HReturn, Opened, Write
from hcall_abi.statuses import Status
from tests.conformance.proxy import Answers, Mutant, Passing

S = Status
POSITIONS = [S.H_PARAMETER, S.H_P2, S.H_P3, S.H_P4, S.H_P5, S.H_P6, S.H_P7, S.H_P8, S.H_P9]


def when(kind: type[Frame], change: Callable[[Passing, Frame], list[Frame | bytes] | None]) -> Answers:
    """Return a change of the frames of one kind."""
    return lambda passing, frame: change(passing, frame) if isinstance(frame, kind) else None


def answered(
    opcode: Opcode | None, status: Status | None, change: Callable[[Passing, HReturn], HReturn | None]
) -> Answers:
    """Return a change of each answer to `opcode` that has this status.

    None means any call or any status.
    """

    def changed(passing: Passing, frame: Frame) -> list[Frame | bytes] | None:
        if not isinstance(frame, HReturn) or passing.call is None:
            return None
        if opcode is not None and passing.call.opcode != opcode:
            return None
        if status is not None and frame.status != status:
            return None
        new = change(passing, frame)
        return None if new is None else [new]

    return changed


def status(chapter: str, opcode: Opcode, old: Status, new: Status) -> Mutant:
    """Return a change that replaces one status by another."""
    name = f"{opcode.name} answers {new.name} for {old.name}"
    return Mutant(name, chapter, answered(opcode, old, lambda _, frame: frame._replace(status=int(new))))


def output(
    chapter: str,
    opcode: Opcode,
    result: str,
    change: Callable[[int], int],
    words: str,
    old: Status = S.H_SUCCESS,
) -> Mutant:
    """Return a change of one result register of a call."""
    place = CALLS[opcode].output(result).place

    def changed(_: Passing, frame: HReturn) -> HReturn:
        registers = list(frame.registers)
        registers[place] = change(registers[place])
        return frame._replace(registers=tuple(registers))

    return Mutant(f"{opcode.name} returns {words}", chapter, answered(opcode, old, changed))


def written(
    chapter: str, opcode: Opcode, change: Callable[[bytes], bytes], words: str, old: Status = S.H_SUCCESS
) -> Mutant:
    """Return a change of the bytes that a call writes."""

    def changed(_: Passing, frame: HReturn) -> HReturn | None:
        if not frame.writes:
            return None
        first, *others = frame.writes
        return frame._replace(writes=(Write(first.address, change(first.data)), *others))

    return Mutant(f"{opcode.name} writes {words}", chapter, answered(opcode, old, changed))


def flip(at: int) -> Callable[[bytes], bytes]:
    """Return a change that flips one bit of a byte."""

    def change(data: bytes) -> bytes:
        new = bytearray(data)
        if len(new) > at:
            new[at] ^= 1
        return bytes(new)

    return change


def hello(name: str, **fields: object) -> Mutant:
    """Return a change of fields in HELLO."""
    return Mutant(name, "opening", when(Hello, lambda _, frame: [frame._replace(**fields)]))  # type: ignore[arg-type]


def opened(name: str, change: Callable[[Opened], Opened]) -> Mutant:
    """Return a change of every OPENED."""
    return Mutant(name, "opening", when(Opened, lambda _, frame: [change(frame)]))  # type: ignore[arg-type]


def goodbye(name: str, chapter: str, change: Callable[[Goodbye], list[Frame | bytes]]) -> Mutant:
    """Return a change of every GOODBYE."""
    return Mutant(name, chapter, when(Goodbye, lambda _, frame: change(frame)))  # type: ignore[arg-type]


def returned(
    name: str, chapter: str, change: Callable[[Passing, HReturn], list[Frame | bytes] | None]
) -> Mutant:
    """Return a change of every HRETURN."""
    return Mutant(name, chapter, when(HReturn, change))  # type: ignore[arg-type]
