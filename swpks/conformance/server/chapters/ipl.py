"""An IPL: it ends sessions, passwords, TRANSIENT objects and label lists; durable objects stay.

Each case has a part before the IPL and a part after it; all cases share one IPL.
"""

from __future__ import annotations

from collections.abc import Iterator

from hcall_abi.calls import Opcode
from hcall_abi.frames import GoodbyeReason
from hcall_abi.policies import Policy
from hcall_abi.statuses import Status
from swpks.conformance.case import ConformanceCase, Deviation, RunStage
from swpks.conformance.server.chapters.durability import flushed
from swpks.conformance.server.draft import Draft
from swpks.conformance.server.judged import (
    BOOT_LOADER,
    CONSUMERS,
    SYSTEM,
    Attempt,
    Facts,
    Judged,
    JudgedSession,
    opened_on,
)

_PASSWORDS = "spec/policies.md#passwords"
_BITS = "spec/policies.md#bits"
_CONFIRM = "spec/hcalls/confirm_object_flushed.md#results"
_SESSIONS = "spec/protocol.md#sessions"
_OPENED = "spec/protocol.md#opened"
ROOM_FOR_ONE = 64
"""Bytes with room for one label of this run, and not for two."""


def cases(facts: Facts) -> Iterator[ConformanceCase[Judged]]:
    """Yield the cases of this chapter."""

    def case(name: str, page: str, before: Attempt, after: Attempt) -> ConformanceCase[Judged]:
        return ConformanceCase(f"ipl.{name}", page, "", after, RunStage.IPL, before)

    yield case("ends-sessions", _SESSIONS, _keep_session, _session_has_ended)
    yield case("counts-up", _OPENED, _nothing_before, _counted)
    for consumer in CONSUMERS:
        yield case(f"ends-password-{consumer}", _PASSWORDS, _write_for(consumer), _without_password(consumer))
        yield case(f"old-password-{consumer}", _PASSWORDS, _remember(consumer), _old_password(consumer))
    yield case("pwset-out-of-reach", _BITS, _write_pwset, _pwset_refused)
    yield case("transient-is-gone", _BITS, _write_transient, _transient_gone)
    yield case("transient-gives-space-back", _BITS, _note_used, _used_as_before)
    yield case("confirmed-object-is-there", _CONFIRM, _write_confirmed, _confirmed_there)
    yield case("confirmed-removal-stays", _CONFIRM, _remove_confirmed, _removed_stays)
    yield case("immutable-is-there", _BITS, _write_immutable, _immutable_there)
    yield case("list-token-is-dead", "spec/hcalls/get_objectlabels.md#checks", _begin_list, _token_is_dead)
    if Opcode.WRAP_OBJECT in facts.level.calls:
        yield case("key-unwraps", "spec/wrapped.md#keys", _wrap, _unwrapped)
    if Opcode.REVOKE_OBJECT in facts.level.calls:
        yield case("revoked-stays", "spec/hcalls/revoke_object.md#policies", _revoke, _still_revoked)
    yield case("password-again", _PASSWORDS, _nothing_before, _password_again)


def _nothing_before(judged: Judged) -> None:
    """Do nothing: this case needs no part before the IPL."""


def _keep_session(judged: Judged) -> None:
    # `lasting` keeps the connection open when this part of the case ends.  Only the IPL may end the session.
    judged.kept["session"] = opened_on(judged.connect(lasting=True))


def _session_has_ended(judged: Judged) -> None:
    session = judged.remembered("session", JudgedSession)
    session.connection.expect_goodbye(GoodbyeReason.IPL_OR_POWER_OFF)


def _counted(judged: Judged) -> None:
    # Any larger count is right: the operator's command may restart the partition more than once.
    count = judged.session.opened.ipl_count
    if count <= judged.facts.ipl_count:
        raise Deviation(f"an IPL count above {judged.facts.ipl_count}", str(count))


def _lasting(judged: Judged, name: str, by: int = SYSTEM) -> bytes:
    """Return a label whose object is removed only at the end of the run, not at the end of the case."""
    label = judged.label(name)
    judged.keep(label, by=by)
    return label


def _write_for(consumer: int) -> Attempt:
    def attempt(judged: Judged) -> None:
        label = _lasting(judged, "of a consumer", consumer)
        judged.write(label, by=consumer).expect(Status.H_SUCCESS)
        flushed(judged, label, by=consumer)
        judged.keep(label, by=consumer)

    return attempt


def _without_password(consumer: int) -> Attempt:
    def attempt(judged: Judged) -> None:
        judged.read(judged.label("of a consumer"), by=consumer).expect(Status.H_SUCCESS)

    return attempt


def _remember(consumer: int) -> Attempt:
    def attempt(judged: Judged) -> None:
        judged.kept[f"password {consumer}"] = judged.passwords.get(consumer, b"a password")

    return attempt


def _old_password(consumer: int) -> Attempt:
    """Return the part after the IPL: no password is set, so the server refuses the old one."""

    def attempt(judged: Judged) -> None:
        old = judged.remembered(f"password {consumer}", bytes)
        judged.labels(by=consumer, auth=judged.auth(consumer, old)).expect(Status.H_AUTHORITY)

    return attempt


def _write_pwset(judged: Judged) -> None:
    label = _lasting(judged, "pwset")
    judged.write(label, policy=Policy.PWSET).expect(Status.H_SUCCESS)
    flushed(judged, label)
    judged.keep(label)


def _pwset_refused(judged: Judged) -> None:
    answer = judged.read(judged.label("pwset")).expect(Status.H_AUTHORITY, policy=int(Policy.PWSET))
    answer.expect_nothing_written()


def _write_transient(judged: Judged) -> None:
    label = _lasting(judged, "transient")
    judged.write(label, policy=Policy.TRANSIENT).expect(Status.H_SUCCESS)
    judged.keep(label)


def _transient_gone(judged: Judged) -> None:
    judged.read(judged.label("transient")).expect(Status.H_NOT_FOUND)


def _note_used(judged: Judged) -> None:
    before, label = judged.used(), _lasting(judged, "transient with space")
    judged.write(label, bytes(100), Policy.TRANSIENT).expect(Status.H_SUCCESS)
    judged.keep(label)
    judged.kept["used"] = judged.used() - before


def _used_as_before(judged: Judged) -> None:
    """The IPL frees the space of a TRANSIENT object: the same WRITE then takes as much space as before."""
    before, label = judged.used(), judged.label("transient with space")
    judged.write(label, bytes(100), Policy.TRANSIENT).expect(Status.H_SUCCESS)
    right = judged.remembered("used", int)
    if judged.used() - before != right:
        raise Deviation(f"{right} bytes of space", f"{judged.used() - before}")


def _write_confirmed(judged: Judged) -> None:
    label = _lasting(judged, "confirmed")
    judged.write(label, b"durable").expect(Status.H_SUCCESS)
    flushed(judged, label)
    judged.keep(label)


def _confirmed_there(judged: Judged) -> None:
    judged.read(judged.label("confirmed")).expect(Status.H_SUCCESS, policy=0).expect_written(b"durable")


def _remove_confirmed(judged: Judged) -> None:
    label = judged.label("removed")
    judged.write(label).expect(Status.H_SUCCESS)
    flushed(judged, label)
    judged.remove(label).expect(Status.H_SUCCESS)
    flushed(judged, label, Status.H_NOT_FOUND)


def _removed_stays(judged: Judged) -> None:
    judged.read(judged.label("removed")).expect(Status.H_NOT_FOUND)


def _write_immutable(judged: Judged) -> None:
    # No call removes this object.  It is small, and the only one of this chapter that stays.
    label = judged.label("immutable over IPL")
    judged.write(label, b"for ever", Policy.IMMUTABLE).expect(Status.H_SUCCESS)
    flushed(judged, label)


def _immutable_there(judged: Judged) -> None:
    label = judged.label("immutable over IPL")
    judged.read(label).expect(Status.H_SUCCESS, policy=int(Policy.IMMUTABLE)).expect_written(b"for ever")
    judged.remove(label).expect(Status.H_AUTHORITY)


def _begin_list(judged: Judged) -> None:
    labels = [_lasting(judged, f"listed {n}", BOOT_LOADER) for n in range(2)]
    for label in labels:
        judged.write(label, by=BOOT_LOADER).expect(Status.H_SUCCESS)
        judged.keep(label, by=BOOT_LOADER)
    answer = judged.labels(by=BOOT_LOADER, room=ROOM_FOR_ONE).expect(Status.H_CONTINUE)
    judged.kept["token"] = answer.output("token")


def _token_is_dead(judged: Judged) -> None:
    token = judged.remembered("token", int)
    judged.labels(by=BOOT_LOADER, token=token).expect(Status.H_P2)


def _wrap(judged: Judged) -> None:
    label = _lasting(judged, "wrapping key")
    judged.gen_key(label).expect(Status.H_SUCCESS)
    flushed(judged, label)
    judged.keep(label)
    judged.kept["wrapped"] = judged.wrap(label, b"before the IPL").expect(Status.H_SUCCESS).written


def _unwrapped(judged: Judged) -> None:
    """The wrapping key survives the IPL: UNWRAP opens its objects once the password is set again."""
    wrapped = judged.remembered("wrapped", bytes)
    # UNWRAP demands that a password is set, and the IPL has cleared the password.
    judged.unwrap(wrapped).expect(Status.H_AUTHORITY)
    _set_again(judged)
    judged.unwrap(wrapped).expect(Status.H_SUCCESS).expect_written(b"before the IPL")


def _revoke(judged: Judged) -> None:
    label = _lasting(judged, "revoked key")
    judged.gen_key(label).expect(Status.H_SUCCESS)
    judged.about(Opcode.REVOKE_OBJECT, label).expect(Status.H_SUCCESS)
    flushed(judged, label)
    judged.keep(label)


def _still_revoked(judged: Judged) -> None:
    policy = int(Policy.WRAPPINGKEY | Policy.REVOKED)
    judged.read(judged.label("revoked key")).expect(Status.H_AUTHORITY, policy=policy)


def _password_again(judged: Judged) -> None:
    """After the IPL, SET_PASSWORD sets a password again."""
    _set_again(judged)


def _set_again(judged: Judged) -> None:
    # Case key-unwraps may have set the password in this IPL; SET_PASSWORD would be H_IN_USE.
    if SYSTEM in judged.passwords:
        return
    password = b"the password of the second IPL.."
    judged.call(Draft.of(Opcode.SET_PASSWORD, consumer=SYSTEM, password=password)).expect(Status.H_SUCCESS)
    judged.passwords[SYSTEM] = password
