"""Signed updates: malformed payloads, then updates of PK, KEK and db by right and wrong signers.

Without a PK no update can be verified, so the first PK needs the console's permission
(`keystore_signed_updates_without_verification`).  Without that permission, the cases that need a PK are not
run.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator

from hcall_abi.calls import Opcode
from hcall_abi.efi import EfiTime
from hcall_abi.policies import Policy
from hcall_abi.rules import hcalls, updates
from hcall_abi.rules.rule import Rule
from hcall_abi.statuses import Status
from hcall_client.guests import authvar
from swpks.conformance.case import ConformanceCase, Deviation, NotRun, RunStage, by_rule
from swpks.conformance.server.answers import Returned
from swpks.conformance.server.chapters.durability import flushed
from swpks.conformance.server.judged import SYSTEM, Attempt, Facts, Judged
from swpks.conformance.server.signers import FIRST, LATER, LATEST, signer

_CALL = Opcode.SIGNED_UPDATE
_PAGE = "spec/secure-boot-variables.md#authority"
_CONTENTS = "spec/secure-boot-variables.md#contents"
_REPLAY = "spec/secure-boot-variables.md#replay"
_STORED = "spec/secure-boot-variables.md#stored-form"
_SET = RunStage.SET
_ANY = b"any bytes at all"
_TIME, _PART = 16, 24
"""Bytes of the time, and of the header of the certificate part."""
Change = Callable[[bytes], bytes]
"""Returns a wrong payload, made from a right one."""


def cases(facts: Facts) -> Iterator[ConformanceCase[Judged]]:
    """Yield the cases of this chapter."""
    if _CALL not in facts.level.calls:
        return
    yield ConformanceCase("updates.agrees-with-config", "spec/hcalls/signed_update.md", "", _agrees)
    yield from _labels()
    yield from _payloads()

    def case(name: str, rule: Rule, attempt: Attempt) -> ConformanceCase[Judged]:
        return by_rule(f"updates.{name}", rule, attempt, _SET)

    yield case("no-key-no-update", updates.UPDATE_BY_PK_OR_KEK, _no_key)
    yield ConformanceCase("updates.first-pk", _PAGE, updates.UPDATE_BY_PK.id, _first_pk, _SET)
    yield case("second-pk-is-verified", updates.UPDATE_BY_PK, _second_pk)
    yield case("kek-by-pk", updates.UPDATE_BY_PK, _kek_by_pk)
    yield case("kek-by-stranger", updates.UPDATE_BY_PK, _refused_update("KEK", "stranger"))
    yield case("db-by-pk", updates.UPDATE_BY_PK_OR_KEK, _accepted("PK"))
    yield case("db-by-kek", updates.UPDATE_BY_PK_OR_KEK, _accepted("KEK"))
    yield case("db-by-stranger", updates.UPDATE_BY_PK_OR_KEK, _refused_update("db", "stranger"))
    yield case("pk-by-kek", updates.UPDATE_BY_PK, _refused_update("PK", "KEK"))
    yield case("changed-contents", updates.UPDATE_BY_PK_OR_KEK, _changed_contents)
    yield case("name-of-another", updates.UPDATE_BY_PK_OR_KEK, _name_of_another)
    yield case("old-time", updates.UPDATE_TIME_LATER, _old_time)
    yield case("same-time", updates.UPDATE_TIME_LATER, _same_time)
    yield case("without-password", hcalls.PASSWORD_FITS, _without_password)
    yield case("other-policy", hcalls.UPDATE_POLICY, _other_policy)
    yield case("append-to-pk", updates.UPDATE_PK_APPEND, _append_to_pk)
    yield ConformanceCase("updates.append", _CONTENTS, "", _append, _SET)
    yield ConformanceCase(
        "updates.append-again", "spec/secure-boot-variables.md#replay", "", _append_again, _SET
    )
    yield ConformanceCase("updates.stored-form", _STORED, "", _stored_form, _SET)
    yield ConformanceCase("updates.replaced", _CONTENTS, "", _replaced, _SET)
    yield ConformanceCase("updates.deleted-by-pk", _CONTENTS, "", _deleted, _SET)
    yield ConformanceCase("updates.emptied-by-kek", _CONTENTS, "", _emptied, _SET)
    yield ConformanceCase("updates.flushed", "spec/hcalls/signed_update.md#results", "", _is_flushed, _SET)
    yield case("immutable-stays", hcalls.VERDICT_IMMUTABLE, _immutable)


def _agrees(judged: Judged) -> None:
    """GET_CONFIG shows the signature algorithms of the level, or none if signed updates are off."""
    algorithms = judged.facts.config.signed_update_algorithms
    right = judged.facts.level.signed_update_algorithms
    if algorithms not in (0, right):
        raise Deviation(f"algorithms 0x{right:X} or 0 in GET_CONFIG", f"0x{algorithms:X}")
    if not algorithms:
        raise NotRun("signed updates are off; set keystore_signed_updates=1 for the partition")


def _send(
    judged: Judged,
    name: str,
    payload: bytes,
    *,
    append: bool = False,
    policy: int | None = None,
    label: bytes | None = None,
    auth: bytes | None = None,
) -> Returned:
    return judged.do(
        _CALL,
        authorization=judged.auth() if auth is None else auth,
        label=authvar.variable_label(name) if label is None else label,
        policy=authvar.variable_policy(name) if policy is None else policy,
        flags=int(append),
        data=payload,
    )


def _labels() -> Iterator[ConformanceCase[Judged]]:
    """Yield the cases of labels that name no variable; each update returns H_P2."""
    head = bytes(9) + b"\2\x10" + bytes(5)
    wrong = {
        "label-without-header": (updates.UPDATE_LABEL, b"P\0K\0"),
        "label-with-prefix": (updates.UPDATE_LABEL, b"PLPKSSV\0" + head[8:] + b"d\0b\0"),
        "label-of-other-version": (updates.UPDATE_LABEL, head[:8] + b"\1" + head[9:] + b"d\0b\0"),
        "name-of-odd-length": (updates.UPDATE_NAME_WIDE, head + b"d\0b"),
        "no-name": (updates.UPDATE_NAME_WIDE, head),
        "name-with-nul": (updates.UPDATE_NAME_NUL, head + b"d\0\0\0b\0"),
    }
    for name, (rule, label) in wrong.items():

        def attempt(judged: Judged, label: bytes = label) -> None:
            payload = signer("PK").update("db", _ANY)
            _send(judged, "db", payload, label=label).expect(Status.H_P2)

        yield by_rule(f"updates.{name}", rule, attempt)


def _payloads() -> Iterator[ConformanceCase[Judged]]:
    """Yield the cases of malformed payloads; each update returns H_P6, whatever keys exist."""
    changes: dict[str, tuple[Rule, Change]] = {
        "header-cut": (updates.UPDATE_HEADER, lambda right: right[: _TIME + _PART - 1]),
        "reserved-of-time": (updates.UPDATE_TIME_RESERVED, lambda right: _with(right, 7, b"\1")),
        "end-of-time": (updates.UPDATE_TIME_RESERVED, lambda right: _with(right, 15, b"\1")),
        "part-of-header-alone": (updates.UPDATE_PART_LENGTH, lambda right: _with(right, 16, _le(_PART))),
        "part-behind-the-end": (updates.UPDATE_PART_WITHIN, lambda right: _with(right, 16, _le(len(right)))),
        "revision": (updates.UPDATE_PART_REVISION, lambda right: _with(right, 20, b"\0\1")),
        "type": (updates.UPDATE_PART_TYPE, lambda right: _with(right, 22, b"\xf0\x0e")),
        "guid": (updates.UPDATE_PART_GUID, lambda right: _with(right, 24, b"\0")),
        "no-der": (updates.UPDATE_PKCS7_DER, lambda right: _with(right, _TIME + _PART, b"\0")),
        "byte-behind-der": (updates.UPDATE_PKCS7_DER, _longer_part),
    }
    for name, (rule, change) in changes.items():

        def attempt(judged: Judged, change: Change = change) -> None:
            payload = change(signer("PK").update("db", _ANY))
            _send(judged, "db", payload).expect(Status.H_P6)

        yield by_rule(f"updates.{name}", rule, attempt)


def _with(data: bytes, at: int, put: bytes) -> bytes:
    return data[:at] + put + data[at + len(put) :]


def _le(number: int) -> bytes:
    return struct.pack("<I", number)


def _longer_part(right: bytes) -> bytes:
    """Make the length of the certificate part one byte too large: the part then ends in the contents."""
    (length,) = struct.unpack_from("<I", right, _TIME)
    return _with(right, _TIME, _le(length + 1))


def _no_key(judged: Judged) -> None:
    """Without a PK, an update of another variable is refused."""
    if judged.read(authvar.variable_label("PK")).status == Status.H_SUCCESS:
        raise NotRun("the partition has a PK already")
    _send(judged, "db", signer("PK").update("db", _ANY)).expect(Status.H_AUTHORITY)


def _first_pk(judged: Judged) -> None:
    """The first PK is accepted without verification while the console permits it."""
    _enrolled(judged)
    answer = judged.read(authvar.variable_label("PK")).expect(Status.H_SUCCESS)
    if answer.written[8:] != signer("PK").lists:
        raise Deviation("the contents of the update in PK", "other contents")


def _enrolled(judged: Judged) -> None:
    """Enrol the first PK once in a run; NotRun if the console does not permit it."""
    judged.demand(_CALL)
    if "PK" not in judged.kept:
        first = _send(judged, "PK", signer("PK").update("PK", signer("PK").lists))
        judged.kept["PK"] = first.status
        if first.status == Status.H_SUCCESS:
            judged.keep(authvar.variable_label("PK"))
    if judged.kept["PK"] == Status.H_AUTHORITY:
        raise NotRun(
            "the first PK needs a permission; power the partition off and set "
            "keystore_signed_updates_without_verification=1"
        )
    if judged.kept["PK"] != Status.H_SUCCESS:
        raise Deviation("H_SUCCESS for the first PK, or H_AUTHORITY", f"status {judged.kept['PK']}")


def _with_kek(judged: Judged) -> None:
    _enrolled(judged)
    if "KEK" not in judged.kept:
        judged.kept["KEK"] = True
        _send(judged, "KEK", signer("PK").update("KEK", signer("KEK").lists)).expect(Status.H_SUCCESS)
        judged.keep(authvar.variable_label("KEK"))


def _second_pk(judged: Judged) -> None:
    """The permission is for one update: the holder of the first PK has to sign the next PK."""
    _enrolled(judged)
    other = signer("stranger")
    _send(judged, "PK", other.update("PK", other.lists, LATER)).expect(Status.H_AUTHORITY)


def _kek_by_pk(judged: Judged) -> None:
    _with_kek(judged)
    judged.read(authvar.variable_label("KEK")).expect(Status.H_SUCCESS)


def _refused_update(name: str, by: str) -> Attempt:
    def attempt(judged: Judged) -> None:
        _with_kek(judged)
        contents = signer(by).lists
        _send(judged, name, signer(by).update(name, contents, LATEST)).expect(Status.H_AUTHORITY)

    return attempt


def _variable(judged: Judged, name: str) -> str:
    """Return the name of a variable; the end of the case removes the variable."""
    _with_kek(judged)
    judged.made(authvar.variable_label(name))
    return name


def _accepted(by: str) -> Attempt:
    def attempt(judged: Judged) -> None:
        name = _variable(judged, "db")
        _send(judged, name, signer(by).update(name, _ANY)).expect(Status.H_SUCCESS, token=0)
        _expect_stored(judged, name, FIRST, _ANY)

    return attempt


def _expect_stored(judged: Judged, name: str, time: EfiTime, contents: bytes) -> None:
    """Check the stored bytes of a variable: version 0, the time in seven bytes, then the contents."""
    head = struct.pack("<BHBBBBB", 0, *time)
    label = authvar.variable_label(name)
    answer = judged.read(label).expect(Status.H_SUCCESS, policy=authvar.variable_policy(name))
    answer.expect_written(head + contents)


def _changed_contents(judged: Judged) -> None:
    name = _variable(judged, "db")
    payload = signer("PK").update(name, _ANY, signed=b"other contents")
    _send(judged, name, payload).expect(Status.H_AUTHORITY)
    judged.read(authvar.variable_label(name)).expect(Status.H_NOT_FOUND)


def _name_of_another(judged: Judged) -> None:
    """The signature covers the name: an update that was signed for dbx does not update db."""
    name = _variable(judged, "db")
    _send(judged, name, signer("PK").update("dbx", _ANY)).expect(Status.H_AUTHORITY)


def _old_time(judged: Judged) -> None:
    name = _variable(judged, "db")
    _send(judged, name, signer("PK").update(name, _ANY, LATER)).expect(Status.H_SUCCESS)
    _send(judged, name, signer("PK").update(name, b"old", FIRST)).expect(Status.H_AUTHORITY)
    _expect_stored(judged, name, LATER, _ANY)


def _same_time(judged: Judged) -> None:
    """The server refuses the same update a second time, because its time is not later."""
    name = _variable(judged, "db")
    payload = signer("PK").update(name, _ANY, LATER)
    _send(judged, name, payload).expect(Status.H_SUCCESS)
    _send(judged, name, payload).expect(Status.H_AUTHORITY)


def _without_password(judged: Judged) -> None:
    """A right signature does not replace the password of the call."""
    name = _variable(judged, "db")
    answer = _send(judged, name, signer("PK").update(name, _ANY), auth=judged.auth(SYSTEM, b""))
    answer.expect(Status.H_AUTHORITY)


def _other_policy(judged: Judged) -> None:
    name = _variable(judged, "db")
    _send(judged, name, signer("PK").update(name, _ANY)).expect(Status.H_SUCCESS)
    policy = authvar.variable_policy(name) ^ Policy.WORLDREADABLE
    _send(judged, name, signer("PK").update(name, _ANY, LATER), policy=policy).expect(Status.H_P4)


def _append_to_pk(judged: Judged) -> None:
    payload = signer("PK").update("PK", signer("PK").lists, LATER, append=True)
    _send(judged, "PK", payload, append=True).expect(Status.H_P5)


def _append(judged: Judged) -> None:
    """An appended certificate becomes a new list after the others; the variable keeps the later time."""
    name = _variable(judged, "db")
    first, second = signer("PK").lists, signer("KEK").lists
    _send(judged, name, signer("PK").update(name, first, LATER)).expect(Status.H_SUCCESS)
    payload = signer("PK").update(name, second, FIRST, append=True)
    _send(judged, name, payload, append=True).expect(Status.H_SUCCESS)
    _expect_stored(judged, name, LATER, first + second)


def _append_again(judged: Judged) -> None:
    """Appending a certificate that the database has already adds nothing."""
    name = _variable(judged, "db")
    payload = signer("PK").update(name, signer("PK").lists, FIRST, append=True)
    for _ in range(2):
        _send(judged, name, payload, append=True).expect(Status.H_SUCCESS)
    _expect_stored(judged, name, FIRST, signer("PK").lists)


def _stored_form(judged: Judged) -> None:
    # Every field has a large number, and all differ: the year needs two bytes, and a wrong order of fields is
    # found.
    name, time = _variable(judged, "dbx"), EfiTime(2031, 12, 30, 23, 58, 59)
    _send(judged, name, signer("KEK").update(name, _ANY, time)).expect(Status.H_SUCCESS)
    _expect_stored(judged, name, time, _ANY)


def _replaced(judged: Judged) -> None:
    name = _variable(judged, "db")
    _send(judged, name, signer("PK").update(name, _ANY)).expect(Status.H_SUCCESS)
    _send(judged, name, signer("KEK").update(name, b"new", LATER)).expect(Status.H_SUCCESS)
    _expect_stored(judged, name, LATER, b"new")


def _deleted(judged: Judged) -> None:
    name = _variable(judged, "db")
    _send(judged, name, signer("PK").update(name, _ANY)).expect(Status.H_SUCCESS)
    _send(judged, name, signer("PK").update(name, b"", LATER)).expect(Status.H_SUCCESS)
    judged.read(authvar.variable_label(name)).expect(Status.H_NOT_FOUND)


def _emptied(judged: Judged) -> None:
    name = _variable(judged, "db")
    _send(judged, name, signer("PK").update(name, _ANY)).expect(Status.H_SUCCESS)
    _send(judged, name, signer("KEK").update(name, b"", LATER)).expect(Status.H_SUCCESS)
    _expect_stored(judged, name, LATER, b"")


def _is_flushed(judged: Judged) -> None:
    name = _variable(judged, "db")
    _send(judged, name, signer("PK").update(name, _ANY)).expect(Status.H_SUCCESS)
    flushed(judged, authvar.variable_label(name))


def _immutable(judged: Judged) -> None:
    """An IMMUTABLE variable can be made, and then no update changes it."""
    _with_kek(judged)
    name = f"forever {judged.prefix.hex()[-16:]}"
    # No call can remove the variable.  It is TRANSIENT, so the next IPL removes it.
    policy = int(Policy.SIGNEDUPDATE | Policy.IMMUTABLE | Policy.TRANSIENT)
    _send(judged, name, signer("PK").update(name, _ANY), policy=policy).expect(Status.H_SUCCESS)
    later = signer("PK").update(name, b"new", LATER)
    _send(judged, name, later, policy=policy).expect(Status.H_AUTHORITY)
