"""Objects: labels, contents, buffers of READ, name spaces, generated keys, and space."""

from __future__ import annotations

from collections.abc import Iterator

from hcall_abi.calls import Opcode
from hcall_abi.frames import Access, Segment
from hcall_abi.policies import Policy
from hcall_abi.rules import hcalls as rules
from hcall_abi.statuses import Status
from swpks.conformance.case import ConformanceCase, Deviation, RunStage, by_rule
from swpks.conformance.server.draft import Draft
from swpks.conformance.server.judged import BOOT_LOADER, CONSUMERS, FIRMWARE, SYSTEM, Attempt, Facts, Judged

_WRITE = "spec/hcalls/write_object.md#results"
_READ = "spec/hcalls/read_object.md#results"
_REMOVE = "spec/hcalls/remove_object.md#results"
_KEY = "spec/hcalls/gen_key.md#results"
_LABEL = "spec/structures.md#label"
_SPACE = "spec/policies.md#space"
_MEMORY = "spec/protocol.md#memory"
_DATA = bytes(range(200))


def cases(facts: Facts) -> Iterator[ConformanceCase[Judged]]:
    """Yield the cases of this chapter."""

    def case(name: str, page: str, attempt: Attempt) -> ConformanceCase[Judged]:
        return ConformanceCase(f"objects.{name}", page, "", attempt)

    for stage in (RunStage.UNSET, RunStage.SET):
        when = stage.name.lower()
        yield ConformanceCase(f"objects.written-is-read-{when}", _READ, "", _written_is_read, stage)
    for consumer in CONSUMERS:
        yield case(f"written-is-read-by-{consumer}", _READ, _by_each(consumer))
    yield by_rule("objects.no-overwrite", rules.OBJECT_NEW, _no_overwrite)
    yield by_rule("objects.read-nothing", rules.OBJECT_EXISTS, _nothing(Opcode.READ_OBJECT))
    yield by_rule("objects.remove-nothing", rules.OBJECT_EXISTS, _nothing(Opcode.REMOVE_OBJECT))
    yield case("removed-is-gone", _REMOVE, _removed_is_gone)
    yield case("label-is-free-again", _REMOVE, _label_is_free_again)
    yield case("label-with-zeros", _LABEL, _label_with_zeros)
    yield case("label-prefix-is-another", _LABEL, _label_prefix)
    yield case("label-of-any-bytes", _LABEL, _label_of_any_bytes)
    yield case("name-spaces", _LABEL, _name_spaces)
    for room in (0, 1, len(_DATA) - 1):
        yield by_rule(f"objects.buffer-of-{room}", rules.OBJECT_FITS_BUFFER, _too_big(room))
    yield case("buffer-of-exact-size", _READ, _exact)
    yield case("buffer-keeps-its-rest", _READ, _keeps_the_rest)
    yield case("world-reads-without-password", "spec/hcalls/read_object.md#policies", _world_reads)
    yield case("two-arguments-in-one-segment", _MEMORY, _one_segment)
    yield case("read-and-write-segment", _MEMORY, _both_ways)
    yield case("more-memory-than-needed", _MEMORY, _more_memory)
    yield case("key-is-random", _KEY, _key_is_random)
    yield case("key-is-read", _KEY, _key_is_read)
    yield case("space-of-an-object", _SPACE, _space_of_an_object)
    yield case("space-of-a-transient", _SPACE, _space_of_a_transient)
    yield case("space-comes-back", _SPACE, _space_comes_back)
    yield case("refused-takes-no-space", _SPACE, _refused_takes_no_space)
    yield by_rule("objects.store-is-full", rules.SPACE, _store_is_full)
    yield by_rule("objects.full-store-takes-no-key", rules.SPACE, _full_store_takes_no_key)


def _written_is_read(judged: Judged) -> None:
    label = judged.label()
    judged.write(label, _DATA).expect(Status.H_SUCCESS)
    judged.read(label).expect(Status.H_SUCCESS, size=len(_DATA), policy=0).expect_written(_DATA)


def _by_each(consumer: int) -> Attempt:
    def attempt(judged: Judged) -> None:
        label = judged.label()
        judged.write(label, _DATA, by=consumer).expect(Status.H_SUCCESS)
        judged.read(label, by=consumer).expect(Status.H_SUCCESS, size=len(_DATA)).expect_written(_DATA)

    return attempt


def _no_overwrite(judged: Judged) -> None:
    label = judged.label()
    judged.write(label, _DATA).expect(Status.H_SUCCESS)
    judged.write(label, b"other").expect(Status.H_RESOURCE)
    judged.gen_key(label, 0).expect(Status.H_RESOURCE).expect_nothing_written()
    judged.read(label).expect(Status.H_SUCCESS).expect_written(_DATA)


def _nothing(opcode: Opcode) -> Attempt:
    def attempt(judged: Judged) -> None:
        label = judged.label()
        read = opcode is Opcode.READ_OBJECT
        answer = judged.read(label) if read else judged.remove(label)
        answer.expect(Status.H_NOT_FOUND).expect_nothing_written()

    return attempt


def _removed_is_gone(judged: Judged) -> None:
    label = judged.label()
    judged.write(label, _DATA).expect(Status.H_SUCCESS)
    judged.remove(label).expect(Status.H_SUCCESS)
    judged.read(label).expect(Status.H_NOT_FOUND).expect_nothing_written()
    judged.remove(label).expect(Status.H_NOT_FOUND)


def _label_is_free_again(judged: Judged) -> None:
    label = judged.label()
    judged.write(label, b"first").expect(Status.H_SUCCESS)
    judged.remove(label).expect(Status.H_SUCCESS)
    judged.write(label, b"second").expect(Status.H_SUCCESS)
    judged.read(label).expect(Status.H_SUCCESS, size=6).expect_written(b"second")


def _label_with_zeros(judged: Judged) -> None:
    """A zero byte inside a label does not end the label."""
    label = judged.label()
    judged.write(label + b"\0a", b"a").expect(Status.H_SUCCESS)
    judged.write(label + b"\0b", b"b").expect(Status.H_SUCCESS)
    judged.read(label + b"\0a").expect(Status.H_SUCCESS).expect_written(b"a")
    judged.read(label).expect(Status.H_NOT_FOUND)


def _label_prefix(judged: Judged) -> None:
    """A label and a longer label that begins with it name two objects."""
    label = judged.label()
    judged.write(label, b"short").expect(Status.H_SUCCESS)
    judged.write(label + b"\0", b"long").expect(Status.H_SUCCESS)
    judged.read(label).expect(Status.H_SUCCESS).expect_written(b"short")
    judged.read(label + b"\0").expect(Status.H_SUCCESS).expect_written(b"long")


def _label_of_any_bytes(judged: Judged) -> None:
    label = judged.label() + bytes([0, 1, 0x7F, 0x80, 0xC3, 0x28, 0xFF])
    judged.write(label, _DATA).expect(Status.H_SUCCESS)
    judged.read(label).expect(Status.H_SUCCESS).expect_written(_DATA)


def _name_spaces(judged: Judged) -> None:
    """Each consumer has its own labels: the same label names three objects."""
    label = judged.label()
    for consumer in CONSUMERS:
        judged.write(label, bytes([consumer]), by=consumer).expect(Status.H_SUCCESS)
    judged.remove(label, by=BOOT_LOADER).expect(Status.H_SUCCESS)
    for consumer in (FIRMWARE, SYSTEM):
        judged.read(label, by=consumer).expect(Status.H_SUCCESS).expect_written(bytes([consumer]))


def _too_big(room: int) -> Attempt:
    """Return a case that READs into a buffer that is too small.

    The server must return H_TOO_BIG with size and policy, and must write no byte.
    """

    def attempt(judged: Judged) -> None:
        # The policy is not 0: a server that forgets the policy in H_TOO_BIG returns 0.
        label, policy = judged.label(), int(Policy.WORLDREADABLE)
        judged.write(label, _DATA, policy).expect(Status.H_SUCCESS)
        answer = judged.read(label, room=room).expect(Status.H_TOO_BIG, size=len(_DATA), policy=policy)
        answer.expect_nothing_written()

    return attempt


def _exact(judged: Judged) -> None:
    label = judged.label()
    judged.write(label, _DATA).expect(Status.H_SUCCESS)
    judged.read(label, room=len(_DATA)).expect(Status.H_SUCCESS, size=len(_DATA)).expect_written(_DATA)


def _keeps_the_rest(judged: Judged) -> None:
    """READ writes only the object: the rest of a longer buffer stays as it was."""
    label = judged.label()
    judged.write(label, _DATA).expect(Status.H_SUCCESS)
    judged.read(label, room=len(_DATA) + 100).expect(Status.H_SUCCESS).expect_written(_DATA)


def _world_reads(judged: Judged) -> None:
    """READ of a world-readable object does not check the password in the authorization block."""
    label = judged.label()
    judged.write(label, _DATA, Policy.WORLDREADABLE).expect(Status.H_SUCCESS)
    for password in (b"", b"wrong"):
        answer = judged.read(label, auth=judged.auth(SYSTEM, password))
        answer.expect(Status.H_SUCCESS, policy=int(Policy.WORLDREADABLE)).expect_written(_DATA)


def _one_segment(judged: Judged) -> None:
    """READ succeeds if the authorization block and the label lie in one segment."""
    label, auth = judged.label(), judged.auth()
    judged.write(label, _DATA).expect(Status.H_SUCCESS)
    draft = Draft.of(Opcode.READ_OBJECT, authorization=auth, label=label, data=256)
    start = draft.registers["authorization"]
    draft.memory["authorization"] = Segment.read(start, auth + label)
    del draft.memory["label"]
    draft.registers["label"] = start + len(auth)
    judged.call(draft).expect(Status.H_SUCCESS).expect_written(_DATA)


def _both_ways(judged: Judged) -> None:
    """READ succeeds into a segment with access 3, which the server may read and write."""
    label = judged.label()
    judged.write(label, _DATA).expect(Status.H_SUCCESS)
    draft = Draft.of(Opcode.READ_OBJECT, authorization=judged.auth(), label=label, data=256)
    at = draft.registers["data"]
    draft.memory["data"] = Segment(at, 256, Access.BOTH, b"\xee" * 256)
    judged.call(draft).expect(Status.H_SUCCESS).expect_written(_DATA)


def _more_memory(judged: Judged) -> None:
    """READ succeeds into a buffer that is a part of a larger segment."""
    label = judged.label()
    judged.write(label, _DATA).expect(Status.H_SUCCESS)
    draft = Draft.of(Opcode.READ_OBJECT, authorization=judged.auth(), label=label, data=256)
    at = draft.registers["data"]
    draft.memory["data"] = Segment.written(at - 64, 512)
    judged.call(draft).expect(Status.H_SUCCESS).expect_written(_DATA)


def _key_is_random(judged: Judged) -> None:
    # 48 random bytes have about 44 different values; fewer than 16 are no random key.
    first, second = (judged.gen_key(judged.label(), 0, length=48).expect(Status.H_SUCCESS) for _ in range(2))
    if first.written == second.written or len(first.written) != 48 or len(set(first.written)) < 16:
        raise Deviation("two different random keys of 48 bytes", "equal, short or regular keys")


def _key_is_read(judged: Judged) -> None:
    """A generated key without WRAPPINGKEY is read as any other object."""
    label = judged.label()
    made = judged.gen_key(label, 0, length=48).expect(Status.H_SUCCESS)
    judged.read(label).expect(Status.H_SUCCESS, size=48, policy=0).expect_written(made.written)


def _space_of_an_object(judged: Judged) -> None:
    label, before = judged.label(), judged.used()
    judged.write(label, _DATA).expect(Status.H_SUCCESS)
    _expect_used(judged, before + _cost(judged, label, len(_DATA)))


def _space_of_a_transient(judged: Judged) -> None:
    label, before = judged.label(), judged.used()
    judged.write(label, _DATA, Policy.TRANSIENT).expect(Status.H_SUCCESS)
    _expect_used(judged, before + _cost(judged, label, len(_DATA)))


def _space_comes_back(judged: Judged) -> None:
    label, before = judged.label(), judged.used()
    judged.write(label, _DATA).expect(Status.H_SUCCESS)
    judged.remove(label).expect(Status.H_SUCCESS)
    _expect_used(judged, before)


def _refused_takes_no_space(judged: Judged) -> None:
    label = judged.label()
    judged.write(label, _DATA).expect(Status.H_SUCCESS)
    before = judged.used()
    judged.write(label, _DATA).expect(Status.H_RESOURCE)
    _expect_used(judged, before)


def _cost(judged: Judged, label: bytes, length: int) -> int:
    return len(label) + length + judged.facts.level.object_overhead


def _expect_used(judged: Judged, right: int) -> None:
    used = judged.used()
    if used != right:
        raise Deviation(f"used_space of {right} bytes", f"{used} bytes")


def _fill(judged: Judged) -> int:
    """Write objects until the store has no room for another one; return the bytes that are left."""
    # One object may not be enough: the largest object of a level may be smaller than the store.
    piece = min(judged.facts.largest_object, 16384)
    while True:
        label = judged.label()
        free = judged.facts.config.total_size - judged.used() - _cost(judged, label, 0)
        if free <= 0:
            return free + _cost(judged, label, 0)
        before = judged.used()
        judged.write(label, bytes(min(piece, free))).expect(Status.H_SUCCESS)
        # Without this check, the loop would never end on a server that counts no space.
        _expect_used(judged, before + _cost(judged, label, min(piece, free)))


def _store_is_full(judged: Judged) -> None:
    """A store takes objects up to its last byte, and then returns H_NO_MEM."""
    left = _fill(judged)
    label = judged.label()
    judged.write(label, bytes(max(1, left))).expect(Status.H_NO_MEM)
    judged.read(label).expect(Status.H_NOT_FOUND)


def _full_store_takes_no_key(judged: Judged) -> None:
    left = _fill(judged)
    judged.gen_key(judged.label(), 0, length=max(1, left)).expect(Status.H_NO_MEM).expect_nothing_written()
