"""Passwords: each way to set one, and calls with right and wrong passwords, for each consumer."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from hcall_abi.calls import Opcode
from hcall_abi.policies import Policy
from hcall_abi.rules import hcalls as rules
from hcall_abi.statuses import Status
from swpks.conformance.case import ConformanceCase, Deviation, RunStage, by_rule
from swpks.conformance.server.draft import Draft
from swpks.conformance.server.judged import BOOT_LOADER, CONSUMERS, FIRMWARE, SYSTEM, Attempt, Facts, Judged

_SETTING, _SET = RunStage.SETTING, RunStage.SET
DEMANDING = (
    Opcode.GET_OBJECTLABELS,
    Opcode.WRITE_OBJECT,
    Opcode.GEN_KEY,
    Opcode.READ_OBJECT,
    Opcode.REMOVE_OBJECT,
    Opcode.CONFIRM_OBJECT_FLUSHED,
)
"""The calls of every level that demand the password."""


def cases(facts: Facts) -> Iterator[ConformanceCase[Judged]]:
    """Yield the cases of this chapter."""
    fits, once = rules.PASSWORD_FITS, rules.PASSWORD_ONCE
    for consumer in CONSUMERS:
        yield by_rule(f"passwords.unset-none-{consumer}", fits, _goes_on(consumer))
        yield by_rule(f"passwords.unset-one-given-{consumer}", fits, _presented(consumer, b"early"))
    # No call changes a password before the next IPL.  So each consumer gets its password in another way:
    # SET_PASSWORD of 32 bytes, SET_PASSWORD of the largest size, GEN_PASSWORD.
    yield by_rule("passwords.set-by-guest", once, _set_by_guest, _SETTING)
    yield by_rule("passwords.set-of-longest", rules.PASSWORD_LENGTH, _set_longest, _SETTING)
    yield by_rule("passwords.generated", rules.PASSWORD_GENERATED, _generated, _SETTING)
    yield by_rule("passwords.separate", fits, _separate, _SETTING)
    for consumer in CONSUMERS:
        yield by_rule(f"passwords.set-again-{consumer}", once, _set_again(consumer), _SET)
        yield by_rule(f"passwords.generated-again-{consumer}", once, _generated_again(consumer), _SET)
        yield by_rule(f"passwords.right-{consumer}", fits, _goes_on(consumer), _SET)
        yield by_rule(f"passwords.none-given-{consumer}", fits, _presented(consumer, b""), _SET)
        for name in _CHANGES:
            yield by_rule(f"passwords.{name}-{consumer}", fits, _changed(consumer, name), _SET)
    for opcode in DEMANDING:
        name = opcode.name.lower().replace("_", "-")
        yield by_rule(f"passwords.demanded-by-{name}", fits, _demanded_by(opcode), _SET)
    yield by_rule("passwords.in-every-session", fits, _in_every_session, _SET)
    yield by_rule("passwords.pwset-opens", rules.VERDICT_PWSET, _pwset_opens, _SET)
    yield by_rule("passwords.refusal-shows-nothing", fits, _refusal_shows_nothing, _SET)


def _goes_on(consumer: int) -> Attempt:
    """Return a case that makes WRITE and READ with the consumer's password.

    If no password is set, the calls have none.
    """

    def attempt(judged: Judged) -> None:
        label = judged.label()
        judged.write(label, by=consumer).expect(Status.H_SUCCESS)
        judged.read(label, by=consumer).expect(Status.H_SUCCESS).expect_written(b"data")

    return attempt


def _presented(consumer: int, password: bytes) -> Attempt:
    """Return a case that makes calls with this password in place of the right one.

    The server must return H_AUTHORITY for each call.
    """

    def attempt(judged: Judged) -> None:
        label = judged.label()
        judged.write(label, by=consumer).expect(Status.H_SUCCESS)
        _expect_refused(judged, consumer, label, password)

    return attempt


def _expect_refused(judged: Judged, consumer: int, label: bytes, password: bytes) -> None:
    auth = judged.auth(consumer, password)
    judged.read(label, by=consumer, auth=auth).expect(Status.H_AUTHORITY).expect_nothing_written()
    judged.remove(label, by=consumer, auth=auth).expect(Status.H_AUTHORITY)
    judged.labels(by=consumer, auth=auth).expect(Status.H_AUTHORITY).expect_nothing_written()
    # The refused calls have changed nothing: the object is still there.
    judged.read(label, by=consumer).expect(Status.H_SUCCESS)


def _set_by_guest(judged: Judged) -> None:
    _set(judged, FIRMWARE, b"firmware's password of 32 bytes.")


def _set_longest(judged: Judged) -> None:
    _set(judged, BOOT_LOADER, b"b" * judged.facts.config.max_password_size)


def _set(judged: Judged, consumer: int, password: bytes) -> None:
    draft = Draft.of(Opcode.SET_PASSWORD, consumer=consumer, password=password)
    answer = judged.call(draft)
    if answer.status == Status.H_SUCCESS:
        judged.passwords[consumer] = password
    answer.expect(Status.H_SUCCESS)


def _generated(judged: Judged) -> None:
    """GEN_PASSWORD fills the whole buffer with a password, and later calls need it."""
    # The longest password: a server that fills only 32 bytes of the buffer would pass with a shorter one.
    length = judged.facts.config.max_password_size
    answer = judged.do(Opcode.GEN_PASSWORD, consumer=SYSTEM, password=length).expect(Status.H_SUCCESS)
    judged.passwords[SYSTEM] = answer.written
    if len(answer.written) != length or len(set(answer.written)) < length // 4:
        raise Deviation(f"{length} random bytes", f"{len(answer.written)} bytes, few of them different")
    label = judged.label()
    judged.write(label).expect(Status.H_SUCCESS)


def _separate(judged: Judged) -> None:
    """A consumer's objects can't be read with the password of another consumer."""
    label = judged.label()
    judged.write(label, by=BOOT_LOADER).expect(Status.H_SUCCESS)
    other = judged.auth(BOOT_LOADER, judged.passwords.get(FIRMWARE, b"another"))
    judged.read(label, by=BOOT_LOADER, auth=other).expect(Status.H_AUTHORITY)


def _set_again(consumer: int) -> Attempt:
    def attempt(judged: Judged) -> None:
        draft = Draft.of(Opcode.SET_PASSWORD, consumer=consumer, password=b"another password of 32 bytes....")
        judged.call(draft).expect(Status.H_IN_USE)
        _goes_on(consumer)(judged)

    return attempt


def _generated_again(consumer: int) -> Attempt:
    def attempt(judged: Judged) -> None:
        answer = judged.do(Opcode.GEN_PASSWORD, consumer=consumer, password=32)
        answer.expect(Status.H_IN_USE).expect_nothing_written()
        _goes_on(consumer)(judged)

    return attempt


_CHANGES: dict[str, Callable[[bytes, bytes], bytes]] = {
    # A comparison that stops early, or that compares too few bytes, accepts one of these.
    "shorter": lambda right, other: right[:-1],
    "last-byte": lambda right, other: right[:-1] + bytes([right[-1] ^ 1]),
    "first-byte": lambda right, other: bytes([right[0] ^ 0x80]) + right[1:],
    "of-another": lambda right, other: other,
    "zeros": lambda right, other: bytes(len(right)),
}
"""Wrong passwords, made from the right one and from that of another consumer."""


def _changed(consumer: int, name: str) -> Attempt:
    def attempt(judged: Judged) -> None:
        right, other = judged.passwords[consumer], judged.passwords[consumer % 3 + 1]
        _presented(consumer, _CHANGES[name](right, other))(judged)

    return attempt


def _demanded_by(opcode: Opcode) -> Attempt:
    """Return a case that makes this call with a wrong password on an object that exists.

    The server must return H_AUTHORITY.
    """

    def attempt(judged: Judged) -> None:
        label = judged.label()
        judged.write(label).expect(Status.H_SUCCESS)
        values: dict[str, int | bytes] = {"authorization": judged.auth(SYSTEM, b"wrong")}
        if opcode is not Opcode.GET_OBJECTLABELS:
            values["label"] = label
        if opcode is Opcode.WRITE_OBJECT:
            values["data"] = b"data"
        if opcode is Opcode.GEN_KEY:
            values["key"] = 32
        if opcode is Opcode.READ_OBJECT:
            values["data"] = 64
        judged.do(opcode, **values).expect(Status.H_AUTHORITY).expect_nothing_written()

    return attempt


def _in_every_session(judged: Judged) -> None:
    """A password belongs to the consumer: every session needs it, not only the session that set it."""
    label = judged.label()
    judged.write(label).expect(Status.H_SUCCESS)
    session = judged.open()
    read: dict[str, int | bytes] = {"label": label, "data": 64}
    right = Draft.of(Opcode.READ_OBJECT, authorization=judged.auth(), **read)
    none = Draft.of(Opcode.READ_OBJECT, authorization=judged.auth(SYSTEM, b""), **read)
    session.call(right).expect(Status.H_SUCCESS)
    session.call(none).expect(Status.H_AUTHORITY)


def _pwset_opens(judged: Judged) -> None:
    label = judged.label()
    judged.write(label, policy=Policy.PWSET).expect(Status.H_SUCCESS)
    judged.read(label).expect(Status.H_SUCCESS, policy=int(Policy.PWSET)).expect_written(b"data")


def _refusal_shows_nothing(judged: Judged) -> None:
    """A READ with a wrong password returns the same for a known and an unknown label (C-17)."""
    label = judged.label()
    judged.write(label, policy=Policy.PWSET).expect(Status.H_SUCCESS)
    auth = judged.auth(SYSTEM, b"wrong")
    for each in (label, judged.label()):
        answer = judged.read(each, auth=auth).expect(Status.H_AUTHORITY, size=0, policy=0)
        answer.expect_nothing_written()
