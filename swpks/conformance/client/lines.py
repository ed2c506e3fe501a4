"""The line protocol between the judge and a client: commands, and the lines that answer them.

Both ends use this module.  The judge writes commands and reads reports; the adapters of our clients read
commands and write reports.  The contract is spec/conformance.md#line-protocol.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from hcall_abi.frames import Access, HCall, Segment, Write
from hcall_abi.statuses import FIRST_ARGUMENT_REGISTER, REGISTERS

VERSION = 1
"""Version of the line protocol; the command `begin` has it."""
LONGEST_LINE = 1 << 20
"""Most bytes in a line: the largest body as hexadecimal digits, and some more."""

_ACCESS = {"in": Access.IN, "out": Access.OUT, "both": Access.BOTH}
_ACCESS_NAMES = {int(access): name for name, access in _ACCESS.items()}
_REGISTER = re.compile(r"r([4-9]|1[0-2])=(0x[0-9a-fA-F]{1,16}|[0-9]{1,20})")
_WRITE = re.compile(r"write=(0x[0-9a-fA-F]{1,16}|[0-9]{1,20}):((?:[0-9a-fA-F]{2})*)")
_OPENED = re.compile(r"partition=([0-9]{1,5}) ipl=([0-9]{1,10}) level=(.*)")
_NUMBER = re.compile(r"-?[0-9]{1,20}")
_OUTCOMES = ("outcome=unknown", "outcome=not-run")

NUMBERED = ("refused", "ended")
"""Reports that begin with a number: a status of OPENED, or a reason of GOODBYE."""
TEXTS = ("ready", "broken", "unreachable", "unsupported")
"""Reports that end in a free text."""
PLAIN = ("closed", "too-large")
"""Reports of one word."""


class OpenPlace(NamedTuple):
    """The arguments of the command `open`: a place such as `unix:PATH`, partition id, access key."""

    place: str
    partition: int = 0
    key: bytes | None = None

    def __repr__(self) -> str:
        return f"OpenPlace({self.place}, partition={self.partition})"


class CallWords(NamedTuple):
    """The arguments of the command `call`: the opcode, r4 to r12 and the segments."""

    opcode: int
    registers: tuple[int, ...]
    segments: tuple[Segment, ...]


class Report(NamedTuple):
    """A line of the client: its first word (`kind`), and the fields that this word has."""

    kind: str
    number: int = 0
    """A status of `returned` or `refused`, the reason of `ended`, the partition id of `opened`."""
    registers: tuple[int, ...] = (0,) * REGISTERS
    writes: tuple[Write, ...] = ()
    outcome: str = ""
    ipl_count: int = 0
    text: str = ""


def open_line(opening: OpenPlace) -> str:
    """Return the command that opens a session."""
    words = ["open", opening.place]
    if opening.partition:
        words.append(f"partition={opening.partition}")
    if opening.key is not None:
        words.append(f"key={opening.key.hex()}")
    return " ".join(words)


def read_open(words: Sequence[str]) -> OpenPlace:
    """Return the arguments of an `open` command, parsed from the words after `open`."""
    given = dict(word.split("=", 1) for word in words[1:])
    key = given.get("key")
    return OpenPlace(words[0], int(given.get("partition", "0")), None if key is None else bytes.fromhex(key))


def call_line(call: HCall) -> str:
    """Return the command that makes a call; registers with the value 0 are left out."""
    return f"call {_call_words(call)}"


def pipeline_line(calls: Iterable[HCall]) -> str:
    """Return the command that makes several calls; the client sends all before it waits for an answer."""
    return f"pipeline {' ; '.join(map(_call_words, calls))}"


def read_pipeline(rest: str) -> list[CallWords]:
    """Return the calls of a `pipeline` command, parsed from the text after `pipeline`."""
    return [read_call(each.split()) for each in rest.split(";")]


def _call_words(call: HCall) -> str:
    registers = [
        f"r{number}=0x{value:x}"
        for number, value in enumerate(call.registers, FIRST_ARGUMENT_REGISTER)
        if value
    ]
    segments = [
        f"segment=0x{address:x}:{_ACCESS_NAMES[access]}:{data.hex() if access & Access.IN else length}"
        for address, length, access, data in call.segments
    ]
    return " ".join((f"0x{call.opcode:x}", *registers, *segments))


def read_call(words: Sequence[str]) -> CallWords:
    """Return the call of a `call` command, parsed from the words after `call`."""
    registers, segments = [0] * REGISTERS, []
    for word in words[1:]:
        name, _, value = word.partition("=")
        if name == "segment":
            segments.append(_segment(*value.split(":")))
        else:
            registers[int(name[1:]) - FIRST_ARGUMENT_REGISTER] = int(value, 0)
    return CallWords(int(words[0], 0), tuple(registers), tuple(segments))


def _segment(address: str, access: str, content: str) -> Segment:
    if access == "out":
        return Segment.written(int(address, 0), int(content, 0))
    data = bytes.fromhex(content)
    return Segment(int(address, 0), len(data), int(_ACCESS[access]), data)


Command = OpenPlace | list[CallWords] | str
"""A command: `open`, the calls of `call` or `pipeline`, or a word such as `close`."""


def read_command(line: str) -> Command:
    """Return a parsed command of the judge; for `begin` and unknown commands, return the first word."""
    word, _, rest = line.strip().partition(" ")
    match word:
        case "open":
            return read_open(rest.split())
        case "call":
            return [read_call(rest.split())]
        case "pipeline":
            return read_pipeline(rest)
        case _:
            return word


def opened_line(partition: int, ipl_count: int, level: str) -> str:
    """Return the line that reports an open session."""
    return f"opened partition={partition} ipl={ipl_count} level={level}"


def returned_line(status: int, registers: Iterable[int], writes: Iterable[Write]) -> str:
    """Return the line that reports an answer."""
    values = [f"r{n}=0x{value:x}" for n, value in enumerate(registers, FIRST_ARGUMENT_REGISTER) if value]
    written = [f"write=0x{address:x}:{data.hex()}" for address, data in writes]
    return " ".join(("returned", str(status), *values, *written))


def read_report(line: str) -> Report:
    """Return a parsed line of the client; ValueError with the reason if the protocol has no such line."""
    kind, _, rest = line.partition(" ")
    if kind in PLAIN and not rest:
        return Report(kind)
    if kind in TEXTS:
        return Report(kind, text=rest)
    if kind == "opened":
        return _opened(rest)
    if kind == "returned":
        return _returned(rest.split(" "))
    if kind in NUMBERED or kind == "lost":
        return _end(kind, rest.split())
    raise ValueError("no line of the line protocol begins so")


def _opened(rest: str) -> Report:
    found = _OPENED.fullmatch(rest)
    if found is None:
        raise ValueError("`opened` has partition=, ipl= and level=, in this order")
    return Report("opened", int(found[1]), ipl_count=int(found[2]), text=found[3])


def _returned(words: list[str]) -> Report:
    registers, writes = [0] * REGISTERS, []
    for word in words[1:]:
        if found := _REGISTER.fullmatch(word):
            registers[int(found[1]) - FIRST_ARGUMENT_REGISTER] = int(found[2], 0)
        elif found := _WRITE.fullmatch(word):
            writes.append(Write(int(found[1], 0), bytes.fromhex(found[2])))
        else:
            raise ValueError("`returned` has a status, then r4= to r12= and write=ADDRESS:HEX")
    return Report("returned", _number(words[0]), tuple(registers), tuple(writes))


def _end(kind: str, words: list[str]) -> Report:
    number = _number(words.pop(0) if words else "") if kind in NUMBERED else 0
    if words and (kind == "refused" or words[1:] or words[0] not in _OUTCOMES):
        raise ValueError(f"behind `{kind}` only outcome=unknown or outcome=not-run may follow")
    return Report(kind, number, outcome=words[0].removeprefix("outcome=") if words else "")


def _number(word: str) -> int:
    if not _NUMBER.fullmatch(word):
        raise ValueError("a decimal number is missing")
    return int(word)
