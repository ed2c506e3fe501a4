"""Revocation: a revoked wrapping key can't be read or used until UNREVOKE."""

from __future__ import annotations

from collections.abc import Iterator

from hcall_abi.calls import Opcode
from hcall_abi.policies import Policy
from hcall_abi.rules import hcalls as rules
from hcall_abi.statuses import Status
from swpks.conformance.case import ConformanceCase, RunStage, by_rule
from swpks.conformance.server.chapters.durability import flushed
from swpks.conformance.server.judged import BOOT_LOADER, Attempt, Facts, Judged

_REVOKE, _UNREVOKE = Opcode.REVOKE_OBJECT, Opcode.UNREVOKE_OBJECT
_RESULTS = "spec/hcalls/revoke_object.md#results"
_BACK = "spec/hcalls/unrevoke_object.md#results"
KEY = int(Policy.WRAPPINGKEY)
REVOKED = KEY | int(Policy.REVOKED)


def cases(facts: Facts) -> Iterator[ConformanceCase[Judged]]:
    """Yield the cases of this chapter."""
    if _REVOKE not in facts.level.calls:
        return
    for stage in (RunStage.UNSET, RunStage.SET):
        when = stage.name.lower()

        def case(name: str, page: str, attempt: Attempt, *, at: RunStage = stage) -> ConformanceCase[Judged]:
            return ConformanceCase(f"revocation.{name}-{at.name.lower()}", page, "", attempt, at)

        yield case("shows-the-policy", _RESULTS, _shows_the_policy)
        yield case("twice", _RESULTS, _twice)
        yield case("back-in-use", _BACK, _back_in_use)
        yield case("unrevoke-of-a-good-key", _BACK, _unrevoke_good)
        verdict = rules.VERDICT_REVOKED
        yield by_rule(f"revocation.no-wrap-{when}", verdict, _no_wrap, stage)
        yield by_rule(f"revocation.read-shows-it-{when}", verdict, _read_shows_it, stage)
        yield by_rule(f"revocation.plain-object-{when}", rules.VERDICT_REVOCABLE, _plain_object, stage)
        yield by_rule(f"revocation.nothing-{when}", rules.OBJECT_EXISTS, _nothing, stage)
        yield by_rule(f"revocation.password-{when}", rules.PASSWORD_FITS, _password, stage)
    yield by_rule("revocation.no-unwrap", rules.VERDICT_REVOKED, _no_unwrap, RunStage.SET)
    yield ConformanceCase("revocation.is-flushed", _RESULTS, "", _is_flushed)
    yield ConformanceCase("revocation.label-stays-taken", "spec/hcalls/gen_key.md#checks", "", _stays_taken)
    yield ConformanceCase("revocation.is-removed", "spec/hcalls/remove_object.md#policies", "", _is_removed)
    yield ConformanceCase("revocation.of-another-consumer", _RESULTS, "", _of_another_consumer)


def _key(judged: Judged) -> bytes:
    label = judged.label()
    judged.gen_key(label).expect(Status.H_SUCCESS)
    return label


def _revoked(judged: Judged) -> bytes:
    label = _key(judged)
    judged.about(_REVOKE, label).expect(Status.H_SUCCESS, policy=REVOKED)
    return label


def _shows_the_policy(judged: Judged) -> None:
    _revoked(judged)


def _twice(judged: Judged) -> None:
    judged.about(_REVOKE, _revoked(judged)).expect(Status.H_SUCCESS, policy=REVOKED)


def _back_in_use(judged: Judged) -> None:
    label = _revoked(judged)
    judged.about(_UNREVOKE, label).expect(Status.H_SUCCESS, policy=KEY)
    judged.wrap(label).expect(Status.H_SUCCESS)


def _unrevoke_good(judged: Judged) -> None:
    judged.about(_UNREVOKE, _key(judged)).expect(Status.H_SUCCESS, policy=KEY)


def _no_wrap(judged: Judged) -> None:
    judged.wrap(_revoked(judged)).expect(Status.H_AUTHORITY).expect_nothing_written()


def _no_unwrap(judged: Judged) -> None:
    label = _key(judged)
    wrapped = judged.wrap(label).expect(Status.H_SUCCESS).written
    judged.about(_REVOKE, label).expect(Status.H_SUCCESS)
    judged.unwrap(wrapped).expect(Status.H_AUTHORITY).expect_nothing_written()
    judged.about(_UNREVOKE, label).expect(Status.H_SUCCESS)
    judged.unwrap(wrapped).expect(Status.H_SUCCESS).expect_written(b"secret")


def _read_shows_it(judged: Judged) -> None:
    judged.read(_revoked(judged)).expect(Status.H_AUTHORITY, policy=REVOKED).expect_nothing_written()


def _plain_object(judged: Judged) -> None:
    """REVOKE of an object that is no wrapping key returns H_AUTHORITY with the object's policy in r4."""
    label, policy = judged.label(), int(Policy.WORLDREADABLE)
    judged.write(label, policy=policy).expect(Status.H_SUCCESS)
    for opcode in (_REVOKE, _UNREVOKE):
        judged.about(opcode, label).expect(Status.H_AUTHORITY, policy=policy)


def _nothing(judged: Judged) -> None:
    for opcode in (_REVOKE, _UNREVOKE):
        judged.about(opcode, judged.label()).expect(Status.H_NOT_FOUND)


def _password(judged: Judged) -> None:
    """REVOKE with a wrong password returns H_AUTHORITY with 0 in r4, and changes nothing."""
    label = _key(judged)
    for opcode in (_REVOKE, _UNREVOKE):
        judged.about(opcode, label, auth=judged.auth(password=b"wrong")).expect(Status.H_AUTHORITY, policy=0)
    judged.wrap(label).expect(Status.H_SUCCESS)


def _is_flushed(judged: Judged) -> None:
    flushed(judged, _revoked(judged))


def _stays_taken(judged: Judged) -> None:
    # The label stays taken: otherwise a guest could replace a revoked key by a new key with its label.
    label = _revoked(judged)
    judged.gen_key(label).expect(Status.H_RESOURCE)
    judged.write(label).expect(Status.H_RESOURCE)


def _is_removed(judged: Judged) -> None:
    label = _revoked(judged)
    judged.remove(label).expect(Status.H_SUCCESS)
    judged.about(_UNREVOKE, label).expect(Status.H_NOT_FOUND)


def _of_another_consumer(judged: Judged) -> None:
    judged.about(_REVOKE, _key(judged), by=BOOT_LOADER).expect(Status.H_NOT_FOUND)
