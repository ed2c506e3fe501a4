"""Wrapping: wrapped objects and damages of them, wrapping keys, policies in wrapped objects, and sizes."""

from __future__ import annotations

from collections.abc import Iterator

from hcall_abi.calls import Opcode
from hcall_abi.policies import Policy
from hcall_abi.rules import hcalls as rules
from hcall_abi.statuses import Status, status_name
from swpks.conformance.case import ConformanceCase, Deviation, NotRun, RunStage, by_rule
from swpks.conformance.server.judged import BOOT_LOADER, LEAST_FLAGS, SYSTEM, Attempt, Facts, Judged

_WRAP = "spec/hcalls/wrap_object.md#results"
_OBJECT = "spec/wrapped.md#the-object"
_ORDER = "spec/wrapped.md#order-of-checks"
_KEY = "spec/hcalls/gen_key.md#checks"
_SECRET = bytes(range(64))
_SET = RunStage.SET
"""Wrapped objects open only once the password is set, so most cases need that stage."""


DAMAGED = {
    "magic": (0, Status.H_UNSUPPORTED),
    "end-of-magic": (3, Status.H_UNSUPPORTED),
    "level": (4, Status.H_UNSUPPORTED),
    "algorithm": (15, Status.H_UNSUPPORTED),
    "first-reserved": (5, Status.H_BAD_DATA),
    "last-of-first-reserved": (7, Status.H_BAD_DATA),
    "second-reserved": (68, Status.H_BAD_DATA),
    "middle-of-second-reserved": (500, Status.H_BAD_DATA),
    "last-of-second-reserved": (1007, Status.H_BAD_DATA),
    "length": (67, Status.H_BAD_DATA),
    "key-id": (16, Status.H_NOT_FOUND),
    "flags": (8, Status.H_BAD_DATA),
    "salt": (32, Status.H_BAD_DATA),
    "tag": (1008, Status.H_BAD_DATA),
    "first-byte": (1024, Status.H_BAD_DATA),
    "last-byte": (-1, Status.H_BAD_DATA),
}
"""The offset of the damaged byte in a wrapped object, and the status that UNWRAP then returns."""
_RULE_OF = {
    Status.H_UNSUPPORTED: rules.WRAPPED_FORMAT,
    Status.H_BAD_DATA: rules.WRAPPED_INTACT,
    Status.H_NOT_FOUND: rules.UNWRAP_KEY,
}


def cases(facts: Facts) -> Iterator[ConformanceCase[Judged]]:
    """Yield the cases of this chapter."""
    if Opcode.WRAP_OBJECT not in facts.level.calls:
        return

    def case(name: str, page: str, attempt: Attempt, stage: RunStage = _SET) -> ConformanceCase[Judged]:
        return ConformanceCase(f"wrapping.{name}", page, "", attempt, stage)

    for length in (1, 15, 16, 17, 4096, 65535):
        yield case(f"round-trip-of-{length}", _WRAP, _round_trip(length))
    yield case("size", _WRAP, _size, RunStage.UNSET)
    yield case("token-is-0", _WRAP, _token_is_0, RunStage.UNSET)
    yield case("never-the-same", _OBJECT, _never_the_same, RunStage.UNSET)
    yield case("hides-the-input", _OBJECT, _hides)
    yield case("changes-no-store", "spec/wrapped.md#keys", _changes_no_store, RunStage.UNSET)
    yield by_rule("wrapping.key-is-not-read", rules.VERDICT_WRAPPING_KEY, _key_is_not_read, _SET)
    yield by_rule("wrapping.key-address", rules.KEY_ADDRESS, _key_address, RunStage.UNSET)
    for length in (0, 16, 31, 33, 64):
        yield by_rule(f"wrapping.key-of-{length}", rules.KEY_LENGTH, _key_of(length), RunStage.UNSET)
    yield by_rule("wrapping.plain-object", rules.WRAP_KEY, _plain_object, _SET)
    yield by_rule("wrapping.plain-key", rules.WRAP_KEY, _plain_key, _SET)
    yield by_rule("wrapping.removed-key", rules.UNWRAP_KEY, _removed_key, _SET)
    yield by_rule("wrapping.new-key-of-old-label", rules.UNWRAP_KEY, _new_key_of_old_label, _SET)
    yield by_rule("wrapping.key-of-another-consumer", rules.UNWRAP_KEY, _of_another_consumer, _SET)
    for name, (at, status) in DAMAGED.items():
        yield by_rule(f"wrapping.damaged-{name}", _RULE_OF[status], _damaged(at, status), _SET)
    yield by_rule("wrapping.one-byte-more", rules.WRAPPED_INTACT, _one_more, _SET)
    yield by_rule("wrapping.one-byte-less", rules.WRAPPED_INTACT, _one_less, _SET)
    yield case("before-the-password", _ORDER, _before_the_password, RunStage.UNSET)
    for name, bit, least in (("audit", Policy.OSSECBOOTAUDIT, 1), ("enforce", Policy.OSSECBOOTENFORCE, 2)):
        yield by_rule(f"wrapping.opens-in-{name}", rules.VERDICT_SECURE_BOOT, _opens_in(bit, least), _SET)
    yield case("longer-output", _WRAP, _longer_output)
    yield case("key-takes-space", _KEY, _key_takes_space, RunStage.UNSET)


def _key(judged: Judged, policy: int = 0) -> bytes:
    label = judged.label()
    judged.gen_key(label, Policy.WRAPPINGKEY | policy).expect(Status.H_SUCCESS).expect_nothing_written()
    return label


def _wrapped(judged: Judged, label: bytes, data: bytes = _SECRET) -> bytes:
    answer = judged.wrap(label, data).expect(Status.H_SUCCESS, token=0, size=len(data) + 1024)
    if len(answer.written) != len(data) + 1024:
        raise Deviation(f"{len(data) + 1024} written bytes", f"{len(answer.written)}")
    return answer.written


def _round_trip(length: int) -> Attempt:
    def attempt(judged: Judged) -> None:
        data = bytes(n % 255 for n in range(length))
        wrapped = _wrapped(judged, _key(judged), data)
        judged.unwrap(wrapped).expect(Status.H_SUCCESS, token=0, size=length).expect_written(data)

    return attempt


def _size(judged: Judged) -> None:
    """WRAP returns exactly 1024 bytes more than its input."""
    _wrapped(judged, _key(judged), b"s")


def _token_is_0(judged: Judged) -> None:
    judged.wrap(_key(judged)).expect(Status.H_SUCCESS, token=0)


def _never_the_same(judged: Judged) -> None:
    label = _key(judged)
    if _wrapped(judged, label) == _wrapped(judged, label):
        raise Deviation("another wrapped object for the same bytes, by a fresh salt", "the same object")


def _hides(judged: Judged) -> None:
    wrapped = _wrapped(judged, _key(judged))
    # Eight bytes of the input can't be in a random object by chance.  Single bytes can.
    if any(_SECRET[n : n + 8] in wrapped for n in range(0, len(_SECRET) - 8, 8)):
        raise Deviation("a wrapped object without the input", "eight bytes of the input inside")


def _changes_no_store(judged: Judged) -> None:
    label = _key(judged)
    before = judged.used()
    _wrapped(judged, label)
    if judged.used() != before:
        raise Deviation("the same used space after WRAP", "another one")


def _key_is_not_read(judged: Judged) -> None:
    answer = judged.read(_key(judged)).expect(Status.H_AUTHORITY, size=0, policy=int(Policy.WRAPPINGKEY))
    answer.expect_nothing_written()


def _key_address(judged: Judged) -> None:
    """GEN_KEY of a wrapping key refuses a buffer address other than 0."""
    answer = judged.do(
        Opcode.GEN_KEY,
        authorization=judged.auth(),
        label=judged.label(),
        policy=int(Policy.WRAPPINGKEY),
        key=32,
    )
    answer.expect(Status.H_P5).expect_nothing_written()


def _key_of(length: int) -> Attempt:
    def attempt(judged: Judged) -> None:
        judged.gen_key(judged.label(), length=length).expect(Status.H_P6)

    return attempt


def _plain_object(judged: Judged) -> None:
    label = judged.label()
    judged.write(label, bytes(32)).expect(Status.H_SUCCESS)
    judged.wrap(label).expect(Status.H_INVALID_KEY).expect_nothing_written()


def _plain_key(judged: Judged) -> None:
    label = judged.label()
    judged.gen_key(label, 0).expect(Status.H_SUCCESS)
    judged.wrap(label).expect(Status.H_INVALID_KEY).expect_nothing_written()


def _removed_key(judged: Judged) -> None:
    label = _key(judged)
    wrapped = _wrapped(judged, label)
    judged.remove(label).expect(Status.H_SUCCESS)
    judged.unwrap(wrapped).expect(Status.H_NOT_FOUND).expect_nothing_written()


def _new_key_of_old_label(judged: Judged) -> None:
    label = _key(judged)
    # A wrapped object names its key by an id.  A server that looks for the label would find the new key.
    wrapped = _wrapped(judged, label)
    judged.remove(label).expect(Status.H_SUCCESS)
    judged.gen_key(label).expect(Status.H_SUCCESS)
    judged.unwrap(wrapped).expect(Status.H_NOT_FOUND).expect_nothing_written()


def _of_another_consumer(judged: Judged) -> None:
    wrapped = _wrapped(judged, _key(judged))
    judged.unwrap(wrapped, by=BOOT_LOADER).expect(Status.H_NOT_FOUND).expect_nothing_written()


def _damaged(at: int, status: Status) -> Attempt:
    """Return a case that unwraps an object of which one bit was changed; the server must refuse it."""

    def attempt(judged: Judged) -> None:
        wrapped = bytearray(_wrapped(judged, _key(judged)))
        wrapped[at] ^= 2
        judged.unwrap(bytes(wrapped)).expect(status).expect_nothing_written()

    return attempt


def _one_more(judged: Judged) -> None:
    wrapped = _wrapped(judged, _key(judged))
    judged.unwrap(wrapped + b"\0").expect(Status.H_BAD_DATA).expect_nothing_written()


def _one_less(judged: Judged) -> None:
    wrapped = _wrapped(judged, _key(judged))
    judged.unwrap(wrapped[:-1]).expect(Status.H_BAD_DATA).expect_nothing_written()


def _before_the_password(judged: Judged) -> None:
    """UNWRAP returns H_AUTHORITY before a password is set, because every wrapped object demands one."""
    wrapped = _wrapped(judged, _key(judged))
    judged.unwrap(wrapped).expect(Status.H_AUTHORITY).expect_nothing_written()


def _opens_in(bit: int, least: int) -> Attempt:
    """Return a case that unwraps an object whose flags demand a secure-boot mode.

    The server must open the object in mode `least` and above, and must return H_AUTHORITY in other modes.
    """

    def attempt(judged: Judged) -> None:
        # The upper half of the wrap flags is a policy with the bits of a policy word.  So the bit is moved up
        # by 32.
        answer = judged.wrap(_key(judged), _SECRET, LEAST_FLAGS | bit << 32).expect(Status.H_SUCCESS)
        status = Status.H_SUCCESS if judged.facts.mode >= least else Status.H_AUTHORITY
        judged.unwrap(answer.written).expect(status)

    return attempt


def _longer_output(judged: Judged) -> None:
    """If the buffer is longer than the result, r5 has the length of the result."""
    wrapped = _wrapped(judged, _key(judged))
    answer = judged.do(
        Opcode.UNWRAP_OBJECT, authorization=judged.auth(SYSTEM), input=wrapped, output=len(_SECRET) + 100
    )
    answer.expect(Status.H_SUCCESS, size=len(_SECRET))
    if answer.written[: len(_SECRET)] != _SECRET:
        raise Deviation("the unwrapped bytes", status_name(answer.status))


def _key_takes_space(judged: Judged) -> None:
    if judged.facts.room < 4096:
        raise NotRun("the store is too small")
    before, label = judged.used(), _key(judged)
    right = before + len(label) + 32 + judged.facts.level.object_overhead
    if judged.used() != right:
        raise Deviation(f"used_space of {right} bytes", f"{judged.used()} bytes")
