"""Openings of a session: HELLO, versions, partition ids, proofs, and the order of the statuses of OPENED."""

from __future__ import annotations

import os
from collections.abc import Iterator

from hcall_abi.codec import encode
from hcall_abi.frames import Opened, OpenStatus, ProofKind
from hcall_abi.proof import NO_PROOF
from hcall_abi.rules import protocol as rules
from swpks.conformance.case import ConformanceCase, Deviation, NotRun, by_rule
from swpks.conformance.server.connection import RawConnection
from swpks.conformance.server.judged import Attempt, Facts, Judged

_HELLO = "spec/protocol.md#hello"
_OPEN = "spec/protocol.md#open"
_OPENED = "spec/protocol.md#opened"
_PROOF = "spec/protocol.md#proof"
_STATES = "spec/protocol.md#states"
_GOODBYE = "spec/protocol.md#goodbye"
_BESIDE_DATA = 1024
"""Bytes of a WRITE beside the data: registers, segments, authorization block and label."""
_NO_PARTITION = 0xFFFF


def cases(facts: Facts) -> Iterator[ConformanceCase[Judged]]:
    """Yield the cases of this chapter."""
    yield ConformanceCase("opening.fresh-nonces", _HELLO, "", _fresh_nonces)
    yield ConformanceCase("opening.room-for-objects", _HELLO, "", _room_for_objects)
    yield ConformanceCase("opening.own-partition", _OPENED, rules.OPEN_PARTITION.id, _own_partition)
    yield by_rule("opening.no-such-partition", rules.OPEN_PARTITION, _unknown_partition)
    yield ConformanceCase("opening.refusal-is-empty", _OPENED, "", _refusal_is_empty)
    yield ConformanceCase("opening.refusal-closes", _STATES, "", _refusal_closes)
    for version in (0, 2, 255):
        yield by_rule(f"opening.version-{version}", rules.OPEN_VERSION, _version(version))
    yield by_rule("opening.version-skips-body", rules.OPEN_VERSION, _skipped_body)
    for tag in (0, 1, 0xFFFF_FFFF):
        yield ConformanceCase(f"opening.tag-{tag}", "spec/protocol.md#tags", rules.SESSION_TAG.id, _tag(tag))
    for length in (0, 255):
        yield ConformanceCase(f"opening.name-of-{length}", _OPEN, "", _name_of(length))
    yield by_rule("opening.no-proof", rules.OPEN_PROOF, _without_proof)
    yield by_rule("opening.wrong-proof", rules.OPEN_PROOF, _wrong_proof)
    yield by_rule("opening.replayed-proof", rules.OPEN_PROOF, _replayed_proof)
    yield by_rule("opening.proof-of-another-id", rules.OPEN_PROOF, _proof_of_another_id)
    yield by_rule("opening.server-proof", rules.OPENED_PROOF, _server_proof)
    yield ConformanceCase("opening.same-ipl-count", _OPENED, "", _same_ipl_count)
    yield ConformanceCase("opening.level", _OPENED, "", _level)
    yield ConformanceCase("opening.goodbye-when-greeted", _GOODBYE, "", _goodbye_when_greeted)
    yield ConformanceCase("opening.goodbye-when-open", _GOODBYE, "", _goodbye_when_open)
    yield ConformanceCase("opening.end-between-frames", "spec/protocol.md#framing", "", _end_between_frames)
    yield ConformanceCase("opening.calls-behind-open", _STATES, "", _calls_behind_open)
    yield ConformanceCase("opening.calls-behind-refusal", _STATES, "", _calls_behind_refusal)


def _fresh_nonces(judged: Judged) -> None:
    nonces = {judged.connect().hello().nonce for _ in range(4)}
    if len(nonces) != 4 or bytes(32) in nonces:
        raise Deviation("another random nonce in each HELLO", f"{len(nonces)} different ones of 4")


def _room_for_objects(judged: Judged) -> None:
    hello = judged.connect().hello()
    least = judged.facts.largest_object + _BESIDE_DATA
    if hello.max_body < least:
        raise Deviation(f"a largest body of at least {least} bytes", str(hello.max_body))


def _own_partition(judged: Judged) -> None:
    """An OPEN with the partition id that OPENED names succeeds too."""
    number = judged.session.opened.partition
    if not number:
        raise Deviation("the partition's own id in OPENED", "0")
    connection = judged.connect()
    _expect(connection.open(connection.hello(), partition=number), OpenStatus.OPENED)


def _unknown_partition(judged: Judged) -> None:
    connection = judged.connect()
    opened = connection.open(connection.hello(), partition=_NO_PARTITION)
    _expect(opened, OpenStatus.NO_SUCH_PARTITION)


def _refusal_is_empty(judged: Judged) -> None:
    """OPENED of a refusal has the partition id of OPEN, no IPL count, no proof and no level."""
    connection = judged.connect()
    opened = connection.open(connection.hello(), partition=_NO_PARTITION)
    right = (_NO_PARTITION, 0, NO_PROOF, "")
    came = (opened.partition, opened.ipl_count, opened.proof, opened.level)
    if came != right:
        raise Deviation("partition 65535, IPL count 0, a proof of zeros, no level", repr(opened))


def _refusal_closes(judged: Judged) -> None:
    connection = judged.connect()
    connection.open(connection.hello(), partition=_NO_PARTITION)
    connection.expect_end()


def _version(version: int) -> Attempt:
    def attempt(judged: Judged) -> None:
        connection = judged.connect()
        opening, _ = connection.opening(connection.hello(), tag=77)
        data = bytearray(encode(opening))
        data[4] = version
        connection.send(bytes(data), f"OPEN of version {version}, tag 77")
        _expect(_tagged(connection, 77), OpenStatus.VERSION_NOT_SUPPORTED)
        connection.expect_end()

    return attempt


def _skipped_body(judged: Judged) -> None:
    """The server skips an OPEN of another version by its length, and ignores its flags and body."""
    connection = judged.connect()
    connection.hello()
    # Every later version has magic, version and length at the same offsets.  So a server can skip this frame.
    header = b"HCAL" + bytes([9, 2]) + b"\xff\xff" + (78).to_bytes(4, "big") + (1000).to_bytes(4, "big")
    connection.send(header + os.urandom(1000), "OPEN of version 9 with flags and 1000 unknown bytes, tag 78")
    opened = _tagged(connection, 78)
    _expect(opened, OpenStatus.VERSION_NOT_SUPPORTED)
    if opened.partition:
        raise Deviation("partition 0 in a refusal of the version", str(opened.partition))


def _tag(tag: int) -> Attempt:
    def attempt(judged: Judged) -> None:
        connection = judged.connect()
        opening, _ = connection.opening(connection.hello(), tag=tag)
        connection.send(encode(opening), f"OPEN with tag {tag}")
        _expect(_tagged(connection, tag), OpenStatus.OPENED)

    return attempt


def _tagged(connection: RawConnection, tag: int) -> Opened:
    opened = connection.opened()
    if opened.tag != tag:
        raise Deviation(f"OPENED with tag {tag}", f"tag {opened.tag}")
    return opened


def _name_of(length: int) -> Attempt:
    def attempt(judged: Judged) -> None:
        connection = judged.connect()
        opening, _ = connection.opening(connection.hello())
        connection.send(encode(opening._replace(name="n" * length)), f"OPEN with a name of {length} bytes")
        _expect(connection.opened(), OpenStatus.OPENED)

    return attempt


def _without_proof(judged: Judged) -> None:
    if not judged.place.over_tcp:
        raise NotRun("a private Unix socket demands no proof; connect over TCP")
    connection = judged.connect()
    opening, _ = connection.opening(connection.hello())
    bare = opening._replace(proof_kind=ProofKind.NONE, proof=NO_PROOF)
    connection.send(encode(bare), "OPEN without a proof")
    _expect(connection.opened(), OpenStatus.NOT_AUTHORISED)
    connection.expect_end()


def _wrong_proof(judged: Judged) -> None:
    """The server refuses a wrong proof, over a private Unix socket too."""
    connection = judged.connect()
    opening, _ = connection.opening(connection.hello())
    # The proof is random bytes: a server could refuse a proof of zeros because of its form alone.
    wrong = opening._replace(proof_kind=ProofKind.HMAC_SHA256, proof=os.urandom(32))
    connection.send(encode(wrong), "OPEN with a wrong proof")
    _expect(connection.opened(), OpenStatus.NOT_AUTHORISED)
    connection.expect_end()


def _replayed_proof(judged: Judged) -> None:
    """The server refuses the OPEN of another connection: its proof covers the nonce of that connection."""
    _demand_key(judged)
    first = judged.connect()
    opening, _ = first.opening(first.hello())
    second = judged.connect()
    second.hello()
    second.send(encode(opening), "the OPEN of another connection")
    _expect(second.opened(), OpenStatus.NOT_AUTHORISED)


def _proof_of_another_id(judged: Judged) -> None:
    """The proof covers the partition id of OPEN, also if the id is 0."""
    _demand_key(judged)
    own = judged.session.opened.partition
    alone = judged.connect()
    # A listener with several partitions refuses the id 0 before it checks the proof.
    if alone.open(alone.hello(), partition=0).status == OpenStatus.NO_SUCH_PARTITION:
        raise NotRun("the listener has several partitions, so 0 is no id there")
    connection = judged.connect()
    opening, _ = connection.opening(connection.hello(), partition=own)
    connection.send(encode(opening._replace(partition=0)), "OPEN of partition 0 with the proof of the id")
    _expect(connection.opened(), OpenStatus.NOT_AUTHORISED)


def _server_proof(judged: Judged) -> None:
    """The server proves in OPENED that it has the key; `RawConnection.open` checks the proof."""
    _demand_key(judged)
    judged.open()


def _demand_key(judged: Judged) -> None:
    if judged.place.access_key is None:
        raise NotRun("needs the partition's access key: --access-key-file")


def _same_ipl_count(judged: Judged) -> None:
    counts = {judged.open().opened.ipl_count for _ in range(2)} | {judged.facts.ipl_count}
    if len(counts) != 1:
        raise Deviation("the same IPL count in each session of an IPL", str(sorted(counts)))


def _level(judged: Judged) -> None:
    name = judged.session.opened.level
    if name != judged.facts.level.name:
        raise Deviation(f"the level {judged.facts.level.name} in OPENED", repr(name))


def _goodbye_when_greeted(judged: Judged) -> None:
    connection = judged.connect()
    connection.hello()
    # The frame is written in hexadecimal: the codec would share its mistakes with a server that uses it.
    connection.send(bytes.fromhex("4843414c0106000000000000000000050000000000"), "GOODBYE reason 0")
    connection.expect_end()


def _goodbye_when_open(judged: Judged) -> None:
    """After a GOODBYE in an open session, the server sends nothing more and closes."""
    session = judged.open()
    session.goodbye()
    session.connection.expect_end()


def _end_between_frames(judged: Judged) -> None:
    session = judged.open()
    session.connection.end_sending()
    session.connection.expect_end()


def _calls_behind_open(judged: Judged) -> None:
    """HCALLs that are sent directly after OPEN run if the OPEN succeeds."""
    connection = judged.connect()
    opening, _ = connection.opening(connection.hello())
    connection.send(encode(opening) + _unknown_call(), "OPEN and an HCALL in one piece")
    _expect(connection.opened(), OpenStatus.OPENED)
    connection.frame("HRETURN")


def _calls_behind_refusal(judged: Judged) -> None:
    """HCALLs that are sent directly after a refused OPEN break the protocol: no HRETURN comes."""
    connection = judged.connect()
    opening, _ = connection.opening(connection.hello(), partition=_NO_PARTITION)
    connection.send(encode(opening) + _unknown_call(), "OPEN of partition 65535 and an HCALL in one piece")
    _expect(connection.opened(), OpenStatus.NO_SUCH_PARTITION)
    connection.expect_closed()


def _unknown_call() -> bytes:
    """Return the bytes of an HCALL of opcode 0, without memory."""
    return bytes.fromhex("4843414c010400000000000200000058") + bytes(88)


def _expect(opened: Opened, status: OpenStatus) -> None:
    if opened.status != status:
        raise Deviation(f"OPENED with status {int(status)} ({status.name})", f"status {opened.status}")
