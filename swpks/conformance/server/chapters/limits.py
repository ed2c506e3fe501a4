"""Limits: the config block of each level, the length of its buffer, and bounds of labels and objects."""

from __future__ import annotations

from collections.abc import Iterator

from hcall_abi.calls import Opcode
from hcall_abi.policies import Policy
from hcall_abi.rules import hcalls as rules
from hcall_abi.statuses import Status
from swpks.conformance.case import ConformanceCase, Deviation, NotRun, by_rule
from swpks.conformance.server.judged import Attempt, Facts, Judged

_BLOCK = "spec/structures.md#config-block"
_LEVELS = "spec/levels.md"
_RESULTS = "spec/hcalls/get_config.md#results"
_SIZE = 520
FIELDS = {
    "version": (0, 1),
    "flags": (1, 1),
    "object_overhead": (4, 2),
    "max_password_size": (6, 2),
    "max_label_size": (8, 2),
    "max_object_size": (10, 2),
    "total_size": (12, 4),
    "supported_policies": (20, 4),
    "max_large_object_size": (24, 4),
    "wrapping_features": (36, 8),
}
"""Offset and size of the fields, from the page and not from `hcall_abi.structures`, which the server uses."""


def cases(facts: Facts) -> Iterator[ConformanceCase[Judged]]:
    """Yield the cases of this chapter."""
    for name, value in _expected(facts).items():
        yield ConformanceCase(f"limits.config-{name}", _BLOCK, "", _field(name, value))
    yield ConformanceCase("limits.config-reserved", _BLOCK, "", _reserved)
    yield ConformanceCase("limits.config-total", _BLOCK, "", _total)
    for length in (24, 25, 32, 44, 100, 512, 519, 520):
        yield ConformanceCase(f"limits.config-of-{length}", _RESULTS, "", _prefix(length))
    yield ConformanceCase("limits.config-of-521", _RESULTS, "", _longer)
    for length in (1, facts.config.max_label_size):
        yield by_rule(f"limits.label-of-{length}", rules.LABEL_LENGTH, _label_of(length))
    for length in (1, 2, 4096):
        yield by_rule(f"limits.object-of-{length}", rules.OBJECT_LENGTH, _object_of(length))
    yield by_rule("limits.largest-object", rules.OBJECT_LENGTH, _largest)
    yield ConformanceCase("limits.large-object", _LEVELS, "", _large)


def _expected(facts: Facts) -> dict[str, int]:
    """Return the fields of the config block whose values follow from the level (spec/levels.md)."""
    level, config = facts.level, facts.config
    plain = level.max_object_size
    # Up to version 2 of the block, a partition smaller than the largest object of its level reports its total
    # size.
    least = min(plain, config.total_size) if level.config_version < 3 else plain
    wraps, revokes = Opcode.WRAP_OBJECT in level.calls, Opcode.REVOKE_OBJECT in level.calls
    newest = level.config_version >= 3
    return {
        "version": level.config_version,
        "flags": 0x10 * wraps | 0x08 * revokes,
        "object_overhead": level.object_overhead if level.config_version >= 2 else 0,
        "max_password_size": level.max_password_size,
        "max_label_size": level.max_label_size,
        "max_object_size": least,
        "supported_policies": level.supported_policies,
        "max_large_object_size": level.max_large_object_size if newest else 0,
        "wrapping_features": level.wrapping_features if wraps else 0,
    }


def _field(name: str, value: int) -> Attempt:
    def attempt(judged: Judged) -> None:
        start, size = FIELDS[name]
        came = int.from_bytes(_block(judged, _SIZE)[start : start + size], "big")
        if came != value:
            level = judged.facts.level.name
            raise Deviation(f"{name} of 0x{value:X} in the config block of {level}", f"0x{came:X}")

    return attempt


def _block(judged: Judged, length: int) -> bytes:
    return judged.do(Opcode.GET_CONFIG, config=length).expect(Status.H_SUCCESS).written


def _reserved(judged: Judged) -> None:
    block = _block(judged, _SIZE)
    if any(block[2:4]) or any(block[44:]):
        raise Deviation("zeros in the reserved bytes of the config block", "other bytes")


def _total(judged: Judged) -> None:
    """The total size is a number of whole KiB within the bounds of the level."""
    level = judged.facts.level
    start, size = FIELDS["total_size"]
    total = int.from_bytes(_block(judged, _SIZE)[start : start + size], "big")
    if total % 1024 or not level.min_kbytes <= total // 1024 <= level.max_kbytes:
        raise Deviation(f"a total of {level.min_kbytes} to {level.max_kbytes} KiB", f"{total} bytes")


def _prefix(length: int) -> Attempt:
    """Return a case that passes GET_CONFIG a shorter buffer: it gets the first bytes of the whole block."""

    def attempt(judged: Judged) -> None:
        whole = _block(judged, _SIZE)
        judged.do(Opcode.GET_CONFIG, config=length).expect(Status.H_SUCCESS).expect_written(whole[:length])

    return attempt


def _longer(judged: Judged) -> None:
    """A buffer of 521 bytes gets the block of 520 bytes."""
    whole = _block(judged, _SIZE)
    judged.do(Opcode.GET_CONFIG, config=_SIZE + 1).expect(Status.H_SUCCESS).expect_written(whole)


def _label_of(length: int) -> Attempt:
    def attempt(judged: Judged) -> None:
        # A label of one byte has no room for the prefix of the run.  The keystore was empty, so this label is
        # free.
        label = judged.label("").ljust(length, b"l") if length > 1 else b"\x01"
        judged.write(label, b"of a label").expect(Status.H_SUCCESS)
        judged.read(label).expect(Status.H_SUCCESS, size=10).expect_written(b"of a label")

    return attempt


def _object_of(length: int) -> Attempt:
    def attempt(judged: Judged) -> None:
        label, data = judged.label(), bytes(n % 251 for n in range(length))
        # The label and the overhead of any level need less than 512 bytes.
        if length + 512 > judged.facts.room:
            raise NotRun("the store is too small")
        judged.write(label, data).expect(Status.H_SUCCESS)
        judged.read(label).expect(Status.H_SUCCESS, size=length, policy=0).expect_written(data)

    return attempt


def _largest(judged: Judged) -> None:
    """The server stores the largest object for which both the level and the store have room."""
    facts = judged.facts
    label = judged.label()
    free = facts.room - len(label) - facts.level.object_overhead
    data = bytes(n % 253 for n in range(min(free, facts.largest_object)))
    judged.write(label, data).expect(Status.H_SUCCESS)
    judged.read(label, room=len(data)).expect(Status.H_SUCCESS, size=len(data)).expect_written(data)


def _large(judged: Judged) -> None:
    """A level with large objects stores an object of 64 KiB, here with the policy WORLDREADABLE."""
    facts = judged.facts
    if facts.config.max_large_object_size < 0x10000 or facts.room < 0x10000 + 512:
        raise NotRun("needs a level with objects of 64 KiB, and a store with room for one")
    label, data = judged.label(), bytes(0x10000)
    judged.write(label, data, Policy.WORLDREADABLE).expect(Status.H_SUCCESS)
    answer = judged.read(label, room=0x10000).expect(Status.H_SUCCESS, size=0x10000)
    answer.expect_written(data)
