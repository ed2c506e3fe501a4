"""Label lists: one part and many, tokens, snapshots, and the name space of each consumer."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from hcall_abi.rules import hcalls as rules
from hcall_abi.statuses import Status
from swpks.conformance.case import ConformanceCase, Deviation, RunStage, by_rule
from swpks.conformance.server.judged import (
    BOOT_LOADER,
    FIRMWARE,
    SYSTEM,
    Attempt,
    Facts,
    Judged,
    all_labels,
    parsed_labels,
)

_RESULTS = "spec/hcalls/get_objectlabels.md#results"
_FORM = "spec/structures.md#label-list"
_OPEN_LISTS = 16
"""Unfinished lists of a partition (choice C-J)."""


def cases(facts: Facts) -> Iterator[ConformanceCase[Judged]]:
    """Yield the cases of this chapter."""

    def case(name: str, page: str, attempt: Attempt) -> ConformanceCase[Judged]:
        return ConformanceCase(f"labels.{name}", page, "", attempt)

    yield case("none", _RESULTS, _none)
    yield case("one-part", _FORM, _one_part)
    yield ConformanceCase("labels.one-part-set", _FORM, "", _one_part, RunStage.SET)
    yield case("many-parts", _RESULTS, _many_parts)
    yield case("each-once", _RESULTS, _each_once)
    yield case("longest-label", _FORM, _longest_label)
    yield case("only-own", _RESULTS, _only_own)
    yield case("exact-room", _RESULTS, _exact_room)
    yield case("snapshot", _RESULTS, _snapshot)
    yield by_rule("labels.no-room", rules.LIST_ROOM, _no_room)
    yield by_rule("labels.room-behind-password", rules.PASSWORD_FITS, _room_behind_password)
    yield by_rule("labels.token-once", rules.LIST_TOKEN, _token_once)
    yield by_rule("labels.token-of-another", rules.LIST_TOKEN, _token_of_another)
    yield by_rule("labels.token-of-finished-list", rules.LIST_TOKEN, _token_of_finished)
    yield by_rule("labels.tokens-are-random", rules.LIST_TOKEN, _random_tokens)
    yield by_rule("labels.many-lists", rules.LIST_TOKEN, _many_lists)
    yield case("token-in-another-session", _RESULTS, _in_another_session)


def _none(judged: Judged) -> None:
    """For a consumer without objects, the list is H_SUCCESS, count 0, token 0 and no bytes."""
    answer = judged.labels(by=BOOT_LOADER).expect(Status.H_SUCCESS, count=0, token=0)
    answer.expect_nothing_written()


def _one_part(judged: Judged) -> None:
    label = judged.label()
    judged.write(label).expect(Status.H_SUCCESS)
    answer = judged.labels().expect(Status.H_SUCCESS, token=0)
    _expect_among(label, parsed_labels(answer))


def _objects(judged: Judged, count: int, by: int = SYSTEM) -> list[bytes]:
    labels = [judged.label() for _ in range(count)]
    for label in labels:
        judged.write(label, b"x", by=by).expect(Status.H_SUCCESS)
    return labels


def _many_parts(judged: Judged) -> None:
    """While labels are left, the answer has H_CONTINUE, a count above 0 and a token other than 0."""
    labels = _objects(judged, 12)
    # The room is for about three labels, so that twelve need at least four parts.
    room, found, token = 3 * (len(labels[0]) + 8), [], 0
    # The loop is bounded, because a wrong server may never end its list.
    for _ in range(100):
        answer = judged.labels(token=token, room=room)
        part = parsed_labels(answer)
        found += part
        token = answer.output("token")
        if answer.status == Status.H_SUCCESS:
            break
        answer.expect(Status.H_CONTINUE)
        if not part or not token:
            raise Deviation("labels and a token with H_CONTINUE", f"{len(part)} labels, token {bool(token)}")
    if token:
        raise Deviation("token 0 with the last part", "another token")
    for label in labels:
        _expect_among(label, found)


def _each_once(judged: Judged) -> None:
    labels = _objects(judged, 30)
    found = all_labels(judged)
    if len(found) != len(set(found)) or not set(labels) <= set(found):
        raise Deviation("each label once", f"{len(found)} labels, {len(set(found))} different")


def _longest_label(judged: Judged) -> None:
    label = judged.label().ljust(judged.facts.config.max_label_size, b"\xff")
    judged.write(label).expect(Status.H_SUCCESS)
    _expect_among(label, all_labels(judged))


def _only_own(judged: Judged) -> None:
    own, other = judged.label(), judged.label()
    judged.write(own, by=FIRMWARE).expect(Status.H_SUCCESS)
    judged.write(other, by=BOOT_LOADER).expect(Status.H_SUCCESS)
    found = all_labels(judged, BOOT_LOADER)
    _expect_among(other, found)
    if own in found:
        raise Deviation("labels of the consumer in the block only", "a label of firmware")


def _exact_room(judged: Judged) -> None:
    """A buffer with room for exactly one label is filled with that label."""
    label = judged.label()
    judged.write(label, by=BOOT_LOADER).expect(Status.H_SUCCESS)
    answer = judged.labels(by=BOOT_LOADER, room=2 + len(label)).expect(Status.H_SUCCESS, count=1, token=0)
    _expect_among(label, parsed_labels(answer))


def _snapshot(judged: Judged) -> None:
    """All parts belong to the list at the time of token 0; later changes are not in it."""
    labels = _objects(judged, 3, BOOT_LOADER)
    room = 2 + len(max(labels, key=len))
    answer = judged.labels(by=BOOT_LOADER, room=room).expect(Status.H_CONTINUE, count=1)
    found, late = parsed_labels(answer), judged.label()
    judged.write(late, by=BOOT_LOADER).expect(Status.H_SUCCESS)
    judged.remove(labels[-1], by=BOOT_LOADER).expect(Status.H_SUCCESS)
    for _ in labels:
        if answer.status == Status.H_CONTINUE:
            answer = judged.labels(by=BOOT_LOADER, token=answer.output("token"), room=room)
            found += parsed_labels(answer)
    if sorted(found) != sorted(labels):
        raise Deviation("the labels of the moment of token 0", "a list with later changes")


def _no_room(judged: Judged) -> None:
    label = judged.label()
    judged.write(label, by=BOOT_LOADER).expect(Status.H_SUCCESS)
    # An entry of the list is two bytes and the label.  A buffer of 2 bytes has no room for a label.  The last
    # buffer is one byte too short.
    for room in (0, 2, 1 + len(label)):
        judged.labels(by=BOOT_LOADER, room=room).expect(Status.H_P4).expect_nothing_written()


def _room_behind_password(judged: Judged) -> None:
    judged.labels(room=0, auth=judged.auth(password=b"wrong")).expect(Status.H_AUTHORITY)


def _first_token(judged: Judged, by: int = BOOT_LOADER) -> int:
    """Begin a list that has a second part; return the token for that part."""
    labels = _objects(judged, 2, by)
    answer = judged.labels(by=by, room=2 + len(max(labels, key=len)))
    return answer.expect(Status.H_CONTINUE).output("token")


def _token_once(judged: Judged) -> None:
    token = _first_token(judged)
    judged.labels(by=BOOT_LOADER, token=token).expect(Status.H_SUCCESS)
    judged.labels(by=BOOT_LOADER, token=token).expect(Status.H_P2).expect_nothing_written()


def _token_of_another(judged: Judged) -> None:
    """The server refuses a token that it gave to another consumer."""
    token = _first_token(judged)
    judged.labels(by=FIRMWARE, token=token).expect(Status.H_P2).expect_nothing_written()


def _token_of_finished(judged: Judged) -> None:
    token = _first_token(judged)
    judged.labels(by=BOOT_LOADER, token=token).expect(Status.H_SUCCESS, token=0)
    judged.labels(by=BOOT_LOADER, token=token).expect(Status.H_P2)


def _random_tokens(judged: Judged) -> None:
    """Tokens are random: a caller must not guess one, because a server checks them before the password."""
    tokens = [_first_token(judged) for _ in range(4)]
    # Equal steps would show a counter.  A random token is below 2**32 once in four billion tokens.
    steps = {later - earlier for earlier, later in pairwise(tokens)}
    if len(set(tokens)) != len(tokens) or len(steps) != len(tokens) - 1 or max(tokens) < 1 << 32:
        raise Deviation("random tokens of 64 bits", "tokens that can be guessed")


def _many_lists(judged: Judged) -> None:
    """A partition may have sixteen unfinished lists; one more drops the oldest."""
    labels = _objects(judged, 2, BOOT_LOADER)
    room = 2 + len(max(labels, key=len))
    begun = [
        judged.labels(by=BOOT_LOADER, room=room).expect(Status.H_CONTINUE) for _ in range(_OPEN_LISTS + 1)
    ]
    oldest, *others = (answer.output("token") for answer in begun)
    judged.labels(by=BOOT_LOADER, token=oldest).expect(Status.H_P2)
    for token in others:
        judged.labels(by=BOOT_LOADER, token=token).expect(Status.H_SUCCESS)


def _in_another_session(judged: Judged) -> None:
    """A list belongs to the consumer, so another session of the partition may continue it."""
    # The main session is closed, so that the next call opens a new one: the token must not depend on the
    # session.
    token = _first_token(judged)
    judged.lose_session()
    judged.labels(by=BOOT_LOADER, token=token).expect(Status.H_SUCCESS)


def _expect_among(label: bytes, found: list[bytes]) -> None:
    if label not in found:
        raise Deviation("the label of an object in the list", f"a list of {len(found)} labels without it")
