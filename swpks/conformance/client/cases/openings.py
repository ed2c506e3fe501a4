"""Chapters `version`, `hello`, `refused` and `proof`: how a session opens, or is refused."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from hcall_abi.codec import encode
from hcall_abi.frames import Goodbye, GoodbyeReason, Open, ProofKind
from hcall_abi.proof import NO_PROOF, client_proof, server_proof
from hcall_abi.rules import protocol as rules
from swpks.conformance.case import Deviation
from swpks.conformance.client.cases.made import HELLO, OPENED, PROOF, VERSIONS, made
from swpks.conformance.client.trial import Trial
from swpks.conformance.client.usual import AskedSession, answer, hello, opened, plan
from swpks.conformance.vectors import FrameVector, frames

_KEY = bytes(range(100, 132))
_ALL = (1 << 64) - 1
_VERSION_REFUSED = 4


def _greeted(trial: Trial, lowest: int = 1, highest: int = 1, features: int = 0, name: str = "judge") -> None:
    connection = trial.open(greeting=hello(lowest, highest, features=features, name=name))
    call = trial.call(connection, plan())
    connection.say(answer(call))
    trial.returned(0)
    trial.close(connection)


def _golden(trial: Trial, vector: FrameVector) -> None:
    connection = trial.dial()
    connection.say(vector.data)
    # `AskedSession` needs a HELLO, but not that of the vector: without a key, no proof covers HELLO.
    trial.admit(AskedSession(connection, hello(), connection.take(Open)))


def _other_version(trial: Trial, lowest: int, highest: int) -> None:
    connection = trial.dial()
    connection.say(hello(lowest, highest))
    connection.goodbye(GoodbyeReason.DONE)
    trial.numbered("refused", _VERSION_REFUSED)


def _later_header(trial: Trial) -> None:
    # A server without version 1 sends HELLO in a later version.  The client may report another version
    # (GOODBYE 0) or a wrong frame (GOODBYE 1).  It must not send OPEN.
    frame = encode(hello(2, 3))
    connection = trial.dial()
    connection.say(frame[:4] + b"\2" + frame[5:])
    for each in connection.rest():
        if not isinstance(each, Goodbye) or each.reason > GoodbyeReason.PROTOCOL_ERROR:
            raise Deviation("GOODBYE 0 or 1, or the end of the stream", repr(each))
    trial.report("refused", "broken")


def _refused(trial: Trial, status: int, key: bytes | None = None) -> None:
    opening = trial.greet(key=key)
    connection = opening.connection
    connection.say(opened(opening, status=status))
    connection.finish()
    for frame in connection.rest():
        if not isinstance(frame, Goodbye):
            raise Deviation("nothing but GOODBYE after a refusal", repr(frame))
    trial.numbered("refused", status)


def _proven(trial: Trial, partition: int) -> None:
    opening = trial.greet(partition=partition, key=_KEY)
    asked = opening.open
    if asked.proof_kind != ProofKind.HMAC_SHA256:
        raise Deviation("proof kind 1, with a key", f"kind {asked.proof_kind}")
    if asked.proof != client_proof(_KEY, opening.hello.nonce, asked.nonce, partition):
        raise Deviation("the client's proof over both nonces and the partition id", "another proof")
    trial.admit(opening, key=_KEY)
    trial.close(opening.connection)


def _again(trial: Trial) -> None:
    # The second session has another nonce of the server.  A client that sends its first proof again is found
    # there.
    for _ in range(2):
        _proven(trial, 0)


def _key_stays(trial: Trial) -> None:
    opening = trial.greet(key=_KEY)
    trial.admit(opening, key=_KEY)
    # The key must stay in the client.  It would be a leak as bytes, and as the digits of the command `open`.
    if _KEY in encode(opening.open) or _KEY.hex().encode() in encode(opening.open):
        raise Deviation("an OPEN without the key", "the key in OPEN")


def _unproven(trial: Trial, forged: Callable[[AskedSession], bytes]) -> None:
    opening = trial.greet(key=_KEY)
    connection = opening.connection
    connection.say(opened(opening)._replace(proof=forged(opening)))
    for frame in connection.rest():
        if not isinstance(frame, Goodbye):
            raise Deviation("a client that leaves a server without the key", repr(frame))
    trial.report("broken")


def _right(opening: AskedSession) -> bytes:
    return server_proof(_KEY, opening.hello.nonce, opening.open.nonce, opening.open.partition)


def _flipped(opening: AskedSession, at: int) -> bytes:
    proof = bytearray(_right(opening))
    proof[at] ^= 1
    return bytes(proof)


# "reflected" returns the client's own proof.  A client that accepts it would accept a server without the key.
_FORGED: dict[str, Callable[[AskedSession], bytes]] = {
    "zero": lambda opening: NO_PROOF,
    "first-bit": lambda opening: _flipped(opening, 0),
    "last-bit": lambda opening: _flipped(opening, -1),
    "reflected": lambda opening: opening.open.proof,
    "other-key": lambda o: server_proof(bytes(32), o.hello.nonce, o.open.nonce, o.open.partition),
    "other-partition": lambda o: server_proof(_KEY, o.hello.nonce, o.open.nonce, 3),
    "nonces-exchanged": lambda o: server_proof(_KEY, o.open.nonce, o.hello.nonce, o.open.partition),
    "old-nonce": lambda o: server_proof(_KEY, bytes(32), o.open.nonce, o.open.partition),
}

CASES = (
    made("version.range", VERSIONS, partial(_greeted, lowest=1, highest=9)),
    made("version.range-from-0", VERSIONS, partial(_greeted, lowest=0, highest=255)),
    made("version.only-later", HELLO, partial(_other_version, lowest=2, highest=3)),
    made("version.only-earlier", HELLO, partial(_other_version, lowest=0, highest=0)),
    made("version.later-header", VERSIONS, _later_header, rules.FRAME_VERSION),
    made("hello.features", HELLO, partial(_greeted, features=_ALL)),
    made("hello.one-feature", HELLO, partial(_greeted, features=1)),
    made("hello.no-name", HELLO, partial(_greeted, name="")),
    made("hello.longest-name", HELLO, partial(_greeted, name="\u00e9" * 127)),
    *(
        made(f"hello.golden-{vector.name}", HELLO, partial(_golden, vector=vector))
        for vector in frames("hello")
        if vector.valid
    ),
    *(
        made(f"refused.status-{status & 0xFFFFFFFF}", OPENED, partial(_refused, status=status))
        # From 6 on the statuses are unknown.  A client must take an unknown status as a refusal.
        for status in (1, 2, 3, 4, 5, 6, 99, 0x7FFFFFFF, -1)
    ),
    made("refused.with-a-key", OPENED, partial(_refused, status=2, key=_KEY)),
    *(made(f"proof.partition-{n}", PROOF, partial(_proven, partition=n)) for n in (0, 3, 0xFFFF)),
    made("proof.again", PROOF, _again),
    made("proof.key-stays", PROOF, _key_stays),
    *(
        made(f"proof.server-{name}", PROOF, partial(_unproven, forged=forged), rules.OPENED_PROOF)
        for name, forged in _FORGED.items()
    ),
)
